//! Compiles `on_connect`: which handler is asked about connections.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use super::{Handlers, Place, Wanted, looks_like_file};
use crate::document::{Document, HandlerEntry};
use crate::error::Findings;
use crate::handler::{BoundHandler, Entry, HandlerAction, ProgramKind, Script};
use crate::outbound::Routes;

impl Handlers<'_> {
    /// The handler of `on_connect`. Where the document has no such key, a file of `outbound` that offers
    /// a function for connections is asked; `routes` are those of the document.
    pub(in crate::compile) fn on_connect(
        &mut self,
        document: &Document,
        routes: &Routes,
        findings: &mut Findings<'_>,
    ) -> Option<Arc<BoundHandler>> {
        let Some(entry) = &document.on_connect else {
            return self.brought_along(document.outbound.as_ref()?, routes);
        };
        match self.wanted("on_connect", entry, findings)? {
            Ok(wanted) if looks_like_file(wanted.handler) => {
                self.bind_file(Place::Connections, &wanted, findings)
            }
            Ok(Wanted { handler, at, .. }) => {
                findings
                    .error(at, format!("`{}` is not the file of a handler", handler.escape_debug()))
                    .help("write a path that ends in .rhai, .js or .wasm, or { deny = \"why\" }");
                None
            }
            Err(deny) => Some(deny),
        }
    }

    /// What the file of `outbound` offers for connections.
    fn brought_along(&self, outbound: &Spanned<HandlerEntry>, routes: &Routes) -> Option<Arc<BoundHandler>> {
        if let Some(brought) = &self.brought {
            return brought
                .exports
                .entries
                .contains(&Entry::Connect)
                .then(|| brought.handler(&Entry::Connect));
        }
        let bound = routes.catch_all.as_ref().filter(|_| looks_like_file(outbound.get_ref().name()))?;
        match &bound.action {
            HandlerAction::Script(script) if script.has_on_connect() => Some(Arc::clone(bound)),
            _ => None,
        }
    }
}

/// Reports a script without the function that is wanted of it.
pub(super) fn offers(
    script: &Script,
    place: Place<'_>,
    wanted: &Wanted<'_>,
    findings: &mut Findings<'_>,
) -> Option<()> {
    match place {
        Place::Connections if !script.has_on_connect() => {
            no_on_connect(wanted.handler, &wanted.at, findings);
            None
        }
        Place::Requests | Place::Name(_) if !script.has_outbound() => {
            connections_only(wanted.handler, &wanted.at, findings);
            None
        }
        _ => Some(()),
    }
}

/// Reports a file that has a function for connections alone, and is bound to requests.
pub(super) fn connections_only(file: &str, at: &Range<usize>, findings: &mut Findings<'_>) {
    let file = file.escape_debug();
    findings
        .error(at.clone(), format!("`{file}` has no function `outbound`"))
        .label("it has one for connections")
        .help(format!("write on_connect = \"{file}\" to have it asked about connections"));
}

/// Reports a file that is bound to connections and has no function for them.
pub(super) fn no_on_connect(file: &str, at: &Range<usize>, findings: &mut Findings<'_>) {
    let how = match ProgramKind::of_file(file) {
        None => "write fn on_connect(flow, env, ctx) { \"judge\" } in it",
        Some(ProgramKind::JavaScript) => {
            "write export function onConnect(flow, env, ctx) { return \"judge\"; } in it"
        }
        Some(ProgramKind::Component) => {
            "build it for the world sluicegate:policy/connection-handler of wit/policy.wit"
        }
    };
    let message = format!("`{}` has no function for connections", file.escape_debug());
    findings.error(at.clone(), message).help(how);
}
