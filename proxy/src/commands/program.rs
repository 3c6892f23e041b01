//! What is said of a handler that is a file: what it offers, what it can reach, or why it is none.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use miette::{GraphicalReportHandler, LabeledSpan, MietteDiagnostic, NamedSource};
use serde::Serialize;
use serde_json::{Value, json};
use sluicegate_policy::{HandlerLimits, Program, ProgramKind, Script, ScriptProblem};
use sluicegate_wasm::{Programs, embedded_text};

use super::error::CommandError;
use super::print_json;
use crate::audit::view::Escaped;
use crate::exit;

/// How a handler is written, by the file that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerFile {
    /// A script of Rhai.
    Script,
    /// What runs apart from the gate.
    Program(ProgramKind),
}

/// A handler's file that the gate would take.
#[derive(Debug, Serialize)]
pub(crate) struct ProgramReport {
    /// Its path, as it was named.
    file: String,
    /// `script`, `javascript` or `component`.
    kind: &'static str,
    /// Its length.
    bytes: usize,
    /// SHA-256 of it, in hexadecimal.
    sha256: String,
    /// The digits of it that are `ctx.handlerVersion`, and in the log.
    version: String,
    /// What it offers to be bound: `outbound`, `byHost:PATTERN`, `named:NAME`.
    entries: Vec<String>,
    /// The interfaces that it imports, by their whole names, sorted.
    imports: Vec<String>,
    /// Whether it is only taken where the document grants it the bytes of secrets.
    needs_reveal: bool,
    /// How long it took to compile it, or to find it compiled, in microseconds.
    compile_us: u128,
    /// Whether it was found compiled.
    from_cache: bool,
}

impl HandlerFile {
    /// What a file is by the end of its name; `None` for all but handlers.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let path = path.to_str()?;
        let script = || path.ends_with(".rhai").then_some(Self::Script);
        ProgramKind::of_file(path).map(Self::Program).or_else(script)
    }

    /// The longest file of this kind, in bytes.
    pub(crate) fn bytes_max(self) -> usize {
        match self {
            Self::Script => Script::BYTES_MAX,
            Self::Program(kind) => kind.bytes_max(),
        }
    }
}

impl ProgramReport {
    /// Loads a handler's file as a gate would that has it in its document. Takes seconds where something
    /// is compiled.
    ///
    /// # Errors
    /// The gate would not take it.
    pub(crate) fn load(
        programs: &Programs,
        file: &str,
        form: HandlerFile,
        content: &[u8],
    ) -> Result<Self, ScriptProblem> {
        if let HandlerFile::Program(kind) = form {
            return Self::of(programs, &Program::new(file, kind, content.into()));
        }
        let began = Instant::now();
        let script = Script::compile(file, content, &HandlerLimits::default())?;
        let hash = digest(&SHA256, content);
        Ok(Self {
            file: file.to_owned(),
            kind: "script",
            bytes: content.len(),
            version: script.version().to_owned(),
            sha256: hexadecimal(hash.as_ref()),
            entries: script.entries().iter().map(ToString::to_string).collect(),
            imports: Vec::new(),
            needs_reveal: false,
            compile_us: began.elapsed().as_micros(),
            from_cache: false,
        })
    }

    /// The same of a program of a policy.
    ///
    /// # Errors
    /// The gate would not take it.
    pub(crate) fn of(programs: &Programs, program: &Program) -> Result<Self, ScriptProblem> {
        let loaded = programs.load(program)?;
        let (exports, how) = (loaded.exports(), loaded.report());
        let is_text = program.kind == ProgramKind::JavaScript || embedded_text(&program.content).is_some();
        Ok(Self {
            file: program.file.to_string(),
            kind: if is_text { "javascript" } else { "component" },
            bytes: program.content.len(),
            version: program.version.to_string(),
            sha256: program.content.sha256_hex(),
            entries: exports.entries.iter().map(ToString::to_string).collect(),
            imports: how.imports.clone(),
            needs_reveal: exports.needs_reveal,
            compile_us: how.compile_time.as_micros(),
            from_cache: how.from_cache,
        })
    }

    /// It as an answer of a command.
    pub(crate) fn answer(&self) -> Value {
        let mut answer = json!(self);
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("ok".to_owned(), true.into());
        }
        answer
    }

    /// All of it in words, below a first line that says `outcome` of the file.
    pub(crate) fn text(&self, outcome: &str) -> String {
        let cached = if self.from_cache { ", found in the cache" } else { "" };
        let rows = [
            ("kind", self.kind.to_owned()),
            ("bytes", self.bytes.to_string()),
            ("sha256", self.sha256.clone()),
            ("version", self.version.clone()),
            ("offers", self.entries.join(", ")),
            ("compiled", format!("in {}{cached}", milliseconds(self.compile_us))),
        ];
        let mut text = format!("{}: {outcome}\n", Escaped(&self.file));
        for (name, value) in rows {
            text.push_str(&format!("{name:9} {}\n", Escaped(&value)));
        }
        let mut name = "reaches";
        for reached in self.reaches() {
            text.push_str(&format!("{name:9} {}\n", Escaped(&reached)));
            name = "";
        }
        text
    }

    /// It on one line.
    pub(crate) fn line(&self) -> String {
        let Self { file, kind, bytes, version, entries, .. } = self;
        let mut line = format!("{kind}, {bytes} bytes, version {version}, {}", milliseconds(self.compile_us));
        if self.from_cache {
            line.push_str(" from the cache");
        }
        line.push_str(&format!("; offers {}", entries.join(", ")));
        if self.kind == "component" {
            let names: Vec<_> = self.imports.iter().map(|name| interface(name)).collect();
            line.push_str(&format!("; reaches {}", names.join(", ")));
        }
        format!("{}: {}", Escaped(file), Escaped(&line))
    }

    /// What it can reach, a line for each.
    fn reaches(&self) -> Vec<String> {
        match self.kind {
            "component" if self.imports.is_empty() => vec!["nothing: it imports nothing".to_owned()],
            "component" => self
                .imports
                .iter()
                .map(|name| format!("{:9} {}", interface(name), in_words(interface(name))))
                .collect(),
            // A text imports nothing that would show.
            _ => vec![
                "all that handlers have; the bytes of secrets only where the document says \
                 `reveal = [\"NAME\"]`"
                    .to_owned(),
            ],
        }
    }
}

/// `http` of `sluicegate:policy/http@0.1.0`.
fn interface(import: &str) -> &str {
    let name = import.rsplit_once('/').map_or(import, |(_, name)| name);
    name.split_once('@').map_or(name, |(name, _)| name)
}

/// What an interface of `policy.wit` is good for.
fn in_words(interface: &str) -> &'static str {
    match interface {
        "http" => "requests and responses: see, change, send (fetch), answer (respond)",
        "context" => "who asks, the parameters, the constants of [env]",
        "secrets" => "secrets, to be used and not read",
        "reveal" => "THE BYTES OF SECRETS: needs `reveal = [\"NAME\"]` in the document",
        "connection" => "what is known of a connection, before there is a request",
        "websocket" => "a message of a WebSocket that it has let through",
        "kv" => "values by key",
        "objects" => "streams by key",
        "approval" => "asking a person",
        "log" => "the log",
        "clock" => "time, and waiting",
        "random" => "random bytes",
        "digest" => "SHA-256",
        _ => "not known to this version",
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn milliseconds(microseconds: u128) -> String {
    format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100)
}

/// Says why a file is no handler, and gives the exit code for it.
///
/// # Errors
/// It cannot be printed.
pub(crate) fn refused(
    file: &str,
    content: &[u8],
    problem: &ScriptProblem,
    as_json: bool,
) -> Result<u8, CommandError> {
    // What is no text has no place in it.
    let is_text = ProgramKind::of_file(file) != Some(ProgramKind::Component);
    let text = if is_text { String::from_utf8_lossy(content) } else { "".into() };
    let start = text.floor_char_boundary(problem.at.start.min(text.len()));
    let end = text.floor_char_boundary(problem.at.end.min(text.len())).max(start);
    if as_json {
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        let problems = json!([{ "severity": "error", "message": problem.message, "file": file,
            "line": line, "column": column, "help": problem.help }]);
        print_json(&json!({ "ok": false, "file": file, "problems": problems }))?;
        return Ok(exit::CONFIGURATION);
    }
    let mut message = MietteDiagnostic::new(problem.message.clone());
    message.help.clone_from(&problem.help);
    if is_text {
        message.labels = Some(vec![LabeledSpan::new_primary_with_span(None, start..end)]);
    } else {
        message.message = format!("{}: {}", Escaped(file), problem.message);
    }
    let report = miette::Report::new(message).with_source_code(NamedSource::new(file, text.into_owned()));
    let mut picture = String::new();
    if GraphicalReportHandler::new().render_report(&mut picture, report.as_ref()).is_err() {
        picture = format!("sluicegate: {}: {}\n", Escaped(file), Escaped(&problem.message));
    }
    drop(io::stderr().write_all(picture.as_bytes()));
    Ok(exit::CONFIGURATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: &'static str, imports: &[&str]) -> ProgramReport {
        ProgramReport {
            file: "h.wasm".into(),
            kind,
            bytes: 2048,
            sha256: "ab".repeat(32),
            version: "abababababab".into(),
            entries: vec!["outbound".into(), "byHost:\u{1b}[2J".into()],
            imports: imports.iter().map(|import| (*import).to_owned()).collect(),
            needs_reveal: false,
            compile_us: 31_960,
            from_cache: true,
        }
    }

    #[test]
    fn a_component_is_told_by_what_it_imports() {
        let report = report("component", &["sluicegate:policy/http@0.1.0", "sluicegate:policy/reveal@0.1.0"]);
        let expected = "\
h.wasm: ok
kind      component
bytes     2048
sha256    abababababababababababababababababababababababababababababababab
version   abababababab
offers    outbound, byHost:\\u{1b}[2J
compiled  in 31.9 ms, found in the cache
reaches   http      requests and responses: see, change, send (fetch), answer (respond)
          reveal    THE BYTES OF SECRETS: needs `reveal = [\"NAME\"]` in the document
";
        assert_eq!(report.text("ok"), expected);
        let line = "h.wasm: component, 2048 bytes, version abababababab, 31.9 ms from the cache; offers outbound, \
                    byHost:\\u{1b}[2J; reaches http, reveal";
        assert_eq!(report.line(), line);
    }

    #[test]
    fn a_text_is_not_told_by_what_its_engine_imports() {
        let report = report("javascript", &["sluicegate:policy/reveal@0.1.0"]);
        assert!(report.text("ok").ends_with("only where the document says `reveal = [\"NAME\"]`\n"));
        assert!(!report.line().contains("reaches"));
        let nothing = ProgramReport { imports: Vec::new(), ..self::report("component", &[]) };
        assert!(nothing.text("ok").ends_with("reaches   nothing: it imports nothing\n"));
    }

    #[test]
    fn every_interface_of_the_worlds_has_words() {
        let wit = include_str!("../../../policy-plugins/wit/policy.wit");
        let interfaces: Vec<_> =
            wit.lines().filter_map(|line| line.strip_prefix("interface ")?.strip_suffix(" {")).collect();
        assert!(interfaces.len() >= 11, "{interfaces:?}");
        for name in interfaces {
            assert_eq!(interface(&format!("sluicegate:policy/{name}@0.1.0")), name);
            assert_ne!(in_words(name), in_words("unheard-of"), "{name}");
        }
    }

    #[test]
    fn a_script_is_a_handler_file_too() {
        let programs = Programs::new(None);
        let form = HandlerFile::of(Path::new("a/h.rhai")).unwrap();
        let text = b"fn outbound(request, env, ctx) { reply(200) }";
        let report = ProgramReport::load(&programs, "a/h.rhai", form, text).unwrap();
        assert_eq!((report.kind, report.bytes, report.version.len()), ("script", text.len(), 12));
        assert_eq!(report.answer()["ok"], true);
        let problem = ProgramReport::load(&programs, "a/h.rhai", form, b"fn outbound(").unwrap_err();
        assert_eq!(refused("a/h.rhai", b"fn outbound(", &problem, false).unwrap(), exit::CONFIGURATION);
        assert_eq!(HandlerFile::of(Path::new("policy.toml")), None);
    }
}
