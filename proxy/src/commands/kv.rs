//! `sluicegate kv`: what handlers keep in key-value bindings, read and written by the operator.

use std::io::{self, IsTerminal};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::segment;
use super::error::CommandError;
use super::select::InstanceChoice;
use super::{parse_span, print, print_bytes, print_json, read_limited};
use crate::audit::view::Escaped;
use crate::control::api::Keys;
use crate::exit;

/// The longest value from standard input, in bytes: what a binding takes.
const VALUE_BYTES_MAX: u64 = 1024 * 1024;

/// The commands below `sluicegate kv`.
#[derive(Debug, Subcommand)]
pub(crate) enum KvCommand {
    /// Print the value of a key
    #[command(after_help = "Example:\n  sluicegate kv get kv token/api.example.org")]
    Get(KeyOptions),
    /// Write a value, for good or for a time
    #[command(
        after_help = "With `-` the value is read from standard input as it is, line breaks included, and does not stand in\n\
        the shell's history.\n\n\
        Examples:\n  printf %s \"$TOKEN\" | sluicegate kv put kv token/api.example.org - --ttl 1h\n  \
        sluicegate kv put kv colour blue"
    )]
    Put(PutOptions),
    /// Remove a key, there or not
    #[command(after_help = "Example:\n  sluicegate kv delete kv token/api.example.org")]
    Delete(KeyOptions),
    /// Print the keys that begin with a text, in order
    #[command(after_help = "Examples:\n  sluicegate kv list kv\n  sluicegate kv list kv token/")]
    List(ListOptions),
}

/// The options of `kv get` and `kv delete`.
#[derive(Args, Debug)]
pub(crate) struct KeyOptions {
    /// A name of the policy's [bindings]; `kv` is always there
    binding: String,
    /// The key
    key: String,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print the key and its value as one JSON object
    #[arg(long)]
    json: bool,
}

/// The options of `kv put`.
#[derive(Args, Debug)]
pub(crate) struct PutOptions {
    #[command(flatten)]
    at: KeyOptions,
    /// The value, or `-` for standard input
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// For how long it is kept: 30s, 10m, 1h
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    ttl: Option<Duration>,
}

/// The options of `kv list`.
#[derive(Args, Debug)]
pub(crate) struct ListOptions {
    /// A name of the policy's [bindings]; `kv` is always there
    binding: String,
    /// How the keys begin
    #[arg(default_value = "")]
    prefix: String,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print the keys as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &KvCommand) -> Result<u8, CommandError> {
    match command {
        KvCommand::Get(options) => get(options)?,
        KvCommand::Put(options) => put(options)?,
        KvCommand::Delete(options) => delete(options)?,
        KvCommand::List(options) => list(options)?,
    }
    Ok(exit::OK)
}

fn get(options: &KeyOptions) -> Result<(), CommandError> {
    let value = options.choice.client()?.get_bytes(&options.path())?;
    if options.json {
        return print_json(&as_json(&options.key, &value));
    }
    if io::stdout().is_terminal() {
        // A handler may have kept what the workload sent.
        return print(format_args!("{}\n", Escaped(&String::from_utf8_lossy(&value))));
    }
    print_bytes(&value)
}

fn put(options: &PutOptions) -> Result<(), CommandError> {
    let KeyOptions { choice, key, json, .. } = &options.at;
    let value = if options.value == "-" { from_stdin()? } else { options.value.clone().into() };
    let mut path = options.at.path();
    if let Some(ttl) = options.ttl {
        path.push_str(&format!("?ttl_seconds={}", ttl.as_secs()));
    }
    choice.client()?.put_bytes(&path, value)?;
    if *json { print_json(&json!({ "key": key, "written": true })) } else { Ok(()) }
}

fn delete(options: &KeyOptions) -> Result<(), CommandError> {
    options.choice.client()?.delete(&options.path())?;
    if options.json { print_json(&json!({ "key": options.key, "deleted": true })) } else { Ok(()) }
}

fn list(options: &ListOptions) -> Result<(), CommandError> {
    let ListOptions { binding, prefix, choice, json } = options;
    let path = format!("/v1/bindings/{}?prefix={}", segment(binding), segment(prefix));
    let found: Keys = choice.client()?.get(&path)?;
    if *json {
        return print_json(&found);
    }
    found.keys.iter().try_for_each(|key| print(format_args!("{}\n", Escaped(key))))
}

impl KeyOptions {
    fn path(&self) -> String {
        format!("/v1/bindings/{}/{}", segment(&self.binding), segment(&self.key))
    }
}

fn from_stdin() -> Result<Bytes, CommandError> {
    let value = read_limited(io::stdin().lock(), VALUE_BYTES_MAX);
    value.map(Bytes::from).map_err(|error| CommandError::System("read the value from standard input", error))
}

/// `value` where it is text, `base64` where it is not.
fn as_json(key: &str, value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => json!({ "key": key, "value": text }),
        Err(_) => json!({ "key": key, "base64": STANDARD.encode(value) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_text_or_base64() {
        assert_eq!(as_json("k", b"v"), json!({"key": "k", "value": "v"}));
        assert_eq!(as_json("k", &[0xff, 0]), json!({"key": "k", "base64": "/wA="}));
    }

    #[test]
    fn a_key_with_slashes_stays_one_segment() {
        let options = KeyOptions {
            binding: "kv".into(),
            key: "token/a b".into(),
            choice: InstanceChoice::default(),
            json: false,
        };
        assert_eq!(options.path(), "/v1/bindings/kv/token%2Fa%20b");
    }
}
