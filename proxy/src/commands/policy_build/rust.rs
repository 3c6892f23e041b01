//! Handlers in Rust: cargo makes a core module of a crate, and this a component of the module.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use wit_component::ComponentEncoder;

use super::{BuildError, MODULE_BYTES_MAX};
use crate::commands::{note, read_limited};
use crate::document::read_bounded;

/// A target without a system: nothing can be imported but what the bindings name.
const TARGET: &str = "wasm32-unknown-unknown";
/// The most that cargo says about a build, in bytes.
const SAID_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How to get cargo.
const INSTALL: &str = "install Rust from https://rustup.rs, then: rustup target add wasm32-unknown-unknown";
/// What is often wrong.
const OFTEN: &str = "where the target is missing: rustup target add wasm32-unknown-unknown; or, for a compiler that has \
                     the source of its library instead, SLUICEGATE_BUILD_STD=1";

/// A core module, with the name for its component.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) name: String,
    pub(super) module: Vec<u8>,
}

/// What `cargo metadata` says.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
    /// None for what is in a folder of the author's.
    source: Option<String>,
}

/// What cargo says of something that it made, as far as it matters.
#[derive(Deserialize)]
struct Made {
    manifest_path: PathBuf,
    target: Target,
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

/// Builds the crate in a folder. With `build_std` the standard library is built too, which is that of
/// this compiler.
pub(super) fn build(folder: &Path, build_std: Option<&Path>) -> Result<Built, BuildError> {
    let failed = |source| BuildError::File { what: "open", path: folder.to_owned(), source };
    let folder = fs::canonicalize(folder).map_err(failed)?;
    note(&format!("building {} for {TARGET}", folder.display()));
    let mut flags = remapped(&packages(&folder)?);
    if let Some(rustc) = build_std {
        let sysroot = output(rustc, &folder, &["--print", "sysroot"])?;
        let library = Path::new(String::from_utf8_lossy(&sysroot).trim()).join("lib/rustlib/src/rust");
        flags.push(remap(&library, "/rust"));
    }
    let flags = format!("build.rustflags={}", serde_json::json!(flags));
    let mut arguments = vec!["build", "--release", "--lib", "--target", TARGET, "--config", &flags];
    arguments.push("--message-format=json-render-diagnostics");
    if build_std.is_some() {
        arguments.push("-Zbuild-std=std,panic_abort");
    }
    let said = output(Path::new("cargo"), &folder, &arguments)?;
    let path = module(&said, &folder).ok_or_else(|| BuildError::NoModule(folder.clone()))?;
    let module = read_bounded(&path, MODULE_BYTES_MAX).map_err(|source| BuildError::File {
        what: "read",
        path: path.clone(),
        source,
    })?;
    Ok(Built { name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(), module })
}

/// A component of a core module that the bindings of `policy.wit` are in.
pub(super) fn component(module: &[u8]) -> Result<Vec<u8>, BuildError> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    let component = encoder.and_then(|mut encoder| encoder.encode());
    component.map_err(|error| BuildError::NoComponent(format!("{error:#}").replace('\n', " ")))
}

/// Every package that may become part of the module.
fn packages(folder: &Path) -> Result<Vec<Package>, BuildError> {
    let arguments = ["metadata", "--format-version", "1", "--filter-platform", TARGET];
    let said = output(Path::new("cargo"), folder, &arguments)?;
    let metadata: Metadata = serde_json::from_slice(&said)
        .map_err(|error| BuildError::Unreadable { tool: "cargo".into(), what: error.to_string() })?;
    Ok(metadata.packages)
}

/// Panics name files: what they say shall not depend on where, and by whom, it was built.
fn remapped(packages: &[Package]) -> Vec<String> {
    let mut flags: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let folder = package.manifest_path.parent()?;
            if package.source.as_ref().is_some_and(|source| source.starts_with("registry+")) {
                // The folder of all of them, so that those of the standard library are met too.
                return Some(remap(folder.parent()?, "/crates"));
            }
            Some(remap(folder, &format!("/{}-{}", package.name, package.version)))
        })
        .collect();
    flags.sort();
    flags.dedup();
    flags
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

/// The module that a build of the crate in this folder made.
fn module(said: &[u8], folder: &Path) -> Option<PathBuf> {
    said.split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Made>(line).ok())
        .filter(|made| made.manifest_path.parent() == Some(folder))
        .filter(|made| made.target.kind.iter().any(|kind| kind == "cdylib"))
        .flat_map(|made| made.filenames)
        .find(|file| file.extension().is_some_and(|ending| ending == "wasm"))
}

/// What a tool prints to standard output; the rest is for whoever waits.
fn output(tool: &Path, folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, BuildError> {
    let mut command = Command::new(tool);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = command.spawn().map_err(|source| BuildError::NoTool {
        tool: tool.to_owned(),
        hint: INSTALL,
        source,
    })?;
    let said = running.stdout.take().map_or(Ok(Vec::new()), |said| read_limited(said, SAID_BYTES_MAX));
    if said.is_err() {
        drop(running.kill());
    }
    let unread =
        |error: std::io::Error| BuildError::Unreadable { tool: tool.to_owned(), what: error.to_string() };
    let status = running.wait().map_err(unread)?;
    let said = said.map_err(unread)?;
    if !status.success() {
        return Err(BuildError::Failed { tool: tool.to_owned(), status, hint: OFTEN });
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_that_of_the_crate_itself() {
        let said = br#"{"reason":"compiler-artifact","manifest_path":"/r/dep/Cargo.toml","target":{"kind":["cdylib"]},"filenames":["/t/dep.wasm"]}
not of cargo
{"reason":"compiler-artifact","manifest_path":"/h/Cargo.toml","target":{"kind":["custom-build"]},"filenames":["/t/build"]}
{"reason":"compiler-artifact","manifest_path":"/h/Cargo.toml","target":{"kind":["cdylib","rlib"]},"filenames":["/t/h.rlib","/t/h.wasm"]}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(module(said, Path::new("/h")), Some("/t/h.wasm".into()));
        assert_eq!(module(said, Path::new("/r/dep")), Some("/t/dep.wasm".into()));
        assert_eq!(module(said, Path::new("/other")), None);
    }

    #[test]
    fn folders_are_replaced_by_names() {
        let package = |name: &str, folder: &str, source: Option<&str>| Package {
            name: name.into(),
            version: "0.1.0".into(),
            manifest_path: Path::new(folder).join("Cargo.toml"),
            source: source.map(Into::into),
        };
        let registry = Some("registry+https://github.com/rust-lang/crates.io-index");
        let packages = [
            package("one", "/home/me/.cargo/registry/src/x/one-0.1.0", registry),
            package("two", "/home/me/.cargo/registry/src/x/two-0.1.0", registry),
            package("own", "/home/me/own", None),
            package("other", "/home/me/.cargo/git/checkouts/other/1", Some("git+https://git.test/other")),
        ];
        let expected = [
            "--remap-path-prefix=/home/me/.cargo/git/checkouts/other/1=/other-0.1.0",
            "--remap-path-prefix=/home/me/.cargo/registry/src/x=/crates",
            "--remap-path-prefix=/home/me/own=/own-0.1.0",
        ];
        assert_eq!(remapped(&packages), expected);
    }

    #[test]
    fn what_is_no_module_for_the_gate_is_refused() {
        for content in [&b""[..], b"text", b"\0asm\x0d\0\x01\0"] {
            let error = component(content).unwrap_err();
            assert!(matches!(error, BuildError::NoComponent(_)), "{content:?}: {error}");
        }
    }

    #[test]
    fn a_tool_that_is_not_there_is_named() {
        let error = output(Path::new("/no/such/tool"), Path::new("/"), &[]).unwrap_err();
        assert_eq!(error.to_string(), "cannot start /no/such/tool");
        let error = output(Path::new("false"), Path::new("/"), &[]).unwrap_err();
        assert!(matches!(error, BuildError::Failed { .. }), "{error}");
    }
}
