//! The composition: builds every component, mounts every route, reloads.

use crate::config::{Config, Loaded, Sources};

/// What starting or running may fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

impl Error {
    /// The exit code of a process that ends with this, one of [`crate::error::exit`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        crate::error::exit::FAILURE
    }
}

/// Serves until it is asked to stop.
///
/// # Errors
/// A component that cannot be built.
pub fn serve(_loaded: Loaded, _sources: Sources) -> Result<(), Error> {
    Ok(())
}

/// Builds everything without binding or starting, and returns what the user should know.
///
/// # Errors
/// A component that cannot be built.
pub fn check(_config: &Config) -> Result<Vec<String>, Error> {
    Ok(Vec::new())
}
