//! `dig` in a namespace, and what it was answered.

use crate::gate::Attached;
use crate::job::Outcome;

/// What dig is told besides the question: to say the status and the records, and to ask once.
pub const DIG: [&str; 6] = ["dig", "+noall", "+comments", "+answer", "+time=10", "+tries=1"];

/// An answer to a question.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Such as `NOERROR`.
    pub status: String,
    /// `NAME TTL CLASS TYPE DATA`, in the order of the answer.
    pub records: Vec<String>,
}

impl Answer {
    /// Reads what dig printed with the flags of [`DIG`].
    #[track_caller]
    pub fn read(outcome: &Outcome) -> Self {
        outcome.assert_success();
        let header = outcome.stdout.lines().find(|line| line.contains("status: ")).expect("a status");
        let status = header.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
        let records = outcome.stdout.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
        let records = records.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        Self { status: status.expect("a status").to_owned(), records }
    }

    /// The data of the one record.
    #[track_caller]
    pub fn data(&self) -> &str {
        match self.records.as_slice() {
            [record] => record.rsplit_once(' ').expect("a record").1,
            records => panic!("not one record: {records:?} {}", self.status),
        }
    }

    /// The records without their times to live, in one order.
    pub fn sorted(&self) -> Vec<String> {
        let without_ttl = |record: &String| {
            let mut words: Vec<_> = record.split(' ').collect();
            words.remove(1);
            words.join(" ")
        };
        let mut records: Vec<_> = self.records.iter().map(without_ttl).collect();
        records.sort();
        records
    }

    /// Fails unless this is the status, with so many records.
    #[track_caller]
    pub fn assert_is(&self, status: &str, records: usize) {
        assert_eq!((self.status.as_str(), self.records.len()), (status, records), "{self:?}");
    }
}

/// Asks from within the sealed namespace.
#[track_caller]
pub fn dig(gate: &Attached<'_>, arguments: &[&str]) -> Answer {
    Answer::read(&gate.run([&DIG, arguments].concat()))
}
