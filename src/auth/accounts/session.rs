//! Sessions: begun, refreshed, ended, and the access tokens that speak for them.
//!
//! A refresh token is good once. Its successor follows from it and from a key of the session, so that a client that did
//! not see the answer (two tabs, a lost connection) gets the same successor again although only hashes are stored. Any
//! older token that comes back after `refresh_reuse_interval` was copied, and ends the family.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Inner;
use super::answer;
use super::ask::Ask;
use super::failure::{Answer, Failure};
use super::limits::Class;
use super::store::audit::{Action, Actor, note};
use super::store::sessions::{self, Opening, Session, Which};
use super::store::{Db, users};
use super::token;
use super::user::User;

/// A session that is in the database, before its access token is made.
pub struct Ticket {
    /// Whose.
    pub user: User,
    /// The session.
    pub session: Session,
    /// The refresh token itself.
    pub refresh: String,
    /// Whether the session began with this ticket.
    pub fresh: bool,
    /// What the ticket was got by, for hooks.
    pub method: String,
}

/// What a client gets.
pub struct Opened {
    /// The access token.
    pub access: String,
    /// When it ends, in seconds since 1970.
    pub expires_at: i64,
    /// For how long it is good, in seconds.
    pub expires_in: u64,
    /// The refresh token.
    pub refresh: String,
    /// The user.
    pub user: User,
    /// The other provider's own tokens.
    pub provider_token: Option<String>,
    /// The other provider's own tokens.
    pub provider_refresh_token: Option<String>,
    /// Why the password that was just used would not be accepted any more.
    pub weak: Option<Failure>,
}

impl Opened {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut out = json!({
            "access_token": self.access,
            "token_type": "bearer",
            "expires_in": self.expires_in,
            "expires_at": self.expires_at,
            "refresh_token": self.refresh,
            "user": self.user.json(),
        });
        if let Some(token) = &self.provider_token {
            out["provider_token"] = token.as_str().into();
        }
        if let Some(token) = &self.provider_refresh_token {
            out["provider_refresh_token"] = token.as_str().into();
        }
        if let Some(weak) = &self.weak {
            out["weak_password"] = json!({"reasons": weak.reasons, "message": weak.message});
        }
        out
    }

    /// `to` with everything in its fragment, which no server sees.
    #[must_use]
    pub fn redirect(&self, to: &str, kind: Option<&str>) -> String {
        let (at, within) = (self.expires_at.to_string(), self.expires_in.to_string());
        let mut pairs = vec![("access_token", self.access.as_str()), ("expires_at", &at), ("expires_in", &within)];
        if let Some(token) = &self.provider_refresh_token {
            pairs.push(("provider_refresh_token", token));
        }
        if let Some(token) = &self.provider_token {
            pairs.push(("provider_token", token));
        }
        pairs.extend([("refresh_token", self.refresh.as_str()), ("token_type", "bearer")]);
        pairs.extend(kind.map(|kind| ("type", kind)));
        answer::extend(to, &[], &pairs)
    }
}

#[derive(Deserialize)]
struct RefreshParams {
    #[serde(default)]
    refresh_token: String,
}

impl Inner {
    /// Begins a session of a user who has proved who it is; `db` is the transaction in which that was found.
    pub(super) async fn open(
        &self,
        db: &impl Db,
        mut user: User,
        method: &'static str,
        ask: &Ask,
    ) -> Result<Ticket, Failure> {
        let now = OffsetDateTime::now_utc();
        let (key, refresh) = (token::opaque()?, token::opaque()?);
        let opening = Opening {
            id: Uuid::new_v4(),
            user: user.id,
            method,
            key: &key,
            token: &refresh,
            agent: ask.user_agent(),
            client: ask.client,
            now,
        };
        sessions::open(db, &opening).await?;
        user.last_sign_in_at = Some(now);
        user.updated_at = Some(now);
        let session = Session {
            id: opening.id,
            user_id: user.id,
            created_at: Some(now),
            refreshed_at: None,
            not_after: None,
            aal: "aal1".into(),
            methods: vec![(method.to_owned(), now.unix_timestamp())],
            key: None,
        };
        Ok(Ticket { user, session, refresh, fresh: true, method: method.to_owned() })
    }

    /// Makes the access token of a session whose transaction has been committed.
    pub(super) async fn redeem(&self, ticket: Ticket) -> Result<Opened, Failure> {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let expires_at = now + self.config.access_token_ttl.as_secs() as i64;
        let claims = self.claims(&ticket.user, &ticket.session, now, expires_at);
        match self.customised(claims, &ticket.method).await.and_then(|claims| self.sign(&claims)) {
            Ok((access, expires_at)) => Ok(Opened {
                access,
                expires_at,
                expires_in: (expires_at - now).max(0).unsigned_abs(),
                refresh: ticket.refresh,
                user: ticket.user,
                provider_token: None,
                provider_refresh_token: None,
                weak: None,
            }),
            Err(failure) => {
                // Nobody will ever hear of this session.
                if ticket.fresh
                    && let Ok(connection) = self.pool.get().await
                {
                    let _ = sessions::close(&*connection, ticket.user.id, Which::This(ticket.session.id)).await;
                }
                Err(failure)
            }
        }
    }

    /// The access token, and when it ends.
    fn sign(&self, claims: &Value) -> Result<(String, i64), Failure> {
        let access = self
            .keys
            .sign(claims)
            .map_err(|error| Failure::internal("The access token could not be signed", error.to_string()))?;
        Ok((access, claims["exp"].as_i64().unwrap_or_default()))
    }

    fn claims(&self, user: &User, session: &Session, now: i64, expires_at: i64) -> Value {
        let aud = if user.aud.is_empty() { &self.config.audience } else { &user.aud };
        let methods: Vec<Value> =
            session.methods.iter().map(|(method, at)| json!({"method": method, "timestamp": at})).collect();
        json!({
            "iss": self.issuer,
            "sub": user.id,
            "aud": aud,
            "exp": expires_at,
            "iat": now,
            "email": user.address(),
            "phone": user.phone.as_deref().unwrap_or_default(),
            "app_metadata": user.app_metadata,
            "user_metadata": user.user_metadata,
            "role": user.role,
            "aal": session.aal,
            "amr": methods,
            "session_id": session.id,
            "is_anonymous": user.is_anonymous,
        })
    }

    /// POST /token?grant_type=refresh_token
    pub(super) async fn refresh(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::Refresh, ask.client).map_err(Failure::too_many)?;
        let RefreshParams { refresh_token: presented } = ask.json()?;
        if presented.is_empty() {
            return Err(Failure::invalid("refresh_token required"));
        }
        if presented.len() > 512 {
            return Err(unknown());
        }
        let mut connection = self.pool.get().await?;
        let session = match sessions::of_token(&*connection, &presented).await? {
            None => return Err(unknown()),
            Some(None) => return Err(gone()),
            Some(Some(session)) => session,
        };
        let transaction = connection.begin().await?;
        let result = self.rotate(&transaction, session, &presented, ask).await;
        let keep = match &result {
            Ok(_) => true,
            // That the family was revoked must outlive the refusal.
            Err(failure) => failure.code == USED,
        };
        if keep {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        drop(connection);
        let opened = self.redeem(result?).await?;
        answer::ok(&opened.json())
    }

    async fn rotate(&self, db: &impl Db, id: Uuid, presented: &str, ask: &Ask) -> Result<Ticket, Failure> {
        db.batch_execute("set local lock_timeout = '5s'").await?;
        let session = match sessions::lock(db, id).await {
            Ok(session) => session.ok_or_else(gone)?,
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE) => {
                let message = "Too many concurrent token refresh requests on the same session or refresh token";
                return Err(Failure::new(http::StatusCode::CONFLICT, "conflict", message));
            }
            Err(error) => return Err(error.into()),
        };
        let token = sessions::token(db, id, presented).await?.ok_or_else(unknown)?;
        let user = users::by_id(db, session.user_id).await?.ok_or_else(gone)?;
        let now = OffsetDateTime::now_utc();
        if user.is_banned(now) {
            return Err(Failure::bad("user_banned", "Invalid Refresh Token: User Banned"));
        }
        self.check(&session, now)?;
        let key = match &session.key {
            Some(key) => key.clone(),
            None => token::opaque()?,
        };
        let next = if token.revoked {
            let active = sessions::active_token(db, id).await?;
            let again = token::successor(&key, presented)?;
            let interval = self.config.refresh_reuse_interval;
            match active {
                Some(active) if token::same(&active.stored, &token::digest(&again)) => again,
                Some(_) if token.updated_at.is_some_and(|used| now <= used + interval) => {
                    let next = token::opaque()?;
                    sessions::rotate(db, &session, Some(&token), &next, now).await?;
                    next
                }
                _ => {
                    sessions::revoke_tokens(db, id, now).await?;
                    note(db, &Actor::User(&user), Action::TokenRevoked, Value::Null, ask.client).await?;
                    tracing::warn!(session = %id, "a refresh token came back after its time; its session is ended");
                    return Err(Failure::bad(USED, "Invalid Refresh Token: Already Used"));
                }
            }
        } else {
            let next = token::successor(&key, presented)?;
            sessions::rotate(db, &session, Some(&token), &next, now).await?;
            next
        };
        sessions::refreshed(db, &session, ask.user_agent(), ask.client, &key, now).await?;
        note(db, &Actor::User(&user), Action::TokenRefreshed, Value::Null, ask.client).await?;
        Ok(Ticket { user, session, refresh: next, fresh: false, method: "token_refresh".into() })
    }

    /// Whether a session is over by itself.
    fn check(&self, session: &Session, now: OffsetDateTime) -> Result<(), Failure> {
        let over = |since: Option<OffsetDateTime>, most: Duration| {
            !most.is_zero() && since.is_some_and(|since| since + most < now)
        };
        if session.not_after.is_some_and(|end| end < now) || over(session.created_at, self.config.sessions.timebox) {
            return Err(Failure::bad("session_expired", "Invalid Refresh Token: Session Expired"));
        }
        if over(session.refreshed_at.or(session.created_at), self.config.sessions.inactivity) {
            return Err(Failure::bad("session_expired", "Invalid Refresh Token: Session Expired (Inactivity)"));
        }
        Ok(())
    }

    /// POST /logout
    pub(super) async fn logout(&self, ask: &Ask) -> Answer {
        let scope = ask.param("scope").unwrap_or("global");
        if !matches!(scope, "global" | "local" | "others") {
            return Err(Failure::invalid(format!("Unsupported logout scope {scope:?}")));
        }
        let mut connection = self.pool.get().await?;
        let signed = self.signed(&*connection, ask).await?;
        let which = match (scope, &signed.session) {
            ("local", Some(session)) => Which::This(session.id),
            ("others", Some(session)) => Which::Others(session.id),
            _ => Which::All,
        };
        let transaction = connection.begin().await?;
        note(&transaction, &Actor::User(&signed.user), Action::Logout, Value::Null, ask.client).await?;
        sessions::close(&transaction, signed.user.id, which).await?;
        transaction.commit().await?;
        Ok(answer::no_content())
    }
}

const USED: &str = "refresh_token_already_used";

fn unknown() -> Failure {
    Failure::bad("refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
}

fn gone() -> Failure {
    Failure::bad("session_not_found", "Invalid Refresh Token: No Valid Session Found")
}
