//! Accounts as their administrator sees them from the command line: made, listed, disabled, enabled.
//!
//! What is written here must be what sign-up writes, so that such users sign in, change and recover as all others do.

pub mod django;

use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::db::{self, Pool};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is away or refused.
    #[error("the accounts in the database cannot be read or written")]
    Database(#[from] db::Error),
    /// What was given is no address.
    #[error("{0:?} is not an e-mail address")]
    Address(String),
    /// The address belongs to somebody.
    #[error("there is a user with the address {0} already")]
    Taken(String),
    /// There is no such table, or none of Django's users.
    #[error("the database has no table {0} with the columns id and password")]
    NoTable(String),
    /// Nobody is called so.
    #[error("there is no user {0:?}; give an e-mail address or an identifier")]
    Unknown(String),
    /// The address belongs to several, as when an identity provider brought one of them.
    #[error("{count} users have the address {address}; give the identifier of one of them")]
    Several {
        /// What was given.
        address: String,
        /// How many.
        count: usize,
    },
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// A user to make.
#[derive(Clone, Debug)]
pub struct NewUser<'a> {
    /// The address to sign in with.
    pub email: &'a str,
    /// The hash of the password; without one the user signs in by e-mail or sets one by "forgot password".
    pub hash: Option<&'a str>,
    /// Whether the address counts as confirmed.
    pub confirmed: bool,
}

/// A user as lists show it. Times are in RFC 3339, in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Identifies it.
    pub id: Uuid,
    /// The address, if it has one.
    pub email: Option<String>,
    /// The telephone number, if it has one.
    pub phone: Option<String>,
    /// The database role of its tokens.
    pub role: Option<String>,
    /// Whether the address or number is confirmed.
    pub confirmed: bool,
    /// Whether it is kept from signing in.
    pub disabled: bool,
    /// When it was made.
    pub created_at: Option<String>,
    /// When it signed in last.
    pub last_sign_in_at: Option<String>,
}

/// The longest address, in bytes.
const LONGEST: usize = 255;

/// Makes a user, and gives its identifier.
///
/// # Errors
/// No address, one that is taken, or the database is away.
pub async fn create(owner: &Pool, new: &NewUser<'_>) -> Result<Uuid, Error> {
    let email = address(new.email)?;
    let id = Uuid::new_v4();
    let mut session = owner.get().await?;
    let transaction = session.begin().await?;
    // Addresses that others wrote may have capitals, which the unique index tells apart.
    let taken = "select from auth.users where lower(email) = $1 and not is_sso_user";
    if !transaction.query_typed(taken, &[(&email, Type::TEXT)]).await?.is_empty() {
        return Err(Error::Taken(email));
    }
    let app = json!({ "provider": "email", "providers": ["email"] });
    let user = if new.confirmed { json!({ "email_verified": true }) } else { json!({}) };
    // Columns of tokens are empty and not NULL: other programs on this table read them so.
    let sql = "insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
                   confirmation_token, recovery_token, email_change_token_new, email_change_token_current, email_change,
                   phone_change, phone_change_token, reauthentication_token, raw_app_meta_data, raw_user_meta_data,
                   created_at, updated_at)
               values ('00000000-0000-0000-0000-000000000000', $1, 'authenticated', 'authenticated', $2, $3,
                   case when $4 then now() end, '', '', '', '', '', '', '', '', $5, $6, now(), now())
               on conflict (email) where is_sso_user = false do nothing";
    let made = transaction
        .execute_typed(
            sql,
            &[
                (&id, Type::UUID),
                (&email, Type::TEXT),
                (&new.hash, Type::TEXT),
                (&new.confirmed, Type::BOOL),
                (&app, Type::JSONB),
                (&user, Type::JSONB),
            ],
        )
        .await?;
    if made == 0 {
        return Err(Error::Taken(email));
    }
    let identity = json!({ "sub": id, "email": email, "email_verified": new.confirmed, "phone_verified": false });
    let sql = "insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at,
                   updated_at)
               values ($1::text, $1, $2, 'email', now(), now(), now())";
    transaction.execute_typed(sql, &[(&id, Type::UUID), (&identity, Type::JSONB)]).await?;
    transaction.commit().await?;
    Ok(id)
}

/// The latest users whose address, number or identifier contains `part`, at most `limit`.
///
/// # Errors
/// The database is away.
pub async fn list(owner: &Pool, part: &str, limit: u32) -> Result<Vec<Listed>, Error> {
    // As text, because a time may be infinite, which no type of ours can be.
    let sql = "select id, nullif(email, ''), nullif(phone, ''), nullif(role, ''), confirmed_at is not null,
                   coalesce(banned_until > now(), false),
                   to_char(created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                   to_char(last_sign_in_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
               from auth.users
               where deleted_at is null and ($1 = '' or strpos(lower(concat_ws(' ', email, phone, id)), lower($1)) > 0)
               order by created_at desc nulls last, id limit $2";
    let session = owner.get().await?;
    let rows = session.query_typed(sql, &[(&part, Type::TEXT), (&i64::from(limit), Type::INT8)]).await?;
    let listed = rows.iter().map(|row| {
        Ok(Listed {
            id: row.try_get(0)?,
            email: row.try_get(1)?,
            phone: row.try_get(2)?,
            role: row.try_get(3)?,
            confirmed: row.try_get(4)?,
            disabled: row.try_get(5)?,
            created_at: row.try_get(6)?,
            last_sign_in_at: row.try_get(7)?,
        })
    });
    listed.collect()
}

/// Keeps a user, named by address or identifier, from signing in, and ends the sessions. What an access token was
/// signed for goes on until it ends.
///
/// # Errors
/// No such user, several, or the database is away.
pub async fn disable(owner: &Pool, who: &str) -> Result<Uuid, Error> {
    // Far away and not infinite: other programs on this table cannot read that.
    let sql = "with gone as (delete from auth.sessions where user_id = $1),
                    void as (update auth.refresh_tokens set revoked = true, updated_at = now()
                             where user_id = $1::text and session_id is null and revoked is not true)
               update auth.users set banned_until = now() + interval '100 years', updated_at = now() where id = $1";
    change(owner, who, sql).await
}

/// Lets a user sign in again.
///
/// # Errors
/// As [`disable`].
pub async fn enable(owner: &Pool, who: &str) -> Result<Uuid, Error> {
    change(owner, who, "update auth.users set banned_until = null, updated_at = now() where id = $1").await
}

async fn change(owner: &Pool, who: &str, sql: &str) -> Result<Uuid, Error> {
    let mut session = owner.get().await?;
    let transaction = session.begin().await?;
    let by_id = "select id from auth.users where id = $1 and deleted_at is null for update";
    let by_address = "select id from auth.users where lower(email) = lower($1) and deleted_at is null for update";
    let rows = match Uuid::try_parse(who) {
        Ok(id) => transaction.query_typed(by_id, &[(&id, Type::UUID)]).await?,
        Err(_) => transaction.query_typed(by_address, &[(&who, Type::TEXT)]).await?,
    };
    let id: Uuid = match &rows[..] {
        [] => return Err(Error::Unknown(who.to_owned())),
        [row] => row.try_get(0)?,
        several => return Err(Error::Several { address: who.to_owned(), count: several.len() }),
    };
    transaction.execute_typed(sql, &[(&id, Type::UUID)]).await?;
    transaction.commit().await?;
    Ok(id)
}

/// The address as it is stored.
fn address(text: &str) -> Result<String, Error> {
    let (local, domain) = text.rsplit_once('@').unwrap_or_default();
    let harmless = |ch: char| !ch.is_whitespace() && !ch.is_control() && !"\"(),:;<>@[\\]".contains(ch);
    let fits = text.len() <= LONGEST
        && !local.is_empty()
        && local.chars().all(harmless)
        && domain.split('.').all(|label| !label.is_empty() && label.chars().all(harmless));
    if fits { Ok(text.to_lowercase()) } else { Err(Error::Address(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_lower_case_and_harmless() {
        assert_eq!(address("Ann.Smith+x@Example.ORG").unwrap(), "ann.smith+x@example.org");
        assert_eq!(address("root@localhost").unwrap(), "root@localhost");
        for bad in [
            "",
            "ann",
            "@x.org",
            "ann@",
            "ann@x..org",
            "a b@x.org",
            "a@b@x.org",
            "a\n@x.org",
            "<a@x.org>",
            "a@x.org,b@x.org",
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
        assert!(address(&format!("{}@x.org", "a".repeat(LONGEST))).is_err());
    }
}
