//! Secret values: read from where the document says, held wiped-on-drop, revealed in one place.
//!
//! **Invariant:** a [`Secret`] has no `Display`, `Clone` or `Serialize`, and its `Debug` shows
//! nothing; only [`Secrets::reveal`]'s caller in `credentials.rs` sees bytes.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sluicegate_policy::{Policy, SecretDeclaration, SecretName, SecretSource};
use zeroize::Zeroizing;

/// The longest value, in bytes: what fits into a request head beside everything else.
const SECRET_BYTES_MAX: usize = 32 * 1024;

/// One value.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes themselves. To be called where they go onto a request, and nowhere else.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes a value as a file or a variable holds it; one line end after it is not part of it.
    ///
    /// Control characters are refused: in a header they would end it and begin another.
    fn new(mut value: Zeroizing<Vec<u8>>) -> Result<Self, SecretFault> {
        if value.last() == Some(&b'\n') {
            value.pop();
            if value.last() == Some(&b'\r') {
                value.pop();
            }
        }
        if value.is_empty() {
            return Err(SecretFault::Empty);
        }
        if value.len() > SECRET_BYTES_MAX {
            return Err(SecretFault::TooLong);
        }
        if value.iter().any(u8::is_ascii_control) {
            return Err(SecretFault::ControlCharacter);
        }
        Ok(Self(value))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("secret {name} ({source_text}) cannot be used")]
pub struct SecretError {
    /// Its name.
    pub name: SecretName,
    /// Where the document says that it is.
    pub source_text: String,
    /// What is wrong.
    #[source]
    pub fault: SecretFault,
}

/// What is wrong with a secret's value. The value itself is never part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFault {
    /// The variable is not set.
    #[error("the variable is not set")]
    Unset,
    /// Nothing is in it.
    #[error("it is empty")]
    Empty,
    /// Longer than 32 KiB.
    #[error("it is longer than {SECRET_BYTES_MAX} bytes")]
    TooLong,
    /// A line break or another control character is in it.
    #[error("it holds a control character, which no header may")]
    ControlCharacter,
    /// Not a regular file: a device or a pipe could block for ever.
    #[error("it is not a regular file")]
    NotAFile,
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
}

/// The values of one policy's secrets.
#[derive(Debug)]
pub struct Secrets(HashMap<SecretName, Entry>);

#[derive(Debug)]
struct Entry {
    source: Source,
    source_text: String,
}

#[derive(Debug)]
enum Source {
    /// A variable cannot change in a running process: read once.
    Variable(Arc<Secret>),
    File {
        path: PathBuf,
        /// The value with the file's identity when it was read.
        read: Mutex<(Stamp, Arc<Secret>)>,
    },
}

/// Changes when the file is written or replaced.
type Stamp = (u64, u64, u64, i64, i64);

impl Secrets {
    /// Reads every secret that `policy` declares; `folder` is where relative paths begin.
    ///
    /// # Errors
    /// The first that cannot be had: a gate that starts can put on all it promises.
    pub fn load(policy: &Policy, folder: &Path) -> Result<Self, SecretError> {
        let mut entries = HashMap::new();
        for declaration in policy.secrets() {
            let source = read_source(declaration, folder).map_err(|fault| error(declaration, fault))?;
            let source_text = declaration.source.to_string();
            entries.insert(declaration.name.clone(), Entry { source, source_text });
        }
        Ok(Self(entries))
    }

    /// The current value: a file that changed is read again, so that rotation needs no restart.
    ///
    /// # Errors
    /// When the secret is unknown or its file became unusable.
    pub(crate) fn reveal(&self, name: &SecretName) -> Result<Arc<Secret>, SecretError> {
        let Some(entry) = self.0.get(name) else {
            let (source_text, fault) = (String::from("undeclared"), SecretFault::Unset);
            return Err(SecretError { name: name.clone(), source_text, fault });
        };
        match &entry.source {
            Source::Variable(secret) => Ok(Arc::clone(secret)),
            Source::File { path, read } => current(path, read).map_err(|fault| SecretError {
                name: name.clone(),
                source_text: entry.source_text.clone(),
                fault,
            }),
        }
    }

    /// Reads every file again, without taking its value.
    ///
    /// # Errors
    /// The first that cannot be read any more.
    pub fn check(&self) -> Result<(), SecretError> {
        for (name, entry) in &self.0 {
            if let Source::File { path, .. } = &entry.source {
                read_file(path).map_err(|fault| SecretError {
                    name: name.clone(),
                    source_text: entry.source_text.clone(),
                    fault,
                })?;
            }
        }
        Ok(())
    }

    /// The files that hold values, to be hidden from the workload.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.values().filter_map(|entry| match &entry.source {
            Source::Variable(_) => None,
            Source::File { path, .. } => Some(path.as_path()),
        })
    }
}

/// The variables that hold values, to be taken out of the workload's environment.
pub fn variables(policy: &Policy) -> Vec<String> {
    let variable = |declaration: &SecretDeclaration| match &declaration.source {
        SecretSource::Env(name) => Some(name.to_string()),
        SecretSource::File(_) => None,
    };
    policy.secrets().iter().filter_map(variable).collect()
}

fn error(declaration: &SecretDeclaration, fault: SecretFault) -> SecretError {
    SecretError { name: declaration.name.clone(), source_text: declaration.source.to_string(), fault }
}

fn read_source(declaration: &SecretDeclaration, folder: &Path) -> Result<Source, SecretFault> {
    match &declaration.source {
        SecretSource::Env(name) => Ok(Source::Variable(Arc::new(read_variable(name)?))),
        SecretSource::File(path) => {
            let path = folder.join(Path::new(&**path));
            let read = Mutex::new(read_file(&path)?);
            Ok(Source::File { path, read })
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "env:// sources are read here and nowhere else")]
fn read_variable(name: &str) -> Result<Secret, SecretFault> {
    use std::os::unix::ffi::OsStringExt;
    let value = std::env::var_os(name).ok_or(SecretFault::Unset)?;
    Secret::new(Zeroizing::new(value.into_vec()))
}

/// One `stat` a request that carries the secret is the price of rotation without a restart.
fn current(path: &Path, read: &Mutex<(Stamp, Arc<Secret>)>) -> Result<Arc<Secret>, SecretFault> {
    let now = stamp(&std::fs::metadata(path).map_err(SecretFault::Read)?);
    let mut held = read.lock().unwrap_or_else(PoisonError::into_inner);
    if held.0 != now {
        *held = read_file(path)?;
    }
    Ok(Arc::clone(&held.1))
}

fn read_file(path: &Path) -> Result<(Stamp, Arc<Secret>), SecretFault> {
    let file = File::open(path).map_err(SecretFault::Read)?;
    let metadata = file.metadata().map_err(SecretFault::Read)?;
    if !metadata.is_file() {
        return Err(SecretFault::NotAFile);
    }
    let mut value = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX));
    file.take(SECRET_BYTES_MAX as u64 + 3).read_to_end(&mut value).map_err(SecretFault::Read)?;
    Ok((stamp(&metadata), Arc::new(Secret::new(value)?)))
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &[u8]) -> Result<Vec<u8>, String> {
        Secret::new(Zeroizing::new(value.to_vec()))
            .map(|secret| secret.bytes().to_vec())
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn one_line_end_is_not_part_of_a_value() {
        assert_eq!(secret(b"abc\n").unwrap(), b"abc");
        assert_eq!(secret(b"abc\r\n").unwrap(), b"abc");
        assert_eq!(secret(b" a b ").unwrap(), b" a b ");
    }

    #[test]
    fn what_would_break_a_header_is_refused() {
        for bad in [&b""[..], b"\n", b"a\nb", b"a\r\nx: y", b"a\0", b"\x7f", b"a\n\n"] {
            assert!(secret(bad).is_err(), "{bad:?}");
        }
        assert!(secret(&vec![b'a'; SECRET_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one").unwrap();
        let read = Mutex::new(read_file(&path).unwrap());
        assert_eq!(current(&path, &read).unwrap().bytes(), b"one");
        std::fs::write(folder.path().join("new"), "two\n").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(current(&path, &read).unwrap().bytes(), b"two");
        std::fs::remove_file(&path).unwrap();
        assert!(current(&path, &read).is_err());
    }

    #[test]
    fn nothing_prints_a_value() {
        let secret = Secret::new(Zeroizing::new(b"tiger".to_vec())).unwrap();
        assert_eq!(format!("{secret:?}"), "<secret>");
    }
}
