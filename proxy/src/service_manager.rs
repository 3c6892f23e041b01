//! Tells a service manager that the gate serves, where one waits for that, and has it keep descriptors
//! (sd_notify(3)).

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// Says that the gate serves. Without a service manager nobody waits.
///
/// # Errors
/// Its socket is not there, or takes nothing.
pub(crate) fn ready() -> io::Result<()> {
    say("READY=1\n", &[])
}

/// Has a descriptor kept under this name, for the next process of the service.
///
/// # Errors
/// As [`ready`].
pub(crate) fn store(name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    say(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n"), &[descriptor])
}

/// Has what is kept under this name closed.
///
/// # Errors
/// As [`ready`].
pub(crate) fn forget(name: &str) -> io::Result<()> {
    say(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), &[])
}

/// Whether there is a service manager.
pub(crate) fn is_there() -> bool {
    socket_name().is_some()
}

/// The names of the descriptors that were kept, in their order (sd_listen_fds_with_names(3)).
#[expect(clippy::disallowed_methods, reason = "they are named by the environment, by specification")]
pub(crate) fn kept_names() -> Vec<String> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    names.split(':').map(str::to_owned).collect()
}

#[expect(clippy::disallowed_methods, reason = "the socket is named by the environment, by specification")]
fn socket_name() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET")
}

fn say(words: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    socket_name().map_or(Ok(()), |name| send(name.as_bytes(), words, descriptors))
}

/// A name that begins with `@` has no file (unix(7), "abstract").
fn send(name: &[u8], words: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let address = match name.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(name)))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // A manager that reads nothing is not waited for.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(words.as_bytes())], &mut rights, flags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_told_to_sockets_with_and_without_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("sluicegate-test-{}", std::process::id());
        let sockets = [
            (path.as_os_str().as_bytes().to_vec(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{abstract_name}").into_bytes(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap(),
            ),
        ];
        for (name, socket) in sockets {
            send(&name, "READY=1\n", &[]).unwrap();
            let mut said = [0; 32];
            let length = socket.recv(&mut said).unwrap();
            assert_eq!(&said[..length], b"READY=1\n");
        }
        assert!(send(b"/nowhere/notify", "READY=1\n", &[]).is_err());
    }
}
