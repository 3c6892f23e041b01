//! `run` with real workloads: what they keep, what they cannot do, and how they end.

use crate::support::{Caller, HELPER, Helper, USER, inside, output, until};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const CALLERS: [Caller; 2] = [Caller::Root, Caller::User];

/// A folder that both callers can read, with a trust folder in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("trust")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn plan(&self) -> Value {
        json!({ "trust_dir": self.path("trust") })
    }
}

fn start(caller: Caller, workload: &[&str]) -> Helper {
    let helper = Helper::run(caller.command(HELPER), workload);
    assert_eq!(helper.descriptors.len(), 7, "{}", helper.ready);
    helper
}

/// What a shell script prints in a workload without a special plan.
fn script(caller: Caller, text: &str) -> String {
    let (status, printed) = start(caller, &["sh", "-c", text]).finish(&Place::new().plan());
    assert!(status.success(), "{status}: {printed}");
    printed
}

#[test]
fn the_workload_keeps_uid_gid_folder_and_exit_code() {
    for caller in CALLERS {
        let place = Place::new();
        let mut command = caller.command(HELPER);
        command.current_dir(place.folder.path()).env("KEPT", "yes").env("TOKEN", "secret");
        let mut plan = place.plan();
        plan["set_env"] = json!({ "SSL_CERT_FILE": "/bundle" });
        plan["remove_env"] = json!(["TOKEN"]);
        let text = "id -u; id -g; pwd; echo $KEPT,$TOKEN,$SSL_CERT_FILE; exit 7";
        let (status, printed) = Helper::run(command, &["sh", "-c", text]).finish(&plan);
        let id = if caller == Caller::Root { 0 } else { USER };
        assert_eq!(printed, format!("{id}\n{id}\n{}\nyes,,/bundle\n", place.folder.path().display()));
        assert_eq!(status.code(), Some(7));
    }
}

#[test]
fn supplementary_groups_are_kept() {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "61010", "--regid", "61010", "--groups", "61011", "--", HELPER]);
    let place = Place::new();
    let shared = place.write("shared", "for the group");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o040)).unwrap();
    std::os::unix::fs::chown(&shared, Some(0), Some(61_011)).unwrap();
    let (_, printed) = Helper::run(command, &["cat", shared.to_str().unwrap()]).finish(&place.plan());
    assert_eq!(printed, "for the group");
}

#[test]
fn the_workload_gains_no_capability() {
    for caller in CALLERS {
        let printed = script(caller, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(printed.contains(&format!("{set}:\t0000000000000000")), "{printed}");
        }
        assert!(printed.contains("NoNewPrivs:\t1"), "{printed}");
        // Nor does the process that stays outside with it keep any.
        let mut helper = start(caller, &["sleep", "600"]);
        helper.go(&Place::new().plan());
        let status = fs::read_to_string(format!("/proc/{}/status", helper.child.id())).unwrap();
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    }
}

#[test]
fn h03_the_first_packet_is_captured() {
    for caller in CALLERS {
        let mut helper = start(caller, &["bash", "-c", "cat < /dev/tcp/198.51.100.7/443"]);
        helper.go(&Place::new().plan());
        let (mut served, original) = helper.accept(false);
        assert_eq!(original, "198.51.100.7:443".parse().unwrap());
        std::io::Write::write_all(&mut served, b"through the gate").unwrap();
        drop(served);
        assert_eq!(helper.end().1, "through the gate");
    }
}

#[test]
fn n07_without_the_gate_nothing_answers() {
    let mut helper = start(Caller::User, &["bash", "-c", "echo it ran"]);
    helper.descriptors.clear();
    helper.child.kill().unwrap();
    // Before the plan, hence before the workload: it never ran.
    assert_eq!(helper.end().1, "");

    let mut helper = start(Caller::User, &["bash", "-c", "cat < /dev/tcp/198.51.100.7/443"]);
    helper.descriptors.clear();
    helper.go(&Place::new().plan());
    let (status, printed) = helper.end();
    assert!(printed.contains("Connection refused"), "{printed}");
    assert!(!status.success());
}

#[test]
fn a_signal_is_passed_on() {
    for caller in CALLERS {
        let mut helper = start(caller, &["sleep", "600"]);
        helper.go(&Place::new().plan());
        kill("TERM", helper.child.id());
        assert_eq!(helper.end().0.code(), Some(143));

        let handler = "trap 'exit 9' USR1; echo ready; sleep 600 & wait";
        let mut helper = start(caller, &["bash", "-c", handler]);
        helper.go(&Place::new().plan());
        std::io::Read::read_exact(helper.child.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
        kill("USR1", helper.child.id());
        assert_eq!(helper.end().0.code(), Some(9));
    }
}

#[test]
fn what_cannot_be_executed_has_the_shell_s_codes() {
    for (program, code) in [("no-such-program", 127), ("/etc/passwd", 126), ("/", 126)] {
        let mut helper = start(Caller::User, &[program]);
        let answer = helper.go(&Place::new().plan());
        assert_eq!(answer["error"]["exit_code"], code, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(program));
        assert_eq!(helper.exit_code(), Some(code));
    }
}

#[test]
fn everything_dies_with_the_helper() {
    for caller in CALLERS {
        let many =
            "for i in 1 2 3 4 5 6 7 8; do (trap '' TERM HUP INT; setsid sleep 600) & done; echo ready; wait";
        let mut helper = start(caller, &["sh", "-c", many]);
        helper.go(&Place::new().plan());
        std::io::Read::read_exact(helper.child.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
        let namespace = helper.ready["namespace"].as_str().unwrap().to_owned();
        assert!(in_namespace(&namespace).len() > 8);
        helper.child.kill().unwrap();
        until("all are gone", || in_namespace(&namespace).is_empty());
    }
}

#[test]
fn everything_dies_with_the_caller_of_the_helper() {
    // The shell is the caller; the helper's own parent chain is what is under test.
    let mut command = Caller::User.command("sh");
    command.args(["-c", "\"$0\" \"$@\"; true", HELPER]);
    let mut helper = Helper::run(command, &["sleep", "600"]);
    helper.go(&Place::new().plan());
    let namespace = helper.ready["namespace"].as_str().unwrap().to_owned();
    assert!(in_namespace(&namespace).len() >= 3);
    helper.child.kill().unwrap();
    until("all are gone", || in_namespace(&namespace).is_empty());
}

#[test]
fn what_the_workload_leaves_behind_ends_with_it() {
    let mut helper = start(Caller::User, &["sh", "-c", "setsid sleep 600 > /dev/null 2>&1 & exit 3"]);
    helper.go(&Place::new().plan());
    let namespace = helper.ready["namespace"].as_str().unwrap().to_owned();
    assert_eq!(helper.end().0.code(), Some(3));
    until("all are gone", || in_namespace(&namespace).is_empty());
}

#[test]
fn orphans_are_reaped() {
    // Its parent ends at once; what nobody reaps stays in /proc as a zombie.
    let text = "orphan=$(sh -c ': & echo $!'); tries=0
        while [ -e /proc/$orphan ]; do
            tries=$((tries + 1)); [ $tries -lt 1000000 ] || { echo left behind; break; }
        done";
    assert_eq!(script(Caller::User, text), "");
}

#[test]
fn secrets_read_as_empty_and_trust_files_are_in_place() {
    for caller in CALLERS {
        let place = Place::new();
        place.write("secret.txt", "hunter2");
        place.write("system.pem", "the system's roots");
        place.write("policy.toml", "version = 1");
        std::os::unix::fs::symlink("system.pem", place.path("link.pem")).unwrap();
        fs::create_dir(place.path("state")).unwrap();
        place.write("state/key", "hunter2");
        let listener = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
        for name in ["secret.txt", "policy.toml", "system.pem", "state/key", "socket"] {
            fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o666)).unwrap();
        }
        let mut plan = place.plan();
        plan["files"] =
            json!([{ "name": "bundle.pem", "text": "all roots" }, { "name": "cacerts", "base64": "amtz" }]);
        plan["mounts"] = json!([{ "file": "bundle.pem", "over": place.path("link.pem") }]);
        plan["hide_files"] = json!([place.path("secret.txt"), place.path("socket"), place.path("absent")]);
        plan["hide_dirs"] = json!([place.path("state"), place.path("absent")]);
        plan["read_only"] = json!([place.path("policy.toml")]);
        let text = "cat secret.txt socket; ls -A state; cat system.pem trust/bundle.pem trust/cacerts; echo
            for f in secret.txt system.pem trust/bundle.pem trust/new state/new policy.toml; do
                (echo x >> $f) 2> /dev/null && echo \"$f was written\"
            done; cat policy.toml";
        let mut command = caller.command(HELPER);
        command.current_dir(place.folder.path());
        let (_, printed) = Helper::run(command, &["sh", "-c", text]).finish(&plan);
        assert_eq!(printed, "all rootsall rootsjks\nversion = 1");
        // Outside nothing has changed.
        assert_eq!(fs::read_to_string(place.path("system.pem")).unwrap(), "the system's roots");
        drop(listener);
    }
}

#[test]
fn what_is_hidden_cannot_be_uncovered() {
    for caller in CALLERS {
        let place = Place::new();
        let secret = place.write("secret.txt", "hunter2");
        fs::create_dir(place.path("state")).unwrap();
        place.write("state/key", "hunter2");
        let mut plan = place.plan();
        plan["hide_files"] = json!([secret]);
        plan["hide_dirs"] = json!([place.path("state")]);
        let text = "umount secret.txt; umount -l state
            unshare -Urm sh -c 'umount secret.txt; umount -l state; umount -l /proc; mount -o remount,rw state; cat secret.txt; ls -A state'
            cat secret.txt; ls -A state; cat /proc/1/root/proc/../$PWD/state/key";
        let mut command = caller.command(HELPER);
        command.current_dir(place.folder.path());
        let (_, printed) = Helper::run(command, &["sh", "-c", text]).finish(&plan);
        assert!(!printed.contains("hunter2") && !printed.contains("\nkey"), "{printed}");
    }
}

#[test]
fn a_folder_that_is_hidden_is_not_kept_open_as_the_current_one() {
    let place = Place::new();
    fs::create_dir_all(place.path("state/deep")).unwrap();
    place.write("state/key", "hunter2");
    let mut plan = place.plan();
    plan["hide_dirs"] = json!([place.path("state")]);
    let mut command = Caller::User.command(HELPER);
    command.current_dir(place.path("state/deep"));
    let answer = Helper::run(command, &["cat", "../key"]).go(&plan);
    assert!(answer["error"]["message"].as_str().unwrap().contains("current folder"), "{answer}");

    let mut command = Caller::User.command(HELPER);
    command.current_dir(place.path("state"));
    assert_eq!(Helper::run(command, &["ls", "-A"]).finish(&plan).1, "");
}

#[test]
fn no_descriptor_but_the_standard_ones_comes_in() {
    for caller in CALLERS {
        // One more than ours, which the caller left open by mistake.
        let leaked = fs::File::open("/etc/passwd").unwrap();
        nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        let (_, printed) = start(
            caller,
            &["readlink", "/proc/self/fd/3", "/proc/self/fd/4", "/proc/self/fd/5", "/proc/self/fd/6"],
        )
        .finish(&Place::new().plan());
        assert_eq!(printed, "");
        let listed = script(caller, "ls /proc/self/fd");
        // The last one is the folder that is being listed.
        assert_eq!(listed, "0\n1\n2\n3\n");
    }
}

#[test]
fn processes_outside_are_neither_seen_nor_signalled() {
    for caller in CALLERS {
        let outside = caller.command("sleep").arg("600").spawn().unwrap();
        let mut outside = KillOnDrop(outside);
        let text = format!(
            "ls -d /proc/[0-9]* | wc -l; kill -9 {pid} 2> /dev/null && echo killed; kill -9 -1 2> /dev/null; echo; cat /proc/1/environ 2> /dev/null; true",
            pid = outside.0.id()
        );
        // kill -1 does not reach the shell itself.
        let printed = script(caller, &text);
        let seen: u32 = printed.lines().next().unwrap().parse().unwrap();
        assert!(seen <= 5, "{printed}");
        assert_eq!(printed.lines().count(), 2, "{printed}");
        assert!(outside.0.try_wait().unwrap().is_none());
    }
}

#[test]
fn the_process_group_outside_is_not_signalled() {
    if !has_landlock_scopes() {
        eprintln!("not judged: this kernel has no Landlock scopes");
        return;
    }
    for caller in CALLERS {
        let mut command = caller.command(HELPER);
        command.process_group(0);
        let mut helper =
            Helper::run(command, &["bash", "-c", "trap '' TERM; kill -TERM 0; kill -KILL 1; exit 5"]);
        let group = i32::try_from(helper.child.id()).unwrap();
        let mut bystander =
            KillOnDrop(caller.command("sleep").arg("600").process_group(group).spawn().unwrap());
        helper.go(&Place::new().plan());
        assert_eq!(helper.end().0.code(), Some(5));
        assert!(bystander.0.try_wait().unwrap().is_none());
    }
}

#[test]
fn nothing_is_typed_into_the_terminal_outside() {
    // Without a terminal the kernel's own answer would be ENOTTY.
    let text = "my $c = 'x'; for my $r (0x5412, 0x541c, 0x5413) { ioctl(STDIN, $r, $c); print $!+0, ' ' }";
    let (_, printed) = start(Caller::User, &["perl", "-e", text]).finish(&Place::new().plan());
    assert_eq!(printed, "1 1 25 ");
}

#[test]
fn kernel_settings_are_read_only_for_root_too() {
    let printed = script(
        Caller::Root,
        "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper; do
            [ -e $f ] && (: >> $f) 2> /dev/null && echo \"$f was opened\"
        done; true",
    );
    assert_eq!(printed, "");
}

#[test]
fn a_nested_network_leads_nowhere() {
    let helper =
        start(Caller::User, &["unshare", "-Urn", "bash", "-c", "echo x > /dev/tcp/198.51.100.7/443"]);
    let (status, printed) = helper.finish(&Place::new().plan());
    assert!(printed.contains("unreachable"), "{printed}");
    assert!(!status.success());
}

#[test]
fn the_rules_cannot_be_changed_from_inside() {
    let printed = script(
        Caller::Root,
        "nft flush ruleset 2>&1; ip link add x type dummy 2>&1; ip route flush table 59877 2>&1; true",
    );
    assert!(printed.matches("Operation not permitted").count() >= 3, "{printed}");
}

#[test]
fn user_namespaces_that_are_forbidden_are_named() {
    let mut command = Caller::User.command("unshare");
    command.args([
        "-Ur",
        "sh",
        "-c",
        "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$0\" \"$@\"",
        HELPER,
    ]);
    let mut helper = Helper::run(command, &["true"]);
    assert_eq!(helper.ready["error"]["step"], "user namespace");
    assert!(
        helper.ready["error"]["hint"].as_str().unwrap().contains("user.max_user_namespaces"),
        "{}",
        helper.ready
    );
    assert_eq!(helper.exit_code(), Some(77));
}

#[test]
fn a_masked_proc_is_inherited_and_said() {
    let mut command = Caller::User.command("unshare");
    command.args([
        "-Urm",
        "sh",
        "-c",
        "mount -t tmpfs none /proc/acpi || mount -t tmpfs none /proc/driver; exec \"$0\" \"$@\"",
        HELPER,
    ]);
    let mut helper = Helper::run(command, &["sh", "-c", "kill -0 $PPID; echo $$"]);
    let answer = helper.go(&Place::new().plan());
    assert_eq!(answer["proc"], "inherited", "{answer}");
    assert_eq!(helper.end().1, "2\n");
}

#[test]
fn a_gate_that_goes_silent_ends_the_helper() {
    let mut helper = start(Caller::User, &["true"]);
    let answer = helper.go(&json!({ "trust_dir": "/", "surprise": 1 }));
    assert_eq!(answer["error"]["step"], "plan");
    assert_eq!(helper.exit_code(), Some(70));
}

#[test]
fn the_pid_that_is_told_is_the_whole_workload() {
    let mut helper = start(Caller::User, &["sleep", "600"]);
    let answer = helper.go(&Place::new().plan());
    assert_eq!(answer["proc"], "fresh");
    let init = answer["pid"].as_u64().unwrap();
    let path = PathBuf::from(format!("/proc/{init}/ns/net"));
    assert_eq!(fs::read_link(&path).unwrap().to_str(), helper.ready["namespace"].as_str());
    assert!(
        inside(&path, || output(Command::new("nft").args(["list", "ruleset"])))
            .contains("table inet sluicegate")
    );
    kill("KILL", u32::try_from(init).unwrap());
    assert_eq!(helper.end().0.code(), Some(137));
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn kill(signal: &str, pid: u32) {
    output(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]));
}

/// The processes of a network namespace, by its name.
fn in_namespace(name: &str) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    processes
        .filter(|path| fs::read_link(path.join("ns/net")).is_ok_and(|link| link == Path::new(name)))
        .collect()
}

fn has_landlock_scopes() -> bool {
    let probe = "exit(syscall(444, 0, 0, 1) < 6 ? 1 : 0)";
    Command::new("perl").args(["-e", probe]).stdin(Stdio::null()).status().unwrap().into_raw() == 0
}
