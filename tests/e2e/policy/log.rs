//! What the log tells of each exchange, and the commands that read it and find tampering in it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use e2e::{ORIGIN_IPV4, World, new_token};
use http::Version;
use serde_json::{Value, json};

use crate::support::{Site, assert_line, assert_passed, assert_refused, bearers, curl, shown, sluicegate};

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
        assert_line(record, &json!({"request_bytes": 5, "complete": true, "upstream_version": "HTTP/1.1"}));
    }
    assert_eq!(bearers(&site), ["", &token]);
    let all = outcome.log.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains(&token) && !all.contains("query-value"), "{outcome:?}");
    let order: Vec<_> = outcome.log.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(order, (1..=outcome.log.len() as u64).collect::<Vec<_>>());
}

#[test]
fn o01_an_http2_exchange_is_complete_and_says_so() {
    let world = World::new("o01-http2");
    let site = Site::start(&world);
    let policy = site.policy(&world, "allowed_hosts = [\"allowed.test\"]", &["allowed.test"]);
    let outcome = world.run(&policy, curl(&["--http2", "-d", "12345", "https://allowed.test/path"]));
    assert_passed(&outcome, "allowed.test");
    assert_line(
        outcome.only_exchange(),
        &json!({"client_version": "HTTP/2", "upstream_version": "HTTP/2", "upstream_status": 200, "request_bytes": 5, "response_bytes": 20, "complete": true}),
    );
    assert_eq!(site.tls.only_request().version, Version::HTTP_2);
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
