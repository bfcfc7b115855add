//! `auth.audit_log_entries`: who did what.

use std::net::IpAddr;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::types::{Json, Type};

use super::{Db, Result};
use crate::auth::accounts::user::{User, moment};

/// Who did it.
pub enum Actor<'a> {
    /// A user.
    User(&'a User),
    /// Somebody with an administrator's key, whose role this is.
    Admin(&'a str),
}

/// What was done, in the words of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Signed in.
    Login,
    /// Signed out.
    Logout,
    /// Accepted an invitation.
    InviteAccepted,
    /// Made an account.
    SignedUp,
    /// Invited somebody.
    Invited,
    /// Deleted an account.
    Deleted,
    /// Changed an account.
    Modified,
    /// Asked for a link to sign in.
    RecoveryRequested,
    /// Asked for a code that confirms who it is.
    ReauthenticateRequested,
    /// Asked for a link to confirm an address.
    ConfirmationRequested,
    /// Signed up with an address that has an account.
    RepeatedSignUp,
    /// Changed the password.
    PasswordUpdated,
    /// A refresh token came back after its time.
    TokenRevoked,
    /// Refreshed a session.
    TokenRefreshed,
    /// Began to add a second factor.
    FactorInProgress,
    /// Removed a second factor.
    FactorUnenrolled,
    /// Asked for a challenge.
    ChallengeCreated,
    /// Answered a challenge.
    VerificationAttempted,
    /// An administrator removed a second factor.
    FactorDeleted,
    /// An administrator renamed a second factor.
    FactorUpdated,
    /// Removed a way to sign in.
    IdentityUnlinked,
}

impl Action {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Login => ("login", "account"),
            Self::Logout => ("logout", "account"),
            Self::InviteAccepted => ("invite_accepted", "account"),
            Self::SignedUp => ("user_signedup", "team"),
            Self::Invited => ("user_invited", "team"),
            Self::Deleted => ("user_deleted", "team"),
            Self::Modified => ("user_modified", "user"),
            Self::RecoveryRequested => ("user_recovery_requested", "user"),
            Self::ReauthenticateRequested => ("user_reauthenticate_requested", "user"),
            Self::ConfirmationRequested => ("user_confirmation_requested", "user"),
            Self::RepeatedSignUp => ("user_repeated_signup", "user"),
            Self::PasswordUpdated => ("user_updated_password", "user"),
            Self::TokenRevoked => ("token_revoked", "token"),
            Self::TokenRefreshed => ("token_refreshed", "token"),
            Self::FactorInProgress => ("factor_in_progress", "factor"),
            Self::FactorUnenrolled => ("factor_unenrolled", "factor"),
            Self::ChallengeCreated => ("challenge_created", "factor"),
            Self::VerificationAttempted => ("verification_attempted", "factor"),
            Self::FactorDeleted => ("factor_deleted", "factor"),
            Self::FactorUpdated => ("factor_updated", "factor"),
            Self::IdentityUnlinked => ("identity_unlinked", "user"),
        }
    }
}

/// Writes an entry.
pub async fn note(db: &impl Db, actor: &Actor<'_>, action: Action, traits: Value, client: IpAddr) -> Result<()> {
    let (name, kind) = action.names();
    let mut payload = match actor {
        Actor::User(user) => json!({
            "actor_id": user.id,
            "actor_username": user.phone.as_deref().unwrap_or_else(|| user.address()),
            "actor_via_sso": user.is_sso_user,
        }),
        Actor::Admin(role) => json!({
            "actor_id": "00000000-0000-0000-0000-000000000000",
            "actor_username": role,
            "actor_via_sso": false,
        }),
    };
    if let Actor::User(user) = actor
        && let Some(full_name) = user.user_metadata.get("full_name")
    {
        payload["actor_name"] = full_name.clone();
    }
    payload["action"] = name.into();
    payload["log_type"] = kind.into();
    if !traits.is_null() {
        payload["traits"] = traits;
    }
    let sql = "insert into auth.audit_log_entries (instance_id, id, payload, created_at, ip_address) \
               values ('00000000-0000-0000-0000-000000000000', gen_random_uuid(), $1, now(), $2)";
    db.execute_typed(sql, &[(&Json(&payload), Type::JSON), (&client.to_string(), Type::TEXT)]).await?;
    Ok(())
}

/// Which entries are listed.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// Rows before it.
    pub offset: i64,
    /// Rows on it.
    pub limit: i64,
    /// Names in the payload, and a text that one of them must hold.
    pub filter: Option<(&'a [&'static str], &'a str)>,
}

/// A page of entries, the latest first, and how many there are in all.
pub async fn list(db: &impl Db, page: &Page<'_>) -> Result<(Vec<Value>, i64)> {
    let (names, text) = page.filter.unwrap_or((&[], ""));
    let pattern = format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
    let filter = "cardinality($1::text[]) = 0 or exists (select from unnest($1) as name where \
                  payload ->> name ilike $2)";
    let count = format!("select count(*) from auth.audit_log_entries where {filter}");
    let total = db.query_typed_one(&count, &[(&names, Type::TEXT_ARRAY), (&pattern, Type::TEXT)]).await?.try_get(0)?;
    let sql = format!(
        "select id, payload, created_at, ip_address from auth.audit_log_entries where {filter} \
         order by created_at desc, id limit $3 offset $4"
    );
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] =
        [(&names, Type::TEXT_ARRAY), (&pattern, Type::TEXT), (&page.limit, Type::INT8), (&page.offset, Type::INT8)];
    let rows = db.query_typed(&sql, &parameters).await?;
    let entries = rows
        .iter()
        .map(|row| {
            Ok(json!({
                "id": row.try_get::<_, uuid::Uuid>(0)?,
                "payload": row.try_get::<_, Option<Value>>(1)?,
                "created_at": row.try_get::<_, Option<OffsetDateTime>>(2)?.map(moment),
                "ip_address": row.try_get::<_, String>(3)?,
            }))
        })
        .collect::<Result<_>>()?;
    Ok((entries, total))
}
