//! The policy document as written: its keys, their types, and what each means.
//!
//! The JSON Schema is made from these types, so their comments are written for policy authors.
//! Whether values make sense together is decided when the document is compiled.

mod handlers;
mod one_or_many;
mod report;
mod rules;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

pub(crate) use handlers::{BindingEntry, BindingKindEntry, HandlerEntry, HandlerLimitsEntry};
pub(crate) use rules::{BasicAuthEntry, RespondEntry, RuleEntry};

use crate::error::Findings;
use handlers::HandlerEntrySchema;

/// The largest document, in bytes: room for some hundred thousand hosts.
const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

type Strings = Vec<Spanned<String>>;
type StringMap = BTreeMap<Spanned<String>, Spanned<String>>;

/// A sluicegate policy: what a workload may reach, and what is put on its requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "sluicegate policy")]
pub(crate) struct Document {
    /// The version of the document's form: 1.
    #[schemars(with = "u32", range(min = 1, max = 1))]
    pub(crate) version: Spanned<u32>,
    /// Whether hosts that nothing else names may be reached. Default: false.
    #[schemars(with = "Option<bool>")]
    pub(crate) internet: Option<Spanned<bool>>,
    /// `audit` only logs what the policy would refuse, and lets it pass. Default: enforce.
    #[schemars(with = "Option<ModeEntry>")]
    pub(crate) mode: Option<Spanned<ModeEntry>>,
    /// When present, only hosts named here can be reached, rules included; an empty list allows
    /// nothing. Without a port, a pattern means port 80 for http and 443 for https.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) allowed_hosts: Option<Spanned<Strings>>,
    /// Hosts and addresses that are refused whatever else says. Without a port, a pattern means
    /// every port.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) denied_hosts: Strings,
    /// TCP flows that pass on unread, both ways and whoever speaks first: a host pattern with its port
    /// each, such as `db.internal:5432`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) tcp: Strings,
    /// The same for UDP, such as `time.example.com:123`. All other datagrams but DNS are refused.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) udp: Strings,
    /// Secrets by name: where the value is, and where it may go.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, SecretEntry>")]
    pub(crate) secrets: BTreeMap<Spanned<String>, SecretEntry>,
    /// What may be sent to which host, and what is changed on the way. Where several rules match,
    /// the most specific one decides: by host, then path, then method; deny wins among equals.
    #[serde(default)]
    #[schemars(with = "Vec<RuleEntry>")]
    pub(crate) rules: Vec<Spanned<RuleEntry>>,
    /// The handler of requests that no other handler is bound to and that no list or rule refuses.
    #[schemars(with = "Option<HandlerEntrySchema>")]
    pub(crate) outbound: Option<Spanned<HandlerEntry>>,
    /// Handlers by host pattern; the most specific one runs.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, HandlerEntrySchema>")]
    pub(crate) outbound_by_host: BTreeMap<Spanned<String>, Spanned<HandlerEntry>>,
    /// Handlers by name, to be bound elsewhere in the document or at run time.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, HandlerEntrySchema>")]
    pub(crate) outbound_handlers: BTreeMap<Spanned<String>, Spanned<HandlerEntry>>,
    /// The handler of connections, asked before there is a request: whether one is passed on unopened,
    /// judged by what the document says, or refused. A file with `on_connect`.
    #[schemars(with = "Option<HandlerEntrySchema>")]
    pub(crate) on_connect: Option<Spanned<HandlerEntry>>,
    /// Constants for handlers: `env.NAME`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub(crate) env: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    /// Stores for handlers by name; `kv` and `objects` are always there.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, BindingEntry>")]
    pub(crate) bindings: BTreeMap<Spanned<String>, BindingEntry>,
    /// What a handler may use up for one request.
    #[serde(default)]
    pub(crate) handler_limits: HandlerLimitsEntry,
    /// How upstreams are reached.
    #[serde(default)]
    pub(crate) upstream: UpstreamEntry,
    /// What a refused HTTP request is answered.
    #[serde(default)]
    pub(crate) refusal: RefusalEntry,
    /// How names are answered.
    #[serde(default)]
    pub(crate) dns: DnsEntry,
}

/// A secret that rules can put on requests; the workload never sees it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretEntry {
    /// Where the value is: `env://NAME` or `file://PATH`, where `{container_id}` and `{instance_id}`
    /// are filled in. A relative path counts from the document's folder.
    #[schemars(with = "String")]
    pub(crate) source: Spanned<String>,
    /// The hosts that the secret may be sent to; it goes nowhere else, whoever asks.
    #[schemars(with = "Vec<String>")]
    pub(crate) hosts: Spanned<Strings>,
    /// Whether the secret may be sent over unencrypted http. Default: false.
    #[serde(default)]
    pub(crate) plaintext: bool,
    /// Whether the value is masked with `*` where a response holds it. Default: false.
    #[serde(default)]
    pub(crate) scrub: bool,
}

/// What becomes of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModeEntry {
    /// They are carried out.
    Enforce,
    /// They are only logged.
    Audit,
}

/// How upstreams are reached.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamEntry {
    /// PEM files of certificate authorities to trust besides the system's. A relative path counts
    /// from the document's folder.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) extra_ca: Strings,
    /// Where to dial: `"name:port" = "address:port"`. Naming an address allows it.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) resolve: StringMap,
    /// Private or local address ranges that may be dialled, such as `10.1.0.0/16`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) allow_ranges: Strings,
    /// Name servers: `192.0.2.53`, `tcp://192.0.2.53`, `tls://192.0.2.53#dns.example.com` or
    /// `https://192.0.2.53/dns-query#dns.example.com`, with a port where it is not the usual one; the
    /// name behind `#` is that of the certificate. Default: the system's.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) dns: Strings,
    /// The longest time to connect, in milliseconds. Default: 10000.
    #[schemars(with = "Option<u64>", range(min = 1, max = 3_600_000))]
    pub(crate) connect_timeout_ms: Option<Spanned<u64>>,
    /// The longest wait for a response to begin, in milliseconds. Default: 60000.
    #[schemars(with = "Option<u64>", range(min = 1, max = 3_600_000))]
    pub(crate) response_timeout_ms: Option<Spanned<u64>>,
    /// The longest silence within a body, in milliseconds. Default: 300000.
    #[schemars(with = "Option<u64>", range(min = 1, max = 3_600_000))]
    pub(crate) idle_timeout_ms: Option<Spanned<u64>>,
    /// A proxy that every connection to an upstream goes through, as a tunnel:
    /// `http://host:port` or `https://host:port` (HTTP CONNECT), or `socks5://host:port`.
    #[schemars(with = "Option<String>")]
    pub(crate) proxy: Option<Spanned<String>>,
    /// User name and password for the proxy, which may hold `${secret:NAME}`.
    #[schemars(with = "Option<BasicAuthEntry>")]
    pub(crate) proxy_auth: Option<Spanned<BasicAuthEntry>>,
    /// Whether the proxy is given names instead of addresses. Where they lead can then not be
    /// checked. Default: false.
    #[schemars(with = "Option<bool>")]
    pub(crate) proxy_resolves: Option<Spanned<bool>>,
    /// Hosts that are dialled without the proxy. Without a port, a pattern means every port.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) no_proxy: Option<Spanned<Strings>>,
    /// Certificates to show to hosts that ask for one.
    #[serde(default)]
    #[schemars(with = "Vec<ClientCertificateEntry>")]
    pub(crate) client_certificates: Vec<ClientCertificateEntry>,
    /// What becomes of flows that pass unopened when another policy is published: `judge` closes
    /// those that it does not let through, `keep` lets them go on. Default: judge.
    pub(crate) flows_on_publish: Option<FlowsOnPublishEntry>,
}

/// A certificate to show to hosts that ask for one (mutual TLS).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientCertificateEntry {
    /// Who is shown it; where several entries name a host, the most specific pattern decides.
    #[schemars(with = "Vec<String>")]
    pub(crate) hosts: Spanned<Strings>,
    /// A PEM file with the certificate, and after it those that lead to its root. A relative path
    /// counts from the document's folder.
    #[schemars(with = "String")]
    pub(crate) certificate: Spanned<String>,
    /// The name of the secret that holds the private key as PEM.
    #[schemars(with = "String")]
    pub(crate) key: Spanned<String>,
}

/// What becomes of flows when another policy is published.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FlowsOnPublishEntry {
    /// Those that it does not let through are closed.
    Judge,
    /// They go on.
    Keep,
}

/// What a refused HTTP request is answered.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefusalEntry {
    /// The status, 400 to 599. Default: 403.
    #[schemars(with = "Option<u16>", range(min = 400, max = 599))]
    pub(crate) status: Option<Spanned<u16>>,
    /// The headers, such as `content-type`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) headers: StringMap,
    /// The body, where `${reason}`, `${detail}`, `${rule}`, `${host}` and `${request_id}` are
    /// filled in; escaped for JSON where the content type is JSON. Default: a JSON object.
    #[schemars(with = "Option<String>")]
    pub(crate) body: Option<Spanned<String>>,
}

/// How names are answered.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DnsEntry {
    /// What a refused name resolves to: `sink`, an address where the refusal is explained, or
    /// `nxdomain`, nothing. Default: sink.
    #[serde(default)]
    pub(crate) refused: RefusedEntry,
    /// The domains of the workload's resolver's search list: refused names below them do not
    /// exist, so that the search goes on.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) search: Strings,
    /// Which records are asked for upstream, by name: `"example.com" = ["MX", "TXT"]`, or with
    /// `*.example.com` for every name below. Only for names that the policy reaches.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<String>>")]
    pub(crate) forward: BTreeMap<Spanned<String>, Strings>,
    /// What becomes of DNS over HTTPS and over TLS: `refuse` refuses public resolvers, port 853 and
    /// requests that carry DNS, but to hosts that the policy names exactly; `allow` judges it like
    /// other traffic. Default: refuse.
    #[serde(default)]
    pub(crate) encrypted: EncryptedDnsEntry,
    /// How many questions are answered in a second, 1 to 10000; twice as many at once. Default: 500.
    #[schemars(with = "Option<u32>", range(min = 1, max = 10_000))]
    pub(crate) questions_per_second: Option<Spanned<u32>>,
}

/// What becomes of DNS over HTTPS and over TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EncryptedDnsEntry {
    /// It is refused, but to hosts that the policy names exactly.
    #[default]
    Refuse,
    /// It is judged like other traffic.
    Allow,
}

/// What a refused name resolves to.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RefusedEntry {
    /// An address where the refusal is explained.
    #[default]
    Sink,
    /// The name does not exist.
    Nxdomain,
}

/// The JSON Schema (draft 2020-12) of the policy document.
#[must_use]
pub fn document_schema() -> serde_json::Value {
    schemars::schema_for!(Document).to_value()
}

/// Reads the document's text, or reports why it cannot be read.
pub(crate) fn read(text: &str, findings: &mut Findings<'_>) -> Option<Document> {
    if text.len() > DOCUMENT_BYTES_MAX {
        findings
            .error(0..0, format!("the document is larger than {DOCUMENT_BYTES_MAX} bytes"))
            .help("name ranges and `*.suffix` patterns instead of single hosts");
        return None;
    }
    match toml::from_str(text) {
        Ok(document) => Some(document),
        Err(error) => {
            report::report(error.message(), error.span().unwrap_or(0..0), findings);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_describes_every_key_and_refuses_others() {
        let schema = document_schema();
        assert_eq!(schema["title"], "sluicegate policy");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["version"]));
        let keys = [
            "version",
            "internet",
            "mode",
            "outbound",
            "outbound_by_host",
            "outbound_handlers",
            "on_connect",
            "tcp",
            "udp",
            "env",
            "bindings",
            "handler_limits",
            "allowed_hosts",
            "denied_hosts",
            "secrets",
            "rules",
            "upstream",
            "refusal",
            "dns",
        ];
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(properties.len(), keys.len());
        for key in keys {
            assert!(properties[key]["description"].is_string(), "{key}");
        }
        let host = &schema["$defs"]["RuleEntry"]["properties"]["host"];
        assert!(host.to_string().contains("OneOrMany") || host["anyOf"].is_array(), "{host}");
    }
}
