//! Changes to a running instance: new policies, overrides, answers of people.
//!
//! **Invariant:** one change at a time, whole or not at all; it is kept and logged before it counts,
//! and what it was made of is compiled before anything changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use http::Method;
use sluicegate_policy::{
    Answer, Authority, Change, Compiled, Content, Effective, Explanation, KvOperation, Mode, OverrideError,
    Policy, PolicyError, Program, ProgramKind, RequestFacts, Scheme, Transport, WrittenAuthority,
};
use tokio::sync::broadcast;

use crate::approvals::{Approvals, DecideError, Remember};
use crate::audit::AuditRecord;
use crate::causes::in_words;
use crate::components::Components;
use crate::control::api::{Event, PolicyOrigin, PolicySource, Published, Status};
use crate::document::{Bundle, DocumentError};
use crate::gate::Gate;
use crate::generation::{Generation, GenerationError, Places};
use crate::state::{State, StateFile};
use crate::watch::is_changeable;

/// Who asks for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The peer of the control socket, as the kernel tells it.
    Peer {
        /// Its user.
        uid: u32,
        /// Its process.
        pid: Option<i32>,
    },
    /// The gate itself: it saw that the document's file has changed.
    Watch,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Peer { uid, pid: Some(pid) } => write!(formatter, "uid {uid} pid {pid}"),
            Self::Peer { uid, pid: None } => write!(formatter, "uid {uid}"),
            Self::Watch => formatter.write_str("file watch"),
        }
    }
}

/// Why a change was not made. The policy in force is the one before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The document cannot be read or does not compile.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// What the change names is not there, or not well-formed.
    #[error(transparent)]
    Change(OverrideError),
    /// The policy compiles and cannot be put to work.
    #[error(transparent)]
    Unusable(#[from] GenerationError),
    /// The question cannot be read.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// An answer cannot count.
    #[error(transparent)]
    Decide(#[from] DecideError),
    /// A store did not do it.
    #[error("{0}")]
    Binding(String),
    /// The gate does not have components with these SHA-256.
    #[error("the gate does not have every component of this policy")]
    Missing(Vec<String>),
    /// The change cannot be kept or logged, so it is not made.
    #[error("the change cannot be kept: {0}")]
    Unkept(String),
}

impl From<PolicyError> for ControlError {
    fn from(error: PolicyError) -> Self {
        Self::Document(DocumentError::Policy(error))
    }
}

/// What an instance is to be told about itself.
#[derive(Debug)]
pub struct About {
    /// The authority's certificate.
    pub authority_pem: String,
    /// The audit log; none on standard output.
    pub log_file: Option<PathBuf>,
    /// When it began.
    pub started: SystemTime,
    /// What the workload sees of our files.
    pub sealing: Sealing,
}

/// What a workload sees of the file system that the gate sees.
#[derive(Clone, Debug)]
pub enum Sealing {
    /// Files of its own; what is mounted into it is the operator's choice.
    Apart,
    /// The same files, as the same user, but for what was hidden when it started.
    Shared {
        /// Files and folders that read as empty.
        hidden: Vec<PathBuf>,
        /// Variables that were taken out of its environment.
        removed: Vec<String>,
    },
}

/// A running instance, for those who may change it.
#[derive(Debug)]
pub struct Controller {
    gate: Arc<Gate>,
    about: About,
    events: broadcast::Sender<Event>,
    /// Where embedded stores are, and whose policy it is.
    places: Places,
    /// Where changes are kept; nowhere for an instance that nobody can name again.
    state_file: Option<StateFile>,
    /// Those that are not in force.
    components: Components,
    inner: Mutex<Inner>,
}

/// What the policy in force is made of.
#[derive(Debug)]
struct Inner {
    /// The document of the start, or what it has become since.
    document: Option<Bundle>,
    /// The policy of the document or upload in force, before overrides.
    base: Policy,
    state: State,
    /// The files with problems of a document that was not taken, which may be mended.
    broken: Vec<PathBuf>,
    /// When the document and its files were begun to be read.
    read: SystemTime,
}

/// What a [`Controller`] begins with.
#[derive(Debug)]
pub struct Beginning {
    /// The document of the start.
    pub document: Option<Bundle>,
    /// The policy in force before overrides.
    pub base: Policy,
    /// What was changed at run time before.
    pub state: State,
    /// Where changes are kept.
    pub state_file: Option<StateFile>,
    /// Where the policy finds what it names.
    pub places: Places,
    /// Tells front ends what happens.
    pub events: broadcast::Sender<Event>,
}

impl Controller {
    /// Takes over a gate that runs the policy of `beginning`.
    pub fn new(gate: Arc<Gate>, about: About, beginning: Beginning) -> Self {
        let Beginning { document, base, state, state_file, places, events } = beginning;
        let inner = Inner { document, base, state, broken: Vec::new(), read: SystemTime::now() };
        let components = Components::default();
        Self { gate, about, events, places, state_file, components, inner: Mutex::new(inner) }
    }

    /// The gate that is controlled.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The questions to people.
    pub fn approvals(&self) -> &Approvals {
        &self.gate.approvals
    }

    /// How the instance is.
    pub fn status(&self) -> Status {
        let (generation, watching) = (self.gate.generation(), self.is_watching());
        let inner = self.inner();
        let (source, file) = match (&inner.state.upload, &inner.document) {
            (Some(upload), _) => (PolicySource::Upload, Some(upload.file.clone())),
            (None, Some(document)) => (PolicySource::Document, Some(document.file.clone())),
            (None, None) => (PolicySource::None, None),
        };
        let identity = &self.gate.identity;
        let text = |text: &str| text.to_owned();
        Status {
            instance: text(&identity.instance_id),
            container_id: text(&identity.container_id),
            labels: identity.labels.iter().map(|(key, value)| (text(key), text(value))).collect(),
            pid: std::process::id(),
            version: text(env!("CARGO_PKG_VERSION")),
            generation: text(&generation.id),
            mode: text(match generation.policy.mode() {
                Mode::Enforce => "enforce",
                Mode::Audit => "audit",
            }),
            policy: PolicyOrigin { source, file },
            started: self.about.started,
            requests: self.gate.requests.load(std::sync::atomic::Ordering::Relaxed),
            log_file: self.about.log_file.clone(),
            log_healthy: self.gate.log.is_healthy(),
            overridden: inner.state.overrides != sluicegate_policy::Overrides::default(),
            approvals_pending: self.gate.approvals.pending().len(),
            watching,
        }
    }

    /// The policy in force, line by line.
    pub fn effective(&self) -> Effective {
        self.gate.generation().policy.effective()
    }

    /// What would happen to a request.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] when the method or the URL cannot be read.
    pub fn explain(&self, method: &str, url: &str) -> Result<Explanation, ControlError> {
        explain(&self.gate.generation().policy, method, url).map_err(ControlError::Invalid)
    }

    /// What happens from now on, for front ends.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The authority's certificate.
    pub fn authority_pem(&self) -> &str {
        &self.about.authority_pem
    }

    /// Changes the policy in force.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn change(&self, actor: Actor, change: &Change) -> Result<Published, ControlError> {
        let mut inner = self.inner();
        let mut state = inner.state.clone();
        state.overrides.apply(change);
        let policy = inner.base.overridden(&state.overrides).map_err(ControlError::Change)?;
        state.overrides = policy.overrides().clone();
        let folder = inner.folder();
        let mut published = self.publish((policy, folder), &state, actor, "override_changed")?;
        inner.state = state;
        if self.state_file.is_none() {
            published.warnings.push(String::from(
                "this change ends with the instance: it has no --name, or its command could write to the \
                 folder where changes are kept",
            ));
        }
        Ok(published)
    }

    /// Takes a component for a policy to come: has it on disk and compiled, so that publishing takes neither.
    ///
    /// # Errors
    /// [`ControlError::Unkept`]. Whether it is a handler is said of the policy that names it.
    pub fn take_component(&self, content: Content) -> Result<(), ControlError> {
        self.components.keep(content.clone(), Instant::now());
        if let Some(file) = &self.state_file {
            // One writes at a time.
            let _inner = self.inner();
            file.keep_component(&content).map_err(|error| {
                let place = file.path().display();
                ControlError::Unkept(format!("a component beside {place}: {error}"))
            })?;
        }
        if let Err(problem) =
            self.gate.programs.load(&Program::new("component", ProgramKind::Component, content))
        {
            tracing::debug!(problem = %problem.message, "a component that no policy names yet is no handler");
        }
        Ok(())
    }

    /// The components with these SHA-256, in hexadecimal, by their paths.
    ///
    /// # Errors
    /// [`ControlError::Missing`].
    pub fn components(
        &self,
        wanted: BTreeMap<String, String>,
    ) -> Result<Vec<(String, Content)>, ControlError> {
        let inner = self.inner();
        let find = |sum: &str| {
            let mut held = inner.state.components().chain(inner.document.iter().flat_map(Bundle::components));
            self.components.get(sum).or_else(|| held.find(|content| content.sha256_hex() == sum).cloned())
        };
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (path, sum) in wanted {
            match find(&sum) {
                Some(content) => found.push((path, content)),
                None => missing.push(sum),
            }
        }
        if missing.is_empty() { Ok(found) } else { Err(ControlError::Missing(missing)) }
    }

    /// Lets go of components that were not used for a while. Whether there may be some on disk that are to be
    /// removed.
    pub fn forget_unused_components(&self) -> bool {
        self.components.forget_unused(Instant::now()) && self.state_file.is_some()
    }

    /// Removes components from disk that nobody could name any more.
    pub fn remove_unused_components(&self) {
        let Some(file) = &self.state_file else { return };
        // Nothing is put in force meanwhile.
        let inner = self.inner();
        let mut kept = self.components.sums();
        kept.extend(inner.state.components().map(Content::sha256_hex));
        if let Err(error) = file.remove_components_but(&kept) {
            tracing::warn!(%error, "components that are not used any more cannot be removed");
        }
    }

    /// Puts an uploaded policy in the place of the document, until [`Self::reset`]. Overrides stay.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn upload(&self, actor: Actor, bundle: Bundle) -> Result<Published, ControlError> {
        let compiled = bundle.compile(&self.gate.programs).map_err(ControlError::from);
        let compiled = compiled.inspect_err(|error| self.refused(actor, error))?;
        let mut inner = self.inner();
        let mut state = inner.state.clone();
        let folder = bundle.folder().to_owned();
        state.upload = Some(bundle);
        self.replace(&mut inner, (compiled, folder), state, actor)
    }

    /// Goes back to the document that the instance was started with, read anew. Overrides stay.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed then.
    pub fn reset(&self, actor: Actor) -> Result<Published, ControlError> {
        let mut inner = self.inner();
        if actor == Actor::Watch && inner.state.upload.is_some() {
            let why = "a policy was uploaded since, which a changed file does not replace";
            return Err(ControlError::Invalid(String::from(why)));
        }
        let document = inner.document.as_ref().map(|document| document.file.clone());
        let (bundle, compiled) = match document {
            None => (None, Compiled { policy: Policy::closed(), warnings: Vec::new() }),
            Some(file) => {
                inner.read = SystemTime::now();
                let read = Bundle::read(&file, &self.gate.programs).map_err(ControlError::from);
                let read = read.inspect_err(|error| self.refused(actor, error));
                let folder = file.parent().unwrap_or(&file);
                let files = read.as_ref().err().map(|error| files_of(error, folder));
                inner.broken = files.unwrap_or_default();
                let (bundle, compiled) = read?;
                (Some(bundle), compiled)
            }
        };
        let folder =
            bundle.as_ref().map_or_else(|| self.places.folder.clone(), |bundle| bundle.folder().to_owned());
        let mut state = inner.state.clone();
        state.upload = None;
        let published = self.replace(&mut inner, (compiled, folder), state, actor)?;
        inner.document = bundle;
        Ok(published)
    }

    /// Whether changes to the document's file are followed. Not where the workload could make them.
    pub fn is_watching(&self) -> bool {
        match &self.about.sealing {
            Sealing::Apart => true,
            Sealing::Shared { .. } => !self.watched_files().0.iter().any(|file| is_changeable(file)),
        }
    }

    /// Refuses a generation with secrets that the running workload can see.
    fn check_hidden(&self, next: &Generation) -> Result<(), ControlError> {
        let Sealing::Shared { hidden, removed } = &self.about.sealing else { return Ok(()) };
        // As the kernel finds them: `..` and links lead out of what a path seems to be in.
        let hidden: Vec<_> = hidden.iter().filter_map(|hidden| hidden.canonicalize().ok()).collect();
        let is_hidden = |file: &PathBuf| {
            file.canonicalize().is_ok_and(|file| hidden.iter().any(|hidden| file.starts_with(hidden)))
        };
        let seen = next.secret_files().into_iter().find(|file| !is_hidden(file));
        let seen = seen.map(|file| file.display().to_string());
        let seen = seen.or_else(|| {
            crate::secrets::variables(&next.policy).into_iter().find(|name| !removed.contains(name))
        });
        match seen {
            None => Ok(()),
            Some(seen) => Err(ControlError::Invalid(format!(
                "the running command can see {seen}, which holds a secret of this policy and was none when \
                 it started; start it again with this policy"
            ))),
        }
    }

    /// The files of the document in force, and when they were begun to be read; none while an upload stands in
    /// its place.
    pub fn watched_files(&self) -> (Vec<PathBuf>, SystemTime) {
        let inner = self.inner();
        if inner.state.upload.is_some() {
            return (Vec::new(), inner.read);
        }
        let files = inner.document.iter().flat_map(Bundle::files);
        (files.chain(inner.broken.iter().cloned()).collect(), inner.read)
    }

    /// Answers a question to people, and remembers the answer as told.
    ///
    /// # Errors
    /// [`ControlError`]; the question then still waits.
    pub fn decide(
        &self,
        actor: Actor,
        id: &str,
        allow: bool,
        remember: Remember,
    ) -> Result<(), ControlError> {
        let mut inner = self.inner();
        let decision = self.gate.approvals.prepare(id, allow, remember)?;
        let mut state = inner.state.clone();
        if let Some(remembered) = &decision.remembered {
            state.remembered = self.gate.approvals.remembered();
            state.remembered.retain(|kept| kept.subject != remembered.subject);
            state.remembered.push(remembered.clone());
            self.keep(&state)?;
        }
        let subject = &decision.pending.subject;
        let mut record = self.log(actor, "approval_decided")?;
        record.request_id = Some(decision.pending.request_id.clone());
        record.approval = Some(id.to_owned());
        let answer = if allow { "allowed" } else { "denied" };
        let (method, scheme) = (&subject.method, &subject.scheme);
        record.set_detail(format!("{answer}: {method} {scheme}://{}", subject.authority));
        record.set_path(&subject.target);
        drop(record);
        self.gate.approvals.settle(decision, &actor.to_string())?;
        inner.state = state;
        Ok(())
    }

    /// Forgets a remembered answer; whether there was one.
    ///
    /// # Errors
    /// [`ControlError::Unkept`]; it is remembered still.
    pub fn forget(&self, actor: Actor, id: &str) -> Result<bool, ControlError> {
        let mut inner = self.inner();
        let mut state = inner.state.clone();
        state.remembered = self.gate.approvals.remembered();
        let before = state.remembered.len();
        state.remembered.retain(|kept| kept.id != id);
        if state.remembered.len() == before {
            return Ok(false);
        }
        self.keep(&state)?;
        self.log(actor, "approval_forgotten")?.approval = Some(id.to_owned());
        inner.state = state;
        Ok(self.gate.approvals.forget(id))
    }

    /// Uses a key-value binding on an operator's behalf, as the workload's handlers see it.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn kv(
        &self,
        actor: Actor,
        binding: &str,
        operation: KvOperation,
    ) -> Result<Answer, ControlError> {
        let writes = !matches!(operation, KvOperation::Get(_) | KvOperation::List(_));
        if writes {
            self.log(actor, "binding_written")?.set_detail(binding);
        }
        let generation = self.gate.generation();
        let answer = generation.bindings.kv(binding, operation).await;
        answer.map_err(|error| ControlError::Binding(in_words(&error)))
    }

    /// Puts a policy of a new document or upload to work, with the overrides in force. Where it does
    /// not have what these name, it is refused: leaving them out could open what they closed.
    fn replace(
        &self,
        inner: &mut Inner,
        (compiled, folder): (Compiled, PathBuf),
        mut state: State,
        actor: Actor,
    ) -> Result<Published, ControlError> {
        let policy = compiled.policy.overridden(&state.overrides).map_err(ControlError::Change);
        let policy = policy.inspect_err(|error| self.refused(actor, error))?;
        state.overrides = policy.overrides().clone();
        let mut published = self.publish((policy, folder), &state, actor, "policy_published")?;
        published.warnings = compiled.warnings.iter().map(ToString::to_string).collect();
        inner.base = compiled.policy;
        let before = std::mem::replace(&mut inner.state, state);
        for component in before.components() {
            // To go back is to publish it again.
            self.components.keep(component.clone(), Instant::now());
        }
        Ok(published)
    }

    /// Makes a generation of `policy`, keeps `state`, writes it down, and puts it in force.
    fn publish(
        &self,
        (policy, folder): (Policy, PathBuf),
        state: &State,
        actor: Actor,
        action: &'static str,
    ) -> Result<Published, ControlError> {
        let places = Places { folder, ..self.places.clone() };
        let before = self.gate.generation();
        let next = Generation::new(policy, &places, Some(&before)).map_err(ControlError::from);
        let next = next.and_then(|next| self.check_hidden(&next).map(|()| next));
        let next = next.inspect_err(|error| self.refused(actor, error))?;
        let (generation, previous) = (next.id.to_string(), before.id.to_string());
        let mut record = self.log(actor, action)?;
        record.generation = Some(Arc::clone(&next.id));
        record.set_detail(format!("{previous} -> {generation}"));
        self.keep(state).inspect_err(|_| record.set_detail("not made: it cannot be kept"))?;
        drop(record);
        self.gate.current.send_replace(Arc::new(next));
        let by = actor.to_string();
        let (told_generation, told_previous) = (generation.clone(), previous.clone());
        self.tell(Event::PolicyPublished { generation: told_generation, previous: told_previous, by });
        let changed = generation != previous;
        Ok(Published { generation, previous, changed, warnings: Vec::new() })
    }

    fn keep(&self, state: &State) -> Result<(), ControlError> {
        let Some(file) = &self.state_file else { return Ok(()) };
        file.write(state).map_err(|error| ControlError::Unkept(format!("{}: {error}", file.path().display())))
    }

    /// Begins the record of a change. Nothing changes that cannot be written down.
    fn log(&self, actor: Actor, action: &'static str) -> Result<AuditRecord, ControlError> {
        if !self.gate.log.is_healthy() {
            return Err(ControlError::Unkept(String::from("the audit log cannot be written")));
        }
        let mut record = self.gate.log.control(action);
        record.generation = Some(Arc::clone(&self.gate.generation().id));
        record.actor = Some(actor.to_string());
        Ok(record)
    }

    /// Writes down that a policy was not taken.
    fn refused(&self, actor: Actor, error: &ControlError) {
        let error = match error {
            ControlError::Document(DocumentError::Policy(error)) => places(error),
            error => in_words(error),
        };
        let mut record = self.gate.log.control("policy_refused");
        record.generation = Some(Arc::clone(&self.gate.generation().id));
        record.actor = Some(actor.to_string());
        record.set_detail(&error);
        self.tell(Event::PolicyRefused { error });
    }

    fn tell(&self, event: Event) {
        // Nobody listens most of the time.
        drop(self.events.send(event));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Where relative paths of the policy in force begin.
    fn folder(&self) -> PathBuf {
        let bundle = self.state.upload.as_ref().or(self.document.as_ref());
        bundle.map_or_else(|| PathBuf::from("/"), |bundle| bundle.folder().to_owned())
    }
}

/// The files that the problems of a document are in.
fn files_of(error: &ControlError, folder: &Path) -> Vec<PathBuf> {
    let ControlError::Document(DocumentError::Policy(error)) = error else { return Vec::new() };
    let files: BTreeSet<_> = error.problems().iter().map(|problem| folder.join(&*problem.file)).collect();
    files.into_iter().collect()
}

/// Every problem of a policy with its place, in one line.
fn places(error: &PolicyError) -> String {
    let place = |problem: &sluicegate_policy::Problem| {
        format!("{}:{}:{}: {}", problem.file, problem.line, problem.column, problem.message)
    };
    error.problems().iter().map(place).collect::<Vec<_>>().join("; ")
}

/// What `policy` says to a request that a person describes.
///
/// # Errors
/// What is wrong with the description, in words.
pub fn explain(policy: &Policy, method: &str, url: &str) -> Result<Explanation, String> {
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is not a method"))?;
    let (scheme, rest) = url.split_once("://").ok_or("write the whole URL, such as https://example.org/")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "tcp" => return explain_flow(policy, Transport::Tcp, rest),
        "udp" => return explain_flow(policy, Transport::Udp, rest),
        other => return Err(format!("{other:?} is none of http, https, tcp and udp")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let authority = Authority::parse(authority, scheme.default_port())
        .map_err(|error| format!("{authority:?} is not a host: {error}"))?;
    let path = target.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    Ok(policy.explain(&RequestFacts {
        scheme,
        authority: &authority,
        method: &method,
        path,
        carries_dns: false,
    }))
}

fn explain_flow(policy: &Policy, transport: Transport, authority: &str) -> Result<Explanation, String> {
    let written = WrittenAuthority::parse(authority)
        .map_err(|error| format!("{authority:?} is not a host with its port: {error}"))?;
    let port = written.port.ok_or_else(|| format!("{authority:?} has no port: write it behind a colon"))?;
    Ok(policy.explain_flow(transport, &Authority { host: written.host, port }))
}
