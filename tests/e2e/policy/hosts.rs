//! Which hosts a policy lets through, refuses and does not know, and from which moment on.

use e2e::{Arrivals, Dns, ORIGIN_IPV4, World};
use serde_json::json;

use crate::support::{
    PublicSite, Site, assert_line, assert_passed, assert_refused, curl, public_policy, shown, sluicegate,
};

#[test]
fn p01_denied_host_is_refused() {
    let world = World::new("p01");
    let site = Site::start(&world);
    let policy =
        site.policy(&world, "internet = true\ndenied_hosts = [\"denied.com\"]", &["denied.com", "other.com"]);
    for url in
        ["http://denied.com", "https://denied.com/", "http://denied.com:8080/x?y=z", "https://DENIED.com"]
    {
        for method in ["GET", "POST", "PROPFIND"] {
            let outcome = world.run(&policy, curl(&["-X", method, url]));
            assert_refused(&outcome, "denied.com", "denied_host");
            assert_eq!(outcome.only_exchange()["method"], method);
        }
    }
    site.assert_untouched();
    assert_passed(&world.run(&policy, curl(&["https://other.com/"])), "other.com");
}

#[test]
fn p02_host_outside_the_allow_list_is_refused() {
    let world = World::new("p02");
    let site = Site::start(&world);
    let policy = site.policy(&world, "allowed_hosts = [\"allowed.com\"]", &["allowed.com", "random.com"]);
    for (url, host) in [
        ("http://random.com", "random.com"),
        ("https://random.com/", "random.com"),
        // An allowed name means the ports of its scheme and no others.
        ("http://allowed.com:8080/", "allowed.com"),
    ] {
        assert_refused(&world.run(&policy, curl(&[url])), host, "not_in_allowed_hosts");
    }
    site.assert_untouched();
    assert_passed(&world.run(&policy, curl(&["http://allowed.com/"])), "allowed.com");
}

#[test]
fn p05_denial_wins_over_allowance() {
    let world = World::new("p05");
    let site = Site::start(&world);
    let rule = "\n[[rules]]\nhost = \"both.com\"";
    for (allowance, rule) in [("allowed_hosts = [\"both.com\"]", ""), ("internet = true", rule)] {
        let denied = format!("{allowance}\ndenied_hosts = [\"both.com\"]{rule}");
        for url in ["http://both.com/", "https://both.com/"] {
            let outcome = world.run(&site.policy(&world, &denied, &["both.com"]), curl(&[url]));
            assert_refused(&outcome, "both.com", "denied_host");
        }
        site.assert_untouched();
    }
    let policy = site.policy(&world, "allowed_hosts = [\"both.com\"]", &["both.com"]);
    assert_passed(&world.run(&policy, curl(&["https://both.com/"])), "both.com");
}

#[test]
fn p08_suffix_pattern_leaves_the_apex_out() {
    let world = World::new("p08");
    let site = Site::start(&world);
    let names = ["globtest.com", "evilglobtest.com", "api.globtest.com", "a.b.globtest.com"];
    let policy = site.policy(&world, "allowed_hosts = [\"*.globtest.com\"]", &names);
    for host in ["globtest.com", "evilglobtest.com"] {
        for scheme in ["http", "https"] {
            let outcome = world.run(&policy, curl(&[&format!("{scheme}://{host}/")]));
            assert_refused(&outcome, host, "not_in_allowed_hosts");
        }
    }
    site.assert_untouched();
    for host in ["api.globtest.com", "a.b.globtest.com"] {
        assert_passed(&world.run(&policy, curl(&[&format!("https://{host}/")])), host);
    }
}

#[test]
fn p09_trailing_dot_and_case_do_not_get_round_a_denial() {
    let world = World::new("p09");
    let site = Site::start(&world);
    for pattern in ["h.test", "H.Test."] {
        let text = format!("internet = true\ndenied_hosts = [\"{pattern}\"]");
        let policy = site.policy(&world, &text, &["h.test"]);
        for url in ["http://h.test./", "https://h.test./", "http://H.TEST/", "https://H.tEsT./"] {
            assert_refused(&world.run(&policy, curl(&[url])), "h.test", "denied_host");
        }
        // Clients mend the host that they send; these bytes are as they stand.
        for host in ["h.test.", "H.TEST.", "h.test.:80", "H.test:80"] {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let outcome = world
                .gate(&policy)
                .job(["/usr/bin/python3", "-c", SEND, "h.test", "80"])
                .stdin(request)
                .run();
            outcome.assert_success();
            assert!(outcome.stdout.starts_with("HTTP/1.1 403 "), "{outcome:?}");
            assert_line(
                outcome.only_exchange(),
                &json!({"verdict": "refused", "reason": "denied_host", "host": "h.test"}),
            );
        }
    }
    site.assert_untouched();
}

#[test]
fn p15_allowed_host_answers() {
    let world = World::new("p15");
    let site = Site::start(&world);
    let policy = site.policy(&world, "internet = false\nallowed_hosts = [\"allowed.com\"]", &["allowed.com"]);
    for (number, url) in ["http://allowed.com/a", "https://allowed.com/a"].into_iter().enumerate() {
        assert_passed(&world.run(&policy, curl(&[url])), "allowed.com");
        assert_eq!(site.requests().len(), number + 1);
    }
}

#[test]
fn p16_internet_on_reaches_what_nothing_names() {
    let world = World::new("p16");
    let public = PublicSite::start(&world, "141.101.128.9");
    let dns = Dns::start(&world, &[("anything.test", public.address)]);
    let policy = public_policy("internet = true");
    assert_passed(&world.run(&policy, curl(&["http://anything.test/"])), "anything.test");
    assert_passed(&world.run(&policy, curl(&["http://141.101.128.9/"])), "141.101.128.9");
    assert_eq!(public.origin.requests().len(), 2);
    assert!(dns.questions().contains(&"anything.test A".to_owned()), "{:?}", dns.questions());
}

#[test]
fn p17_nothing_said_is_nothing_allowed() {
    let world = World::new("p17");
    let site = Site::start(&world);
    for text in ["", "internet = false"] {
        for url in ["http://any.test/", "https://any.test/"] {
            let outcome = world.run(&site.policy(&world, text, &["any.test"]), curl(&[url]));
            assert_refused(&outcome, "any.test", "not_named");
        }
    }
    for url in ["http://any.test/", "https://any.test/"] {
        let outcome = world.run("", curl(&[url]));
        assert_refused(&outcome, "any.test", "not_named");
        assert!(outcome.stderr.contains("everything is refused"), "{outcome:?}");
    }
    site.assert_untouched();
    assert_eq!(world.arrivals(), Arrivals::default());
}

#[test]
fn p18_empty_allow_list_allows_nothing_and_says_so() {
    let world = World::new("p18");
    let site = Site::start(&world);
    let text = "internet = true\nallowed_hosts = []\n[[rules]]\nhost = \"ruled.test\"";
    let policy = site.policy(&world, text, &["any.test", "ruled.test"]);
    for host in ["any.test", "ruled.test"] {
        for scheme in ["http", "https"] {
            let outcome = world.run(&policy, curl(&[&format!("{scheme}://{host}/")]));
            assert_refused(&outcome, host, "not_in_allowed_hosts");
            assert!(outcome.stderr.contains("`allowed_hosts` is empty"), "{outcome:?}");
        }
    }
    site.assert_untouched();
    let checked = sluicegate(&world, &["policy", "check", shown(&world.file("p18.toml", &policy))]);
    checked.assert_success();
    assert!(checked.stderr.contains("p18.toml:3:17: warning: `allowed_hosts` is empty"), "{checked:?}");
}

#[test]
fn p19_patterns_match_in_any_case() {
    let world = World::new("p19");
    let site = Site::start(&world);
    let policy = site.policy(&world, "allowed_hosts = [\"Example.COM\"]", &["example.com"]);
    for url in ["http://example.com/", "https://example.com/", "https://EXAMPLE.com/"] {
        assert_passed(&world.run(&policy, curl(&[url])), "example.com");
    }
    assert_eq!(site.requests().len(), 3);
}

#[test]
fn p20_patterns_that_match_too_much_are_refused_with_a_hint() {
    let world = World::new("p20");
    for (pattern, hint) in
        [("google.*", "name each host"), ("*github.com", "*.github.com"), ("*.com", "*.example.com")]
    {
        for list in ["allowed_hosts", "denied_hosts"] {
            if (pattern, list) == ("*.com", "denied_hosts") {
                continue; // Denying a whole top-level domain is no mistake.
            }
            let document = format!("version = 1\n{list} = [\"{pattern}\"]\n");
            let checked = sluicegate(&world, &["policy", "check", shown(&world.file("p20.toml", &document))]);
            assert_eq!(checked.code(), 78, "{checked:?}");
            for part in ["p20.toml:2:", pattern, hint] {
                assert!(checked.stderr.contains(part), "no {part:?}: {checked:?}");
            }
            let outcome = world.run(&document, ["touch", "started"]);
            assert_eq!(outcome.code(), 78, "{outcome:?}");
            assert!(!world.home().join("started").exists(), "the command ran without a policy");
        }
    }
    // What is written for these two by the book names nobody else's hosts.
    let site = Site::start(&world);
    let names = ["google.attacker.test", "evilgithub.com", "api.github.com"];
    let policy = site.policy(&world, "allowed_hosts = [\"*.github.com\", \"google.com\"]", &names);
    for host in ["google.attacker.test", "evilgithub.com"] {
        let outcome = world.run(&policy, curl(&[&format!("https://{host}/")]));
        assert_refused(&outcome, host, "not_in_allowed_hosts");
    }
    site.assert_untouched();
    assert_passed(&world.run(&policy, curl(&["https://api.github.com/"])), "api.github.com");
}

#[test]
fn p21_denied_range_is_refused_by_address_and_by_name() {
    let world = World::new("p21");
    let inside = PublicSite::start(&world, "141.101.64.9");
    let outside = PublicSite::start(&world, "141.101.128.9");
    let names =
        [("inside.test", inside.address), ("outside.test", outside.address), ("mixed.test", outside.address)];
    let dns = Dns::start(&world, &names);
    dns.set("mixed.test", &[outside.address, inside.address]);
    let policy = public_policy("internet = true\ndenied_hosts = [\"141.101.64.0/18\"]");
    for (url, host) in [
        ("http://141.101.64.9/", "141.101.64.9"),
        ("http://[::ffff:141.101.64.9]/", "141.101.64.9"),
        ("http://inside.test/", "inside.test"),
        ("http://mixed.test/", "mixed.test"),
    ] {
        assert_refused(&world.run(&policy, curl(&[url])), host, "denied_host");
    }
    assert_eq!(world.arrivals().tcp_connections, 0);
    for (url, host) in [("http://141.101.128.9/", "141.101.128.9"), ("http://outside.test/", "outside.test")]
    {
        assert_passed(&world.run(&policy, curl(&[url])), host);
    }
    assert!(inside.origin.connections_seen().is_empty());
}

#[test]
fn h03_policy_stands_before_the_first_packet() {
    let world = World::new("h03");
    let site = Site::start(&world);
    let _dns = Dns::start(&world, &[("denied.test", ORIGIN_IPV4.into())]);
    let policy = site.policy(&world, "allowed_hosts = [\"allowed.test\"]", &["allowed.test", "denied.test"]);
    let before = world.arrivals();
    let origin = site.plain.address();
    // The origin is one hop away from the gate, and the first thing that each of these does is a packet.
    let direct = format!(
        "exec 3<>/dev/tcp/{}/{} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3",
        origin.ip(),
        origin.port()
    );
    let datagram = format!("printf x >/dev/udp/{}/53", origin.ip());
    for _ in 0..5 {
        assert_refused(
            &world.run(&policy, curl(&["https://denied.test/"])),
            "denied.test",
            "not_in_allowed_hosts",
        );
        let outcome = world.run(&policy, ["bash", "-c", &direct]);
        assert!(outcome.stdout.starts_with("HTTP/1.0 403"), "{outcome:?}");
        assert_line(
            outcome.only_exchange(),
            &json!({"verdict": "refused", "reason": "not_in_allowed_hosts"}),
        );
        world.run(&policy, ["bash", "-c", &datagram]);
    }
    site.assert_untouched();
    assert_eq!(world.arrivals(), before, "something left before the policy stood");
    assert_passed(&world.run(&policy, curl(&["https://allowed.test/"])), "allowed.test");
}

/// Sends standard input to a host and port, and prints what comes back.
const SEND: &str = "
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as connection:
    connection.sendall(sys.stdin.buffer.read())
    while data := connection.recv(65536):
        sys.stdout.buffer.write(data)
";
