//! Names with addresses of both families, in networks that have both, one, or a broken one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use e2e::{Attached, Dns, ORIGIN_IPV4, ORIGIN_IPV6, Origin, OriginConfig, Reply, World};
use serde_json::json;

use crate::support::{curl, failure};

/// Origins for every name at port 443 of both addresses, which say which family they were reached by.
fn origins(world: &World) -> [Origin; 2] {
    let at = |address: IpAddr, says: &'static str| {
        let config = OriginConfig { address, port: 443, ..OriginConfig::default() };
        Origin::start_with(world, config, move |_| Reply::text(says))
    };
    [at(ORIGIN_IPV4.into(), "by IPv4"), at(ORIGIN_IPV6.into(), "by IPv6")]
}

fn policy(world: &World, server: IpAddr, timeout_ms: u32) -> String {
    format!(
        "version = 1\nallowed_hosts = [\"*.api.test\"]\n{}dns = [\"{server}\"]\n\
         allow_ranges = [\"10.77.0.0/24\", \"fd77::/64\"]\nconnect_timeout_ms = {timeout_ms}\n",
        world.upstream(&[])
    )
}

fn names(dns: &Dns) {
    dns.set("both.api.test", &[ORIGIN_IPV4.into(), ORIGIN_IPV6.into()]);
    dns.set("four.api.test", &[ORIGIN_IPV4.into()]);
    dns.set("six.api.test", &[ORIGIN_IPV6.into()]);
}

/// Takes one family away from the gate's network.
fn without(world: &World, family: &str) {
    for what in ["addr", "route"] {
        world.gate_namespace().ip(&[family, what, "flush", "dev", "veth"]);
    }
}

/// How long the gate took to have a connection for this host, in milliseconds.
fn connect_ms(gate: &mut Attached<'_>, host: &str) -> f64 {
    let line = gate.wait_for_log(|line| line["host"] == host && line["verdict"] == "allowed");
    line["connect_ms"].as_f64().unwrap()
}

#[test]
fn n06_ipv6_is_preferred_where_both_work() {
    let world = World::new("both");
    let [four, six] = origins(&world);
    let dns = Dns::start(&world, &[]);
    names(&dns);
    let gate = world.gate(&policy(&world, ORIGIN_IPV4.into(), 5_000)).attach();
    for (url, says) in [
        ("https://both.api.test/", "by IPv6"),
        ("https://four.api.test/", "by IPv4"),
        ("https://six.api.test/", "by IPv6"),
    ] {
        curl(&gate, &[url]).assert_success().assert_stdout(says);
    }
    // The losers of a race are not left open, and nobody is dialled without need.
    assert_eq!((four.connections_seen().len(), six.connections_seen().len()), (1, 2));
}

#[test]
fn n06_ipv6_only_network() {
    let world = World::new("six");
    let _origins = origins(&world);
    let dns = Dns::start_at(&world, ORIGIN_IPV6.into(), &[]);
    names(&dns);
    without(&world, "-4");
    let mut gate = world.gate(&policy(&world, ORIGIN_IPV6.into(), 5_000)).attach();
    for host in ["both.api.test", "six.api.test"] {
        curl(&gate, &[&format!("https://{host}/")]).assert_success().assert_stdout("by IPv6");
    }
    // Whatever family the workload chose.
    for family in ["-4", "-6"] {
        curl(&gate, &[family, "https://both.api.test/"]).assert_success().assert_stdout("by IPv6");
    }
    assert!(connect_ms(&mut gate, "both.api.test") < 4_000.0);
    let (status, body) = failure(&gate, "https://four.api.test/");
    assert_eq!((&*status, &body["reason"]), ("502", &json!("connect_failed")), "{body}");
}

#[test]
fn n06_ipv4_only_network() {
    let world = World::new("four");
    let _origins = origins(&world);
    let dns = Dns::start(&world, &[]);
    names(&dns);
    without(&world, "-6");
    let mut gate = world.gate(&policy(&world, ORIGIN_IPV4.into(), 5_000)).attach();
    for host in ["both.api.test", "four.api.test"] {
        curl(&gate, &[&format!("https://{host}/")]).assert_success().assert_stdout("by IPv4");
    }
    for family in ["-4", "-6"] {
        curl(&gate, &[family, "https://both.api.test/"]).assert_success().assert_stdout("by IPv4");
    }
    assert!(connect_ms(&mut gate, "both.api.test") < 4_000.0);
    let (status, body) = failure(&gate, "https://six.api.test/");
    assert_eq!((&*status, &body["reason"]), ("502", &json!("connect_failed")), "{body}");
}

/// Drops what comes to these addresses of the origin namespace at port 443, as a black hole does.
fn swallow(world: &World, rule: &str) {
    world.origin_namespace().nft(&[&format!(
        "table inet hole {{\n chain in {{\n type filter hook input priority 0; policy accept;\n {rule}\n }}\n}}"
    )]);
}

#[test]
fn n13_a_black_hole_in_one_family_costs_a_quarter_of_a_second() {
    let world = World::new("hole");
    let [four, _six] = origins(&world);
    let dns = Dns::start(&world, &[]);
    names(&dns);
    swallow(&world, "meta nfproto ipv6 tcp dport 443 drop;");
    let mut gate = world.gate(&policy(&world, ORIGIN_IPV4.into(), 5_000)).attach();
    curl(&gate, &["https://both.api.test/"]).assert_success().assert_stdout("by IPv4");
    let took = connect_ms(&mut gate, "both.api.test");
    assert!((250.0..4_000.0).contains(&took), "{took} ms");
    assert_eq!(four.connections_seen().len(), 1);
}

#[test]
fn n05_a_refusal_in_one_family_is_not_waited_for() {
    let world = World::new("refusal");
    let _origins = origins(&world);
    let dns = Dns::start(&world, &[]);
    names(&dns);
    swallow(&world, "meta nfproto ipv6 tcp dport 443 reject with tcp reset;");
    let mut gate = world.gate(&policy(&world, ORIGIN_IPV4.into(), 5_000)).attach();
    curl(&gate, &["https://both.api.test/"]).assert_success().assert_stdout("by IPv4");
    assert!(connect_ms(&mut gate, "both.api.test") < 4_000.0);
}

#[test]
fn n13_black_holes_in_both_families_end_at_the_deadline() {
    let world = World::new("holes");
    let _origins = origins(&world);
    let dns = Dns::start(&world, &[]);
    names(&dns);
    swallow(&world, "tcp dport 443 drop;");
    let mut gate = world.gate(&policy(&world, ORIGIN_IPV4.into(), 1_000)).attach();
    let (status, body) = failure(&gate, "https://both.api.test/");
    assert_eq!((&*status, &body["reason"]), ("504", &json!("connect_timeout")), "{body}");
    let line = gate.wait_for_log(|line| line["reason"] == "connect_timeout");
    let took = Duration::from_secs_f64(line["duration_ms"].as_f64().unwrap() / 1_000.0);
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_forbidden_address_among_several_is_never_dialled() {
    let world = World::new("mixed");
    let inside = OriginConfig { address: ORIGIN_IPV6.into(), port: 443, ..OriginConfig::default() };
    let inside = Origin::start_with(&world, inside, |_| Reply::text("inside"));
    let public: SocketAddr = "141.101.128.9:443".parse().unwrap();
    world.add_origin_address(public.ip());
    let config = OriginConfig { address: public.ip(), port: 443, ..OriginConfig::default() };
    let outside = Origin::start_with(&world, config, |_| Reply::text("outside"));
    let dns = Dns::start(&world, &[]);
    // The forbidden one would come first.
    dns.set("mixed.api.test", &[ORIGIN_IPV6.into(), public.ip()]);
    let document = format!(
        "version = 1\nallowed_hosts = [\"*.api.test\"]\n{}dns = [\"{ORIGIN_IPV4}\"]\n",
        world.upstream(&[])
    );
    let mut gate = world.gate(&document).attach();
    curl(&gate, &["https://mixed.api.test/"]).assert_success().assert_stdout("outside");
    assert_eq!((outside.requests().len(), inside.connections_seen().len()), (1, 0));
    let allowed = gate.wait_for_log(|line| line["verdict"] == "allowed");
    assert_eq!(allowed["upstream"], json!(public.to_string()));
}
