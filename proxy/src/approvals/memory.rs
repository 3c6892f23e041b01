//! The answers that count again when the same is asked.

use std::time::SystemTime;

use super::{Remembered, Subject};

/// Answers remembered at once: as many as a person can look through, and few enough to be written out
/// whole at each change.
pub(super) const REMEMBERED_MAX: usize = 1_024;

/// What is remembered, at most one answer for each subject.
#[derive(Debug, Default)]
pub(super) struct Memory {
    answers: Vec<Remembered>,
    /// The highest number in an id so far.
    numbered: u64,
}

/// There is no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Memory {
    /// The answer that counts for exactly this.
    pub(super) fn find(&mut self, subject: &Subject, now: SystemTime) -> Option<&Remembered> {
        self.all(now).iter().find(|answer| answer.subject == *subject)
    }

    /// Those that still count.
    pub(super) fn all(&mut self, now: SystemTime) -> &[Remembered] {
        self.answers.retain(|answer| answer.expires.is_none_or(|expires| now < expires));
        &self.answers
    }

    /// An id for an answer to be added, if there is room.
    pub(super) fn place_for(&mut self, subject: &Subject, now: SystemTime) -> Option<String> {
        if self.find(subject, now).is_none() && self.answers.len() >= REMEMBERED_MAX {
            return None;
        }
        self.numbered += 1;
        Some(format!("r{}", self.numbered))
    }

    /// Adds an answer, in the place of an older one for the same.
    ///
    /// # Errors
    /// When there is no room; nothing has changed then.
    pub(super) fn add(&mut self, answer: Remembered, now: SystemTime) -> Result<(), Full> {
        let older = self.find(&answer.subject, now).is_some();
        if !older && self.answers.len() >= REMEMBERED_MAX {
            return Err(Full);
        }
        self.answers.retain(|known| known.subject != answer.subject && known.id != answer.id);
        let number = answer.id.strip_prefix('r').and_then(|number| number.parse().ok());
        self.numbered = self.numbered.max(number.unwrap_or_default());
        self.answers.push(answer);
        Ok(())
    }

    /// Forgets an answer; whether there was one.
    pub(super) fn forget(&mut self, id: &str) -> bool {
        let before = self.answers.len();
        self.answers.retain(|answer| answer.id != id);
        self.answers.len() < before
    }
}
