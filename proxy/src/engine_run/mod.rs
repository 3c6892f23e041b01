//! `sluicegate run --docker` and `--podman`: a container that is sealed from its first instruction.
//!
//! A container that does nothing holds the namespace; the gate seals that; then the workload's container joins it.
//! This process is neither: it talks to the engine, and reads nothing that the workload or the policy wrote.
//!
//! **Invariant:** the workload's container is started after the gate has said that it serves, and is ended when the
//! gate ends.

mod arguments;
mod error;
mod infra;
mod pause;

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::future::pending;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use self::arguments::{Arguments, look, option};
pub use self::error::EngineRunError;
use self::infra::{Image, Infra};
use crate::background::{READY_DEADLINE, SAID_BYTES_MAX, ready};
use crate::capture::Plan;
use crate::causes::in_words;
use crate::container::Engine;
use crate::trust::{self, CallerTrust};
use crate::workload::{self, PROXY_VARIABLES, SIGNALS};
use crate::{exit, folders};

/// Where the workload's container has the certificates.
const TRUST_FOLDER: &str = "/run/sluicegate";

/// What the engines' programs exit with where it is they that failed, at any time.
const ENGINE_FAILED: i32 = 125;

/// How long the gate may take for its end: it has 5 s for its last records.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// A container that is to be run, looked through.
#[derive(Debug)]
pub struct Wanted {
    engine: Engine,
    arguments: Arguments,
    /// Whether what its image trusts is to be mounted over.
    trust: bool,
}

impl Wanted {
    /// Reads what follows `--docker` or `--podman`: options, image, command. With `trust` the container's files are
    /// to have the gate's authority, too.
    ///
    /// # Errors
    /// [`EngineRunError::Option`] and [`EngineRunError::NoImage`].
    pub fn read(engine: Engine, arguments: Vec<OsString>, trust: bool) -> Result<Self, EngineRunError> {
        let arguments = look(engine, arguments)?;
        if arguments.image().is_none() {
            return Err(EngineRunError::NoImage { engine });
        }
        let arguments = if trust { arguments.with_files_of_image()? } else { arguments };
        Ok(Self { engine, arguments, trust })
    }

    /// The image whose files are to be looked at.
    fn image(&self) -> Option<Image<'_>> {
        let name = self.arguments.image().filter(|_| self.trust)?;
        let Arguments { platform, is_never_pulled, .. } = &self.arguments;
        Some(Image { name, platform: platform.as_deref(), is_never_pulled: *is_never_pulled })
    }

    /// The container's name, if it is to have one.
    pub fn name(&self) -> Option<&str> {
        self.arguments.name.as_deref()
    }
}

/// Says what went wrong, unless the gate has said it, and returns the exit code.
pub fn ended(result: Result<u8, EngineRunError>) -> u8 {
    result.unwrap_or_else(|error| {
        if !matches!(error, EngineRunError::Gate { .. }) {
            let hint = error.hint().map(|hint| format!("  hint: {hint}\n")).unwrap_or_default();
            drop(write!(io::stderr(), "sluicegate: {}\n{hint}", in_words(&error)));
        }
        error.exit_code()
    })
}

/// Runs a container behind a gate of this name, which is attached with these options, and returns its exit code.
/// `started` is told what the gate says when it serves, before the container's first instruction.
///
/// # Errors
/// [`EngineRunError`]; the container was not started then, or has ended.
pub fn run(
    wanted: Wanted,
    name: &str,
    gate_options: &[OsString],
    started: impl FnOnce(&Value),
) -> Result<u8, EngineRunError> {
    let system = |what| move |error| EngineRunError::System(what, error);
    // From here on a signal ends nothing half-way: what was begun is taken back.
    let signals = SignalsInfo::new(SIGNALS).map_err(system("catch signals"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("wait for other programs"))?;
    if let Some(option) = wanted.arguments.opening {
        tracing::warn!(
            option,
            "the container has ways out beside its network: `sluicegate doctor` says which"
        );
    }
    runtime.block_on(async {
        let scratch = Scratch::new(wanted.trust).map_err(system("make a folder for certificates"))?;
        let infra = Infra::start(wanted.engine, name, &wanted.arguments.infra, wanted.image()).await?;
        let mut gate = None;
        let ended = match begin(&infra, gate_options, &scratch, &mut gate).await {
            Ok(ready) => {
                started(&ready);
                behind(&infra, &wanted.arguments, &scratch, (signals, &mut gate)).await
            }
            Err(error) => Err(error),
        };
        let is_over = matches!(ended, Ok(ended) if has_ended(ended, &wanted.arguments));
        let workload = if is_over { None } else { scratch.container() };
        infra.clear(workload.as_deref()).await;
        let closed = match gate {
            Some(gate) => end(gate).await,
            None => exit::OK,
        };
        ended.map(workload::code).map(|code| if code == exit::OK { closed } else { code })
    })
}

/// Whether the container has ended for sure, by how the engine's program did: it stayed to the end.
fn has_ended(program: ExitStatus, arguments: &Arguments) -> bool {
    !arguments.is_attended && program.code().is_some_and(|code| code != ENGINE_FAILED)
}

/// Starts a gate for the namespace, and waits until it serves. Returns what it says then.
async fn begin(
    infra: &Infra,
    options: &[OsString],
    scratch: &Scratch,
    gate: &mut Option<Child>,
) -> Result<Value, EngineRunError> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["attach", "--json"]).args(options).args(scratch.gate_options()).arg(infra.target());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    // What the terminal sends is for the container, and the gate ends after it.
    command.process_group(0);
    let failed = |error| EngineRunError::System("start the gate", error);
    let gate = gate.insert(command.spawn().map_err(failed)?);
    let mut line = String::new();
    if let Some(pipe) = gate.stdout.take() {
        let mut pipe = BufReader::new(pipe.take(SAID_BYTES_MAX));
        let read = timeout(READY_DEADLINE, pipe.read_line(&mut line)).await;
        read.map_err(|_| EngineRunError::GateSilent)?.map_err(failed)?;
    }
    if let Some(ready) = ready(&line) {
        return Ok(ready);
    }
    let status = timeout(END_DEADLINE, gate.wait()).await.map_err(|_| EngineRunError::GateSilent)?;
    Err(EngineRunError::Gate { code: workload::code(status.map_err(failed)?).max(exit::NO) })
}

/// Runs the workload's container to its end, or to the gate's. Returns how the engine's program ended.
async fn behind(
    infra: &Infra,
    arguments: &Arguments,
    scratch: &Scratch,
    (mut signals, gate): (SignalsInfo<WithOrigin>, &mut Option<Child>),
) -> Result<ExitStatus, EngineRunError> {
    let mut command = Command::new(infra.engine.to_string());
    command.arg("run").args(infra.joining()).args(scratch.options(&arguments.covered)?);
    command.args(&arguments.workload).args(&arguments.command);
    if let Some(origin) = signals.pending().next() {
        return Err(EngineRunError::Interrupted { signal: u8::try_from(origin.signal).unwrap_or_default() });
    }
    let what = "run the container";
    let failed = |source| EngineRunError::Start { engine: infra.engine, what, source };
    let mut client = command.spawn().map_err(failed)?;
    if let Some(pid) = client.id() {
        workload::relay(signals, pid).map_err(|error| EngineRunError::System("relay signals", error))?;
    }
    let gate_ended = async {
        match gate {
            Some(gate) => drop(gate.wait().await),
            None => pending().await,
        }
    };
    let ended = tokio::select! {
        ended = client.wait() => ended,
        () = gate_ended => {
            drop(writeln!(io::stderr(), "sluicegate: the gate has ended, and with it the container"));
            if let Some(container) = scratch.container() {
                infra.kill(&container).await;
            }
            client.wait().await
        }
    };
    ended.map_err(failed)
}

/// Waits for the end of a gate whose namespace is gone; returns its exit code.
async fn end(mut gate: Child) -> u8 {
    match timeout(END_DEADLINE, gate.wait()).await {
        Ok(Ok(status)) => workload::code(status),
        Ok(Err(_)) | Err(_) => {
            tracing::error!("the gate does not end, and is killed");
            drop(gate.start_kill());
            exit::BUG
        }
    }
}

/// A folder of this run's own: what the container trusts is in it, and the container's id.
struct Scratch {
    folder: TempDir,
    /// What goes over files of the image, where that is wanted.
    over: Option<PathBuf>,
}

impl Scratch {
    fn new(trust: bool) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(folders::runtime()?)?;
        let over = trust.then(|| folder.path().join("over"));
        let scratch = Self { folder, over };
        for folder in [scratch.trust()].iter().chain(&scratch.over) {
            fs::create_dir(folder)?;
            fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        }
        Ok(scratch)
    }

    fn trust(&self) -> PathBuf {
        self.folder.path().join("trust")
    }

    fn authority(&self) -> PathBuf {
        self.trust().join("ca.pem")
    }

    fn id_file(&self) -> PathBuf {
        self.folder.path().join("container")
    }

    /// The gate's options, by which its authority's certificate comes here, and what has it.
    fn gate_options(&self) -> Vec<OsString> {
        let over = self.over.iter().map(|folder| option("trust-into", Some(folder.as_os_str())));
        over.chain([option("ca-file", Some(self.authority().as_os_str()))]).collect()
    }

    /// The workload's container, once the engine has made it.
    fn container(&self) -> Option<String> {
        fs::read_to_string(self.id_file()).ok().filter(|id| !id.is_empty())
    }

    /// The options of the workload's container by which it trusts the gate and is found. Where its own options have
    /// something else than the image, nothing is put over that.
    fn options(&self, covered: &[PathBuf]) -> Result<Vec<OsString>, EngineRunError> {
        let failed = |error| EngineRunError::System("write the certificates", error);
        let authority = fs::read_to_string(self.authority()).map_err(failed)?;
        let mut plan = Plan { trust_dir: TRUST_FOLDER.into(), ..Plan::default() };
        let extended = trust::extend(&mut plan, &authority, &CallerTrust::default());
        if let Some(warning) = extended.map_err(EngineRunError::Trust)? {
            tracing::warn!("{warning}");
        }
        trust::write(plan.files, &self.trust()).map_err(failed)?;
        let mut volumes = vec![volume(&self.trust(), Path::new(TRUST_FOLDER))];
        if let Some(folder) = &self.over {
            volumes.extend(found(folder, covered).map_err(failed)?);
        }
        let cleared = PROXY_VARIABLES.iter().map(|name| format!("{name}="));
        let variables = plan.set_env.into_iter().map(|(name, value)| format!("{name}={value}"));
        let mut options = vec![option("cidfile", Some(self.id_file().as_os_str()))];
        options.extend(volumes);
        options.extend(cleared.chain(variables).map(|variable| option("env", Some(OsStr::new(&variable)))));
        Ok(options)
    }
}

/// The options by which the container has what was found to be mounted, but for what its own options cover.
fn found(folder: &Path, covered: &[PathBuf]) -> io::Result<Vec<OsString>> {
    let found = trust::Found::read(folder)?;
    let is_covered = |over: &Path| covered.iter().any(|folder| over.starts_with(folder));
    let mut options = Vec::new();
    for (file, over) in found.mounts(folder) {
        if is_covered(over) {
            tracing::warn!(file = %over.display(), "not from the image: it is left as it is");
        } else {
            options.push(volume(&file, over));
        }
    }
    // The engine would make them root's, and their users could not write there.
    for folder in found.folders().filter(|folder| !is_covered(folder)) {
        let mut memory = folder.as_os_str().to_owned();
        memory.push(":size=64m,mode=1777");
        options.push(option("tmpfs", Some(&memory)));
    }
    Ok(options)
}

/// The option by which a file or a folder is read in the container, there.
fn volume(ours: &Path, there: &Path) -> OsString {
    let mut volume = ours.as_os_str().to_owned();
    volume.push(":");
    volume.push(there);
    // Where SELinux is, containers may read it.
    volume.push(":ro,z");
    option("volume", Some(&volume))
}
