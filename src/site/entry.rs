//! A small file in memory: its bytes, its headers ready to send, and its compressed forms, made when first asked for.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore};

use super::content_type::is_compressible;
use super::root::Stamp;
use crate::http::{Encoding, read_exactly};

/// Text shorter than this is not worth compressing.
const LEAST_TO_COMPRESS: usize = 1_024;

/// What all forms of a file have in common.
#[derive(Clone, Debug)]
pub struct Meta {
    /// Content-Type.
    pub content_type: HeaderValue,
    /// Cache-Control.
    pub cache_control: HeaderValue,
    /// Last modification in seconds since 1970, never in the future.
    pub modified: u64,
    /// Whether there is, or may come to be, a compressed form: Vary is sent.
    pub negotiable: bool,
}

/// A form of a file: as it is, or compressed.
pub struct Form {
    /// The entity tag, quoted.
    pub etag: HeaderValue,
    /// Headers of a 200.
    pub head: HeaderMap,
    /// The bytes.
    pub bytes: Bytes,
}

/// A compressed form that may be there.
struct Slot {
    possible: bool,
    form: OnceCell<Option<Form>>,
}

/// When a file and its neighbours were last changed: all that an entry was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// The file's.
    pub file: Stamp,
    /// The compressed neighbours', in the order of [`Encoding::ALL`].
    pub neighbours: [Option<Stamp>; 3],
}

/// A small file in memory.
pub struct Entry {
    /// What clients call it: the path below the mount.
    pub key: Box<str>,
    /// What it was made from.
    pub stamps: Stamps,
    /// Whether a later change is sure to show in the stamps.
    pub settled: bool,
    /// What all forms share.
    pub meta: Meta,
    /// The file as it is.
    pub identity: Form,
    slots: [Slot; 3],
    /// When it was last compared with the disk, by [`crate::clock::millis`].
    pub checked: AtomicU64,
    /// The root's generation then.
    pub generation: AtomicU64,
    /// Whether it was asked for since the clock's hand last passed.
    pub used: AtomicBool,
    /// Its place in the clock; only touched by the cache, under its lock.
    pub place: AtomicUsize,
    /// Bytes of memory it takes; only touched by the cache, under its lock.
    pub weight: AtomicUsize,
}

impl Meta {
    /// Headers of a 200 for the form of the file that has `etag`.
    pub fn head(&self, etag: &HeaderValue, encoding: Option<Encoding>) -> HeaderMap {
        // A clone keeps the size of the index: with room for the engine's headers, none of them makes it hash anew.
        let mut head = HeaderMap::with_capacity(12);
        head.insert(CONTENT_TYPE, self.content_type.clone());
        head.insert(ETAG, etag.clone());
        if let Some(value) = date_value(self.modified) {
            head.insert(LAST_MODIFIED, value);
        }
        head.insert(CACHE_CONTROL, self.cache_control.clone());
        head.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if self.negotiable {
            head.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if let Some(encoding) = encoding {
            head.insert(CONTENT_ENCODING, encoding.value());
        }
        head
    }
}

impl Entry {
    /// Reads a file of `stamps.file.size` bytes and its neighbours into memory. Blocks.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(
        key: &str,
        meta: Meta,
        stamps: Stamps,
        file: &File,
        neighbours: &[Option<File>; 3],
    ) -> io::Result<Self> {
        let now = SystemTime::now();
        let settled = [Some(stamps.file), stamps.neighbours[0], stamps.neighbours[1], stamps.neighbours[2]]
            .iter()
            .flatten()
            .all(|stamp| stamp.is_settled(now));
        let bytes = read_exactly(file, 0, usize::try_from(stamps.file.size).map_err(io::Error::other)?)?;
        let etag = content_tag(&bytes, None);
        let may_compress = bytes.len() >= LEAST_TO_COMPRESS && is_compressible(&meta.content_type);
        let mut weight = bytes.len() + 2 * key.len() + 2_048;
        let mut slots = [const { Slot { possible: false, form: OnceCell::const_new() } }; 3];
        for encoding in Encoding::ALL {
            let place = encoding.index();
            let (Some(neighbour), Some(stamp)) = (&neighbours[place], &stamps.neighbours[place]) else {
                slots[place].possible = may_compress;
                continue;
            };
            let bytes = read_exactly(neighbour, 0, usize::try_from(stamp.size).map_err(io::Error::other)?)?;
            weight += bytes.len() + 1_024;
            let etag = content_tag(&bytes, Some(encoding));
            let form = Form { head: meta.head(&etag, Some(encoding)), etag, bytes };
            slots[place] = Slot { possible: true, form: OnceCell::new_with(Some(Some(form))) };
        }
        let identity = Form { head: meta.head(&etag, None), etag, bytes };
        Ok(Self {
            key: key.into(),
            stamps,
            settled,
            meta,
            identity,
            slots,
            checked: AtomicU64::new(crate::clock::millis()),
            generation: AtomicU64::new(0),
            used: AtomicBool::new(true),
            place: AtomicUsize::new(usize::MAX),
            weight: AtomicUsize::new(weight),
        })
    }

    /// Whether the form is there or can be made.
    pub fn has(&self, encoding: Encoding) -> bool {
        let slot = &self.slots[encoding.index()];
        slot.possible && !matches!(slot.form.get(), Some(None))
    }

    /// The form, if it is there.
    pub fn form(&self, encoding: Encoding) -> Option<&Form> {
        self.slots[encoding.index()].form.get()?.as_ref()
    }

    /// The form, made if need be; one caller makes it, the others wait. Without a permit of `gate` to be had at once,
    /// or when compression gains nothing, there is none. Calls `made` with the size of one just made.
    pub async fn make(
        self: &Arc<Self>,
        encoding: Encoding,
        gate: &Arc<Semaphore>,
        made: impl FnOnce(usize),
    ) -> Option<&Form> {
        let slot = &self.slots[encoding.index()];
        let form = slot.form.get_or_try_init(|| async {
            let permit = Arc::clone(gate).try_acquire_owned().map_err(drop)?;
            let entry = Arc::clone(self);
            let form = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                entry.compress(encoding)
            })
            .await
            .map_err(drop)?;
            if let Some(form) = &form {
                made(form.bytes.len() + 1_024);
            }
            Ok::<_, ()>(form)
        });
        form.await.ok()?.as_ref()
    }

    fn compress(&self, encoding: Encoding) -> Option<Form> {
        let bytes = compress(encoding, &self.identity.bytes).ok()?;
        // A form that is hardly smaller costs the client more than it saves.
        if bytes.len() > self.identity.bytes.len() / 20 * 19 {
            return None;
        }
        let etag = form_tag(&self.identity.etag, encoding);
        Some(Form { head: self.meta.head(&etag, Some(encoding)), etag, bytes: bytes.into() })
    }
}

fn compress(encoding: Encoding, bytes: &[u8]) -> io::Result<Vec<u8>> {
    match encoding {
        Encoding::Brotli => {
            let params = brotli::enc::BrotliEncoderParams { quality: 5, lgwin: 20, ..Default::default() };
            let mut out = Vec::with_capacity(bytes.len() / 3);
            brotli::BrotliCompress(&mut &*bytes, &mut out, &params)?;
            Ok(out)
        }
        Encoding::Zstd => zstd::bulk::compress(bytes, 6),
        Encoding::Gzip => {
            let mut out =
                flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 3), flate2::Compression::new(6));
            io::Write::write_all(&mut out, bytes)?;
            out.finish()
        }
    }
}

/// A strong tag of contents: equal files have equal tags, on every server and after every deploy.
fn content_tag(bytes: &[u8], encoding: Option<Encoding>) -> HeaderValue {
    let digest = Sha256::digest(bytes);
    let tag = digest.iter().take(8).fold(0u64, |tag, byte| tag << 8 | u64::from(*byte));
    quoted(&match encoding {
        None => format!("{tag:016x}"),
        Some(encoding) => format!("{tag:016x}-{}", encoding.name()),
    })
}

/// A strong tag of a file too large to hash: when it was changed, to the nanosecond, and its size.
pub fn stamp_tag(stamp: &Stamp, encoding: Option<Encoding>) -> HeaderValue {
    let (nanos, size) = (stamp.modified_nanos(), stamp.size);
    quoted(&match encoding {
        None => format!("{nanos:x}-{size:x}"),
        Some(encoding) => format!("{nanos:x}-{size:x}-{}", encoding.name()),
    })
}

fn form_tag(identity: &HeaderValue, encoding: Encoding) -> HeaderValue {
    quoted(&format!("{}-{}", identity.to_str().unwrap_or_default().trim_matches('"'), encoding.name()))
}

fn quoted(tag: &str) -> HeaderValue {
    HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Seconds since 1970 as an HTTP date; `None` after the year 9999, which HTTP cannot say.
pub fn date_value(seconds: u64) -> Option<HeaderValue> {
    let time = UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds))?;
    if seconds > 253_402_300_799 {
        return None;
    }
    HeaderValue::try_from(httpdate::fmt_http_date(time)).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn entry(content: &[u8]) -> Arc<Entry> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let stamps = Stamps { file: Stamp::of(&file.metadata().unwrap()), neighbours: [None; 3] };
        let meta = Meta {
            content_type: HeaderValue::from_static("text/plain; charset=utf-8"),
            cache_control: HeaderValue::from_static("no-cache"),
            modified: 784_111_777,
            negotiable: true,
        };
        Arc::new(Entry::read("a.txt", meta, stamps, &file, &[const { None }; 3]).unwrap())
    }

    #[test]
    fn tags_follow_contents_and_dates_are_those_of_http() {
        let one = entry(b"same");
        assert_eq!(one.identity.etag, entry(b"same").identity.etag);
        assert_ne!(one.identity.etag, entry(b"other").identity.etag);
        assert_eq!(one.identity.head[LAST_MODIFIED], "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(date_value(u64::MAX).is_none() && date_value(253_402_300_800).is_none());
    }

    #[tokio::test]
    async fn text_that_does_not_shrink_has_no_compressed_form() {
        // Bytes without a pattern, from a generator with a fixed seed.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(4_096)
        .collect();
        let entry = entry(&noise);
        let gate = Arc::new(Semaphore::new(1));
        for encoding in Encoding::ALL {
            assert!(entry.has(encoding));
            assert!(entry.make(encoding, &gate, |_| panic!("nothing was made")).await.is_none());
            assert!(!entry.has(encoding), "it is not tried again");
        }
    }

    #[tokio::test]
    async fn without_a_permit_the_form_is_made_another_time() {
        let entry = entry(&b"text ".repeat(1_000));
        assert!(entry.make(Encoding::Zstd, &Arc::new(Semaphore::new(0)), |_| ()).await.is_none());
        assert!(entry.has(Encoding::Zstd) && entry.form(Encoding::Zstd).is_none());
        assert!(entry.make(Encoding::Zstd, &Arc::new(Semaphore::new(1)), |_| ()).await.is_some());
        assert!(entry.form(Encoding::Zstd).is_some());
    }
}
