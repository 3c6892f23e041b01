//! Who has connected to the control socket, as the kernel tells it, and whether they may.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UnixStream;
use tokio::net::unix::UCred;

use crate::controller::Actor;

/// Why a process may not use the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The kernel does not say who it is.
    #[error("the kernel does not say which process has connected")]
    Unknown,
    /// Another user, and not root.
    #[error("user {0} does not own this instance")]
    OtherUser(u32),
    /// It is in another network namespace, or it cannot be told in which: it may be the workload.
    #[error(
        "the process is in another network namespace than the gate, or that cannot be told; \
         use the control socket from the namespace where sluicegate was started"
    )]
    OtherNetwork,
}

/// One connection's other end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Who it is, or why it is refused.
    pub(super) actor: Result<Actor, PeerError>,
    follows: Arc<AtomicBool>,
}

impl Peer {
    /// Who has connected; from the network namespace of the process `home` alone, a folder of /proc.
    pub(super) fn of(stream: &UnixStream, home: &str) -> Self {
        let peer = stream.peer_cred().map_err(|_| PeerError::Unknown);
        let actor = peer.and_then(|peer| judge(&peer, home));
        Self { actor, follows: Arc::default() }
    }

    /// Notes that the connection is one of those that stay open.
    pub(super) fn follow(&self) {
        self.follows.store(true, Ordering::Relaxed);
    }

    pub(super) fn follows(&self) -> bool {
        self.follows.load(Ordering::Relaxed)
    }
}

fn judge(peer: &UCred, home: &str) -> Result<Actor, PeerError> {
    let uid = peer.uid();
    if uid != 0 && uid != rustix::process::getuid().as_raw() {
        return Err(PeerError::OtherUser(uid));
    }
    let pid = peer.pid().filter(|pid| *pid > 0).ok_or(PeerError::Unknown)?;
    // A second line of defence: the workload of `run` has our user, and does not see the socket's folder.
    // A process that has ended since it connected is refused, unless its number was given to another of
    // ours in between, which the workload cannot bring about from its own PID namespace.
    match (network(&pid.to_string()), network(home)) {
        (Ok(theirs), Ok(ours)) if theirs == ours => Ok(Actor::Peer { uid, pid: Some(pid) }),
        _ => Err(PeerError::OtherNetwork),
    }
}

/// What stands for a process's network namespace: each has inodes of its own below `/proc/net`. Unlike
/// the link `ns/net`, which says the same, these may be seen of a process with more privileges, such as a
/// shell of root's by a gate that has given up its own.
fn network(process: &str) -> io::Result<(u64, u64)> {
    fs::metadata(format!("/proc/{process}/net/dev")).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_of_ours_may() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let actor = Peer::of(&ours, "self").actor.unwrap();
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(actor, Actor::Peer { uid, pid: Some(std::process::id().cast_signed()) });
        let nobody = Peer::of(&ours, "0").actor;
        assert_eq!(nobody.unwrap_err(), PeerError::OtherNetwork, "where home is not known, nobody is");
    }

    #[test]
    fn a_network_namespace_is_told_apart_from_none() {
        assert_eq!(network("self").unwrap(), network(&std::process::id().to_string()).unwrap());
        assert!(network("0").is_err());
    }
}
