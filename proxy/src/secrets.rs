//! Secret values: read from where the document says, held wiped-on-drop, revealed in few places.
//!
//! **Invariant:** a [`Secret`] has no `Display`, `Clone` or `Serialize`, and its `Debug` shows
//! nothing. Bytes are seen by `credentials.rs`, which puts them onto requests, by `bindings/`, which
//! signs in to stores with them, by `handling/` for HMAC and what was granted with `reveal`, by
//! `upstream/`, which tells a proxy who asks and proves who we are with a key, and by what masks them
//! (`send.rs`, [`Secrets::mask`]).

use std::collections::HashMap;
use std::fmt;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sluicegate_policy::{Identity, Policy, SecretDeclaration, SecretName, SecretSource};
use zeroize::Zeroizing;

use crate::document::open_at_once;
use crate::scrub::Scrubber;

/// The longest value, in bytes: what fits into a request head beside everything else.
const SECRET_BYTES_MAX: usize = 32 * 1024;

/// One value.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes themselves. To be called where the module's documentation says, and nowhere else.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes a value as a file or a variable holds it; one line end after it is not part of it.
    ///
    /// Control characters are refused: in a header they would end it and begin another. The lines of a
    /// private key may end.
    fn new(mut value: Zeroizing<Vec<u8>>, form: Form) -> Result<Self, SecretFault> {
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
        let ends_a_line = |byte: &u8| form == Form::Key && matches!(byte, b'\r' | b'\n');
        if value.iter().any(|byte| byte.is_ascii_control() && !ends_a_line(byte)) {
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

/// What a value may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Text of one line.
    Line,
    /// The lines of a private key as PEM, for `client_certificates`.
    Key,
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
pub struct Secrets {
    entries: HashMap<SecretName, Entry>,
    /// What masks the values as they were last read.
    mask: Mutex<Option<Scrubber>>,
}

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
        form: Form,
        /// The value with the file's identity when it was read.
        read: Mutex<(Stamp, Arc<Secret>)>,
    },
}

impl Entry {
    fn last_read(&self) -> Arc<Secret> {
        match &self.source {
            Source::Variable(secret) => Arc::clone(secret),
            Source::File { read, .. } => Arc::clone(&read.lock().unwrap_or_else(PoisonError::into_inner).1),
        }
    }
}

/// Changes when the file is written or replaced.
type Stamp = (u64, u64, u64, i64, i64);

impl Secrets {
    /// Reads every secret that `policy` declares, those that differ by instance for this `identity`;
    /// `folder` is where relative paths begin.
    ///
    /// # Errors
    /// The first that cannot be had: a gate that starts can put on all it promises.
    pub fn load(policy: &Policy, folder: &Path, identity: &Identity) -> Result<Self, SecretError> {
        let mut entries = HashMap::new();
        for declaration in policy.secrets() {
            let own = declaration.source.for_instance(&identity.container_id, &identity.instance_id);
            let source_text = own.to_string();
            let source = read_source(&own, folder, form_of(policy, declaration)).map_err(|fault| {
                SecretError { name: declaration.name.clone(), source_text: source_text.clone(), fault }
            })?;
            entries.insert(declaration.name.clone(), Entry { source, source_text });
        }
        Ok(Self { entries, mask: Mutex::default() })
    }

    /// The current value: a file that changed is read again, so that rotation needs no restart.
    ///
    /// # Errors
    /// When the secret is unknown or its file became unusable.
    pub(crate) fn reveal(&self, name: &SecretName) -> Result<Arc<Secret>, SecretError> {
        let Some(entry) = self.entries.get(name) else {
            let (source_text, fault) = (String::from("undeclared"), SecretFault::Unset);
            return Err(SecretError { name: name.clone(), source_text, fault });
        };
        match &entry.source {
            Source::Variable(secret) => Ok(Arc::clone(secret)),
            Source::File { path, form, read } => {
                let (secret, is_new) = current(path, *form, read).map_err(|fault| SecretError {
                    name: name.clone(),
                    source_text: entry.source_text.clone(),
                    fault,
                })?;
                if is_new {
                    *self.mask.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                Ok(secret)
            }
        }
    }

    /// What masks every value in what is logged; none where there are no secrets.
    pub fn mask(&self) -> Option<Scrubber> {
        if self.entries.is_empty() {
            return None;
        }
        let mut mask = self.mask.lock().unwrap_or_else(PoisonError::into_inner);
        if mask.is_none() {
            let secrets: Vec<_> = self.entries.values().map(Entry::last_read).collect();
            let values: Vec<&[u8]> = secrets.iter().map(|secret| secret.bytes()).collect();
            *mask = Some(Scrubber::new(&values));
        }
        mask.clone()
    }

    /// Reads every file again, without taking its value.
    ///
    /// # Errors
    /// The first that cannot be read any more.
    pub fn check(&self) -> Result<(), SecretError> {
        for (name, entry) in &self.entries {
            if let Source::File { path, form, .. } = &entry.source {
                read_file(path, *form).map_err(|fault| SecretError {
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
        self.entries.values().filter_map(|entry| match &entry.source {
            Source::Variable(_) => None,
            Source::File { path, .. } => Some(path.as_path()),
        })
    }
}

/// The variables that hold values, those of other instances included, to be taken out of the
/// workload's environment.
pub fn variables(policy: &Policy) -> Vec<String> {
    let is_ours = |name: &String| {
        policy.secrets().iter().any(|declaration: &SecretDeclaration| declaration.source.is_variable_of(name))
    };
    // A name that is no UTF-8 is none that a document could write.
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(is_ours).collect()
}

fn form_of(policy: &Policy, declaration: &SecretDeclaration) -> Form {
    let is_key = policy.upstream().client_certificates.iter().any(|entry| entry.key == declaration.name);
    if is_key { Form::Key } else { Form::Line }
}

fn read_source(source: &SecretSource, folder: &Path, form: Form) -> Result<Source, SecretFault> {
    match source {
        SecretSource::Env(name) => Ok(Source::Variable(Arc::new(read_variable(name, form)?))),
        SecretSource::File(path) => {
            let path = folder.join(Path::new(&**path));
            let read = Mutex::new(read_file(&path, form)?);
            Ok(Source::File { path, form, read })
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "env:// sources are read here and nowhere else")]
fn read_variable(name: &str, form: Form) -> Result<Secret, SecretFault> {
    use std::os::unix::ffi::OsStringExt;
    let value = std::env::var_os(name).ok_or(SecretFault::Unset)?;
    Secret::new(Zeroizing::new(value.into_vec()), form)
}

/// The value, and whether it is another than before. One `stat` a request that carries the secret is
/// the price of rotation without a restart.
fn current(
    path: &Path,
    form: Form,
    read: &Mutex<(Stamp, Arc<Secret>)>,
) -> Result<(Arc<Secret>, bool), SecretFault> {
    let now = stamp(&std::fs::metadata(path).map_err(SecretFault::Read)?);
    let mut held = read.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = held.0 != now;
    if is_new {
        *held = read_file(path, form)?;
    }
    Ok((Arc::clone(&held.1), is_new))
}

fn read_file(path: &Path, form: Form) -> Result<(Stamp, Arc<Secret>), SecretFault> {
    let file = open_at_once(path).map_err(SecretFault::Read)?;
    let metadata = file.metadata().map_err(SecretFault::Read)?;
    if !metadata.is_file() {
        return Err(SecretFault::NotAFile);
    }
    let mut value = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX));
    file.take(SECRET_BYTES_MAX as u64 + 3).read_to_end(&mut value).map_err(SecretFault::Read)?;
    Ok((stamp(&metadata), Arc::new(Secret::new(value, form)?)))
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &[u8]) -> Result<Vec<u8>, String> {
        Secret::new(Zeroizing::new(value.to_vec()), Form::Line)
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
    fn the_lines_of_a_key_may_end_and_nothing_else_may_be_in_it() {
        let key = |value: &[u8]| Secret::new(Zeroizing::new(value.to_vec()), Form::Key).is_ok();
        assert!(key(b"-----BEGIN PRIVATE KEY-----\r\nMAo=\n-----END PRIVATE KEY-----\n"));
        for bad in [&b""[..], b"a\0\n", b"a\tb", b"\x1b\n"] {
            assert!(!key(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one").unwrap();
        let read = Mutex::new(read_file(&path, Form::Line).unwrap());
        let current = |path: &Path, read| current(path, Form::Line, read);
        assert_eq!(current(&path, &read).unwrap().0.bytes(), b"one");
        std::fs::write(folder.path().join("new"), "two\n").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(current(&path, &read).unwrap().0.bytes(), b"two");
        std::fs::remove_file(&path).unwrap();
        assert!(current(&path, &read).is_err());
    }

    #[test]
    fn nothing_prints_a_value() {
        let secret = Secret::new(Zeroizing::new(b"tiger".to_vec()), Form::Line).unwrap();
        assert_eq!(format!("{secret:?}"), "<secret>");
    }
}
