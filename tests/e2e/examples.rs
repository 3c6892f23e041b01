//! The policies that we ship do what their READMEs say; broken documents are explained.
#![cfg(test)]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{Attached, Gate, Origin, Outcome, Reply, World, new_token};
use serde_json::{Value, json};

use crate::kept::Kept;

#[path = "conformance/kept.rs"]
mod kept;

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

/// `sluicegate policy check` in the folder of the document, with nothing of our environment.
fn check(document: &Path, flags: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let mut command = Command::new(test.ancestors().nth(2).unwrap().join("sluicegate"));
    command.args(["policy", "check"]).args(flags).arg(document.file_name().unwrap());
    command.env_clear().current_dir(document.parent().unwrap()).output().expect("./test builds sluicegate")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The document of an example as it is after its README was followed: a handler that is built is there.
fn ready(folder: &Path, scratch: &Path) -> PathBuf {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let document = folder.join("sluicegate.toml");
    if !name.starts_with("handler-in-") {
        return document;
    }
    let language = name.trim_start_matches("handler-in-");
    let built = repository(&format!("target/guests/{name}.wasm"));
    let copy = scratch.join(name);
    fs::create_dir(&copy).unwrap();
    fs::copy(&built, copy.join("read_only.wasm"))
        .unwrap_or_else(|error| panic!("{}: {error}: run scripts/{language}-guests", built.display()));
    fs::copy(document, copy.join("sluicegate.toml")).unwrap();
    copy.join("sluicegate.toml")
}

/// A gate with the policy of an example, in which these hosts are found at `origin`.
fn gate<'world>(world: &'world World, example: &str, hosts: &[&str], origin: SocketAddr) -> Gate<'world> {
    let policy = fs::read_to_string(repository(&format!("examples/{example}/sluicegate.toml"))).unwrap();
    let authorities: Vec<_> = hosts.iter().map(|host| format!("{host}:443")).collect();
    let resolve: Vec<_> = authorities.iter().map(|authority| (authority.as_str(), origin)).collect();
    world.gate(&format!("{policy}\n{}", world.upstream(&resolve)))
}

/// The gate of an example with a handler in JavaScript, in a namespace that clients are run in.
fn javascript<'world>(
    world: &'world World,
    example: &str,
    hosts: &[&str],
    origin: SocketAddr,
    variables: &[(&str, &str)],
) -> Attached<'world> {
    for handler in fs::read_dir(repository(&format!("examples/{example}/handlers"))).unwrap() {
        let handler = handler.unwrap();
        let name = format!("handlers/{}", handler.file_name().to_str().unwrap());
        world.file(&name, fs::read(handler.path()).unwrap());
    }
    let kept = Kept::lend(world, "javascript");
    let gate = gate(world, example, hosts, origin).named("box").flag("--container-id").flag("blue");
    let gate = variables.iter().fold(gate, |gate, (name, value)| gate.env(name, value)).attach();
    kept.keep();
    gate
}

/// What a client that asks so in this gate prints: the body and the status.
#[track_caller]
fn asked(gate: &Attached<'_>, arguments: &[&str]) -> String {
    let outcome = gate.run(curl(arguments));
    outcome.assert_success();
    outcome.stdout
}

/// curl that shows the status after the body.
fn curl<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["curl", "-sS", "-w", " %{http_code}"], arguments].concat()
}

/// The one refusal of this run, by its code.
#[track_caller]
fn refusal(outcome: &Outcome) -> &str {
    let line = outcome.only_exchange();
    assert_eq!(line["verdict"], "refused", "{outcome:#?}");
    line["reason"].as_str().unwrap()
}

#[test]
fn every_example_is_accepted_without_a_warning() {
    let folders: Vec<_> = fs::read_dir(repository("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert!(folders.len() >= 9, "{folders:?}");
    let overview = fs::read_to_string(repository("examples/README.md")).unwrap();
    // The engine of JavaScript is compiled once for all.
    let state = tempfile::tempdir().unwrap();
    let kept = state.path().to_str().unwrap();
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(overview.contains(&format!("]({name})")), "examples/README.md does not name {name}");
        assert!(folder.join("README.md").is_file(), "{name} has no README.md");
        let checked = check(&ready(&folder, state.path()), &["--state", kept]);
        assert_eq!(checked.status.code(), Some(0), "{name}: {}", text(&checked.stderr));
        // That it takes a moment is told, and is no warning.
        let said = text(&checked.stderr);
        let said: Vec<_> = said.lines().filter(|line| !line.starts_with("compiling ")).collect();
        assert!(said.is_empty(), "{name}: {said:?}");
        assert!(text(&checked.stdout).starts_with("sluicegate.toml: ok ("), "{}", text(&checked.stdout));
    }
}

#[test]
fn allowlist() {
    let world = World::new("allowlist");
    let origin = Origin::start(&world, |_| Reply::text("package"));
    let hosts = ["pypi.org", "deb.debian.org", "debian.org", "bugs.debian.org", "example.org"];
    for host in ["pypi.org", "deb.debian.org"] {
        let outcome =
            gate(&world, "allowlist", &hosts, origin.address()).run(curl(&[&format!("https://{host}/x")]));
        outcome.assert_success().assert_stdout("package 200");
    }
    for (url, reason) in [
        ("https://debian.org/", "not_in_allowed_hosts"),
        ("https://example.org/", "not_in_allowed_hosts"),
        ("https://pypi.org:8443/", "not_in_allowed_hosts"),
        ("https://bugs.debian.org/", "denied_host"),
        ("https://192.0.2.7/", "denied_host"),
    ] {
        let outcome = gate(&world, "allowlist", &hosts, origin.address()).run(curl(&[url]));
        assert_eq!(refusal(&outcome), reason, "{url}: {outcome:#?}");
    }
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn api_key_in_header() {
    let world = World::new("header");
    let origin = Origin::start(&world, |_| Reply::text("me"));
    let token = new_token();
    let outcome = gate(&world, "api-key-in-header", &["api.example.com"], origin.address())
        .env("API_TOKEN", &token)
        .run(curl(&["-H", "Authorization: Bearer placeholder", "https://api.example.com/v1/me"]));
    outcome.assert_success().assert_stdout("me 200");
    assert_eq!(origin.only_request().header("authorization"), [format!("Bearer {token}")]);
    assert_eq!(outcome.only_exchange()["credentials"], serde_json::json!(["API_TOKEN"]));
}

#[test]
fn api_key_in_query() {
    let world = World::new("query");
    let origin = Origin::start(&world, |_| Reply::text("Paris"));
    let token = new_token();
    let file = world.file("maps-key", &token);
    let outcome = gate(&world, "api-key-in-query", &["maps.example.com"], origin.address()).run([
        "sh",
        "-c",
        &format!(
            "cat {}; curl -sS -b c=1 'https://maps.example.com/v1/geocode?key=mine&q=Paris'",
            file.display()
        ),
    ]);
    outcome.assert_success().assert_stdout("Paris");
    let request = origin.only_request();
    assert_eq!(request.path, format!("/v1/geocode?q=Paris&key={token}"));
    assert!(request.header("cookie").is_empty());
    assert_eq!(outcome.only_exchange()["path"], "/v1/geocode");
}

#[test]
fn git_over_https_fetches_and_does_not_push() {
    let world = World::new("git");
    let origin = Origin::start(&world, |_| Reply::text("refs"));
    let run = |arguments: &[&str]| {
        gate(&world, "git-over-https", &["git.example.com"], origin.address())
            .env("GIT_TOKEN", "fetch-token")
            .run(curl(arguments))
    };
    let repository = "https://git.example.com/team/a/project.git";
    for arguments in [
        vec![format!("{repository}/info/refs?service=git-upload-pack")],
        vec!["-d".into(), "want".into(), format!("{repository}/git-upload-pack")],
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        run(&arguments).assert_success().assert_stdout("refs 200");
    }
    for request in origin.requests() {
        // base64 of x-access-token:fetch-token
        assert_eq!(request.header("authorization"), ["Basic eC1hY2Nlc3MtdG9rZW46ZmV0Y2gtdG9rZW4="]);
    }
    let push = run(&["-d", "pack", &format!("{repository}/git-receive-pack")]);
    assert_eq!(refusal(&push), "no_rule_matches");
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn read_only_api() {
    let world = World::new("read-only");
    let origin = Origin::start(&world, |_| Reply::text("ok"));
    let project = "https://api.forge.example/repos/team/project";
    for (method, url, expected) in [
        ("GET", project.to_owned(), "allowed"),
        ("GET", format!("{project}/issues/7"), "allowed"),
        ("POST", format!("{project}/issues/7/comments"), "allowed"),
        ("POST", format!("{project}/issues"), "no_rule_matches"),
        ("DELETE", project.to_owned(), "no_rule_matches"),
        ("GET", format!("{project}/actions/secrets"), "denied_by_rule"),
        ("GET", format!("{project}/actions/secrets/KEY"), "denied_by_rule"),
        ("GET", format!("{project}//actions/secrets"), "denied_by_rule"),
        ("GET", "https://api.forge.example/repos/team/projects".to_owned(), "no_rule_matches"),
    ] {
        let before = origin.requests().len();
        let outcome = gate(&world, "read-only-api", &["api.forge.example"], origin.address())
            .env("FORGE_TOKEN", "forge-token")
            .run(curl(&["--path-as-is", "-X", method, &url]));
        let arrived = origin.requests().len() - before;
        if expected == "allowed" {
            outcome.assert_success().assert_stdout("ok 200");
            assert_eq!(arrived, 1, "{method} {url}");
        } else {
            assert_eq!(refusal(&outcome), expected, "{method} {url}: {outcome:#?}");
            assert_eq!(arrived, 0, "{method} {url}");
        }
    }
}

#[test]
fn pass_through_shows_the_origins_own_certificate() {
    let world = World::new("pass-through");
    let origin = Origin::start(&world, |_| Reply::text("update"));
    // Trusting the test authority alone, and not the gate's.
    let ca = world.origin_ca_file().display().to_string();
    let hosts = ["updates.example.com", "api.example.com"];
    let fetch =
        |url: &str| gate(&world, "pass-through", &hosts, origin.address()).run(curl(&["--cacert", &ca, url]));
    let outcome = fetch("https://updates.example.com/x");
    outcome.assert_success().assert_stdout("update 200");
    match outcome.lines("flow").as_slice() {
        [line] => assert_eq!(
            (&line["verdict"], &line["rule"], &line["sni"]),
            (&"allowed".into(), &"pinned".into(), &"updates.example.com".into())
        ),
        lines => panic!("{} flows: {outcome:#?}", lines.len()),
    }
    assert!(outcome.lines("exchange").is_empty());
    // The other host is opened: this client, which trusts the origin's authority only, notices.
    assert_eq!(fetch("https://api.example.com/x").code(), 60);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn fixed_answers_need_no_upstream() {
    let world = World::new("fixed");
    let policy = fs::read_to_string(repository("examples/fixed-answer/sluicegate.toml")).unwrap();
    for (url, expected) in [
        ("https://flags.example.com/v1/flags", r#"{"beta": false} 200"#),
        ("https://eu.telemetry.example.com/v2/events", " 204"),
    ] {
        let outcome = world.run(&policy, curl(&[url]));
        outcome.assert_success().assert_stdout(expected);
        assert_eq!(outcome.only_exchange()["verdict"], "answered");
    }
    assert_eq!(refusal(&world.run(&policy, curl(&["https://flags.example.com/v2"]))), "not_named");
    assert_eq!(world.arrivals(), e2e::Arrivals::default());
}

#[test]
fn closed_network_refuses_in_its_own_words() {
    let world = World::new("closed");
    let policy = fs::read_to_string(repository("examples/closed-network/sluicegate.toml")).unwrap();
    let outcome = world.run(&policy, ["curl", "-sSi", "https://example.org/"]);
    outcome.assert_success();
    let (head, body) = outcome.stdout.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/2 451"), "{head}");
    assert!(head.contains("x-sluicegate-reason: not_named"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["message"], "this sandbox has no network (not_named)");
    assert_eq!(body["host"], "example.org");
    assert_eq!(body["id"], outcome.only_exchange()["request_id"]);
    assert_eq!(world.arrivals(), e2e::Arrivals::default());
}

#[test]
fn javascript_read_only() {
    let world = World::new("js-read-only");
    let origin = Origin::start(&world, |_| Reply::text("notes"));
    let gate = javascript(&world, "javascript-read-only", &["example.org"], origin.address(), &[]);
    assert_eq!(asked(&gate, &["https://example.org/"]), "notes 200");
    assert_eq!(asked(&gate, &["-d", "x", "https://example.org/"]), "read only\n 405");
    assert_eq!(origin.only_request().method, "GET");
    let log = gate.log();
    let line = log.iter().find(|line| line["kind"] == "handler").unwrap();
    assert_eq!(line["message"], "blue tried POST https://example.org/");
}

#[test]
fn javascript_token_for_one_host() {
    let world = World::new("js-token");
    let origin = Origin::start(&world, |_| Reply::text("me"));
    let token = new_token();
    let hosts = ["vcs.example.com", "api.example.com"];
    let name = "javascript-token-for-one-host";
    let gate = javascript(&world, name, &hosts, origin.address(), &[("VCS_TOKEN", &token)]);
    let answer = asked(&gate, &["-H", "x-auth-token: mine", "https://vcs.example.com/v1/me"]);
    assert_eq!(answer, "me 200");
    assert_eq!(origin.only_request().header("x-auth-token"), [token.as_str()]);

    let refused = asked(&gate, &["https://api.example.com/"]);
    assert!(refused.contains("no key is stored for blue") && refused.ends_with(" 403"), "{refused}");
    gate.operator(["kv", "put", "KEYS", "blue", "key-of-blue"]).run().assert_success();
    assert_eq!(asked(&gate, &["https://api.example.com/"]), "me 200");
    let last = origin.requests().pop().unwrap();
    assert_eq!(last.header("authorization"), ["Bearer key-of-blue"]);
    assert_eq!(last.header("x-auth-token"), [""; 0]);
    assert!(gate.log().iter().all(|line| !line.to_string().contains(&token)));
}

#[test]
fn javascript_stores_as_hosts() {
    let world = World::new("js-stores");
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 443));
    let gate = javascript(&world, "javascript-stores-as-hosts", &[], nowhere, &[]);
    let large = world.home_file("large", "0123456789".repeat(300_000)).display().to_string();
    assert_eq!(asked(&gate, &["http://my.kv/greeting"]), "no such key\n 404");
    assert_eq!(asked(&gate, &["-X", "PUT", "-d", "hello", "http://my.kv/greeting"]), " 204");
    assert_eq!(asked(&gate, &["http://my.kv/greeting"]), "hello 200");
    assert_eq!(asked(&gate, &["-X", "DELETE", "http://my.kv/greeting"]), " 204");
    assert_eq!(asked(&gate, &["http://my.kv/greeting"]), "no such key\n 404");
    assert_eq!(asked(&gate, &["-X", "POST", "-d", "x", "http://my.kv/a"]), "GET, PUT or DELETE\n 405");

    let typed = ["-T", &large, "-H", "content-type: text/x-digits", "http://objects.internal/large"];
    assert_eq!(asked(&gate, &typed), " 204");
    let sum = gate.run(["sh", "-c", &format!("curl -sS http://objects.internal/large | cmp - {large}")]);
    sum.assert_success().assert_stdout("");
    let typed = ["curl", "-sS", "-o", "/dev/null", "-w", "%{content_type}", "http://objects.internal/large"];
    gate.run(typed).assert_success().assert_stdout("text/x-digits");
    assert_eq!(asked(&gate, &["-X", "DELETE", "http://objects.internal/large"]), " 204");
    assert_eq!(asked(&gate, &["http://objects.internal/large"]), "no such object\n 404");
    assert_eq!(world.arrivals(), e2e::Arrivals::default());
}

#[test]
fn javascript_open_then_closed() {
    let world = World::new("js-open-closed");
    let origin = Origin::start(&world, |_| Reply::text("clone"));
    let hosts = ["git.example.test", "other.example.test"];
    let gate = javascript(&world, "javascript-open-then-closed", &hosts, origin.address(), &[]);
    let url = "https://git.example.test/";
    assert!(asked(&gate, &[url]).contains("\"reason\":\"not_named\""));
    let params = r#"{"allowedHostnames":["git.example.test","packages.example.test"]}"#;
    gate.operator(["handler", "set", "allowHosts", "--params", params]).run().assert_success();
    assert_eq!(asked(&gate, &[url]), "clone 200");
    let other = asked(&gate, &["https://other.example.test/"]);
    assert!(other.contains("other.example.test is not needed for the set-up"), "{other}");
    gate.operator(["handler", "set", "noHttp"]).run().assert_success();
    let closed = asked(&gate, &[url]);
    assert!(closed.contains("the network is closed") && closed.ends_with(" 403"), "{closed}");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn javascript_answer_then_go_on() {
    let world = World::new("js-go-on");
    let origin = Origin::start(&world, |_| Reply::text("one two  three\nfour"));
    let example = "javascript-answer-then-go-on";
    let mut gate = javascript(&world, example, &["api.example.com"], origin.address(), &[]);
    for (nth, total) in [(1, 4), (2, 8)] {
        assert_eq!(asked(&gate, &["https://api.example.com/"]), "one two  three\nfour 200");
        let line = gate.wait_for_log(|line| line["kind"] == "handler" && line["fields"]["total"] == total);
        assert_eq!(line["fields"], json!({"words": 4, "total": total}), "request {nth}: {line}");
    }
}

#[test]
fn demo_shows_what_it_says() {
    let world = World::new("demo");
    let demo = repository("demo").display().to_string();
    let program = world.program("sluicegate");
    let programs = Path::new(&program).parent().unwrap().to_str().unwrap();
    let outcome = world.root_job(world.gate_namespace(), [&demo, "--programs", programs]).run();
    outcome.assert_success();
    for shown in [
        "\n{\"login\": \"demo\"}\n",
        "\nGET /v1/me  Authorization: Bearer demo-",
        "\nno API_TOKEN in here\n",
        "\"reason\":\"no_rule_matches\"",
        "\"reason\":\"not_named\"",
        "  allowed   GET      api.example.test:443/v1/me  200  read the api  +API_TOKEN",
        "audit.jsonl: ",
    ] {
        assert!(outcome.stdout.contains(shown), "no {shown:?} in {outcome:#?}");
    }
}

/// Document, line, column, and what the message and the help must contain.
const BROKEN: [(&str, u64, u64, &str, &str); 5] = [
    ("unknown_key.toml", 2, 1, "unknown key `alowed_hosts`", "did you mean `allowed_hosts`?"),
    ("bad_pattern.toml", 2, 37, "bad host pattern `google.*`", "name each host"),
    (
        "secret_not_bound.toml",
        9,
        33,
        "secret API_TOKEN is not bound to `files.example.com`",
        "add \"files.example.com\" to `hosts` of [secrets.API_TOKEN]",
    ),
    ("wrong_type.toml", 2, 12, "wrong type: this is a string", "write true or false without quotes"),
    ("syntax_error.toml", 4, 1, "not valid TOML", "lists in [ ]"),
];

#[test]
fn broken_documents_are_explained_with_place_caret_and_help() {
    for (name, line, column, message, help) in BROKEN {
        let checked = check(&repository("tests/broken").join(name), &[]);
        assert_eq!(checked.status.code(), Some(78), "{name}");
        assert_eq!(text(&checked.stdout), "", "{name}");
        let shown = text(&checked.stderr);
        for part in [format!("{name}:{line}:{column}"), "^".into(), message.into(), "help: ".into()] {
            assert!(shown.contains(&part), "no {part:?} in\n{shown}");
        }
        // The help may be wrapped.
        let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(help), "no {help:?} in\n{shown}");
    }
}

#[test]
fn broken_documents_are_problems_in_json() {
    for (name, line, column, message, help) in BROKEN {
        let checked = check(&repository("tests/broken").join(name), &["--json"]);
        assert_eq!(checked.status.code(), Some(78), "{name}");
        assert_eq!(text(&checked.stderr), "", "{name}");
        let result: Value = serde_json::from_slice(&checked.stdout).unwrap();
        assert_eq!((&result["ok"], &result["file"]), (&false.into(), &name.into()));
        let [problem] = result["problems"].as_array().unwrap().as_slice() else {
            panic!("{name}: {result}");
        };
        assert_eq!(problem["severity"], "error", "{name}");
        assert_eq!((&problem["line"], &problem["column"]), (&line.into(), &column.into()), "{name}");
        assert!(problem["message"].as_str().unwrap().contains(message), "{problem}");
        assert!(problem["help"].as_str().unwrap().contains(help), "{problem}");
    }
}
