//! `[[rules]]` as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::one_or_many::{OneOrMany, OneOrManySchema};
use super::{ModeEntry, StringMap, Strings};

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
    /// Hold what matches until a person agrees, who is told this.
    #[schemars(with = "Option<String>")]
    pub(crate) ask: Option<Spanned<String>>,
    /// How long to wait for the person, in seconds. Default: 60.
    #[schemars(with = "Option<u64>", range(min = 1, max = 600))]
    pub(crate) ask_seconds: Option<Spanned<u64>>,
    /// The handler of what matches: a file that ends in `.rhai`, or a name of `outbound_handlers`.
    #[schemars(with = "Option<String>")]
    pub(crate) handler: Option<Spanned<String>>,
    /// What the handler finds in `ctx.params`.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub(crate) params: Option<Spanned<toml::Table>>,
    /// Secrets whose bytes the handler may have.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) reveal: Option<Spanned<Strings>>,
    /// `audit` only logs what the rule would refuse or ask. Default: as the document's `mode`.
    #[schemars(with = "Option<ModeEntry>")]
    pub(crate) mode: Option<Spanned<ModeEntry>>,
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
