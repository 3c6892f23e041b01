use super::*;

fn states(checks: &[Check]) -> Vec<State> {
    checks.iter().map(|check| check.state).collect()
}

fn healthy() -> Machine {
    let folder = || Folder { path: "/f".into(), wrong: None };
    Machine {
        release: "6.18.44".into(),
        landlock: Some(true),
        helper: Helper {
            path: "/bin/sluicegate-netns".into(),
            version: Ok(env!("CARGO_PKG_VERSION").into()),
            replaceable: false,
        },
        user_namespaces: UserNamespaces::default(),
        ipv6: true,
        confinement: Confinement { seccomp: Some(0), profile: Some("unconfined".into()) },
        state_folder: folder(),
        runtime_folder: folder(),
        roots: Roots { count: 140, errors: vec![] },
        vsock: false,
    }
}

#[test]
fn a_machine_that_has_everything_is_well() {
    let checks = judge(&healthy(), true);
    assert!(checks.iter().all(|check| check.state == State::Ok && check.remedy.is_none()), "{checks:?}");
}

#[test]
fn each_kernel_lacks_what_came_after_it() {
    use State::{Ok, Problem, Unknown, Warning};
    let table = [
        ("4.19.0-26-amd64", [Problem, Warning], Warning),
        ("5.10.0", [Problem, Warning], Warning),
        ("5.11.0", [Ok, Warning], Warning),
        ("6.1.0-18-amd64", [Ok, Warning], Warning),
        ("6.9.0-rc1", [Ok, Ok], Warning),
        ("6.12.1", [Ok, Ok], Ok),
        ("10.0", [Ok, Ok], Ok),
        ("odd", [Unknown, Unknown], Warning),
    ];
    for (release, expected, inside) in table {
        assert_eq!(states(&kernel(release)), expected, "{release}");
        assert_eq!(signals(release, Some(true)).state, inside, "{release}");
    }
    assert_eq!(signals("6.12.1", Some(false)).state, Warning);
    assert_eq!(signals("6.12.1", None).state, Unknown);
}

#[test]
fn the_setting_that_forbids_user_namespaces_is_named() {
    let bad = |value: &str| Some(value.to_owned());
    for (settings, name) in [
        (UserNamespaces { max: bad("0"), ..Default::default() }, "user.max_user_namespaces"),
        (UserNamespaces { clone: bad("0"), ..Default::default() }, "kernel.unprivileged_userns_clone"),
        (
            UserNamespaces { apparmor: bad("1"), ..Default::default() },
            "kernel.apparmor_restrict_unprivileged_userns",
        ),
    ] {
        let check = user_namespaces(&settings, false);
        assert_eq!(check.state, State::Problem, "{name}");
        assert!(check.remedy.as_ref().unwrap().contains(name), "{check:?}");
        assert_eq!(user_namespaces(&settings, true).state, State::Ok, "what was seen to work counts");
    }
    let allowed = UserNamespaces { max: bad("16384"), clone: bad("1"), apparmor: bad("0") };
    assert_eq!(user_namespaces(&allowed, false).state, State::Unknown, "none was made");
}

#[test]
fn a_helper_must_be_there_of_this_version_and_nobody_elses() {
    let with = |version: Result<&str, &str>, replaceable| Helper {
        path: "/x".into(),
        version: version.map(String::from).map_err(String::from),
        replaceable,
    };
    let ours = env!("CARGO_PKG_VERSION");
    for (found, state) in [
        (with(Ok(ours), false), State::Ok),
        (with(Ok(ours), true), State::Warning),
        (with(Ok("0.0.0"), false), State::Problem),
        (with(Err("not there"), false), State::Problem),
    ] {
        assert_eq!(helper(&found).state, state, "{found:?}");
    }
}

#[test]
fn what_is_missing_is_a_problem_and_what_may_disturb_a_warning() {
    let mut machine = healthy();
    machine.ipv6 = false;
    machine.roots.count = 0;
    machine.state_folder.wrong = Some("not writable".into());
    machine.confinement = Confinement { seccomp: Some(2), profile: Some("docker-default".into()) };
    machine.vsock = true;
    let checks = judge(&machine, false);
    let of = |id: &str| checks.iter().find(|check| check.id == id).unwrap().state;
    for id in ["ipv6", "root_certificates", "state_folder"] {
        assert_eq!(of(id), State::Problem, "{id}");
    }
    for id in ["confinement", "vsock"] {
        assert_eq!(of(id), State::Warning, "{id}");
    }
    machine.roots = Roots { count: 3, errors: vec!["broken".into()] };
    assert_eq!(roots(&machine.roots).state, State::Warning);
}
