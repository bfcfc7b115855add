//! `beacon env`: the file of variables that the service gets as a credential, and its versions.
//!
//! The file holds secrets, so it comes by standard input and never by the command line, is readable by root alone, and
//! no value is ever shown: a diff shows hashes, whose key is made for that one run. What is wrong changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};

use super::{Failure, output};
use crate::app;
use crate::auth::Key;
use crate::clock::Civil;
use crate::config::{Sources, env_variables, load};
use crate::error::{chain, exit};

/// How many earlier versions are kept.
const KEPT: usize = 5;
/// The largest file that is taken, in bytes.
const LARGEST: u64 = 1 << 20;

/// Installs the file of variables that the service runs with, compares it, and goes back to an earlier one
#[derive(Args, Debug)]
pub(super) struct EnvCommand {
    /// The installed file; its versions are in the folder env.d beside it
    #[arg(long, value_name = "FILE", default_value = "/etc/beacon/beacon.env", global = true)]
    file: PathBuf,
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Install(Install),
    Diff(Diff),
    List(List),
    Rollback(Rollback),
}

/// Puts a new file in place, after the whole configuration has been checked with it
///
/// The names that change are printed, with hashes for their values. The old file is kept in env.d. When anything is
/// wrong, nothing changes and the exit code is 78. A running service has the variables that it was started with: run
/// `beacon handover` afterwards.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ssh host sudo beacon env install - < .env.prod
  beacon env install /root/new.env")]
struct Install {
    /// The new file; - is standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,
}

/// Shows which names a new file would change
///
/// The exit code is 0 if there is no difference, and 1 if there is one.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ssh host sudo beacon env diff - < .env.prod")]
struct Diff {
    /// The new file; - is standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,
}

/// Lists the versions that are kept, the newest first
#[derive(Args, Debug)]
struct List {}

/// Goes back to an earlier version
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon env rollback
  beacon env rollback 20261124T201500.123456Z")]
struct Rollback {
    /// The version, as `beacon env list` shows it; without it the newest that is kept
    version: Option<String>,
}

impl EnvCommand {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let store = Store { file: self.file };
        match self.command {
            Action::Install(install) => store.install(&given(&install.from)?, sources),
            Action::Diff(diff) => {
                let changes = store.changes(&given(&diff.from)?)?;
                output::print(&changes)?;
                if changes.is_empty() { Ok(()) } else { Err(Failure::Told(exit::FAILURE)) }
            }
            Action::List(List {}) => {
                let versions = store.versions()?;
                let lines: Vec<&str> = versions.iter().rev().flat_map(|version| [version.as_str(), "\n"]).collect();
                Ok(output::print(&lines.concat())?)
            }
            Action::Rollback(rollback) => store.rollback(rollback.version, sources),
        }
    }
}

/// The text of a file, or of standard input.
fn given(from: &Path) -> Result<String, Failure> {
    let shown = if from == Path::new("-") { "standard input".to_owned() } else { from.display().to_string() };
    let cannot = |error: io::Error| Failure::Refused(format!("cannot read {shown}: {error}. Nothing was changed."));
    let mut text = String::new();
    let read = if from == Path::new("-") {
        io::stdin().lock().take(LARGEST + 1).read_to_string(&mut text)
    } else {
        File::open(from).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text))
    };
    if read.map_err(cannot)? as u64 > LARGEST {
        return Err(Failure::Refused(format!(
            "{shown} is larger than 1 MiB, which no .env file is. Nothing was changed."
        )));
    }
    Ok(text)
}

/// The installed file and its versions.
struct Store {
    file: PathBuf,
}

impl Store {
    fn folder(&self) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("/")).join("env.d")
    }

    fn name(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The versions that are kept, by the time at which they were replaced, the oldest first.
    fn versions(&self) -> Result<Vec<String>, Failure> {
        let prefix = format!("{}.", self.name());
        let entries = match fs::read_dir(self.folder()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.cannot("read the versions in", &self.folder(), &error)),
        };
        let mut versions: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_prefix(&prefix).map(str::to_owned))
            .collect();
        versions.sort();
        Ok(versions)
    }

    fn kept(&self, version: &str) -> PathBuf {
        self.folder().join(format!("{}.{version}", self.name()))
    }

    fn current(&self) -> Result<String, Failure> {
        match fs::read_to_string(&self.file) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(self.cannot("read", &self.file, &error)),
        }
    }

    /// The names that differ, a line each.
    fn changes(&self, new: &str) -> Result<String, Failure> {
        let new = env_variables(new, "the new file").map_err(|error| unchanged(&error.to_string()))?;
        // A file that somebody broke by hand must not keep the good one out.
        let old = env_variables(&self.current()?, "the installed file").unwrap_or_default();
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|error| Failure::Other(format!("the kernel gives no random bytes: {error}")))?;
        Ok(changes(&old, &new, &Key::new(&key)))
    }

    fn install(&self, text: &str, sources: &Sources) -> Result<(), Failure> {
        let changes = self.changes(text)?;
        let folder = self.folder();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| self.cannot("make", &folder, &error))?;
        let candidate = Candidate::write(folder.join(format!(".candidate-{}", std::process::id())), text.as_bytes())
            .map_err(|error| self.cannot("write to", &folder, &error))?;
        check(&candidate.path, sources)?;
        if changes.is_empty() && self.current()? == text {
            return Ok(output::print("The file is the same as the installed one: nothing was changed.\n")?);
        }
        self.keep()?;
        candidate.become_file(&self.file).map_err(|error| self.cannot("replace", &self.file, &error))?;
        self.prune()?;
        let summary = if changes.is_empty() { "Only comments or the order have changed.\n" } else { &changes };
        Ok(output::print(&format!(
            "{summary}{} is in place. Run `beacon handover` for the service to use it.\n",
            self.file.display()
        ))?)
    }

    fn rollback(&self, version: Option<String>, sources: &Sources) -> Result<(), Failure> {
        let versions = self.versions()?;
        let version = match version {
            Some(version) if versions.contains(&version) => version,
            Some(version) => {
                return Err(Failure::Refused(format!(
                    "there is no version {version}. There are: {}. Nothing was changed.",
                    if versions.is_empty() { "none".to_owned() } else { versions.join(", ") }
                )));
            }
            None => versions
                .last()
                .cloned()
                .ok_or_else(|| Failure::Refused("no earlier version is kept. Nothing was changed.".to_owned()))?,
        };
        let path = self.kept(&version);
        let text = fs::read_to_string(&path).map_err(|error| self.cannot("read", &path, &error))?;
        self.install(&text, sources)
    }

    /// Keeps the installed file as a version.
    fn keep(&self) -> Result<(), Failure> {
        let text = match fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.cannot("read", &self.file, &error)),
        };
        let path = self.kept(&stamp(SystemTime::now()));
        Candidate::write(self.folder().join(format!(".keeping-{}", std::process::id())), &text)
            .and_then(|copy| copy.become_file(&path))
            .map_err(|error| self.cannot("write", &path, &error))
    }

    fn prune(&self) -> Result<(), Failure> {
        let versions = self.versions()?;
        for version in &versions[..versions.len().saturating_sub(KEPT)] {
            let path = self.kept(version);
            fs::remove_file(&path).map_err(|error| {
                Failure::Other(format!("the new file is in place, but {} cannot be removed: {error}", path.display()))
            })?;
        }
        Ok(())
    }

    fn cannot(&self, what: &str, path: &Path, error: &io::Error) -> Failure {
        let fix = match error.kind() {
            io::ErrorKind::PermissionDenied => "This needs root: use sudo.",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "Make room on that disk, and try again.",
            _ => "Mend that, and try again.",
        };
        Failure::Other(format!(
            "cannot {what} {}: {error}. {} is as it was. {fix}",
            path.display(),
            self.file.display()
        ))
    }
}

/// A new file beside its place, gone again unless it takes it.
struct Candidate {
    path: PathBuf,
}

impl Candidate {
    fn write(path: PathBuf, text: &[u8]) -> io::Result<Self> {
        // Left by a process that was killed and had our number.
        let _ = fs::remove_file(&path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let candidate = Self { path };
        file.write_all(text)?;
        file.sync_all()?;
        Ok(candidate)
    }

    fn become_file(self, place: &Path) -> io::Result<()> {
        fs::rename(&self.path, place)?;
        File::open(place.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // It is not there any more once it has become the file.
        let _ = fs::remove_file(&self.path);
    }
}

/// Checks the whole configuration with `candidate` in place of the installed file.
fn check(candidate: &Path, sources: &Sources) -> Result<(), Failure> {
    let sources = sources.clone().with_env_file(Some(candidate.to_owned()));
    let renamed = |text: String| text.replace(&format!("file {}", candidate.display()), "the new file");
    let loaded = load(&sources).map_err(|error| unchanged(&renamed(error.to_string())))?;
    app::check(&loaded.config).map_err(|error| unchanged(&renamed(chain(&error).to_string())))?;
    for warning in &loaded.warnings {
        output::warn(&renamed(warning.clone()));
    }
    Ok(())
}

fn unchanged(text: &str) -> Failure {
    Failure::Refused(format!("{text}\nNothing was changed."))
}

/// One line for each name that differs.
fn changes(old: &BTreeMap<String, Option<String>>, new: &BTreeMap<String, Option<String>>, key: &Key) -> String {
    let hash = |value: &Option<String>| match value {
        None => "(no value)".to_owned(),
        Some(value) => {
            let tag = key.tag(&[value.as_bytes()]);
            tag.bytes()[..4].iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        }
    };
    let mut text = String::new();
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let _ = match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old == new => Ok(()),
            (Some(old), Some(new)) => writeln!(text, "~ {name}  {} -> {}", hash(old), hash(new)),
            (Some(old), None) => writeln!(text, "- {name}  {}", hash(old)),
            (None, Some(new)) => writeln!(text, "+ {name}  {}", hash(new)),
            (None, None) => Ok(()),
        };
    }
    text
}

/// A time as in `20261124T201500.123456Z`: names of versions sort by it.
pub(super) fn stamp(time: SystemTime) -> String {
    let at = Civil::of(time);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}.{:06}Z",
        at.year, at.month, at.day, at.hour, at.minute, at.second, at.micro
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::fs::PermissionsExt as _;

    fn store() -> (tempfile::TempDir, Store, Sources) {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources::new(folder.path(), folder.path(), [] as [(OsString, OsString); 0])
            .with_sets(vec![format!("server.state_dir={}", folder.path().join("state").display())]);
        let store = Store { file: folder.path().join("beacon.env") };
        (folder, store, sources)
    }

    #[test]
    fn a_file_is_installed_kept_and_brought_back() {
        let (_folder, store, sources) = store();
        store.install("A=1\n", &sources).unwrap();
        store.install("A=2\n", &sources).unwrap();
        assert_eq!(fs::read_to_string(&store.file).unwrap(), "A=2\n");
        assert_eq!(store.file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(store.versions().unwrap().len(), 1);
        store.rollback(None, &sources).unwrap();
        assert_eq!(fs::read_to_string(&store.file).unwrap(), "A=1\n");
        for number in 3..12 {
            store.install(&format!("A={number}\n"), &sources).unwrap();
        }
        let versions = store.versions().unwrap();
        assert_eq!(versions.len(), KEPT);
        assert_eq!(fs::read_to_string(store.kept(&versions[KEPT - 1])).unwrap(), "A=10\n");
        assert!(store.rollback(Some("19700101T000000Z".into()), &sources).is_err());
    }

    #[test]
    fn what_is_wrong_changes_nothing() {
        let (folder, store, sources) = store();
        store.install("A=1\n", &sources).unwrap();
        for bad in ["A='1\n", "=x\n", "BEACON_LISTEN__HTTTPS=x\n", "AUTH_WALL_USERNAME=only\n"] {
            let Err(Failure::Refused(text)) = store.install(bad, &sources) else { panic!("{bad}") };
            assert!(text.contains("the new file") && text.contains("Nothing was changed"), "{bad}: {text}");
            assert!(!text.contains("candidate"), "{text}");
        }
        assert_eq!(fs::read_to_string(&store.file).unwrap(), "A=1\n");
        assert!(store.versions().unwrap().is_empty());
        assert_eq!(fs::read_dir(folder.path().join("env.d")).unwrap().count(), 0);
    }

    #[test]
    fn changes_show_names_and_never_values() {
        let variables = |text| env_variables(text, "x").unwrap();
        let key = Key::new(&[7; 32]);
        let text = changes(&variables("A=1\nB=secret\nC=3\n"), &variables("A=1\nB=other\nD=secret\n"), &key);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("~ B  ") && lines[1].starts_with("- C  ") && lines[2].starts_with("+ D  "));
        assert!(!text.contains("secret") && !text.contains("other"));
        let hash = |line: &str| line.split_whitespace().nth(2).unwrap().to_owned();
        assert_eq!(hash(lines[0]), hash(lines[2]), "equal values have equal hashes within a run");
    }
}
