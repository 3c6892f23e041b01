//! Errors of a handler while it runs: what the workload is told, and what its author is.

use e2e::{Site, World};
use serde_json::{Value, json};

use crate::support::{answer, assert_answer, assert_line, catch_all, curl, handler, script};

#[test]
fn h06_what_a_handler_throws_is_told_to_its_author_and_not_to_the_workload() {
    let world = World::new("h06-throws");
    let site = Site::start(&world);
    // Line and column of the mistake, and what the log says of it.
    let mistakes = [
        ("throws", "    throw \"inner workings\";", "2:5", "inner workings"),
        ("unknown", "    let x = 1;\n    no_such_thing(request)", "3:5", "no_such_thing"),
        ("typed", "    let list = [1];\n    reply(200, `${list[5]}`)", "3:", "bounds"),
        ("missing", "    reply(200, request.nothing)", "2:", "nothing"),
        ("nested", "    if request.method == \"GET\" {\n        throw \"deep\";\n    }", "3:9", "deep"),
        ("nothing", "    let x = 1;", "", ""),
        ("number", "    42", "", ""),
    ];
    let mut text = "[outbound_by_host]\n".to_owned();
    for (name, body, ..) in mistakes {
        handler(&world, name, body);
        text += &format!("\"{name}.test\" = \"handlers/{name}.rhai\"\n");
    }
    let policy = site.policy(&world, &text, &[]);
    for (name, _, at, message) in mistakes {
        let outcome = world.run(&policy, curl(&[&format!("https://{name}.test/")]));
        let (body, rest) = answer(&outcome);
        assert_eq!(rest, "502 handler_failed", "{outcome:?}");
        let line = outcome.only_exchange();
        assert_line(line, &json!({"verdict": "failed", "reason": "handler_failed", "status": 502}));
        let told: Value = serde_json::from_str(body).unwrap();
        assert_line(&told, &json!({"reason": "handler_failed", "request_id": line["request_id"]}));
        assert!(!body.contains("rhai") && (message.is_empty() || !body.contains(message)), "{body}");
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("handlers/{name}.rhai:{at}")), "{detail}");
        assert!(detail.contains(message), "{detail}");
    }
    site.assert_untouched();
}

#[test]
fn what_a_handler_catches_is_its_own_affair() {
    let world = World::new("catches");
    let site = Site::start(&world);
    handler(
        &world,
        "catches",
        "try { return reply(200, `${fetch(request).status}`); } catch (error) { return reply(200, `caught ${type_of(error)}`); }",
    );
    let policy = catch_all(&world, &site, "catches", &["there.test"]);
    // Nobody listens there.
    let nobody = policy.replace(&site.tls.address().to_string(), "10.77.0.2:1");
    assert_answer(&world.run(&policy, curl(&["https://there.test/"])), "200");
    let outcome = world.run(&nobody, curl(&["https://there.test/"]));
    assert_answer(&outcome, "caught string");
    assert_line(outcome.lines("fetch")[0], &json!({"verdict": "failed", "reason": "connect_failed"}));

    // What is not caught is told as it would be without a handler.
    handler(&world, "plain", "fetch(request)");
    let outcome = world.run(&nobody.replace("catches.rhai", "plain.rhai"), curl(&["https://there.test/"]));
    assert_eq!(answer(&outcome).1, "502 connect_failed", "{outcome:?}");
}

#[test]
fn lines_logged_before_a_failure_are_kept() {
    let world = World::new("logged");
    let site = Site::start(&world);
    handler(
        &world,
        "logs",
        "log(\"info\", \"one\");\nlet status = fetch(request).status;\n\
         log(\"warn\", \"two\", #{ status: status, list: [1, \"x\"] });\nthrow \"three\";",
    );
    let outcome =
        world.run(&catch_all(&world, &site, "logs", &["there.test"]), curl(&["https://there.test/"]));
    assert_eq!(answer(&outcome).1, "502 handler_failed", "{outcome:?}");
    let [one, two] = outcome.lines("handler")[..] else { panic!("{outcome:#?}") };
    let request_id = &outcome.only_exchange()["request_id"];
    assert_line(one, &json!({"level": "info", "message": "one", "request_id": request_id}));
    assert_line(
        two,
        &json!({"level": "warn", "message": "two", "fields": {"status": 200, "list": [1, "x"]}}),
    );
    assert_line(two, &json!({"handler": "handlers/logs.rhai", "request_id": request_id}));
}

#[test]
fn scripts_written_on_windows_run() {
    let world = World::new("crlf");
    let site = Site::start(&world);
    let text = "// A comment\r\nfn outbound(request, env, ctx) {\r\n    if request.path == \"/bad\" {\r\n        throw \"x\";\r\n    }\r\n    reply(200, \"fine\")\r\n}\r\n";
    script(&world, "windows", text);
    let policy = catch_all(&world, &site, "windows", &[]);
    assert_answer(&world.run(&policy, curl(&["http://h.test/"])), "fine");
    let outcome = world.run(&policy, curl(&["http://h.test/bad"]));
    assert_eq!(answer(&outcome).1, "502 handler_failed", "{outcome:?}");
    let detail = outcome.only_exchange()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("handlers/windows.rhai:4:9"), "{detail}");
}
