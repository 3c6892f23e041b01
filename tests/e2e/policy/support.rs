//! The servers, documents and clients of these tests, and how their outcomes are judged.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use e2e::{Gate, Identity, ORIGIN_IPV4, Origin, OriginConfig, Outcome, Received, Reply, World};
pub(crate) use e2e::{answer, assert_line, curl};
use serde_json::{Value, json};

/// One server for every name: without TLS for ports 80 and 8080, with TLS for port 443.
pub(crate) struct Site {
    pub(crate) plain: Origin,
    pub(crate) tls: Origin,
}

impl Site {
    /// Answers with the host that it was asked for.
    pub(crate) fn start(world: &World) -> Self {
        Self::answering(world, |request| Reply::text(format!("origin: {}", request.authority)))
    }

    pub(crate) fn answering(
        world: &World,
        handler: impl Fn(&Received) -> Reply + Clone + Send + Sync + 'static,
    ) -> Self {
        let plain = OriginConfig { identity: Identity::Plain, ..OriginConfig::default() };
        Self { plain: Origin::start_with(world, plain, handler.clone()), tls: Origin::start(world, handler) }
    }

    /// A document with this text, by which these names are found here: refused ones too, so that a
    /// gate which let them through would be seen to.
    pub(crate) fn policy(&self, world: &World, text: &str, names: &[&str]) -> String {
        let mut resolve = Vec::new();
        for name in names {
            resolve.push((format!("{name}:80"), self.plain.address()));
            resolve.push((format!("{name}:8080"), self.plain.address()));
            resolve.push((format!("{name}:443"), self.tls.address()));
        }
        let resolve: Vec<_> = resolve.iter().map(|(name, address)| (name.as_str(), *address)).collect();
        format!("version = 1\n{text}\n{}", world.upstream(&resolve))
    }

    /// A document whose one rule, for `api.test`, puts TOKEN on; `more` goes to the secret.
    pub(crate) fn credential_policy(&self, world: &World, source: &str, rule: &str, more: &str) -> String {
        let source = match source {
            "env" => "env://TOKEN".to_owned(),
            _ => format!("file://{}", shown(&world.path("secrets/token"))),
        };
        let secret = format!("[secrets.TOKEN]\nsource = \"{source}\"\nhosts = [\"api.test\"]\n{more}");
        self.policy(world, &format!("{secret}\n[[rules]]\nhost = \"api.test\"\n{rule}"), &["api.test"])
    }

    /// What reached either of them, in the order of arrival at each.
    pub(crate) fn requests(&self) -> Vec<Received> {
        [self.plain.requests(), self.tls.requests()].concat()
    }

    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        self.plain.assert_untouched();
        self.tls.assert_untouched();
    }
}

/// An HTTP server on port 80 of an address that is nobody's private one.
pub(crate) struct PublicSite {
    pub(crate) address: IpAddr,
    pub(crate) origin: Origin,
}

impl PublicSite {
    pub(crate) fn start(world: &World, address: &str) -> Self {
        let address = address.parse().unwrap();
        world.add_origin_address(address);
        let config = OriginConfig { address, port: 80, identity: Identity::Plain, ..OriginConfig::default() };
        let origin = Origin::start_with(world, config, |request| {
            Reply::text(format!("origin: {}", request.authority))
        });
        Self { address, origin }
    }
}

/// A document with this text, by which names are asked for at the world's name server.
pub(crate) fn public_policy(text: &str) -> String {
    format!("version = 1\n{text}\n[upstream]\ndns = [\"{ORIGIN_IPV4}\"]\n")
}

/// A way to put a credential on, and how the origin sees it.
pub(crate) struct Slot {
    pub(crate) name: &'static str,
    pub(crate) rule: &'static str,
    pub(crate) seen: fn(&Received, &str) -> bool,
}

pub(crate) const SLOTS: [Slot; 3] = [
    Slot {
        name: "header",
        rule: "set_headers = { authorization = \"Bearer ${secret:TOKEN}\" }",
        seen: |request, token| request.header("authorization") == [format!("Bearer {token}")],
    },
    Slot {
        name: "query",
        rule: "set_query = { key = \"${secret:TOKEN}\" }",
        seen: |request, token| {
            let (_, query) = request.path.split_once('?').unwrap_or_default();
            let keys: Vec<_> = query
                .split('&')
                .filter(|part| part.starts_with("key=") || part.starts_with("k%65y="))
                .collect();
            keys == [format!("key={token}")] && query.contains("other=1")
        },
    },
    Slot {
        name: "basic",
        rule: "basic_auth = { username = \"robot\", password = \"${secret:TOKEN}\" }",
        seen: |request, token| {
            request.header("authorization") == [format!("Basic {}", BASE64.encode(format!("robot:{token}")))]
        },
    },
];

/// A gate that has this token where the document looks for it.
pub(crate) fn credential_gate<'world>(
    world: &'world World,
    policy: &str,
    source: &str,
    token: &str,
) -> Gate<'world> {
    if source == "env" {
        return world.gate(policy).env("TOKEN", token);
    }
    world.secret_file("token", token);
    world.gate(policy)
}

/// The tokens that the TLS origin was shown, in order.
pub(crate) fn bearers(site: &Site) -> Vec<String> {
    let headers = |request: &Received| request.header("authorization").join(",");
    site.tls.requests().iter().map(|request| headers(request).replace("Bearer ", "")).collect()
}

/// Fails unless the one request of [`curl`] got the origin's answer and one line in the log.
#[track_caller]
pub(crate) fn assert_passed(outcome: &Outcome, host: &str) {
    assert_eq!(answer(outcome), (format!("origin: {host}").as_str(), "200 "), "{outcome:?}");
    assert_line(outcome.only_exchange(), &json!({"verdict": "allowed", "host": host, "status": 200}));
}

/// Fails unless the one request of [`curl`] was refused for this reason, which the body, the header
/// and the one line of the log tell alike.
#[track_caller]
pub(crate) fn assert_refused(outcome: &Outcome, host: &str, reason: &str) {
    let (body, rest) = answer(outcome);
    assert_eq!(rest, format!("403 {reason}"), "{outcome:?}");
    let line = outcome.only_exchange();
    assert_line(line, &json!({"verdict": "refused", "reason": reason, "host": host, "status": 403}));
    assert_line(line, &json!({"upstream": null, "upstream_status": null}));
    let body: Value = serde_json::from_str(body).unwrap();
    assert_line(
        &body,
        &json!({"error": "policy_denied", "reason": reason, "request_id": line["request_id"]}),
    );
    assert!(body["hint"].as_str().is_some_and(|hint| hint.len() > 10), "no hint: {body}");
}

/// The command itself, as the user whose gates wrote the logs.
pub(crate) fn sluicegate(world: &World, arguments: &[&str]) -> Outcome {
    let program = world.program("sluicegate");
    world.job(world.gate_namespace(), [&[program.as_str()], arguments].concat()).run()
}

pub(crate) fn read_lines(log: &Path) -> Vec<Value> {
    fs::read_to_string(log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn shown(path: &Path) -> &str {
    path.to_str().expect("a path of ours is UTF-8")
}
