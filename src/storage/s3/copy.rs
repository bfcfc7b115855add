//! Copies within the bucket: by S3 itself, or through here when an object is too large for that.

use std::sync::Arc;

use bytes::BytesMut;
use futures_util::StreamExt as _;
use http::{HeaderName, HeaderValue, Method};

use super::request::{Asking, again, source};
use super::{Inner, bare, headers};
use crate::error::BoxError;
use crate::storage::{Action, Attributes, Content, Entry, Error, Key, PartId, Stored};

/// The largest object that S3 copies at once, in bytes.
const LARGEST: u64 = 5 * 1024 * 1024 * 1024;
/// The least size of a part of a larger one, in bytes.
const PART: u64 = 16 * 1024 * 1024;
/// The most parts of an upload.
const MOST_PARTS: u64 = 10_000;

impl Inner {
    /// Copies an object; `attributes` replace those that it has.
    pub(super) async fn copy(
        self: &Arc<Self>,
        from: &Key,
        to: &Key,
        attributes: Option<&Attributes>,
    ) -> Result<Stored, Error> {
        let entry = self.head(from).await?;
        if entry.size > LARGEST {
            return self.copy_through(from, to, attributes).await;
        }
        let Entry { size, .. } = entry;
        let mut all = self.encryption.clone();
        // S3 refuses an object's copy onto itself that changes nothing; then it has its attributes already.
        let kept = (from == to && attributes.is_none()).then_some(&entry.attributes);
        let replace = attributes.or(kept);
        all.insert(
            "x-amz-metadata-directive",
            HeaderValue::from_static(if replace.is_some() { "REPLACE" } else { "COPY" }),
        );
        let mut given: Vec<(String, String)> =
            vec![("x-amz-copy-source".into(), source(&self.bucket, &self.whole(from)))];
        if let Some(attributes) = replace {
            given.extend(headers(attributes)?.into_iter().map(|(name, value)| (name, value.to_owned())));
        }
        let asked = self.asked(Action::Write, Some(from));
        let unfit = |error: BoxError| asked.other(error);
        for (name, value) in given {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| unfit(error.into()))?;
            all.insert(name, HeaderValue::from_str(&value).map_err(|error| unfit(error.into()))?);
        }
        let key = self.whole(to);
        let asking = Asking { method: Method::PUT, key: &key, query: &[], headers: all };
        let copied =
            again(self.patience, |_| async { self.signed.send(&asking).await.map_err(|error| asked.error(error)) });
        let etag = bare(self.need(Action::Write, &copied.await?, "ETag")?);
        Ok(Stored { size, etag })
    }

    /// Copies an object by reading and writing it.
    async fn copy_through(
        self: &Arc<Self>,
        from: &Key,
        to: &Key,
        attributes: Option<&Attributes>,
    ) -> Result<Stored, Error> {
        let (entry, content) = self.get(from, None).await?;
        let upload = self.begin(to, attributes.unwrap_or(&entry.attributes)).await?;
        let copied = self.fill(to, &upload, entry.size, content).await;
        if copied.is_err()
            && let Err(error) = self.abort(to, &upload).await
        {
            tracing::debug!(%error, "a copy that was given up is left to the sweep");
        }
        copied
    }

    async fn fill(&self, to: &Key, upload: &str, size: u64, content: Content) -> Result<Stored, Error> {
        let Content::Stream(mut body) = content else {
            return Err(Error::Unsupported("copy a file"));
        };
        let part = size.div_ceil(MOST_PARTS).max(PART) as usize;
        let mut parts: Vec<PartId> = Vec::new();
        let mut buffer = BytesMut::new();
        loop {
            let piece = body.next().await.transpose()?;
            let ended = piece.is_none();
            buffer.extend_from_slice(&piece.unwrap_or_default());
            while buffer.len() >= part || (ended && !buffer.is_empty()) {
                let bytes = buffer.split_to(part.min(buffer.len())).freeze();
                parts.push(self.part(to, upload, parts.len() as u32 + 1, bytes).await?);
            }
            if ended {
                return self.complete(to, upload, &parts, size).await;
            }
        }
    }
}
