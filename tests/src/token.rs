//! Proof that a credential never came near the workload.

use std::fs;
use std::path::Path;

use aws_lc_rs::rand;

use crate::job::Outcome;
use crate::reply::{hex, sha256_hex};
use crate::world::World;

/// The scan that the workload makes of all it can read in `/proc`.
const SCAN: &str = include_str!("token_scan.py");
/// What a needle begins with is enough to find candidates by and too little to be the needle.
const PREFIX: usize = 8;

/// A credential that was never used before.
pub fn new_token() -> String {
    let mut random = [0; 16];
    rand::fill(&mut random).expect("randomness");
    format!("sgtoken-{}", hex(&random))
}

/// The command, followed by a scan, in the workload, of its environment and of every process whose
/// memory it may read. [`assert_token_absent`] judges what was found. Needles are the token and the
/// other forms in which it may show up, such as the one of basic authentication. A command in Python
/// can look into itself while it lives: it finds the scan's path and arguments in `TOKEN_SCAN`.
pub fn with_token_scan<A: AsRef<str>>(
    world: &World,
    needles: &[&str],
    command: impl IntoIterator<Item = A>,
) -> Vec<String> {
    let scan = world.file("token_scan.py", SCAN).display().to_string();
    let needles: Vec<_> = needles.iter().map(|needle| description(needle)).collect();
    let script = format!(
        r#"export TOKEN_SCAN="{scan} {}"
"$@"
code=$?
env >"$HOME/environment.txt"
/usr/bin/python3 $TOKEN_SCAN >"$HOME/token-scan.txt" 2>&1
exit $code"#,
        needles.join(" "),
    );
    let mut line: Vec<String> = ["/bin/sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    line.extend(command.into_iter().map(|argument| argument.as_ref().to_owned()));
    line
}

/// Fails when one of the needles is in the output or the log, in a file of the workload's home, in
/// its environment, or in memory it could read; or when the scan of [`with_token_scan`] did not run.
#[track_caller]
pub fn assert_token_absent(world: &World, outcome: &Outcome, needles: &[&str]) {
    let environment = fs::read_to_string(world.home().join("environment.txt"))
        .expect("the workload dumped its environment");
    assert!(environment.contains("HOME="), "no environment: {environment}");
    let scan =
        fs::read_to_string(world.home().join("token-scan.txt")).expect("the workload scanned its memory");
    assert!(scan.starts_with("clean: "), "{scan}");
    for needle in needles {
        assert!(!outcome.stderr.contains(needle), "a credential on standard error: {outcome:#?}");
        assert!(!outcome.stdout.contains(needle), "a credential on standard output: {outcome:#?}");
        assert!(!outcome.log.is_empty(), "no log to look at");
        for folder in ["home", "log"] {
            let found = find(&world.path(folder), needle.as_bytes());
            assert!(found.is_empty(), "a credential in {found:?}");
        }
    }
}

/// `PREFIX:LENGTH:SHA256`, by which the scan knows the needle when it sees it.
fn description(needle: &str) -> String {
    let prefix = needle.get(..PREFIX).expect("a needle of more than eight ASCII characters");
    format!("{prefix}:{}:{}", needle.len(), sha256_hex(needle.as_bytes()))
}

/// The files below a folder that contain these bytes.
fn find(folder: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a file's type"));
        if kind.is_dir() {
            found.extend(find(&path, needle));
        } else if kind.is_file() {
            let content = fs::read(&path).expect("read a file");
            if content.windows(needle.len()).any(|window| window == needle) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
