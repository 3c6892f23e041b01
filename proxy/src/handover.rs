//! What a gate leaves, so that the next process of its instance goes on where it ended: the captured sockets, on
//! which connections wait meanwhile, and the authority, which the workload trusts already.
//!
//! Both wait in the queue of one socket that the service manager keeps (sd_notify(3), `FDSTORE=1`), or the first
//! process of a sidecar, in memory and on no disk. The message is looked at and left there, so that it also outlives a gate that is killed.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::SystemTime;

use listenfd::ListenFd;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};
use sluicegate_certs::{CertError, CertificateAuthority, KeptAuthority};
use zeroize::Zeroizing;

use crate::capture::{Captured, Ready};
use crate::service_manager;

/// What the service manager knows the socket as.
const NAME: &str = "sluicegate";

/// The version of the message.
const VERSION: u32 = 2;

/// The longest message, in bytes: a certificate, two keys and some names.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Captured sockets that are handed over.
const DESCRIPTORS: usize = 7;

/// Descriptors that are given at once besides: such a queue, and the door.
const GIVEN_MAX: usize = 2;

/// What an earlier process of the instance had.
#[derive(Debug)]
pub struct Kept {
    /// The namespace's sockets.
    pub captured: Box<Captured>,
    /// The authority.
    pub authority: CertificateAuthority,
}

/// Why nothing could be left, or what was left is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// A socket failed.
    #[error("the descriptors cannot be handed over")]
    Io(#[from] io::Error),
    /// The message is not one of this version.
    #[error("what was kept is not of this version")]
    Message(#[source] Option<serde_json::Error>),
    /// The authority cannot be taken apart or put together.
    #[error("the authority cannot be handed over")]
    Authority(#[from] CertError),
    /// The instance has another namespace by now.
    #[error("what was kept is of another network namespace")]
    OtherNamespace,
}

#[derive(Deserialize, Serialize)]
struct Message {
    version: u32,
    ready: Ready,
    /// None before the first gate.
    authority: Option<AuthorityMessage>,
}

#[derive(Deserialize, Serialize)]
struct AuthorityMessage {
    certificate_pem: String,
    subject: String,
    valid_from: SystemTime,
    valid_until: SystemTime,
    key: Zeroizing<Vec<u8>>,
    leaf_key: Zeroizing<Vec<u8>>,
}

/// Leaves with the service manager what the next process needs. Without a service manager nothing is done.
///
/// # Errors
/// [`HandoverError`].
pub fn leave(captured: &Captured, authority: &CertificateAuthority) -> Result<(), HandoverError> {
    if !service_manager::is_there() {
        return Ok(());
    }
    Ok(service_manager::store(NAME, pack(captured, Some(authority))?.as_fd())?)
}

/// A socket in whose queue captured sockets wait, with the authority where there is one yet.
///
/// # Errors
/// [`HandoverError`].
pub fn pack(captured: &Captured, authority: Option<&CertificateAuthority>) -> Result<OwnedFd, HandoverError> {
    let authority = match authority {
        Some(authority) => {
            let kept = authority.keep()?;
            Some(AuthorityMessage {
                certificate_pem: kept.certificate_pem,
                subject: kept.subject,
                valid_from: kept.validity.start,
                valid_until: kept.validity.end,
                key: kept.key.into(),
                leaf_key: kept.leaf_key.into(),
            })
        }
        None => None,
    };
    let message = Message { version: VERSION, ready: captured.ready.clone(), authority };
    let text =
        Zeroizing::new(serde_json::to_vec(&message).map_err(|error| HandoverError::Message(Some(error)))?);
    Ok(queued(&text, &captured.descriptors())?.into())
}

/// Has the service manager forget what was left.
///
/// # Errors
/// [`HandoverError::Io`].
pub fn forget() -> Result<(), HandoverError> {
    Ok(service_manager::forget(NAME)?)
}

/// What was left by an earlier process for the namespace at `path`, or nothing where there was none. To be called
/// before any thread is started.
///
/// # Errors
/// [`HandoverError`]: something was left that is of no use, and is forgotten.
pub fn find(path: &Path) -> Result<Option<Kept>, HandoverError> {
    let names = service_manager::kept_names();
    let mut descriptors = ListenFd::from_env();
    let Some(at) = names.iter().position(|name| name == NAME) else { return Ok(None) };
    let Some(queue) = descriptors.take_unix_datagram(at)? else { return Ok(None) };
    read(&queue, path).map(Some).inspect_err(|_| drop(forget()))
}

fn read(queue: &UnixDatagram, path: &Path) -> Result<Kept, HandoverError> {
    let (captured, authority) = unpack(queue)?;
    if captured.ready.namespace != format!("net:[{}]", fs::metadata(path)?.ino()) {
        return Err(HandoverError::OtherNamespace);
    }
    let authority = authority.ok_or(HandoverError::Message(None))?;
    Ok(Kept { captured: Box::new(captured), authority })
}

/// Gives descriptors to the process at the other end of a socket.
///
/// # Errors
/// What the system says.
pub fn give(line: &UnixDatagram, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GIVEN_MAX))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(line, &[IoSlice::new(b"\n")], &mut rights, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes what was given at the other end; nothing is waited for.
///
/// # Errors
/// There is nothing.
pub fn take(line: &UnixDatagram) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GIVEN_MAX))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(line, &mut [IoSliceMut::new(&mut [0])], &mut rights, flags)?;
    Ok(descriptors(&mut rights))
}

fn descriptors(rights: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let mut descriptors = Vec::with_capacity(DESCRIPTORS);
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    descriptors
}

/// A socket in whose queue a message waits.
fn queued(text: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<UnixDatagram> {
    let (here, there) = UnixDatagram::pair()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(here, &[IoSlice::new(text)], &mut rights, SendFlags::NOSIGNAL)?;
    Ok(there)
}

/// What waits in a queue, which goes on to wait there.
///
/// # Errors
/// [`HandoverError`].
pub fn unpack(queue: &UnixDatagram) -> Result<(Captured, Option<CertificateAuthority>), HandoverError> {
    let mut text = Zeroizing::new(vec![0; MESSAGE_BYTES_MAX]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(queue, &mut [IoSliceMut::new(&mut text)], &mut rights, flags);
    let received = received.map_err(io::Error::from)?;
    let text = text.get(..received.bytes).unwrap_or_default();
    let message: Message =
        serde_json::from_slice(text).map_err(|error| HandoverError::Message(Some(error)))?;
    let descriptors = descriptors(&mut rights).try_into().map_err(|_| HandoverError::Message(None))?;
    if message.version != VERSION {
        return Err(HandoverError::Message(None));
    }
    let authority = message.authority.map(|kept| {
        CertificateAuthority::go_on(KeptAuthority {
            certificate_pem: kept.certificate_pem,
            subject: kept.subject,
            validity: kept.valid_from..kept.valid_until,
            key: kept.key.to_vec(),
            leaf_key: kept.leaf_key.to_vec(),
        })
    });
    Ok((Captured::of(descriptors, message.ready), authority.transpose()?))
}
