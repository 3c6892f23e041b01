//! `sluicegate sidecar`: a gate in a container whose network namespace it seals for others to join.
//!
//! The namespace is joined by the path of its container's first process, which is this one. So the thread that this
//! process began with stays in it, and makes sockets there where ports are published; another thread is in the private
//! namespace, to which the interfaces have gone, and starts the gate there, in a process of its own: again where that
//! ends by a fault, with what was captured and with the same authority.
//!
//! **Invariant:** this process and its gate alone hold the private namespace: when they end, it does, and the
//! interfaces with it. A gate ends with this process.

mod door;
mod keeper;

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sluicegate_certs::CertificateAuthority;

use self::keeper::Keeper;
use crate::attach;
use crate::capture::{CaptureError, Captured, Helper, Target};
use crate::confinement::{self, Writable};
use crate::handover::{self, HandoverError};
use crate::instance::{Instance, InstanceError};
use crate::process;

/// The option of a gate that a sidecar has started.
pub const SUPERVISED: &str = "supervised";

/// What is read of resolv.conf: many times what one has.
const RESOLVER_BYTES_MAX: u64 = 65_536;

/// Has the interfaces moved into a private namespace and what is left captured, and keeps a gate running in the
/// private one. Returns its exit code. To be called on the first thread, with no other there. Whatever fails, nothing
/// leaves afterwards.
///
/// # Errors
/// [`InstanceError`]; what a gate fails with it says itself.
pub fn supervise(published: bool) -> Result<u8, InstanceError> {
    let system = |what| move |error| InstanceError::System(what, error);
    process::harden().map_err(system("protect this process"))?;
    let (captured, private) = captured()?;
    let kept = handover::pack(&captured, None).map_err(handed_over)?;
    drop(captured);
    let (confined, wait) = mpsc::channel();
    let (doors, asked) = mpsc::channel();
    let keeper = Keeper { kept, doors: published.then_some(doors) };
    let keeper = thread::Builder::new()
        .name("keeper".into())
        .spawn(move || {
            enter(private, &wait).map_err(system("enter the private network namespace"))?;
            confinement::confine_parent().map_err(InstanceError::Confinement)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(system("wait for a gate"))?;
            runtime.block_on(keeper.keep()).map_err(system("keep a gate running"))
        })
        .map_err(system("start a thread"))?;
    // The other has its own privileges, and gives them up by itself.
    confinement::confine(&Writable { folders: Vec::new() }).map_err(InstanceError::Confinement)?;
    // It is there: it waits for this.
    confined.send(()).unwrap_or_default();
    for line in asked {
        door::stand(&line);
    }
    keeper.join().unwrap_or_else(|_| Err(system("go on after a panic")(io::ErrorKind::Other.into())))
}

fn captured() -> Result<(Captured, OwnedFd), InstanceError> {
    let mut helper = Helper::start(&Target::Sidecar, false).map_err(InstanceError::Capture)?;
    let mut captured = attach::captured(&mut helper)?;
    let private = captured.private.take();
    let private = private.ok_or(InstanceError::Capture(CaptureError::Protocol("no private namespace")))?;
    Ok((captured, private))
}

/// Goes on in the private namespace, once the thread that stays behind has no privilege any more.
fn enter(private: OwnedFd, confined: &Receiver<()>) -> io::Result<()> {
    confined.recv().map_err(io::Error::other)?;
    move_into_link_name_space(private.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// What the next gate needs.
///
/// # Errors
/// [`InstanceError::System`].
pub fn left(captured: &Captured, instance: &Instance) -> Result<OwnedFd, InstanceError> {
    handover::pack(captured, Some(instance.authority())).map_err(handed_over)
}

fn handed_over(error: HandoverError) -> InstanceError {
    InstanceError::System("hand over what was captured", io::Error::other(error))
}

/// A gate's end of the line to the process that keeps it running.
#[derive(Debug)]
pub struct Line(UnixDatagram);

impl Line {
    /// The line that this process was started with, its standard input, and what was given by it. From here on this
    /// process ends with the one that started it.
    ///
    /// # Errors
    /// [`InstanceError::System`]: it was not started by a sidecar.
    pub fn inherited() -> Result<(Self, Captured, Option<CertificateAuthority>), InstanceError> {
        let system = |error| InstanceError::System("take over what was captured", error);
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|errno| system(errno.into()))?;
        let line = rustix::stdio::stdin().try_clone_to_owned().map_err(system)?;
        let line = UnixDatagram::from(line);
        let mut given = handover::take(&line).map_err(system)?.into_iter();
        let queue = given.next().ok_or(io::ErrorKind::UnexpectedEof).map_err(|kind| system(kind.into()))?;
        let (mut captured, authority) = handover::unpack(&queue.into()).map_err(handed_over)?;
        captured.door = given.next();
        Ok((Self(line), captured, authority))
    }

    /// Says that the gate serves, with what the next one needs.
    ///
    /// # Errors
    /// There is nobody any more who would start the next one, and who ends this one.
    pub fn serves(&self, left: &OwnedFd) -> io::Result<()> {
        handover::give(&self.0, &[left.as_fd()])
    }
}

/// Warns of a policy that leaves it to the system to resolve names, where the system cannot: a resolver on
/// loopback, such as docker's, is in the namespace that was left, and the workload's packets are the only ones
/// there that could reach it.
pub fn warn_of_resolver(instance: &Instance) {
    if instance.generation().policy.upstream().dns.is_empty() && system_resolver_is_left() {
        tracing::warn!(
            "the name servers of /etc/resolv.conf are on loopback and not reached from here: \
             name others in `[upstream] dns`, or addresses in `[upstream] resolve`"
        );
    }
}

fn system_resolver_is_left() -> bool {
    let mut text = String::new();
    let read = File::open("/etc/resolv.conf")
        .and_then(|file| file.take(RESOLVER_BYTES_MAX).read_to_string(&mut text));
    read.is_err() || all_on_loopback(&text)
}

/// Without a line it is the loopback too (resolv.conf(5)).
fn all_on_loopback(text: &str) -> bool {
    text.lines().filter_map(server).all(|server| server.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()))
}

fn server(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    if words.next()? == "nameserver" { words.next() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_loopback_is_told_from_others() {
        for left in ["", "# nameserver 10.0.0.1\n", "search a.test\nnameserver 127.0.0.11\noptions ndots:0\n"]
        {
            assert!(all_on_loopback(left), "{left:?}");
        }
        for reached in ["nameserver 10.96.0.10\n", "nameserver 127.0.0.11\nnameserver fd00::1\n"] {
            assert!(!all_on_loopback(reached), "{reached:?}");
        }
    }
}
