//! `sluicegate policy get`: the policy in force, with where each line comes from.

use clap::Args;

use super::error::CommandError;
use super::select::InstanceChoice;
use super::table::Table;
use super::{print, print_json};
use crate::audit::view::Escaped;
use crate::control::api::{EffectiveEntry, EffectivePolicy, Source};
use crate::exit;

/// The options of `policy get`.
#[derive(Args, Debug)]
pub(crate) struct GetOptions {
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print it as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &GetOptions) -> Result<u8, CommandError> {
    let policy: EffectivePolicy = options.choice.client()?.get("/v1/policy")?;
    if options.json {
        print_json(&policy)?;
    } else {
        let lines = filtered(&policy, |_| true);
        print(format_args!("generation {}\n\n{}", Escaped(&policy.generation), lines_table(&lines)))?;
    }
    Ok(exit::OK)
}

/// The lines whose key is wanted.
pub(crate) fn filtered(policy: &EffectivePolicy, is_wanted: impl Fn(&str) -> bool) -> Vec<&EffectiveEntry> {
    policy.entries.iter().filter(|line| is_wanted(&line.key)).collect()
}

/// Lines with where they come from.
pub(crate) fn lines_table(lines: &[&EffectiveEntry]) -> Table<3> {
    let mut table = Table::new(["KEY", "VALUE", "FROM"]);
    for line in lines {
        table.row([&line.key, &line.value, &source(&line.source)]);
    }
    table
}

/// `file:line` of the document, or who else says so.
pub(crate) fn source(source: &Source) -> String {
    match source {
        Source::Document { file, line } => format!("{file}:{line}"),
        Source::Runtime => "at run time".to_owned(),
        Source::Default => "default".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_where_it_comes_from() {
        let entry =
            |key: &str, value: &str, source| EffectiveEntry { key: key.into(), value: value.into(), source };
        let policy = EffectivePolicy {
            generation: "g".into(),
            entries: vec![
                entry("internet", "false", Source::Default),
                entry("allowed_hosts", "a.test", Source::Document { file: "p.toml".into(), line: 3 }),
                entry("allowed_hosts", "b.test", Source::Runtime),
            ],
        };
        let all = lines_table(&filtered(&policy, |_| true)).to_string();
        let expected = "\
KEY            VALUE   FROM
internet       false   default
allowed_hosts  a.test  p.toml:3
allowed_hosts  b.test  at run time
";
        assert_eq!(all, expected);
        assert_eq!(filtered(&policy, |key| key == "internet").len(), 1);
    }
}
