//! Objects by key, in a folder or a bucket: read and written in pieces, never held whole.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use opendal_core::{ErrorKind, Metadata, Operator, Reader};
use sluicegate_policy::{Answer, BodySource, Object, ObjectsOperation};
use tokio::time::timeout;

use super::bucket::OpenBucket;
use super::content::{Destination, ObjectContent};
use super::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use super::folder::{Entries, Folder};
use super::key::{Prefix, from_object, from_path, to_object, to_object_start, to_path};
use super::location::Bucket;
use super::object_reader::ObjectReader;
use super::{CONTENT_TYPE_BYTES_MAX, DEADLINE, Fault, LIST_KEYS_MAX};
use crate::secrets::Secrets;
use crate::upstream::Upstream;

/// What is written at once to a folder, in bytes.
const FOLDER_PIECE_BYTES: usize = 256 * 1024;

/// What is written at once to a bucket, in bytes: the least that S3 takes for a part. Two are held.
const BUCKET_PIECE_BYTES: usize = 5 * 1024 * 1024;

/// How often an object is opened again that was replaced while it was opened.
const OPENINGS_MAX: usize = 5;

/// An object binding.
pub(super) struct Objects {
    place: Place,
    prefix: Prefix,
}

enum Place {
    Folder(Folder),
    Bucket(OpenBucket),
}

impl Objects {
    pub(super) fn folder(path: PathBuf, prefix: Prefix) -> Self {
        Self { place: Place::Folder(Folder::new(path)), prefix }
    }

    pub(super) fn bucket(bucket: Bucket, prefix: Prefix, upstream: Arc<Upstream>) -> Self {
        Self { place: Place::Bucket(OpenBucket::new(bucket, upstream)), prefix }
    }

    pub(super) async fn perform(
        &self,
        operation: ObjectsOperation,
        content: Option<ObjectContent>,
        secrets: &Secrets,
    ) -> Result<Found, Fault> {
        let opened = timeout(DEADLINE, self.operator(secrets)).await;
        let operator = opened.unwrap_or(Err(Fault::Timeout))?;
        if let ObjectsOperation::Put { key, body, content_type } = operation {
            // What streams has deadlines of its own.
            let content = content_of(body, content)?;
            self.put(&operator, &self.name(&key)?, content, content_type).await?;
            return Ok((Answer::Done, None));
        }
        let done = timeout(DEADLINE, self.perform_briefly(&operator, operation)).await;
        done.unwrap_or(Err(Fault::Timeout))
    }

    async fn perform_briefly(
        &self,
        operator: &Operator,
        operation: ObjectsOperation,
    ) -> Result<Found, Fault> {
        match operation {
            ObjectsOperation::Get(key) => self.get(operator, &self.name(&key)?).await,
            ObjectsOperation::Head(key) => self.head(operator, &self.name(&key)?).await,
            ObjectsOperation::Delete(key) => {
                operator.delete(&self.name(&key)?).await?;
                Ok((Answer::Done, None))
            }
            ObjectsOperation::List(start) => Ok((Answer::Keys(self.list(operator, &start).await?), None)),
            ObjectsOperation::Put { .. } => Err(Fault::Failed),
        }
    }

    async fn operator(&self, secrets: &Secrets) -> Result<Operator, Fault> {
        match &self.place {
            Place::Folder(folder) => folder.operator().await.cloned(),
            Place::Bucket(bucket) => bucket.operator(secrets),
        }
    }

    /// What the place calls a key.
    fn name(&self, key: &str) -> Result<String, Fault> {
        let key = self.prefix.before(key)?;
        Ok(match &self.place {
            Place::Folder(_) => to_path(&key),
            Place::Bucket(_) => to_object(&key),
        })
    }

    async fn get(&self, operator: &Operator, name: &str) -> Result<Found, Fault> {
        let found = match &self.place {
            Place::Folder(_) => get_file(operator, name).await,
            Place::Bucket(_) => get_object(operator, name).await,
        };
        or_nothing(found)
    }

    async fn head(&self, operator: &Operator, name: &str) -> Result<Found, Fault> {
        let found = match &self.place {
            Place::Folder(_) => open_file(operator, name).await.map(|file| file.object()),
            Place::Bucket(_) => {
                operator.stat(name).await.map(|metadata| described(&metadata)).map_err(Missed::from)
            }
        };
        or_nothing(found.map(|object| (object, None)))
    }

    async fn put(
        &self,
        operator: &Operator,
        name: &str,
        content: ObjectContent,
        content_type: Option<Box<str>>,
    ) -> Result<(), Fault> {
        let is_text = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if let Some(text) = &content_type
            && (text.is_empty() || text.len() > CONTENT_TYPE_BYTES_MAX || !is_text(text))
        {
            return Err(Fault::ContentType);
        }
        let destination = match &self.place {
            Place::Folder(_) => {
                let writer = operator.writer_with(name).chunk(FOLDER_PIECE_BYTES).await?;
                Destination { writer, envelope: Some(Envelope { expires: 0, content_type }) }
            }
            Place::Bucket(_) => {
                let mut writer = operator.writer_with(name).chunk(BUCKET_PIECE_BYTES);
                if let Some(text) = &content_type {
                    writer = writer.content_type(text);
                }
                Destination { writer: writer.await?, envelope: None }
            }
        };
        destination.take(content).await
    }

    /// The first thousand keys.
    async fn list(&self, operator: &Operator, start: &str) -> Result<Vec<Box<str>>, Fault> {
        let start = self.prefix.before_start(start)?;
        let (below, key_of): (String, fn(&str) -> Option<String>) = match &self.place {
            Place::Folder(_) => (String::from("/"), from_path),
            Place::Bucket(_) => (to_object_start(&start), from_object),
        };
        let below = if below.is_empty() { "/" } else { &below };
        let mut found = BTreeSet::new();
        let mut entries = Entries::below(operator, below)?;
        while let Some(name) = entries.next().await? {
            let key = key_of(&name).filter(|key| key.starts_with(&start));
            found.extend(key.and_then(|key| self.prefix.strip(&key)));
            if found.len() > LIST_KEYS_MAX {
                found.pop_last();
            }
        }
        Ok(found.into_iter().collect())
    }
}

/// An answer, and the content that comes with an object.
type Found = (Answer, Option<ObjectReader>);

/// Why an object was not found.
enum Missed {
    /// There is none.
    Nothing,
    Fault(Fault),
}

impl From<opendal_core::Error> for Missed {
    fn from(error: opendal_core::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Nothing,
            _ => Self::Fault(error.into()),
        }
    }
}

fn or_nothing(found: Result<(Object, Option<ObjectReader>), Missed>) -> Result<Found, Fault> {
    match found {
        Ok((object, content)) => Ok((Answer::Object(object), content)),
        Err(Missed::Nothing) => Ok((Answer::Nothing, None)),
        Err(Missed::Fault(fault)) => Err(fault),
    }
}

/// One request for both: what is said of the object is said of the content that follows.
async fn get_object(operator: &Operator, name: &str) -> Result<(Object, Option<ObjectReader>), Missed> {
    let mut content = operator.reader(name).await?.into_bytes_stream(..).await?;
    let object = described(&content.metadata().await?);
    let reader = ObjectReader::new(content, object.length);
    Ok((object, Some(reader)))
}

fn described(metadata: &Metadata) -> Object {
    Object {
        body: None,
        length: metadata.content_length(),
        content_type: metadata.content_type().map(Box::from),
        etag: metadata.etag().map(Box::from),
    }
}

/// A file that is open, so that it stays what it is when it is replaced.
struct OpenFile {
    reader: Reader,
    envelope: Envelope,
    /// Where the content begins.
    start: u64,
    /// Where it ends.
    end: u64,
}

impl OpenFile {
    fn object(&self) -> Object {
        let content_type = self.envelope.content_type.clone();
        Object { body: None, length: self.end - self.start, content_type, etag: None }
    }
}

async fn get_file(operator: &Operator, name: &str) -> Result<(Object, Option<ObjectReader>), Missed> {
    let file = open_file(operator, name).await?;
    let object = file.object();
    let reader = if object.length == 0 {
        ObjectReader::empty()
    } else {
        ObjectReader::new(file.reader.into_bytes_stream(file.start..file.end).await?, object.length)
    };
    Ok((object, Some(reader)))
}

/// Opens a file and reads its envelope. What is known of a file is asked by name, before and after it
/// is opened: if both are the same, it is about this one.
async fn open_file(operator: &Operator, name: &str) -> Result<OpenFile, Missed> {
    for _ in 0..OPENINGS_MAX {
        let before = operator.stat(name).await?;
        let end = before.content_length();
        let reader = operator.reader(name).await?;
        let start = match reader.read(0..end.min(ENVELOPE_BYTES_MAX as u64)).await {
            // Replaced by a shorter one.
            Err(error) if error.kind() == ErrorKind::RangeNotSatisfied => continue,
            start => start?.to_bytes(),
        };
        let after = operator.stat(name).await?;
        if after.content_length() == end && after.last_modified() == before.last_modified() {
            let (envelope, start) = Envelope::read(&start);
            return Ok(OpenFile { reader, envelope, start: start as u64, end });
        }
    }
    Err(Missed::Fault(Fault::Restless))
}

fn content_of(body: BodySource, content: Option<ObjectContent>) -> Result<ObjectContent, Fault> {
    match body {
        BodySource::Empty => Ok(boxed(Bytes::new())),
        BodySource::Bytes(bytes) => Ok(boxed(bytes)),
        BodySource::Handle(_) => content.ok_or(Fault::Cut),
        BodySource::Filled(_) => Err(Fault::HoldsSecrets),
    }
}

fn boxed(bytes: Bytes) -> ObjectContent {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
