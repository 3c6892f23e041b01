//! Requests that wait until a person agrees, and what people said before.
//!
//! **Invariants:** an answer counts for exactly what was asked ([`Subject`]) and nothing like it;
//! without an answer nothing goes on; no lock is held while anybody waits.

mod memory;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::Method;
use serde::{Deserialize, Serialize};
use sluicegate_policy::{Authority, Scheme};
use tokio::sync::{broadcast, watch};
use utoipa::ToSchema;

use crate::control::api::{Event, rfc3339};
use memory::Memory;

/// Questions that wait at once. More than this no person reads; what comes then is refused and says so.
const PENDING_MAX: usize = 64;

/// The longest that a request is held: longer than this no client waits.
const PATIENCE_MAX: Duration = Duration::from_secs(600);

/// The longest subject that is remembered, in bytes: with the number of answers it bounds what is
/// kept and written at each change.
const REMEMBERED_BYTES_MAX: usize = 4_096;

/// What exactly an answer is for. The reason belongs to it: a handler may put into it what neither
/// method nor URL shows, such as an amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subject {
    /// The instance.
    pub instance: String,
    /// The method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host and port, as judged.
    pub authority: String,
    /// Path and query, as sent.
    pub target: String,
    /// What the person is asked.
    pub reason: String,
}

/// A question to a person about one request.
#[derive(Clone, Debug)]
pub struct Question {
    /// The request.
    pub request_id: Box<str>,
    /// The instance.
    pub instance: Box<str>,
    /// The method.
    pub method: Method,
    /// How it travels.
    pub scheme: Scheme,
    /// Whom it is for, as judged.
    pub authority: Authority,
    /// Path and query, as sent.
    pub target: Box<str>,
    /// What the person is asked.
    pub reason: Box<str>,
    /// The rule or the handler that asks.
    pub asked_by: Box<str>,
    /// How long the request waits; ten minutes at most.
    pub patience: Duration,
}

/// A question that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pending {
    /// Names it in an answer; not used again in this run.
    pub id: String,
    /// What is asked.
    #[serde(flatten)]
    pub subject: Subject,
    /// The rule or the handler that asks.
    pub asked_by: String,
    /// The first of the requests that wait.
    pub request_id: String,
    /// How many requests wait for this one answer.
    pub waiting: usize,
    /// Since when.
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub asked: SystemTime,
    /// Until when.
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires: SystemTime,
}

/// An answer that counts again when the same is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Remembered {
    /// Names it, to have it forgotten.
    pub id: String,
    /// What was asked.
    #[serde(flatten)]
    pub subject: Subject,
    /// What was answered.
    pub allow: bool,
    /// When.
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub decided: SystemTime,
    /// Until when it counts; for good if missing.
    #[serde(default, with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<SystemTime>,
}

/// For how long an answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remember {
    /// For those who wait now.
    Once,
    /// For this time.
    For(Duration),
    /// Until it is forgotten.
    Always,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A person agrees.
    Allowed {
        /// The question, or the answer that was remembered.
        id: String,
        /// Whether it was remembered.
        remembered: bool,
    },
    /// A person does not agree.
    Denied {
        /// The question, or the answer that was remembered.
        id: String,
    },
    /// Nobody has answered.
    TimedOut {
        /// The question.
        id: String,
    },
    /// Too many questions wait already.
    Full,
}

/// An answer that was checked and does not count yet, so that it can be logged and kept before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The question.
    pub pending: Pending,
    /// The answer.
    pub allow: bool,
    /// What is to be remembered of it.
    pub remembered: Option<Remembered>,
}

/// Why an answer cannot count. The question, if there is one, still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecideError {
    /// It was answered, or nobody waits for it any more.
    #[error("no request waits under this id; it was answered, or it is no longer waited for")]
    NotPending,
    /// Nothing more can be remembered.
    #[error("as many answers are remembered as can be; forget some, or answer without having it remembered")]
    MemoryFull,
    /// What was asked is too long to be remembered.
    #[error(
        "the request's URL and reason are too long to be remembered; answer without having it remembered"
    )]
    TooLong,
    /// The end of the time cannot be expressed.
    #[error("the time for which the answer is to be remembered is too long")]
    NoSuchTime,
}

/// The questions of one instance to people.
#[derive(Debug)]
pub struct Approvals {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
struct State {
    asked: u64,
    /// By number, which is the order in which they were asked.
    pending: BTreeMap<u64, Entry>,
    memory: Memory,
}

#[derive(Debug)]
struct Entry {
    pending: Pending,
    answer: watch::Sender<Option<bool>>,
}

impl Approvals {
    /// Nothing asked and nothing remembered; what happens is told to `events`.
    pub fn new(events: broadcast::Sender<Event>) -> Self {
        Self { state: Mutex::default(), events }
    }

    /// Waits for a person's answer, or finds one that is remembered. A question that waits already is
    /// not asked twice. To be dropped when the request is given up.
    pub async fn ask(&self, question: Question) -> Verdict {
        let patience = question.patience.min(PATIENCE_MAX);
        let (waiting, mut answer) = match self.begin(question, patience, SystemTime::now()) {
            Ok(begun) => begun,
            Err(verdict) => return verdict,
        };
        drop(tokio::time::timeout(patience, answer.wait_for(Option::is_some)).await);
        // Read again: an answer that came with the last moment counts, since it was logged as given.
        let allow = *answer.borrow();
        match (allow, id_of(waiting.number)) {
            (Some(true), id) => Verdict::Allowed { id, remembered: false },
            (Some(false), id) => Verdict::Denied { id },
            (None, id) => Verdict::TimedOut { id },
        }
    }

    /// What waits, in the order in which it was asked.
    pub fn pending(&self) -> Vec<Pending> {
        self.lock().pending.values().map(|entry| entry.pending.clone()).collect()
    }

    /// Checks an answer without letting it count: that is [`Self::settle`].
    ///
    /// # Errors
    /// [`DecideError`].
    pub fn prepare(&self, id: &str, allow: bool, remember: Remember) -> Result<Decision, DecideError> {
        let now = SystemTime::now();
        let mut state = self.lock();
        let number = state.number_of(id).ok_or(DecideError::NotPending)?;
        let pending = state.pending.get(&number).ok_or(DecideError::NotPending)?.pending.clone();
        let expires = match remember {
            Remember::Once => return Ok(Decision { pending, allow, remembered: None }),
            Remember::Always => None,
            Remember::For(time) => Some(now.checked_add(time).ok_or(DecideError::NoSuchTime)?),
        };
        if pending.subject.bytes() > REMEMBERED_BYTES_MAX {
            return Err(DecideError::TooLong);
        }
        let id = state.memory.place_for(&pending.subject, now).ok_or(DecideError::MemoryFull)?;
        let subject = pending.subject.clone();
        let remembered = Some(Remembered { id, subject, allow, decided: now, expires });
        Ok(Decision { pending, allow, remembered })
    }

    /// Lets an answer count: those who wait are told, and what is to be remembered is.
    ///
    /// # Errors
    /// [`DecideError`] when something came between; nothing is remembered then.
    pub fn settle(&self, decision: Decision, by: &str) -> Result<(), DecideError> {
        let Decision { pending: Pending { id, .. }, allow, remembered } = decision;
        let mut state = self.lock();
        let number = state.number_of(&id).ok_or(DecideError::NotPending)?;
        if let Some(remembered) = remembered {
            state.memory.add(remembered, SystemTime::now()).map_err(|_| DecideError::MemoryFull)?;
        }
        let entry = state.pending.remove(&number).ok_or(DecideError::NotPending)?;
        entry.answer.send_replace(Some(allow));
        self.tell(Event::ApprovalDecided { id, allow, by: by.to_owned() });
        Ok(())
    }

    /// The answers that still count, in the order in which they were given.
    pub fn remembered(&self) -> Vec<Remembered> {
        self.lock().memory.all(SystemTime::now()).to_vec()
    }

    /// Takes over what was remembered before, as far as it still counts and there is room.
    pub fn restore(&self, remembered: Vec<Remembered>) {
        let now = SystemTime::now();
        let mut state = self.lock();
        for answer in remembered {
            if answer.subject.bytes() > REMEMBERED_BYTES_MAX || state.memory.add(answer, now).is_err() {
                tracing::warn!(
                    "a remembered answer of a person cannot be taken over; it will be asked again"
                );
            }
        }
    }

    /// Forgets an answer; whether there was one.
    pub fn forget(&self, id: &str) -> bool {
        self.lock().memory.forget(id)
    }

    /// An answer that is remembered, or a place among those who wait.
    fn begin(
        &self,
        question: Question,
        patience: Duration,
        now: SystemTime,
    ) -> Result<(Waiting<'_>, watch::Receiver<Option<bool>>), Verdict> {
        let Question { request_id, asked_by, .. } = &question;
        let subject = question.subject();
        let expires = now.checked_add(patience).unwrap_or(now);
        let mut state = self.lock();
        if let Some(Remembered { id, allow, .. }) = state.memory.find(&subject, now) {
            let id = id.clone();
            return Err(if *allow {
                Verdict::Allowed { id, remembered: true }
            } else {
                Verdict::Denied { id }
            });
        }
        let waits = state.pending.iter_mut().find(|(_, entry)| entry.pending.subject == subject);
        if let Some((&number, entry)) = waits {
            entry.pending.waiting += 1;
            entry.pending.expires = entry.pending.expires.max(expires);
            return Ok((Waiting { approvals: self, number }, entry.answer.subscribe()));
        }
        if state.pending.len() >= PENDING_MAX {
            return Err(Verdict::Full);
        }
        state.asked += 1;
        let number = state.asked;
        let pending = Pending {
            id: id_of(number),
            subject,
            asked_by: asked_by.to_string(),
            request_id: request_id.to_string(),
            waiting: 1,
            asked: now,
            expires,
        };
        let (answer, answered) = watch::channel(None);
        state.pending.insert(number, Entry { pending: pending.clone(), answer });
        self.tell(Event::ApprovalAsked(pending));
        Ok((Waiting { approvals: self, number }, answered))
    }

    /// To be called with the lock held, so that events come in the order of what they tell.
    fn tell(&self, event: Event) {
        // Fails where nobody listens, which is usual.
        drop(self.events.send(event));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number_of(&self, id: &str) -> Option<u64> {
        let number = id.strip_prefix('a')?.parse().ok()?;
        self.pending.get(&number).filter(|entry| entry.pending.id == id).map(|_| number)
    }
}

impl Question {
    fn subject(&self) -> Subject {
        Subject {
            instance: self.instance.to_string(),
            method: self.method.to_string(),
            scheme: self.scheme.to_string(),
            authority: self.authority.to_string(),
            target: self.target.to_string(),
            reason: self.reason.to_string(),
        }
    }
}

impl Subject {
    fn bytes(&self) -> usize {
        let Self { instance, method, scheme, authority, target, reason } = self;
        [instance, method, scheme, authority, target, reason].iter().map(|text| text.len()).sum()
    }
}

fn id_of(number: u64) -> String {
    format!("a{number}")
}

/// A request's place among those who wait; with the last of them the question goes.
struct Waiting<'approvals> {
    approvals: &'approvals Approvals,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.approvals.lock();
        let Some(entry) = state.pending.get_mut(&self.number) else { return };
        entry.pending.waiting -= 1;
        if entry.pending.waiting == 0 {
            state.pending.remove(&self.number);
            self.approvals.tell(Event::ApprovalLapsed { id: id_of(self.number) });
        }
    }
}
