//! `sluicegate handler`: which handler has which host, changed while the instance runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::client::segment;
use super::error::CommandError;
use super::host::published;
use super::policy_get::lines_table;
use super::select::InstanceChoice;
use super::{print, print_json, read_limited};
use crate::control::api::{HandlerSetting, Handlers};
use crate::exit;

/// The longest file of parameters, in bytes: what a request to the control socket may hold is more,
/// and parameters are settings, not data.
const PARAMS_BYTES_MAX: u64 = 256 * 1024;

/// The commands below `sluicegate handler`.
#[derive(Debug, Subcommand)]
pub(crate) enum HandlerCommand {
    /// Have a handler of the policy see the requests of one host, or all that have none
    #[command(
        after_help = "NAME is one of the document's [outbound_handlers]; `handler list` shows them.\n\n\
        Examples:\n  sluicegate handler set no_http\n  \
        sluicegate handler set github --host '*.github.com' --params '{\"repository\": \"a/b\"}'\n  \
        sluicegate handler set github --host api.github.com --params @params.json"
    )]
    Set(SetOptions),
    /// Take back what `handler set` has set; the document's own handlers come back
    #[command(after_help = "Examples:\n  sluicegate handler clear\n  \
        sluicegate handler clear --host '*.github.com'\n  sluicegate handler clear --all")]
    Clear(ClearOptions),
    /// Show the handlers that can be set, and those that are
    #[command(after_help = "Example:\n  sluicegate handler list --json | jq -r '.available[].key'")]
    List(ListOptions),
    /// Print what a handler can use, as Markdown
    #[command(after_help = "Example:\n  sluicegate handler reference | less")]
    Reference {
        /// Print it as the member `reference` of one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// The options of `handler set`.
#[derive(Args, Debug)]
pub(crate) struct SetOptions {
    /// Which handler
    name: String,
    /// Only for this host: example.org, *.example.org, 10.0.0.0/8, http://host:8080
    #[arg(long, value_name = "PATTERN")]
    host: Option<String>,
    /// What the handler finds in ctx.params: JSON, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    params: Option<String>,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print what came of it as one JSON object
    #[arg(long)]
    json: bool,
}

/// The options of `handler clear`.
#[derive(Args, Debug)]
pub(crate) struct ClearOptions {
    /// Only the handler of this host
    #[arg(long, value_name = "PATTERN")]
    host: Option<String>,
    /// Every handler that was set, of all hosts
    #[arg(long, conflicts_with = "host")]
    all: bool,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print what came of each change as one JSON object
    #[arg(long)]
    json: bool,
}

/// The options of `handler list`.
#[derive(Args, Debug)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print both lists as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &HandlerCommand) -> Result<u8, CommandError> {
    match command {
        HandlerCommand::Set(options) => set(options),
        HandlerCommand::Clear(options) => clear(options),
        HandlerCommand::List(options) => list(options),
        HandlerCommand::Reference { json } => reference(*json),
    }
}

fn set(options: &SetOptions) -> Result<u8, CommandError> {
    let params = options.params.as_deref().map(parse_params).transpose()?.unwrap_or_default();
    let setting = HandlerSetting { handler: options.name.clone(), params };
    let done = options.choice.client()?.send(Method::PUT, &path(options.host.as_deref()), &setting)?;
    published(&done, options.json)?;
    Ok(exit::OK)
}

fn clear(options: &ClearOptions) -> Result<u8, CommandError> {
    let client = options.choice.client()?;
    let done = client.call(Method::DELETE, &path(options.host.as_deref()))?;
    published(&done, options.json)?;
    if options.all {
        let none = BTreeMap::<String, HandlerSetting>::new();
        let done = client.send(Method::PUT, "/v1/outbound-by-host", &none)?;
        published(&done, options.json)?;
    }
    Ok(exit::OK)
}

fn list(options: &ListOptions) -> Result<u8, CommandError> {
    let handlers: Handlers = options.choice.client()?.get("/v1/handlers")?;
    if options.json {
        print_json(&handlers)?;
    } else {
        let lines: Vec<_> = handlers.available.iter().chain(&handlers.bound).collect();
        if !lines.is_empty() {
            print(lines_table(&lines))?;
        }
    }
    Ok(exit::OK)
}

fn reference(as_json: bool) -> Result<u8, CommandError> {
    let reference = sluicegate_policy::handler_reference();
    if as_json {
        print_json(&serde_json::json!({ "reference": reference }))?;
    } else {
        print(reference)?;
    }
    Ok(exit::OK)
}

/// Where the handler of a host is set, or the one of all that have none.
fn path(host: Option<&str>) -> String {
    match host {
        Some(pattern) => format!("/v1/outbound-by-host/{}", segment(pattern)),
        None => "/v1/outbound".to_owned(),
    }
}

/// JSON from the command line, or with `@` in front from a file.
fn parse_params(text: &str) -> Result<Value, CommandError> {
    let (text, place) = match text.strip_prefix('@') {
        None => (text.as_bytes().to_vec(), "--params".to_owned()),
        Some(file) => {
            let path = Path::new(file);
            let failed = |source| CommandError::File { path: path.to_owned(), source };
            let bytes = File::open(path).and_then(|file| read_limited(file, PARAMS_BYTES_MAX));
            (bytes.map_err(failed)?, file.to_owned())
        }
    };
    serde_json::from_slice(&text)
        .map_err(|error| CommandError::Usage(format!("{place} is not JSON: {error}; text needs its quotes")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_json_from_the_line_or_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("params.json");
        std::fs::write(&file, " {\"a\": [1]} ").unwrap();
        assert_eq!(parse_params(r#"{"a":1}"#).unwrap(), json!({"a": 1}));
        assert_eq!(parse_params(&format!("@{}", file.display())).unwrap(), json!({"a": [1]}));
        let error = parse_params("blue").unwrap_err();
        assert!(error.to_string().starts_with("--params is not JSON: "), "{error}");
        assert_eq!(error.exit_code(), exit::USAGE);
        let error = parse_params("@/nowhere/params.json").unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/params.json");
    }

    #[test]
    fn a_host_is_one_segment_of_the_path() {
        assert_eq!(path(None), "/v1/outbound");
        assert_eq!(path(Some("http://*.a.test:81")), "/v1/outbound-by-host/http%3A%2F%2F%2A%2Ea%2Etest%3A81");
    }
}
