//! `sluicegate sidecar`: a gate in a container whose network namespace it seals for others to join.
//!
//! The namespace is joined by the path of its container's first process, which is this one. So the thread that this
//! process began with stays in it, and does nothing; the gate is in the private namespace, to which the
//! interfaces have gone, with all threads that it starts.
//!
//! **Invariant:** the gate's threads alone hold the private namespace: when they end, it does, and the interfaces
//! with it.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::attach;
use crate::capture::{CaptureError, Captured, Helper, Target};
use crate::confinement::{self, Writable};
use crate::instance::{Instance, InstanceError};
use crate::process;

/// Of the gate's first thread: as much as the first of a process has, since it does the same.
const STACK_BYTES: usize = 8 << 20;

/// What is read of resolv.conf: many times what one has.
const RESOLVER_BYTES_MAX: u64 = 65_536;

/// Has the interfaces moved into a private namespace and what is left captured, and runs `gate` in the private
/// one. To be called on the first thread, with no other there. Whatever fails, nothing leaves afterwards.
///
/// # Errors
/// [`InstanceError`], also what `gate` fails with.
pub fn aside<T: Send>(
    published: bool,
    gate: impl FnOnce(Captured) -> Result<T, InstanceError> + Send,
) -> Result<T, InstanceError> {
    let system = |what| move |error| InstanceError::System(what, error);
    process::harden().map_err(system("protect this process"))?;
    let (captured, private) = captured(published)?;
    let (confined, wait) = mpsc::channel();
    thread::scope(move |scope| {
        let gate = thread::Builder::new()
            .name("gate".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || {
                enter(private, &wait).map_err(system("enter the private network namespace"))?;
                gate(captured)
            })
            .map_err(system("start a thread"))?;
        // The other has its own privileges, and gives them up by itself.
        confinement::confine(&Writable { folders: Vec::new() }).map_err(InstanceError::Confinement)?;
        // It is there: it waits for this.
        confined.send(()).unwrap_or_default();
        gate.join().unwrap_or_else(|_| Err(system("go on after a panic")(io::ErrorKind::Other.into())))
    })
}

fn captured(published: bool) -> Result<(Captured, OwnedFd), InstanceError> {
    let mut helper = Helper::start(&Target::Sidecar, published).map_err(InstanceError::Capture)?;
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
