//! `--trust`, and programs as they are installed: none of them has a flag or a setting by which it would trust the gate.

use std::fs;
use std::path::Path;

use e2e::{Outcome, World};

use crate::cell::{BUNDLE, Cell, NAME, assert_nothing_mounted_here};
use crate::support::{ANSWER, Docker, HOST, IMAGE, Yard, shown};

const JAVA: &str = "class Fetch { public static void main(String[] a) throws Exception { System.out.print(\
                    new String(new java.net.URL(a[0]).openStream().readAllBytes())); } }";
const PERL: &str =
    "my $r = HTTP::Tiny->new(verify_SSL => 1)->get(shift); print $r->{content}; exit !$r->{success}";
const RUBY: &str = "require 'net/http'; print Net::HTTP.get(URI(ARGV[0]))";
/// The makers' Node.js, where a cell has it.
const NODE: &str = "/opt/node/bin/node";

/// A program that runs in a cell and asks the origin.
struct Asks<'a> {
    command: &'a [&'a str],
    /// Whether it is content with what the origin answers to everything. It has asked, otherwise, over a connection
    /// that it trusts, and does not like what it is told.
    is_content: bool,
}

impl<'a> Asks<'a> {
    fn and_prints(command: &'a [&'a str]) -> Self {
        Self { command, is_content: true }
    }

    fn only(command: &'a [&'a str]) -> Self {
        Self { command, is_content: false }
    }

    /// Fails unless the request is let through to the origin.
    #[track_caller]
    fn assert_trusts(&self, cell: &Cell<'_, '_>, yard: &Yard<'_>) {
        let before = yard.site.requests().len();
        let outcome = cell.job(self.command).run();
        assert!(!self.is_content || outcome.status.success(), "{outcome:#?}");
        let asked = yard.site.requests().len() - before;
        assert!(asked > 0, "{:?} did not reach the origin: {outcome:#?}", self.command);
    }
}

#[test]
fn t02_the_programs_of_a_debian_trust_the_gate_without_flags() {
    let world = World::new("trust-debian");
    let yard = Yard::new(&world);
    // The machine's own files, in a mount namespace of its own.
    let cell = Cell::new(&yard, None);
    let _gate = cell.gate();
    let java = shown(&world.file("Fetch.java", JAVA));
    let url = format!("https://{HOST}/");
    let openssl = format!(
        "printf 'GET / HTTP/1.0\\r\\nHost: {HOST}\\r\\n\\r\\n' | \
         openssl s_client -quiet -verify_return_error -connect {HOST}:443"
    );
    let urllib = format!("import urllib.request as u; print(u.urlopen('{url}').read().decode())");
    let php = format!("exit(file_get_contents('{url}') === false ? 1 : 0);");
    let fetched = shown(&world.path("fetched"));
    let node = format!("fetch('{url}').then(r => r.text()).then(console.log)");
    let table: [&[&str]; 10] = [
        &["curl", "-sS", &url],
        &["wget", "-qO-", &url],
        &["sh", "-c", &openssl],
        &["/usr/bin/python3", "-c", &urllib],
        &["java", &java, &url],
        &["/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "download-file", &url, &fetched],
        &["perl", "-MHTTP::Tiny", "-e", PERL, &url],
        &["ruby", "-e", RUBY, &url],
        &["php", "-r", &php],
        // Node.js has authorities of its own; the file is where it was before.
        &["env", &format!("NODE_EXTRA_CA_CERTS={BUNDLE}"), "node", "-e", &node],
    ];
    for command in table {
        Asks::and_prints(command).assert_trusts(&cell, &yard);
    }
    Asks::only(&["git", "ls-remote", &url]).assert_trusts(&cell, &yard);
    assert_eq!(fs::read_to_string(&fetched).unwrap(), ANSWER);
    assert_nothing_mounted_here();
}

#[test]
fn t02_the_tools_of_python_and_rust_trust_the_gate_without_flags() {
    let world = World::new("trust-tools");
    let yard = Yard::new(&world);
    let cell = Cell::new(&yard, None);
    let _gate = cell.gate();
    let url = format!("https://{HOST}/");
    // What certifi has, and not the system.
    let requests = format!("import requests; print(requests.get('{url}').text)");
    Asks::and_prints(&["/opt/python/bin/python", "-c", &requests]).assert_trusts(&cell, &yard);
    let folder = shown(&world.path("downloads"));
    let pip = [
        &["/opt/python/bin/python", "-m", "pip", "download", "--no-cache-dir", "--retries", "0"][..],
        &["--disable-pip-version-check", "--no-deps", "-d", &folder, "-i", &url, "missing"],
    ]
    .concat();
    // It reads the system's bundle, and did read a copy of certifi's before version 24.2.
    Asks::only(&pip).assert_trusts(&cell, &yard);
    Asks::only(&[&pip[..], &["--use-deprecated", "legacy-certs"]].concat()).assert_trusts(&cell, &yard);
    let index = format!("sparse+{url}");
    let cargo = ["/opt/rust/bin/cargo", "search", "--index", &index, "missing"];
    Asks::only(&cargo).assert_trusts(&cell, &yard);
}

#[test]
fn t02_a_program_in_go_trusts_the_gate_and_does_not_without_trust() {
    let world = World::new("trust-go");
    let yard = Yard::new(&world);
    let cell = Cell::new(&yard, None);
    let folder = shown(&world.path("p"));
    let (image, run) = (format!("{HOST}/image"), format!("{folder}/run"));
    let options =
        ["--root", &folder, "--runroot", &run, "--storage-driver", "vfs", "--events-backend", "none"];
    let podman =
        [&["/usr/bin/podman"], &options[..], &["--cgroup-manager", "cgroupfs", "search", &image]].concat();
    let gate = without_trust(&cell, &yard);
    let outcome = cell.job(&podman).run();
    assert!(outcome.stderr.contains("x509: certificate signed by unknown authority"), "{outcome:#?}");
    yard.site.assert_untouched();
    drop(gate);
    let _gate = cell.gate();
    Asks::only(&podman).assert_trusts(&cell, &yard);
}

/// A gate that the cell is not made to trust.
fn without_trust<'world>(cell: &Cell<'_, 'world>, yard: &Yard<'world>) -> e2e::Running<'world> {
    let (target, policy) = (format!("pid:{}", cell.pid()), yard.policy());
    let line = ["sluicegate", "attach", &target, "--policy", &policy, "--json", "--name", NAME];
    let mut gate = yard.job(line).spawn();
    gate.wait_for_output("\"ready\"");
    gate
}

#[test]
fn t02_node_as_its_makers_build_it_has_to_be_told_and_the_log_says_how() {
    let world = World::new("trust-node");
    let yard = Yard::new(&world);
    let cell = Cell::new(&yard, None);
    let gate = cell.gate();
    let script = format!("fetch('https://{HOST}/').then(r => r.text()).then(console.log)");
    let node = |options: &[&str]| -> Outcome { cell.job(&[options, &["-e", &script]].concat()).run() };
    let alone = node(&[NODE]);
    assert!(!alone.status.success() && alone.stderr.contains("UNABLE_TO_"), "{alone:#?}");
    yard.site.assert_untouched();
    let variable = format!("NODE_EXTRA_CA_CERTS={BUNDLE}");
    for options in [&["env", &variable, NODE][..], &[NODE, "--use-system-ca"]] {
        node(options).assert_success().assert_stdout(&format!("{ANSWER}\n"));
    }
    gate.signal(nix::sys::signal::Signal::SIGTERM);
    gate.wait().assert_success();
    let log = yard.log(NAME);
    let failed: Vec<_> = log.iter().filter(|line| line["reason"] == "tls_handshake_failed").collect();
    assert_eq!(failed.len(), 1, "{log:#?}");
    let detail = failed[0]["detail"].as_str().unwrap();
    assert!(detail.contains("Node.js") && detail.contains("NODE_EXTRA_CA_CERTS"), "{detail}");
}

#[test]
fn t02_node_as_its_makers_build_it_trusts_the_gate_in_a_container_that_run_starts() {
    let world = World::new("run-node");
    let yard = Yard::new(&world);
    let files = yard.files();
    let program = format!("{}/bin/node", world.test_dependency(crate::cell::NODE));
    let libraries = format!(
        "ldd {program} | grep -o '/[^ ]*' | while read -r file; do mkdir -p $1${{file%/*}}; cp -L $file $1$file; done
        mkdir -p $1/etc/ssl/certs && cp {BUNDLE} $1{BUNDLE}"
    );
    yard.job(["sh", "-c", &libraries, "sh", &shown(&files)]).run().assert_success();
    let _docker = Docker::start(&yard);
    let policy = format!("--policy={}", yard.policy());
    let mount = format!("{program}:/usr/bin/node:ro");
    let script = format!("fetch('https://{HOST}/').then(r => r.text()).then(console.log)");
    let told = ["--docker", "--rm", "-v", &mount, IMAGE, "node", "-e", &script];
    for options in [&[&*policy][..], &[&*policy, "--trust"]] {
        let line = [&["sluicegate", "run"], options, &told].concat();
        yard.job(line).run().assert_success().assert_stdout(&format!("{ANSWER}\n"));
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
