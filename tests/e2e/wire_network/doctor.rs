//! `sluicegate doctor`, on this machine and about processes that are made for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use e2e::{Arrivals, Namespace, Outcome, Running, World};
use serde_json::Value;

/// A doctor tries two gates, one after the other.
const DEADLINE: Duration = Duration::from_secs(120);

/// `sluicegate doctor`, as root.
fn doctor(world: &World, arguments: &[&str]) -> Outcome {
    let program = world.program("sluicegate");
    let line = [&[program.as_str(), "doctor"], arguments].concat();
    world.root_job(world.gate_namespace(), line).deadline(DEADLINE).run()
}

/// The same about a target, with `--json`: its exit code and its checks.
#[track_caller]
fn examined(world: &World, target: &str) -> (i32, Value) {
    let outcome = doctor(world, &[target, "--json"]);
    let report = outcome.json();
    assert_documented(&report);
    (outcome.code(), report)
}

/// The check with this id.
#[track_caller]
fn check<'a>(report: &'a Value, id: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("no {id} in {report:#}"))
}

#[track_caller]
fn assert_states(report: &Value, states: &[(&str, &str)]) {
    for (id, state) in states {
        assert_eq!(check(report, id)["state"], *state, "{:#}", check(report, id));
    }
}

#[track_caller]
fn assert_a_working_machine(outcome: &Outcome) {
    outcome.assert_success();
    let report = outcome.json();
    assert_eq!(report["ok"], true);
    for way in ["run", "attach"] {
        let ids = ["", "_allowed", "_allowed_ipv6", "_https", "_refused", "_udp", "_icmp"];
        ids.iter().for_each(|id| assert_states(&report, &[(&format!("{way}{id}"), "ok")]));
        let refused = check(&report, &format!("{way}_refused"))["found"].as_str().unwrap();
        assert!(refused.starts_with("refused with 403, "), "{refused}");
    }
    let ids = ["kernel", "user_namespaces", "ipv6", "state_folder", "runtime_folder", "root_certificates"];
    ids.iter().for_each(|id| assert_states(&report, &[(id, "ok")]));
    assert_states(&report, &[("run_names", "ok")]);
    // A checkout may belong to somebody else, which is a warning.
    assert_ne!(check(&report, "helper")["state"], "problem");
    assert_documented(&report);
}

/// Fails unless docs/doctor.md has every id.
#[track_caller]
fn assert_documented(report: &Value) {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/doctor.md");
    let document = fs::read_to_string(document).unwrap();
    for check in report["checks"].as_array().unwrap() {
        let id = check["id"].as_str().unwrap();
        assert!(document.contains(&format!("`{id}`")), "docs/doctor.md does not have {id}");
    }
}

/// A process in a namespace of its own, once it has said that it is there.
fn in_namespace<'world>(world: &'world World, namespace: &Namespace, script: &str) -> Running<'world> {
    let script = format!("{script}\necho there; exec sleep 600");
    let mut running = world.root_job(namespace, ["sh", "-c", &script]).deadline(DEADLINE).spawn();
    running.wait_for_output("there");
    running
}

fn sealed(world: &World) -> Namespace {
    let name = world.gate_namespace().name().replace("-gate", "-doctor");
    Namespace::new(&name)
}

#[test]
fn doctor_tries_gates_as_root_and_as_another_user_and_nothing_leaves() {
    let world = World::new("doctor");
    let line = [world.program("sluicegate"), "doctor".to_owned(), "--json".to_owned()];
    for (folder, job) in [
        (world.path("root"), world.root_job(world.gate_namespace(), &line)),
        (world.home(), world.job(world.gate_namespace(), &line)),
    ] {
        assert_a_working_machine(&job.env("TMPDIR", &folder).deadline(DEADLINE).run());
        let left =
            fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
        let left: Vec<_> = left.filter(|name| name.starts_with("sluicegate-doctor-")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert_eq!(world.arrivals(), Arrivals::default(), "the canary is on this machine");
}

#[test]
fn doctor_says_what_to_do_where_the_helper_is_not_beside() {
    let world = World::new("no-helper");
    let alone = world.path("sluicegate");
    fs::copy(world.program("sluicegate"), &alone).unwrap();
    fs::set_permissions(&alone, fs::Permissions::from_mode(0o755)).unwrap();
    let alone = alone.display().to_string();
    let outcome =
        world.root_job(world.gate_namespace(), [&alone, "doctor", "--json"]).deadline(DEADLINE).run();
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    let report = outcome.json();
    assert_eq!(report["ok"], false);
    assert_states(
        &report,
        &[("helper", "problem"), ("run", "problem"), ("attach", "problem"), ("kernel", "ok")],
    );
    for id in ["helper", "run", "attach"] {
        let remedy = check(&report, id)["remedy"].as_str().unwrap();
        assert_eq!(remedy, "install sluicegate-netns in the folder of sluicegate", "{id}");
    }
    let outcome = world.root_job(world.gate_namespace(), [&alone, "doctor"]).deadline(DEADLINE).run();
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(outcome.stdout.contains("\nproblem  helper "), "{outcome:?}");
    assert!(
        outcome.stdout.contains(" remedy: install sluicegate-netns in the folder of sluicegate\n"),
        "{outcome:?}"
    );
}

#[test]
fn doctor_names_the_setting_that_forbids_user_namespaces() {
    let world = World::new("no-userns");
    // The limit of a user namespace that is made for this: nobody else's is touched.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" doctor --json";
    let program = world.program("sluicegate");
    let line = ["unshare", "--user", "--map-root-user", "sh", "-c", script, &program];
    let outcome = world.job(world.gate_namespace(), line).deadline(DEADLINE).run();
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    let report = outcome.json();
    assert_states(&report, &[("user_namespaces", "problem"), ("run", "problem")]);
    let remedy = check(&report, "user_namespaces")["remedy"].as_str().unwrap();
    assert!(remedy.contains("sysctl -w user.max_user_namespaces="), "{remedy}");
}

#[test]
fn doctor_sees_what_a_process_with_all_privileges_shares_with_the_machine() {
    let world = World::new("privileged");
    let namespace = sealed(&world);
    let running = in_namespace(&world, &namespace, "");
    let (code, report) = examined(&world, &format!("pid:{}", running.pid()));
    assert_eq!((code, &report["ok"]), (1, &Value::Bool(false)), "{report:#}");
    assert_states(
        &report,
        &[
            ("process", "ok"),
            ("network", "ok"),
            ("interfaces", "ok"),
            ("capabilities", "problem"),
            ("privileged", "problem"),
            ("pid_namespace", "problem"),
            ("mount_namespace", "warning"),
            ("ipc_namespace", "warning"),
            ("uts_namespace", "warning"),
            ("user_namespace", "warning"),
            ("no_new_privileges", "warning"),
            ("seccomp", "warning"),
            ("kernel_settings", "problem"),
        ],
    );
    let found = check(&report, "capabilities")["found"].as_str().unwrap();
    assert!(found.contains("SYS_ADMIN") && found.contains("NET_ADMIN"), "{found}");
    // The same by the name of the namespace, in which the process is found.
    let (_, by_name) = examined(&world, &namespace.path().display().to_string());
    let states = |report: &Value| {
        let checks = report["checks"].as_array().unwrap().iter();
        checks.map(|check| (check["id"].clone(), check["state"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(states(&by_name), states(&report));
}

#[test]
fn doctor_finds_an_engines_socket_by_whatever_folder_it_came_in() {
    let world = World::new("socket");
    let folder = world.path("engine");
    fs::create_dir(&folder).unwrap();
    let _engine = UnixListener::bind(folder.join("docker.sock")).unwrap();
    let _other = UnixListener::bind(folder.join("other.sock")).unwrap();
    let namespace = sealed(&world);
    let bind = |what: &str, options: &str| {
        format!(
            "exec unshare --mount --ipc --uts sh -c '
             mount -t tmpfs none /srv && mkdir /srv/in && touch /srv/in.sock /srv/docker.sock &&
             mount -t tmpfs none /run && mount --bind {0}/{what} &&
             exec setpriv {options} sh -c \"echo there; exec sleep 600\"'",
            folder.display(),
        )
    };
    let weak = "--no-new-privs --bounding-set -all --inh-caps -all --ambient-caps -all --reuid 61010 --regid 61010 --clear-groups";
    for (what, options, sockets, path) in [
        (" /srv/in", "--no-new-privs", "problem", "/srv/in/docker.sock"),
        ("docker.sock /srv/in.sock", "--no-new-privs", "problem", "/srv/in.sock"),
        ("other.sock /srv/docker.sock", "--no-new-privs", "problem", "/srv/docker.sock"),
        ("other.sock /srv/in.sock", "--no-new-privs", "warning", "/srv/in.sock"),
        (" /srv/in", weak, "warning", "/srv/in/docker.sock"),
    ] {
        let running = in_namespace(&world, &namespace, &bind(what, options));
        let (_, report) = examined(&world, &format!("pid:{}", running.pid()));
        assert_states(&report, &[("sockets", sockets), ("host_files", "warning"), ("mount_namespace", "ok")]);
        assert_states(&report, &[("ipc_namespace", "ok"), ("no_new_privileges", "ok")]);
        let found = check(&report, "sockets")["found"].as_str().unwrap();
        assert!(found.contains(path), "{what}: {found}");
        if options == weak {
            assert_states(&report, &[("capabilities", "ok"), ("user_namespace", "ok"), ("privileged", "ok")]);
        }
    }
}

#[test]
fn doctor_sees_a_way_out_and_does_not_call_well_what_it_could_not_see() {
    let world = World::new("interface");
    let namespace = sealed(&world);
    let path = namespace.path().display().to_string();
    let (code, report) = examined(&world, &path);
    assert_eq!((code, &report["ok"]), (0, &Value::Bool(true)), "{report:#}");
    assert_states(&report, &[("process", "unknown"), ("interfaces", "ok"), ("network", "ok")]);
    namespace.ip(&["link", "add", "out0", "type", "veth", "peer", "name", "out1"]);
    let (code, report) = examined(&world, &path);
    assert_eq!(code, 1, "{report:#}");
    assert_states(&report, &[("interfaces", "problem")]);
    assert!(check(&report, "interfaces")["found"].as_str().unwrap().contains("out0"));
    assert!(check(&report, "interfaces")["remedy"].as_str().unwrap().contains("--network none"));
}

#[test]
fn doctor_is_not_kept_from_looking_by_a_crowd() {
    let world = World::new("crowd");
    let namespace = sealed(&world);
    let script = "exec unshare --mount sh -c '
        mount -t tmpfs none /dev && cd /dev && seq 5000 | xargs touch && echo there && exec sleep 600'";
    let running = in_namespace(&world, &namespace, script);
    let (_, report) = examined(&world, &format!("pid:{}", running.pid()));
    assert_states(&report, &[("devices", "unknown"), ("vsock", "unknown"), ("mount_namespace", "ok")]);
}

#[test]
fn doctor_says_no_where_there_is_nothing_to_look_at() {
    let world = World::new("no-target");
    let namespace = sealed(&world);
    let running = in_namespace(&world, &namespace, "");
    let pid = format!("pid:{}", running.pid());
    for (target, code) in
        [("pid:4194304", 69), ("/run/netns/no-such-namespace", 69), ("/etc/hostname", 64), ("vm:x", 64)]
    {
        let outcome = doctor(&world, &[target]);
        assert_eq!(outcome.code(), code, "{outcome:?}");
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{outcome:?}");
    }
    let program = world.program("sluicegate");
    let outcome = world.job(world.gate_namespace(), [&program, "doctor", &pid]).run();
    assert_eq!(outcome.code(), 77, "{outcome:?}");
    assert!(outcome.stderr.contains("hint: ask as root"), "{outcome:?}");
    // The namespace that the doctor itself is in.
    let neighbour = in_namespace(&world, world.gate_namespace(), "");
    let (code, report) = examined(&world, &format!("pid:{}", neighbour.pid()));
    assert_eq!(code, 1);
    assert_states(&report, &[("network", "problem"), ("interfaces", "problem")]);
}
