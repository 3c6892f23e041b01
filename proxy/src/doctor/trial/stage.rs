//! Throwaway gates: a policy, a canary outside, a workload inside, and what came of it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::canary::Canary;
use super::probe::Seen;
use super::{ALLOWED, SUBCOMMAND, Trial};
use crate::doctor::child::{self, Ended, late};
use crate::instance;

/// How long one trial may take: a gate starts in a tenth of a second, and each step of the probe has its own
/// deadline.
const TRIAL_DEADLINE: Duration = Duration::from_secs(90);
/// How long a gate may take to end once it is told to.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// The longest line of a gate that is ready, in bytes; paths are in it.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// How many datagrams are looked at that arrived outside; the probe sends one.
const DATAGRAMS_MAX: usize = 1_000;

/// What the trials share. The folder goes with it.
#[derive(Debug)]
pub(in crate::doctor) struct Stage {
    folder: TempDir,
    program: PathBuf,
    /// Hears what gets out.
    witness: UdpSocket,
    sign: String,
}

/// What a gate said when it started.
struct Ready {
    exclusive: bool,
}

impl Stage {
    /// Starts the canary and writes the policy.
    ///
    /// # Errors
    /// When there is no folder or socket to have.
    pub(in crate::doctor) fn set_up() -> io::Result<Self> {
        let number = instance::random().map_err(io::Error::other)?;
        let sign = format!("sluicegate-doctor-{number:08x}");
        let canary = Canary::start(&sign)?;
        let folder = tempfile::Builder::new().prefix("sluicegate-doctor-").tempdir()?;
        fs::write(folder.path().join("canary.pem"), &canary.authority_pem)?;
        fs::write(folder.path().join("policy.toml"), policy(&canary))?;
        let witness = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        witness.set_nonblocking(true)?;
        Ok(Self { folder, program: std::env::current_exe()?, witness, sign })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The options that both verbs have.
    fn gate(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).args(["--no-control", "--json"]);
        command.arg("--policy").arg(self.file("policy.toml"));
        command.arg("--log").arg(self.file(&format!("{verb}.jsonl")));
        command.arg("--state").arg(self.file(&format!("{verb}-state")));
        command
    }

    fn probe_arguments(&self) -> io::Result<Vec<String>> {
        let port = self.witness.local_addr()?.port();
        let (ipv4, ipv6) = own_addresses();
        let pairs = [
            ("--ipv4", ipv4.to_string()),
            ("--ipv6", ipv6.to_string()),
            ("--port", port.to_string()),
            ("--sign", self.sign.clone()),
        ];
        let options = pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        Ok([SUBCOMMAND.to_owned()].into_iter().chain(options).collect())
    }

    /// Whether the probe's datagram arrived here. What is local arrives while it is sent.
    fn leaked(&self) -> bool {
        let mut datagram = [0; 128];
        (0..DATAGRAMS_MAX)
            .map_while(|_| {
                self.witness
                    .recv(&mut datagram)
                    .ok()
                    .map(|count| datagram.get(..count) == Some(self.sign.as_bytes()))
            })
            .any(|is_ours| is_ours)
    }

    fn done(&self, ready: &Ready, printed: &str) -> Trial {
        match printed.lines().rev().find_map(|line| serde_json::from_str::<Seen>(line).ok()) {
            Some(seen) => Trial::Done { exclusive: ready.exclusive, seen, leaked: self.leaked() },
            None => Trial::failed("the gate started, and its workload said nothing"),
        }
    }
}

/// Tries `sluicegate run`.
pub(in crate::doctor) async fn by_run(stage: &Stage) -> Trial {
    let tried = async {
        let mut command = stage.gate("run");
        command.arg("--").arg(&stage.program).args(stage.probe_arguments()?);
        child::finish(command, TRIAL_DEADLINE).await
    };
    match tried.await {
        Err(error) => Trial::failed(error.to_string()),
        Ok(ended) => match ready(&ended.stderr) {
            Some(ready) if ended.code == Some(0) => stage.done(&ready, &ended.stdout),
            _ => failure(&ended),
        },
    }
}

/// Tries `sluicegate attach`, with a namespace that `unshare` makes: of this user namespace for root, and
/// for others of one of their own, as rootless containers have it.
pub(in crate::doctor) async fn by_attach(stage: &Stage) -> Trial {
    match timeout(TRIAL_DEADLINE, attached(stage)).await.unwrap_or_else(|_| Err(late(TRIAL_DEADLINE))) {
        Ok(trial) => trial,
        Err(error) => Trial::failed(error.to_string()),
    }
}

async fn attached(stage: &Stage) -> io::Result<Trial> {
    let trust = stage.file("gate-ca.pem");
    let Some(mut workload) = waiting(stage, &trust).await? else {
        return Ok(Trial::Untried("`unshare`, of util-linux, makes no namespace here".into()));
    };
    let mut command = stage.gate("attach");
    command.arg("--ca-file").arg(&trust).arg(format!("pid:{}", workload.id().unwrap_or_default()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut gate = command.spawn()?;
    let Some(ready) = first_line(&mut gate).await?.as_deref().and_then(ready) else {
        let stderr = child::text(gate.stderr.take()).await?;
        let code = gate.wait().await?.code();
        return Ok(failure(&Ended { code, stdout: String::new(), stderr }));
    };
    if let Some(mut stdin) = workload.stdin.take() {
        stdin.write_all(b"\n").await?;
    }
    let printed = child::text(workload.stdout.take()).await?;
    end(&mut gate).await?;
    Ok(stage.done(&ready, &printed))
}

/// A probe in a namespace of its own, once it waits there.
async fn waiting(stage: &Stage, trust: &Path) -> io::Result<Option<Child>> {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--"]).arg(&stage.program).args(stage.probe_arguments()?).arg("--wait");
    command.env("SSL_CERT_FILE", trust);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let Ok(mut child) = command.spawn() else { return Ok(None) };
    let line = first_line(&mut child).await?;
    Ok((line.as_deref() == Some("ready\n")).then_some(child))
}

/// The first line that a child prints. The rest can be read from it still.
async fn first_line(child: &mut Child) -> io::Result<Option<String>> {
    let Some(stdout) = child.stdout.take() else { return Ok(None) };
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    // Neither program says more before it is spoken to, so that the buffer holds no more than the line.
    let count = (&mut reader).take(LINE_BYTES_MAX).read_line(&mut line).await?;
    child.stdout = Some(reader.into_inner());
    Ok((count > 0).then_some(line))
}

/// Tells a gate to end.
async fn end(gate: &mut Child) -> io::Result<()> {
    let pid = gate.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        kill_process(pid, Signal::TERM)?;
    }
    timeout(END_DEADLINE, gate.wait()).await.unwrap_or_else(|_| Err(late(END_DEADLINE))).map(drop)
}

/// What a gate says of its start, in a line of JSON among what it says else.
fn ready(said: &str) -> Option<Ready> {
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ready = lines.into_iter().find(|line| line.get("event").is_some_and(|event| event == "ready"))?;
    Some(Ready { exclusive: ready.get("exclusive").is_some_and(|exclusive| exclusive == true) })
}

/// A gate's own words for why it did not start, and its hint.
fn failure(ended: &Ended) -> Trial {
    let line =
        |prefix: &str| ended.stderr.lines().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
    match line("sluicegate: ") {
        Some(why) => Trial::Failed { why, hint: line("  hint: ") },
        None => Trial::failed(match ended.code {
            Some(code) => format!("it ended with {code}, without a word"),
            None => "it was killed".into(),
        }),
    }
}

fn policy(canary: &Canary) -> String {
    let Canary { plain, tls, .. } = canary;
    format!(
        "version = 1\nallowed_hosts = [\"{ALLOWED}\"]\n[upstream]\nextra_ca = [\"canary.pem\"]\n\
         resolve = {{ \"{ALLOWED}:80\" = \"{plain}\", \"{ALLOWED}:443\" = \"{tls}\" }}\n"
    )
}

/// Addresses of this machine's, by which it would speak to the world; where it cannot, addresses that nobody
/// has (RFC 5737, RFC 3849). Sends nothing: a datagram socket that is connected knows its own address.
fn own_addresses() -> (Ipv4Addr, Ipv6Addr) {
    let own = |own: IpAddr, other: IpAddr| {
        let socket = UdpSocket::bind((own, 0)).ok()?;
        socket.connect((other, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    let (ipv4, ipv6) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let own4 = own(Ipv4Addr::UNSPECIFIED.into(), ipv4.into());
    let own6 = own(Ipv6Addr::UNSPECIFIED.into(), ipv6.into());
    (
        own4.and_then(|found| if let IpAddr::V4(found) = found { Some(found) } else { None }).unwrap_or(ipv4),
        own6.and_then(|found| if let IpAddr::V6(found) = found { Some(found) } else { None }).unwrap_or(ipv6),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::trial::probe::{Sent, udp};

    fn ended(code: Option<i32>, stderr: &str) -> Ended {
        Ended { code, stdout: String::new(), stderr: stderr.into() }
    }

    #[test]
    fn a_gates_own_words_are_passed_on() {
        let stderr = "warning: x\nsluicegate: privilege: CAP_NET_ADMIN missing\n  hint: run as root\n";
        let Trial::Failed { why, hint } = failure(&ended(Some(77), stderr)) else { panic!("not failed") };
        assert_eq!(
            (why.as_str(), hint.as_deref()),
            ("privilege: CAP_NET_ADMIN missing", Some("run as root"))
        );
        let Trial::Failed { why, hint } = failure(&ended(None, "")) else { panic!("not failed") };
        assert_eq!((why.as_str(), hint), ("it was killed", None));
    }

    #[test]
    fn a_datagram_that_arrives_outside_is_noticed() {
        let stage = Stage::set_up().unwrap();
        let port = stage.witness.local_addr().unwrap().port();
        let send = |payload: &[u8]| udp((Ipv4Addr::LOCALHOST, port).into(), payload);
        assert_eq!(send(b"of somebody else's"), Sent::Silent);
        assert!(!stage.leaked());
        assert_eq!(send(stage.sign.as_bytes()), Sent::Silent);
        assert!(stage.leaked());
    }

    #[test]
    fn the_ready_line_is_found_among_others() {
        let said = "warning: x\n{\"event\":\"ready\",\"exclusive\":true}\nmore\n";
        assert!(ready(said).unwrap().exclusive);
        assert!(!ready("{\"event\":\"ready\"}").unwrap().exclusive);
        assert!(ready("{\"event\":\"other\"}\nready").is_none());
    }
}
