//! `packaging/install.sh` and what it installs, at work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{Site, World, sha256_hex};

use crate::shop::{Shop, root, run, succeeded, version};

fn install(arguments: &[&str]) -> Output {
    Command::new(root().join("packaging/install.sh")).args(arguments).output().unwrap()
}

fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The archive that `scripts/release` makes.
fn archive(shop: &Shop) -> PathBuf {
    let folder = shop.make("scripts/release", &shop.programs(), "dist");
    folder.join(format!("sluicegate-{}-x86_64-linux.tar.gz", version()))
}

#[track_caller]
fn assert_refused(output: &Output, words: &str, prefix: &Path) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains(words), "{words:?} in {complaint}");
    assert!(!prefix.exists(), "something was installed: {complaint}");
}

#[test]
fn what_was_installed_seals_a_program() {
    let (world, shop) = (World::new("install"), Shop::new());
    let archive = shown(&archive(&shop));
    // Where the workload's user can get at it.
    let prefix = world.path("prefix");
    let said = succeeded(&install(&["--prefix", &shown(&prefix), &format!("file://{archive}")]));
    assert_eq!(said, format!("sluicegate {} is in {}\n", version(), shown(&prefix)));
    for file in ["share/man/man1/sluicegate.1.gz", "lib/systemd/system/sluicegate@.service"] {
        assert!(prefix.join(file).exists(), "{file}");
    }
    let site = Site::start(&world);
    let policy =
        site.policy(&world, "allowed_hosts = [\"api.example.com\"]", &["api.example.com", "b.example"]);
    let policy = shown(&world.file("policy.toml", policy));
    let ask = |host: &str| {
        let (program, url) = (shown(&prefix.join("bin/sluicegate")), format!("https://{host}/"));
        let line = [&program, "run", "-q", "--policy", &policy, "--", "curl", "-sS", &url];
        world.job(world.gate_namespace(), line).run()
    };
    ask("api.example.com").assert_success().assert_stdout("origin: api.example.com");
    assert!(ask("b.example").stdout.contains("policy_denied"));
    assert_eq!(site.requests().len(), 1);
    // Again, over what is there, from a path and with the checksum from elsewhere.
    let checksum = sha256_hex(&fs::read(&archive).unwrap());
    succeeded(&install(&["--prefix", &shown(&prefix), "--sha256", &checksum, &archive]));
    ask("api.example.com").assert_success();
}

#[test]
fn an_archive_that_is_not_what_it_should_be_is_not_installed() {
    let shop = Shop::new();
    let tree = shop.path("tree/bin");
    fs::create_dir(shop.path("tree")).unwrap();
    fs::rename(shop.stand_ins(), tree).unwrap();
    let archive = shop.path("good.tar.gz");
    run("tar", &["-czf", &shown(&archive), "-C", &shown(&shop.path("")), "tree"]);
    fs::write(shop.path("good.tar.gz.sha256"), sha256_hex(&fs::read(&archive).unwrap()) + "  good.tar.gz\n")
        .unwrap();
    let prefix = shop.path("prefix");
    let attempt = |words: &str, arguments: &[&str]| {
        let output = install(&[&["--prefix", &shown(&prefix)], arguments].concat());
        assert_refused(&output, words, &prefix);
    };
    let good = shown(&archive);
    let zeros = "0".repeat(64);
    attempt("is not what it should be", &["--sha256", &zeros, &good]);
    attempt("is no SHA-256 checksum", &["--sha256", "x", &good]);
    attempt("neither https:// nor file://", &["http://127.0.0.1:1/sluicegate.tar.gz"]);
    attempt("cannot fetch", &["file:///nowhere/sluicegate.tar.gz"]);
    attempt("cannot read", &["/nowhere/sluicegate.tar.gz"]);
    attempt("which archive", &[]);
    // One byte of the archive is another, and its checksum is beside it.
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let tampered = shop.path("tampered.tar.gz");
    fs::write(&tampered, bytes).unwrap();
    fs::copy(format!("{good}.sha256"), shop.path("tampered.tar.gz.sha256")).unwrap();
    attempt("is not what it should be", &[&shown(&tampered)]);
    attempt("is not what it should be", &[&format!("file://{}", shown(&tampered))]);
    fs::remove_file(shop.path("tampered.tar.gz.sha256")).unwrap();
    attempt("cannot read", &[&shown(&tampered)]);
    // What was refused was refused for that.
    succeeded(&install(&["--prefix", &shown(&prefix), &good]));
    assert!(prefix.join("bin/sluicegate-netns").exists());
}
