//! What an instance keeps of what was changed while it ran, across restarts and `SIGKILL`.
//!
//! **Invariant:** the file holds the whole state before a change or the whole state after it, and each component
//! that it names lies whole beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluicegate_policy::{Content, Overrides, ProgramKind};

use crate::approvals::Remembered;
use crate::document::{Bundle, open_at_once, read_bounded};

/// The longest state file that is read, in bytes: a document, the texts of its handlers as the control socket
/// takes them, and a thousand answers.
const STATE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What was changed at run time. Apart from the document, which it never writes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Handlers and hosts.
    pub overrides: Overrides,
    /// A policy that stands in the place of the document.
    pub upload: Option<Bundle>,
    /// Answers of people that count again.
    pub remembered: Vec<Remembered>,
}

/// A [`State`] as the file has it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    overrides: Overrides,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload: Option<Upload>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remembered: Vec<Remembered>,
}

/// An uploaded policy: scripts by their texts and components by their SHA-256, as the control socket takes them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Upload {
    file: PathBuf,
    document: String,
    scripts: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    components: BTreeMap<String, String>,
}

impl State {
    /// The components of the uploaded policy.
    pub fn components(&self) -> impl Iterator<Item = &Content> {
        self.upload.iter().flat_map(Bundle::components)
    }
}

impl From<&Bundle> for Upload {
    fn from(bundle: &Bundle) -> Self {
        let (mut scripts, mut components) = (BTreeMap::new(), BTreeMap::new());
        for (path, content) in &bundle.scripts {
            if ProgramKind::of_file(path) == Some(ProgramKind::Component) {
                components.insert(path.clone(), content.sha256_hex());
            } else {
                scripts.insert(path.clone(), String::from_utf8_lossy(content).into_owned());
            }
        }
        Self { file: bundle.file.clone(), document: bundle.document.clone(), scripts, components }
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
        let written: Written = serde_json::from_reader(io::BufReader::new(file))?;
        let upload = written.upload.map(|upload| self.bundle(upload)).transpose()?;
        Ok(State { overrides: written.overrides, upload, remembered: written.remembered })
    }

    fn bundle(&self, upload: Upload) -> io::Result<Bundle> {
        let texts = upload.scripts.into_iter().map(|(path, text)| (path, Content::from(text)));
        let mut scripts: BTreeMap<_, _> = texts.collect();
        for (path, sum) in upload.components {
            scripts.insert(path, self.read_component(&sum)?);
        }
        Ok(Bundle { file: upload.file, document: upload.document, scripts })
    }

    fn read_component(&self, sum: &str) -> io::Result<Content> {
        let path = self.component(sum);
        let bytes = read_bounded(&path, ProgramKind::Component.bytes_max() as u64)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        let content = Content::from(bytes);
        if content.sha256_hex() == sum {
            return Ok(content);
        }
        let message = format!("{} is not what its name says: its SHA-256 is another", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }

    /// Writes the state, and the components of its policy that are not there yet.
    ///
    /// # Errors
    /// Those of the file system; the file is then as before.
    pub fn write(&self, state: &State) -> io::Result<()> {
        for component in state.components() {
            self.keep_component(component)?;
        }
        let written = Written {
            overrides: state.overrides.clone(),
            upload: state.upload.as_ref().map(Upload::from),
            remembered: state.remembered.clone(),
        };
        self.replace(&self.0, &serde_json::to_vec(&written)?)
    }

    /// Has a component on disk, for a state that names it. Does nothing where it is.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep_component(&self, component: &Content) -> io::Result<()> {
        let path = self.component(&component.sha256_hex());
        // It came there whole, under its own name.
        let is_there = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == component.len() as u64);
        if is_there { Ok(()) } else { self.replace(&path, component) }
    }

    /// Removes the components that are not among `kept`, by their SHA-256.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_components_but(&self, kept: &BTreeSet<String>) -> io::Result<()> {
        let entries = match fs::read_dir(self.folder()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let Some(sum) = path.file_name().and_then(|name| sum_of(name.to_str()?)) else { continue };
            if path == self.component(sum) && !kept.contains(sum) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Where a component is kept.
    fn component(&self, sum: &str) -> PathBuf {
        self.0.with_extension("").with_extension(format!("{sum}.wasm"))
    }

    fn folder(&self) -> &Path {
        self.0.parent().unwrap_or_else(|| Path::new("."))
    }

    /// Writes a file beside `path`, has it on disk, and puts it there.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.0.with_extension("tmp");
        fs::create_dir_all(self.folder())?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(self.folder())?.sync_all()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// The SHA-256 in the name of a component's file, which is 64 hexadecimal digits.
fn sum_of(name: &str) -> Option<&str> {
    let sum = name.strip_suffix(".wasm")?.rsplit_once('.')?.1;
    (sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(component: &[u8]) -> Bundle {
        let scripts = [("a.rhai", b"text".as_slice()), ("b.wasm", component)];
        let scripts = scripts.map(|(path, content)| (path.to_owned(), content.into())).into();
        Bundle { file: "/p.toml".into(), document: "version = 1".into(), scripts }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn p29_what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), "box-1");
        assert_eq!(file.read().unwrap(), State::default());
        let mut state = State::default();
        state.overrides.denied_hosts.added.push("evil.test".into());
        state.upload = Some(bundle(b"\0asm"));
        file.write(&state).unwrap();
        assert_eq!(file.read().unwrap(), state);
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

    #[test]
    fn a_component_lies_beside_the_file_until_nobody_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), "box.1");
        let (first, second) = (bundle(b"one"), bundle(b"two"));
        for upload in [&first, &second] {
            file.write(&State { upload: Some(upload.clone()), ..State::default() }).unwrap();
        }
        let state = file.read().unwrap();
        assert_eq!(state.upload, Some(second));
        // What belongs to another instance, or is no component, stays.
        let others = ["box.wasm".to_owned(), format!("box.{}.wasm", "a".repeat(64))];
        for name in &others {
            fs::write(folder.path().join(name), "").unwrap();
        }
        file.remove_components_but(&state.components().map(Content::sha256_hex).collect()).unwrap();
        let kept = format!("box.1.{}.wasm", Content::from(b"two".as_slice()).sha256_hex());
        let mut expected = vec![kept.clone(), "box.1.state.json".to_owned()];
        expected.extend(others);
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        assert_eq!(file.read().unwrap(), state);

        fs::write(folder.path().join(&kept), "owt").unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains(&kept), "{error}");
        fs::remove_file(folder.path().join(&kept)).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains(&kept), "{error}");
    }
}
