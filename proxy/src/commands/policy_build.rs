//! `sluicegate policy build`: handlers become components, by the tools of their languages.
//!
//! What a tool makes is kept only if the gate would take it, and put in its place at once.

mod error;
mod output;
mod python;
mod rust;

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::FalseyValueParser;
use sluicegate_policy::ProgramKind;
use sluicegate_wasm::{Programs, embed_text};

use super::compiled::CompiledChoice;
use super::error::CommandError;
use super::program::{self, HandlerFile, ProgramReport};
use super::{print, print_json};
use crate::audit::view::Escaped;
use crate::document::read_bounded;
use crate::exit;

pub(crate) use error::BuildError;

/// The longest core module that is made a component, in bytes: with what debuggers want it is several
/// times the component.
const MODULE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The options of `policy build`.
#[derive(Args, Debug)]
pub(crate) struct BuildOptions {
    /// A file that ends in .js, .py or .wasm, or the folder of a Rust crate
    source: PathBuf,
    /// Where the component goes; by default beside the file, or into the crate's folder
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Rust: build the standard library too, for a compiler without the target
    #[arg(long, env = "SLUICEGATE_BUILD_STD", value_parser = FalseyValueParser::new())]
    build_std: bool,
    /// Rust: the compiler, whose library is shown in messages without its folder
    #[arg(long, hide = true, env = "RUSTC", hide_env = true, default_value = "rustc")]
    rustc: PathBuf,
    /// Python: a further folder of modules; may be given several times
    #[arg(long, value_name = "DIR")]
    python_path: Vec<PathBuf>,
    /// Python: let it ask for the bytes of secrets, which the document must then grant
    #[arg(long)]
    reveal: bool,
    /// Python: which componentize-py to use
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "SLUICEGATE_COMPONENTIZE_PY",
        default_value = "componentize-py"
    )]
    componentize_py: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// What a source is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    JavaScript,
    Python,
    Module,
    Crate,
}

pub(crate) fn run(options: &BuildOptions) -> Result<u8, CommandError> {
    let source = source(&options.source)?;
    if source != Source::Python && (options.reveal || !options.python_path.is_empty()) {
        return Err(CommandError::Usage("--reveal and --python-path are for handlers in Python".to_owned()));
    }
    let programs = CompiledChoice::default().programs();
    match source {
        Source::JavaScript => javascript(options, &programs),
        Source::Python => {
            let output = options.output.clone().unwrap_or_else(|| options.source.with_extension("wasm"));
            let built = python::build(options, &output)?;
            keep(&built, &output, options, &programs)
        }
        Source::Module => {
            let output = options
                .output
                .as_ref()
                .ok_or_else(|| CommandError::Usage("name the component: --output FILE".to_owned()))?;
            let built = rust::component(&read(&options.source, MODULE_BYTES_MAX)?)?;
            keep(&built, output, options, &programs)
        }
        Source::Crate => {
            let built = rust::build(&options.source, options.build_std.then_some(&*options.rustc))?;
            let output = options.output.clone().unwrap_or_else(|| options.source.join(&built.name));
            keep(&rust::component(&built.module)?, &output, options, &programs)
        }
    }
}

/// What to do with a source.
fn source(path: &Path) -> Result<Source, CommandError> {
    if path.join("Cargo.toml").is_file() {
        return Ok(Source::Crate);
    }
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let message = match ending {
        "js" | "mjs" => return Ok(Source::JavaScript),
        "py" => return Ok(Source::Python),
        "wasm" => return Ok(Source::Module),
        "rhai" => "scripts need no build: name the file in the document",
        "ts" => "compile TypeScript to JavaScript first, such as with `tsc` or `esbuild`",
        _ => "name a file that ends in .js, .py or .wasm, or a folder with a Cargo.toml",
    };
    Err(CommandError::Usage(format!("cannot build {}: {message}", Escaped(&path.to_string_lossy()))))
}

/// The gate runs the text itself: it is checked, and made a component only where one is asked for.
fn javascript(options: &BuildOptions, programs: &Programs) -> Result<u8, CommandError> {
    let (path, kind) = (&options.source, ProgramKind::JavaScript);
    let content = read(path, kind.bytes_max() as u64)?;
    let file = path.to_string_lossy();
    let form = HandlerFile::Program(kind);
    let report = match ProgramReport::load(programs, &file, form, &content) {
        Ok(report) => report,
        Err(problem) => return program::refused(&file, &content, &problem, options.json),
    };
    if let Some(output) = &options.output {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The gate read it as text, so nothing is lost.
        let component = embed_text(&name, &String::from_utf8_lossy(&content));
        return keep(&component, output, options, programs);
    }
    if options.json {
        print_json(&report.answer())?;
    } else {
        print(report.text("ok, and needs no build: name this file in the document"))?;
    }
    Ok(exit::OK)
}

/// Checks what was built as the gate would, puts it in its place, and tells of it.
fn keep(
    component: &[u8],
    output: &Path,
    options: &BuildOptions,
    programs: &Programs,
) -> Result<u8, CommandError> {
    let file = output.to_string_lossy();
    if ProgramKind::of_file(&file) != Some(ProgramKind::Component) {
        return Err(CommandError::Usage(format!(
            "the component's file must end in .wasm: {}",
            Escaped(&file)
        )));
    }
    let form = HandlerFile::Program(ProgramKind::Component);
    match ProgramReport::load(programs, &file, form, component) {
        Ok(report) => {
            output::write(output, component)?;
            if options.json {
                print_json(&report.answer())?
            } else {
                print(report.text("built"))?
            }
            Ok(exit::OK)
        }
        Err(problem) => program::refused(&file, component, &problem, options.json),
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, CommandError> {
    read_bounded(path, limit).map_err(|source| CommandError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        assert_eq!(source(folder.path()).unwrap(), Source::Crate);
        for (name, expected) in [
            ("a.js", Source::JavaScript),
            ("b/a.mjs", Source::JavaScript),
            ("a.py", Source::Python),
            ("a.wasm", Source::Module),
        ] {
            assert_eq!(source(Path::new(name)).unwrap(), expected, "{name}");
        }
        for (name, says) in
            [("a.rhai", "need no build"), ("a.ts", "TypeScript"), ("a", "Cargo.toml"), ("a.JS", "Cargo.toml")]
        {
            let error = source(Path::new(name)).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.exit_code(), exit::USAGE);
        }
    }
}
