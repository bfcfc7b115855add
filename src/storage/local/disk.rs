//! What is done with the folder. Everything here blocks.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{AtFlags, OFlags, linkat, renameat};
use rustix::io::Errno;
use uuid::Uuid;

use super::files::{self, about, failed, split};
use crate::storage::{Attributes, Entry, Error, Key, Stored, Unfinished};

/// Where what is unfinished lies.
pub(super) const OWN: &str = ".beacon";
/// How often a rename is tried again whose folder was removed meanwhile because it had become empty.
const TRIES: usize = 64;

/// The folder.
pub(super) struct Disk {
    path: PathBuf,
    root: OnceLock<OwnedFd>,
}

impl Disk {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, root: OnceLock::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, made if it is not there.
    pub(super) fn root(&self) -> Result<&OwnedFd, Error> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let what = format!("the folder {}", self.path.display());
        let other = |source: std::io::Error| match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(error) => failed(&what, error),
            None => Error::Other { what: format!("{what} cannot be used"), source: source.into() },
        };
        std::fs::create_dir_all(&self.path).map_err(other)?;
        let root = OwnedFd::from(File::open(&self.path).map_err(other)?);
        files::made(&root, OWN).map_err(|error| failed(&what, error))?;
        Ok(self.root.get_or_init(|| root))
    }

    fn own(&self) -> Result<OwnedFd, Error> {
        let root = self.root()?;
        files::made(root, OWN).map_err(|error| failed("the folder of unfinished uploads", error))
    }

    /// Puts the file `name` of the folder of unfinished ones where `key` says.
    fn place(&self, own: &OwnedFd, name: &str, key: &Key) -> Result<(), Error> {
        let root = self.root()?;
        let (above, last) = split(key.as_str());
        for turn in 0.. {
            let placed = files::made(root, above).and_then(|folder| {
                renameat(own, name, &folder, last)?;
                rustix::fs::fsync(&folder)
            });
            match placed {
                // A delete took a folder, which was empty, before the file was in it.
                Err(Errno::NOENT) if turn < TRIES => {}
                done => return done.map_err(|error| failed(&format!("the object {key}"), error)),
            }
        }
        Ok(())
    }

    pub(super) fn put(&self, key: &Key, body: &[u8]) -> Result<Stored, Error> {
        usable(key)?;
        let own = self.own()?;
        let name = format!("put-{}", Uuid::new_v4());
        let tag = content_tag(body);
        let written = create(&own, &name).and_then(|mut file| {
            file.write_all(body).map_err(|error| raw(&error))?;
            files::set_tag(&file, &tag)?;
            rustix::fs::fsync(&file)
        });
        let placed = written.map_err(|error| failed(&format!("the object {key}"), error));
        let placed = placed.and_then(|()| self.place(&own, &name, key));
        if let Err(error) = placed {
            let _ = files::unlink(&own, &name);
            return Err(error);
        }
        Ok(Stored { size: body.len() as u64, etag: tag })
    }

    /// The file of an object, and what is known of it.
    pub(super) fn open(&self, key: &Key) -> Result<(File, Entry), Error> {
        usable(key)?;
        let file = files::open(self.root()?, key.as_str(), OFlags::RDONLY).map_err(|error| about(key, error))?;
        let metadata = file.metadata().map_err(|error| about(key, raw(&error)))?;
        if !metadata.is_file() {
            return Err(Error::Missing(key.clone()));
        }
        let entry = entry(key.clone(), &file, &metadata);
        Ok((file, entry))
    }

    /// A copy is a second link to the same bytes, which are never changed.
    pub(super) fn copy(&self, from: &Key, to: &Key) -> Result<Stored, Error> {
        usable(to)?;
        let (_, entry) = self.open(from)?;
        let own = self.own()?;
        let name = format!("copy-{}", Uuid::new_v4());
        let (above, last) = split(from.as_str());
        let folder = files::folder(self.root()?, above).map_err(|error| about(from, error))?;
        linkat(&folder, last, &own, &*name, AtFlags::empty()).map_err(|error| about(from, error))?;
        let placed = self.place(&own, &name, to);
        // A rename over another link of the same file leaves both.
        let _ = files::unlink(&own, &name);
        placed.map(|()| Stored { size: entry.size, etag: entry.etag })
    }

    /// Removes an object, and the folders that it leaves empty.
    pub(super) fn delete(&self, key: &Key) -> Result<(), Error> {
        usable(key)?;
        let root = self.root()?;
        let (mut above, mut last) = split(key.as_str());
        let folder = match files::folder(root, above) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(about(key, error)),
        };
        match files::unlink(&folder, last) {
            // A folder of this name is no object.
            Ok(()) | Err(Errno::ISDIR) => {}
            Err(error) => return Err(about(key, error)),
        }
        while !above.is_empty() {
            (above, last) = split(above);
            let Ok(folder) = files::folder(root, above) else { break };
            if rustix::fs::unlinkat(&folder, last, AtFlags::REMOVEDIR).is_err() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn begin(&self, key: &Key) -> Result<String, Error> {
        usable(key)?;
        let own = self.own()?;
        let upload = Uuid::new_v4().simple().to_string();
        let begun = create(&own, &named(&upload)).and_then(|mut file| {
            file.write_all(key.as_str().as_bytes()).map_err(|error| raw(&error))?;
            rustix::fs::fsync(&file)?;
            create(&own, &upload)?;
            rustix::fs::fsync(&own)
        });
        begun.map_err(|error| failed("an upload", error))?;
        Ok(upload)
    }

    pub(super) fn part(&self, upload: &str, offset: u64, body: &[u8]) -> Result<(), Error> {
        let file = self.part_file(upload)?;
        file.write_all_at(body, offset).map_err(|error| failed("an upload", raw(&error)))?;
        rustix::fs::fdatasync(&file).map_err(|error| failed("an upload", error))
    }

    fn part_file(&self, upload: &str) -> Result<File, Error> {
        known(upload)?;
        files::open(self.own()?, upload, OFlags::RDWR).map_err(|error| match error {
            Errno::NOENT => Error::NoUpload(upload.to_owned()),
            error => failed("an upload", error),
        })
    }

    pub(super) fn complete(&self, key: &Key, upload: &str, size: u64) -> Result<Stored, Error> {
        usable(key)?;
        let file = self.part_file(upload)?;
        let own = self.own()?;
        let there = file.metadata().map_err(|error| failed("an upload", raw(&error)))?.len();
        if there < size {
            let lacking = format!("{there} bytes of {size} have arrived");
            return Err(Error::Damaged(lacking.into()));
        }
        let ready = || {
            // What lies beyond came with a part that nobody was told of.
            rustix::fs::ftruncate(&file, size)?;
            // No two uploads share a name, so the tag changes with every write, and nobody reads the bytes again for it.
            files::set_tag(&file, upload)?;
            rustix::fs::fsync(&file)
        };
        ready().map_err(|error| failed("an upload", error))?;
        self.place(&own, upload, key)?;
        let _ = files::unlink(&own, &named(upload));
        let metadata = file.metadata().map_err(|error| failed("an upload", raw(&error)))?;
        Ok(Stored { size, etag: files::tag(&file, &metadata) })
    }

    pub(super) fn abort(&self, upload: &str) -> Result<(), Error> {
        known(upload)?;
        let own = self.own()?;
        let gone = files::unlink(&own, upload).and_then(|()| files::unlink(&own, &named(upload)));
        gone.map_err(|error| failed("an upload", error))
    }

    /// Uploads that were begun. Files of writes that were broken off are removed on the way, once they are an hour old.
    pub(super) fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, Error> {
        let own = self.own()?;
        let now = crate::clock::now_seconds();
        let mut found = Vec::new();
        for name in super::walk::names(&own)? {
            let Ok(mut file) = files::open(&own, &name, OFlags::RDONLY) else { continue };
            let Ok(metadata) = file.metadata() else { continue };
            let began = u64::try_from(metadata.mtime()).unwrap_or(0);
            if name.starts_with("put-") || name.starts_with("copy-") {
                if began + 3_600 < now {
                    let _ = files::unlink(&own, &name);
                }
                continue;
            }
            let Some(upload) = name.strip_suffix(".key") else { continue };
            let mut key = String::new();
            if file.read_to_string(&mut key).is_ok()
                && key.starts_with(prefix)
                && let Ok(key) = Key::new(&key)
            {
                found.push(Unfinished { key, upload: upload.to_owned(), began });
            }
        }
        Ok(found)
    }
}

pub(super) fn entry(key: Key, file: &File, metadata: &std::fs::Metadata) -> Entry {
    Entry {
        key,
        size: metadata.len(),
        etag: files::tag(file, metadata),
        modified: u64::try_from(metadata.mtime()).unwrap_or(0),
        attributes: Attributes::default(),
    }
}

/// The first half of a content's SHA-256.
fn content_tag(body: &[u8]) -> String {
    use std::fmt::Write as _;

    digest(&SHA256, body).as_ref()[..16].iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn create(folder: &OwnedFd, name: &str) -> Result<File, Errno> {
    files::open(folder, name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
}

/// The file that says of which object an upload is.
fn named(upload: &str) -> String {
    format!("{upload}.key")
}

fn raw(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// A key that is not ours.
fn usable(key: &Key) -> Result<(), Error> {
    if key.as_str().split('/').next() == Some(OWN) {
        let source = "the name is taken by unfinished uploads".into();
        return Err(Error::Other { what: format!("the object {key} cannot be"), source });
    }
    Ok(())
}

/// An upload's name is one of ours: it never leads to another file.
fn known(upload: &str) -> Result<(), Error> {
    if upload.len() == 32 && upload.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(())
    } else {
        Err(Error::NoUpload(upload.chars().take(64).collect()))
    }
}
