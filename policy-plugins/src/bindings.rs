//! The stores that handlers may use: the `[bindings]` section, parsed.

use crate::handler::BindingKind;
use crate::secret::SecretName;

/// One binding. `kv` and `objects` are there in every policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingDeclaration {
    /// `env.NAME` in a handler.
    pub name: Box<str>,
    /// What it is.
    pub kind: BindingKind,
    /// Where it is: `file:PATH` below the state folder; `redis://` or `rediss://` with host, port
    /// and database (kv), `s3://bucket/folder` (objects). It holds no credential.
    pub url: Box<str>,
    /// What stands before every key, with `{container_id}` and `{instance_id}` still to be filled
    /// in; `None` where the document does not say.
    pub prefix: Option<Box<str>>,
    /// The password (redis).
    pub password: Option<SecretName>,
    /// The access key's id (s3).
    pub access_key_id: Option<SecretName>,
    /// The access key (s3).
    pub secret_access_key: Option<SecretName>,
    /// The `http://` or `https://` URL of the service (s3).
    pub endpoint: Option<Box<str>>,
    /// The region (s3).
    pub region: Option<Box<str>>,
}

impl BindingDeclaration {
    /// The secrets that the store is given.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        [&self.password, &self.access_key_id, &self.secret_access_key].into_iter().flatten()
    }

    /// The bindings that nobody needs to declare: embedded, below the state folder.
    pub(crate) fn implicit() -> Vec<Self> {
        [("kv", BindingKind::Kv), ("objects", BindingKind::Objects)]
            .map(|(name, kind)| Self::new(name, kind, &format!("file:{name}")))
            .into()
    }

    pub(crate) fn new(name: &str, kind: BindingKind, url: &str) -> Self {
        Self {
            name: name.into(),
            kind,
            url: url.into(),
            prefix: None,
            password: None,
            access_key_id: None,
            secret_access_key: None,
            endpoint: None,
            region: None,
        }
    }
}
