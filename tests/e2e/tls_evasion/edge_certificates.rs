//! Chains of upstreams that verify only if somebody is careless: constraints, purposes, names, and what is
//! missing from them.

use std::io::{Read, Write};
use std::sync::Arc;

use e2e::{TcpServer, World};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::{end, told, verdicts};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    params
}

/// An authority below another one.
fn below(issuer: &Issuer, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issuer {
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::signed_by(authority(name, change), key, issuer).unwrap()
}

/// Serves `hello` with a certificate for these names, changed as the case wants it, and this chain behind it.
fn serve(
    world: &World,
    issuer: &Issuer,
    chain: &[&Issuer],
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> TcpServer {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let leaf = params.signed_by(&key, issuer).unwrap();
    let mut certificates = vec![leaf.der().clone()];
    certificates.extend(chain.iter().map(|issuer| issuer.der().clone()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let config = Arc::new(config);
    TcpServer::start(world, move |stream| {
        let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
        // Who does not trust the certificate goes away.
        if tls.read(&mut [0; 1024]).is_ok_and(|length| length > 0) {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
            tls.write_all(answer).and_then(|()| tls.flush()).unwrap();
        }
    })
}

fn by_address(params: &mut CertificateParams) {
    params.subject_alt_names = vec![SanType::IpAddress("10.77.0.2".parse().unwrap())];
}

fn by_subject(params: &mut CertificateParams) {
    params.distinguished_name.push(DnType::CommonName, "subject.test");
}

fn of_clients(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

fn later(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(3000, 1, 1);
}

#[test]
fn t21_chains_that_do_not_hold_are_refused_and_those_that_do_are_not() {
    let world = World::new("t21-chains");
    let key = KeyPair::generate().unwrap();
    let root: Issuer = CertifiedIssuer::self_signed(authority("Root", |_| {}), key).unwrap();
    let middle = below(&root, "Middle", |_| {});
    let constrained = below(&root, "Constrained", |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("other.test".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    let expired = below(&root, "Expired", |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let no_authority = below(&root, "Leaf", |params| params.is_ca = IsCa::ExplicitNoCa);
    let last = below(&root, "Last", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let beyond = below(&last, "Beyond", |_| {});
    let plain = |_: &mut CertificateParams| {};
    let good = "200";
    let unknown = "502 certificate_unknown_issuer";
    let mismatch = "502 certificate_name_mismatch";
    let table = [
        ("whole.test", good, serve(&world, &middle, &[&middle], &["whole.test"], plain)),
        ("a.wild.test", good, serve(&world, &root, &[], &["*.wild.test"], plain)),
        ("missing.test", unknown, serve(&world, &middle, &[], &["missing.test"], plain)),
        ("a.b.wild2.test", mismatch, serve(&world, &root, &[], &["*.wild2.test"], plain)),
        ("wild3.test", mismatch, serve(&world, &root, &[], &["*.wild3.test"], plain)),
        ("address.test", mismatch, serve(&world, &root, &[], &["address.test"], by_address)),
        ("subject.test", mismatch, serve(&world, &root, &[], &[], by_subject)),
        (
            "constrained.test",
            "502 certificate_",
            serve(&world, &constrained, &[&constrained], &["constrained.test"], plain),
        ),
        ("clients.test", "502 certificate_", serve(&world, &root, &[], &["clients.test"], of_clients)),
        ("later.test", "502 certificate_not_yet_valid", serve(&world, &root, &[], &["later.test"], later)),
        (
            "expired.test",
            "502 certificate_expired",
            serve(&world, &expired, &[&expired], &["expired.test"], plain),
        ),
        (
            "leaf.test",
            "502 certificate_",
            serve(&world, &no_authority, &[&no_authority], &["leaf.test"], plain),
        ),
        (
            "beyond.test",
            "502 certificate_",
            serve(&world, &beyond, &[&beyond, &last], &["beyond.test"], plain),
        ),
    ];
    world.file("root.pem", root.pem());
    let names: Vec<_> =
        table.iter().map(|(name, _, server)| (format!("{name}:443"), server.address())).collect();
    let names: Vec<_> = names.iter().map(|(name, address)| (name.as_str(), *address)).collect();
    let upstream = world.upstream(&names).replace("/ca.pem\"", "/root.pem\"");
    let gate = world.gate(&format!("version = 1\nallowed_hosts = [\"*.test\"]\n{upstream}")).attach();
    for (name, expected, _) in &table {
        let told = told(&gate, &[&format!("https://{name}/")]);
        let fits = if expected.ends_with('_') { told.starts_with(expected) } else { told == *expected };
        assert!(fits, "{name}: {told}, expected {expected}");
    }
    let log = verdicts(&end(gate));
    assert_eq!(log.iter().filter(|verdict| *verdict == "allowed").count(), 2, "{log:?}");
    assert!(log[2..].iter().all(|verdict| verdict.starts_with("failed certificate_")), "{log:?}");
}
