//! From a configuration to its store.

use std::path::{Path, PathBuf};

use super::local::Local;
use super::s3::S3;
use super::{Config, Error, Store};

/// The store of a configuration; `state` is the state folder. A folder is made when it is needed first, and a bucket is
/// not asked for anything yet.
///
/// # Errors
/// A value that cannot be used.
pub fn open(config: &Config, state: &Path) -> Result<Store, Error> {
    if !config.bucket.is_empty() {
        return S3::open(config).map(Store::new);
    }
    Ok(Store::new(Local::new(folder(config, state))))
}

/// The folder that is the store where no bucket is named.
#[must_use]
pub fn folder(config: &Config, state: &Path) -> PathBuf {
    if config.folder.as_os_str().is_empty() { state.join("storage") } else { config.folder.clone() }
}
