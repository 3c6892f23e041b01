//! HTTP clients that know nothing of the gate: no flag, no setting, no certificate of ours.

use std::time::Duration;

use e2e::{Origin, Outcome, Received, Reply, World, assert_token_absent, new_token, with_token_scan};
use http::Version;

/// A rule that puts a credential on, which only the gate's environment has.
const POLICY: &str = r#"
version = 1

[secrets.API_TOKEN]
source = "env://API_TOKEN"
hosts = ["api.test"]

[[rules]]
name = "api"
host = "api.test"
set_headers = { authorization = "Bearer ${secret:API_TOKEN}" }

"#;

/// Runs a client behind a gate, once, and judges everything that all clients have in common.
fn run_client(test: &str, reply: fn(&Received) -> Reply, command: &[&str]) -> (Outcome, Vec<Received>) {
    let world = World::new(test);
    let token = new_token();
    let origin = Origin::start(&world, reply);
    let policy = format!("{POLICY}{}", world.upstream(&[("api.test:443", origin.address())]));
    let command = with_token_scan(&world, &[&token], command);
    let outcome = world.gate(&policy).env("API_TOKEN", &token).run(command);
    outcome.assert_success();
    assert_token_absent(&world, &outcome, &[&token]);

    let requests = origin.requests();
    let wanted = format!("Bearer {token}");
    for request in &requests {
        assert_eq!(request.header("authorization"), [wanted.as_str()], "{request:#?}");
        assert_eq!(request.authority, "api.test");
        assert_eq!(
            request.handshake.as_ref().and_then(|handshake| handshake.sni.as_deref()),
            Some("api.test")
        );
    }
    let exchanges = outcome.lines("exchange");
    assert_eq!(exchanges.len(), requests.len(), "{outcome:?}");
    for line in exchanges {
        assert_eq!((&line["verdict"], &line["host"]), (&"allowed".into(), &"api.test".into()), "{line}");
        assert_eq!((&line["rule"], &line["status"]), (&"api".into(), &200.into()), "{line}");
        assert_eq!(line["credentials"], serde_json::json!(["API_TOKEN"]), "{line}");
    }
    (outcome, requests)
}

/// As [`run_client`], for a client that makes one request and prints the body.
fn run_one_request(test: &str, command: &[&str]) -> (Outcome, Received) {
    let (outcome, mut requests) = run_client(test, |_| Reply::text("hello\n"), command);
    assert_eq!(requests.len(), 1, "{requests:#?}");
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("GET", "/greeting?of=day"));
    assert!(outcome.stdout.starts_with("hello\n"), "{outcome:?}");
    (outcome, requests.remove(0))
}

#[test]
fn curl_http1_gets_its_credential() {
    let url = "https://api.test/greeting?of=day";
    let (outcome, _) =
        run_one_request("curl-h1", &["curl", "-sS", "--http1.1", "-w", "%{http_version}", url]);
    outcome.assert_stdout("hello\n1.1");
    assert_eq!(outcome.only_exchange()["client_version"], "HTTP/1.1");
}

#[test]
fn curl_http2_gets_its_credential() {
    let url = "https://api.test/greeting?of=day";
    let (outcome, request) =
        run_one_request("curl-h2", &["curl", "-sS", "--http2", "-w", "%{http_version}", url]);
    outcome.assert_stdout("hello\n2");
    assert_eq!(request.version, Version::HTTP_2);
}

#[test]
fn curl_with_fifty_in_parallel_gets_its_credentials() {
    // One after another they would take 150 s, and the deadline is 60 s.
    let reply = |request: &Received| Reply::text(format!("{}\n", request.path)).after(Duration::from_secs(3));
    let urls = "https://api.test/[1-50]";
    let command =
        ["curl", "-sS", "--http1.1", "--parallel", "--parallel-immediate", "--parallel-max", "50", urls];
    let (outcome, requests) = run_client("curl-parallel", reply, &command);
    assert_eq!(requests.len(), 50);
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    let mut wanted: Vec<String> = (1..=50).map(|number| format!("/{number}")).collect();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
}

#[test]
fn wget_gets_its_credential() {
    run_one_request("wget", &["wget", "-q", "-O", "-", "https://api.test/greeting?of=day"])
        .0
        .assert_stdout("hello\n");
}

#[test]
fn node_fetch_gets_its_credential() {
    let script =
        "fetch('https://api.test/greeting?of=day').then(r => r.text()).then(t => process.stdout.write(t))";
    run_one_request("node", &["node", "-e", script]).0.assert_stdout("hello\n");
}

#[test]
fn python_requests_gets_its_credential() {
    // It looks into its own memory once it has the answer.
    let script = "
import os, runpy, sys, requests
session = requests.Session()
sys.stdout.write(session.get('https://api.test/greeting?of=day').text)
sys.argv = os.environ['TOKEN_SCAN'].split()
runpy.run_path(sys.argv[0])
";
    let (outcome, _) = run_one_request("requests", &["/usr/bin/python3", "-c", script]);
    assert!(outcome.stdout.starts_with("hello\nclean: "), "{outcome:?}");
}

#[test]
fn python_urllib_gets_its_credential() {
    let script = "
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen('https://api.test/greeting?of=day').read().decode())
";
    run_one_request("urllib", &["/usr/bin/python3", "-c", script]).0.assert_stdout("hello\n");
}

#[test]
fn java_http_client_gets_its_credential() {
    let source = r#"cat >Client.java <<'END'
import java.net.URI;
import java.net.http.*;

class Client {
    public static void main(String[] arguments) throws Exception {
        var request = HttpRequest.newBuilder(URI.create("https://api.test/greeting?of=day")).build();
        var response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.print(response.body());
    }
}
END
exec java Client.java"#;
    let (outcome, request) = run_one_request("java", &["sh", "-c", source]);
    outcome.assert_stdout("hello\n");
    assert!(request.header("user-agent")[0].starts_with("Java-http-client/"), "{request:#?}");
}
