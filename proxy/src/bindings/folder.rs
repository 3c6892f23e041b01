//! A folder as a store: made for this user alone, written by renaming, so that every file is whole.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use opendal_core::Operator;
use opendal_core::options::ListOptions;
use opendal_core::raw::{OpList, oio};
use opendal_service_fs::Fs;
use tokio::sync::OnceCell;

use super::Fault;

/// Where files are written before they are whole. No key has a file of this name.
const PARTIAL: &str = ".partial";

/// The age in which a file that is being written has been written to: a stream may stand still for
/// a minute. What is older was left by a process that was killed.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// A folder that is made when it is first used.
pub(super) struct Folder {
    path: PathBuf,
    operator: OnceCell<Operator>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, operator: OnceCell::new() }
    }

    /// The folder, opened.
    pub(super) async fn operator(&self) -> Result<&Operator, Fault> {
        self.operator.get_or_try_init(|| open(self.path.clone())).await
    }
}

/// The files of a store, one by one.
pub(super) struct Entries(oio::Lister);

impl Entries {
    /// Those whose paths begin with `path`, at any depth; `/` for all.
    pub(super) fn below(operator: &Operator, path: &str) -> Result<Self, Fault> {
        // The lister that OpenDAL gives at large is a stream; this is the one within it.
        let options = OpList::from(ListOptions { recursive: true, ..ListOptions::default() });
        Ok(Self(operator.service().list_dyn(operator.context(), path, options)?))
    }

    /// The next one's path.
    pub(super) async fn next(&mut self) -> Result<Option<String>, Fault> {
        while let Some(entry) = self.0.next_dyn().await? {
            if entry.mode().is_file() {
                return Ok(Some(entry.path().to_owned()));
            }
        }
        Ok(None)
    }
}

async fn open(path: PathBuf) -> Result<Operator, Fault> {
    let partial = path.join(PARTIAL);
    let folders = (path.clone(), partial.clone());
    let made = tokio::task::spawn_blocking(move || {
        make(&folders.0)?;
        make(&folders.1)?;
        sweep(&folders.1)
    });
    made.await.map_err(|_| Fault::Failed)?.map_err(|error| {
        tracing::warn!(folder = %path.display(), %error, "the folder of a binding cannot be used");
        Fault::Failed
    })?;
    let text = |path: &Path| path.to_str().map(ToOwned::to_owned).ok_or(Fault::Failed);
    let service = Fs::default().root(&text(&path)?).atomic_write_dir(&text(&partial)?);
    Ok(Operator::new(service)?)
}

/// The files are as open as the umask lets them be; nobody else gets past the folder.
fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

fn sweep(partial: &Path) -> io::Result<()> {
    for entry in fs::read_dir(partial)? {
        let entry = entry?;
        let written = entry.metadata()?.modified()?;
        if SystemTime::now().duration_since(written).is_ok_and(|age| age > PARTIAL_AGE_MAX) {
            // Somebody else may have been quicker.
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
