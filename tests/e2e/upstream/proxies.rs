//! Everything through a proxy: requests of both schemes and versions, and flows that pass unread.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use e2e::{Dns, Identity, ORIGIN_IPV4, Origin, OriginConfig, Reply, TcpServer, World, wait_until};
use serde_json::json;

use crate::support::{
    PASSWORD, PYTHON, Proxy, curl, failure, lines, microsocks, proxy_secret, tinyproxy, tinyproxy_over_tls,
};

/// An origin that only its own namespace reaches, and so only a proxy there.
fn hidden(world: &World, config: OriginConfig) -> Origin {
    Origin::start_with(world, OriginConfig { address: Ipv4Addr::LOCALHOST.into(), ..config }, |_| {
        Reply::text("hello")
    })
}

const READ_BANNER: &str = "
import socket
with socket.create_connection(('banner.test', 2525), 10) as io:
    print(io.makefile().readline().strip())
    io.sendall(b'QUIT\\r\\n')
    print(io.makefile().read())
";

/// Sends everything there is through this proxy, and looks at both ends.
fn everything_goes_through(world: &World, proxy: &Proxy<'_>) {
    let tls = hidden(world, OriginConfig::default());
    let plain = hidden(
        world,
        OriginConfig { port: 80, identity: Identity::Plain, alpn: &["http/1.1"], ..OriginConfig::default() },
    );
    // Speaks first: its banner comes with the proxy's own answer.
    let banner = TcpServer::start_at(world, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), |mut stream| {
        stream.write_all(b"220 banner.test\r\n").unwrap();
        // Until it has gone: nothing is asked of what it says.
        let mut said = [0; 6];
        stream.read_exact(&mut said).unwrap();
        stream.write_all(b"221 bye\r\n").unwrap();
    });
    let found = [
        ("api.test:443", tls.address()),
        ("spliced.test:443", tls.address()),
        ("plain.test:80", plain.address()),
        ("banner.test:2525", banner.address()),
        ("proxy.test:8443", proxy.address),
    ];
    let policy = format!(
        "version = 1\nallowed_hosts = [\"api.test\", \"plain.test\", \"spliced.test\", \"banner.test:2525\"]\n\
         tcp = [\"banner.test:2525\"]\n{}[[rules]]\nhost = \"spliced.test\"\nintercept = false\n{}{}",
        proxy_secret(world, proxy),
        world.upstream(&found),
        proxy.keys()
    );
    let mut gate = world.gate(&policy).attach();
    for arguments in [
        &["--http1.1", "https://api.test/one"][..],
        &["--http2", "https://api.test/two"],
        &["http://plain.test/three"],
    ] {
        curl(&gate, arguments).assert_success().assert_stdout("hello");
    }
    let ca = world.origin_ca_file().display().to_string();
    curl(&gate, &["--cacert", &ca, "https://spliced.test/four"]).assert_success().assert_stdout("hello");
    let read = gate.run([PYTHON, "-c", READ_BANNER]);
    assert_eq!(
        read.assert_success().stdout.split_whitespace().collect::<Vec<_>>().join(" "),
        "220 banner.test 221 bye"
    );

    for request in tls.requests().iter().chain(&plain.requests()) {
        assert!(request.header("proxy-authorization").is_empty(), "{request:?}");
    }
    assert_eq!((tls.requests().len(), plain.requests().len(), banner.connections()), (3, 1, 1));
    gate.wait_for_log(|line| line["host"] == "banner.test" && line["complete"] == true);
    gate.wait_for_log(|line| line["host"] == "spliced.test" && line["verdict"] == "allowed");
    let log = gate.log();
    let through = [("upstream", json!(proxy.address.to_string())), ("verdict", json!("allowed"))];
    assert_eq!(lines(&log, &through).len(), 5, "{log:#?}");
    assert!(!json!(log).to_string().contains(PASSWORD));
    for origin in [tls.address(), plain.address(), banner.address()] {
        wait_until(&format!("{origin} in what the proxy says"), Duration::from_secs(30), || {
            proxy.said().contains(&origin.to_string())
        });
    }
}

#[test]
fn everything_goes_through_an_http_proxy() {
    let world = World::new("tinyproxy");
    let proxy = tinyproxy(&world, 3128, "", &[]);
    everything_goes_through(&world, &proxy);
}

#[test]
fn everything_goes_through_a_socks_proxy() {
    let world = World::new("microsocks");
    let proxy = microsocks(&world, 1080);
    everything_goes_through(&world, &proxy);
}

#[test]
fn everything_goes_through_a_proxy_over_tls() {
    let world = World::new("proxy-tls");
    let proxy = tinyproxy_over_tls(&world, 8443);
    everything_goes_through(&world, &proxy);
}

#[test]
fn hosts_of_no_proxy_are_dialled() {
    let world = World::new("no-proxy");
    let proxy = tinyproxy(&world, 3128, "", &[]);
    let origin = Origin::start(&world, |_| Reply::text("hello"));
    let found = [("api.test:443", origin.address()), ("direct.corp.test:443", origin.address())];
    let policy = format!(
        "version = 1\nallowed_hosts = [\"api.test\", \"*.corp.test\"]\n{}{}{}no_proxy = [\"*.corp.test:443\"]\n",
        proxy_secret(&world, &proxy),
        world.upstream(&found),
        proxy.keys()
    );
    let mut gate = world.gate(&policy).attach();
    for host in ["api.test", "direct.corp.test"] {
        curl(&gate, &[&format!("https://{host}/")]).assert_success().assert_stdout("hello");
    }
    for (host, upstream) in [("api.test", proxy.address), ("direct.corp.test", origin.address())] {
        let line = gate.wait_for_log(|line| line["host"] == host && line["verdict"] == "allowed");
        assert_eq!(line["upstream"], json!(upstream.to_string()), "{line}");
    }
    assert_eq!(proxy.said().matches(&format!("CONNECT {}", origin.address())).count(), 1);
}

#[test]
fn names_are_resolved_and_checked_before_a_proxy_is_asked() {
    let world = World::new("proxy-checks");
    let proxy = tinyproxy(&world, 3128, "", &[]);
    let origin = hidden(&world, OriginConfig { port: 443, ..OriginConfig::default() });
    let dns = Dns::start(&world, &[("rebound.test", Ipv4Addr::LOCALHOST.into())]);
    let policy = format!(
        "version = 1\nallowed_hosts = [\"rebound.test\", \"127.0.0.1\"]\n{}{}{}dns = [\"{ORIGIN_IPV4}\"]\n",
        proxy_secret(&world, &proxy),
        world.upstream(&[]),
        proxy.keys()
    );
    let gate = world.gate(&policy).attach();
    let (status, body) = failure(&gate, "https://rebound.test/");
    assert_eq!((&*status, &body["reason"]), ("403", &json!("forbidden_address")), "{body}");
    assert!(dns.questions().iter().any(|question| question.starts_with("rebound.test")));
    origin.assert_untouched();
    assert!(!proxy.said().contains("CONNECT 127."), "{}", proxy.said());
}

#[test]
fn a_proxy_that_resolves_is_given_names() {
    let world = World::new("proxy-resolves");
    // Names that only the proxy knows.
    let hosts = world.file("hosts", "127.0.0.1 internal.corp.test\n").display().to_string();
    let with_hosts = format!("mount --bind {hosts} /etc/hosts && exec \"$@\"");
    let enter = ["unshare", "--mount", "sh", "-c", &with_hosts, "sh"];
    let proxy = tinyproxy(&world, 3128, "", &enter);
    let origin = hidden(&world, OriginConfig { port: 443, ..OriginConfig::default() });
    let policy = format!(
        "version = 1\nallowed_hosts = [\"internal.corp.test\", \"169.254.169.254\"]\n{}{}{}proxy_resolves = true\n",
        proxy_secret(&world, &proxy),
        world.upstream(&[]),
        proxy.keys()
    );
    let gate = world.gate(&policy).attach();
    curl(&gate, &["https://internal.corp.test/"]).assert_success().assert_stdout("hello");
    assert_eq!(origin.only_request().authority, "internal.corp.test");
    assert!(proxy.said().contains("CONNECT internal.corp.test:443"), "{}", proxy.said());
    // An address is one all the same.
    let (status, body) = failure(&gate, "http://169.254.169.254/");
    assert_eq!((&*status, &body["reason"]), ("403", &json!("forbidden_address")), "{body}");
}
