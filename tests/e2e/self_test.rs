//! Proof that the world notices: without a gate, everything the other tests rule out is seen here.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use e2e::{
    Arrivals, Dns, Identity, Nginx, ORIGIN_IPV4, ORIGIN_IPV6, Origin, OriginConfig, Reply, TcpServer, World,
    assert_token_absent, new_token, pseudo_random_sha256, sha256_hex, wait_until, with_token_scan,
};
use serde_json::json;

#[test]
fn origin_shows_what_it_received() {
    let world = World::new("echo");
    let origin = Origin::echo(&world);
    let arguments =
        ["--http1.1", "-H", "X-Twice: a", "-H", "X-Twice: b", "-d", "body", "https://api.test/path?query=1"];
    let outcome = world.direct(origin.address(), &arguments);
    outcome.assert_success();

    let request = origin.only_request();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/path?query=1"));
    assert_eq!(request.authority, "api.test");
    assert_eq!(request.header("x-twice"), ["a", "b"]);
    assert_eq!((request.body_length, request.body_sha256.as_str()), (4, sha256_hex(b"body").as_str()));
    assert_eq!(request.handshake.and_then(|handshake| handshake.sni).as_deref(), Some("api.test"));
    assert_eq!(outcome.json()["headers"].as_array().map(Vec::len), Some(request.headers.len()));
    let raw = String::from_utf8(origin.connections_seen().remove(0)).unwrap();
    assert!(
        raw.starts_with("POST /path?query=1 HTTP/1.1\r\n") && raw.contains("X-Twice: a\r\nX-Twice: b\r\n"),
        "{raw}"
    );
}

#[test]
fn origin_speaks_http2_and_ipv6() {
    let world = World::new("http2");
    let config = OriginConfig { address: ORIGIN_IPV6.into(), ..OriginConfig::default() };
    let origin = Origin::start_with(&world, config, |_| Reply::text("hello").trailer("x-end", "yes"));
    let outcome = world.direct(origin.address(), &["--http2", "-w", "%{http_version}", "https://api.test/"]);
    outcome.assert_success().assert_stdout("hello2");
    assert_eq!(origin.only_request().version, http::Version::HTTP_2);
    assert_eq!(origin.handshakes()[0].alpn.as_deref(), Some("h2"));
}

#[test]
fn bad_certificates_are_noticed_by_a_client() {
    let world = World::new("certificates");
    for identity in [Identity::Expired, Identity::WrongName, Identity::SelfSigned, Identity::UnknownAuthority]
    {
        let config = OriginConfig { identity, ..OriginConfig::default() };
        let origin = Origin::start_with(&world, config, |_| Reply::text("hello"));
        let outcome = world.direct(origin.address(), &["https://api.test/"]);
        assert_eq!(outcome.code(), 60, "{identity:?}: {outcome:?}");
        assert_eq!(origin.requests().len(), 0, "{identity:?}");
        assert_eq!(origin.connections_seen().len(), 1, "{identity:?}");
    }
}

#[test]
fn misbehaving_origins_misbehave() {
    let world = World::new("misbehaving");
    let plain = || OriginConfig { identity: Identity::Plain, ..OriginConfig::default() };
    let origin = Origin::start_with(&world, plain(), |request| match request.path.as_str() {
        "/reset" => Reply::reset(),
        "/cut" => Reply::text("half").header("content-length", "8").cut(),
        "/hang" => Reply::hang(),
        _ => Reply::text("late").after(Duration::from_millis(300)),
    });
    for (path, code) in [("reset", 56), ("cut", 18), ("hang", 28), ("late", 0)] {
        let outcome =
            world.direct(origin.address(), &["--max-time", "2", &format!("http://api.test/{path}")]);
        assert_eq!(outcome.code(), code, "{path}: {outcome:?}");
    }
}

#[test]
fn bodies_have_the_hash_they_should_have() {
    let world = World::new("bodies");
    let length = 10_000_001;
    let origin = Origin::start(&world, move |_| Reply::pseudo_random(length));
    let file = world.home().join("body");
    let outcome = world.direct(origin.address(), &["-o", &file.display().to_string(), "https://api.test/"]);
    outcome.assert_success();
    assert_eq!(sha256_hex(&fs::read(&file).unwrap()), pseudo_random_sha256(length));

    let upload = format!("@{}", file.display());
    world
        .direct(origin.address(), &["-o", "/dev/null", "--data-binary", &upload, "https://api.test/"])
        .assert_success();
    let request = origin.requests().remove(1);
    assert_eq!((request.body_length, request.body_sha256), (length, pseudo_random_sha256(length)));
}

#[test]
fn raw_server_sends_what_it_was_given() {
    let world = World::new("raw");
    let authority = world.authority().clone();
    let server = TcpServer::start(&world, move |stream| {
        let mut stream = authority.tls_server(Identity::Trusted, &["http/1.1"], stream);
        let mut buffer = [0; 4096];
        if stream.read(&mut buffer).is_ok() {
            stream.write_all(b"HTTP/1.1 299 Odd\r\ncontent-length: 3\r\n\r\nraw").unwrap();
        }
    });
    let outcome = world.direct(server.address(), &["-w", "%{http_code}", "https://api.test/"]);
    outcome.assert_success().assert_stdout("raw299");
    assert_eq!(server.connections(), 1);
}

#[test]
fn name_server_counts_questions() {
    let world = World::new("dns");
    let dns = Dns::start(&world, &[("api.test", "198.51.100.7".parse().unwrap())]);
    let server = format!("@{ORIGIN_IPV4}");
    for transport in ["+notcp", "+tcp"] {
        let outcome =
            world.job(world.gate_namespace(), ["dig", "+short", transport, &server, "API.test", "A"]).run();
        outcome.assert_success().assert_stdout("198.51.100.7\n");
    }
    let outcome = world.job(world.gate_namespace(), ["dig", &server, "other.test", "AAAA"]).run();
    assert!(outcome.stdout.contains("status: NXDOMAIN"), "{outcome:?}");
    assert_eq!(dns.questions(), ["api.test A", "api.test A", "other.test AAAA"]);

    dns.set_silent(true);
    let outcome =
        world.job(world.gate_namespace(), ["dig", "+time=1", "+tries=1", &server, "api.test"]).run();
    assert_eq!(outcome.code(), 9, "{outcome:?}");
}

#[test]
fn packets_that_leave_are_counted() {
    let world = World::new("arrivals");
    assert_eq!(world.arrivals(), Arrivals::default());
    let script = "
import socket
for family, host in ((socket.AF_INET, '198.51.100.99'), (socket.AF_INET6, '2001:db8::99')):
    s = socket.socket(family, socket.SOCK_DGRAM); s.sendto(b'x', (host, 53))
    s = socket.socket(family, socket.SOCK_STREAM); s.setblocking(False); s.connect_ex((host, 443)); s.close()
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132); raw.sendto(bytes(12), ('198.51.100.99', 0))
ping = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
ping.sendto(bytes((8, 0, 0xf7, 0xff, 0, 0, 0, 0)), ('198.51.100.99', 0))
";
    world.root_job(world.gate_namespace(), ["/usr/bin/python3", "-c", script]).run().assert_success();
    let arrivals = world.arrivals();
    assert_eq!(arrivals, Arrivals { tcp_connections: 2, udp: 2, icmp: 1, other: 1 });
}

#[test]
fn further_addresses_are_reachable() {
    let world = World::new("addresses");
    for address in ["198.51.100.7", "2001:db8:7::7"] {
        let address: IpAddr = address.parse().unwrap();
        world.add_origin_address(address);
        let config = OriginConfig { address, port: 443, ..OriginConfig::default() };
        let origin = Origin::start_with(&world, config, |_| Reply::text("hello"));
        assert_eq!(origin.address(), SocketAddr::new(address, 443));
        world.direct(origin.address(), &["https://api.test/"]).assert_success().assert_stdout("hello");
    }
}

#[test]
fn nginx_shows_the_credential_it_got() {
    let world = World::new("nginx");
    let nginx = Nginx::start(&world, "files.test", 8443, "location / { return 200 hello; }");
    let arguments = ["-H", "Authorization: Bearer abc", "https://files.test/x"];
    world.direct(nginx.address(), &arguments).assert_success().assert_stdout("hello");
    // It is written down after it is answered.
    wait_until("a line of nginx", Duration::from_secs(30), || !nginx.requests().is_empty());
    assert_eq!(nginx.requests(), ["GET /x 200 Bearer abc"]);
}

#[test]
fn token_scan_finds_a_token_that_is_there() {
    let world = World::new("scan");
    let token = new_token();
    let scan = |command: &[&str], environment: &str, stdin: &str| {
        let line = with_token_scan(&world, &[&token], command);
        let job = world.job(world.gate_namespace(), line).env("SECRET", environment).stdin(stdin);
        job.run().assert_success();
        fs::read_to_string(world.home().join("token-scan.txt")).unwrap()
    };
    let clean = scan(&["true"], "nothing", "");
    assert!(clean.starts_with("clean: "), "{clean}");
    let found = scan(&["true"], &token, "");
    assert!(found.contains("/environ") && found.contains("/mem"), "{found}");
    let found = scan(&["/usr/bin/python3", "-c", KEEPS_ITS_INPUT], "nothing", &token);
    assert!(found.contains("/mem") && !found.contains("/environ"), "{found}");
}

/// Leaves a process behind that has what was read from standard input in its memory.
const KEEPS_ITS_INPUT: &str = "
import os, sys, time
kept = sys.stdin.read()
if os.fork() == 0:
    os.closerange(0, 3)
    time.sleep(30)
";

#[test]
#[should_panic(expected = "a credential in")]
fn token_in_a_file_is_found() {
    let world = World::new("scan-files");
    let token = new_token();
    world.home_file("notes/token.txt", format!("x{token}x"));
    let line = with_token_scan(&world, &[&token], ["true"]);
    let mut outcome = world.job(world.gate_namespace(), line).run();
    outcome.log.push(json!({}));
    assert_token_absent(&world, &outcome, &[&token]);
}

#[test]
fn world_leaves_nothing_behind() {
    let world = World::new("cleaning");
    let (gate, scratch) = (world.gate_namespace().path(), world.home());
    let script = "setsid sh -c 'echo $$; exec sleep 600' 2>/dev/null";
    let mut running = world.job(world.gate_namespace(), ["sh", "-c", script]).spawn();
    running.wait_for_output("\n");
    let pid = running.stdout().trim().to_owned();
    assert!(Path::new("/proc").join(&pid).exists());
    drop(running);
    drop(world);
    assert!(!gate.exists() && !scratch.exists());
    // Killed is not yet reaped; a zombie has no command line any more.
    wait_until(&format!("the end of {pid}"), Duration::from_secs(20), || {
        fs::read(Path::new("/proc").join(&pid).join("cmdline")).unwrap_or_default().is_empty()
    });
}
