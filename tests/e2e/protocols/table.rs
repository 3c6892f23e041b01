//! The table, what is wrong with a row of it, and the document that shows it.

use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::row::{Evidence, Row};

/// A row and what became of it on both sides.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) row: Row,
    pub(crate) version: String,
    pub(crate) direct: Evidence,
    pub(crate) through: Evidence,
}

impl Compared {
    fn is_equal(&self) -> bool {
        self.direct.bytes() == self.through.bytes() && self.direct.proves(&self.row)
    }
}

/// The whole table as Markdown.
pub(crate) fn markdown(results: &[Compared]) -> String {
    let head = "| protocol | client | version of the client | direct | through the gate | equal |\n\
                |---|---|---|---|---|---|\n";
    let line = |result: &Compared| {
        format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            result.row.protocol,
            result.row.client.name,
            result.version,
            result.direct.digest(),
            result.through.digest(),
            if result.is_equal() { "yes" } else { "**no**" },
        )
    };
    head.to_owned() + &results.iter().map(line).collect::<String>()
}

/// Leaves it where `./protocols` looks for it.
pub(crate) fn write(table: &str) {
    // target/debug/deps/protocols-… → target
    let test = env::current_exe().unwrap();
    fs::write(test.ancestors().nth(3).unwrap().join("protocols.md"), table).unwrap();
}

/// Both sides of a row, where they differ or did not do what the row is about.
pub(crate) fn what_is_wrong(result: &Compared) -> Option<String> {
    let Compared { row, direct, through, .. } = result;
    let shown = |evidence: &Evidence| {
        let text: String = String::from_utf8_lossy(evidence.bytes()).chars().take(4_000).collect();
        format!("{text}\n--- standard error\n{}", evidence.complaints)
    };
    (!result.is_equal()).then(|| {
        let (protocol, client) = (row.protocol, row.client.name);
        let (direct, through) = (shown(direct), shown(through));
        format!(
            "==== {protocol}, {client}, with {:?} in it\n---- direct\n{direct}\n---- through the gate\n{through}",
            row.proof
        )
    })
}

/// Fails unless docs/protocols.md shows every row.
pub(crate) fn assert_documented(results: &[Compared]) {
    let document: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocols.md");
    let document = fs::read_to_string(document).unwrap();
    for Compared { row, .. } in results {
        let begin = format!("| {} | {} | ", row.protocol, row.client.name);
        assert!(document.contains(&begin), "put what ./protocols prints into docs/protocols.md: {begin}");
    }
}
