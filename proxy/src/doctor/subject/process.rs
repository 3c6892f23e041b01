//! Judges what the processes of a namespace may do, and which files of the machine they see.

use super::capabilities::Capabilities;
use super::mounts::{Mount, settings_are_writable};
use super::{Found, Inhabitants, Node, NodeKind, unknown};
use crate::doctor::report::{Check, State};

/// How many paths are named in one line; the rest is counted.
const NAMED: usize = 4;

/// Privileges and namespaces.
pub(super) fn judge(inhabitants: &Inhabitants) -> Vec<Check> {
    let namespaces = &inhabitants.namespaces;
    vec![
        privileged(inhabitants),
        capabilities(inhabitants),
        no_new_privileges(inhabitants),
        seccomp(inhabitants),
        user_namespace(inhabitants),
        shared(
            ("pid_namespace", &namespaces.pid, State::Problem),
            "who sees the processes outside can signal, trace and so be those of its own user",
            "start the container without --pid=host",
        ),
        shared(
            ("mount_namespace", &namespaces.mount, State::Warning),
            "it sees every file and UNIX socket of the machine, as far as its user may",
            "start it in a container, or with `sluicegate run`, which hides what leads past the gate",
        ),
        shared(
            ("ipc_namespace", &namespaces.ipc, State::Warning),
            "memory can be shared with processes outside that have its user",
            "start the container without --ipc=host",
        ),
        shared(
            ("uts_namespace", &namespaces.uts, State::Warning),
            "with CAP_SYS_ADMIN it could change the machine's name",
            "start the container without --uts=host",
        ),
    ]
}

/// Files, sockets, devices.
pub(super) fn judge_files(inhabitants: &Inhabitants) -> Vec<Check> {
    vec![
        sockets(inhabitants),
        devices(inhabitants),
        vsock(inhabitants),
        kernel_settings(inhabitants),
        host_files(inhabitants),
    ]
}

fn privileged(inhabitants: &Inhabitants) -> Check {
    const MEANING: &str = "a privileged container is held by nothing but its good will";
    let everything = |status: &super::Status| status.seccomp == 0 && status.effective.is_everything();
    if inhabitants.of_our_user_namespace() && inhabitants.any(everything) {
        let found = "all capabilities, and no seccomp filter";
        let remedy = "start the container without --privileged";
        return Check::not_ok(State::Problem, ("privileged", found), MEANING, remedy);
    }
    Check::ok("privileged", "no", MEANING)
}

fn capabilities(inhabitants: &Inhabitants) -> Check {
    const ID: &str = "capabilities";
    const MEANING: &str =
        "some capabilities lead out of a container by themselves; nothing needs them to use the network";
    let held = |now: bool| {
        inhabitants.statuses.iter().fold(0, |all, status| {
            let gained = if status.no_new_privileges { status.permitted.0 } else { status.bounding.0 };
            let kept = status.effective.0 | status.permitted.0;
            all | if now { kept } else { gained }
        })
    };
    let (now, later) = (Capabilities(held(true)), Capabilities(held(false)));
    if !inhabitants.of_our_user_namespace() {
        return Check::ok(ID, "those that it has count in a user namespace of its own", MEANING);
    }
    if let Some((state, names)) = now.that_matter() {
        let ptrace = now.has(Capabilities::SYS_PTRACE) && inhabitants.namespaces.pid == Ok(true);
        let state = if ptrace { State::Problem } else { state };
        return Check::not_ok(state, (ID, names.join(", ")), MEANING, dropping(&names));
    }
    match later.that_matter() {
        Some((_, names)) => {
            let found = format!("none now; set-user-ID programs may give {}", names.join(", "));
            Check::not_ok(State::Warning, (ID, found), MEANING, dropping(&names))
        }
        None => Check::ok(ID, "none of those that matter", MEANING),
    }
}

fn dropping(names: &[&str]) -> String {
    if names.len() > NAMED {
        return "start the container with --cap-drop ALL".into();
    }
    let options: Vec<_> = names.iter().map(|name| format!("--cap-drop {name}")).collect();
    format!("start the container with {}, or --cap-drop ALL", options.join(" "))
}

/// Whether `attach --keep-interface` would have it; asked where there is an interface.
pub(super) fn keep_interface(inhabitants: &Inhabitants) -> Check {
    const ID: &str = "keep_interface";
    const MEANING: &str = "`attach --keep-interface` leaves interfaces to a container for what comes in, where nothing in it could \
                           send past the rules";
    if !inhabitants.of_our_user_namespace() {
        let found = "its network belongs to a user namespace of its own";
        return Check::not_ok(
            State::Warning,
            (ID, found),
            MEANING,
            "start the container with --network none",
        );
    }
    let all = inhabitants
        .statuses
        .iter()
        .fold(0, |all, status| all | status.effective.0 | status.permitted.0 | status.bounding.0);
    let names = Capabilities(all).that_pass_rules();
    if names.is_empty() {
        return Check::ok(ID, "nothing in it could", MEANING);
    }
    Check::not_ok(State::Problem, (ID, names.join(", ")), MEANING, dropping(&names))
}

fn no_new_privileges(inhabitants: &Inhabitants) -> Check {
    const ID: &str = "no_new_privileges";
    const MEANING: &str = "without it, set-user-ID programs in the container gain what their owner may";
    if inhabitants.any(|status| !status.no_new_privileges) {
        let remedy = "start the container with --security-opt no-new-privileges";
        return Check::not_ok(State::Warning, (ID, "not set"), MEANING, remedy);
    }
    Check::ok(ID, "set", MEANING)
}

fn seccomp(inhabitants: &Inhabitants) -> Check {
    const MEANING: &str = "a filter keeps system calls away that have led out of containers before";
    if inhabitants.any(|status| status.seccomp == 0) {
        let remedy = "start the container with the seccomp profile of its engine";
        return Check::not_ok(State::Warning, ("seccomp", "no filter"), MEANING, remedy);
    }
    Check::ok("seccomp", "filtered", MEANING)
}

fn user_namespace(inhabitants: &Inhabitants) -> Check {
    const ID: &str = "user_namespace";
    const MEANING: &str = "in a user namespace of its own, root is nobody outside";
    match &inhabitants.namespaces.user {
        Err(why) => unknown(ID, why, MEANING),
        Ok(false) => Check::ok(ID, "of its own", MEANING),
        Ok(true) if inhabitants.root_of_the_machine() => {
            let found = "the machine's, and root is in it";
            let remedy = "start the container with --user, rootless, or with the engine's userns-remap";
            Check::not_ok(State::Warning, (ID, found), MEANING, remedy)
        }
        Ok(true) => Check::ok(ID, "the machine's, and nobody in it is root", MEANING),
    }
}

fn shared(
    (id, found, state): (&'static str, &Found<bool>, State),
    meaning: &'static str,
    remedy: &'static str,
) -> Check {
    match found {
        Err(why) => unknown(id, why, meaning),
        Ok(false) => Check::ok(id, "of its own", meaning),
        Ok(true) => Check::not_ok(state, (id, "the machine's"), meaning, remedy),
    }
}

fn sockets(inhabitants: &Inhabitants) -> Check {
    const ID: &str = "sockets";
    const MEANING: &str =
        "who listens on a socket of the machine's acts outside of the gate for whoever speaks to it";
    const REMEDY: &str = "do not mount them into the container";
    let sockets = match &inhabitants.sockets {
        Err(why) => return unknown(ID, why, MEANING),
        Ok(sockets) => sockets,
    };
    let is_open = |socket: &&Node| socket.kind == NodeKind::Road && inhabitants.may_write(socket);
    let open: Vec<_> = sockets.iter().filter(is_open).collect();
    if !open.is_empty() {
        return Check::not_ok(State::Problem, (ID, named(&open)), MEANING, REMEDY);
    }
    match sockets.iter().collect::<Vec<_>>().as_slice() {
        [] => Check::ok(ID, "none that is known to lead out", MEANING),
        others => Check::not_ok(State::Warning, (ID, named(others)), MEANING, REMEDY),
    }
}

fn devices(inhabitants: &Inhabitants) -> Check {
    const ID: &str = "devices";
    const MEANING: &str =
        "disks and memory hold everything that the machine has; a device cgroup may still refuse them";
    let devices = match &inhabitants.devices {
        Err(why) => return unknown(ID, why, MEANING),
        Ok(devices) => devices,
    };
    let of = |kind: NodeKind| -> Vec<_> {
        devices.iter().filter(|node| node.kind == kind && inhabitants.may_write(node)).collect()
    };
    let (raw, kvm) = (of(NodeKind::Raw), of(NodeKind::Kvm));
    let remedy = "start the container without --privileged and --device";
    match (raw.as_slice(), kvm.as_slice()) {
        ([], []) => Check::ok(ID, "none that matters is open to it", MEANING),
        ([], kvm) => Check::not_ok(State::Warning, (ID, named(kvm)), MEANING, remedy),
        (raw, _) => Check::not_ok(State::Problem, (ID, named(raw)), MEANING, remedy),
    }
}

fn vsock(inhabitants: &Inhabitants) -> Check {
    const ID: &str = "vsock";
    const MEANING: &str =
        "sockets to the hypervisor belong to no network namespace, so that a gate does not see them";
    const REMEDY: &str = "refuse AF_VSOCK by seccomp, and do not give the container /dev/vsock";
    let devices = match &inhabitants.devices {
        Err(why) => return unknown(ID, why, MEANING),
        Ok(devices) => devices,
    };
    if devices.iter().any(|node| node.kind == NodeKind::Vsock) {
        Check::not_ok(State::Warning, (ID, "the device is there"), MEANING, REMEDY)
    } else if !inhabitants.machine_vsock {
        Check::ok(ID, "the kernel offers none", MEANING)
    } else if inhabitants.any(|status| status.seccomp == 0) {
        let found = "the kernel offers them, and no filter refuses them";
        Check::not_ok(State::Warning, (ID, found), MEANING, REMEDY)
    } else {
        let found = "the kernel offers them; whether the filter refuses them cannot be seen";
        Check::not_ok(State::Unknown, (ID, found), MEANING, REMEDY)
    }
}

fn kernel_settings(inhabitants: &Inhabitants) -> Check {
    const ID: &str = "kernel_settings";
    const MEANING: &str = "some files in /proc/sys name programs that the kernel starts outside";
    match &inhabitants.mounts {
        Err(why) => unknown(ID, why, MEANING),
        Ok(mounts) if inhabitants.root_of_the_machine() && settings_are_writable(mounts) => {
            let remedy = "start the container without --privileged, so that /proc/sys is read-only";
            Check::not_ok(State::Problem, (ID, "root can write to /proc/sys"), MEANING, remedy)
        }
        Ok(_) => Check::ok(ID, "read-only, or not root's", MEANING),
    }
}

fn host_files(inhabitants: &Inhabitants) -> Check {
    const ID: &str = "host_files";
    const MEANING: &str = "files that are mounted in can hold secrets and the policy, and what is written there is read outside";
    let mounts = match &inhabitants.mounts {
        Err(why) => return unknown(ID, why, MEANING),
        Ok(_) if inhabitants.namespaces.mount == Ok(true) => {
            return Check::ok(ID, "see mount_namespace", MEANING);
        }
        Ok(mounts) => mounts,
    };
    let is_everything = |mount: &&Mount| {
        mount.is_from_outside()
            && mount.root == "/"
            && Some(&mount.device) == inhabitants.machine_root.as_ref()
    };
    if let Some(mount) = mounts.iter().find(is_everything) {
        let found = format!("{} is the machine's root", mount.point);
        return Check::not_ok(State::Problem, (ID, found), MEANING, "do not mount `/` into the container");
    }
    let mode = |read_only: bool| if read_only { "read-only" } else { "writable" };
    let found: Vec<_> = mounts
        .iter()
        .filter(|mount| mount.is_from_outside())
        .map(|mount| {
            format!("{} ({} of {}, {})", mount.point, mount.root, mount.device, mode(mount.read_only))
        })
        .collect();
    if found.is_empty() {
        return Check::ok(ID, "none", MEANING);
    }
    let remedy = "mount as little as possible, read-only, and nothing of the gate's but its CA certificate";
    Check::not_ok(State::Warning, (ID, shortened(&found)), MEANING, remedy)
}

fn named(nodes: &[&Node]) -> String {
    shortened(&nodes.iter().map(|node| node.path.clone()).collect::<Vec<_>>())
}

/// The first of them, and how many more there are.
fn shortened(words: &[String]) -> String {
    let shown = words.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match words.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}
