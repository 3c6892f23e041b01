//! `--trust` for programs of NSS: Chromium, and NSS's own tools, by the homes of their users.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use e2e::{Job, World, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cell::{BUNDLE, Cell, DEADLINE, NAME, assert_nothing_mounted_here, authority, keeper, put};
use crate::support::{ANSWER, Docker, HOST, IMAGE, Yard, shown};

const END: &str = "-----END CERTIFICATE-----\n";
/// Where the tests' image has the library, for `--trust` to look for homes.
const LIBRARY: &str = "/usr/lib64/libnss3.so";
/// The uid of `/home/worker` and `/home/idle` in a cell with the machine's files.
const WORKER: u32 = 65534;

/// A command of a cell's with this home, as its owner.
fn as_user<'world>(cell: &Cell<'_, 'world>, home: &str, command: &[&str]) -> Job<'world> {
    let (variable, uid) = (format!("HOME={home}"), WORKER.to_string());
    let mut line = vec!["env", &variable];
    if home != "/root" {
        line.extend(["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"]);
    }
    cell.job(&[&line, command].concat())
}

/// What NSS's own tool says of the database that is mounted: its certificate, in PEM.
fn told(cell: &Cell<'_, '_>, home: &str) -> String {
    let database = format!("sql:{home}/.pki/nssdb/sluicegate");
    let outcome = as_user(cell, home, &["certutil", "-L", "-d", &database, "-n", "Sluicegate", "-a"]).run();
    // It says more of a database without a password.
    let (certificate, _) = outcome.assert_success().stdout.split_once(END).expect(END);
    format!("{}{END}", certificate.replace("\r\n", "\n"))
}

/// Everything below `.pki` of a home, by name.
fn left(cell: &Cell<'_, '_>, home: &str) -> String {
    cell.job(&["sh", "-c", &format!("cd {home} && find .pki 2>/dev/null | sort | tr '\\n' ' '")]).run().stdout
}

#[test]
fn t02_chromium_trusts_the_gate_by_a_list_of_modules_and_keeps_its_own_database() {
    let world = World::new("trust-chromium");
    let yard = Yard::new(&world);
    let cell = Cell::new(&yard, None);
    // One user has a database with a certificate, the others have nothing.
    let own = format!(
        "mkdir -p ~/.pki/nssdb && certutil -N --empty-password -d sql:$HOME/.pki/nssdb &&
        certutil -A -n own -t C,, -d sql:$HOME/.pki/nssdb -i {BUNDLE} && cat ~/.pki/nssdb/pkcs11.txt"
    );
    let before = as_user(&cell, "/home/worker", &["sh", "-c", &own]).run().assert_success().stdout.clone();
    let gate = cell.gate();
    let page = format!("https://{HOST}/");
    for home in ["/root", "/home/worker"] {
        assert_eq!(told(&cell, home), authority(&yard, NAME));
        let script = format!(
            "cd && exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
             --disable-background-networking --no-first-run --user-data-dir=$HOME/profile \
             --virtual-time-budget=20000 --timeout=30000 --dump-dom {page}"
        );
        let outcome = as_user(&cell, home, &["sh", "-c", &script]).run();
        assert!(outcome.stdout.contains(ANSWER), "{home}: {outcome:#?}");
    }
    let database = "sql:/home/worker/.pki/nssdb";
    let list = as_user(&cell, "/home/worker", &["certutil", "-L", "-h", "all", "-d", database]).run();
    let line = |name: &str| list.stdout.lines().any(|line| line.starts_with(name) && line.contains("C,,"));
    assert!(line("own ") && line("Sluicegate:Sluicegate "), "{list:#?}");
    // The database is the user's: what is done to it stays.
    let removed = ["certutil", "-D", "-n", "own", "-d", database];
    as_user(&cell, "/home/worker", &removed).run().assert_success();
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
    assert_eq!(left(&cell, "/root"), ".pki .pki/nssdb .pki/nssdb/cert9.db .pki/nssdb/key4.db ");
    assert_eq!(left(&cell, "/home/idle"), "", "where nothing was used nothing is left");
    assert_eq!(cell.read("/home/worker/.pki/nssdb/pkcs11.txt"), before);
    let list = as_user(&cell, "/home/worker", &["certutil", "-L", "-h", "all", "-d", database]).run();
    assert!(
        list.status.success() && !list.stdout.contains("Sluicegate") && !list.stdout.contains("own "),
        "{list:#?}"
    );
    assert_nothing_mounted_here();
}

#[test]
fn t08_nss_is_told_of_the_present_authority_whatever_gates_of_before_have_left() {
    let world = World::new("trust-nss-again");
    let yard = Yard::new(&world);
    let cell = Cell::new(&yard, None);
    for ends in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM] {
        let gate = cell.gate();
        for home in ["/root", "/home/worker"] {
            assert_eq!(told(&cell, home), authority(&yard, NAME));
        }
        if ends == Signal::SIGKILL {
            // Together with who would have tidied up.
            kill(keeper(&gate), ends).unwrap();
        }
        gate.signal(ends);
        gate.wait();
        for home in ["/root", "/home/worker"] {
            let left = left(&cell, home);
            assert_eq!(left.contains("sluicegate"), ends == Signal::SIGKILL, "{home}: {left}");
        }
    }
}

/// A root file system with a bundle, and with what `--trust` takes for the library of NSS.
fn root(yard: &Yard<'_>) -> String {
    let root = shown(&yard.files());
    put(&root, BUNDLE, fs::read(BUNDLE).unwrap());
    put(&root, LIBRARY, "");
    root
}

/// A home of the worker's in there.
fn home(root: &str, name: &str) -> String {
    let home = format!("{root}/home/{name}");
    fs::create_dir_all(&home).unwrap();
    chown(&home, Some(WORKER), Some(WORKER)).unwrap();
    home
}

#[test]
fn e17_homes_lead_the_gate_to_nothing_that_their_users_could_not_do() {
    let world = World::new("trust-nss-hostile");
    let yard = Yard::new(&world);
    let root = root(&yard);
    let settings = format!("{root}/etc/settings");
    fs::create_dir_all(settings).unwrap();
    fs::create_dir(format!("{root}/home")).unwrap();
    put(&root, "/etc/settings/pkcs11.txt", "of root\n");
    let outside = shown(&world.path("trust"));
    symlink(&outside, format!("{root}/home/outside")).unwrap();
    symlink("/etc/settings", format!("{root}/home/settings")).unwrap();
    symlink("/etc/settings", format!("{}/.pki", home(&root, "link"))).unwrap();
    // A folder of root's that its user may not write to, and one of the user's with a file of root's.
    fs::create_dir(format!("{}/.pki", home(&root, "above"))).unwrap();
    let within = home(&root, "within");
    for folder in ["/.pki", "/.pki/nssdb"] {
        fs::create_dir(format!("{within}{folder}")).unwrap();
        chown(format!("{within}{folder}"), Some(WORKER), Some(WORKER)).unwrap();
    }
    fs::write(format!("{within}/.pki/nssdb/pkcs11.txt"), "of root\n").unwrap();
    fs::set_permissions(format!("{within}/.pki/nssdb/pkcs11.txt"), Permissions::from_mode(0o600)).unwrap();
    home(&root, "plain");
    home(&root, "o'hara");
    // Root's own is not there, and so nothing is made for it.
    let cell = Cell::new(&yard, Some(&root));
    let mut gate = cell.gate();
    let mounted = fs::read_to_string(format!("/proc/{}/mountinfo", cell.pid())).unwrap();
    let over: Vec<_> = mounted
        .lines()
        .filter(|line| line.contains(" - tmpfs sluicegate "))
        .map(|line| line.split(' ').nth(4).unwrap().trim_start_matches(&root))
        .collect();
    let plain = "/home/plain/.pki/nssdb";
    assert_eq!(over, [BUNDLE, &format!("{plain}/sluicegate"), &format!("{plain}/pkcs11.txt")], "{mounted}");
    for home in ["link", "above", "within"] {
        gate.wait_for_complaint(&format!("does not trust the gate: /home/{home} "));
    }
    for (folder, names) in [("/etc/settings", "pkcs11.txt\n"), ("/home/above/.pki", ""), ("/home/o'hara", "")]
    {
        cell.job(&["ls", "-A", folder]).run().assert_stdout(names);
    }
    assert!(fs::read_dir(&outside).unwrap().next().is_none());
    let owner = cell.job(&["busybox", "stat", "-c", "%u %a", "/home/plain/.pki", plain]).run();
    owner.assert_stdout(&format!("{WORKER} 700\n{WORKER} 700\n"));
    cell.job(&["curl", "-sS", &format!("https://{HOST}/")]).run().assert_stdout(ANSWER);
    gate.signal(Signal::SIGTERM);
    gate.wait().assert_success();
    for (home, names) in [("plain", ""), ("within/.pki/nssdb", "pkcs11.txt\n"), ("link", ".pki\n")] {
        cell.job(&["ls", "-A", &format!("/home/{home}")]).run().assert_stdout(names);
    }
    assert_nothing_mounted_here();
}

#[test]
fn t03_where_a_home_cannot_be_written_to_the_rest_trusts_the_gate_and_a_warning_says_so() {
    let world = World::new("trust-nss-read-only");
    let yard = Yard::new(&world);
    let root = root(&yard);
    home(&root, "worker");
    fs::create_dir(format!("{root}/root")).unwrap();
    fs::create_dir_all(format!("{root}/home/volume")).unwrap();
    let volume = shown(&world.path("trust"));
    let script = format!(
        "mount --bind {root} {root} && mount --bind {volume} {root}/home/volume &&
        mount -o remount,bind,ro {root} && mount -t tmpfs tmpfs {root}/root && chroot {root} sleep 3600"
    );
    let process = yard.job(["unshare", "--net", "--mount", "sh", "-c", &script]).spawn();
    let children = format!("/proc/{0}/task/{0}/children", process.pid());
    let mut pid = String::new();
    wait_until("the container's process", DEADLINE, || {
        pid = fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
    });
    let target = format!("pid:{pid}");
    let mut gate = yard.job(["sluicegate", "attach", &target, "--trust", "--json", "--name", NAME]).spawn();
    gate.wait_for_output("\"ready\"");
    gate.wait_for_complaint("/home/worker cannot have .pki/nssdb/sluicegate: Read-only file system");
    gate.wait_for_complaint("/home/volume is mounted from elsewhere");
    let list = fs::read_to_string(format!("/proc/{pid}/root/root/.pki/nssdb/pkcs11.txt")).unwrap();
    assert!(list.contains("configdir='sql:/root/.pki/nssdb/sluicegate'"), "{list}");
    assert!(fs::read_dir(&volume).unwrap().next().is_none(), "what others see, too, is left alone");
    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
    process.wait();
    gate.signal(Signal::SIGTERM);
    let outcome = gate.wait();
    outcome.assert_success();
    assert!(!outcome.stderr.contains("/root"), "a home in memory can be written to: {outcome:?}");
}

#[test]
fn e17_a_process_says_which_home_it_has_and_means_no_other_users() {
    let world = World::new("trust-nss-home");
    let yard = Yard::new(&world);
    let root = root(&yard);
    for folder in ["/data", "/srv"] {
        fs::create_dir(format!("{root}{folder}")).unwrap();
    }
    chown(format!("{root}/data"), Some(WORKER), Some(WORKER)).unwrap();
    for (home, is_own) in [("/srv", false), ("/data", true)] {
        let script = format!("HOME={home} exec chroot --userspec={WORKER}:{WORKER} {root} sleep 3600");
        let process = yard.job(["unshare", "--net", "--mount", "sh", "-c", &script]).spawn();
        let comm = format!("/proc/{}/comm", process.pid());
        wait_until("the container's process", DEADLINE, || {
            fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep")
        });
        let target = format!("pid:{}", process.pid());
        let mut gate =
            yard.job(["sluicegate", "attach", &target, "--trust", "--json", "--name", NAME]).spawn();
        gate.wait_for_output("\"ready\"");
        assert_eq!(fs::exists(format!("{root}{home}/.pki/nssdb/sluicegate")).unwrap(), is_own, "{home}");
        gate.signal(Signal::SIGTERM);
        gate.wait().assert_success();
        assert!(!fs::exists(format!("{root}{home}/.pki")).unwrap(), "{home}");
    }
}

/// Puts NSS's own tool into the file system that images are made of, and homes: one of the worker's, and one with a
/// database.
fn fill(yard: &Yard<'_>) {
    let root = root(yard);
    home(&root, "worker");
    let known = home(&root, "known");
    let script = format!(
        "set -e
        library=$(ldd /usr/bin/certutil | grep -o '/[^ ]*libnss3.so')
        cp /usr/bin/certutil $1/usr/bin/
        loaded=$(ls ${{library%/*}}/lib{{softokn3,freebl3,freeblpriv3}}.*)
        for file in $loaded $(ldd /usr/bin/certutil $loaded | grep -o '/[^ ]*[.]so[^ :]*' | sort -u); do
            mkdir -p $1${{file%/*}}
            cp -L $file $1$file
        done
        mkdir -p {known}/.pki/nssdb
        certutil -N --empty-password -d sql:{known}/.pki/nssdb
        certutil -A -n own -t C,, -i {BUNDLE} -d sql:{known}/.pki/nssdb
        chown -R {WORKER}:{WORKER} {known}"
    );
    yard.job(["bash", "-c", &script, "bash", &root]).run().assert_success();
}

#[track_caller]
fn assert_an_engine_tells_nss(yard: &Yard<'_>, engine: &str) {
    let (policy, engine) = (format!("--policy={}", yard.policy()), format!("--{engine}"));
    let user = WORKER.to_string();
    let gate = ["sluicegate", "run", &policy, "--trust", &engine, "--rm", "--user", &user, IMAGE, "sh", "-c"];
    let script = "database=sql:/home/worker/.pki/nssdb
        certutil -N --empty-password -d $database
        certutil -L -h all -d $database
        certutil -L -h all -d sql:/home/known/.pki/nssdb
        echo x 2>/dev/null > /home/worker/.pki/nssdb/pkcs11.txt || echo read-only";
    let outcome = yard.job([&gate[..], &[script]].concat()).run();
    let count = |name: &str| outcome.stdout.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(
        (count("Sluicegate:Sluicegate "), count("own "), count("read-only")),
        (2, 1, 1),
        "{outcome:#?}"
    );
}

#[test]
fn t03_a_docker_container_tells_its_users_nss_of_the_gate() {
    let world = World::new("run-nss");
    let yard = Yard::new(&world);
    fill(&yard);
    let _docker = Docker::start(&yard);
    assert_an_engine_tells_nss(&yard, "docker");
}

#[test]
fn t03_a_podman_container_tells_its_users_nss_of_the_gate() {
    let world = World::new("run-nss-podman");
    let yard = Yard::new(&world);
    fill(&yard);
    yard.install_podman("crun");
    assert_an_engine_tells_nss(&yard, "podman");
}

#[test]
fn t03_in_a_rootless_container_folders_are_made_and_removed_by_its_user() {
    let world = World::new("nss-rootless");
    let yard = Yard::new(&world);
    let root = root(&yard);
    home(&root, "worker");
    fs::create_dir(format!("{root}/root")).unwrap();
    let policy = yard.policy();
    let script = format!(
        "podman run -d --name jail --network none {IMAGE} sleep 3600
        sluicegate attach podman:jail --policy {policy} --trust > gate.out 2>&1 &
        until sluicegate status get --instance jail > status.out 2>&1; do sleep 0.1; done
        echo begin
        podman exec jail busybox stat -c '%u %a %n' /root/.pki/nssdb /home/worker/.pki/nssdb
        podman exec jail busybox grep -c name=Sluicegate /home/worker/.pki/nssdb/pkcs11.txt
        kill $!
        wait $!
        podman exec jail ls -A /root /home/worker
        echo end
        podman rm -f -t 0 jail"
    );
    let outcome = yard.rootless_podman(&script);
    let said =
        "begin\n0 700 /root/.pki/nssdb\n0 700 /home/worker/.pki/nssdb\n1\n/home/worker:\n\n/root:\nend\n";
    assert!(outcome.stdout.contains(said), "{outcome:#?}");
}
