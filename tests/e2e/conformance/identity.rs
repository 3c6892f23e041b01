//! Whose request it is, and with which parameters the handler was bound.

use e2e::{World, new_token};
use serde_json::json;

use crate::language::Language;
use crate::stage::{NAME, Stage};

in_every_language! {
    p27_params_reach_the_handler
    p28_two_instances_are_told_apart_and_each_has_its_own_secret
}

fn p27_params_reach_the_handler(language: Language) {
    let world = World::new("p27");
    let stage = Stage::new(&world, language);
    let handler = language.handler();
    let text = format!(
        "outbound_by_host.\"static.test\" = {{ handler = \"{handler}\", params = {{ greeting = \"world\" }} }}\n\
         outbound_handlers.named = {{ handler = \"{handler}\", params = {{ greeting = \"document\" }} }}"
    );
    let gate = stage.attach(stage.gate(&stage.document(&text)));
    let greeting = |host: &str| gate.ask_url(&format!("https://{host}/json"), &[]).json()["greeting"].clone();
    assert_eq!(greeting("static.test"), "world");
    gate.gate.operator(["handler", "set", "named"]).run().assert_success();
    assert_eq!(greeting("any.test"), "document");
    for params in [
        json!({"greeting": "operator", "list": [1, 2.5, "x", true, null], "deep": {"er": {}}}),
        json!({"greeting": "\"quoted\" ünï\u{1f680}\n"}),
        json!({"other": 1}),
    ] {
        gate.gate
            .operator(["handler", "set", "named", "--params", &params.to_string()])
            .run()
            .assert_success();
        assert_eq!(greeting("any.test"), params["greeting"]);
    }
    assert_eq!(greeting("static.test"), "world");
}

fn p28_two_instances_are_told_apart_and_each_has_its_own_secret(language: Language) {
    let world = World::new("p28");
    let stage = Stage::new(&world, language);
    let document = stage.catch_all().replace("env://TOKEN", "env://TOKEN_{container_id}");
    let tokens = [("blue", new_token()), ("green", new_token())];
    // From the same document and the same environment, at the same time.
    let gates = tokens.each_ref().map(|(container, _)| {
        let gate = world.gate(&document).named(&format!("{NAME}-{container}"));
        let gate = gate.flag("--container-id").flag(container);
        let gate = tokens.iter().fold(gate, |gate, (name, value)| gate.env(&format!("TOKEN_{name}"), value));
        stage.attach(gate)
    });
    for (gate, (container, token)) in gates.iter().zip(&tokens) {
        gate.arrived();
        let seen = gate.ask("/json", &[]).json();
        assert_eq!(
            (&seen["container"], &seen["instance"]),
            (&json!(container), &json!(format!("{NAME}-{container}")))
        );
        gate.ask("/token", &[]).assert_body(200, "origin: GET /token");
        assert_eq!(gate.arrived_one().header("authorization"), [format!("Bearer {token}")]);
        // What one has stored, the other does not see.
        assert_eq!(gate.ask("/kv", &[]).json()["count"], 1);
        let environment = gate.gate.run(["sh", "-c", "env"]);
        assert!(!environment.stdout.contains(token.as_str()), "{environment:?}");
    }
}
