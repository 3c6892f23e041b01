//! The door of a sidecar: the thread that stays in the sealed namespace makes sockets there, for connections that
//! come in, as `netns-helper/src/door.rs` does elsewhere.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socket_with,
};

use crate::inbound::{IPV4, IPV6};

/// What a gate gets with a socket, and where there is none.
const MADE: &[u8] = b"+";
const NOT_MADE: &[u8] = b"-";

/// Makes sockets for the gate at the other end, until that ends or asks for something else.
pub(super) fn stand(gate: &UnixStream) {
    let mut asked = [0];
    loop {
        match (&*gate).read(&mut asked) {
            Ok(1) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            _ => return,
        }
        let family = match &asked[..] {
            IPV4 => AddressFamily::INET,
            IPV6 => AddressFamily::INET6,
            _ => return,
        };
        if answer(gate, family).is_err() {
            return;
        }
    }
}

/// Makes a socket in this thread's namespace and gives it away.
fn answer(gate: &UnixStream, family: AddressFamily) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    // Out of descriptors or memory; it may be better the next time.
    let socket = socket_with(family, SocketType::STREAM, flags, None).ok();
    let made = socket.as_ref().map(|socket| [socket.as_fd()]);
    let word = match &made {
        Some(made) if rights.push(SendAncillaryMessage::ScmRights(made)) => MADE,
        _ => NOT_MADE,
    };
    sendmsg(gate, &[IoSlice::new(word)], &mut rights, SendFlags::NOSIGNAL)?;
    Ok(())
}
