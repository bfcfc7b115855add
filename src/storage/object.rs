//! What is known of objects, and what is read of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;

use super::{Error, Key};

/// Bytes from `start` to before `end`.
pub type Range = std::ops::Range<u64>;

/// What a store keeps with an object, and S3 tells whoever reads it there. A folder keeps the bytes alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Content-Type.
    pub content_type: Option<String>,
    /// Cache-Control.
    pub cache_control: Option<String>,
    /// Content-Encoding.
    pub content_encoding: Option<String>,
    /// Content-Disposition.
    pub content_disposition: Option<String>,
    /// Metadata of one's own: names in lower-case ASCII.
    pub metadata: BTreeMap<String, String>,
}

/// What a finished write has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its size in bytes.
    pub size: u64,
    /// Its entity tag without quotes: the store's own word, which changes with the bytes.
    pub etag: String,
}

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// Its entity tag without quotes.
    pub etag: String,
    /// Last modification in seconds since 1970.
    pub modified: u64,
    /// What is kept with it. Listings leave it empty.
    pub attributes: Attributes,
}

/// A part of an object that is read.
pub enum Content {
    /// The bytes `range` of an open file, which keeps them whatever becomes of its name.
    File(Arc<File>, Range),
    /// They come over the network, in this order; the stream ends with an error if it ends too early.
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>),
}

impl Content {
    /// All of it in memory, at most `most` bytes; what is beyond is cut off.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn collect(self, most: usize) -> Result<Bytes, Error> {
        use futures_util::StreamExt as _;

        match self {
            Self::File(file, range) => {
                let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(most).min(most);
                let read = move || {
                    let mut bytes = vec![0; length];
                    std::os::unix::fs::FileExt::read_exact_at(&*file, &mut bytes, range.start).map(|()| bytes)
                };
                let read = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other).flatten();
                read.map(Bytes::from).map_err(|error| Error::Damaged(error.into()))
            }
            Self::Stream(mut stream) => {
                let mut all = bytes::BytesMut::new();
                while let Some(bytes) = stream.next().await {
                    let bytes = bytes?;
                    let room = most - all.len();
                    all.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    if all.len() == most {
                        break;
                    }
                }
                Ok(all.freeze())
            }
        }
    }
}

/// One level of a listing, as of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Names of the levels below, full and without a final slash, sorted.
    pub folders: Vec<String>,
    /// Objects at this level, sorted by key.
    pub objects: Vec<Entry>,
}

/// A part of a resumable upload, as its store names it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartId(pub String);

/// A resumable upload that was begun and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The object's name.
    pub key: Key,
    /// The store's name of the upload.
    pub upload: String,
    /// When it began, in seconds since 1970.
    pub began: u64,
}
