//! The command line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use serde_json::json;

use crate::attach::{self, Namespace};
use crate::capture::Ready;
use crate::causes::in_words;
use crate::exit;
use crate::instance::{Instance, InstanceError, Loaded, random};
use crate::log_command::{self, LogCommand};
use crate::policy_command::{self, PolicyCommand};
use crate::{report, workload};

/// The longest instance name: it is part of file names and of the authority's subject.
const NAME_BYTES_MAX: usize = 40;

/// Transparent egress gate: a sealed program, every request judged, credentials added outside.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, after_help = exit::HELP, subcommand_required = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command in a sealed network namespace of its own; needs no root
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunOptions),
    /// Seal an existing network namespace that holds nothing but `lo`, until SIGTERM
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(AttachOptions),
    /// Check policy documents
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Read and verify the audit log
    #[command(subcommand)]
    Log(LogCommand),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  sluicegate completion bash > ~/.local/share/bash-completion/completions/sluicegate"
    )]
    Completion {
        /// Which shell
        shell: Shell,
    },
}

const RUN_EXAMPLES: &str = "\
The command keeps its user, folder, environment and terminal. It sees no network but the gate:
names resolve, HTTPS verifies, and what the policy does not allow is refused with an explanation.
When sluicegate ends, however it ends, the command ends too.

Examples:
  sluicegate run -- curl https://example.org/          (no policy: refused, and told why)
  sluicegate run --policy sluicegate.toml -- ./agent
  API_TOKEN=… sluicegate run --policy sluicegate.toml -- bash
                                        (a token that `env://API_TOKEN` names stays outside)";

const ATTACH_EXAMPLES: &str = "\
The rules stay when sluicegate ends: nothing leaves the namespace until it is attached again.

Examples:
  sluicegate attach /run/netns/jail --policy sluicegate.toml --ca-file ca.pem
  sluicegate attach pid:4711 --json --log -";

/// What `run` and `attach` share.
#[derive(Args, Debug)]
struct InstanceOptions {
    /// The policy document; without one everything is refused
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_POLICY")]
    policy: Option<PathBuf>,
    /// The audit log, `-` for standard output; by default a file in the state folder
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_LOG")]
    log: Option<PathBuf>,
    /// The instance's name, in the log and in file names; by default a random one
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
    /// Say nothing at start
    #[arg(long, short)]
    quiet: bool,
    /// Say what is running as one JSON line instead: `run` on standard error, `attach` on standard output
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

#[derive(Args, Debug)]
struct RunOptions {
    #[command(flatten)]
    instance: InstanceOptions,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Args, Debug)]
struct AttachOptions {
    /// A path such as /run/netns/NAME, or pid:N
    #[arg(value_parser = Namespace::parse)]
    namespace: Namespace,
    #[command(flatten)]
    instance: InstanceOptions,
    /// Write the instance's CA certificate there, for the workload to trust
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Cli {
    /// Does what was asked for and returns the exit code.
    pub fn execute(self) -> u8 {
        match self.command {
            Command::Run(options) => ended(run(options)),
            Command::Attach(options) => ended(attach(&options)),
            Command::Policy(command) => printed(policy_command::run(&command)),
            Command::Log(command) => log_command::run(&command).unwrap_or_else(|error| {
                let hint = error.hint().map(|hint| format!("  hint: {hint}\n")).unwrap_or_default();
                drop(write!(io::stderr(), "sluicegate: {}\n{hint}", in_words(&error)));
                exit::IO
            }),
            Command::Completion { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "sluicegate", &mut script);
                printed(io::stdout().write_all(&script).map(|()| exit::OK))
            }
        }
    }
}

fn run(options: RunOptions) -> Result<u8, InstanceError> {
    let instance = prepare(&options.instance)?;
    workload::run(&instance, options.command, |ready| {
        announce(&instance, &options.instance, ready, &mut io::stderr());
    })
}

fn attach(options: &AttachOptions) -> Result<u8, InstanceError> {
    let instance = prepare(&options.instance)?;
    attach::attach(&instance, &options.namespace, options.ca_file.as_deref(), |ready| {
        announce(&instance, &options.instance, ready, &mut io::stdout());
    })?;
    Ok(exit::OK)
}

fn prepare(options: &InstanceOptions) -> Result<Instance, InstanceError> {
    let loaded = Loaded::read(options.policy.as_deref())?;
    if let Some(file) = &loaded.file {
        report::warnings(file, &loaded.warnings);
    }
    let name = match &options.name {
        Some(name) => name.clone(),
        None => format!("sg-{:08x}", random()?),
    };
    Instance::prepare(name, loaded, options.log.as_deref())
}

fn announce(instance: &Instance, options: &InstanceOptions, ready: &Ready, out: &mut dyn Write) {
    if options.json {
        let line = json!({
            "event": "ready",
            "instance": instance.name,
            "namespace": ready.namespace,
            "exclusive": ready.exclusive,
            "attach_us": ready.attach_us,
            "policy": instance.loaded.file,
            "generation": instance.loaded.policy.generation(),
            "log": instance.log_file,
        });
        drop(writeln!(out, "{line}").and_then(|()| out.flush()));
    } else if !options.quiet {
        report::started(instance);
    }
}

fn ended(result: Result<u8, InstanceError>) -> u8 {
    result.unwrap_or_else(|error| {
        report::error(&error);
        error.exit_code()
    })
}

fn printed(result: io::Result<u8>) -> u8 {
    match result {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            drop(writeln!(io::stderr(), "sluicegate: cannot print: {error}"));
            exit::IO
        }
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.bytes().all(plain)
        && !text.starts_with(['.', '-']);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!("a name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`, and begins with neither `-` nor `.`")
    })
}
