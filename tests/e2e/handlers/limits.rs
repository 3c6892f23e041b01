//! What a handler that goes wrong costs: its own request, in bounded time.

use std::fs;
use std::time::{Duration, Instant};

use e2e::{Reply, Site, World, wait_until};
use serde_json::json;

use crate::support::{answer, assert_answer, assert_line, catch_all, curl, handler};

/// Handlers that want too much, what they want, and how the answer says so.
const GREEDY: [(&str, &str, &str); 8] = [
    ("operations", "let count = 0; while count >= 0 { count += 1; } reply(200)", "502 handler_failed"),
    ("text", "let text = \"x\"; loop { text += text; }", "502 handler_failed"),
    ("array", "let list = []; loop { list.push(1); }", "502 handler_failed"),
    ("nested", "let list = []; loop { list = [list, list]; }", "502 handler_failed"),
    ("map", "let map = #{}; let n = 0; loop { n += 1; map[`k${n}`] = n; }", "502 handler_failed"),
    ("recursion", "fn deeper(n) { deeper(n + 1) }", "502 handler_failed"),
    ("blob", "loop { let blob = blob(1000000000); }", "502 handler_failed"),
    ("caught", "loop { try { throw \"x\"; } catch { } }", "502 handler_failed"),
];

#[test]
fn h06_clients_that_leave_do_not_multiply_the_threads_of_handlers() {
    let world = World::new("h06-threads");
    let site = Site::start(&world);
    handler(&world, "loop", "loop {}");
    // Each run goes on for seconds after its client has left.
    let limits = "handler_limits = { cpu_ms = 3000, operations = 1000000000 }";
    let text = format!("{limits}\noutbound = \"handlers/loop.rhai\"");
    let mut gate = world.gate(&site.policy(&world, &text, &["h.test"])).named("box").attach();
    let one = "curl -s -m 2 --http2-prior-knowledge http://h.test/ &";
    drop(gate.run(["sh", "-c", &format!("{} wait", one.repeat(40))]));
    let arrived = gate.operator(["status", "get", "--json"]).run().json()["requests"].as_u64().unwrap();
    assert!(arrived > 20, "only {arrived} of 40 requests arrived");
    let status = fs::read_to_string(format!("/proc/{}/status", gate.running().pid())).unwrap();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
    let threads: usize = threads.trim().parse().unwrap();
    assert!(threads < 20, "{threads} threads");
}

#[test]
fn h06_a_handler_that_wants_too_much_costs_its_own_request() {
    let world = World::new("h06-limits");
    let site = Site::start(&world);
    // Operations run out before time does, on however slow a machine.
    let mut text = "handler_limits.cpu_ms = 10000\n[outbound_by_host]\n".to_owned();
    for (name, body, _) in GREEDY {
        let path = match body.strip_prefix("fn ") {
            Some(function) => crate::support::script(
                &world,
                name,
                format!("fn {function}\nfn outbound(request, env, ctx) {{ deeper(1) }}"),
            ),
            None => handler(&world, name, body),
        };
        text += &format!("\"{name}.test\" = \"handlers/{name}.rhai\"\n");
        assert!(path.exists());
    }
    handler(&world, "good", "reply(200, \"good\")");
    text += "\"good.test\" = \"handlers/good.rhai\"\n";
    let mut gate = world.gate(&site.policy(&world, &text, &[])).attach();
    let resident = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    assert_answer(&gate.run(curl(&["http://good.test/"])), "good");
    let before = resident(gate.running().pid());
    for (name, _, told) in GREEDY {
        let began = Instant::now();
        let outcome = gate.run(curl(&[&format!("http://{name}.test/")]));
        assert_eq!(answer(&outcome).1, told, "{name}: {outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(15), "{name} took {:?}", began.elapsed());
        let line = gate.wait_for_log(|line| line["host"] == format!("{name}.test"));
        assert_line(&line, &json!({"verdict": "failed", "reason": "handler_failed", "status": 502}));
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("handlers/{name}.rhai:")), "{detail}");
        assert_answer(&gate.run(curl(&["http://good.test/"])), "good");
    }
    let peak = resident(gate.running().pid());
    assert!(peak - before < 64 * 1024, "from {before} KiB to {peak} KiB");
}

#[test]
fn h06_loops_do_not_hold_up_other_hosts() {
    let world = World::new("h06-loops");
    let site = Site::start(&world);
    handler(&world, "loops", "loop { }");
    handler(&world, "good", "fetch(request)");
    let text = "allowed_hosts = [\"loop.test\", \"good.test\", \"plain.test\"]\n\
                [outbound_by_host]\n\"loop.test\" = \"handlers/loops.rhai\"\n\"good.test\" = \"handlers/good.rhai\"\n\
                [handler_limits]\ncpu_ms = 2000\noperations = 1000000000";
    let policy = site.policy(&world, text, &["good.test", "plain.test"]);
    let gate = world.gate(&policy).named("box").attach();
    let eight = "for one in 1 2 3 4 5 6 7 8; do\n\
                 (for turn in 1 2; do curl -sS --max-time 60 -o /dev/null -w '%{http_code} %header{x-sluicegate-reason}\n' http://loop.test/; done) &\n\
                 done; wait";
    let loops = gate.job(["sh", "-c", eight]).spawn();
    wait_until("eight loops", Duration::from_secs(20), || {
        let status = gate.operator(["status", "get", "--json"]).run();
        status.assert_success();
        status.json()["requests"].as_u64().unwrap() >= 8
    });
    let urls =
        ["http://good.test/", "https://good.test/", "http://plain.test/", "https://plain.test/"].repeat(5);
    let own = ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code} %{time_total}\n"];
    let others = gate.run([&own[..], &urls].concat());
    let unfinished = loops.stdout().lines().count() < 16;
    others.assert_success();
    assert!(unfinished, "the loops ended before they could hold anybody up: {others:?}");
    let times: Vec<_> =
        others.stdout.lines().filter_map(|line| line.strip_prefix("200 ")?.parse::<f64>().ok()).collect();
    assert_eq!(times.len(), urls.len(), "{others:?}");
    assert!(times.iter().all(|time| *time < 1.0), "{times:?}");
    let looped = loops.wait();
    looped.assert_success().assert_stdout(&"504 handler_timeout\n".repeat(16));
}

#[test]
fn n13_a_handler_that_waits_for_a_silent_origin_is_given_up() {
    let world = World::new("n13");
    let site = Site::answering(&world, |_| Reply::hang());
    // Nothing that it catches gets it out of its time.
    handler(&world, "waits", "try { return fetch(request); } catch { return reply(200, \"caught\"); }");
    let policy = format!(
        "{}\n[handler_limits]\nwall_ms = 1500\n",
        catch_all(&world, &site, "waits", &["silent.test"])
    );
    let gate = world.gate(&policy).attach();
    for version in ["--http1.1", "--http2"] {
        let began = Instant::now();
        let outcome = gate.run(curl(&[version, "https://silent.test/"]));
        assert_eq!(answer(&outcome).1, "504 handler_timeout", "{outcome:?}");
        assert!(outcome.stdout.contains("handler_timeout"), "{outcome:?}");
        let took = began.elapsed();
        assert!(took > Duration::from_millis(1_500) && took < Duration::from_secs(10), "{took:?}");
    }
}
