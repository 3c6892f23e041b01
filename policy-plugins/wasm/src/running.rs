//! A program at work on a request, as whoever performs its effects sees it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use sluicegate_policy::{
    Answer, BoundHandler, Effect, Entry, Environment, HandlerAction, HandlerFault, HandlerInput, LogLine,
    Step,
};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::instance::Job;
use crate::load::LoadedProgram;
use crate::meter::Meter;
use crate::problem;
use crate::state::{Line, LineEnd, Log, State};

/// What one request begins with.
#[derive(Clone, Debug)]
pub struct Begin {
    /// What is run.
    pub entry: Entry,
    /// The handler where the policy binds it.
    pub bound: Arc<BoundHandler>,
    /// What `env` offers, and the limits.
    pub environment: Arc<Environment>,
    /// The workload's request.
    pub input: HandlerInput,
}

/// A program at work on a request, in an instance of its own. Dropping this ends it.
///
/// Call [`Self::next`], perform what it awaits, call [`Self::answer`], and so on until it is done.
#[derive(Debug)]
pub struct Running {
    line: LineEnd,
    /// None after the end.
    end: Option<oneshot::Receiver<Step>>,
    /// Whether an effect is not answered yet.
    asked: bool,
    /// Whether the workload was answered, and the program goes on.
    has_responded: bool,
    /// Whether the program gets its processor time anew with the next answer.
    renews: bool,
    task: Option<AbortHandle>,
    log: Log,
    meter: Arc<Meter>,
    file: Box<str>,
}

impl Running {
    /// Begins. Nothing is waited for here.
    pub(crate) fn begin(program: &Arc<LoadedProgram>, begin: Begin) -> Self {
        let Begin { entry, bound, environment, input } = begin;
        let file = match &bound.action {
            HandlerAction::Program(program) => program.file.clone(),
            HandlerAction::Script(_) | HandlerAction::Deny(_) => bound.name.clone(),
        };
        let threads = &program.machine.threads;
        let meter = Arc::new(Meter::new(&threads.ticker, environment.limits.program_cpu));
        let log = Log::default();
        let (line, line_end) = Line::new();
        let mut state = State::new(&bound, &environment, input, line, &log);
        state.source = program.source.clone();
        let job =
            Job { program: Arc::clone(program), entry, file: file.clone(), state, meter: Arc::clone(&meter) };
        let (tell, end) = oneshot::channel();
        let task = threads.spawn(job.run(tell));
        Self {
            line: line_end,
            end: Some(end),
            asked: false,
            has_responded: false,
            renews: false,
            task,
            log,
            meter,
            file,
        }
    }

    /// What the program comes to next: [`Step::Await`], [`Step::Done`] or [`Step::Failed`]. May be
    /// dropped and called again.
    ///
    /// There is no deadline here: whoever waits has one, and drops this.
    pub async fn next(&mut self) -> Step {
        if self.asked {
            return self.bug("the gate did not answer; this is a bug in it");
        }
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Answers the effect that [`Self::next`] gave last.
    pub fn answer(&mut self, answer: Answer) {
        if std::mem::take(&mut self.asked) {
            if std::mem::take(&mut self.renews) {
                self.meter.renew();
            }
            // An instance that has ended needs no answer.
            drop(self.line.answers.try_send(answer));
        }
    }

    /// What the program has logged since this was last called; also after its end.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The processor time that the program has used; after its answer, since the last piece of a body.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.meter.spent()
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        let Some(end) = &mut self.end else {
            return Poll::Ready(self.bug("it has ended before; this is a bug in the gate"));
        };
        if let Poll::Ready(step) = Pin::new(end).poll(context) {
            self.end = None;
            let step = step.unwrap_or_else(|_| self.bug("its thread ended; this is a bug in the gate"));
            return Poll::Ready(step);
        }
        match self.line.effects.poll_recv(context) {
            Poll::Ready(Some(effect)) => {
                self.asked = true;
                self.has_responded |= matches!(effect, Effect::Respond(_));
                // A body that streams for an hour is read by one program: its time is that of a piece.
                self.renews = self.has_responded && matches!(effect, Effect::NextChunk(_));
                Poll::Ready(Step::Await(effect))
            }
            // It asks nothing more: the end is to come.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn bug(&self, message: &str) -> Step {
        problem::failed(&self.file, HandlerFault::Threw, message)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
