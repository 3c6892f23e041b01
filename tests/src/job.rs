//! A process with a deadline, its output, and the log that its gate wrote.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::world::{World, wait_until};

/// Longer than any client waits by itself in these tests, and than a component with an interpreter in it is compiled on
/// a machine with other work.
const DEADLINE: Duration = Duration::from_secs(120);
/// A process whose end we saw has no reason to leave its output open for longer.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(10);

/// A command that is about to be started.
#[must_use = "a job does nothing until it is run or spawned"]
pub struct Job<'world> {
    world: &'world World,
    command: Command,
    stdin: Vec<u8>,
    deadline: Duration,
    log: Option<PathBuf>,
}

impl<'world> Job<'world> {
    pub(crate) fn new(world: &'world World, command: Command) -> Self {
        Self { world, command, stdin: Vec::new(), deadline: DEADLINE, log: None }
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets its working folder.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// What [`Self::run`] writes to its standard input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// How long it may take, and how long something of it may be waited for; two minutes if not said.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub(crate) fn log(mut self, log: PathBuf) -> Self {
        self.log = Some(log);
        self
    }

    /// Starts it and waits for its end. Fails the test at the deadline.
    pub fn run(mut self) -> Outcome {
        let stdin = std::mem::take(&mut self.stdin);
        let mut running = self.spawn();
        let pipe = running.stdin.take();
        // A thread, since the process may fill its output before it has read all of this.
        thread::spawn(move || pipe.map(|mut pipe| pipe.write_all(&stdin)));
        running.wait()
    }

    /// Starts it, with its standard input open for [`Running::write`].
    pub fn spawn(mut self) -> Running<'world> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = format!("{:?}", self.command);
        let mut child = self.command.spawn().unwrap_or_else(|error| {
            panic!("{shown}: {error}; ./scripts/setup --tests installs what the tests need")
        });
        let (ended, output_ended) = mpsc::channel();
        let stdout = gather(child.stdout.take().expect("stdout is piped"), ended.clone());
        let stderr = gather(child.stderr.take().expect("stderr is piped"), ended);
        Running {
            world: self.world,
            stdin: child.stdin.take(),
            child,
            shown,
            stdout,
            stderr,
            output_ended,
            started: Instant::now(),
            deadline: self.deadline,
            log: self.log,
        }
    }
}

/// How long a log is looked at for more lines, and how often again.
const SETTLED_AFTER: Duration = Duration::from_millis(60);
const SETTLING_ROUNDS: usize = 20;

/// A process that was started. Dropping it kills it.
#[derive(Debug)]
pub struct Running<'world> {
    world: &'world World,
    child: Child,
    stdin: Option<ChildStdin>,
    shown: String,
    stdout: Gathered,
    stderr: Gathered,
    output_ended: Receiver<()>,
    started: Instant,
    deadline: Duration,
    log: Option<PathBuf>,
}

type Gathered = Arc<Mutex<Vec<u8>>>;

impl Running<'_> {
    /// Its process id: that of `sluicegate`, where the job is a gate.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// What it printed so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// What it complained about so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// The log lines so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.as_deref().map(read_log).unwrap_or_default()
    }

    /// The log lines, once none was added for a moment and the process has nothing to do, or some time has
    /// passed.
    pub(crate) fn settled_log(&self) -> Vec<Value> {
        let length = || self.log.as_deref().and_then(|log| fs::metadata(log).ok()).map(|log| log.len());
        for _ in 0..SETTLING_ROUNDS {
            let before = length();
            thread::sleep(SETTLED_AFTER);
            if length() == before && !self.is_busy() {
                break;
            }
        }
        self.log()
    }

    /// Whether one of its threads runs, or waits for a processor or a disk (proc_pid_stat(5)).
    fn is_busy(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let states = threads.filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
            // The name before it is in parentheses, and may have some of its own.
            stat.rsplit_once(") ")?.1.chars().next()
        });
        states.into_iter().any(|state| matches!(state, 'R' | 'D'))
    }

    /// Writes to its standard input.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("standard input was closed before");
        stdin.write_all(bytes.as_ref()).and_then(|()| stdin.flush()).expect("write to standard input");
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("send a signal");
    }

    /// Waits until its standard output contains this; fails when it ends or the deadline comes first.
    pub fn wait_for_output(&mut self, wanted: &str) {
        self.wait_for(&format!("{wanted:?} on standard output"), |running| running.stdout().contains(wanted));
    }

    /// Waits until its standard error contains this, as [`Self::wait_for_output`] does: what comes by one of
    /// the two can be seen before what was written earlier to the other.
    pub fn wait_for_complaint(&mut self, wanted: &str) {
        self.wait_for(&format!("{wanted:?} on standard error"), |running| running.stderr().contains(wanted));
    }

    /// Waits until the log has a line for which this holds, and returns it.
    pub fn wait_for_log(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        self.wait_for("a line of the log", |running| {
            found = running.log().into_iter().find(|line| wanted(line));
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Waits for its end. Fails the test at the deadline, which counts from here: it may have served for long.
    pub fn wait(mut self) -> Outcome {
        self.stdin = None;
        let began = Instant::now();
        let mut status = None;
        while status.is_none() {
            status = self.child.try_wait().expect("wait for a child");
            if status.is_none() {
                self.check_deadline(began);
                thread::sleep(Duration::from_millis(2));
            }
        }
        self.outcome(status.expect("it ended"))
    }

    /// Lets it go on for a moment, for a caller that looks at something again and again; fails when it
    /// ended badly, or the deadline is over since it was started.
    pub fn wait_a_little(&mut self) {
        let ended = self.child.try_wait().expect("wait for a child");
        if let Some(status) = ended.filter(|status| !status.success()) {
            self.fail(&format!("it ended with {status}"));
        }
        self.check_deadline(self.started);
        thread::sleep(Duration::from_millis(10));
    }

    fn outcome(&mut self, status: ExitStatus) -> Outcome {
        for _ in ["stdout", "stderr"] {
            if self.output_ended.recv_timeout(OUTPUT_DEADLINE) == Err(RecvTimeoutError::Timeout) {
                self.fail("it ended, and something that it started still holds its output open");
            }
        }
        Outcome {
            command: self.shown.clone(),
            status,
            stdout: text(&self.stdout),
            stdout_bytes: self.stdout.lock().expect("no reader panicked").clone(),
            stderr: text(&self.stderr),
            log: self.log(),
            duration: self.started.elapsed(),
        }
    }

    /// Waits until this holds; fails when it ends before that, or the deadline is over, which counts from here.
    pub fn wait_for(&mut self, what: &str, mut fact: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !fact(self) {
            if let Some(status) = self.child.try_wait().expect("wait for a child") {
                // The fact may have come about between the look and the end.
                wait_until(&format!("the output of what ended with {status}"), OUTPUT_DEADLINE, || {
                    fact(self) || self.output_ended.try_recv() == Err(TryRecvError::Disconnected)
                });
                if fact(self) {
                    return;
                }
                self.fail(&format!("it ended with {status} before there was {what}"));
            }
            self.check_deadline(began);
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn check_deadline(&self, began: Instant) {
        if began.elapsed() > self.deadline {
            self.fail(&format!("no end within {:?}", self.deadline));
        }
    }

    fn fail(&self, why: &str) -> ! {
        self.world.end_processes();
        let log = self.log.as_ref().and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
        panic!(
            "{}: {why}\n--- stdout\n{}\n--- stderr\n{}\n--- log\n{log}",
            self.shown,
            self.stdout(),
            self.stderr()
        );
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What became of a process. Its `Debug` is made to be read in a failed test.
#[derive(Clone)]
pub struct Outcome {
    /// What was run.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// What it printed, as it came.
    pub stdout_bytes: Vec<u8>,
    /// What it complained about.
    pub stderr: String,
    /// The log of its gate.
    pub log: Vec<Value>,
    /// From its start to its end.
    pub duration: Duration,
}

impl Outcome {
    /// Its exit code; -1 when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Fails the test, with all there is to see, unless it ended well.
    #[track_caller]
    pub fn assert_success(&self) -> &Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }

    /// Fails the test, with all there is to see, unless it printed exactly this.
    #[track_caller]
    pub fn assert_stdout(&self, wanted: &str) -> &Self {
        assert_eq!(self.stdout, wanted, "{self:#?}");
        self
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}: {self:#?}"))
    }

    /// The log lines of one kind: `exchange`, `flow`, `dns` or `control`.
    pub fn lines(&self, kind: &str) -> Vec<&Value> {
        self.log.iter().filter(|line| line["kind"] == kind).collect()
    }

    /// The one exchange in the log; fails when there are none or several.
    #[track_caller]
    pub fn only_exchange(&self) -> &Value {
        match self.lines("exchange").as_slice() {
            [line] => line,
            lines => panic!("{} exchanges in the log: {self:#?}", lines.len()),
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr, log, duration, .. } = self;
        writeln!(
            f,
            "{command}\n--- {status} after {duration:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n--- log"
        )?;
        log.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn text(gathered: &Gathered) -> String {
    String::from_utf8_lossy(&gathered.lock().expect("no reader panicked")).into_owned()
}

fn gather(mut pipe: impl Read + Send + 'static, ended: Sender<()>) -> Gathered {
    let gathered = Gathered::default();
    let filling = Arc::clone(&gathered);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            filling
                .lock()
                .expect("no reader panicked")
                .extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
        // Nobody listens any more when the process was dropped.
        let _ = ended.send(());
    });
    gathered
}

/// The lines of a log file; one that is still being written is left out.
pub(crate) fn read_log(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the log line {line}"))
        })
        .collect()
}
