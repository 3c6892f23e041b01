//! What the commands that serve have in common on the command line: the instance, its seal, what is said at start.

use std::path::PathBuf;

use clap::Args;

use crate::container::Container;
use crate::inbound::Published;
use crate::instance::{InstanceError, InstanceSettings, random};

/// The longest instance name: it is part of file names and of the authority's subject.
const NAME_BYTES_MAX: usize = 40;

/// The longest container id: as long as those of container engines. It is part of keys and file names.
const CONTAINER_ID_BYTES_MAX: usize = 64;

/// The longest name of a label, in bytes.
const LABEL_NAME_BYTES_MAX: usize = 64;

/// The longest value of a label, in bytes; each handler call carries all labels.
const LABEL_VALUE_BYTES_MAX: usize = 256;

/// What all that serve share.
#[derive(Args, Clone, Debug)]
pub(super) struct InstanceOptions {
    /// The policy document; without one everything is refused
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_POLICY")]
    pub(super) policy: Option<PathBuf>,
    /// The audit log, `-` for standard output; by default a file in the state folder
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_LOG")]
    pub(super) log: Option<PathBuf>,
    /// The instance's name, in the log and in file names; by default a random one. With a name, what
    /// is changed at run time is kept and counts again at the next start
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(super) name: Option<String>,
    /// The container that is served, for handlers, stores and `source` of secrets; by default the name
    #[arg(long, value_name = "ID", value_parser = parse_container_id)]
    pub(super) container_id: Option<String>,
    /// A label for handlers, `ctx.labels`; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(super) labels: Vec<(String, String)>,
    /// The state folder: stores, what is changed at run time, and the log if not named
    #[arg(long, value_name = "DIR", env = "SLUICEGATE_STATE")]
    pub(super) state: Option<PathBuf>,
    /// Let connections in: `[ADDRESS:]PORT[:PORT]`, where the gate listens, by default on 127.0.0.1, and
    /// which port of the workload it leads to, by default the same. May be given several times
    #[arg(long = "publish", short = 'p', value_name = "PORT", value_parser = Published::parse)]
    pub(super) published: Vec<Published>,
    /// Make no control socket: nobody can ask or change the instance while it runs
    #[arg(long)]
    pub(super) no_control: bool,
}

/// What is said at start.
#[derive(Args, Debug)]
pub(super) struct AnnounceOptions {
    /// Say nothing at start
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// Say what is running as one JSON line instead: `run` on standard error, `attach` on standard output
    #[arg(long, conflicts_with = "quiet")]
    pub(super) json: bool,
}

/// What `attach` and `oci-hook` share.
#[derive(Args, Clone, Debug)]
pub(super) struct SealOptions {
    #[command(flatten)]
    pub(super) instance: InstanceOptions,
    /// Write the instance's CA certificate there, for the workload to trust
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Have the container trust the instance's CA: over its certificate bundles and Java stores go some that have
    /// it too, until the gate ends; Chromium and Node.js are told as well. Nothing is written into the container, but
    /// for empty folders and files where those need them
    #[arg(long)]
    pub(super) trust: bool,
}

impl InstanceOptions {
    /// What is not said is taken from the container, where it can stand in its place.
    pub(super) fn of_container(&self, container: Option<&Container>) -> Self {
        let mut options = self.clone();
        if let Some(container) = container {
            options.container_id =
                options.container_id.or_else(|| parse_container_id(container.short_id()).ok());
            options.name = options.name.or_else(|| parse_name(&container.name).ok());
        }
        options
    }

    /// What they say of the instance; `shares_files` with its workload.
    ///
    /// # Errors
    /// When a name cannot be drawn.
    pub(super) fn settings(&self, shares_files: bool) -> Result<InstanceSettings, InstanceError> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => format!("sg-{:08x}", random()?),
        };
        Ok(InstanceSettings {
            named: self.name.is_some(),
            container_id: self.container_id.as_ref().unwrap_or(&name).clone(),
            labels: self.labels.iter().cloned().collect(),
            log: self.log.clone(),
            state: self.state.clone(),
            control: !self.no_control,
            shares_files,
            published: self.published.clone(),
            name,
        })
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

pub(super) fn parse_container_id(text: &str) -> Result<String, String> {
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
    use std::collections::BTreeMap;

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

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
        let settings = options.instance.settings(false).unwrap();
        assert_eq!((settings.name.as_str(), settings.container_id.as_str()), ("box", "box"));
        assert_eq!(settings.labels, BTreeMap::from([("a".to_owned(), "2".to_owned())]));
        assert!(settings.named && settings.control);
        let arguments = ["sluicegate", "attach", "--no-control", "--container-id", "c1", "pid:1"];
        let Ok(Cli { command: Command::Attach(options) }) = Cli::try_parse_from(arguments) else {
            panic!("not parsed");
        };
        let settings = options.seal.instance.settings(false).unwrap();
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
            let settings = options.seal.instance.of_container(Some(&container)).settings(false).unwrap();
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
