//! The door for connections that come in: a process that makes sockets in the namespace when the gate
//! asks for them.
//!
//! A socket belongs to the namespace that it was made in, and can be used from anywhere; but nobody can
//! make one in a namespace without entering it, which takes privileges that the gate has given up. So a
//! child stays behind, without any capability, that does nothing else.
//!
//! **Invariant:** called before anything of the capture exists, so that the child holds none of it; it
//! ends when the gate does.

use crate::failure::{Failure, Kind};
use crate::process;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::setsid;
use socket2::{Domain, Socket, Type};
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

const STEP: &str = "door";
/// What the gate sends for a socket of IPv4, and of IPv6.
const IPV4: u8 = b'4';
const IPV6: u8 = b'6';
/// What it gets with a socket, and where there is none.
const MADE: u8 = b'+';
const NOT_MADE: u8 = b'-';

/// Leaves a child behind in the current network namespace; the answer is the gate's end of the socket
/// to it. `gate` is the number of our own socket to the gate, of which the child keeps nothing.
pub(crate) fn open(gate: RawFd) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = UnixStream::pair()
        .map_err(|error| Failure::new(Kind::Internal, STEP, "no socket pair").because(error))?;
    let Some(_) = process::fork(STEP)? else {
        drop(theirs);
        process::leave(stand(&ours, gate));
    };
    Ok(theirs.into())
}

/// The child's life; the answer is its exit code.
fn stand(gate: &UnixStream, other: RawFd) -> u8 {
    process::close(other);
    // A terminal's signals are for the workload. Failing means that we lead a session already.
    setsid().map(drop).unwrap_or_default();
    let prepared = process::hide_memory().and_then(|()| process::drop_privileges());
    if prepared.is_err() {
        return Kind::Privilege.exit_code();
    }
    let mut asked = [0];
    // The end of data is the end of the gate.
    while matches!((&*gate).read(&mut asked), Ok(1)) {
        let domain = match asked {
            [IPV4] => Domain::IPV4,
            [IPV6] => Domain::IPV6,
            _ => return Kind::Internal.exit_code(),
        };
        if answer(gate, domain).is_err() {
            return Kind::Internal.exit_code();
        }
    }
    0
}

/// Makes a socket and gives it away.
fn answer(gate: &UnixStream, domain: Domain) -> io::Result<()> {
    let socket = Socket::new(domain, Type::STREAM, None).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let (word, numbers) = match &socket {
        Ok(socket) => (MADE, vec![socket.as_raw_fd()]),
        // Out of descriptors or memory; it may be better the next time.
        Err(_) => (NOT_MADE, Vec::new()),
    };
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &[][..] } else { &rights };
    sendmsg::<()>(gate.as_raw_fd(), &[IoSlice::new(&[word])], rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::cmsg_space;
    use nix::sys::socket::{ControlMessageOwned, recvmsg};
    use std::io::IoSliceMut;

    #[test]
    fn who_asks_is_given_a_socket_of_the_family() {
        let (door, gate) = UnixStream::pair().unwrap();
        for (domain, family) in [(Domain::IPV4, libc::AF_INET), (Domain::IPV6, libc::AF_INET6)] {
            answer(&door, domain).unwrap();
            let mut word = [0];
            let mut slices = [IoSliceMut::new(&mut word)];
            let mut space = cmsg_space!([RawFd; 1]);
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let received = recvmsg::<()>(gate.as_raw_fd(), &mut slices, Some(&mut space), flags).unwrap();
            let rights = received.cmsgs().unwrap().find_map(|message| match message {
                ControlMessageOwned::ScmRights(rights) => rights.first().copied(),
                _ => None,
            });
            let number = rights.unwrap();
            // SAFETY: it came with the message, for us alone.
            let socket = unsafe { <Socket as std::os::fd::FromRawFd>::from_raw_fd(number) };
            assert_eq!((i32::from(socket.domain().unwrap()), word), (family, [MADE]));
        }
    }
}
