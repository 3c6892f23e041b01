//! What is wrong with a document, where, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;
use thiserror::Error;

/// A document that is no policy. Reports every problem that could be found.
#[derive(Clone, Debug)]
pub struct PolicyError {
    file_name: Box<str>,
    problems: Vec<Problem>,
}

/// One thing that is wrong with a document, or probably not meant.
///
/// As a [`Diagnostic`] it shows the place with a caret; serialised it is
/// `{severity, message, file, line, column, help}`.
#[derive(Clone, Debug, Error, Serialize)]
#[error("{message}")]
pub struct Problem {
    /// Whether the document is refused for it.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The file: the document's name as compiled, or a handler's path as the document writes it.
    pub file: Box<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What to write instead.
    pub help: Option<String>,
    #[serde(skip)]
    labels: Vec<LabeledSpan>,
    #[serde(skip)]
    document: Arc<NamedSource<String>>,
}

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is accepted and probably means something else.
    Warning,
}

impl PolicyError {
    /// Every problem, in the order of the document.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The problem that stands for the whole error when it is the only one.
    fn only(&self) -> Option<&Problem> {
        match self.problems.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.only() {
            Some(only) => only.fmt(formatter),
            None => write!(formatter, "{} has {} problems", self.file_name, self.problems.len()),
        }
    }
}

impl std::error::Error for PolicyError {}

impl Diagnostic for PolicyError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.only().and_then(Diagnostic::help)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.only().and_then(Diagnostic::source_code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.only().and_then(Diagnostic::labels)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let related = self.problems.iter().map(|problem| problem as &dyn Diagnostic);
        if self.only().is_some() { None } else { Some(Box::new(related)) }
    }
}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.document)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// Collects what is found wrong while a document is compiled.
pub(crate) struct Findings<'text> {
    file_name: &'text str,
    text: &'text str,
    found: Vec<Finding>,
    /// Stretches that messages must not show.
    hidden: Vec<Range<usize>>,
    /// Problems of other files, which come last.
    elsewhere: Vec<Problem>,
}

/// A problem before its place is counted out.
pub(crate) struct Finding {
    severity: Severity,
    message: String,
    at: Range<usize>,
    label: Option<String>,
    also: Option<(Range<usize>, String)>,
    help: Option<String>,
}

impl Finding {
    /// The words beside the caret.
    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// A second place, with words beside it.
    pub(crate) fn also(&mut self, at: Range<usize>, label: impl Into<String>) -> &mut Self {
        self.also = Some((at, label.into()));
        self
    }

    /// What to write instead.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}

impl<'text> Findings<'text> {
    pub(crate) fn new(file_name: &'text str, text: &'text str) -> Self {
        Self { file_name, text, found: Vec::new(), hidden: Vec::new(), elsewhere: Vec::new() }
    }

    pub(crate) fn file_name(&self) -> &'text str {
        self.file_name
    }

    /// The document.
    pub(crate) fn text(&self) -> &'text str {
        self.text
    }

    pub(crate) fn error(&mut self, at: Range<usize>, message: impl Into<String>) -> &mut Finding {
        self.find(Severity::Error, at, message.into())
    }

    pub(crate) fn warning(&mut self, at: Range<usize>, message: impl Into<String>) -> &mut Finding {
        self.find(Severity::Warning, at, message.into())
    }

    /// The stretch without the lines after its first, for a caret that points.
    pub(crate) fn first_line_of(&self, at: Range<usize>) -> Range<usize> {
        let line = self.text.get(at.clone()).and_then(|text| text.lines().next()).unwrap_or_default();
        at.start..at.start + line.len()
    }

    /// The line of a byte offset, from 1, for many offsets.
    pub(crate) fn lines(&self) -> Lines {
        Lines(self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// An error in another file that the document names; `at` is in bytes of its text.
    pub(crate) fn error_elsewhere(
        &mut self,
        file: &str,
        text: &str,
        at: Range<usize>,
        (message, help): (String, Option<String>),
    ) {
        let start = text.floor_char_boundary(at.start.min(text.len()));
        let end = text.floor_char_boundary(at.end.min(text.len())).max(start);
        let finding =
            Finding { severity: Severity::Error, message, at: start..end, label: None, also: None, help };
        let source = Arc::new(NamedSource::new(file, text.to_owned()));
        self.elsewhere.push(finding.place(file, text, &source));
    }

    /// Keeps a value out of what is shown of the document: it may be a secret written in the
    /// wrong place.
    pub(crate) fn hide(&mut self, at: Range<usize>) {
        self.hidden.push(at);
    }

    /// The warnings, or the error with everything that was found wrong.
    pub(crate) fn finish(self) -> Result<Vec<Problem>, PolicyError> {
        let document = Arc::new(NamedSource::new(self.file_name, self.shown()));
        let refused = !self.elsewhere.is_empty()
            || self.found.iter().any(|finding| finding.severity == Severity::Error);
        let mut found = self.found;
        found.sort_by_key(|finding| finding.at.start);
        let problems: Vec<Problem> = found
            .into_iter()
            .filter(|finding| !refused || finding.severity == Severity::Error)
            .map(|finding| finding.place(self.file_name, self.text, &document))
            .chain(self.elsewhere)
            .collect();
        if refused { Err(PolicyError { file_name: self.file_name.into(), problems }) } else { Ok(problems) }
    }

    fn find(&mut self, severity: Severity, at: Range<usize>, message: String) -> &mut Finding {
        let finding = Finding { severity, message, at, label: None, also: None, help: None };
        self.found.push_mut(finding)
    }

    /// The document, with hidden stretches starred out byte by byte so that places stay.
    fn shown(&self) -> String {
        let mut bytes = self.text.as_bytes().to_vec();
        for at in &self.hidden {
            let stretch = bytes.get_mut(at.clone()).unwrap_or_default();
            stretch.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b'*');
        }
        String::from_utf8(bytes).unwrap_or_default()
    }
}

impl Finding {
    fn place(self, file: &str, text: &str, document: &Arc<NamedSource<String>>) -> Problem {
        let (line, column) = line_and_column(text, self.at.start);
        let mut labels = vec![LabeledSpan::new_primary_with_span(self.label, self.at)];
        labels.extend(self.also.map(|(at, label)| LabeledSpan::new_with_span(Some(label), at)));
        Problem {
            severity: self.severity,
            message: self.message,
            file: file.into(),
            line,
            column,
            help: self.help,
            labels,
            document: Arc::clone(document),
        }
    }
}

/// Where the lines of a text end.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    /// The line of a byte offset, from 1.
    pub(crate) fn of(&self, at: &Range<usize>) -> usize {
        self.0.partition_point(|end| *end < at.start) + 1
    }
}

/// The nearest of the known words, if one is near enough to be meant.
pub(crate) fn nearest<'known>(
    word: &str,
    known: impl IntoIterator<Item = &'known str>,
) -> Option<&'known str> {
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|&(distance, known)| {
            (distance <= 3 && distance < known.len()) || strsim::jaro_winkler(word, known) > 0.8
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

/// Line and column of a byte offset, both from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["allowed_hosts", "denied_hosts", "internet", "rules", "dns"];
        let table = [
            ("alowed_hosts", Some("allowed_hosts")),
            ("allow_hosts", Some("allowed_hosts")),
            ("rule", Some("rules")),
            ("enableInternet", None),
            ("outbound", None),
            ("x", None),
        ];
        for (word, expected) in table {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a\nüb\n";
        let table =
            [(0, (1, 1)), (1, (1, 2)), (2, (2, 1)), (4, (2, 2)), (5, (2, 3)), (6, (3, 1)), (99, (3, 1))];
        for (offset, place) in table {
            assert_eq!(line_and_column(text, offset), place, "{offset}");
        }
    }

    #[test]
    fn many_places_are_counted_alike() {
        let text = "a\nüb\n\nc";
        let lines = Findings::new("a.toml", text).lines();
        for offset in (0..=text.len()).filter(|offset| text.is_char_boundary(*offset)) {
            assert_eq!(lines.of(&(offset..offset)), line_and_column(text, offset).0, "{offset}");
        }
    }

    #[test]
    fn a_problem_of_another_file_stays_within_it() {
        let mut findings = Findings::new("a.toml", "outbound = 'h.rhai'\n");
        findings.error_elsewhere("h.rhai", "fn ü(\n", 4..99, (String::from("bad"), None));
        let error = findings.finish().unwrap_err();
        let problem = &error.problems()[0];
        assert_eq!((&*problem.file, problem.line, problem.column), ("h.rhai", 1, 4));
        assert_eq!(problem.labels[0].offset() + problem.labels[0].len(), "fn ü(\n".len());
    }

    #[test]
    fn hidden_stretches_are_not_shown_and_keep_their_length() {
        let mut findings = Findings::new("a.toml", "key = 'ab\ncd'\n");
        findings.hide(6..13);
        findings.hide(90..99);
        assert_eq!(findings.shown(), "key = ***\n***\n");
    }

    #[test]
    fn a_problem_is_serialised_without_its_source() {
        let mut findings = Findings::new("a.toml", "a = 1\nb = 2\n");
        findings.error(6..7, "bad").help("write c");
        findings.warning(0..1, "odd");
        let error = findings.finish().unwrap_err();
        let problems = serde_json::to_value(error.problems()).unwrap();
        let expected = serde_json::json!([{"severity": "error", "message": "bad", "file": "a.toml", "line": 2, "column": 1, "help": "write c"}]);
        assert_eq!(problems, expected);
    }
}
