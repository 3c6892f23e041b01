//! Compiles `outbound`, `outbound_by_host`, `outbound_handlers`, `on_connect` and the files that they name.

mod connect;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use self::connect::{connections_only, no_on_connect, offers};
use super::files::{Code, Files};
use super::secrets::Secrets;
use super::{json, pattern};
use crate::document::{Document, HandlerEntry};
use crate::error::{Findings, nearest};
use crate::handler::{BoundHandler, Entry, Exports, HandlerAction, HandlerLimits, Program, ProgramKind};
use crate::outbound::Routes;
use crate::pattern::{HostPattern, ListedIn};
use crate::secret::SecretName;
use crate::sources::Sources;

/// The longest name of a handler, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What handlers are made of.
pub(super) struct Materials<'a> {
    pub(super) sources: &'a dyn Sources,
    pub(super) secrets: &'a Secrets,
    pub(super) limits: &'a HandlerLimits,
}

/// The handlers that compiled.
pub(super) struct Handlers<'a> {
    secrets: &'a Secrets,
    /// `outbound_handlers`; `None` where an entry has problems, which have been reported.
    named: BTreeMap<Box<str>, Option<Arc<BoundHandler>>>,
    files: Files<'a>,
    /// The program of `outbound`, whose hosts and named handlers are bound with it.
    brought: Option<Brought>,
}

/// A program with all that it offers.
struct Brought {
    program: Arc<Program>,
    exports: Arc<Exports>,
    /// Its handlers, but for the entry.
    bound: BoundHandler,
}

/// Where a handler is bound, which says what of a program is meant.
#[derive(Clone, Copy)]
enum Place<'name> {
    /// For requests: its `outbound`.
    Requests,
    /// Under a name of `outbound_handlers`: its handler of that name, or its `outbound`.
    Name(&'name str),
    /// Under `on_connect`: its function for connections.
    Connections,
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
        let files = Files::new(materials.sources, materials.limits);
        let mut handlers = Self { secrets: materials.secrets, named: BTreeMap::new(), files, brought: None };
        for (name, entry) in &document.outbound_handlers {
            if !is_name(name.get_ref()) {
                findings
                    .error(name.span(), format!("bad name `{}` of a handler", name.get_ref().escape_debug()))
                    .help(format!("use letters, digits, `_` and `-`, {NAME_BYTES_MAX} at most"));
            }
            let bound = handlers.named_entry(name.get_ref(), entry, findings);
            handlers.named.insert(name.get_ref().as_str().into(), bound);
        }
        if let Some(entry) = &document.outbound {
            handlers.brought = handlers.bring(entry, findings);
            handlers.name_all(entry, findings);
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
        if let Some(entry) = &document.outbound {
            self.outbound(entry, (&mut patterns, &mut routes), findings);
        }
        ByHost { patterns, routes }
    }

    /// Binds `outbound`, and the hosts that a program brings along.
    fn outbound(
        &mut self,
        entry: &Spanned<HandlerEntry>,
        (patterns, routes): (&mut Vec<Spanned<HostPattern>>, &mut Routes),
        findings: &mut Findings<'_>,
    ) {
        if program_file(entry).is_none() {
            routes.catch_all = self.entry(entry, findings);
            return;
        }
        let Some(brought) = &self.brought else { return };
        for offered in &brought.exports.entries {
            let Entry::ByHost(text) = offered else { continue };
            let Some(host) = pattern(entry.span(), text, ListedIn::Rule, findings) else {
                continue;
            };
            if routes.same(host.get_ref()).is_some() {
                let message = format!("`{text}` stands here and in {}", brought.bound.name);
                findings.error(entry.span(), message).help("keep one of the two");
                continue;
            }
            routes.insert(host.get_ref().clone(), brought.handler(offered));
            patterns.push(host);
        }
        if brought.exports.entries.contains(&Entry::Outbound) {
            routes.catch_all = Some(brought.handler(&Entry::Outbound));
        } else if brought.exports.entries == [Entry::Connect] {
            connections_only(&brought.bound.name, &entry.span(), findings);
        }
    }

    /// The program of `outbound`, if it is one.
    fn bring(&mut self, entry: &Spanned<HandlerEntry>, findings: &mut Findings<'_>) -> Option<Brought> {
        let file = program_file(entry)?;
        let wanted = self.wanted(file, entry, findings)?.ok()?;
        let (params, reveal) = self.given(&wanted, findings);
        let Code::Program(program, exports) = self.files.code(file, &wanted.at, findings)? else {
            return None;
        };
        may_reveal(&exports, &wanted, findings);
        let bound = BoundHandler {
            name: file.into(),
            action: action(&program, &Entry::Outbound, &exports),
            params: params.unwrap_or_else(no_params),
            reveal: reveal.unwrap_or_default(),
        };
        Some(Brought { program, exports, bound })
    }

    /// Adds the named handlers that the program of `outbound` brings along.
    fn name_all(&mut self, entry: &Spanned<HandlerEntry>, findings: &mut Findings<'_>) {
        let Some(brought) = &self.brought else { return };
        for offered in &brought.exports.entries {
            let Entry::Named(name) = offered else { continue };
            let file = &brought.bound.name;
            if !is_name(name) {
                let message = format!("bad name `{}` of a handler in {file}", name.escape_debug());
                let help = format!("use letters, digits, `_` and `-`, {NAME_BYTES_MAX} at most");
                findings.error(entry.span(), message).help(help);
            } else if self.named.contains_key(name) {
                let message = format!("`{name}` stands in [outbound_handlers] and in {file}");
                findings.error(entry.span(), message).help("rename one of the two");
            } else {
                self.named.insert(name.clone(), Some(brought.handler(offered)));
            }
        }
    }

    /// The handler that a file or a name stands for.
    pub(super) fn bind(
        &mut self,
        wanted: &Wanted<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Arc<BoundHandler>> {
        if looks_like_file(wanted.handler) {
            return self.bind_file(Place::Requests, wanted, findings);
        }
        let (params, reveal) = self.given(wanted, findings);
        let Some(named) = self.named.get(wanted.handler) else {
            let help = match nearest(wanted.handler, self.named.keys().map(|name| &**name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => String::from(
                    "write a file that ends in .rhai, .js or .wasm, or name it in [outbound_handlers]",
                ),
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

    /// The files that were read.
    pub(super) fn files(&self) -> &Files<'a> {
        &self.files
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
                .help("write a path that ends in .rhai, .js or .wasm, or { deny = \"why\" }");
            return None;
        }
        self.bind_file(Place::Name(name), &wanted, findings)
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
                    params: no_params(),
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

    /// What an entry gives to its handler.
    fn given(&self, wanted: &Wanted<'_>, findings: &mut Findings<'_>) -> (Option<Params>, Option<Reveal>) {
        let params = wanted.params.map(|params| params_of(params, findings));
        (params, wanted.reveal.map(|reveal| self.reveal(reveal, findings)))
    }

    /// A handler of a file.
    fn bind_file(
        &mut self,
        place: Place<'_>,
        wanted: &Wanted<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Arc<BoundHandler>> {
        let (params, reveal) = self.given(wanted, findings);
        let action = match self.files.code(wanted.handler, &wanted.at, findings)? {
            Code::Script(script) => {
                offers(&script, place, wanted, findings)?;
                HandlerAction::Script(script)
            }
            Code::Program(program, exports) => {
                may_reveal(&exports, wanted, findings);
                action(&program, &entry_for(place, &exports, wanted, findings)?, &exports)
            }
        };
        let name = match place {
            Place::Requests | Place::Connections => wanted.handler,
            Place::Name(name) => name,
        };
        Some(Arc::new(BoundHandler {
            name: name.into(),
            action,
            params: params.unwrap_or_else(no_params),
            reveal: reveal.unwrap_or_default(),
        }))
    }

    /// The secrets whose bytes a handler may have.
    fn reveal(&self, names: &Spanned<Vec<Spanned<String>>>, findings: &mut Findings<'_>) -> Reveal {
        names
            .get_ref()
            .iter()
            .filter_map(|name| self.secrets.declared(name.get_ref(), name.span(), findings))
            .collect()
    }
}

impl Brought {
    fn handler(&self, offered: &Entry) -> Arc<BoundHandler> {
        let name = match offered {
            Entry::Named(name) => name,
            Entry::Outbound | Entry::ByHost(_) | Entry::Connect | Entry::Message => &self.bound.name,
        };
        let action = action(&self.program, offered, &self.exports);
        Arc::new(BoundHandler { name: name.clone(), action, ..self.bound.clone() })
    }
}

type Params = Arc<serde_json::Value>;
type Reveal = Arc<[SecretName]>;

fn no_params() -> Params {
    Arc::new(serde_json::Value::Object(serde_json::Map::new()))
}

fn action(program: &Program, entry: &Entry, exports: &Exports) -> HandlerAction {
    HandlerAction::Program(Arc::new(program.with_entry(entry.clone(), exports)))
}

/// The file of an entry that is a program.
fn program_file(entry: &Spanned<HandlerEntry>) -> Option<&str> {
    let text = entry.get_ref().name();
    ProgramKind::of_file(text).map(|_| text)
}

/// Which entry of a program is meant.
fn entry_for(
    place: Place<'_>,
    exports: &Exports,
    wanted: &Wanted<'_>,
    findings: &mut Findings<'_>,
) -> Option<Entry> {
    let named = match place {
        Place::Requests => None,
        Place::Name(name) => Some(Entry::Named(name.into())),
        Place::Connections if exports.entries.contains(&Entry::Connect) => return Some(Entry::Connect),
        Place::Connections => {
            no_on_connect(wanted.handler, &wanted.at, findings);
            return None;
        }
    };
    let found = named
        .filter(|named| exports.entries.contains(named))
        .or_else(|| exports.entries.contains(&Entry::Outbound).then_some(Entry::Outbound));
    if found.is_none() && exports.entries == [Entry::Connect] {
        connections_only(wanted.handler, &wanted.at, findings);
    } else if found.is_none() {
        let offered: Vec<_> = exports.entries.iter().map(ToString::to_string).collect();
        findings
            .error(
                wanted.at.clone(),
                format!("`{}` has no function `outbound`", wanted.handler.escape_debug()),
            )
            .label(format!("it offers: {}", offered.join(", ")))
            .help(format!(
                "write outbound = \"{}\" to use all that it offers, or bind a handler under its own name in \
                 [outbound_handlers]",
                wanted.handler.escape_debug()
            ));
    }
    found
}

/// Reports a program that cannot run without a grant that it was not given.
fn may_reveal(exports: &Exports, wanted: &Wanted<'_>, findings: &mut Findings<'_>) {
    if exports.needs_reveal && wanted.reveal.is_none() {
        let file = wanted.handler.escape_debug();
        findings
            .error(wanted.at.clone(), format!("`{file}` asks for the bytes of secrets: it imports `reveal`"))
            .help(format!(
                "write {{ handler = \"{file}\", reveal = [\"NAME\"] }} to grant it those of some, or build it for \
                 the world `handler`"
            ));
    }
}

/// The parameters as handlers see them.
fn params_of(params: &Spanned<toml::Table>, findings: &mut Findings<'_>) -> Params {
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
