//! `--trust`: containers whose programs trust the gate, with nothing of theirs changed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use e2e::{World, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::cell::{
    BEGIN, BUNDLE, Cell, DEADLINE, NAME, assert_extended, assert_nothing_mounted_here, authority, keeper, put,
};
use crate::support::{ANSWER, Bundle, Docker, HOST, IMAGE, Yard, assert_complains, shown};

/// How distributions lay out what programs trust, where each is told `$1` for its root. The machine's bundle is
/// the first file, and the Java store, which has an old magic number and nothing else, the second.
struct Layout {
    name: &'static str,
    files: [&'static str; 2],
    links: &'static [(&'static str, &'static str)],
}

const LAYOUTS: [Layout; 5] = [
    Layout {
        name: "debian",
        files: [BUNDLE, "/etc/ssl/certs/java/cacerts"],
        links: &[
            ("/usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt"),
            ("/usr/lib/ssl/certs", "/etc/ssl/certs"),
        ],
    },
    Layout {
        name: "alpine",
        files: [BUNDLE, "/usr/lib/jvm/java-21-openjdk/lib/security/cacerts"],
        links: &[("/etc/ssl/cert.pem", "certs/ca-certificates.crt")],
    },
    Layout {
        name: "fedora",
        files: [
            "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            "/etc/pki/ca-trust/extracted/java/cacerts",
        ],
        links: &[
            ("/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
            ("/etc/pki/tls/cert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
            ("/etc/ssl/certs", "../pki/tls/certs"),
        ],
    },
    Layout {
        name: "arch",
        files: [
            "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
            "/etc/ca-certificates/extracted/java-cacerts.jks",
        ],
        links: &[
            (BUNDLE, "../../ca-certificates/extracted/tls-ca-bundle.pem"),
            ("/etc/ssl/cert.pem", "../ca-certificates/extracted/tls-ca-bundle.pem"),
        ],
    },
    Layout {
        name: "suse",
        files: ["/var/lib/ca-certificates/ca-bundle.pem", "/var/lib/ca-certificates/java-cacerts"],
        links: &[("/etc/ssl/ca-bundle.pem", "/var/lib/ca-certificates/ca-bundle.pem")],
    },
];

impl Layout {
    /// A root file system that is laid out so, with the programs of the yard.
    fn make(&self, yard: &Yard<'_>) -> String {
        let root = shown(&yard.world.path(self.name));
        yard.job(["cp", "-a", &shown(&yard.files()), &root]).run().assert_success();
        let [bundle, java] = self.files;
        put(&root, bundle, fs::read(BUNDLE).unwrap());
        put(&root, java, b"\xfe\xed\xfe\xed");
        for (link, target) in self.links {
            let link = format!("{root}{link}");
            fs::create_dir_all(Path::new(&link).parent().unwrap()).unwrap();
            symlink(target, link).unwrap();
        }
        root
    }

    /// The names by which programs open the bundle.
    fn bundles(&self) -> Vec<&str> {
        let links = self.links.iter().map(|(link, _)| *link).filter(|link| !link.ends_with("certs"));
        links.chain([self.files[0]]).collect()
    }
}

fn asks() -> [String; 3] {
    ["curl".into(), "-sS".into(), format!("https://{HOST}/")]
}

#[test]
fn t03_containers_of_five_distributions_trust_the_gate_as_long_as_it_runs() {
    let world = World::new("trust-layouts");
    let yard = Yard::new(&world);
    let before = fs::read_to_string(BUNDLE).unwrap();
    for layout in LAYOUTS {
        let root = layout.make(&yard);
        let certifi = "/app/.venv/lib/python3.12/site-packages/certifi/cacert.pem";
        put(&root, certifi, &before);
        let cell = Cell::new(&yard, Some(&root));
        let gate = cell.gate();
        let authority = authority(&yard, NAME);
        for bundle in layout.bundles().into_iter().chain([certifi]) {
            assert_extended(&cell.read(bundle), &before, &authority);
            let url = format!("https://{HOST}/");
            cell.job(&["curl", "-sS", "--cacert", bundle, &url]).run().assert_stdout(ANSWER);
        }
        let store = cell.job(&["cat", layout.files[1]]).run().stdout_bytes;
        let certificate = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
        let has = store.windows(certificate.len()).any(|part| part == &*certificate);
        assert!(has, "{}: Java's store has {} bytes", layout.name, store.len());
        let written = cell.job(&["sh", "-c", &format!("echo x >> {}", layout.files[0])]).run();
        assert!(!written.status.success(), "{written:?}");
        gate.signal(Signal::SIGTERM);
        gate.wait().assert_success();
        assert_eq!(cell.read(layout.files[0]), before, "{}", layout.name);
        assert_eq!(cell.job(&["cat", layout.files[1]]).run().stdout_bytes, b"\xfe\xed\xfe\xed");
    }
    assert_eq!(fs::read_to_string(BUNDLE).unwrap(), before);
    assert_nothing_mounted_here();
}

#[test]
fn t08_of_all_gates_that_came_one_after_the_other_one_authority_is_trusted() {
    let world = World::new("trust-again");
    let yard = Yard::new(&world);
    let cell = Cell::new(&yard, Some(&LAYOUTS[0].make(&yard)));
    let before = fs::read_to_string(BUNDLE).unwrap();
    let untouched = || cell.read(BUNDLE) == before;
    // Ended in order; killed; killed together with who would have tidied up.
    for (ends, is_left) in [(Signal::SIGTERM, false), (Signal::SIGKILL, false), (Signal::SIGKILL, true)] {
        let gate = cell.gate();
        assert_extended(&cell.read(BUNDLE), &before, &authority(&yard, NAME));
        cell.job(&["curl", "-sS", &format!("https://{HOST}/")]).run().assert_stdout(ANSWER);
        if is_left {
            kill(keeper(&gate), Signal::SIGKILL).unwrap();
        }
        gate.signal(ends);
        gate.wait();
        if is_left {
            assert!(!untouched(), "nobody was there to take it off");
        } else {
            wait_until("the container's own bundle", DEADLINE, untouched);
        }
    }
    let gate = cell.gate();
    assert_extended(&cell.read(BUNDLE), &before, &authority(&yard, NAME));
    // Another one is kept out, and changes nothing on its way out.
    let second = yard.job(["sluicegate", "attach", &format!("pid:{}", cell.pid()), "--trust"]).run();
    assert_eq!(second.code(), 75, "{second:?}");
    assert_extended(&cell.read(BUNDLE), &before, &authority(&yard, NAME));
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
    assert!(untouched());
}

#[test]
fn t05_a_container_that_cannot_be_made_to_trust_the_gate_is_not_attached_to() {
    let world = World::new("trust-refused");
    let yard = Yard::new(&world);
    let root = shown(&yard.files());
    let refused = |cell: &Cell<'_, '_>, code: i32, words: &[&str]| {
        assert_complains(&cell.attach(&[]).run(), code, &[words, &["hint: "]].concat());
    };
    let bare = Cell::new(&yard, Some(&root));
    refused(&bare, 69, &["no certificate bundle", "install ca-certificates", "--ca-file"]);
    put(&root, BUNDLE, format!("{BEGIN}\n{}", "x".repeat(5 << 20)));
    refused(&bare, 64, &[BUNDLE, "longer than 4194304 bytes"]);
    // One that Java cannot have, and a Java.
    put(&root, BUNDLE, format!("{BEGIN}\nA!ID\n-----END CERTIFICATE-----\n"));
    put(&root, "/etc/ssl/certs/java/cacerts", b"\xfe\xed\xfe\xed");
    refused(&bare, 69, &["cannot be converted for Java", BUNDLE]);
    assert_eq!(bare.read(BUNDLE).matches(BEGIN).count(), 1, "nothing was mounted");
    drop(bare);

    let mut shared = yard.job(["unshare", "--net", "sh", "-c", "echo here; exec sleep 3600"]).spawn();
    shared.wait_for_output("here");
    let target = format!("pid:{}", shared.pid());
    let outcome = yard.job(["sluicegate", "attach", &target, "--trust"]).run();
    assert_complains(&outcome, 64, &["has no mount namespace of its own", "--ca-file"]);
    let path = format!("/proc/{}/ns/net", shared.pid());
    let outcome = yard.job(["sluicegate", "attach", &path, "--trust"]).run();
    assert_complains(&outcome, 64, &["--trust needs a container", "pid:N"]);
    drop(shared);

    // Mounts that go both ways.
    let script = "mount --make-rshared /
        unshare --net --mount --propagation unchanged sh -c 'echo > $0; exec sleep 3600' $0 &
        until [ -e $0 ]; do sleep 0.02; done
        sluicegate attach pid:$! --trust; code=$?; kill $!; exit $code";
    let flag = shown(&world.path("in-its-namespaces"));
    let outcome = yard.job(["unshare", "--mount", "sh", "-c", script, &flag]).run();
    assert_complains(&outcome, 64, &["is mounted outside of it too", "make-rslave"]);
    assert_nothing_mounted_here();
    yard.site.assert_untouched();
}

#[test]
fn e17_a_container_leads_the_gate_to_no_file_that_its_user_may_not_read() {
    let world = World::new("trust-hostile");
    let yard = Yard::new(&world);
    let root = LAYOUTS[0].make(&yard);
    let outside = shown(&world.file("outside.pem", fs::read(BUNDLE).unwrap()));
    let secret = format!("{BEGIN}\nfor root alone\n");
    put(&root, "/etc/secret", &secret);
    fs::set_permissions(format!("{root}/etc/secret"), Permissions::from_mode(0o600)).unwrap();
    put(&root, "/etc/settings", "of programs\n");
    let certifi = |venv: &str| {
        let folder = format!("{root}/home/{venv}/.venv/lib/python3.12/site-packages/certifi");
        fs::create_dir_all(&folder).unwrap();
        format!("{folder}/cacert.pem")
    };
    let climbing = format!("../../../../../../../../../../../..{outside}");
    for (venv, target) in [
        ("secret", "/etc/secret"),
        ("settings", "/etc/settings"),
        ("outside", &outside),
        ("climbing", &climbing),
        ("process", "/proc/1/root/etc/ssl/certs/ca-certificates.crt"),
        ("loop", "/home/loop/.venv/lib/python3.12/site-packages/certifi/cacert.pem"),
    ] {
        symlink(target, certifi(venv)).unwrap();
    }
    let everybody = Mode::from_bits_truncate(0o666);
    mkfifo(&*certifi("pipe"), everybody).unwrap();
    // A watchdog's number: who opens one and closes it again restarts the machine.
    let watchdog = makedev(10, 130);
    mknod(&*certifi("device"), SFlag::S_IFCHR, everybody, watchdog).unwrap();
    let java = format!("{root}/home/java/.sdkman/candidates/java/21/lib/security");
    fs::create_dir_all(&java).unwrap();
    symlink("/etc/settings", format!("{java}/cacerts")).unwrap();

    let cell = Cell::new(&yard, Some(&root));
    let gate = cell.gate();
    cell.job(&["curl", "-sS", &format!("https://{HOST}/")]).run().assert_stdout(ANSWER);
    assert_eq!(cell.read("/etc/secret"), secret);
    assert_eq!(cell.job(&["busybox", "stat", "-c", "%a", "/etc/secret"]).run().stdout, "600\n");
    assert_eq!(cell.read("/etc/settings"), "of programs\n");
    let mounted = fs::read_to_string(format!("/proc/{}/mountinfo", cell.pid())).unwrap();
    let over: Vec<_> = mounted.lines().filter(|line| line.contains(" - tmpfs sluicegate ")).collect();
    assert_eq!(over.len(), 2, "Debian's two files: {over:#?}");
    assert!(over.iter().all(|line| line.contains("/etc/ssl/certs/")), "{over:#?}");
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
    assert_nothing_mounted_here();
}

#[test]
fn the_commands_of_the_guide_have_a_read_only_docker_container_trust_the_gate() {
    let world = World::new("trust-docker");
    let yard = Yard::new(&world);
    put(&shown(&yard.files()), BUNDLE, fs::read(BUNDLE).unwrap());
    let _docker = Docker::start(&yard);
    let outcome = yard.shell(&yard.documented("Trust without a change to the container")).run();
    outcome.assert_success();
    assert!(outcome.stdout.contains(ANSWER), "{outcome:?}");
    let id = yard.job(["docker", "inspect", "-f", "{{.State.Pid}}", "jail"]).run().stdout;
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", id.trim())).unwrap();
    assert!(mounts.contains(" - tmpfs sluicegate "), "{mounts}");
    yard.job(["docker", "rm", "-f", "jail"]).run().assert_success();
    yard.wait_for_the_end("jail");
    assert_nothing_mounted_here();
}

#[test]
fn t08_a_container_that_is_started_again_trusts_its_new_gate() {
    let world = World::new("trust-follow");
    let yard = Yard::new(&world);
    put(&shown(&yard.files()), BUNDLE, fs::read(BUNDLE).unwrap());
    let _docker = Docker::start(&yard);
    let (policy, ask) = (yard.policy(), asks().join(" "));
    let script = format!(
        "set -eu
        docker run -d --name jail --network none {IMAGE} sleep 3600
        sluicegate attach docker:jail --policy {policy} --trust --follow > gate.out 2>&1 &
        authority() {{ sluicegate ca get --instance jail 2> ca.out || true; }}
        until first=$(authority) && [ \"$first\" ]; do sleep 0.1; done
        docker exec jail {ask}
        docker restart -t 0 jail
        until second=$(authority) && [ \"$second\" ] && [ \"$second\" != \"$first\" ]; do sleep 0.1; done
        docker exec jail {ask}
        echo
        docker exec jail cat {BUNDLE} > bundle
        authority > authority
        docker rm -f jail
        wait"
    );
    let outcome = yard.shell(&script).run();
    outcome.assert_success();
    assert_eq!(outcome.stdout.matches(ANSWER).count(), 2, "{outcome:#?}");
    let read = |name: &str| fs::read_to_string(world.path(name)).unwrap();
    assert_extended(&read("bundle"), &fs::read_to_string(BUNDLE).unwrap(), &read("authority"));
    assert_nothing_mounted_here();
}

#[test]
fn a_rootless_podman_container_is_made_to_trust_the_gate_by_its_user() {
    let world = World::new("trust-rootless");
    let yard = Yard::new(&world);
    put(&shown(&yard.files()), BUNDLE, fs::read(BUNDLE).unwrap());
    let policy = yard.policy();
    let ask = asks().join(" ");
    let script = format!(
        "podman run -d --name jail --network none --read-only {IMAGE} sleep 3600
        sluicegate attach podman:jail --policy {policy} --trust > gate.out 2>&1 &
        until sluicegate status get --instance jail > status.out 2>&1; do sleep 0.1; done
        podman exec jail {ask}
        echo
        podman exec jail sh -c 'busybox grep -c sluicegate /proc/mounts'
        kill $!
        wait $!
        podman exec jail sh -c 'busybox grep -c sluicegate /proc/mounts || true'
        podman rm -f -t 0 jail"
    );
    let outcome = yard.rootless_podman(&script);
    assert!(outcome.stdout.contains(&format!("{ANSWER}\n1\n0\n")), "{outcome:?}");
}

#[test]
fn t03_a_hook_makes_a_container_trust_the_gate_before_its_first_instruction() {
    for runtime in ["runc", "crun"] {
        let world = World::new("trust-hook");
        let yard = Yard::new(&world);
        put(&shown(&yard.files()), BUNDLE, fs::read(BUNDLE).unwrap());
        let id = format!("trust-{runtime}-{}", std::process::id());
        let options = ["--policy", &yard.policy(), "--state", &shown(&world.path("state")), "--trust"];
        // The variable of other tests' bundles names a file that is not there.
        let script = format!("unset SSL_CERT_FILE; {}; grep -c sluicegate /proc/mounts", asks().join(" "));
        let script = script.replace("grep", "echo; busybox grep");
        let bundle = Bundle::new(&yard, "b", &script).hooked(&yard, &options);
        let outcome = bundle.job(&yard, runtime, &id).run();
        outcome.assert_success().assert_stdout(&format!("{ANSWER}\n1\n"));
        yard.wait_for_the_end(&id);
        assert_nothing_mounted_here();
    }
}
