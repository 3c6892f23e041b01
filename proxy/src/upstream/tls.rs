//! TLS towards upstreams: whom we trust, who we are, and the configurations made of both.
//!
//! **Invariant:** every certificate is verified against the system's roots and `extra_ca`; a client
//! certificate is shown only to the authorities that the document names for it, and a session that was
//! made with one is resumed by none without.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use sluicegate_policy::{Authority, Host};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::UpstreamError;
use crate::secrets::Secret;

/// What the files that the document names hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TlsMaterial {
    /// Trusted besides the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// One for each of the document's `client_certificates`, in its order.
    pub identities: Vec<ClientIdentity>,
}

/// A client certificate with its key.
#[derive(Clone)]
pub struct ClientIdentity(Arc<CertifiedKey>);

/// Why a client certificate cannot be used. Nothing of the key is part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no certificate in the file.
    #[error("it holds no usable certificate")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    /// There is no key, or one that wants a passphrase.
    #[error("its key is no private key as PEM without a passphrase")]
    Key,
    /// Both are there, and do not fit.
    #[error("certificate and key do not fit")]
    Pair(#[source] rustls::Error),
}

impl ClientIdentity {
    /// Reads certificates and a key out of PEM.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn new(certificates_pem: &[u8], key: &Secret) -> Result<Self, IdentityError> {
        let chain = certificates(certificates_pem).map_err(IdentityError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.bytes()).map_err(|_| IdentityError::Key)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(chain, key, &provider)
            .map(|certified| Self(Arc::new(certified)))
            .map_err(IdentityError::Pair)
    }
}

/// Equal certificates have equal public keys, and so equal private ones: `new` has seen that they fit.
impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Eq for ClientIdentity {}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<client certificate>")
    }
}

/// The client configurations of one policy.
#[derive(Debug)]
pub(super) struct Tls {
    material: TlsMaterial,
    made: OnceLock<Configurations>,
}

#[derive(Debug)]
struct Configurations {
    anonymous: Configuration,
    identified: Vec<Configuration>,
}

/// What one connection is made with; the two differ in what they offer, and share the rest.
#[derive(Debug)]
pub(super) struct Configuration {
    /// Offers HTTP/1.1.
    pub(super) http1: Arc<ClientConfig>,
    /// Offers HTTP/2 and HTTP/1.1.
    pub(super) http2: Arc<ClientConfig>,
}

impl Tls {
    pub(super) fn new(material: TlsMaterial) -> Self {
        Self { material, made: OnceLock::new() }
    }

    /// Whether it is made of exactly this.
    pub(super) fn is_of(&self, material: &TlsMaterial) -> bool {
        self.material == *material
    }

    /// The configuration with this one of the identities, or without any.
    ///
    /// Made when the first TLS connection needs it: reading the system's roots costs milliseconds and a
    /// megabyte that a gate in front of nothing never pays.
    ///
    /// # Errors
    /// [`UpstreamError::NoRoots`].
    pub(super) fn configuration(&self, identity: Option<usize>) -> Result<&Configuration, UpstreamError> {
        let made = match self.made.get() {
            Some(made) => made,
            None => {
                let made = self.make()?;
                self.made.get_or_init(|| made)
            }
        };
        match identity {
            None => Ok(&made.anonymous),
            // There is one for each entry of the document: without it, nothing is sent.
            Some(position) => made.identified.get(position).ok_or(UpstreamError::NoIdentity),
        }
    }

    fn make(&self) -> Result<Configurations, UpstreamError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "a system root certificate cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
        roots.add_parsable_certificates(self.material.extra_roots.iter().cloned());
        if roots.is_empty() {
            return Err(UpstreamError::NoRoots);
        }
        let plain = trusting(roots)?;
        let identified = self.material.identities.iter().map(|identity| {
            let mut config = plain.clone();
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(&identity.0)));
            // The sessions that clones share are found by name, and a name may have another identity
            // on another port.
            config.resumption = Resumption::default();
            Configuration::new(config)
        });
        let identified = identified.collect();
        Ok(Configurations { anonymous: Configuration::new(plain), identified })
    }
}

/// A configuration that trusts these roots and shows nothing.
///
/// # Errors
/// [`UpstreamError::Tls`], where the library lacks what it is built with.
pub(super) fn trusting(roots: RootCertStore) -> Result<ClientConfig, UpstreamError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| UpstreamError::Tls(io::Error::other(error)))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Configuration {
    fn new(mut http1: ClientConfig) -> Self {
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { http1: Arc::new(http1), http2: Arc::new(http2) }
    }
}

/// Verifies who is at the other end of `io`, and shows who we are if there is something to show.
///
/// # Errors
/// [`UpstreamError::Tls`].
pub(super) async fn handshake<Io>(
    config: &Arc<ClientConfig>,
    authority: &Authority,
    io: Io,
) -> Result<Box<TlsStream<Io>>, UpstreamError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let name = match &authority.host {
        Host::Ip(ip) => ServerName::from(*ip),
        Host::Dns(name) => ServerName::try_from(name.to_string()).map_err(|_| UpstreamError::NameNotFound)?,
    };
    // Boxed: a handshake's state is tens of KiB and lives for milliseconds.
    let connecting = Box::pin(TlsConnector::from(Arc::clone(config)).connect(name, io));
    connecting.await.map(Box::new).map_err(UpstreamError::Tls)
}

/// Reads certificates out of PEM text.
///
/// # Errors
/// When it holds none, or one that is not PEM.
pub(crate) fn certificates(
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        return Err(rustls::pki_types::pem::Error::NoItemsFound);
    }
    Ok(found)
}
