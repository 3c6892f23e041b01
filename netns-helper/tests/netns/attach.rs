//! `attach` in real namespaces: what is captured, what is refused, who may attach.

use crate::support::{Caller, DEADLINE, HELPER, Helper, Namespace, connect, output, send};
use serde_json::Value;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

const AT_ONCE: Duration = Duration::from_secs(2);

fn attach(caller: Caller, namespace: &Namespace) -> Helper {
    let mut helper = Helper::attach(caller, namespace.path().as_os_str());
    assert_eq!(helper.descriptors.len(), 7, "{}", helper.ready);
    // Until it is gone it holds the descriptors too.
    assert_eq!(helper.exit_code(), Some(0));
    helper
}

fn refusal(caller: Caller, namespace: &str) -> (Value, Option<i32>) {
    let mut helper = Helper::attach(caller, namespace.as_ref());
    assert!(helper.descriptors.is_empty());
    (helper.ready["error"].take(), helper.exit_code())
}

#[test]
fn the_helper_hands_over_and_is_gone() {
    let namespace = Namespace::of(Caller::Root);
    let helper = attach(Caller::Root, &namespace);
    assert_eq!(helper.ready["version"], 2);
    assert_eq!(helper.ready["own_addresses"], serde_json::json!(["100.64.0.2", "fd00:e9::2"]));
    assert_eq!(helper.ready["exclusive"], true);
    assert_eq!(helper.ready["namespace"], fs::read_link(namespace.path()).unwrap().to_str().unwrap());
    assert!(helper.ready["attach_us"].as_u64().unwrap() < 5_000_000);
}

fn both_families_and_transports_arrive(caller: Caller) {
    let namespace = Namespace::of(caller);
    let helper = attach(caller, &namespace);
    for (to, v6) in [("198.51.100.7:443", false), ("[2001:db8::7]:8443", true), ("169.254.169.254:80", false)]
    {
        let mut client = namespace.inside(|| connect(to, DEADLINE)).unwrap();
        let (mut served, original) = helper.accept(v6);
        assert_eq!(original, to.parse().unwrap());
        served.write_all(b"served").unwrap();
        drop(served);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "served");
    }
    for (to, v6) in [("198.51.100.7:4433", false), ("[2001:db8::7]:4433", true), ("10.1.2.3:123", false)] {
        let client = namespace.inside(|| send(to, b"datagram")).unwrap();
        let (content, sender, original) = helper.datagram(v6);
        assert_eq!((content.as_slice(), original), (b"datagram".as_slice(), to.parse().unwrap()));
        assert_eq!(sender.port(), client.local_addr().unwrap().port());
    }
}

#[test]
fn n06_tcp_and_udp_arrive_with_their_original_destination() {
    both_families_and_transports_arrive(Caller::Root);
}

#[test]
fn n06_an_ordinary_user_captures_its_own_namespace() {
    both_families_and_transports_arrive(Caller::User);
}

#[test]
fn n06_root_captures_the_namespace_of_an_ordinary_user() {
    let namespace = Namespace::of(Caller::User);
    let helper = attach(Caller::Root, &namespace);
    let _client = namespace.inside(|| connect("198.51.100.7:443", DEADLINE)).unwrap();
    assert_eq!(helper.accept(false).1, "198.51.100.7:443".parse().unwrap());
}

#[test]
fn n06_ipv6_is_switched_on_where_the_runtime_switched_it_off() {
    let namespace = Namespace::of(Caller::Root);
    namespace.inside(|| {
        for interface in ["all", "default", "lo"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1").unwrap();
        }
    });
    let helper = attach(Caller::Root, &namespace);
    let _client = namespace.inside(|| connect("[2001:db8::7]:443", DEADLINE)).unwrap();
    assert_eq!(helper.accept(true).1, "[2001:db8::7]:443".parse().unwrap());
}

#[test]
fn e13_dns_is_captured_wherever_it_is_sent() {
    let namespace = Namespace::of(Caller::Root);
    let helper = attach(Caller::Root, &namespace);
    let resolvers = [
        ("127.0.0.53:53", false),
        ("127.0.0.11:53", false),
        ("127.0.0.11:9999", false),
        ("192.0.2.53:53", false),
        ("[2001:db8::53]:53", true),
        ("[::1]:53", true),
    ];
    for (to, v6) in resolvers {
        let _client = namespace.inside(|| send(to, b"question")).unwrap();
        assert_eq!(helper.datagram(v6).2, to.parse().unwrap());
        let _client = namespace.inside(|| connect(to, DEADLINE)).unwrap();
        assert_eq!(helper.accept(v6).1, to.parse().unwrap());
    }
}

#[test]
fn the_raw_socket_answers_from_any_address() {
    let namespace = Namespace::of(Caller::Root);
    let helper = attach(Caller::Root, &namespace);
    let client = namespace.inside(|| send("198.51.100.7:53", b"question")).unwrap();
    let (_, sender, _) = helper.datagram(false);
    let SocketAddr::V4(sender) = sender else { panic!("{sender}") };

    // IPv4: version and length, total length, flags, time to live, UDP; addresses. UDP without a checksum.
    let mut packet = vec![0x45, 0, 0, 34, 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 51, 100, 7];
    packet.extend(sender.ip().octets());
    packet.extend(53_u16.to_be_bytes());
    packet.extend(sender.port().to_be_bytes());
    packet.extend([0, 14, 0, 0]);
    packet.extend(b"answer");
    let raw = Socket::from(helper.descriptors[4].try_clone().unwrap());
    raw.send_to(&packet, &SockAddr::from(sender)).unwrap();

    let mut answer = [0; 16];
    let (length, from) = client.recv_from(&mut answer).unwrap();
    assert_eq!((&answer[..length], from), (b"answer".as_slice(), "198.51.100.7:53".parse().unwrap()));
}

#[test]
fn e12_every_other_protocol_fails_at_once() {
    let namespace = Namespace::of(Caller::Root);
    let _helper = attach(Caller::Root, &namespace);
    let icmp_echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    for (protocol, to) in
        [(1, "198.51.100.7:0"), (132, "198.51.100.7:0"), (47, "198.51.100.7:0"), (58, "[2001:db8::7]:0")]
    {
        let to: SocketAddr = to.parse().unwrap();
        let error = namespace.inside(|| {
            let socket =
                Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(protocol))).unwrap();
            socket.send_to(&icmp_echo, &SockAddr::from(to)).unwrap_err()
        });
        assert!(
            matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)),
            "protocol {protocol}: {error}"
        );
    }
}

#[test]
fn e16_the_listener_cannot_be_dialled() {
    let namespace = Namespace::of(Caller::Root);
    let helper = attach(Caller::Root, &namespace);
    for localhost in ["127.0.0.1", "[::1]"] {
        let to = format!("{localhost}:{}", helper.port());
        let began = Instant::now();
        let error = namespace.inside(|| connect(&to, DEADLINE)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        assert!(began.elapsed() < AT_ONCE);
        let error = namespace.inside(|| send(&to, b"x")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{to}");
    }
}

#[test]
fn the_workload_still_talks_to_itself() {
    let namespace = Namespace::of(Caller::Root);
    let _helper = attach(Caller::Root, &namespace);
    for own in ["127.0.0.1:0", "127.1.2.3:0", "[::1]:0", "100.64.0.2:0", "[fd00:e9::2]:0"] {
        namespace.inside(|| {
            let listener = std::net::TcpListener::bind(own).unwrap();
            let to = listener.local_addr().unwrap().to_string();
            let client = connect(&to, DEADLINE).unwrap();
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        });
    }
}

#[test]
fn n07_a_dead_gate_refuses_at_once_and_its_rules_stay() {
    let namespace = Namespace::of(Caller::Root);
    let mut helper = attach(Caller::Root, &namespace);
    helper.descriptors.clear();
    for to in ["198.51.100.7:443", "[2001:db8::7]:443", "127.0.0.11:9999"] {
        let began = Instant::now();
        let error = namespace.inside(|| connect(to, DEADLINE)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        assert!(began.elapsed() < AT_ONCE);
    }
    let unanswered = namespace.inside(|| send("198.51.100.7:53", b"x")).unwrap();
    unanswered.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(unanswered.recv(&mut [0; 16]).is_err());
    assert_eq!(namespace.rules().matches("policy drop").count(), 3);
}

fn one_gate_at_a_time(caller: Caller) {
    let namespace = Namespace::of(caller);
    let mut first = attach(caller, &namespace);
    let (error, code) = refusal(caller, namespace.path().to_str().unwrap());
    assert_eq!(error["message"], "another gate is attached to this namespace");
    assert_eq!((error["exit_code"].as_i64(), code), (Some(75), Some(75)));

    // The first one is whole.
    let _client = namespace.inside(|| connect("198.51.100.7:443", DEADLINE)).unwrap();
    assert_eq!(first.accept(false).1, "198.51.100.7:443".parse().unwrap());

    first.descriptors.clear();
    let second = attach(caller, &namespace);
    let _client = namespace.inside(|| connect("198.51.100.8:443", DEADLINE)).unwrap();
    assert_eq!(second.accept(false).1, "198.51.100.8:443".parse().unwrap());
    let rules = namespace.rules();
    assert_eq!(rules.matches("table inet sluicegate").count(), 1);
    assert_eq!(rules.matches("hook output").count(), 1);
    assert!(!rules.contains(&format!("127.0.0.1:{}", first.port())), "{rules}");
    let routing = namespace.inside(|| output(Command::new("ip").arg("rule")));
    assert_eq!(routing.matches("lookup 59877").count(), 1, "{routing}");
}

#[test]
fn n09_one_gate_at_a_time_and_the_next_one_replaces() {
    one_gate_at_a_time(Caller::Root);
}

#[test]
fn n09_one_gate_at_a_time_for_an_ordinary_user_too() {
    one_gate_at_a_time(Caller::User);
}

#[test]
fn the_live_table_cannot_be_flushed_by_others() {
    let namespace = Namespace::of(Caller::Root);
    let _helper = attach(Caller::Root, &namespace);
    let before = namespace.rules();
    namespace.inside(|| {
        Command::new("nft").args(["flush", "ruleset"]).output().unwrap();
        let deleted = Command::new("nft").args(["delete", "table", "inet", "sluicegate"]).output().unwrap();
        assert!(!deleted.status.success());
    });
    let without_counters = |rules: &str| {
        rules.lines().map(|line| line.split(" packets ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(without_counters(&namespace.rules()), without_counters(&before));
}

#[test]
fn n12_tables_of_others_are_left_alone() {
    let namespace = Namespace::of(Caller::Root);
    let theirs =
        "table ip theirs {\n chain c {\n type nat hook output priority -100; policy accept;\n }\n}\n";
    namespace.inside(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), theirs).unwrap();
        output(Command::new("nft").arg("-f").arg(file.path()));
    });
    let before = namespace.rules();
    assert!(before.contains("table ip theirs"));
    for _ in 0..2 {
        let _helper = attach(Caller::Root, &namespace);
        assert!(namespace.rules().starts_with(before.trim_end()));
    }
}

#[test]
fn a_namespace_with_a_way_round_is_refused() {
    let namespace = Namespace::of(Caller::Root);
    namespace.inside(|| {
        output(Command::new("ip").args(["link", "add", "tunl0", "type", "veth", "peer", "name", "other0"]))
    });
    let (error, code) = refusal(Caller::Root, namespace.path().to_str().unwrap());
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("tunl0") && message.contains("other0"), "{message}");
    assert!(error["hint"].as_str().unwrap().contains("--network none"));
    assert_eq!(code, Some(64));
    assert!(!namespace.rules().contains("sluicegate"), "nothing was installed");
}

#[test]
fn our_own_network_is_refused() {
    let (error, code) = refusal(Caller::Root, "/proc/self/ns/net");
    assert!(error["message"].as_str().unwrap().contains("our own network namespace"));
    assert_eq!(code, Some(64));
}

#[test]
fn what_is_no_network_namespace_is_refused() {
    for path in ["/proc/self/ns/mnt", "/etc/passwd", "/nonexistent"] {
        assert_eq!(refusal(Caller::Root, path).1, Some(64), "{path}");
    }
}

#[test]
fn n11_a_user_without_the_right_is_told_which_one() {
    let namespace = Namespace::of(Caller::Root);
    let (error, code) = refusal(Caller::User, namespace.path().to_str().unwrap());
    assert!(error["hint"].as_str().unwrap().contains("CAP_SYS_PTRACE"), "{error}");
    assert_eq!(code, Some(77));

    // Readable, yet not ours to enter.
    let open = fs::File::open(namespace.path()).unwrap();
    let link = format!("/proc/self/fd/{}", open.as_raw_fd());
    nix::fcntl::fcntl(&open, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let (error, code) = refusal(Caller::User, &link);
    assert!(error["message"].as_str().unwrap().contains("CAP_SYS_ADMIN"), "{error}");
    assert_eq!(code, Some(77));
}

#[test]
fn a_wrong_command_line_says_so() {
    for arguments in [
        vec!["attach"],
        vec!["run", "--socket", "99", "--", "true"],
        vec!["attach", "--namespace", "/x", "--socket", "0"],
    ] {
        let ended = Command::new(HELPER).args(&arguments).output().unwrap();
        assert_eq!(ended.status.code(), Some(64), "{arguments:?}");
        assert!(!ended.stderr.is_empty());
    }
}
