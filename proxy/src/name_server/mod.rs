//! Answers the workload's DNS, on whatever address it asks.
//!
//! **Invariant:** no question of the workload's leaves, but for types of records and names that the
//! document says so for: an answer depends on the policy alone, and a name is resolved in earnest only
//! when an approved request dials it.

mod forward;
mod guard;
mod limits;
mod message;
mod pool;
mod tcp;

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use sluicegate_policy::{DenyReason, Dns, Host, Policy, Reach, Transport};
use tokio::sync::Semaphore;

use crate::audit::{Log, Verdict};
use forward::Forward;
use guard::{Finding, Guard};
use limits::Bucket;
use message::{Answer, Question, Received};
use pool::{Addresses, Pool};

pub use forward::Reply;
pub use pool::{HeldName, SINK_V4, SINK_V6};
pub use tcp::serve_tcp;

/// Refused names that are remembered as logged, so that a loop of look-ups is one line.
const LOGGED_MAX: usize = 4_096;

/// Questions that are asked upstream at once; a further one fails.
const FORWARDED_MAX: usize = 32;

/// Questions that are asked upstream in a second: mail and service discovery ask a few, data that is to
/// be carried out would take many.
const FORWARDED_PER_SECOND_MAX: u32 = 20;

/// For how long questions beyond the limits are counted in one line of the log.
const COUNTED_FOR: Duration = Duration::from_secs(10);

/// Answers by policy.
#[derive(Debug)]
pub struct NameServer {
    log: Log,
    pool: Pool,
    state: Mutex<State>,
    forwarding: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    /// Refused names that were logged.
    logged: HashSet<Box<str>>,
    guard: Guard,
    questions: Bucket,
    forwarded: Bucket,
    /// Questions beyond the limits that no line tells of yet, and when the last line was written.
    uncounted: u64,
    counted: Option<Instant>,
}

/// What becomes of a question.
enum Decided {
    Answer(Answer),
    /// This name is asked for upstream.
    Forward(Box<str>),
}

impl NameServer {
    /// A name server that remembers which name has which address, whatever policy comes.
    pub fn new(log: Log) -> Self {
        let now = Instant::now();
        // Keyed at random by the standard library, which is all that is asked of it here.
        let seed = RandomState::new().build_hasher().finish();
        Self {
            log,
            pool: Pool::new(u32::try_from(seed & u64::from(u32::MAX)).unwrap_or_default()),
            state: Mutex::new(State {
                logged: HashSet::new(),
                guard: Guard::default(),
                questions: Bucket::full(Dns::QUESTIONS_PER_SECOND_DEFAULT, now),
                forwarded: Bucket::full(FORWARDED_PER_SECOND_MAX, now),
                uncounted: 0,
                counted: None,
            }),
            forwarding: Arc::new(Semaphore::new(FORWARDED_MAX)),
        }
    }

    /// The name that an address of ours means; while what is returned lives, it means no other one.
    pub fn hold(&self, address: IpAddr) -> Option<HeldName> {
        self.pool.hold(address)
    }

    /// The answer of `policy` to one message, or none where even an error would be an answer to no
    /// question.
    pub fn answer(&self, policy: &Policy, question: &[u8], transport: Transport) -> Option<Reply> {
        let question = match Received::read(question, transport) {
            Received::Question(question) => question,
            Received::Unanswerable(reply) => return Some(Reply::Ready(reply)),
            Received::Nothing => return None,
        };
        let now = Instant::now();
        let per_second = policy.dns().questions_per_second;
        let decided = if self.state().questions.take(per_second, now) {
            self.decide(policy, &question.query, now)
        } else {
            self.count_beyond_the_limits(&question.query, now);
            Decided::Answer(Answer::Failure(ResponseCode::Refused))
        };
        match decided {
            Decided::Answer(answer) => question.answer(answer).map(Reply::Ready),
            Decided::Forward(name) => self.forward(question, name, now),
        }
    }

    fn decide(&self, policy: &Policy, query: &Query, now: Instant) -> Decided {
        if query.query_class() != DNSClass::IN {
            return Decided::Answer(Answer::Failure(ResponseCode::Refused));
        }
        let Ok(Host::Dns(name)) = Host::parse(&query.name().to_ascii()) else {
            return Decided::Answer(Answer::Failure(ResponseCode::NXDomain));
        };
        if let Some(answer) = self.of_the_machine(query, &name) {
            return Decided::Answer(answer);
        }
        if let Some(answer) = self.guarded(query, &name, now) {
            return Decided::Answer(answer);
        }
        let host = Host::Dns(name.clone());
        let forwards = policy.dns().forwards(&host, &query.query_type().to_string());
        // Names with an underscore describe the host that they are below (RFC 8552).
        let described = if forwards { host_described(&name) } else { host.clone() };
        let is_made_up = || policy.dns().is_made_by_a_search(&host) && !policy.names(&host);
        match policy.reaches(&described) {
            _ if policy.hides(&host) => Decided::Answer(Answer::Failure(ResponseCode::NXDomain)),
            Reach::Open if forwards => Decided::Forward(name),
            Reach::Open if is_made_up() => Decided::Answer(Answer::Failure(ResponseCode::NXDomain)),
            Reach::Open => {
                let addresses = self.pool.addresses(&name, now).map(Answer::Addresses);
                Decided::Answer(addresses.unwrap_or(Answer::Failure(ResponseCode::ServFail)))
            }
            Reach::Refused(reason) => {
                self.log_once(&name, query.query_type(), reason);
                Decided::Answer(if policy.dns().answers_nxdomain(&host) {
                    Answer::Failure(ResponseCode::NXDomain)
                } else {
                    Answer::Addresses(Addresses::SINK)
                })
            }
        }
    }

    /// The answer about names that never leave a machine: `localhost` (RFC 6761 section 6.3), and
    /// those of addresses.
    fn of_the_machine(&self, query: &Query, name: &str) -> Option<Answer> {
        if name == "localhost" || name.ends_with(".localhost") {
            return Some(Answer::Addresses(Addresses::LOOPBACK));
        }
        if name != "arpa" && !name.ends_with(".arpa") {
            return None;
        }
        let found = match query.name().parse_arpa_name() {
            Ok(net) if net.prefix_len() == net.max_prefix_len() => self.name_of(net.addr()),
            _ => None,
        };
        Some(match (found, query.query_type()) {
            (None, _) => Answer::Failure(ResponseCode::NXDomain),
            (Some(name), RecordType::PTR) => Answer::Pointer(name),
            (Some(_), _) => Answer::NoData,
        })
    }

    fn name_of(&self, address: IpAddr) -> Option<Name> {
        if address.is_loopback() {
            return Name::from_ascii("localhost.").ok();
        }
        let mut name = Name::from_ascii(&*self.pool.name(address)?).ok()?;
        name.set_fqdn(true);
        Some(name)
    }

    /// The answer to a name that is one too many of those that look like data.
    fn guarded(&self, query: &Query, name: &str, now: Instant) -> Option<Answer> {
        let finding = self.state().guard.look_at(name, now);
        match finding {
            Finding::Plain => return None,
            Finding::Tunnel { domain, is_first: true } => {
                let mut record = self.log.dns(domain, query.query_type().to_string());
                record.verdict = Some(Verdict::Refused);
                record.reason = Some(DenyReason::DnsTunnel.as_str());
                record.set_detail(format!("many names that look like data, such as {name}"));
            }
            Finding::Tunnel { is_first: false, .. } => {}
        }
        Some(Answer::Failure(ResponseCode::NXDomain))
    }

    fn forward(&self, question: Box<Question>, name: Box<str>, now: Instant) -> Option<Reply> {
        if !self.state().forwarded.take(FORWARDED_PER_SECOND_MAX, now) {
            self.count_beyond_the_limits(&question.query, now);
            return question.answer(Answer::Failure(ResponseCode::Refused)).map(Reply::Ready);
        }
        let room = Arc::clone(&self.forwarding).try_acquire_owned().ok();
        // What cannot be logged does not happen.
        let Some(_room) = room.filter(|_| self.log.is_healthy()) else {
            return question.answer(Answer::Failure(ResponseCode::ServFail)).map(Reply::Ready);
        };
        let mut record = self.log.dns(&*name, question.query.query_type().to_string());
        record.verdict = Some(Verdict::Failed);
        Some(Reply::Forward(Box::new(Forward { question, name, record, _room })))
    }

    fn count_beyond_the_limits(&self, query: &Query, now: Instant) {
        let mut state = self.state();
        state.uncounted += 1;
        if state.counted.is_some_and(|counted| now.saturating_duration_since(counted) < COUNTED_FOR) {
            return;
        }
        state.counted = Some(now);
        let count = std::mem::take(&mut state.uncounted);
        drop(state);
        let name = query.name().to_ascii();
        let mut record = self.log.dns(name.trim_end_matches('.'), query.query_type().to_string());
        record.verdict = Some(Verdict::Refused);
        record.reason = Some(DenyReason::DnsRate.as_str());
        record.count = Some(count);
    }

    fn log_once(&self, name: &str, question_type: RecordType, reason: DenyReason) {
        let mut state = self.state();
        if state.logged.contains(name) {
            return;
        }
        if state.logged.len() >= LOGGED_MAX {
            state.logged.clear();
        }
        state.logged.insert(name.into());
        drop(state);
        let mut record = self.log.dns(name, question_type.to_string());
        record.verdict = Some(Verdict::Refused);
        record.reason = Some(reason.as_str());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host that a name describes: without the labels in front that begin with an underscore.
fn host_described(name: &str) -> Host {
    let mut rest = name;
    while rest.starts_with('_')
        && let Some((_, below)) = rest.split_once('.')
    {
        rest = below;
    }
    Host::Dns(rest.into())
}

#[cfg(test)]
mod tests;
