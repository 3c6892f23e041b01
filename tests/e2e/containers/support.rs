//! Engines and runtimes of these tests, each with folders of its own, and a file system for containers.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::{Job, Outcome, Reply, Running, Site, World, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The one host that [`Yard::policy`] allows.
pub(crate) const HOST: &str = "api.example.com";
/// What it answers.
pub(crate) const ANSWER: &str = "hello from the origin";
/// What engines know the file system as.
pub(crate) const IMAGE: &str = "sluicegate-test:latest";

/// An engine starts a daemon, unpacks files and makes cgroups.
const DEADLINE: Duration = Duration::from_secs(90);

/// The search path of a clean login.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// busybox, and curl with its libraries.
const FILL: &str = "
    mkdir -p $1/bin $1/etc $1/proc $1/sys $1/dev $1/tmp $1/usr/bin $1/trust
    cp /bin/busybox $1/bin/
    for name in sh sleep cat ls; do ln -s busybox $1/bin/$name; done
    cp /usr/bin/curl $1/usr/bin/
    ldd /usr/bin/curl | grep -o '/[^ ]*' | while read -r file; do
        mkdir -p $1${file%/*}
        cp -L $file $1$file
    done
";

/// crun does not run where a machine has both versions of cgroups, as it may with an older systemd. Where only it
/// looks, the second is not there.
const CRUN: &str = "#!/bin/sh
    exec unshare --mount --propagation private sh -c '
        umount /sys/fs/cgroup/unified 2>/dev/null
        exec /usr/bin/crun \"$@\"
    ' crun \"$@\"
";

/// A world with an origin, and what containers are made of.
pub(crate) struct Yard<'world> {
    pub(crate) world: &'world World,
    pub(crate) site: Site,
}

impl<'world> Yard<'world> {
    pub(crate) fn new(world: &'world World) -> Self {
        let site = Site::answering(world, |_| Reply::text(ANSWER));
        let yard = Self { world, site };
        for folder in ["tools", "trust", "hooks", "state"] {
            fs::create_dir(world.path(folder)).unwrap();
        }
        symlink(world.program("sluicegate"), world.path("tools/sluicegate")).unwrap();
        executable(world.file("tools/crun", CRUN));
        let text = format!("allowed_hosts = [\"{HOST}\"]");
        world.file("sluicegate.toml", yard.site.policy(world, &text, &[HOST, "other.example"]));
        yard.shell(&format!("set -eu; set -- {}; {FILL}", world.path("root").join("fs").display()))
            .run()
            .assert_success();
        yard
    }

    /// The root file system.
    pub(crate) fn files(&self) -> PathBuf {
        self.world.path("root/fs")
    }

    /// The policy document.
    pub(crate) fn policy(&self) -> String {
        shown(&self.world.path("sluicegate.toml"))
    }

    /// A command of root's, beside the gate, which finds our programs by name.
    pub(crate) fn job<A: AsRef<str>>(&self, command: impl IntoIterator<Item = A>) -> Job<'world> {
        self.world
            .root_job(self.world.gate_namespace(), command)
            .deadline(DEADLINE)
            .folder(self.world.path(""))
            .env("PATH", self.search_path())
            .env("HOME", self.world.path("root"))
            .env("XDG_RUNTIME_DIR", self.world.path("root"))
            .env("SLUICEGATE_STATE", self.world.path("state"))
            .env("DOCKER_HOST", format!("unix://{}", shown(&self.world.path("docker.sock"))))
    }

    /// A script, likewise.
    pub(crate) fn shell(&self, script: &str) -> Job<'world> {
        self.job(["sh", "-c", script])
    }

    /// The commands of docs/containers.md below this heading, to be run here.
    pub(crate) fn documented(&self, heading: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let document = fs::read_to_string(root.join("docs/containers.md")).unwrap();
        let section = document.split(&format!("\n## {heading}\n")).nth(1).expect(heading);
        let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect(heading);
        let commands = block
            .replace("/srv/jail-trust", &shown(&self.world.path("trust")))
            .replace("/etc/containers/oci/hooks.d", &shown(&self.world.path("hooks")))
            .replace("IMAGE", IMAGE);
        format!("set -eu\n{commands}")
    }

    /// Makes the engine know [`IMAGE`].
    pub(crate) fn import(&self, engine: &str) {
        let files = shown(&self.files());
        self.shell(&format!("tar -C {files} -c . | {engine} import - {IMAGE}")).run().assert_success();
    }

    /// Where our programs are found, and then those of a clean login.
    pub(crate) fn search_path(&self) -> String {
        format!("{}:{SEARCH_PATH}", shown(&self.world.path("tools")))
    }

    /// Podman, with a storage of its own and this runtime.
    pub(crate) fn install_podman(&self, runtime: &str) {
        let folder = shown(&self.world.path("p"));
        let runtime =
            if runtime == "crun" { shown(&self.world.path("tools/crun")) } else { runtime.to_owned() };
        self.wrap_podman(&format!(
            "--root {folder}/s --runroot {folder}/r --tmpdir {folder}/t --runtime {runtime}"
        ));
        self.import("podman");
    }

    /// Runs a script as the workload's user, whose podman has a storage in his home and knows [`IMAGE`].
    pub(crate) fn rootless_podman(&self, script: &str) -> Outcome {
        self.wrap_podman("--runtime runc");
        let files = shown(&self.files());
        let script = format!(
            "set -eu
            mkdir -m 700 run
            tar --owner 0 --group 0 -C {files} -c . | podman import - {IMAGE}
            {script}"
        );
        let job = self.world.job(self.world.gate_namespace(), ["sh", "-c", &script]);
        let job = job.deadline(DEADLINE).env("PATH", self.search_path());
        let outcome = job.env("XDG_RUNTIME_DIR", self.world.home().join("run")).run();
        outcome.assert_success();
        outcome
    }

    fn wrap_podman(&self, options: &str) {
        // Its own limits are more than a process may have where these tests run in a container.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        let limits = shown(&self.world.file("tools/containers.conf", limits));
        let script = format!(
            "#!/bin/sh\nexport CONTAINERS_CONF={limits}\nexec /usr/bin/podman --storage-driver vfs \
             --cgroup-manager cgroupfs --events-backend none {options} \"$@\"\n"
        );
        executable(self.world.file("tools/podman", script));
    }

    /// The log so far of a gate that named none: in the state folder, by its name.
    pub(crate) fn log(&self, name: &str) -> Vec<Value> {
        read_log(&self.world.path("state").join(format!("{name}.jsonl")))
    }

    /// The same, once it has so many lines of this kind.
    pub(crate) fn log_with(&self, name: &str, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let has_come = || self.log(name).iter().filter(|line| wanted(line)).count() >= count;
        wait_until(&format!("{count} lines in the log of {name}"), DEADLINE, has_come);
        self.log(name)
    }

    /// Waits until the gate of this name has closed its log, which is the last that it does.
    pub(crate) fn wait_for_the_end(&self, name: &str) -> Vec<Value> {
        let ended = |log: &[Value]| log.last().is_some_and(|line| line["action"] == "stopped");
        wait_until("the end of the gate", Duration::from_secs(20), || ended(&self.log(name)));
        self.log(name)
    }
}

impl Drop for Yard<'_> {
    fn drop(&mut self) {
        let scratch = shown(&self.world.path(""));
        if self.world.path("tools/podman").exists() {
            let _ = self.job(["timeout", "60", "podman", "rm", "--all", "--force", "--time", "0"]).run();
        }
        // What engines leave mounted would keep the scratch folder from being removed.
        let script = format!("grep -o ' {scratch}[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l");
        drop(Command::new("sh").args(["-c", &script]).output());
    }
}

/// The image of the gate: our programs, with their libraries and nothing that only debuggers read.
const GATE_FILL: &str = "
    mkdir -p $1/usr/bin $1/run $1/var/lib/sluicegate
    for program in sluicegate sluicegate-netns; do
        strip -o $1/usr/bin/$program $2/$program
        ldd $2/$program | grep -o '/[^ ]*' | while read -r file; do
            mkdir -p $1${file%/*}
            cp -L $file $1$file
        done
    done
    tar -C $1 -c . | docker import --change 'ENTRYPOINT [\"sluicegate\"]' - sluicegate
";

/// A Docker daemon of its own. Its containers and itself end when it is dropped.
pub(crate) struct Docker<'yard, 'world> {
    yard: &'yard Yard<'world>,
    daemon: Option<Running<'world>>,
}

impl<'yard, 'world> Docker<'yard, 'world> {
    /// One without any network.
    pub(crate) fn start(yard: &'yard Yard<'world>) -> Self {
        Self::start_with(yard, "--bridge none --iptables=false --ip-forward=false --ip-masq=false")
    }

    /// One whose networks lead to the origins, by bridges and rules in the gate's namespace. It knows our programs
    /// as the image `sluicegate`.
    pub(crate) fn start_with_networks(yard: &'yard Yard<'world>) -> Self {
        let docker =
            Self::start_with(yard, "--bip 172.31.0.1/24 --default-address-pool base=172.30.0.0/16,size=24");
        let programs = PathBuf::from(yard.world.program("sluicegate"));
        let script = format!(
            "set -eu; set -- {} {}; {GATE_FILL}",
            shown(&yard.world.path("root/gate")),
            shown(programs.parent().unwrap())
        );
        yard.shell(&script).run().assert_success();
        docker
    }

    fn start_with(yard: &'yard Yard<'world>, network: &str) -> Self {
        let folder = shown(&yard.world.path("d"));
        let script = format!(
            "exec dockerd --host \"$DOCKER_HOST\" --data-root {folder}/data --exec-root {folder}/exec \
             --pidfile {folder}.pid --storage-driver vfs {network}"
        );
        let daemon = yard.shell(&script).spawn();
        let docker = Self { yard, daemon: Some(daemon) };
        let answers = || yard.job(["docker", "version"]).run().status.success();
        wait_until("dockerd", Duration::from_secs(60), answers);
        yard.import("docker");
        docker
    }
}

impl Drop for Docker<'_, '_> {
    fn drop(&mut self) {
        let _ = self.yard.shell("docker ps -aq | xargs -r timeout 60 docker rm -f").run();
        if let Some(daemon) = self.daemon.take() {
            // It ends its containerd with itself.
            daemon.signal(Signal::SIGTERM);
            let _ = daemon.wait();
        }
    }
}

/// A container that a runtime starts without an engine.
pub(crate) struct Bundle {
    folder: PathBuf,
    configuration: Value,
}

impl Bundle {
    /// One that runs this script, with the file system of the yard and its trust folder.
    pub(crate) fn new(yard: &Yard<'_>, name: &str, script: &str) -> Self {
        let folder = yard.world.path(name);
        fs::create_dir(&folder).unwrap();
        yard.job(["runc", "spec", "--bundle", &shown(&folder)]).run().assert_success();
        let text = fs::read(folder.join("config.json")).unwrap();
        let mut configuration: Value = serde_json::from_slice(&text).unwrap();
        configuration["process"]["terminal"] = false.into();
        configuration["process"]["args"] = ["sh", "-c", script].as_slice().into();
        // crun keeps what hooks complain about to itself, unless it is told of a file.
        configuration["annotations"]["run.oci.hooks.stderr"] = shown(&folder.join("complaint")).into();
        let variables = [format!("PATH={SEARCH_PATH}"), "SSL_CERT_FILE=/trust/ca.pem".to_owned()];
        configuration["process"]["env"] = variables.as_slice().into();
        configuration["root"]["path"] = shown(&yard.files()).into();
        let trust = serde_json::json!({
            "destination": "/trust", "type": "bind", "source": shown(&yard.world.path("trust")), "options": ["rbind", "ro"],
        });
        configuration["mounts"].as_array_mut().unwrap().push(trust);
        Self { folder, configuration }
    }

    /// Has the hook called that `sluicegate oci-hook --print` prints with these options.
    pub(crate) fn hooked(mut self, yard: &Yard<'_>, options: &[&str]) -> Self {
        let trust = format!("--ca-file={}", shown(&yard.world.path("trust/ca.pem")));
        let line = [&["sluicegate", "oci-hook", "--print", &trust], options].concat();
        let printed = yard.job(line).run();
        let hook = printed.assert_success().json()["hook"].take();
        self.configuration["hooks"]["createRuntime"] = vec![hook].into();
        self
    }

    /// With a root that can be written to.
    pub(crate) fn writable(mut self) -> Self {
        self.configuration["root"]["readonly"] = false.into();
        self
    }

    /// Joins a namespace that is there instead of making one.
    pub(crate) fn in_namespace(mut self, path: &Path) -> Self {
        let namespaces = self.configuration["linux"]["namespaces"].as_array_mut().unwrap();
        let network = namespaces.iter_mut().find(|namespace| namespace["type"] == "network").unwrap();
        network["path"] = shown(path).into();
        self
    }

    /// Has a runtime run it as this container.
    pub(crate) fn job<'world>(&self, yard: &Yard<'world>, runtime: &str, id: &str) -> Job<'world> {
        fs::write(self.folder.join("config.json"), self.configuration.to_string()).unwrap();
        let root = shown(&yard.world.path("runtime"));
        yard.job([runtime, "--root", &root, "run", "--bundle", &shown(&self.folder), id])
    }

    /// What the hook complained about, where the runtime did not show it.
    pub(crate) fn complaint(&self) -> String {
        fs::read_to_string(self.folder.join("complaint")).unwrap_or_default()
    }
}

/// Fails unless one request reached the origin, one was refused, and nothing else left.
#[track_caller]
pub(crate) fn assert_judged(yard: &Yard<'_>, log: &[Value]) {
    let verdict = |host: &str| {
        let lines: Vec<_> =
            log.iter().filter(|line| line["kind"] == "exchange" && line["host"] == host).collect();
        assert_eq!(lines.len(), 1, "{host}: {log:#?}");
        lines[0]["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!((verdict(HOST).as_str(), verdict("other.example").as_str()), ("allowed", "refused"));
    assert_eq!(yard.site.requests().len(), 1, "{:#?}", yard.site.requests());
    let arrivals = yard.world.arrivals();
    assert_eq!((arrivals.tcp_connections, arrivals.udp, arrivals.icmp, arrivals.other), (1, 0, 0, 0));
}

/// A script whose first command asks the host that is allowed and whose second asks another.
pub(crate) fn two_requests() -> String {
    format!(
        "curl -sS https://{HOST}/; echo; curl -sS -o /dev/null -w '%{{http_code}}\\n' https://other.example/"
    )
}

/// What [`two_requests`] prints behind a gate.
pub(crate) fn two_answers() -> String {
    format!("{ANSWER}\n403\n")
}

#[track_caller]
pub(crate) fn assert_complains(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code(), code, "{outcome:?}");
    for words in words {
        assert!(outcome.stderr.contains(words), "{words:?} in {outcome:?}");
    }
}

pub(crate) fn executable(program: PathBuf) {
    fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
}

pub(crate) fn shown(path: &Path) -> String {
    path.to_str().unwrap().trim_end_matches('/').to_owned()
}

fn read_log(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}
