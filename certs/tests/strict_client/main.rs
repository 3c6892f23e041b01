//! Judges the certificates as strict clients do: rustls, OpenSSL and Java's keytool.

#![expect(clippy::unwrap_used, clippy::panic, reason = "every function here is part of a test")]

mod leaf_cache;
mod support;

use std::{
    collections::HashSet,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    AlertDescription, Error, HandshakeKind, NamedGroup, PeerIncompatible, ProtocolVersion, ServerConnection,
    version::{TLS12, TLS13},
};
use sluicegate_certs::java_key_store;
use support::{
    Files, HOUR, Instance, feed, handshake, key_and_serial, leaf_of, long_name, openssl_x509, section,
};

#[test]
fn t09_two_authorities_differ_in_key_and_subject() {
    let [one, two] = [Instance::new(), Instance::new()];
    let files = [Files::new(&one), Files::new(&two)];
    for what in ["-pubkey", "-subject", "-serial"] {
        let [one, two] = files.each_ref().map(|files| openssl_x509(&files.authority, &[what]));
        assert_ne!(one, two);
    }
    let client = one.client(&[&TLS13], &[]);
    let refused = handshake(&client, two.server_config("a.example"), "a.example").err();
    assert!(matches!(refused, Some(Error::InvalidCertificate(_))), "{refused:?}");
}

#[test]
fn t10_the_authority_is_a_bounded_p256_authority() {
    let instance = Instance::new();
    let files = Files::new(&instance);
    let text = openssl_x509(&files.authority, &["-text"]);
    for (heading, value) in [
        ("X509v3 Basic Constraints: critical", "CA:TRUE, pathlen:0"),
        ("X509v3 Key Usage: critical", "Certificate Sign, CRL Sign"),
        ("X509v3 Extended Key Usage:", "TLS Web Server Authentication"),
    ] {
        assert_eq!(section(&text, heading), Some(value), "{text}");
    }
    assert!(section(&text, "X509v3 Subject Key Identifier:").is_some(), "{text}");
    assert!(text.contains("ASN1 OID: prime256v1"), "{text}");
    assert!(text.contains("Subject: CN = Sluicegate instance test "), "{text}");

    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (at, good) in [
        (instance.now - 48 * HOUR - HOUR, false),
        (instance.now - 47 * HOUR, true),
        (instance.now + 719 * HOUR, true),
        (instance.now + 721 * HOUR, false),
    ] {
        let at = seconds(at).to_string();
        let verified = files.verify(&files.authority, &["-purpose", "any", "-attime", &at]);
        assert_eq!(verified.status.success(), good, "{verified:?}");
    }
    assert!(!instance.authority.certificate_pem().contains("PRIVATE"));
}

#[test]
fn t11_openssl_strict_takes_every_kind_of_leaf() {
    let instance = Instance::new();
    let files = Files::new(&instance);
    let long = long_name();
    for (name, check) in [
        ("api.example.test", "-verify_hostname"),
        ("_under_score.example", "-verify_hostname"),
        ("xn--bcher-kva.example", "-verify_hostname"),
        (&long, "-verify_hostname"),
        ("192.0.2.7", "-verify_ip"),
        ("2001:db8::7", "-verify_ip"),
    ] {
        let leaf = files.put("leaf.der", &instance.leaf(name));
        let verified = files.verify(&leaf, &[check, name]);
        assert!(verified.status.success(), "{name}: {verified:?}");
        let other = if check == "-verify_ip" { "192.0.2.8" } else { "other.example" };
        let verified = files.verify(&leaf, &[check, other]);
        assert!(!verified.status.success(), "{name} passes for {other}: {verified:?}");
    }
}

#[test]
fn t11_the_leaf_has_the_expected_extensions() {
    let instance = Instance::new();
    let files = Files::new(&instance);
    let authority = openssl_x509(&files.authority, &["-text"]);
    let long = long_name();
    for (name, heading, san) in [
        ("API.Example.Test.", "X509v3 Subject Alternative Name:", "DNS:api.example.test"),
        (&long, "X509v3 Subject Alternative Name: critical", &format!("DNS:{long}")),
        ("192.0.2.7", "X509v3 Subject Alternative Name:", "IP Address:192.0.2.7"),
        ("2001:db8::7", "X509v3 Subject Alternative Name:", "IP Address:2001:DB8:0:0:0:0:0:7"),
    ] {
        let shown = leaf_of(
            &instance.client(&[&TLS13], &[]),
            instance.server_config(name),
            name.trim_end_matches('.'),
        );
        let text = openssl_x509(&files.put("leaf.der", &shown), &["-text"]);
        assert_eq!(section(&text, heading), Some(san), "{text}");
        for (heading, value) in [
            ("X509v3 Key Usage: critical", "Digital Signature"),
            ("X509v3 Extended Key Usage:", "TLS Web Server Authentication"),
        ] {
            assert_eq!(section(&text, heading), Some(value), "{text}");
        }
        let issuer_key = section(&text, "X509v3 Authority Key Identifier:");
        assert!(issuer_key.is_some(), "{text}");
        assert_eq!(issuer_key, section(&authority, "X509v3 Subject Key Identifier:"));
        assert!(!text.contains("CA:TRUE"), "{text}");

        let serial = section(&text, "Serial Number:").unwrap();
        assert_eq!(serial.split(':').count(), 16, "{serial}");
        assert!(!serial.starts_with('-') && !serial.contains("Negative"), "{serial}");
    }
}

#[test]
fn t11_leaves_share_a_key_that_is_not_the_authoritys() {
    let instance = Instance::new();
    let files = Files::new(&instance);
    let authority = key_and_serial(&files, instance.authority.certificate_der());
    let one = key_and_serial(&files, &instance.leaf("a.example"));
    let two = key_and_serial(&files, &instance.leaf("b.example"));
    assert_ne!(authority.0, one.0);
    assert_eq!(one.0, two.0);
    assert_eq!(HashSet::from([authority.1, one.1, two.1]).len(), 3);
}

#[test]
fn an_old_client_is_refused() {
    const SIGNATURE_ALGORITHMS: &[u8] = &[0, 13, 0, 4, 0, 2, 4, 3];
    let instance = Instance::new();
    for minor in [1, 2] {
        for (extension, reason, alert) in [
            // Of a client that newer versions were switched off in.
            (SIGNATURE_ALGORITHMS, PeerIncompatible::Tls12NotOffered, AlertDescription::ProtocolVersion),
            // Of a client that knows nothing newer, where the library finds this missing first.
            (&[], PeerIncompatible::SignatureAlgorithmsExtensionRequired, AlertDescription::HandshakeFailure),
        ] {
            let mut server = ServerConnection::new(instance.server_config("a.example")).unwrap();
            feed(&old_client_hello(minor, extension), |rest| server.read_tls(rest));
            assert_eq!(server.process_new_packets().unwrap_err(), reason.into());
            let mut answer = Vec::new();
            server.write_tls(&mut answer).unwrap();
            let [21, _, _, 0, 2, 2, description] = answer[..] else {
                panic!("no alert: {answer:?}");
            };
            assert_eq!(AlertDescription::from(description), alert);
        }
    }
}

/// The hello of a TLS 1.0 (`minor` 1) or 1.1 (2) client: one cipher suite, the curve and point
/// format of RFC 8422, and `extension`.
fn old_client_hello(minor: u8, extension: &[u8]) -> Vec<u8> {
    let extensions = [&[0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0], extension].concat();
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.push(0); // no session
    hello.extend([0, 2, 0xc0, 0x09]); // TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA
    hello.extend([1, 0]); // no compression
    hello.extend([0, u8::try_from(extensions.len()).unwrap()]);
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

#[test]
fn t13_both_versions_complete_a_handshake() {
    let instance = Instance::new();
    let long = long_name();
    for (versions, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = instance.client(&[versions], &["h2"]);
        for name in ["a.example", &long, "192.0.2.7", "2001:db8::7"] {
            let (client, _) = handshake(&client, instance.server_config(name), name).unwrap();
            assert_eq!(client.protocol_version(), Some(expected));
        }
    }
}

#[test]
fn t13_the_default_key_exchange_is_post_quantum() {
    let instance = Instance::new();
    let client = instance.client(&[&TLS13, &TLS12], &[]);
    let (client, _) = handshake(&client, instance.server_config("a.example"), "a.example").unwrap();
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
}

#[test]
fn t13_nothing_is_resumed() {
    let instance = Instance::new();
    for version in [&TLS12, &TLS13] {
        let client = instance.client(&[version], &[]);
        for _ in 0..3 {
            let server = instance.server_config("a.example");
            let (client, server) = handshake(&client, server, "a.example").unwrap();
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(client.tls13_tickets_received(), 0);
        }
    }
}

#[test]
fn t14_alpn_is_what_the_client_offers() {
    let instance = Instance::new();
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["h2"], Some("h2")),
        (&["foo", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = instance.client(&[version], offered);
            let server = instance.server_config("a.example");
            let (client, server) = handshake(&client, server, "a.example").unwrap();
            assert_eq!(client.alpn_protocol(), chosen.map(str::as_bytes));
            assert_eq!(server.alpn_protocol(), chosen.map(str::as_bytes));
        }
    }
    let client = instance.client(&[&TLS13], &["foo"]);
    let refused = handshake(&client, instance.server_config("a.example"), "a.example").err();
    assert!(matches!(refused, Some(Error::NoApplicationProtocol)), "{refused:?}");
}

#[test]
fn java_lists_every_certificate_of_the_store() {
    let instances = [Instance::new(), Instance::new(), Instance::new()];
    let bundle: String = instances
        .iter()
        .map(|instance| format!("# An authority\n{}\n", instance.authority.certificate_pem()))
        .collect();
    let files = Files::new(&instances[0]);
    let store = files.put("cacerts", &java_key_store(&bundle).unwrap());
    let keytool = |arguments: &[&str], password: &str| {
        Command::new("keytool")
            .args(arguments)
            .arg("-keystore")
            .arg(&store)
            .args(["-storepass", password, "-J-Duser.language=en"])
            .output()
            .unwrap()
    };

    let listed = keytool(&["-list"], "changeit");
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.status.success(), "{listed:?}");
    assert!(text.contains("contains 3 entries"), "{text}");
    assert_eq!(text.matches("trustedCertEntry").count(), 3, "{text}");

    let exported = keytool(&["-exportcert", "-alias", "certificate-2"], "changeit");
    assert_eq!(exported.stdout, instances[1].authority.certificate_der().as_ref());

    let refused = keytool(&["-list"], "changed!");
    assert!(!refused.status.success(), "{refused:?}");
}
