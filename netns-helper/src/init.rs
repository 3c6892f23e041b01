//! The workload's init: the first process of its PID namespace, which starts it, passes signals on to
//! it and reaps what it leaves behind.

use crate::failure::{Failure, FailureReport, Kind};
use crate::plan::Plan;
use crate::signals::{self, Received, Signals};
use crate::{fence, mounts, process};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

const STEP: &str = "workload";

/// What the init tells its parent about the start; one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Report {
    /// The program was executed, with this kind of /proc.
    Started(String),
    /// It was not.
    Failed(FailureReport),
}

impl Report {
    /// Reads the line.
    pub(crate) fn parse(text: &str) -> Result<String, Failure> {
        match serde_json::from_str(text) {
            Ok(Self::Started(proc)) => Ok(proc),
            Ok(Self::Failed(failure)) => Err(failure.into()),
            Err(_) => Err(Failure::new(Kind::Internal, STEP, "its init ended without a word")),
        }
    }
}

/// Runs in the forked child; the answer is the exit code of the workload, or of the failure that was
/// told to the parent.
pub(crate) fn run(plan: &Plan, command: &[OsString], parent: UnixStream) -> u8 {
    let (workload, signals, proc) = match start(plan, command, &parent) {
        Ok(started) => started,
        Err(failure) => {
            let code = failure.kind().exit_code();
            tell(parent, &Report::Failed(failure.report()));
            return code;
        }
    };
    tell(parent, &Report::Started(proc.word().to_owned()));
    wait(workload, &signals)
}

fn start(
    plan: &Plan,
    command: &[OsString],
    parent: &UnixStream,
) -> Result<(Pid, Signals, mounts::Proc), Failure> {
    process::die_with_parent()?;
    refuse_to_be_an_orphan(parent)?;
    let signals = Signals::open()?;
    let proc = mounts::prepare(plan)?;
    process::drop_privileges()?;
    fence::raise()?;

    let failed =
        |error: io::Error| Failure::new(Kind::Internal, STEP, "it could not be started").because(error);
    let (mut unexecuted, telltale) = io::pipe().map_err(failed)?;
    let Some(workload) = process::fork(STEP)? else {
        process::leave(become_workload(plan, command, telltale));
    };
    drop(telltale);
    // Closed by a successful exec; otherwise it carries the errno.
    let mut errno = [0; 4];
    match unexecuted.read_exact(&mut errno) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok((workload, signals, proc)),
        Err(error) => Err(failed(error)),
        Ok(()) => Err(not_executed(command, i32::from_ne_bytes(errno))),
    }
}

/// Whether the parent died before [`process::die_with_parent`]: its end of the socket is then closed.
fn refuse_to_be_an_orphan(parent: &UnixStream) -> Result<(), Failure> {
    let orphan = |error: io::Error| Failure::new(Kind::Internal, STEP, "the parent is gone").because(error);
    parent.set_nonblocking(true).map_err(orphan)?;
    let silence = (&*parent).read(&mut [0]);
    parent.set_nonblocking(false).map_err(orphan)?;
    match silence {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(orphan(error)),
        Ok(_) => Err(orphan(io::ErrorKind::BrokenPipe.into())),
    }
}

/// The last steps before the workload's own program; returns only when that cannot be executed.
fn become_workload(plan: &Plan, command: &[OsString], mut telltale: PipeWriter) -> u8 {
    let errno = match signals::unblock() {
        Ok(()) => execute(plan, command).raw_os_error().unwrap_or(libc::EINVAL),
        Err(_) => libc::EPERM,
    };
    // The parent reads an early end as success, but then this process has ended as well.
    telltale.write_all(&errno.to_ne_bytes()).unwrap_or_default();
    Kind::NotExecutable.exit_code()
}

fn execute(plan: &Plan, command: &[OsString]) -> io::Error {
    let Some((program, arguments)) = command.split_first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    let mut executed = Command::new(program);
    executed.args(arguments);
    for name in &plan.remove_env {
        executed.env_remove(name);
    }
    let error = executed.envs(&plan.set_env).exec();
    // One folder of PATH that is out of reach makes execvp(3) say EACCES for a name that is nowhere.
    if error.kind() == io::ErrorKind::PermissionDenied && is_nowhere(program, plan) {
        return io::Error::from_raw_os_error(libc::ENOENT);
    }
    error
}

/// Whether no folder of the workload's PATH has the program, as far as it can see.
fn is_nowhere(program: &OsStr, plan: &Plan) -> bool {
    #[expect(clippy::disallowed_methods, reason = "this is the workload's environment, on its way to it")]
    let path =
        plan.set_env.get("PATH").map(OsString::from).or_else(|| env::var_os("PATH")).unwrap_or_default();
    let named_by_path = program.as_encoded_bytes().contains(&b'/');
    !named_by_path && !env::split_paths(&path).any(|folder| folder.join(program).exists())
}

fn not_executed(command: &[OsString], errno: i32) -> Failure {
    let kind = if errno == libc::ENOENT { Kind::NotFound } else { Kind::NotExecutable };
    let program = command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    Failure::new(kind, STEP, format!("{program} cannot be executed")).because(Errno::from_raw(errno))
}

fn tell(mut parent: UnixStream, report: &Report) {
    // A parent that does not listen any more has taken us with it.
    if let Ok(text) = serde_json::to_vec(report) {
        parent.write_all(&text).unwrap_or_default();
    }
}

/// Reaps every child until the workload itself ends. What else runs in the namespace then ends with
/// us, by the kernel.
fn wait(workload: Pid, signals: &Signals) -> u8 {
    loop {
        match signals.next() {
            Ok(Received::Child) => {
                if let Some(code) = reap(workload) {
                    return code;
                }
            }
            // Those from inside are for their senders to send to whom they mean.
            Ok(Received::FromProcess { signal, outside: true }) => kill(workload, signal).unwrap_or_default(),
            Ok(Received::FromProcess { .. }) => {}
            Err(failure) => return failure.kind().exit_code(),
        }
    }
}

fn reap(workload: Pid) -> Option<u8> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(status) if status.pid() == Some(workload) => {
                if let Some(code) = process::exit_code(status) {
                    return Some(code);
                }
            }
            Ok(_) => {}
        }
    }
}
