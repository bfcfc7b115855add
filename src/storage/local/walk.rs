//! Objects of the folder in the order of their keys' bytes.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;

use super::disk::{Disk, OWN, entry};
use super::files::{self, failed};
use crate::storage::{Entry, Error, Key, Level};

/// A name in a folder; that of a folder ends in a slash, by which it sorts as the keys below it do.
type Name = String;

impl Disk {
    pub(super) fn list(&self, prefix: &str, after: Option<&str>, most: usize) -> Result<Vec<Entry>, Error> {
        let mut walk = Walk { prefix, after: after.unwrap_or(""), most, found: Vec::new() };
        // Everything lies below the folders that the prefix names whole.
        let start = prefix.rsplit_once('/').map_or("", |(above, _)| above);
        match files::folder(self.root()?, start) {
            Ok(folder) => walk.below(&folder, &if start.is_empty() { String::new() } else { format!("{start}/") })?,
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(failed("the store's folder", error)),
        }
        Ok(walk.found)
    }

    pub(super) fn level(&self, folder: &str) -> Result<Level, Error> {
        let mut level = Level::default();
        let opened = match files::folder(self.root()?, folder) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(level),
            Err(error) => return Err(failed("the store's folder", error)),
        };
        let above = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        for name in entries(&opened)? {
            match name.strip_suffix('/') {
                Some(own) if above.is_empty() && own == OWN => {}
                Some(below) => level.folders.push(format!("{above}{below}")),
                None => level.objects.extend(object(&opened, &above, &name)),
            }
        }
        Ok(level)
    }
}

struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    most: usize,
    found: Vec<Entry>,
}

impl Walk<'_> {
    fn below(&mut self, folder: &OwnedFd, above: &str) -> Result<(), Error> {
        for name in entries(folder)? {
            if self.found.len() == self.most {
                return Ok(());
            }
            let full = format!("{above}{name}");
            let fits = if name.ends_with('/') {
                (full.starts_with(self.prefix) || self.prefix.starts_with(&full))
                    // Keys below begin with its name: those of a folder before the mark are all before it.
                    && (full.as_str() > self.after || self.after.starts_with(&full))
                    && !(above.is_empty() && name.trim_end_matches('/') == OWN)
            } else {
                full.starts_with(self.prefix) && full.as_str() > self.after
            };
            if !fits {
                continue;
            }
            if name.ends_with('/') {
                match files::folder(folder, name.trim_end_matches('/')) {
                    Ok(inner) => self.below(&inner, &full)?,
                    // Removed meanwhile, or no folder any more.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(failed("the store's folder", error)),
                }
            } else {
                self.found.extend(object(folder, above, &name));
            }
        }
        Ok(())
    }
}

/// What a file is as an object; nothing if it is gone, or has a name that no key has.
fn object(folder: &OwnedFd, above: &str, name: &str) -> Option<Entry> {
    let key = Key::new(&format!("{above}{name}")).ok()?;
    let file: File = files::open(folder, name, OFlags::RDONLY).ok()?;
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(entry(key, &file, &metadata))
}

/// The names in a folder, in the order of their bytes. Links, and names that are not UTF-8, are no objects.
fn entries(folder: &OwnedFd) -> Result<Vec<Name>, Error> {
    let unread = |error| failed("a folder of the store", error);
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let kind = match entry.file_type() {
            // The file system does not say.
            FileType::Unknown => rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            kind => kind,
        };
        match kind {
            FileType::Directory => names.push(format!("{name}/")),
            FileType::RegularFile => names.push(name.to_owned()),
            _ => {}
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The names of files in a folder.
pub(super) fn names(folder: &OwnedFd) -> Result<Vec<Name>, Error> {
    Ok(entries(folder)?.into_iter().filter(|name| !name.ends_with('/')).collect())
}
