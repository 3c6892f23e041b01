//! Looks at this machine.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use tokio::process::Command;

use super::{Confinement, Folder, Helper, Machine, Roots, UserNamespaces};
use crate::audit::default_log_folder;
use crate::capture::helper_path;
use crate::commands::read_limited;
use crate::doctor::child;
use crate::folders;

/// How long the helper may take to say its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);
/// The longest setting of the kernel's that is read, in bytes; these are numbers and names.
const SETTING_BYTES_MAX: u64 = 16 * 1024;

/// Looks at everything but by trying. `state` is the state folder, if it was named.
pub(in crate::doctor) async fn gather(state: Option<PathBuf>) -> Machine {
    Machine {
        release: setting("/proc/sys/kernel/osrelease").unwrap_or_default(),
        landlock: setting("/sys/kernel/security/lsm").map(|on| on.split(',').any(|name| name == "landlock")),
        helper: helper().await,
        user_namespaces: UserNamespaces {
            max: setting("/proc/sys/user/max_user_namespaces"),
            clone: setting("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor: setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        },
        ipv6: Path::new("/proc/sys/net/ipv6").is_dir(),
        confinement: confinement(),
        state_folder: state_folder(state),
        runtime_folder: runtime_folder(),
        roots: roots(),
        vsock: offers_vsock(),
    }
}

/// Whether the kernel offers sockets to the hypervisor, as far as its device tells.
pub(in crate::doctor) fn offers_vsock() -> bool {
    fs::metadata("/dev/vsock").is_ok_and(|file| file.file_type().is_char_device())
}

/// A short file of the kernel's, without white space around it.
fn setting(path: &str) -> Option<String> {
    let bytes = read_limited(File::open(path).ok()?, SETTING_BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n', ' ']).to_owned())
}

async fn helper() -> Helper {
    let path = helper_path();
    let mut command = Command::new(&path);
    command.arg("--version");
    let version = match child::finish(command, VERSION_DEADLINE).await {
        Ok(ended) if ended.code == Some(0) => {
            let word = ended.stdout.split_whitespace().nth(1).map(str::to_owned);
            word.ok_or_else(|| "it does not say its version".to_owned())
        }
        Ok(_) => Err("it does not say its version".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    Helper { replaceable: is_replaceable(&path), path: path.display().to_string(), version }
}

/// Whether somebody else than root and this user could put another file there.
fn is_replaceable(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    let own = |metadata: fs::Metadata| {
        [0, user].contains(&metadata.uid()) && (metadata.mode() & 0o022 == 0 || metadata.mode() & 0o1000 != 0)
    };
    // A sticky folder keeps others from replacing what is in it; a sticky file means nothing.
    let file = fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o022 == 0 && own(metadata));
    !(file && path.ancestors().skip(1).all(|folder| fs::metadata(folder).is_ok_and(own)))
}

fn confinement() -> Confinement {
    let status = setting("/proc/self/status").unwrap_or_default();
    let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:")?.trim().parse().ok());
    Confinement { seccomp, profile: setting("/proc/self/attr/current").filter(|profile| !profile.is_empty()) }
}

fn state_folder(named: Option<PathBuf>) -> Folder {
    let Some(folder) = named.or_else(default_log_folder) else {
        return Folder {
            path: "none".into(),
            wrong: Some("neither XDG_STATE_HOME nor HOME is set to a path".into()),
        };
    };
    // What is not there yet is made by the first gate, below what there is.
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or_else(|| Path::new("/"));
    let wrong = if existing.is_dir() {
        let access = Access::WRITE_OK | Access::EXEC_OK;
        accessat(CWD, existing, access, AtFlags::EACCESS).err().map(|errno| errno.to_string())
    } else {
        Some(format!("{} is not a folder", existing.display()))
    };
    Folder { path: folder.display().to_string(), wrong }
}

fn runtime_folder() -> Folder {
    match folders::runtime() {
        Ok(folder) => Folder { path: folder.display().to_string(), wrong: None },
        Err(error) => Folder { path: "none".into(), wrong: Some(error.to_string()) },
    }
}

fn roots() -> Roots {
    let loaded = rustls_native_certs::load_native_certs();
    let errors = loaded.errors.iter().map(ToString::to_string).collect();
    Roots { count: loaded.certs.len(), errors }
}
