//! Handlers in JavaScript: one engine of ours, a component that asks for the text of the handler.

use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use sluicegate_policy::ScriptProblem;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{
    Component, ComponentType, InstancePre, Linker, LinkerInstance, Lower, ResourceType,
};
use wasmtime::{Engine, Error, Result, StoreContextMut};

use crate::bindings::engine::EnginePre;
use crate::engine::Machine;
use crate::host;
use crate::state::State;

/// The interface by which it asks for the handler.
const LOADER: &str = "local:init/module-loader";
/// The interface by which it makes text of bytes, and bytes of text.
const TEXT: &str = "sluicegate:javascript/text@0.1.0";
/// What it calls the handler.
const HANDLER: &str = "./policy.js";
/// What the interfaces begin with that its runtime was built with.
const WASI: &str = "wasi:";
/// The same of the clocks; a version follows.
const WALL_CLOCK: &str = "wasi:clocks/wall-clock@";
const MONOTONIC_CLOCK: &str = "wasi:clocks/monotonic-clock@";
/// The most of a module's name that is shown, in characters.
const SHOWN_MAX: usize = 100;

/// Links the compiled engine.
///
/// # Errors
/// It does not fit the gate; that is a bug.
pub(crate) fn prepare(machine: &Machine, engine: &Component) -> Result<EnginePre<State>> {
    EnginePre::new(link(machine, engine)?)
}

fn link(machine: &Machine, component: &Component) -> Result<InstancePre<State>> {
    let mut linker = Linker::new(&machine.engine);
    host::add_to_linker(&mut linker)?;
    // Each call is checked: text has no imports that would show whether it needs this.
    host::add_reveal(&mut linker)?;
    let mut loader = linker.instance(LOADER)?;
    loader.func_wrap("resolve", |_, (_from, name): (String, String)| Ok((resolve(name),)))?;
    loader.func_wrap("load", |context: StoreContextMut<'_, State>, (name,): (String,)| {
        let text = resolve(name).and_then(|_| text(context.data()));
        Ok((text,))
    })?;
    let mut coder = linker.instance(TEXT)?;
    coder.func_wrap("decode", |_, (bytes, fatal): (Vec<u8>, bool)| Ok((decode(bytes, fatal),)))?;
    coder.func_wrap("encode", |_, (text,): (String,)| Ok((text.into_bytes(),)))?;
    for (name, item) in component.component_type().imports(&machine.engine) {
        if let (true, ComponentItem::ComponentInstance(interface)) = (name.starts_with(WASI), item.ty) {
            define_wasi(&mut linker.instance(name)?, name, &interface, &machine.engine)?;
        }
    }
    linker.instantiate_pre(component)
}

/// Defines an interface that the runtime of the engine was built with. Of all these a handler reaches
/// the clocks; the rest ends it.
fn define_wasi(
    linker: &mut LinkerInstance<'_, State>,
    name: &str,
    interface: &ComponentInstance,
    engine: &Engine,
) -> Result<()> {
    for (function, item) in interface.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(_) if function == "now" && name.starts_with(WALL_CLOCK) => {
                linker.func_wrap(function, |_, (): ()| Ok((wall_clock(),)))?;
            }
            ComponentItem::ComponentFunc(_) if function == "now" && name.starts_with(MONOTONIC_CLOCK) => {
                linker.func_wrap(function, |context: StoreContextMut<'_, State>, (): ()| {
                    Ok((nanoseconds(context.data().began),))
                })?;
            }
            ComponentItem::ComponentFunc(_) => {
                let message = format!("the engine called {name}#{function}, which is not there");
                linker.func_new(function, move |_, _, _, _| Err(Error::msg(message.clone())))?;
            }
            ComponentItem::Resource(_) => {
                linker.resource(function, ResourceType::host::<()>(), |_, _| Ok(()))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn resolve(name: String) -> Result<String, String> {
    if name == HANDLER {
        return Ok(name);
    }
    let shown: String = name.chars().take(SHOWN_MAX).collect();
    Err(format!("a handler is one file: it cannot import \"{}\"", shown.escape_debug()))
}

fn text(state: &State) -> Result<String, String> {
    state.source.as_deref().map(str::to_owned).ok_or_else(|| "there is no handler".to_owned())
}

/// The text that these bytes are; malformed ones are replaced, or with `fatal` make it none.
fn decode(bytes: Vec<u8>, fatal: bool) -> Option<String> {
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(_) if fatal => None,
        Err(error) => Some(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// `datetime` of `wasi:clocks`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

fn wall_clock() -> Datetime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Datetime { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The text of a handler, without what editors of Windows write before it.
///
/// # Errors
/// It is no text, or too long.
pub(crate) fn read(content: &[u8]) -> Result<&str, ScriptProblem> {
    let begins = begins(content);
    let text = content.get(begins..).unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|error| {
        let at = begins + error.valid_up_to();
        let line = 1 + content.iter().take(at).filter(|byte| **byte == b'\n').count();
        ScriptProblem {
            message: format!("line {line} is not UTF-8"),
            at: at..at + 1,
            help: Some("save the file as UTF-8 text".to_owned()),
        }
    })?;
    Ok(text)
}

/// What the engine says of a text that it cannot load: `LINE:COLUMN: message`, or a message alone.
pub(crate) fn problem(content: &[u8], said: &str) -> ScriptProblem {
    let (at, message) = match place_before(said) {
        Some((line, column, message)) => (range(content, line, column), message),
        None => (0..0, said),
    };
    ScriptProblem { message: message.to_owned(), at, help: help(message).map(str::to_owned) }
}

/// A problem of a text that stands in another file: its place goes into the message.
pub(crate) fn elsewhere(problem: ScriptProblem, file: &str, text: &str) -> ScriptProblem {
    let before = text.get(..problem.at.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    let message = if problem.at.is_empty() {
        format!("{file}: {}", problem.message)
    } else {
        format!("{file}:{line}:{column}: {}", problem.message)
    };
    ScriptProblem { message, at: 0..0, help: problem.help }
}

/// What to write instead, for what is met most.
fn help(message: &str) -> Option<&'static str> {
    if message.contains("a handler is one file") {
        return Some("put everything into one file, or bundle it: esbuild --bundle --format=esm");
    }
    if message.contains("only be used inside of a request") {
        return Some("only functions run for a request: move the call into one");
    }
    None
}

fn place_before(said: &str) -> Option<(usize, usize, &str)> {
    let (line, rest) = said.split_once(':')?;
    let (column, message) = rest.split_once(": ")?;
    Some((line.parse().ok()?, column.parse().ok()?, message))
}

/// The place at the end of a message: `message at LINE:COLUMN`, both from 1.
pub(crate) fn place_after(said: &str) -> Option<(&str, usize, usize)> {
    let (message, place) = said.rsplit_once(" at ")?;
    let (line, column) = place.split_once(':')?;
    Some((message, line.parse().ok()?, column.parse().ok()?))
}

/// The word at a place, which counts lines and characters from 1; within the text, wherever it says.
fn range(content: &[u8], line: usize, column: usize) -> Range<usize> {
    let begins = begins(content);
    let text = content.get(begins..).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(before..).unwrap_or_default();
    let rest = rest.split_once('\n').map_or(rest, |(line, _)| line);
    let skipped: usize = rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    let rest = rest.get(skipped..).unwrap_or_default();
    let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
    let length = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
    let start = begins + before + skipped;
    start..start + length
}

fn begins(content: &[u8]) -> usize {
    if content.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_before_a_message_becomes_a_range_of_bytes() {
        let text = "let ü = 1;\nreturn foo$1(;\n".as_bytes();
        let table = [
            ("1:5: bad", 4..6, "bad"),
            ("2:8: unexpected token: ';'", 19..24, "unexpected token: ';'"),
            ("2:99: late", 26..26, "late"),
            ("99:1: later", 27..27, "later"),
            ("TypeError: none", 0..0, "TypeError: none"),
            ("x:1: none", 0..0, "x:1: none"),
        ];
        for (said, at, message) in table {
            let problem = problem(text, said);
            assert_eq!((problem.at, &*problem.message), (at, message), "{said}");
        }
        let with_mark = [&b"\xef\xbb\xbf"[..], text].concat();
        assert_eq!(problem(&with_mark, "1:5: bad").at, 7..9);
    }

    #[test]
    fn a_place_after_a_message_is_taken_off() {
        assert_eq!(
            place_after("TypeError: x is no function at 12:7"),
            Some(("TypeError: x is no function", 12, 7))
        );
        assert_eq!(place_after("Error: look at this"), None);
        assert_eq!(place_after("Error: at 1:x"), None);
    }

    #[test]
    fn text_is_utf_8() {
        assert_eq!(read(b"\xef\xbb\xbfa").unwrap(), "a");
        let problem = read(b"a\n\xff").unwrap_err();
        assert_eq!((problem.at, &*problem.message), (2..3, "line 2 is not UTF-8"));
    }

    #[test]
    fn only_the_handler_can_be_imported() {
        assert!(resolve(HANDLER.to_owned()).is_ok());
        let error = resolve(format!("./other\n{}", "x".repeat(1000))).unwrap_err();
        assert!(error.starts_with("a handler is one file: it cannot import \"./other\\n"), "{error}");
        assert!(error.len() < 200);
    }
}
