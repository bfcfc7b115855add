//! The database that the configuration leads to, for `serve` and for commands.

use std::path::Path;

use super::backend::Places;
use super::{Error, managed, state};
use crate::assets;
use crate::config::Config;
use crate::db::Database;
use crate::jobs;
use crate::managed::{Managed, running};
use crate::secret::Secret;

/// The database at `url`, without going there.
///
/// # Errors
/// A URL that cannot be used, or unreadable certificates.
pub fn open(config: &Config, url: &Secret) -> Result<Database, Error> {
    static NONE: include_dir::Dir<'_> = include_dir::Dir::new("", &[]);
    let own = assets::folder("migrations").unwrap_or(&NONE);
    Database::new(&config.database, url, own, roles(config)).map_err(Error::Database)
}

/// The database that commands work with.
///
/// # Errors
/// None is configured, the private one does not run, or as `open`.
pub fn of(config: &Config) -> Result<Database, Error> {
    if !config.database.url.is_empty() {
        return open(config, &config.database.url);
    }
    if !managed::wanted(config).postgres {
        return Err(Error::NoDatabase);
    }
    let state = state::find(&config.server.state_dir, |name| std::env::var_os(name))?;
    let url = running(&state).and_then(|record| record.database_url()).ok_or(Error::Asleep)?;
    open(config, &url)
}

/// Where the stores are: the configured ones, or the private ones of the state folder; none if there shall be no
/// database.
pub(super) fn places(config: &Config, state: &Path) -> Option<Places> {
    let wanted = managed::wanted(config);
    let given = |url: &Secret| Some(url.clone()).filter(|url| !url.is_empty());
    let database = given(&config.database.url).or_else(|| wanted.postgres.then(|| Managed::database_url_in(state)))?;
    let redis = given(&config.redis.url).or_else(|| wanted.redis.then(|| Managed::redis_url_in(state)));
    Some(Places { database, redis })
}

/// Roles that the configuration names and that requests change to.
fn roles(config: &Config) -> Vec<String> {
    let anonymous = Some(config.api.anon_role.clone()).filter(|role| !role.is_empty());
    anonymous.into_iter().chain(jobs::roles(&config.handlers)).collect()
}
