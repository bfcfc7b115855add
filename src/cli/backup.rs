//! `beacon backup`: what Beacon keeps in its state folder, and its configuration, as one archive.
//!
//! The archive holds private keys and the file of variables, so it is made for its owner alone and never on a terminal.
//! It is written beside its place and renamed at the end: a name that is there is a whole archive.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, output};
use crate::app;
use crate::config::{Sources, load};

/// The folder of the archive for the state folder, and that for the configuration.
pub(super) const STATE: &str = "state";
pub(super) const ETC: &str = "etc";
/// The first entry of an archive: what it is.
pub(super) const MARK: &str = "beacon-backup";

/// Writes what Beacon keeps (state folder and /etc/beacon) into one archive
///
/// A tar file, compressed with zstd, readable by its owner alone: it holds private keys and the file of variables.
/// Files are read while Beacon serves; each of them is replaced whole when it changes, so each is whole in the archive.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon backup /root/beacon-$(date +%F).tar.zst
  ssh host sudo beacon backup - > host.tar.zst")]
pub(super) struct Backup {
    /// The archive to write; - is standard output
    #[arg(value_name = "FILE")]
    to: PathBuf,
}

impl Backup {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (state, etc) = places(sources)?;
        if self.to == Path::new("-") {
            let out = io::stdout().lock();
            if out.is_terminal() {
                return Err(Failure::Other(
                    "an archive of keys does not belong on a terminal: send it into a file, or name one.".into(),
                ));
            }
            return write(out, &state, &etc).map(drop).map_err(|error| failed("standard output", &error));
        }
        let cannot = |error: &io::Error| failed(&self.to.display().to_string(), error);
        let name = self.to.file_name().ok_or_else(|| cannot(&io::ErrorKind::InvalidInput.into()))?;
        let part = self.to.with_file_name(format!(".{}.part", name.to_string_lossy()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let written = file.and_then(|file| {
            let file = write(file, &state, &etc)?;
            file.sync_all()?;
            fs::rename(&part, &self.to)
        });
        if let Err(error) = written {
            let _ = fs::remove_file(&part);
            return Err(cannot(&error));
        }
        Ok(output::print(&format!("{} holds {} and {}.\n", self.to.display(), state.display(), etc.display()))?)
    }
}

fn failed(place: &str, error: &io::Error) -> Failure {
    let fix = match error.kind() {
        io::ErrorKind::PermissionDenied => "This needs root: use sudo.",
        io::ErrorKind::StorageFull => "Make room on that disk, or name another.",
        _ => "Mend that, and try again.",
    };
    Failure::Other(format!("the backup to {place} failed: {error}. {fix}"))
}

/// The state folder and that of the configuration.
pub(super) fn places(sources: &Sources) -> Result<(PathBuf, PathBuf), Failure> {
    let loaded = load(sources)?;
    let state = app::state_dir(&loaded.config.server.state_dir, |name| std::env::var_os(name))?;
    Ok((state, sources.folder().to_owned()))
}

/// Writes the archive.
///
/// # Errors
/// A file that cannot be read, named in the error, or the output's.
pub(super) fn write<W: Write>(out: W, state: &Path, etc: &Path) -> io::Result<W> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(out, 9)?);
    archive.follow_symlinks(false);
    let mark = format!("beacon {}\n", env!("CARGO_PKG_VERSION"));
    let mut header = tar::Header::new_gnu();
    header.set_size(mark.len() as u64);
    header.set_mode(0o600);
    archive.append_data(&mut header, MARK, mark.as_bytes())?;
    add(&mut archive, state, Path::new(STATE), true)?;
    add(&mut archive, etc, Path::new(ETC), false)?;
    archive.into_inner()?.finish()
}

/// Adds a folder and all in it but sockets and locks, which mean something to a running process only.
fn add<W: Write>(archive: &mut tar::Builder<W>, folder: &Path, name: &Path, required: bool) -> io::Result<()> {
    let named = |error: io::Error, path: &Path| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(()),
        Err(error) => return Err(named(error, folder)),
    };
    archive.append_dir(name, folder).map_err(|error| named(error, folder))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let Some(own) = path.file_name() else { continue };
        let kind = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            // Replaced or removed since the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(named(error, &path)),
        };
        if kind.is_dir() {
            add(archive, &path, &name.join(own), true)?;
        } else if kind.is_symlink() {
            archive.append_path_with_name(&path, name.join(own)).map_err(|error| named(error, &path))?;
        } else if kind.is_file() && own != "lock" && !kind.is_socket() {
            match File::open(&path) {
                Ok(mut file) => archive.append_file(name.join(own), &mut file).map_err(|error| named(error, &path))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(named(error, &path)),
            }
        }
    }
    Ok(())
}
