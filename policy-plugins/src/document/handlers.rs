//! Handlers and what they may use, as written: `outbound` and its kin, `[bindings]`, `[handler_limits]`.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use toml::Spanned;

use super::Strings;

/// A handler: a file or a name, or a table that says more.
#[derive(Debug)]
pub(crate) enum HandlerEntry {
    Name(String),
    Table(HandlerTable),
}

/// How [`HandlerEntry`] appears in the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum HandlerEntrySchema {
    Name(String),
    Table(HandlerTable),
}

/// A handler: a file with what it is given, or a refusal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandlerTable {
    /// A file that ends in `.rhai`, `.js` or `.wasm`, relative to the document's folder, or a name of
    /// `outbound_handlers`.
    #[schemars(with = "Option<String>")]
    pub(crate) handler: Option<Spanned<String>>,
    /// Refuse, and say why; in place of `handler`.
    #[schemars(with = "Option<String>")]
    pub(crate) deny: Option<Spanned<String>>,
    /// What the handler finds in `ctx.params`.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub(crate) params: Option<Spanned<toml::Table>>,
    /// Secrets whose bytes the handler may have.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) reveal: Option<Spanned<Strings>>,
}

/// A store that handlers may use.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BindingEntry {
    /// What it is: `kv` or `objects`. The bindings of these names need not say.
    #[schemars(with = "Option<BindingKindEntry>")]
    pub(crate) kind: Option<Spanned<BindingKindEntry>>,
    /// Where it is: `file:PATH` below the state folder, `redis://HOST:PORT/DATABASE` or `rediss://`
    /// (kv), `s3://BUCKET/FOLDER` (objects). Default: `file:` and the binding's name.
    #[schemars(with = "Option<String>")]
    pub(crate) url: Option<Spanned<String>>,
    /// What stands before every key; `{container_id}` and `{instance_id}` are filled in. Default:
    /// empty for `file:`, else `{container_id}/`.
    #[schemars(with = "Option<String>")]
    pub(crate) prefix: Option<Spanned<String>>,
    /// The name of the secret with the password (redis).
    #[schemars(with = "Option<String>")]
    pub(crate) password: Option<Spanned<String>>,
    /// The URL of the service (s3). Default: Amazon's, by region.
    #[schemars(with = "Option<String>")]
    pub(crate) endpoint: Option<Spanned<String>>,
    /// The region (s3). Default: us-east-1.
    #[schemars(with = "Option<String>")]
    pub(crate) region: Option<Spanned<String>>,
    /// The name of the secret with the access key's id (s3).
    #[schemars(with = "Option<String>")]
    pub(crate) access_key_id: Option<Spanned<String>>,
    /// The name of the secret with the access key (s3).
    #[schemars(with = "Option<String>")]
    pub(crate) secret_access_key: Option<Spanned<String>>,
}

/// What a binding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BindingKindEntry {
    /// Values by key.
    Kv,
    /// Streams by key.
    Objects,
}

/// What a handler may use up for one request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandlerLimitsEntry {
    /// Steps of the interpreter. Default: 200000.
    #[schemars(with = "Option<u64>", range(min = 1, max = 1_000_000_000))]
    pub(crate) operations: Option<Spanned<u64>>,
    /// Nested calls. Default: 32.
    #[schemars(with = "Option<u64>", range(min = 1, max = 64))]
    pub(crate) call_depth: Option<Spanned<u64>>,
    /// Bytes of a string or blob that a script makes. Default: 262144.
    #[schemars(with = "Option<u64>", range(min = 1, max = 16_777_216))]
    pub(crate) string_bytes: Option<Spanned<u64>>,
    /// Elements of an array, and entries of a map. Default: 4096.
    #[schemars(with = "Option<u64>", range(min = 1, max = 1_000_000))]
    pub(crate) items: Option<Spanned<u64>>,
    /// Fetches, stored values, bodies and questions to a person. Default: 32.
    #[schemars(with = "Option<u64>", range(min = 1, max = 1_000))]
    pub(crate) effects: Option<Spanned<u64>>,
    /// Bytes of a body that a script takes into memory. Default: 1048576.
    #[schemars(with = "Option<u64>", range(min = 1, max = 16_777_216))]
    pub(crate) body_bytes: Option<Spanned<u64>>,
    /// Lines that a script logs. Default: 64.
    #[schemars(with = "Option<u64>", range(min = 1, max = 1_000))]
    pub(crate) log_lines: Option<Spanned<u64>>,
    /// Mebibytes of memory of a handler in JavaScript or WebAssembly. Default: 64.
    #[schemars(with = "Option<u64>", range(min = 1, max = 256))]
    pub(crate) memory_mib: Option<Spanned<u64>>,
    /// Processor time in milliseconds. Default: 5 for scripts, 50 for JavaScript and WebAssembly.
    #[schemars(with = "Option<u64>", range(min = 1, max = 10_000))]
    pub(crate) cpu_ms: Option<Spanned<u64>>,
    /// Time until the response's head in milliseconds, waits for a person not counted. Default:
    /// 30000.
    #[schemars(with = "Option<u64>", range(min = 1, max = 3_600_000))]
    pub(crate) wall_ms: Option<Spanned<u64>>,
}

impl HandlerEntry {
    /// The file or the name of the handler; empty where there is none.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Table(table) => table.handler.as_ref().map_or("", |handler| handler.get_ref()),
        }
    }
}

impl<'de> Deserialize<'de> for HandlerEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = HandlerEntry;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a file, a name or a table")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HandlerEntry, E> {
                Ok(HandlerEntry::Name(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HandlerEntry, A::Error> {
                HandlerTable::deserialize(MapAccessDeserializer::new(map)).map(HandlerEntry::Table)
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}
