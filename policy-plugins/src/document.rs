//! The policy document as written: its keys, their types, and what each means.
//!
//! The JSON Schema is made from these types, so their comments are written for policy authors.
//! Whether values make sense together is decided when the document is compiled.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, de};
use toml::Spanned;

use crate::error::{Findings, nearest};

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
    /// When present, only hosts named here can be reached, rules included; an empty list allows
    /// nothing. Without a port, a pattern means port 80 for http and 443 for https.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) allowed_hosts: Option<Spanned<Strings>>,
    /// Hosts and addresses that are refused whatever else says. Without a port, a pattern means
    /// every port.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) denied_hosts: Strings,
    /// Secrets by name: where the value is, and where it may go.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, SecretEntry>")]
    pub(crate) secrets: BTreeMap<Spanned<String>, SecretEntry>,
    /// What may be sent to which host, and what is changed on the way. Where several rules match,
    /// the most specific one decides: by host, then path, then method; deny wins among equals.
    #[serde(default)]
    #[schemars(with = "Vec<RuleEntry>")]
    pub(crate) rules: Vec<Spanned<RuleEntry>>,
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
    /// Where the value is: `env://NAME` or `file://PATH`. A relative path counts from the
    /// document's folder.
    #[schemars(with = "String")]
    pub(crate) source: Spanned<String>,
    /// The hosts that the secret may be sent to; it goes nowhere else, whoever asks.
    #[schemars(with = "Vec<String>")]
    pub(crate) hosts: Spanned<Strings>,
    /// Whether the secret may be sent over unencrypted http. Default: false.
    #[serde(default)]
    pub(crate) plaintext: bool,
}

/// A rule. It allows what it matches unless it says `deny`, `respond` or `intercept = false`. A
/// host that a rule allows in part is closed for the rest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleEntry {
    /// The name shown in logs and refusals. Default: `rules[1]`, `rules[2]` and so on.
    #[schemars(with = "Option<String>")]
    pub(crate) name: Option<Spanned<String>>,
    /// One host pattern or a list of them; `*` means every host.
    #[schemars(with = "OneOrManySchema")]
    pub(crate) host: Spanned<OneOrMany>,
    /// The methods that the rule is about, in capitals. Default: all.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) methods: Option<Spanned<Strings>>,
    /// The paths that the rule is about: `*` within a segment, `**` for any number of segments.
    /// Default: all.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) paths: Option<Spanned<Strings>>,
    /// Refuse what matches, and say why.
    #[schemars(with = "Option<String>")]
    pub(crate) deny: Option<Spanned<String>>,
    /// Answer what matches, without asking the upstream.
    #[schemars(with = "Option<RespondEntry>")]
    pub(crate) respond: Option<Spanned<RespondEntry>>,
    /// `false` passes TLS to the host on unopened: no paths, no methods, no secrets. Default: true.
    #[schemars(with = "Option<bool>")]
    pub(crate) intercept: Option<Spanned<bool>>,
    /// Headers to set; `${secret:NAME}` stands for the secret.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub(crate) set_headers: Option<Spanned<StringMap>>,
    /// Headers to remove.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) remove_headers: Option<Spanned<Strings>>,
    /// Query parameters to set; `${secret:NAME}` stands for the secret.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub(crate) set_query: Option<Spanned<StringMap>>,
    /// HTTP Basic credentials to set.
    #[schemars(with = "Option<BasicAuthEntry>")]
    pub(crate) basic_auth: Option<Spanned<BasicAuthEntry>>,
}

/// A fixed answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RespondEntry {
    /// The status, 200 to 599.
    #[schemars(with = "u16", range(min = 200, max = 599))]
    pub(crate) status: Spanned<u16>,
    /// The headers.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) headers: StringMap,
    /// The body. Default: empty.
    #[schemars(with = "Option<String>")]
    pub(crate) body: Option<Spanned<String>>,
}

/// HTTP Basic credentials; `${secret:NAME}` stands for the secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BasicAuthEntry {
    /// The user name.
    #[schemars(with = "String")]
    pub(crate) username: Spanned<String>,
    /// The password.
    #[schemars(with = "String")]
    pub(crate) password: Spanned<String>,
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
    /// Name servers, as `address` or `address:port`. Default: the system's.
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

/// A string or a list of strings.
#[derive(Debug)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Strings),
}

/// How [`OneOrMany`] appears in the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum OneOrManySchema {
    One(String),
    Many(Vec<String>),
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
            report(error.message(), error.span().unwrap_or(0..0), findings);
            None
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringOrList;
        impl<'de> Visitor<'de> for StringOrList {
            type Value = OneOrMany;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMany, A::Error> {
                Strings::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(StringOrList)
    }
}

impl OneOrMany {
    /// The strings, each with its place; `whole` is the place of the value.
    pub(crate) fn strings(&self, whole: Range<usize>) -> Vec<(Range<usize>, &str)> {
        match self {
            Self::One(text) => vec![(whole, text)],
            Self::Many(texts) => texts.iter().map(|text| (text.span(), text.get_ref().as_str())).collect(),
        }
    }
}

/// Says what the TOML reader found in the words of the document.
fn report(message: &str, at: Range<usize>, findings: &mut Findings<'_>) {
    let at = findings.first_line_of(at);
    let mut quoted = message.split('`').skip(1).step_by(2);
    let subject = quoted.next().unwrap_or_default();
    if let Some(kind) = unknown(message) {
        let known: Vec<&str> = quoted.collect();
        let help = match nearest(subject, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        findings.error(at, format!("unknown {kind} `{subject}`")).help(help);
    } else if message.starts_with("missing field") {
        let help = if subject == "version" {
            String::from("begin the document with `version = 1`")
        } else {
            format!("add `{subject} = …`")
        };
        findings.error(at, format!("missing key `{subject}`")).help(help);
    } else if let Some((found, expected)) = wrong_type(message) {
        let finding = findings.error(at, format!("wrong type: this is {found}, and {expected} is expected"));
        if let Some(help) = how_to_write(expected) {
            finding.help(help);
        }
    } else {
        let first_line = message.lines().next().unwrap_or(message);
        findings
            .error(at, format!("not valid TOML: {first_line}"))
            .help("strings stand in quotes, lists in [ ], and each key stands once in its table");
    }
}

fn unknown(message: &str) -> Option<&'static str> {
    if message.starts_with("unknown field") {
        Some("key")
    } else if message.starts_with("unknown variant") {
        Some("value")
    } else {
        None
    }
}

/// What was found, without its value, and what was expected.
fn wrong_type(message: &str) -> Option<(&'static str, &str)> {
    let (found, expected) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?
        .split_once(", expected ")?;
    let found = match found.split([' ', '\n']).next()? {
        "string" => "a string",
        "integer" => "a whole number",
        "floating" => "a fraction",
        "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "a table",
        _ => "something else",
    };
    let expected = match expected {
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "a map" => "a table",
        "u16" | "u32" | "u64" => "a whole number",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    Some((found, expected))
}

fn how_to_write(expected: &str) -> Option<&'static str> {
    Some(match expected {
        "a list" => "write [\"one\", \"two\"]",
        "true or false" => "write true or false without quotes",
        "a string" => "write \"…\" in quotes",
        "a whole number" => "write plain digits without quotes and sign",
        "a table" => "write { key = \"value\" }",
        _ => return None,
    })
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
