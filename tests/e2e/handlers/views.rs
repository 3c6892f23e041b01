//! What a handler sees of a request and of whose it is.

use std::io::{Read, Write};

use e2e::{Site, World, new_token};
use serde_json::{Value, json};

use crate::support::{answer, assert_answer, assert_line, catch_all, curl, dial, handler, of_kind};

const ECHO: &str = "reply(200, request.url)";

#[test]
fn u01_u02_a_handler_sees_the_url_as_it_was_asked_for() {
    let world = World::new("u01");
    let site = Site::start(&world);
    handler(&world, "echo", ECHO);
    let policy = catch_all(&world, &site, "echo", &[]);
    for (url, seen) in [
        ("http://google.com/hello/world", "http://google.com/hello/world"),
        ("http://google.com/hello?a=b&c=%20d", "http://google.com/hello?a=b&c=%20d"),
        ("http://google.com:8080/", "http://google.com:8080/"),
        ("https://example.com/", "https://example.com/"),
        ("https://EXAMPLE.com./x", "https://example.com/x"),
        ("https://example.com:8443/", "https://example.com:8443/"),
    ] {
        for version in ["--http1.1", "--http2"] {
            let outcome = world.run(&policy, curl(&[version, url]));
            assert_answer(&outcome, seen);
        }
    }
    site.assert_untouched();
}

#[test]
fn u03_an_address_stays_an_address() {
    let world = World::new("u03");
    let site = Site::start(&world);
    handler(&world, "echo", ECHO);
    let policy = catch_all(&world, &site, "echo", &[]);
    for url in ["http://15.0.0.2/", "http://[111::]/", "http://[2001:db8::1]:8080/x"] {
        assert_answer(&world.run(&policy, curl(&["-g", url])), url);
    }
    site.assert_untouched();
}

#[test]
fn u04_an_absolute_target_and_the_host_are_one_authority() {
    let world = World::new("u04");
    let site = Site::start(&world);
    handler(&world, "echo", "log(\"info\", \"ran\");\nreply(200, request.url)");
    let mut gate = world.gate(&catch_all(&world, &site, "echo", &[])).attach();
    let ask = |target: &str, host: &str| {
        let mut stream = dial(&gate, 80);
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let same = ask("http://one.test/x", "one.test");
    assert!(same.starts_with("HTTP/1.1 200") && same.ends_with("\r\n\r\nhttp://one.test/x"), "{same}");
    for (target, host) in [("http://one.test/x", "two.test"), ("http://two.test/x", "one.test")] {
        let differing = ask(target, host);
        assert!(differing.starts_with("HTTP/1.1 400"), "{differing}");
    }
    gate.wait_for_log(|line| line["kind"] == "handler");
    let log = gate.log();
    assert_eq!(of_kind(&log, "handler").len(), 1, "it ran for a request with two hosts: {log:#?}");
    site.assert_untouched();
}

#[test]
fn p27_a_handler_sees_its_params() {
    let world = World::new("p27");
    let site = Site::start(&world);
    handler(&world, "params", "reply(200, ctx.params)");
    let text = "outbound_by_host.\"static.test\" = { handler = \"handlers/params.rhai\", params = { hello = \"world\" } }\n\
                outbound_handlers.named = { handler = \"handlers/params.rhai\", params = { from = \"document\" } }";
    let gate = world.gate(&site.policy(&world, text, &[])).named("box").attach();
    let ask = |host: &str| -> Value {
        serde_json::from_str(answer(&gate.run(curl(&[&format!("https://{host}/")]))).0).unwrap()
    };
    assert_eq!(ask("static.test"), json!({"hello": "world"}));
    gate.operator(["handler", "set", "named"]).run().assert_success();
    assert_eq!(ask("any.test"), json!({"from": "document"}));
    let params = json!({"hello": "world", "list": [1, 2.5, "x", true, null], "deep": {"er": {}}});
    gate.operator(["handler", "set", "named", "--params", &params.to_string()]).run().assert_success();
    assert_eq!(ask("any.test"), params);
    assert_eq!(ask("static.test"), json!({"hello": "world"}));
}

#[test]
fn p28_two_instances_are_told_apart_and_each_has_its_own_secret() {
    let world = World::new("p28");
    let site = Site::start(&world);
    handler(
        &world,
        "mine",
        "request.set_bearer(env.secrets.TOKEN);\nlet response = fetch(request);\n\
         reply(200, `${ctx.instance_id} ${ctx.container_id} ${response.status}`)",
    );
    let text = "outbound = \"handlers/mine.rhai\"\n[secrets.TOKEN]\n\
                source = \"env://TOKEN_{container_id}\"\nhosts = [\"api.test\"]";
    let policy = site.policy(&world, text, &["api.test"]);
    let tokens = [("blue", new_token()), ("green", new_token())];
    // At the same time, from the same document and the same environment.
    let gates: Vec<_> = tokens
        .iter()
        .map(|(container, _)| {
            let gate = world.gate(&policy).named(&format!("box-{container}"));
            let gate = gate.flag("--container-id").flag(container);
            tokens
                .iter()
                .fold(gate, |gate, (name, value)| gate.env(&format!("TOKEN_{name}"), value))
                .job(["sh", "-c", "env | grep -c TOKEN; curl -sS https://api.test/; read -r _"])
                .spawn()
        })
        .collect();
    for (mut gate, (container, token)) in gates.into_iter().zip(&tokens) {
        gate.wait_for_output(&format!("0\nbox-{container} {container} 200"));
        gate.write("\n");
        gate.wait().assert_success();
        let sent: Vec<_> = site
            .tls
            .requests()
            .into_iter()
            .filter(|request| request.header("authorization") == [format!("Bearer {token}")])
            .collect();
        assert_eq!(sent.len(), 1, "{container}");
    }
    assert_eq!(site.requests().len(), 2);
}

#[test]
fn ctx_and_env_say_whose_request_it_is_and_how_it_came() {
    let world = World::new("ctx");
    let site = Site::start(&world);
    handler(
        &world,
        "all",
        "let seen = #{};\n\
         for name in [\"container_id\", \"instance_id\", \"labels\", \"request_id\", \"original_destination\",\n\
             \"sni\", \"tls\", \"protocol\", \"handler\", \"handler_version\"] {\n    seen[name] = ctx[name];\n}\n\
         seen.team = env.TEAM;\nreply(200, seen)",
    );
    let policy = site.policy(&world, "outbound = \"handlers/all.rhai\"\n[env]\nTEAM = \"red\"", &[]);
    let ask = |arguments: &[&str]| {
        let gate = world.gate(&policy).named("box").flag("--container-id").flag("c-1");
        let gate = gate.flag("--label").flag("team=blue").flag("--label").flag("tier=low");
        let outcome = gate.run(curl(arguments));
        assert_eq!(answer(&outcome).1, "200 ", "{outcome:?}");
        let seen: Value = serde_json::from_str(answer(&outcome).0).unwrap();
        let line = outcome.only_exchange();
        assert_line(
            &seen,
            &json!({
                "container_id": "c-1", "instance_id": "box", "labels": {"team": "blue", "tier": "low"},
                "request_id": line["request_id"], "original_destination": line["original_destination"],
                "tls": line["tls"], "sni": line["sni"], "protocol": line["client_version"],
                "handler": "handlers/all.rhai", "handler_version": line["handler_version"],
                "team": "red",
            }),
        );
        assert!(line["handler_version"].as_str().is_some_and(|version| version.len() >= 12), "{line:#}");
        seen
    };
    let plain = ask(&["http://h.test/"]);
    assert_line(&plain, &json!({"sni": null, "tls": null, "protocol": "HTTP/1.1"}));
    let tls = ask(&["--http2", "https://h.test/"]);
    assert_line(&tls, &json!({"sni": "h.test", "tls": "TLSv1_3", "protocol": "HTTP/2"}));
}
