//! What is kept about one authority and one set of names, in STATE/acme/AUTHORITY: `account.json`, `certificate.pem`
//! (key and chain in one file, so that the two never disagree) and `attempts.json`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::{Account, AccountBuilder, AccountCredentials};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::tls::certificate::{Certificate, normal};
use crate::tls::config::Acme;
use crate::tls::disk;
use crate::tls::error::{Error, FileError};

/// One authority, one set of names, and their folder. Equal when they would order the same.
#[derive(Clone, Debug)]
pub struct Store {
    config: Acme,
    directory: String,
    names: Vec<String>,
    root: PathBuf,
    folder: PathBuf,
    /// Holds attempts back when they cannot be counted on disk.
    held: Arc<Mutex<Option<SystemTime>>>,
}

impl PartialEq for Store {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.root == other.root
    }
}

impl Eq for Store {}

impl Store {
    /// None when no names are configured, that is when ACME is off.
    #[must_use]
    pub fn new(config: &Acme, state: &Path) -> Option<Self> {
        if config.domains.is_empty() {
            return None;
        }
        let directory = config.directory_url().to_owned();
        let mut names: Vec<String> = Vec::new();
        for name in config.domains.iter().map(|name| normal(name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let root = state.join("acme");
        let folder = root.join(folder_name(&directory));
        Some(Self { config: config.clone(), directory, names, root, folder, held: Arc::default() })
    }

    /// The names that go into the certificate.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The URL of the authority's directory.
    #[must_use]
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Acme {
        &self.config
    }

    /// The folder of the lock that is held while ordering.
    #[must_use]
    pub fn lock_folder(&self) -> &Path {
        &self.root
    }

    /// Where the certificate and its key are.
    #[must_use]
    pub fn certificate_path(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    /// Makes the folders.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn prepare(&self) -> Result<(), Error> {
        disk::folder(&self.root)?;
        disk::folder(&self.folder)
    }

    /// The certificate that was issued earlier; one that cannot be read is told in the log and ordered anew.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate> {
        let path = self.certificate_path();
        match Certificate::load(&path, &path) {
            Ok(certificate) => Some(certificate),
            Err(FileError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(error = %crate::error::chain(&error), "the cached certificate cannot be used");
                None
            }
        }
    }

    /// Keeps an issued chain with its key.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn save_certificate(&self, key: &str, chain: &str) -> Result<(), Error> {
        disk::write(&self.certificate_path(), format!("{}\n{chain}", key.trim_end()).as_bytes())
    }

    /// The account made earlier, if there is one.
    ///
    /// # Errors
    /// When the authority's directory cannot be had.
    pub async fn account(&self) -> Result<Option<Account>, instant_acme::Error> {
        let Ok(text) = std::fs::read_to_string(self.folder.join("account.json")) else { return Ok(None) };
        match serde_json::from_str::<AccountCredentials>(&text) {
            Ok(credentials) => self.builder()?.from_credentials(credentials).await.map(Some),
            Err(error) => {
                tracing::warn!(%error, "the cached ACME account cannot be read, a new one is made");
                Ok(None)
            }
        }
    }

    /// Keeps an account.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn save_account(&self, credentials: &AccountCredentials) -> Result<(), Error> {
        let path = self.folder.join("account.json");
        let text = serde_json::to_vec(credentials)
            .map_err(|error| Error::State { path: path.clone(), source: error.into() })?;
        disk::write(&path, &text)
    }

    /// Forgets an account that the authority no longer knows.
    pub fn forget_account(&self) {
        let _ = std::fs::remove_file(self.folder.join("account.json"));
    }

    /// A client of the authority.
    ///
    /// # Errors
    /// When there are no roots to trust it by.
    pub fn builder(&self) -> Result<AccountBuilder, instant_acme::Error> {
        if self.config.ca_file.as_os_str().is_empty() {
            Account::builder()
        } else {
            Account::builder_with_root(&self.config.ca_file)
        }
    }

    /// The failures since the last success, for these names.
    #[must_use]
    pub fn attempts(&self) -> Attempts {
        let names = self.names.join(" ");
        let kept = std::fs::read(self.folder.join("attempts.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Attempts>(&bytes).ok())
            // A changed set of names may be the very mending of what was wrong.
            .filter(|kept| kept.names == names)
            // A clock that was wrong must not hold us back for years.
            .filter(|kept| kept.not_before() < SystemTime::now() + Duration::from_hours(48));
        let mut attempts = kept.unwrap_or(Attempts { names, failures: 0, not_before: 0 });
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held {
            attempts.not_before = attempts.not_before.max(seconds(held));
        }
        attempts
    }

    /// Keeps the number of failures and the time of the next attempt.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn save_attempts(&self, attempts: &Attempts) -> Result<(), Error> {
        let path = self.folder.join("attempts.json");
        let text =
            serde_json::to_vec(attempts).map_err(|error| Error::State { path: path.clone(), source: error.into() })?;
        disk::write(&path, &text)
    }

    /// Starts counting anew.
    pub fn clear_attempts(&self) {
        let _ = std::fs::remove_file(self.folder.join("attempts.json"));
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// No attempt of this process before `until`, also when the disk is full.
    pub fn hold_back(&self, until: SystemTime) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

/// Failures in a row.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Attempts {
    names: String,
    failures: u32,
    /// Seconds since 1970.
    not_before: u64,
}

impl Attempts {
    /// How many failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The earliest time of the next attempt.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.not_before)
    }

    /// One more failure, and how long to wait.
    #[must_use]
    pub fn failed(self, wait: Duration) -> Self {
        Self { failures: self.failures.saturating_add(1), not_before: seconds(SystemTime::now() + wait), ..self }
    }

    /// At least so long a wait from now.
    #[must_use]
    pub fn at_least(self, wait: Duration) -> Self {
        Self { not_before: self.not_before.max(seconds(SystemTime::now() + wait)), ..self }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A readable name that differs between directories of the same host.
fn folder_name(directory: &str) -> String {
    let host: String = directory
        .trim_start_matches("https://")
        .chars()
        .take_while(|letter| letter.is_ascii_alphanumeric() || ".-".contains(*letter))
        .take(80)
        .collect();
    let digest = Sha256::digest(directory.as_bytes());
    format!("{host}-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use instant_acme::LetsEncrypt;

    fn store(state: &Path, domains: &[&str]) -> Store {
        let config = Acme { domains: domains.iter().map(|name| (*name).into()).collect(), ..Acme::default() };
        Store::new(&config, state).unwrap()
    }

    #[test]
    fn each_directory_has_its_folder() {
        let names: Vec<String> =
            [LetsEncrypt::Production.url(), LetsEncrypt::Staging.url(), "https://127.0.0.1:14000/dir"]
                .map(folder_name)
                .into();
        assert!(names[0].starts_with("acme-v02.api.letsencrypt.org-"), "{names:?}");
        assert!(names[2].starts_with("127.0.0.1-") && names[0] != names[1], "{names:?}");
        assert!(!folder_name("https://../../etc").contains('/'));
    }

    #[test]
    fn failures_survive_a_restart_and_are_forgotten_with_other_names() {
        let state = tempfile::tempdir().unwrap();
        let first = store(state.path(), &["a.example"]);
        first.prepare().unwrap();
        first.save_attempts(&first.attempts().failed(Duration::from_mins(10))).unwrap();
        let again = store(state.path(), &["A.example"]);
        assert_eq!(again.attempts().failures(), 1);
        assert!(again.attempts().not_before() > SystemTime::now() + Duration::from_secs(500));
        assert_eq!(store(state.path(), &["b.example"]).attempts().failures(), 0);
        again.clear_attempts();
        assert_eq!(again.attempts().failures(), 0);
    }

    #[test]
    fn names_are_compared_as_the_authority_compares_them() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(store(state.path(), &["A.Example.", "a.example", "b.example"]).names(), ["a.example", "b.example"]);
    }
}
