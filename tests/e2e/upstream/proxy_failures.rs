//! Proxies that refuse, lie, are silent or are not there: told in words, in time, and apart.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::{ORIGIN_IPV4, Origin, Reply, TcpServer, World};
use serde_json::{Value, json};

use crate::support::{PASSWORD, Proxy, failure, microsocks, proxy_secret, tinyproxy};

/// What comes of a request through a proxy: status and body of the answer, and how long it took.
fn request_through(world: &World, keys: &str) -> (String, Value, Duration) {
    let origin = Origin::start(world, |_| Reply::text("hello"));
    let policy = format!(
        "version = 1\nallowed_hosts = [\"api.test\"]\n{}connect_timeout_ms = 2000\n{keys}\n",
        world.upstream(&[("api.test:443", origin.address())]),
    );
    let mut gate = world.gate(&policy).attach();
    let began = Instant::now();
    let (status, body) = failure(&gate, "https://api.test/");
    let took = began.elapsed();
    origin.assert_untouched();
    let line = gate.wait_for_log(|line| line["kind"] == "exchange");
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("failed"), &body["reason"]), "{line}");
    assert!(!json!(gate.log()).to_string().contains(PASSWORD) && !body.to_string().contains(PASSWORD));
    (status, body, took)
}

/// Keys of `[upstream]` for a proxy that is told a wrong password. The secret comes after them.
fn with_wrong_password(world: &World, proxy: &Proxy<'_>) -> String {
    let secret = proxy_secret(world, proxy);
    world.file("proxy.password", "another");
    let secret =
        secret.replace("secrets.PROXY = {", "[secrets.PROXY]\n").replace(" }", "").replace(", ", "\n");
    format!("{}{secret}", proxy.keys())
}

#[test]
fn a_wrong_password_is_told_apart() {
    let world = World::new("proxy-407");
    let proxies = [tinyproxy(&world, 3128, "", &[]), microsocks(&world, 1080)];
    for proxy in &proxies {
        let (status, body, _) = request_through(&world, &with_wrong_password(&world, proxy));
        assert_eq!((&*status, &body["reason"]), ("502", &json!("proxy_authentication")), "{body}");
        assert!(body["detail"].as_str().unwrap().contains("proxy_auth"), "{body}");
    }
    let no_password = format!("proxy = \"http://{ORIGIN_IPV4}:3128\"\n");
    assert_eq!(request_through(&world, &no_password).1["reason"], "proxy_authentication");
    let no_password = format!("proxy = \"socks5://{ORIGIN_IPV4}:1080\"\n");
    assert_eq!(request_through(&world, &no_password).1["reason"], "proxy_authentication");
}

#[test]
fn a_refusal_says_why() {
    let world = World::new("proxy-403");
    let _proxy = tinyproxy(&world, 3128, "ConnectPort 1\n", &[]);
    let keys = format!(
        "proxy = \"http://{ORIGIN_IPV4}:3128\"\nproxy_auth = {{ username = \"gate\", password = \"{PASSWORD}\" }}\n"
    );
    let (status, body, _) = request_through(&world, &keys);
    assert_eq!((&*status, &body["reason"]), ("502", &json!("proxy_refused")), "{body}");
    assert!(body["detail"].as_str().unwrap().contains("status 403"), "{body}");
}

#[test]
fn a_proxy_that_is_not_there_is_told_apart_from_an_upstream() {
    let world = World::new("proxy-gone");
    for scheme in ["http", "https", "socks5"] {
        let (status, body, _) = request_through(&world, &format!("proxy = \"{scheme}://{ORIGIN_IPV4}:9\"\n"));
        assert_eq!((&*status, &body["reason"]), ("502", &json!("proxy_unreachable")), "{body}");
        assert!(body["detail"].as_str().unwrap().contains("refused"), "{body}");
    }
}

#[test]
fn n13_a_silent_proxy_is_given_up_at_the_deadline() {
    let world = World::new("proxy-silent");
    let silent = TcpServer::start(&world, |mut stream| drop(stream.read_to_end(&mut Vec::new())));
    for scheme in ["http", "https", "socks5"] {
        let keys = format!("proxy = \"{scheme}://{}\"\n", silent.address());
        let (status, body, took) = request_through(&world, &keys);
        assert_eq!((&*status, &body["reason"]), ("504", &json!("proxy_timeout")), "{body}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

/// A proxy that answers everything with these bytes, again and again if there is no end to them.
fn saying(world: &World, bytes: &'static [u8], without_end: bool) -> (TcpServer, SocketAddr) {
    let server = TcpServer::start(world, move |mut stream| {
        let mut asked = [0; 512];
        let _length = stream.read(&mut asked);
        while stream.write_all(bytes).is_ok() && without_end {}
    });
    let address = server.address();
    (server, address)
}

#[test]
fn what_is_no_proxy_is_not_taken_for_one() {
    let world = World::new("proxy-odd");
    let table: [(&str, &'static [u8], bool); 5] = [
        ("http", b"SSH-2.0-OpenSSH_9.2p1\r\n", false),
        ("http", b"HTTP/1.1 200 OK\r\nx: ", false),
        ("http", b"HTTP/1.1 200 OK\r\n and more\r\n", true),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
        ("socks5", &[5], false),
    ];
    for (scheme, bytes, without_end) in table {
        let (_server, address) = saying(&world, bytes, without_end);
        let (status, body, _) = request_through(&world, &format!("proxy = \"{scheme}://{address}\"\n"));
        assert_eq!((&*status, &body["reason"]), ("502", &json!("proxy_protocol_error")), "{body}");
    }
}

#[test]
fn a_proxy_cannot_pose_as_the_upstream() {
    let world = World::new("proxy-poses");
    // It says yes, and answers for the upstream with another certificate.
    let authority = std::sync::Arc::new(e2e::TestAuthority::new());
    let server = TcpServer::start(&world, move |mut stream| {
        let mut asked = [0; 512];
        let _length = stream.read(&mut asked);
        stream.write_all(b"HTTP/1.1 200 Yes\r\n\r\n").unwrap();
        let mut tls = authority.tls_server(e2e::Identity::Trusted, &["http/1.1"], stream);
        let _ended = tls.read_to_end(&mut Vec::new());
    });
    let (status, body, _) = request_through(&world, &format!("proxy = \"http://{}\"\n", server.address()));
    // The same name of an authority, and another key.
    assert_eq!((&*status, &body["reason"]), ("502", &json!("certificate_invalid")), "{body}");
}
