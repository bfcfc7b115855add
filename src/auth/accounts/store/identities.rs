//! `auth.identities`: the ways to sign in.

use time::OffsetDateTime;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

use super::{Db, Result};
use crate::auth::accounts::user::{Data, Identity, User, moment};

/// Whose an identity is.
pub async fn owner(db: &impl Db, provider: &str, provider_id: &str) -> Result<Option<Uuid>> {
    let sql = "select user_id from auth.identities where provider = $1 and provider_id = $2";
    let row = db.query_typed_opt(sql, &[(&provider, Type::TEXT), (&provider_id, Type::TEXT)]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Adds an identity to the user, in the database and in `user`.
pub async fn add(
    db: &impl Db,
    user: &mut User,
    provider: &str,
    provider_id: &str,
    data: Data,
    now: OffsetDateTime,
) -> Result<()> {
    let id = Uuid::new_v4();
    let sql = "insert into auth.identities (id, provider_id, user_id, identity_data, provider, last_sign_in_at, \
               created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $6, $6)";
    db.execute_typed(
        sql,
        &[
            (&id, Type::UUID),
            (&provider_id, Type::TEXT),
            (&user.id, Type::UUID),
            (&Json(&data), Type::JSONB),
            (&provider, Type::TEXT),
            (&now, Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    let at = Some(moment(now));
    user.identities.push(Identity {
        identity_id: id,
        id: provider_id.to_owned(),
        user_id: user.id,
        email: data.get("email").and_then(|email| email.as_str()).map(str::to_lowercase),
        identity_data: data,
        provider: provider.to_owned(),
        last_sign_in_at: at.clone(),
        created_at: at.clone(),
        updated_at: at,
    });
    Ok(())
}

/// Writes what the provider says about the user, in the database and in `user`.
pub async fn update(db: &impl Db, user: &mut User, id: Uuid, data: Data, now: OffsetDateTime) -> Result<()> {
    let sql = "update auth.identities set identity_data = $2, last_sign_in_at = $3, updated_at = $3 where id = $1";
    db.execute_typed(sql, &[(&id, Type::UUID), (&Json(&data), Type::JSONB), (&now, Type::TIMESTAMPTZ)]).await?;
    if let Some(identity) = user.identities.iter_mut().find(|identity| identity.identity_id == id) {
        identity.email = data.get("email").and_then(|email| email.as_str()).map(str::to_lowercase);
        identity.identity_data = data;
        identity.last_sign_in_at = Some(moment(now));
        identity.updated_at = Some(moment(now));
    }
    Ok(())
}

/// Removes identities, in the database and in `user`.
pub async fn remove(db: &impl Db, user: &mut User, ids: &[Uuid]) -> Result<()> {
    let sql = "delete from auth.identities where user_id = $1 and id = any($2)";
    db.execute_typed(sql, &[(&user.id, Type::UUID), (&ids, Type::UUID_ARRAY)]).await?;
    user.identities.retain(|identity| !ids.contains(&identity.identity_id));
    Ok(())
}
