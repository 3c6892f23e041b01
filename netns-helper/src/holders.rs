//! Who in a network namespace could send past our rules by its interfaces: processes with a capability for it, and
//! sockets that such a one has left open.
//!
//! **Invariant:** a process that could not be looked at is not taken for a harmless one.

use crate::failure::{Failure, Kind};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const STEP: &str = "privileges inside";
/// The first PID namespace's inode (`PROC_PID_INIT_INO`, linux/proc_ns.h), which is not another's.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;
/// How often all processes are looked at, should each time one have ended before it could be. A look takes
/// milliseconds.
const LOOKS_MAX: usize = 32;
/// What is read of the list of packet sockets: its head, and the first one.
const PACKET_TABLE_LIMIT: u64 = 512;
/// Changes rules and routes, and makes interfaces by which something would come in.
const NET_ADMIN: Power = Power { number: 12, name: "CAP_NET_ADMIN" };
/// Writes frames to an interface (packet(7)), which no chain of ours sees.
const NET_RAW: Power = Power { number: 13, name: "CAP_NET_RAW" };
/// Stands for `CAP_NET_ADMIN` where programs are loaded into the kernel, at an interface among other places (bpf(2)).
const SYS_ADMIN: Power = Power { number: 21, name: "CAP_SYS_ADMIN" };
/// The sets of `/proc/PID/status` (capabilities(7)): what a process has, and what a program that it executes could.
const SETS: [(&str, &str); 5] = [
    ("CapEff:", "effective"),
    ("CapPrm:", "permitted"),
    ("CapInh:", "inheritable"),
    ("CapAmb:", "ambient"),
    ("CapBnd:", "bounding"),
];

/// A capability that leads past the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Power {
    number: u32,
    name: &'static str,
}

/// What was found of one kind.
#[derive(Debug, Default)]
struct Holders {
    /// Holds what nothing here can hold in.
    uncontained: Option<String>,
    /// May open raw and packet sockets.
    raw: Option<String>,
    /// A process ended while it was looked for; it may have started another.
    is_incomplete: bool,
}

/// A file of the network namespace that a thread is in, by which namespaces are told apart: unlike `ns/net` it may be
/// looked at whoever the thread belongs to.
const OF_NAMESPACE: &str = "net/dev";

/// Fails where another process of the current network namespace could send past the rules. With `allow_net_raw` those
/// with `CAP_NET_RAW` are let be, and named in the answer.
pub(crate) fn refuse(allow_net_raw: bool) -> Result<Option<String>, Failure> {
    let identity = |path: &str| fs::metadata(path).map_err(|error| unreadable(path).because(error));
    // With `hidepid` the processes of others are not there, the first one among them.
    identity("/proc/1/status")?;
    if identity("/proc/self/ns/pid")?.ino() != FIRST_PID_NAMESPACE {
        return Err(Failure::new(Kind::Usage, STEP, "not all processes of the machine are seen from here").hint(
            "--keep-interface has to know what each one in the namespace may do: start the gate outside of containers",
        ));
    }
    let own = identity("/proc/self/net/dev")?;
    for _ in 0..LOOKS_MAX {
        let holders = look((own.dev(), own.ino()))?;
        if let Some(holder) = holders.uncontained {
            return Err(refused(holder).hint(
                "start the container without it (no --privileged, no --cap-add), or with --network none, where it is of no use",
            ));
        }
        if !allow_net_raw && let Some(holder) = holders.raw {
            return Err(refused(holder).hint(
                "start the container with --cap-drop NET_RAW (Docker gives it to all); or say --allow-net-raw, and it can send what no policy has seen",
            ));
        }
        if !holders.is_incomplete {
            return Ok(holders.raw);
        }
    }
    Err(Failure::new(Kind::Busy, STEP, "processes end faster than they can be looked at").hint("try again"))
}

/// Fails where a packet socket is open in the current network namespace: whoever has it needs no capability any more.
pub(crate) fn refuse_packet_sockets(allow_net_raw: bool) -> Result<Option<String>, Failure> {
    const PATH: &str = "/proc/self/net/packet";
    let failed = |error| unreadable(PATH).because(error);
    let file = match File::open(PATH) {
        Ok(file) => file,
        // A kernel without packet sockets.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut table = String::new();
    file.take(PACKET_TABLE_LIMIT).read_to_string(&mut table).map_err(failed)?;
    if table.lines().nth(1).is_none() {
        return Ok(None);
    }
    let found = "a packet socket is open in the namespace".to_owned();
    if allow_net_raw {
        return Ok(Some(found));
    }
    Err(Failure::new(Kind::Usage, STEP, format!("{found}, and what is sent by it passes no rule")).hint(
        "end the process that has it (ss --packet --processes), or say --allow-net-raw, and it can send what no policy has seen",
    ))
}

fn refused(holder: String) -> Failure {
    Failure::new(Kind::Usage, STEP, format!("{holder}, by which it could send past the gate"))
}

/// Looks at each thread of the machine's once, but for ours: each has its own namespace and capabilities.
fn look(namespace: (u64, u64)) -> Result<Holders, Failure> {
    let mut holders = Holders::default();
    let ourselves = Path::new("/proc").join(std::process::id().to_string());
    for process in numbered(Path::new("/proc"))?.into_iter().filter(|process| *process != ourselves) {
        let threads = match numbered(&process.join("task")) {
            Ok(threads) => threads,
            Err(_) if !process.exists() => {
                holders.is_incomplete = true;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        for thread in threads {
            look_at(&thread, namespace, &mut holders)?;
        }
    }
    Ok(holders)
}

fn look_at(thread: &Path, namespace: (u64, u64), holders: &mut Holders) -> Result<(), Failure> {
    let failed = |error: io::Error| unreadable(&thread.display().to_string()).because(error);
    let is_inside = match fs::metadata(thread.join(OF_NAMESPACE)) {
        Ok(found) => Some((found.dev(), found.ino()) == namespace),
        Err(error) if is_end(&error) => None,
        Err(error) => return Err(failed(error)),
    };
    if is_inside == Some(false) {
        return Ok(());
    }
    let status = match fs::read_to_string(thread.join("status")) {
        Ok(status) => status,
        Err(error) if is_end(&error) => {
            holders.is_incomplete = true;
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    if is_inside.is_none() {
        // One that has ended and was not waited for has no namespace any more. One that goes on has.
        holders.is_incomplete |= !has_ended(&status);
        return Ok(());
    }
    let found = |power| held(&status, power).map(|set| describe(thread, &status, power, set));
    holders.uncontained =
        holders.uncontained.take().or_else(|| found(NET_ADMIN)).or_else(|| found(SYS_ADMIN));
    holders.raw = holders.raw.take().or_else(|| found(NET_RAW));
    Ok(())
}

/// Which of the sets has it. A set that is not there, or cannot be read, has everything.
fn held(status: &str, power: Power) -> Option<&'static str> {
    let has = |key: &str| {
        let written = status.lines().find_map(|line| line.strip_prefix(key));
        let bits = written.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(u64::MAX);
        bits & (1 << power.number) != 0
    };
    SETS.into_iter().find(|(key, _)| has(key)).map(|(_, set)| set)
}

fn describe(thread: &Path, status: &str, power: Power, set: &str) -> String {
    let number = thread.file_name().unwrap_or_default().to_string_lossy();
    let name = status.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or_default().trim();
    // Its name is the workload's word.
    let name = name.escape_debug();
    format!("process {number} ({name}) has {} in its {set} set", power.name)
}

fn has_ended(status: &str) -> bool {
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default();
    state.trim_start().starts_with(['Z', 'X'])
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The entries of a folder whose names are numbers.
fn numbered(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| unreadable(&folder.display().to_string()).because(error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
            found.push(folder.join(name));
        }
    }
    Ok(found)
}

fn unreadable(what: &str) -> Failure {
    Failure::new(Kind::Privilege, STEP, format!("{what} cannot be looked at"))
        .hint("--keep-interface has to know what each process in the namespace may do: run as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROPPED: &str = "Name:\tsleep\nState:\tS (sleeping)\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t00000000a80405fb\nCapAmb:\t0000000000000000\n";

    #[test]
    fn what_a_program_that_is_executed_could_have_counts_too() {
        assert_eq!(held(DROPPED, NET_RAW), None);
        // Docker's, of a user that is not root.
        let docker = DROPPED.replace("00000000a80405fb", "00000000a80425fb");
        assert_eq!(held(&docker, NET_RAW), Some("bounding"));
        assert_eq!(held(&docker, NET_ADMIN), None);
        let ambient = DROPPED.replace("CapAmb:\t0000000000000000", "CapAmb:\t0000000000001000");
        assert_eq!(held(&ambient, NET_ADMIN), Some("ambient"));
    }

    #[test]
    fn a_set_that_is_not_understood_has_everything() {
        assert!(held("", NET_RAW).is_some());
        assert!(held(&DROPPED.replace("CapBnd", "CapNew"), SYS_ADMIN).is_some());
        assert!(held(&DROPPED.replace("CapEff:\t00", "CapEff:\tx0"), NET_RAW).is_some());
    }

    #[test]
    fn a_process_is_named_without_what_a_terminal_acts_upon() {
        let status = DROPPED.replace("sleep\n", "\u{1b}[2Jx\n");
        let said = describe(Path::new("/proc/7/task/8"), &status, NET_RAW, "bounding");
        assert_eq!(said, "process 8 (\\u{1b}[2Jx) has CAP_NET_RAW in its bounding set");
    }

    #[test]
    fn one_that_nobody_waited_for_has_ended() {
        assert!(has_ended("Name:\ta\nState:\tZ (zombie)\n") && !has_ended(DROPPED));
    }
}
