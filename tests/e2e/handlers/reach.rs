//! What a handler's fetch cannot reach: no more than the workload could.

use e2e::{Arrivals, Identity, Origin, OriginConfig, Reply, Site, World};
use serde_json::json;

use crate::support::{assert_answer, assert_line, assert_refused, curl, handler, public_origin, with_names};

/// Fetches the URL that the request's query names, and tries to get by with an answer of its own.
const FETCHES: &str =
    "try { return fetch(decode_uri(request.query)); } catch { return reply(200, \"caught\"); }";

#[test]
fn a_fetch_passes_the_two_lists() {
    let world = World::new("lists");
    let site = Site::start(&world);
    handler(&world, "fetches", FETCHES);
    let names = ["start.test", "allowed.test", "denied.test", "outside.test"];
    let text = "allowed_hosts = [\"start.test\", \"allowed.test\", \"denied.test\"]\n\
                denied_hosts = [\"denied.test\"]\noutbound = \"handlers/fetches.rhai\"";
    let policy = site.policy(&world, text, &names);
    let ask = |url: &str| world.run(&policy, curl(&[&format!("https://start.test/?{url}")]));
    for (url, reason) in [
        ("https://denied.test/", "denied_host"),
        ("http://DENIED.test./", "denied_host"),
        ("https://outside.test/", "not_in_allowed_hosts"),
        ("https://allowed.test:8443/", "not_in_allowed_hosts"),
        ("http://198.51.100.1/", "not_in_allowed_hosts"),
    ] {
        let outcome = ask(url);
        assert_refused(&outcome, reason);
        assert_line(outcome.only_exchange(), &json!({"verdict": "refused", "reason": reason}));
        let [fetch] = outcome.lines("fetch")[..] else { panic!("{outcome:#?}") };
        assert_line(fetch, &json!({"verdict": "refused", "reason": reason}));
    }
    site.assert_untouched();
    assert_answer(&ask("https://allowed.test/"), "origin: allowed.test");
    assert_answer(&ask("http://allowed.test/x"), "origin: allowed.test");
    assert_eq!(site.requests().len(), 2);
}

#[test]
fn a_fetch_reaches_no_private_address() {
    let world = World::new("private");
    handler(&world, "fetches", FETCHES);
    let plain = OriginConfig { port: 80, identity: Identity::Plain, ..OriginConfig::default() };
    let private = Origin::start_with(&world, plain, |_| Reply::text("private"));
    let public = public_origin(&world, "141.101.128.9");
    let names = [
        ("public.test", "141.101.128.9"),
        ("private.test", "10.77.0.2"),
        ("loopback.test", "127.0.0.1"),
        ("metadata.test", "169.254.169.254"),
        ("six.test", "fd77::2"),
    ];
    let (_dns, policy) = with_names(&world, "internet = true\noutbound = \"handlers/fetches.rhai\"", &names);
    let ask = |url: &str| world.run(&policy, curl(&["-g", &format!("http://start.test/?{url}")]));
    for url in [
        "http://127.0.0.1/",
        "http://127.0.0.1:8080/",
        "http://[::1]/",
        "http://0.0.0.0/",
        "http://10.77.0.2/",
        "http://10.77.0.1/",
        "http://[fd77::2]/",
        "http://[::ffff:10.77.0.2]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://198.18.0.1/",
        "http://private.test/",
        "http://loopback.test/",
        "http://metadata.test/",
        "http://six.test/",
    ] {
        let outcome = ask(url);
        assert_refused(&outcome, "forbidden_address");
        let [fetch] = outcome.lines("fetch")[..] else { panic!("{outcome:#?}") };
        assert_line(fetch, &json!({"verdict": "refused", "reason": "forbidden_address"}));
    }
    private.assert_untouched();
    assert_answer(&ask("http://public.test/"), "origin: public.test");
    assert_eq!(public.requests().len(), 1);
}

#[test]
fn a_fetch_speaks_http_only() {
    let world = World::new("schemes");
    handler(&world, "fetches", FETCHES);
    let policy = "version = 1\noutbound = \"handlers/fetches.rhai\"\n";
    for url in [
        "file:///etc/passwd",
        "unix:///run/x.sock",
        "ftp://public.test/",
        "gopher://public.test/",
        "/relative",
        "https://user:password@public.test/",
        "https://",
        "https://a%0d%0ab.test/",
    ] {
        assert_answer(&world.run(policy, curl(&[&format!("http://start.test/?{url}")])), "caught");
    }
    assert_eq!(world.arrivals(), Arrivals::default());
}

#[test]
fn a_fetch_runs_no_handler() {
    let world = World::new("recursion");
    let site = Site::start(&world);
    handler(&world, "again", "log(\"info\", \"ran\");\nfetch(\"https://h.test/again\")");
    let policy = site.policy(&world, "outbound = \"handlers/again.rhai\"", &["h.test"]);
    let outcome = world.run(&policy, curl(&["https://h.test/"]));
    assert_answer(&outcome, "origin: h.test");
    assert_eq!(outcome.lines("handler").len(), 1, "{outcome:#?}");
    assert_eq!(site.tls.only_request().path, "/again");
}

#[test]
fn headers_of_one_hop_and_of_framing_cannot_be_forged() {
    let world = World::new("framing");
    let site = Site::start(&world);
    let names = [
        "host",
        "Host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "proxy-connection",
    ];
    let tries: Vec<_> = names
        .iter()
        .map(|name| {
            format!(
                "try {{ request.set_header(\"{name}\", \"x\"); thrown.push(\"set {name}\") }} catch {{ }}\n"
            )
        })
        .collect();
    let values = ["a\\r\\nx-forged: yes", "a\\nb", "a\\x00b"];
    let bad: Vec<_> = values
        .iter()
        .map(|value| {
            format!("try {{ request.set_header(\"x-a\", \"{value}\"); thrown.push(\"took\") }} catch {{ }}\n")
        })
        .collect();
    handler(
        &world,
        "forges",
        &format!(
            "let thrown = [];\n{}{}fetch(request);\nreply(200, `${{thrown.len()}}`)",
            tries.concat(),
            bad.concat()
        ),
    );
    let policy = site.policy(&world, "outbound = \"handlers/forges.rhai\"", &["h.test"]);
    assert_answer(&world.run(&policy, curl(&["https://h.test/"])), "0");
    let received = site.tls.only_request();
    assert_eq!(received.authority, "h.test");
    assert_eq!(received.header("x-forged"), [""; 0]);
}
