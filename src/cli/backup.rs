//! `beacon backup`: what Beacon keeps in its state folder, its configuration and its database, as one archive.
//!
//! The folders of the private servers are not copied: their files change while they are read. The servers give what they
//! hold themselves, at one moment.
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
use crate::app::dump::{self, Outgoing};
use crate::config::{Config, Sources, load};
use crate::managed;

/// The folder of the archive for the state folder, and that for the configuration.
pub(super) const STATE: &str = "state";
pub(super) const ETC: &str = "etc";
/// The folder of the archive for the database's pieces.
pub(super) const DATABASE: &str = "database";
/// The first entry of an archive: what it is.
pub(super) const MARK: &str = "beacon-backup";

/// Writes what Beacon keeps (state folder, /etc/beacon and the database) into one archive
///
/// A tar file, compressed with zstd, readable by its owner alone: it holds private keys and the file of variables.
/// Files are read while Beacon serves; each of them is replaced whole when it changes, so each is whole in the archive.
/// The database is dumped as of one moment (pg_dump), the private Redis too; private servers that do not run are started
/// for that.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon backup /root/beacon-$(date +%F).tar.zst
  beacon backup --without-database /root/beacon.tar.zst
  ssh host sudo beacon backup - > host.tar.zst")]
pub(super) struct Backup {
    /// The archive to write; - is standard output
    #[arg(value_name = "FILE")]
    to: PathBuf,
    /// Leaves the database out, as when its own server keeps backups
    #[arg(long = "without-database")]
    without_database: bool,
}

impl Backup {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        if self.to.as_os_str().to_string_lossy().starts_with("s3://") {
            return Err(Failure::Other(
                "this version of Beacon writes to files only, not to S3. Let another program take the stream: \
                 beacon backup - | aws s3 cp - s3://BUCKET/KEY"
                    .into(),
            ));
        }
        let Places { config, state, etc } = places(sources)?;
        if self.to == Path::new("-") {
            let out = io::stdout().lock();
            if out.is_terminal() {
                return Err(Failure::Other(
                    "an archive of keys does not belong on a terminal: send it into a file, or name one.".into(),
                ));
            }
            let servers = self.servers(&config, &state)?;
            return write(out, &state, &etc, servers).map(drop).map_err(|error| failed("standard output", &error));
        }
        let servers = self.servers(&config, &state)?;
        let database = servers.database().map(|about| format!(", and the database \"{}\"", about.database));
        let cannot = |error: &io::Error| failed(&self.to.display().to_string(), error);
        let name = self.to.file_name().ok_or_else(|| cannot(&io::ErrorKind::InvalidInput.into()))?;
        let part = self.to.with_file_name(format!(".{}.part", name.to_string_lossy()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let written = file.and_then(|file| {
            let file = write(file, &state, &etc, servers)?;
            file.sync_all()?;
            fs::rename(&part, &self.to)
        });
        if let Err(error) = written {
            let _ = fs::remove_file(&part);
            return Err(cannot(&error));
        }
        let (to, state, etc, database) =
            (self.to.display(), state.display(), etc.display(), database.unwrap_or_default());
        Ok(output::print(&format!("{to} holds {state} and {etc}{database}.\n"))?)
    }

    fn servers(&self, config: &Config, state: &Path) -> Result<Outgoing, Failure> {
        let hint = if self.without_database { "" } else { ". --without-database leaves the database out" };
        Outgoing::begin(config, state, !self.without_database).map_err(|error| match error {
            dump::Error::Unavailable(text) => Failure::Unavailable(format!("{text}{hint}")),
            dump::Error::Refused(text) | dump::Error::Failed(text) => Failure::Other(format!("{text}{hint}")),
        })
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

/// What is kept where.
pub(super) struct Places {
    pub config: Config,
    /// The state folder.
    pub state: PathBuf,
    /// That of the configuration.
    pub etc: PathBuf,
}

/// Where things are.
pub(super) fn places(sources: &Sources) -> Result<Places, Failure> {
    let config = load(sources)?.config;
    let state = app::state_dir(&config.server.state_dir, |name| std::env::var_os(name))?;
    Ok(Places { config, state, etc: sources.folder().to_owned() })
}

/// Writes the archive.
fn write<W: Write>(out: W, state: &Path, etc: &Path, mut servers: Outgoing) -> io::Result<W> {
    let mut archive = folders(out, state, etc)?;
    let made = header;
    if let Some(mut snapshot) = servers.redis.take() {
        let name = Path::new(STATE).join("redis");
        let mut folder = made(0);
        folder.set_entry_type(tar::EntryType::Directory);
        folder.set_mode(0o700);
        archive.append_data(&mut folder, &name, io::empty())?;
        let mut header = made(snapshot.length);
        archive.append_data(&mut header, name.join(managed::SNAPSHOT), &mut snapshot)?;
    }
    servers.parts(|(name, bytes)| {
        let mut header = made(bytes.len() as u64);
        archive.append_data(&mut header, Path::new(DATABASE).join(name), &bytes[..])
    })?;
    archive.into_inner()?.finish()
}

/// A file of ours.
fn header(length: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o600);
    header
}

/// An archive that has the folders, and may get more.
///
/// # Errors
/// A file that cannot be read, named in the error, or the output's.
pub(super) fn folders<'a, W: Write + 'a>(
    out: W,
    state: &Path,
    etc: &Path,
) -> io::Result<tar::Builder<zstd::Encoder<'a, W>>> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(out, 9)?);
    archive.follow_symlinks(false);
    let mark = format!("beacon {}\n", env!("CARGO_PKG_VERSION"));
    archive.append_data(&mut header(mark.len() as u64), MARK, mark.as_bytes())?;
    let mut servers: Vec<&str> = managed::FOLDERS.to_vec();
    servers.push(managed::RUN);
    add(&mut archive, state, Path::new(STATE), true, &servers)?;
    add(&mut archive, etc, Path::new(ETC), false, &[])?;
    Ok(archive)
}

/// Adds a folder and all in it but sockets and locks, which mean something to a running process only, and `but` these.
fn add<W: Write>(
    archive: &mut tar::Builder<W>,
    folder: &Path,
    name: &Path,
    required: bool,
    but: &[&str],
) -> io::Result<()> {
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
        let Some(own) = path.file_name().filter(|own| !but.iter().any(|but| own == but)) else { continue };
        let kind = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            // Replaced or removed since the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(named(error, &path)),
        };
        if kind.is_dir() {
            add(archive, &path, &name.join(own), true, &[])?;
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
