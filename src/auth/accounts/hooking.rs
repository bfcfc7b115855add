//! What hooks are told, and what becomes of their answers.
//!
//! A hook is asked outside of transactions. A mail's hook is told while the client already has its answer, as a mail is
//! sent: how long it takes would say whether somebody has an account.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::ask::Ask;
use super::failure::Failure;
use super::outbox::Mailing;
use super::store::users;
use super::user::{User, moment};
use super::{Inner, MOUNT};
use crate::auth::hooks::{Hooks, Point};
use crate::error::chain;

/// The most mails that hooks are told of at once.
pub const AT_ONCE: usize = 100;

/// A user who may be made.
pub struct Newcomer {
    /// The user, not in the database yet.
    pub user: User,
    /// Whether the hook was asked, if there is one.
    asked: bool,
}

/// Claims that an access token must have, whatever a hook does to it.
const TEXTS: [&str; 5] = ["sub", "email", "phone", "role", "aal"];

impl Inner {
    /// Asks whether a user may be made. An address that has an account makes none, and is not asked about.
    pub(super) async fn welcome(&self, user: User, ask: &Ask) -> Result<Newcomer, Failure> {
        if !self.hooks.has(Point::BeforeUserCreated) {
            return Ok(Newcomer { user, asked: true });
        }
        if let Some(email) = &user.email
            && users::id_of_email(&*self.pool.get().await?, email).await?.is_some()
        {
            return Ok(Newcomer { user, asked: false });
        }
        let event = json!({"metadata": metadata("before-user-created", ask.client), "user": user.json()});
        self.hooks.call(Point::BeforeUserCreated, &event).await?;
        Ok(Newcomer { user, asked: true })
    }

    /// Claims of an access token as the hook wants them.
    pub(super) async fn customised(&self, claims: Value, method: &str) -> Result<Value, Failure> {
        if !self.hooks.has(Point::CustomAccessToken) {
            return Ok(claims);
        }
        let event = json!({"user_id": claims["sub"], "claims": claims, "authentication_method": method});
        let answer = self.hooks.call(Point::CustomAccessToken, &event).await?.unwrap_or_default();
        checked(answer)
    }

    /// Tells the hook of a mail in place of sending it.
    ///
    /// # Errors
    /// The hook has not come after with those before.
    pub(super) fn post_by_hook(&self, user: &User, mailings: &[Mailing]) -> Result<(), Failure> {
        let Some(event) = self.mail_event(user, mailings) else { return Ok(()) };
        let full = || Failure::from(crate::mail::Error::Full);
        let permit = Arc::clone(&self.mails).try_acquire_owned().map_err(|_| full())?;
        let (hooks, user) = (self.hooks.clone(), user.id);
        tokio::spawn(async move {
            tell(&hooks, user, &event).await;
            drop(permit);
        });
        Ok(())
    }

    /// The event of the mails of one action. Of a change of the address there may be two, and the names of their hashes
    /// are crossed in this dialect: `token_hash_new` goes with `token` to the old address.
    fn mail_event(&self, user: &User, mailings: &[Mailing]) -> Option<Value> {
        let first = mailings.first()?;
        let mut data = json!({
            "token": first.code,
            "token_hash": first.hash,
            "redirect_to": first.redirect_to,
            "email_action_type": first.action,
            "site_url": format!("{}{MOUNT}", self.base_url),
            "token_new": "",
            "token_hash_new": "",
        });
        if let Some(old) = mailings.get(1) {
            data["token"] = old.code.as_str().into();
            data["token_hash_new"] = old.hash.as_str().into();
            data["token_new"] = first.code.as_str().into();
        }
        Some(json!({"user": user.json(), "email_data": data}))
    }
}

impl Newcomer {
    /// The user, if it was asked whether they may be made.
    ///
    /// # Errors
    /// The account that was there when it was looked for has gone meanwhile.
    pub fn admitted(self) -> Result<User, Failure> {
        if self.asked {
            return Ok(self.user);
        }
        let message = "The account was changed meanwhile. Try again.";
        Err(Failure::new(http::StatusCode::CONFLICT, "conflict", message))
    }
}

/// Permits for [`Inner::post_by_hook`].
#[must_use]
pub fn permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AT_ONCE))
}

async fn tell(hooks: &Hooks, user: Uuid, event: &Value) {
    if let Err(error) = hooks.call(Point::SendEmail, event).await {
        tracing::error!(%user, error = %chain(&error), "the send_email hook failed: a mail was not sent");
    }
}

fn metadata(name: &str, client: IpAddr) -> Value {
    json!({
        "uuid": Uuid::new_v4(),
        "time": moment(OffsetDateTime::now_utc()),
        "name": name,
        "ip_address": client.to_string(),
    })
}

/// The claims of a hook's answer, if a token can be made of them.
fn checked(mut answer: Map<String, Value>) -> Result<Value, Failure> {
    let bad = |problem: String| {
        let message = "output claims do not conform to the expected schema";
        Failure::internal(message, format!("the custom_access_token hook's answer: {problem}"))
    };
    let Some(Value::Object(claims)) = answer.remove("claims") else { return Err(bad("there are no claims".into())) };
    for name in TEXTS {
        if !claims.get(name).is_some_and(Value::is_string) {
            return Err(bad(format!("{name} is no text")));
        }
    }
    for name in ["exp", "iat"] {
        if !claims.get(name).is_some_and(Value::is_i64) {
            return Err(bad(format!("{name} is no whole number")));
        }
    }
    if !claims.get("session_id").is_some_and(Value::is_string) {
        return Err(bad("session_id is no text".into()));
    }
    if !claims.get("is_anonymous").is_some_and(Value::is_boolean) {
        return Err(bad("is_anonymous is not true or false".into()));
    }
    if !claims.get("aud").is_some_and(|aud| aud.is_string() || aud.is_array()) {
        return Err(bad("aud is no text".into()));
    }
    Ok(Value::Object(claims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_a_hook_must_make_a_token() {
        let good = json!({
            "sub": "s", "email": "", "phone": "", "role": "r", "aal": "aal1", "exp": 2, "iat": 1, "session_id": "x",
            "is_anonymous": false, "aud": "authenticated", "tenant": 5,
        });
        let answer = |claims: Value| json!({ "claims": claims }).as_object().cloned().unwrap();
        assert_eq!(checked(answer(good.clone())).unwrap(), good);
        assert!(checked(Map::new()).is_err());
        for name in ["sub", "email", "phone", "role", "aal", "exp", "iat", "session_id", "is_anonymous", "aud"] {
            let mut bad = good.clone();
            bad[name] = Value::Null;
            let failure = checked(answer(bad)).unwrap_err();
            assert_eq!(failure.status, 500);
            assert!(failure.cause.unwrap().contains(name), "{name}");
        }
    }
}
