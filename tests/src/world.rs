//! The two namespaces of a test, its scratch folder, and the end of everything in them.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown, geteuid};
use tempfile::TempDir;

use crate::certificates::TestAuthority;
use crate::gate::Gate;
use crate::job::{Job, Outcome};
use crate::namespace::{Arrivals, Namespace};

/// The gate's side of the veth.
pub const GATE_IPV4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The origins' side of the veth, and the gate namespace's default route.
pub const ORIGIN_IPV4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The gate's side of the veth.
pub const GATE_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The origins' side of the veth, and the gate namespace's default route.
pub const ORIGIN_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The uid and gid of gate and workload; no passwd entry has them.
pub const WORKLOAD_USER: u32 = 61010;

/// The variable by which a world knows its processes, whatever became of their parents.
const MARK: &str = "SLUICEGATE_E2E_WORLD";
/// What a clean login would have.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A gate namespace and an origin namespace, joined by a veth pair that nothing else is on.
///
/// The gate namespace has a default route to the origins, so that whatever leaks arrives there and
/// is counted; see [`World::arrivals`]. The addresses are the same in every world, since no world
/// sees another.
#[derive(Debug)]
pub struct World {
    name: String,
    gate: Namespace,
    origin: Namespace,
    authority: Arc<TestAuthority>,
    scratch: TempDir,
    files: AtomicUsize,
}

impl World {
    /// Makes it. `test` shows up in the name of the scratch folder.
    pub fn new(test: &str) -> Self {
        static WORLDS: AtomicUsize = AtomicUsize::new(0);
        assert!(geteuid().is_root(), "end-to-end tests make namespaces and run as root: ./test");
        let name = format!("sg-{}-{}", std::process::id(), WORLDS.fetch_add(1, Ordering::SeqCst));
        let (gate, origin) =
            (Namespace::new(&format!("{name}-gate")), Namespace::new(&format!("{name}-origin")));
        connect(&gate, &origin);
        origin.watch();
        let scratch =
            tempfile::Builder::new().prefix(&format!("{name}-{test}-")).tempdir().expect("a scratch folder");
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o755))
            .expect("a readable scratch folder");
        let world = Self {
            name,
            gate,
            origin,
            authority: Arc::new(TestAuthority::new()),
            scratch,
            files: AtomicUsize::new(0),
        };
        for folder in ["home", "log", "secrets", "operator"] {
            let path = world.path(folder);
            fs::create_dir(&path).expect("make a folder");
            give_to_workload_user(&path, 0o700);
        }
        fs::create_dir(world.path("root")).expect("make a folder");
        world.file("ca.pem", world.authority.pem());
        world
    }

    /// What every namespace of this world begins with.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where the gate runs: its processes reach the origins, the workload does not.
    pub fn gate_namespace(&self) -> &Namespace {
        &self.gate
    }

    /// Where the servers run.
    pub fn origin_namespace(&self) -> &Namespace {
        &self.origin
    }

    /// What arrived at the origin namespace, counted there.
    pub fn arrivals(&self) -> Arrivals {
        self.origin.arrivals()
    }

    /// A path in the scratch folder, which everybody may read.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The workload's home and working folder.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Writes a file that everybody may read into the scratch folder.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).expect("make a folder");
        }
        fs::write(&path, content).expect("write a file");
        path
    }

    /// Writes a file of the workload's into its home.
    pub fn home_file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(&format!("home/{name}"), content);
        give_to_workload_user(&path, 0o600);
        path
    }

    /// Writes a secret that the gate's user may read, for `file://`, outside of the home.
    pub fn secret_file(&self, name: &str, value: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(&format!("secrets/{name}"), value);
        give_to_workload_user(&path, 0o600);
        path
    }

    /// The authority that signs the origins' certificates.
    pub fn authority(&self) -> &Arc<TestAuthority> {
        &self.authority
    }

    /// The file with the certificate of that authority, for `extra_ca`.
    pub fn origin_ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The text of an `[upstream]` table that trusts the test authority and finds these authorities
    /// (`name:port`) at these addresses. Put it last in the document, or go on with more of its keys.
    pub fn upstream(&self, resolve: &[(&str, SocketAddr)]) -> String {
        let mut text = format!("[upstream]\nextra_ca = [\"{}\"]\n", self.origin_ca_file().display());
        let entries: Vec<_> =
            resolve.iter().map(|(name, address)| format!("\"{name}\" = \"{address}\"")).collect();
        writeln!(text, "resolve = {{ {} }}", entries.join(", ")).expect("a string takes everything");
        text
    }

    /// Gives the origin namespace one more address, reachable from the gate.
    pub fn add_origin_address(&self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.origin.ip(&["addr", "add", &format!("{address}/32"), "dev", "veth"]),
            IpAddr::V6(address) => {
                self.origin.ip(&["addr", "add", &format!("{address}/128"), "dev", "veth", "nodad"])
            }
        }
    }

    /// A certificate and key for these names, signed by the test authority, as two files that only
    /// root may read.
    pub fn certificate_files(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.authority.issue(names);
        let number = self.next_number();
        let files = [(format!("certificate-{number}.pem"), certificate), (format!("key-{number}.pem"), key)];
        let [certificate, key] = files.map(|(name, content)| {
            let path = self.file(&name, content);
            fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a private file");
            path
        });
        (certificate, key)
    }

    /// A gate with this policy document; with an empty one no document is named.
    pub fn gate(&self, policy: &str) -> Gate<'_> {
        Gate::new(self, policy)
    }

    /// `sluicegate run` with this policy around this command, to its end.
    pub fn run<A: AsRef<str>>(&self, policy: &str, command: impl IntoIterator<Item = A>) -> Outcome {
        self.gate(policy).run(command)
    }

    /// curl in the gate namespace, without a gate, told where the origin is and to trust it.
    pub fn direct(&self, address: SocketAddr, arguments: &[&str]) -> Outcome {
        let (ca, connect) = (self.origin_ca_file().display().to_string(), format!("::{address}"));
        let line = [&["curl", "-sS", "--cacert", &ca, "--connect-to", &connect], arguments].concat();
        self.job(self.gate_namespace(), line).run()
    }

    /// A command in a namespace as the workload's user, in its home, with a clean environment.
    pub fn job<A: AsRef<str>>(&self, namespace: &Namespace, command: impl IntoIterator<Item = A>) -> Job<'_> {
        let user = WORKLOAD_USER.to_string();
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--net={}", namespace.path().display()));
        enter.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        self.prepared(enter, command)
    }

    /// A command in a namespace as root, with a clean environment: a server, or `sluicegate attach`.
    pub fn root_job<A: AsRef<str>>(
        &self,
        namespace: &Namespace,
        command: impl IntoIterator<Item = A>,
    ) -> Job<'_> {
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--net={}", namespace.path().display()));
        self.prepared(enter, command)
    }

    /// Waits until somebody in the origin namespace accepts connections at this address.
    pub fn wait_for_listener(&self, address: SocketAddr) {
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
        wait_until(&format!("a server at {address}"), Duration::from_secs(30), || self.origin.enter(connect));
    }

    /// A number that this world has not given out yet.
    pub(crate) fn next_number(&self) -> usize {
        self.files.fetch_add(1, Ordering::SeqCst)
    }

    fn prepared<A: AsRef<str>>(&self, mut enter: Command, command: impl IntoIterator<Item = A>) -> Job<'_> {
        enter.args(command.into_iter().map(|argument| argument.as_ref().to_owned()));
        enter
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .env("HOME", self.home())
            .env("LANG", "C")
            .env(MARK, &self.name);
        enter.current_dir(self.home());
        Job::new(self, enter)
    }

    /// Ends every process that this world started, and theirs. Those that cleared their environment
    /// and left both namespaces are not found.
    pub(crate) fn end_processes(&self) {
        let mark = format!("{MARK}={}", self.name);
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
                pids.push(pid);
            }
        }
        for namespace in [&self.gate, &self.origin] {
            if let Ok(output) = Command::new("ip").args(["netns", "pids", namespace.name()]).output() {
                pids.extend(
                    String::from_utf8_lossy(&output.stdout)
                        .lines()
                        .filter_map(|line| line.parse::<i32>().ok()),
                );
            }
        }
        for pid in pids {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end_processes();
    }
}

fn connect(gate: &Namespace, origin: &Namespace) {
    const HARDWARE: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
    let peer = ["peer", "name", "veth", "address", HARDWARE[1], "netns", origin.name()];
    gate.ip(&[&["link", "add", "veth", "address", HARDWARE[0], "type", "veth"][..], &peer].concat());
    for (namespace, ipv4, ipv6) in [(gate, GATE_IPV4, GATE_IPV6), (origin, ORIGIN_IPV4, ORIGIN_IPV6)] {
        namespace.ip(&["addr", "add", &format!("{ipv4}/24"), "dev", "veth"]);
        namespace.ip(&["addr", "add", &format!("{ipv6}/64"), "dev", "veth", "nodad"]);
        namespace.ip(&["link", "set", "veth", "up"]);
    }
    // Neighbour discovery on a new link takes a second.
    gate.ip(&["neigh", "add", &ORIGIN_IPV6.to_string(), "lladdr", HARDWARE[1], "dev", "veth"]);
    origin.ip(&["neigh", "add", &GATE_IPV6.to_string(), "lladdr", HARDWARE[0], "dev", "veth"]);
    gate.ip(&["route", "add", "default", "via", &ORIGIN_IPV4.to_string()]);
    gate.ip(&["route", "add", "default", "via", &ORIGIN_IPV6.to_string()]);
}

fn give_to_workload_user(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set the mode");
    chown(path, Some(Uid::from_raw(WORKLOAD_USER)), Some(Gid::from_raw(WORKLOAD_USER)))
        .expect("set the owner");
}

/// Asks for a fact until it is there; fails when it is not in time.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut fact: impl FnMut() -> bool) {
    let started = Instant::now();
    while !fact() {
        assert!(started.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
