//! Trust in a container that a gate is attached to: a helper finds what its programs trust, and mounts over that
//! what they are to trust, until the gate ends.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sluicegate_certs::java_key_store;

use super::{TrustError, extended, node, nss, places, text};
use crate::capture::{self, CaptureError, Mount, Plan, TrustFile};
use crate::folders;
use crate::instance::InstanceError;

/// The longest that the helper says: all bundles of a container, 6 MiB at most, as JSON.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The list of what goes over what, beside the files.
const MOUNTS: &str = "mounts.json";

/// Whose files are meant.
#[derive(Clone, Debug)]
pub struct Inside {
    /// A process of the container.
    pub pid: u32,
    /// Where the container's files begin, for a process that has not changed its root yet.
    pub root: Option<PathBuf>,
}

/// The helper that mounts, and takes off when this is dropped, or when this process ends in whatever way.
#[derive(Debug)]
pub struct Keeper {
    socket: BufReader<UnixStream>,
    child: Child,
    /// Where the files go instead, for another container of the same image.
    folder: Option<PathBuf>,
}

/// What the helper is to look for.
#[derive(Serialize)]
struct Search<'a> {
    namespace: &'a str,
    bundles: Vec<PathBuf>,
    java_stores: Vec<PathBuf>,
    nss_libraries: Vec<PathBuf>,
    homes: Vec<PathBuf>,
    node_programs: Vec<PathBuf>,
}

/// What it found.
#[derive(Debug, Default, Deserialize)]
struct Inventory {
    bundles: Vec<Bundle>,
    java_stores: Vec<PathBuf>,
    databases: Vec<nss::Database>,
    node: Option<node::Node>,
}

#[derive(Debug, Deserialize)]
struct Bundle {
    over: PathBuf,
    text: String,
}

/// What it says when all is mounted.
#[derive(Deserialize)]
struct Placed {
    placed: usize,
    warnings: Vec<String>,
}

/// What another container of the same image is to have.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Found {
    /// Files and folders, by their names beside this, and what they go over.
    mounts: Vec<Mount>,
    /// Folders that its users are to have for themselves, below which something of that is.
    folders: Vec<PathBuf>,
}

impl Keeper {
    /// Starts the helper, which does nothing before [`Self::place`]. To be called with the privileges that it
    /// needs. With a `folder`, the container's files are looked at and what would be mounted over them goes there.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(inside: &Inside, folder: Option<PathBuf>) -> Result<Self, CaptureError> {
        let (socket, child) = capture::start_helper("trust", |command| {
            command.args(["--process", &inside.pid.to_string()]);
            if let Some(root) = &inside.root {
                command.arg("--root").arg(root);
            }
            // It may outlive this process by a moment, and who reads our streams waits for their end.
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        })?;
        Ok(Self { socket: BufReader::new(socket), child, folder })
    }

    /// Has the container's programs trust `authority_pem` besides what they trusted. `namespace` is the network
    /// namespace that the container must be in, as `net:[inode]`.
    ///
    /// # Errors
    /// [`InstanceError::Trust`] and [`InstanceError::Capture`]; then nothing is mounted.
    pub fn place(&mut self, namespace: &str, authority_pem: &str) -> Result<(), InstanceError> {
        let trust_dir =
            folders::runtime().map_err(|error| InstanceError::System("make the runtime folder", error))?;
        let search = Search {
            namespace,
            bundles: places::bundles(),
            java_stores: places::java_stores(),
            nss_libraries: places::nss_libraries(),
            homes: places::homes(),
            node_programs: places::node_programs(),
        };
        // The helper begins with a byte.
        self.socket.get_mut().write_all(b"\n").map_err(silent)?;
        self.say(&search)?;
        let mut inventory: Inventory = self.answer()?;
        if self.folder.is_some() {
            // That container gets a variable.
            inventory.node = None;
        }
        let plan = Plan { trust_dir, ..plan(&inventory, authority_pem).map_err(InstanceError::Trust)? };
        if let Some(folder) = &self.folder {
            // It has nothing to take off.
            drop(self.child.kill().and_then(|()| self.child.wait()));
            return leave(plan, &inventory, folder)
                .map_err(|error| InstanceError::System("write certificates", error));
        }
        self.say(&plan)?;
        let Placed { placed, warnings } = self.answer()?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if placed == 0 {
            return Err(InstanceError::Trust(TrustError::NoBundle));
        }
        tracing::debug!(placed, "the container trusts the gate");
        Ok(())
    }

    fn say(&mut self, value: &impl Serialize) -> Result<(), InstanceError> {
        let mut line = serde_json::to_vec(value).map_err(|error| silent(error.into()))?;
        line.push(b'\n');
        self.socket.get_mut().write_all(&line).map_err(silent)
    }

    fn answer<T: for<'a> Deserialize<'a>>(&mut self) -> Result<T, InstanceError> {
        let mut line = Vec::new();
        let length = (&mut self.socket).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(silent)?;
        if length == 0 {
            return Err(silent(ErrorKind::UnexpectedEof.into()));
        }
        capture::parse(&line).map_err(InstanceError::Capture)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let socket = self.socket.get_mut();
        // The end of what we say is what it waits for. Its own end is that of what it says.
        let ended = socket.shutdown(Shutdown::Write).and_then(|()| socket.read(&mut [0]));
        if !matches!(ended, Ok(0)) {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}

/// Writes the plan's files, and then which go over what.
fn leave(plan: Plan, inventory: &Inventory, folder: &Path) -> io::Result<()> {
    super::write(plan.files, folder)?;
    let missing = inventory.databases.iter().filter(|database| !database.is_there);
    let mut folders: Vec<_> = missing.map(|database| database.folder.clone()).collect();
    folders.retain(|folder| plan.mounts.iter().any(|mount| mount.over.starts_with(folder)));
    let found = Found { mounts: plan.mounts, folders };
    fs::write(folder.join(MOUNTS), serde_json::to_vec(&found)?)
}

impl Found {
    /// What a keeper with this folder has found.
    ///
    /// # Errors
    /// There is nothing yet, or something else.
    pub fn read(folder: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(folder.join(MOUNTS))?)?)
    }

    /// Each file or folder below `folder`, and which of the container's it goes over.
    pub fn mounts<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = (PathBuf, &'a Path)> {
        self.mounts.iter().map(|mount| (folder.join(&mount.file), &*mount.over))
    }

    /// Folders that the container's users are to have for themselves.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(PathBuf::as_path)
    }
}

fn silent(error: io::Error) -> InstanceError {
    InstanceError::Capture(CaptureError::Silent(error))
}

/// What goes over what: each bundle with the authority after it, one store of the first for every Java, and what
/// NSS reads in each home, and Node.js.
fn plan(inventory: &Inventory, authority_pem: &str) -> Result<Plan, TrustError> {
    let mut plan = Plan::default();
    let node = inventory
        .node
        .as_ref()
        .is_some_and(|node| node::extend(&mut plan, node, authority_pem) && node.is_there);
    let Some(first) = inventory.bundles.first() else {
        if !node {
            return Err(TrustError::NoBundle);
        }
        tracing::warn!("the container has no certificate bundle: only its Node.js trusts the gate");
        return Ok(plan);
    };
    let mut names: HashMap<&str, String> = HashMap::new();
    for bundle in &inventory.bundles {
        let number = names.len();
        let file = names.entry(&bundle.text).or_insert_with(|| {
            let name = format!("bundle-{number}.pem");
            plan.files.push(text(&name, extended(&bundle.text, authority_pem)));
            name
        });
        plan.mounts.push(Mount { file: file.clone(), over: bundle.over.clone() });
    }
    if !inventory.java_stores.is_empty() {
        let store = java_key_store(&extended(&first.text, authority_pem))
            .map_err(|source| TrustError::Java { path: first.over.clone(), source })?;
        let name = "cacerts.jks".to_owned();
        plan.files.push(TrustFile { name: name.clone(), text: None, base64: Some(BASE64.encode(store)) });
        let over = inventory.java_stores.iter().cloned();
        plan.mounts.extend(over.map(|over| Mount { file: name.clone(), over }));
    }
    nss::extend(&mut plan, &inventory.databases, authority_pem)?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use sluicegate_certs::CertificateAuthority;

    use super::*;

    fn authority() -> String {
        let authority = CertificateAuthority::generate("test", SystemTime::now()).unwrap();
        authority.certificate_pem().to_owned()
    }

    fn bundle(over: &str, text: &str) -> Bundle {
        Bundle { over: over.into(), text: text.to_owned() }
    }

    #[test]
    fn t08_each_bundle_keeps_its_own_and_gets_the_authority_once() {
        let [system, certifi, ours] = [authority(), authority(), authority()];
        let inventory = Inventory {
            bundles: vec![
                bundle("/a", system.trim_end()),
                bundle("/b", &certifi),
                bundle("/c", system.trim_end()),
            ],
            java_stores: vec!["/j".into(), "/k".into()],
            ..Inventory::default()
        };
        let plan = plan(&inventory, &ours).unwrap();
        let content = |over: &str| {
            let mount = plan.mounts.iter().find(|mount| *mount.over == *over).unwrap();
            let file = plan.files.iter().find(|file| file.name == mount.file).unwrap();
            file.text.clone().unwrap_or_default()
        };
        assert_eq!(content("/a"), format!("{}\n{ours}", system.trim_end()));
        assert_eq!(content("/b"), format!("{certifi}{ours}"));
        assert_eq!(content("/c"), content("/a"));
        assert_eq!(plan.files.len(), 3, "a bundle that is there twice is sent once");
        assert_eq!(plan.mounts.iter().filter(|mount| mount.file == "cacerts.jks").count(), 2);
    }

    #[test]
    fn t04_without_a_bundle_there_is_no_trust() {
        let inventory = Inventory { java_stores: vec!["/j".into()], ..Inventory::default() };
        assert!(matches!(plan(&inventory, &authority()), Err(TrustError::NoBundle)));
    }

    #[test]
    fn t06_a_bundle_that_java_cannot_have_is_an_error() {
        let broken = "-----BEGIN CERTIFICATE-----\nA!ID\n-----END CERTIFICATE-----\n";
        let mut inventory = Inventory { bundles: vec![bundle("/a", broken)], ..Inventory::default() };
        assert!(plan(&inventory, &authority()).is_ok());
        inventory.java_stores.push("/j".into());
        assert!(matches!(plan(&inventory, &authority()), Err(TrustError::Java { .. })));
    }
}
