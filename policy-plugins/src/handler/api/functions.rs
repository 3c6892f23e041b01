//! What a handler does with a request: send it, refuse it, log it.

use rhai::{Dynamic, ImmutableString, Map, NativeCallContext};
use serde_json::Value;

use super::request::Request;
use super::response::Response;
use super::secret::Secret;
use super::{Registrar, entry};
use crate::handler::failure::{Fallible, bounded, thrown};
use crate::handler::journal::Told;
use crate::handler::run::Run;
use crate::handler::value::to_json;
use crate::handler::{LogLevel, LogLine};

/// The longest message of a log line or a refusal, in bytes; what is longer is cut.
const MESSAGE_BYTES_MAX: usize = 1024;

pub(super) fn register(api: &mut Registrar<'_>) {
    api.section("What a handler does");
    api.function(
        entry(
            "fetch(request)",
            "Sends a request and gives the response; throws where none came. A URL will do for a GET. A body \
             that streams can be sent once: call `read_body` first to send it again",
            "let response = fetch(request);",
        ),
        |context: NativeCallContext<'_>, request: Request| fetch(&context, &request),
    );
    api.also("fetch", |context: NativeCallContext<'_>, url: &str| fetch(&context, &Request::to("GET", url)?));
    api.function(
        entry(
            "deny(reason)",
            "Refuses the request, at once: nothing after it runs. The workload is told the reason",
            "if request.method == \"DELETE\" { return deny(\"nothing is deleted here\"); }",
        ),
        |context: NativeCallContext<'_>, reason: &str| -> Fallible<Dynamic> {
            Err(Run::of(&context)?.deny(bounded(reason, MESSAGE_BYTES_MAX)))
        },
    );
    api.function(
        entry(
            "log(level, message, fields)",
            "Puts a line into the log; level \"debug\", \"info\", \"warn\" or \"error\". The map of fields may be \
             left out",
            "log(\"info\", \"passed\", #{ host: request.host });",
        ),
        |context: NativeCallContext<'_>, level: &str, message: Dynamic, fields: Map| {
            log(&context, level, &message, fields)
        },
    );
    api.also("log", |context: NativeCallContext<'_>, level: &str, message: Dynamic| {
        log(&context, level, &message, Map::new())
    });
}

fn fetch(context: &NativeCallContext<'_>, request: &Request) -> Fallible<Response> {
    let run = Run::of(context)?;
    let at = context.call_position();
    match request.fetch(&run, at)? {
        Told::Response(answer) => Ok(Response::of(answer)),
        _ => Err(run.wrong_answer(at)),
    }
}

fn log(context: &NativeCallContext<'_>, level: &str, message: &Dynamic, fields: Map) -> Fallible<()> {
    let level = match level {
        "debug" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        _ => return Err(thrown("the level of a log line is \"debug\", \"info\", \"warn\" or \"error\"")),
    };
    if let Some(secret) = message.read_lock::<Secret>() {
        return Err(secret.misused());
    }
    let message = match message.read_lock::<ImmutableString>() {
        Some(text) => text.to_string(),
        None => to_json(message)?.to_string(),
    };
    let Value::Object(fields) = to_json(&fields.into())? else {
        return Err(thrown("the fields of a log line are a map"));
    };
    let line = LogLine { level, message: bounded(&message, MESSAGE_BYTES_MAX).into(), fields };
    Run::of(context)?.log(context.call_position(), line)
}
