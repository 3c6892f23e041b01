//! What a machine needs for gates to run on it: judged from facts, without looking at anything.

mod facts;

pub(super) use facts::{gather, offers_vsock};

use super::report::{Check, State};

/// Below it descriptors that a child must not inherit cannot be closed in one call.
const KERNEL_NEEDED: Version = Version(5, 11);
/// From here on the kernel keeps a second gate from replacing the first one's rules (nft table `persist`).
const KERNEL_EXCLUSIVE: Version = Version(6, 9);
/// From here on Landlock keeps the workload's signals inside.
const KERNEL_SIGNALS: Version = Version(6, 12);

/// A kernel's version as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

/// Everything that is judged of a machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// As `uname -r` says it.
    release: String,
    /// Whether Landlock is on; none where the kernel does not tell.
    landlock: Option<bool>,
    helper: Helper,
    user_namespaces: UserNamespaces,
    /// Whether the kernel has IPv6.
    ipv6: bool,
    confinement: Confinement,
    state_folder: Folder,
    runtime_folder: Folder,
    roots: Roots,
    /// Whether the kernel offers sockets to the hypervisor.
    vsock: bool,
}

/// `sluicegate-netns`.
#[derive(Debug)]
struct Helper {
    /// Where it has to be.
    path: String,
    /// What it says to `--version`, or why it does not.
    version: Result<String, String>,
    /// Whether others than root and this user could replace it.
    replaceable: bool,
}

/// The settings that can forbid user namespaces, where the kernel has them.
#[derive(Debug, Default)]
struct UserNamespaces {
    /// `user.max_user_namespaces`.
    max: Option<String>,
    /// `kernel.unprivileged_userns_clone`, of Debian's kernels.
    clone: Option<String>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's.
    apparmor: Option<String>,
}

/// What limits this process itself.
#[derive(Debug, Default)]
struct Confinement {
    /// The mode of seccomp, from `/proc/self/status`.
    seccomp: Option<u32>,
    /// The profile of AppArmor or SELinux.
    profile: Option<String>,
}

/// A folder that gates write to.
#[derive(Debug)]
struct Folder {
    path: String,
    /// Why it cannot be used.
    wrong: Option<String>,
}

/// The certificates that upstreams are verified with.
#[derive(Debug)]
struct Roots {
    count: usize,
    /// What could not be read.
    errors: Vec<String>,
}

/// Judges the machine. `tried` is whether `run` was tried and started its command: a setting that may forbid
/// it does not count then.
pub(super) fn judge(machine: &Machine, tried: bool) -> Vec<Check> {
    let mut checks = Vec::from(kernel(&machine.release));
    checks.push(signals(&machine.release, machine.landlock));
    checks.extend([
        user_namespaces(&machine.user_namespaces, tried),
        confinement(&machine.confinement, tried),
        ipv6(machine.ipv6),
        helper(&machine.helper),
        folder("state_folder", &machine.state_folder, "name another with --state or SLUICEGATE_STATE"),
        folder("runtime_folder", &machine.runtime_folder, "set XDG_RUNTIME_DIR to a folder of your own"),
        roots(&machine.roots),
        vsock(machine.vsock),
    ]);
    checks
}

impl Version {
    /// The first two numbers of a release such as `6.1.0-18-amd64`.
    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|character: char| !character.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

fn kernel(release: &str) -> [Check; 2] {
    let lines = [
        (
            "kernel",
            KERNEL_NEEDED,
            State::Problem,
            "gates start on this kernel only if it is Linux 5.11 or newer",
            "use Linux 5.11 or newer",
        ),
        (
            "kernel_exclusive",
            KERNEL_EXCLUSIVE,
            State::Warning,
            "before Linux 6.9, who has CAP_NET_ADMIN in the namespace can replace the gate's rules; nothing leaves by that",
            "use Linux 6.9 or newer, and give workloads no CAP_NET_ADMIN",
        ),
    ];
    lines.map(|(id, needed, state, meaning, remedy)| match Version::parse(release) {
        Some(version) if version >= needed => Check::ok(id, format!("Linux {release}"), meaning),
        Some(_) => Check::not_ok(state, (id, format!("Linux {release}")), meaning, remedy),
        None => {
            let found = format!("{release:?} is not a version that is understood");
            Check::not_ok(State::Unknown, (id, found), meaning, "compare `uname -r` by hand")
        }
    })
}

fn signals(release: &str, landlock: Option<bool>) -> Check {
    const ID: &str = "kernel_signals";
    const MEANING: &str = "without Landlock of Linux 6.12, a command of `run` can end its own gate by a signal to its process group, and so itself";
    let is_new = Version::parse(release).is_some_and(|version| version >= KERNEL_SIGNALS);
    match landlock {
        Some(true) if is_new => Check::ok(ID, format!("Linux {release} with Landlock"), MEANING),
        Some(false) if is_new => {
            let remedy = "add landlock to `lsm=` on the kernel's command line";
            Check::not_ok(State::Warning, (ID, "Landlock is off"), MEANING, remedy)
        }
        None if is_new => {
            let found = "/sys/kernel/security/lsm, which tells whether Landlock is on, cannot be read";
            Check::not_ok(State::Unknown, (ID, found), MEANING, "mount securityfs on /sys/kernel/security")
        }
        _ => {
            let found = format!("Linux {release}");
            Check::not_ok(State::Warning, (ID, found), MEANING, "use Linux 6.12 or newer with Landlock")
        }
    }
}

fn user_namespaces(settings: &UserNamespaces, tried: bool) -> Check {
    const ID: &str = "user_namespaces";
    const MEANING: &str = "`run` makes a user namespace for its command";
    if tried {
        return Check::ok(ID, "one was made", MEANING);
    }
    let forbidding = [
        ("user.max_user_namespaces", &settings.max, "0", "16384"),
        ("kernel.unprivileged_userns_clone", &settings.clone, "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", &settings.apparmor, "1", "0"),
    ];
    let wrong = forbidding.iter().find(|(_, value, bad, _)| value.as_deref() == Some(*bad));
    match wrong {
        Some((name, _, bad, good)) => {
            let remedy =
                format!("`sysctl -w {name}={good}`, or let AppArmor allow userns to sluicegate-netns");
            Check::not_ok(State::Problem, (ID, format!("{name} is {bad}")), MEANING, remedy)
        }
        None => {
            let found = "no setting forbids them, but none was made";
            Check::not_ok(State::Unknown, (ID, found), MEANING, "see the line `run`")
        }
    }
}

fn confinement(confinement: &Confinement, tried: bool) -> Check {
    const ID: &str = "confinement";
    const MEANING: &str =
        "a container's seccomp filter or a security profile can forbid namespaces and nftables";
    let seccomp = confinement.seccomp.filter(|mode| *mode != 0).map(|mode| format!("seccomp mode {mode}"));
    let profile = confinement.profile.as_ref().filter(|profile| *profile != "unconfined");
    let found: Vec<_> = seccomp.into_iter().chain(profile.cloned()).collect();
    if found.is_empty() {
        Check::ok(ID, "none", MEANING)
    } else if tried {
        Check::ok(ID, format!("{}; `run` works all the same", found.join(", ")), MEANING)
    } else {
        let remedy =
            "start the container that this is with a profile that allows unshare, mount and nftables";
        Check::not_ok(State::Warning, (ID, found.join(", ")), MEANING, remedy)
    }
}

fn ipv6(there: bool) -> Check {
    const MEANING: &str = "a gate captures IPv4 and IPv6 together";
    if there {
        return Check::ok("ipv6", "there", MEANING);
    }
    let remedy = "take `ipv6.disable=1` off the kernel's command line, or load the module ipv6";
    Check::not_ok(State::Problem, ("ipv6", "the kernel has none"), MEANING, remedy)
}

fn helper(helper: &Helper) -> Check {
    const MEANING: &str =
        "sluicegate-netns of the same version makes the namespaces; it is looked for nowhere else";
    let ours = env!("CARGO_PKG_VERSION");
    let Helper { path, version, replaceable } = helper;
    match version {
        Err(why) => {
            let remedy = "install sluicegate-netns in the folder of sluicegate";
            Check::not_ok(State::Problem, ("helper", format!("{path}: {why}")), MEANING, remedy)
        }
        Ok(theirs) if theirs != ours => {
            let found = format!("{path} is {theirs}, and sluicegate {ours}");
            let remedy = "install sluicegate and sluicegate-netns of the same version";
            Check::not_ok(State::Problem, ("helper", found), MEANING, remedy)
        }
        Ok(_) if *replaceable => {
            let found = format!("other users could replace {path}");
            let remedy = "let it and its folder belong to root or to you, writable by nobody else";
            Check::not_ok(State::Warning, ("helper", found), MEANING, remedy)
        }
        Ok(theirs) => Check::ok("helper", format!("{path} {theirs}"), MEANING),
    }
}

fn folder(id: &'static str, folder: &Folder, remedy: &str) -> Check {
    const MEANING: &str =
        "gates keep their log and stores in the one, and their control sockets in the other";
    match &folder.wrong {
        None => Check::ok(id, &folder.path, MEANING),
        Some(why) => Check::not_ok(State::Problem, (id, format!("{}: {why}", folder.path)), MEANING, remedy),
    }
}

fn roots(roots: &Roots) -> Check {
    const ID: &str = "root_certificates";
    const MEANING: &str = "upstreams are verified with the system's root certificates";
    const REMEDY: &str = "`apt-get install ca-certificates`, or set SSL_CERT_FILE to a bundle";
    match (roots.count, roots.errors.first()) {
        (0, None) => Check::not_ok(State::Problem, (ID, "there are none"), MEANING, REMEDY),
        (0, Some(why)) => Check::not_ok(State::Problem, (ID, format!("none: {why}")), MEANING, REMEDY),
        (count, None) => Check::ok(ID, count.to_string(), MEANING),
        (count, Some(why)) => {
            Check::not_ok(State::Warning, (ID, format!("{count}, and not all: {why}")), MEANING, REMEDY)
        }
    }
}

fn vsock(there: bool) -> Check {
    const MEANING: &str =
        "sockets to the hypervisor belong to no network namespace, so that a gate does not see them";
    if !there {
        return Check::ok("vsock", "not loaded", MEANING);
    }
    let remedy = "unload the module vsock, or refuse AF_VSOCK by the seccomp profile of containers";
    Check::not_ok(State::Warning, ("vsock", "the kernel offers it"), MEANING, remedy)
}

#[cfg(test)]
mod tests;
