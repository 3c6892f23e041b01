//! A Rhai script, compiled once and shared by every request.

use std::ops::Range;

use aws_lc_rs::digest;
use rhai::{AST, Engine, LexError, Module, ParseError, ParseErrorType, Position, Scope};

use super::api::Entry;
use super::engine::{self, DISABLED};
use super::failure::Failure;
use super::program::Entry as Offered;
use super::watch::{Allowance, Watch};
use super::{HandlerFault, HandlerLimits};

/// The function for requests.
pub(super) const OUTBOUND: &str = "outbound";
/// The function for connections.
pub(super) const ON_CONNECT: &str = "on_connect";
/// The function for messages of the WebSockets that the one for requests lets through.
pub(super) const ON_MESSAGE: &str = "on_message";
/// All of them, and how each is written. A script has one of the first two at least.
const ENTRY_POINTS: [(&str, &str); 3] = [
    (OUTBOUND, "fn outbound(request, env, ctx)"),
    (ON_CONNECT, "fn on_connect(flow, env, ctx)"),
    (ON_MESSAGE, "fn on_message(message, env, ctx)"),
];

/// A script with the function `outbound(request, env, ctx)`, and `on_message(message, env, ctx)` beside it if
/// it wants; or `on_connect(flow, env, ctx)`; or all of them.
pub struct Script {
    pub(super) file: Box<str>,
    pub(super) version: Box<str>,
    pub(super) engine: Engine,
    pub(super) tree: AST,
}

/// Why a text is no handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptProblem {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the text; empty at 0 where it is the whole of it.
    pub at: Range<usize>,
    /// What to write instead.
    pub help: Option<String>,
}

impl Script {
    /// The longest script, in bytes.
    pub const BYTES_MAX: usize = 256 * 1024;

    /// Compiles a script. `file` is its path as the document writes it.
    ///
    /// What stands outside of functions runs now, once: its `const` values are seen in all functions.
    ///
    /// # Errors
    /// [`ScriptProblem`], with the place.
    pub fn compile(file: &str, text: &[u8], limits: &HandlerLimits) -> Result<Self, ScriptProblem> {
        let source = Source::read(text)?;
        let (mut engine, entries) = engine::build(limits);
        let tree = engine.compile(source.text).map_err(|error| source.parse_problem(&error))?;
        let constants = source.constants(&engine, &tree, limits)?;
        let mut module = Module::new();
        for (name, _, value) in constants.iter_raw() {
            module.set_var(name, value.clone());
        }
        engine.register_global_module(module.into());
        // With the constants known, a name that is left unknown is a slip of the pen.
        engine.set_strict_variables(true);
        let tree = engine
            .compile_with_scope(&constants, source.text)
            .map_err(|error| source.parse_problem(&error))?;
        source.check_functions(&tree, &entries)?;
        Ok(Self { file: file.into(), version: version(text), engine, tree })
    }

    /// The path as the document writes it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether it has the function for requests.
    #[must_use]
    pub fn has_outbound(&self) -> bool {
        has(&self.tree, OUTBOUND)
    }

    /// Whether it has the function for connections.
    #[must_use]
    pub fn has_on_connect(&self) -> bool {
        has(&self.tree, ON_CONNECT)
    }

    /// Whether it has the function for messages.
    #[must_use]
    pub fn has_on_message(&self) -> bool {
        has(&self.tree, ON_MESSAGE)
    }

    /// What it offers, in the words of programs.
    #[must_use]
    pub fn entries(&self) -> Vec<Offered> {
        let offered = [
            (self.has_outbound(), Offered::Outbound),
            (self.has_on_connect(), Offered::Connect),
            (self.has_on_message(), Offered::Message),
        ];
        offered.into_iter().filter_map(|(is_there, entry)| is_there.then_some(entry)).collect()
    }

    /// The first 12 hexadecimal digits of the text's SHA-256: `ctx.handler_version`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Script")
            .field("file", &self.file)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The first 12 hexadecimal digits of the SHA-256 of a handler's file.
pub(super) fn version(text: &[u8]) -> Box<str> {
    let hash = digest::digest(&digest::SHA256, text);
    hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The text of a script, and how far into the file it begins.
struct Source<'text> {
    text: &'text str,
    begins: usize,
}

impl<'text> Source<'text> {
    fn read(text: &'text [u8]) -> Result<Self, ScriptProblem> {
        if text.len() > Script::BYTES_MAX {
            return Err(ScriptProblem {
                message: format!(
                    "the script has {} bytes; at most {} are read",
                    text.len(),
                    Script::BYTES_MAX
                ),
                at: 0..0,
                help: Some("keep data in a binding or in [env] of the document".to_owned()),
            });
        }
        // Editors of Windows write it; it means nothing.
        let (begins, text) = text.strip_prefix(b"\xef\xbb\xbf").map_or((0, text), |rest| (3, rest));
        let unread = |at: usize, message: String| ScriptProblem {
            message,
            at: begins + at..begins + at + 1,
            help: Some("save the file as UTF-8 text".to_owned()),
        };
        let text = std::str::from_utf8(text).map_err(|error| {
            let line = line_of(text, error.valid_up_to());
            unread(error.valid_up_to(), format!("line {line} is not UTF-8"))
        })?;
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            return Err(unread(at, format!("line {} holds a NUL character", line_of(text.as_bytes(), at))));
        }
        Ok(Self { text, begins })
    }

    /// Runs what stands outside of functions, within the limits of a request.
    fn constants(
        &self,
        engine: &Engine,
        tree: &AST,
        limits: &HandlerLimits,
    ) -> Result<Scope<'static>, ScriptProblem> {
        let mut scope = Scope::new();
        let allowance = Allowance { operations: limits.operations, cpu: limits.cpu, elapsed: limits.wall };
        let watch = Watch::begin(allowance);
        let ran = engine.run_ast_with_scope(&mut scope, tree);
        watch.end();
        ran.map_err(|error| {
            let failure = Failure::of(*error);
            let message = match failure.fault {
                HandlerFault::Threw => failure.message.into_string(),
                HandlerFault::Limit | HandlerFault::Time => {
                    format!("outside of functions: {}", failure.message)
                }
            };
            let help =
                "only constants stand outside of functions, such as const HOSTS = [\"api.example.test\"]";
            self.problem(message, failure.at, Some(help.to_owned()))
        })?;
        let mut constants = Scope::new();
        for (name, is_constant, value) in scope.iter_raw() {
            if is_constant {
                constants.push_constant_dynamic(name, value.clone());
            }
        }
        Ok(constants)
    }

    fn check_functions(&self, tree: &AST, entries: &[Entry]) -> Result<(), ScriptProblem> {
        let hosts = |name: &str| {
            entries.iter().any(|entry| entry.signature.split_once('(').is_some_and(|(host, _)| host == name))
        };
        if let Some(function) = tree.iter_functions().find(|function| hosts(function.name)) {
            return Err(self.problem_at_function(
                function.name,
                format!("`{}` is a function of the gate", function.name),
                "give the function another name".to_owned(),
            ));
        }
        for (name, written) in ENTRY_POINTS {
            let first = tree.iter_functions().find(|function| function.name == name);
            if let Some(count) = first.map(|function| function.params.len()).filter(|_| !has(tree, name)) {
                return Err(self.problem_at_function(
                    name,
                    format!("`{name}` has three parameters, not {count}"),
                    format!("write {written}"),
                ));
            }
        }
        let [(name, written), ..] = ENTRY_POINTS;
        if has(tree, ON_MESSAGE) && !has(tree, OUTBOUND) {
            return Err(self.problem_at_function(
                ON_MESSAGE,
                format!("`{ON_MESSAGE}` is there without `{OUTBOUND}`, which lets the WebSockets through"),
                format!("write {written} {{ fetch(request) }} beside it"),
            ));
        }
        if ENTRY_POINTS.iter().any(|(name, _)| has(tree, name)) {
            return Ok(());
        }
        Err(ScriptProblem {
            message: format!("there is no function `{name}`"),
            at: 0..0,
            help: Some(format!("write {written} {{ fetch(request) }}")),
        })
    }

    fn problem_at_function(&self, name: &str, message: String, help: String) -> ScriptProblem {
        let written = format!("fn {name}");
        let at =
            self.text.find(&written).map_or(0..0, |at| self.begins + at..self.begins + at + written.len());
        ScriptProblem { message, at, help: Some(help) }
    }

    fn parse_problem(&self, error: &ParseError) -> ScriptProblem {
        let disabled = |word: &str| DISABLED.iter().find(|(other, _)| *other == word);
        let (message, help) = match error.err_type() {
            ParseErrorType::Reserved(word) | ParseErrorType::BadInput(LexError::ImproperSymbol(word, _))
                if disabled(word).is_some() =>
            {
                let instead = disabled(word).map(|(_, instead)| (*instead).to_owned());
                (format!("`{word}` is not there"), instead)
            }
            ParseErrorType::Reserved(word) => (format!("`{word}` is a word of Rhai's own"), None),
            ParseErrorType::VariableUndefined(name) => (
                format!("there is no variable `{name}`"),
                Some(
                    "a function, one written as `|x| …` too, sees its parameters, its own variables, and what `const` sets outside of functions"
                        .to_owned(),
                ),
            ),
            ParseErrorType::ExprTooDeep => (
                "nested too deep".to_owned(),
                Some("split it into variables or functions".to_owned()),
            ),
            other => (other.to_string(), None),
        };
        self.problem(message, error.position(), help)
    }

    fn problem(&self, message: String, at: Position, help: Option<String>) -> ScriptProblem {
        ScriptProblem { message, at: self.range(at), help }
    }

    /// The word at a position, which counts lines and characters from 1.
    fn range(&self, at: Position) -> Range<usize> {
        let Some(line_number) = at.line() else {
            return 0..0;
        };
        let before: usize = self.text.split_inclusive('\n').take(line_number - 1).map(str::len).sum();
        let rest = self.text.get(before..).unwrap_or_default();
        let column = at.position().unwrap_or(1) - 1;
        let skipped: usize = rest.chars().take(column).map(char::len_utf8).sum();
        let rest = rest.get(skipped..).unwrap_or_default();
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let length = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
        let start = self.begins + before + skipped;
        start..start + length
    }
}

/// Whether a script has a function of this name that takes what entry points are given.
fn has(tree: &AST, name: &str) -> bool {
    tree.iter_functions().any(|function| function.name == name && function.params.len() == 3)
}

fn line_of(text: &[u8], at: usize) -> usize {
    1 + text.iter().take(at).filter(|byte| **byte == b'\n').count()
}
