//! One policy at work: what it says, and what it needs to act on it.
//!
//! **Invariant:** a generation never changes; a request holds the one it began with to the end of its
//! response.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluicegate_policy::{Identity, Policy, Program, SecretDeclaration};
use sluicegate_wasm::{LoadedProgram, Programs};

use crate::bindings::Bindings;
use crate::document::read_bounded;
use crate::secrets::{SecretError, Secrets};
use crate::upstream::{ClientIdentity, IdentityError, TlsMaterial, Upstream, certificates};

/// The longest file of `extra_ca`, in bytes: twenty times the system's bundle.
const EXTRA_CA_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The longest file of a client certificate, in bytes: a chain has some KiB.
const CLIENT_CERTIFICATE_BYTES_MAX: u64 = 256 * 1024;

/// A policy with its secrets, its way out and its stores.
#[derive(Debug)]
pub struct Generation {
    /// Its name in the log: [`Policy::generation`].
    pub id: Arc<str>,
    /// What decides.
    pub policy: Arc<Policy>,
    /// What may be put on.
    pub secrets: Arc<Secrets>,
    /// The way out.
    pub upstream: Arc<Upstream>,
    /// The stores of its handlers.
    pub bindings: Arc<Bindings>,
    /// Whether some secret is to be masked in responses.
    pub scrubs: bool,
    /// The programs of its handlers, by their digests.
    programs: HashMap<[u8; 32], Arc<LoadedProgram>>,
}

/// Where a generation finds what its policy names.
#[derive(Clone, Debug)]
pub struct Places {
    /// Where the document's relative paths begin.
    pub folder: PathBuf,
    /// The folder of embedded stores, this instance's alone.
    pub stores: PathBuf,
    /// Whose policy it is.
    pub identity: Arc<Identity>,
    /// What runs its programs.
    pub programs: Arc<Programs>,
}

/// Why a policy that compiles cannot be put to work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// A secret has no usable value.
    #[error("the policy's secrets cannot be loaded")]
    Secret(#[source] SecretError),
    /// A program of a handler cannot be run.
    #[error("the handler {file} cannot be run: {why}")]
    Program {
        /// Its file as the document writes it.
        file: Box<str>,
        /// Why.
        why: String,
    },
    /// A client certificate cannot be read.
    #[error("[upstream] client_certificates: {} cannot be read", path.display())]
    ClientCertificate {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A client certificate cannot be used with its key.
    #[error("[upstream] client_certificates: {} cannot be used", path.display())]
    Identity {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// A file of `extra_ca` cannot be used.
    #[error("[upstream] extra_ca: {} holds no usable certificates", path.display())]
    ExtraCa {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Generation {
    /// Reads the secrets and certificates that `policy` names. What has not changed since `previous`
    /// is taken over, pooled upstream connections above all.
    ///
    /// # Errors
    /// [`GenerationError`]: a generation that begins can do all it promises.
    pub fn new(policy: Policy, places: &Places, previous: Option<&Self>) -> Result<Self, GenerationError> {
        let policy = Arc::new(policy);
        let programs = load(&policy, &places.programs)?;
        let secrets =
            Secrets::load(&policy, &places.folder, &places.identity).map_err(GenerationError::Secret)?;
        let secrets = Arc::new(secrets);
        let material = tls_material(&policy, &places.folder, &secrets)?;
        let kept = previous
            .filter(|previous| previous.policy.same_way_out(&policy) && previous.upstream.is_of(&material));
        let upstream = match kept {
            Some(previous) => Arc::clone(&previous.upstream),
            None => Arc::new(Upstream::new(Arc::clone(&policy), material, Arc::clone(&secrets))),
        };
        let bindings = Bindings::new(
            policy.bindings(),
            &places.stores,
            &places.identity,
            (&secrets, &upstream),
            previous.map(|previous| &*previous.bindings),
        );
        Ok(Self {
            id: Arc::from(policy.generation()),
            scrubs: policy.secrets().iter().any(|secret: &SecretDeclaration| secret.scrub),
            policy,
            secrets,
            upstream,
            bindings: Arc::new(bindings),
            programs,
        })
    }

    /// A program of one of its handlers, ready to run.
    pub fn program(&self, program: &Program) -> Option<&Arc<LoadedProgram>> {
        self.programs.get(&program.content.sha256())
    }

    /// The files that hold secrets, to be hidden from the workload.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        self.secrets.files().filter_map(|path| std::path::absolute(path).ok()).collect()
    }
}

/// Loads what the handlers of a policy run. It was loaded when the policy was compiled, and is found.
fn load(
    policy: &Policy,
    programs: &Programs,
) -> Result<HashMap<[u8; 32], Arc<LoadedProgram>>, GenerationError> {
    let mut loaded = HashMap::new();
    for program in policy.programs() {
        if loaded.contains_key(&program.content.sha256()) {
            continue;
        }
        let failed = |why| GenerationError::Program { file: program.file.clone(), why };
        let found = programs.load(program);
        loaded.insert(program.content.sha256(), found.map_err(|problem| failed(problem.message))?);
    }
    Ok(loaded)
}

fn tls_material(policy: &Policy, folder: &Path, secrets: &Secrets) -> Result<TlsMaterial, GenerationError> {
    let mut material = TlsMaterial::default();
    for file in &policy.upstream().extra_ca {
        let path = folder.join(Path::new(&**file));
        let failed = |source| GenerationError::ExtraCa { path: path.clone(), source };
        let pem = read_bounded(&path, EXTRA_CA_BYTES_MAX).map_err(|error| failed(error.into()))?;
        material.extra_roots.extend(certificates(&pem).map_err(|error| failed(error.into()))?);
    }
    for certificate in &policy.upstream().client_certificates {
        let path = folder.join(Path::new(&*certificate.certificate));
        let key = secrets.reveal(&certificate.key).map_err(GenerationError::Secret)?;
        let pem = read_bounded(&path, CLIENT_CERTIFICATE_BYTES_MAX)
            .map_err(|source| GenerationError::ClientCertificate { path: path.clone(), source })?;
        let identity = ClientIdentity::new(&pem, &key)
            .map_err(|source| GenerationError::Identity { path: path.clone(), source })?;
        material.identities.push(identity);
    }
    Ok(material)
}
