//! Where the servers keep their data and their sockets, and whose they are.
//!
//! As root, Beacon runs them as another account. That account may not enter the folders above their data (/root is
//! root's alone), and need not: the data folder is handed to it open (see `process::Program::folder`), and the sockets
//! are in a folder that it can reach.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::process::{Fault, User};
use crate::systemd;

/// Where the sockets are under systemd (`RuntimeDirectory=` of beacon-managed.service).
pub const UNIT_FOLDER: &str = "/run/beacon-managed";
/// The longest path that a Unix socket may have, in bytes.
const LONGEST: usize = 107;
/// The longer one of the names of the sockets.
const SOCKET: &str = ".s.PGSQL.5432.lock";
/// The accounts that root gives way to, the best one first.
const ACCOUNTS: [&str; 3] = ["postgres", "beacon", "nobody"];

/// The places of one installation.
#[derive(Clone, Debug)]
pub(super) struct Place {
    state: PathBuf,
    /// The folder of the sockets.
    pub sockets: PathBuf,
}

impl Place {
    /// The places that belong to a state folder.
    pub(super) fn of(state: &Path) -> Self {
        let sockets = if systemd::slot().is_some() {
            UNIT_FOLDER.into()
        } else if let Some(folder) = systemd::runtime_dir() {
            folder
        } else {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            sockets(state, rustix::process::geteuid().as_raw(), runtime.as_deref())
        };
        Self { state: state.to_owned(), sockets }
    }

    /// A server's data folder.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// The account that the server with this data folder runs as; none if it is ours.
    pub(super) fn user(&self, data: &Path) -> Result<Option<User>, Fault> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        // Whoever owns what is there goes on with it; in a state folder of another account, that one.
        for folder in [data, &self.state] {
            if let Some(metadata) = fs::metadata(folder).ok().filter(|metadata| metadata.uid() != 0) {
                let (uid, gid) = (metadata.uid(), metadata.gid());
                let name = User::of(uid).map_or_else(|| uid.to_string(), |user| user.name);
                return Ok(Some(User { name, uid, gid }));
            }
        }
        let user = ACCOUNTS.into_iter().find_map(User::named);
        user.map(Some).ok_or_else(|| {
            Fault(format!(
                "there is no account to run servers as, and root must not: add one of {}",
                ACCOUNTS.join(", ")
            ))
        })
    }

    /// Makes the folder of the sockets, for `user` alone.
    pub(super) fn make_sockets(&self, user: Option<&User>) -> Result<(), Fault> {
        folder(&self.sockets, user).map_err(|error| cannot(&self.sockets, &error))?;
        // In a folder where others may write (/tmp), the name may have been taken.
        let own = user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid);
        match fs::symlink_metadata(&self.sockets) {
            Ok(metadata) if metadata.is_dir() && metadata.uid() == own => Ok(()),
            Ok(_) => Err(Fault(format!("{} belongs to somebody else. Remove it.", self.sockets.display()))),
            Err(error) => Err(cannot(&self.sockets, &error)),
        }
    }

    /// Removes the folder of the sockets if nothing is in it; systemd's is systemd's to remove.
    pub(super) fn remove_sockets(&self) {
        if systemd::runtime_dir().is_none() {
            let _ = fs::remove_dir(&self.sockets);
        }
    }
}

/// The folder of what means something to running processes only.
pub(super) fn run(state: &Path) -> PathBuf {
    state.join(super::RUN)
}

fn sockets(state: &Path, uid: u32, runtime: Option<&Path>) -> PathBuf {
    let fits = |folder: &Path| folder.as_os_str().len() + 1 + SOCKET.len() <= LONGEST;
    let digest = Sha256::digest(state.as_os_str().as_bytes());
    let mark = digest[..5].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    if uid == 0 {
        // The state folder may lie where another account cannot go.
        return PathBuf::from(format!("/run/beacon-{mark}"));
    }
    let own = run(state);
    if fits(&own) {
        return own;
    }
    match runtime.map(|folder| folder.join(format!("beacon-{mark}"))) {
        Some(folder) if folder.is_absolute() && fits(&folder) => folder,
        _ => PathBuf::from(format!("/tmp/beacon-{uid}-{mark}")),
    }
}

/// Makes a folder and its parents, for `user` (else us) alone.
pub(super) fn folder(path: &Path, user: Option<&User>) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let metadata = fs::metadata(path)?;
    if let Some(user) = user.filter(|user| user.uid != metadata.uid()) {
        chown(path, Some(user.uid), Some(user.gid))?;
    }
    if metadata.permissions().mode() & 0o077 != 0 && fs::symlink_metadata(path)?.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Writes a file whole or not at all, for `user` (else us) alone.
pub(super) fn write(path: &Path, text: &str, user: Option<&User>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    if let Some(user) = user {
        chown(&new, Some(user.uid), Some(user.gid))?;
    }
    file.sync_all()?;
    fs::rename(&new, path)
}

/// A folder or file that cannot be used.
pub(super) fn cannot(path: &Path, error: &io::Error) -> Fault {
    Fault(format!("{} cannot be used: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_in_the_state_folder_if_their_paths_are_short_enough() {
        let short = Path::new("/home/ada/.local/state/beacon");
        assert_eq!(sockets(short, 1000, None), short.join("run"));
        let long = PathBuf::from(format!("/{}", "x".repeat(100)));
        let runtime = Path::new("/run/user/1000");
        let chosen = sockets(&long, 1000, Some(runtime));
        assert!(chosen.starts_with(runtime), "{chosen:?}");
        for runtime in [None, Some(long.as_path()), Some(Path::new("relative"))] {
            assert!(sockets(&long, 1000, runtime).starts_with("/tmp"), "{runtime:?}");
        }
        assert_ne!(sockets(&long, 1000, None), sockets(&long.join("y"), 1000, None));
        assert!(sockets(short, 0, Some(runtime)).starts_with("/run"));
    }

    #[test]
    fn a_written_file_is_for_its_owner_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        for text in ["one", "two"] {
            write(&path, text, None).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let made = scratch.path().join("a/b");
        folder(&made, None).unwrap();
        assert_eq!(made.metadata().unwrap().mode() & 0o777, 0o700);
    }
}
