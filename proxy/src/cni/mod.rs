//! `sluicegate cni`: the network of a pod, as container runtimes ask plugins for it (CNI specification 1.1.0).
//!
//! A pod gets no interface: its namespace keeps `lo`, and a gate in the namespace that the runtime is in serves
//! it from ADD to DEL. What the runtime is told as the pod's addresses leads nowhere from outside.
//!
//! **Invariant:** ADD succeeds only when the gate has said that it serves; the runtime starts nothing in a pod
//! whose ADD failed.

mod error;
mod gates;
mod request;

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

pub use self::error::CniError;
use self::gates::{Attachment, Gates};
pub use self::request::is_plugin_call;
use self::request::{Configuration, Environment, Subject};
use crate::{background, capture, exit};

/// The versions of the specification that this understands, oldest first.
const VERSIONS: [&str; 2] = ["1.0.0", "1.1.0"];

/// What the `arguments` of a configuration ask for, understood.
#[derive(Debug)]
pub struct Wanted {
    /// The instance's name.
    pub name: String,
    /// Where the certificate of its CA goes.
    pub authority_file: Option<PathBuf>,
    /// The options of the gate, the name among them.
    pub arguments: Vec<OsString>,
}

impl Wanted {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), authority_file: None, arguments: Vec::new() }
    }
}

/// Does what the runtime asks for, answers on standard output and returns the exit code. `understand` reads
/// options of `attach`, given the name of an instance that they do not name.
pub fn run(understand: impl Fn(&[String], &str) -> Result<Wanted, String>) -> u8 {
    let environment = Environment::read();
    let told = background::told().map_err(CniError::Input);
    let version = told.as_ref().ok().and_then(|text| request::version(text));
    let answer = told.and_then(|text| answer(&environment, &text, &understand));
    let (answer, code) = match answer {
        Ok(answer) => (answer, exit::OK),
        Err(error) => (Some(error.answer(version.as_deref().unwrap_or(VERSIONS[0]))), exit::NO),
    };
    let Some(answer) = answer else { return code };
    match writeln!(io::stdout(), "{answer}") {
        Ok(()) => code,
        Err(_) => exit::IO,
    }
}

fn answer(
    environment: &Environment,
    text: &[u8],
    understand: &impl Fn(&[String], &str) -> Result<Wanted, String>,
) -> Result<Option<Value>, CniError> {
    if environment.command == "VERSION" {
        let version = request::version(text).unwrap_or_else(|| VERSIONS[0].to_owned());
        return Ok(Some(json!({"cniVersion": version, "supportedVersions": VERSIONS})));
    }
    let configuration = Configuration::parse(text)?;
    match &*environment.command {
        "STATUS" => status().map(|()| None),
        "GC" => collect(&configuration).map(|()| None),
        command @ ("ADD" | "CHECK" | "DEL") => {
            let subject = Subject::read(environment, command == "DEL")?;
            let arguments = subject.fill(&configuration.arguments);
            let understood = arguments.and_then(|arguments| {
                understand(&arguments, &subject.gate_name).map_err(CniError::Configuration)
            });
            let wanted = match understood {
                // What is not understood any more shall not keep a pod from being removed.
                Err(_) if command == "DEL" => Wanted::named(&subject.gate_name),
                understood => understood?,
            };
            let gates = Gates::open().map_err(|error| CniError::System("use the runtime folder", error))?;
            match command {
                "ADD" => add(configuration, &subject, &wanted, &gates).map(Some),
                "CHECK" if gates.is_serving(&wanted.name) => Ok(None),
                "CHECK" => Err(CniError::NoGate(wanted.name)),
                _ => delete(&wanted, &gates).map(|()| None),
            }
        }
        command => Err(CniError::Environment(format!("CNI_COMMAND is {command:?}, which is not known"))),
    }
}

fn add(
    configuration: Configuration,
    subject: &Subject,
    wanted: &Wanted,
    gates: &Gates,
) -> Result<Value, CniError> {
    if let Some(folder) = wanted.authority_file.as_deref().and_then(Path::parent) {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.map_err(|error| CniError::System("make the folder of the certificate", error))?;
    }
    let attachment = Attachment {
        network: configuration.name,
        container_id: subject.container_id.clone(),
        interface: subject.interface.clone(),
    };
    // Before there is a gate: one that nobody asks to end shall be found by GC.
    gates.note(&wanted.name, &attachment).map_err(|error| CniError::System("note the gate", error))?;
    let mut namespace = OsString::from("--namespace=");
    namespace.push(&subject.namespace);
    let mut line = vec![namespace, format!("--id={}", subject.container_id).into()];
    line.extend_from_slice(&wanted.arguments);
    let ready = background::start(&line).map_err(|error| {
        // One that is there already is noted, too.
        if !gates.is_serving(&wanted.name) {
            gates.forget(&wanted.name);
        }
        CniError::Gate(error)
    })?;
    Ok(result(configuration.version, configuration.previous, &ready))
}

fn delete(wanted: &Wanted, gates: &Gates) -> Result<(), CniError> {
    gates.end(&wanted.name).map_err(|error| CniError::System("end the gate", error))?;
    gates.forget(&wanted.name);
    if let Some(file) = &wanted.authority_file {
        drop(fs::remove_file(file));
        // Where it was the container's own.
        drop(file.parent().map(fs::remove_dir));
    }
    Ok(())
}

/// Ends the gates of this network whose containers the runtime does not know.
fn collect(configuration: &Configuration) -> Result<(), CniError> {
    let failed = |error| CniError::System("collect gates", error);
    let gates = Gates::open().map_err(failed)?;
    let mut result = Ok(());
    for (name, attachment) in gates.of_network(&configuration.name).map_err(failed)? {
        if configuration.valid.iter().any(|valid| valid.is(&attachment)) {
            continue;
        }
        match gates.end(&name) {
            Ok(()) => gates.forget(&name),
            // As many as can be; the last that could not is told.
            Err(error) => result = Err(failed(error)),
        }
    }
    result
}

fn status() -> Result<(), CniError> {
    let helper = capture::helper_path();
    fs::metadata(&helper).map_err(|error| CniError::Unavailable(helper, error))?;
    Gates::open().map_err(|error| CniError::System("use the runtime folder", error)).map(drop)
}

/// What is there after ADD: what a plugin of before has made, and the addresses on which the pod reaches itself.
/// They name no interface, since none was made; runtimes take them for those of the one that they asked for.
fn result(version: String, previous: Option<Map<String, Value>>, ready: &Value) -> Value {
    let mut result = previous.unwrap_or_default();
    result.insert("cniVersion".into(), version.into());
    let own = ready.get("addresses").and_then(Value::as_array).into_iter().flatten();
    let own = own.filter_map(Value::as_str).filter_map(|address| address.parse::<IpAddr>().ok());
    let own = own.map(|address| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        json!({"address": format!("{address}/{bits}")})
    });
    let before: Option<Vec<Value>> = result.remove("ips").and_then(|ips| serde_json::from_value(ips).ok());
    let ips: Vec<Value> = before.unwrap_or_default().into_iter().chain(own).collect();
    result.insert("ips".into(), ips.into());
    Value::Object(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_has_addresses_and_what_was_there_before() {
        let ready = json!({"event": "ready", "addresses": ["100.64.0.2", "fd00:e9::2"]});
        let own = json!([{"address": "100.64.0.2/32"}, {"address": "fd00:e9::2/128"}]);
        assert_eq!(result("1.1.0".into(), None, &ready), json!({"cniVersion": "1.1.0", "ips": own}));
        let previous = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "lo", "sandbox": "/run/netns/a"}],
            "ips": [{"address": "127.0.0.1/8", "interface": 0}],
        });
        let previous = previous.as_object().cloned();
        let result = result("1.0.0".into(), previous, &ready);
        assert_eq!(result["interfaces"][0]["name"], "lo");
        assert_eq!(result["ips"][0], json!({"address": "127.0.0.1/8", "interface": 0}));
        assert_eq!(result["ips"][1], own[0]);
        assert_eq!(result["ips"].as_array().map(Vec::len), Some(3));
    }
}
