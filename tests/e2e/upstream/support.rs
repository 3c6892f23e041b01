//! The proxies of these tests, and what is asked of a gate behind them.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use e2e::{Attached, ORIGIN_IPV4, Outcome, Running, TcpServer, World};
use nix::sched::{CloneFlags, setns};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// What the proxies are told; the password is looked for where it must not be.
pub(crate) const USER: &str = "gate";
pub(crate) const PASSWORD: &str = "tiger-31f9";

/// A proxy in the origin namespace.
pub(crate) struct Proxy<'world> {
    /// What `proxy` of a document says.
    pub(crate) url: String,
    /// What `upstream` of the log says.
    pub(crate) address: SocketAddr,
    log: Option<PathBuf>,
    running: Running<'world>,
    _front: Option<TcpServer>,
}

impl Proxy<'_> {
    /// Everything that it said of what it was asked.
    pub(crate) fn said(&self) -> String {
        let own = self.log.as_ref().map(|log| fs::read_to_string(log).unwrap_or_default());
        own.unwrap_or_default() + &self.running.stdout() + &self.running.stderr()
    }

    /// Keys of `[upstream]` that lead through it, with its credentials.
    pub(crate) fn keys(&self) -> String {
        format!(
            "proxy = \"{}\"\nproxy_auth = {{ username = \"{USER}\", password = \"${{secret:PROXY}}\" }}\n",
            self.url
        )
    }
}

/// The secret that [`Proxy::keys`] names.
pub(crate) fn proxy_secret(world: &World, proxy: &Proxy<'_>) -> String {
    let file = world.file("proxy.password", PASSWORD);
    let (scheme, authority) = proxy.url.split_once("://").unwrap();
    let plaintext = scheme != "https";
    format!(
        "secrets.PROXY = {{ source = \"file://{}\", hosts = [\"{authority}\"], plaintext = {plaintext} }}\n",
        file.display()
    )
}

/// tinyproxy, which wants [`USER`] and [`PASSWORD`]; `more` are further lines of its configuration.
/// `enter` is what it is started by.
pub(crate) fn tinyproxy<'world>(
    world: &'world World,
    port: u16,
    more: &str,
    enter: &[&str],
) -> Proxy<'world> {
    let log = world.path(&format!("tinyproxy-{port}.log"));
    let config = format!(
        "Port {port}\nListen {ORIGIN_IPV4}\nTimeout 60\nMaxClients 50\nLogLevel Connect\nLogFile \"{}\"\n\
         BasicAuth {USER} {PASSWORD}\n{more}",
        log.display()
    );
    let config = world.file(&format!("tinyproxy-{port}.conf"), config).display().to_string();
    let command = [enter, &["tinyproxy", "-d", "-c", &config]].concat();
    let running = world.root_job(world.origin_namespace(), command).spawn();
    let address = SocketAddr::new(ORIGIN_IPV4.into(), port);
    world.wait_for_listener(address);
    Proxy { url: format!("http://{address}"), address, log: Some(log), running, _front: None }
}

/// microsocks, likewise.
pub(crate) fn microsocks(world: &World, port: u16) -> Proxy<'_> {
    let address = SocketAddr::new(ORIGIN_IPV4.into(), port);
    let (host, number) = (ORIGIN_IPV4.to_string(), port.to_string());
    let command = ["microsocks", "-i", &host, "-p", &number, "-u", USER, "-P", PASSWORD];
    let running = world.root_job(world.origin_namespace(), command).spawn();
    world.wait_for_listener(address);
    Proxy { url: format!("socks5://{address}"), address, log: None, running, _front: None }
}

/// tinyproxy behind a server that ends TLS, as `proxy.test`.
pub(crate) fn tinyproxy_over_tls(world: &World, port: u16) -> Proxy<'_> {
    let inner = tinyproxy(world, port + 1, "", &[]);
    let front = TlsFront {
        acceptor: acceptor(world),
        namespace: world.origin_namespace().path(),
        behind: inner.address,
    };
    let address = SocketAddr::new(ORIGIN_IPV4.into(), port);
    let server = TcpServer::start_at(world, address, move |stream| {
        // A client that leaves ends its connection alone.
        let _ended = front.serve(stream);
    });
    Proxy { url: format!("https://proxy.test:{port}"), address, _front: Some(server), ..inner }
}

/// Ends TLS, and passes the bytes on, half-closes included.
struct TlsFront {
    acceptor: TlsAcceptor,
    namespace: PathBuf,
    behind: SocketAddr,
}

impl TlsFront {
    #[expect(clippy::disallowed_methods, reason = "a proxy of the tests, in the origin namespace")]
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        // This thread is the connection's own.
        setns(File::open(&self.namespace)?, CloneFlags::CLONE_NEWNET)?;
        stream.set_nonblocking(true)?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let mut client = self.acceptor.accept(stream).await?;
            let mut server = tokio::net::TcpStream::connect(self.behind).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
        })
    }
}

fn acceptor(world: &World) -> TlsAcceptor {
    let (certificate, key) = world.authority().issue(&["proxy.test"]);
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

pub(crate) fn curl(gate: &Attached<'_>, arguments: &[&str]) -> Outcome {
    gate.run([&["curl", "-sS", "-m", "20"], arguments].concat())
}

/// The status and the JSON body of an answer of the gate's own.
#[track_caller]
pub(crate) fn failure(gate: &Attached<'_>, url: &str) -> (String, Value) {
    let outcome = curl(gate, &["-w", "\n%{http_code}", url]);
    let (body, status) = outcome.assert_success().stdout.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(body).unwrap())
}

/// The lines of a log for which all of these hold.
pub(crate) fn lines<'a>(log: &'a [Value], wanted: &[(&str, Value)]) -> Vec<&'a Value> {
    log.iter().filter(|line| wanted.iter().all(|(field, value)| line[*field] == *value)).collect()
}
