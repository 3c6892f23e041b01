//! One instance from start to end: what is loaded, in which order, and what runs until when.
//!
//! **Invariant:** the capture stands before the workload's first instruction, and the gate answers
//! before the capture lets anything wait.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use miette::Diagnostic;
use rustls::pki_types::CertificateDer;
use sluicegate_certs::{CertificateAuthority, DEFAULT_CAPACITY, LeafCache};
use sluicegate_policy::{Compiled, Policy, PolicyError, Problem};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::accept::accept;
use crate::audit::{AuditError, Destination, Log, LogOptions, default_log_folder};
use crate::capture::{CaptureError, Captured, Ready};
use crate::exit;
use crate::gate::Gate;
use crate::name_server::NameServer;
use crate::secrets::{SecretError, Secrets};
use crate::trust::TrustError;
use crate::upstream::{Upstream, certificates};
use crate::{flow, udp};

/// Connections of the workload served at once. Each holds two descriptors, and twice as many fit
/// into the usual hard limit with room to spare.
const CONNECTIONS_MAX: usize = 8_192;

/// Threads at most: one workload does not need a machine's. Up to there it is half the cores, since
/// the workload wants the others; on two cores one thread serves a request for three quarters of
/// what two threads take that wake each other.
const THREADS_MAX: usize = 4;

/// The longest policy document, in bytes; generous for a generated one.
const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long the last records may take to be written.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// How often unused upstream connections are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Why an instance did not start, or did not end well.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum InstanceError {
    /// The document cannot be read.
    #[error("cannot read the policy document {}", path.display())]
    Document {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The document does not compile.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Policy(PolicyError),
    /// A secret has no usable value.
    #[error("the policy's secrets cannot be loaded")]
    #[diagnostic(help(
        "set the variable or write the file that `source` names, and see that this user may read it"
    ))]
    Secret(#[source] SecretError),
    /// A file of `extra_ca` cannot be used.
    #[error("[upstream] extra_ca: {} holds no usable certificates", path.display())]
    ExtraCa {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The log cannot be written.
    #[error("the audit log cannot be used")]
    Log(#[source] AuditError),
    /// The namespace cannot be captured, or the command cannot be run in it.
    #[error(transparent)]
    Capture(CaptureError),
    /// The workload cannot be made to trust the gate.
    #[error("the workload cannot be made to trust the gate")]
    Trust(#[source] TrustError),
    /// The authority cannot be made.
    #[error("the instance's certificate authority cannot be made")]
    Authority(#[source] sluicegate_certs::CertError),
    /// The system gives no threads, no folder or no signals.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
}

impl InstanceError {
    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Document { .. } | Self::Policy(_) | Self::Secret(_) | Self::ExtraCa { .. } => {
                exit::CONFIGURATION
            }
            Self::Log(_) | Self::System(..) => exit::IO,
            Self::Trust(_) => exit::UNAVAILABLE,
            Self::Capture(error) => error.exit_code(),
            Self::Authority(_) => exit::BUG,
        }
    }

    /// What the operator can do, where the error is not a diagnostic that says it itself.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Log(error) => error.hint(),
            Self::Capture(error) => error.hint(),
            Self::Document { .. } => Some("name the document with --policy FILE or SLUICEGATE_POLICY"),
            _ => None,
        }
    }
}

/// A policy and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// What decides.
    pub policy: Arc<Policy>,
    /// The document, absolute; none for the closed policy.
    pub file: Option<PathBuf>,
    /// What is legal and probably not meant.
    pub warnings: Vec<Problem>,
}

impl Loaded {
    /// Reads and compiles a document; without one, everything is refused.
    ///
    /// # Errors
    /// [`InstanceError::Document`] and [`InstanceError::Policy`].
    pub fn read(file: Option<&Path>) -> Result<Self, InstanceError> {
        let Some(file) = file else {
            return Ok(Self { policy: Arc::new(Policy::closed()), file: None, warnings: Vec::new() });
        };
        let failed = |source| InstanceError::Document { path: file.to_owned(), source };
        let mut text = String::new();
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 4 MiB")));
        }
        let Compiled { policy, warnings } =
            Policy::compile(&file.to_string_lossy(), &text).map_err(InstanceError::Policy)?;
        let file = std::path::absolute(file).map_err(failed)?;
        Ok(Self { policy: Arc::new(policy), file: Some(file), warnings })
    }

    /// Where the document's relative paths begin.
    fn folder(&self) -> &Path {
        self.file.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new("/"))
    }
}

/// Everything that an instance is made of before its namespace is captured.
#[derive(Debug)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its policy.
    pub loaded: Loaded,
    /// Its log.
    pub log: Log,
    /// Where the log is, for the message at start; none on standard output.
    pub log_file: Option<PathBuf>,
    authority: Arc<CertificateAuthority>,
    gate: Arc<Gate>,
}

impl Instance {
    /// Loads secrets and certificates, makes the authority, opens the log.
    ///
    /// # Errors
    /// [`InstanceError`]; nothing was started then.
    pub fn prepare(name: String, loaded: Loaded, log: Option<&Path>) -> Result<Self, InstanceError> {
        let policy = Arc::clone(&loaded.policy);
        let secrets = Secrets::load(&policy, loaded.folder()).map_err(InstanceError::Secret)?;
        let roots = extra_roots(&policy, loaded.folder())?;
        let authority =
            CertificateAuthority::generate(&name, SystemTime::now()).map_err(InstanceError::Authority)?;
        let authority = Arc::new(authority);
        let log_file = log_file(log, &name)?;
        let destination = log_file.clone().map_or(Destination::Stdout, Destination::File);
        let generation = policy.generation().to_owned();
        let log = Log::open(LogOptions { destination, instance: name.clone(), generation })
            .map_err(InstanceError::Log)?;
        let gate = Arc::new(Gate {
            leaves: LeafCache::new(Arc::clone(&authority), DEFAULT_CAPACITY),
            secrets,
            upstream: Upstream::new(Arc::clone(&policy), roots),
            log: log.clone(),
            names: NameServer::new(Arc::clone(&policy), log.clone()),
            instance: name.clone(),
            run: random()?,
            requests: AtomicU64::new(0),
            policy,
        });
        Ok(Self { name, loaded, log, log_file, authority, gate })
    }

    /// The authority's certificate.
    pub fn authority_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// The files that hold secrets, to be hidden from the workload.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        self.gate.secrets.files().filter_map(|path| std::path::absolute(path).ok()).collect()
    }

    /// Reads every secret again. To be called when privileges are dropped: what was readable before
    /// may not be any more, and that shall be known now and not at the first request.
    ///
    /// # Errors
    /// [`InstanceError::Secret`].
    pub fn check_secrets(&self) -> Result<(), InstanceError> {
        self.gate.secrets.check().map_err(InstanceError::Secret)
    }

    /// Writes the authority's certificate for a workload that installs it itself.
    ///
    /// # Errors
    /// [`InstanceError::System`].
    pub fn write_authority(&self, file: &Path) -> Result<(), InstanceError> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(file)
            .and_then(|mut file| file.write_all(self.authority_pem().as_bytes()))
            .map_err(|error| InstanceError::System("write the certificate", error))
    }

    /// Begins to serve a captured namespace on a runtime of its own. The table's owner socket is
    /// kept as long as the runtime is.
    ///
    /// # Errors
    /// [`InstanceError::System`].
    pub fn serve(&self, captured: Captured) -> Result<Serving, InstanceError> {
        let runtime = runtime().map_err(|error| InstanceError::System("start threads", error))?;
        let entered = runtime.enter();
        let failed = |error| InstanceError::System("use a captured socket", error);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        for listener in captured.listeners {
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            runtime.spawn(accept_all(Arc::clone(&self.gate), listener, Arc::clone(&places)));
        }
        for (socket, raw) in captured.datagrams.into_iter().zip(captured.raw) {
            let socket = UdpSocket::from_std(socket).map_err(failed)?;
            runtime.spawn(udp::serve(Arc::clone(&self.gate), socket, raw));
        }
        runtime.spawn(sweep(Arc::clone(&self.gate)));
        drop(entered);
        Ok(Serving { runtime, ready: captured.ready, _owner: captured.owner })
    }

    /// Ends the log in order.
    ///
    /// # Errors
    /// [`InstanceError::Log`] when the last records could not be written.
    pub fn close(&self) -> Result<(), InstanceError> {
        self.log.close(CLOSE_DEADLINE).map_err(InstanceError::Log)
    }
}

/// A random number, for names that shall not repeat.
///
/// # Errors
/// [`InstanceError::System`] when the system has no randomness.
pub fn random() -> Result<u32, InstanceError> {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| InstanceError::System("draw a random number", io::Error::other("no randomness")))?;
    Ok(u32::from_be_bytes(bytes))
}

/// A gate at work.
#[derive(Debug)]
pub struct Serving {
    /// Where it runs.
    pub runtime: Runtime,
    /// What the helper said about the namespace.
    pub ready: Ready,
    _owner: std::os::fd::OwnedFd,
}

impl Serving {
    /// Ends all connections.
    pub fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

async fn accept_all(gate: Arc<Gate>, listener: TcpListener, places: Arc<Semaphore>) {
    loop {
        // A full house waits in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match accept(&listener).await {
            Ok(accepted) => {
                let gate = Arc::clone(&gate);
                tokio::spawn(async move {
                    flow::serve(gate, accepted).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of descriptors, most likely: some come back as connections end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn sweep(gate: Arc<Gate>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        gate.upstream.sweep();
    }
}

fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / 2).clamp(1, THREADS_MAX);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("gate")
        .enable_all()
        .build()
}

fn extra_roots(policy: &Policy, folder: &Path) -> Result<Vec<CertificateDer<'static>>, InstanceError> {
    let mut roots = Vec::new();
    for file in &policy.upstream().extra_ca {
        let path = folder.join(Path::new(&**file));
        let failed = |source| InstanceError::ExtraCa { path: path.clone(), source };
        let pem = std::fs::read(&path).map_err(|error| failed(error.into()))?;
        roots.extend(certificates(&pem).map_err(|error| failed(error.into()))?);
    }
    Ok(roots)
}

/// `-` is standard output; without a choice, a file of the instance's own.
fn log_file(chosen: Option<&Path>, name: &str) -> Result<Option<PathBuf>, InstanceError> {
    match chosen {
        Some(path) if path == Path::new("-") => Ok(None),
        Some(path) => std::path::absolute(path)
            .map(Some)
            .map_err(|error| InstanceError::System("name the log file", error)),
        None => {
            default_log_folder().map(|folder| Some(folder.join(format!("{name}.jsonl")))).ok_or_else(|| {
                let error = io::Error::new(
                    io::ErrorKind::NotFound,
                    "neither XDG_STATE_HOME nor HOME is set; use --log FILE",
                );
                InstanceError::System("choose a folder for the log", error)
            })
        }
    }
}
