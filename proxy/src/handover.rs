//! What a gate leaves with the service manager, so that the next process of its instance goes on where it ended:
//! the captured sockets, on which connections wait meanwhile, and the authority, which the workload trusts already.
//!
//! Both wait in the queue of one socket that the service manager keeps (sd_notify(3), `FDSTORE=1`), in memory and
//! on no disk. The message is looked at and left there, so that it also outlives a gate that is killed.

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
const VERSION: u32 = 1;

/// The longest message, in bytes: a certificate, two keys and some names.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Captured sockets that are handed over.
const DESCRIPTORS: usize = 7;

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
    #[error("what the service manager kept is not of this version")]
    Message(#[source] Option<serde_json::Error>),
    /// The authority cannot be taken apart or put together.
    #[error("the authority cannot be handed over")]
    Authority(#[from] CertError),
    /// The instance has another namespace by now.
    #[error("what the service manager kept is of another network namespace")]
    OtherNamespace,
}

#[derive(Deserialize, Serialize)]
struct Message {
    version: u32,
    ready: Ready,
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
    let kept = authority.keep()?;
    let message = Message {
        version: VERSION,
        ready: captured.ready.clone(),
        certificate_pem: kept.certificate_pem,
        subject: kept.subject,
        valid_from: kept.validity.start,
        valid_until: kept.validity.end,
        key: kept.key.into(),
        leaf_key: kept.leaf_key.into(),
    };
    let text =
        Zeroizing::new(serde_json::to_vec(&message).map_err(|error| HandoverError::Message(Some(error)))?);
    let queue = queued(&text, &captured.descriptors())?;
    Ok(service_manager::store(NAME, queue.as_fd())?)
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

fn read(queue: &UnixDatagram, path: &Path) -> Result<Kept, HandoverError> {
    let mut text = Zeroizing::new(vec![0; MESSAGE_BYTES_MAX]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(queue, &mut [IoSliceMut::new(&mut text)], &mut rights, flags);
    let received = received.map_err(io::Error::from)?;
    let mut descriptors: Vec<OwnedFd> = Vec::with_capacity(DESCRIPTORS);
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    let text = text.get(..received.bytes).unwrap_or_default();
    let message: Message =
        serde_json::from_slice(text).map_err(|error| HandoverError::Message(Some(error)))?;
    let descriptors = descriptors.try_into().map_err(|_| HandoverError::Message(None))?;
    if message.version != VERSION {
        return Err(HandoverError::Message(None));
    }
    if message.ready.namespace != format!("net:[{}]", fs::metadata(path)?.ino()) {
        return Err(HandoverError::OtherNamespace);
    }
    let authority = CertificateAuthority::go_on(KeptAuthority {
        certificate_pem: message.certificate_pem,
        subject: message.subject,
        validity: message.valid_from..message.valid_until,
        key: message.key.to_vec(),
        leaf_key: message.leaf_key.to_vec(),
    })?;
    Ok(Kept { captured: Box::new(Captured::of(descriptors, message.ready)), authority })
}
