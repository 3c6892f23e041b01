//! What of a file is bound: its own `outbound`, hosts and names, and what the document says beside it.

use e2e::{Outcome, Site, World};
use serde_json::json;

use crate::support::{answer, assert_answer, assert_told, attach, document, operator, script};

/// `sluicegate policy check` of a document that must not pass, beside whose text this is the handler.
fn refused(world: &World, text: &str, name: &str, handler: &str) -> Outcome {
    script(world, name, handler);
    let file = world.file("check.toml", format!("version = 1\n{text}\n")).display().to_string();
    let program = world.program("sluicegate");
    // The engine is compiled by the first alone.
    let state = world.home().join("state").display().to_string();
    let check = [&program, "policy", "check", &file, "--state", &state];
    let outcome = world.job(world.gate_namespace(), check).run();
    assert_eq!(outcome.code(), 78, "{outcome:?}");
    outcome
}

#[test]
fn a_class_with_all_three_kinds() {
    let world = World::new("class");
    let site = Site::start(&world);
    script(
        &world,
        "box",
        "export class Box {\n\
         static async outbound(request, env, ctx) { return new Response(`all ${ctx.className}`); }\n\
         static outboundByHost = {\n    \"one.test\": () => new Response(\"one\"),\n\
         \"*.many.test\": (request) => new Response(`many ${new URL(request.url).hostname}`),\n\
         \"10.1.0.0/16\": () => new Response(\"range\"),\n  };\n\
         static outboundHandlers = { named: (request, env, { params }) => new Response(`named ${params.n}`) };\n}\n",
    );
    let gate = attach(&world, &document(&world, &site, "outbound = \"handlers/box.js\"", &[]));
    assert_answer(&gate, &["http://any.test/"], "all Box");
    assert_answer(&gate, &["https://one.test/"], "one");
    assert_answer(&gate, &["https://a.many.test/"], "many a.many.test");
    assert_answer(&gate, &["http://10.1.2.3/"], "range");
    operator(&gate, &["handler", "set", "named", "--params", "{\"n\":7}"]);
    assert_answer(&gate, &["http://any.test/"], "named 7");
    assert_answer(&gate, &["https://one.test/"], "one");
    operator(&gate, &["handler", "set", "named", "--host", "one.test", "--params", "{\"n\":8}"]);
    assert_answer(&gate, &["https://one.test/"], "named 8");
    site.assert_untouched();
}

#[test]
fn each_way_of_writing_a_file() {
    let world = World::new("styles");
    let site = Site::start(&world);
    let files = [
        ("object", "export default { outbound: () => new Response(\"ok\") };"),
        ("async", "export default { async outbound() { await null; return new Response(\"ok\"); } };"),
        ("function", "export async function outbound() { return new Response(\"ok\"); }"),
        ("constant", "export const outbound = () => new Response(\"ok\");"),
        ("class", "export default class { static outbound() { return new Response(\"ok\"); } }"),
        (
            "inherits",
            "class Base { static outbound() { return new Response(\"ok\"); } }\nexport class Box extends Base {}",
        ),
        ("this", "export default { word: \"ok\", outbound() { return new Response(this.word); } };"),
        ("windows", "\u{feff}export default {\r\n  outbound: () => new Response(\"ok\"),\r\n};\r\n"),
        (
            "await",
            "const word = await Promise.resolve(\"ok\");\nexport default { outbound: () => new Response(word) };",
        ),
    ];
    let mut text = "[outbound_by_host]\n".to_owned();
    for (name, content) in files {
        script(&world, name, content);
        text += &format!("\"{name}.test\" = \"handlers/{name}.js\"\n");
    }
    let gate = attach(&world, &document(&world, &site, &text, &[]));
    for (name, _) in files {
        assert_answer(&gate, &[&format!("http://{name}.test/")], "ok");
    }
}

#[test]
fn the_document_and_the_file_bind_together() {
    let world = World::new("together");
    let site = Site::start(&world);
    script(
        &world,
        "all",
        "export default {\n  outbound: () => new Response(\"outbound\"),\n\
         outboundByHost: { \"own.test\": () => new Response(\"own\") },\n\
         outboundHandlers: { first: () => new Response(\"first\"), second: () => new Response(\"second\") },\n};\n",
    );
    world.file("handlers/small.rhai", "fn outbound(request, env, ctx) { reply(200, \"rhai\") }");
    // By name, and one of them under a host; bound to one host, its `outbound` is meant.
    let text = "outbound_by_host.\"small.test\" = \"handlers/small.rhai\"\n\
                outbound_by_host.\"bound.test\" = \"handlers/all.js\"\n\
                outbound_by_host.\"named.test\" = \"first\"\n\
                [outbound_handlers]\nfirst = \"handlers/all.js\"\nother = \"handlers/all.js\"\n";
    let gate = attach(&world, &document(&world, &site, text, &[]));
    for (host, body) in [("small", "rhai"), ("bound", "outbound"), ("named", "first")] {
        assert_answer(&gate, &[&format!("http://{host}.test/")], body);
    }
    // Only `outbound = "all.js"` binds all that it has.
    assert_told(&gate, &["http://own.test/"], "403 not_named");
    assert_eq!(gate.operator(["handler", "set", "second"]).run().code(), 64);
    operator(&gate, &["handler", "set", "other"]);
    assert_answer(&gate, &["http://own.test/"], "outbound");
}

#[test]
fn a_file_that_cannot_be_bound_is_told_of() {
    let world = World::new("unbound");
    let outbound = "outbound = \"handlers/x.js\"";
    for (name, text, handler, words) in [
        ("empty", outbound, "", &["x.js", "outbound"][..]),
        ("other", outbound, "export default { fetch: () => new Response() };", &["x.js", "outbound"]),
        (
            "pattern",
            outbound,
            "export default { outboundByHost: { \"a*b.test\": () => {} } };",
            &["a*b.test"],
        ),
        ("handler", outbound, "export default { outboundHandlers: { \"a b\": () => {} } };", &["a b"]),
        (
            "twice",
            "outbound = \"handlers/x.js\"\noutbound_by_host.\"a.test\" = { deny = \"no\" }",
            "export default { outboundByHost: { \"a.test\": () => {} } };",
            &["a.test"],
        ),
        (
            "at host",
            "outbound_by_host.\"a.test\" = \"handlers/x.js\"",
            "export default { outboundHandlers: { n: () => {} } };",
            &["outbound", "named:n"],
        ),
        ("throws", outbound, "throw new Error(\"at the start\");", &["at the start", "x.js:1:"]),
        ("syntax", outbound, "export default {\n  outbound(request { },\n};\n", &["x.js:2:"]),
        (
            "import",
            outbound,
            "import { x } from \"./other.js\";\nexport const outbound = x;",
            &["other.js", "one file"],
        ),
        ("loop", outbound, "for (;;);", &["x.js"]),
        (
            "fetch",
            outbound,
            "await fetch(\"https://h.test/\");\nexport default { outbound() {} };",
            &["x.js"],
        ),
    ] {
        let outcome = refused(&world, text, "x", handler);
        for word in words {
            assert!(outcome.stderr.contains(word), "{name}: no {word:?} in {outcome:?}");
        }
        assert!(outcome.duration.as_secs() < 30, "{name}: {outcome:?}");
    }
    let outcome = refused(&world, "outbound = \"handlers/x.ts\"", "x", "");
    assert!(outcome.stderr.contains("TypeScript"), "{outcome:?}");
}

#[test]
fn ctx_and_env_say_what_there_is() {
    let world = World::new("context");
    let site = Site::start(&world);
    script(
        &world,
        "all",
        "export default {\n  outbound(request, env, ctx) {\n    const { waitUntil, passThroughOnException, ...rest } = ctx;\n\
         return Response.json({ ...rest, team: env.TEAM, list: env.LIST, secret: typeof env.TOKEN, none: env.NONE ?? null });\n\
         },\n};\n",
    );
    let text = "outbound = \"handlers/all.js\"\n[env]\nTEAM = \"red\"\nLIST = [1, { a = true }]\n\
                [secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"h.test\"]";
    let gate = world.gate(&document(&world, &site, text, &[])).env("TOKEN", "value-of-the-token");
    let gate =
        ["--container-id", "c-1", "--label", "team=blue"].iter().fold(gate, |gate, flag| gate.flag(flag));
    let gate = crate::support::start(&world, gate);
    let outcome = gate.run(crate::support::curl(&["--http2", "https://h.test/x"]));
    let (body, told) = answer(&outcome);
    assert_eq!(told, "200 ", "{outcome:?}\n{:#?}", gate.log());
    let seen: serde_json::Value = serde_json::from_str(body).unwrap();
    let log = crate::support::settled(&gate, 1);
    let line = crate::support::of_kind(&log, "exchange")[0];
    crate::support::assert_line(
        &seen,
        &json!({
            "containerId": "c-1", "instanceId": "box", "labels": {"team": "blue"}, "params": {},
            "requestId": line["request_id"], "originalDestination": line["original_destination"],
            "sni": "h.test", "tls": "TLSv1_3", "protocol": "HTTP/2", "handler": "handlers/all.js",
            "handlerVersion": line["handler_version"], "team": "red", "list": [1, {"a": true}], "none": null,
        }),
    );
    assert!(!body.contains("value-of-the-token"), "{body}");
}
