//! Compiles `outbound`, `outbound_by_host`, `outbound_handlers` and the files that they name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use super::secrets::Secrets;
use super::{json, pattern};
use crate::digest::Digest;
use crate::document::{Document, HandlerEntry};
use crate::error::{Findings, nearest};
use crate::handler::{BoundHandler, HandlerAction, HandlerLimits, Script};
use crate::outbound::Routes;
use crate::pattern::{HostPattern, ListedIn};
use crate::secret::SecretName;
use crate::sources::Sources;

/// The most files that one document names, each up to [`Script::BYTES_MAX`].
const SCRIPTS_MAX: usize = 256;
/// The longest name of a handler, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What handlers are made of.
pub(super) struct Materials<'a> {
    pub(super) sources: &'a dyn Sources,
    pub(super) secrets: &'a Secrets,
    pub(super) limits: HandlerLimits,
}

/// The handlers that compiled, and each file that was read for them once.
pub(super) struct Handlers<'a> {
    materials: Materials<'a>,
    /// `outbound_handlers`; `None` where an entry has problems, which have been reported.
    named: BTreeMap<Box<str>, Option<Arc<BoundHandler>>>,
    files: BTreeMap<Box<str>, File>,
}

/// A file that was asked for; without a script it has problems, which have been reported.
struct File {
    digest: Digest,
    script: Option<Arc<Script>>,
}

/// A handler as an entry wants it.
pub(super) struct Wanted<'entry> {
    /// A file or a name.
    pub(super) handler: &'entry str,
    pub(super) at: Range<usize>,
    pub(super) params: Option<&'entry Spanned<toml::Table>>,
    pub(super) reveal: Option<&'entry Spanned<Vec<Spanned<String>>>>,
}

/// The handlers of the document with their patterns, before they are filed.
pub(super) struct ByHost {
    pub(super) patterns: Vec<Spanned<HostPattern>>,
    pub(super) routes: Routes,
}

impl<'a> Handlers<'a> {
    /// Compiles `outbound_handlers`.
    pub(super) fn compile(
        document: &Document,
        materials: Materials<'a>,
        findings: &mut Findings<'_>,
    ) -> Self {
        let mut handlers = Self { materials, named: BTreeMap::new(), files: BTreeMap::new() };
        for (name, entry) in &document.outbound_handlers {
            if !is_name(name.get_ref()) {
                findings
                    .error(name.span(), format!("bad name `{}` of a handler", name.get_ref().escape_debug()))
                    .help(format!("use letters, digits, `_` and `-`, {NAME_BYTES_MAX} at most"));
            }
            let bound = handlers.named_entry(name.get_ref(), entry, findings);
            handlers.named.insert(name.get_ref().as_str().into(), bound);
        }
        handlers
    }

    /// Compiles `outbound` and `outbound_by_host`.
    pub(super) fn routes(&mut self, document: &Document, findings: &mut Findings<'_>) -> ByHost {
        let mut routes = Routes::default();
        let mut patterns: Vec<Spanned<HostPattern>> = Vec::new();
        for (text, entry) in &document.outbound_by_host {
            let bound = self.entry(entry, findings);
            let Some(host) = pattern(text.span(), text.get_ref(), ListedIn::Rule, findings) else {
                continue;
            };
            if routes.same(host.get_ref()).is_some() {
                let other = patterns.iter().find(|other| other.get_ref().is_same_as(host.get_ref()));
                let finding = findings.error(text.span(), format!("`{}` stands here twice", text.get_ref()));
                if let Some(other) = other {
                    finding.also(other.span(), "means the same");
                }
                finding.help("keep one of the two");
                continue;
            }
            if let Some(bound) = bound {
                routes.insert(host.get_ref().clone(), bound);
                patterns.push(host);
            }
        }
        routes.catch_all = document.outbound.as_ref().and_then(|entry| self.entry(entry, findings));
        ByHost { patterns, routes }
    }

    /// The handler that a file or a name stands for.
    pub(super) fn bind(
        &mut self,
        wanted: &Wanted<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Arc<BoundHandler>> {
        if looks_like_file(wanted.handler) {
            return self.bind_file(wanted.handler, wanted, findings);
        }
        let params = wanted.params.map(|params| params_of(params, findings));
        let reveal = wanted.reveal.map(|reveal| self.reveal(reveal, findings));
        let Some(named) = self.named.get(wanted.handler) else {
            let help = match nearest(wanted.handler, self.named.keys().map(|name| &**name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => String::from("write a file that ends in .rhai, or name it in [outbound_handlers]"),
            };
            findings
                .error(wanted.at.clone(), format!("no handler is named `{}`", wanted.handler.escape_debug()))
                .help(help);
            return None;
        };
        let named = named.as_ref()?;
        if params.is_none() && reveal.is_none() {
            return Some(Arc::clone(named));
        }
        if let HandlerAction::Deny(_) = named.action {
            refuses_only(wanted.params, wanted.reveal, findings);
        }
        Some(Arc::new(BoundHandler {
            params: params.unwrap_or_else(|| Arc::clone(&named.params)),
            reveal: reveal.unwrap_or_else(|| Arc::clone(&named.reveal)),
            ..(**named).clone()
        }))
    }

    /// Whether some file was read; such a handler may use any secret.
    pub(super) fn have_scripts(&self) -> bool {
        !self.files.is_empty()
    }

    /// The files that were read, by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &Digest)> {
        self.files.iter().map(|(path, file)| (&**path, &file.digest))
    }

    /// The handlers of `outbound_handlers`.
    pub(super) fn into_named(self) -> BTreeMap<Box<str>, Arc<BoundHandler>> {
        self.named.into_iter().filter_map(|(name, bound)| Some((name, bound?))).collect()
    }

    /// An entry of `outbound_handlers`.
    fn named_entry(
        &mut self,
        name: &str,
        entry: &Spanned<HandlerEntry>,
        findings: &mut Findings<'_>,
    ) -> Option<Arc<BoundHandler>> {
        let wanted = self.wanted(name, entry, findings)?;
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(deny) => return Some(deny),
        };
        if !looks_like_file(wanted.handler) {
            findings
                .error(wanted.at.clone(), format!("`{}` is not the file of a handler", wanted.handler))
                .help("write a path that ends in .rhai, or { deny = \"why\" }");
            return None;
        }
        self.bind_file(name, &wanted, findings)
    }

    /// An entry of `outbound` or `outbound_by_host`.
    fn entry(
        &mut self,
        entry: &Spanned<HandlerEntry>,
        findings: &mut Findings<'_>,
    ) -> Option<Arc<BoundHandler>> {
        match self.wanted("deny", entry, findings)? {
            Ok(wanted) => self.bind(&wanted, findings),
            Err(deny) => Some(deny),
        }
    }

    /// What an entry wants: a handler that is a file or a name, or one that only refuses.
    fn wanted<'entry>(
        &self,
        name: &str,
        entry: &'entry Spanned<HandlerEntry>,
        findings: &mut Findings<'_>,
    ) -> Option<Result<Wanted<'entry>, Arc<BoundHandler>>> {
        let table = match entry.get_ref() {
            HandlerEntry::Name(handler) => {
                return Some(Ok(Wanted { handler, at: entry.span(), params: None, reveal: None }));
            }
            HandlerEntry::Table(table) => table,
        };
        match (&table.handler, &table.deny) {
            (Some(handler), None) => Some(Ok(Wanted {
                handler: handler.get_ref(),
                at: handler.span(),
                params: table.params.as_ref(),
                reveal: table.reveal.as_ref(),
            })),
            (None, Some(deny)) => {
                refuses_only(table.params.as_ref(), table.reveal.as_ref(), findings);
                let why = super::rules::reason(deny, findings);
                Some(Err(Arc::new(BoundHandler {
                    name: name.into(),
                    action: HandlerAction::Deny(why),
                    params: Arc::new(serde_json::Value::Object(serde_json::Map::new())),
                    reveal: Arc::default(),
                })))
            }
            (Some(_), Some(deny)) => {
                findings
                    .error(deny.span(), "`handler` and `deny` exclude each other")
                    .help("keep one of the two");
                None
            }
            (None, None) => {
                findings
                    .error(entry.span(), "the entry names no handler")
                    .help("write { handler = \"handlers/name.rhai\" } or { deny = \"why\" }");
                None
            }
        }
    }

    /// A handler of a file.
    fn bind_file(
        &mut self,
        name: &str,
        wanted: &Wanted<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Arc<BoundHandler>> {
        let params = wanted.params.map(|params| params_of(params, findings));
        let reveal = wanted.reveal.map(|reveal| self.reveal(reveal, findings));
        let script = self.script(wanted.handler, &wanted.at, findings)?;
        Some(Arc::new(BoundHandler {
            name: name.into(),
            action: HandlerAction::Script(script),
            params: params.unwrap_or_else(|| Arc::new(serde_json::Value::Object(serde_json::Map::new()))),
            reveal: reveal.unwrap_or_default(),
        }))
    }

    /// The script of a file, which is read and compiled when it is first named.
    fn script(&mut self, path: &str, at: &Range<usize>, findings: &mut Findings<'_>) -> Option<Arc<Script>> {
        if !is_file(path, at, findings) {
            return None;
        }
        let count = self.files.len();
        let entry = match self.files.entry(path.into()) {
            Entry::Occupied(entry) => return entry.get().script.clone(),
            Entry::Vacant(entry) => entry,
        };
        if count >= SCRIPTS_MAX {
            findings
                .error(at.clone(), format!("the document names more than {SCRIPTS_MAX} files of handlers"))
                .help("use one file in several places, with different `params`");
            return None;
        }
        let text = match self.materials.sources.read(path) {
            Ok(text) => text,
            Err(why) => {
                let shown = path.escape_debug();
                findings
                    .error(at.clone(), format!("handler `{shown}` cannot be read: {why}"))
                    .help("write the path from the document's folder, and check that the file is there");
                entry.insert(File { digest: Digest::of(b""), script: None });
                return None;
            }
        };
        let script = match Script::compile(path, &text, &self.materials.limits) {
            Ok(script) => Some(Arc::new(script)),
            Err(problem) => {
                // What is too long to be compiled is too long to be shown.
                let shown = if text.len() > Script::BYTES_MAX { &[][..] } else { &text };
                let shown = String::from_utf8_lossy(shown);
                findings.error_elsewhere(path, &shown, problem.at, (problem.message, problem.help));
                None
            }
        };
        entry.insert(File { digest: Digest::of(&text), script: script.clone() });
        script
    }

    /// The secrets whose bytes a handler may have.
    fn reveal(
        &self,
        names: &Spanned<Vec<Spanned<String>>>,
        findings: &mut Findings<'_>,
    ) -> Arc<[SecretName]> {
        names
            .get_ref()
            .iter()
            .filter_map(|name| self.materials.secrets.declared(name.get_ref(), name.span(), findings))
            .collect()
    }
}

/// The parameters as handlers see them.
fn params_of(params: &Spanned<toml::Table>, findings: &mut Findings<'_>) -> Arc<serde_json::Value> {
    Arc::new(serde_json::Value::Object(json::table(params.get_ref(), &params.span(), findings)))
}

/// Reports what a handler that only refuses cannot use.
fn refuses_only(
    params: Option<&Spanned<toml::Table>>,
    reveal: Option<&Spanned<Vec<Spanned<String>>>>,
    findings: &mut Findings<'_>,
) {
    let params = params.map(|params| ("params", params.span()));
    let reveal = reveal.map(|reveal| ("reveal", reveal.span()));
    for (key, at) in [params, reveal].into_iter().flatten() {
        findings
            .error(at, format!("`{key}` has no effect beside `deny`"))
            .help(format!("drop `{key}`: a handler that only refuses runs nothing"));
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Names hold neither dots nor slashes.
fn looks_like_file(text: &str) -> bool {
    text.contains(['.', '/'])
}

fn is_file(path: &str, at: &Range<usize>, findings: &mut Findings<'_>) -> bool {
    let kind = path.rsplit(['/', '.']).next().unwrap_or_default();
    let fits = path.ends_with(".rhai") && !path.contains(char::is_control);
    if matches!(kind, "js" | "mjs" | "ts" | "wasm") {
        findings
            .error(at.clone(), format!("handlers in .{kind} are not supported by this version"))
            .help("write the handler in Rhai, in a file that ends in .rhai");
    } else if !fits {
        findings
            .error(at.clone(), format!("`{}` is not the file of a handler", path.escape_debug()))
            .help("write a path that ends in .rhai");
    }
    fits
}
