//! The files that handlers are in: each read once, and compiled or loaded as what it is.

use std::collections::{BTreeMap, btree_map};
use std::ops::Range;
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::Findings;
use crate::handler::{Exports, HandlerLimits, Program, ProgramKind, Script, ScriptProblem};
use crate::sources::Sources;

/// The most files that one document names.
const FILES_MAX: usize = 256;

/// The files that were asked for, by path as the document writes it.
pub(super) struct Files<'a> {
    sources: &'a dyn Sources,
    limits: &'a HandlerLimits,
    read: BTreeMap<Box<str>, File>,
}

/// A file that was asked for; without code it has problems, which have been reported.
struct File {
    digest: Digest,
    code: Option<Code>,
}

/// What a file holds.
#[derive(Clone)]
pub(super) enum Code {
    Script(Arc<Script>),
    Program(Arc<Program>, Arc<Exports>),
}

impl<'a> Files<'a> {
    pub(super) fn new(sources: &'a dyn Sources, limits: &'a HandlerLimits) -> Self {
        Self { sources, limits, read: BTreeMap::new() }
    }

    /// Every file that was read.
    pub(super) fn digests(&self) -> impl Iterator<Item = (&str, &Digest)> {
        self.read.iter().map(|(path, file)| (&**path, &file.digest))
    }

    /// The programs that were loaded.
    pub(super) fn programs(&self) -> Vec<Arc<Program>> {
        let programs = self.read.values().filter_map(|file| match &file.code {
            Some(Code::Program(program, _)) => Some(Arc::clone(program)),
            _ => None,
        });
        programs.collect()
    }

    /// What a file holds, which is read and compiled when it is first named.
    pub(super) fn code(
        &mut self,
        path: &str,
        at: &Range<usize>,
        findings: &mut Findings<'_>,
    ) -> Option<Code> {
        if !is_file(path, at, findings) {
            return None;
        }
        let count = self.read.len();
        let entry = match self.read.entry(path.into()) {
            btree_map::Entry::Occupied(entry) => return entry.get().code.clone(),
            btree_map::Entry::Vacant(entry) => entry,
        };
        if count >= FILES_MAX {
            findings
                .error(at.clone(), format!("the document names more than {FILES_MAX} files of handlers"))
                .help("use one file in several places, with different `params`");
            return None;
        }
        let content = match self.sources.read(path) {
            Ok(content) => content,
            Err(why) => {
                let shown = path.escape_debug();
                findings
                    .error(at.clone(), format!("handler `{shown}` cannot be read: {why}"))
                    .help("write the path from the document's folder, and check that the file is there");
                entry.insert(File { digest: Digest::of(b""), code: None });
                return None;
            }
        };
        let file = match ProgramKind::of_file(path) {
            None => {
                let code = script(path, &content, self.limits, findings);
                File { digest: content.digest().clone(), code }
            }
            Some(kind) => {
                let digest = content.digest().clone();
                let program = Program::new(path, kind, content);
                File { digest, code: load(program, self.sources, at, findings) }
            }
        };
        entry.insert(file).code.clone()
    }
}

fn script(path: &str, content: &[u8], limits: &HandlerLimits, findings: &mut Findings<'_>) -> Option<Code> {
    match Script::compile(path, content, limits) {
        Ok(script) => Some(Code::Script(Arc::new(script))),
        Err(problem) => {
            report(path, (content, Script::BYTES_MAX), problem, findings);
            None
        }
    }
}

/// Loads a program; what is wrong is shown in its text, or, where it has none, in the document.
fn load(
    program: Program,
    sources: &dyn Sources,
    at: &Range<usize>,
    findings: &mut Findings<'_>,
) -> Option<Code> {
    let (path, most) = (&*program.file, program.kind.bytes_max());
    if program.content.len() > most {
        findings
            .error(at.clone(), format!("handler `{}` is longer than {most} bytes", path.escape_debug()))
            .help("make it smaller: leave out what it does not use");
        return None;
    }
    match (sources.program(&program), program.kind) {
        (Ok(exports), _) => Some(Code::Program(Arc::new(program), Arc::new(exports))),
        (Err(problem), ProgramKind::JavaScript) => {
            report(path, (&program.content, most), problem, findings);
            None
        }
        (Err(problem), ProgramKind::Component) => {
            let finding = findings.error(at.clone(), format!("{}: {}", path.escape_debug(), problem.message));
            if let Some(help) = problem.help {
                finding.help(help);
            }
            None
        }
    }
}

/// Shows a problem in the text of a handler.
fn report(path: &str, (content, most): (&[u8], usize), problem: ScriptProblem, findings: &mut Findings<'_>) {
    // What is too long to be compiled is too long to be shown.
    let shown = if content.len() > most { &[][..] } else { content };
    let shown = String::from_utf8_lossy(shown);
    findings.error_elsewhere(path, &shown, problem.at, (problem.message, problem.help));
}

fn is_file(path: &str, at: &Range<usize>, findings: &mut Findings<'_>) -> bool {
    let known = path.ends_with(".rhai") || ProgramKind::of_file(path).is_some();
    let fits = known && !path.contains(char::is_control);
    if path.ends_with(".ts") {
        findings
            .error(at.clone(), "handlers in TypeScript are not run")
            .help("compile it to JavaScript first, such as with `tsc` or `esbuild`, and name the .js file");
    } else if !fits {
        findings
            .error(at.clone(), format!("`{}` is not the file of a handler", path.escape_debug()))
            .help("write a path that ends in .rhai, .js or .wasm");
    }
    fits
}
