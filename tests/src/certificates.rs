//! The certificates of the origins: a test authority, and the ways in which a certificate can be bad.

use std::collections::HashMap;
use std::fmt;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::world::ORIGIN_IPV4;

/// What an origin shows to who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A certificate of the world's test authority for whatever name the client asks for.
    Trusted,
    /// As [`Self::Trusted`], but it ended in 2020.
    Expired,
    /// As [`Self::Trusted`], but for `other.invalid`.
    WrongName,
    /// For the right name, signed by its own key.
    SelfSigned,
    /// For the right name, signed by an authority that nobody was told about.
    UnknownAuthority,
    /// No TLS at all.
    Plain,
}

/// A certificate authority that exists for one test.
pub struct TestAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl TestAuthority {
    /// A new one, with a key of its own.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names are fine");
        params.distinguished_name.push(DnType::CommonName, "Test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("generate a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("sign the authority") }
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names or addresses, and its key, both as PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("generate a key");
        let leaf = leaf_params(names).signed_by(&key, &self.issuer).expect("sign a leaf");
        (leaf.pem(), key.serialize_pem())
    }

    /// Speaks TLS, as a server that shows `identity`, on a stream of a
    /// [`TcpServer`](crate::TcpServer).
    pub fn tls_server(
        self: &Arc<Self>,
        identity: Identity,
        alpn: &[&str],
        stream: TcpStream,
    ) -> StreamOwned<ServerConnection, TcpStream> {
        let config = self.server_config(identity, &ORIGIN_IPV4.to_string(), alpn);
        StreamOwned::new(ServerConnection::new(config).expect("a TLS server"), stream)
    }

    /// A TLS server's configuration that shows `identity`; `default_name` stands in where the client
    /// names nothing.
    pub fn server_config(
        self: &Arc<Self>,
        identity: Identity,
        default_name: &str,
        alpn: &[&str],
    ) -> Arc<ServerConfig> {
        let showing = Showing {
            authority: Arc::clone(self),
            identity,
            default_name: default_name.to_owned(),
            made: Mutex::default(),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(showing));
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn certified_key(&self, identity: Identity, name: &str) -> CertifiedKey {
        let key = KeyPair::generate().expect("generate a key");
        let mut params = leaf_params(&[if identity == Identity::WrongName { "other.invalid" } else { name }]);
        if identity == Identity::Expired {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let leaf = match identity {
            Identity::SelfSigned => params.self_signed(&key),
            Identity::UnknownAuthority => params.signed_by(&key, &Self::new().issuer),
            _ => params.signed_by(&key, &self.issuer),
        };
        let chain: Vec<CertificateDer<'static>> = vec![leaf.expect("sign a leaf").der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key of our own");
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).expect("a key and its certificate")
    }
}

impl fmt::Debug for TestAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestAuthority").finish_non_exhaustive()
    }
}

impl Default for TestAuthority {
    fn default() -> Self {
        Self::new()
    }
}

/// Mints a certificate for each name that is asked for.
struct Showing {
    authority: Arc<TestAuthority>,
    identity: Identity,
    default_name: String,
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Showing {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or(&self.default_name);
        let mut made = self.made.lock().expect("no handshake panicked");
        let mint = || Arc::new(self.authority.certified_key(self.identity, name));
        Some(Arc::clone(made.entry(name.to_owned()).or_insert_with(mint)))
    }
}

impl fmt::Debug for Showing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Showing").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names that fit a certificate");
    params.use_authority_key_identifier_extension = true;
    params
}
