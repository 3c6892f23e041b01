//! How the gate speaks TLS to the workload: one configuration, the same for every leaf.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    compress::CompressionCache,
    crypto::aws_lc_rs::{default_provider, sign::any_ecdsa_type},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoServerSessionStorage, ResolvesServerCertUsingSni},
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use crate::CertError;

/// What the configurations of all leaves share, so that each adds little more than its certificate.
pub(crate) struct ServerConfigTemplate {
    base: ServerConfig,
    leaf_key: Arc<dyn SigningKey>,
}

impl ServerConfigTemplate {
    /// Loads the leaf key and settles everything that does not depend on a name: TLS 1.2 and 1.3,
    /// X25519MLKEM768 preferred (the provider's default order), HTTP/2 before HTTP/1.1, no client
    /// certificate.
    ///
    /// # Errors
    /// [`CertError::Tls`] where the library refuses the key.
    pub(crate) fn new(leaf_key: &PrivateKeyDer<'_>) -> Result<Self, CertError> {
        let mut base = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(CertError::Tls)?
            .with_no_client_auth()
            // Knows no name, so that this configuration by itself serves nobody.
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        base.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

        // No resumption of any kind. With P-256 it saves a few microseconds of a handshake, and a
        // session kept outside of the connection would carry a decision made under one policy, or
        // for one name, into a connection that belongs to another.
        base.session_storage = Arc::new(NoServerSessionStorage {});
        base.send_tls13_tickets = 0;
        // Early data can be replayed, and would be judged before the handshake proves anything.
        base.max_early_data_size = 0;
        // A leaf of half a kilobyte gains nothing from compression.
        base.cert_compressors = Vec::new();
        base.cert_compression_cache = Arc::new(CompressionCache::Disabled);

        let leaf_key = any_ecdsa_type(leaf_key).map_err(CertError::Tls)?;
        Ok(Self { base, leaf_key })
    }

    /// The configuration that presents `leaf`, alone: the workload has the authority already.
    pub(crate) fn with_leaf(&self, leaf: CertificateDer<'static>) -> Arc<ServerConfig> {
        let certified = CertifiedKey::new(vec![leaf], Arc::clone(&self.leaf_key));
        let mut config = self.base.clone();
        config.cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        Arc::new(config)
    }
}
