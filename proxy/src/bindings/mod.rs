//! The stores that handlers use: small values by key, and objects that stream.
//!
//! ```text
//! Bindings ─▶ kv ──────▶ folder | redis
//!          └▶ objects ─▶ folder | bucket (S3), both through OpenDAL
//! ```
//!
//! **Invariants:** nothing is opened before it is used; a handler reaches no key outside of its
//! binding's prefix and no file outside of its binding's folder; every key, value and list is
//! bounded, and every wait ends.

mod bucket;
mod content;
mod envelope;
mod error;
mod folder;
mod key;
mod kv_folder;
mod location;
mod object_reader;
mod objects;
mod redis;
mod reply_room;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_policy::{Answer, BindingDeclaration, BindingKind, Identity, KvOperation, ObjectsOperation};
use tokio::time::timeout;

use crate::secrets::Secrets;
use crate::upstream::Upstream;
pub use content::ObjectContent;
pub use error::{BindingError, Fault};
use key::Prefix;
use kv_folder::FolderKv;
use location::Location;
pub use object_reader::ObjectReader;
use objects::Objects;
use redis::Redis;

/// The longest key that a handler may use, in bytes; what most stores take.
const KEY_BYTES_MAX: usize = 512;

/// The longest value, in bytes: it is held in memory, once for each request that reads it.
const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// The most keys that one list gives.
const LIST_KEYS_MAX: usize = 1000;

/// The longest time to live: ten years, which every store can add to its clock.
const TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The longest content type, in bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// The largest object, in bytes: one request shall not fill a disk.
const OBJECT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// How long an operation may take that does not stream.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a stream may stand still.
const IDLE: Duration = Duration::from_secs(60);

/// The stores of one policy.
#[derive(Debug)]
pub struct Bindings {
    bindings: Vec<Binding>,
    secrets: Arc<Secrets>,
    upstream: Arc<Upstream>,
}

#[derive(Debug)]
struct Binding {
    declaration: BindingDeclaration,
    store: Arc<Store>,
}

/// Where a binding keeps what it is given.
enum Store {
    FolderKv(FolderKv),
    Redis(Redis),
    Objects(Objects),
    /// The declaration says nothing that can be used, which the compiler of policies refuses.
    Unusable(&'static str),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FolderKv(_) => "FolderKv",
            Self::Redis(_) => "Redis",
            Self::Objects(_) => "Objects",
            Self::Unusable(_) => "Unusable",
        })
    }
}

impl Bindings {
    /// The stores that `declarations` describe, none of them opened. Embedded ones are in folders
    /// below `state`; `outside` is what reaches the others. Those that are as they were in
    /// `previous` keep their connections.
    pub fn new(
        declarations: &[BindingDeclaration],
        state: &Path,
        identity: &Identity,
        outside: (&Arc<Secrets>, &Arc<Upstream>),
        previous: Option<&Self>,
    ) -> Self {
        let (secrets, upstream) = outside;
        let previous = previous.filter(|previous| Arc::ptr_eq(&previous.upstream, upstream));
        let bindings = declarations.iter().map(|declaration| {
            let kept = previous.and_then(|previous| previous.same(declaration));
            let store =
                kept.map_or_else(|| Arc::new(Store::new(declaration, state, identity, upstream)), Arc::clone);
            Binding { declaration: declaration.clone(), store }
        });
        Self { bindings: bindings.collect(), secrets: Arc::clone(secrets), upstream: Arc::clone(upstream) }
    }

    fn same(&self, declaration: &BindingDeclaration) -> Option<&Arc<Store>> {
        let same = self.bindings.iter().find(|binding| binding.declaration == *declaration);
        same.map(|binding| &binding.store)
    }

    fn find(&self, name: &str, kind: BindingKind) -> Result<&Binding, Fault> {
        self.bindings
            .iter()
            .find(|binding| *binding.declaration.name == *name && binding.declaration.kind == kind)
            .ok_or(Fault::Unknown)
    }

    /// Does what a handler asks of the key-value binding `name`, within ten seconds.
    ///
    /// # Errors
    /// [`BindingError`]; after a timeout or a broken connection a write may have happened.
    pub async fn kv(&self, name: &str, operation: KvOperation) -> Result<Answer, BindingError> {
        // Boxed: what waits for a store is large, and most requests never do.
        let done = Box::pin(timeout(DEADLINE, self.kv_unbounded(name, operation))).await;
        done.unwrap_or(Err(Fault::Timeout)).map_err(|fault| failed(name, fault))
    }

    async fn kv_unbounded(&self, name: &str, operation: KvOperation) -> Result<Answer, Fault> {
        let binding = self.find(name, BindingKind::Kv)?;
        check_kv(&operation)?;
        match &*binding.store {
            Store::FolderKv(store) => store.perform(operation).await,
            Store::Redis(store) => store.perform(operation, &self.secrets).await,
            Store::Unusable(why) => Err(Fault::Declaration(why)),
            Store::Objects(_) => Err(Fault::Unknown),
        }
    }

    /// Does what a handler asks of the object binding `name`. `content` is what is put when the
    /// operation's body is a handle; it is not held, and if it fails or the caller goes away before
    /// its end, nothing is stored. With [`Answer::Object`] comes what was asked for with `Get`: the
    /// content, which the answer's `body` does not name yet.
    ///
    /// # Errors
    /// [`BindingError`]; after a timeout or a broken connection a write may have happened.
    pub async fn objects(
        &self,
        name: &str,
        operation: ObjectsOperation,
        content: Option<ObjectContent>,
    ) -> Result<(Answer, Option<ObjectReader>), BindingError> {
        let done = async {
            match &*self.find(name, BindingKind::Objects)?.store {
                Store::Objects(store) => store.perform(operation, content, &self.secrets).await,
                Store::Unusable(why) => Err(Fault::Declaration(why)),
                Store::FolderKv(_) | Store::Redis(_) => Err(Fault::Unknown),
            }
        };
        Box::pin(done).await.map_err(|fault| failed(name, fault))
    }
}

impl Store {
    fn new(
        declaration: &BindingDeclaration,
        state: &Path,
        identity: &Identity,
        upstream: &Arc<Upstream>,
    ) -> Self {
        let location = match Location::parse(declaration) {
            Ok(location) => location,
            Err(why) => return Self::Unusable(why),
        };
        let is_ours = matches!(location, Location::Folder(_));
        // A folder is the instance's own; a server is shared.
        let usual = if is_ours { "" } else { "{container_id}/" };
        let prefix = Prefix::new(declaration.prefix.as_deref().unwrap_or(usual), identity);
        match (location, declaration.kind) {
            (Location::Folder(path), BindingKind::Kv) => {
                Self::FolderKv(FolderKv::new(state.join(path), prefix))
            }
            (Location::Folder(path), BindingKind::Objects) => {
                Self::Objects(Objects::folder(state.join(path), prefix))
            }
            (Location::Redis(server), BindingKind::Kv) => {
                Self::Redis(Redis::new(server, prefix, Arc::clone(upstream)))
            }
            (Location::Bucket(bucket), BindingKind::Objects) => {
                Self::Objects(Objects::bucket(bucket, prefix, Arc::clone(upstream)))
            }
            _ => Self::Unusable("a store of this kind cannot be used so"),
        }
    }
}

fn check_kv(operation: &KvOperation) -> Result<(), Fault> {
    let (value, ttl) = match operation {
        KvOperation::Put { value, ttl, .. } => (value.len(), ttl),
        KvOperation::Increment { ttl, .. } => (0, ttl),
        _ => return Ok(()),
    };
    if value > VALUE_BYTES_MAX {
        return Err(Fault::ValueTooLong);
    }
    match ttl {
        Some(ttl) if ttl.is_zero() || *ttl > TTL_MAX => Err(Fault::Ttl),
        _ => Ok(()),
    }
}

fn failed(binding: &str, fault: Fault) -> BindingError {
    BindingError { binding: binding.into(), fault }
}
