//! The site's folder: opened once, re-resolved once a second, and the only way to a file below it.
//!
//! The kernel keeps every look-up below the folder (openat2 with RESOLVE_BENEATH), so there is no moment between a
//! check and an open. The folder itself may be a symbolic link that a deploy swaps; the swap is seen within
//! [`FRESH`] and moves the generation on, by which everything cached from the old folder is out of date at once.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::{Error, Symlinks, error::Failure};
use crate::clock;

/// For how many milliseconds what was seen of the disk is believed.
pub const FRESH: u64 = 1_000;

/// A swap that removes the link before it makes the new one leaves a gap; one look after this pause bridges it.
const SWAP_GAP: Duration = Duration::from_millis(20);

/// The folder.
pub struct Root {
    path: PathBuf,
    resolve: ResolveFlags,
    seen: Mutex<Seen>,
    generation: AtomicU64,
}

struct Seen {
    folder: Option<Arc<OwnedFd>>,
    identity: (u64, u64),
    at: u64,
}

impl Root {
    /// Opens the folder and finds out whether the kernel can keep us in it.
    ///
    /// # Errors
    /// The folder cannot be opened, or openat2 is missing.
    pub fn open(path: &Path, symlinks: Symlinks) -> Result<Self, Error> {
        let (folder, identity) = open_folder(path).map_err(|source| Error::Root { path: path.to_owned(), source })?;
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if symlinks == Symlinks::Never {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        openat2(&folder, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(|source| Error::Kernel { path: path.to_owned(), source: source.into() })?;
        let seen = Seen { folder: Some(Arc::new(folder)), identity, at: clock::millis() };
        Ok(Self { path: path.to_owned(), resolve, seen: Mutex::new(seen), generation: AtomicU64::new(1) })
    }

    /// The folder's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves on whenever the folder turns out to be another one.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The folder as it is now, looked at anew once in [`FRESH`]. Blocks.
    ///
    /// # Errors
    /// [`Failure::RootGone`] while the folder cannot be opened.
    pub fn folder(&self) -> Result<Arc<OwnedFd>, Failure> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::millis();
        if now.saturating_sub(seen.at) >= FRESH {
            self.look(&mut seen);
            seen.at = clock::millis();
        }
        seen.folder.clone().ok_or(Failure::RootGone)
    }

    fn look(&self, seen: &mut Seen) {
        let opened = open_folder(&self.path).or_else(|_| {
            thread::sleep(SWAP_GAP);
            open_folder(&self.path)
        });
        match opened {
            Ok((folder, identity)) => {
                if identity != seen.identity || seen.folder.is_none() {
                    seen.identity = identity;
                    seen.folder = Some(Arc::new(folder));
                    self.generation.fetch_add(1, Ordering::AcqRel);
                    tracing::info!(root = %self.path.display(), "the site's folder is another one now");
                }
            }
            // No descriptor was left to look with: what is known stays in force.
            Err(error) if Failure::is_exhaustion(&error) && seen.folder.is_some() => {}
            Err(error) => {
                if seen.folder.is_some() {
                    self.generation.fetch_add(1, Ordering::AcqRel);
                    tracing::error!(root = %self.path.display(), %error,
                        "the site's folder is gone; requests are answered with 503 until it is back");
                }
                seen.folder = None;
            }
        }
    }

    /// Opens what `path` names for reading: a regular file or a folder, never anything else. Blocks.
    ///
    /// # Errors
    /// As the kernel says; [`Failure::Missing`] also for what is neither file nor folder.
    pub fn find(&self, folder: &OwnedFd, path: &str) -> Result<Found, Failure> {
        // NONBLOCK: opening a FIFO must not wait for its writer. NOCTTY: a terminal must not become ours.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut tries = 0;
        let file = loop {
            match openat2(folder, path, flags, Mode::empty(), self.resolve) {
                Ok(file) => break File::from(file),
                // A rename anywhere on the way made the kernel unsure; it asks to be asked again.
                Err(Errno::AGAIN | Errno::INTR) if tries < 32 => tries += 1,
                Err(error) => return Err(error.into()),
            }
        };
        let metadata = file.metadata()?;
        if metadata.is_file() {
            Ok(Found::File(file, Stamp::of(&metadata)))
        } else if metadata.is_dir() {
            Ok(Found::Folder(file))
        } else {
            Err(Failure::Missing)
        }
    }
}

/// What a path names.
pub enum Found {
    /// A regular file, open for reading.
    File(File, Stamp),
    /// A folder, open for reading.
    Folder(File),
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    dev: u64,
    ino: u64,
    /// Size in bytes.
    pub size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Seconds since 1970 of the last modification; a date before 1970 counts as 1970.
    pub fn modified(&self) -> u64 {
        u64::try_from(self.mtime.0).unwrap_or(0)
    }

    /// Nanoseconds since 1970 of the last modification.
    pub fn modified_nanos(&self) -> u128 {
        u128::try_from(self.mtime.0).unwrap_or(0) * 1_000_000_000 + u128::try_from(self.mtime.1).unwrap_or(0)
    }

    /// Whether the last change is old enough that another one would show. Timestamps tick every few milliseconds: a
    /// write in the tick of our reading leaves no trace.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
        let changed = i128::from(self.ctime.0) * 1_000_000_000 + i128::from(self.ctime.1);
        now - changed > 50_000_000
    }
}

fn open_folder(path: &Path) -> io::Result<(OwnedFd, (u64, u64))> {
    let folder = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let file = File::from(folder);
    let metadata = file.metadata()?;
    Ok((file.into(), (metadata.dev(), metadata.ino())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_file_written_this_instant_is_not_trusted_to_show_the_next_write() {
        let stamp = Stamp::of(&tempfile::tempfile().unwrap().metadata().unwrap());
        let changed = UNIX_EPOCH + Duration::new(stamp.ctime.0 as u64, stamp.ctime.1 as u32);
        assert!(!stamp.is_settled(changed) && !stamp.is_settled(changed + Duration::from_millis(10)));
        assert!(stamp.is_settled(changed + Duration::from_millis(100)));
    }

    #[test]
    fn a_name_swapped_between_file_and_escaping_link_never_leaks() {
        for symlinks in [Symlinks::Never, Symlinks::Inside] {
            let outer = tempfile::TempDir::new().unwrap();
            let www = outer.path().join("www");
            fs::create_dir(&www).unwrap();
            fs::write(outer.path().join("secret.txt"), "secret").unwrap();
            fs::write(www.join("name.txt"), "public").unwrap();
            let root = Root::open(&www, symlinks).unwrap();
            let folder = root.folder().unwrap();
            let done = AtomicBool::new(false);
            let (mut tries, mut served, mut refused) = (0, 0, 0);
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        symlink("../secret.txt", www.join("link")).unwrap();
                        fs::rename(www.join("link"), www.join("name.txt")).unwrap();
                        fs::write(www.join("file"), "public").unwrap();
                        fs::rename(www.join("file"), www.join("name.txt")).unwrap();
                    }
                });
                let end = Instant::now() + Duration::from_secs(20);
                let mut leaked = false;
                while (tries < 5_000 || served == 0 || refused == 0) && Instant::now() < end && !leaked {
                    tries += 1;
                    match root.find(&folder, "name.txt") {
                        Ok(Found::File(mut file, _)) => {
                            let mut text = String::new();
                            file.read_to_string(&mut text).unwrap();
                            leaked = text == "secret";
                            served += 1;
                        }
                        Ok(Found::Folder(_)) => leaked = true,
                        Err(_) => refused += 1,
                    }
                }
                done.store(true, Ordering::Relaxed);
                assert!(!leaked);
            });
            assert!(served > 0 && refused > 0, "{tries} tries: {served} served, {refused} refused");
        }
    }
}
