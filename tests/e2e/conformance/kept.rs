//! Compiled programs from one test to the next: compiling an engine takes seconds, a component with an
//! interpreter in it half a minute, and every test has a gate of its own.
//!
//! The gate checks every entry before it loads it, and knows by what an entry was compiled from whether
//! it is the right one: a test cannot spoil another one, and a change is compiled anew.

use std::cell::RefCell;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::World;

/// The list of its entries, which every folder of compiled programs has.
const LIST: &str = "compiled.sha256";

/// Where the compiled programs of one kind of handler are.
#[derive(Debug)]
pub(crate) struct Kept {
    /// In the target folder, from one test to the next.
    kept: PathBuf,
    /// In the state folder of the world's [named](e2e::Gate::named) gates of `attach`.
    used: PathBuf,
    /// Held by the test that compiles first, so that the others wait for what it makes.
    first: RefCell<Option<File>>,
}

impl Kept {
    /// Gives the gates of this world what was compiled before; `kind` tells apart what is kept.
    pub(crate) fn lend(world: &World, kind: &str) -> Self {
        let state = world.path("root/state");
        DirBuilder::new().recursive(true).mode(0o700).create(&state).unwrap();
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        fs::create_dir_all(&all).unwrap();
        let kept = Self { kept: all.join(kind), used: state.join("programs"), first: RefCell::default() };
        let lock = kept.lock();
        if !kept.kept.exists() {
            kept.first.replace(Some(lock));
        } else if !kept.used.exists() {
            copy(&kept.kept, &kept.used);
        }
        kept
    }

    /// Keeps what a gate, which is ready now, has compiled.
    pub(crate) fn keep(&self) {
        let _lock = self.first.take().unwrap_or_else(|| self.lock());
        let list = |folder: &Path| fs::read(folder.join(LIST)).ok();
        let compiled = list(&self.used);
        if compiled.is_none() || list(&self.kept) == compiled {
            return;
        }
        if self.kept.exists() {
            fs::remove_dir_all(&self.kept).unwrap();
        }
        copy(&self.used, &self.kept);
    }

    /// For as long as the file is open, nobody else reads or writes what is kept.
    fn lock(&self) -> File {
        let lock = File::create(self.kept.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        lock
    }
}

/// Copies a folder with its owners and modes, which the gate looks at.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success(), "cp -a {} {}: {copied}", from.display(), to.display());
}
