//! The reference of the host API, made from what is registered.

use super::{HandlerLimits, engine};

/// The whole host API in Markdown: a section for each kind of value, a line for each function, with
/// an example where one helps.
#[must_use]
pub fn handler_reference() -> String {
    let (_, entries) = engine::build(&HandlerLimits::default());
    let mut text = String::new();
    for entry in entries {
        if entry.signature.is_empty() {
            text.push_str(&format!("\n### {}\n\n", entry.says));
            continue;
        }
        text.push_str(&format!("- `{}`: {}.\n", entry.signature, entry.says));
        if !entry.example.is_empty() {
            text.push_str(&format!("  `{}`\n", entry.example));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Script;

    #[test]
    fn every_example_compiles() {
        let limits = HandlerLimits::default();
        let (_, entries) = engine::build(&limits);
        let examples: Vec<_> = entries.iter().filter(|entry| !entry.example.is_empty()).collect();
        assert!(examples.len() > 30, "{}", examples.len());
        for entry in examples {
            let written = match entry.signature.split_once('.') {
                Some(("flow", _)) => "on_connect(flow, env, ctx)",
                Some(("message", _)) => "on_message(message, env, ctx)",
                _ => "outbound(request, env, ctx)",
            };
            let outbound = "fn outbound(request, env, ctx) { fetch(request) }";
            let rest = if written.starts_with("on_message") { outbound } else { "" };
            let script = format!("fn {written} {{ {} }} {rest}", entry.example);
            Script::compile("example.rhai", script.as_bytes(), &limits)
                .unwrap_or_else(|problem| panic!("{}: {problem:?}", entry.signature));
        }
    }

    #[test]
    fn every_entry_is_a_sentence_without_its_full_stop() {
        let (_, entries) = engine::build(&HandlerLimits::default());
        for entry in entries {
            assert!(!entry.says.is_empty() && !entry.says.ends_with('.'), "{}", entry.signature);
        }
    }

    #[test]
    fn the_reference_names_each_kind_of_function() {
        let text = handler_reference();
        for part in ["### The request", "`fetch(request)`", "`env.kv.get(key)`", "`ctx.params`", "`uuid()`"] {
            assert!(text.contains(part), "{part}");
        }
    }
}
