//! Answers the workload's DNS, on whatever address it asks.
//!
//! **Invariant:** no question of the workload's leaves: an answer depends on the policy alone, and a
//! name is resolved in earnest only when an approved request dials it.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use sluicegate_policy::{DenyReason, Host, Policy, Reach};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::accept::Accepted;
use crate::audit::{Log, Verdict};
use crate::gate::Gate;

/// How long an answer may be remembered, in seconds: a name that becomes allowed works soon.
const TTL_SECONDS: u32 = 30;

/// Names with an address of their own. A workload talks to hundreds; the benchmarking range
/// (RFC 2544) would hold twice as many.
const NAMES_MAX: u32 = 65_536;

/// Refused names that are remembered as logged, so that a loop of lookups is one line.
const LOGGED_MAX: usize = 4_096;

/// What an answer to a UDP question may take without EDNS trouble (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1_232;

/// The longest question read: one name and EDNS options.
const QUESTION_BYTES_MAX: u16 = 4_096;

/// How long a TCP connection waits for its next question (RFC 7766 section 6.2.3 asks for
/// seconds).
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Questions answered on one TCP connection.
const TCP_QUESTIONS_MAX: usize = 1_000;

/// The address of every refused name: whoever dials it is told why.
pub const SINK_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same over IPv6, in a unique local prefix of ours (RFC 4193).
pub const SINK_V6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6c75, 0x6963, 0x6567, 0, 0, 0, 1);

/// Answers by policy.
#[derive(Debug)]
pub struct NameServer {
    log: Log,
    names: Mutex<Names>,
}

/// Which name has which number; a number is never given to a second name.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Box<str>, u32>,
    logged: HashSet<Box<str>>,
}

/// What a question gets.
enum Answer {
    Addresses(Ipv4Addr, Ipv6Addr),
    Failure(ResponseCode),
}

impl NameServer {
    /// A name server that remembers which name has which address, whatever policy comes.
    pub fn new(log: Log) -> Self {
        Self { log, names: Mutex::default() }
    }

    /// The answer of `policy` to one message, or none where even an error would be an answer to no
    /// question.
    pub fn answer(&self, policy: &Policy, question: &[u8]) -> Option<Vec<u8>> {
        let mut decoder = BinDecoder::new(question);
        let reply = match Message::read(&mut decoder) {
            // Bytes behind the last record are no part of any question.
            Ok(message) if decoder.is_empty() => self.reply(policy, &message)?,
            Ok(_) | Err(_) => malformed(question)?,
        };
        reply.to_vec().ok()
    }

    fn reply(&self, policy: &Policy, message: &Message) -> Option<Message> {
        let metadata = &message.metadata;
        if metadata.message_type != MessageType::Query {
            return None;
        }
        let mut reply = Message::response(metadata.id, metadata.op_code);
        reply.metadata.recursion_desired = metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        if message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD);
            reply.set_edns(edns);
        }
        let code = match (metadata.op_code, message.queries.as_slice()) {
            (OpCode::Query, [query]) => {
                reply.add_query(query.clone());
                self.fill(policy, query, &mut reply)
            }
            (OpCode::Query, _) => ResponseCode::FormErr,
            _ => ResponseCode::NotImp,
        };
        reply.metadata.response_code = code;
        Some(reply)
    }

    fn fill(&self, policy: &Policy, query: &Query, reply: &mut Message) -> ResponseCode {
        if query.query_class() != DNSClass::IN {
            return ResponseCode::Refused;
        }
        let (v4, v6) = match self.decide(policy, query) {
            Answer::Addresses(v4, v6) => (v4, v6),
            Answer::Failure(code) => return code,
        };
        // Everything else is NODATA: HTTPS and SVCB records would carry ECH keys and HTTP/3 hints.
        let data = match query.query_type() {
            RecordType::A => RData::A(A(v4)),
            RecordType::AAAA => RData::AAAA(AAAA(v6)),
            _ => return ResponseCode::NoError,
        };
        reply.add_answer(Record::from_rdata(query.name().clone(), TTL_SECONDS, data));
        ResponseCode::NoError
    }

    fn decide(&self, policy: &Policy, query: &Query) -> Answer {
        let text = query.name().to_ascii();
        let Ok(Host::Dns(name)) = Host::parse(&text) else {
            return Answer::Failure(ResponseCode::NXDomain);
        };
        // RFC 6761 section 6.3: this name never leaves the machine.
        if &*name == "localhost" || name.ends_with(".localhost") {
            return Answer::Addresses(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        }
        if name.ends_with(".arpa") {
            return Answer::Failure(ResponseCode::NXDomain);
        }
        let host = Host::Dns(name.clone());
        match policy.reaches(&host) {
            Reach::Open => self.number(&name).map_or(Answer::Failure(ResponseCode::ServFail), |number| {
                Answer::Addresses(synthetic_v4(number), synthetic_v6(number))
            }),
            Reach::Refused(reason) => {
                self.log_once(&name, query.query_type(), reason);
                if policy.dns().answers_nxdomain(&host) {
                    Answer::Failure(ResponseCode::NXDomain)
                } else {
                    Answer::Addresses(SINK_V4, SINK_V6)
                }
            }
        }
    }

    fn number(&self, name: &str) -> Option<u32> {
        let mut names = self.names();
        if let Some(number) = names.numbers.get(name) {
            return Some(*number);
        }
        let number = u32::try_from(names.numbers.len()).ok().filter(|&number| number < NAMES_MAX)?;
        names.numbers.insert(name.into(), number);
        Some(number)
    }

    fn log_once(&self, name: &str, question_type: RecordType, reason: DenyReason) {
        let mut names = self.names();
        if names.logged.contains(name) {
            return;
        }
        if names.logged.len() >= LOGGED_MAX {
            names.logged.clear();
        }
        names.logged.insert(name.into());
        drop(names);
        let mut record = self.log.dns(name, question_type.to_string());
        record.verdict = Some(Verdict::Refused);
        record.reason = Some(reason.as_str());
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of the name with this number; `.1` is the sink's.
fn synthetic_v4(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(SINK_V4) + 1 + number)
}

fn synthetic_v6(number: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(SINK_V6) + 1 + u128::from(number))
}

/// FORMERR to whatever has at least an id and is not itself an answer (RFC 1035 section 4.1.1).
fn malformed(question: &[u8]) -> Option<Message> {
    let [high, low, flags, ..] = *question else { return None };
    let is_response = flags & 0x80 != 0;
    (question.len() >= 12 && !is_response).then(|| {
        let id = u16::from_be_bytes([high, low]);
        Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)
    })
}

/// Answers the questions of a TCP connection (RFC 7766): each has two bytes of length before it.
pub async fn serve_tcp(gate: &Gate, accepted: Accepted) {
    let mut io = accepted.io;
    for _ in 0..TCP_QUESTIONS_MAX {
        let Ok(Ok(length)) = timeout(TCP_IDLE, io.read_u16()).await else { return };
        if length > QUESTION_BYTES_MAX {
            return;
        }
        let mut question = vec![0; usize::from(length)];
        let Ok(Ok(_)) = timeout(TCP_IDLE, io.read_exact(&mut question)).await else { return };
        let Some(answer) = gate.names.answer(&gate.generation().policy, &question) else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        let Ok(Ok(())) = timeout(TCP_IDLE, io.write_all(&framed)).await else { return };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Destination, LogOptions};
    use hickory_proto::rr::Name;
    use sluicegate_policy::NoSources;

    struct Server(NameServer, Policy);

    impl Server {
        fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
            self.0.answer(&self.1, question)
        }
    }

    fn server(document: &str) -> (Server, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(LogOptions {
            destination: Destination::File(folder.path().join("audit.jsonl")),
            instance: "test".into(),
            generation: "none".into(),
        });
        let document = format!("version = 1\n{document}");
        let policy = Policy::compile("test.toml", &document, &NoSources).unwrap().policy;
        (Server(NameServer::new(log.unwrap()), policy), folder)
    }

    fn ask(server: &Server, name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.metadata.id = 7;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let answer = server.answer(&message.to_vec().unwrap()).unwrap();
        Message::from_vec(&answer).unwrap()
    }

    fn data(message: &Message) -> Vec<String> {
        message.answers.iter().map(|record| record.data.to_string()).collect()
    }

    #[test]
    fn d01_an_allowed_name_has_an_address_of_its_own() {
        let (server, _folder) = server("allowed_hosts = [\"a.test\", \"b.test\"]");
        let first = data(&ask(&server, "a.test.", RecordType::A));
        assert_eq!(first, ["198.18.0.2"]);
        assert_eq!(data(&ask(&server, "b.test.", RecordType::A)), ["198.18.0.3"]);
        assert_eq!(data(&ask(&server, "A.Test.", RecordType::A)), first);
        assert_eq!(data(&ask(&server, "a.test.", RecordType::AAAA)), ["fd53:6c75:6963:6567::2"]);
    }

    #[test]
    fn d02_a_refused_name_gets_the_sink_or_nothing() {
        let (sink, _folder) = server("allowed_hosts = []\n[dns]\nsearch = [\"corp.test\"]");
        assert_eq!(data(&ask(&sink, "evil.test.", RecordType::A)), ["198.18.0.1"]);
        for name in ["evil.corp.test.", "evil.", "7.2.0.192.in-addr.arpa."] {
            assert_eq!(
                ask(&sink, name, RecordType::A).metadata.response_code,
                ResponseCode::NXDomain,
                "{name}"
            );
        }
        let (none, _folder) = server("[dns]\nrefused = \"nxdomain\"");
        assert_eq!(ask(&none, "evil.test.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    }

    #[test]
    fn d05_other_types_have_no_data() {
        let (server, _folder) = server("allowed_hosts = [\"a.test\"]");
        for kind in [RecordType::TXT, RecordType::MX, RecordType::HTTPS, RecordType::SVCB, RecordType::ANY] {
            let answer = ask(&server, "a.test.", kind);
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
            assert!(answer.answers.is_empty(), "{kind}");
        }
    }

    #[test]
    fn d10_malformed_messages_get_formerr_or_nothing() {
        let (server, _folder) = server("");
        let mut good = Message::query();
        good.add_query(Query::query(Name::from_ascii("a.test.").unwrap(), RecordType::A));
        let good = good.to_vec().unwrap();
        for end in 0..good.len() {
            if let Some(answer) = server.answer(&good[..end]) {
                let answer = Message::from_vec(&answer).unwrap();
                assert_eq!(answer.metadata.response_code, ResponseCode::FormErr, "cut at {end}");
            }
        }
        // A compression pointer to itself.
        let looped = [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
        let answer = Message::from_vec(&server.answer(&looped).unwrap()).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
        let trailed = [&good[..], &[0]].concat();
        let answer = Message::from_vec(&server.answer(&trailed).unwrap()).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
        // An answer is not answered.
        let mut response = good.clone();
        response[2] |= 0x80;
        assert!(server.answer(&response).is_none());
    }

    #[test]
    fn numbers_run_out_before_addresses_repeat() {
        assert!(u32::from(synthetic_v4(NAMES_MAX - 1)) < u32::from(Ipv4Addr::new(198, 20, 0, 0)));
        assert_ne!(synthetic_v4(0), SINK_V4);
        assert_ne!(synthetic_v6(0), SINK_V6);
    }
}
