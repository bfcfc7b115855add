//! Files below a folder that the kernel keeps us in, and what their errors mean.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat2, unlinkat};
use rustix::io::Errno;

use crate::storage::{Error, Key};

/// The extended attribute with an object's entity tag.
const TAG: &str = "user.beacon.etag";

/// Never outside, never over a symbolic link.
const KEPT: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens a path below a folder.
pub(super) fn open(folder: impl AsFd, path: &str, flags: OFlags) -> Result<File, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o600) } else { Mode::empty() };
    let mut tries = 0;
    loop {
        match openat2(&folder, path, flags, mode, KEPT) {
            Ok(file) => return Ok(File::from(file)),
            // A rename anywhere on the way made the kernel unsure; it asks to be asked again.
            Err(Errno::AGAIN | Errno::INTR) if tries < 32 => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The folder `path` ("" is `root` itself).
pub(super) fn folder(root: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    open(root, path, OFlags::RDONLY | OFlags::DIRECTORY).map(OwnedFd::from)
}

/// The folder `path`, made with all above it where they are missing; each that is made is on the disk when this returns.
pub(super) fn made(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    match folder(root, path) {
        Err(Errno::NOENT) => {}
        done => return done,
    }
    let mut at = folder(root, "")?;
    for segment in path.split('/') {
        at = match folder(&at, segment) {
            Err(Errno::NOENT) => {
                match mkdirat(&at, segment, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                rustix::fs::fsync(&at)?;
                folder(&at, segment)?
            }
            done => done?,
        };
    }
    Ok(at)
}

/// The part of a key before its last segment, and the segment.
pub(super) fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("", key))
}

/// Removes a file; one that is not there is removed.
pub(super) fn unlink(folder: impl AsFd, name: &str) -> Result<(), Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Keeps an entity tag with a file. A file system without extended attributes keeps none.
pub(super) fn set_tag(file: &File, tag: &str) -> Result<(), Errno> {
    match rustix::fs::fsetxattr(file, TAG, tag.as_bytes(), rustix::fs::XattrFlags::empty()) {
        Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        done => done,
    }
}

/// The entity tag of a file: the one that was kept with it, else one of what changes with every write of ours.
pub(super) fn tag(file: &File, metadata: &std::fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;

    let mut bytes = [0_u8; 64];
    if let Ok(length) = rustix::fs::fgetxattr(file, TAG, &mut bytes[..])
        && let Ok(text) = std::str::from_utf8(&bytes[..length])
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !text.is_empty()
    {
        return text.to_owned();
    }
    format!("{:x}-{:x}{:08x}-{:x}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

/// What an error about an object means.
pub(super) fn about(key: &Key, error: Errno) -> Error {
    match error {
        // A file stands where the key has a folder.
        Errno::NOENT | Errno::NOTDIR => Error::Missing(key.clone()),
        error => failed(&format!("the object {key}"), error),
    }
}

/// What an error about `what` means.
pub(super) fn failed(what: &str, error: Errno) -> Error {
    let source = io::Error::from(error);
    match error {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Error::Full(source),
        Errno::NAMETOOLONG => {
            Error::Other { what: format!("{what} has a segment of over 255 bytes"), source: source.into() }
        }
        Errno::ISDIR | Errno::NOTDIR | Errno::EXIST | Errno::NOTEMPTY => Error::Other {
            what: format!("{what} cannot be: an object and a folder of the same name exclude each other in a folder"),
            source: source.into(),
        },
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            Error::Other { what: format!("{what} cannot be written or read by Beacon's user"), source: source.into() }
        }
        Errno::LOOP | Errno::XDEV => Error::Other {
            what: format!("{what} lies behind a symbolic link, which is not followed"),
            source: source.into(),
        },
        _ => Error::Other { what: format!("{what} cannot be used"), source: source.into() },
    }
}
