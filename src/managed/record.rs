//! Who keeps the servers, and how they are: a lock and a file beside it, in the state folder.
//!
//! The lock tells the truth (the kernel releases it when its holder dies); the file is only read while somebody holds it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::place::{self, run};
use super::{postgres, redis};
use crate::process::Condition;
use crate::secret::Secret;

/// What the keeper of the servers writes down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The keeper's process.
    pub pid: u32,
    /// The folder of the sockets.
    pub sockets: PathBuf,
    /// How PostgreSQL is; none if it is not kept.
    pub postgres: Option<Told>,
    /// How Redis is; none if it is not kept.
    pub redis: Option<Told>,
}

/// A condition, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    /// It is being started.
    Starting,
    /// It answers.
    Ready,
    /// It does not run, and why.
    Down(String),
}

impl From<&Condition> for Told {
    fn from(condition: &Condition) -> Self {
        match condition {
            Condition::Starting => Self::Starting,
            Condition::Ready => Self::Ready,
            Condition::Down(reason) => Self::Down(reason.to_string()),
        }
    }
}

impl From<Told> for Condition {
    fn from(told: Told) -> Self {
        match told {
            Told::Starting => Self::Starting,
            Told::Ready => Self::Ready,
            Told::Down(reason) => Self::Down(reason.into()),
        }
    }
}

/// The lock, as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a state folder; none if somebody else has it.
    pub(super) fn take(state: &Path) -> io::Result<Option<Self>> {
        let folder = run(state);
        place::folder(&folder, None)?;
        let path = folder.join("lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        // What root makes in another account's state folder must not shut that account out.
        let owner = fs::metadata(state)?;
        if rustix::process::geteuid().is_root() && owner.uid() != 0 {
            for made in [&folder, &path] {
                chown(made, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn path(state: &Path) -> PathBuf {
    run(state).join("managed.json")
}

/// What the keeper of a state folder's servers says; none if nobody keeps them.
#[must_use]
pub fn running(state: &Path) -> Option<Record> {
    let lock = File::open(run(state).join("lock")).ok()?;
    if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
        // Nobody holds it. It is released with the file.
        return None;
    }
    serde_json::from_slice(&fs::read(path(state)).ok()?).ok()
}

impl Record {
    /// The URL of the database; none if none is kept.
    #[must_use]
    pub fn database_url(&self) -> Option<Secret> {
        self.postgres.is_some().then(|| postgres::url(&self.sockets))
    }

    /// The URL of the database for the superuser: for what only that role may do, such as a backup of the rows that
    /// every other role is kept from.
    #[must_use]
    pub fn administration_url(&self) -> Option<Secret> {
        self.postgres.is_some().then(|| postgres::url_as(postgres::SUPERUSER, &self.sockets))
    }

    /// The socket of Redis; none if none is kept.
    #[must_use]
    pub fn redis_socket(&self) -> Option<PathBuf> {
        self.redis.is_some().then(|| redis::socket(&self.sockets))
    }

    /// The URL of Redis; none if none is kept.
    #[must_use]
    pub fn redis_url(&self) -> Option<Secret> {
        self.redis.is_some().then(|| redis::url(&self.sockets))
    }

    /// Writes it down; only the holder of the lock may.
    pub(super) fn write(&self, state: &Path) -> io::Result<()> {
        place::write(&path(state), &serde_json::to_string(self).unwrap_or_default(), None)
    }
}

/// Removes the file; only the holder of the lock may.
pub(super) fn remove(state: &Path) {
    let _ = fs::remove_file(path(state));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_as_long_as_its_writer_holds_the_lock() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        assert_eq!(running(state), None);
        let lock = Lock::take(state).unwrap().unwrap();
        assert!(Lock::take(state).unwrap().is_none());
        let record = Record {
            pid: 1,
            sockets: "/run/x".into(),
            postgres: Some(Told::Down("why".into())),
            redis: Some(Told::Ready),
        };
        record.write(state).unwrap();
        assert_eq!(running(state), Some(record));
        drop(lock);
        // A program that another test starts holds a copy of the lock for a moment, until it is run.
        let gone = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            running(state).is_none()
        });
        assert!(gone);
        assert!(Lock::take(state).unwrap().is_some());
    }
}
