//! Private files of the state folder: folders 0700, files 0600, replaced whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::Error;

/// Makes a folder and its parents, for us alone. One that is there already is made ours alone too.
///
/// # Errors
/// [`Error::State`].
pub fn folder(path: &Path) -> Result<(), Error> {
    let make = || {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    };
    make().map_err(|source| Error::State { path: path.into(), source })
}

/// Writes a file of mode 0600 such that a crash or a full disk leaves the old one: a temporary file beside it, fsync,
/// rename, fsync of the folder.
///
/// # Errors
/// [`Error::State`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let put = || -> io::Result<()> {
        // A leftover of a crash may have the name; create_new makes sure that the mode is the one asked for.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    put().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        Error::State { path: path.into(), source }
    })
}

/// A lock between processes that share the state folder; released when dropped, and by the kernel when we die.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `folder`, waiting for another process to let go of it. Blocks.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn wait(folder: &Path) -> Result<Self, Error> {
        let (path, file) = Self::open(folder)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| Error::State { path, source: error.into() })?;
        Ok(Self { _file: file })
    }

    /// Takes the lock of `folder` if nobody has it.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn take(folder: &Path) -> Result<Option<Self>, Error> {
        let (path, file) = Self::open(folder)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Error::State { path, source: error.into() }),
        }
    }

    fn open(folder: &Path) -> Result<(PathBuf, File), Error> {
        let path = folder.join("lock");
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map(|file| (path.clone(), file))
            .map_err(|source| Error::State { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_private_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        folder(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        let file = inner.join("secret");
        for text in ["one", "two"] {
            write(&file, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_lock_is_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        assert!(first.is_some());
        assert!(Lock::take(dir.path()).unwrap().is_none());
        drop(first);
        assert!(Lock::take(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = folder(&file.join("below")).unwrap_err().to_string();
        assert!(error.contains("file/below") && error.contains("state folder"), "{error}");
    }
}
