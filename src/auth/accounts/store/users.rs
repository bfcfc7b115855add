//! `auth.users`, with identities and factors.

use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

use super::{Db, Result};
use crate::auth::accounts::user::User;

/// Everything of a user that is read. Times inside of JSON have the form of `user::moment`.
macro_rules! select {
    ($rest:expr) => {
        concat!(
            "select u.id, u.aud, u.role, u.email, u.phone, u.encrypted_password, u.email_confirmed_at, \
             u.phone_confirmed_at, u.invited_at, u.confirmation_token, u.confirmation_sent_at, u.recovery_token, \
             u.recovery_sent_at, u.email_change_token_new, u.email_change_token_current, u.email_change, \
             u.email_change_sent_at, u.email_change_confirm_status, u.phone_change, u.reauthentication_token, \
             u.reauthentication_sent_at, u.last_sign_in_at, u.raw_app_meta_data, u.raw_user_meta_data, u.created_at, \
             u.updated_at, u.banned_until, u.is_sso_user, u.deleted_at, u.is_anonymous, \
             coalesce((select jsonb_agg(jsonb_build_object('identity_id', i.id, 'id', i.provider_id, \
               'user_id', i.user_id, 'identity_data', i.identity_data, 'provider', i.provider, 'email', i.email, \
               'last_sign_in_at', to_char(i.last_sign_in_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
               'created_at', to_char(i.created_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
               'updated_at', to_char(i.updated_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')) \
               order by i.created_at, i.provider <> 'email', i.id) from auth.identities i where i.user_id = u.id), '[]') as identities, \
             coalesce((select jsonb_agg(jsonb_build_object('id', f.id, 'friendly_name', f.friendly_name, \
               'factor_type', f.factor_type::text, 'status', f.status::text, \
               'created_at', to_char(f.created_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
               'updated_at', to_char(f.updated_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
               'last_challenged_at', \
               to_char(f.last_challenged_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')) \
               order by f.created_at, f.id) from auth.mfa_factors f where f.user_id = u.id), '[]') as factors \
             from auth.users u ",
            $rest
        )
    };
}

fn one(row: Option<&Row>) -> Result<Option<User>> {
    row.map(User::read).transpose()
}

/// The user with an identifier.
pub async fn by_id(db: &impl Db, id: Uuid) -> Result<Option<User>> {
    one(db.query_typed_opt(select!("where u.id = $1"), &[(&id, Type::UUID)]).await?.as_ref())
}

/// The user with an identifier, whose row is locked until the end of the transaction. The row is locked by a statement
/// of its own, so that identities and factors are those of after the wait.
pub async fn lock(db: &impl Db, id: Uuid) -> Result<Option<User>> {
    db.query_typed("select 1 from auth.users where id = $1 for update", &[(&id, Type::UUID)]).await?;
    by_id(db, id).await
}

/// The identifier of the user with an address in lower case. Rows that others wrote may have capitals in it.
pub async fn id_of_email(db: &impl Db, email: &str) -> Result<Option<Uuid>> {
    let sql = "select id from auth.users where (email = $1 or (lower(email::text) = $1 and \
               instance_id = '00000000-0000-0000-0000-000000000000')) and not is_sso_user \
               order by email = $1 desc limit 1";
    db.query_typed_opt(sql, &[(&email, Type::TEXT)]).await?.map(|row| row.try_get(0)).transpose()
}

/// The user with an address in lower case.
pub async fn by_email(db: &impl Db, email: &str) -> Result<Option<User>> {
    let sql = select!(
        "where (u.email = $1 or (lower(u.email::text) = $1 and \
         u.instance_id = '00000000-0000-0000-0000-000000000000')) and not u.is_sso_user \
         order by u.email = $1 desc limit 1"
    );
    one(db.query_typed_opt(sql, &[(&email, Type::TEXT)]).await?.as_ref())
}

/// The user with an address in lower case, locked.
pub async fn lock_email(db: &impl Db, email: &str) -> Result<Option<User>> {
    match id_of_email(db, email).await? {
        Some(id) => lock(db, id).await,
        None => Ok(None),
    }
}

/// The user with a number.
pub async fn by_phone(db: &impl Db, phone: &str) -> Result<Option<User>> {
    let sql = select!("where u.phone = $1 and not u.is_sso_user limit 1");
    one(db.query_typed_opt(sql, &[(&phone, Type::TEXT)]).await?.as_ref())
}

/// Whether somebody other than `but` has an address, as their own or as that of an identity.
pub async fn is_taken(db: &impl Db, email: &str, but: Option<Uuid>) -> Result<bool> {
    let sql = "select exists (select from auth.users where (email = $1 or (lower(email::text) = $1 and \
               instance_id = '00000000-0000-0000-0000-000000000000')) and not is_sso_user and id is distinct from $2) \
               or exists (select from auth.identities i join auth.users u on u.id = i.user_id where i.email = $1 and \
               not u.is_sso_user and i.user_id is distinct from $2)";
    db.query_typed_one(sql, &[(&email, Type::TEXT), (&but, Type::UUID)]).await?.try_get(0)
}

/// Whether somebody other than `but` has a number.
pub async fn is_phone_taken(db: &impl Db, phone: &str, but: Option<Uuid>) -> Result<bool> {
    let sql = "select exists (select from auth.users where phone = $1 and id is distinct from $2)";
    db.query_typed_one(sql, &[(&phone, Type::TEXT), (&but, Type::UUID)]).await?.try_get(0)
}

/// Who has an address in lower case, as their own (first, and `true`) or by an identity whose provider has verified it.
pub async fn of_address(db: &impl Db, email: &str) -> Result<Vec<(Uuid, bool)>> {
    let sql = "select id, bool_or(own) from (select id, true as own from auth.users where (email = $1 or \
               (lower(email::text) = $1 and instance_id = '00000000-0000-0000-0000-000000000000')) and not is_sso_user \
               union all select u.id, false from auth.identities i join auth.users u on u.id = i.user_id where \
               i.email = $1 and i.provider not in ('email', 'phone') and not u.is_sso_user and \
               i.identity_data ->> 'email_verified' = 'true') found group by id order by 2 desc, 1";
    let rows = db.query_typed(sql, &[(&email, Type::TEXT)]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Writes a new row.
pub async fn insert(db: &impl Db, user: &User) -> Result<()> {
    let sql = "insert into auth.users (instance_id, id, aud, role, email, phone, encrypted_password, \
               confirmation_token, recovery_token, email_change_token_new, email_change_token_current, email_change, \
               phone_change, phone_change_token, reauthentication_token, raw_app_meta_data, raw_user_meta_data, \
               created_at, updated_at, is_sso_user, is_anonymous, email_confirmed_at, phone_confirmed_at, \
               invited_at, banned_until) \
               values ('00000000-0000-0000-0000-000000000000', $1, $2, $3, $4, $5, $6, '', '', '', '', '', '', '', '', \
               $7, $8, $9, $9, $10, $11, $12, $13, $14, $15)";
    db.execute_typed(
        sql,
        &[
            (&user.id, Type::UUID),
            (&user.aud, Type::TEXT),
            (&user.role, Type::TEXT),
            (&user.email, Type::TEXT),
            (&user.phone, Type::TEXT),
            (&user.encrypted_password, Type::TEXT),
            (&Json(&user.app_metadata), Type::JSONB),
            (&Json(&user.user_metadata), Type::JSONB),
            (&user.created_at, Type::TIMESTAMPTZ),
            (&user.is_sso_user, Type::BOOL),
            (&user.is_anonymous, Type::BOOL),
            (&user.email_confirmed_at, Type::TIMESTAMPTZ),
            (&user.phone_confirmed_at, Type::TIMESTAMPTZ),
            (&user.invited_at, Type::TIMESTAMPTZ),
            (&user.banned_until, Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    Ok(())
}

/// Writes a row that was locked. Absent tokens are written empty, as others of this dialect want them.
pub async fn save(db: &impl Db, user: &mut User) -> Result<()> {
    let sql = "update auth.users set aud = $2, role = $3, email = $4, phone = $5, encrypted_password = $6, \
               email_confirmed_at = $7, phone_confirmed_at = $8, invited_at = $9, \
               confirmation_token = coalesce($10, ''), confirmation_sent_at = $11, \
               recovery_token = coalesce($12, ''), recovery_sent_at = $13, \
               email_change_token_new = coalesce($14, ''), email_change_token_current = coalesce($15, ''), \
               email_change = coalesce($16, ''), email_change_sent_at = $17, email_change_confirm_status = $18, \
               phone_change = coalesce($19, ''), reauthentication_token = coalesce($20, ''), \
               reauthentication_sent_at = $21, last_sign_in_at = $22, raw_app_meta_data = $23, \
               raw_user_meta_data = $24, updated_at = $25, banned_until = $26, deleted_at = $27, is_anonymous = $28 \
               where id = $1";
    user.updated_at = Some(OffsetDateTime::now_utc());
    db.execute_typed(
        sql,
        &[
            (&user.id, Type::UUID),
            (&user.aud, Type::TEXT),
            (&user.role, Type::TEXT),
            (&user.email, Type::TEXT),
            (&user.phone, Type::TEXT),
            (&user.encrypted_password, Type::TEXT),
            (&user.email_confirmed_at, Type::TIMESTAMPTZ),
            (&user.phone_confirmed_at, Type::TIMESTAMPTZ),
            (&user.invited_at, Type::TIMESTAMPTZ),
            (&user.confirmation_token, Type::TEXT),
            (&user.confirmation_sent_at, Type::TIMESTAMPTZ),
            (&user.recovery_token, Type::TEXT),
            (&user.recovery_sent_at, Type::TIMESTAMPTZ),
            (&user.email_change_token_new, Type::TEXT),
            (&user.email_change_token_current, Type::TEXT),
            (&user.email_change, Type::TEXT),
            (&user.email_change_sent_at, Type::TIMESTAMPTZ),
            (&user.email_change_confirm_status, Type::INT2),
            (&user.phone_change, Type::TEXT),
            (&user.reauthentication_token, Type::TEXT),
            (&user.reauthentication_sent_at, Type::TIMESTAMPTZ),
            (&user.last_sign_in_at, Type::TIMESTAMPTZ),
            (&Json(&user.app_metadata), Type::JSONB),
            (&Json(&user.user_metadata), Type::JSONB),
            (&user.updated_at, Type::TIMESTAMPTZ),
            (&user.banned_until, Type::TIMESTAMPTZ),
            (&user.deleted_at, Type::TIMESTAMPTZ),
            (&user.is_anonymous, Type::BOOL),
        ],
    )
    .await?;
    Ok(())
}

/// Replaces the hash of a password, unless it has been changed meanwhile.
pub async fn upgrade_password(db: &impl Db, id: Uuid, old: &str, new: &str) -> Result<()> {
    let sql = "update auth.users set encrypted_password = $3 where id = $1 and encrypted_password = $2";
    db.execute_typed(sql, &[(&id, Type::UUID), (&old, Type::TEXT), (&new, Type::TEXT)]).await?;
    Ok(())
}

/// Removes a row, and with it everything that belongs to the user.
pub async fn delete(db: &impl Db, id: Uuid) -> Result<()> {
    // The column has no foreign key.
    let user = id.to_string();
    db.execute_typed("delete from auth.refresh_tokens where user_id = $1", &[(&user, Type::TEXT)]).await?;
    db.execute_typed("delete from auth.flow_state where user_id = $1", &[(&id, Type::UUID)]).await?;
    db.execute_typed("delete from auth.users where id = $1", &[(&id, Type::UUID)]).await?;
    Ok(())
}

/// Which users are listed, and which of them.
#[derive(Clone, Debug)]
pub struct Page {
    /// Rows before it.
    pub offset: i64,
    /// Rows on it.
    pub limit: i64,
    /// A part of the address or of the full name; empty is everybody.
    pub filter: String,
    /// The oldest first.
    pub ascending: bool,
}

/// A page of users, and how many there are in all.
pub async fn list(db: &impl Db, page: &Page) -> Result<(Vec<User>, i64)> {
    let pattern = format!("%{}%", page.filter.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
    let count = "select count(*) from auth.users u where $1 = '%%' or u.email ilike $1 or \
                 u.raw_user_meta_data ->> 'full_name' ilike $1";
    let total = db.query_typed_one(count, &[(&pattern, Type::TEXT)]).await?.try_get(0)?;
    let descending = select!(
        "where $1 = '%%' or u.email ilike $1 or u.raw_user_meta_data ->> 'full_name' ilike $1 \
         order by u.created_at desc, u.id desc limit $2 offset $3"
    );
    let ascending = select!(
        "where $1 = '%%' or u.email ilike $1 or u.raw_user_meta_data ->> 'full_name' ilike $1 \
         order by u.created_at, u.id limit $2 offset $3"
    );
    let sql = if page.ascending { ascending } else { descending };
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&pattern, Type::TEXT), (&page.limit, Type::INT8), (&page.offset, Type::INT8)];
    let rows = db.query_typed(sql, &parameters).await?;
    Ok((rows.iter().map(User::read).collect::<Result<_>>()?, total))
}
