//! QUIC, which HTTP/3 travels by: refused so that clients fall back to TCP, or passed by name.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use e2e::{Attached, ORIGIN_IPV4, Origin, Reply, World};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::support::{flow, policy};

const PATIENCE: Duration = Duration::from_secs(20);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A QUIC server in the origin namespace that answers each stream with what came on it.
fn echo(world: &World, name: &str) -> SocketAddr {
    let (chain, key) = world.authority().issue(&[name]);
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = quinn::ServerConfig::with_single_cert(chain, key).unwrap();
    let socket = world.origin_namespace().enter(|| std::net::UdpSocket::bind((ORIGIN_IPV4, 0)).unwrap());
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        runtime().block_on(async move {
            let tokio = Arc::new(quinn::TokioRuntime);
            let endpoint =
                quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, tokio);
            let serve = async {
                let connection = endpoint.unwrap().accept().await.unwrap().await.unwrap();
                while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                    let bytes = receive.read_to_end(1 << 20).await.unwrap();
                    send.write_all(&bytes).await.unwrap();
                    send.finish().unwrap();
                }
            };
            // The thread shall not outlive its test for long.
            drop(tokio::time::timeout(PATIENCE, serve).await);
        });
    });
    address
}

/// The address that the workload gets for a name.
fn synthetic(gate: &Attached<'_>, name: &str) -> Ipv4Addr {
    let outcome = gate.run(["dig", "+short", "@192.0.2.53", name, "A"]);
    outcome.assert_success().stdout.trim().parse().unwrap()
}

/// Sends bytes by QUIC out of the sealed namespace, and gives back what was answered.
fn ask(
    world: &World,
    gate: &Attached<'_>,
    to: (&str, SocketAddr),
    patience: Duration,
) -> Result<Vec<u8>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(world.authority().pem().as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    gate.namespace().enter(|| {
        runtime().block_on(async {
            let mut endpoint = quinn::Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
            let config = quinn::ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
            endpoint.set_default_client_config(config);
            let (name, address) = to;
            let exchange = async {
                let connection = endpoint.connect(address, name).unwrap().await.map_err(|e| e.to_string())?;
                let (mut send, mut receive) = connection.open_bi().await.map_err(|e| e.to_string())?;
                send.write_all(&vec![7; 300_000]).await.map_err(|e| e.to_string())?;
                send.finish().unwrap();
                let answer = receive.read_to_end(1 << 20).await.map_err(|e| e.to_string())?;
                connection.close(0_u32.into(), b"");
                Ok(answer)
            };
            let result = tokio::time::timeout(patience, exchange).await.map_err(|_| "no answer".to_owned());
            endpoint.wait_idle().await;
            result.and_then(|answer| answer)
        })
    })
}

#[test]
fn e11_quic_gets_nowhere_and_the_same_request_goes_by_tcp() {
    let world = World::new("e11");
    let origin = Origin::start(&world, |_| Reply::text("by tcp"));
    let server = echo(&world, "api.test");
    let found = [("api.test:443", origin.address()), ("api.test:8443", server)];
    let mut gate = world.gate(&policy(&world, "allowed_hosts = [\"api.test\"]", &found)).attach();
    let address = synthetic(&gate, "api.test");
    // As a client that prefers HTTP/3: it tries, and then asks by TCP.
    let refused = ask(&world, &gate, ("api.test", (address, 443).into()), Duration::from_secs(2));
    assert!(refused.is_err(), "{refused:?}");
    gate.run(["curl", "-sS", "https://api.test/"]).assert_success().assert_stdout("by tcp");
    let line = gate.wait_for_log(|line| line["kind"] == "flow" && line["protocol"] == "udp");
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("refused"), &json!("udp_flow")));
    assert_eq!(world.arrivals().udp, 0);
}

#[test]
fn quic_passes_end_to_end_where_a_list_names_it() {
    let world = World::new("quic-pass");
    let server = echo(&world, "api.test");
    let document = policy(&world, "udp = [\"api.test:443\"]", &[("api.test:443", server)]);
    let mut gate = world.gate(&document).named("quic").attach();
    let address = synthetic(&gate, "api.test");
    // The origin's own certificate is the one that is verified.
    let answer = ask(&world, &gate, ("api.test", (address, 443).into()), PATIENCE).unwrap();
    assert_eq!(answer, vec![7; 300_000]);
    let closed = world.file("closed.toml", "version = 1\n").display().to_string();
    gate.operator(["policy", "set", &closed]).run().assert_success();
    let line = flow(&mut gate, "api.test", 443);
    assert!(line["request_bytes"].as_u64().unwrap() > 300_000, "{line}");
}
