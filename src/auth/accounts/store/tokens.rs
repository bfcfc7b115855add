//! `auth.one_time_tokens`: the codes and links in mails.

use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Db, Result};

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Confirms an address, accepts an invitation.
    Confirmation,
    /// Signs in without a password.
    Recovery,
    /// Sent to the new address.
    EmailChangeNew,
    /// Sent to the old address.
    EmailChangeCurrent,
    /// Says that it is really the user.
    Reauthentication,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Confirmation => "confirmation_token",
            Self::Recovery => "recovery_token",
            Self::EmailChangeNew => "email_change_token_new",
            Self::EmailChangeCurrent => "email_change_token_current",
            Self::Reauthentication => "reauthentication_token",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Confirmation, Self::Recovery, Self::EmailChangeNew, Self::EmailChangeCurrent, Self::Reauthentication]
            .into_iter()
            .find(|purpose| purpose.name() == name)
    }
}

/// A token that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Whose.
    pub user: Uuid,
    /// What it is for.
    pub purpose: Purpose,
    /// Its hash, with the prefix of PKCE flows.
    pub hash: String,
    /// When it was made.
    pub at: Option<OffsetDateTime>,
}

const COLUMNS: &str = "user_id, token_type::text, token_hash, created_at at time zone 'utc'";

fn read(row: &Row) -> Result<Option<Sent>> {
    let purpose: String = row.try_get(1)?;
    let Some(purpose) = Purpose::parse(&purpose) else { return Ok(None) };
    Ok(Some(Sent { user: row.try_get(0)?, purpose, hash: row.try_get(2)?, at: row.try_get(3)? }))
}

/// Stores a token in place of the former one for the same purpose.
pub async fn put(db: &impl Db, user: Uuid, purpose: Purpose, hash: &str, address: &str) -> Result<()> {
    let sql = "insert into auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to, created_at, \
               updated_at) values (gen_random_uuid(), $1, $2::text::auth.one_time_token_type, $3, $4, \
               now() at time zone 'utc', now() at time zone 'utc') \
               on conflict (user_id, token_type) do update set token_hash = excluded.token_hash, \
               relates_to = excluded.relates_to, attempts = 0, created_at = excluded.created_at, \
               updated_at = excluded.updated_at";
    let address = address.to_lowercase();
    db.execute_typed(
        sql,
        &[(&user, Type::UUID), (&purpose.name(), Type::TEXT), (&hash, Type::TEXT), (&address, Type::TEXT)],
    )
    .await?;
    Ok(())
}

/// The token with a hash.
pub async fn by_hash(db: &impl Db, hash: &str, purposes: &[Purpose]) -> Result<Option<Sent>> {
    let sql = format!(
        "select {COLUMNS} from auth.one_time_tokens where token_hash = $1 and token_type::text = any($2) limit 1"
    );
    let names: Vec<&str> = purposes.iter().map(|purpose| purpose.name()).collect();
    let row = db.query_typed_opt(&sql, &[(&hash, Type::TEXT), (&names, Type::TEXT_ARRAY)]).await?;
    row.as_ref().map_or(Ok(None), read)
}

/// The tokens that were sent to an address, at most eight.
pub async fn by_address(db: &impl Db, address: &str, purposes: &[Purpose]) -> Result<Vec<Sent>> {
    let sql = format!(
        "select {COLUMNS} from auth.one_time_tokens where relates_to = $1 and token_type::text = any($2) \
         order by created_at desc limit 8"
    );
    let names: Vec<&str> = purposes.iter().map(|purpose| purpose.name()).collect();
    let rows = db.query_typed(&sql, &[(&address, Type::TEXT), (&names, Type::TEXT_ARRAY)]).await?;
    Ok(rows.iter().map(read).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The token of a user.
pub async fn of_user(db: &impl Db, user: Uuid, purpose: Purpose) -> Result<Option<Sent>> {
    let sql =
        format!("select {COLUMNS} from auth.one_time_tokens where user_id = $1 and token_type::text = $2 limit 1");
    let row = db.query_typed_opt(&sql, &[(&user, Type::UUID), (&purpose.name(), Type::TEXT)]).await?;
    row.as_ref().map_or(Ok(None), read)
}

/// Counts a wrong code against tokens, and forgets those that have been tried too often.
pub async fn miss(db: &impl Db, user: Uuid, purposes: &[Purpose], most: i32) -> Result<()> {
    let names: Vec<&str> = purposes.iter().map(|purpose| purpose.name()).collect();
    let count = "update auth.one_time_tokens set attempts = attempts + 1 where user_id = $1 and \
                 token_type::text = any($2)";
    db.execute_typed(count, &[(&user, Type::UUID), (&names, Type::TEXT_ARRAY)]).await?;
    let forget = "delete from auth.one_time_tokens where user_id = $1 and token_type::text = any($2) and \
                  attempts >= $3";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&user, Type::UUID), (&names, Type::TEXT_ARRAY), (&most, Type::INT4)];
    db.execute_typed(forget, &parameters).await?;
    Ok(())
}

/// Forgets one token.
pub async fn take(db: &impl Db, user: Uuid, purpose: Purpose) -> Result<()> {
    let sql = "delete from auth.one_time_tokens where user_id = $1 and token_type::text = $2";
    db.execute_typed(sql, &[(&user, Type::UUID), (&purpose.name(), Type::TEXT)]).await?;
    Ok(())
}

/// Forgets all tokens of a user.
pub async fn clear(db: &impl Db, user: Uuid) -> Result<()> {
    db.execute_typed("delete from auth.one_time_tokens where user_id = $1", &[(&user, Type::UUID)]).await?;
    Ok(())
}
