//! `beacon restore`: puts an archive of `beacon backup` back.
//!
//! Everything is unpacked beside its place first, whole, and then renamed into it; what was there before stays beside
//! it. An archive that is cut off, or has an entry that points elsewhere, changes nothing. A database goes the same way:
//! into a new one, which takes the other's name when everything is there.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use clap::Args;

use super::backup::{DATABASE, ETC, MARK, Places, STATE, places};
use super::env::stamp;
use super::{Failure, output, status};
use crate::app::dump::{Incoming, Terms};
use crate::config::Sources;
use crate::managed;

/// Puts back what `beacon backup` wrote
///
/// The state folder is replaced; what was in it stays beside it. With --with-config the configuration is replaced too.
/// So is the private database, if the archive has one; one that database.url names is replaced with --with-database only.
/// The former database stays too, under another name. Nothing is changed when the archive is not whole, or while a Beacon
/// runs.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  systemctl stop 'beacon-*.socket' 'beacon@*.service' beacon-managed.service
  beacon restore /root/beacon.tar.zst && systemctl start beacon@a")]
pub(super) struct Restore {
    /// The archive; - is standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// Replaces the configuration (/etc/beacon) too
    #[arg(long = "with-config")]
    with_config: bool,
    /// Replaces the database, also one that database.url names
    #[arg(long = "with-database", conflicts_with = "without_database")]
    with_database: bool,
    /// Leaves the database as it is
    #[arg(long = "without-database")]
    without_database: bool,
    /// Restores although a Beacon runs, which notices with its next start; ends sessions in the database
    #[arg(long)]
    force: bool,
}

impl Restore {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let Places { config, state, etc } = places(sources)?;
        let stop = "systemctl stop 'beacon-*.socket' 'beacon@*.service' beacon-managed.service";
        if !self.force && !status::running(sources)?.is_empty() {
            return Err(Failure::Other(format!("a Beacon runs here. Stop it first ({stop}), or use --force.")));
        }
        if let Some(record) = managed::running(&state) {
            let pid = record.pid;
            return Err(Failure::Other(format!(
                "the private servers run here, kept by process {pid}, and their data are in the folder that is replaced. Stop \
                 them first ({stop})."
            )));
        }
        let archive: Box<dyn Read> = if self.from == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(&self.from).map_err(|error| self.failed(&error))?)
        };
        let stamp = stamp(SystemTime::now());
        let database = match (self.with_database, self.without_database) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        let incoming = Incoming::new(&config, &state, Terms { database, force: self.force, stamp: stamp.clone() });
        let mut wanted = vec![(STATE, state.clone())];
        if self.with_config {
            wanted.push((ETC, etc));
        }
        let (kept, (restored, left)) =
            restore(archive, &wanted, &stamp, incoming).map_err(|error| self.failed(&error))?;
        let mut text = String::new();
        for (place, before) in kept {
            let place = place.display();
            let _ = match before {
                Some(before) => writeln!(text, "{place} is restored; what it held is in {}.", before.display()),
                None => writeln!(text, "{place} is restored."),
            };
        }
        if let Some(restored) = restored {
            let _ = write!(text, "The database {} is restored", restored.place);
            let _ = match restored.before {
                Some(before) => {
                    writeln!(text, "; what it held is in the database \"{before}\": drop it when you are sure.")
                }
                None => writeln!(text, "."),
            };
            for missed in restored.missed {
                let _ = writeln!(text, "Look after this: {missed}.");
            }
        }
        if let Some(left) = left {
            let _ = writeln!(text, "Note: {left}.");
        }
        Ok(output::print(&text)?)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::Refused(format!("{} cannot be restored: {error}. Nothing was changed.", self.from.display()))
    }
}

/// A folder that was restored, and where its former content is.
type Kept = Vec<(PathBuf, Option<PathBuf>)>;

/// What came of a database: see [`Incoming::keep`].
type Database = (Option<crate::app::dump::Restored>, Option<String>);

/// Unpacks the archive's folders `wanted` to their places, and its database to its own.
fn restore(
    archive: impl Read,
    wanted: &[(&str, PathBuf)],
    stamp: &str,
    mut incoming: Incoming,
) -> io::Result<(Kept, Database)> {
    let beside = |place: &Path, word: &str| {
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        place.with_file_name(format!("{name}.{word}-{stamp}"))
    };
    let staged: Vec<(&str, &Path, PathBuf)> =
        wanted.iter().map(|(name, place)| (*name, place.as_path(), beside(place, "restoring"))).collect();
    let mut moved = Vec::new();
    let mut kept = Vec::new();
    let unpacked = unpack(archive, &staged, &mut incoming);
    let exchanged = unpacked.and_then(|()| incoming.exchange().map_err(io::Error::other));
    let done = exchanged.and_then(|()| {
        for (_, place, stage) in staged.iter().filter(|(name, ..)| *name == STATE) {
            carry(place, stage, &mut moved)?;
        }
        for (_, place, stage) in &staged {
            let before = beside(place, "before");
            let before = match fs::rename(place, &before) {
                Ok(()) => Some(before),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            kept.push(((*place).to_owned(), before));
            fs::rename(stage, place)?;
        }
        Ok(())
    });
    if let Err(error) = done {
        // All or nothing: what was moved aside comes back, and what was unpacked goes.
        for ((place, before), (_, _, stage)) in kept.into_iter().zip(&staged).rev() {
            if !stage.exists() {
                fs::rename(&place, stage)?;
            }
            if let Some(before) = before {
                fs::rename(&before, &place).map_err(|worse| {
                    let text = format!("{error}; {} is left in {}: {worse}", place.display(), before.display());
                    io::Error::new(worse.kind(), text)
                })?;
            }
        }
        // A server's data first: they must not go with the stage.
        for (from, to) in moved.iter().rev().filter(|(_, to)| to.exists()) {
            fs::rename(to, from).map_err(|worse| {
                let text = format!("{error}; {} is left in {}: {worse}", from.display(), to.display());
                io::Error::new(worse.kind(), text)
            })?;
        }
        for (_, _, stage) in &staged {
            let _ = fs::remove_dir_all(stage);
        }
        return Err(match incoming.take_back() {
            Ok(()) => error,
            Err(worse) => io::Error::other(format!("{error}; {worse}")),
        });
    }
    Ok((kept, incoming.keep()))
}

/// Takes the private servers' data along, which are no files of the archive: the database was restored where it is, and what
/// the archive knows nothing of stays.
fn carry(place: &Path, stage: &Path, moved: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    for name in managed::FOLDERS {
        let (from, to) = (place.join(name), stage.join(name));
        if from.exists() && !to.exists() {
            fs::rename(&from, &to).map_err(|error| {
                io::Error::new(error.kind(), format!("{} cannot be moved along: {error}", from.display()))
            })?;
            moved.push((from, to));
        }
    }
    Ok(())
}

/// Unpacks to the end of the archive, which is where a cut is noticed.
fn unpack(archive: impl Read, staged: &[(&str, &Path, PathBuf)], incoming: &mut Incoming) -> io::Result<()> {
    let bad = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut archive = tar::Archive::new(zstd::Decoder::new(archive)?);
    let mut marked = false;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if !marked {
            if path != Path::new(MARK) {
                return Err(bad("it was not written by `beacon backup`".into()));
            }
            marked = true;
            continue;
        }
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let kind = entry.header().entry_type();
        if !plain || !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
            return Err(bad(format!("its entry {} is none of `beacon backup`", path.display())));
        }
        if let Ok(piece) = path.strip_prefix(DATABASE) {
            incoming.take(&piece.to_string_lossy(), &mut entry).map_err(io::Error::other)?;
            continue;
        }
        for (name, place, stage) in staged {
            let Ok(rest) = path.strip_prefix(name) else { continue };
            let to = stage.join(rest);
            if kind.is_dir() {
                fs::create_dir_all(&to)?;
                fs::set_permissions(&to, fs::Permissions::from_mode(entry.header().mode()? & 0o777))?;
            } else {
                // No link of the archive is followed: a folder that is one would lead elsewhere.
                if to.ancestors().skip(1).take_while(|folder| folder.starts_with(stage)).any(Path::is_symlink) {
                    return Err(bad(format!("its entry {} lies behind a link", path.display())));
                }
                entry.unpack(&to)?;
            }
            own(&to, place)?;
        }
    }
    if !marked {
        return Err(bad("it is empty".into()));
    }
    for (name, _, stage) in staged {
        if !stage.is_dir() {
            return Err(bad(format!("it has no {name}")));
        }
    }
    Ok(())
}

/// Gives what was unpacked to the owner of the place, when we may: the numbers of another host mean nothing here.
fn own(path: &Path, place: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    match place.metadata() {
        Ok(metadata) => lchown(path, Some(metadata.uid()), Some(metadata.gid())),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::backup;
    use super::*;
    use crate::config::Config;
    use tar::EntryType::{Directory, Link, Regular, Symlink};

    /// An archive of the folders alone.
    fn archive(state: &Path, etc: &Path) -> Vec<u8> {
        backup::folders(Vec::new(), state, etc).unwrap().into_inner().unwrap().finish().unwrap()
    }

    /// Restores an archive that has no database.
    fn restore(archive: &[u8], wanted: &[(&str, PathBuf)]) -> io::Result<Kept> {
        let config = Config::default();
        let terms = Terms { database: None, force: false, stamp: "now".into() };
        let incoming = Incoming::new(&config, &wanted[0].1, terms);
        super::restore(archive, wanted, "now", incoming).map(|(kept, _)| kept)
    }

    fn tree(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn what_was_written_comes_back_and_what_was_there_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (state, etc) = (folder.path().join("state"), folder.path().join("etc"));
        tree(&state, &[("tls/server.pem", "key"), ("tls/lock", ""), ("acme/account", "me")]);
        tree(&etc, &[("beacon.toml", "")]);
        fs::set_permissions(state.join("tls/server.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        let archive = archive(&state, &etc);
        // What the servers keep is none of the archive's: it stays where it is.
        tree(&state, &[("postgres/PG_VERSION", "15"), ("redis/appendonly.aof", "old"), ("run/lock", "")]);
        fs::write(state.join("tls/server.pem"), "another").unwrap();
        fs::write(state.join("new"), "").unwrap();
        let kept = restore(&archive[..], &[(STATE, state.clone())]).unwrap();
        assert_eq!(fs::read_to_string(state.join("tls/server.pem")).unwrap(), "key");
        assert_eq!(state.join("tls/server.pem").metadata().unwrap().mode() & 0o777, 0o600);
        assert!(!state.join("new").exists() && !state.join("tls/lock").exists());
        assert_eq!(fs::read_to_string(state.join("postgres/PG_VERSION")).unwrap(), "15");
        assert!(state.join("redis/appendonly.aof").exists() && !state.join("run").exists());
        let before = kept[0].1.as_ref().unwrap();
        assert_eq!(fs::read_to_string(before.join("tls/server.pem")).unwrap(), "another");
        // To a host that has nothing yet.
        let other = folder.path().join("other");
        restore(&archive[..], &[(STATE, other.clone())]).unwrap();
        assert_eq!(fs::read_to_string(other.join("acme/account")).unwrap(), "me");
    }

    #[test]
    fn a_cut_or_foreign_archive_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        tree(&state, &[("key", "mine")]);
        let archive = archive(&state, &folder.path().join("none"));
        let mut foreign = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o600);
        foreign.append_data(&mut header, "state/key", &b"x"[..]).unwrap();
        let foreign = foreign.into_inner().unwrap().finish().unwrap();
        for (bad, says) in [
            (&archive[..archive.len() / 2], ""),
            (&foreign, "was not written by"),
            (b"", ""),
            (b"no archive at all", ""),
        ] {
            let error = restore(bad, &[(STATE, state.clone())]).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert_eq!(fs::read_to_string(state.join("key")).unwrap(), "mine");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        }
    }

    #[test]
    fn a_place_that_cannot_be_taken_gives_back_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let (state, etc) = (folder.path().join("state"), folder.path().join("etc"));
        tree(&state, &[("key", "old")]);
        tree(&etc, &[("beacon.toml", "old")]);
        tree(&state, &[("postgres/PG_VERSION", "15")]);
        let archive = archive(&state, &etc);
        fs::write(state.join("key"), "mine").unwrap();
        // The kernel renames no "folder/.", as it renames no mount point; the state folder is in its place by then.
        let error = restore(&archive[..], &[(STATE, state.clone()), (ETC, etc.join("."))]).unwrap_err();
        assert!(error.raw_os_error().is_some(), "from the rename and not from unpacking: {error}");
        assert_eq!(fs::read_to_string(state.join("key")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(state.join("postgres/PG_VERSION")).unwrap(), "15");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside them");
    }

    #[test]
    fn an_entry_that_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let build = |entries: &[(&str, tar::EntryType, &str)]| {
            let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
            for (name, kind, text) in entries {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(*kind);
                header.set_mode(0o700);
                let raw = &mut header.as_old_mut().name;
                raw[..name.len()].copy_from_slice(name.as_bytes());
                if kind.is_symlink() {
                    header.set_size(0);
                    header.set_link_name(text).unwrap();
                    header.set_cksum();
                    archive.append(&header, &b""[..]).unwrap();
                } else {
                    header.set_size(text.len() as u64);
                    header.set_cksum();
                    archive.append(&header, text.as_bytes()).unwrap();
                }
            }
            archive.into_inner().unwrap().finish().unwrap()
        };
        let mark = (MARK, Regular, "beacon");
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let link = elsewhere.to_str().unwrap();
        for entries in [
            vec![mark, ("state", Directory, ""), ("state/../../x", Regular, "x")],
            vec![mark, ("/state/x", Regular, "x")],
            vec![mark, ("state", Directory, ""), ("state/l", Symlink, link), ("state/l/x", Regular, "x")],
            vec![mark, ("state", Directory, ""), ("state/h", Link, "")],
        ] {
            assert!(restore(&build(&entries)[..], &[(STATE, state.clone())]).is_err(), "{entries:?}");
            assert!(!state.exists());
            assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        }
    }
}
