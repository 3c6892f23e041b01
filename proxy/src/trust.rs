//! What makes the workload trust the instance's authority: bundles, stores, variables.

mod container;
mod node;
mod node_module;
mod nss;
mod places;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sluicegate_certs::java_key_store;

pub use self::container::{Found, Inside, Keeper};
use self::places::{SYSTEM_BUNDLES, SYSTEM_JAVA_STORES};
use crate::capture::{Mount, Plan, TrustFile};
use crate::exit;

/// Variables that name a bundle to use *instead* of the system's: they get the merged one.
const REPLACING: [&str; 16] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HEX_CACERTS_PATH",
    "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    "NPM_CONFIG_CAFILE",
    "PERL_LWP_SSL_CA_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "YARN_HTTPS_CA_FILE_PATH",
];

/// The variable that names certificates to trust *besides* the built-in ones.
const ADDING: &str = "NODE_EXTRA_CA_CERTS";

/// The longest bundle read; the usual one is 220 KiB.
const BUNDLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the caller's environment says about trust.
#[derive(Debug, Default)]
pub struct CallerTrust {
    /// `SSL_CERT_FILE`: the bundle that the caller's programs use.
    pub bundle: Option<PathBuf>,
    /// `WGETRC`, or `~/.wgetrc`.
    pub wgetrc: Option<PathBuf>,
    /// `JAVA_HOME`.
    pub java_home: Option<PathBuf>,
    /// `JAVA_TOOL_OPTIONS`.
    pub java_options: Option<String>,
}

/// Why trust cannot be established; nothing is then started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The bundle to extend cannot be read.
    #[error("cannot read the certificate bundle {}", path.display())]
    Bundle {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bundle holds something that cannot be written for Java.
    #[error("the certificate bundle {} cannot be converted for Java", path.display())]
    Java {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: sluicegate_certs::CertError,
    },
    /// The authority cannot be written for NSS.
    #[error("the authority cannot be written for NSS")]
    Nss(#[source] sluicegate_certs::CertError),
    /// There is nothing in the container to be extended.
    #[error("the container has no certificate bundle that everybody in it may read")]
    NoBundle,
    /// It is not known whose files are meant.
    #[error("--trust needs a container, and a namespace by its path is nobody's")]
    NoContainer,
}

impl TrustError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Bundle { .. } | Self::Nss(_) => None,
            Self::Java { .. } => Some("repair the bundle, or mount the CA certificate yourself (--ca-file)"),
            Self::NoBundle => Some(
                "install ca-certificates in its image, or leave --trust out and mount the CA certificate yourself (--ca-file)",
            ),
            Self::NoContainer => Some("name it by docker:NAME, podman:NAME or pid:N"),
        }
    }

    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoContainer => exit::USAGE,
            _ => exit::UNAVAILABLE,
        }
    }
}

/// Adds to `plan` what makes programs trust `authority_pem`. Returns a warning when the system has
/// no bundle to extend: then only the variable that adds is set, since the others would replace
/// what they had with our authority alone.
///
/// # Errors
/// [`TrustError`]: half a trust set-up is none.
pub fn extend(
    plan: &mut Plan,
    authority_pem: &str,
    caller: &CallerTrust,
) -> Result<Option<&'static str>, TrustError> {
    let file = |name: &str| plan.trust_dir.join(name).to_string_lossy().into_owned();
    let mut variables = vec![(ADDING.to_owned(), file("ca.pem"))];
    let mut files = vec![text("ca.pem", authority_pem.to_owned())];
    let mut mounts = Vec::new();
    let base = caller.bundle.clone().or_else(|| existing(&SYSTEM_BUNDLES).into_iter().next());
    let mut warning = Some(
        "the system has no certificate bundle: only programs that read NODE_EXTRA_CA_CERTS will trust the gate",
    );
    if let Some(base) = base {
        warning = None;
        let bundle = merged(&base, authority_pem)?;
        let store = java_key_store(&bundle).map_err(|source| TrustError::Java { path: base, source })?;
        for variable in REPLACING {
            variables.push((variable.to_owned(), file("bundle.pem")));
        }
        variables.push(("WGETRC".to_owned(), file("wgetrc")));
        variables.push(("JAVA_TOOL_OPTIONS".to_owned(), java_options(caller, &file("cacerts.jks"))));
        files.push(text("wgetrc", wgetrc(caller, &file("bundle.pem"))));
        files.push(text("bundle.pem", bundle));
        files.push(TrustFile { name: "cacerts.jks".into(), text: None, base64: Some(BASE64.encode(store)) });
        let over = |file: &'static str| move |over| Mount { file: file.into(), over };
        mounts.extend(existing(&SYSTEM_BUNDLES).into_iter().map(over("bundle.pem")));
        mounts.extend(java_stores(caller).into_iter().map(over("cacerts.jks")));
    }
    plan.files.extend(files);
    plan.mounts.extend(mounts);
    plan.set_env.extend(variables);
    Ok(warning)
}

/// Writes files into a folder, where everybody may read them.
///
/// # Errors
/// What the system says.
pub fn write(files: Vec<TrustFile>, folder: &Path) -> io::Result<()> {
    for file in files {
        let content = match file.base64 {
            Some(text) => BASE64.decode(text).map_err(io::Error::other)?,
            None => file.text.unwrap_or_default().into_bytes(),
        };
        let path = folder.join(file.name);
        let above = path.parent().unwrap_or(folder);
        fs::create_dir_all(above)?;
        fs::set_permissions(above, Permissions::from_mode(0o755))?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    Ok(())
}

fn text(name: &str, content: String) -> TrustFile {
    TrustFile { name: name.into(), text: Some(content), base64: None }
}

/// The caller's bundle with the authority after it.
fn merged(base: &Path, authority_pem: &str) -> Result<String, TrustError> {
    let failed = |source| TrustError::Bundle { path: base.to_owned(), source };
    let length = fs::metadata(base).map_err(failed)?.len();
    if length > BUNDLE_BYTES_MAX {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 4 MiB")));
    }
    Ok(extended(&String::from_utf8_lossy(&fs::read(base).map_err(failed)?), authority_pem))
}

/// A bundle with the authority after it.
fn extended(bundle: &str, authority_pem: &str) -> String {
    let end = if bundle.is_empty() || bundle.ends_with('\n') { "" } else { "\n" };
    format!("{bundle}{end}{authority_pem}")
}

/// Those of `paths` that exist, links resolved, each once.
fn existing<P: AsRef<Path>>(paths: &[P]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let resolved = paths.iter().filter_map(|path| fs::canonicalize(path).ok());
    resolved.filter(|path| path.is_file() && seen.insert(path.clone())).collect()
}

fn java_stores(caller: &CallerTrust) -> Vec<PathBuf> {
    let mut stores: Vec<PathBuf> = SYSTEM_JAVA_STORES.iter().map(PathBuf::from).collect();
    stores.extend(caller.java_home.iter().map(|home| home.join("lib/security/cacerts")));
    existing(&stores)
}

fn java_options(caller: &CallerTrust, store: &str) -> String {
    let ours = format!("-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit");
    match &caller.java_options {
        Some(theirs) => format!("{theirs} {ours}"),
        None => ours,
    }
}

/// wget reads one settings file: the caller's, with the bundle named after it.
fn wgetrc(caller: &CallerTrust, bundle: &str) -> String {
    let theirs = caller.wgetrc.as_ref().and_then(|path| fs::read_to_string(path).ok());
    format!("{}\nca_certificate = {bundle}\n", theirs.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_certs::CertificateAuthority;
    use std::time::SystemTime;

    fn authority() -> CertificateAuthority {
        CertificateAuthority::generate("test", SystemTime::now()).unwrap()
    }

    #[test]
    fn t02_every_variable_gets_a_file_that_holds_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base.pem");
        let (theirs, ours) = (authority(), authority());
        fs::write(&base, theirs.certificate_pem().trim_end()).unwrap();
        let mut plan = Plan { trust_dir: "/trust".into(), ..Plan::default() };
        let caller = CallerTrust { bundle: Some(base), ..CallerTrust::default() };
        assert_eq!(extend(&mut plan, ours.certificate_pem(), &caller).unwrap(), None);
        let content =
            |name: &str| plan.files.iter().find(|file| file.name == name).unwrap().text.clone().unwrap();
        assert_eq!(content("bundle.pem").matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!(content("ca.pem"), ours.certificate_pem());
        assert!(content("wgetrc").contains("ca_certificate = /trust/bundle.pem"));
        for (name, value) in &plan.set_env {
            let file = if name == ADDING {
                "/trust/ca.pem"
            } else if name == "WGETRC" {
                "/trust/wgetrc"
            } else {
                "/trust/"
            };
            assert!(value.contains(file), "{name}={value}");
        }
    }

    #[test]
    fn t06_an_unreadable_bundle_sets_nothing() {
        let mut plan = Plan { trust_dir: "/trust".into(), ..Plan::default() };
        let caller = CallerTrust { bundle: Some("/nowhere/bundle.pem".into()), ..CallerTrust::default() };
        assert!(extend(&mut plan, authority().certificate_pem(), &caller).is_err());
        assert!(plan.files.is_empty() && plan.mounts.is_empty() && plan.set_env.is_empty());
    }
}
