//! The whole policy in force, line by line, each with where it comes from.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Mode, Policy, Transport};
use crate::handler::{BindingKind, BoundHandler, Entry, HandlerAction};
use crate::lists::HostList;
use crate::rule::{Effect, Rule};

/// Where something in force comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The document.
    Document {
        /// Its name, as compiled.
        file: Box<str>,
        /// The line, from 1.
        line: usize,
    },
    /// A change at run time.
    Runtime,
    /// Nobody said so.
    Default,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// The generation.
    pub generation: String,
    /// What it says.
    pub entries: Vec<EffectiveEntry>,
}

/// One thing that the policy in force says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EffectiveEntry {
    /// What it is about, such as `allowed_hosts` or `rules.read`.
    pub key: String,
    /// What it says, in the document's words; never a secret's value.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

impl Policy {
    /// The whole policy in force, each line with where it comes from.
    #[must_use]
    pub fn effective(&self) -> Effective {
        let mut entries = Entries { policy: self, entries: Vec::new() };
        entries.switches();
        entries.list("denied_hosts", Some(&self.denied), &self.written.places.denied);
        entries.list("allowed_hosts", self.allowed.as_ref(), &self.written.places.allowed);
        for entry in self.passing.in_order() {
            entries.push("allowed_hosts", entry.pattern.to_string(), Source::Runtime);
        }
        entries.flows(Transport::Tcp);
        entries.flows(Transport::Udp);
        entries.rules();
        entries.handlers();
        entries.secrets();
        entries.bindings();
        entries.limits();
        Effective { generation: self.generation.to_string(), entries: entries.entries }
    }

    /// Where it is said that there is a list of allowed hosts.
    pub(super) fn source_of_allowed_hosts(&self) -> Source {
        let replaced = self.allowed.as_ref().is_some_and(|allowed| allowed.replacement().is_some());
        if replaced { Source::Runtime } else { self.written.places.of("allowed_hosts") }
    }
}

struct Entries<'policy> {
    policy: &'policy Policy,
    entries: Vec<EffectiveEntry>,
}

impl Entries<'_> {
    fn push(&mut self, key: impl Into<String>, value: impl Into<String>, source: Source) {
        self.entries.push(EffectiveEntry { key: key.into(), value: value.into(), source });
    }

    /// A key that stands in the document once, or has its default.
    fn written(&mut self, key: &str, value: impl Into<String>) {
        self.push(key, value, self.policy.written.places.of(key));
    }

    fn switches(&mut self) {
        self.written("internet", self.policy.written.internet.to_string());
        self.written("mode", self.policy.written.mode.as_str());
    }

    fn list(&mut self, key: &str, list: Option<&HostList>, lines: &[usize]) {
        let Some(list) = list else { return };
        let listed = list.all();
        if listed.is_empty() && key == "allowed_hosts" {
            self.push(key, "nothing", self.policy.source_of_allowed_hosts());
        }
        for listed in listed {
            let source = self.policy.written.places.entry(lines, listed.position);
            self.push(key, listed.pattern.to_string(), source);
        }
    }

    fn flows(&mut self, transport: Transport) {
        let written = &self.policy.written;
        for entry in written.flows.of(transport).in_order() {
            let source = written.places.entry(written.places.flows(transport), Some(entry.owner));
            self.push(transport.key(), entry.pattern.to_string(), source);
        }
    }

    fn rules(&mut self) {
        let written = &self.policy.written;
        let mut hosts: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for entry in written.rule_hosts.in_order() {
            hosts.entry(entry.owner).or_default().push(entry.pattern.as_str());
        }
        for (position, rule) in written.rules.iter().enumerate() {
            let hosts = hosts.remove(&position).unwrap_or_default().join(", ");
            let source = written.places.entry(&written.places.rules, Some(position));
            self.push(format!("rules.{}", rule.name), in_one_line(rule, &hosts), source);
        }
    }

    fn handlers(&mut self) {
        let Policy { written, runtime, .. } = self.policy;
        for route in runtime.all() {
            let key = format!("outbound_by_host.{}", route.pattern);
            self.push(key, shown(route.handler), Source::Runtime);
        }
        for route in written.outbound.all() {
            let key = format!("outbound_by_host.{}", route.pattern);
            // Those after the document's own came with the program of `outbound`.
            let source = match written.places.by_host.get(route.position) {
                Some(_) => written.places.entry(&written.places.by_host, Some(route.position)),
                None => written.places.of("outbound"),
            };
            self.push(key, shown(route.handler), source);
        }
        if let Some(handler) = &runtime.catch_all {
            self.push("outbound", shown(handler), Source::Runtime);
        } else if let Some(handler) = &written.outbound.catch_all {
            self.written("outbound", shown(handler));
        }
        if let Some(handler) = &written.on_connect {
            let source = match written.places.of("on_connect") {
                // It came with the program of `outbound`.
                Source::Default => written.places.of("outbound"),
                source => source,
            };
            self.push("on_connect", shown(handler), source);
        }
        for (name, handler) in &written.handlers {
            let key = format!("outbound_handlers.{name}");
            let source = match written.places.of(&key) {
                Source::Default => written.places.of("outbound"),
                source => source,
            };
            self.push(key, shown(handler), source);
        }
    }

    fn secrets(&mut self) {
        for secret in &self.policy.written.secrets {
            let hosts: Vec<&str> = secret.hosts.iter().map(|host| host.as_str()).collect();
            let value = format!("{} for {}", secret.source, hosts.join(", "));
            self.written(&format!("secrets.{}", secret.name), value);
        }
    }

    fn bindings(&mut self) {
        for binding in &self.policy.written.bindings {
            let kind = match binding.kind {
                BindingKind::Kv => "kv",
                BindingKind::Objects => "objects",
            };
            let prefix =
                binding.prefix.as_ref().map(|prefix| format!(", prefix \"{prefix}\"")).unwrap_or_default();
            let value = format!("{kind} at {}{prefix}", binding.url);
            self.written(&format!("bindings.{}", binding.name), value);
        }
    }

    fn limits(&mut self) {
        let limits = &self.policy.written.environment.limits;
        let (script, program) = (limits.cpu.as_millis(), limits.program_cpu.as_millis());
        let cpu = if script == program {
            script.to_string()
        } else {
            format!("{script} for scripts, {program} for programs")
        };
        let table = [
            ("operations", limits.operations.to_string()),
            ("call_depth", limits.call_depth.to_string()),
            ("string_bytes", limits.string_bytes.to_string()),
            ("items", limits.items.to_string()),
            ("effects", limits.effects.to_string()),
            ("body_bytes", limits.body_bytes.to_string()),
            ("log_lines", limits.log_lines.to_string()),
            ("memory_mib", (limits.memory >> 20).to_string()),
            ("cpu_ms", cpu),
            ("wall_ms", limits.wall.as_millis().to_string()),
        ];
        for (key, value) in table {
            self.written(&format!("handler_limits.{key}"), value);
        }
    }
}

impl Mode {
    /// The mode as the document writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// `allow GET, HEAD on /v1/** of api.test, put on secrets TOKEN, ask "really?"`.
fn in_one_line(rule: &Rule, hosts: &str) -> String {
    let effect = match &rule.effect {
        Effect::Allow(_) => String::from("allow"),
        Effect::Deny(_) => String::from("deny"),
        Effect::Respond(answer) => format!("answer {} to", answer.status.as_u16()),
        Effect::Splice => String::from("pass on unopened TLS to"),
    };
    let what =
        if rule.is_unconditional() { String::new() } else { format!(" {} of", rule.what_it_matches()) };
    let mut text = format!("{effect}{what} {hosts}");
    if let Effect::Allow(allowance) = &rule.effect {
        let secrets: Vec<&str> = allowance.edits.secrets().map(|name| name.as_str()).collect();
        if !secrets.is_empty() {
            text.push_str(&format!(", put on secrets {}", secrets.join(", ")));
        } else if !allowance.edits.is_empty() {
            text.push_str(", with changes");
        }
        if let Some(ask) = &allowance.ask {
            text.push_str(&format!(", ask \"{}\"", ask.reason));
        }
        if let Some(handler) = &allowance.handler {
            text.push_str(&format!(", handler {}", shown(handler)));
        }
    }
    if rule.mode == Mode::Audit {
        text.push_str(" (audit)");
    }
    text
}

/// `allow_hosts (handlers/allow_hosts.rhai, version 0123456789ab, params {"a":1})`.
fn shown(handler: &BoundHandler) -> String {
    let (file, version) = match (&handler.action, handler.action.file_and_version()) {
        (HandlerAction::Deny(why), _) => return format!("{}: deny \"{why}\"", handler.name),
        (_, code) => code.unwrap_or_default(),
    };
    let entry = match &handler.action {
        HandlerAction::Program(program) if program.entry != Entry::Outbound => {
            format!("{} of ", program.entry)
        }
        _ => String::new(),
    };
    let params = match handler.params.as_object() {
        Some(params) if !params.is_empty() => format!(", params {}", handler.params),
        _ => String::new(),
    };
    let messages = if handler.action.judges_messages() { ", asked about messages" } else { "" };
    format!("{} ({entry}{file}, version {version}{messages}{params})", handler.name)
}

#[cfg(test)]
mod tests;
