//! Notes where in the document everything stands.

use std::collections::HashMap;

use toml::Spanned;

use crate::document::{Document, HandlerLimitsEntry};
use crate::error::{Findings, Lines};
use crate::policy::Places;

pub(super) fn find(document: &Document, findings: &Findings<'_>) -> Places {
    let lines = findings.lines();
    let of_all = |list: &[Spanned<String>]| list.iter().map(|text| lines.of(&text.span())).collect();
    Places {
        file: findings.file_name().into(),
        keys: keys(document, &lines),
        denied: of_all(&document.denied_hosts),
        allowed: document.allowed_hosts.as_ref().map(|list| of_all(list.get_ref())).unwrap_or_default(),
        tcp: of_all(&document.tcp),
        udp: of_all(&document.udp),
        rules: document.rules.iter().map(|rule| lines.of(&rule.span())).collect(),
        by_host: document.outbound_by_host.keys().map(|pattern| lines.of(&pattern.span())).collect(),
    }
}

fn keys(document: &Document, lines: &Lines) -> HashMap<Box<str>, usize> {
    let single = [
        ("internet", document.internet.as_ref().map(Spanned::span)),
        ("mode", document.mode.as_ref().map(Spanned::span)),
        ("allowed_hosts", document.allowed_hosts.as_ref().map(Spanned::span)),
        ("outbound", document.outbound.as_ref().map(Spanned::span)),
        ("on_connect", document.on_connect.as_ref().map(Spanned::span)),
    ];
    let single = single.into_iter().filter_map(|(key, at)| Some((String::from(key), at?)));
    let named =
        |table: &'static str, name: &Spanned<String>| (format!("{table}.{}", name.get_ref()), name.span());
    let secrets = document.secrets.keys().map(|name| named("secrets", name));
    let bindings = document.bindings.keys().map(|name| named("bindings", name));
    let handlers = document.outbound_handlers.keys().map(|name| named("outbound_handlers", name));
    let constants = document.env.keys().map(|name| named("env", name));
    let limits = limits(&document.handler_limits)
        .into_iter()
        .filter_map(|(key, written)| Some((format!("handler_limits.{key}"), written?.span())));
    single
        .chain(secrets)
        .chain(bindings)
        .chain(handlers)
        .chain(constants)
        .chain(limits)
        .map(|(key, at)| (key.into(), lines.of(&at)))
        .collect()
}

fn limits(entry: &HandlerLimitsEntry) -> [(&'static str, Option<&Spanned<u64>>); 10] {
    [
        ("operations", entry.operations.as_ref()),
        ("call_depth", entry.call_depth.as_ref()),
        ("string_bytes", entry.string_bytes.as_ref()),
        ("items", entry.items.as_ref()),
        ("effects", entry.effects.as_ref()),
        ("body_bytes", entry.body_bytes.as_ref()),
        ("log_lines", entry.log_lines.as_ref()),
        ("memory_mib", entry.memory_mib.as_ref()),
        ("cpu_ms", entry.cpu_ms.as_ref()),
        ("wall_ms", entry.wall_ms.as_ref()),
    ]
}
