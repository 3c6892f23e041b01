//! `sluicegate run --docker` and `run --podman`.

use std::fs;
use std::time::Duration;

use e2e::{Outcome, World, wait_until};
use nix::sys::signal::Signal;

use crate::support::{
    ANSWER, Docker, HOST, IMAGE, SEARCH_PATH, Yard, assert_complains, assert_judged, executable, shown,
    two_answers, two_requests,
};

/// The line of a sealed container: options of the gate, which engine, and what that is told.
fn line<'word>(yard: &Yard<'_>, gate: &[&'word str], engine: &'word str, told: &[&'word str]) -> Vec<String> {
    let policy = format!("--policy={}", yard.policy());
    let line = [&["sluicegate", "run", &*policy], gate, &[engine], told].concat();
    line.into_iter().map(str::to_owned).collect()
}

/// Fails unless this engine has no container left and the runtime folder no certificates.
#[track_caller]
fn assert_nothing_left(yard: &Yard<'_>, engine: &str) {
    let left = yard.job([engine, "ps", "--all", "--quiet"]).run();
    left.assert_stdout("");
    assert_no_folder_left(&yard.world.path("root/sluicegate"));
}

#[track_caller]
fn assert_no_folder_left(runtime: &std::path::Path) {
    let left: Vec<_> = fs::read_dir(runtime).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("run-")), "{left:?}");
}

/// Runs two requests in a container, and fails unless one was let through, by the whole way.
#[track_caller]
fn assert_seals(yard: &Yard<'_>, engine: &str) {
    let script = format!("{}; exit 7", two_requests());
    let told = ["--rm", "--name", "box", IMAGE, "sh", "-c", &script];
    let outcome = yard.job(line(yard, &[], &format!("--{engine}"), &told)).run();
    assert_eq!((outcome.code(), &*outcome.stdout), (7, &*two_answers()), "{outcome:?}");
    assert!(outcome.stderr.contains("sluicegate: box is sealed"), "{outcome:?}");
    // The log was closed before the command returned.
    let log = yard.log("box");
    assert_eq!(log.last().unwrap()["action"], "stopped", "{log:#?}");
    assert_judged(yard, &log);
    assert_nothing_left(yard, engine);
}

fn image_id(yard: &Yard<'_>, engine: &str) -> String {
    let image = concat!("sluicegate-pause:", env!("CARGO_PKG_VERSION"));
    let told = yard.job([engine, "image", "inspect", "--format", "{{.Id}}", image]).run();
    told.assert_success().stdout.clone()
}

#[test]
fn the_command_of_the_guide_runs_a_sealed_docker_container() {
    let world = World::new("run-docker-guide");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    yard.shell(&yard.documented("A container in one command")).run().assert_stdout(ANSWER);
    assert_nothing_left(&yard, "docker");
}

#[test]
fn a_docker_container_is_judged_from_its_first_instruction_and_leaves_nothing() {
    let world = World::new("run-docker");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    assert_seals(&yard, "docker");
    // The image with the program that waits is imported once.
    let image = image_id(&yard, "docker");
    let told =
        ["-h", "nest", "--add-host=db:192.0.2.1", "-eSSL_CERT_FILE=/nowhere", "--rm", IMAGE, "sh", "-c"];
    let script = "cat /etc/hostname /etc/hosts; echo \"$SSL_CERT_FILE $CURL_CA_BUNDLE $HTTPS_PROXY.\"; \
                  ls -l /run/sluicegate; cat /dev/null > /run/sluicegate/x || echo read-only; ls /sys/class/net";
    let outcome = yard
        .job(line(&yard, &["--json", "--name", "given"], "--docker", &[&told[..], &[script]].concat()))
        .env("HTTPS_PROXY", "http://192.0.2.9:3128")
        .run();
    outcome.assert_success();
    assert!(outcome.stdout.starts_with("nest\n") && outcome.stdout.contains("192.0.2.1\tdb"), "{outcome:?}");
    assert!(outcome.stdout.contains("/nowhere /run/sluicegate/bundle.pem .\n"), "{outcome:?}");
    assert!(
        outcome.stdout.contains("-rw-r--r--") && outcome.stdout.ends_with("read-only\nlo\n"),
        "{outcome:?}"
    );
    let ready = outcome.stderr.lines().find(|line| line.starts_with('{')).expect("a line of JSON");
    let ready: serde_json::Value = serde_json::from_str(ready).unwrap();
    assert_eq!((&ready["event"], &ready["instance"]), (&"ready".into(), &"given".into()));
    assert_eq!(image_id(&yard, "docker"), image);
    assert_nothing_left(&yard, "docker");
}

#[test]
fn a_podman_container_is_judged_from_its_first_instruction_and_leaves_nothing() {
    let world = World::new("run-podman");
    let yard = Yard::new(&world);
    yard.install_podman("crun");
    assert_seals(&yard, "podman");
    yard.shell(&yard.documented("A container in one command").replace("--docker", "--podman"))
        .run()
        .assert_stdout(ANSWER);
}

#[test]
fn a_rootless_podman_container_is_sealed_by_its_user_in_one_command() {
    let world = World::new("run-rootless");
    let yard = Yard::new(&world);
    fill_with_bundles(&yard);
    let policy = yard.policy();
    let requests = two_requests();
    let script = format!(
        "sluicegate run --policy {policy} --podman {IMAGE} sh -c \"{requests}\"
        sluicegate run --policy {policy} --trust --podman {IMAGE} sh -c \
            'unset SSL_CERT_FILE CURL_CA_BUNDLE; curl -sS https://{HOST}/'
        podman ps --all --quiet"
    );
    let outcome = yard.rootless_podman(&script);
    assert!(outcome.stdout.ends_with(&format!("{}{ANSWER}", two_answers())), "{outcome:?}");
    assert_eq!(yard.site.requests().len(), 2);
    assert_no_folder_left(&world.home().join("run/sluicegate"));
}

#[test]
fn a_sealed_container_gets_the_signals_and_its_exit_code_is_passed_on() {
    let world = World::new("run-signals");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    let script = "trap 'echo told; exit 9' TERM; echo waiting; while :; do sleep 0.1; done";
    let mut running = yard.job(line(&yard, &[], "--docker", &["--rm", IMAGE, "sh", "-c", script])).spawn();
    running.wait_for_output("waiting");
    running.signal(Signal::SIGTERM);
    let outcome = running.wait();
    assert_eq!((outcome.code(), &*outcome.stdout), (9, "waiting\ntold\n"), "{outcome:?}");
    assert_nothing_left(&yard, "docker");
    let ended = |told: &[&str]| yard.job(line(&yard, &[], "--docker", told)).run().code();
    assert_eq!(ended(&["--rm", IMAGE, "sh", "-c", "sleep 9 & kill -9 $!; wait $!"]), 137);
    assert_eq!(ended(&["--rm", IMAGE, "nothing-of-that-name"]), 127);
    assert_eq!(ended(&["--rm", "--pull=never", "no-such-image", "true"]), 125);
    assert_nothing_left(&yard, "docker");
}

#[test]
fn a_container_without_its_gate_is_ended_and_nothing_left() {
    let world = World::new("run-killed");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    let script =
        format!("echo waiting; while :; do curl -sS -m 5 https://{HOST}/ >/dev/null; sleep 0.1; done");
    let told = ["--rm", IMAGE, "sh", "-c", &script];
    let mut running = yard.job(line(&yard, &["--name", "killed"], "--docker", &told)).spawn();
    running.wait_for_output("waiting");
    let gate = yard.shell("pgrep -f '[a]ttach.*--name=killed'").run();
    yard.job(["kill", "-9", gate.assert_success().stdout.trim()]).run().assert_success();
    let outcome = running.wait();
    assert_eq!(outcome.code(), 137, "{outcome:?}");
    assert!(outcome.stderr.contains("the gate has ended, and with it the container"), "{outcome:?}");
    assert_nothing_left(&yard, "docker");
}

#[test]
fn nothing_is_started_where_there_is_no_gate() {
    let world = World::new("run-no-gate");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    let folder = world.path("trust");
    let mount = format!("{}:/out", shown(&folder));
    let told = ["--rm", "-v", &mount, IMAGE, "sh", "-c", "echo > /out/it-ran"];
    let refused = |outcome: &Outcome, code: i32, words: &[&str]| {
        assert_complains(outcome, code, words);
        assert!(!folder.join("it-ran").exists(), "the container was started: {outcome:?}");
        assert_nothing_left(&yard, "docker");
    };
    let broken = world.file("broken.toml", "alowed_hosts = []");
    let policy = ["--policy", &shown(&broken)];
    let job = |gate: &[&str], told: &[&str]| {
        yard.job([&["sluicegate", "run"], gate, &["--docker"], told].concat()).run()
    };
    refused(&job(&policy, &told), 78, &["unknown key `alowed_hosts`"]);
    for (options, words) in [
        (&["--network", "host"][..], "leave it out"),
        (&["-p", "80:80"], "before --docker"),
        (&["-d"], "the background"),
    ] {
        refused(&job(&[], &[options, &told].concat()), 64, &["cannot have --", "hint: ", words]);
    }
    refused(&job(&[], &["--rm"]), 64, &["which image"]);
    refused(&job(&["--log", "-"], &told), 64, &["--log"]);
    let none =
        yard.job(["sluicegate", "run", "--docker", IMAGE, "true"]).env("DOCKER_HOST", "unix:///nowhere");
    assert_complains(&none.run(), 69, &["docker cannot ", "hint: "]);
    // What an earlier run left is not taken, nor removed.
    let left = yard.job([
        "docker",
        "run",
        "-d",
        "--name",
        "sluicegate-box",
        "--network",
        "none",
        IMAGE,
        "sleep",
        "1d",
    ]);
    left.run().assert_success();
    let taken = job(&["--name", "box"], &told);
    assert_complains(&taken, 69, &["already in use", "sluicegate-NAME"]);
    yard.job(["docker", "rm", "-f", "sluicegate-box"]).run().assert_success();
    assert!(!folder.join("it-ran").exists());
    let started = job(&[], &told);
    assert!(started.code() == 0 && folder.join("it-ran").exists(), "{started:?}");
}

#[test]
fn a_command_that_is_told_to_stop_beforehand_starts_no_container() {
    let world = World::new("run-stopped");
    let yard = Yard::new(&world);
    let _docker = Docker::start(&yard);
    // The gate waits for what Docker says of the container that holds the namespace.
    let hold = world.file("hold", "");
    let held = format!(
        "#!/bin/sh\nwhile [ \"$1\" = inspect ] && [ -e {} ]; do sleep 0.05; done\nPATH={SEARCH_PATH}; exec docker \"$@\"\n",
        shown(&hold)
    );
    executable(world.file("tools/docker", held));
    let told = ["--rm", IMAGE, "echo", "it ran"];
    let running = yard.job(line(&yard, &[], "--docker", &told)).spawn();
    let names = || yard.job(["docker", "ps", "--format", "{{.Names}}"]).run().stdout;
    wait_until("the first container", Duration::from_secs(20), || names().starts_with("sluicegate-sg-"));
    running.signal(Signal::SIGTERM);
    fs::remove_file(hold).unwrap();
    let outcome = running.wait();
    assert_eq!((outcome.code(), &*outcome.stdout), (143, ""), "{outcome:?}");
    assert_nothing_left(&yard, "docker");
}

/// Where an image like Debian has what its programs trust, and one of Python's.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const CERTIFI: &str = "/app/.venv/lib/python3.12/site-packages/certifi/cacert.pem";

/// Puts bundles into the file system that images are made of, before there is one.
fn fill_with_bundles(yard: &Yard<'_>) {
    for path in [BUNDLE, CERTIFI] {
        let file = yard.files().join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy(BUNDLE, &file).unwrap();
    }
}

/// Runs a container whose programs have no variable and trust the gate, by the bundle of its image.
#[track_caller]
fn assert_trusts_by_its_files(yard: &Yard<'_>, engine: &str) {
    let run = |gate: &[&str], told: &[&str]| yard.job(line(yard, gate, &format!("--{engine}"), told)).run();
    let ask = format!("unset SSL_CERT_FILE CURL_CA_BUNDLE; curl -sS https://{HOST}/");
    let alone = run(&[], &["--rm", IMAGE, "sh", "-c", &ask]);
    assert!(!alone.status.success(), "without --trust the bundle is the image's: {alone:?}");
    let script = format!(
        "{ask}; echo; for file in {BUNDLE} {CERTIFI}; do busybox grep -c BEGIN $file; echo x 2>/dev/null >> $file || \
         echo read-only; done; ls /pause"
    );
    let outcome = run(&["--trust", "--name", "trusting"], &["--rm", IMAGE, "sh", "-c", &script]);
    let count = fs::read_to_string(BUNDLE).unwrap().matches("BEGIN CERTIFICATE").count() + 1;
    let seen = format!("{ANSWER}\n{count}\nread-only\n{count}\nread-only\n");
    assert_eq!(outcome.stdout, seen, "{outcome:?}");
    assert!(outcome.stderr.contains("/pause"), "what waits is in the other container: {outcome:?}");
    assert_nothing_left(yard, engine);
    yard.job([engine, "volume", "ls", "--quiet"]).run().assert_stdout("");
}

#[test]
fn t03_a_docker_container_trusts_the_gate_by_the_bundle_of_its_image() {
    let world = World::new("run-trust");
    let yard = Yard::new(&world);
    fill_with_bundles(&yard);
    let _docker = Docker::start(&yard);
    assert_trusts_by_its_files(&yard, "docker");
    let run = |gate: &[&str], told: &[&str]| yard.job(line(&yard, gate, "--docker", told)).run();

    // An image that makes volumes, runs as somebody else, in a folder, by a command of its own.
    let files = shown(&yard.files());
    let changes = "--change 'VOLUME /data' --change 'USER 65534:65534' --change 'WORKDIR /app' \
                   --change 'ENTRYPOINT [\"sh\", \"-c\"]' --change 'CMD [\"pwd; ls /sys/class/net\"]'";
    yard.shell(&format!("tar -C {files} -c . | docker import {changes} - own")).run().assert_success();
    run(&["--trust"], &["--rm", "own"]).assert_stdout("/app\nlo\n");
    assert_nothing_left(&yard, "docker");
    yard.job(["docker", "volume", "ls", "--quiet"]).run().assert_stdout("");

    // What the operator mounts is theirs.
    let ours = world.file("trust/own.pem", "mine");
    let mount = format!("{}:{BUNDLE}", shown(&ours));
    let outcome = run(&["--trust"], &["--rm", "-v", &mount, IMAGE, "cat", BUNDLE]);
    assert_eq!((&*outcome.stdout, outcome.code()), ("mine", 0), "{outcome:?}");
    assert!(outcome.stderr.contains("not from the image"), "{outcome:?}");

    let pulled = run(&["--trust"], &["--rm", "--pull=always", IMAGE, "true"]);
    assert_complains(&pulled, 64, &["--pull together with --trust", "hint: "]);
    let none = run(&["--trust"], &["--rm", "--pull=never", "no-such-image", "true"]);
    assert_complains(&none, 69, &["no-such-image", "hint: "]);
    yard.shell("tar -C / -c bin/busybox | docker import - bare").run().assert_success();
    let bare = run(&["--trust"], &["--rm", "bare", "/bin/busybox", "echo", "it ran"]);
    assert_complains(&bare, 69, &["no certificate bundle", "hint: "]);
    assert_eq!(bare.stdout, "");
    assert_nothing_left(&yard, "docker");
}

#[test]
fn t03_a_podman_container_trusts_the_gate_by_the_bundle_of_its_image() {
    let world = World::new("run-trust-podman");
    let yard = Yard::new(&world);
    fill_with_bundles(&yard);
    yard.install_podman("crun");
    assert_trusts_by_its_files(&yard, "podman");
}
