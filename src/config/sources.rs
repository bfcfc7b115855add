//! Where to load from: everything that is needed to load again on a reload.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use super::credentials;

/// Where the configuration is loaded from. Relative paths are made absolute when they are given, so that loading again
/// finds the same files.
#[derive(Clone)]
pub struct Sources {
    /// The system's folder: /etc/beacon.
    folder: PathBuf,
    /// Where the process was started.
    here: PathBuf,
    config: Option<PathBuf>,
    env_file: Option<PathBuf>,
    sets: Vec<String>,
    environment: BTreeMap<OsString, OsString>,
}

/// A file, and whether it must be there because somebody named it.
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) required: bool,
}

impl Sources {
    /// The sources of this process: its environment, its working folder, /etc/beacon.
    #[must_use]
    pub fn of_process() -> Self {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Self::new("/etc/beacon", here, std::env::vars_os())
    }

    /// Sources with a system folder, a working folder and an environment of one's own.
    pub fn new(
        folder: impl Into<PathBuf>,
        here: impl Into<PathBuf>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        Self {
            folder: folder.into(),
            here: here.into(),
            config: None,
            env_file: None,
            sets: Vec::new(),
            environment: environment.into_iter().collect(),
        }
    }

    /// Names the configuration file (`--config`).
    #[must_use]
    pub fn with_config(mut self, path: Option<PathBuf>) -> Self {
        self.config = path.map(|path| self.here.join(path));
        self
    }

    /// Names the `.env` file (`--env-file`).
    #[must_use]
    pub fn with_env_file(mut self, path: Option<PathBuf>) -> Self {
        self.env_file = path.map(|path| self.here.join(path));
        self
    }

    /// Gives the values of `--set`, each `section.key=value`.
    #[must_use]
    pub fn with_sets(mut self, sets: Vec<String>) -> Self {
        self.sets = sets;
        self
    }

    /// The system's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration file.
    pub(super) fn config(&self) -> Named {
        match self.config.clone().or_else(|| self.path_in("BEACON_CONFIG")) {
            Some(path) => Named { path, required: true },
            None => Named { path: self.folder.join("beacon.toml"), required: false },
        }
    }

    /// The folder of configuration files beside it.
    pub(super) fn conf_d(&self) -> PathBuf {
        self.config().path.parent().unwrap_or(Path::new("/")).join("conf.d")
    }

    /// The `.env` file, if there is one.
    pub(super) fn env_file(&self) -> Option<PathBuf> {
        let credential = || self.credentials().map(|folder| folder.join(credentials::ENV)).filter(|path| path.exists());
        let found = || [self.here.join(".env"), self.folder.join("beacon.env")].into_iter().find(|path| path.exists());
        self.env_file.clone().or_else(|| self.path_in("BEACON_ENV_FILE")).or_else(credential).or_else(found)
    }

    /// The folder of systemd's credentials.
    pub(super) fn credentials(&self) -> Option<PathBuf> {
        self.path_in("CREDENTIALS_DIRECTORY")
    }

    pub(super) fn sets(&self) -> &[String] {
        &self.sets
    }

    pub(super) fn environment(&self) -> &BTreeMap<OsString, OsString> {
        &self.environment
    }

    /// The text of an environment variable.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(OsStr::new(name)).map(|value| value.to_string_lossy().into_owned())
    }

    fn path_in(&self, name: &str) -> Option<PathBuf> {
        self.environment.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(|value| self.here.join(value))
    }
}

impl fmt::Debug for Sources {
    /// Names the places only: variables and `--set` may hold secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Sources")
            .field("config", &self.config().path)
            .field("env_file", &self.env_file())
            .field("sets", &self.sets.len())
            .finish_non_exhaustive()
    }
}
