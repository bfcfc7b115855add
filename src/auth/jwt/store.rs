//! Signing keys in the database, shared by all Beacons on it.
//!
//! There is a next key besides the current one from the start: it is published long before it signs, so that everybody
//! who keeps a copy of the set knows it by the time of a rotation. Changes are told on the channel `beacon_keys`.

use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::{KeyError, Status, StoredKey, generate};
use crate::db::{self, Pool};
use crate::secret::Secret;

/// What can go wrong with keys in the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away or refused.
    #[error("the keys in the database cannot be read or written")]
    Database(#[from] db::Error),
    /// A key cannot be made or used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// All keys that are not revoked, oldest first. Makes a current and a next one where they are missing.
///
/// # Errors
/// The database is away, or no key can be made.
pub async fn ensure(owner: &Pool) -> Result<Vec<StoredKey>, StoreError> {
    let mut session = owner.get().await?;
    let keys = load(&*session).await?;
    let missing = |keys: &[StoredKey]| {
        let has = |status| keys.iter().any(|key| key.status == status);
        [Status::Current, Status::Next].into_iter().filter(|status| !has(*status)).collect::<Vec<_>>()
    };
    if missing(&keys).is_empty() {
        return Ok(keys);
    }
    let transaction = session.begin().await?;
    lock(&transaction).await?;
    // Another Beacon may have been faster.
    for status in missing(&load(&transaction).await?) {
        insert(&transaction, &generate(status)?).await?;
    }
    let keys = load(&transaction).await?;
    tell(&transaction).await?;
    transaction.commit().await?;
    Ok(keys)
}

/// Lets the next key sign and makes another next one; gives the identifier of the key that signs now. What the old one
/// signed stays good, unless `revoke`: then every token and key of before is void, the next key too, since who took one
/// private key could have taken both.
///
/// # Errors
/// The database is away, or no key can be made.
pub async fn rotate(owner: &Pool, revoke: bool) -> Result<Uuid, StoreError> {
    let mut session = owner.get().await?;
    let transaction = session.begin().await?;
    lock(&transaction).await?;
    let keys = load(&transaction).await?;
    let next = keys.iter().find(|key| key.status == Status::Next).filter(|_| !revoke);
    let retired = if revoke {
        "update beacon.signing_keys set status = 'revoked', private_key = '', retired_at = coalesce(retired_at, now())
         where status <> 'revoked'"
    } else {
        "update beacon.signing_keys set status = 'previous', retired_at = now() where status = 'current'"
    };
    transaction.execute(retired, &[]).await?;
    let current = if let Some(next) = next {
        transaction.execute("update beacon.signing_keys set status = 'current' where id = $1", &[&next.id]).await?;
        next.id
    } else {
        let made = generate(Status::Current)?;
        insert(&transaction, &made).await?;
        made.id
    };
    insert(&transaction, &generate(Status::Next)?).await?;
    tell(&transaction).await?;
    transaction.commit().await?;
    Ok(current)
}

async fn load(client: &impl GenericClient) -> Result<Vec<StoredKey>, StoreError> {
    let sql = "select id, algorithm, private_key, public_jwk, status from beacon.signing_keys
               where status <> 'revoked' order by created_at, id";
    let rows = client.query(sql, &[]).await?;
    let keys = rows.iter().filter_map(|row| {
        Some(StoredKey {
            id: row.get(0),
            algorithm: row.get(1),
            private_key: Secret::new(row.get::<_, String>(2)),
            public_jwk: row.get(3),
            status: Status::named(row.get(4))?,
        })
    });
    Ok(keys.collect())
}

async fn insert(client: &impl GenericClient, key: &StoredKey) -> Result<(), StoreError> {
    let sql = "insert into beacon.signing_keys (id, algorithm, private_key, public_jwk, status)
               values ($1, $2, $3, $4, $5)";
    let private_key = key.private_key.expose();
    client.execute(sql, &[&key.id, &key.algorithm, &private_key, &key.public_jwk, &key.status.as_str()]).await?;
    Ok(())
}

/// One at a time changes keys.
async fn lock(client: &impl GenericClient) -> Result<(), StoreError> {
    client.execute("select pg_advisory_xact_lock(hashtext('beacon.signing_keys'))", &[]).await?;
    Ok(())
}

async fn tell(client: &impl GenericClient) -> Result<(), StoreError> {
    client.execute("select pg_notify('beacon_keys', '')", &[]).await?;
    Ok(())
}
