//! The audit log: one chained JSON line for every exchange, fetch, flow and DNS answer, for every line
//! that a handler logged, and for every control action.
//!
//! The request path pays for a move into a bounded queue; a thread of the log's own serialises,
//! chains and writes (`writer`). A log that cannot be written makes the gate refuse
//! ([`Log::is_healthy`]) rather than let through what nobody will know of.
//!
//! **Invariant:** a record is written exactly once, in the order of drops, or counted as lost in a
//! record that follows.

mod chain;
mod entry;
mod file;
mod handler_line;
mod kind;
mod line;
mod message_tally;
mod queue;
mod record;
mod text;
pub(crate) mod view;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use chain::{LINE_LIMIT, Problem, Verified, VerifyError, verify};
pub use entry::{
    ABANDONED, AUDIT_UNAVAILABLE, CREDENTIALS_LIMIT, DETAIL_LIMIT, Entry, METHOD_LIMIT, NAME_LIMIT,
    PATH_LIMIT,
};
pub use handler_line::{FIELDS_LIMIT, MESSAGE_LIMIT};
pub use kind::{Kind, Protocol, Verdict};
pub use message_tally::MessageTally;
pub use record::AuditRecord;

use chain::Chain;
use queue::Queue;
use writer::{Identity, Writer};

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A regular file, appended to across runs; made with mode 0600 if it is not there.
    File(PathBuf),
    /// Our standard output, with a chain of its own for every run.
    Stdout,
}

/// A handle to the log; clones share it.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
}

/// A log that is open, and into which nothing was written yet.
#[derive(Debug)]
pub struct OpenedLog(Sink);

#[derive(Debug)]
enum Sink {
    File(file::Opened),
    Stdout(std::fs::File),
}

impl OpenedLog {
    /// Opens a log. No thread is started.
    ///
    /// # Errors
    /// When the destination cannot be opened, is in use by another instance, or holds something that is not
    /// a log.
    pub fn new(destination: &Destination) -> Result<Self, AuditError> {
        Ok(Self(match destination {
            Destination::File(path) => Sink::File(file::open(path)?),
            // Our own descriptor of it: std's handle would put a line buffer between.
            Destination::Stdout => {
                let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(AuditError::Write)?;
                Sink::Stdout(stdout.into())
            }
        }))
    }

    /// Writes the `started` record, and starts the writer thread. `instance` is what every line names, and
    /// `generation` the policy that a line names unless its record says another.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(self, instance: String, generation: String) -> Result<Log, AuditError> {
        let identity = Identity { instance, generation };
        match self.0 {
            Sink::File(opened) => {
                Log::start(file::FileSink::new(opened.file), opened.chain, opened.torn_bytes, identity)
            }
            Sink::Stdout(stdout) => Log::start(stdout, Chain::genesis(), 0, identity),
        }
    }
}

impl Log {
    /// Begins the record of a request and its response.
    #[must_use]
    pub fn exchange(&self, client: SocketAddr, original_destination: SocketAddr) -> AuditRecord {
        let mut entry = Entry::new(Kind::Exchange);
        entry.client = Some(client);
        entry.original_destination = Some(original_destination);
        AuditRecord::new(self.clone(), entry)
    }

    /// Begins the record of a request that a handler sends.
    #[must_use]
    pub fn fetch(&self) -> AuditRecord {
        AuditRecord::new(self.clone(), Entry::new(Kind::Fetch))
    }

    /// Begins the record of a line that a handler logged; [`Entry::set_handler_line`] says which.
    #[must_use]
    pub fn handler_line(&self) -> AuditRecord {
        AuditRecord::new(self.clone(), Entry::new(Kind::Handler))
    }

    /// Room for this many lines of a handler, to be divided among their records ([`Entry::room`]). A
    /// handler can write dozens for one request: it waits here while its like fill the queue, so that
    /// there is room for the records of others. `None` where that takes too long; then the length of the
    /// queue is what counts.
    pub async fn room_for_lines(&self, lines: usize) -> Option<OwnedSemaphorePermit> {
        let lines = u32::try_from(lines.min(HANDLER_LINES_MAX)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.shared.room_for_lines).acquire_many_owned(lines);
        tokio::time::timeout(HANDLER_LINES_TIMEOUT, room).await.ok()?.ok()
    }

    /// Begins the record of an opaque flow.
    #[must_use]
    pub fn flow(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        original_destination: SocketAddr,
    ) -> AuditRecord {
        let mut entry = Entry::new(Kind::Flow);
        entry.protocol = Some(protocol);
        entry.client = Some(client);
        entry.original_destination = Some(original_destination);
        AuditRecord::new(self.clone(), entry)
    }

    /// Begins the record of a connection that came in, from `client` to a published address.
    #[must_use]
    pub fn inbound(&self, client: SocketAddr, published: SocketAddr) -> AuditRecord {
        let mut entry = Entry::new(Kind::Inbound);
        entry.protocol = Some(Protocol::Tcp);
        entry.client = Some(client);
        entry.original_destination = Some(published);
        AuditRecord::new(self.clone(), entry)
    }

    /// Begins the record of a DNS answer.
    #[must_use]
    pub fn dns(&self, name: impl Into<String>, question_type: impl Into<String>) -> AuditRecord {
        let mut entry = Entry::new(Kind::Dns);
        entry.host = Some(name.into());
        entry.question_type = Some(question_type.into());
        AuditRecord::new(self.clone(), entry)
    }

    /// Begins the record of something done to the gate, such as `policy_published`.
    #[must_use]
    pub fn control(&self, action: &'static str) -> AuditRecord {
        let mut entry = Entry::new(Kind::Control);
        entry.action = Some(action);
        AuditRecord::new(self.clone(), entry)
    }

    /// Whether what happens now can be written. One atomic load. False from a failed write until the
    /// batch that failed is written after all, while the queue is nearly full, and once the log is
    /// being closed; the gate then refuses, with the reason [`AUDIT_UNAVAILABLE`].
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.shared.queue.is_healthy()
    }

    /// Writes what is queued and the `stopped` record, has the file on disk, and ends the thread.
    /// Records dropped later are lost, so this comes last. Closing again does nothing.
    ///
    /// # Errors
    /// When that could not be done within `deadline`.
    pub fn close(&self, deadline: Duration) -> Result<(), AuditError> {
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        let queue = &self.shared.queue;
        queue.close(Instant::now() + deadline);
        // The writer gives up at the deadline; the grace lets it say with what error.
        let outcome = queue.wait_until_finished(Instant::now() + deadline + CLOSE_GRACE);
        let outcome = outcome.ok_or(AuditError::CloseTimedOut)?;
        if thread.join().is_err() {
            return Err(AuditError::CloseTimedOut);
        }
        outcome.map_err(AuditError::Write)
    }

    pub(super) fn push(&self, entry: Entry) {
        self.shared.queue.push(entry);
    }

    fn start<W>(sink: W, chain: Chain, torn_bytes: u64, identity: Identity) -> Result<Self, AuditError>
    where
        W: io::Write + Send + 'static,
    {
        let queue = Arc::new(Queue::new());
        let mut writer = Writer::new(sink, Arc::clone(&queue), chain, identity);
        // On this thread, so that a log which cannot be written stops the start.
        writer.write_started(torn_bytes).map_err(AuditError::Write)?;
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(AuditError::Thread)?;
        let room_for_lines = Arc::new(Semaphore::new(HANDLER_LINES_MAX));
        Ok(Self { shared: Arc::new(Shared { queue, room_for_lines, thread: Mutex::new(Some(thread)) }) })
    }
}

/// Lines of handlers that wait to be written: a quarter of all records that can.
pub(super) const HANDLER_LINES_MAX: usize = queue::CAPACITY / 4;

/// How long a handler waits for room for its lines.
const HANDLER_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// How long [`Log::close`] waits beyond its deadline for the writer's own account of the failure.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Shared {
    queue: Arc<Queue>,
    room_for_lines: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Shared {
    /// A log that nobody closed still ends its thread, once that has written what is queued.
    fn drop(&mut self) {
        self.queue.close(Instant::now() + Duration::from_secs(5));
    }
}

/// What can go wrong with the log.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The folder is missing and cannot be made, or the file may not be opened.
    #[error("cannot open the audit log {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A symbolic link, folder, device or pipe stands where the log is to be.
    #[error("the audit log {} is not a regular file", path.display())]
    NotARegularFile {
        /// The file.
        path: PathBuf,
    },
    /// Another process holds the file's lock.
    #[error("the audit log {} is in use by another instance", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file does not end in a record, so the chain cannot be continued.
    #[error("{} is not an audit log, or its last line is damaged", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full, the pipe's reader is gone, or the file was deleted.
    #[error("cannot write the audit log")]
    Write(#[source] io::Error),
    /// The system gives us no more threads.
    #[error("cannot start the audit log's thread")]
    Thread(#[source] io::Error),
    /// A write hangs: a stopped reader of our standard output, or a dead network disk.
    #[error("the audit log was not written in time")]
    CloseTimedOut,
}

impl AuditError {
    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open { .. } => Some("name a file in a folder that you may write to with --log FILE"),
            Self::NotARegularFile { .. } => Some("name a regular file, not a link to one, with --log FILE"),
            Self::InUse { .. } => Some("give each instance a file of its own with --log FILE"),
            Self::NotALog { .. } => {
                Some("move the file away; `sluicegate log verify` says what is wrong with it")
            }
            Self::Write(_) => Some("see that the disk has space and that nobody deletes the file in use"),
            Self::Thread(_) | Self::CloseTimedOut => None,
        }
    }
}

/// The folder where logs are kept unless told otherwise: `sluicegate` in `XDG_STATE_HOME` or in
/// `~/.local/state`. `None` when neither that nor `HOME` is set to an absolute path (the XDG base
/// directory specification has relative ones ignored).
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the folder of state is named by the environment, by specification"
)]
pub fn default_log_folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state =
        absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("sluicegate"))
}

#[cfg(test)]
mod tests;
