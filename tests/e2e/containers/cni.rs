//! `sluicegate cni`, called as a runtime calls a plugin: variables, JSON on standard input, a namespace.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use e2e::{Namespace, Outcome, World, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{ANSWER, HOST, Yard, assert_judged, shown};

/// What a runtime has of one pod.
struct Pod<'yard, 'world> {
    yard: &'yard Yard<'world>,
    namespace: Namespace,
    id: String,
}

impl<'yard, 'world> Pod<'yard, 'world> {
    /// A pod whose namespace has what runtimes make: nothing but `lo`.
    fn new(yard: &'yard Yard<'world>, name: &str) -> Self {
        let id = format!("{name}-{}", std::process::id());
        let link = yard.world.path("cni-bin/sluicegate");
        if !link.exists() {
            fs::create_dir(yard.world.path("cni-bin")).unwrap();
            symlink(yard.world.program("sluicegate"), link).unwrap();
        }
        Self { yard, namespace: Namespace::new(&format!("sg-pod-{id}")), id }
    }

    /// Calls the plugin by its link, without arguments.
    fn call(&self, command: &str, configuration: &Value) -> Outcome {
        self.job(command, configuration).run()
    }

    fn job(&self, command: &str, configuration: &Value) -> e2e::Job<'world> {
        let arguments =
            format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={};HARM=../../etc", self.id);
        self.yard
            .job([shown(&self.yard.world.path("cni-bin/sluicegate"))])
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &self.id)
            .env("CNI_NETNS", self.namespace.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", arguments)
            .env("CNI_PATH", self.yard.world.path("cni-bin"))
            .stdin(configuration.to_string())
    }

    /// The configuration that these tests have, as a runtime hands it on.
    fn configuration(&self) -> Value {
        let trust = shown(&self.yard.world.path("trust"));
        json!({
            "cniVersion": "1.0.0",
            "name": "sealed",
            "type": "sluicegate",
            "runtimeConfig": {},
            "arguments": [
                format!("--policy={}", self.yard.policy()),
                format!("--state={}", shown(&self.yard.world.path("state"))),
                format!("--ca-file={trust}/{{K8S_POD_NAMESPACE}}/{{K8S_POD_NAME}}/ca.pem"),
                "--label=pod={K8S_POD_NAMESPACE}.{K8S_POD_NAME}",
            ],
        })
    }

    /// Where the certificate of the pod's gate is.
    fn authority_file(&self) -> String {
        shown(&self.yard.world.path(&format!("trust/shop/{}/ca.pem", self.id)))
    }

    /// What curl in the pod says of a host.
    fn curl(&self, host: &str) -> Outcome {
        let (ca, url) = (self.authority_file(), format!("https://{host}/"));
        let line = ["curl", "-sS", "-m", "5", "-w", " %{http_code}", "--cacert", &ca, &url];
        self.yard.world.root_job(&self.namespace, line).run()
    }

    /// The process of the pod's gate.
    fn gate(&self) -> Pid {
        let status = self.yard.job(["sluicegate", "status", "get", "--instance", &self.id, "--json"]).run();
        let pid = status.assert_success().json()["pid"].as_i64().unwrap();
        Pid::from_raw(pid.try_into().unwrap())
    }

    fn notes(&self) -> usize {
        fs::read_dir(self.yard.world.path("root/sluicegate/cni")).map_or(0, Iterator::count)
    }
}

#[track_caller]
fn assert_silent(outcome: &Outcome) {
    outcome.assert_success().assert_stdout("");
}

/// Fails unless the plugin answered as the specification has errors, with this code and these words.
#[track_caller]
fn assert_error(outcome: &Outcome, code: u64, words: &[&str]) {
    assert!(!outcome.status.success(), "{outcome:?}");
    let answer = outcome.json();
    assert_eq!(answer["code"], code, "{outcome:?}");
    assert!(answer["cniVersion"].is_string() && answer["msg"].is_string(), "{outcome:?}");
    for words in words {
        assert!(answer.to_string().contains(words), "{words:?} in {outcome:?}");
    }
}

#[test]
fn a_pod_is_judged_from_add_to_del_and_closed_after() {
    let world = World::new("cni");
    let yard = Yard::new(&world);
    let pod = Pod::new(&yard, "pod");
    let mut configuration = pod.configuration();
    let added = pod.call("ADD", &configuration);
    let result = added.assert_success().json();
    let own = json!([{"address": "100.64.0.2/32"}, {"address": "fd00:e9::2/128"}]);
    assert_eq!(result, json!({"cniVersion": "1.0.0", "ips": own}), "{added:?}");
    pod.curl(HOST).assert_success().assert_stdout(&format!("{ANSWER} 200"));
    assert!(pod.curl("other.example").stdout.ends_with(" 403"));
    configuration["prevResult"] = result;
    assert_silent(&pod.call("CHECK", &configuration));
    let gate = pod.gate();
    assert_silent(&pod.call("DEL", &configuration));
    // DEL answers when the gate has ended, and its log is closed.
    assert!(!is_running(gate));
    let log = yard.log(&pod.id);
    assert_eq!(log.last().unwrap()["action"], "stopped", "{log:#?}");
    assert_judged(&yard, &log);
    assert!(!Path::new(&pod.authority_file()).parent().unwrap().exists());
    assert_eq!(pod.notes(), 0);
    let before = world.arrivals();
    let line = ["curl", "-sSk", "-m", "5", "https://10.77.0.2/"];
    assert!(!world.root_job(&pod.namespace, line).run().status.success());
    assert_eq!(world.arrivals(), before, "nothing leaves without a gate");
    // Runtimes repeat it, without a namespace too.
    assert_silent(&pod.call("DEL", &configuration));
    assert_silent(&pod.job("DEL", &configuration).env("CNI_NETNS", "").run());
    assert_error(&pod.call("CHECK", &configuration), 101, &["nothing leaves"]);
    // The same pod again, as after an ADD that a runtime gave up.
    pod.call("ADD", &pod.configuration()).assert_success();
    pod.curl(HOST).assert_success().assert_stdout(&format!("{ANSWER} 200"));
    let gate = pod.gate();
    // The runtime has lost what the arguments are filled with.
    assert_silent(&pod.job("DEL", &configuration).env("CNI_ARGS", "").run());
    assert!(!is_running(gate));
}

#[test]
fn nothing_leaves_a_pod_whose_gate_is_killed() {
    let world = World::new("cni-killed");
    let yard = Yard::new(&world);
    let pod = Pod::new(&yard, "killed");
    pod.call("ADD", &pod.configuration()).assert_success();
    pod.curl(HOST).assert_success().assert_stdout(&format!("{ANSWER} 200"));
    let before = world.arrivals();
    let gate = pod.gate();
    kill(gate, Signal::SIGKILL).unwrap();
    wait_until("the end of the gate", std::time::Duration::from_secs(10), || !is_running(gate));
    assert!(!pod.curl(HOST).status.success());
    assert_eq!((world.arrivals(), yard.site.requests().len()), (before, 1));
    assert_error(&pod.call("CHECK", &pod.configuration()), 101, &["no gate"]);
    assert_silent(&pod.call("DEL", &pod.configuration()));
    assert_eq!(pod.notes(), 0);
}

/// Whether it runs; one that has ended and that nobody waits for does not.
fn is_running(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_pod_that_cannot_be_sealed_has_no_gate_and_the_runtime_is_told_why() {
    let world = World::new("cni-failed");
    let yard = Yard::new(&world);
    let pod = Pod::new(&yard, "failed");
    let with = |key: &str, value: Value| {
        let mut configuration = pod.configuration();
        configuration[key] = value;
        configuration
    };
    let arguments = |words: &[&str]| pod.call("ADD", &with("arguments", words.into()));
    assert_error(&pod.call("ADD", &with("cniVersion", "0.3.1".into())), 1, &["0.3.1", "1.1.0"]);
    assert_error(&pod.call("ADD", &with("name", Value::Null)), 6, &["not understood"]);
    assert_error(&arguments(&["--polcy=/p.toml"]), 7, &["--polcy", "options of `sluicegate attach`"]);
    assert_error(&arguments(&["--no-control"]), 7, &["DEL"]);
    assert_error(&arguments(&["--name={K8S_POD_UID}"]), 4, &["K8S_POD_UID"]);
    assert_error(&arguments(&["--ca-file=/{HARM}/ca.pem"]), 4, &["HARM"]);
    assert_error(&arguments(&["--policy=/nowhere.toml"]), 100, &["no gate", "/nowhere.toml"]);
    let missing = |name: &str| pod.job("ADD", &pod.configuration()).env(name, "").run();
    assert_error(&missing("CNI_CONTAINERID"), 4, &["CNI_CONTAINERID"]);
    assert_error(&missing("CNI_NETNS"), 4, &["CNI_NETNS"]);
    assert_error(&missing("CNI_IFNAME"), 4, &["CNI_IFNAME"]);
    assert_error(&pod.call("JUMP", &pod.configuration()), 4, &["JUMP"]);
    let gone = pod.job("ADD", &pod.configuration()).env("CNI_NETNS", "/run/netns/sg-not-there").run();
    assert_error(&gone, 100, &["sg-not-there"]);
    // Another plugin has made an interface: it would be a way out.
    pod.namespace.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "out1"]);
    assert_error(&pod.call("ADD", &pod.configuration()), 100, &["eth0"]);
    assert_eq!(pod.notes(), 0);
    yard.site.assert_untouched();
}

#[test]
fn what_a_plugin_before_has_made_is_passed_on() {
    let world = World::new("cni-chain");
    let yard = Yard::new(&world);
    let pod = Pod::new(&yard, "chained");
    let mut configuration = pod.configuration();
    configuration["cniVersion"] = "1.1.0".into();
    configuration["prevResult"] = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": shown(&pod.namespace.path())}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
        "dns": {"nameservers": ["10.96.0.10"]},
    });
    let result = pod.call("ADD", &configuration).assert_success().json();
    assert_eq!(result["cniVersion"], "1.1.0");
    assert_eq!(result["interfaces"], configuration["prevResult"]["interfaces"]);
    assert_eq!(result["dns"], configuration["prevResult"]["dns"]);
    let addresses: Vec<_> = result["ips"].as_array().unwrap().iter().map(|ip| &ip["address"]).collect();
    assert_eq!(addresses, ["127.0.0.1/8", "100.64.0.2/32", "fd00:e9::2/128"]);
    assert_silent(&pod.call("DEL", &configuration));
}

#[test]
fn gates_that_the_runtime_does_not_know_are_collected() {
    let world = World::new("cni-gc");
    let yard = Yard::new(&world);
    let pods = ["kept", "lost", "other"].map(|name| Pod::new(&yard, name));
    let [kept, lost, other] = &pods;
    for pod in [kept, lost] {
        pod.call("ADD", &pod.configuration()).assert_success();
    }
    let mut elsewhere = other.configuration();
    elsewhere["name"] = "another".into();
    other.call("ADD", &elsewhere).assert_success();
    let gates = [kept.gate(), lost.gate(), other.gate()];
    let mut configuration = kept.configuration();
    configuration["cniVersion"] = "1.1.0".into();
    configuration["cni.dev/valid-attachments"] = json!([{"containerID": kept.id, "ifname": "eth0"}]);
    let collected = kept.job("GC", &configuration).env("CNI_CONTAINERID", "").env("CNI_NETNS", "").run();
    assert_silent(&collected);
    assert_eq!(gates.map(is_running), [true, false, true]);
    kept.curl(HOST).assert_success().assert_stdout(&format!("{ANSWER} 200"));
    assert_eq!(kept.notes(), 2);
    for (pod, configuration) in
        [(kept, kept.configuration()), (lost, lost.configuration()), (other, elsewhere)]
    {
        assert_silent(&pod.call("DEL", &configuration));
    }
    assert_eq!(gates.map(is_running), [false; 3]);
}

#[test]
fn versions_and_readiness_are_told_to_who_asks() {
    let world = World::new("cni-version");
    let yard = Yard::new(&world);
    let pod = Pod::new(&yard, "version");
    let version = pod.call("VERSION", &json!({"cniVersion": "1.0.0"}));
    let wanted = json!({"cniVersion": "1.0.0", "supportedVersions": ["1.0.0", "1.1.0"]});
    assert_eq!(version.assert_success().json(), wanted);
    let mut configuration = pod.configuration();
    configuration["cniVersion"] = "1.1.0".into();
    assert_silent(&pod.call("STATUS", &configuration));
    // The same by its name, as a script between would.
    let line =
        yard.job(["sluicegate", "cni"]).env("CNI_COMMAND", "VERSION").stdin(r#"{"cniVersion":"1.1.0"}"#);
    assert_eq!(line.run().assert_success().json()["cniVersion"], "1.1.0");
    // Without a runtime it is the program that it is.
    let bare = yard.job(["sluicegate"]).run();
    assert_eq!((bare.code(), bare.stderr.contains("Usage: sluicegate <COMMAND>")), (64, true), "{bare:?}");
}
