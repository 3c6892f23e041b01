//! Where the secrets of a policy go: to the origin that they are for, by TLS, and to nobody else.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use e2e::{Reply, World, assert_token_absent, new_token, with_token_scan};
use serde_json::{Value, json};

use crate::support::{SLOTS, Site, answer, assert_passed, assert_refused, bearers, credential_gate, curl};

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
