//! `auth.flow_state`: what is between the first step of a flow and its last, when the user is elsewhere meanwhile.

use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Db, Result};
use crate::auth::accounts::token::{self, Challenge};

/// A flow.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// The row; the `state` that a provider hands back.
    pub id: Uuid,
    /// Whose, once that is known.
    pub user: Option<Uuid>,
    /// What the client proves that it began the flow with.
    pub challenge: Option<Challenge>,
    /// The provider, or the way to sign in.
    pub provider: String,
    /// The way to sign in, as it will stand in the token.
    pub method: String,
    /// When the code was made.
    pub issued_at: Option<OffsetDateTime>,
    /// Where the user is sent in the end; was allowed.
    pub redirect_to: Option<String>,
    /// The `nonce` in the provider's answer.
    pub nonce: Option<String>,
    /// What Beacon proves to the provider.
    pub verifier: Option<String>,
    /// Who adds an identity.
    pub linking: Option<Uuid>,
    /// The provider's tokens.
    pub access_token: Option<String>,
    /// The provider's tokens.
    pub refresh_token: Option<String>,
}

const COLUMNS: &str = "id, user_id, code_challenge_method::text, code_challenge, provider_type, \
                       authentication_method, auth_code_issued_at, redirect_to, nonce, provider_verifier, \
                       linking_user_id, provider_access_token, provider_refresh_token";

fn read(row: &Row) -> Result<Flow> {
    let method: Option<String> = row.try_get(2)?;
    let value: Option<String> = row.try_get(3)?;
    let challenge = match (method.as_deref(), value) {
        (Some("s256"), Some(value)) if !value.is_empty() => Some(Challenge { method: "s256", value }),
        (Some("plain"), Some(value)) if !value.is_empty() => Some(Challenge { method: "plain", value }),
        _ => None,
    };
    Ok(Flow {
        id: row.try_get(0)?,
        user: row.try_get(1)?,
        challenge,
        provider: row.try_get(4)?,
        method: row.try_get(5)?,
        issued_at: row.try_get(6)?,
        redirect_to: row.try_get(7)?,
        nonce: row.try_get(8)?,
        verifier: row.try_get(9)?,
        linking: row.try_get(10)?,
        access_token: row.try_get(11)?,
        refresh_token: row.try_get(12)?,
    })
}

/// Begins a flow.
pub async fn begin(db: &impl Db, flow: &Flow) -> Result<()> {
    let sql = "insert into auth.flow_state (id, user_id, code_challenge_method, code_challenge, provider_type, \
               authentication_method, created_at, updated_at, redirect_to, nonce, provider_verifier, linking_user_id) \
               values ($1, $2, $3::text::auth.code_challenge_method, $4, $5, $6, now(), now(), $7, $8, $9, $10)";
    let method = flow.challenge.as_ref().map(|challenge| challenge.method);
    let value = flow.challenge.as_ref().map(|challenge| challenge.value.as_str());
    db.execute_typed(
        sql,
        &[
            (&flow.id, Type::UUID),
            (&flow.user, Type::UUID),
            (&method, Type::TEXT),
            (&value, Type::TEXT),
            (&flow.provider, Type::TEXT),
            (&flow.method, Type::TEXT),
            (&flow.redirect_to, Type::TEXT),
            (&flow.nonce, Type::TEXT),
            (&flow.verifier, Type::TEXT),
            (&flow.linking, Type::UUID),
        ],
    )
    .await?;
    Ok(())
}

/// The flow whose `state` a provider hands back, taken out: it counts once, and for so long.
pub async fn take(db: &impl Db, id: Uuid, within: std::time::Duration) -> Result<Option<Flow>> {
    let sql = format!(
        "delete from auth.flow_state where id = $1 and provider_verifier is not null and auth_code_issued_at is null \
         and created_at > now() - make_interval(secs => $2) returning {COLUMNS}"
    );
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&id, Type::UUID), (&within.as_secs_f64(), Type::FLOAT8)];
    db.query_typed_opt(&sql, &parameters).await?.as_ref().map(read).transpose()
}

/// The latest flow of a user by a way to sign in, whose code was not made yet.
pub async fn of_user(db: &impl Db, user: Uuid, method: &str) -> Result<Option<Flow>> {
    let sql = format!(
        "select {COLUMNS} from auth.flow_state where user_id = $1 and authentication_method = $2 and \
         code_challenge is not null and auth_code_issued_at is null order by created_at desc limit 1"
    );
    db.query_typed_opt(&sql, &[(&user, Type::UUID), (&method, Type::TEXT)]).await?.as_ref().map(read).transpose()
}

/// A flow whose code was made, locked: the code counts once.
pub async fn lock_code(db: &impl Db, code: &str) -> Result<Option<Flow>> {
    let sql = format!(
        "select {COLUMNS} from auth.flow_state where auth_code = $1 and \
                       auth_code_issued_at is not null for update"
    );
    let digest = token::digest(code);
    db.query_typed_opt(&sql, &[(&digest, Type::TEXT)]).await?.as_ref().map(read).transpose()
}

/// Notes the code of a flow, whose it is, and the provider's tokens.
pub async fn issue(db: &impl Db, flow: &Flow, user: Uuid, code: &str) -> Result<()> {
    let sql = "update auth.flow_state set auth_code = $2, user_id = $3, auth_code_issued_at = now(), \
               updated_at = now(), provider_access_token = $4, provider_refresh_token = $5, provider_verifier = null, \
               nonce = null where id = $1";
    db.execute_typed(
        sql,
        &[
            (&flow.id, Type::UUID),
            (&token::digest(code), Type::TEXT),
            (&user, Type::UUID),
            (&flow.access_token, Type::TEXT),
            (&flow.refresh_token, Type::TEXT),
        ],
    )
    .await?;
    Ok(())
}

/// Ends a flow.
pub async fn end(db: &impl Db, id: Uuid) -> Result<()> {
    db.execute_typed("delete from auth.flow_state where id = $1", &[(&id, Type::UUID)]).await?;
    Ok(())
}
