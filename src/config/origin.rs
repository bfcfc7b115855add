//! Where a value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where one value came from. Holds names and places only, never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A TOML file.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the key, from 1; 0 if it is not known.
        line: usize,
    },
    /// A `.env` file.
    EnvFile {
        /// The file.
        path: PathBuf,
        /// The variable's name.
        name: String,
        /// The line of the variable, from 1.
        line: usize,
    },
    /// A variable of the process's environment.
    Environment {
        /// The variable's name.
        name: String,
    },
    /// `--set` on the command line.
    Set,
    /// A systemd credential.
    Credential {
        /// The credential's name.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File { path, line: 0 } => write!(out, "file {}", path.display()),
            Self::File { path, line } => write!(out, "file {} line {line}", path.display()),
            Self::EnvFile { path, name, .. } => write!(out, ".env file {}: {name}", path.display()),
            Self::Environment { name } => write!(out, "environment: {name}"),
            Self::Set => out.write_str("--set"),
            Self::Credential { name } => write!(out, "credential {name}"),
        }
    }
}

impl From<&Origin> for String {
    fn from(origin: &Origin) -> Self {
        origin.to_string()
    }
}

/// Where each value of a configuration came from.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    by_key: BTreeMap<String, Origin>,
}

impl Origins {
    /// Notes that `key` was set there, in place of what was noted before.
    pub(super) fn note(&mut self, key: String, origin: Origin) {
        self.by_key.insert(key, origin);
    }

    /// Where the value of `key`, dotted, came from.
    #[must_use]
    pub fn of(&self, key: &str) -> &Origin {
        self.by_key.get(key).unwrap_or(&Origin::Default)
    }

    /// Whether anything was set at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The keys that were set, and where.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.by_key.iter().map(|(key, origin)| (key.as_str(), origin))
    }

    /// What to name as the place of a fault of `key`: its own origin, else that of something below it, else those of
    /// its neighbours, which most likely caused the fault.
    pub(super) fn place(&self, key: &str) -> String {
        if let Some(origin) = self.by_key.get(key) {
            return origin.to_string();
        }
        let below = format!("{key}.");
        if let Some((_, origin)) = self.by_key.range(below.clone()..).next().filter(|(at, _)| at.starts_with(&below)) {
            return origin.to_string();
        }
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let mut beside: Vec<String> = Vec::new();
        for (at, origin) in &self.by_key {
            let shown = origin.to_string();
            if at.rsplit_once('.').is_some_and(|(other, _)| other == section) && !beside.contains(&shown) {
                beside.push(shown);
            }
        }
        if beside.is_empty() {
            "default".into()
        } else {
            format!("not set; [{section}] is set by {}", beside.join(", "))
        }
    }
}
