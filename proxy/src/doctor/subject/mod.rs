//! What a container leaves open beside its network: judged from facts, without looking at anything.

mod capabilities;
mod facts;
mod mounts;
mod process;

pub(super) use facts::{SubjectError, find, gather};

use super::report::{Check, State};
use capabilities::Capabilities;
use mounts::Mount;

/// What was found, or why it could not be looked at.
type Found<T> = Result<T, String>;

/// The tunnel devices that the kernel puts into every namespace while a tunnel module is loaded.
const IDLE_TUNNELS: [&str; 9] =
    ["erspan0", "gre0", "gretap0", "ip6_vti0", "ip6gre0", "ip6tnl0", "ip_vti0", "sit0", "tunl0"];

/// Everything that is judged of a namespace and those in it.
#[derive(Debug)]
pub(super) struct Subject {
    /// Whether it is the network namespace that we are in ourselves.
    own_network: bool,
    /// The names of its interfaces.
    interfaces: Found<Vec<String>>,
    /// Who is in it; none where nobody is, or nobody could be seen.
    inhabitants: Option<Inhabitants>,
}

/// The processes of the namespace.
#[derive(Debug)]
struct Inhabitants {
    /// The first of them, by number and name, of which namespaces and files were looked at.
    first: (u32, String),
    /// What all of them may do, the first one's at the front.
    statuses: Vec<Status>,
    namespaces: Namespaces,
    mounts: Found<Vec<Mount>>,
    /// The file system that is this machine's root, as `major:minor`.
    machine_root: Option<String>,
    /// Whether the kernel offers sockets to the hypervisor.
    machine_vsock: bool,
    sockets: Found<Vec<Node>>,
    devices: Found<Vec<Node>>,
}

/// What one process may do, from `/proc/PID/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Status {
    uid: u32,
    /// Its group and its supplementary groups.
    groups: Vec<u32>,
    effective: Capabilities,
    permitted: Capabilities,
    bounding: Capabilities,
    no_new_privileges: bool,
    /// 0 without a filter.
    seccomp: u32,
}

/// Which namespaces are those that we are in ourselves.
#[derive(Debug)]
struct Namespaces {
    pid: Found<bool>,
    ipc: Found<bool>,
    uts: Found<bool>,
    mount: Found<bool>,
    user: Found<bool>,
}

/// A socket or a device among the files of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    path: String,
    /// What is known to listen there, or the kind of device.
    kind: NodeKind,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// What a [`Node`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeKind {
    /// A socket of which the name is known: a container engine's, the system bus.
    Road,
    /// Another socket that was mounted.
    Socket,
    /// A disk, or the memory of the machine.
    Raw,
    /// Sockets to the hypervisor.
    Vsock,
    /// Virtual machines.
    Kvm,
}

/// Judges a namespace and those in it.
pub(super) fn judge(subject: &Subject) -> Vec<Check> {
    let mut checks = vec![network(subject.own_network), interfaces(&subject.interfaces)];
    match &subject.inhabitants {
        None => checks.insert(0, nobody()),
        Some(inhabitants) => {
            if subject.leads_out() {
                checks.push(process::keep_interface(inhabitants));
            }
            checks.insert(0, somebody(inhabitants));
            checks.extend(process::judge(inhabitants));
            checks.extend(process::judge_files(inhabitants));
        }
    }
    checks
}

impl Subject {
    /// Whether there is an interface to leave by.
    fn leads_out(&self) -> bool {
        let leads = |name: &String| name != "lo" && !IDLE_TUNNELS.contains(&name.as_str());
        !self.own_network && self.interfaces.as_ref().is_ok_and(|names| names.iter().any(leads))
    }
}

impl Inhabitants {
    /// Whether capabilities in it count for the machine. Where that is not known, they do.
    fn of_our_user_namespace(&self) -> bool {
        !matches!(self.namespaces.user, Ok(false))
    }

    fn any(&self, fact: impl Fn(&Status) -> bool) -> bool {
        self.statuses.iter().any(fact)
    }

    fn root_of_the_machine(&self) -> bool {
        self.of_our_user_namespace() && self.any(|status| status.uid == 0)
    }

    /// Whether one of them may write to it, as far as its mode tells.
    fn may_write(&self, node: &Node) -> bool {
        const DAC_OVERRIDE: u32 = 1;
        self.any(|status| {
            (self.of_our_user_namespace() && status.effective.has(DAC_OVERRIDE))
                || (status.uid == node.uid && node.mode & 0o200 != 0)
                || (status.groups.contains(&node.gid) && node.mode & 0o020 != 0)
                || node.mode & 0o002 != 0
        })
    }
}

fn nobody() -> Check {
    let meaning = "what a workload could do beside its network is told by a process of it";
    let remedy = "ask again while the workload runs, as a user who may see its processes";
    Check::not_ok(State::Unknown, ("process", "no process is seen in the namespace"), meaning, remedy)
}

fn somebody(inhabitants: &Inhabitants) -> Check {
    let (pid, name) = &inhabitants.first;
    let found = match inhabitants.statuses.len() {
        0 | 1 => format!("{pid} ({name})"),
        count => format!("{pid} ({name}), and {} more in its network", count - 1),
    };
    Check::ok(
        "process",
        found,
        "namespaces and files are those of the first process, privileges those of all",
    )
}

fn network(own: bool) -> Check {
    const MEANING: &str = "a gate seals a network namespace that is not the machine's own";
    if own {
        let remedy = "start the container with --network none";
        return Check::not_ok(State::Problem, ("network", "it is this machine's own"), MEANING, remedy);
    }
    Check::ok("network", "a namespace of its own", MEANING)
}

fn interfaces(found: &Found<Vec<String>>) -> Check {
    const ID: &str = "interfaces";
    const MEANING: &str =
        "what leaves by an interface does not pass the gate; `attach` refuses a namespace with one";
    const REMEDY: &str = "start the container with --network none, or attach with --keep-interface";
    match found {
        Err(why) => unknown(ID, why, MEANING),
        Ok(names) => {
            let others: Vec<_> = names.iter().map(String::as_str).filter(|name| *name != "lo").collect();
            if others.is_empty() {
                Check::ok(ID, "nothing but lo", MEANING)
            } else if others.iter().all(|name| IDLE_TUNNELS.contains(name)) {
                let found = format!("lo, and {}, which idle tunnels are named", others.join(", "));
                Check::not_ok(
                    State::Warning,
                    (ID, found),
                    MEANING,
                    "unload the tunnel modules; `attach` looks closer",
                )
            } else {
                Check::not_ok(State::Problem, (ID, others.join(", ")), MEANING, REMEDY)
            }
        }
    }
}

/// What could not be looked at.
fn unknown(id: &'static str, why: &str, meaning: &'static str) -> Check {
    Check::not_ok(State::Unknown, (id, why), meaning, "ask as root, or as the user who started the container")
}

#[cfg(test)]
mod tests;
