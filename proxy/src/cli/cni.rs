//! The command line of `cni`: what a configuration's `arguments` mean.

use clap::Parser;

use super::SealOptions;
use crate::cni::{self, Wanted};

pub(super) const EXAMPLES: &str = "\
A runtime starts this by the link in its folder of plugins, with variables and a configuration on
standard input. ADD seals the pod's namespace, in which nothing but `lo` may be, and answers when
the gate serves; DEL ends the gate. `arguments` are options of `attach`; {KEY} in one stands for
KEY of CNI_ARGS. The instance's name and its container id are the pod sandbox's id, of a long one
12 digits.

Example:
  ln -s /usr/bin/sluicegate /opt/cni/bin/sluicegate
  cat > /etc/cni/sealed.d/sealed.conflist <<END
  {\"cniVersion\": \"1.0.0\", \"name\": \"sealed\", \"plugins\": [{
    \"type\": \"sluicegate\",
    \"arguments\": [\"--policy=/etc/pods.toml\", \"--state=/var/lib/sluicegate\"]}]}
  END";

/// The `arguments`, as if they stood on a command line.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Arguments {
    #[command(flatten)]
    seal: SealOptions,
}

/// Answers the runtime's call; returns the exit code.
pub(super) fn run() -> u8 {
    cni::run(understand)
}

fn understand(arguments: &[String], name: &str) -> Result<Wanted, String> {
    let Arguments { mut seal } = Arguments::try_parse_from(arguments).map_err(|error| in_a_line(&error))?;
    if seal.instance.log.as_deref() == Some("-".as_ref()) {
        return Err("--log=- names the standard output, which is the answer's".into());
    }
    if seal.instance.no_control {
        return Err("--no-control leaves nothing by which DEL finds the gate".into());
    }
    let name = seal.instance.name.get_or_insert_with(|| name.to_owned()).clone();
    let authority_file = seal.ca_file.clone();
    let arguments = seal.arguments().map_err(|error| format!("a path cannot be made absolute: {error}"))?;
    Ok(Wanted { name, authority_file, arguments })
}

/// The first line of what clap complains about: the rest is about a command line.
fn in_a_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn words(words: &[&str]) -> Result<Wanted, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        understand(&words, "4f2c8a1b9d3e")
    }

    #[test]
    fn the_gate_has_the_options_of_the_configuration_and_a_name() {
        let wanted = words(&["--policy=/p.toml", "--ca-file", "/run/ca.pem", "--label=pod=web"]).unwrap();
        assert_eq!(wanted.name, "4f2c8a1b9d3e");
        assert_eq!(wanted.authority_file.as_deref(), Some("/run/ca.pem".as_ref()));
        let line = ["--policy=/p.toml", "--ca-file=/run/ca.pem", "--name=4f2c8a1b9d3e", "--label=pod=web"];
        assert_eq!(wanted.arguments, line.map(OsString::from));
        assert_eq!(words(&["--name=web"]).unwrap().name, "web");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_one_line() {
        for wrong in [
            &["--alowed"][..],
            &["/run/netns/a"],
            &["--name=../a"],
            &["--log=-"],
            &["--no-control"],
            &["--label"],
            &["--help"],
        ] {
            let said = words(wrong).unwrap_err();
            assert!(!said.is_empty() && !said.contains('\n'), "{wrong:?}: {said}");
        }
    }
}
