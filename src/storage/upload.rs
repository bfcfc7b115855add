//! Writing an object of unknown size: kept in memory while it is small, sent in parts when it is not.
//!
//! Whoever gives up drops the upload: what was sent is forgotten behind its back, and a sweep finds what is left if the
//! process dies before.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::{Attributes, Error, Key, PartId, Store, Stored};

/// The size of a part in bytes, unless the object needs larger ones.
const PART: u64 = 8 * 1024 * 1024;
/// The most parts of an upload.
const MOST_PARTS: u64 = 10_000;
/// Parts of one upload that are on their way at once.
const AT_ONCE: usize = 3;

/// An object that is being written.
pub struct Upload {
    store: Store,
    key: Key,
    attributes: Attributes,
    part: usize,
    buffer: BytesMut,
    /// The store's name of it, once there are parts.
    upload: Option<String>,
    sent: u64,
    numbers: u32,
    under_way: VecDeque<JoinHandle<Result<PartId, Error>>>,
    parts: Vec<PartId>,
}

impl Upload {
    pub(super) fn new(store: Store, key: Key, attributes: Attributes, expected: Option<u64>) -> Self {
        let part = expected.map_or(PART, |size| size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20).max(PART));
        Self {
            store,
            key,
            attributes,
            part: usize::try_from(part).unwrap_or(usize::MAX),
            buffer: BytesMut::new(),
            upload: None,
            sent: 0,
            numbers: 0,
            under_way: VecDeque::new(),
            parts: Vec::new(),
        }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.sent + self.buffer.len() as u64
    }

    /// Adds bytes; waits while too many are on their way.
    ///
    /// # Errors
    /// The store's. Nothing is kept then.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = self.part - self.buffer.len();
            let piece = bytes.split_to(room.min(bytes.len()));
            self.buffer.extend_from_slice(&piece);
            if self.buffer.len() == self.part {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    /// Makes the object of what was written. When this returns it is durable and seen by everybody.
    ///
    /// # Errors
    /// The store's. Nothing is kept then.
    pub async fn finish(mut self) -> Result<Stored, Error> {
        if self.upload.is_none() {
            return self.store.put(&self.key, std::mem::take(&mut self.buffer).freeze(), &self.attributes).await;
        }
        if !self.buffer.is_empty() {
            self.send_part().await?;
        }
        while !self.under_way.is_empty() {
            self.settle_one().await?;
        }
        let upload = self.upload.clone().unwrap_or_default();
        let stored = self.store.complete(&self.key, &upload, &self.parts, self.sent).await?;
        self.upload = None;
        Ok(stored)
    }

    async fn send_part(&mut self) -> Result<(), Error> {
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => self.upload.insert(self.store.begin(&self.key, &self.attributes).await?).clone(),
        };
        if u64::from(self.numbers) == MOST_PARTS {
            return Err(Error::Unsupported("keep an object of so many parts whose size was not told before"));
        }
        while self.under_way.len() >= AT_ONCE {
            self.settle_one().await?;
        }
        self.numbers += 1;
        let (store, key, number, offset) = (self.store.clone(), self.key.clone(), self.numbers, self.sent);
        let body = std::mem::take(&mut self.buffer).freeze();
        self.sent += body.len() as u64;
        let sending = async move { store.part(&key, &upload, number, offset, body).await };
        self.under_way.push_back(tokio::spawn(sending));
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), Error> {
        if let Some(sending) = self.under_way.pop_front() {
            let sent = sending
                .await
                .map_err(|error| Error::Other { what: "a part could not be sent".into(), source: error.into() })?;
            self.parts.push(sent?);
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else { return };
        let (store, key, under_way) = (self.store.clone(), self.key.clone(), std::mem::take(&mut self.under_way));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A part that arrives after the end would be left for ever.
                for sending in under_way {
                    sending.abort();
                    let _ = sending.await;
                }
                if let Err(error) = store.abort(&key, &upload).await {
                    tracing::debug!(%error, "an upload that was given up is left to the sweep");
                }
            });
        }
    }
}
