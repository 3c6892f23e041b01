//! A policy document with the scripts it names, as read from disk or uploaded.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sluicegate_policy::{
    Compiled, Content, Exports, Policy, PolicyError, Program, ProgramKind, Script, ScriptProblem, Sources,
};
use sluicegate_wasm::Programs;

use crate::handler_files;

/// The longest policy document, in bytes; generous for a generated one.
pub const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// All that a policy is compiled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The document's absolute path: for messages, and where relative paths begin.
    pub file: PathBuf,
    /// Its text.
    pub document: String,
    /// Its handlers' files, by path as the document writes it.
    pub scripts: BTreeMap<String, Content>,
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The document cannot be read.
    #[error("cannot read the policy document {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not compile.
    #[error(transparent)]
    Policy(PolicyError),
}

/// A document and the handlers' files that it names, read and not yet compiled.
#[derive(Debug)]
pub struct Collected {
    /// The document's path as it was given, for messages.
    named: String,
    bundle: Bundle,
    /// Why files that it names could not be read.
    unread: BTreeMap<String, String>,
}

impl Collected {
    /// Reads a document and the files that it names. No program is run or compiled, and no thread is started.
    ///
    /// # Errors
    /// [`DocumentError::Read`] of the document itself; what is wrong with the others is said when it is compiled.
    pub fn read(file: &Path) -> Result<Self, DocumentError> {
        // For the files that it asks for; compiling them for good says what is wrong.
        let (bundle, unread, _) = read(file, None)?;
        Ok(Self { named: file.to_string_lossy().into_owned(), bundle, unread })
    }

    /// Compiles it; a program is loaded as it will be run, which may take seconds.
    ///
    /// # Errors
    /// Every problem of the document and its scripts.
    pub fn compile(self, programs: &Programs) -> Result<(Bundle, Compiled), PolicyError> {
        let sources = Kept { bundle: &self.bundle, unread: &self.unread, programs };
        let compiled = Policy::compile(&self.named, &self.bundle.document, &sources)?;
        Ok((self.bundle, compiled))
    }
}

impl Bundle {
    /// Reads a document and the handlers' files that it names, and compiles them.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read(file: &Path, programs: &Programs) -> Result<(Self, Compiled), DocumentError> {
        let (bundle, _, compiled) = read(file, Some(programs))?;
        Ok((bundle, compiled.map_err(DocumentError::Policy)?))
    }

    /// Compiles what was read or uploaded before.
    ///
    /// # Errors
    /// Every problem of the document and its scripts.
    pub fn compile(&self, programs: &Programs) -> Result<Compiled, PolicyError> {
        let sources = Kept { bundle: self, unread: &BTreeMap::new(), programs };
        Policy::compile(&self.file.to_string_lossy(), &self.document, &sources)
    }

    /// Where the document's relative paths begin.
    pub fn folder(&self) -> &Path {
        folder_of(&self.file)
    }

    /// Its components.
    pub fn components(&self) -> impl Iterator<Item = &Content> {
        let is_component = |path: &str| ProgramKind::of_file(path) == Some(ProgramKind::Component);
        self.scripts.iter().filter(move |(path, _)| is_component(path)).map(|(_, content)| content)
    }

    /// The files that it was read from.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let scripts = self.scripts.keys().map(|path| self.folder().join(path));
        std::iter::once(self.file.clone()).chain(scripts)
    }
}

/// A document with the files that could be read, why others could not, and what compiling them said.
type ReadDocument = (Bundle, BTreeMap<String, String>, Result<Compiled, PolicyError>);

/// Reads a document and the files that it names. Without `programs` those are taken to offer nothing.
fn read(file: &Path, programs: Option<&Programs>) -> Result<ReadDocument, DocumentError> {
    let failed = |source| DocumentError::Read { path: file.to_owned(), source };
    let path = std::path::absolute(file).map_err(failed)?;
    let bytes = read_bounded(&path, DOCUMENT_BYTES_MAX).map_err(failed)?;
    let document = String::from_utf8(bytes)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let folder = Folder { path: folder_of(&path).to_owned(), read: RefCell::default(), programs };
    let compiled = Policy::compile(&file.to_string_lossy(), &document, &folder);
    let mut scripts = BTreeMap::new();
    let mut unread = BTreeMap::new();
    for (path, content) in folder.read.into_inner() {
        match content {
            Ok(content) => drop(scripts.insert(path, content)),
            Err(error) => drop(unread.insert(path, error)),
        }
    }
    Ok((Bundle { file: path, document, scripts }, unread, compiled))
}

/// The files of a bundle.
struct Kept<'a> {
    bundle: &'a Bundle,
    unread: &'a BTreeMap<String, String>,
    programs: &'a Programs,
}

impl Sources for Kept<'_> {
    fn read(&self, path: &str) -> Result<Content, String> {
        let content = self.bundle.scripts.get(path).cloned();
        content.ok_or_else(|| {
            self.unread.get(path).map_or("it did not come with the document", String::as_str).to_owned()
        })
    }

    fn program(&self, program: &Program) -> Result<Exports, ScriptProblem> {
        load(self.programs, program)
    }
}

fn load(programs: &Programs, program: &Program) -> Result<Exports, ScriptProblem> {
    programs.load(program).map(|loaded| loaded.exports().clone())
}

/// Files below a folder, noted as they are read, with what was read.
struct Folder<'a> {
    path: PathBuf,
    read: RefCell<BTreeMap<String, Result<Content, String>>>,
    programs: Option<&'a Programs>,
}

impl Sources for Folder<'_> {
    fn read(&self, path: &str) -> Result<Content, String> {
        // One byte more than allowed, so that the compiler says that it is too long.
        let most = ProgramKind::of_file(path).map_or(Script::BYTES_MAX, ProgramKind::bytes_max);
        let content = handler_files::read(&self.path.join(path), most as u64 + 1)
            .or_else(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => Ok(vec![b' '; most + 1].into()),
                _ => Err(error),
            })
            .map_err(|error| error.to_string());
        self.read.borrow_mut().insert(path.to_owned(), content.clone());
        content
    }

    fn program(&self, program: &Program) -> Result<Exports, ScriptProblem> {
        self.programs.map_or_else(|| Ok(Exports::default()), |programs| load(programs, program))
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or_else(|| Path::new("/"))
}

/// Opens a file to read, without waiting for the other end where it is a pipe.
///
/// # Errors
/// Those of the file system.
pub fn open_at_once(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

/// A regular file of at most `limit` bytes; a pipe or a device could block for ever.
///
/// # Errors
/// Those of the file system, and where it is something else or longer.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_rest(open_at_once(path)?, limit)
}

/// What is left of a regular file.
///
/// # Errors
/// As [`read_bounded`].
pub(crate) fn read_rest(file: File, limit: u64) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes =
        Vec::with_capacity(usize::try_from(file.metadata()?.len().min(limit)).unwrap_or_default());
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("it is longer than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_with_the_scripts_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let script = "fn outbound(request, env, ctx) { reply(200) }";
        for name in ["a", "b"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("same.rhai"), script).unwrap();
        }
        let text =
            "version = 1\noutbound = \"a/same.rhai\"\n[outbound_by_host]\n\"h.test\" = \"b/same.rhai\"\n";
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, text).unwrap();
        let (bundle, compiled) = Bundle::read(&file, &Programs::new(None)).unwrap();
        assert_eq!(bundle.scripts.keys().collect::<Vec<_>>(), ["a/same.rhai", "b/same.rhai"]);
        assert_eq!(bundle.files().count(), 3);
        assert_eq!(
            bundle.compile(&Programs::new(None)).unwrap().policy.generation(),
            compiled.policy.generation()
        );
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        assert!(read_bounded(Path::new("/dev/zero"), 10).is_err());
        assert!(read_bounded(Path::new("/"), 10).is_err());
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(read_bounded(&pipe, 10).is_err());
    }

    #[test]
    fn a_script_of_ten_megabytes_is_refused_by_its_length() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("big.rhai"), vec![b' '; 10 * 1024 * 1024]).unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, "version = 1\noutbound = \"big.rhai\"\n").unwrap();
        let Err(DocumentError::Policy(error)) = Bundle::read(&file, &Programs::new(None)) else {
            panic!("it compiled")
        };
        assert!(format!("{:?}", error.problems()).contains("at most"), "{error:?}");
    }
}
