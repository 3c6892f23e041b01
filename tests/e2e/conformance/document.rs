//! docs/conformance.md lists what is tested here, and how to run it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::language::Language;
use crate::table;

/// What stands around the table in the document.
const BEGIN: &str = "<!-- scenarios -->\n";
const END: &str = "<!-- end of scenarios -->\n";

#[test]
fn conformance_md_lists_every_scenario() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/conformance.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, rest) = text.split_once(BEGIN).expect("the place of the table");
    let (found, _) = rest.split_once(END).expect("the end of the table");
    let wanted = rows();
    assert!(found.trim() == wanted.trim(), "docs/conformance.md should have this table:\n\n{wanted}");
}

fn rows() -> String {
    let languages = Language::ALL.map(|language| language.to_string()).join(" | ");
    let ruled = "---|".repeat(Language::ALL.len());
    let mut text = format!("| path | the handler | what comes of it | {languages} |\n|---|---|---|{ruled}\n");
    // The test of the table fails where it is not so.
    let held = " yes |".repeat(Language::ALL.len());
    for scenario in table::all() {
        writeln!(text, "| `{}` | {} | {} |{held}", scenario.path, scenario.does, scenario.outcome).unwrap();
    }
    text
}
