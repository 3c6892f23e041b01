//! An example in a world of its own: its policy and handlers as files, its hosts at an origin.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use e2e::{Gate, Job, Outcome, Running, World};
use serde_json::Value;

/// What the workload of these tests is called, where the example does not care.
pub(crate) const NAME: &str = "box";

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

/// A gate with the policy of an example, called [`NAME`], in which these hosts are found at `origin`
/// by both schemes. Its control socket and its state are in folders of this world.
pub(crate) fn gate<'world>(
    world: &'world World,
    example: &str,
    hosts: &[&str],
    origin: SocketAddr,
) -> Gate<'world> {
    let folder = repository(&format!("examples/{example}"));
    if let Ok(handlers) = fs::read_dir(folder.join("handlers")) {
        for handler in handlers.map(|entry| entry.unwrap().path()) {
            let name = handler.file_name().unwrap().to_str().unwrap();
            world.file(&format!("handlers/{name}"), fs::read(&handler).unwrap());
        }
    }
    let policy = fs::read_to_string(folder.join("sluicegate.toml")).unwrap();
    let authorities: Vec<_> = hosts.iter().map(|host| format!("{host}:443")).collect();
    let resolve: Vec<_> = authorities.iter().map(|authority| (authority.as_str(), origin)).collect();
    world
        .gate(&format!("{policy}\n{}", world.upstream(&resolve)))
        .env("XDG_RUNTIME_DIR", &runtime(world))
        .flag("--name")
        .flag(NAME)
        .flag("--state")
        .flag(&shown(&world.path("log/state")))
}

/// The same for a policy without hosts of its own.
pub(crate) fn closed_gate<'world>(world: &'world World, example: &str) -> Gate<'world> {
    gate(world, example, &[], SocketAddr::from(([192, 0, 2, 1], 443)))
}

/// curl that shows the status after the body.
pub(crate) fn curl<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["curl", "-sS", "-w", " %{http_code}"], arguments].concat()
}

/// The same as a line for a [`Shell`], for arguments without spaces.
pub(crate) fn curl_line(arguments: &[&str]) -> String {
    format!("curl -sS -w ' %{{http_code}}' {}", arguments.join(" "))
}

/// A `sluicegate` command by the operator: the gate's user, outside of the sealed namespace.
pub(crate) fn operator<'world>(world: &'world World, arguments: &[&str]) -> Job<'world> {
    let program = world.program("sluicegate");
    let line = [&[program.as_str()], arguments].concat();
    world.job(world.gate_namespace(), line).env("XDG_RUNTIME_DIR", runtime(world))
}

/// A shell in the sealed namespace, which runs what is written to it; see [`Shell::ask`].
pub(crate) struct Shell<'world> {
    running: Running<'world>,
    asked: usize,
}

impl<'world> Shell<'world> {
    /// Waits until it runs.
    pub(crate) fn start(gate: Gate<'world>) -> Self {
        let mut shell = Self { running: gate.job(["sh"]).spawn(), asked: 0 };
        assert_eq!(shell.ask("echo ready"), "ready");
        shell
    }

    /// Runs a command to its end, and returns what it printed.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.asked += 1;
        let end = format!("<end {}>", self.asked);
        let before = self.running.stdout().len();
        self.running.write(format!("{command}; echo '{end}'\n"));
        self.running.wait_for_output(&end);
        let printed = self.running.stdout().split_off(before);
        printed.split(&end).next().unwrap().trim_end().to_owned()
    }

    /// Ends it, and the gate with it.
    pub(crate) fn end(mut self) -> Outcome {
        self.running.write("exit 0\n");
        self.running.wait()
    }

    /// The gate around it.
    pub(crate) fn running(&mut self) -> &mut Running<'world> {
        &mut self.running
    }
}

/// The one line that a handler logged in this run.
#[track_caller]
pub(crate) fn only_handler_line(outcome: &Outcome) -> &Value {
    match outcome.lines("handler").as_slice() {
        [line] => line,
        lines => panic!("{} lines of handlers: {outcome:#?}", lines.len()),
    }
}

/// The one refusal of this run, by its code.
#[track_caller]
pub(crate) fn refusal(outcome: &Outcome) -> &str {
    let line = outcome.only_exchange();
    assert_eq!(line["verdict"], "refused", "{outcome:#?}");
    line["reason"].as_str().unwrap()
}

pub(crate) fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A folder of the workload user's, in place of `/run/user/UID`.
fn runtime(world: &World) -> String {
    shown(&world.path("log"))
}
