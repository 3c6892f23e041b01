//! The command line of `oci-hook`, and what it passes on to the gate that it starts.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};

use clap::Args;

use super::{InstanceOptions, SealOptions, parse_container_id, printed};
use crate::audit::default_log_folder;
use crate::exit;
use crate::oci_hook::{self, HookError};

pub(super) const EXAMPLES: &str = "\
As a hook of the stage createRuntime it reads the container's state on standard input, starts a
gate in the background, and succeeds when that serves; else the runtime does not start the
container. The gate ends with the container. The instance's name and its container id are the
container's id, of a long one 12 digits.

Examples, for podman and CRI-O; the second for what is started with --annotation sluicegate=web:
  cd /etc/containers/oci/hooks.d
  sluicegate oci-hook --print --policy /etc/all.toml > all.json
  sluicegate oci-hook --print --annotation web --policy /etc/web.toml > web.json";

#[derive(Args, Debug)]
pub(super) struct HookOptions {
    /// Print the hook's configuration for a folder of hooks, oci-hooks(5), instead of being the hook
    #[arg(long)]
    print: bool,
    /// Have it run for containers with the annotation sluicegate=VALUE only
    #[arg(long, value_name = "VALUE", requires = "print", value_parser = parse_container_id)]
    annotation: Option<String>,
    #[command(flatten)]
    seal: SealOptions,
}

impl SealOptions {
    /// The same for a process in another folder: paths are absolute.
    pub(super) fn arguments(&self) -> io::Result<Vec<OsString>> {
        let Self { instance, ca_file, trust } = self;
        let InstanceOptions { policy, log, name, container_id, labels, state, published, no_control } =
            instance;
        let option = |name: &str, value: &OsStr| {
            let mut argument = OsString::from(format!("--{name}="));
            argument.push(value);
            argument
        };
        let mut arguments = Vec::new();
        for (name, path) in [("policy", policy), ("log", log), ("state", state), ("ca-file", ca_file)] {
            if let Some(path) = path {
                arguments.push(option(name, std::path::absolute(path)?.as_os_str()));
            }
        }
        for (name, value) in [("name", name), ("container-id", container_id)] {
            arguments.extend(value.as_ref().map(|value| option(name, value.as_ref())));
        }
        arguments
            .extend(labels.iter().map(|(name, value)| option("label", format!("{name}={value}").as_ref())));
        arguments.extend(published.iter().map(|published| option("publish", published.to_string().as_ref())));
        arguments.extend(no_control.then(|| OsString::from("--no-control")));
        arguments.extend(trust.then(|| OsString::from("--trust")));
        Ok(arguments)
    }
}

/// Is the hook, or prints how to have it called; returns the exit code.
pub(super) fn run(options: HookOptions) -> u8 {
    let HookOptions { print, annotation, mut seal } = options;
    if seal.instance.log.as_deref() == Some("-".as_ref()) {
        return oci_hook::failed(&HookError::Log);
    }
    if print {
        // A runtime's hooks have no home.
        seal.instance.state = seal.instance.state.or_else(default_log_folder);
    }
    let arguments = match seal.arguments() {
        Ok(arguments) => arguments,
        Err(error) => return oci_hook::failed(&HookError::Folder(error)),
    };
    if !print {
        return oci_hook::run(&arguments, seal.trust);
    }
    match oci_hook::configuration(arguments, annotation.as_deref()) {
        Ok(configuration) => printed(writeln!(io::stdout(), "{configuration:#}").map(|()| exit::OK)),
        Err(error) => oci_hook::failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;
    use crate::background;

    #[test]
    fn the_gate_of_a_hook_is_given_the_same_options() {
        let line = [
            "--policy=/p.toml",
            "--log=/l",
            "--state=/s",
            "--ca-file=/ca.pem",
            "--name=box",
            "--container-id=-a",
            "--label=a=b=c",
            "--label=e=",
            "--publish=127.0.0.1:8080:80",
            "--publish=[::1]:81:81",
            "--no-control",
            "--trust",
        ];
        let parsed = |verb: &[&str]| Cli::try_parse_from([verb, &line].concat()).unwrap().command;
        let Command::OciHook(hook) = parsed(&["sluicegate", "oci-hook"]) else { panic!("not parsed") };
        assert_eq!(hook.seal.arguments().unwrap(), line);
        let verb = ["sluicegate", background::SUBCOMMAND, "--pid=1", "--id=-x"];
        let Command::BackgroundGate(gate) = parsed(&verb) else { panic!("not parsed") };
        assert_eq!(
            (gate.pid, &*gate.id, gate.seal.arguments().unwrap()),
            (Some(1), "-x", hook.seal.arguments().unwrap())
        );
        let relative = ["sluicegate", "oci-hook", "--policy", "a.toml"];
        let Ok(Cli { command: Command::OciHook(hook) }) = Cli::try_parse_from(relative) else {
            panic!("not parsed")
        };
        let policy = std::env::current_dir().unwrap().join("a.toml");
        let policy = OsString::from(format!("--policy={}", policy.display()));
        assert_eq!(hook.seal.arguments().unwrap(), [policy]);
    }
}
