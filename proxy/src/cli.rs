//! The command line.

mod background;
mod cni;
mod engine;
mod hook;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use serde_json::{Value, json};
use sluicegate_wasm::Programs;

use self::background::GateOptions;
use self::hook::HookOptions;
use crate::attach::{self, Capture, Found, Namespace, Trust};
use crate::capture::{Helper, Interfaces, Ready, Target};
use crate::causes::in_words;
use crate::cni::is_plugin_call;
use crate::commands::{self, ControlCommand};
use crate::compiling;
use crate::container::{Container, Engine};
use crate::doctor::{self, DoctorOptions, ProbeOptions};
use crate::exit;
use crate::follow::follow;
use crate::handover::{self, Kept};
use crate::inbound::Published;
use crate::instance::{Instance, InstanceError, InstanceSettings, random};
use crate::log_command::{self, LogCommand};
use crate::opening::{Files, Opened};
use crate::sidecar::Line;
use crate::trust::{Keeper, TrustError};
use crate::{manual, report, service_manager, sidecar, workload};

/// The longest instance name: it is part of file names and of the authority's subject.
const NAME_BYTES_MAX: usize = 40;

/// The longest container id: as long as those of container engines. It is part of keys and file names.
const CONTAINER_ID_BYTES_MAX: usize = 64;

/// The longest name of a label, in bytes.
const LABEL_NAME_BYTES_MAX: usize = 64;

/// The longest value of a label, in bytes; each handler call carries all labels.
const LABEL_VALUE_BYTES_MAX: usize = 256;

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
    /// Seal an existing network namespace, until SIGTERM
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(AttachOptions),
    /// Seal the network namespace that this is in, for others to join
    #[command(after_help = SIDECAR_EXAMPLES)]
    Sidecar(SidecarOptions),
    /// Seal a container before it starts; an OCI runtime runs this as a hook
    #[command(after_help = hook::EXAMPLES)]
    OciHook(HookOptions),
    /// Seal a pod; a container runtime runs this as a CNI plugin
    #[command(after_help = cni::EXAMPLES)]
    Cni,
    /// Serve the container that `oci-hook` or `cni` was told of; they run this by themselves
    #[command(name = crate::background::SUBCOMMAND, hide = true)]
    BackgroundGate(GateOptions),
    /// See whether gates work on this machine, or what a container leaves open
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(DoctorOptions),
    /// Stand for a workload in a gate that `doctor` tries; it runs this by itself
    #[command(name = doctor::PROBE, hide = true)]
    Probe(ProbeOptions),
    #[command(flatten)]
    Control(ControlCommand),
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
    /// Write a manual page for each command; packages are made with this
    #[command(hide = true)]
    Manual {
        /// The folder that they go to
        folder: PathBuf,
        /// The day that stands on them
        #[arg(long, value_name = "YYYY-MM-DD")]
        date: Option<String>,
    },
    /// Compile the program on standard input; the gate runs this by itself
    #[command(name = compiling::SUBCOMMAND, hide = true)]
    Compile {
        /// What it is
        kind: compiling::Kind,
        /// The folder of compiled programs
        folder: PathBuf,
    },
}

const RUN_EXAMPLES: &str = "\
The command keeps its user, folder, environment and terminal. It sees no network but the gate:
names resolve, HTTPS verifies, and what the policy does not allow is refused with an explanation.
When sluicegate ends, however it ends, the command ends too.

Examples:
  sluicegate run -- curl https://example.org/          (no policy: refused, and told why)
  sluicegate run --policy sluicegate.toml -- ./agent
  sluicegate run --policy sluicegate.toml --publish 8080 -- ./server
                                        (http://127.0.0.1:8080/ leads to the server's port 8080)
  API_TOKEN=… sluicegate run --policy sluicegate.toml -- bash
                                        (a token that `env://API_TOKEN` names stays outside)
  sluicegate run --policy sluicegate.toml --docker --rm -it -v $PWD:/work -w /work IMAGE bash
                                        (a container, by `docker run` with options of its own)";

const ATTACH_EXAMPLES: &str = "\
The namespace holds nothing but `lo`; or its interfaces stay for what comes in (--keep-interface).
The rules stay when sluicegate ends: nothing leaves the namespace until it is attached again.
With docker:NAME or podman:NAME it ends when the container does. The instance then has the
container's name, and the first 12 digits of its id as container id, unless they are given.

Examples:
  sluicegate attach docker:jail --policy sluicegate.toml --ca-file ca.pem
  sluicegate attach docker:web --keep-interface --policy sluicegate.toml --ca-file ca.pem
  sluicegate attach /run/netns/jail --policy sluicegate.toml --ca-file ca.pem
  sluicegate attach pid:4711 --json --log -";

const SIDECAR_EXAMPLES: &str = "\
For a container of a pod: it moves the interfaces of the network namespace, with their addresses and
routes, into one of its own, from where it dials and listens. What has joined the namespace, or
joins it later, has `lo` and the gate. It needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN, which
it gives up. A gate that fails is started again. When this ends the interfaces are gone, and nothing
leaves until the container, or the pod, is made anew.

Examples:
  sluicegate sidecar --policy sluicegate.toml --ca-file /trust/ca.pem --log -
  sluicegate sidecar --policy sluicegate.toml --ca-file /trust/ca.pem --publish 0.0.0.0:8080";

/// What all that serve share.
#[derive(Args, Clone, Debug)]
struct InstanceOptions {
    /// The policy document; without one everything is refused
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_POLICY")]
    policy: Option<PathBuf>,
    /// The audit log, `-` for standard output; by default a file in the state folder
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_LOG")]
    log: Option<PathBuf>,
    /// The instance's name, in the log and in file names; by default a random one. With a name, what
    /// is changed at run time is kept and counts again at the next start
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
    /// The container that is served, for handlers, stores and `source` of secrets; by default the name
    #[arg(long, value_name = "ID", value_parser = parse_container_id)]
    container_id: Option<String>,
    /// A label for handlers, `ctx.labels`; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// The state folder: stores, what is changed at run time, and the log if not named
    #[arg(long, value_name = "DIR", env = "SLUICEGATE_STATE")]
    state: Option<PathBuf>,
    /// Let connections in: `[ADDRESS:]PORT[:PORT]`, where the gate listens, by default on 127.0.0.1, and
    /// which port of the workload it leads to, by default the same. May be given several times
    #[arg(long = "publish", short = 'p', value_name = "PORT", value_parser = Published::parse)]
    published: Vec<Published>,
    /// Make no control socket: nobody can ask or change the instance while it runs
    #[arg(long)]
    no_control: bool,
}

/// What is said at start.
#[derive(Args, Debug)]
struct AnnounceOptions {
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
    #[command(flatten)]
    announce: AnnounceOptions,
    /// Run a container by Docker instead, sealed from its first instruction. Everything that follows is what
    /// `docker run` takes: options, image, command
    #[arg(long, value_name = "ARGUMENT", num_args = 1.., allow_hyphen_values = true, conflicts_with = "podman")]
    docker: Option<Vec<OsString>>,
    /// The same by Podman
    #[arg(long, value_name = "ARGUMENT", num_args = 1.., allow_hyphen_values = true)]
    podman: Option<Vec<OsString>>,
    /// Have the container trust the instance's CA as `attach --trust` does: over the certificate bundles and Java
    /// stores of its image go some that have it too. The image has to have a bundle
    #[arg(long, conflicts_with = "command")]
    trust: bool,
    /// The command and its arguments
    #[arg(last = true, required_unless_present_any = ["docker", "podman"], value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Args, Debug)]
struct AttachOptions {
    /// A path such as /run/netns/NAME, or pid:N, docker:NAME or podman:NAME
    #[arg(value_parser = Namespace::parse)]
    namespace: Namespace,
    /// Attach again each time the container starts, until it is removed
    #[arg(long, conflicts_with = "keep_interface")]
    follow: bool,
    /// Leave what `--trust` would mount in this folder, and mount nothing; `run --trust` says this by itself
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "trust")]
    trust_into: Option<PathBuf>,
    /// Leave the namespace its interfaces, for connections that come in: answers to them go out, what the workload
    /// begins goes to the gate. Refused where a process in it has CAP_NET_RAW, CAP_NET_ADMIN or CAP_SYS_ADMIN; needs
    /// root
    #[arg(long, conflicts_with = "published")]
    keep_interface: bool,
    /// Begin even where a process has CAP_NET_RAW: it can send past the gate whatever it wants
    #[arg(long, requires = "keep_interface")]
    allow_net_raw: bool,
    #[command(flatten)]
    seal: SealOptions,
    #[command(flatten)]
    announce: AnnounceOptions,
}

#[derive(Args, Debug)]
struct SidecarOptions {
    #[command(flatten)]
    instance: InstanceOptions,
    /// Write the instance's CA certificate there, for the workload to trust
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Serve what a sidecar has captured, which starts this itself
    #[arg(long = sidecar::SUPERVISED, hide = true)]
    supervised: bool,
    #[command(flatten)]
    announce: AnnounceOptions,
}

/// What `attach` and `oci-hook` share.
#[derive(Args, Clone, Debug)]
struct SealOptions {
    #[command(flatten)]
    instance: InstanceOptions,
    /// Write the instance's CA certificate there, for the workload to trust
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Have the container trust the instance's CA: over its certificate bundles and Java stores go some that have
    /// it too, until the gate ends. Nothing is written into the container, but for an empty folder in homes, where it
    /// has NSS (Chromium)
    #[arg(long)]
    trust: bool,
}

impl InstanceOptions {
    /// What is not said is taken from the container, where it can stand in its place.
    fn of_container(&self, container: Option<&Container>) -> Self {
        let mut options = self.clone();
        if let Some(container) = container {
            options.container_id =
                options.container_id.or_else(|| parse_container_id(container.short_id()).ok());
            options.name = options.name.or_else(|| parse_name(&container.name).ok());
        }
        options
    }
}

impl Cli {
    /// Reads the command line. A program that a container runtime starts as a plugin has none, and is `cni`.
    ///
    /// # Errors
    /// Help, or what is wrong.
    pub fn read() -> Result<Self, clap::Error> {
        let line: Vec<_> = std::env::args_os().collect();
        if is_plugin_call(line.len()) {
            Self::try_parse_from(["sluicegate", "cni"])
        } else {
            Self::try_parse_from(line)
        }
    }

    /// Does what was asked for and returns the exit code.
    pub fn execute(self) -> u8 {
        match self.command {
            Command::Run(options) => run(options),
            Command::Attach(options) => ended(attach(&options)),
            Command::Sidecar(options) => ended(sidecar(&options)),
            Command::OciHook(options) => hook::run(options),
            Command::Cni => cni::run(),
            Command::BackgroundGate(options) => ended(background::serve(&options)),
            Command::Doctor(options) => doctor::doctor(options),
            Command::Probe(options) => doctor::run_probe(&options),
            Command::Control(command) => commands::run(&command),
            Command::Log(command) => log_command::run(&command).unwrap_or_else(|error| {
                let hint = error.hint().map(|hint| format!("  hint: {hint}\n")).unwrap_or_default();
                drop(write!(io::stderr(), "sluicegate: {}\n{hint}", in_words(&error)));
                exit::IO
            }),
            Command::Compile { kind, folder } => compiling::compile(kind, folder),
            Command::Manual { folder, date } => {
                printed(manual::write(Self::command(), &folder, date.as_deref()).map(|()| exit::OK))
            }
            Command::Completion { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "sluicegate", &mut script);
                printed(io::stdout().write_all(&script).map(|()| exit::OK))
            }
        }
    }
}

fn run(options: RunOptions) -> u8 {
    let RunOptions { instance, announce, docker, podman, trust, command } = options;
    let containers = [(Engine::Docker, docker), (Engine::Podman, podman)];
    match containers.into_iter().find_map(|(engine, arguments)| Some((engine, arguments?))) {
        Some((engine, arguments)) => engine::run((engine, arguments), instance, trust, &announce),
        None => ended(run_command(&instance, &announce, command)),
    }
}

fn run_command(
    options: &InstanceOptions,
    announced: &AnnounceOptions,
    command: Vec<OsString>,
) -> Result<u8, InstanceError> {
    let settings = settings(options, true)?;
    let programs = settings.programs()?;
    let files = Files { policy: options.policy.as_deref(), authority: None };
    let (opened, helper) = Opened::new(settings, files, |door| Helper::start(&Target::Run(command), door))?;
    let instance = load(opened, programs)?;
    let control = instance.control_path();
    workload::run(&instance, helper, |ready| {
        announce(&instance, announced, (ready, control), &mut io::stderr());
    })
}

fn attach(options: &AttachOptions) -> Result<u8, InstanceError> {
    if options.follow {
        return match &options.namespace {
            Namespace::Container(container) => follow(container, &without_follow()),
            _ => {
                let error =
                    "--follow is for docker:NAME and podman:NAME: another namespace does not come again";
                drop(Cli::command().error(ErrorKind::ArgumentConflict, error).print());
                Ok(exit::USAGE)
            }
        };
    }
    let found = options.namespace.find().map_err(InstanceError::Container)?;
    let trusts = options.seal.trust || options.trust_into.is_some();
    let keeper = if trusts { Some(keeper(&found, options.trust_into.clone())?) } else { None };
    let interfaces = match (options.keep_interface, options.allow_net_raw) {
        (false, _) => Interfaces::Refused,
        (true, false) => Interfaces::Kept,
        (true, true) => Interfaces::KeptWithNetRaw,
    };
    seal(&options.seal, (found, interfaces), keeper, |instance, ready| {
        announce(instance, &options.announce, ready, &mut io::stdout());
        if let Err(error) = service_manager::ready() {
            tracing::error!(%error, "the service manager cannot be told that the gate serves");
        }
    })
}

/// Our own command line, for a gate that serves one run of a container. The target is no option, and what
/// follows no `--` can be one.
fn without_follow() -> Vec<OsString> {
    std::env::args_os().skip(1).filter(|argument| argument != "--follow").collect()
}

fn sidecar(options: &SidecarOptions) -> Result<u8, InstanceError> {
    if options.supervised {
        supervised(options)
    } else {
        sidecar::supervise(!options.instance.published.is_empty())
    }
}

/// Serves what the sidecar that started this has captured, from the namespace that the interfaces have gone to.
fn supervised(options: &SidecarOptions) -> Result<u8, InstanceError> {
    let (line, captured, authority) = Line::inherited()?;
    let settings = settings(&options.instance, false)?;
    let programs = settings.programs()?;
    let files = Files { policy: options.instance.policy.as_deref(), authority: options.ca_file.as_deref() };
    let (mut opened, ()) = Opened::new(settings, files, |_| Ok(()))?;
    opened.authority = authority.unwrap_or(opened.authority);
    if let Some((socket, parent)) = opened.socket.as_mut().zip(rustix::process::getppid()) {
        // What runs in the container is in the namespace that its first process is in.
        socket.asked_from(parent);
    }
    let trust = Trust { file: opened.authority_file.take(), keeper: None };
    let instance = load(opened, programs)?;
    let control = instance.control_path();
    sidecar::warn_of_resolver(&instance);
    instance.check_secrets()?;
    let left = sidecar::left(&captured, &instance)?;
    attach::serve(&instance, captured, None, trust, |ready| {
        if line.serves(&left).is_err() {
            background::end_this();
        }
        announce(&instance, &options.announce, (ready, control), &mut io::stdout());
    })?;
    Ok(exit::OK)
}

/// Serves a namespace that was found, for its container where it is one's.
fn seal(
    options: &SealOptions,
    (found, interfaces): (Found, Interfaces),
    keeper: Option<Keeper>,
    started: impl FnOnce(&Instance, (&Ready, Option<PathBuf>)),
) -> Result<u8, InstanceError> {
    let settings = settings(&options.instance.of_container(found.container.as_ref()), false)?;
    let programs = settings.programs()?;
    let files = Files { policy: options.instance.policy.as_deref(), authority: options.ca_file.as_deref() };
    let kept = kept(&found, settings.published.is_empty() && interfaces == Interfaces::Refused);
    let (mut opened, capture) = Opened::new(settings, files, |door| match kept {
        Some(kept) => Ok((Capture::Kept(kept.captured), Some(kept.authority))),
        None => Helper::start(&Target::Attach(found.path, interfaces), door)
            .map(|helper| (Capture::Begun(helper), None)),
    })?;
    let (capture, authority) = capture;
    opened.authority = authority.unwrap_or(opened.authority);
    let trust = Trust { file: opened.authority_file.take(), keeper };
    let instance = load(opened, programs)?;
    let control = instance.control_path();
    attach::attach(&instance, capture, found.process, trust, |ready| started(&instance, (ready, control)))?;
    Ok(exit::OK)
}

/// What an earlier process of the instance left, where it is as it is wanted.
fn kept(found: &Found, is_wanted: bool) -> Option<Kept> {
    let kept = handover::find(&found.path).unwrap_or_else(|error| {
        tracing::warn!(error = in_words(&error), "attaching anew");
        None
    });
    if is_wanted {
        return kept;
    }
    // Nothing was published before, and no interface stayed. What is kept owns the namespace's table: as long as it
    // is open, nobody else can capture it.
    if kept.is_some()
        && let Err(error) = handover::forget()
    {
        tracing::warn!(error = in_words(&error), "the service manager keeps what was captured");
    }
    None
}

/// Whoever makes the container trust the gate; started while there are privileges.
fn keeper(found: &Found, folder: Option<PathBuf>) -> Result<Keeper, InstanceError> {
    let inside = found.inside.as_ref().ok_or(InstanceError::Trust(TrustError::NoContainer))?;
    Keeper::start(inside, folder).map_err(InstanceError::Capture)
}

fn load(opened: Opened, programs: Arc<Programs>) -> Result<Instance, InstanceError> {
    let instance = Instance::load(opened, programs)?;
    report::warnings(&instance.loaded.warnings);
    report::ignored(&instance.ignored);
    Ok(instance)
}

fn settings(options: &InstanceOptions, shares_files: bool) -> Result<InstanceSettings, InstanceError> {
    let name = match &options.name {
        Some(name) => name.clone(),
        None => format!("sg-{:08x}", random()?),
    };
    Ok(InstanceSettings {
        named: options.name.is_some(),
        container_id: options.container_id.as_ref().unwrap_or(&name).clone(),
        labels: options.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        log: options.log.clone(),
        state: options.state.clone(),
        control: !options.no_control,
        shares_files,
        published: options.published.clone(),
        name,
    })
}

fn announce(
    instance: &Instance,
    options: &AnnounceOptions,
    ready: (&Ready, Option<PathBuf>),
    out: &mut dyn Write,
) {
    if options.json {
        drop(writeln!(out, "{}", ready_line(instance, ready)).and_then(|()| out.flush()));
    } else if !options.quiet {
        report::started(instance);
    }
}

/// What `--json` says of a gate that serves.
fn ready_line(instance: &Instance, (ready, control): (&Ready, Option<PathBuf>)) -> Value {
    json!({
        "event": "ready",
        "instance": instance.name,
        "control": control,
        "namespace": ready.namespace,
        "addresses": ready.own_addresses,
        "exclusive": ready.exclusive,
        "attach_us": ready.attach_us,
        "policy": instance.loaded.file(),
        "generation": instance.generation().policy.generation(),
        "log": instance.log_file,
    })
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

/// Reads an instance's name.
///
/// # Errors
/// What a name is made of, in words.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let fits = text.len() <= NAME_BYTES_MAX && is_plain(text) && !text.starts_with(['.', '-']);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!("a name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`, and begins with neither `-` nor `.`")
    })
}

fn parse_container_id(text: &str) -> Result<String, String> {
    let fits = text.len() <= CONTAINER_ID_BYTES_MAX && is_plain(text) && !text.starts_with('.');
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!("a container id has 1 to {CONTAINER_ID_BYTES_MAX} letters, digits, `-`, `_` or `.`, and does not begin with `.`")
    })
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a label is written KEY=VALUE")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if name.is_empty() || name.len() > LABEL_NAME_BYTES_MAX || !name.bytes().all(plain) {
        let what = "letters, digits, `-`, `_`, `.` or `/`";
        return Err(format!("the name of a label has 1 to {LABEL_NAME_BYTES_MAX} {what}"));
    }
    if value.len() > LABEL_VALUE_BYTES_MAX || value.contains(char::is_control) {
        let what = "bytes and no control characters";
        return Err(format!("the value of a label has at most {LABEL_VALUE_BYTES_MAX} {what}"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether the text can be part of a file name, a key and a header without being escaped.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_container_id_fits_into_keys_and_file_names() {
        for id in ["a", "4f2c", "pod_1.x-y", "-a", &"x".repeat(64)] {
            assert_eq!(parse_container_id(id).as_deref(), Ok(id));
        }
        for id in ["", ".", "..", ".a", "a/b", "a b", "ü", "a\n", "{x}", &"x".repeat(65)] {
            assert!(parse_container_id(id).is_err(), "{id}");
        }
        assert!(parse_name("-a").is_err() && parse_name(&"x".repeat(41)).is_err());
    }

    #[test]
    fn a_label_has_a_name_and_a_value() {
        let label = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(parse_label("team=blue"), label("team", "blue"));
        assert_eq!(parse_label("example.org/x=a=b c"), label("example.org/x", "a=b c"));
        assert_eq!(parse_label("empty="), label("empty", ""));
        let long = format!("a={}", "x".repeat(LABEL_VALUE_BYTES_MAX + 1));
        for text in ["", "team", "=x", "a b=c", "a=\u{1b}[2J", &long] {
            assert!(parse_label(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let arguments =
            ["sluicegate", "run", "--name", "box", "--label", "a=1", "--label", "a=2", "--", "true"];
        let Ok(Cli { command: Command::Run(options) }) = Cli::try_parse_from(arguments) else {
            panic!("not parsed");
        };
        let settings = settings(&options.instance, false).unwrap();
        assert_eq!((settings.name.as_str(), settings.container_id.as_str()), ("box", "box"));
        assert_eq!(settings.labels, BTreeMap::from([("a".to_owned(), "2".to_owned())]));
        assert!(settings.named && settings.control);
        let arguments = ["sluicegate", "attach", "--no-control", "--container-id", "c1", "pid:1"];
        let Ok(Cli { command: Command::Attach(options) }) = Cli::try_parse_from(arguments) else {
            panic!("not parsed");
        };
        let settings = super::settings(&options.seal.instance, false).unwrap();
        assert!(settings.name.starts_with("sg-"), "{settings:?}");
        assert_eq!(settings.container_id, "c1");
        assert!(!settings.named && !settings.control);
    }

    #[test]
    fn a_container_gives_what_is_not_said_and_fits() {
        let settings_of = |options: &[&str], id: &str, name: &str| {
            let line = [&["sluicegate", "attach", "docker:x"], options].concat();
            let Ok(Cli { command: Command::Attach(options) }) = Cli::try_parse_from(line) else {
                panic!("not parsed");
            };
            let container = Container { id: id.into(), name: name.into() };
            let settings = settings(&options.seal.instance.of_container(Some(&container)), false).unwrap();
            (settings.name, settings.container_id, settings.named)
        };
        let id = "4f2c8a1b9d3e".repeat(5) + "0123";
        assert_eq!(settings_of(&[], &id, "jail"), ("jail".into(), "4f2c8a1b9d3e".into(), true));
        let given = ["--name", "box", "--container-id", "c1"];
        assert_eq!(settings_of(&given, &id, "jail"), ("box".into(), "c1".into(), true));
        let (name, container_id, named) = settings_of(&[], &id, &"long".repeat(20));
        assert!(name.starts_with("sg-") && container_id == "4f2c8a1b9d3e" && !named, "{name} {container_id}");
        let (name, container_id, _) = settings_of(&[], "a+b", "../a");
        assert!(name.starts_with("sg-") && container_id == name, "{name} {container_id}");
    }
}
