//! The gates that ADD has started: what they are for, whether they serve, and their end.
//!
//! Nothing here trusts a process id that was written down: which process has a name is asked of its control
//! socket, and the kernel answers.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::cli::parse_name;
use crate::folders;

/// How long a gate may take to end by itself; it has 5 s for its last records.
const END_DEADLINE: Duration = Duration::from_secs(8);

/// How long one may take that was killed.
const KILL_DEADLINE: Duration = Duration::from_secs(2);

/// How long a gate may leave a connection to its control socket waiting.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// The longest note: three names.
const NOTE_BYTES_MAX: u64 = 4_096;

/// What a gate was started for.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Attachment {
    pub(super) network: String,
    pub(super) container_id: String,
    pub(super) interface: String,
}

/// The gates of this user's runtime folder.
#[derive(Debug)]
pub(super) struct Gates {
    sockets: PathBuf,
    notes: PathBuf,
}

impl Gates {
    pub(super) fn open() -> io::Result<Self> {
        let sockets = folders::runtime()?;
        let notes = sockets.join("cni");
        DirBuilder::new().recursive(true).mode(0o700).create(&notes)?;
        Ok(Self { sockets, notes })
    }

    /// Writes down what the gate of this name is for.
    pub(super) fn note(&self, gate: &str, attachment: &Attachment) -> io::Result<()> {
        fs::write(self.file(gate), serde_json::to_vec(attachment)?)
    }

    /// Undoes [`Self::note`].
    pub(super) fn forget(&self, gate: &str) {
        if let Err(error) = fs::remove_file(self.file(gate))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, gate, "what is noted of a gate stays");
        }
    }

    /// The noted gates of a network, by name.
    pub(super) fn of_network(&self, network: &str) -> io::Result<Vec<(String, Attachment)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.notes)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            let (Ok(name), Some(attachment)) = (parse_name(name), read_note(&path)) else { continue };
            if attachment.network == network {
                found.push((name, attachment));
            }
        }
        Ok(found)
    }

    /// Whether a gate of this name is there.
    pub(super) fn is_serving(&self, gate: &str) -> bool {
        process_of(&self.socket(gate)).is_some()
    }

    /// Ends the gate of this name and waits for that; it is well where there is none.
    pub(super) fn end(&self, gate: &str) -> io::Result<()> {
        let socket = self.socket(gate);
        let Some(pid) = process_of(&socket) else { return Ok(()) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The number could have been another process's when it was opened. Who answers now is alive and has it.
        if process_of(&socket) != Some(pid) {
            return Ok(());
        }
        for (signal, deadline) in [(Signal::TERM, END_DEADLINE), (Signal::KILL, KILL_DEADLINE)] {
            match pidfd_send_signal(&process, signal) {
                Ok(()) if !has_ended(&process, deadline)? => {}
                Ok(()) | Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn socket(&self, gate: &str) -> PathBuf {
        self.sockets.join(format!("{gate}.sock"))
    }

    fn file(&self, gate: &str) -> PathBuf {
        self.notes.join(format!("{gate}.json"))
    }
}

fn read_note(path: &Path) -> Option<Attachment> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(NOTE_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The process that listens at a socket (`SO_PEERCRED` of unix(7)), if one does.
fn process_of(path: &Path) -> Option<Pid> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).ok()?;
    set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_DEADLINE)).ok()?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    socket_peercred(&socket).ok().map(|credentials| credentials.pid)
}

/// Waits for a process's end, for so long.
fn has_ended(process: &OwnedFd, within: Duration) -> io::Result<bool> {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], left) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::control::ControlSocket;

    fn gates() -> (tempfile::TempDir, Gates) {
        let folder = tempfile::tempdir().unwrap();
        let notes = folder.path().join("cni");
        fs::create_dir(&notes).unwrap();
        let gates = Gates { sockets: folder.path().to_owned(), notes };
        (folder, gates)
    }

    fn attachment(network: &str) -> Attachment {
        Attachment { network: network.into(), container_id: "c1".into(), interface: "eth0".into() }
    }

    #[test]
    fn notes_are_found_by_network_and_forgotten_by_name() {
        let (_folder, gates) = gates();
        gates.note("one", &attachment("a")).unwrap();
        gates.note("two", &attachment("b")).unwrap();
        fs::write(gates.file("three"), "{").unwrap();
        assert_eq!(gates.of_network("a").unwrap(), [("one".to_owned(), attachment("a"))]);
        gates.forget("one");
        gates.forget("one");
        assert_eq!(gates.of_network("a").unwrap(), []);
        assert_eq!(gates.of_network("b").unwrap().len(), 1);
    }

    #[test]
    fn a_name_is_served_by_who_listens() {
        let (_folder, gates) = gates();
        assert!(!gates.is_serving("box"));
        gates.end("box").unwrap();
        let socket = ControlSocket::bind(&gates.socket("box")).unwrap();
        assert_eq!(process_of(&gates.socket("box")), Some(rustix::process::getpid()));
        assert!(gates.is_serving("box"));
        drop(socket);
        assert!(!gates.is_serving("box"));
    }

    #[test]
    fn the_end_of_a_process_is_seen_and_nothing_before() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert!(!has_ended(&process, Duration::from_millis(20)).unwrap());
        child.kill().unwrap();
        assert!(has_ended(&process, Duration::from_secs(10)).unwrap());
        child.wait().unwrap();
    }
}
