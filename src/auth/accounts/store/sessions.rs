//! `auth.sessions`, `auth.refresh_tokens` and `auth.mfa_amr_claims`.
//!
//! A refresh token is stored as its SHA-256. One of 12 characters comes from another server of this dialect, which
//! stores them as they are; it is found too, so that sessions outlive a move.

use std::net::IpAddr;

use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Db, Result};
use crate::auth::accounts::token;

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The row.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// When it began.
    pub created_at: Option<OffsetDateTime>,
    /// When it was refreshed last.
    pub refreshed_at: Option<OffsetDateTime>,
    /// When it ends.
    pub not_after: Option<OffsetDateTime>,
    /// "aal1" or "aal2".
    pub aal: String,
    /// What successors of refresh tokens follow from.
    pub key: Option<String>,
    /// How the user signed in, the latest first, with the seconds since 1970.
    pub methods: Vec<(String, i64)>,
}

/// A refresh token's row.
#[derive(Clone, Debug)]
pub struct Token {
    /// The row.
    pub id: i64,
    /// What is stored: usually a hash.
    pub stored: String,
    /// Whether it was used.
    pub revoked: bool,
    /// When it was made, or used.
    pub updated_at: Option<OffsetDateTime>,
}

/// What a new session begins with.
pub struct Opening<'a> {
    /// The session.
    pub id: Uuid,
    /// Whose.
    pub user: Uuid,
    /// How the user signed in.
    pub method: &'a str,
    /// What successors follow from.
    pub key: &'a str,
    /// The refresh token itself.
    pub token: &'a str,
    /// The client's program.
    pub agent: Option<&'a str>,
    /// The client's address.
    pub client: IpAddr,
    /// Now.
    pub now: OffsetDateTime,
}

const COLUMNS: &str = "s.id, s.user_id, s.created_at, s.refreshed_at at time zone 'utc' as refreshed_at, s.not_after, \
                       coalesce(s.aal::text, 'aal1') as aal, s.refresh_token_hmac_key, \
                       array(select authentication_method from auth.mfa_amr_claims m where m.session_id = s.id \
                       order by updated_at desc, id) as methods, \
                       array(select extract(epoch from updated_at)::int8 from auth.mfa_amr_claims m \
                       where m.session_id = s.id order by updated_at desc, id) as moments";

impl Session {
    fn read(row: &Row) -> Result<Self> {
        let methods: Vec<String> = row.try_get("methods")?;
        let moments: Vec<i64> = row.try_get("moments")?;
        Ok(Self {
            id: row.try_get("id")?,
            user_id: row.try_get("user_id")?,
            created_at: row.try_get("created_at")?,
            refreshed_at: row.try_get("refreshed_at")?,
            not_after: row.try_get("not_after")?,
            aal: row.try_get("aal")?,
            key: row.try_get("refresh_token_hmac_key")?,
            methods: methods.into_iter().zip(moments).collect(),
        })
    }
}

/// Begins a session, with its first refresh token, and notes the sign-in, in one statement.
pub async fn open(db: &impl Db, opening: &Opening<'_>) -> Result<()> {
    let sql = "with session as (insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent, ip, \
               refresh_token_hmac_key) values ($1, $2, $3, $3, 'aal1', $4, $5, $6)), \
               method as (insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, \
               authentication_method) values (gen_random_uuid(), $1, $3, $3, $7)), \
               token as (insert into auth.refresh_tokens (instance_id, token, user_id, revoked, created_at, \
               updated_at, parent, session_id) values ('00000000-0000-0000-0000-000000000000', $8, $9, false, $3, $3, \
               null, $1)) \
               update auth.users set last_sign_in_at = $3, updated_at = $3 where id = $2";
    db.execute_typed(
        sql,
        &[
            (&opening.id, Type::UUID),
            (&opening.user, Type::UUID),
            (&opening.now, Type::TIMESTAMPTZ),
            (&opening.agent, Type::TEXT),
            (&opening.client, Type::INET),
            (&opening.key, Type::TEXT),
            (&opening.method, Type::TEXT),
            (&token::digest(opening.token), Type::TEXT),
            (&opening.user.to_string(), Type::TEXT),
        ],
    )
    .await?;
    Ok(())
}

/// A session.
pub async fn by_id(db: &impl Db, id: Uuid) -> Result<Option<Session>> {
    let sql = format!("select {COLUMNS} from auth.sessions s where s.id = $1");
    db.query_typed_opt(&sql, &[(&id, Type::UUID)]).await?.as_ref().map(Session::read).transpose()
}

/// A session, locked until the end of the transaction.
pub async fn lock(db: &impl Db, id: Uuid) -> Result<Option<Session>> {
    db.query_typed("select 1 from auth.sessions where id = $1 for update", &[(&id, Type::UUID)]).await?;
    by_id(db, id).await
}

/// Which session a refresh token belongs to; inside, nothing if the session is gone.
pub async fn of_token(db: &impl Db, presented: &str) -> Result<Option<Option<Uuid>>> {
    let sql = "select session_id from auth.refresh_tokens where token = $1 or (token = $2 and length(token) = 12)";
    let digest = token::digest(presented);
    let row = db.query_typed_opt(sql, &[(&digest, Type::TEXT), (&presented, Type::TEXT)]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// A refresh token, in a session that is locked.
pub async fn token(db: &impl Db, session: Uuid, presented: &str) -> Result<Option<Token>> {
    let sql = "select id, token, revoked, updated_at from auth.refresh_tokens where session_id = $1 and \
               (token = $2 or (token = $3 and length(token) = 12))";
    let digest = token::digest(presented);
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&session, Type::UUID), (&digest, Type::TEXT), (&presented, Type::TEXT)];
    db.query_typed_opt(sql, &parameters).await?.as_ref().map(read_token).transpose()
}

/// The latest refresh token of a session that was not used yet.
pub async fn active_token(db: &impl Db, session: Uuid) -> Result<Option<Token>> {
    let sql = "select id, token, revoked, updated_at from auth.refresh_tokens where session_id = $1 and \
               revoked is not true order by id desc limit 1";
    db.query_typed_opt(sql, &[(&session, Type::UUID)]).await?.as_ref().map(read_token).transpose()
}

fn read_token(row: &Row) -> Result<Token> {
    Ok(Token {
        id: row.try_get(0)?,
        stored: row.try_get::<_, Option<String>>(1)?.unwrap_or_default(),
        revoked: row.try_get::<_, Option<bool>>(2)?.unwrap_or_default(),
        updated_at: row.try_get(3)?,
    })
}

/// Replaces a refresh token by `next`.
pub async fn rotate(
    db: &impl Db,
    session: &Session,
    used: Option<&Token>,
    next: &str,
    now: OffsetDateTime,
) -> Result<()> {
    let sql = "with used as (update auth.refresh_tokens set revoked = true, updated_at = $5 where id = $1 and \
               revoked is not true) \
               insert into auth.refresh_tokens (instance_id, token, user_id, revoked, created_at, updated_at, parent, \
               session_id) values ('00000000-0000-0000-0000-000000000000', $2, $3, false, $5, $5, $4, $6)";
    db.execute_typed(
        sql,
        &[
            (&used.map(|used| used.id), Type::INT8),
            (&token::digest(next), Type::TEXT),
            (&session.user_id.to_string(), Type::TEXT),
            (&used.map(|used| used.stored.as_str()), Type::TEXT),
            (&now, Type::TIMESTAMPTZ),
            (&session.id, Type::UUID),
        ],
    )
    .await?;
    Ok(())
}

/// Notes that a session was refreshed, and from where. `key` is for sessions that have none yet.
pub async fn refreshed(
    db: &impl Db,
    session: &Session,
    agent: Option<&str>,
    client: IpAddr,
    key: &str,
    now: OffsetDateTime,
) -> Result<()> {
    let sql = "update auth.sessions set refreshed_at = $2 at time zone 'utc', updated_at = $2, user_agent = $3, \
               ip = $4, refresh_token_hmac_key = coalesce(refresh_token_hmac_key, $5) where id = $1";
    db.execute_typed(
        sql,
        &[
            (&session.id, Type::UUID),
            (&now, Type::TIMESTAMPTZ),
            (&agent, Type::TEXT),
            (&client, Type::INET),
            (&key, Type::TEXT),
        ],
    )
    .await?;
    Ok(())
}

/// Makes all refresh tokens of a session unusable: one of them was used by two.
pub async fn revoke_tokens(db: &impl Db, session: Uuid, now: OffsetDateTime) -> Result<()> {
    let sql = "update auth.refresh_tokens set revoked = true, updated_at = $2 where session_id = $1 and \
               revoked is not true";
    db.execute_typed(sql, &[(&session, Type::UUID), (&now, Type::TIMESTAMPTZ)]).await?;
    Ok(())
}

/// Notes another way in which the session's user signed in, and raises the session with it.
pub async fn raise(db: &impl Db, session: Uuid, method: &str, factor: Uuid, now: OffsetDateTime) -> Result<()> {
    let sql = "with method as (insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, \
               authentication_method) values (gen_random_uuid(), $1, $4, $4, $2) \
               on conflict (session_id, authentication_method) do update set updated_at = excluded.updated_at) \
               update auth.sessions set aal = 'aal2', factor_id = $3, updated_at = $4 where id = $1";
    db.execute_typed(
        sql,
        &[(&session, Type::UUID), (&method, Type::TEXT), (&factor, Type::UUID), (&now, Type::TIMESTAMPTZ)],
    )
    .await?;
    Ok(())
}

/// Takes a session that a removed factor raised down again.
pub async fn lower(db: &impl Db, user: Uuid, factor: Uuid) -> Result<()> {
    let sql = "with lowered as (update auth.sessions set aal = 'aal1', factor_id = null where user_id = $1 and \
               factor_id = $2 returning id) \
               delete from auth.mfa_amr_claims where session_id in (select id from lowered) and \
               authentication_method in ('totp', 'mfa/phone', 'mfa/webauthn')";
    db.execute_typed(sql, &[(&user, Type::UUID), (&factor, Type::UUID)]).await?;
    Ok(())
}

/// Which sessions of a user end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// This one.
    This(Uuid),
    /// All but this one.
    Others(Uuid),
    /// All but this one, of those that no second factor raised.
    Lower(Uuid),
}

/// Ends sessions.
pub async fn close(db: &impl Db, user: Uuid, which: Which) -> Result<()> {
    let (sql, session) = match which {
        Which::All => ("delete from auth.sessions where user_id = $1 and $2::uuid is null", None),
        Which::This(id) => ("delete from auth.sessions where user_id = $1 and id = $2", Some(id)),
        Which::Others(id) => ("delete from auth.sessions where user_id = $1 and id <> $2", Some(id)),
        Which::Lower(id) => {
            ("delete from auth.sessions where user_id = $1 and id <> $2 and coalesce(aal, 'aal1') < 'aal2'", Some(id))
        }
    };
    db.execute_typed(sql, &[(&user, Type::UUID), (&session, Type::UUID)]).await?;
    Ok(())
}

/// Forgets what is over: sessions by their configured end, tokens of PKCE flows, old challenges. Small bites, so that it
/// never holds anybody up.
pub async fn sweep(db: &impl Db, timebox: Option<f64>, inactivity: Option<f64>) -> Result<()> {
    let sql = "delete from auth.sessions where id in (select id from auth.sessions where \
               not_after < now() - interval '1 day' or \
               created_at < now() - make_interval(secs => $1) - interval '1 day' or \
               coalesce(refreshed_at at time zone 'utc', created_at) < now() - make_interval(secs => $2) - \
               interval '1 day' limit 500 for update skip locked)";
    db.execute_typed(sql, &[(&timebox, Type::FLOAT8), (&inactivity, Type::FLOAT8)]).await?;
    let rest = "delete from auth.flow_state where id in (select id from auth.flow_state where \
                created_at < now() - interval '1 day' limit 500 for update skip locked); \
                delete from auth.mfa_challenges where id in (select id from auth.mfa_challenges where \
                created_at < now() - interval '1 day' limit 500 for update skip locked); \
                delete from auth.refresh_tokens where id in (select id from auth.refresh_tokens where revoked and \
                updated_at < now() - interval '30 days' limit 500 for update skip locked); \
                delete from auth.one_time_tokens where id in (select id from auth.one_time_tokens where \
                created_at < now() at time zone 'utc' - interval '2 days' limit 500 for update skip locked)";
    db.batch_execute(rest).await
}
