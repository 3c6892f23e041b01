//! What an instance keeps of what was changed while it ran, across restarts and `SIGKILL`.
//!
//! **Invariant:** the file holds the whole state before a change or the whole state after it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sluicegate_policy::{Content, Overrides, ProgramKind};

use crate::approvals::Remembered;
use crate::document::{Bundle, open_at_once};

/// The longest state file that is read, in bytes: a document, its handlers as the control socket takes
/// them, and a thousand answers.
const STATE_BYTES_MAX: u64 = 96 * 1024 * 1024;

/// What was changed at run time. Apart from the document, which it never writes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Handlers and hosts.
    pub overrides: Overrides,
    /// A policy that stands in the place of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
    /// Answers of people that count again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remembered: Vec<Remembered>,
}

/// An uploaded policy; scripts are text and components base64, as the control socket takes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    file: PathBuf,
    document: String,
    scripts: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    components: BTreeMap<String, Binary>,
}

/// Bytes, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Binary(Content);

impl From<Binary> for String {
    fn from(binary: Binary) -> Self {
        BASE64.encode(&*binary.0)
    }
}

impl TryFrom<String> for Binary {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        BASE64.decode(text).map(Content::from).map(Self)
    }
}

impl From<Upload> for Bundle {
    fn from(upload: Upload) -> Self {
        let texts = upload.scripts.into_iter().map(|(path, text)| (path, text.into()));
        let components = upload.components.into_iter().map(|(path, content)| (path, content.0));
        let scripts = texts.chain(components).collect();
        Self { file: upload.file, document: upload.document, scripts }
    }
}

impl From<&Bundle> for Upload {
    fn from(bundle: &Bundle) -> Self {
        let mut upload = Self {
            file: bundle.file.clone(),
            document: bundle.document.clone(),
            scripts: BTreeMap::new(),
            components: BTreeMap::new(),
        };
        for (path, content) in &bundle.scripts {
            if ProgramKind::of_file(path) == Some(ProgramKind::Component) {
                upload.components.insert(path.clone(), Binary(content.clone()));
            } else {
                let text = String::from_utf8_lossy(content).into_owned();
                upload.scripts.insert(path.clone(), text);
            }
        }
        upload
    }
}

/// Where the state of one instance is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile(PathBuf);

impl StateFile {
    /// The state of the instance with this name, in this folder.
    pub fn new(folder: &Path, instance: &str) -> Self {
        Self(folder.join(format!("{instance}.state.json")))
    }

    /// What was kept; nothing where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or does not hold a state: what was closed by it could else be
    /// open again.
    pub fn read(&self) -> io::Result<State> {
        let file = match open_at_once(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            opened => opened?,
        };
        if !file.metadata()?.is_file() || file.metadata()?.len() > STATE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        serde_json::from_reader(io::BufReader::new(file)).map_err(io::Error::from)
    }

    /// Writes the state beside the file, has it on disk, and puts it in the file's place.
    ///
    /// # Errors
    /// Those of the file system; the file is then as before.
    pub fn write(&self, state: &State) -> io::Result<()> {
        let temporary = self.0.with_extension("tmp");
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(state)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.0)?;
        let folder = self.0.parent().unwrap_or_else(|| Path::new("."));
        File::open(folder)?.sync_all()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p29_what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), "box-1");
        assert_eq!(file.read().unwrap(), State::default());
        let mut state = State::default();
        state.overrides.denied_hosts.added.push("evil.test".into());
        let scripts = BTreeMap::from([("a.rhai".into(), "text".to_owned().into())]);
        let bundle = Bundle { file: "/p.toml".into(), document: "version = 1".into(), scripts };
        state.upload = Some(Upload::from(&bundle));
        file.write(&state).unwrap();
        assert_eq!(file.read().unwrap(), state);
        assert_eq!(Bundle::from(state.upload.unwrap()), bundle);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_state() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), "box-1");
        fs::write(file.path(), "{\"overrides\":{\"denied_hosts\":").unwrap();
        assert!(file.read().is_err());
        fs::write(file.path(), "{\"unheard_of\":1}").unwrap();
        assert!(file.read().is_err());
    }
}
