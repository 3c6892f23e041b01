//! Compiled programs from one test to the next: compiling an engine takes seconds, and every test has a
//! gate of its own.
//!
//! The gate checks every entry before it loads it, so a test cannot spoil another one.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use e2e::World;

/// Where the compiled programs of one kind of handler are kept while a build of the gate lasts.
#[derive(Debug)]
pub(crate) struct Kept {
    /// In the target folder.
    kept: PathBuf,
    /// In the state folder of the world's [named](e2e::Gate::named) gates of `attach`.
    used: PathBuf,
}

impl Kept {
    /// Gives the gates of this world what was compiled before; `kind` tells apart what is kept.
    pub(crate) fn lend(world: &World, kind: &str) -> Self {
        let built = fs::metadata(world.program("sluicegate")).unwrap().modified().unwrap();
        let built = built.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        let state = world.path("root/state");
        DirBuilder::new().recursive(true).mode(0o700).create(&state).unwrap();
        let kept = Self { kept: all.join(format!("{kind}-{built}")), used: state.join("programs") };
        if kept.used.exists() {
            return kept;
        }
        if kept.kept.exists() {
            copy(&kept.kept, &kept.used);
        } else {
            remove_older(&all, kind);
        }
        kept
    }

    /// Keeps what a gate, which is ready now, has compiled.
    pub(crate) fn keep(&self) {
        if self.kept.exists() || !self.used.exists() {
            return;
        }
        let own = self.kept.with_extension(std::process::id().to_string());
        fs::create_dir_all(self.kept.parent().unwrap()).unwrap();
        copy(&self.used, &own);
        // Another test may have been faster.
        if fs::rename(&own, &self.kept).is_err() {
            fs::remove_dir_all(&own).unwrap();
        }
    }
}

/// Removes what builds before this one have compiled.
fn remove_older(all: &Path, kind: &str) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&format!("{kind}-"))) {
            // Another test may be removing it, too.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Copies a folder with its owners and modes, which the gate looks at.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success(), "cp -a {} {}: {copied}", from.display(), to.display());
}
