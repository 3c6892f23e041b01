//! Which running instance a command is for.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use clap::Args;

use super::client::Client;
use super::error::CommandError;
use crate::cli::parse_name;
use crate::folders;

/// What the socket of an instance is called after its name.
const SOCKET_ENDING: &str = "sock";

/// The options that name an instance.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct InstanceChoice {
    /// The instance; not needed where only one runs
    #[arg(long, value_name = "NAME", env = "SLUICEGATE_INSTANCE", value_parser = parse_name)]
    instance: Option<String>,
    /// The instance's control socket, where it is not in the runtime folder
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl InstanceChoice {
    /// A client for the instance that is meant.
    ///
    /// # Errors
    /// When none is running, or several are and none was named.
    pub(crate) fn client(&self) -> Result<Client, CommandError> {
        if let Some(socket) = &self.socket {
            return Client::new(socket.clone());
        }
        let chosen = choose(self.instance.as_deref(), running(&folder()?)?)?;
        Client::new(chosen)
    }
}

/// The runtime folder.
///
/// # Errors
/// When it cannot be made, or is not private.
pub(crate) fn folder() -> Result<PathBuf, CommandError> {
    folders::runtime().map_err(|error| CommandError::System("use the runtime folder", error))
}

/// The instances whose sockets in `folder` take connections, by name.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn running(folder: &Path) -> Result<Vec<(String, PathBuf)>, CommandError> {
    let failed = |source| CommandError::File { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|ending| ending != SOCKET_ENDING) {
            continue;
        }
        // A socket whose instance was killed is left behind, and refuses.
        if let Some(name) = path.file_stem().and_then(|name| name.to_str())
            && UnixStream::connect(&path).is_ok()
        {
            found.push((name.to_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

fn choose(named: Option<&str>, running: Vec<(String, PathBuf)>) -> Result<PathBuf, CommandError> {
    let names = || running.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if let Some(named) = named {
        let found = running.iter().find(|(name, _)| name == named).map(|(_, path)| path.clone());
        return found.ok_or_else(|| CommandError::NotRunning { name: named.to_owned(), running: names() });
    }
    match running.as_slice() {
        [] => Err(CommandError::NoInstance),
        [(_, only)] => Ok(only.clone()),
        _ => Err(CommandError::Several(names())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_sockets_that_answer_are_running() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let live =
            [UnixListener::bind(path("b.sock")).unwrap(), UnixListener::bind(path("a.b.sock")).unwrap()];
        drop(UnixListener::bind(path("dead.sock")).unwrap());
        fs::write(path("file.sock"), "").unwrap();
        fs::write(path("note"), "").unwrap();
        let running = running(folder.path()).unwrap();
        assert_eq!(running, [("a.b".to_owned(), path("a.b.sock")), ("b".to_owned(), path("b.sock"))]);
        drop(live);
        assert!(super::running(&path("nowhere")).unwrap().is_empty());
    }

    #[test]
    fn one_instance_needs_no_name_and_several_do() {
        let instances = |names: &[&str]| -> Vec<(String, PathBuf)> {
            names.iter().map(|name| ((*name).to_owned(), PathBuf::from(name))).collect()
        };
        assert!(matches!(choose(None, instances(&[])), Err(CommandError::NoInstance)));
        assert_eq!(choose(None, instances(&["a"])).unwrap(), Path::new("a"));
        let several = choose(None, instances(&["a", "b"])).unwrap_err();
        assert_eq!(several.to_string(), "several instances are running: a, b");
        assert_eq!(choose(Some("b"), instances(&["a", "b"])).unwrap(), Path::new("b"));
        let missing = choose(Some("c"), instances(&["a", "b"])).unwrap_err();
        assert_eq!(missing.to_string(), "no instance named c is running; these are: a, b");
    }
}
