//! `--trust` for Node.js as its makers build it: by OpenSSL's settings, and a library that they name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use e2e::{Outcome, World, wait_until};
use nix::sys::signal::{Signal, kill};

use crate::cell::{
    BUNDLE, Cell, DEADLINE, NAME, NODE as DEPENDENCY, assert_nothing_mounted_here, authority, keeper, put,
};
use crate::support::{ANSWER, Bundle, Docker, HOST, IMAGE, Yard, shown};

/// Where a cell has it.
const NODE: &str = "/opt/node/bin/node";
/// OpenSSL's settings, and the folder that they name.
const SETTINGS: &str = "/etc/ssl/openssl.cnf";
const FOLDER: &str = "/dev/sluicegate";

/// What Node.js is to say of the origin, and of itself.
fn fetches() -> String {
    format!("fetch('https://{HOST}/').then(r => r.text()).then(text => console.log(text, process.execPath))")
}

#[test]
fn t02_node_as_its_makers_build_it_trusts_the_gate_as_long_as_it_runs() {
    let world = World::new("trust-node");
    let yard = Yard::new(&world);
    let cell = Cell::new(&yard, None);
    let before = cell.read(SETTINGS);
    let gate = cell.gate_without_trust();
    let node = |options: &[&str]| -> Outcome { cell.job(&[options, &["-e", &fetches()]].concat()).run() };
    let refused = node(&[NODE]);
    assert!(!refused.status.success() && refused.stderr.contains("UNABLE_TO_"), "{refused:#?}");
    yard.site.assert_untouched();
    drop(gate);
    let gate = cell.gate();
    // It is the same program where it was, with whatever roots it has been told to use.
    let variable = format!("NODE_EXTRA_CA_CERTS={BUNDLE}");
    for options in [&[NODE][..], &["env", &variable, NODE], &[NODE, "--use-system-ca"]] {
        node(options).assert_success().assert_stdout(&format!("{ANSWER} {NODE}\n"));
    }
    let script = "require('node:child_process').spawnSync(process.execPath, ['-e', process.argv[1]], {stdio: 'inherit'})";
    cell.job(&[NODE, "-e", script, &fetches()])
        .run()
        .assert_success()
        .assert_stdout(&format!("{ANSWER} {NODE}\n"));
    // Debian's, of another OpenSSL, reads the same; and OpenSSL itself loads nothing of it.
    let debians = node(&["/usr/bin/node"]);
    debians.assert_success().assert_stdout(&format!("{ANSWER} /usr/bin/node\n"));
    let providers = cell.job(&["openssl", "list", "-providers"]).run().assert_success().stdout.clone();
    assert!(providers.contains("default") && !providers.contains("sluicegate"), "{providers}");
    // What was there before is the rest of the settings.
    assert!(cell.read(SETTINGS).contains(&before));
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
    assert_eq!(cell.read(SETTINGS), before);
    cell.job(&["test", "!", "-e", FOLDER]).run().assert_success();
    assert_nothing_mounted_here();
}

#[test]
fn t02_a_node_that_reads_other_settings_refuses_and_the_log_says_what_to_do() {
    let world = World::new("trust-node-told");
    let yard = Yard::new(&world);
    let cell = Cell::new(&yard, None);
    let gate = cell.gate();
    let outcome = cell.job(&["env", "OPENSSL_CONF=/dev/null", NODE, "-e", &fetches()]).run();
    assert!(!outcome.status.success() && outcome.stderr.contains("UNABLE_TO_"), "{outcome:#?}");
    yard.site.assert_untouched();
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
    let log = yard.log(NAME);
    let failed: Vec<_> = log.iter().filter(|line| line["reason"] == "tls_handshake_failed").collect();
    assert_eq!(failed.len(), 1, "{log:#?}");
    let detail = failed[0]["detail"].as_str().unwrap();
    assert!(detail.contains("Node.js") && detail.contains("NODE_EXTRA_CA_CERTS"), "{detail}");
}

/// Puts the makers' Node.js into the file system that images are made of.
fn put_node(yard: &Yard<'_>) {
    let program = format!("{}/bin/node", yard.world.test_dependency(DEPENDENCY));
    let script = format!(
        "mkdir -p $1/usr/local/bin && cp {program} $1/usr/local/bin/
        ldd {program} | grep -o '/[^ ]*' | while read -r file; do mkdir -p $1${{file%/*}}; cp -L $file $1$file; done"
    );
    yard.job(["sh", "-c", &script, "sh", &shown(&yard.files())]).run().assert_success();
}

#[test]
fn t03_node_trusts_the_gate_in_an_image_that_has_no_certificates() {
    let world = World::new("trust-node-slim");
    let yard = Yard::new(&world);
    put_node(&yard);
    let _docker = Docker::start(&yard);
    let policy = yard.policy();
    let container = format!("docker run -d --name slim --network none --user 1000:1000 {IMAGE} sleep 3600");
    yard.shell(&container).run().assert_success();
    let mut gate =
        yard.job(["sluicegate", "attach", "docker:slim", "--policy", &policy, "--trust", "--json"]).spawn();
    gate.wait_for_output("\"ready\"");
    gate.wait_for_complaint("no certificate bundle: only its Node.js trusts the gate");
    let line = ["docker", "exec", "slim", "node", "-e", &fetches()];
    yard.job(line).run().assert_success().assert_stdout(&format!("{ANSWER} /usr/local/bin/node\n"));
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
    let left = yard.job(["docker", "diff", "slim"]).run().assert_success().stdout.clone();
    assert!(!left.contains("openssl.cnf") && !left.contains("sluicegate"), "{left}");
}

#[test]
fn t02_node_as_its_makers_build_it_trusts_the_gate_in_a_container_that_run_starts() {
    let world = World::new("run-node");
    let yard = Yard::new(&world);
    put_node(&yard);
    put(&shown(&yard.files()), BUNDLE, fs::read(BUNDLE).unwrap());
    let _docker = Docker::start(&yard);
    let policy = format!("--policy={}", yard.policy());
    let script = format!("fetch('https://{HOST}/').then(r => r.text()).then(console.log)");
    let told = ["--docker", "--rm", IMAGE, "node", "-e", &script];
    for options in [&[&*policy][..], &[&*policy, "--trust"]] {
        let line = [&["sluicegate", "run"], options, &told].concat();
        yard.job(line).run().assert_success().assert_stdout(&format!("{ANSWER}\n"));
    }
}

#[test]
fn t03_a_hook_has_node_trust_the_gate_before_its_first_instruction() {
    for runtime in ["runc", "crun"] {
        let world = World::new("trust-node-hook");
        let yard = Yard::new(&world);
        put_node(&yard);
        put(&shown(&yard.files()), BUNDLE, fs::read(BUNDLE).unwrap());
        let id = format!("node-{runtime}-{}", std::process::id());
        let options = ["--policy", &yard.policy(), "--state", &shown(&world.path("state")), "--trust"];
        let bundle = Bundle::new(&yard, "b", &format!("exec node -e \"{}\"", fetches()));
        let outcome = bundle.writable().hooked(&yard, &options).job(&yard, runtime, &id).run();
        outcome.assert_success().assert_stdout(&format!("{ANSWER} /usr/local/bin/node\n"));
        yard.wait_for_the_end(&id);
    }
    assert_nothing_mounted_here();
}

#[test]
fn t03_node_trusts_the_gate_in_a_read_only_rootless_container() {
    let world = World::new("trust-node-rootless");
    let yard = Yard::new(&world);
    put_node(&yard);
    put(&shown(&yard.files()), BUNDLE, fs::read(BUNDLE).unwrap());
    put(&shown(&yard.files()), SETTINGS, "HOME = .\n");
    let (policy, script) = (yard.policy(), fetches());
    let script = format!(
        "podman run -d --name jail --network none --read-only {IMAGE} sleep 3600
        sluicegate attach podman:jail --policy {policy} --trust > gate.out 2>&1 &
        until sluicegate status get --instance jail > status.out 2>&1; do sleep 0.1; done
        podman exec jail node -e \"{script}\"
        kill $!
        wait $!
        podman exec jail cat {SETTINGS}
        podman exec jail sh -c 'ls -d {FOLDER} 2>/dev/null || echo nothing'
        podman rm -f -t 0 jail"
    );
    let outcome = yard.rootless_podman(&script);
    let told = format!("{ANSWER} /usr/local/bin/node\nHOME = .\nnothing\n");
    assert!(outcome.stdout.contains(&told), "{outcome:#?}");
}

#[test]
fn t08_node_is_told_of_the_present_authority_whatever_gates_of_before_have_left() {
    let world = World::new("trust-node-again");
    let yard = Yard::new(&world);
    let cell = Cell::new(&yard, None);
    let before = cell.read(SETTINGS);
    for ends in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM] {
        let gate = cell.gate();
        assert_eq!(cell.read(&format!("{FOLDER}/ca.pem")), authority(&yard, NAME));
        assert_eq!(cell.read(SETTINGS).matches("nodejs_conf").count(), 1);
        let outcome = cell.job(&[NODE, "-e", &fetches()]).run();
        outcome.assert_success().assert_stdout(&format!("{ANSWER} {NODE}\n"));
        if ends == Signal::SIGKILL {
            // Together with who would have tidied up.
            kill(keeper(&gate), ends).unwrap();
        }
        gate.signal(ends);
        gate.wait();
        assert_eq!(cell.read(SETTINGS) == before, ends == Signal::SIGTERM);
    }
}

#[test]
fn t03_where_node_cannot_be_told_the_rest_trusts_the_gate_and_a_warning_says_so() {
    let world = World::new("trust-node-cannot");
    let yard = Yard::new(&world);
    let root = shown(&yard.files());
    put(&root, BUNDLE, fs::read(BUNDLE).unwrap());
    put(&root, "/usr/local/bin/node", "");
    let cell = Cell::new(&yard, Some(&root));
    let settings = format!("{root}{SETTINGS}");
    let told = |warning: Option<&str>| {
        let mut gate = cell.gate();
        if let Some(warning) = warning {
            let said = format!("Node.js as its makers build it does not trust the gate: {warning}");
            gate.wait_for_complaint(&said);
        }
        let is_told = cell.job(&["cat", &format!("{FOLDER}/ca.pem")]).run().status.success();
        assert_eq!(is_told, warning.is_none(), "{warning:?}");
        cell.job(&["curl", "-sS", &format!("https://{HOST}/")]).run().assert_stdout(ANSWER);
        gate.signal(Signal::SIGTERM);
        let outcome = gate.wait();
        outcome.assert_success();
        assert_eq!(outcome.stderr.is_empty(), warning.is_none(), "{outcome:?}");
    };
    // What is missing is made, and gone afterwards.
    told(None);
    assert!(!fs::exists(&settings).unwrap() && !fs::exists(format!("{root}{FOLDER}")).unwrap());
    symlink("/tmp", format!("{root}{FOLDER}")).unwrap();
    told(Some("/dev has sluicegate that is another's"));
    assert!(!fs::exists(&settings).unwrap() && fs::read_dir(format!("{root}/tmp")).unwrap().next().is_none());
    fs::remove_file(format!("{root}{FOLDER}")).unwrap();
    fs::create_dir(&settings).unwrap();
    told(Some("/etc has ssl/openssl.cnf that is another's"));
    fs::remove_dir(&settings).unwrap();
    put(&root, SETTINGS, "nodejs_conf = own\n");
    told(Some("it has settings of its own (nodejs_conf)"));
    put(&root, SETTINGS, "HOME = .\n");
    told(None);
    assert_eq!(fs::read_to_string(&settings).unwrap(), "HOME = .\n");
    // Nothing is made where a link leads to.
    fs::remove_file(&settings).unwrap();
    fs::rename(format!("{root}/etc"), format!("{root}/configuration")).unwrap();
    symlink("configuration", format!("{root}/etc")).unwrap();
    let gate = cell.gate();
    cell.job(&["curl", "-sS", &format!("https://{HOST}/")]).run().assert_stdout(ANSWER);
    assert!(!fs::exists(&settings).unwrap());
    drop(gate);
    assert_nothing_mounted_here();
}

#[test]
fn e17_nothing_is_made_in_the_machines_own_devices() {
    let world = World::new("trust-node-devices");
    let yard = Yard::new(&world);
    let root = shown(&yard.files());
    put(&root, BUNDLE, fs::read(BUNDLE).unwrap());
    put(&root, SETTINGS, "HOME = .\n");
    let script = format!("mount --rbind /dev {root}/dev && exec chroot {root} sleep 3600");
    let process = yard.job(["unshare", "--net", "--mount", "sh", "-c", &script]).spawn();
    let comm = format!("/proc/{}/comm", process.pid());
    wait_until("the container's process", DEADLINE, || {
        fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep")
    });
    let target = format!("pid:{}", process.pid());
    for has_node in [false, true] {
        if has_node {
            put(&root, "/usr/local/bin/node", "");
        }
        let mut gate =
            yard.job(["sluicegate", "attach", &target, "--trust", "--json", "--name", NAME]).spawn();
        gate.wait_for_output("\"ready\"");
        if has_node {
            gate.wait_for_complaint("does not trust the gate: /dev is mounted from elsewhere");
        }
        assert!(!fs::exists(FOLDER).unwrap());
        assert_eq!(
            fs::read_to_string(format!("/proc/{}/root{SETTINGS}", process.pid())).unwrap(),
            "HOME = .\n"
        );
        gate.signal(Signal::SIGTERM);
        let ended = gate.wait();
        assert_eq!(ended.stderr.contains("Node.js"), has_node, "{ended:#?}");
    }
}

#[test]
fn t02_what_names_the_certificate_to_others_names_it_to_node_too() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy");
    for file in [
        "compose.yaml",
        "compose-sidecar.yaml",
        "kubernetes/sidecar.yaml",
        "kubernetes/cni.yaml",
        "helm/sluicegate/templates/sidecar.yaml",
    ] {
        let text = fs::read_to_string(deploy.join(file)).unwrap();
        let count = |name: &str| text.matches(name).count();
        assert!(count("SSL_CERT_FILE") > 0, "{file}");
        assert_eq!(count("SSL_CERT_FILE"), count("NODE_EXTRA_CA_CERTS"), "{file}");
    }
}
