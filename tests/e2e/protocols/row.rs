//! What a row of the table is, and what is compared.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{Outcome, sha256_hex};

/// A program of the rows, and the shell command that prints its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// One client, doing one thing.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) protocol: &'static str,
    pub(crate) client: Client,
    /// A script of `sh -e`, in a home of its own that is empty. What it prints and what it leaves below
    /// `got` is compared.
    pub(crate) script: String,
    /// What it must have printed, so that two failures do not pass for equal.
    pub(crate) proof: &'static str,
}

impl Row {
    pub(crate) fn new(
        protocol: &'static str,
        client: Client,
        script: impl Into<String>,
        proof: &'static str,
    ) -> Self {
        Self { protocol, client, script: script.into(), proof }
    }
}

/// How a run ended, what it printed, and every file that it kept.
#[derive(Debug)]
pub(crate) struct Evidence {
    bytes: Vec<u8>,
    printed: String,
    succeeded: bool,
    /// What it complained about; not compared, since progress and times go there.
    pub(crate) complaints: String,
}

impl Evidence {
    pub(crate) fn collect(outcome: &Outcome, home: &Path) -> Self {
        let mut bytes = format!("{}\n", outcome.status).into_bytes();
        bytes.extend(&outcome.stdout_bytes);
        let root = home.join("got");
        for file in files(&root) {
            let name = file.strip_prefix(&root).unwrap();
            bytes.extend(format!("\n--- {}\n", name.display()).bytes());
            bytes.extend(fs::read(&file).unwrap());
        }
        Self {
            bytes,
            printed: outcome.stdout.clone(),
            succeeded: outcome.status.success(),
            complaints: outcome.stderr.clone(),
        }
    }

    /// Whether it did what the row is about.
    pub(crate) fn proves(&self, row: &Row) -> bool {
        self.succeeded && self.printed.contains(row.proof)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How much it is, and which.
    pub(crate) fn digest(&self) -> String {
        let hash: String = sha256_hex(&self.bytes).chars().take(12).collect();
        format!("{} bytes, `{hash}`", self.bytes.len())
    }
}

/// Every file below a folder, in one order; none where there is no folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
