//! An object on its way into a store: piece by piece, and taken back if its end does not come.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use opendal_core::Writer;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::envelope::{Envelope, START_BYTES};
use super::{Fault, IDLE, OBJECT_BYTES_MAX};

/// What is to be stored: any body, boxed.
pub type ObjectContent = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// How long it may take to take back what was written.
const ABORT_DEADLINE: Duration = Duration::from_secs(10);

/// What an object is written with.
pub(super) struct Destination {
    pub(super) writer: Writer,
    /// What stands before it in a file; a bucket keeps such things itself.
    pub(super) envelope: Option<Envelope>,
}

impl Destination {
    /// Writes all of `content`, or nothing. When the caller goes away before the end, that is
    /// nothing too: what was written until then is taken back in the background.
    pub(super) async fn take(self, content: ObjectContent) -> Result<(), Fault> {
        let (here, gone) = oneshot::channel::<()>();
        let writing = tokio::spawn(async move {
            let Self { mut writer, envelope } = self;
            let written = tokio::select! {
                written = write(&mut writer, envelope, content) => written,
                _ = gone => Err(Fault::Cut),
            };
            if written.is_err() {
                let aborted = timeout(ABORT_DEADLINE, writer.abort()).await;
                if !matches!(aborted, Ok(Ok(()))) {
                    tracing::warn!("a part of an object that was not stored could not be removed");
                }
            }
            written
        });
        let written = writing.await.map_err(|_| Fault::Failed)?;
        drop(here);
        written
    }
}

async fn write(
    writer: &mut Writer,
    envelope: Option<Envelope>,
    mut content: ObjectContent,
) -> Result<(), Fault> {
    let mut length = 0;
    if let Some(envelope) = envelope {
        // The first bytes decide whether they need an envelope.
        let mut start = BytesMut::new();
        while start.len() < START_BYTES {
            let Some(bytes) = next(&mut content, &mut length).await? else { break };
            start.extend_from_slice(&bytes);
        }
        let start = start.freeze();
        for bytes in [envelope.write(&start), start].into_iter().filter(|bytes| !bytes.is_empty()) {
            write_one(writer, bytes).await?;
        }
    }
    while let Some(bytes) = next(&mut content, &mut length).await? {
        write_one(writer, bytes).await?;
    }
    timeout(IDLE, writer.close()).await.map_err(|_| Fault::Timeout)??;
    Ok(())
}

async fn write_one(writer: &mut Writer, bytes: Bytes) -> Result<(), Fault> {
    timeout(IDLE, writer.write(bytes)).await.map_err(|_| Fault::Timeout)?.map_err(Fault::from)
}

/// The next bytes; `length` counts them.
async fn next(content: &mut ObjectContent, length: &mut u64) -> Result<Option<Bytes>, Fault> {
    loop {
        let frame = timeout(IDLE, content.frame()).await.map_err(|_| Fault::Cut)?;
        let Some(frame) = frame else { return Ok(None) };
        let Ok(bytes) = frame.map_err(|_| Fault::Cut)?.into_data() else { continue };
        // OpenDAL's writer never gets past an empty piece among others.
        if bytes.is_empty() {
            continue;
        }
        *length += bytes.len() as u64;
        return if *length > OBJECT_BYTES_MAX { Err(Fault::ObjectTooLong) } else { Ok(Some(bytes)) };
    }
}
