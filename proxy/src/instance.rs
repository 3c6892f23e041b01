//! One instance from start to end: what is loaded, in which order, and what runs until when.
//!
//! **Invariant:** the capture stands before the workload's first instruction, and the gate answers
//! before the capture lets anything wait.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use miette::Diagnostic;
use sluicegate_certs::{CertificateAuthority, DEFAULT_CAPACITY, LeafCache};
use sluicegate_policy::{Compiled, Execution, Identity, Policy, PolicyError, Problem};
use sluicegate_wasm::Programs;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use crate::accept::accept;
use crate::approvals::Approvals;
use crate::audit::{AuditError, Log};
use crate::capture::{CaptureError, Captured, Ready};
use crate::confinement::ConfinementError;
use crate::container::ContainerError;
use crate::control::ControlSocket;
use crate::controller::{About, Beginning, Controller, Sealing};
use crate::document::{Bundle, Collected, DocumentError};
use crate::gate::{Gate, HANDLER_MEMORY_KIB_MAX, HANDLER_THREADS_MAX};
use crate::generation::{Generation, GenerationError, Places};
use crate::inbound::{self, Door, Entrance, Published};
use crate::name_server::NameServer;
use crate::opening::{Opened, state_folder};
use crate::state::{State, StateFile};
use crate::trust::TrustError;
use crate::watch::{Seen, is_changeable, watch_document};
use crate::{compiling, exit, flow, udp};

/// Events that a slow front end may be behind.
const EVENTS_MAX: usize = 256;

/// Connections of the workload served at once. Each holds two descriptors, and twice as many fit
/// into the usual hard limit with room to spare.
const CONNECTIONS_MAX: usize = 8_192;

/// Threads at most: one workload does not need a machine's. Up to there it is half the cores, since
/// the workload wants the others; on two cores one thread serves a request for three quarters of
/// what two threads take that wake each other.
const THREADS_MAX: usize = 4;

/// How long connections may take to end in order.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How long the last records may take to be written.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// How often unused upstream connections are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// When it is done first: what starting needed is not needed any more.
const FIRST_SWEEP: Duration = Duration::from_secs(1);

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
    /// A secret or a certificate that the policy names cannot be used.
    #[error(transparent)]
    #[diagnostic(help(
        "set the variable or write the file that the policy names, and see that this user may read it"
    ))]
    Unusable(GenerationError),
    /// What was changed at run time cannot be read, so that it would be lost.
    #[error("cannot read what was changed at run time, {}", path.display())]
    State {
        /// Where it is kept.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The control socket cannot be made.
    #[error("cannot make the control socket {}", path.display())]
    Control {
        /// Where it was to be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A published address cannot be listened on.
    #[error("cannot listen for --publish {published}")]
    Publish {
        /// Which.
        published: Published,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The log cannot be written.
    #[error("the audit log cannot be used")]
    Log(#[source] AuditError),
    /// The namespace cannot be captured, or the command cannot be run in it.
    #[error(transparent)]
    Capture(CaptureError),
    /// The container that was named is not there.
    #[error(transparent)]
    Container(ContainerError),
    /// The workload cannot be made to trust the gate.
    #[error("the workload cannot be made to trust the gate")]
    Trust(#[source] TrustError),
    /// The kernel does not keep this process from what it must not do.
    #[error("the gate cannot be confined")]
    Confinement(#[source] ConfinementError),
    /// The authority cannot be made.
    #[error("the instance's certificate authority cannot be made")]
    Authority(#[source] sluicegate_certs::CertError),
    /// The system gives no threads, no folder or no signals.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
}

impl From<DocumentError> for InstanceError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Read { path, source } => Self::Document { path, source },
            DocumentError::Policy(error) => Self::Policy(error),
        }
    }
}

impl InstanceError {
    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Document { .. } | Self::Policy(_) | Self::Unusable(_) => exit::CONFIGURATION,
            Self::Control { source, .. } | Self::Publish { source, .. }
                if source.kind() == io::ErrorKind::AddrInUse =>
            {
                exit::TAKEN
            }
            Self::Publish { .. } => exit::UNAVAILABLE,
            Self::Log(_) | Self::System(..) | Self::State { .. } | Self::Control { .. } => exit::IO,
            Self::Trust(error) => error.exit_code(),
            Self::Confinement(_) => exit::UNAVAILABLE,
            Self::Capture(error) => error.exit_code(),
            Self::Container(error) => error.exit_code(),
            Self::Authority(_) => exit::BUG,
        }
    }

    /// What the operator can do, where the error is not a diagnostic that says it itself.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Log(error) => error.hint(),
            Self::Capture(error) => error.hint(),
            Self::Container(error) => Some(error.hint()),
            Self::Trust(error) => error.hint(),
            Self::Document { .. } => Some("name the document with --policy FILE or SLUICEGATE_POLICY"),
            Self::State { .. } => Some(
                "move the file away to begin without what was changed at run time, or use another --name",
            ),
            Self::Control { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("give each instance a --name of its own")
            }
            Self::Publish { .. } => Some(
                "give it an address of this machine and a port that nobody listens on; those below 1024 need root",
            ),
            Self::Confinement(_) => Some("the kernel needs CONFIG_SECCOMP_FILTER"),
            Self::Control { .. } => Some("see that the folder can be written to, or use --no-control"),
            _ => None,
        }
    }
}

/// A policy and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The document with its scripts; none for the closed policy.
    pub bundle: Option<Bundle>,
    /// What decides.
    pub policy: Policy,
    /// What is legal and probably not meant.
    pub warnings: Vec<Problem>,
    /// What runs its programs.
    pub programs: Arc<Programs>,
}

impl Loaded {
    /// Compiles a document; without one, everything is refused.
    ///
    /// # Errors
    /// [`InstanceError::Policy`].
    pub fn compile(document: Option<Collected>, programs: Arc<Programs>) -> Result<Self, InstanceError> {
        let Some(document) = document else {
            return Ok(Self { bundle: None, policy: Policy::closed(), warnings: Vec::new(), programs });
        };
        let compiled = document.compile(&programs).map_err(InstanceError::Policy)?;
        let (bundle, Compiled { policy, warnings }) = compiled;
        Ok(Self { bundle: Some(bundle), policy, warnings, programs })
    }

    /// The document, absolute; none for the closed policy.
    pub fn file(&self) -> Option<&Path> {
        self.bundle.as_ref().map(|bundle| &*bundle.file)
    }
}

/// What an operator says about an instance.
#[derive(Clone, Debug)]
pub struct InstanceSettings {
    /// Its name.
    pub name: String,
    /// Whether somebody chose the name: then what is changed at run time is kept under it.
    pub named: bool,
    /// The container that it serves, for handlers and secrets.
    pub container_id: String,
    /// Labels for handlers.
    pub labels: BTreeMap<String, String>,
    /// The log: `-` for standard output, none for a file in the state folder.
    pub log: Option<PathBuf>,
    /// The state folder, in place of the user's.
    pub state: Option<PathBuf>,
    /// Whether there is a control socket.
    pub control: bool,
    /// Whether the workload is this user's and sees its files, as under `run`.
    pub shares_files: bool,
    /// The ports of the workload's that are reached from outside.
    pub published: Vec<Published>,
}

impl InstanceSettings {
    /// What runs the programs of its handlers. What these were compiled to is code, and is kept only
    /// where the workload cannot write it.
    ///
    /// # Errors
    /// There is no state folder.
    pub fn programs(&self) -> Result<Arc<Programs>, InstanceError> {
        let folder = state_folder(self.state.clone())?.join("programs");
        if self.shares_files && is_changeable(&folder) {
            return Ok(Programs::new(None));
        }
        Ok(compiling::programs(folder))
    }
}

/// Everything that an instance is made of before its namespace is captured.
#[derive(Debug)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// The document that it was started with.
    pub loaded: Loaded,
    /// What was to be changed at run time and cannot be any more.
    pub ignored: Vec<String>,
    /// Its log.
    pub log: Log,
    /// Where the log is, for the message at start; none on standard output.
    pub log_file: Option<PathBuf>,
    /// The folder of stores and of what is changed at run time.
    pub state_folder: PathBuf,
    /// The folder of stores that ends with the instance.
    passing_stores: Option<PathBuf>,
    authority: Arc<CertificateAuthority>,
    gate: Arc<Gate>,
    beginning: Mutex<Option<Beginning>>,
    socket: Mutex<Option<ControlSocket>>,
    /// Where connections come in; taken when it is served.
    entrances: Mutex<Vec<Entrance>>,
}

impl Instance {
    /// Compiles the policy, loads what was changed before, secrets and certificates, and begins the log.
    ///
    /// # Errors
    /// [`InstanceError`].
    pub fn load(opened: Opened, programs: Arc<Programs>) -> Result<Self, InstanceError> {
        let Opened { settings, state_folder, document, entrances, socket, log, authority, .. } = opened;
        let InstanceSettings { name, named, container_id, labels, shares_files, .. } = settings;
        let loaded = Loaded::compile(document, programs)?;
        let identity = Arc::new(identity(&name, &container_id, labels));
        // A workload that can put a file there could widen the policy of the next run.
        let keeps = named && !(shares_files && is_changeable(&state_folder));
        let state_file = keeps.then(|| StateFile::new(&state_folder, &name));
        let mut state = read_state(state_file.as_ref())?;
        let (base, folder) = base_policy(&state, &loaded)?;
        let (policy, kept, ignored) = base.overridden_leniently(&state.overrides);
        state.overrides = kept;
        let stores = state_folder.join(format!("{name}.stores"));
        let passing_stores = (!named).then(|| stores.clone());
        let programs = Arc::clone(&loaded.programs);
        let places =
            Places { folder, stores, identity: Arc::clone(&identity), programs: Arc::clone(&programs) };
        let generation = Generation::new(policy, &places, None).map_err(InstanceError::Unusable)?;
        let authority = Arc::new(authority);
        let (log, log_file) = log;
        let log = log.start(name.clone(), generation.id.to_string()).map_err(InstanceError::Log)?;
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let approvals = Approvals::new(events.clone());
        approvals.restore(state.remembered.clone());
        let gate = Arc::new(Gate {
            leaves: LeafCache::new(Arc::clone(&authority), DEFAULT_CAPACITY),
            log: log.clone(),
            names: NameServer::new(log.clone()),
            identity,
            approvals: Arc::new(approvals),
            handler_threads: Arc::new(Semaphore::new(HANDLER_THREADS_MAX)),
            handler_memory: Arc::new(Semaphore::new(HANDLER_MEMORY_KIB_MAX as usize)),
            programs,
            run: random()?,
            requests: AtomicU64::new(0),
            draining: CancellationToken::new(),
            current: watch::Sender::new(Arc::new(generation)),
        });
        for warning in &ignored {
            gate.log.control("override_ignored").set_detail(warning);
        }
        let document = loaded.bundle.clone();
        let beginning = Beginning { document, base, state, state_file, places, events };
        let (beginning, socket) = (Mutex::new(Some(beginning)), Mutex::new(socket));
        Ok(Self {
            name,
            loaded,
            ignored,
            log,
            log_file,
            state_folder,
            passing_stores,
            authority,
            gate,
            beginning,
            socket,
            entrances: Mutex::new(entrances),
        })
    }

    /// The policy in force.
    pub fn generation(&self) -> Arc<Generation> {
        self.gate.generation()
    }

    /// Where the control socket is, until it is served.
    pub fn control_path(&self) -> Option<PathBuf> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.as_ref().map(|socket| socket.path().to_owned())
    }

    /// The authority.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.authority
    }

    /// The authority's certificate.
    pub fn authority_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// The files that hold secrets, to be hidden from the workload.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        self.generation().secret_files()
    }

    /// Reads every secret again. To be called when privileges are dropped: what was readable before
    /// may not be any more, and that shall be known now and not at the first request.
    ///
    /// # Errors
    /// [`InstanceError::Unusable`].
    pub fn check_secrets(&self) -> Result<(), InstanceError> {
        let checked = self.generation().secrets.check();
        checked.map_err(|error| InstanceError::Unusable(GenerationError::Secret(error)))
    }

    /// Writes the authority's certificate for a workload that installs it itself.
    ///
    /// # Errors
    /// [`InstanceError::System`].
    pub fn write_authority(&self, mut file: File) -> Result<(), InstanceError> {
        file.set_len(0)
            .and_then(|()| file.write_all(self.authority_pem().as_bytes()))
            .map_err(|error| InstanceError::System("write the certificate", error))
    }

    /// Begins to serve a captured namespace on a runtime of its own. The table's owner socket is
    /// kept as long as the runtime is. `sealing` says what the workload sees of our files.
    ///
    /// # Errors
    /// [`InstanceError::System`].
    pub fn serve(&self, captured: Captured, sealing: Sealing) -> Result<Serving, InstanceError> {
        let runtime = runtime().map_err(|error| InstanceError::System("start threads", error))?;
        let entered = runtime.enter();
        let failed = |error| InstanceError::System("use a captured socket", error);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // Each listener holds the place of the next connection.
        let unused = CONNECTIONS_MAX - captured.listeners.len();
        for listener in captured.listeners {
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            runtime.spawn(accept_all(Arc::clone(&self.gate), listener, Arc::clone(&places)));
        }
        for (socket, raw) in captured.datagrams.into_iter().zip(captured.raw) {
            let socket = UdpSocket::from_std(socket).map_err(failed)?;
            runtime.spawn(udp::serve(Arc::clone(&self.gate), socket, raw));
        }
        if let Some(door) = captured.door {
            let door = Arc::new(Door::new(door, captured.ready.own_addresses).map_err(failed)?);
            for entrance in self.entrances.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                inbound::serve(&self.gate, entrance, &door).map_err(failed)?;
            }
        }
        let beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(beginning) = beginning {
            let about = About {
                authority_pem: self.authority_pem().to_owned(),
                log_file: self.log_file.clone(),
                started: SystemTime::now(),
                sealing,
            };
            let controller = Arc::new(Controller::new(Arc::clone(&self.gate), about, beginning));
            runtime.spawn(watch_document(Arc::clone(&controller), Seen::now(&controller)));
            runtime.spawn(sweep(Arc::clone(&controller), Arc::clone(&places), unused));
            let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(socket) = socket {
                runtime.spawn(async move {
                    // It is served as long as the runtime is.
                    if let Err(error) = socket.serve(controller, std::future::pending()).await {
                        tracing::error!(%error, "the control socket cannot be served");
                    }
                });
            }
        }
        drop(entered);
        let (gate, ready) = (Arc::clone(&self.gate), captured.ready);
        if let Some(way_past) = &ready.way_past {
            tracing::warn!("{way_past}: what it sends as frames passes no gate and no log (--allow-net-raw)");
            gate.log.control("way_past_allowed").set_detail(way_past.clone());
        }
        Ok(Serving { runtime, ready, gate, places, _owner: captured.owner })
    }

    /// Ends the log in order, and removes the stores of an instance that nobody can name again.
    ///
    /// # Errors
    /// [`InstanceError::Log`] when the last records could not be written.
    pub fn close(&self) -> Result<(), InstanceError> {
        if let Some(stores) = &self.passing_stores
            && let Err(error) = std::fs::remove_dir_all(stores)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the stores of this instance could not be removed");
        }
        self.log.close(CLOSE_DEADLINE).map_err(InstanceError::Log)
    }
}

fn identity(name: &str, container_id: &str, labels: BTreeMap<String, String>) -> Identity {
    let labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    Identity { container_id: container_id.into(), instance_id: name.into(), labels }
}

fn read_state(file: Option<&StateFile>) -> Result<State, InstanceError> {
    let Some(file) = file else { return Ok(State::default()) };
    file.read().map_err(|source| InstanceError::State { path: file.path().to_owned(), source })
}

/// The policy that overrides apply to, and where its relative paths begin: what was uploaded stands in
/// the document's place.
fn base_policy(state: &State, loaded: &Loaded) -> Result<(Policy, PathBuf), InstanceError> {
    if let Some(bundle) = &state.upload {
        let compiled = bundle.compile(&loaded.programs).map_err(InstanceError::Policy)?;
        return Ok((compiled.policy, bundle.folder().to_owned()));
    }
    let folder = loaded.bundle.as_ref().map_or_else(|| Path::new("/"), Bundle::folder);
    Ok((loaded.policy.clone(), folder.to_owned()))
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
    gate: Arc<Gate>,
    /// Taken by connections.
    places: Arc<Semaphore>,
    _owner: std::os::fd::OwnedFd,
}

impl Serving {
    /// Accepts nothing more, and waits for what goes on to end, some time at most.
    pub fn drain(&self) {
        self.gate.draining.cancel();
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let ended = self.places.acquire_many(all);
        // Else the rest is broken off.
        drop(self.runtime.block_on(async { tokio::time::timeout(DRAIN_DEADLINE, ended).await }));
    }

    /// Ends all connections.
    pub fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

async fn accept_all(gate: Arc<Gate>, listener: TcpListener, places: Arc<Semaphore>) {
    loop {
        // A full house waits in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = gate.draining.cancelled() => return,
        };
        match accepted {
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

/// Gives back, again and again, what is not used any more. Without a connection so many `places` are `unused`.
async fn sweep(controller: Arc<Controller>, places: Arc<Semaphore>, unused: usize) {
    let mut interval = interval_at(Instant::now() + FIRST_SWEEP, SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        controller.gate().generation().upstream.sweep();
        if controller.forget_unused_components() {
            let controller = Arc::clone(&controller);
            drop(tokio::task::spawn_blocking(move || controller.remove_unused_components()));
        }
        if places.available_permits() == unused
            && let Err(error) = sluicegate_mapped::let_go_of_code()
        {
            tracing::debug!(%error, "the memory of unused code is kept");
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / 2).clamp(1, THREADS_MAX);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("gate")
        // Of the threads of handlers; it is address space until it is used.
        .thread_stack_size(Execution::STACK_BYTES)
        .enable_all()
        .build()
}
