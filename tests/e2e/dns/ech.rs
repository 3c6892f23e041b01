//! Encrypted ClientHello (RFC 9849): the keys for it do not arrive, and a hello that has one is judged by
//! its outer name.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use e2e::{Attached, Origin, Reply, Speaks, Unbound, World, dig};
use rustls::client::{EchConfig, EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::{default_provider, hpke};
use rustls::crypto::hpke::Hpke as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, EchConfigListBytes, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use crate::support::asking;

/// A list of one configuration (RFC 9849 section 4): X25519, HKDF-SHA256 and AES-128-GCM, for this
/// outer name. Nobody has the key.
fn configuration(public_name: &str) -> EchConfigListBytes<'static> {
    let mut contents = vec![7, 0x00, 0x20, 0x00, 32];
    contents.extend([9; 32]);
    contents.extend([0x00, 0x04, 0x00, 0x01, 0x00, 0x01, 0]);
    contents.push(u8::try_from(public_name.len()).unwrap());
    contents.extend(public_name.as_bytes());
    contents.extend([0, 0]);
    let with_length = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let one = [&[0xfe, 0x0d][..], &with_length(&contents)].concat();
    EchConfigListBytes::from(with_length(&one))
}

/// A request from within the sealed namespace with this kind of hello: what came back, or why nothing
/// did.
#[expect(clippy::disallowed_methods, reason = "a client of the workload's, in its namespace")]
fn get(gate: &Attached<'_>, name: &str, mode: EchMode) -> Result<String, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(gate.ca_file()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_ech(mode)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), server).unwrap();
    gate.namespace().enter(|| {
        let anywhere: SocketAddr = "192.0.2.9:443".parse().unwrap();
        let mut socket = TcpStream::connect(anywhere).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut stream = Stream::new(&mut connection, &mut socket);
        let request = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        Ok(answer)
    })
}

#[test]
fn e04_keys_for_encrypted_hellos_do_not_arrive() {
    let world = World::new("e04-keys");
    let records = ["example.test. 300 IN HTTPS 1 . alpn=h2,h3 ipv4hint=10.77.0.2"];
    let _unbound = Unbound::start(&world, Speaks::Udp, "example.test.", &records);
    let policy = "allowed_hosts = [\"example.test\"]\n[dns.forward]\n\"example.test\" = [\"TXT\"]\n";
    let gate = world.gate(&asking(&world, &["10.77.0.2"], policy)).attach();
    for kind in ["HTTPS", "SVCB", "TYPE65"] {
        dig(&gate, &["@192.0.2.53", "example.test", kind]).assert_is("NOERROR", 0);
    }
    assert_eq!(world.arrivals().udp, 0);
}

#[test]
fn e04_a_hello_that_only_looks_encrypted_is_like_any_other() {
    let world = World::new("e04-grease");
    let origin = Origin::start(&world, |_| Reply::text("hello"));
    let policy = format!(
        "version = 1\nallowed_hosts = [\"api.test\"]\n{}",
        world.upstream(&[("api.test:443", origin.address())])
    );
    let gate = world.gate(&policy).attach();
    let grease = || {
        let suite = hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
        let (public, _) = suite.generate_key_pair().unwrap();
        EchMode::from(EchGreaseConfig::new(suite, public))
    };
    let answer = get(&gate, "api.test", grease()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    let refused = get(&gate, "evil.test", grease()).unwrap();
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn e04_an_encrypted_hello_is_judged_by_its_outer_name_and_hides_nothing() {
    let world = World::new("e04-inner");
    let origin = Origin::start(&world, |_| Reply::text("hello"));
    let found = [("api.test:443", origin.address()), ("evil.test:443", origin.address())];
    let policy = format!("version = 1\nallowed_hosts = [\"api.test\"]\n{}", world.upstream(&found));
    let mut gate = world.gate(&policy).attach();
    for (outer, inner) in [("api.test", "evil.test"), ("evil.test", "api.test")] {
        let ech = EchConfig::new(configuration(outer), hpke::ALL_SUPPORTED_SUITES).unwrap();
        let failed = get(&gate, inner, EchMode::from(ech)).unwrap_err();
        assert!(failed.contains("EncryptedClientHello"), "{failed}");
        gate.wait_for_log(|line| line["host"] == outer && line["reason"] == "tls_handshake_failed");
        assert!(gate.log().iter().all(|line| line["kind"] != "exchange"), "{:#?}", gate.log());
    }
    origin.assert_untouched();
}
