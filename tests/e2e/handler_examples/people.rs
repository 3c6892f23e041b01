//! Examples that somebody outside has a hand in while the workload runs.

use e2e::{Origin, Outcome, Reply, World};
use serde_json::Value;

use crate::support::{NAME, Shell, curl, curl_line, gate, operator, shown};

/// Asks for a page each time it is told to, by one connection; tells status and local port.
const ONE_CONNECTION: &str = r#"
import http.client, sys
connection = http.client.HTTPSConnection("git.example.test")
for line in sys.stdin:
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    print("answer", response.status, connection.sock.getsockname()[1], flush=True)
"#;

#[test]
fn h01_open_then_closed_on_one_connection() {
    let world = World::new("open-then-closed");
    let origin = Origin::start(&world, |_| Reply::text("ok"));
    let client = shown(&world.home_file("client.py", ONE_CONNECTION));
    let mut running = gate(&world, "handler-open-then-closed", &["git.example.test"], origin.address())
        .job(["/usr/bin/python3", &client])
        .spawn();
    let mut answers = Vec::new();
    let mut ask = || {
        running.write("\n");
        let wanted = answers.len() + 1;
        while running.stdout().lines().count() < wanted {
            running.wait_a_little();
        }
        answers = running.stdout().lines().map(str::to_owned).collect();
        answers.last().unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(ask(), "403");
    let hosts = r#"{"hosts":["git.example.test","packages.example.test"]}"#;
    operator(&world, &["handler", "set", "allow_hosts", "--params", hosts]).run().assert_success();
    assert_eq!(ask(), "200");
    operator(&world, &["handler", "set", "allow_hosts", "--params", r#"{"hosts":[]}"#])
        .run()
        .assert_success();
    assert_eq!(ask(), "403");
    operator(&world, &["handler", "set", "no_http"]).run().assert_success();
    assert_eq!(ask(), "403");
    operator(&world, &["handler", "clear"]).run().assert_success();
    assert_eq!(ask(), "403");

    let ports: Vec<_> = answers.iter().map(|line| line.rsplit_once(' ').unwrap().1.to_owned()).collect();
    assert!(ports.iter().all(|port| *port == ports[0]), "more than one connection: {answers:?}");
    assert_eq!(origin.requests().len(), 1);
    running.close_stdin();
    let outcome = running.wait();
    outcome.assert_success();
    let reasons: Vec<_> = outcome
        .lines("exchange")
        .iter()
        .map(|line| line["reason"].as_str().unwrap_or("-").to_owned())
        .collect();
    assert_eq!(
        reasons,
        ["not_named", "-", "denied_by_handler", "denied_by_handler", "not_named"],
        "{outcome:#?}"
    );
}

#[test]
fn p25_a_handler_that_is_not_there_is_refused_and_changes_nothing() {
    let world = World::new("no-such-handler");
    let origin = Origin::start(&world, |_| Reply::text("ok"));
    let mut shell =
        Shell::start(gate(&world, "handler-open-then-closed", &["git.example.test"], origin.address()));
    let hosts = r#"{"hosts":["git.example.test"]}"#;
    operator(&world, &["handler", "set", "allow_hosts", "--params", hosts]).run().assert_success();
    let wrong = operator(&world, &["handler", "set", "allow_host"]).run();
    assert!(!wrong.status.success(), "{wrong:#?}");
    assert!(wrong.stderr.contains("allow_hosts"), "{wrong:#?}");
    assert_eq!(shell.ask("curl -sS https://git.example.test/"), "ok");
    shell.end().assert_success();
}

/// Waits for the one request that waits for a person, and returns its id.
fn waiting(world: &World, shell: &mut Shell<'_>) -> String {
    loop {
        let listed = operator(world, &["approval", "list", "--json"]).run();
        listed.assert_success();
        if let Some(id) = ids(&listed).pop() {
            return id;
        }
        shell.running().wait_a_little();
    }
}

fn ids(listed: &Outcome) -> Vec<String> {
    let found: Value = listed.json();
    found["pending"]
        .as_array()
        .unwrap()
        .iter()
        .map(|waiting| waiting["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn ask_a_person() {
    let world = World::new("ask");
    let origin = Origin::start(&world, |_| Reply::text("ok"));
    let hosts = ["api.example.com", "uploads.example.com"];
    let mut shell = Shell::start(gate(&world, "ask-a-person", &hosts, origin.address()));
    assert_eq!(shell.ask(&curl_line(&["https://api.example.com/v1/issues"])), "ok 200");
    let small = curl_line(&["-d", "small", "https://uploads.example.com/"]);
    assert_eq!(shell.ask(&small), "ok 200");
    assert_eq!(origin.requests().len(), 2);

    let write = curl_line(&["-d", "title", "https://api.example.com/v1/issues"]);
    world.home_file("large", vec![b'x'; 2_000_000]);
    // Over HTTP/2 curl 7.88 takes an answer that ends before the upload (RFC 9113 section 8.1) for an error.
    let large = curl_line(&["--http1.1", "-T", "large", "https://uploads.example.com/large"]);
    for (number, (command, answer, result)) in [
        (&write, "allow", "ok 200"),
        (&write, "deny", "approval_denied"),
        (&large, "allow", "ok 200"),
        (&large, "deny", "approval_denied"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = origin.requests().len();
        let file = format!("answer-{number}");
        shell.ask(&format!("{{ {{ {command}; }} >{file} 2>&1 & }}"));
        let id = waiting(&world, &mut shell);
        assert_eq!(origin.requests().len(), before, "it went out before anybody agreed");
        operator(&world, &["approval", answer, &id]).run().assert_success();
        let shown = shell.ask(&format!("wait; cat {file}"));
        assert!(shown.contains(result), "{command}, {answer}: {shown}");
        assert_eq!(origin.requests().len() - before, usize::from(answer == "allow"), "{command}, {answer}");
    }
    let outcome = shell.end();
    outcome.assert_success();
    let line = outcome.lines("exchange")[0];
    assert_eq!(line["instance"], NAME, "{outcome:#?}");
}

#[test]
fn o04_audit_mode() {
    let world = World::new("audit");
    let origin = Origin::start(&world, |_| Reply::text("ok"));
    let hosts = ["pypi.org", "example.org", "api.example.com"];
    for (arguments, would_refuse) in [
        (vec!["https://pypi.org/"], None),
        (vec!["https://api.example.com/"], None),
        (vec!["https://example.org/"], Some("not_in_allowed_hosts")),
        (vec!["-d", "x", "https://api.example.com/"], Some("no_rule_matches")),
    ] {
        let outcome = gate(&world, "audit-mode", &hosts, origin.address()).run(curl(&arguments));
        outcome.assert_success().assert_stdout("ok 200");
        let line = outcome.only_exchange();
        assert_eq!(line["verdict"], "allowed", "{outcome:#?}");
        assert_eq!(line["would_refuse"].as_str(), would_refuse, "{outcome:#?}");
    }
    assert_eq!(origin.requests().len(), 4);
}
