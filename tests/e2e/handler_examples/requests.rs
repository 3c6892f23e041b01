//! Examples whose handlers look at a request, change it, or answer it.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use e2e::{Origin, Received, Reply, World, assert_token_absent, new_token, sha256_hex, with_token_scan};
use serde_json::json;

use crate::support::{NAME, closed_gate, curl, gate, only_handler_line, refusal};

#[test]
fn read_only() {
    let world = World::new("read-only");
    let origin = Origin::start(&world, |_| Reply::text("page"));
    let run =
        |line: &[&str]| gate(&world, "handler-read-only", &["example.org"], origin.address()).run(curl(line));
    let read = run(&["https://example.org/page"]);
    read.assert_success().assert_stdout("page 200");
    assert_eq!(read.only_exchange()["verdict"], "allowed", "{read:#?}");
    assert!(read.lines("handler").is_empty(), "{read:#?}");

    let written = run(&["-d", "x", "https://example.org/page?q=1"]);
    written.assert_success().assert_stdout("read only\n 405");
    assert_eq!(written.only_exchange()["verdict"], "answered", "{written:#?}");
    assert_eq!(only_handler_line(&written)["message"], format!("{NAME} tried POST example.org/page"));
    assert_eq!(origin.only_request().method, "GET");
}

#[test]
fn inject_token() {
    let world = World::new("inject");
    let origin = Origin::start(&world, |_| Reply::text("me"));
    let token = new_token();
    let fetch = curl(&["-H", "X-Auth-Token: placeholder", "https://vcs.example.com/v1/me"]);
    let outcome = gate(&world, "handler-inject-token", &["vcs.example.com"], origin.address())
        .env("VCS_TOKEN", &token)
        .run(with_token_scan(&world, &[&token], fetch));
    outcome.assert_success().assert_stdout("me 200");
    assert_eq!(origin.only_request().header("x-auth-token"), [token.as_str()]);
    assert_token_absent(&world, &outcome, &[&token]);
}

#[test]
fn p28_each_container_gets_its_own_token() {
    let world = World::new("per-container");
    let origin = Origin::start(&world, |_| Reply::text("me"));
    let tokens = [("blue", new_token()), ("green", new_token())];
    for (container, token) in &tokens {
        let gate = gate(&world, "handler-token-per-container", &["api.example.com"], origin.address())
            .flag("--container-id")
            .flag(container);
        let gate =
            tokens.iter().fold(gate, |gate, (name, value)| gate.env(&format!("API_TOKEN_{name}"), value));
        let outcome =
            gate.run(["sh", "-c", "env | grep -c ^API_TOKEN; curl -sS https://api.example.com/v1/me"]);
        outcome.assert_success().assert_stdout("0\nme");
        let received = origin.requests().pop().unwrap();
        assert_eq!(received.header("authorization"), [format!("Bearer {token}")]);
    }
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn catch_all_comes_last() {
    let world = World::new("catch-all");
    let origin = Origin::start(&world, |_| Reply::text("page"));
    let hosts = ["example.org", "status.example.com", "git.corp.example.com", "a.tracker.example"];
    let run = |url| gate(&world, "handler-catch-all", &hosts, origin.address()).run(curl(&[url]));

    let passed = run("https://example.org/");
    passed.assert_success().assert_stdout("page 200");
    let line = only_handler_line(&passed);
    assert_eq!((&line["level"], &line["message"]), (&json!("info"), &json!("passed")), "{passed:#?}");
    let fields = json!({
        "team": "blue", "host": "example.org", "status": 200, "content_type": "text/plain; charset=utf-8"
    });
    assert_eq!(line["fields"], fields, "{passed:#?}");

    let played = run("https://status.example.com/");
    played.assert_success();
    let body: serde_json::Value = serde_json::from_str(played.stdout.trim_end_matches(" 200")).unwrap();
    assert_eq!(body, json!({ "status": "fine", "team": "blue" }));

    assert_eq!(refusal(&run("https://git.corp.example.com/")), "denied_by_handler");
    assert_eq!(refusal(&run("https://a.tracker.example/")), "denied_host");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn redirect_to_mirror() {
    let world = World::new("mirror");
    let origin = Origin::start(&world, |_| Reply::text("packages"));
    let hosts = ["pypi.org", "mirror.example.com"];
    let outcome = gate(&world, "handler-redirect-to-mirror", &hosts, origin.address())
        .env("MIRROR_PASSWORD", "mirror-password")
        .run(curl(&["https://pypi.org/simple/requests/?format=json"]));
    outcome.assert_success().assert_stdout("packages 200");
    let received = origin.only_request();
    assert_eq!(received.authority, "mirror.example.com");
    assert_eq!(received.path, "/pypi/simple/requests/?format=json");
    let wanted = format!("Basic {}", BASE64.encode("sandbox:mirror-password"));
    assert_eq!(received.header("authorization"), [wanted]);
    assert_eq!(received.handshake.unwrap().sni.as_deref(), Some("mirror.example.com"));
    let line = outcome.only_exchange();
    assert_eq!(line["host"], "pypi.org", "{outcome:#?}");
}

#[test]
fn request_budget() {
    let search =
        "for i in 1 2 3 4 5; do curl -sS -w ' %{http_code}\n' https://search.example.com/?q=$i; done";
    loop {
        let world = World::new("budget");
        let origin = Origin::start(&world, |_| Reply::text("found"));
        let hour = hour();
        let run = |container| {
            gate(&world, "handler-request-budget", &["search.example.com"], origin.address())
                .flag("--container-id")
                .flag(container)
                .run(["sh", "-c", search])
        };
        let (first, other) = (run("first"), run("other"));
        // The count begins anew with the hour, and what was counted before that proves nothing.
        if hour != self::hour() {
            continue;
        }
        let answers = "found 200\n\
                       found 200\n\
                       found 200\n\
                       this is request 4 of 3 in an hour 429\n\
                       this is request 5 of 3 in an hour 429\n";
        first.assert_success().assert_stdout(answers);
        other.assert_success().assert_stdout(answers);
        assert_eq!(origin.requests().len(), 6);
        return;
    }
}

#[test]
fn request_budget_of_other_requests_is_nothing() {
    let world = World::new("budget-rule");
    let outcome =
        closed_gate(&world, "handler-request-budget").run(curl(&["-d", "x", "https://search.example.com/"]));
    assert_eq!(refusal(&outcome), "no_rule_matches");
}

#[test]
fn c07_requests_to_a_bucket_are_signed_and_kept_in_their_folder() {
    let world = World::new("sign-s3");
    let origin = Origin::start(&world, |_| Reply::text("stored"));
    let run = |arguments: &[&str]| {
        gate(&world, "handler-sign-s3", &["s3.example.com"], origin.address())
            .env("S3_ID", "AKIDEXAMPLE")
            .env("S3_KEY", "signing-key")
            .run(curl(arguments))
    };
    let copied_from = |source: &str| format!("x-amz-copy-source: {source}");
    let own = "https://s3.example.com/sandboxes/box/a%20report.pdf?partNumber=2&acl";
    for arguments in [
        vec!["-X", "PUT", "-d", "content", own],
        vec!["-X", "PUT", "-H", &copied_from("sandboxes/box/old.pdf"), own],
    ] {
        let before = origin.requests().len();
        run(&arguments).assert_success().assert_stdout("stored 200");
        let received = origin.requests().pop().unwrap();
        assert_eq!(origin.requests().len(), before + 1);
        assert_signature(&received, "acl=&partNumber=2");
    }
    for arguments in [
        vec!["https://s3.example.com/sandboxes/other/report.pdf"],
        vec!["https://s3.example.com/sandboxes/?prefix=other/"],
        vec!["--path-as-is", "https://s3.example.com/sandboxes/box/../other/report.pdf"],
        vec!["https://s3.example.com/sandboxes/box/%2e%2e/other/report.pdf"],
        vec!["-X", "PUT", "-H", &copied_from("/sandboxes/other/report.pdf"), own],
        vec![
            "-X",
            "PUT",
            "-H",
            &copied_from("/sandboxes/box/old.pdf"),
            "-H",
            &copied_from("/secret/report.pdf"),
            own,
        ],
    ] {
        let outcome = run(&arguments);
        assert_eq!(refusal(&outcome), "denied_by_handler", "{arguments:?}: {outcome:#?}");
    }
    assert_eq!(origin.requests().len(), 2);
}

/// Computes the signature as the server would: from what it received.
#[track_caller]
fn assert_signature(received: &Received, canonical_query: &str) {
    let one = |name: &str| match received.header(name).as_slice() {
        [value] => (*value).to_owned(),
        values => panic!("{name}: {values:?}"),
    };
    let (time, authorization) = (one("x-amz-date"), one("authorization"));
    let date = time.get(..8).unwrap();
    let signed = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
    let headers: String = signed
        .split(';')
        .map(|name| match name {
            "host" => format!("host:{}\n", received.authority),
            name => format!("{name}:{}\n", one(name)),
        })
        .collect();
    for (name, _) in received.headers.iter().filter(|(name, _)| name.starts_with("x-amz-")) {
        assert!(signed.split(';').any(|signed| signed == name), "{name} is not signed");
    }
    let path = received.path.split('?').next().unwrap();
    let canonical =
        [&received.method, path, canonical_query, &headers, signed, &one("x-amz-content-sha256")].join("\n");
    let scope = format!("{date}/us-east-1/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let mut key = b"AWS4signing-key".to_vec();
    for part in [date, "us-east-1", "s3", "aws4_request", &text] {
        let signing = hmac::Key::new(hmac::HMAC_SHA256, &key);
        key = hmac::sign(&signing, part.as_bytes()).as_ref().to_vec();
    }
    let signature: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let wanted = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={signed}, Signature={signature}"
    );
    assert_eq!(authorization, wanted);
}

fn hour() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_secs() / Duration::from_hours(1).as_secs()
}
