//! Manual pages, one for each command, made of what `--help` says.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// Lines of what stands below the options that begin a section of their own.
const HEADINGS: [&str; 3] = ["Example:", "Examples:", "Exit codes:"];

/// A word that prints nothing; without any, what follows would stand in its place (man(7), "TH").
const NO_DATE: &str = "\\&";

/// Writes a page for each command that is shown, `sluicegate-policy-check.1` for `sluicegate policy check`, into a
/// folder, which is made where it is not there. The same program writes the same bytes. `date` stands at the foot
/// of each.
///
/// # Errors
/// What cannot be written.
pub(crate) fn write(mut command: Command, folder: &Path, date: Option<&str>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    command.build();
    write_with_subcommands(command, folder, date.unwrap_or(NO_DATE))
}

fn write_with_subcommands(command: Command, folder: &Path, date: &str) -> io::Result<()> {
    let shown = |below: &&Command| !below.is_hide_set() && below.get_name() != "help";
    for below in command.get_subcommands().filter(shown) {
        write_with_subcommands(below.clone(), folder, date)?;
    }
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let is_first = command.get_display_name().is_none_or(|name| name == env!("CARGO_PKG_NAME"));
    let page = Man::new(command.after_help(None::<&'static str>))
        .date(date)
        .source(concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")))
        .manual("Sluicegate");
    let mut file = File::create(folder.join(page.get_filename()))?;
    page.render(&mut file)?;
    let mut more = notes(&text);
    if !is_first {
        more.control("SH", ["SEE ALSO"]);
        more.text([roman(concat!(env!("CARGO_PKG_NAME"), "(1)"))]);
    }
    more.to_writer(&mut file)
}

/// What stands below the options, line by line as it is there.
fn notes(text: &str) -> Roff {
    let mut page = Roff::new();
    let mut section = "";
    for line in text.lines() {
        if HEADINGS.contains(&line) || section.is_empty() {
            if !section.is_empty() {
                page.control("fi", []);
            }
            section = if HEADINGS.contains(&line) { line.trim_end_matches(':') } else { "Notes" };
            page.control("SH", [section.to_uppercase().as_str()]);
            page.control("nf", []);
        }
        if !HEADINGS.contains(&line) {
            page.text([roman(line)]);
        }
    }
    if !section.is_empty() {
        page.control("fi", []);
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// The name of each command's page, by the command's own structure.
    fn pages(command: &Command, before: &str, into: &mut BTreeSet<String>) {
        let name = format!("{before}{}", command.get_name());
        into.insert(format!("{name}.1"));
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            pages(below, &format!("{name}-"), into);
        }
    }

    #[test]
    fn every_command_has_a_page_and_nothing_else_has() {
        let folder = tempfile::tempdir().unwrap();
        write(Cli::command(), &folder.path().join("man1"), None).unwrap();
        let written = fs::read_dir(folder.path().join("man1")).unwrap();
        let written: BTreeSet<_> =
            written.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let mut wanted = BTreeSet::new();
        pages(&Cli::command(), "", &mut wanted);
        assert_eq!(written, wanted);
        for name in ["sluicegate.1", "sluicegate-attach.1", "sluicegate-policy-check.1"] {
            assert!(written.contains(name), "{name}");
        }
    }

    #[test]
    fn examples_are_a_section_and_keep_their_lines() {
        let page = notes("Words of\ntwo lines.\n\nExamples:\n  one --flag\n  .two").to_roff();
        let wanted =
            ".SH NOTES\n.nf\nWords of\ntwo lines.\n\n.fi\n.SH EXAMPLES\n.nf\n  one \\-\\-flag\n  .two\n.fi\n";
        assert_eq!(page, wanted);
        assert_eq!(notes("").to_roff(), "");
    }
}
