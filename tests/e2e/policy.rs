//! What a policy decides, where its secrets go, what the workload can see of both, and what the log tells.
#![cfg(test)]

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use e2e::{
    Arrivals, Dns, Gate, Identity, ORIGIN_IPV4, Origin, OriginConfig, Outcome, Received, Reply, World,
    assert_token_absent, new_token, with_token_scan,
};
use serde_json::{Value, json};

// Hosts

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

#[test]
fn w11_redirect_goes_back_to_the_workload_without_the_credential() {
    let world = World::new("w11");
    let token = new_token();
    let site = Site::answering(&world, |request| match (request.authority.as_str(), request.path.as_str()) {
        ("first.test", "/allowed") => Reply::new(301, "moved").header("location", "https://second.test/here"),
        ("first.test", _) => Reply::new(301, "moved").header("location", "https://denied.test/here"),
        (host, _) => Reply::text(format!("origin: {host}")),
    });
    let text = "
allowed_hosts = [\"first.test\", \"second.test\"]
[secrets.TOKEN]
source = \"env://TOKEN\"
hosts = [\"first.test\"]
[[rules]]
host = \"first.test\"
set_headers = { authorization = \"Bearer ${secret:TOKEN}\" }";
    let policy = site.policy(&world, text, &["first.test", "second.test", "denied.test"]);
    let run = |arguments: &[&str]| world.gate(&policy).env("TOKEN", &token).run(curl(arguments));

    let outcome = run(&["-w", "%{http_code} %{redirect_url}", "https://first.test/allowed"]);
    outcome.assert_success().assert_stdout("moved301 https://second.test/here");
    let bearer = format!("Bearer {token}");
    assert_eq!(site.tls.only_request().header("authorization"), [&bearer]);

    let outcome = run(&["-L", "https://first.test/allowed"]);
    assert_eq!(answer(&outcome).0, "origin: second.test", "{outcome:?}");
    let requests = site.requests();
    assert_eq!(requests.len(), 3, "{requests:#?}");
    let (first, second) = (&requests[1], &requests[2]);
    assert_eq!(first.header("authorization"), [&bearer]);
    assert_eq!((second.authority.as_str(), second.header("authorization")), ("second.test", vec![]));
    let credentials: Vec<_> =
        outcome.lines("exchange").iter().map(|line| line["credentials"].clone()).collect();
    assert_eq!(credentials, [json!(["TOKEN"]), Value::Null]);

    let outcome = run(&["-L", "https://first.test/denied"]);
    assert!(outcome.stdout.ends_with("\n403 not_in_allowed_hosts"), "{outcome:?}");
    assert_eq!(site.requests().len(), 4, "the refused half reached the origin");
}

// Credentials

/// A way to put a credential on, and how the origin sees it.
struct Slot {
    name: &'static str,
    rule: &'static str,
    seen: fn(&Received, &str) -> bool,
}

const SLOTS: [Slot; 3] = [
    Slot {
        name: "header",
        rule: "set_headers = { authorization = \"Bearer ${secret:TOKEN}\" }",
        seen: |request, token| request.header("authorization") == [format!("Bearer {token}")],
    },
    Slot {
        name: "query",
        rule: "set_query = { key = \"${secret:TOKEN}\" }",
        seen: |request, token| {
            let (_, query) = request.path.split_once('?').unwrap_or_default();
            let keys: Vec<_> = query
                .split('&')
                .filter(|part| part.starts_with("key=") || part.starts_with("k%65y="))
                .collect();
            keys == [format!("key={token}")] && query.contains("other=1")
        },
    },
    Slot {
        name: "basic",
        rule: "basic_auth = { username = \"robot\", password = \"${secret:TOKEN}\" }",
        seen: |request, token| {
            request.header("authorization") == [format!("Basic {}", BASE64.encode(format!("robot:{token}")))]
        },
    },
];

#[test]
fn c01_token_reaches_the_origin_and_nobody_else() {
    let world = World::new("c01");
    for slot in SLOTS {
        for source in ["env", "file"] {
            let site = Site::start(&world);
            let token = new_token();
            let policy = site.credential_policy(&world, source, slot.rule, "");
            let basic = BASE64.encode(format!("robot:{token}"));
            let needles = [token.as_str(), basic.as_str()];
            let command = with_token_scan(&world, &needles, curl(&["https://api.test/x?other=1"]));
            let outcome = credential_gate(&world, &policy, source, &token).run(command);
            let shown = format!("{} from {source}: {outcome:?}", slot.name);
            assert_eq!(answer(&outcome).0, "origin: api.test", "{shown}");
            let request = site.tls.only_request();
            assert!((slot.seen)(&request, &token), "{shown}: the origin saw {request:#?}");
            assert_eq!(outcome.only_exchange()["credentials"], json!(["TOKEN"]), "{shown}");
            assert_token_absent(&world, &outcome, &needles);
        }
    }
}

#[test]
fn c02_own_credential_of_the_workload_is_replaced() {
    let world = World::new("c02");
    let own = [
        &["-H", "Authorization: Bearer mine"][..],
        &["-H", "authorization: one", "-H", "AUTHORIZATION: two"],
        &["-u", "me:mine"],
        // Naming it hop by hop must not take the real one off again.
        &["-H", "Authorization: mine", "-H", "Connection: authorization"],
    ];
    for slot in SLOTS {
        for own in own {
            for version in ["--http1.1", "--http2"] {
                let site = Site::start(&world);
                let token = new_token();
                let policy = site.credential_policy(&world, "env", slot.rule, "");
                let url = "https://api.test/x?key=mine&other=1&key=again&k%65y=third&key";
                let arguments = [own, &[version, url]].concat();
                let outcome = credential_gate(&world, &policy, "env", &token).run(curl(&arguments));
                let shown = format!("{} {arguments:?}: {outcome:?}", slot.name);
                outcome.assert_success();
                let request = site.tls.only_request();
                assert!((slot.seen)(&request, &token), "{shown}: the origin saw {request:#?}");
            }
        }
    }
}

#[test]
fn c03_no_token_over_plain_http() {
    let world = World::new("c03");
    for slot in SLOTS {
        let site = Site::start(&world);
        let token = new_token();
        let run = |more: &str, url: &str| {
            let policy = site.credential_policy(&world, "env", slot.rule, more);
            credential_gate(&world, &policy, "env", &token).run(curl(&[url]))
        };
        let outcome = run("", "http://api.test/x?other=1");
        assert_refused(&outcome, "api.test", "secret_over_plain_http");
        assert_eq!(outcome.only_exchange()["credentials"], Value::Null, "{outcome:?}");
        site.assert_untouched();
        assert_passed(&run("", "https://api.test/x?other=1"), "api.test");
        // Whoever means it can have it.
        assert_passed(&run("plaintext = true", "http://api.test/x?other=1"), "api.test");
        assert!((slot.seen)(&site.plain.only_request(), &token), "{}", slot.name);
    }
}

#[test]
fn c04_rotated_secret_is_used_by_the_next_request() {
    let world = World::new("c04");
    let site = Site::start(&world);
    let tokens = [new_token(), new_token(), new_token()];
    let policy =
        site.credential_policy(&world, "file", SLOTS[0].rule, "").replace("secrets/token", "vault/token");
    let file = world.file("vault/token", &tokens[0]);
    let gate = world.gate(&policy).attach();
    let fetch = || gate.run(curl(&["https://api.test/"]));
    fetch().assert_success();
    world.file("vault/token", &tokens[1]);
    fetch().assert_success();
    fs::rename(world.file("vault/token.new", &tokens[2]), &file).unwrap();
    fetch().assert_success();
    assert_eq!(bearers(&site), tokens);

    // Without a value there is no request.
    fs::remove_file(&file).unwrap();
    assert_eq!(answer(&fetch()).1, "503 secret_unavailable");
    assert_eq!(bearers(&site), tokens);
}

#[test]
fn c04_secret_written_anew_stays_hidden_from_the_workload() {
    let world = World::new("c04-written");
    assert_rotation_is_hidden(&world, |token| drop(world.secret_file("token", token)));
}

#[test]
fn c04_secret_replaced_by_a_rename_stays_hidden_from_the_workload() {
    let world = World::new("c04-renamed");
    assert_rotation_is_hidden(&world, |token| {
        fs::rename(world.secret_file("token.new", token), world.path("secrets/token")).unwrap();
    });
}

/// Fails unless a workload that runs on while its secret is rotated gets the new one at the origin,
/// and reads nothing in the file.
#[track_caller]
fn assert_rotation_is_hidden(world: &World, rotate: impl Fn(&str)) {
    let site = Site::start(world);
    let tokens = [new_token(), new_token()];
    let policy = site.credential_policy(world, "file", SLOTS[0].rule, "");
    let script = "for turn in 1 2; do curl -sS -o /dev/null https://api.test/; cat \"$0\"; echo done $turn; read -r _; done";
    let gate = credential_gate(world, &policy, "file", &tokens[0]);
    let mut running = gate.job(["sh", "-c", script, shown(&world.path("secrets/token"))]).spawn();
    running.wait_for_output("done 1\n");
    rotate(&tokens[1]);
    running.write("\n");
    running.wait_for_output("done 2\n");
    let outcome = running.wait();
    assert_eq!(bearers(&site), tokens, "{outcome:?}");
    outcome.assert_stdout("done 1\ndone 2\n");
}

/// The tokens that the TLS origin was shown, in order.
fn bearers(site: &Site) -> Vec<String> {
    let headers = |request: &Received| request.header("authorization").join(",");
    site.tls.requests().iter().map(|request| headers(request).replace("Bearer ", "")).collect()
}

#[test]
fn secret_goes_to_no_other_host() {
    let world = World::new("bound");
    let site = Site::start(&world);
    let text = "
internet = true
[secrets.TOKEN]
source = \"env://TOKEN\"
hosts = [\"api.test\"]
[[rules]]
host = \"*.test\"
set_headers = { authorization = \"Bearer ${secret:TOKEN}\" }";
    let policy = site.policy(&world, text, &["api.test", "other.test"]);
    let outcome = world.gate(&policy).env("TOKEN", &new_token()).run(curl(&["https://other.test/"]));
    assert_eq!(outcome.code(), 78, "{outcome:?}");
    for part in ["TOKEN is not bound", "add \"*.test\" to `hosts`"] {
        assert!(outcome.stderr.contains(part), "no {part:?}: {outcome:?}");
    }
    site.assert_untouched();
}

#[test]
fn secret_that_is_missing_keeps_the_command_from_starting() {
    let world = World::new("missing");
    let site = Site::start(&world);
    for source in ["env", "file"] {
        let policy = site.credential_policy(&world, source, SLOTS[0].rule, "");
        let outcome = world.gate(&policy).run(["touch", "started"]);
        assert_eq!(outcome.code(), 78, "{outcome:?}");
        assert!(outcome.stderr.contains("secret TOKEN") && outcome.stderr.contains("hint: "), "{outcome:?}");
        assert!(!world.home().join("started").exists(), "it ran without its secret");
    }
}

#[test]
fn secret_variable_is_absent_from_the_workload() {
    let world = World::new("variable");
    let site = Site::start(&world);
    let token = new_token();
    let policy = site.credential_policy(&world, "env", SLOTS[0].rule, "");
    let script = "env; tr '\\0' '\\n' </proc/self/environ; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; true";
    let gate = world.gate(&policy).env("TOKEN", &token).env("HARMLESS", "kept");
    let outcome = gate.run(["sh", "-c", script]);
    outcome.assert_success();
    assert!(outcome.stdout.matches("HARMLESS=kept").count() >= 2, "{outcome:?}");
    assert!(!outcome.stdout.contains("TOKEN") && !outcome.stdout.contains(&token), "{outcome:?}");
}

#[test]
fn secret_file_reads_as_empty_in_the_workload() {
    let world = World::new("hidden");
    let site = Site::start(&world);
    let token = new_token();
    let policy = site.credential_policy(&world, "file", SLOTS[0].rule, "");
    let attempts = "
cat \"$0\"; cp \"$0\" copy; cat copy; ln \"$0\" link; cat link
echo forged >\"$0\"; rm -f \"$0\"; mv \"$0\" moved; cat moved; umount \"$0\"
unshare -Urm sh -c 'umount \"$0\"; cat \"$0\"; mkdir bound; mount --bind \"$(dirname \"$0\")\" bound; cat bound/*' \"$0\"
cat \"$0\" | wc -c";
    let file = world.path("secrets/token");
    let gate = credential_gate(&world, &policy, "file", &token);
    let outcome = gate.run(["sh", "-c", attempts, shown(&file)]);
    outcome.assert_success();
    assert_eq!(outcome.stdout, "0\n", "{outcome:?}");
    assert_eq!(fs::read_to_string(file).unwrap(), token);
    // The same commands do read it where no gate hides it.
    let outcome = world.job(world.gate_namespace(), ["cat", shown(&world.path("secrets/token"))]).run();
    assert_eq!(outcome.stdout, token);
}

#[test]
fn policy_document_is_read_only_for_the_workload() {
    let world = World::new("document");
    let text = "version = 1\ninternet = false\n";
    let document = world.home_file("sluicegate.toml", text);
    let attempts = "
echo 'internet = true' >>\"$0\"; echo >\"$0\"; chmod 666 \"$0\"; rm -f \"$0\"; mv \"$0\" \"$0.old\"
echo other >new; mv -f new \"$0\"; sed -i s/false/true/ \"$0\"; umount \"$0\"; unshare -Urm umount \"$0\"
unshare -Urm sh -c 'mount -o remount,rw,bind \"$0\"; echo >>\"$0\"' \"$0\"
cat \"$0\"";
    let gate = world.gate("").flag("--policy").flag(shown(&document));
    let outcome = gate.run(["sh", "-c", attempts, shown(&document)]);
    outcome.assert_success().assert_stdout(text);
    assert_eq!(fs::read_to_string(&document).unwrap(), text);
    // It is the workload's own file: without the gate it gives way.
    world.job(world.gate_namespace(), ["rm", shown(&document)]).run().assert_success();
}

#[test]
fn log_is_out_of_the_workloads_reach() {
    let world = World::new("reach");
    let attempts = "
curl -sS -o /dev/null http://refused.test/
cat \"$0\"; echo forged >>\"$0\"; truncate -s 0 \"$0\"; rm -f \"$0\"; mv \"$0\" moved; cat moved
echo other >new; mv -f new \"$0\"; chmod 666 \"$0\"; unshare -Urm sh -c 'umount \"$0\"; umount \"$(dirname \"$0\")\"; cat \"$0\"; rm -f \"$0\"' \"$0\"
ls -A \"$(dirname \"$0\")\" | grep -v \"$(basename \"$0\")\" | grep jsonl
true";
    let state = world.home().join(".local/state/sluicegate");
    for log in [world.home().join("named.jsonl"), state.join("box-1.jsonl")] {
        let line = [world.program("sluicegate"), "run".to_owned(), "--name".to_owned(), "box-1".to_owned()];
        let named = (!log.starts_with(&state)).then(|| ["--log".to_owned(), shown(&log).to_owned()]);
        let workload = ["--", "sh", "-c", attempts, shown(&log)].map(str::to_owned);
        let line = line.into_iter().chain(named.into_iter().flatten()).chain(workload);
        let outcome = world.job(world.gate_namespace(), line).run();
        outcome.assert_success().assert_stdout("");
        assert!(outcome.stderr.contains(shown(&log)), "it does not say where the log is: {outcome:?}");
        let verified = sluicegate(&world, &["log", "verify", "--closed", "--log", shown(&log)]);
        verified.assert_success();
        let records = read_lines(&log);
        assert_eq!(records.iter().filter(|line| line["kind"] == "exchange").count(), 1, "{records:#?}");
        world.job(world.gate_namespace(), ["rm", shown(&log)]).run().assert_success();
    }
}

// Observability

#[test]
fn o01_every_request_is_one_record() {
    let world = World::new("o01");
    let site = Site::start(&world);
    let token = new_token();
    let text = "
[secrets.TOKEN]
source = \"env://TOKEN\"
hosts = [\"modified.test\"]
[[rules]]
name = \"plain\"
host = [\"allowed.test\", \"failed.test\"]
[[rules]]
name = \"with token\"
host = \"modified.test\"
set_headers = { authorization = \"Bearer ${secret:TOKEN}\" }
[[rules]]
name = \"fixed\"
host = \"answered.test\"
respond = { status = 418, body = \"teapot\" }";
    let policy = site.policy(&world, text, &["allowed.test", "modified.test", "refused.test"]);
    let policy =
        policy.replace("resolve = { ", &format!("resolve = {{ \"failed.test:443\" = \"{ORIGIN_IPV4}:1\", "));
    let script = "for host in allowed modified refused failed answered; do curl -sS -o /dev/null --http1.1 -d 12345 \"https://$host.test/path?q=$0\"; done";
    let outcome = world.gate(&policy).env("TOKEN", &token).flag("--name").flag("box-7").run([
        "sh",
        "-c",
        script,
        "query-value",
    ]);
    outcome.assert_success();

    let records = outcome.lines("exchange");
    assert_eq!(records.len(), 5, "{outcome:?}");
    let upstream = site.tls.address().to_string();
    let expected = [
        json!({"host": "allowed.test", "verdict": "allowed", "status": 200, "rule": "plain", "upstream": upstream, "upstream_status": 200, "response_bytes": 20, "credentials": null, "reason": null}),
        json!({"host": "modified.test", "verdict": "allowed", "status": 200, "rule": "with token", "upstream": upstream, "credentials": ["TOKEN"], "response_bytes": 21}),
        json!({"host": "refused.test", "verdict": "refused", "status": 403, "reason": "not_named", "rule": null, "upstream": null}),
        json!({"host": "failed.test", "verdict": "failed", "status": 502, "reason": "connect_failed", "rule": "plain"}),
        json!({"host": "answered.test", "verdict": "answered", "status": 418, "rule": "fixed", "upstream": null, "response_bytes": 6}),
    ];
    for (record, expected) in records.iter().zip(&expected) {
        assert_line(record, expected);
        assert_common_fields(record);
    }
    for record in &records[..2] {
        assert_line(record, &json!({"request_bytes": 5, "complete": true, "upstream_version": "HTTP/2"}));
    }
    assert_eq!(bearers(&site), ["", &token]);
    let all = outcome.log.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains(&token) && !all.contains("query-value"), "{outcome:?}");
    let order: Vec<_> = outcome.log.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(order, (1..=outcome.log.len() as u64).collect::<Vec<_>>());
}

/// What a record of an exchange over TLS has whatever became of it.
fn assert_common_fields(record: &Value) {
    let port = json!({"kind": "exchange", "instance": "box-7", "scheme": "https", "method": "POST", "path": "/path", "port": 443});
    assert_line(record, &port);
    assert_line(record, &json!({"sni": record["host"], "client_version": "HTTP/1.1", "tls": "TLSv1_3"}));
    for address in ["client", "original_destination"] {
        let address: SocketAddr = record[address].as_str().unwrap().parse().unwrap();
        assert!(address.port() > 0);
    }
    let time = record["time"].as_str().unwrap();
    assert!(time.len() == "2026-01-31T12:00:00.123Z".len() && time.ends_with('Z'), "{record}");
    assert!(record["duration_ms"].as_f64().unwrap() > 0.0, "{record}");
    assert!(record["request_id"].as_str().unwrap().contains('-'), "{record}");
    assert_eq!(record["previous"].as_str().unwrap().len(), 64, "{record}");
    assert_eq!(record["generation"].as_str().unwrap().len(), 12, "{record}");
}

#[test]
fn o02_what_a_list_refuses_is_logged() {
    let world = World::new("o02");
    let site = Site::start(&world);
    let gate = world.gate(&site.policy(
        &world,
        "internet = true\ndenied_hosts = [\"denied.test\"]",
        &["denied.test"],
    ));
    let log = gate.log_file().to_owned();
    assert_refused(&gate.run(curl(&["https://denied.test/x"])), "denied.test", "denied_host");
    let shown = sluicegate(
        &world,
        &["log", "get", "--verdict", "refused", "--host", "denied.test", "--log", shown(&log)],
    );
    shown.assert_success();
    assert!(shown.stdout.contains("denied.test:443/x  403  denied_host"), "{shown:?}");
    site.assert_untouched();
}

#[test]
fn o03_refusal_is_answered_as_the_document_says() {
    let world = World::new("o03");
    let site = Site::start(&world);
    let cases = [
        (
            "status = 451\nheaders = { content-type = \"application/json\", x-team = \"security\" }\nbody = '{\"why\":\"${reason}\",\"host\":\"${host}\",\"rule\":\"${rule}\",\"id\":\"${request_id}\"}'",
            451,
            "application/json",
        ),
        ("status = 418\nbody = \"no ${host}: ${reason}\"", 418, "text/plain; charset=utf-8"),
    ];
    for (refusal, status, content_type) in cases {
        let text = format!(
            "[[rules]]\nname = \"closed\"\nhost = \"denied.test\"\ndeny = \"not today\"\n[refusal]\n{refusal}"
        );
        let policy = site.policy(&world, &text, &["denied.test"]);
        let format = "\n%{http_code} %{content_type} %header{x-team} %header{x-sluicegate-reason}";
        for url in ["http://denied.test/", "https://denied.test/"] {
            let outcome = world.run(&policy, curl(&["-w", format, url]));
            outcome.assert_success();
            let (body, rest) = outcome.stdout.rsplit_once('\n').unwrap();
            let record = outcome.only_exchange();
            assert_line(
                record,
                &json!({"verdict": "refused", "reason": "denied_by_rule", "rule": "closed", "status": status}),
            );
            if status == 451 {
                assert_eq!(rest, format!("451 {content_type} security denied_by_rule"));
                let body: Value = serde_json::from_str(body).unwrap();
                let wanted = json!({"why": "denied_by_rule", "host": "denied.test", "rule": "closed", "id": record["request_id"]});
                assert_eq!(body, wanted);
            } else {
                assert_eq!(rest, format!("418 {content_type}  denied_by_rule"));
                assert_eq!(body, "no denied.test: denied_by_rule");
            }
        }
    }
    site.assert_untouched();
}

/// A log with three exchanges: two hosts allowed and one refused.
fn written_log(world: &World) -> PathBuf {
    let site = Site::start(world);
    let gate = world.gate(&site.policy(
        world,
        "allowed_hosts = [\"*.ok.test\"]",
        &["a.ok.test", "b.ok.test", "bad.test"],
    ));
    let log = gate.log_file().to_owned();
    let script = "for url in http://a.ok.test/1 https://b.ok.test/2 https://bad.test/3; do curl -sS -o /dev/null $url; done";
    gate.run(["sh", "-c", script]).assert_success();
    log
}

#[test]
fn log_get_filters_and_prints_records() {
    let world = World::new("log-get");
    let log = written_log(&world);
    let paths = |arguments: &[&str]| {
        let outcome =
            sluicegate(&world, &[&["log", "get", "--json", "--log", shown(&log)], arguments].concat());
        outcome.assert_success();
        let records = outcome.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.filter_map(|line| line["path"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    for (arguments, wanted) in [
        (&[][..], &["/1", "/2", "/3"][..]),
        (&["--verdict", "allowed"], &["/1", "/2"]),
        (&["--verdict", "refused"], &["/3"]),
        (&["--verdict", "failed"], &[]),
        (&["--host", "a.ok.test"], &["/1"]),
        (&["--host", "*.ok.test"], &["/1", "/2"]),
        (&["--host", "ok.test"], &[]),
        (&["--host", "*.ok.test", "--limit", "1"], &["/2"]),
        (&["--since", "10m"], &["/1", "/2", "/3"]),
        (&["--since", "2999-01-01T00:00:00Z"], &[]),
    ] {
        assert_eq!(paths(arguments), wanted, "{arguments:?}");
    }
    // As they are in the file, for programs; a line each, for people.
    let whole = sluicegate(&world, &["log", "get", "--json", "--log", shown(&log)]);
    assert_eq!(whole.stdout, fs::read_to_string(&log).unwrap());
    let text = sluicegate(&world, &["log", "get", "--verdict", "refused", "--log", shown(&log)]).stdout;
    assert!(text.contains("refused   GET      bad.test:443/3  403  not_in_allowed_hosts"), "{text}");
    for wrong in [&["--verdict", "maybe"][..], &["--since", "yesterday"], &["--host", "*"]] {
        let outcome = sluicegate(&world, &[&["log", "get", "--log", shown(&log)], wrong].concat());
        assert_eq!(outcome.code(), 64, "{outcome:?}");
    }
    let outcome = sluicegate(&world, &["log", "get", "--log", "/nowhere.jsonl"]);
    assert_eq!(outcome.code(), 74, "{outcome:?}");
}

#[test]
fn log_follow_shows_records_as_they_come() {
    let world = World::new("log-follow");
    let gate = world.gate("");
    let log = gate.log_file().to_owned();
    let gate = gate.attach();
    let line = [
        &world.program("sluicegate"),
        "log",
        "follow",
        "--verdict",
        "refused",
        "--json",
        "--log",
        shown(&log),
    ];
    // As root, who attached and whose log it is.
    let mut following = world.root_job(world.gate_namespace(), line).spawn();
    for path in ["/first", "/second"] {
        gate.run(curl(&[&format!("http://refused.test{path}")])).assert_success();
        following.wait_for_output(&format!("\"path\":\"{path}\""));
    }
    assert!(!following.stdout().contains("\"started\""), "{}", following.stdout());
}

#[test]
fn log_verify_finds_tampering() {
    let world = World::new("log-verify");
    let log = written_log(&world);
    let verify = |arguments: &[&str], lines: &[String]| {
        let file = world.file("tampered.jsonl", lines.concat());
        sluicegate(&world, &[&["log", "verify", "--json", "--log", shown(&file)], arguments].concat())
    };
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let whole = verify(&["--closed"], &lines);
    whole.assert_success();
    assert_line(&whole.json(), &json!({"ok": true, "records": lines.len(), "closed": true}));
    let head = whole.json()["head"].as_str().unwrap().to_owned();

    let refused =
        lines.iter().position(|line| line.contains("\"refused\"") && line.contains("exchange")).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        lines
    };
    let edited = changed(&|lines| lines[refused] = lines[refused].replace("\"refused\"", "\"allowed\""));
    let tampered = [
        ("edited", edited.clone(), refused + 1),
        ("cut out", changed(&|lines| drop(lines.remove(refused))), refused + 1),
        ("beginning cut", changed(&|lines| drop(lines.remove(0))), 1),
        ("repeated", changed(&|lines| lines.insert(refused, lines[refused].clone())), refused + 2),
        ("swapped", changed(&|lines| lines.swap(1, 2)), 2),
        ("put in", changed(&|lines| lines.insert(1, "{\"kind\":\"exchange\"}\n".to_owned())), 2),
        (
            "torn",
            changed(&|lines| {
                lines.last_mut().unwrap().pop();
            }),
            lines.len(),
        ),
    ];
    for (what, lines, at) in tampered {
        let outcome = verify(&[], &lines);
        assert_eq!(outcome.code(), 1, "{what}: {outcome:?}");
        assert_line(&outcome.json(), &json!({"ok": false, "line": at}));
        assert!(!outcome.json()["problem"].as_str().unwrap().is_empty(), "{what}: {outcome:?}");
    }
    // The loss of the end shows by the missing last record, and by a head that was noted before.
    let shortened = &lines[..lines.len() - 1];
    verify(&[], shortened).assert_success();
    assert_eq!(verify(&["--closed"], shortened).code(), 1);
    assert_eq!(verify(&["--head", &head], shortened).code(), 1);
    verify(&["--head", &head, "--closed"], &lines).assert_success();
    let told =
        sluicegate(&world, &["log", "verify", "--log", shown(&world.file("edited.jsonl", edited.concat()))]);
    assert_eq!((told.code(), told.stdout.as_str()), (1, ""), "{told:?}");
    assert!(told.stderr.contains(&format!("edited.jsonl:{}: ", refused + 1)), "{told:?}");
}

// The command line

#[test]
fn policy_check_tells_a_stranger_what_to_do() {
    let world = World::new("check");
    let good = "version = 1\nallowed_hosts = [\"a.test\"]\n";
    let check = |text: &str, arguments: &[&str]| {
        let file = world.file("document.toml", text);
        sluicegate(&world, &[&["policy", "check", shown(&file)], arguments].concat())
    };
    let outcome = check(good, &[]);
    outcome.assert_success();
    assert!(
        outcome.stdout.contains("document.toml: ok (1 allowed") && outcome.stderr.is_empty(),
        "{outcome:?}"
    );
    let outcome = check(good, &["--json"]);
    assert_line(&outcome.json(), &json!({"ok": true, "problems": []}));

    let secret = "[secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"a.test\"]\n";
    let broken = [
        ("version = 1\nalowed_hosts = []\n".to_owned(), 2, "`allowed_hosts`"),
        ("version = 1\nallowed_hosts = [\"https://x.test/path\"]\n".to_owned(), 2, "`paths`"),
        (
            format!(
                "version = 1\n{secret}[[rules]]\nhost = \"b.test\"\nset_headers = {{ x = \"${{secret:TOKEN}}\" }}\n"
            ),
            7,
            "add \"b.test\" to `hosts`",
        ),
        (
            format!(
                "version = 1\n{secret}[[rules]]\nhost = \"a.test\"\nset_headers = {{ x = \"${{secret:TOKN}}\" }}\n"
            ),
            7,
            "`${secret:TOKEN}`",
        ),
        ("allowed_hosts = []\n".to_owned(), 1, "version = 1"),
        ("version = 1\ninternet = \"yes\"\n".to_owned(), 2, "without quotes"),
        ("version = 1\ninternet = true\ninternet = false\n".to_owned(), 3, "once in its table"),
    ];
    for (text, line, hint) in &broken {
        let outcome = check(text, &[]);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (78, ""), "{outcome:?}");
        for part in [&format!("document.toml:{line}:"), *hint] {
            assert!(outcome.stderr.contains(part), "no {part:?}: {outcome:?}");
        }
        let outcome = check(text, &["--json"]);
        assert_eq!(outcome.code(), 78, "{outcome:?}");
        let problem = &outcome.json()["problems"][0];
        assert_line(problem, &json!({"severity": "error", "line": line}));
        assert!(problem["help"].as_str().unwrap().contains(hint), "{outcome:?}");
    }
    let outcome = sluicegate(&world, &["policy", "check", "/nowhere.toml"]);
    assert_eq!(outcome.code(), 78, "{outcome:?}");
    assert!(outcome.stderr.contains("/nowhere.toml") && outcome.stderr.contains("hint: "), "{outcome:?}");
}

#[test]
fn policy_schema_is_a_schema_of_the_document() {
    let world = World::new("schema");
    let outcome = sluicegate(&world, &["policy", "schema"]);
    outcome.assert_success();
    let schema = outcome.json();
    assert_line(
        &schema,
        &json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["version"]}),
    );
    let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    for key in ["version", "internet", "allowed_hosts", "denied_hosts", "secrets", "rules", "upstream"] {
        assert!(keys.contains(&key), "no {key} in {keys:?}");
    }
}

#[test]
fn completion_scripts_are_accepted_by_their_shells() {
    let world = World::new("completion");
    for shell in ["bash", "zsh", "fish"] {
        let outcome = sluicegate(&world, &["completion", shell]);
        outcome.assert_success();
        assert!(outcome.stdout.contains("sluicegate") && outcome.stdout.contains("verify"), "{outcome:?}");
        if shell == "bash" {
            let script = world.file("completion.bash", &outcome.stdout);
            let line = ["bash", "-c", "set -e; source \"$0\"; complete -p sluicegate", shown(&script)];
            world.job(world.gate_namespace(), line).run().assert_success();
        }
    }
    assert_eq!(sluicegate(&world, &["completion", "cobol"]).code(), 64);
}

#[test]
fn help_has_examples_and_wrong_usage_has_its_exit_code() {
    let world = World::new("help");
    for command in [
        &["run"][..],
        &["attach"],
        &["policy", "check"],
        &["policy", "schema"],
        &["log", "get"],
        &["log", "follow"],
        &["log", "verify"],
        &["completion"],
    ] {
        let outcome = sluicegate(&world, &[command, &["--help"]].concat());
        outcome.assert_success();
        assert!(outcome.stdout.contains("Example") && outcome.stderr.is_empty(), "{outcome:?}");
    }
    let outcome = sluicegate(&world, &["--help"]);
    outcome.assert_success();
    for part in ["Exit codes:", "64 ", "78 ", "128+N"] {
        assert!(outcome.stdout.contains(part), "no {part:?}: {outcome:?}");
    }
    sluicegate(&world, &["--version"]).assert_success();
    for wrong in [
        &[][..],
        &["rnu"],
        &["run"],
        &["run", "--"],
        &["run", "--polcy", "x", "--", "true"],
        &["run", "--name", "a b", "--", "true"],
        &["attach"],
        &["attach", "pid:x"],
        &["log"],
        &["log", "verify", "--head", "abc"],
        &["policy", "check"],
    ] {
        let outcome = sluicegate(&world, wrong);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (64, ""), "{wrong:?}: {outcome:?}");
        assert!(!outcome.stderr.is_empty(), "{wrong:?} fails without a word");
    }
    let codes = [("true", 0), ("false", 1), ("exit 42", 42), ("kill -9 $$", 137)];
    for (script, code) in codes {
        assert_eq!(world.run("", ["sh", "-c", script]).code(), code, "{script}");
    }
    assert_eq!(world.run("", ["/nowhere/command"]).code(), 127);
    assert_eq!(world.run("", ["/etc/passwd"]).code(), 126);
}

// Helpers

/// Sends standard input to a host and port, and prints what comes back.
const SEND: &str = "
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as connection:
    connection.sendall(sys.stdin.buffer.read())
    while data := connection.recv(65536):
        sys.stdout.buffer.write(data)
";

/// One server for every name: without TLS for ports 80 and 8080, with TLS for port 443.
struct Site {
    plain: Origin,
    tls: Origin,
}

impl Site {
    /// Answers with the host that it was asked for.
    fn start(world: &World) -> Self {
        Self::answering(world, |request| Reply::text(format!("origin: {}", request.authority)))
    }

    fn answering(
        world: &World,
        handler: impl Fn(&Received) -> Reply + Clone + Send + Sync + 'static,
    ) -> Self {
        let plain = OriginConfig { identity: Identity::Plain, ..OriginConfig::default() };
        Self { plain: Origin::start_with(world, plain, handler.clone()), tls: Origin::start(world, handler) }
    }

    /// A document with this text, by which these names are found here: refused ones too, so that a
    /// gate which let them through would be seen to.
    fn policy(&self, world: &World, text: &str, names: &[&str]) -> String {
        let mut resolve = Vec::new();
        for name in names {
            resolve.push((format!("{name}:80"), self.plain.address()));
            resolve.push((format!("{name}:8080"), self.plain.address()));
            resolve.push((format!("{name}:443"), self.tls.address()));
        }
        let resolve: Vec<_> = resolve.iter().map(|(name, address)| (name.as_str(), *address)).collect();
        format!("version = 1\n{text}\n{}", world.upstream(&resolve))
    }

    /// A document whose one rule, for `api.test`, puts TOKEN on; `more` goes to the secret.
    fn credential_policy(&self, world: &World, source: &str, rule: &str, more: &str) -> String {
        let source = match source {
            "env" => "env://TOKEN".to_owned(),
            _ => format!("file://{}", shown(&world.path("secrets/token"))),
        };
        let secret = format!("[secrets.TOKEN]\nsource = \"{source}\"\nhosts = [\"api.test\"]\n{more}");
        self.policy(world, &format!("{secret}\n[[rules]]\nhost = \"api.test\"\n{rule}"), &["api.test"])
    }

    /// What reached either of them, in the order of arrival at each.
    fn requests(&self) -> Vec<Received> {
        [self.plain.requests(), self.tls.requests()].concat()
    }

    #[track_caller]
    fn assert_untouched(&self) {
        for origin in [&self.plain, &self.tls] {
            let connections = origin.connections_seen();
            assert!(connections.is_empty(), "the origin was touched: {connections:?}");
        }
    }
}

/// An HTTP server on port 80 of an address that is nobody's private one.
struct PublicSite {
    address: IpAddr,
    origin: Origin,
}

impl PublicSite {
    fn start(world: &World, address: &str) -> Self {
        let address = address.parse().unwrap();
        world.add_origin_address(address);
        let config = OriginConfig { address, port: 80, identity: Identity::Plain, ..OriginConfig::default() };
        let origin = Origin::start_with(world, config, |request| {
            Reply::text(format!("origin: {}", request.authority))
        });
        Self { address, origin }
    }
}

/// A document with this text, by which names are asked for at the world's name server.
fn public_policy(text: &str) -> String {
    format!("version = 1\n{text}\n[upstream]\ndns = [\"{ORIGIN_IPV4}\"]\n")
}

/// A gate that has this token where the document looks for it.
fn credential_gate<'world>(world: &'world World, policy: &str, source: &str, token: &str) -> Gate<'world> {
    if source == "env" {
        return world.gate(policy).env("TOKEN", token);
    }
    world.secret_file("token", token);
    world.gate(policy)
}

/// A curl that prints the body, a line end, the status and the reason of a refusal.
fn curl<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let own = ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code} %header{x-sluicegate-reason}"];
    [&own, arguments].concat()
}

/// What [`curl`] printed: the body, and the rest.
#[track_caller]
fn answer(outcome: &Outcome) -> (&str, &str) {
    outcome.assert_success();
    outcome.stdout.rsplit_once('\n').unwrap_or_else(|| panic!("not from curl: {outcome:?}"))
}

/// Fails unless the one request of [`curl`] got the origin's answer and one line in the log.
#[track_caller]
fn assert_passed(outcome: &Outcome, host: &str) {
    assert_eq!(answer(outcome), (format!("origin: {host}").as_str(), "200 "), "{outcome:?}");
    assert_line(outcome.only_exchange(), &json!({"verdict": "allowed", "host": host, "status": 200}));
}

/// Fails unless the one request of [`curl`] was refused for this reason, which the body, the header
/// and the one line of the log tell alike.
#[track_caller]
fn assert_refused(outcome: &Outcome, host: &str, reason: &str) {
    let (body, rest) = answer(outcome);
    assert_eq!(rest, format!("403 {reason}"), "{outcome:?}");
    let line = outcome.only_exchange();
    assert_line(line, &json!({"verdict": "refused", "reason": reason, "host": host, "status": 403}));
    assert_line(line, &json!({"upstream": null, "upstream_status": null}));
    let body: Value = serde_json::from_str(body).unwrap();
    assert_line(
        &body,
        &json!({"error": "policy_denied", "reason": reason, "request_id": line["request_id"]}),
    );
    assert!(body["hint"].as_str().is_some_and(|hint| hint.len() > 10), "no hint: {body}");
}

/// Fails unless the record has these fields; null stands for one that is not there.
#[track_caller]
fn assert_line(record: &Value, fields: &Value) {
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(record[name], *value, "{name} in {record:#}");
    }
}

/// The command itself, as the user whose gates wrote the logs.
fn sluicegate(world: &World, arguments: &[&str]) -> Outcome {
    let program = world.program("sluicegate");
    world.job(world.gate_namespace(), [&[program.as_str()], arguments].concat()).run()
}

fn read_lines(log: &Path) -> Vec<Value> {
    fs::read_to_string(log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a path of ours is UTF-8")
}
