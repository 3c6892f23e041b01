//! Records that are asked upstream: the answer is the name server's own, however it is asked.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::{Answer, DIG, Dns, Origin, OriginConfig, Reply, Speaks, Unbound, World, dig};
use serde_json::json;

use crate::support::{asking, curl, dns_line};

const RECORDS: [&str; 9] = [
    "example.test. 300 IN SOA ns.example.test. root.example.test. 1 3600 3600 3600 60",
    "example.test. 300 IN TXT \"v=spf1 include:_spf.example.test -all\"",
    "example.test. 300 IN TXT \"Second Text\"",
    "example.test. 300 IN MX 10 Mail.example.test.",
    "example.test. 300 IN MX 20 mail2.example.test.",
    "_sip._tcp.example.test. 300 IN SRV 1 2 5060 sip.example.test.",
    "www.example.test. 300 IN A 10.77.0.2",
    "example.test. 300 IN HTTPS 1 . alpn=h3 ipv4hint=10.77.0.2",
    "example.test. 300 IN CAA 0 issue \"ca.test\"",
];

const FORWARD: &str = "allowed_hosts = [\"example.test\", \"*.example.test\"]\n[dns.forward]\n\"example.test\" = [\"TXT\", \"MX\", \"CAA\"]\n\"_sip._tcp.example.test\" = [\"SRV\"]\n\"*.example.test\" = [\"TXT\"]\n";

const QUESTIONS: [(&str, &str, usize); 4] = [
    ("example.test", "TXT", 2),
    ("example.test", "MX", 2),
    ("example.test", "CAA", 1),
    ("_sip._tcp.example.test", "SRV", 1),
];

fn forwarded(speaks: Speaks, server: &str) {
    let world = World::new("d03");
    let unbound = Unbound::start(&world, speaks, "example.test.", &RECORDS);
    let mut gate = world.gate(&asking(&world, &[server], FORWARD)).attach();
    for (name, kind, records) in QUESTIONS {
        for transport in ["+notcp", "+tcp"] {
            let answer = dig(&gate, &[transport, "@192.0.2.53", name, kind]);
            answer.assert_is("NOERROR", records);
            if speaks == Speaks::Udp {
                let server = format!("@{}", unbound.address().ip());
                let direct = [&DIG[..], &[&server, name, kind]].concat();
                let direct = Answer::read(&world.job(world.gate_namespace(), direct).run());
                assert_eq!(answer.sorted(), direct.sorted(), "{name} {kind}");
            }
            for record in &answer.records {
                let ttl: u32 = record.split(' ').nth(1).unwrap().parse().unwrap();
                assert!(ttl <= 300, "{record}");
            }
        }
        let line = dns_line(&mut gate, name, None);
        assert_eq!(line["verdict"], "allowed", "{line}");
    }
    dig(&gate, &["@192.0.2.53", "mail.example.test", "TXT"]).assert_is("NXDOMAIN", 0);
    dig(&gate, &["@192.0.2.53", "www.example.test", "TXT"]).assert_is("NOERROR", 0);
    // What is not forwarded stays the gate's own, though the server has it.
    for (name, kind) in [("example.test", "HTTPS"), ("example.test", "SRV"), ("www.example.test", "MX")] {
        dig(&gate, &["@192.0.2.53", name, kind]).assert_is("NOERROR", 0);
    }
    let own = dig(&gate, &["@192.0.2.53", "www.example.test", "A"]);
    assert!(own.data().starts_with("198.1"), "{own:?}");
    assert!(world.arrivals().udp == 0 || speaks == Speaks::Udp);
}

#[test]
fn d03_forwarded_records_are_the_servers_own_by_udp() {
    forwarded(Speaks::Udp, "10.77.0.2");
}

#[test]
fn d03_forwarded_records_are_the_servers_own_by_tcp() {
    forwarded(Speaks::Tcp, "tcp://10.77.0.2");
}

#[test]
fn d03_forwarded_records_are_the_servers_own_over_tls() {
    forwarded(Speaks::Tls, "tls://10.77.0.2#dns.test");
}

#[test]
fn d03_forwarded_records_are_the_servers_own_over_https() {
    forwarded(Speaks::Https, "https://10.77.0.2/dns-query#dns.test");
}

#[test]
fn a_name_server_with_another_certificate_is_not_believed() {
    let world = World::new("dns-certificate");
    let _unbound = Unbound::start(&world, Speaks::Tls, "example.test.", &RECORDS);
    let mut gate = world.gate(&asking(&world, &["tls://10.77.0.2#other.test"], FORWARD)).attach();
    dig(&gate, &["@192.0.2.53", "example.test", "TXT"]).assert_is("SERVFAIL", 0);
    let line = dns_line(&mut gate, "example.test", Some("name_not_resolved"));
    assert_eq!(line["verdict"], "failed", "{line}");
}

#[test]
fn a_request_is_resolved_over_tls_where_the_policy_says_so() {
    let world = World::new("dial-by-dot");
    let config = OriginConfig { port: 443, ..OriginConfig::default() };
    let origin = Origin::start_with(&world, config, |_| Reply::text("hello"));
    let _unbound = Unbound::start(&world, Speaks::Tls, "example.test.", &RECORDS);
    let gate = world.gate(&asking(&world, &["tls://10.77.0.2:853#dns.test"], FORWARD)).attach();
    curl(&gate, &["https://www.example.test/"]).assert_success().assert_stdout("hello");
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(world.arrivals().udp, 0);
}

#[test]
fn long_answers_are_cut_by_udp_and_come_whole_by_tcp() {
    let world = World::new("truncation");
    let texts: Vec<_> = (0..20).map(|number| format!("example.test. 300 IN TXT \"{number:0200}\"")).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let _unbound = Unbound::start(&world, Speaks::Udp, "example.test.", &texts);
    let gate = world.gate(&asking(&world, &["10.77.0.2"], FORWARD)).attach();
    for edns in ["+noedns", "+bufsize=4096"] {
        dig(&gate, &["@192.0.2.53", "+ignore", edns, "example.test", "TXT"]).assert_is("NOERROR", 0);
        // dig asks again by TCP, as resolvers do.
        dig(&gate, &["@192.0.2.53", edns, "example.test", "TXT"]).assert_is("NOERROR", 20);
    }
}

#[test]
fn d07_a_dead_name_server_is_servfail_at_once_and_costs_no_address() {
    let world = World::new("d07");
    let dns = Dns::start(&world, &[]);
    dns.set_silent(true);
    let silent = asking(&world, &["10.77.0.2"], FORWARD);
    let nobody = asking(&world, &["10.77.0.2:5353"], FORWARD);
    for policy in [silent, nobody] {
        let mut gate = world.gate(&policy).attach();
        // The first waits for the server, as long as a resolver would wait for us; the second does not.
        for deadline in [Duration::from_secs(8), Duration::from_secs(2)] {
            let began = Instant::now();
            dig(&gate, &["@192.0.2.53", "example.test", "TXT"]).assert_is("SERVFAIL", 0);
            assert!(began.elapsed() < deadline, "{:?}", began.elapsed());
        }
        let began = Instant::now();
        dig(&gate, &["@192.0.2.53", "example.test", "A"]).assert_is("NOERROR", 1);
        assert!(began.elapsed() < Duration::from_secs(2));
        let line = dns_line(&mut gate, "example.test", Some("name_not_resolved"));
        assert_eq!((&line["verdict"], &line["question_type"]), (&json!("failed"), &json!("TXT")));
    }
}

#[test]
fn forwarded_names_carry_little_out() {
    let world = World::new("dns-tunnel");
    let dns = Dns::start(&world, &[]);
    let mut gate = world.gate(&asking(&world, &["10.77.0.2"], FORWARD)).attach();
    let text = "
import os, socket, struct, json
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10); s.connect(('192.0.2.53', 53))
codes = {}
for number in range(300):
    label = os.urandom(15).hex().encode()
    name = bytes((len(label),)) + label + b'\\x07example\\x04test\\x00'
    s.send(struct.pack('>6H', number, 0x0100, 1, 0, 0, 0) + name + struct.pack('>2H', 16, 1))
    while (answer := s.recv(4096))[:2] != struct.pack('>H', number): pass
    code = str(answer[3] & 15); codes[code] = codes.get(code, 0) + 1
print(json.dumps(codes))
";
    let outcome = gate.run(["/usr/bin/python3", "-c", text]);
    outcome.assert_success();
    // The rate and the guard: no more than 64 of 300 names were asked for.
    let asked = dns.questions().into_iter().collect::<BTreeSet<_>>().len();
    assert!((30..=64).contains(&asked), "{asked} {}", outcome.stdout);
    gate.wait_for_log(|line| line["reason"] == "dns_rate" || line["reason"] == "dns_tunnel");
}
