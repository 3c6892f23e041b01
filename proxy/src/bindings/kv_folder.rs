//! Values by key in a folder: one file a key, nothing to install, whole after every crash.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use bytes::Bytes;
use opendal_core::{ErrorKind, Operator};
use sluicegate_policy::{Answer, KvOperation};
use tokio::sync::{Mutex, MutexGuard};

use super::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use super::folder::{Entries, Folder};
use super::key::{Prefix, from_path, to_path};
use super::{Fault, LIST_KEYS_MAX, VALUE_BYTES_MAX};

/// Held while a key is read or written, by all policies and bindings of this process, so that nothing comes
/// between the reading and the writing of an increment. Keys that share one wait for each other.
///
/// Two processes with one state folder can still lose an increment between them.
static AT_WORK: [Mutex<()>; 64] = [const { Mutex::const_new(()) }; 64];

/// A key-value binding in a folder.
pub(super) struct FolderKv {
    folder: Folder,
    prefix: Prefix,
}

/// The value of a key and what is known of it.
struct Stored {
    envelope: Envelope,
    value: Bytes,
}

impl FolderKv {
    pub(super) fn new(path: PathBuf, prefix: Prefix) -> Self {
        Self { folder: Folder::new(path), prefix }
    }

    pub(super) async fn perform(&self, operation: KvOperation) -> Result<Answer, Fault> {
        let operator = self.folder.operator().await?;
        let path = |key: &str| self.prefix.before(key).map(|key| to_path(&key));
        match operation {
            KvOperation::Get(key) => {
                let stored = get(operator, &path(&key)?).await?;
                Ok(stored.map_or(Answer::Nothing, |stored| Answer::Bytes(stored.value)))
            }
            KvOperation::Put { key, value, ttl } => {
                let path = path(&key)?;
                let _at_work = lock(&path).await;
                write(operator, &path, &Envelope::lasting(ttl), value).await?;
                Ok(Answer::Done)
            }
            KvOperation::Delete(key) => {
                let path = path(&key)?;
                let _at_work = lock(&path).await;
                operator.delete(&path).await?;
                Ok(Answer::Done)
            }
            KvOperation::Increment { key, by, ttl } => {
                let path = path(&key)?;
                let _at_work = lock(&path).await;
                let (envelope, number) = match read(operator, &path).await? {
                    Some(Stored { envelope, value }) if !envelope.is_over() => (envelope, number(&value)?),
                    _ => (Envelope::lasting(ttl), 0),
                };
                let sum = number.checked_add(by).ok_or(Fault::Overflow)?;
                write(operator, &path, &envelope, Bytes::from(sum.to_string())).await?;
                Ok(Answer::Number(sum))
            }
            KvOperation::List(start) => self.list(operator, &start).await.map(Answer::Keys),
        }
    }

    /// The first thousand keys. Those whose time is over are left out, so there may be fewer.
    async fn list(&self, operator: &Operator, start: &str) -> Result<Vec<Box<str>>, Fault> {
        let start = self.prefix.before_start(start)?;
        let mut found = BTreeSet::new();
        let mut entries = Entries::below(operator, "/")?;
        while let Some(path) = entries.next().await? {
            let Some(key) = from_path(&path).filter(|key| key.starts_with(&start)) else { continue };
            found.insert(key);
            if found.len() > LIST_KEYS_MAX {
                found.pop_last();
            }
        }
        let mut keys = Vec::with_capacity(found.len());
        for key in found {
            if !is_over(operator, &to_path(&key)).await? {
                keys.extend(self.prefix.strip(&key));
            }
        }
        Ok(keys)
    }
}

async fn lock(path: &str) -> MutexGuard<'static, ()> {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let index = usize::try_from(hasher.finish() % AT_WORK.len() as u64).unwrap_or_default();
    let [first, ..] = &AT_WORK;
    AT_WORK.get(index).unwrap_or(first).lock().await
}

/// The value, if its time is not over. What is over is removed.
async fn get(operator: &Operator, path: &str) -> Result<Option<Stored>, Fault> {
    // A value shall not change between its length and its bytes.
    let _at_work = lock(path).await;
    match read(operator, path).await? {
        Some(stored) if stored.envelope.is_over() => {
            operator.delete(path).await?;
            Ok(None)
        }
        stored => Ok(stored),
    }
}

/// To be called under the key's lock.
async fn read(operator: &Operator, path: &str) -> Result<Option<Stored>, Fault> {
    let Some(length) = length(operator, path).await? else { return Ok(None) };
    if length > (VALUE_BYTES_MAX + ENVELOPE_BYTES_MAX) as u64 {
        return Err(Fault::ValueTooLong);
    }
    // With its length known, so that the reader takes no more memory than that: megabytes else.
    let mut value = match operator.read_with(path).range(0..length).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        content => content?.to_bytes(),
    };
    let (envelope, start) = Envelope::read(&value);
    let value = value.split_off(start);
    (value.len() <= VALUE_BYTES_MAX).then_some(Some(Stored { envelope, value })).ok_or(Fault::ValueTooLong)
}

async fn write(operator: &Operator, path: &str, envelope: &Envelope, value: Bytes) -> Result<(), Fault> {
    let before = envelope.write(&value);
    // An empty part among others is one that OpenDAL's writer never gets past.
    let content = if before.is_empty() { value } else { Bytes::from([before, value].concat()) };
    operator.write(path, content).await?;
    Ok(())
}

/// Whether the value's time is over; reads no more of it than its envelope.
async fn is_over(operator: &Operator, path: &str) -> Result<bool, Fault> {
    let Some(length) = length(operator, path).await? else { return Ok(true) };
    match operator.read_with(path).range(0..length.min(ENVELOPE_BYTES_MAX as u64)).await {
        Ok(start) => Ok(Envelope::read(&start.to_bytes()).0.is_over()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        // Replaced by a shorter one since.
        Err(error) if error.kind() == ErrorKind::RangeNotSatisfied => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn length(operator: &Operator, path: &str) -> Result<Option<u64>, Fault> {
    match operator.stat(path).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        metadata => Ok(Some(metadata?.content_length())),
    }
}

fn number(value: &[u8]) -> Result<i64, Fault> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Fault::NotANumber)
}
