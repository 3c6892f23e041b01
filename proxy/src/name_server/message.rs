//! Questions as they stand on the wire, and answers to them. Pure: what is answered is decided elsewhere.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use sluicegate_policy::Transport;

use super::pool::Addresses;

/// How long an answer may be remembered, in seconds: a name that becomes allowed works soon.
const TTL_SECONDS: u32 = 30;

/// How long it may be remembered that there is no answer (RFC 2308 section 5).
const NEGATIVE_TTL_SECONDS: u32 = 5;

/// What an answer to a UDP question may take without trouble on the way (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1_232;

/// The same for a client that does not say (RFC 1035 section 4.2.1).
const UDP_PAYLOAD_UNSTATED: u16 = 512;

/// The version of EDNS that is spoken (RFC 6891 section 6.1.3).
const EDNS_VERSION: u8 = 0;

/// A question that was understood.
#[derive(Debug)]
pub(super) struct Question {
    /// What is asked.
    pub(super) query: Query,
    /// The answer as far as it follows from the question alone.
    reply: Message,
    /// How long the answer may be, in bytes.
    room: usize,
}

/// What a question gets.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// The one of these that was asked for; no data where neither was.
    Addresses(Addresses),
    /// The name of an address.
    Pointer(Name),
    /// Records that a name server of ours gave.
    Records(Vec<Record>),
    /// The name is there, and what was asked for is not.
    NoData,
    /// No answer, for this reason.
    Failure(ResponseCode),
}

/// What a message turns out to be.
#[derive(Debug)]
pub(super) enum Received {
    /// A question to be answered.
    Question(Box<Question>),
    /// Not one that can be answered; this tells so.
    Unanswerable(Vec<u8>),
    /// Nothing that anybody waits for an answer to.
    Nothing,
}

impl Received {
    /// Reads a message of the workload's.
    pub(super) fn read(bytes: &[u8], transport: Transport) -> Self {
        let mut decoder = BinDecoder::new(bytes);
        let read = match Message::read(&mut decoder) {
            // Bytes behind the last record are no part of any question.
            Ok(message) if decoder.is_empty() => Question::new(message, transport),
            Ok(_) | Err(_) => Err(malformed(bytes)),
        };
        match read {
            Ok(question) => Self::Question(Box::new(question)),
            Err(Some(reply)) => reply.to_vec().map_or(Self::Nothing, Self::Unanswerable),
            Err(None) => Self::Nothing,
        }
    }
}

impl Question {
    /// What the message asks, or what is to be said instead.
    fn new(message: Message, transport: Transport) -> Result<Self, Option<Box<Message>>> {
        let metadata = &message.metadata;
        if metadata.message_type != MessageType::Query {
            return Err(None);
        }
        let mut reply = Message::response(metadata.id, metadata.op_code);
        reply.metadata.recursion_desired = metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        let stated = message.edns.as_ref().map_or(UDP_PAYLOAD_UNSTATED, Edns::max_payload);
        let room = match transport {
            Transport::Udp => stated.clamp(UDP_PAYLOAD_UNSTATED, UDP_PAYLOAD),
            Transport::Tcp => u16::MAX,
        };
        if let Some(theirs) = &message.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD);
            reply.set_edns(edns);
            if theirs.version() != EDNS_VERSION {
                reply.metadata.response_code = ResponseCode::BADVERS;
                return Err(Some(Box::new(reply)));
            }
        }
        let code = match (metadata.op_code, message.queries.as_slice()) {
            (OpCode::Query, [query]) => {
                let query = query.clone();
                reply.add_query(query.clone());
                return Ok(Self { query, reply, room: usize::from(room) });
            }
            (OpCode::Query, _) => ResponseCode::FormErr,
            _ => ResponseCode::NotImp,
        };
        reply.metadata.response_code = code;
        Err(Some(Box::new(reply)))
    }

    /// The answer on the wire; none if it cannot be written, which no answer of ours is.
    pub(super) fn answer(self, answer: Answer) -> Option<Vec<u8>> {
        let Self { query, mut reply, room } = self;
        let (mut code, mut records) = (ResponseCode::NoError, Vec::new());
        let own = |data| Record::from_rdata(query.name().clone(), TTL_SECONDS, data);
        match (answer, query.query_type()) {
            (Answer::Addresses(Addresses { v4, .. }), RecordType::A) => records.push(own(RData::A(A(v4)))),
            (Answer::Addresses(Addresses { v6, .. }), RecordType::AAAA) => {
                records.push(own(RData::AAAA(AAAA(v6))));
            }
            // HTTPS and SVCB records would carry ECH keys and HTTP/3 hints: they have no data either.
            (Answer::Addresses(_) | Answer::NoData, _) => {}
            (Answer::Pointer(name), _) => records.push(own(RData::PTR(PTR(name)))),
            (Answer::Records(found), _) => records = found,
            (Answer::Failure(failure), _) => code = failure,
        }
        if records.is_empty() && matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
            reply.add_authority(start_of_authority());
        }
        reply.metadata.response_code = code;
        reply.add_answers(records);
        let bytes = reply.to_vec().ok()?;
        if bytes.len() <= room {
            return Some(bytes);
        }
        // The client asks again by TCP (RFC 7766 section 5).
        reply.truncate().to_vec().ok().filter(|bytes| bytes.len() <= room)
    }
}

/// What tells a resolver for how long it may remember that there is no answer: the record of the root,
/// since nothing is said about where zones begin.
fn start_of_authority() -> Record {
    const SECONDS: i32 = 3_600;
    let data = SOA::new(Name::root(), Name::root(), 1, SECONDS, SECONDS, SECONDS, NEGATIVE_TTL_SECONDS);
    Record::from_rdata(Name::root(), NEGATIVE_TTL_SECONDS, RData::SOA(data))
}

/// FORMERR to whatever has at least an id and is not itself an answer (RFC 1035 section 4.1.1).
fn malformed(question: &[u8]) -> Option<Box<Message>> {
    let [high, low, flags, ..] = *question else { return None };
    let is_response = flags & 0x80 != 0;
    (question.len() >= 12 && !is_response).then(|| {
        let id = u16::from_be_bytes([high, low]);
        Box::new(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))
    })
}
