//! The objects of the platform: the same as in Node, and fresh for each request.

use std::time::{Duration, Instant};

use e2e::{Reply, Site, World};
use serde_json::{Value, json};

use crate::support::{answer, assert_answer, assert_told, attach, catch_all, curl, handler, script};

/// A file that both run: each entry of what it gives is one check.
const PLATFORM: &str = include_str!("platform.js");

const PROBE: &str = "import { probe } from './platform.mjs';\nconsole.log(JSON.stringify(await probe()));";

#[test]
fn the_objects_of_the_platform_do_what_they_do_in_node() {
    let world = World::new("platform");
    let site = Site::start(&world);
    script(&world, "platform", PLATFORM);
    world.home_file("platform.mjs", PLATFORM);
    let node = [
        "/usr/bin/node",
        "--no-warnings",
        "--experimental-global-webcrypto",
        "--input-type=module",
        "-e",
        PROBE,
    ];
    let wanted = world.job(world.gate_namespace(), node).run();
    wanted.assert_success();
    let gate = attach(&world, &catch_all(&world, &site, "platform", &[]));
    let outcome = gate.run(curl(&["http://h.test/"]));
    let (body, told) = answer(&outcome);
    assert_eq!(told, "200 ", "{outcome:?}\n{:#?}", gate.log());
    let found: Value = serde_json::from_str(body).unwrap();
    let wanted = wanted.json();
    let differing: Vec<_> = wanted
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, value)| found[*name] != **value)
        .map(|(name, value)| format!("{name}\n  node: {value}\n  here: {}", found[name]))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert_eq!(wanted.as_object().unwrap().len(), found.as_object().unwrap().len());
}

#[test]
fn nothing_is_kept_from_one_request_to_the_next() {
    let world = World::new("isolation");
    let site = Site::start(&world);
    script(
        &world,
        "keeps",
        "let turns = 0;\nexport default {\n  async outbound(request) {\n    turns += 1;\n    globalThis.seen ??= [];\n\
         globalThis.seen.push(request.url);\n    Array.prototype.mine ??= request.url;\n    Response.mine ??= request.url;\n\
         return Response.json([turns, globalThis.seen, Array.prototype.mine, Response.mine]);\n  },\n};\n",
    );
    let gate = attach(&world, &catch_all(&world, &site, "keeps", &[]));
    for path in ["one", "two", "three"] {
        let url = format!("http://h.test/{path}");
        assert_eq!(crate::support::json(&gate, &[&url]), json!([1, [url], url, url]));
    }
}

#[test]
fn chance_is_not_the_same_twice() {
    let world = World::new("chance");
    let site = Site::start(&world);
    handler(
        &world,
        "chance",
        "const bytes = crypto.getRandomValues(new Uint8Array(8));\n\
         return Response.json([Math.random(), Math.random(), crypto.randomUUID(), [...bytes].join()]);",
    );
    let gate = attach(&world, &catch_all(&world, &site, "chance", &[]));
    let mut all: Vec<String> = (0..6)
        .flat_map(|_| {
            let seen = crate::support::json(&gate, &["http://h.test/"]);
            let numbers = [&seen[0], &seen[1]].map(|number| number.as_f64().unwrap());
            assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)), "{seen}");
            seen.as_array().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
        })
        .collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "{all:#?}");
}

#[test]
fn a_fetch_is_given_up_after_its_time_and_the_handler_goes_on() {
    let world = World::new("timeout");
    let site = Site::answering(&world, |_| Reply::hang());
    handler(
        &world,
        "waits",
        "try {\n  return await fetch(request, { signal: AbortSignal.timeout(300) });\n} catch (error) {\n\
         return new Response(`${error.name} ${error instanceof DOMException}`, { status: 504 });\n}",
    );
    let gate = attach(&world, &catch_all(&world, &site, "waits", &["h.test"]));
    let began = Instant::now();
    assert_eq!(assert_told(&gate, &["https://h.test/"], "504 "), "TimeoutError true");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn timers_wait_and_do_not_hold_up_other_requests() {
    let world = World::new("timers");
    let site = Site::start(&world);
    handler(
        &world,
        "waits",
        "const before = performance.now();\nawait new Promise((resolve) => setTimeout(resolve, 1000));\n\
         const waited = performance.now() - before;\n\
         return new Response(waited >= 999 && waited < 10000 ? \"waited\" : `${waited}`);",
    );
    let gate = attach(&world, &catch_all(&world, &site, "waits", &[]));
    assert_answer(&gate, &["http://h.test/"], "waited");
    // Far more at once than there are threads.
    let began = Instant::now();
    let thirty = format!("{}wait", "curl -sS http://h.test/ &\n".repeat(30));
    let outcome = gate.run(["sh", "-c", &thirty]);
    outcome.assert_success().assert_stdout(&"waited".repeat(30));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn several_fetches_and_their_failures() {
    let world = World::new("fetches");
    let site = Site::start(&world);
    handler(
        &world,
        "several",
        "const hosts = [\"one.test\", \"two.test\", \"down.test\"];\n\
         const results = await Promise.allSettled(hosts.map((host) => fetch(`https://${host}/`)));\n\
         const told = results.map(async ({ value, reason }) => (value ? value.text() : reason.name));\n\
         return Response.json(await Promise.all(told));",
    );
    let policy = catch_all(&world, &site, "several", &["one.test", "two.test"])
        .replace("resolve = {", "resolve = { \"down.test:443\" = \"10.77.0.2:1\",");
    let gate = attach(&world, &policy);
    let seen = crate::support::json(&gate, &["http://h.test/"]);
    assert_eq!(seen, json!(["origin: one.test", "origin: two.test", "TypeError"]));
}

#[test]
fn what_the_gate_refuses_a_handler_cannot_catch() {
    let world = World::new("refused");
    let site = Site::start(&world);
    handler(
        &world,
        "tries",
        "const [, to] = new URL(request.url).pathname.split(\"/\");\n\
         try { await fetch(`https://${to}/`); } catch { }\n\
         try { if (to === \"deny\") deny(\"by itself\"); } catch { }\nreturn new Response(\"caught\");",
    );
    let text = "denied_hosts = [\"denied.test\"]\noutbound = \"handlers/tries.js\"";
    let policy = crate::support::document(&world, &site, text, &["denied.test", "deny"]);
    let gate = attach(&world, &policy);
    assert_told(&gate, &["http://h.test/denied.test"], "403 denied_host");
    let body = assert_told(&gate, &["http://h.test/deny"], "403 denied_by_handler");
    assert!(body.contains("by itself"), "{body}");
    assert!(site.requests().iter().all(|request| request.authority != "denied.test"));
}
