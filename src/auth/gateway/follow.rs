//! Keeps the keys in memory as the database has them: at the start, when a Beacon tells of a change, and every minute.

use std::time::Duration;

use crate::auth::jwt::{self, Keys};
use crate::auth::keys::{self, ApiKeys};
use crate::db::Database;
use crate::error::BoxError;

/// What is told on this channel is looked up again.
pub const CHANNEL: &str = "beacon_keys";
/// A notification can be missed; a key is then known or void after this at the latest.
const EVERY: Duration = Duration::from_mins(1);
/// After a failure it is tried again sooner.
const AGAIN: Duration = Duration::from_secs(2);

/// Loads the keys once, makes those that a new database lacks, and gives the publishable key to show to people.
///
/// # Errors
/// The database is away, or a key cannot be used: then the keys of before stay.
pub async fn load(database: &Database, keys: &Keys, api_keys: &ApiKeys) -> Result<Option<String>, BoxError> {
    let owner = database.owner();
    keys.replace(&jwt::store::ensure(owner).await?)?;
    let publishable = keys::store::ensure_publishable(owner).await?;
    api_keys.replace(keys::store::load(owner).await?);
    Ok(publishable)
}

/// Follows the database for ever. To be started once it is prepared.
pub async fn follow(database: Database, keys: Keys, api_keys: ApiKeys) {
    let mut listener = database.listen(&[CHANNEL]);
    let mut failing = false;
    loop {
        let wait = if failing { AGAIN } else { EVERY };
        tokio::select! {
            _ = listener.next() => {}
            () = tokio::time::sleep(wait) => {}
        }
        let result = async {
            load(&database, &keys, &api_keys).await?;
            let uses = api_keys.uses();
            if !uses.is_empty() {
                keys::store::touch(database.owner(), &uses).await?;
            }
            Ok::<(), BoxError>(())
        }
        .await;
        // Each change of state is told once.
        match &result {
            Ok(()) if failing => tracing::info!("signing keys and API keys are read from the database again"),
            Err(error) if !failing => {
                let error = crate::error::chain(&**error);
                tracing::warn!(%error, "signing keys and API keys cannot be read; those known so far stay good");
            }
            _ => {}
        }
        failing = result.is_err();
    }
}
