//! `--trust`, and programs as they are installed: none of them has a flag or a setting by which it would trust the gate.

use std::fs;

use e2e::World;

use crate::cell::{Cell, assert_nothing_mounted_here};
use crate::support::{ANSWER, HOST, Yard, shown};

const JAVA: &str = "class Fetch { public static void main(String[] a) throws Exception { System.out.print(\
                    new String(new java.net.URL(a[0]).openStream().readAllBytes())); } }";
const PERL: &str =
    "my $r = HTTP::Tiny->new(verify_SSL => 1)->get(shift); print $r->{content}; exit !$r->{success}";
const RUBY: &str = "require 'net/http'; print Net::HTTP.get(URI(ARGV[0]))";

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
        &["node", "-e", &node],
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
    // Native roots, as rustls-native-certs has them.
    let uv = ["/opt/python/bin/uv", "pip", "install", "--system-certs", "--no-cache", "--no-config"];
    let missing = ["--target", &folder, "--index-url", &url, "missing"];
    Asks::only(&[&uv[..], &missing].concat()).assert_trusts(&cell, &yard);
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
    let gate = cell.gate_without_trust();
    let outcome = cell.job(&podman).run();
    assert!(outcome.stderr.contains("x509: certificate signed by unknown authority"), "{outcome:#?}");
    yard.site.assert_untouched();
    drop(gate);
    let _gate = cell.gate();
    Asks::only(&podman).assert_trusts(&cell, &yard);
}
