//! API keys in the database. Changes are told on the channel `beacon_keys`.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{ApiKey, Kind, NewKey};
use crate::db::{self, Pool};

/// What can go wrong with API keys in the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is away or refused.
    #[error("the API keys in the database cannot be read or written")]
    Database(#[from] db::Error),
    /// There is a key of that name.
    #[error("there is a key called {0:?} already; revoke it first, or choose another name")]
    Taken(String),
    /// The database has no such role.
    #[error("the database has no role {0:?}")]
    NoRole(String),
    /// The system has no randomness.
    #[error("no key could be made")]
    Generate(#[from] getrandom::Error),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// A key as lists show it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Identifies it.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Its start.
    pub prefix: String,
    /// The whole key, if it is publishable.
    pub value: Option<String>,
    /// The database role whose rights it gives.
    pub role: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was used last, to a minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
}

/// The name of the key that the first start makes.
pub const DEFAULT: &str = "default";

/// The keys that are good.
///
/// # Errors
/// The database is away.
pub async fn load(owner: &Pool) -> Result<Vec<ApiKey>, Error> {
    let sql = "select id, name, kind, hash, role from beacon.api_keys where revoked_at is null";
    let rows = owner.get().await?.query(sql, &[]).await?;
    let keys = rows.iter().filter_map(|row| {
        Some(ApiKey {
            id: row.get(0),
            name: row.get(1),
            kind: Kind::named(row.get(2))?,
            hash: row.get::<_, &[u8]>(3).try_into().ok()?,
            role: row.get::<_, &str>(4).into(),
        })
    });
    Ok(keys.collect())
}

/// The publishable key to show to people: the oldest one that is good. A database that never had a key gets one.
///
/// # Errors
/// The database is away, or no key can be made.
pub async fn ensure_publishable(owner: &Pool) -> Result<Option<String>, Error> {
    let session = owner.get().await?;
    let row = session
        .query_one(
            "select (select value from beacon.api_keys where kind = 'publishable' and revoked_at is null
                     order by created_at, id limit 1), exists (select from beacon.api_keys)",
            &[],
        )
        .await?;
    match (row.get::<_, Option<String>>(0), row.get::<_, bool>(1)) {
        (None, false) => {}
        // An operator who revoked all of them wants none.
        (value, _) => return Ok(value),
    }
    drop(session);
    match create(owner, DEFAULT, Kind::Publishable, Kind::Publishable.role()).await {
        Ok(made) => Ok(Some(made.text.expose().to_owned())),
        // Another Beacon was faster.
        Err(Error::Taken(_)) => {
            let sql = "select value from beacon.api_keys where name = $1 and revoked_at is null";
            Ok(owner.get().await?.query_opt(sql, &[&DEFAULT]).await?.and_then(|row| row.get(0)))
        }
        Err(error) => Err(error),
    }
}

/// Makes a key.
///
/// # Errors
/// A name that is taken, a role that does not exist, or the database is away.
pub async fn create(owner: &Pool, name: &str, kind: Kind, role: &str) -> Result<NewKey, Error> {
    let session = owner.get().await?;
    if session.query_opt("select from pg_roles where rolname = $1", &[&role]).await?.is_none() {
        return Err(Error::NoRole(role.to_owned()));
    }
    let key = NewKey::generate(kind)?;
    let value = (kind == Kind::Publishable).then(|| key.text.expose());
    let sql = "with made as (insert into beacon.api_keys (name, kind, prefix, hash, value, role)
                             values ($1, $2, $3, $4, $5, $6) on conflict (name) do nothing returning id)
               select pg_notify('beacon_keys', '') from made";
    let rows = session.query(sql, &[&name, &kind.as_str(), &key.prefix, &key.hash.as_slice(), &value, &role]).await?;
    if rows.is_empty() { Err(Error::Taken(name.to_owned())) } else { Ok(key) }
}

/// All keys, the revoked ones too, oldest first.
///
/// # Errors
/// The database is away.
pub async fn list(owner: &Pool) -> Result<Vec<Listed>, Error> {
    let sql = "select id, name, kind, prefix, value, role, created_at, last_used_at, revoked_at
               from beacon.api_keys order by created_at, id";
    let rows = owner.get().await?.query(sql, &[]).await?;
    let keys = rows.iter().filter_map(|row| {
        Some(Listed {
            id: row.get(0),
            name: row.get(1),
            kind: Kind::named(row.get(2))?,
            prefix: row.get(3),
            value: row.get(4),
            role: row.get(5),
            created_at: row.get(6),
            last_used_at: row.get(7),
            revoked_at: row.get(8),
        })
    });
    Ok(keys.collect())
}

/// Revokes the key with this name or identifier; false if there is none that is good. Its name becomes free.
///
/// # Errors
/// The database is away.
pub async fn revoke(owner: &Pool, which: &str) -> Result<bool, Error> {
    let sql = "with gone as (update beacon.api_keys set revoked_at = now(), name = name || ' ' || id
                             where (name = $1 or id::text = $1) and revoked_at is null returning id)
               select pg_notify('beacon_keys', '') from gone";
    Ok(!owner.get().await?.query(sql, &[&which]).await?.is_empty())
}

/// Writes down when keys were used last: identifiers with seconds since 1970.
///
/// # Errors
/// The database is away.
pub async fn touch(owner: &Pool, uses: &[(Uuid, u64)]) -> Result<(), Error> {
    let (ids, times): (Vec<Uuid>, Vec<i64>) = uses.iter().map(|(id, time)| (*id, *time as i64)).unzip();
    let sql = "update beacon.api_keys as key set last_used_at = to_timestamp(used.at)
               from unnest($1::uuid[], $2::int8[]) as used (id, at)
               where key.id = used.id and coalesce(key.last_used_at, '-infinity') < to_timestamp(used.at)";
    owner.get().await?.execute(sql, &[&ids, &times]).await?;
    Ok(())
}
