//! `run`: what the command gets from its caller, and what is kept from it.

use std::fs;
use std::path::Path;

use e2e::{Arrivals, Identity, Origin, OriginConfig, Reply, WORKLOAD_USER, World};
use nix::unistd::{Gid, Uid, chown};
use serde_json::{Value, json};

use crate::support::{CLOSED, PYTHON, child_of, python, run_as, script};

#[test]
fn exit_codes_pass_through() {
    let world = World::new("codes");
    let not_executable = world.file("not-executable", "#!/bin/sh\n").display().to_string();
    let cases: [(&[&str], i32); 12] = [
        (&["true"], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 42"], 42),
        (&["sh", "-c", "exit 64"], 64),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -SEGV $$"], 139),
        (&["sh", "-c", "kill -INT $$"], 130),
        (&["no-such-program"], 127),
        (&[&not_executable], 126),
        (&["/"], 126),
    ];
    for (command, code) in cases {
        for caller in [&["setpriv", "--reuid=61010", "--regid=61010", "--clear-groups"][..], &[]] {
            let outcome = run_as(&world, caller, CLOSED, command).run();
            assert_eq!(outcome.code(), code, "{command:?} {outcome:?}");
        }
    }
}

#[test]
fn folder_user_groups_and_environment_are_kept() {
    let world = World::new("kept");
    let folder = world.path("a folder");
    fs::create_dir(&folder).unwrap();
    let group_file = world.file("for-the-group", "readable");
    chown(&group_file, Some(Uid::from_raw(0)), Some(Gid::from_raw(61_011))).unwrap();
    fs::set_permissions(&group_file, std::os::unix::fs::PermissionsExt::from_mode(0o040)).unwrap();
    let text = "
import json, os, sys
print(json.dumps({'ids': [os.getuid(), os.geteuid(), os.getgid(), os.getegid()], 'folder': os.getcwd(),
  'group': open(sys.argv[1]).read(), 'umask': os.umask(0), 'arguments': sys.argv[2:],
  'environment': {name: value for name, value in os.environ.items()}}))
";
    let path = group_file.display().to_string();
    let odd = ["", "two words", "-x", "--", "$HOME `id` \"'\\", "\u{e9}"];
    let command = [&script(text, &[&path])[..], &odd].concat();
    let caller = [
        "setpriv",
        "--reuid=61010",
        "--regid=61010",
        "--groups=61010,61011",
        "sh",
        "-c",
        "umask 027; exec \"$@\"",
        "sh",
    ];
    let kept = [("KEPT", "a=b \u{e9}\n"), ("EMPTY", ""), ("NO_PROXY", "a.test")];
    let removed = ["HTTP_PROXY", "https_proxy", "ALL_PROXY"];
    let job = run_as(&world, &caller, CLOSED, &command).folder(&folder);
    let job = kept.iter().fold(job, |job, (name, value)| job.env(name, value));
    let found = python(removed.iter().fold(job, |job, name| job.env(name, "http://proxy.test:3128")));
    assert_eq!(found["ids"], json!(vec![WORKLOAD_USER; 4]));
    assert_eq!(found["folder"], folder.display().to_string());
    assert_eq!((&found["group"], &found["umask"]), (&json!("readable"), &json!(0o027)));
    assert_eq!(found["arguments"], json!(odd));
    let environment = &found["environment"];
    for (name, value) in kept {
        assert_eq!(environment[name], value);
    }
    assert_eq!(environment["HOME"], world.home().display().to_string());
    assert!(removed.iter().all(|name| environment[name].is_null()), "{environment:#}");
}

#[test]
fn standard_input_and_output_are_passed_byte_for_byte() {
    let world = World::new("binary");
    let bytes: Vec<u8> =
        (0..750_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let job = world.gate(CLOSED).job(["sh", "-c", "echo complaint >&2; cat"]);
    let outcome = job.stdin(bytes.clone()).run();
    outcome.assert_success();
    assert!(outcome.stdout_bytes == bytes, "{} of {} bytes", outcome.stdout_bytes.len(), bytes.len());
    assert!(outcome.stderr.ends_with("complaint\n"), "{outcome:?}");
}

/// Plays a shell with a terminal, in which the gate runs a command.
const TERMINAL: &str = r#"
import fcntl, json, os, pty, re, select, struct, sys, termios, time
pid, fd = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('4H', 33, 111, 0, 0))
out = b''
def until(mark):
    global out
    deadline = time.monotonic() + 20
    while not re.search(mark, out):
        assert time.monotonic() < deadline, (mark, out)
        try:
            if select.select([fd], [], [], 1)[0]: out += os.read(fd, 65536)
        except OSError: raise AssertionError('ended', mark, out)
def say(text): os.write(fd, text)
STEPS
try:
    while True: out += os.read(fd, 65536)
except OSError: pass
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps({'code': code, 'out': out.decode(errors='replace')}))
"#;

fn in_terminal(world: &World, steps: &str, command: &[&str]) -> Value {
    let text = TERMINAL.replace("STEPS", steps);
    let line = [&script(&text, &[])[..], command].concat();
    python(world.job(world.gate_namespace(), line))
}

#[test]
fn a_terminal_is_one_and_ctrl_c_comes_once() {
    let world = World::new("terminal");
    let text = r"
import os, signal, sys
def interrupted(*_): os.write(1, b'interrupted\n')
signal.signal(signal.SIGINT, interrupted)
size = os.get_terminal_size(0)
print(os.isatty(0), os.isatty(1), os.isatty(2), os.tcgetpgrp(0) == os.getpgrp() or os.getpgrp() == 0, size.columns, size.lines, flush=True)
print('ready', flush=True)
line = sys.stdin.readline()
print('said', line.strip(), flush=True)
sys.exit(7)
";
    let steps = r"
until(rb'ready\r\n'); say(b'\x03'); until(rb'interrupted\r\n'); say(b'hello\n'); until(rb'said hello\r\n')
";
    let log = world.path("log/terminal.jsonl").display().to_string();
    let gate = world.program("sluicegate");
    let found = in_terminal(
        &world,
        steps,
        &[&[gate.as_str(), "run", "--quiet", "--log", &log, "--"], &script(text, &[])[..]].concat(),
    );
    let out = found["out"].as_str().unwrap();
    assert_eq!(found["code"], 7, "{out}");
    assert!(out.contains("True True True True 111 33\r\n"), "{out}");
    assert_eq!(out.matches("interrupted").count(), 1, "{out}");
}

#[test]
fn a_shell_with_job_control_works_and_gives_the_terminal_back() {
    let world = World::new("job-control");
    let steps = r"
until(rb'inside\$ '); say(b'/usr/bin/python3 job.py\n'); until(rb'running\r\n'); say(b'\x1a'); until(rb'Stopped')
out = b''; say(b'fg\n'); until(rb'running\r\n'); say(b'\x03'); until(rb'inside\$ ')
say(b'exit 5\n'); until(rb'code 5\r\n'); say(b'still here\n'); until(rb'read still here\r\n')
";
    // Says so when it runs and when it runs again: only then is the terminal its own.
    let job = "
import os, signal
def running(*_): os.write(1, b'running\\n')
signal.signal(signal.SIGINT, signal.SIG_DFL); signal.signal(signal.SIGCONT, running)
running()
while True: signal.pause()
";
    world.home_file("job.py", job);
    let log = world.path("log/shell.jsonl").display().to_string();
    let outer = format!(
        "{} run --quiet --log {log} -- bash --norc --noprofile -i; echo code $?; read -r line; echo read $line",
        world.program("sluicegate")
    );
    let found = in_terminal(&world, steps, &["/usr/bin/env", "PS1=inside$ ", "sh", "-c", &outer]);
    assert_eq!(found["code"], 0, "{found}");
    assert!(!found["out"].as_str().unwrap().contains("no job control"), "{found}");
}

#[test]
fn no_capability_is_gained_whoever_calls() {
    let world = World::new("capabilities");
    for caller in [&["setpriv", "--reuid=61010", "--regid=61010", "--clear-groups"][..], &[]] {
        let command = ["grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"];
        let outcome = run_as(&world, caller, CLOSED, &command).run();
        let printed = &outcome.assert_success().stdout;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(printed.contains(&format!("{set}:\t0000000000000000")), "{printed}");
        }
        assert!(printed.contains("NoNewPrivs:\t1"), "{printed}");
        // A set-uid program gains nothing either, and neither gate nor helper keeps anything.
        let mut running = run_as(&world, caller, CLOSED, &["sh", "-c", "echo ready; exec sleep 600"]).spawn();
        running.wait_for_output("ready");
        for pid in [running.pid(), child_of(running.pid())] {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
            assert!(status.contains("CapPrm:\t0000000000000000"), "{status}");
        }
    }
}

/// What root of a nested user namespace may try against the one it is in.
const NESTED: &str = r"
import json, os, socket, subprocess, sys
def ends(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return [done.returncode, (done.stdout + done.stderr).strip()[-200:]]
IN = ('unshare', '-Urn')
KEPT = ('unshare', '-Urm')
found = {
  'connect': ends(*IN, 'curl', '-sS', '-m', '5', 'http://10.77.0.2/'),
  'connect up': ends(*IN, 'sh', '-c', 'ip link set lo up; ip route add default dev lo; exec curl -sS -m 2 http://10.77.0.2/'),
  'own network is empty': ends(*IN, 'sh', '-c', 'ip -o link | wc -l'),
  'list': ends(*KEPT, 'nft', 'list', 'ruleset'), 'flush': ends(*KEPT, 'nft', 'flush', 'ruleset'),
  'rule': ends(*KEPT, 'ip', 'rule', 'del', 'pref', '100'), 'route': ends(*KEPT, 'ip', 'route', 'add', 'default', 'dev', 'lo'),
  'device': ends(*KEPT, 'ip', 'link', 'add', 'x', 'type', 'dummy'), 'down': ends(*KEPT, 'ip', 'link', 'set', 'lo', 'down'),
  'enter': ends(*IN, 'nsenter', '--net=/proc/1/ns/net', 'true'), 'raw': ends(*KEPT, 'ping', '-c', '1', '-W', '1', '10.77.0.2'),
  'up': ends(*IN, 'sh', '-c', 'ip link add a type veth peer name b netns 1'),
  'kill init': ends('sh', '-c', 'kill -9 1; true'),
}
print(json.dumps(found), flush=True)
";

#[test]
fn nested_namespaces_gain_nothing() {
    let world = World::new("nested");
    let config = OriginConfig { port: 80, identity: Identity::Plain, ..OriginConfig::default() };
    let origin = Origin::start_with(&world, config, |_| Reply::text("hello"));
    let text =
        format!("{PYTHON} -c \"$0\"; exec curl -sS -o /dev/null -w '%{{http_code}}' http://10.77.0.2/");
    for caller in [&["setpriv", "--reuid=61010", "--regid=61010", "--clear-groups"][..], &[]] {
        let outcome = run_as(&world, caller, CLOSED, &["sh", "-c", &text, NESTED]).run();
        let (found, code) = outcome.assert_success().stdout.split_once('\n').unwrap();
        let found: Value = serde_json::from_str(found).unwrap();
        for name in [
            "connect",
            "connect up",
            "list",
            "flush",
            "rule",
            "route",
            "device",
            "down",
            "enter",
            "raw",
            "up",
        ] {
            let harmless = name == "list" && found[name] == json!([0, ""]);
            assert!(found[name][0] != 0 || harmless, "{name}: {found:#}");
        }
        // Without a capability uid 0 may not even map itself; another uid may.
        let own = if caller.is_empty() { json!(1) } else { json!(0) };
        assert_eq!(found["own network is empty"][0], own, "{found:#}");
        assert!(caller.is_empty() || found["own network is empty"][1] == "1", "{found:#}");
        // All rules are still there: the gate answers.
        assert_eq!(code, "403", "{outcome:?}");
    }
    assert_eq!(origin.connections_seen().len(), 0);
    assert_eq!(world.arrivals(), Arrivals::default());
}

/// Listens where other programs of a machine do, and starts the gate among them.
const ROADS: &str = r"
import json, os, select, socket, subprocess, sys
paths, session, command = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
subprocess.run(['mount', '-t', 'tmpfs', '-o', 'mode=755', 'none', '/run'], check=True)
def listen(path):
    s = socket.socket(socket.AF_UNIX)
    if path[0] != '@': os.makedirs(os.path.dirname(path), exist_ok=True)
    s.bind(path.replace('@', '\0'))
    if path[0] != '@': os.chmod(path, 0o777)
    s.listen(99)
    return s
listeners = {path: listen(path) for path in paths}
for folder, _, files in os.walk(session):
    for name in (folder, *(os.path.join(folder, name) for name in files)): os.chown(name, 61010, 61010)
CLIENT = '''
import json, socket, sys
found = {}
for path in json.loads(sys.argv[1]):
    try: socket.socket(socket.AF_UNIX).connect(path.replace('@', chr(0))); found[path] = 'connected'
    except OSError as error: found[path] = type(error).__name__
print(json.dumps(found))
'''
def connects(*before):
    done = subprocess.run([*before, '/usr/bin/python3', '-c', CLIENT, sys.argv[1]], capture_output=True, text=True,
        user=61010, group=61010, extra_groups=[], env={**os.environ, 'XDG_RUNTIME_DIR': session})
    assert done.returncode == 0, done
    accepted = sorted(path for path, s in listeners.items() if select.select([s], [], [], 0)[0] and s.accept())
    return [json.loads(done.stdout), accepted]
print(json.dumps([connects(), connects(*command)]))
";

#[test]
fn sockets_of_other_programs_are_hidden() {
    let world = World::new("hidden");
    let session = world.home().join("session").display().to_string();
    fs::create_dir(&session).unwrap();
    chown(Path::new(&session), Some(Uid::from_raw(WORKLOAD_USER)), Some(Gid::from_raw(WORKLOAD_USER)))
        .unwrap();
    let run = [
        "avahi-daemon/socket",
        "containerd/containerd.sock",
        "crio/crio.sock",
        "dbus/system_bus_socket",
        "docker.sock",
        "libvirt/libvirt-sock",
        "lxd.socket",
        "nscd/socket",
        "podman/podman.sock",
        "snapd.socket",
        "systemd/private",
        "systemd/resolve/io.systemd.Resolve",
    ];
    let own = ["bus", "docker.sock", "podman/podman.sock", "systemd/private"];
    let mut paths: Vec<_> = run.iter().map(|name| format!("/run/{name}")).collect();
    paths.extend(own.iter().map(|name| format!("{session}/{name}")));
    // Abstract sockets belong to a network namespace.
    paths.push("@abstract".to_owned());
    let listed = json!(paths).to_string();
    let log = world.path("log/hidden.jsonl").display().to_string();
    let gate = world.program("sluicegate");
    let line = [
        "unshare", "-m", PYTHON, "-c", ROADS, &listed, &session, &gate, "run", "--quiet", "--log", &log, "--",
    ];
    let found = python(world.root_job(world.gate_namespace(), line));
    paths.sort();
    assert_eq!(found[0][1], json!(paths), "without the gate each is reached");
    assert_eq!(found[1][1], json!([]), "{:#}", found[1][0]);
    assert!(found[1][0].as_object().unwrap().values().all(|ended| ended != "connected"));
}
