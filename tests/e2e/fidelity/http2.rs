//! HTTP/2, byte by byte: heads, DATA and trailers arrive as without the gate, but for what is listed here and in
//! `docs/protocols.md`.

use std::net::SocketAddr;

use e2e::{Attached, ORIGIN_IPV4, PythonServer, World};
use serde_json::{Value, json};

use crate::support::ANYWHERE;

/// The order in which the HTTP/2 library writes pseudo-headers.
const PSEUDO: [&str; 4] = [":method", ":scheme", ":authority", ":path"];

struct Both<'world> {
    world: &'world World,
    origin: PythonServer<'world>,
    address: SocketAddr,
}

impl<'world> Both<'world> {
    fn start(world: &'world World) -> Self {
        let [plain, tls] = [8080, 8443].map(|port| SocketAddr::new(ORIGIN_IPV4.into(), port));
        let text = [include_str!("http2_both.py"), include_str!("http2_origin.py")].concat();
        Self { world, origin: PythonServer::start(world, &text, "api.test", [plain, tls]), address: tls }
    }

    fn gate(&self) -> Attached<'world> {
        let found = self.world.upstream(&[("api.test:443", self.address)]);
        self.world.gate(&format!("version = 1\nallowed_hosts = [\"api.test\"]\n{found}")).attach()
    }

    /// Makes all requests of a kind, directly or through the gate, and gives back what was answered to each.
    fn ask(&self, gate: Option<&Attached<'_>>, what: &str) -> Value {
        let (namespace, address, authority) = match gate {
            None => (self.world.gate_namespace(), self.address, self.world.origin_ca_file()),
            Some(gate) => {
                (gate.namespace(), SocketAddr::new(ANYWHERE.into(), 443), gate.ca_file().to_path_buf())
            }
        };
        let text = [include_str!("http2_both.py"), include_str!("http2_client.py")].concat();
        let (ip, port, authority) =
            (address.ip().to_string(), address.port().to_string(), authority.display().to_string());
        let python = self.world.test_dependency("py/bin/python3");
        let outcome =
            self.world.root_job(namespace, [&*python, "-c", &text, &ip, &port, &authority, what]).run();
        outcome.assert_success();
        outcome.json()
    }

    /// The first `count` requests that the origin has seen, once it has.
    fn seen(&mut self, count: usize) -> Vec<Value> {
        let messages = self.origin.wait_for(|events| {
            let requests = events.into_iter().filter(|event| event["event"] == "request");
            let messages: Vec<_> = requests.map(|mut event| event["message"].take()).collect();
            (messages.len() >= count).then(|| json!(messages))
        });
        messages.as_array().unwrap().clone()
    }
}

/// What the gate makes of a message: all that may differ from a direct run.
fn passed(message: &Value) -> Value {
    let parts = message.as_array().unwrap().iter();
    // DATA without bytes is not passed on.
    let parts = parts.filter(|part| part[0] != "empty data");
    let mut parts: Vec<Value> = parts
        .map(|part| match part[1].as_array() {
            Some(fields) => json!([part[0], passed_fields(fields)]),
            None => part.clone(),
        })
        .collect();
    // DATA on both sides of what was left out is now one.
    parts.dedup_by(|next, before| {
        let are_data = before[0] == "data" && next[0] == "data";
        if are_data {
            before[1] = json!(format!("{}{}", before[1].as_str().unwrap(), next[1].as_str().unwrap()));
        }
        are_data
    });
    json!(parts)
}

/// Pseudo-headers in an order of their own, equal names together, and no mark that forbids to index.
fn passed_fields(fields: &[Value]) -> Vec<Value> {
    let name = |field: &Value| field[0].as_str().unwrap().to_owned();
    let mut names: Vec<String> = PSEUDO.iter().map(ToString::to_string).collect();
    names.extend(fields.iter().map(name));
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(name.clone());
            true
        }
    });
    let mut passed = Vec::new();
    for name in &names {
        let of = fields.iter().filter(|field| field[0] == name.as_str());
        passed.extend(of.map(|field| json!([field[0], field[1]])));
    }
    passed
}

/// The same of a request, which goes to the host that was judged.
fn passed_request(message: &Value) -> Value {
    let mut message = passed(message);
    let has_body = message.as_array().unwrap().len() > 1;
    let fields = message[0][1].as_array_mut().unwrap();
    fields.retain(|field| field[0] != "host");
    for field in fields.iter_mut().filter(|field| field[0] == ":authority") {
        field[1] = json!("api.test");
    }
    let is_usually_empty = ["GET", "HEAD", "DELETE", "CONNECT"].iter().any(|method| fields[0][1] == *method);
    if !has_body && !is_usually_empty && fields.iter().all(|field| field[0] != "content-length") {
        fields.push(json!(["content-length", "0"]));
    }
    message
}

#[test]
fn w09_http2_requests_are_those_of_the_workload() {
    let world = World::new("w09-http2-requests");
    let mut both = Both::start(&world);
    let gate = both.gate();
    let direct_answers = both.ask(None, "requests");
    let count = direct_answers.as_object().unwrap().len();
    let direct = both.seen(count);
    let answers = both.ask(Some(&gate), "requests");
    let through = both.seen(2 * count).split_off(count);
    assert_eq!((direct.len(), through.len()), (29, 29), "{direct:#?}");
    for (through, direct) in through.iter().zip(&direct) {
        assert_eq!(*through, passed_request(direct), "{direct}");
    }
    assert_eq!(answers, direct_answers);
}

#[test]
fn w09_http2_answers_are_those_of_the_origin() {
    let world = World::new("w09-http2-answers");
    let both = Both::start(&world);
    let gate = both.gate();
    let (direct, through) = (both.ask(None, "answers"), both.ask(Some(&gate), "answers"));
    let direct = direct.as_object().unwrap();
    assert_eq!(direct.len(), 26, "{direct:#?}");
    for (path, direct) in direct {
        let (mut passed, mut through) = (passed(direct), through[path].clone());
        if path == "/reset" {
            // It overtakes what was sent just before it.
            for message in [&mut passed, &mut through] {
                *message = message.as_array().unwrap().last().unwrap().clone();
            }
        }
        assert_eq!(through, passed, "{path}: {direct}");
    }
}
