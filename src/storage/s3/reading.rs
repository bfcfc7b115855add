//! Reading an object to its end although connections break: what is missing is asked for again, of the same object.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore as _};

use super::Inner;
use super::request::pause;
use crate::error::BoxError;
use crate::storage::{Action, Content, Error, Key, Range};

/// How often a body is taken up again.
const RESUMES: u32 = 3;

/// An object that is being read.
pub(super) struct Reading {
    pub(super) s3: Arc<Inner>,
    pub(super) key: Key,
    pub(super) path: Path,
    /// With its quotes.
    pub(super) etag: Option<String>,
    /// What is still to come.
    pub(super) range: Range,
    pub(super) body: BoxStream<'static, object_store::Result<Bytes>>,
    pub(super) resumes: u32,
}

impl Inner {
    /// Asks for an object, once.
    pub(super) async fn open(
        &self,
        key: &Key,
        path: &Path,
        range: Option<Range>,
        etag: Option<String>,
    ) -> Result<GetResult, Error> {
        let options = GetOptions { range: range.map(GetRange::Bounded), if_match: etag, ..GetOptions::default() };
        self.crate_.get_opts(path, options).await.map_err(|error| self.asked(Action::Read, Some(key)).error(error))
    }
}

/// The bytes of an answer.
pub(super) fn body(payload: GetResultPayload) -> Result<BoxStream<'static, object_store::Result<Bytes>>, Error> {
    match payload {
        GetResultPayload::Stream(body) => Ok(body),
        #[expect(clippy::allow_attributes, reason = "whether the other kind exists depends on features")]
        #[allow(unreachable_patterns, reason = "whether the other kind exists depends on features")]
        _ => Err(Error::Unsupported("give an object as a file")),
    }
}

impl Reading {
    /// What is left as a stream, which ends with an error if it cannot be had.
    pub(super) fn content(self) -> Content {
        let steps = stream::unfold(Some(self), |reading| async move {
            let mut reading = reading?;
            match reading.step().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Content::Stream(steps.boxed())
    }

    async fn step(&mut self) -> Result<Option<Bytes>, Error> {
        let asked = |action| self.s3.asked(action, Some(&self.key));
        loop {
            let left = self.range.end - self.range.start;
            let mut error = match self.body.next().await {
                Some(Ok(bytes)) if bytes.len() as u64 > left => {
                    return Err(Error::Damaged("more came than the object has".into()));
                }
                Some(Ok(bytes)) => {
                    self.range.start += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                None if left == 0 => return Ok(None),
                None => Error::Damaged(BoxError::from(format!("{left} bytes are missing"))),
                Some(Err(error)) => asked(Action::Read).error(error),
            };
            if left == 0 {
                // The connection broke after the last byte.
                return Ok(None);
            }
            loop {
                if self.resumes == RESUMES || self.etag.is_none() || !error.is_temporary() {
                    return Err(error);
                }
                pause(self.resumes).await;
                self.resumes += 1;
                match self.s3.open(&self.key, &self.path, Some(self.range.clone()), self.etag.clone()).await {
                    Ok(result) if result.meta.e_tag == self.etag => {
                        self.body = body(result.payload)?;
                        break;
                    }
                    Ok(_) => return Err(Error::Damaged("the object was overwritten while it was read".into())),
                    // Overwritten or deleted: what was sent cannot be completed.
                    Err(missing @ (Error::Missing(_) | Error::Damaged(_))) => {
                        return Err(Error::Damaged(missing.into()));
                    }
                    Err(other) => error = other,
                }
            }
        }
    }
}
