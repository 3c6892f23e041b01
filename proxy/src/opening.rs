//! What an instance opens while it has its caller's privileges, and the end of those. From then on it reads and
//! runs what others wrote.
//!
//! **Invariant:** no thread is started before the privileges are given up: they are a thread's, and one that was
//! there before would keep them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sluicegate_certs::CertificateAuthority;

use crate::audit::{Destination, OpenedLog, default_log_folder};
use crate::capture::CaptureError;
use crate::confinement::{self, Writable};
use crate::control::ControlSocket;
use crate::document::Collected;
use crate::inbound::{Entrance, Published};
use crate::instance::{InstanceError, InstanceSettings};
use crate::{folders, process};

/// What was opened. This process has no privilege any more.
#[derive(Debug)]
pub struct Opened {
    /// What the operator said.
    pub settings: InstanceSettings,
    /// The folder of stores and of what is changed at run time.
    pub state_folder: PathBuf,
    /// The policy, read and not compiled; none for the closed policy.
    pub document: Option<Collected>,
    /// Where connections come in.
    pub entrances: Vec<Entrance>,
    /// Where commands come in.
    pub socket: Option<ControlSocket>,
    /// The log, and where it is; none on standard output.
    pub log: (OpenedLog, Option<PathBuf>),
    /// Where the authority's certificate is written to.
    pub authority_file: Option<File>,
    /// The instance's authority, whose key is in memory that is not swapped out.
    pub authority: CertificateAuthority,
}

/// What else the caller names.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The policy document.
    pub policy: Option<&'a Path>,
    /// Where the authority's certificate is to be written.
    pub authority: Option<&'a Path>,
}

impl Opened {
    /// Opens what `settings` and `files` name, starts the helper by `start`, which is told whether connections
    /// come in, gives up all privileges, and makes the authority.
    ///
    /// # Errors
    /// [`InstanceError`]; nothing was captured then.
    pub fn new<T>(
        settings: InstanceSettings,
        files: Files<'_>,
        start: impl FnOnce(bool) -> Result<T, CaptureError>,
    ) -> Result<(Self, T), InstanceError> {
        let document = files.policy.map(Collected::read).transpose()?;
        let state_folder = state_folder(settings.state.clone())?;
        let entrances = open(&settings.published)?;
        let runtime = runtime_folder()?;
        let socket = if settings.control { Some(control_socket(&runtime, &settings.name)?) } else { None };
        let log_file = log_file(settings.log.as_deref(), &state_folder, &settings.name)?;
        let destination = log_file.clone().map_or(Destination::Stdout, Destination::File);
        let log = OpenedLog::new(&destination).map_err(InstanceError::Log)?;
        let authority_file = files.authority.map(open_authority_file).transpose()?;
        process::harden().map_err(|error| InstanceError::System("protect this process", error))?;
        let helper = start(!entrances.is_empty()).map_err(InstanceError::Capture)?;
        process::raise_memory_lock();
        let writable = Writable { folders: vec![state_folder.clone(), runtime] };
        confinement::confine(&writable).map_err(InstanceError::Confinement)?;
        let authority = CertificateAuthority::generate(&settings.name, SystemTime::now())
            .map_err(InstanceError::Authority)?;
        process::lock_memory();
        let log = (log, log_file);
        let opened =
            Self { settings, state_folder, document, entrances, socket, log, authority_file, authority };
        Ok((opened, helper))
    }
}

fn open(published: &[Published]) -> Result<Vec<Entrance>, InstanceError> {
    let open = |&published: &Published| {
        published.open().map_err(|source| InstanceError::Publish { published, source })
    };
    published.iter().map(open).collect()
}

fn runtime_folder() -> Result<PathBuf, InstanceError> {
    folders::runtime().map_err(|error| InstanceError::System("make the runtime folder", error))
}

fn control_socket(folder: &Path, name: &str) -> Result<ControlSocket, InstanceError> {
    let path = folder.join(format!("{name}.sock"));
    ControlSocket::bind(&path).map_err(|source| InstanceError::Control { path, source })
}

/// What stands in it stays until there is a certificate.
fn open_authority_file(path: &Path) -> Result<File, InstanceError> {
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path);
    options.map_err(|error| InstanceError::System("write the certificate", error))
}

/// The folder chosen, else the user's; made if it is not there, so that it can be hidden.
pub(crate) fn state_folder(chosen: Option<PathBuf>) -> Result<PathBuf, InstanceError> {
    let folder = chosen.map(std::path::absolute).transpose();
    let folder = folder.map_err(|error| InstanceError::System("name the state folder", error))?;
    let folder = folder.or_else(default_log_folder).ok_or_else(|| {
        let error = io::Error::new(
            io::ErrorKind::NotFound,
            "neither XDG_STATE_HOME nor HOME is set; use --state FOLDER",
        );
        InstanceError::System("choose a state folder", error)
    })?;
    // What needs it will say so; an instance with its log elsewhere may need nothing in it.
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
        tracing::warn!(folder = %folder.display(), %error, "the state folder cannot be made");
    }
    Ok(folder)
}

/// `-` is standard output; without a choice, a file of the instance's own.
fn log_file(
    chosen: Option<&Path>,
    state_folder: &Path,
    name: &str,
) -> Result<Option<PathBuf>, InstanceError> {
    match chosen {
        Some(path) if path == Path::new("-") => Ok(None),
        Some(path) => std::path::absolute(path)
            .map(Some)
            .map_err(|error| InstanceError::System("name the log file", error)),
        None => Ok(Some(state_folder.join(format!("{name}.jsonl")))),
    }
}
