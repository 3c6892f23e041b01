//! Where programs look for what they trust, on the distributions and in the languages that bring their own.

use std::path::PathBuf;

/// Bundles of distributions: Debian, Alpine; Arch; Fedora; SUSE; OpenSSL's own name for it, in each.
pub(crate) const SYSTEM_BUNDLES: [&str; 12] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cert.pem",
    "/usr/lib/ssl/cert.pem",
    "/usr/local/ssl/cert.pem",
    "/opt/conda/ssl/cacert.pem",
];

/// Java's stores of distributions.
pub(crate) const SYSTEM_JAVA_STORES: [&str; 4] = [
    "/etc/ssl/certs/java/cacerts",
    "/etc/ca-certificates/extracted/java-cacerts.jks",
    "/etc/pki/ca-trust/extracted/java/cacerts",
    "/var/lib/ca-certificates/java-cacerts",
];

/// Where a Java lives that brings its own store: those of distributions, of images and of SDKMAN.
const JAVA_HOMES: [&str; 8] = [
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/usr/local/openjdk-*",
    "/opt/java/*",
    "/opt/*jdk*",
    "/opt/*jre*",
    "/root/.sdkman/candidates/java/*",
    "/home/*/.sdkman/candidates/java/*",
];

/// The store in there; the second of Java 8.
const JAVA_STORES: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];

/// What a Python is installed into: distributions, images, Conda, pyenv, users, virtual environments.
const PYTHON_PREFIXES: [&str; 14] = [
    "/usr",
    "/usr/local",
    "/opt/*",
    "/root/.local",
    "/home/*/.local",
    "/root/.pyenv/versions/*",
    "/home/*/.pyenv/versions/*",
    "/.venv",
    "/venv",
    "/*/.venv",
    "/*/venv",
    "/home/*/.venv",
    "/home/*/*/.venv",
    "/workspaces/*/.venv",
];

/// Bundles of Python packages: certifi's, which requests and httpx use, pip's copy of it, and botocore's.
const PYTHON_BUNDLES: [&str; 3] =
    ["certifi/cacert.pem", "pip/_vendor/certifi/cacert.pem", "botocore/cacert.pem"];

/// Where distributions have the library of NSS, which Chromium and Chrome use: Debian, Fedora, Alpine and Arch.
const NSS_LIBRARIES: [&str; 3] = ["/usr/lib/*/libnss3.so", "/usr/lib64/libnss3.so", "/usr/lib/libnss3.so"];

/// Where Node.js is: of packages and images; of archives; of nvm, fnm, Volta, asdf and mise.
const NODE_PROGRAMS: [&str; 5] = [
    "/usr/local/bin/node",
    "/usr/bin/node",
    "/opt/*/bin/node",
    "/usr/local/nvm/versions/node/*/bin/node",
    "/bin/node",
];
/// The same in a home.
const NODE_PROGRAMS_OF_USERS: [&str; 5] = [
    ".nvm/versions/node/*/bin/node",
    ".local/share/fnm/node-versions/*/installation/bin/node",
    ".volta/tools/image/node/*/bin/node",
    ".asdf/installs/nodejs/*/bin/node",
    ".local/share/mise/installs/node/*/bin/node",
];

/// Homes of users.
const HOMES: [&str; 2] = ["/root", "/home/*"];

/// Where a container may have bundles, those of distributions first. A `*` stands for any part of a name.
pub(crate) fn bundles() -> Vec<PathBuf> {
    let system = SYSTEM_BUNDLES.iter().map(PathBuf::from);
    // site-packages, and Debian's dist-packages.
    let python = PYTHON_PREFIXES.iter().flat_map(|prefix| {
        PYTHON_BUNDLES.iter().map(move |bundle| format!("{prefix}/lib/python3*/*-packages/{bundle}").into())
    });
    system.chain(python).collect()
}

/// Where it may have stores of Java.
pub(crate) fn java_stores() -> Vec<PathBuf> {
    let system = SYSTEM_JAVA_STORES.iter().map(PathBuf::from);
    let own = JAVA_HOMES
        .iter()
        .flat_map(|home| JAVA_STORES.iter().map(move |store| PathBuf::from(home).join(store)));
    system.chain(own).collect()
}

/// Where it may have the library of NSS.
pub(crate) fn nss_libraries() -> Vec<PathBuf> {
    NSS_LIBRARIES.iter().map(PathBuf::from).collect()
}

/// Where its users' homes may be.
pub(crate) fn homes() -> Vec<PathBuf> {
    HOMES.iter().map(PathBuf::from).collect()
}

/// Where it may have Node.js.
pub(crate) fn node_programs() -> Vec<PathBuf> {
    let of_users = HOMES
        .iter()
        .flat_map(|home| NODE_PROGRAMS_OF_USERS.iter().map(move |program| PathBuf::from(home).join(program)));
    NODE_PROGRAMS.iter().map(PathBuf::from).chain(of_users).collect()
}
