//! `sluicegate policy check`: whether the gate would take a document or a handler, and what handlers can
//! reach. Asks no instance and reads no secret.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use sluicegate_policy::{Compiled, Problem};
use sluicegate_wasm::Programs;

use super::compiled::CompiledChoice;
use super::error::CommandError;
use super::program::{self, HandlerFile, ProgramReport};
use super::{print, print_json};
use crate::causes::in_words;
use crate::document::{Bundle, DocumentError, read_bounded};
use crate::{exit, report};

/// The options of `policy check`.
#[derive(Args, Debug)]
pub(crate) struct CheckOptions {
    /// The document, or a handler's file: .wasm, .js or .rhai
    file: PathBuf,
    #[command(flatten)]
    compiled: CompiledChoice,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &CheckOptions) -> Result<u8, CommandError> {
    let programs = options.compiled.programs();
    match HandlerFile::of(&options.file) {
        Some(form) => handler(&options.file, form, &programs, options.json),
        None => document(&options.file, &programs, options.json),
    }
}

fn handler(path: &Path, form: HandlerFile, programs: &Programs, as_json: bool) -> Result<u8, CommandError> {
    let content = read_bounded(path, form.bytes_max() as u64)
        .map_err(|source| CommandError::File { path: path.to_owned(), source })?;
    let file = path.to_string_lossy();
    match ProgramReport::load(programs, &file, form, &content) {
        Ok(report) if as_json => print_json(&report.answer())?,
        Ok(report) => print(report.text("ok"))?,
        Err(problem) => return program::refused(&file, &content, &problem, as_json),
    }
    Ok(exit::OK)
}

fn document(file: &Path, programs: &Arc<Programs>, as_json: bool) -> Result<u8, CommandError> {
    let compiled = match Bundle::read(file, programs) {
        Ok((_, compiled)) => compiled,
        Err(error) if as_json => {
            let problems = match &error {
                DocumentError::Policy(error) => json!(error.problems()),
                other => json!([{ "severity": "error", "message": in_words(other) }]),
            };
            print_json(&json!({ "ok": false, "file": file, "problems": problems }))?;
            return Ok(exit::CONFIGURATION);
        }
        Err(error) => return Err(error.into()),
    };
    let mut handlers: Vec<ProgramReport> = Vec::new();
    for program in compiled.policy.programs() {
        match ProgramReport::of(programs, program) {
            Ok(report) => handlers.push(report),
            Err(problem) => return program::refused(&program.file, &program.content, &problem, as_json),
        }
    }
    told(file, &compiled, &handlers, as_json)?;
    Ok(exit::OK)
}

fn told(
    file: &Path,
    compiled: &Compiled,
    handlers: &[ProgramReport],
    as_json: bool,
) -> Result<(), CommandError> {
    if as_json {
        let problems: &[Problem] = &compiled.warnings;
        let generation = compiled.policy.generation();
        return print_json(&json!({ "ok": true, "file": file, "generation": generation,
            "problems": problems, "programs": handlers }));
    }
    report::warnings(&compiled.warnings);
    let summary = report::summary(&compiled.policy.summary());
    let mut text = format!("{}: ok ({summary})\n", file.display());
    for handler in handlers {
        text.push_str(&format!("  {}\n", handler.line()));
    }
    print(text)
}
