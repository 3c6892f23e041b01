//! Handlers in Python: componentize-py makes a component of a module, with the interpreter in it.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use sluicegate_policy::ProgramKind;

use super::output::Workplace;
use super::{BuildError, BuildOptions};
use crate::commands::note;
use crate::document::read_bounded;

/// What handlers are given and give back.
const WIT: &str = include_str!("../../../../policy-plugins/wit/policy.wit");
/// The world that a file is built for, which is written for it.
const WORLD: &str = "built";
/// The longest file, in bytes: as long as one in JavaScript may be.
const SOURCE_BYTES_MAX: u64 = 1024 * 1024;
/// How to get the tool.
const INSTALL: &str = "pip install componentize-py==0.25.1, or name it in SLUICEGATE_COMPONENTIZE_PY";
/// What is often wrong.
const OFTEN: &str = "the messages above are of componentize-py. What the handler imports must be installed, or below a \
                     folder that --python-path names";

/// A component of a file.
pub(super) fn build(options: &BuildOptions, output: &Path) -> Result<Vec<u8>, BuildError> {
    let file = &options.source;
    let module = module(file)?;
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let work = Workplace::beside(output)?;
    let (wit, component) = (work.path().join("wit"), work.path().join("component.wasm"));
    let source = read_bounded(file, SOURCE_BYTES_MAX).map_err(|source| BuildError::File {
        what: "read",
        path: file.clone(),
        source,
    })?;
    let world = world(&String::from_utf8_lossy(&source), options.reveal);
    fs::create_dir(&wit)
        .and_then(|()| fs::write(wit.join("policy.wit"), WIT))
        .and_then(|()| fs::write(wit.join("built.wit"), world))
        .map_err(|source| BuildError::File { what: "write", path: wit.clone(), source })?;
    let tool = &options.componentize_py;
    note(&format!("building {} with {}", file.display(), tool.display()));
    let mut command = Command::new(tool);
    command.arg("-d").arg(&wit);
    command.args(["-w", WORLD, "componentize", "--stub-wasi", module]);
    for folder in std::iter::once(folder).chain(options.python_path.iter().map(|path| &**path)) {
        command.arg("-p").arg(folder);
    }
    // Standard output is for the result of this command.
    let command = command.arg("-o").arg(&component).stdin(Stdio::null()).stdout(io::stderr());
    let status = command.status().map_err(|source| {
        let (tool, hint) = (tool.clone(), INSTALL);
        BuildError::NoTool { tool, hint, source }
    })?;
    if !status.success() {
        return Err(BuildError::Failed { tool: tool.clone(), status, hint: OFTEN });
    }
    // One byte more than allowed, so that the check says that it is too long.
    read_bounded(&component, ProgramKind::Component.bytes_max() as u64 + 1)
        .map_err(|source| BuildError::File { what: "read", path: component, source })
}

/// A world of what the file has: one that it lacks could not be built, and what it has and the world does
/// not would never be called. The package for handlers compares the two when the class is made.
fn world(source: &str, reveal: bool) -> String {
    let has = |function: &str| source.lines().any(|line| line.trim_start().starts_with(function));
    let mut items = String::new();
    let connections = has("def on_connect(");
    if connections {
        items.push_str("  include connection-handler;\n");
    }
    if has("def outbound(") || !connections {
        items.push_str("  include handler;\n");
    }
    if has("def on_message(") {
        items.push_str("  include message-handler;\n");
    }
    if reveal {
        items.push_str("  import reveal;\n");
    }
    format!("package sluicegate:policy@0.1.0;\n\nworld {WORLD} {{\n{items}}}\n")
}

/// The name to import a file by.
fn module(file: &Path) -> Result<&str, BuildError> {
    let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(plain);
    // componentize-py makes modules of these names.
    let taken = [WORLD, "handler", "wit_world"].contains(&name);
    if fits && !taken { Ok(name) } else { Err(BuildError::ModuleName(file.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_has_a_name_that_can_be_imported() {
        assert_eq!(module(Path::new("/a/github_2.py")).unwrap(), "github_2");
        for file in
            ["git-hub.py", "2.py", "a b.py", "handler.py", "built.py", "wit_world.py", "ü.py", "--help.py"]
        {
            assert!(module(Path::new(file)).is_err(), "{file}");
        }
    }

    #[test]
    fn the_world_is_of_what_the_file_has() {
        let of = |source, reveal| {
            let text = world(source, reveal);
            let items = text.lines().filter_map(|line| line.strip_prefix("  "));
            items.collect::<Vec<_>>().join(" ")
        };
        let outbound = "class A(Handler):\n    def outbound(self, request, env, ctx):\n        pass\n";
        let on_connect = "class A(Handler):\n    def on_connect(self, flow, env, ctx):\n        pass\n";
        assert_eq!(of(outbound, false), "include handler;");
        assert_eq!(of(outbound, true), "include handler; import reveal;");
        assert_eq!(of(on_connect, false), "include connection-handler;");
        let both = format!("{outbound}{on_connect}");
        assert_eq!(of(&both, true), "include connection-handler; include handler; import reveal;");
        let on_message = "    def on_message(self, message, env, ctx):\n        pass\n";
        let items = "include handler; include message-handler;";
        let judging = format!("{outbound}{on_message}");
        assert_eq!(of(&judging, false), items);
        // What is inherited is not seen, and the package says so.
        assert_eq!(of("class A(Base):\n    pass\n", false), "include handler;");
        assert!(WIT.contains("\nworld handler {") && WIT.contains("\nworld connection-handler {"));
        assert!(WIT.contains("\nworld message-handler {"));
    }
}
