//! Why a site cannot be opened, and why one file cannot be served.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// Why a site cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is missing, is not a folder, or may not be entered.
    #[error("cannot open the folder {} named by site.root: create it, let Beacon's user enter it, or correct the key", .path.display())]
    Root {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel has no openat2, by which paths are kept below the folder.
    #[error("cannot keep paths below {}: openat2 is missing; run on Linux 5.6 or later, and let the container's seccomp profile allow it", .path.display())]
    Kernel {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A value of the configuration cannot be used.
    #[error("site.{key}: {problem}. {fix}")]
    Value {
        /// The key below `site`.
        key: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        fix: String,
    },
}

/// Why one file cannot be served.
#[derive(Debug)]
pub enum Failure {
    /// Nothing that may be served has this name.
    Missing,
    /// The file is there, but may not be read.
    Forbidden,
    /// The process or the system has no descriptor or memory left.
    Exhausted(io::Error),
    /// The site's folder itself is gone.
    RootGone,
    /// The disk failed.
    Disk(io::Error),
}

impl Failure {
    /// Whether the error says that descriptors or memory ran out.
    pub fn is_exhaustion(error: &io::Error) -> bool {
        // AGAIN: the tree was renamed under the look-up again and again.
        let code = error.raw_os_error().map(Errno::from_raw_os_error);
        matches!(code, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let code = error.raw_os_error().map(Errno::from_raw_os_error);
        match code {
            // XDEV: the path would leave the root. LOOP: a symbolic link where none is followed. NXIO, NODEV: a socket
            // or a device.
            Some(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::NAMETOOLONG
                | Errno::LOOP
                | Errno::XDEV
                | Errno::NXIO
                | Errno::NODEV
                | Errno::INVAL,
            ) => Self::Missing,
            Some(Errno::ACCESS | Errno::PERM) => Self::Forbidden,
            _ if Self::is_exhaustion(&error) => Self::Exhausted(error),
            _ => Self::Disk(error),
        }
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_becomes_what_the_client_gets() {
        for (code, expected) in [
            (Errno::NOENT, "Missing"),
            (Errno::NOTDIR, "Missing"),
            (Errno::NAMETOOLONG, "Missing"),
            (Errno::LOOP, "Missing"),
            (Errno::XDEV, "Missing"),
            (Errno::NXIO, "Missing"),
            (Errno::ACCESS, "Forbidden"),
            (Errno::PERM, "Forbidden"),
            (Errno::MFILE, "Exhausted"),
            (Errno::NFILE, "Exhausted"),
            (Errno::NOMEM, "Exhausted"),
            (Errno::AGAIN, "Exhausted"),
            (Errno::IO, "Disk"),
            (Errno::STALE, "Disk"),
        ] {
            let failure = format!("{:?}", Failure::from(code));
            assert!(failure.starts_with(expected), "{code:?} became {failure}");
        }
    }
}
