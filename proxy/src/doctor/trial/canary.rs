//! A server of the doctor's own, on this machine's loopback, which a throwaway gate is to reach.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sluicegate_certs::{CertificateAuthority, DEFAULT_CAPACITY, LeafCache, LeafName};

use super::ALLOWED;

/// How long it waits for a gate that is connected; both ends are on one machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request head that it reads, in bytes; a gate's is a few hundred.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Where the server listens, and what to trust. It ends with this process.
#[derive(Debug)]
pub(super) struct Canary {
    /// For requests without TLS.
    pub(super) plain: SocketAddr,
    /// For requests with it.
    pub(super) tls: SocketAddr,
    /// The authority of its certificate.
    pub(super) authority_pem: String,
}

impl Canary {
    /// Starts it. Each request is answered with `sign`.
    ///
    /// # Errors
    /// When there is no socket, thread or certificate to have.
    pub(super) fn start(sign: &str) -> io::Result<Self> {
        let now = SystemTime::now();
        let authority = Arc::new(CertificateAuthority::generate("doctor", now).map_err(io::Error::other)?);
        let authority_pem = authority.certificate_pem().to_owned();
        let leaves = LeafCache::new(authority, DEFAULT_CAPACITY);
        let name = LeafName::dns(ALLOWED).map_err(io::Error::other)?;
        let mut config = ServerConfig::clone(&*leaves.server_config(&name, now).map_err(io::Error::other)?);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let plain = listen(sign, serve)?;
        let tls = listen(sign, move |stream, answer| {
            let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            serve(&mut stream, answer)?;
            stream.conn.send_close_notify();
            stream.flush()
        })?;
        Ok(Self { plain, tls, authority_pem })
    }
}

/// One connection after another is served by `serve`.
fn listen(
    sign: &str,
    serve: impl Fn(TcpStream, &[u8]) -> io::Result<()> + Send + 'static,
) -> io::Result<SocketAddr> {
    let length = sign.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{sign}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("canary".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let timed = stream
                .set_read_timeout(Some(PATIENCE))
                .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
            // Whoever it was, the next one may be the gate: the trial shows whether that was answered.
            if let Err(error) = timed.and_then(|()| serve(stream, answer.as_bytes())) {
                tracing::debug!(%error, "the canary could not answer");
            }
        }
    })?;
    Ok(address)
}

/// Reads one request head and answers it.
fn serve(mut stream: impl Read + Write, answer: &[u8]) -> io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let count = stream.read(&mut chunk)?;
        if count == 0 || head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
    stream.write_all(answer)?;
    stream.flush()
}
