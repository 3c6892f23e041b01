//! The hash chain: each line names the SHA-256 of the line before it, so that the lines alone show
//! whether one was changed, cut out, put in or moved.
//!
//! What a chain cannot show is a change of the last line, or the loss of the last lines: for that
//! the `stopped` record and a noted head are there. Nor does it stop who can rewrite the whole file.

use std::fmt;
use std::io::{self, BufRead, Read};

use aws_lc_rs::digest;
use serde::Deserialize;
use thiserror::Error;

/// Bytes that a line may have, its end included. One of ours has at most some 400 KiB: two taps, escaped.
pub const LINE_LIMIT: usize = 1024 * 1024;

/// The SHA-256 of a line without its end, in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash([u8; 64]);

/// Where the next line goes.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// The sequence number of the next line; the first is 1.
    pub(super) next: u64,
    /// What the next line names as the one before it.
    pub(super) previous: Hash,
}

/// The fields of a line that the chain is made of.
#[derive(Deserialize)]
struct Link {
    sequence: u64,
    previous: String,
    action: Option<String>,
}

/// What [`verify`] found in a log that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many lines there are.
    pub records: u64,
    /// The sequence number of the first line: 1, or 0 in an empty log.
    pub first_sequence: u64,
    /// The sequence number of the last line; 0 in an empty log.
    pub last_sequence: u64,
    /// The hash of the last line: noted elsewhere, it shows later that nothing up to it was changed.
    pub head: String,
    /// The sequence number of the line whose hash is the head that was asked for.
    pub noted_head: Option<u64>,
    /// Whether it ends with a `stopped` record. If not, the gate is still running, or crashed, or
    /// the end was cut off.
    pub closed: bool,
}

/// The first thing that is wrong with a log.
#[derive(Debug, Error)]
#[error("the audit log is not whole at line {line}")]
pub struct VerifyError {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What can be wrong with a line of a log.
#[derive(Debug, Error)]
pub enum Problem {
    /// Not a JSON object with the fields of a record: edited, or not a log.
    #[error("not an audit record")]
    NotARecord,
    /// The lines before it are missing.
    #[error("the log begins with record {found} instead of 1: its beginning was cut off")]
    BeginningCut {
        /// The sequence number of the first line.
        found: u64,
    },
    /// Lines between this one and the one before are missing.
    #[error("record {found} follows record {last}: what was between them was cut out")]
    Gap {
        /// The sequence number of the line before.
        last: u64,
        /// The one of this line.
        found: u64,
    },
    /// Lines were moved, or one was put in twice.
    #[error("record {found} follows record {last}: it was moved or repeated")]
    OutOfOrder {
        /// The sequence number of the line before.
        last: u64,
        /// The one of this line.
        found: u64,
    },
    /// The line after this one names another hash than this line has.
    #[error(
        "was changed after it was written: record {sequence} has the hash {hash}, the next line names {named}"
    )]
    Changed {
        /// The sequence number of the line.
        sequence: u64,
        /// The hash it has.
        hash: String,
        /// The hash that the line after it says it had.
        named: String,
    },
    /// The first line names a line before it.
    #[error("the first record names a record before it: its beginning was cut off or changed")]
    NotTheFirst,
    /// The last line has no end: a crash, or a cut in the middle of it.
    #[error("the last line is not finished: {bytes} bytes of it are there")]
    Torn {
        /// Bytes of it that are there.
        bytes: usize,
    },
    /// No line of ours is so long.
    #[error("longer than {LINE_LIMIT} bytes")]
    TooLong,
    /// No line of the log has the hash that was asked for.
    #[error(
        "no record up to here has the hash {head}: the log was cut or rewritten after that head was noted"
    )]
    HeadNotFound {
        /// The hash that was asked for.
        head: String,
    },
    /// The log cannot be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
}

/// Reads a log to its end and checks that every line is what was written, where it was written. With
/// `noted_head`, the hash of a line at an earlier time, one line must have that hash.
///
/// # Errors
/// The first line that is not as it was, and what is wrong with it.
pub fn verify(mut log: impl BufRead, noted_head: Option<&str>) -> Result<Verified, VerifyError> {
    let mut chain = Chain::genesis();
    let mut line = Vec::new();
    let mut closed = false;
    let mut noted_head_at = None;
    loop {
        let number = chain.next;
        let at_line = |problem| VerifyError { line: number, problem };
        if !read_line(&mut log, &mut line).map_err(at_line)? {
            break;
        }
        let link = serde_json::from_slice::<Link>(&line).map_err(|_| at_line(Problem::NotARecord))?;
        check_link(&link, &chain)?;
        closed = link.action.as_deref() == Some("stopped");
        chain.advance(&line);
        if noted_head.is_some_and(|head| chain.previous.as_str().eq_ignore_ascii_case(head)) {
            noted_head_at = Some(number);
        }
    }
    let records = chain.next - 1;
    match noted_head {
        Some(head) if noted_head_at.is_none() => {
            Err(VerifyError { line: records, problem: Problem::HeadNotFound { head: head.to_owned() } })
        }
        _ => Ok(Verified {
            records,
            first_sequence: records.min(1),
            last_sequence: records,
            head: chain.previous.as_str().to_owned(),
            noted_head: noted_head_at,
            closed,
        }),
    }
}

impl Chain {
    /// The chain of an empty log: the first line names 64 zeros.
    pub(super) fn genesis() -> Self {
        Self { next: 1, previous: Hash([b'0'; 64]) }
    }

    /// The chain that goes on after `line`, or `None` when that is not a record.
    pub(super) fn after(line: &[u8]) -> Option<Self> {
        let link = serde_json::from_slice::<Link>(line).ok()?;
        Some(Self { next: link.sequence.checked_add(1)?, previous: Hash::of(line) })
    }

    /// Goes on by a line, given without its end.
    pub(super) fn advance(&mut self, line: &[u8]) {
        self.next += 1;
        self.previous = Hash::of(line);
    }
}

impl Hash {
    fn of(line: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, line);
        let mut text = [b'0'; 64];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(digest.as_ref()) {
            *pair = [hex_digit(byte >> 4), hex_digit(byte & 15)];
        }
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Checks that `link` is the line that `chain` goes on with. The number of the line is the sequence
/// number that the chain expects, since every line up to here was in its place.
fn check_link(link: &Link, chain: &Chain) -> Result<(), VerifyError> {
    let line = chain.next;
    let last = line - 1;
    let found = link.sequence;
    if found != line {
        let problem = match last {
            0 => Problem::BeginningCut { found },
            _ if found < line => Problem::OutOfOrder { last, found },
            _ => Problem::Gap { last, found },
        };
        return Err(VerifyError { line, problem });
    }
    if link.previous == chain.previous.as_str() {
        return Ok(());
    }
    if last == 0 {
        return Err(VerifyError { line, problem: Problem::NotTheFirst });
    }
    let hash = chain.previous.as_str().to_owned();
    let problem = Problem::Changed { sequence: last, hash, named: link.previous.clone() };
    Err(VerifyError { line: last, problem })
}

/// Reads the next line, without its end, into `line`; false at the end of the log.
fn read_line(log: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, Problem> {
    line.clear();
    log.take(LINE_LIMIT as u64).read_until(b'\n', line).map_err(Problem::Read)?;
    match line.pop() {
        None => Ok(false),
        Some(b'\n') => Ok(true),
        Some(_) if line.len() + 1 == LINE_LIMIT => Err(Problem::TooLong),
        Some(_) => Err(Problem::Torn { bytes: line.len() + 1 }),
    }
}

const fn hex_digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'a' + (value - 10),
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// A closed log of `count` lines, each with its end.
    fn log_of(count: u64) -> Vec<Vec<u8>> {
        let mut chain = Chain::genesis();
        (1..=count).map(|number| next_line(&mut chain, number == count)).collect()
    }

    fn next_line(chain: &mut Chain, is_last: bool) -> Vec<u8> {
        let (sequence, previous) = (chain.next, chain.previous.as_str().to_owned());
        let rest = if is_last { r#""action":"stopped""# } else { r#""host":"example.test""# };
        let mut line = format!(r#"{{"sequence":{sequence},"previous":"{previous}",{rest}}}"#).into_bytes();
        chain.advance(&line);
        line.push(b'\n');
        line
    }

    fn check(lines: &[Vec<u8>]) -> Result<Verified, VerifyError> {
        verify(lines.concat().as_slice(), None)
    }

    #[test]
    fn a_whole_log_is_whole() {
        let lines = log_of(5);
        let verified = check(&lines).unwrap();
        assert_eq!((verified.records, verified.first_sequence, verified.last_sequence), (5, 1, 5));
        assert!(verified.closed);
        let last = lines.last().unwrap();
        assert_eq!(verified.head, Hash::of(&last[..last.len() - 1]).as_str());
    }

    #[test]
    fn an_empty_log_is_whole_and_not_closed() {
        let verified = check(&[]).unwrap();
        assert_eq!((verified.records, verified.first_sequence, verified.closed), (0, 0, false));
    }

    #[test]
    fn the_hash_is_sha256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Hash::of(b"abc").as_str(), expected);
    }

    #[test]
    fn every_changed_bit_before_the_last_line_is_found() {
        let lines = log_of(4);
        let log = lines.concat();
        let end = log.len() - lines.last().unwrap().len();
        for at in 0..end {
            for bit in 0..8 {
                let mut changed = log.clone();
                changed[at] ^= 1 << bit;
                assert!(verify(changed.as_slice(), None).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn with_a_noted_head_every_changed_byte_is_found() {
        let log = log_of(4).concat();
        let head = verify(log.as_slice(), None).unwrap().head;
        for at in 0..log.len() {
            let mut changed = log.clone();
            changed[at] ^= 1;
            assert!(verify(changed.as_slice(), Some(&head)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn an_edited_line_is_named() {
        let mut lines = log_of(5);
        lines[2] = String::from_utf8(lines[2].clone()).unwrap().replace("example", "elsewhere").into();
        let error = check(&lines).unwrap_err();
        assert_eq!(error.line, 3);
        assert!(matches!(error.problem, Problem::Changed { sequence: 3, .. }), "{error:?}");
    }

    #[test]
    fn a_missing_line_is_found() {
        for at in 0..4 {
            let mut lines = log_of(5);
            lines.remove(at);
            let error = check(&lines).unwrap_err();
            assert_eq!(error.line, at as u64 + 1);
            match error.problem {
                Problem::BeginningCut { found: 2 } => assert_eq!(at, 0),
                Problem::Gap { last, found } => {
                    assert_eq!((last, found), (at as u64, at as u64 + 2))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_missing_end_is_not_closed_or_torn() {
        let lines = log_of(3);
        let log = lines.concat();
        let ends = [0, lines[0].len(), lines[0].len() + lines[1].len()];
        for length in 0..log.len() {
            match verify(&log[..length], None) {
                Ok(verified) => {
                    assert!(ends.contains(&length), "{length}");
                    assert!(!verified.closed);
                }
                Err(error) => {
                    assert!(!ends.contains(&length), "{length}");
                    assert!(matches!(error.problem, Problem::Torn { .. }), "{error:?}");
                }
            }
        }
    }

    #[test]
    fn moved_and_repeated_lines_are_found() {
        for first in 0..4 {
            let mut swapped = log_of(5);
            swapped.swap(first, first + 1);
            assert!(check(&swapped).is_err());
            let mut repeated = log_of(5);
            repeated.insert(first + 1, repeated[first].clone());
            let error = check(&repeated).unwrap_err();
            assert!(matches!(error.problem, Problem::OutOfOrder { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_forged_line_is_found_even_when_it_links_to_the_one_before() {
        let mut lines = log_of(5);
        let mut chain = Chain::after(lines[1].strip_suffix(b"\n").unwrap()).unwrap();
        let forged = next_line(&mut chain, false);
        lines.insert(2, forged.clone());
        assert!(check(&lines).is_err());
        let mut replaced = log_of(5);
        replaced[2] = String::from_utf8(forged).unwrap().replace("example", "forged").into();
        assert!(matches!(check(&replaced).unwrap_err().problem, Problem::Changed { sequence: 3, .. }));
    }

    #[test]
    fn a_rewritten_log_is_found_by_a_head_noted_before() {
        let lines = log_of(5);
        let noted = Hash::of(lines[2].strip_suffix(b"\n").unwrap());
        let verified = verify(lines.concat().as_slice(), Some(noted.as_str())).unwrap();
        assert_eq!(verified.noted_head, Some(3));
        // Three lines are other lines when the third is the last: a whole chain, but not this one.
        let error = verify(log_of(3).concat().as_slice(), Some(noted.as_str())).unwrap_err();
        assert!(matches!(error.problem, Problem::HeadNotFound { .. }), "{error:?}");
    }

    #[test]
    fn a_first_line_that_names_another_is_found() {
        let mut chain = Chain { next: 1, previous: Hash::of(b"") };
        let error = check(&[next_line(&mut chain, true)]).unwrap_err();
        assert!(matches!(error.problem, Problem::NotTheFirst), "{error:?}");
    }

    #[test]
    fn an_endless_line_is_refused_at_the_limit() {
        let error = verify(BufReader::new(io::repeat(b' ')), None).unwrap_err();
        assert!(matches!(error.problem, Problem::TooLong), "{error:?}");
    }
}
