//! The folder for what lives as long as an instance.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// `sluicegate` below the user's runtime folder, made if it is not there: `XDG_RUNTIME_DIR`, else
/// `/run/user/UID`, `/run` for root, else a folder of the user's own below the temporary folder.
///
/// # Errors
/// When it cannot be made, or another user could write to it.
#[expect(
    clippy::disallowed_methods,
    reason = "the runtime folder is named by the environment, by specification"
)]
pub fn runtime() -> io::Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let usual = PathBuf::from(if user == 0 { "/run".into() } else { format!("/run/user/{user}") });
    let candidates = named.filter(|path| path.is_absolute()).into_iter().chain([usual]);
    let folder = candidates.map(|folder| folder.join("sluicegate")).find(|folder| make(folder, user).is_ok());
    match folder {
        Some(folder) => Ok(folder),
        None => {
            let folder = std::env::temp_dir().join(format!("sluicegate-{user}"));
            make(&folder, user)?;
            Ok(folder)
        }
    }
}

fn make(folder: &Path, user: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Not through a link, and not somebody else's: a folder in /tmp may have been waiting for us.
    let metadata = fs::symlink_metadata(folder)?;
    let private = metadata.is_dir() && metadata.uid() == user && metadata.permissions().mode() & 0o022 == 0;
    private.then_some(()).ok_or_else(|| io::ErrorKind::PermissionDenied.into())
}
