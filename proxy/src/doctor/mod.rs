//! `sluicegate doctor`: whether gates work on this machine, and what a container leaves open beside its network.
//!
//! `machine` and `subject` are facts and their judgement, in which nothing is looked at; their `facts` look.
//! `trial` starts throwaway gates. `report` is what is printed.

mod child;
mod machine;
mod report;
mod subject;
mod trial;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::attach::Namespace;
use crate::causes::in_words;
use crate::exit;
use report::{Check, Report};
use subject::SubjectError;
pub use trial::{ProbeOptions, SUBCOMMAND as PROBE, run_probe};
use trial::{Stage, Trial, Way};

/// Examples for `--help`.
pub const EXAMPLES: &str = "\
Without a target it looks at this machine, and tries a gate: a policy that allows one host and
refuses another, a server on loopback, and a command that asks for both. Nothing leaves the machine.
With a target it looks at that container or process, and changes nothing.

Exits with 1 where it found a problem, with 69 where there is no such target, and with 77 where that
may not be looked at. What could not be looked at is `unknown`, and counts as a warning.

Examples:
  sluicegate doctor
  sluicegate doctor docker:jail --json | jq -r '.checks[] | select(.state == \"problem\")'";

/// The options of `doctor`.
#[derive(Args, Debug)]
pub struct DoctorOptions {
    /// A path such as /run/netns/NAME, pid:N, docker:NAME or podman:NAME; without one, this machine
    #[arg(value_parser = Namespace::parse)]
    target: Option<Namespace>,
    /// The state folder that gates are to have
    #[arg(long, value_name = "DIR", env = "SLUICEGATE_STATE")]
    state: Option<PathBuf>,
    /// Print one JSON object: `ok`, and `checks` with `id`, `state`, `found`, `meaning` and `remedy`
    #[arg(long)]
    json: bool,
}

/// Looks, prints what was found, and returns the exit code.
pub fn doctor(options: DoctorOptions) -> u8 {
    let json = options.json;
    match look(options) {
        Ok(checks) => printed(&Report::new(checks), json),
        Err(error) => {
            let hint = error.hint();
            let hint = if hint.is_empty() { String::new() } else { format!("  hint: {hint}\n") };
            drop(write!(io::stderr(), "sluicegate: {}\n{hint}", in_words(&error)));
            error.exit_code()
        }
    }
}

/// Why nothing was looked at.
#[derive(Debug, thiserror::Error)]
enum DoctorError {
    /// There is no such target, or it may not be looked at.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// There is no thread to be had.
    #[error("cannot start")]
    Start(#[source] io::Error),
}

impl DoctorError {
    fn hint(&self) -> &'static str {
        match self {
            Self::Subject(error) => error.hint(),
            Self::Start(_) => "",
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Subject(error) => error.exit_code(),
            Self::Start(_) => exit::UNAVAILABLE,
        }
    }
}

fn look(options: DoctorOptions) -> Result<Vec<Check>, DoctorError> {
    let path = options.target.as_ref().map(subject::find).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(DoctorError::Start)?.block_on(async {
        match path {
            Some(path) => Ok(subject::judge(&subject::gather(&path).await?)),
            None => Ok(look_at_machine(options.state).await),
        }
    })
}

async fn look_at_machine(state: Option<PathBuf>) -> Vec<Check> {
    let facts = machine::gather(state).await;
    let (run, attach) = match Stage::set_up() {
        Ok(stage) => (trial::by_run(&stage).await, trial::by_attach(&stage).await),
        Err(error) => {
            let untried = || Trial::Untried(format!("no canary or no temporary folder: {error}"));
            (untried(), untried())
        }
    };
    let mut checks = machine::judge(&facts, run.is_done());
    checks.extend(trial::judge(Way::Run, &run));
    checks.extend(trial::judge(Way::Attach, &attach));
    checks
}

fn printed(report: &Report, json: bool) -> u8 {
    let mut out = io::stdout().lock();
    let written = if json {
        serde_json::to_writer(&mut out, report).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        write!(out, "{report}")
    };
    match written.and_then(|()| out.flush()) {
        // A reader that went away has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => exit::IO,
        _ if report.ok => exit::OK,
        _ => exit::NO,
    }
}
