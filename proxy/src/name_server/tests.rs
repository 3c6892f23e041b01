//! Answers as they stand on the wire, for policies as they are written.

use super::*;
use crate::audit::{Destination, OpenedLog};
use hickory_proto::op::{Edns, Message, OpCode};
use hickory_proto::rr::RData;
use sluicegate_policy::NoSources;

struct Server {
    names: NameServer,
    policy: Policy,
    folder: tempfile::TempDir,
}

impl Server {
    fn new(document: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let destination = Destination::File(folder.path().join("audit.jsonl"));
        let log = OpenedLog::new(&destination).unwrap().start("test".into(), "none".into());
        let document = format!("version = 1\n{document}");
        let policy = Policy::compile("test.toml", &document, &NoSources).unwrap().policy;
        Self { names: NameServer::new(log.unwrap()), policy, folder }
    }

    fn reply(&self, question: &[u8]) -> Option<Reply> {
        self.names.answer(&self.policy, question, Transport::Udp)
    }

    fn answer(&self, question: &[u8]) -> Option<Message> {
        match self.reply(question)? {
            Reply::Ready(answer) => Some(Message::from_vec(&answer).unwrap()),
            Reply::Forward(_) => panic!("asked upstream"),
        }
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.answer(&question(name, kind)).unwrap()
    }

    fn is_forwarded(&self, name: &str, kind: RecordType) -> bool {
        matches!(self.reply(&question(name, kind)), Some(Reply::Forward(_)))
    }

    /// The lines of the log that have this reason, once everything is written.
    fn logged(self, reason: &str) -> Vec<String> {
        self.names.log.close(Duration::from_secs(10)).unwrap();
        let text = std::fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap();
        let wanted = format!("\"reason\":\"{reason}\"");
        text.lines().filter(|line| line.contains(&wanted)).map(str::to_owned).collect()
    }
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 7;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn data(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[test]
fn d01_an_allowed_name_has_an_address_of_its_own() {
    let server = Server::new("allowed_hosts = [\"a.test\", \"b.test\"]");
    let first = data(&server.ask("a.test.", RecordType::A));
    let address: IpAddr = first[0].parse().unwrap();
    assert!(first[0].starts_with("198.1"), "{first:?}");
    assert_ne!(data(&server.ask("b.test.", RecordType::A)), first);
    assert_eq!(data(&server.ask("A.Test.", RecordType::A)), first);
    assert!(data(&server.ask("a.test.", RecordType::AAAA))[0].starts_with("fd53:6c75:6963:6567::"));
    assert_eq!(server.names.hold(address).unwrap().host(), &Host::Dns("a.test".into()));
}

#[test]
fn d02_a_refused_name_gets_the_sink_or_nothing() {
    let sink = Server::new("allowed_hosts = []\n[dns]\nsearch = [\"corp.test\"]");
    assert_eq!(data(&sink.ask("evil.test.", RecordType::A)), ["198.18.0.1"]);
    for name in ["evil.corp.test.", "evil.", "7.2.0.192.in-addr.arpa."] {
        assert_eq!(code(&sink.ask(name, RecordType::A)), ResponseCode::NXDomain, "{name}");
    }
    assert!(sink.names.hold(SINK_V4.into()).is_none());
    let none = Server::new("[dns]\nrefused = \"nxdomain\"");
    assert_eq!(code(&none.ask("evil.test.", RecordType::A)), ResponseCode::NXDomain);
}

#[test]
fn names_of_a_search_list_do_not_exist_unless_they_are_meant() {
    let document = "internet = true\n[dns]\nsearch = [\"corp.test\"]\n[[rules]]\nhost = \"db.corp.test\"\n[[rules]]\nhost = \"cache\"";
    let server = Server::new(document);
    for (name, expected) in [
        ("example.com.", ResponseCode::NoError),
        ("example.com.corp.test.", ResponseCode::NXDomain),
        ("example.", ResponseCode::NXDomain),
        ("db.corp.test.", ResponseCode::NoError),
        ("cache.", ResponseCode::NoError),
    ] {
        assert_eq!(code(&server.ask(name, RecordType::A)), expected, "{name}");
    }
}

#[test]
fn d05_other_types_have_no_data() {
    let server = Server::new("allowed_hosts = [\"a.test\"]");
    for kind in [RecordType::TXT, RecordType::MX, RecordType::HTTPS, RecordType::SVCB, RecordType::ANY] {
        let answer = server.ask("a.test.", kind);
        assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 0), "{kind}");
        let [soa] = answer.authorities.as_slice() else { panic!("no record to remember it by") };
        assert!(soa.record_type() == RecordType::SOA && soa.ttl <= 5);
    }
}

#[test]
fn an_address_of_ours_has_its_name() {
    let server = Server::new("allowed_hosts = [\"a.test\"]");
    for kind in [RecordType::A, RecordType::AAAA] {
        let address: IpAddr = data(&server.ask("a.test.", kind))[0].parse().unwrap();
        let reverse = Name::from(address).to_ascii();
        let found = server.ask(&reverse, RecordType::PTR);
        assert_eq!(data(&found), ["a.test."]);
        assert_eq!(data(&server.ask(&reverse.to_uppercase(), RecordType::PTR)), ["a.test."]);
        assert_eq!(code(&server.ask(&reverse, RecordType::TXT)), ResponseCode::NoError);
    }
    assert_eq!(data(&server.ask("1.0.0.127.in-addr.arpa.", RecordType::PTR)), ["localhost."]);
    for nothing in ["1.0.18.198.in-addr.arpa.", "18.198.in-addr.arpa.", "_dns.resolver.arpa.", "arpa."] {
        assert_eq!(code(&server.ask(nothing, RecordType::PTR)), ResponseCode::NXDomain, "{nothing}");
    }
}

#[test]
fn only_types_and_names_of_the_policy_are_asked_upstream() {
    let document = "allowed_hosts = [\"a.test\", \"*.b.test\"]\ndenied_hosts = [\"no.b.test\"]\n[dns.forward]\n\"a.test\" = [\"MX\", \"TXT\"]\n\"_dmarc.a.test\" = [\"TXT\"]\n\"*.b.test\" = [\"srv\"]\n\"c.test\" = [\"TXT\"]";
    let server = Server::new(document);
    use RecordType::{A, HTTPS, MX, SRV, TXT};
    for (name, kind) in
        [("A.test.", MX), ("a.test.", TXT), ("_dmarc.a.test.", TXT), ("_x._tcp.d.b.test.", SRV)]
    {
        assert!(server.is_forwarded(name, kind), "{name} {kind}");
    }
    for (name, kind) in [
        ("a.test.", SRV),
        ("a.test.", HTTPS),
        ("a.test.", A),
        ("_mta-sts.a.test.", TXT),
        ("x.a.test.", TXT),
        ("b.test.", SRV),
        ("no.b.test.", SRV),
        ("_x._tcp.no.b.test.", SRV),
        ("c.test.", TXT),
    ] {
        assert!(!server.is_forwarded(name, kind), "{name} {kind}");
    }
}

#[test]
fn e04_canaries_are_hidden_and_public_resolvers_refused() {
    let server = Server::new("internet = true");
    assert_eq!(code(&server.ask("use-application-dns.net.", RecordType::A)), ResponseCode::NXDomain);
    assert_eq!(data(&server.ask("dns.google.", RecordType::A)), ["198.18.0.1"]);
    assert_eq!(server.logged("encrypted_dns").len(), 1);
    let open = Server::new("internet = true\n[dns]\nencrypted = \"allow\"");
    for name in ["use-application-dns.net.", "dns.google."] {
        assert!(data(&open.ask(name, RecordType::A))[0] != "198.18.0.1", "{name}");
    }
}

#[test]
fn edns_is_spoken_in_version_0() {
    let server = Server::new("allowed_hosts = [\"a.test\"]");
    let ask = |version, size| {
        let mut message = Message::from_vec(&question("a.test.", RecordType::A)).unwrap();
        let mut edns = Edns::new();
        edns.set_version(version).set_max_payload(size);
        message.set_edns(edns);
        server.answer(&message.to_vec().unwrap()).unwrap()
    };
    for size in [0, 512, 1_232, 65_535] {
        let answer = ask(0, size);
        assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 1), "{size}");
        assert_eq!(answer.edns.unwrap().max_payload(), 1_232);
    }
    let answer = ask(1, 1_232);
    // The code has two meanings (RFC 6895 section 2.3); this is the one that an answer to EDNS has.
    assert_eq!((u16::from(code(&answer)), answer.answers.len()), (u16::from(ResponseCode::BADVERS), 0));
    assert!(server.ask("a.test.", RecordType::A).edns.is_none());
}

#[test]
fn what_does_not_fit_is_cut_by_udp_and_whole_by_tcp() {
    let texts = |count: usize| {
        let text = hickory_proto::rr::rdata::TXT::new(vec!["x".repeat(200)]);
        let record =
            hickory_proto::rr::Record::from_rdata(Name::from_ascii("a.test.").unwrap(), 1, RData::TXT(text));
        Answer::Records(vec![record; count])
    };
    let answered = |size: Option<u16>, count, transport| {
        let mut message = Message::from_vec(&question("a.test.", RecordType::TXT)).unwrap();
        if let Some(size) = size {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
        }
        let Received::Question(question) = Received::read(&message.to_vec().unwrap(), transport) else {
            panic!("no question");
        };
        let bytes = question.answer(texts(count)).unwrap();
        let answer = Message::from_vec(&bytes).unwrap();
        (answer.metadata.truncation, answer.answers.len(), bytes.len())
    };
    for (size, count, cut) in [
        (None, 2, false),
        (None, 3, true),
        (Some(100), 2, false),
        (Some(1_232), 5, false),
        (Some(1_232), 6, true),
        (Some(9_000), 6, true),
    ] {
        let (truncated, records, length) = answered(size, count, Transport::Udp);
        assert_eq!((truncated, records), (cut, if cut { 0 } else { count }), "{size:?} {count}");
        assert!(length <= usize::from(size.unwrap_or(512).clamp(512, 1_232)), "{size:?} {count}: {length}");
    }
    assert_eq!(answered(None, 100, Transport::Tcp).1, 100);
}

#[test]
fn questions_beyond_the_rate_are_refused_and_counted() {
    let server = Server::new("allowed_hosts = [\"a.test\"]\n[dns]\nquestions_per_second = 5");
    let codes: Vec<_> = (0..100).map(|_| code(&server.ask("a.test.", RecordType::A))).collect();
    let answered = codes.iter().filter(|&&code| code == ResponseCode::NoError).count();
    let refused = codes.iter().filter(|&&code| code == ResponseCode::Refused).count();
    assert_eq!(answered + refused, 100);
    // Some time passes meanwhile.
    assert!((10..50).contains(&answered), "{answered}");
    assert_eq!(server.logged("dns_rate").len(), 1);
}

#[test]
fn a_tunnel_of_names_is_closed_and_one_line() {
    let server = Server::new("allowed_hosts = [\"*.evil.test\"]");
    let codes: Vec<_> = (0..200_u128)
        .map(|number| {
            format!(
                "{:032x}.evil.test.",
                (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) % (1 << 127)
            )
        })
        .map(|name| code(&server.ask(&name, RecordType::A)))
        .collect();
    assert_eq!(codes.iter().filter(|&&code| code == ResponseCode::NoError).count(), 64);
    assert!(codes[64..].iter().all(|&code| code == ResponseCode::NXDomain));
    assert_eq!(code(&server.ask("www.evil.test.", RecordType::A)), ResponseCode::NoError);
    let lines = server.logged("dns_tunnel");
    assert!(lines.len() == 1 && lines[0].contains("\"host\":\"evil.test\""), "{lines:?}");
}

#[test]
fn d10_malformed_messages_get_formerr_or_nothing() {
    let server = Server::new("");
    let good = question("a.test.", RecordType::A);
    for end in 0..good.len() {
        if let Some(answer) = server.answer(&good[..end]) {
            assert_eq!(code(&answer), ResponseCode::FormErr, "cut at {end}");
        }
    }
    // A compression pointer to itself.
    let looped = [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
    assert_eq!(code(&server.answer(&looped).unwrap()), ResponseCode::FormErr);
    let trailed = [&good[..], &[0]].concat();
    assert_eq!(code(&server.answer(&trailed).unwrap()), ResponseCode::FormErr);
    // An answer is not answered.
    let mut response = good.clone();
    response[2] |= 0x80;
    assert!(server.answer(&response).is_none());
}

#[test]
fn d10_no_mutation_of_a_good_message_is_answered_with_more_than_it_asks() {
    let server = Server::new("allowed_hosts = [\"*.test\"]\n[dns]\nquestions_per_second = 10000");
    let mut message = Message::from_vec(&question("www.example.test.", RecordType::A)).unwrap();
    message.set_edns(Edns::new());
    let good = message.to_vec().unwrap();
    // xorshift, seeded: the same messages in each run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut answered = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = u8::try_from(random(256)).unwrap(),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, u8::try_from(random(256)).unwrap()),
            }
        }
        let Some(answer) = server.answer(&bytes) else { continue };
        answered += 1;
        assert!(answer.metadata.op_code == OpCode::Query || code(&answer) == ResponseCode::NotImp);
        assert!(answer.answers.len() <= 1, "{bytes:?}");
        assert_eq!(answer.metadata.id.to_be_bytes(), bytes[..2], "{bytes:?}");
    }
    assert!(answered > 5_000, "{answered}");
}
