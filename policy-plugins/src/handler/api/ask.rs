//! `ask`: a person decides.

use std::time::Duration;

use rhai::{EvalAltResult, NativeCallContext};

use super::{Registrar, entry};
use crate::handler::failure::{Fallible, bounded, thrown};
use crate::handler::journal::{Question, Told};
use crate::handler::run::Run;
use crate::handler::{Answer, Effect, HandlerFault};

/// How long a request waits for a person, in seconds, where the script does not say.
const SECONDS: i64 = 60;
/// The longest wait that a script can ask for, in seconds.
const SECONDS_MAX: i64 = 600;
/// The longest question, in bytes; what is longer is cut.
const REASON_BYTES_MAX: usize = 1024;

/// A person agreed; returned from `outbound`, it sends the request as it is now.
#[derive(Clone, Copy, Debug)]
pub(in crate::handler) struct Approval;

pub(super) fn register(api: &mut Registrar<'_>) {
    api.engine.register_type_with_name::<Approval>("approval");
    api.function(
        entry(
            "ask(reason, seconds)",
            "Holds the request until a person agrees, 1 to 600 seconds (60 if left out); without a yes it is \
             refused and nothing after it runs. Return its value to send the request as it is now, or go on",
            "if request.method == \"POST\" { return ask(\"really write?\"); }",
        ),
        |context: NativeCallContext<'_>, reason: &str, seconds: i64| ask(&context, reason, seconds),
    );
    api.also("ask", |context: NativeCallContext<'_>, reason: &str| ask(&context, reason, SECONDS));
}

fn ask(context: &NativeCallContext<'_>, reason: &str, seconds: i64) -> Fallible<Approval> {
    let run = Run::of(context)?;
    let at = context.call_position();
    if !(1..=SECONDS_MAX).contains(&seconds) {
        return Err(thrown(format!("a request can wait 1 to {SECONDS_MAX} seconds for a person")));
    }
    let reason = bounded(reason, REASON_BYTES_MAX);
    let question = Question::new("ask", (reason, seconds));
    let patience = Duration::from_secs(seconds.unsigned_abs());
    match run.perform(at, question, || Effect::Ask { reason: reason.into(), patience }) {
        Ok(Told::Other(Answer::Done)) => Ok(Approval),
        Ok(_) => Err(run.wrong_answer(at)),
        // Nothing else may be caught here: a script would go on without the yes.
        Err(error) => match *error {
            EvalAltResult::ErrorTerminated(..) => Err(error),
            _ => Err(run.fail(HandlerFault::Threw, at, "nobody could be asked")),
        },
    }
}
