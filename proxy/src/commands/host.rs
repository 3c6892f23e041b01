//! `sluicegate host`: the two lists of hosts, changed while the instance runs.

use clap::{Args, Subcommand};
use http::Method;

use super::client::{Client, segment};
use super::error::CommandError;
use super::policy_get::{filtered, lines_table};
use super::select::InstanceChoice;
use super::{note, print, print_json};
use crate::audit::view::Escaped;
use crate::control::api::{EffectivePolicy, HostPatterns, Published};
use crate::exit;

const ALLOWED: &str = "/v1/allowed-hosts";
const DENIED: &str = "/v1/denied-hosts";

/// The commands below `sluicegate host`.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Add hosts to those that may be reached, without a restart
    #[command(
        after_help = "A denied host stays denied, and a request that a rule refuses stays refused. Every pattern is a\n\
        change of its own.\n\n\
        Examples:\n  sluicegate host allow pypi.org '*.pythonhosted.org'\n  \
        sluicegate host allow http://mirror.example.org:8080"
    )]
    Allow(ChangeOptions),
    /// Add hosts to those that are refused, whatever else the policy says
    #[command(after_help = "Example:\n  sluicegate host deny '*.tracker.example'")]
    Deny(ChangeOptions),
    /// Take hosts out of the lists, whether the document or a command put them there
    #[command(after_help = "Examples:\n  sluicegate host remove pypi.org\n  \
        sluicegate host remove --denied '*.tracker.example'")]
    Remove(RemoveOptions),
    /// Show both lists, with where each line comes from
    #[command(after_help = "Example:\n  sluicegate host list --instance box")]
    List(ListOptions),
    /// Set a whole list at once, in place of the document's
    #[command(
        after_help = "A list without hosts allows nothing, or denies nothing. `sluicegate policy get` shows what is in\n\
        force.\n\n\
        Examples:\n  sluicegate host replace --allowed pypi.org files.pythonhosted.org\n  \
        sluicegate host replace --denied"
    )]
    Replace(ReplaceOptions),
}

/// The options of `host allow` and `host deny`.
#[derive(Args, Debug)]
pub(crate) struct ChangeOptions {
    /// Hosts as a document names them: example.org, *.example.org, 10.0.0.0/8, http://host:8080
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print what came of each change as one JSON object
    #[arg(long)]
    json: bool,
}

/// The options of `host remove`.
#[derive(Args, Debug)]
pub(crate) struct RemoveOptions {
    #[command(flatten)]
    change: ChangeOptions,
    /// Only out of the allowed hosts
    #[arg(long)]
    allowed: bool,
    /// Only out of the denied hosts
    #[arg(long, conflicts_with = "allowed")]
    denied: bool,
}

/// The options of `host list`.
#[derive(Args, Debug)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print the lines as one JSON array
    #[arg(long)]
    json: bool,
}

/// The options of `host replace`.
#[derive(Args, Debug)]
#[group(id = "list", required = true, multiple = false, args = ["allowed", "denied"])]
pub(crate) struct ReplaceOptions {
    /// The hosts that may be reached, and no others
    #[arg(long, num_args = 0.., value_name = "PATTERN")]
    allowed: Option<Vec<String>>,
    /// The hosts that are refused
    #[arg(long, num_args = 0.., value_name = "PATTERN")]
    denied: Option<Vec<String>>,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print what came of it as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &HostCommand) -> Result<u8, CommandError> {
    match command {
        HostCommand::Allow(options) => change(options, ALLOWED),
        HostCommand::Deny(options) => change(options, DENIED),
        HostCommand::Remove(options) => remove(options),
        HostCommand::List(options) => list(options),
        HostCommand::Replace(options) => replace(options),
    }
}

/// Prints what came of a change: the generations, and warnings beside them.
pub(crate) fn published(published: &Published, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return print_json(published);
    }
    for warning in &published.warnings {
        note(&format!("warning: {}", Escaped(warning)));
    }
    print(format_args!("{}\n", sentence(published)))
}

fn sentence(published: &Published) -> String {
    let Published { generation, previous, changed, .. } = published;
    if *changed {
        format!("policy {} -> {}", Escaped(previous), Escaped(generation))
    } else {
        format!("policy {}, as before", Escaped(generation))
    }
}

fn change(options: &ChangeOptions, list: &str) -> Result<u8, CommandError> {
    let client = options.choice.client()?;
    for pattern in &options.patterns {
        let done = client.call(Method::PUT, &format!("{list}/{}", segment(pattern)))?;
        published(&done, options.json)?;
    }
    Ok(exit::OK)
}

fn remove(options: &RemoveOptions) -> Result<u8, CommandError> {
    let client = options.change.choice.client()?;
    let lists = match (options.allowed, options.denied) {
        (true, _) => &[ALLOWED][..],
        (_, true) => &[DENIED],
        _ => &[ALLOWED, DENIED],
    };
    for pattern in &options.change.patterns {
        remove_one(&client, lists, pattern, options.change.json)?;
    }
    Ok(exit::OK)
}

/// Takes a pattern out of each list and tells of those that had it.
fn remove_one(client: &Client, lists: &[&str], pattern: &str, as_json: bool) -> Result<(), CommandError> {
    let mut was_listed = false;
    for list in lists {
        let done: Published = client.call(Method::DELETE, &format!("{list}/{}", segment(pattern)))?;
        was_listed |= done.changed;
        if done.changed || as_json {
            published(&done, as_json)?;
        }
    }
    if !was_listed {
        note(&format!("warning: no list has `{}`", Escaped(pattern)));
    }
    Ok(())
}

fn list(options: &ListOptions) -> Result<u8, CommandError> {
    let policy: EffectivePolicy = options.choice.client()?.get("/v1/policy")?;
    let lines = filtered(&policy, |key| matches!(key, "allowed_hosts" | "denied_hosts"));
    if options.json {
        print_json(&lines)?;
    } else if !lines.is_empty() {
        print(lines_table(&lines))?;
    }
    Ok(exit::OK)
}

fn replace(options: &ReplaceOptions) -> Result<u8, CommandError> {
    let (list, patterns) = match (&options.allowed, &options.denied) {
        (Some(patterns), _) => (ALLOWED, patterns.clone()),
        (None, patterns) => (DENIED, patterns.clone().unwrap_or_default()),
    };
    let done = options.choice.client()?.send(Method::PUT, list, &HostPatterns { patterns })?;
    published(&done, options.json)?;
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_change_is_one_line() {
        let mut done = Published {
            generation: "new".into(),
            previous: "old".into(),
            changed: true,
            warnings: Vec::new(),
        };
        assert_eq!(sentence(&done), "policy old -> new");
        done.changed = false;
        assert_eq!(sentence(&done), "policy new, as before");
    }
}
