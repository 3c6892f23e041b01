//! The URL as a handler sees it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use e2e::World;

use crate::language::Language;
use crate::stage::Stage;

in_every_language! {
    u01_u02_the_url_is_the_one_that_was_asked_for
    u03_an_address_stays_an_address
    u04_an_absolute_target_and_the_host_are_one_authority
}

fn u01_u02_the_url_is_the_one_that_was_asked_for(language: Language) {
    let world = World::new("u01");
    let stage = Stage::new(&world, language);
    let gate = stage.serve();
    for (url, seen) in [
        ("http://google.com/url", "http://google.com/url"),
        ("http://google.com/url?a=b&c=%20d&e", "http://google.com/url?a=b&c=%20d&e"),
        ("http://google.com:8080/url", "http://google.com:8080/url"),
        ("https://example.com/url", "https://example.com/url"),
        ("https://EXAMPLE.com./url?X", "https://example.com/url?X"),
        ("https://example.com:8443/url", "https://example.com:8443/url"),
    ] {
        for version in ["--http1.1", "--http2"] {
            gate.ask_url(url, &[version]).assert_body(200, seen);
        }
    }
    assert!(gate.arrived().is_empty());
}

fn u03_an_address_stays_an_address(language: Language) {
    let world = World::new("u03");
    let stage = Stage::new(&world, language);
    let gate = stage.serve();
    for url in ["http://15.0.0.2/url", "http://[111::]/url", "http://[2001:db8::1]:8080/url?x"] {
        gate.ask_url(url, &[]).assert_body(200, url);
    }
    assert!(gate.arrived().is_empty());
}

fn u04_an_absolute_target_and_the_host_are_one_authority(language: Language) {
    let world = World::new("u04");
    let stage = Stage::new(&world, language);
    let gate = stage.serve();
    let deadline = Duration::from_secs(30);
    let ask = |target: &str, host: &str| {
        let address = SocketAddr::from(([198, 51, 100, 9], 80));
        let connect = || TcpStream::connect_timeout(&address, deadline);
        let mut stream = gate.gate.namespace().enter(connect).unwrap();
        stream.set_read_timeout(Some(deadline)).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let same = ask("http://one.test/url", "one.test");
    assert!(same.starts_with("HTTP/1.1 200") && same.contains("\r\n\r\nhttp://one.test/url"), "{same}");
    for (target, host) in [("http://one.test/url", "two.test"), ("http://two.test/url", "one.test")] {
        let differing = ask(target, host);
        assert!(differing.starts_with("HTTP/1.1 400"), "{differing}");
        assert!(!differing.contains("http://"), "the handler ran: {differing}");
    }
}
