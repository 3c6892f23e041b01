//! Secrets in the hands of the handler: they reach the origin that they are bound to, and nobody else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::{Reply, World, assert_token_absent, new_token, with_token_scan};
use serde_json::json;

use crate::language::Language;
use crate::stage::{Stage, assert_line};

in_every_language! {
    c01_a_token_reaches_the_origin_and_never_the_workload
    c02_credentials_of_the_workload_are_replaced
    c03_nothing_goes_out_over_plain_http
    c04_a_rotated_secret_is_what_is_sent_next
    c05_what_an_origin_tells_of_a_token_is_masked
    c06_methods_and_paths_of_a_rule_hold
    a_grant_of_reveal_gives_the_bytes_to_that_handler
}

fn c01_a_token_reaches_the_origin_and_never_the_workload(language: Language) {
    let world = World::new("c01");
    let stage = Stage::new(&world, language);
    let token = stage.token.clone();
    let basic = STANDARD.encode(format!("robot:{token}"));
    let paths =
        ["/token", "/basic", "/query-secret", "/body-secret", "/show-secret", "/reveal", "/wrong-host"];
    let urls: Vec<_> = paths.iter().map(|path| format!("https://scenario.test{path}")).collect();
    let own = ["curl", "-sS", "-X", "POST", "-w", "\n%{http_code}\n", "--max-time", "50"];
    let command = [&own[..], &urls.iter().map(String::as_str).collect::<Vec<_>>()].concat();
    let needles = [token.as_str(), &basic, &STANDARD.encode(&token)];
    // Under `run`: the gate and its workload have the same user, and the scan looks into all it can.
    let outcome = world
        .gate(&stage.catch_all())
        .env("TOKEN", &token)
        .job(with_token_scan(&world, &needles, command))
        // Without what was compiled before, an engine is compiled first.
        .deadline(std::time::Duration::from_secs(170))
        .run();
    outcome.assert_success();
    assert_token_absent(&world, &outcome, &needles);
    let told: Vec<_> = outcome.stdout.lines().filter(|line| line.len() == 3).collect();
    assert_eq!(told, ["200", "200", "200", "200", "502", "502", "403"], "{outcome:?}");
    let sent = stage.site.tls.requests();
    let [bearer, with_basic, query, body] = &sent[..] else { panic!("{sent:#?}") };
    assert_eq!(bearer.header("authorization"), [format!("Bearer {token}")]);
    assert_eq!(with_basic.header("authorization"), [format!("Basic {basic}")]);
    assert_eq!(query.path, format!("/query-secret?key={token}"));
    assert_eq!(String::from_utf8_lossy(&body.body).matches(&token).count(), 1);
    for line in outcome.lines("fetch").iter().filter(|line| line["host"] == "scenario.test") {
        assert_line(line, &json!({"credentials": ["TOKEN"], "status": 200}));
    }
}

fn c02_credentials_of_the_workload_are_replaced(language: Language) {
    let world = World::new("c02");
    let stage = Stage::new(&world, language);
    let gate = stage.serve();
    let own = ["-H", "Authorization: Bearer mine", "-H", "AUTHORIZATION: Basic bWluZQ=="];
    for version in ["--http1.1", "--http2"] {
        gate.ask("/token", &[&own[..], &[version]].concat()).assert_body(200, "origin: GET /token");
        assert_eq!(gate.arrived_one().header("authorization"), [format!("Bearer {}", stage.token)]);
    }
    gate.ask("/query-secret?key=mine&key=again&b=1", &[]);
    let path = gate.arrived_one().path;
    assert!(!path.contains("mine") && !path.contains("again") && path.contains(&stage.token), "{path}");
}

fn c03_nothing_goes_out_over_plain_http(language: Language) {
    let world = World::new("c03");
    let stage = Stage::new(&world, language);
    let gate = stage.serve();
    for path in ["/token", "/basic", "/query-secret", "/body-secret"] {
        let answer = gate.ask_url(&format!("http://scenario.test{path}"), &["-X", "POST"]);
        answer.assert_refused(403, "secret_over_plain_http");
    }
    stage.site.assert_untouched();
}

fn c04_a_rotated_secret_is_what_is_sent_next(language: Language) {
    let world = World::new("c04");
    let stage = Stage::new(&world, language);
    let source = format!("file://{}", world.path("token").display());
    let tokens = [new_token(), new_token()];
    world.file("token", &tokens[0]);
    let gate = stage.attach(stage.gate(&stage.catch_all().replace("env://TOKEN", &source)));
    for token in &tokens {
        world.file("token", token);
        gate.ask("/token", &[]).assert_body(200, "origin: GET /token");
        assert_eq!(gate.arrived_one().header("authorization"), [format!("Bearer {token}")]);
    }
}

fn c05_what_an_origin_tells_of_a_token_is_masked(language: Language) {
    let world = World::new("c05");
    let mut stage = Stage::new(&world, language);
    stage.site = e2e::Site::answering(&world, |request| {
        let authorization = request.header("authorization").join("");
        Reply::text(format!("<{authorization}>")).header("x-echo", &authorization)
    });
    let handler = language.handler();
    let document = stage.document_with(&format!("outbound = \"{handler}\""), "scrub = true");
    let gate = stage.attach(stage.gate(&document));
    for version in ["--http1.1", "--http2"] {
        let answer = gate.ask("/token", &[version]);
        let stars = "*".repeat(stage.token.len());
        answer.assert_body(200, &format!("<Bearer {stars}>"));
        assert_eq!(answer.header("x-echo"), format!("Bearer {stars}"));
        assert_eq!(gate.arrived_one().header("authorization"), [format!("Bearer {}", stage.token)]);
    }
}

fn c06_methods_and_paths_of_a_rule_hold(language: Language) {
    let world = World::new("c06");
    let stage = Stage::new(&world, language);
    let rule = format!(
        "[[rules]]\nhost = \"scenario.test\"\nmethods = [\"GET\", \"POST\"]\npaths = [\"/token\"]\nhandler = \"{}\"",
        language.handler()
    );
    let gate = stage.attach(stage.gate(&stage.document(&rule)));
    for arguments in [&[][..], &["-d", "x"]] {
        assert_eq!(gate.ask("/token", arguments).status, 200);
        assert_eq!(gate.arrived_one().header("authorization"), [format!("Bearer {}", stage.token)]);
    }
    for path in ["/basic", "/token/../basic", "/token%2f..%2fbasic", "/tokens"] {
        let answer = gate.ask(path, &["--http1.1", "--path-as-is"]);
        assert!([400, 403].contains(&answer.status), "{path}: {answer:#?}");
    }
    gate.ask("/token", &["-X", "DELETE"]).assert_refused(403, "no_rule_matches");
    assert!(gate.arrived().is_empty());
}

fn a_grant_of_reveal_gives_the_bytes_to_that_handler(language: Language) {
    let world = World::new("reveal");
    let stage = Stage::new(&world, language);
    let (all, revealing) = (language.handler(), language.place_revealing(&world));
    let text = format!(
        "outbound = \"{all}\"\n\
         outbound_by_host.\"granted.test\" = {{ handler = \"{revealing}\", reveal = [\"TOKEN\"] }}"
    );
    let gate = stage.attach(stage.gate(&stage.document(&text)));
    let wanted = e2e::sha256_hex(stage.token.as_bytes());
    gate.ask_url("https://granted.test/reveal", &[]).assert_body(200, &wanted);
    gate.ask("/reveal", &[]).assert_refused(502, "handler_failed");
    let log = gate.gate.log();
    assert!(log.iter().all(|line| !line.to_string().contains(&stage.token)), "{log:#?}");
}
