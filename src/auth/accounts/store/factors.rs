//! `auth.mfa_factors` and `auth.mfa_challenges`.

use std::net::IpAddr;

use time::OffsetDateTime;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Db, Result};

/// A factor with its secret.
#[derive(Clone, Debug)]
pub struct Secret {
    /// "totp", "phone" or "webauthn".
    pub kind: String,
    /// Whether a code was accepted already.
    pub verified: bool,
    /// In base 32.
    pub secret: String,
    /// The time step of the last code that was accepted.
    pub last_step: Option<i64>,
}

/// A challenge.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// The row.
    pub id: Uuid,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Whether it was answered.
    pub answered: bool,
    /// Where it was asked for.
    pub client: IpAddr,
    /// Wrong answers.
    pub attempts: i32,
}

/// Adds a factor that is not verified yet.
pub async fn add(
    db: &impl Db,
    user: Uuid,
    id: Uuid,
    name: Option<&str>,
    secret: &str,
    now: OffsetDateTime,
) -> Result<()> {
    let sql = "insert into auth.mfa_factors (id, user_id, friendly_name, factor_type, status, created_at, updated_at, \
               secret) values ($1, $2, $3, 'totp', 'unverified', $4, $4, $5)";
    db.execute_typed(
        sql,
        &[
            (&id, Type::UUID),
            (&user, Type::UUID),
            (&name, Type::TEXT),
            (&now, Type::TIMESTAMPTZ),
            (&secret, Type::TEXT),
        ],
    )
    .await?;
    Ok(())
}

/// A user's factor, locked.
pub async fn lock(db: &impl Db, user: Uuid, id: Uuid) -> Result<Option<Secret>> {
    let sql = "select factor_type::text, status = 'verified', coalesce(secret, ''), last_used_step \
               from auth.mfa_factors where id = $1 and user_id = $2 for update";
    let row = db.query_typed_opt(sql, &[(&id, Type::UUID), (&user, Type::UUID)]).await?;
    row.map(|row| {
        Ok(Secret {
            kind: row.try_get(0)?,
            verified: row.try_get(1)?,
            secret: row.try_get(2)?,
            last_step: row.try_get(3)?,
        })
    })
    .transpose()
}

/// Makes a challenge.
pub async fn challenge(db: &impl Db, factor: Uuid, id: Uuid, client: IpAddr, now: OffsetDateTime) -> Result<()> {
    let sql = "with factor as (update auth.mfa_factors set last_challenged_at = $3 where id = $1) \
               insert into auth.mfa_challenges (id, factor_id, created_at, ip_address) values ($2, $1, $3, $4)";
    db.execute_typed(
        sql,
        &[(&factor, Type::UUID), (&id, Type::UUID), (&now, Type::TIMESTAMPTZ), (&client, Type::INET)],
    )
    .await?;
    Ok(())
}

/// A challenge of a factor.
pub async fn find_challenge(db: &impl Db, factor: Uuid, id: Uuid) -> Result<Option<Challenge>> {
    let sql = "select id, created_at, verified_at is not null, ip_address, attempts from auth.mfa_challenges \
               where id = $1 and factor_id = $2 for update";
    let row = db.query_typed_opt(sql, &[(&id, Type::UUID), (&factor, Type::UUID)]).await?;
    row.map(|row| {
        Ok(Challenge {
            id: row.try_get(0)?,
            created_at: row.try_get(1)?,
            answered: row.try_get(2)?,
            client: row.try_get(3)?,
            attempts: row.try_get(4)?,
        })
    })
    .transpose()
}

/// Counts a wrong answer.
pub async fn miss(db: &impl Db, challenge: Uuid) -> Result<()> {
    let sql = "update auth.mfa_challenges set attempts = attempts + 1 where id = $1";
    db.execute_typed(sql, &[(&challenge, Type::UUID)]).await?;
    Ok(())
}

/// Wrong answers to all challenges of a factor in the last hour.
pub async fn recent_misses(db: &impl Db, factor: Uuid) -> Result<i64> {
    let sql = "select coalesce(sum(attempts), 0)::int8 from auth.mfa_challenges where factor_id = $1 and \
               created_at > now() - interval '1 hour'";
    db.query_typed_one(sql, &[(&factor, Type::UUID)]).await?.try_get(0)
}

/// Notes a right answer, and that codes up to `step` count no more.
pub async fn answer(db: &impl Db, factor: Uuid, challenge: Uuid, step: i64, now: OffsetDateTime) -> Result<()> {
    let sql = "with challenge as (update auth.mfa_challenges set verified_at = $4 where id = $2) \
               update auth.mfa_factors set status = 'verified', last_used_step = $3, updated_at = $4 where id = $1";
    db.execute_typed(
        sql,
        &[(&factor, Type::UUID), (&challenge, Type::UUID), (&step, Type::INT8), (&now, Type::TIMESTAMPTZ)],
    )
    .await?;
    Ok(())
}

/// Removes one factor, or all of a user.
pub async fn remove(db: &impl Db, user: Uuid, id: Option<Uuid>) -> Result<()> {
    let sql = "delete from auth.mfa_factors where user_id = $1 and ($2::uuid is null or id = $2)";
    db.execute_typed(sql, &[(&user, Type::UUID), (&id, Type::UUID)]).await?;
    Ok(())
}

/// Removes factors that were begun and never finished; `older` than a moment, if it is given.
pub async fn remove_unverified(db: &impl Db, user: Uuid, older: Option<OffsetDateTime>) -> Result<()> {
    let sql = "delete from auth.mfa_factors where user_id = $1 and status = 'unverified' and \
               ($2::timestamptz is null or created_at < $2)";
    db.execute_typed(sql, &[(&user, Type::UUID), (&older, Type::TIMESTAMPTZ)]).await?;
    Ok(())
}

/// Renames a factor.
pub async fn rename(db: &impl Db, user: Uuid, id: Uuid, name: &str, now: OffsetDateTime) -> Result<()> {
    let sql = "update auth.mfa_factors set friendly_name = $3, updated_at = $4 where id = $2 and user_id = $1";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] =
        [(&user, Type::UUID), (&id, Type::UUID), (&name, Type::TEXT), (&now, Type::TIMESTAMPTZ)];
    db.execute_typed(sql, &parameters).await?;
    Ok(())
}
