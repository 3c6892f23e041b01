//! Where packages are made: the scripts of the repository, and programs that are small enough to be packed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// The time in every package of these tests.
pub(crate) const EPOCH: &str = "1700000000";

/// A folder for what one test makes.
pub(crate) struct Shop {
    folder: TempDir,
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The version of the workspace.
pub(crate) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

impl Shop {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("sg-shop-").tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Both programs without what debuggers need, in a folder.
    pub(crate) fn programs(&self) -> PathBuf {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            let test = std::env::current_exe().unwrap();
            test.ancestors().nth(2).unwrap().to_owned()
        });
        let folder = self.path("programs");
        if !folder.exists() {
            fs::create_dir(&folder).unwrap();
            for name in ["sluicegate", "sluicegate-netns"] {
                let mut strip = Command::new("strip");
                strip.arg("-o").args([folder.join(name), built.join(name)]);
                succeeded(&strip.output().unwrap());
            }
        }
        folder
    }

    /// Two files that stand for the programs where these are only packed.
    pub(crate) fn stand_ins(&self) -> PathBuf {
        let folder = self.path("stand-ins");
        fs::create_dir_all(&folder).unwrap();
        for name in ["sluicegate", "sluicegate-netns"] {
            let file = folder.join(name);
            fs::write(&file, format!("#!/bin/sh\necho {name}\n")).unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    /// Runs a script of the repository with these programs, and returns what it wrote into an output folder.
    pub(crate) fn make(&self, script: &str, programs: &Path, output: &str) -> PathBuf {
        let output = self.path(output);
        let mut command = script_at_epoch(script);
        command.arg("--programs").arg(programs).arg("--output").arg(&output);
        succeeded(&command.output().unwrap());
        output
    }
}

/// A script of the repository, at the time of these tests.
pub(crate) fn script_at_epoch(script: &str) -> Command {
    let mut command = Command::new(root().join(script));
    command.env("SOURCE_DATE_EPOCH", EPOCH).env("SLUICEGATE_DEB_COMPRESSION", "none");
    command
}

/// What a command printed, which must have ended well.
#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program to its end, which must be a good one.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    succeeded(&Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program}: {error}; ./scripts/setup --tests installs what the tests need")
    }))
}

/// The documents of a YAML file.
pub(crate) fn yaml(path: &Path) -> Vec<Value> {
    let python = root().join("target/test-deps/py/bin/python");
    let program = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let printed = run(python.to_str().unwrap(), &["-c", program, path.to_str().unwrap()]);
    serde_json::from_str(&printed).unwrap()
}
