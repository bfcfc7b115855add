//! Takes over the users of a Django application from its table in the same database.
//!
//! An identifier follows from the table's name and Django's, so that a second run makes nobody twice and goes on where the first one ended.
//! Hashes of passwords stay as they are: they are verified, and replaced when their user signs in. Nothing is written to
//! Django's table.

use std::collections::HashSet;

use sha1::{Digest as _, Sha1};
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;
use uuid::{Builder, Uuid};

use super::{Error, address};
use crate::auth::passwords::Stored;
use crate::db::Pool;

/// Users that are taken over in one transaction.
const BATCH: i64 = 1_000;
/// Where the identifiers come from; random, and never to change.
const NAMESPACE: Uuid = Uuid::from_u128(0x3d1c_6f0e_58a4_4b7a_9c52_7be1_04d9_a6f3);

/// What to take over.
#[derive(Clone, Debug)]
pub struct Import<'a> {
    /// The table: "auth_user", or that of a user model of one's own, with a schema if it is not on the search path.
    pub table: &'a str,
    /// Whether addresses count as confirmed: Django itself does not know.
    pub confirmed: bool,
    /// Whether everything is done and then taken back.
    pub dry_run: bool,
}

/// How many users of Django's there are, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Taken over.
    pub made: u64,
    /// Taken over before.
    pub known: u64,
    /// Left out; each was told.
    pub left_out: u64,
    /// Taken over with a hash that cannot be verified: these users need a new password; each was told.
    pub without_password: u64,
}

/// What is to be told of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Django's identifier.
    pub id: String,
    /// Django's name of the user.
    pub username: String,
    /// What about it.
    pub what: Remark,
}

/// Why somebody is left out, or needs care.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    /// Neither the address nor the name is an e-mail address.
    #[error("has no e-mail address and is left out")]
    NoAddress,
    /// Somebody has the address, perhaps another user of Django's, where capitals make a difference.
    #[error("has the address {0} of another user and is left out")]
    Taken(String),
    /// The hash cannot be verified.
    #[error("needs a new password: {0}")]
    Password(String),
}

/// A user of Django's.
struct Row {
    id: String,
    new: Uuid,
    email: String,
}

/// Takes over all users; `tell` hears of those that are left out or need care.
///
/// # Errors
/// There is no such table, or the database is away or refuses. What was taken over before stays.
pub async fn import(owner: &Pool, import: &Import<'_>, mut tell: impl FnMut(Told)) -> Result<Report, Error> {
    let mut session = owner.get().await?;
    let (table, kind) = source(&*session, import.table).await?;
    // The unique index tells capitals apart; such addresses were written by others, and are few.
    let capitals = "select lower(email) from auth.users where email <> lower(email) and not is_sso_user";
    let capitals: HashSet<String> = session.query(capitals, &[]).await?.iter().map(|row| row.get(0)).collect();
    let (mut report, mut last) = (Report::default(), None);
    if import.dry_run {
        // In one transaction, so that addresses that come twice are noticed.
        let transaction = session.begin().await?;
        while batch(&transaction, &table, &kind, import, &capitals, &mut last, &mut report, &mut tell).await? {}
        transaction.rollback().await?;
        return Ok(report);
    }
    loop {
        let transaction = session.begin().await?;
        let more = batch(&transaction, &table, &kind, import, &capitals, &mut last, &mut report, &mut tell).await?;
        transaction.commit().await?;
        if !more {
            return Ok(report);
        }
    }
}

/// The table's name and the type of its identifiers, both as PostgreSQL writes them in SQL.
async fn source(client: &impl GenericClient, table: &str) -> Result<(String, String), Error> {
    let sql = "select format('%I.%I', space.nspname, class.relname), format_type(id.atttypid, id.atttypmod)
               from pg_class class join pg_namespace space on space.oid = class.relnamespace
               join pg_attribute id on id.attrelid = class.oid and id.attname = 'id' and not id.attisdropped
               join pg_attribute password on password.attrelid = class.oid and password.attname = 'password'
               where class.oid = to_regclass($1)";
    let found = client.query_typed(sql, &[(&table, Type::TEXT)]).await;
    let rows = match found {
        // A name that cannot be one.
        Err(error) if error.code().is_some_and(|code| code.code().starts_with("42")) => Vec::new(),
        result => result?,
    };
    let row = rows.first().ok_or_else(|| Error::NoTable(table.to_owned()))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Takes over the users that follow `last`; false when there are no more.
#[expect(clippy::too_many_arguments, reason = "one step of the loop above, with what that keeps between steps")]
async fn batch(
    client: &impl GenericClient,
    table: &str,
    kind: &str,
    import: &Import<'_>,
    capitals: &HashSet<String>,
    last: &mut Option<String>,
    report: &mut Report,
    tell: &mut impl FnMut(Told),
) -> Result<bool, Error> {
    // By way of JSON, because a model of one's own may lack columns.
    let sql = format!(
        "select id::text, coalesce(row ->> 'email', ''), coalesce(row ->> 'username', ''),
             coalesce(row ->> 'password', '')
         from (select id, to_jsonb(source) as row from {table} source
               where $1::text is null or id > $1::text::{kind} order by id limit $2) as batch"
    );
    let read = client.query_typed(&sql, &[(&*last, Type::TEXT), (&BATCH, Type::INT8)]).await?;
    let Some(end) = read.last() else { return Ok(false) };
    *last = Some(end.try_get(0)?);
    let more = read.len() as i64 == BATCH;

    let new: Vec<Uuid> = read.iter().map(|row| identifier(table, row.get(0))).collect();
    let known = "select id from auth.users where id = any($1)";
    let known = client.query_typed(known, &[(&new, Type::UUID_ARRAY)]).await?;
    let known: HashSet<Uuid> = known.iter().map(|row| row.get(0)).collect();
    let mut rows: Vec<(Row, Told)> = Vec::with_capacity(read.len());
    let mut taken: HashSet<String> = HashSet::with_capacity(read.len());
    for (row, new) in read.iter().zip(new) {
        let (id, email, username): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if known.contains(&new) {
            report.known += 1;
            continue;
        }
        let told = |what| Told { id: id.clone(), username: username.clone(), what };
        let Ok(email) = address(email.trim()).or_else(|_| address(username.trim())) else {
            report.left_out += 1;
            tell(told(Remark::NoAddress));
            continue;
        };
        // Somebody in this batch, or with capitals, may have it; the rest is the index's to say.
        if capitals.contains(&email) || !taken.insert(email.clone()) {
            report.left_out += 1;
            tell(told(Remark::Taken(email)));
            continue;
        }
        let care = match Stored::parse(row.try_get(3)?) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let told = told(Remark::Password(care));
        rows.push((Row { id, new, email }, told));
    }
    let made = insert(client, table, kind, import.confirmed, &rows).await?;
    for (row, told) in rows {
        if !made.contains(&row.new) {
            report.left_out += 1;
            tell(Told { what: Remark::Taken(row.email), ..told });
            continue;
        }
        report.made += 1;
        if matches!(&told.what, Remark::Password(care) if !care.is_empty()) {
            report.without_password += 1;
            tell(told);
        }
    }
    Ok(more)
}

/// Makes the users, and gives the identifiers of those that were made: not of those whose address is taken.
async fn insert(
    client: &impl GenericClient,
    table: &str,
    kind: &str,
    confirmed: bool,
    rows: &[(Row, Told)],
) -> Result<HashSet<Uuid>, Error> {
    let new: Vec<Uuid> = rows.iter().map(|(row, _)| row.new).collect();
    let old: Vec<&str> = rows.iter().map(|(row, _)| row.id.as_str()).collect();
    let emails: Vec<&str> = rows.iter().map(|(row, _)| row.email.as_str()).collect();
    let sql = format!(
        "with source as (
             select new.id, new.email, new.old, to_jsonb(source) as row,
                 coalesce((to_jsonb(source) ->> 'date_joined')::timestamptz, now()) as joined
             from unnest($1::uuid[], $2::text[], $3::text[]) as new (id, old, email)
             join {table} source on source.id = new.old::{kind}
         ), made as (
             insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
                 confirmation_token, recovery_token, email_change_token_new, email_change_token_current, email_change,
                 phone_change, phone_change_token, reauthentication_token, raw_app_meta_data, raw_user_meta_data,
                 created_at, updated_at, last_sign_in_at, banned_until)
             select '00000000-0000-0000-0000-000000000000', id, 'authenticated', 'authenticated', email,
                 row ->> 'password', case when $4 then joined end, '', '', '', '', '', '', '', '',
                 jsonb_build_object('provider', 'email', 'providers', jsonb_build_array('email'), 'django_id', row -> 'id'),
                 jsonb_strip_nulls(jsonb_build_object(
                     'email_verified', case when $4 then true end,
                     'username', nullif(row ->> 'username', ''),
                     'first_name', nullif(row ->> 'first_name', ''),
                     'last_name', nullif(row ->> 'last_name', ''),
                     'full_name', nullif(trim(concat_ws(' ', row ->> 'first_name', row ->> 'last_name')), ''))),
                 joined, now(), (row ->> 'last_login')::timestamptz,
                 case when not coalesce((row ->> 'is_active')::boolean, true) then now() + interval '100 years' end
             from source
             on conflict do nothing returning id, email, created_at, last_sign_in_at
         ), identities as (
             insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at,
                 updated_at)
             select id::text, id, jsonb_build_object('sub', id, 'email', email, 'email_verified', $4,
                 'phone_verified', false), 'email', last_sign_in_at, created_at, now()
             from made
         )
         select id from made"
    );
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] =
        [(&new, Type::UUID_ARRAY), (&old, Type::TEXT_ARRAY), (&emails, Type::TEXT_ARRAY), (&confirmed, Type::BOOL)];
    Ok(client.query_typed(&sql, &parameters).await?.iter().map(|row| row.get(0)).collect())
}

/// The identifier (version 5, RFC 9562) that belongs to Django's in this table.
fn identifier(table: &str, django: &str) -> Uuid {
    let hash =
        Sha1::new().chain_update(NAMESPACE).chain_update(table).chain_update([0]).chain_update(django).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    Builder::from_sha1_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_never_change() {
        assert_eq!(identifier("public.auth_user", "42").to_string(), "0dcccc2a-e964-54e1-8612-4058ec739904");
        assert_eq!(identifier("public.auth_user", "42").get_version_num(), 5);
        assert_ne!(identifier("public.auth_user", "1"), identifier("public.auth_user", "11"));
        assert_ne!(identifier("public.auth_user", "1"), identifier("shop.users", "1"));
    }
}
