//! `sluicegate run` and `sluicegate attach`, started as an operator would.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs, iter};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::job::{Job, Outcome, Running};
use crate::namespace::Namespace;
use crate::world::World;

/// A gate that is about to be started.
#[must_use = "a gate does nothing until it runs a command or attaches"]
pub struct Gate<'world> {
    world: &'world World,
    policy: Option<PathBuf>,
    log: PathBuf,
    environment: Vec<(String, String)>,
    flags: Vec<String>,
    name: Option<String>,
}

impl<'world> Gate<'world> {
    pub(crate) fn new(world: &'world World, policy: &str) -> Self {
        let number = world.next_number();
        let policy = (!policy.is_empty()).then(|| world.file(&format!("policy-{number}.toml"), policy));
        let log = world.path(&format!("log/{number}.jsonl"));
        Self { world, policy, log, environment: Vec::new(), flags: Vec::new(), name: None }
    }

    /// Names the instance, so that what is changed at run time is kept. Its control socket and its
    /// state are in folders of this world, where [`World::operator`] and [`Attached::operator`] look.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Sets a variable of the gate's environment, which a workload of `run` inherits as far as the
    /// gate lets it.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a flag, or a flag's value, to the command line.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// The file with the policy document, which a test may change under the running gate.
    pub fn policy_file(&self) -> Option<&Path> {
        self.policy.as_deref()
    }

    /// The file that the log goes to.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// `sluicegate run` around a command, as the unprivileged workload user.
    pub fn job<A: AsRef<str>>(self, command: impl IntoIterator<Item = A>) -> Job<'world> {
        let mut line = vec![self.world.program("sluicegate"), "run".to_owned()];
        line.extend(self.common_flags(Caller::Workload));
        line.push("--".to_owned());
        line.extend(command.into_iter().map(|argument| argument.as_ref().to_owned()));
        let job = self.world.job(self.world.gate_namespace(), line).log(self.log);
        let job = match self.name {
            Some(_) => job.env("XDG_RUNTIME_DIR", self.world.runtime_folder(Caller::Workload)),
            None => job,
        };
        self.environment.iter().fold(job, |job, (name, value)| job.env(name, value))
    }

    /// Runs [`Self::job`] to its end.
    pub fn run<A: AsRef<str>>(self, command: impl IntoIterator<Item = A>) -> Outcome {
        self.job(command).run()
    }

    /// Makes a sealed namespace and attaches to it, as root; returns once the gate says it is ready.
    pub fn attach(self) -> Attached<'world> {
        let namespace = Namespace::new(&format!("{}-sealed-{}", self.world.name(), self.world.next_number()));
        self.attach_to(namespace)
    }

    /// Attaches to a namespace that is there already, which ends with the [`Attached`].
    pub fn attach_to(self, namespace: Namespace) -> Attached<'world> {
        let ca_file = self.world.path(&format!("{}-gate-ca.pem", namespace.name()));
        let mut line = vec![self.world.program("sluicegate"), "attach".to_owned(), shown(&namespace.path())];
        line.extend(self.common_flags(Caller::Root));
        line.extend(["--ca-file".to_owned(), shown(&ca_file), "--json".to_owned()]);
        let job = self.world.root_job(self.world.gate_namespace(), line).log(self.log);
        let job = match self.name {
            Some(_) => job.env("XDG_RUNTIME_DIR", self.world.runtime_folder(Caller::Root)),
            None => job,
        };
        let job = self.environment.iter().fold(job, |job, (name, value)| job.env(name, value));
        let mut running = job.spawn();
        running.wait_for_output("\"ready\"");
        Attached { world: self.world, running, namespace, ca_file, name: self.name }
    }

    fn common_flags(&self, caller: Caller) -> Vec<String> {
        let mut flags = Vec::new();
        if let Some(policy) = &self.policy {
            flags.extend(["--policy".to_owned(), shown(policy)]);
        }
        flags.extend(["--log".to_owned(), shown(&self.log)]);
        if let Some(name) = &self.name {
            let state = shown(&self.world.path(caller.folder()).join("state"));
            flags.extend(["--name".to_owned(), name.clone(), "--state".to_owned(), state]);
        }
        flags.extend(self.flags.iter().cloned());
        flags
    }
}

/// A gate that serves a namespace of its own. Dropping it kills the gate and removes the namespace.
#[derive(Debug)]
pub struct Attached<'world> {
    world: &'world World,
    running: Running<'world>,
    namespace: Namespace,
    ca_file: PathBuf,
    name: Option<String>,
}

/// Who starts a gate, and whose its control socket is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// The workload's user, by `run`.
    Workload,
    /// Root, by `attach`.
    Root,
}

impl Caller {
    /// The folder of the world that the gate's own things are in.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Workload => "operator",
            Self::Root => "root",
        }
    }
}

impl<'world> Attached<'world> {
    /// A command in the sealed namespace, as the workload user. It trusts the gate by the variables
    /// that curl, OpenSSL and Python read.
    pub fn job<A: AsRef<str>>(&self, command: impl IntoIterator<Item = A>) -> Job<'world> {
        let job = self.world.job(&self.namespace, command);
        ["CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]
            .iter()
            .fold(job, |job, name| job.env(name, &self.ca_file))
    }

    /// Runs [`Self::job`] to its end. The log is in [`Self::log`], not in the outcome.
    pub fn run<A: AsRef<str>>(&self, command: impl IntoIterator<Item = A>) -> Outcome {
        self.job(command).run()
    }

    /// A `sluicegate` command about this gate, which must be [named](Gate::named): by root, from where
    /// the gate was started.
    pub fn operator<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Job<'world> {
        let program = self.world.program("sluicegate");
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        let line = iter::once(program).chain(arguments);
        self.world
            .root_job(self.world.gate_namespace(), line)
            .env("XDG_RUNTIME_DIR", self.world.runtime_folder(Caller::Root))
            .env("SLUICEGATE_INSTANCE", self.name.as_deref().expect("the gate has a name"))
    }

    /// The control socket of this gate, which must be [named](Gate::named).
    pub fn control_socket(&self) -> PathBuf {
        let name = self.name.as_deref().expect("the gate has a name");
        self.world.runtime_folder(Caller::Root).join(format!("sluicegate/{name}.sock"))
    }

    /// The sealed namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The certificate of the gate's authority.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The log, once nothing was added to it for a moment: a line is written when its exchange has ended, and whoever
    /// was answered may be here before that.
    pub fn log(&self) -> Vec<Value> {
        self.running.settled_log()
    }

    /// Waits until the log has a line for which this holds, and returns it.
    pub fn wait_for_log(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.running.wait_for_log(wanted)
    }

    /// The gate's process.
    pub fn running(&mut self) -> &mut Running<'world> {
        &mut self.running
    }

    /// Sends the gate a signal and waits for its end; the namespace stays, as the gate left it.
    pub fn end(self, signal: Signal) -> (Outcome, Namespace) {
        let Self { running, namespace, .. } = self;
        running.signal(signal);
        (running.wait(), namespace)
    }
}

impl World {
    /// A `sluicegate` command about the [named](Gate::named) gates of `run`: by the user that started
    /// them, and from where they were started.
    pub fn operator<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Job<'_> {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        let line = iter::once(self.program("sluicegate")).chain(arguments);
        self.job(self.gate_namespace(), line).env("XDG_RUNTIME_DIR", self.runtime_folder(Caller::Workload))
    }

    /// What stands for `/run/user/UID`.
    pub(crate) fn runtime_folder(&self, caller: Caller) -> PathBuf {
        self.path(caller.folder())
    }

    /// A program of this workspace, where the workload's user can start it. Where the target folder
    /// is closed to that user, as below `/root`, this makes a copy of both in the scratch folder.
    pub fn program(&self, name: &str) -> String {
        let test = env::current_exe().expect("the path of this test");
        // target/debug/deps/e2e-… → target/debug
        let built = test.ancestors().nth(2).expect("a target folder");
        let open = built.ancestors().all(|folder| {
            fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
        });
        let folder = if open { built.to_owned() } else { self.path("bin") };
        for program in ["sluicegate", "sluicegate-netns"] {
            let original = built.join(program);
            assert!(original.exists(), "{} is missing: ./test builds it", original.display());
            if !open && !folder.join(program).exists() {
                fs::create_dir_all(&folder).expect("make a folder");
                fs::copy(&original, folder.join(program)).expect("copy a program");
            }
        }
        shown(&folder.join(name))
    }

    /// A program that `scripts/setup --tests` put below `target/test-deps`.
    pub fn test_dependency(&self, path: &str) -> String {
        let test = env::current_exe().expect("the path of this test");
        let program = test.ancestors().nth(3).expect("a target folder").join("test-deps").join(path);
        assert!(program.exists(), "{} is missing: run ./scripts/setup --tests", program.display());
        shown(&program)
    }
}

fn shown(path: &Path) -> String {
    path.to_str().expect("a path of ours is UTF-8").to_owned()
}
