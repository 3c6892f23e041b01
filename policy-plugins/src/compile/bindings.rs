//! Compiles `[bindings]` and `[env]`.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::json;
use super::secrets::Secrets;
use crate::bindings::BindingDeclaration;
use crate::document::{BindingEntry, BindingKindEntry};
use crate::error::Findings;
use crate::handler::BindingKind;
use crate::host::{Authority, Scheme, WrittenAuthority};
use crate::instance_text;
use crate::secret::SecretName;

/// The longest name of a binding or a constant, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest prefix of keys, in bytes, before it is filled in: keys have 512.
const PREFIX_BYTES_MAX: usize = 128;
/// Where a service listens that states no port.
const REDIS_PORT: u16 = 6379;
/// Where S3 is unless the document says otherwise.
const REGION_DEFAULT: &str = "us-east-1";

/// What kind of service a URL names, and where it is.
enum Service {
    File,
    Redis(Authority),
    S3,
}

/// Every binding, `kv` and `objects` always among them, by name.
pub(super) fn compile(
    entries: &BTreeMap<Spanned<String>, BindingEntry>,
    secrets: &Secrets,
    findings: &mut Findings<'_>,
) -> Vec<BindingDeclaration> {
    let mut by_name: BTreeMap<Box<str>, BindingDeclaration> =
        BindingDeclaration::implicit().into_iter().map(|binding| (binding.name.clone(), binding)).collect();
    for (name, entry) in entries {
        check_name(name, "a binding", findings);
        if let Some(binding) = binding(name, entry, secrets, findings) {
            by_name.insert(binding.name.clone(), binding);
        }
    }
    by_name.into_values().collect()
}

/// The constants; none is named like something else in `env`.
pub(super) fn constants(
    entries: &BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    bindings: &[BindingDeclaration],
    findings: &mut Findings<'_>,
) -> BTreeMap<Box<str>, serde_json::Value> {
    let taken: BTreeSet<&str> = bindings.iter().map(|binding| &*binding.name).collect();
    let mut constants = BTreeMap::new();
    for (name, entry) in entries {
        check_name(name, "a constant", findings);
        if name.get_ref() != "secrets" && taken.contains(name.get_ref().as_str()) {
            findings
                .error(name.span(), format!("`env.{}` is a binding", name.get_ref()))
                .help("give the constant another name");
        }
        let value = json::value(entry.get_ref(), &entry.span(), findings);
        constants.insert(name.get_ref().as_str().into(), value);
    }
    constants
}

fn check_name(name: &Spanned<String>, of: &str, findings: &mut Findings<'_>) {
    let text = name.get_ref();
    let fits = text.len() <= NAME_BYTES_MAX
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if text == "secrets" {
        findings
            .error(name.span(), format!("`secrets` cannot be the name of {of}"))
            .help("`env.secrets` holds the secrets; choose another name");
    } else if !fits {
        findings
            .error(name.span(), format!("bad name `{}` of {of}", text.escape_debug()))
            .help(format!("use letters, digits and `_`, {NAME_BYTES_MAX} at most"));
    }
}

fn binding(
    name: &Spanned<String>,
    entry: &BindingEntry,
    secrets: &Secrets,
    findings: &mut Findings<'_>,
) -> Option<BindingDeclaration> {
    let kind = kind(name, entry, findings)?;
    let default = format!("file:{}", name.get_ref());
    let mut binding = BindingDeclaration::new(name.get_ref(), kind, &default);
    let service = match &entry.url {
        None => Service::File,
        Some(url) => {
            binding.url = url.get_ref().as_str().into();
            service(url, kind, findings)?
        }
    };
    binding.prefix = entry.prefix.as_ref().map(|prefix| prefix_of(prefix, findings));
    binding.region = entry.region.as_ref().map(|region| region_of(region, findings));
    let region = binding.region.as_deref().unwrap_or(REGION_DEFAULT);
    let (scheme, authority) = match (&service, &entry.endpoint) {
        (Service::S3, Some(written)) => {
            binding.endpoint = Some(written.get_ref().as_str().into());
            let (scheme, authority) = endpoint(written, findings)?;
            (Some(scheme), authority)
        }
        (Service::S3, None) => {
            let authority = Authority::parse(&format!("s3.{region}.amazonaws.com"), 443).ok()?;
            (Some(Scheme::Https), authority)
        }
        (Service::Redis(authority), _) => (None, authority.clone()),
        (Service::File, _) => {
            check_keys(entry, &service, findings);
            return Some(binding);
        }
    };
    check_keys(entry, &service, findings);
    let mut secret = |written: Option<&Spanned<String>>| -> Option<SecretName> {
        let written = written?;
        let name = secrets.declared(written.get_ref(), written.span(), findings)?;
        secrets.check_binding(&name, written.span(), (scheme, &authority), findings);
        Some(name)
    };
    if matches!(service, Service::Redis(_)) {
        binding.password = secret(entry.password.as_ref());
    } else {
        binding.access_key_id = secret(entry.access_key_id.as_ref());
        binding.secret_access_key = secret(entry.secret_access_key.as_ref());
    }
    Some(binding)
}

fn kind(name: &Spanned<String>, entry: &BindingEntry, findings: &mut Findings<'_>) -> Option<BindingKind> {
    let written = entry.kind.as_ref().map(|kind| *kind.get_ref());
    let implied = match name.get_ref().as_str() {
        "kv" => Some(BindingKindEntry::Kv),
        "objects" => Some(BindingKindEntry::Objects),
        _ => None,
    };
    if let (Some(implied), Some(kind)) = (implied, &entry.kind)
        && implied != *kind.get_ref()
    {
        findings
            .error(kind.span(), format!("`{}` is always of its own kind", name.get_ref()))
            .help("drop `kind`, or give the binding another name");
    }
    match implied.or(written) {
        Some(BindingKindEntry::Kv) => Some(BindingKind::Kv),
        Some(BindingKindEntry::Objects) => Some(BindingKind::Objects),
        None => {
            findings
                .error(name.span(), format!("binding `{}` has no `kind`", name.get_ref().escape_debug()))
                .help("write kind = \"kv\" or kind = \"objects\"");
            None
        }
    }
}

/// Reads the URL; one that may hold a credential is not shown.
fn service(url: &Spanned<String>, kind: BindingKind, findings: &mut Findings<'_>) -> Option<Service> {
    let text = url.get_ref();
    let fault = if text.contains(char::is_control) || text.contains(['?', '#', '{', '}']) {
        "the URL holds more than a place"
    } else if text.contains('@') {
        findings.hide(url.span());
        findings
            .error(url.span(), "credentials do not belong in the URL")
            .help("declare a secret and name it: password = \"REDIS_PASSWORD\"");
        return None;
    } else if let Some(path) = text.strip_prefix("file:") {
        let below = !path.is_empty()
            && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
            && !path.contains('\\');
        if below {
            return Some(Service::File);
        }
        "not a path below the state folder"
    } else if let Some(rest) = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://")) {
        match redis(rest) {
            _ if kind != BindingKind::Kv => "redis holds values by key (kv) only",
            Some(authority) => return Some(Service::Redis(authority)),
            None => "not a host, a port and the number of a database",
        }
    } else if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = !bucket.is_empty()
            && bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            && folder.trim_end_matches('/').split('/').all(|segment| !matches!(segment, "." | ".."));
        match kind {
            BindingKind::Objects if fits => return Some(Service::S3),
            BindingKind::Objects => "not a bucket and a folder",
            BindingKind::Kv => "s3 holds objects only",
        }
    } else {
        "not a store that this version knows"
    };
    let help = match kind {
        BindingKind::Kv => "write `file:NAME`, `redis://HOST:PORT/DATABASE` or `rediss://HOST:PORT/DATABASE`",
        BindingKind::Objects => "write `file:FOLDER` or `s3://BUCKET/FOLDER`",
    };
    findings
        .error(url.span(), format!("bad URL `{}` of a store", text.escape_debug()))
        .label(fault)
        .help(help);
    None
}

/// `host:port/database`.
fn redis(rest: &str) -> Option<Authority> {
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let fits = database.len() <= 5 && database.bytes().all(|byte| byte.is_ascii_digit());
    let authority = WrittenAuthority::parse(authority).ok()?;
    fits.then(|| authority.or_port(REDIS_PORT))
}

fn endpoint(written: &Spanned<String>, findings: &mut Findings<'_>) -> Option<(Scheme, Authority)> {
    let text = written.get_ref();
    let parsed = Scheme::ALL.into_iter().find_map(|scheme| {
        let rest = text.strip_prefix(scheme.as_str())?.strip_prefix("://")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        Some((scheme, Authority::parse(rest, scheme.default_port()).ok()?))
    });
    if parsed.is_none() {
        if text.contains('@') {
            findings.hide(written.span());
        }
        findings
            .error(written.span(), "bad URL of a service")
            .label("not http:// or https://, a host and perhaps a port")
            .help("write it as `https://s3.example.com`");
    }
    parsed
}

fn prefix_of(written: &Spanned<String>, findings: &mut Findings<'_>) -> Box<str> {
    let text = written.get_ref();
    let fits = text.len() <= PREFIX_BYTES_MAX && !text.contains(char::is_control);
    if !fits || instance_text::stretches(text).is_none() {
        findings.error(written.span(), "bad prefix of keys").help(format!(
            "write at most {PREFIX_BYTES_MAX} bytes, such as \"team/\", \"{{container_id}}/\" or \"{{instance_id}}/\""
        ));
    }
    text.as_str().into()
}

fn region_of(written: &Spanned<String>, findings: &mut Findings<'_>) -> Box<str> {
    let text = written.get_ref();
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !fits {
        findings.error(written.span(), "bad name of a region").help("write it as \"eu-central-1\"");
    }
    text.as_str().into()
}

/// Reports keys that mean nothing to this kind of service.
fn check_keys(entry: &BindingEntry, service: &Service, findings: &mut Findings<'_>) {
    let (redis, s3) = (matches!(service, Service::Redis(_)), matches!(service, Service::S3));
    let keys = [
        ("password", &entry.password, redis, "redis:// and rediss://"),
        ("endpoint", &entry.endpoint, s3, "s3://"),
        ("region", &entry.region, s3, "s3://"),
        ("access_key_id", &entry.access_key_id, s3, "s3://"),
        ("secret_access_key", &entry.secret_access_key, s3, "s3://"),
    ];
    for (key, written, known, of) in keys {
        if let Some(written) = written.as_ref().filter(|_| !known) {
            findings
                .error(written.span(), format!("`{key}` means nothing to this store"))
                .help(format!("drop it; it is for {of}"));
        }
    }
    match (&entry.access_key_id, &entry.secret_access_key) {
        (Some(one), None) | (None, Some(one)) if s3 => {
            findings
                .error(one.span(), "an access key is of two parts")
                .help("name both `access_key_id` and `secret_access_key`");
        }
        _ => {}
    }
}
