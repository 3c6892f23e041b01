//! `run` and signals: each arrives once, and nothing of a workload outlives its end.

use std::fs;

use e2e::{Origin, Reply, Running, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{CLOSED, allowing_api, child_of, run_as, script, until};

/// The namespaces of a workload, as `/proc` names them.
const NAMESPACES: &str = "cd /proc/self/ns && readlink net pid_for_children user mnt | tr '\\n' ' ' && echo";

/// The processes that are in one of these namespaces.
fn processes_in(namespaces: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let links =
            ["net", "pid", "user", "mnt"].map(|kind| fs::read_link(entry.path().join("ns").join(kind)));
        let inside =
            |link: &std::path::PathBuf| namespaces.iter().any(|name| link.as_os_str() == name.as_str());
        if links.iter().flatten().any(inside) {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}

/// Keeps these namespaces of a running workload, so that no other test gets one of their numbers.
fn hold(namespaces: &[String]) -> Vec<fs::File> {
    let processes = processes_in(namespaces);
    let files = processes
        .iter()
        .flat_map(|pid| ["net", "pid", "user", "mnt"].map(|kind| format!("/proc/{pid}/ns/{kind}")));
    let ours = |file: &String| {
        fs::read_link(file).is_ok_and(|link| namespaces.iter().any(|name| link.as_os_str() == name.as_str()))
    };
    let held: Vec<_> = files.filter(ours).filter_map(|file| fs::File::open(file).ok()).collect();
    assert!(held.len() >= namespaces.len(), "{held:?}");
    held
}

/// Nothing of a workload is left: no process, no namespace held by a mount, no mount of ours.
#[track_caller]
fn assert_gone(namespaces: &[String]) {
    assert_eq!(namespaces.len(), 4, "{namespaces:?}");
    until("every process is gone", || processes_in(namespaces).is_empty());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours =
        |line: &&str| line.contains(" sluicegate ") || namespaces.iter().any(|name| line.contains(name));
    assert_eq!(mounts.lines().filter(ours).collect::<Vec<_>>(), Vec::<&str>::new());
}

fn namespaces(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Says each signal that it gets, until its input ends.
const SAYS_SIGNALS: &str = "
import os, signal, sys
for name in ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'):
    signal.signal(getattr(signal, name), lambda number, _: os.write(1, signal.Signals(number).name.encode() + b'\\n'))
print('ready', flush=True)
sys.stdin.read()
# At once: on its way out Python hands signals back to the kernel.
os._exit(7)
";

const SIGNALS: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTERM,
];

/// Sends each signal, and sees that the command got it once.
fn assert_each_comes_once(mut running: Running<'_>, send: impl Fn(i32, Signal)) {
    running.wait_for_output("ready");
    for (number, signal) in SIGNALS.into_iter().enumerate() {
        send(running.pid(), signal);
        until(&format!("{signal} arrives"), || running.stdout().lines().count() > number + 1);
    }
    running.close_stdin();
    let outcome = running.wait();
    let wanted: String = SIGNALS.iter().map(|signal| format!("{signal}\n")).collect();
    outcome.assert_stdout(&format!("ready\n{wanted}"));
    assert_eq!(outcome.code(), 7);
}

#[test]
fn a_signal_for_the_gate_reaches_the_command_once() {
    let world = World::new("signals");
    let running = world.gate(CLOSED).job(script(SAYS_SIGNALS, &[])).spawn();
    assert_each_comes_once(running, |gate, signal| kill(Pid::from_raw(gate), signal).unwrap());
}

#[test]
fn a_signal_for_the_process_group_reaches_the_command() {
    let world = World::new("group");
    let caller = ["setsid", "setpriv", "--reuid=61010", "--regid=61010", "--clear-groups"];
    let mut running = run_as(&world, &caller, CLOSED, &script(SAYS_SIGNALS, &[])).spawn();
    running.wait_for_output("ready");
    for signal in SIGNALS {
        // As timeout(1) and a shell's `kill %1` do.
        kill(Pid::from_raw(-running.pid()), signal).unwrap();
        running.wait_for_output(signal.as_str());
    }
    running.close_stdin();
    assert_eq!(running.wait().code(), 7);
}

#[test]
fn a_signal_that_ends_the_command_is_the_exit_code_and_all_is_gone() {
    let world = World::new("terminated");
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let text =
            format!("{NAMESPACES}; (trap '' TERM INT HUP; setsid sleep 600 >&- 2>&-) & exec sleep 600");
        let mut running = world.gate(CLOSED).job(["sh", "-c", &text]).spawn();
        running.wait_for_output("\n");
        let _held = hold(&namespaces(&running.stdout()));
        running.signal(signal);
        let outcome = running.wait();
        assert_eq!(outcome.code(), code, "{outcome:?}");
        assert_gone(&namespaces(&outcome.stdout));
        // Its last line says that it ended in order.
        assert_eq!(outcome.log.last().unwrap()["kind"], "control", "{outcome:?}");
    }
}

#[test]
fn n07_killed_gate_takes_the_command_and_its_children_along() {
    let world = World::new("n07-run");
    let origin = Origin::start(&world, |_| Reply::text("hello"));
    // Children that ignore every signal, left their session, and keep trying to get out.
    let text = format!(
        "{NAMESPACES}; curl -sS https://api.test/; echo
            for i in 1 2 3; do (trap '' TERM HUP INT; exec setsid sh -c 'while :; do curl -s -m 1 http://10.77.0.2/; done' >&- 2>&-) & done
            echo running; exec sleep 600"
    );
    // Whoever dies, all do.
    for victim in ["sluicegate", "sluicegate-netns"] {
        let mut running = world.gate(&allowing_api(&world, &origin)).job(["sh", "-c", &text]).spawn();
        running.wait_for_output("hello\nrunning\n");
        let inside = namespaces(running.stdout().lines().next().unwrap());
        assert!(processes_in(&inside).len() >= 5);
        let _held = hold(&inside);
        let pid = if victim == "sluicegate" { running.pid() } else { child_of(running.pid()) };
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let outcome = running.wait();
        assert!(!outcome.status.success(), "{outcome:?}");
        assert_gone(&inside);
    }
    let arrivals = world.arrivals();
    assert_eq!((arrivals.udp, arrivals.icmp, arrivals.other), (0, 0, 0));
    assert_eq!((arrivals.tcp_connections, origin.connections_seen().len()), (2, 2));
}

#[test]
fn what_the_command_leaves_behind_ends_with_it() {
    let world = World::new("leftovers");
    let text =
        format!("{NAMESPACES}; (trap '' TERM HUP; exec setsid sleep 600 >&- 2>&- <&-) & read go; exit 3");
    let mut running = world.gate(CLOSED).job(["sh", "-c", &text]).spawn();
    running.wait_for_output("\n");
    let _held = hold(&namespaces(&running.stdout()));
    let outcome = running.wait();
    assert_eq!(outcome.code(), 3, "{outcome:?}");
    assert_gone(&namespaces(&outcome.stdout));
}
