//! `sluicegate oci-hook` with runc, crun and podman.

use std::fs;
use std::time::Duration;

use e2e::{Namespace, World, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{
    ANSWER, Bundle, HOST, IMAGE, Yard, assert_complains, assert_judged, shown, two_answers, two_requests,
};

const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// The gate that a hook has started for this container.
fn gate_of(id: &str) -> Pid {
    let wanted = format!("--id={id}");
    let found = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mut arguments = line.split(|byte| *byte == 0);
        (arguments.nth(1)? == b"background-gate" && arguments.any(|argument| argument == wanted.as_bytes()))
            .then(|| Pid::from_raw(pid))
    });
    found.expect("a gate of this container")
}

#[test]
fn h03_runtimes_start_a_container_that_is_judged_from_its_first_packet() {
    for runtime in RUNTIMES {
        let world = World::new("hook");
        let yard = Yard::new(&world);
        let id = format!("box-{runtime}-{}", std::process::id());
        let options = ["--policy", &yard.policy(), "--state", &shown(&world.path("state"))];
        let bundle = Bundle::new(&yard, "b", &two_requests()).hooked(&yard, &options);
        let outcome = bundle.job(&yard, runtime, &id).run();
        outcome.assert_success().assert_stdout(&two_answers());
        // It ends with its container, in order.
        let log = yard.wait_for_the_end(&id);
        assert_eq!(log[0]["instance"], id, "{log:#?}");
        assert_judged(&yard, &log);
    }
}

#[test]
fn nothing_leaves_when_the_gate_of_a_hook_is_killed() {
    for runtime in RUNTIMES {
        let world = World::new("hook-killed");
        let yard = Yard::new(&world);
        let id = format!("killed-{runtime}-{}", std::process::id());
        let options = ["--policy", &yard.policy(), "--state", &shown(&world.path("state"))];
        let script = format!(
            "curl -sS https://{HOST}/; echo; until [ -e /trust/killed ]; do sleep 0.02; done; \
             curl -sS -m 5 https://{HOST}/ 2>/dev/null; echo \"curl: $?\""
        );
        let bundle = Bundle::new(&yard, "b", &script).hooked(&yard, &options);
        let mut running = bundle.job(&yard, runtime, &id).spawn();
        running.wait_for_output(ANSWER);
        let before = world.arrivals();
        kill(gate_of(&id), Signal::SIGKILL).unwrap();
        fs::write(world.path("trust/killed"), "").unwrap();
        let outcome = running.wait();
        outcome.assert_success();
        let code = outcome.stdout.split("curl: ").nth(1).unwrap().trim();
        assert_ne!(code, "0", "{outcome:?}");
        assert_eq!(
            (world.arrivals(), yard.site.requests().len()),
            (before, 1),
            "nothing leaves without a gate"
        );
    }
}

#[test]
fn a_container_whose_gate_does_not_start_does_not_start_either() {
    for runtime in RUNTIMES {
        let world = World::new("hook-failed");
        let yard = Yard::new(&world);
        let state = format!("--state={}", shown(&world.path("state")));
        let wrong = shown(&world.file("wrong.toml", "version = 1\nalowed_hosts = []\n"));
        let missing = shown(&world.file("missing.toml", "version = 1\nallowed_hosts = [\"a.example\"]\nsecrets.T = { source = \"env://NOT_THERE\", hosts = [\"a.example\"] }\n"));
        let nowhere = shown(&world.path("nowhere.toml"));
        for (number, (policy, words)) in
            [(wrong, "alowed_hosts"), (missing, "NOT_THERE"), (nowhere, "cannot read the policy document")]
                .iter()
                .enumerate()
        {
            let bundle = Bundle::new(&yard, &format!("b{number}"), "echo it runs");
            let bundle = bundle.hooked(&yard, &["--policy", policy, &state]);
            let id = format!("failed-{number}-{}", std::process::id());
            let mut outcome = bundle.job(&yard, runtime, &id).run();
            outcome.stderr += &bundle.complaint();
            assert!(!outcome.status.success(), "{outcome:?}");
            assert_eq!(outcome.stdout, "", "{outcome:?}");
            assert!(outcome.stderr.contains(words), "{words} in {outcome:?}");
        }
        let open = Namespace::new(&format!("sg-open-{runtime}-{}", std::process::id()));
        open.ip(&["link", "add", "out0", "type", "veth", "peer", "name", "out1"]);
        let bundle =
            Bundle::new(&yard, "b9", "echo it runs").hooked(&yard, &["--policy", &yard.policy(), &state]);
        let bundle = bundle.in_namespace(&open.path());
        let mut outcome = bundle.job(&yard, runtime, &format!("open-{}", std::process::id())).run();
        outcome.stderr += &bundle.complaint();
        assert!(!outcome.status.success() && outcome.stdout.is_empty(), "{outcome:?}");
        assert!(outcome.stderr.contains("out0") && outcome.stderr.contains("--network none"), "{outcome:?}");
        yard.site.assert_untouched();
    }
}

#[test]
fn h03_podman_starts_a_container_with_the_hook_of_the_guide() {
    for runtime in RUNTIMES {
        let world = World::new("hook-podman");
        let yard = Yard::new(&world);
        yard.install_podman(runtime);
        let outcome = yard.shell(&yard.documented("Podman, from the first instruction")).run();
        outcome.assert_success();
        assert!(outcome.stdout.contains(ANSWER), "{outcome:?}");
        let trust = format!("{}:/trust:ro", shown(&world.path("trust")));
        let hooks = shown(&world.path("hooks"));
        let mut line = vec!["podman", "--hooks-dir", &hooks, "run", "--name", "twice", "--network", "none"];
        line.extend(["-v", &trust, "-e", "SSL_CERT_FILE=/trust/ca.pem", "--annotation", "sluicegate=jail"]);
        let script = two_requests();
        line.extend([IMAGE, "sh", "-c", &script]);
        yard.job(&line).run().assert_success().assert_stdout(&two_answers());
        let id = yard.job(["podman", "inspect", "-f", "{{.Id}}", "twice"]).run().stdout;
        let again = yard.job(["podman", "--hooks-dir", &hooks, "start", "--attach", "twice"]).run();
        again.assert_success().assert_stdout(&two_answers());
        let log = yard.wait_for_the_end(id.get(..12).unwrap());
        let starts = log.iter().filter(|line| line["action"] == "started").count();
        assert_eq!(starts, 2, "{log:#?}");
        assert_eq!(yard.site.requests().len(), 3);
        // Without the annotation there is no gate, and without a network there is no way out.
        let apart = yard.job([
            "podman",
            "--hooks-dir",
            &hooks,
            "run",
            "--rm",
            "--network",
            "none",
            IMAGE,
            "sh",
            "-c",
            "curl -s -m 5 https://api.example.com/ || echo none",
        ]);
        apart.run().assert_success().assert_stdout("none\n");
        assert_eq!(yard.site.requests().len(), 3);
    }
}

#[test]
fn two_containers_of_one_hook_have_a_gate_each() {
    let world = World::new("hook-two");
    let yard = Yard::new(&world);
    let options = ["--policy", &yard.policy(), "--state", &shown(&world.path("state"))];
    let ids = ["one", "two"].map(|name| format!("{name}-{}", std::process::id()));
    let script = format!("until [ -e /trust/go ]; do sleep 0.02; done; curl -sSk https://{HOST}/");
    let bundles = ids.clone().map(|id| Bundle::new(&yard, &id, &script).hooked(&yard, &options));
    let running: Vec<_> =
        bundles.iter().zip(&ids).map(|(bundle, id)| bundle.job(&yard, "runc", id).spawn()).collect();
    let has_begun = |id: &String| yard.log(id).iter().any(|line| line["action"] == "started");
    wait_until("two gates", Duration::from_secs(60), || ids.iter().all(has_begun));
    fs::write(world.path("trust/go"), "").unwrap();
    for running in running {
        running.wait().assert_success().assert_stdout(ANSWER);
    }
    for id in &ids {
        let log = yard.wait_for_the_end(id);
        assert_eq!(log.iter().filter(|line| line["kind"] == "exchange").count(), 1, "{log:#?}");
    }
}

#[test]
fn what_is_no_hook_call_is_refused_with_the_reason() {
    let world = World::new("hook-words");
    let yard = Yard::new(&world);
    let hook = |options: &[&str], state: &str| {
        yard.job([&["sluicegate", "oci-hook"], options].concat()).stdin(state).run()
    };
    assert_complains(&hook(&[], ""), 64, &["the state of a container", "hint: ", "oci-hook --print"]);
    let running = json!({"ociVersion": "1.0.2", "id": "box", "status": "running", "pid": 1}).to_string();
    assert_complains(&hook(&[], &running), 64, &["\"box\" is running", "createRuntime"]);
    assert_complains(&hook(&["--log", "-"], &running), 64, &["no standard output", "--log"]);
    assert_complains(&hook(&["--annotation", "x"], &running), 64, &["--print"]);
    let gone = json!({"id": "box", "status": "creating", "pid": i32::MAX}).to_string();
    assert_complains(&hook(&[], &gone), 74, &["hold on to the container's process"]);
    // What never ends is not waited for.
    let mut endless = yard.job(["sluicegate", "oci-hook"]).spawn();
    endless.write("{");
    let outcome = wait_with_open_input(&mut endless);
    assert!(outcome.contains("it has no end within 10 s"), "{outcome}");
}

/// What it complains about while its standard input stays open.
fn wait_with_open_input(running: &mut e2e::Running<'_>) -> String {
    wait_until("a complaint", Duration::from_secs(30), || running.stderr().contains("hint: "));
    running.stderr()
}
