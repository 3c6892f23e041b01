//! What a runtime asks for: variables, and the configuration on standard input.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::VERSIONS;
use super::error::CniError;
use super::gates::Attachment;
use crate::cli::parse_name;
use crate::container::Container;

/// The longest value of `CNI_ARGS` that is put into an argument, in bytes: a name in Kubernetes.
const VALUE_BYTES_MAX: usize = 253;

/// Whether this program was started as a plugin: without arguments, by its name in the runtime's folder.
pub fn is_plugin_call(arguments: usize) -> bool {
    arguments == 1 && variable("CNI_COMMAND").is_some()
}

#[expect(clippy::disallowed_methods, reason = "the parameters of plugins are variables, by specification")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The parameters of a call.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) command: String,
    pub(super) container_id: String,
    pub(super) namespace: PathBuf,
    pub(super) interface: String,
    pub(super) arguments: String,
}

impl Environment {
    pub(super) fn read() -> Self {
        let text = |name| variable(name).unwrap_or_default().to_string_lossy().into_owned();
        Self {
            command: text("CNI_COMMAND"),
            container_id: text("CNI_CONTAINERID"),
            namespace: variable("CNI_NETNS").unwrap_or_default().into(),
            interface: text("CNI_IFNAME"),
            arguments: text("CNI_ARGS"),
        }
    }
}

/// The configuration of a network, as far as it is needed.
#[derive(Debug, Deserialize)]
pub(super) struct Configuration {
    #[serde(rename = "cniVersion")]
    pub(super) version: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) arguments: Vec<String>,
    #[serde(rename = "prevResult", default)]
    pub(super) previous: Option<Map<String, Value>>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    pub(super) valid: Vec<Valid>,
}

/// An attachment that the runtime knows; for GC.
#[derive(Debug, Deserialize)]
pub(super) struct Valid {
    #[serde(rename = "containerID")]
    container_id: String,
    #[serde(rename = "ifname")]
    interface: String,
}

impl Valid {
    pub(super) fn is(&self, attachment: &Attachment) -> bool {
        (&self.container_id, &self.interface) == (&attachment.container_id, &attachment.interface)
    }
}

impl Configuration {
    pub(super) fn parse(text: &[u8]) -> Result<Self, CniError> {
        // The version first: another one may have another shape.
        let version = version(text).unwrap_or_default();
        match serde_json::from_slice::<Value>(text) {
            Ok(_) if !VERSIONS.contains(&&*version) => Err(CniError::Version(version)),
            _ => serde_json::from_slice(text).map_err(CniError::Shape),
        }
    }
}

/// The version that a configuration says it is of.
pub(super) fn version(text: &[u8]) -> Option<String> {
    let configuration: Value = serde_json::from_slice(text).ok()?;
    configuration.get("cniVersion")?.as_str().map(str::to_owned)
}

/// What a call is about.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) container_id: String,
    /// Empty for DEL where the namespace is gone.
    pub(super) namespace: PathBuf,
    pub(super) interface: String,
    /// What the gate is called where the configuration does not say.
    pub(super) gate_name: String,
    arguments: Vec<(String, String)>,
}

impl Subject {
    pub(super) fn read(environment: &Environment, may_be_gone: bool) -> Result<Self, CniError> {
        let wrong = |text: &str| Err(CniError::Environment(text.to_owned()));
        let id = &environment.container_id;
        if !is_plain(id) || !id.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return wrong("CNI_CONTAINERID is no container id: letters, digits, `_`, `.` and `-`");
        }
        let container = Container { id: id.clone(), name: String::new() };
        let Ok(gate_name) = parse_name(container.short_id()) else {
            return wrong("CNI_CONTAINERID is too long for the name of an instance; give a --name");
        };
        if environment.interface.is_empty() {
            return wrong("CNI_IFNAME is missing");
        }
        if !may_be_gone && !environment.namespace.is_absolute() {
            return wrong("CNI_NETNS is no path of a network namespace");
        }
        Ok(Self {
            container_id: id.clone(),
            namespace: environment.namespace.clone(),
            interface: environment.interface.clone(),
            gate_name,
            arguments: pairs(&environment.arguments),
        })
    }

    /// The arguments of a configuration for this container: `{KEY}` stands for that of `CNI_ARGS`, where KEY is of
    /// capitals, digits and `_`.
    pub(super) fn fill(&self, arguments: &[String]) -> Result<Vec<String>, CniError> {
        arguments.iter().map(|argument| self.fill_one(argument)).collect()
    }

    fn fill_one(&self, argument: &str) -> Result<String, CniError> {
        let mut filled = String::new();
        let mut rest = argument;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            match after.split_once('}').filter(|(key, _)| is_key(key)) {
                Some((key, after)) => {
                    filled.push_str(self.value(key)?);
                    rest = after;
                }
                None => {
                    filled.push('{');
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn value(&self, key: &str) -> Result<&str, CniError> {
        let found = self.arguments.iter().find(|(name, _)| name == key);
        let (_, value) = found.ok_or_else(|| {
            CniError::Environment(format!("CNI_ARGS has no {key}, which an argument names"))
        })?;
        // It becomes part of paths and names.
        if !is_plain(value) || value.starts_with('.') || value.len() > VALUE_BYTES_MAX {
            return Err(CniError::Environment(format!("{key} of CNI_ARGS is no plain name: {value:?}")));
        }
        Ok(value)
    }
}

/// `KEY=VALUE;KEY=VALUE`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn is_key(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.bytes().all(fits)
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment {
            command: "ADD".into(),
            container_id: "4f2c8a1b9d3e".repeat(5) + "0123",
            namespace: "/run/netns/a".into(),
            interface: "eth0".into(),
            arguments: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;BAD=../x;DOT=.x".into(),
        }
    }

    fn code(result: Result<impl Sized, CniError>) -> Option<u32> {
        result.err().map(|error| error.code())
    }

    #[test]
    fn a_configuration_has_a_version_and_a_name() {
        let parse = |text: &str| Configuration::parse(text.as_bytes());
        let configuration = parse(
            r#"{"cniVersion":"1.0.0","name":"sealed","type":"sluicegate","arguments":["--policy=/p"],"runtimeConfig":{}}"#,
        );
        let Configuration { name, arguments, previous, .. } = configuration.unwrap();
        assert_eq!((&*name, arguments, previous), ("sealed", vec!["--policy=/p".to_owned()], None));
        for version in [r#""0.4.0""#, r#""2.0.0""#, "1", "null"] {
            let text = format!(r#"{{"cniVersion":{version},"name":"sealed"}}"#);
            assert_eq!(code(parse(&text)), Some(1), "{text}");
        }
        assert_eq!(code(parse(r#"{"name":"sealed"}"#)), Some(1));
        for text in
            ["", "{", r#"{"cniVersion":"1.0.0"}"#, r#"{"cniVersion":"1.0.0","name":"a","arguments":"x"}"#]
        {
            assert_eq!(code(parse(text)), Some(6), "{text}");
        }
    }

    #[test]
    fn a_call_names_a_container_and_its_namespace() {
        let subject = Subject::read(&environment(), false).unwrap();
        assert_eq!(subject.gate_name, "4f2c8a1b9d3e");
        let wrong = |change: fn(&mut Environment)| {
            let mut environment = environment();
            change(&mut environment);
            code(Subject::read(&environment, false))
        };
        assert_eq!(wrong(|environment| environment.container_id.clear()), Some(4));
        assert_eq!(wrong(|environment| environment.container_id = "../x".into()), Some(4));
        assert_eq!(wrong(|environment| environment.container_id = "-x".into()), Some(4));
        assert_eq!(wrong(|environment| environment.container_id = "x".repeat(41)), Some(4));
        assert_eq!(wrong(|environment| environment.interface.clear()), Some(4));
        assert_eq!(wrong(|environment| environment.namespace = PathBuf::new()), Some(4));
        let gone = Environment { namespace: PathBuf::new(), ..environment() };
        assert!(Subject::read(&gone, true).is_ok(), "DEL comes after the namespace's end, too");
    }

    #[test]
    fn arguments_are_filled_with_plain_values_only() {
        let subject = Subject::read(&environment(), false).unwrap();
        let fill = |text: &str| subject.fill(&[text.to_owned()]).map(|mut filled| filled.remove(0));
        assert_eq!(
            fill("--ca-file=/run/ca/{K8S_POD_NAMESPACE}/{K8S_POD_NAME}/ca.pem").unwrap(),
            "--ca-file=/run/ca/shop/web-0/ca.pem"
        );
        for same in ["--policy=/p", "--label=a={container_id}", "{", "}", "{}", "a{b{c}", "{{"] {
            assert_eq!(fill(same).unwrap(), same);
        }
        for wrong in ["{K8S_POD_UID}", "{BAD}", "{DOT}"] {
            assert_eq!(code(fill(wrong)), Some(4), "{wrong}");
        }
    }
}
