//! From a name to what is on the disk. Everything here blocks and runs off the runtime's own threads.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use http::{HeaderMap, HeaderValue};
use rustix::fs::{Advice, fadvise};

use super::cache::{Absence, Cache};
use super::cache_control::CacheControl;
use super::content_type::{ContentTypes, is_compressible, may_have_neighbours};
use super::entry::{Entry, Meta, Stamps, stamp_tag};
use super::error::Failure;
use super::root::{Found, Root, Stamp};
use crate::clock::{self, now_seconds};
use crate::http::{AcceptEncoding, Encoding};

/// How much younger than its neighbour a file may be, in seconds: build tools and copies do not keep the order.
const NEIGHBOUR_SLACK: u64 = 1;

/// The part of a site that the disk is read with.
pub struct Loader {
    /// The folder.
    pub root: Root,
    /// What was read before.
    pub cache: Cache,
    /// Content types.
    pub types: ContentTypes,
    /// Cache-Control.
    pub cache_control: CacheControl,
    /// Names of index files.
    pub index: Vec<String>,
    /// Whether compressed neighbours are looked for.
    pub precompressed: bool,
    /// Whether folders are listed.
    pub listing: bool,
    /// Files larger than this are streamed and never kept.
    pub largest_kept: u64,
}

/// What a name stands for.
pub enum Loaded {
    /// A small file.
    Entry(Arc<Entry>),
    /// A file that is streamed.
    Large(Box<Large>),
    /// A folder, named without its slash.
    Folder,
    /// A folder without an index file, to be listed.
    Listing(Arc<OwnedFd>, File),
}

/// A file that is streamed.
pub struct Large {
    /// The file, or the neighbour chosen for the client.
    pub file: Arc<File>,
    /// Its size.
    pub size: u64,
    /// Its entity tag.
    pub etag: HeaderValue,
    /// Headers of a 200.
    pub head: HeaderMap,
    /// Last modification in seconds since 1970.
    pub modified: u64,
}

impl Loader {
    /// Finds `key`, reads it when it is small, and keeps it. `accept` chooses among the neighbours of a large file.
    ///
    /// # Errors
    /// Why it cannot be served.
    pub fn load(&self, key: &str, accept: AcceptEncoding) -> Result<Loaded, Failure> {
        let known = self.cache.entry(key);
        match self.look_up(key, known.as_ref(), accept) {
            // Out of descriptors: what is in memory is better than nothing.
            Err(Failure::Exhausted(error)) => match known {
                Some(entry) if entry.generation.load(Acquire) == self.root.generation() => Ok(Loaded::Entry(entry)),
                _ => Err(Failure::Exhausted(error)),
            },
            other => other,
        }
    }

    fn look_up(&self, key: &str, known: Option<&Arc<Entry>>, accept: AcceptEncoding) -> Result<Loaded, Failure> {
        let folder = self.root.folder()?;
        // Read before the look-up: should the folder change in between, the entry is out of date at once.
        let generation = self.root.generation();
        let found = self.find(&folder, key);
        let (path, file, stamp) = match found {
            Ok(Place::File(path, file, stamp)) => (path, file, stamp),
            Ok(Place::Folder) => {
                self.cache.set_absent(key, Absence::Folder, generation, clock::millis());
                return Ok(Loaded::Folder);
            }
            Ok(Place::Listing(listed)) => {
                self.cache.remove(key);
                return Ok(Loaded::Listing(folder, listed));
            }
            Err(Failure::Missing) => {
                self.cache.set_absent(key, Absence::Missing, generation, clock::millis());
                return Err(Failure::Missing);
            }
            Err(failure) => {
                if !matches!(failure, Failure::Exhausted(_)) {
                    self.cache.remove(key);
                }
                return Err(failure);
            }
        };
        if stamp.size > self.largest_kept {
            self.cache.remove(key);
            return self.large(&folder, &path, file, stamp, accept);
        }
        let (neighbours, files) = self.neighbours(&folder, &path, &stamp)?;
        let stamps = Stamps { file: stamp, neighbours };
        if let Some(entry) = known.filter(|entry| entry.settled && entry.stamps == stamps) {
            entry.generation.store(generation, Release);
            entry.checked.store(clock::millis(), Release);
            return Ok(Loaded::Entry(Arc::clone(entry)));
        }
        let meta = self.meta(&path, &stamp, neighbours.iter().any(Option::is_some));
        let entry = match Entry::read(key, meta, stamps, &file, &files) {
            Ok(entry) => entry,
            // Truncated between the look and the read; whoever writes it will have finished in a moment.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.cache.remove(key);
                let stamp = Stamp::of(&file.metadata()?);
                return self.large(&folder, &path, file, stamp, AcceptEncoding::default());
            }
            Err(error) => return Err(error.into()),
        };
        if Stamp::of(&file.metadata()?) != stamp {
            // Changed while it was read: what was read may be half of each.
            self.cache.remove(key);
            let stamp = Stamp::of(&file.metadata()?);
            return self.large(&folder, &path, file, stamp, AcceptEncoding::default());
        }
        entry.generation.store(generation, Release);
        let entry = Arc::new(entry);
        self.cache.insert(&entry);
        Ok(Loaded::Entry(entry))
    }

    fn find(&self, folder: &OwnedFd, key: &str) -> Result<Place, Failure> {
        if !key.is_empty() && !key.ends_with('/') {
            return Ok(match self.root.find(folder, key)? {
                Found::File(file, stamp) => Place::File(key.to_owned(), file, stamp),
                Found::Folder(_) => Place::Folder,
            });
        }
        for name in &self.index {
            let path = format!("{key}{name}");
            match self.root.find(folder, &path) {
                Ok(Found::File(file, stamp)) => return Ok(Place::File(path, file, stamp)),
                Ok(Found::Folder(_)) | Err(Failure::Missing) => {}
                Err(failure) => return Err(failure),
            }
        }
        if self.listing {
            let path = if key.is_empty() { "." } else { key };
            if let Found::Folder(listed) = self.root.find(folder, path)? {
                return Ok(Place::Listing(listed));
            }
        }
        Err(Failure::Missing)
    }

    fn meta(&self, path: &str, stamp: &Stamp, has_neighbours: bool) -> Meta {
        let content_type = self.types.of(path);
        Meta {
            negotiable: has_neighbours || is_compressible(&content_type),
            cache_control: self.cache_control.of(path),
            // A file from the future was last modified now at the latest (RFC 9110 section 8.8.2.1).
            modified: stamp.modified().min(now_seconds()),
            content_type,
        }
    }

    /// The compressed neighbours of a small file that are not larger than it.
    fn neighbours(&self, folder: &OwnedFd, path: &str, original: &Stamp) -> Result<Neighbours, Failure> {
        let mut stamps = [None; 3];
        let mut files = [const { None }; 3];
        if self.precompressed && may_have_neighbours(&self.types.of(path)) {
            for encoding in Encoding::ALL {
                if let Some((file, stamp)) = self.neighbour(folder, path, original, encoding)?
                    && stamp.size <= original.size
                {
                    stamps[encoding.index()] = Some(stamp);
                    files[encoding.index()] = Some(file);
                }
            }
        }
        Ok((stamps, files))
    }

    fn neighbour(
        &self,
        folder: &OwnedFd,
        path: &str,
        original: &Stamp,
        encoding: Encoding,
    ) -> Result<Option<(File, Stamp)>, Failure> {
        let name = format!("{path}.{}", encoding.extension());
        match self.root.find(folder, &name) {
            Ok(Found::File(file, stamp)) if stamp.modified() + NEIGHBOUR_SLACK >= original.modified() => {
                Ok(Some((file, stamp)))
            }
            Ok(Found::File(..)) => {
                static TOLD: std::sync::Once = std::sync::Once::new();
                TOLD.call_once(|| {
                    tracing::warn!(root = %self.root.path().display(), file = name,
                        "a compressed file is older than its original and is ignored; compress it again \
                         (said once, there may be more)");
                });
                Ok(None)
            }
            Err(failure @ Failure::Exhausted(_)) => Err(failure),
            _ => Ok(None),
        }
    }

    fn large(
        &self,
        folder: &OwnedFd,
        path: &str,
        file: File,
        stamp: Stamp,
        accept: AcceptEncoding,
    ) -> Result<Loaded, Failure> {
        let mut chosen = (file, stamp, None);
        let expects = self.precompressed && may_have_neighbours(&self.types.of(path));
        if expects && accept.any_coding() {
            let mut found = [const { None }; 3];
            for encoding in Encoding::ALL.into_iter().filter(|encoding| accept.weight(*encoding) > 0) {
                found[encoding.index()] = self.neighbour(folder, path, &stamp, encoding)?;
            }
            if let Some(encoding) = accept.best(|encoding| found[encoding.index()].is_some())
                && let Some((file, stamp)) = found[encoding.index()].take()
            {
                chosen = (file, stamp, Some(encoding));
            }
        }
        let (file, served, encoding) = chosen;
        // An advice that is refused changes nothing.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        let meta = self.meta(path, &stamp, expects);
        let etag = stamp_tag(&served, encoding);
        Ok(Loaded::Large(Box::new(Large {
            head: meta.head(&etag, encoding),
            etag,
            size: served.size,
            modified: meta.modified,
            file: Arc::new(file),
        })))
    }
}

/// By [`Encoding::index`].
type Neighbours = ([Option<Stamp>; 3], [Option<File>; 3]);

enum Place {
    File(String, File, Stamp),
    Folder,
    Listing(File),
}
