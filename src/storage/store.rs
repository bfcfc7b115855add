//! The store as everything above sees it, and what a kind of store has to do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};

use super::{Attributes, Content, Entry, Error, Key, Level, PartId, Range, Stored, Unfinished, Upload};

/// The result of a store, later.
pub type Later<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// A kind of store. Every method may be called at any time by any number of tasks; a future that is dropped leaves
/// nothing that a reader could see.
pub trait Backend: Send + Sync + 'static {
    /// In messages: "the bucket media in eu-central-1", "the folder /var/lib/beacon/storage".
    fn describe(&self) -> String;

    /// Whether parts may have any size and begin anywhere, as in a file: then `part` may be called with any `offset`, any
    /// length and the same `number` again, each durable when it returns, and `complete` looks at `size` alone (the list of
    /// parts may be empty).
    fn takes_any_part(&self) -> bool {
        false
    }

    /// Writes a small object, in place of one that is there.
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, attributes: &'a Attributes) -> Later<'a, Stored>;

    /// What is known of an object.
    fn head<'a>(&'a self, key: &'a Key) -> Later<'a, Entry>;

    /// Reads an object, or a range of it that lies within it. `Entry` is of the very object that is read.
    fn get<'a>(&'a self, key: &'a Key, range: Option<Range>) -> Later<'a, (Entry, Content)>;

    /// Copies an object within the store; `attributes`: in place of those that it has.
    fn copy<'a>(&'a self, from: &'a Key, to: &'a Key, attributes: Option<&'a Attributes>) -> Later<'a, Stored>;

    /// Deletes objects; those that are not there are deleted. Gives those that could not be, and why.
    fn delete<'a>(&'a self, keys: &'a [Key]) -> Later<'a, Vec<(Key, Error)>>;

    /// Objects whose keys begin with `prefix` (a text, not a segment) in the order of their bytes, those after `after`,
    /// at most `most` (1 to 1,000).
    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, most: usize) -> Later<'a, Vec<Entry>>;

    /// One level: what lies directly below `folder` ("" is the top), all of it.
    fn level<'a>(&'a self, folder: &'a str) -> Later<'a, Level>;

    /// Begins an upload in parts, which outlives the process.
    fn begin<'a>(&'a self, key: &'a Key, attributes: &'a Attributes) -> Later<'a, String>;

    /// Writes part `number` (from 1, at most 10,000), which begins at `offset`. Every part but the last has the same
    /// size of at least 5 MiB. A part that is sent again takes the place of the first.
    fn part<'a>(&'a self, key: &'a Key, upload: &'a str, number: u32, offset: u64, body: Bytes) -> Later<'a, PartId>;

    /// Makes the object of its parts, given in their order. The same again after it was done is [`Error::NoUpload`].
    fn complete<'a>(&'a self, key: &'a Key, upload: &'a str, parts: &'a [PartId], size: u64) -> Later<'a, Stored>;

    /// Forgets an upload and its parts; one that is not there is forgotten.
    fn abort<'a>(&'a self, key: &'a Key, upload: &'a str) -> Later<'a, ()>;

    /// Uploads of keys with this prefix that were begun and not ended.
    fn unfinished<'a>(&'a self, prefix: &'a str) -> Later<'a, Vec<Unfinished>>;

    /// A URL with which anybody can do `method` (GET, PUT) with the object for `lifetime`, and headers that must come
    /// along; none if the store has no URLs.
    fn presign<'a>(
        &'a self,
        method: Method,
        key: &'a Key,
        lifetime: Duration,
        headers: &'a HeaderMap,
    ) -> Later<'a, Option<String>>;
}

/// A store. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<dyn Backend>);

impl std::fmt::Debug for Store {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Store({})", self.0.describe())
    }
}

impl Store {
    /// A store of this kind.
    #[must_use]
    pub fn new(backend: impl Backend) -> Self {
        Self(Arc::new(backend))
    }

    /// Begins to write an object whose size may not be known; it appears when [`Upload::finish`] returns. `expected`:
    /// its size in bytes if it is known, which decides on the size of parts.
    #[must_use]
    pub fn upload(&self, key: &Key, attributes: &Attributes, expected: Option<u64>) -> Upload {
        Upload::new(self.clone(), key.clone(), attributes.clone(), expected)
    }
}

impl std::ops::Deref for Store {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
