//! An instance, a client that trusts it, and OpenSSL.

use std::{
    fs,
    net::IpAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    ClientConfig, ClientConnection, Error, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    time_provider::TimeProvider,
    version::TLS13,
};
use sluicegate_certs::{CertificateAuthority, DEFAULT_CAPACITY, LeafCache, LeafName};

pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// An authority with its cache, as an instance has them.
pub(crate) struct Instance {
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) leaves: LeafCache,
    pub(crate) now: SystemTime,
}

impl Instance {
    pub(crate) fn new() -> Self {
        Self::with_capacity(DEFAULT_CAPACITY.get())
    }

    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let now = SystemTime::now();
        let authority = Arc::new(CertificateAuthority::generate("test", now).unwrap());
        let leaves = LeafCache::new(Arc::clone(&authority), NonZeroUsize::new(capacity).unwrap());
        Self { authority, leaves, now }
    }

    pub(crate) fn server_config(&self, name: &str) -> Arc<ServerConfig> {
        self.server_config_at(name, self.now)
    }

    pub(crate) fn server_config_at(&self, name: &str, now: SystemTime) -> Arc<ServerConfig> {
        self.leaves.server_config(&leaf_name(name), now).unwrap()
    }

    /// A client that trusts this instance's authority and nothing else.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate_der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// The same client with its clock at `now`.
    pub(crate) fn client_at(&self, now: SystemTime) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.client(&[&TLS13], &[]));
        config.time_provider = Arc::new(Clock(now));
        Arc::new(config)
    }

    /// The leaf for `name`, as a client is shown it.
    pub(crate) fn leaf(&self, name: &str) -> CertificateDer<'static> {
        leaf_of(&self.client(&[&TLS13], &[]), self.server_config(name), name)
    }
}

/// A clock that stands still.
#[derive(Debug)]
pub(crate) struct Clock(SystemTime);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        self.0.duration_since(UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

pub(crate) fn leaf_name(name: &str) -> LeafName {
    match name.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => LeafName::dns(name).unwrap(),
    }
}

/// Passes the two sides' octets to each other until neither has any.
pub(crate) fn handshake(
    client: &Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(server)?;
    while client.wants_write() || server.wants_write() {
        let mut octets = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut octets).unwrap();
        }
        feed(&octets, |rest| server.read_tls(rest));
        server.process_new_packets()?;

        octets.clear();
        while server.wants_write() {
            server.write_tls(&mut octets).unwrap();
        }
        feed(&octets, |rest| client.read_tls(rest));
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

pub(crate) fn feed(mut octets: &[u8], mut read_tls: impl FnMut(&mut &[u8]) -> std::io::Result<usize>) {
    while !octets.is_empty() {
        read_tls(&mut octets).unwrap();
    }
}

pub(crate) fn leaf_of(
    client: &Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> CertificateDer<'static> {
    let (client, _) = handshake(client, server, name).unwrap();
    let [leaf] = client.peer_certificates().unwrap() else {
        panic!("not exactly one certificate");
    };
    leaf.clone().into_owned()
}

/// A folder with the authority and one leaf, for the tools that read files.
pub(crate) struct Files {
    folder: tempfile::TempDir,
    pub(crate) authority: PathBuf,
}

impl Files {
    pub(crate) fn new(instance: &Instance) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("authority.pem");
        fs::write(&authority, instance.authority.certificate_pem()).unwrap();
        Self { folder, authority }
    }

    pub(crate) fn put(&self, file: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(file);
        fs::write(&path, content).unwrap();
        path
    }

    /// `openssl verify` in strict mode; of options given twice it takes the last, so `extra` wins.
    pub(crate) fn verify(&self, certificate: &Path, extra: &[&str]) -> Output {
        Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-CAfile"])
            .arg(&self.authority)
            .args(extra)
            .arg(certificate)
            .output()
            .unwrap()
    }
}

pub(crate) fn openssl_x509(certificate: &Path, what: &[&str]) -> String {
    let output =
        Command::new("openssl").arg("x509").arg("-in").arg(certificate).arg("-noout").args(what).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The public key and the serial number, as OpenSSL prints them.
pub(crate) fn key_and_serial(files: &Files, certificate: &[u8]) -> (String, String) {
    let path = files.put("certificate.der", certificate);
    (openssl_x509(&path, &["-pubkey"]), openssl_x509(&path, &["-serial"]))
}

/// The line that follows a heading of `openssl x509 -text`, both without indentation.
pub(crate) fn section<'text>(text: &'text str, heading: &str) -> Option<&'text str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| *line == heading)?;
    lines.next()
}

/// 80 octets, above what a common name may have.
pub(crate) fn long_name() -> String {
    format!("{}.{}.example", "a".repeat(40), "b".repeat(31))
}
