use super::*;

/// What docker starts without options: root, a few capabilities, a filter, namespaces of its own.
fn docker() -> Inhabitants {
    let capabilities = Capabilities::parse("00000000a80425fb").unwrap();
    let status = Status {
        uid: 0,
        groups: vec![0],
        effective: capabilities,
        permitted: capabilities,
        bounding: capabilities,
        no_new_privileges: false,
        seccomp: 2,
    };
    Inhabitants {
        first: (42, "sleep".into()),
        statuses: vec![status],
        namespaces: Namespaces {
            pid: Ok(false),
            ipc: Ok(false),
            uts: Ok(false),
            mount: Ok(false),
            user: Ok(true),
        },
        mounts: Ok(mounts::parse("629 628 0:62 / /proc ro - proc proc rw\n").unwrap()),
        machine_root: Some("254:0".into()),
        machine_vsock: false,
        sockets: Ok(vec![]),
        devices: Ok(vec![]),
    }
}

fn sealed(inhabitants: Inhabitants) -> Subject {
    Subject { own_network: false, interfaces: Ok(vec!["lo".into()]), inhabitants: Some(inhabitants) }
}

/// What is not ok, in order, by id and state.
fn found(inhabitants: Inhabitants) -> Vec<(String, State)> {
    let checks = judge(&sealed(inhabitants)).into_iter();
    checks.filter(|check| check.state != State::Ok).map(|check| (check.id, check.state)).collect()
}

/// As [`found`], of docker's after a change, without what docker's has anyway.
fn changed(change: impl FnOnce(&mut Inhabitants)) -> Vec<(String, State)> {
    let mut inhabitants = docker();
    change(&mut inhabitants);
    let usual = found(docker());
    found(inhabitants).into_iter().filter(|line| !usual.contains(line)).collect()
}

fn line(id: &str, state: State) -> Vec<(String, State)> {
    vec![(id.to_owned(), state)]
}

fn node(path: &str, kind: NodeKind, mode: u32) -> Node {
    Node { path: path.into(), kind, mode, uid: 0, gid: 0 }
}

#[test]
fn dockers_defaults_are_warnings_only() {
    let expected = ["capabilities", "no_new_privileges", "user_namespace"];
    assert_eq!(found(docker()), expected.map(|id| (id.to_owned(), State::Warning)));
}

#[test]
fn a_rootless_container_without_privileges_is_well() {
    let mut inhabitants = docker();
    inhabitants.namespaces.user = Ok(false);
    inhabitants.statuses[0].no_new_privileges = true;
    assert_eq!(found(inhabitants), []);
}

#[test]
fn interfaces_are_a_problem_and_idle_tunnels_a_warning() {
    let state =
        |names: &[&str]| interfaces(&Ok(names.iter().map(|name| String::from(*name)).collect())).state;
    assert_eq!(state(&["lo"]), State::Ok);
    assert_eq!(state(&["lo", "eth0"]), State::Problem);
    assert_eq!(state(&["lo", "sit0", "ip6tnl0"]), State::Warning);
    assert_eq!(state(&["lo", "sit0", "eth0"]), State::Problem);
    assert_eq!(interfaces(&Err("no".into())).state, State::Unknown);
    assert_eq!(network(true).state, State::Problem);
}

#[test]
fn an_interface_could_stay_where_nothing_passes_the_rules() {
    let state = |interfaces: &[&str], bounding: u64, user: bool| {
        let mut inhabitants = docker();
        inhabitants.namespaces.user = Ok(user);
        let status = &mut inhabitants.statuses[0];
        (status.effective, status.permitted) = (Capabilities(0), Capabilities(0));
        status.bounding = Capabilities(bounding);
        let names = interfaces.iter().map(|name| String::from(*name)).collect();
        let subject = Subject { own_network: false, interfaces: Ok(names), inhabitants: Some(inhabitants) };
        judge(&subject).into_iter().find(|check| check.id == "keep_interface").map(|check| check.state)
    };
    assert_eq!(state(&["lo"], 1 << 13, true), None);
    assert_eq!(state(&["lo", "sit0"], 1 << 13, true), None);
    assert_eq!(state(&["lo", "eth0"], 0xa804_05fb, true), Some(State::Ok));
    for capability in [12, 13, 21] {
        assert_eq!(state(&["lo", "eth0"], 1 << capability, true), Some(State::Problem), "{capability}");
    }
    assert_eq!(state(&["lo", "eth0"], 0, false), Some(State::Warning));
}

#[test]
fn capabilities_count_where_they_lead_out() {
    let with = |effective: u64, bounding: u64, no_new_privileges| {
        changed(|inhabitants| {
            let status = &mut inhabitants.statuses[0];
            (status.effective, status.permitted) = (Capabilities(effective), Capabilities(effective));
            (status.bounding, status.no_new_privileges) = (Capabilities(bounding), no_new_privileges);
        })
    };
    let admin = 1 << 21;
    assert_eq!(with(admin, admin, false), line("capabilities", State::Problem));
    assert_eq!(with(0, admin, false), [], "a warning, as docker's");
    let mut quiet = docker();
    quiet.statuses[0] =
        Status { bounding: Capabilities(admin), no_new_privileges: true, ..quiet.statuses[0].clone() };
    (quiet.statuses[0].effective, quiet.statuses[0].permitted) = Default::default();
    assert_eq!(capabilities_of(&quiet), State::Ok, "what is bounded by the flag cannot come back");
    let ptrace = |pid: Found<bool>| {
        changed(|inhabitants| {
            inhabitants.statuses[0].effective = Capabilities(1 << Capabilities::SYS_PTRACE);
            inhabitants.namespaces.pid = pid;
        })
    };
    assert_eq!(ptrace(Ok(false)), []);
    assert!(ptrace(Ok(true)).contains(&line("capabilities", State::Problem)[0]));
    let own = changed(|inhabitants| {
        inhabitants.statuses[0].effective = Capabilities(u64::MAX);
        inhabitants.namespaces.user = Ok(false);
    });
    assert_eq!(own, [], "they count in its own user namespace");
    let unknown = changed(|inhabitants| {
        inhabitants.statuses[0].effective = Capabilities(admin);
        inhabitants.namespaces.user = Err("no".into());
    });
    assert!(unknown.contains(&line("capabilities", State::Problem)[0]), "what is not known may be ours");
}

fn capabilities_of(inhabitants: &Inhabitants) -> State {
    let checks = judge(&sealed(Inhabitants {
        first: inhabitants.first.clone(),
        statuses: inhabitants.statuses.clone(),
        ..docker()
    }));
    checks.iter().find(|check| check.id == "capabilities").unwrap().state
}

#[test]
fn one_process_of_several_is_enough() {
    let strong = changed(|inhabitants| {
        let mut status = inhabitants.statuses[0].clone();
        status.effective = Capabilities(1 << 16);
        inhabitants.statuses.push(status);
    });
    assert_eq!(strong, line("capabilities", State::Problem));
    let unfiltered = changed(|inhabitants| {
        inhabitants.statuses.push(Status { seccomp: 0, ..inhabitants.statuses[0].clone() });
    });
    assert_eq!(unfiltered, line("seccomp", State::Warning));
}

#[test]
fn privileged_is_told() {
    let lines = changed(|inhabitants| {
        inhabitants.statuses[0].effective = Capabilities(u64::MAX);
        inhabitants.statuses[0].seccomp = 0;
    });
    assert_eq!(lines[0], ("privileged".to_owned(), State::Problem));
}

#[test]
fn namespaces_that_are_shared_and_those_that_cannot_be_seen() {
    assert_eq!(
        changed(|inhabitants| inhabitants.namespaces.pid = Ok(true)),
        line("pid_namespace", State::Problem)
    );
    assert_eq!(
        changed(|inhabitants| inhabitants.namespaces.ipc = Ok(true)),
        line("ipc_namespace", State::Warning)
    );
    assert_eq!(
        changed(|inhabitants| inhabitants.namespaces.uts = Ok(true)),
        line("uts_namespace", State::Warning)
    );
    assert_eq!(
        changed(|inhabitants| inhabitants.namespaces.mount = Ok(true)),
        line("mount_namespace", State::Warning)
    );
    assert_eq!(
        changed(|inhabitants| inhabitants.namespaces.pid = Err("no".into())),
        line("pid_namespace", State::Unknown)
    );
}

#[test]
fn a_socket_is_a_problem_to_whom_it_is_open() {
    let with = |kind, mode, uid| {
        changed(|inhabitants| {
            inhabitants.sockets = Ok(vec![node("/run/docker.sock", kind, mode)]);
            inhabitants.statuses[0].uid = uid;
            if uid != 0 {
                inhabitants.statuses[0].groups.clear();
                inhabitants.statuses[0].effective = Capabilities(0);
            }
        })
    };
    assert!(with(NodeKind::Road, 0o660, 0).contains(&line("sockets", State::Problem)[0]));
    assert!(with(NodeKind::Road, 0o660, 1000).contains(&line("sockets", State::Warning)[0]));
    assert!(with(NodeKind::Road, 0o666, 1000).contains(&line("sockets", State::Problem)[0]));
    assert!(with(NodeKind::Socket, 0o666, 0).contains(&line("sockets", State::Warning)[0]));
    assert_eq!(
        changed(|inhabitants| inhabitants.sockets = Err("no".into())),
        line("sockets", State::Unknown)
    );
}

#[test]
fn devices_are_judged_by_what_they_hold() {
    let with = |kind| changed(|inhabitants| inhabitants.devices = Ok(vec![node("/dev/x", kind, 0o600)]));
    assert_eq!(with(NodeKind::Raw), line("devices", State::Problem));
    assert_eq!(with(NodeKind::Kvm), line("devices", State::Warning));
    assert_eq!(with(NodeKind::Vsock), line("vsock", State::Warning));
}

#[test]
fn sockets_to_the_hypervisor_need_no_device() {
    assert_eq!(changed(|inhabitants| inhabitants.machine_vsock = true), line("vsock", State::Unknown));
    let unfiltered = changed(|inhabitants| {
        inhabitants.machine_vsock = true;
        inhabitants.statuses[0].seccomp = 0;
    });
    assert!(unfiltered.contains(&line("vsock", State::Warning)[0]));
}

#[test]
fn mounts_of_the_machine_are_told() {
    let with = |text: &str| changed(|inhabitants| inhabitants.mounts = Ok(mounts::parse(text).unwrap()));
    let proc = "629 628 0:62 / /proc ro - proc proc rw\n";
    assert_eq!(with("629 628 0:62 / /proc rw - proc proc rw\n"), line("kernel_settings", State::Problem));
    assert_eq!(
        with(&format!("{proc}1 2 254:0 /home /data rw - ext4 /dev/vda rw\n")),
        line("host_files", State::Warning)
    );
    assert_eq!(
        with(&format!("{proc}1 2 254:0 / /host rw - ext4 /dev/vda rw\n")),
        line("host_files", State::Problem)
    );
}

#[test]
fn a_namespace_without_processes_is_not_called_well() {
    let subject = Subject { own_network: false, interfaces: Ok(vec!["lo".into()]), inhabitants: None };
    let states: Vec<_> = judge(&subject).into_iter().map(|check| (check.id, check.state)).collect();
    let expected = [("process", State::Unknown), ("network", State::Ok), ("interfaces", State::Ok)];
    assert_eq!(states, expected.map(|(id, state)| (id.to_owned(), state)));
}
