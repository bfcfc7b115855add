//! POST /token: sign-ins with a password, and with the code that a flow of PKCE ends with. `external` has ID tokens.

use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use super::Inner;
use super::answer;
use super::ask::Ask;
use super::failure::{Answer, Failure};
use super::limits::Class;
use super::rules;
use super::store::audit::{Action, Actor, note};
use super::store::{flows, users};
use crate::auth::passwords::{self, Verdict};

/// How long the code of a flow of PKCE is good.
const CODE_EXPIRY: std::time::Duration = std::time::Duration::from_mins(5);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Password {
    email: String,
    phone: String,
    password: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Code {
    auth_code: String,
    code_verifier: String,
}

impl Inner {
    /// POST /token
    pub(super) async fn token(&self, ask: &Ask) -> Answer {
        match ask.param("grant_type") {
            Some("password") => self.by_password(ask).await,
            Some("refresh_token") => self.refresh(ask).await,
            Some("id_token") => self.by_id_token(ask).await,
            Some("pkce") => self.by_code(ask).await,
            Some("web3") => Err(Failure::unprocessable("web3_provider_disabled", "Web3 provider is disabled")),
            _ => Err(Failure::bad("invalid_credentials", "unsupported_grant_type")),
        }
    }

    async fn by_password(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::SignIn, ask.client).map_err(Failure::too_many)?;
        let params: Password = ask.json()?;
        let (provider, account, user) = match (params.email.as_str(), params.phone.as_str()) {
            ("", "") => return Err(Failure::invalid("missing email or phone")),
            (email, "") => {
                if !self.config.email_enabled {
                    return Err(Failure::unprocessable("email_provider_disabled", "Email logins are disabled"));
                }
                // An address of another form is nobody's.
                let email = rules::email(email).unwrap_or_default();
                let connection = self.pool.get().await?;
                let user = if email.is_empty() { None } else { users::by_email(&*connection, &email).await? };
                ("email", email, user)
            }
            ("", phone) => {
                let phone = rules::phone(phone).unwrap_or_default();
                let connection = self.pool.get().await?;
                let user = if phone.is_empty() { None } else { users::by_phone(&*connection, &phone).await? };
                ("phone", phone, user)
            }
            _ => {
                let message = "Only an email address or phone number should be provided on login.";
                return Err(Failure::invalid(message));
            }
        };
        self.limits.guess(&account).map_err(Failure::too_many)?;
        let stored = user.as_ref().and_then(|user| user.encrypted_password.clone()).unwrap_or_default();
        let verdict = match self.hasher.verify(&params.password, &stored).await {
            Ok(verdict) => verdict,
            Err(error @ (passwords::Error::Unsupported(_) | passwords::Error::Malformed(_))) => {
                let id = user.as_ref().map(|user| user.id);
                tracing::warn!(user = ?id, %error, "a stored password hash cannot be used");
                Verdict::Wrong
            }
            Err(error) => {
                self.limits.guessed(&account);
                return Err(error.into());
            }
        };
        let (Some(user), Verdict::Right | Verdict::RightButOld) = (user, verdict) else { return Err(wrong()) };
        self.limits.guessed(&account);
        let upgraded = if verdict == Verdict::RightButOld {
            // The old hash stays good if this one cannot be made now.
            self.hasher.hash(&params.password).await.ok()
        } else {
            None
        };
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let mut user = users::lock(&transaction, user.id).await?.ok_or_else(wrong)?;
        // The password was changed while it was looked at.
        if user.encrypted_password.as_deref() != Some(&stored) {
            return Err(wrong());
        }
        if user.is_banned(OffsetDateTime::now_utc()) {
            return Err(Failure::bad("user_banned", "User is banned"));
        }
        if provider == "email" && user.email_confirmed_at.is_none() {
            return Err(Failure::bad("email_not_confirmed", "Email not confirmed"));
        }
        if provider == "phone" && user.phone_confirmed_at.is_none() {
            return Err(Failure::bad("phone_not_confirmed", "Phone not confirmed"));
        }
        if let Some(hash) = upgraded {
            users::upgrade_password(&transaction, user.id, &stored, &hash).await?;
            user.encrypted_password = Some(hash);
        }
        note(&transaction, &Actor::User(&user), Action::Login, json!({"provider": provider}), ask.client).await?;
        let ticket = self.open(&transaction, user, "password", ask).await?;
        transaction.commit().await?;
        drop(connection);
        let mut opened = self.redeem(ticket).await?;
        opened.weak = rules::weakness(&self.config, &params.password);
        answer::ok(&opened.json())
    }

    async fn by_code(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::SignIn, ask.client).map_err(Failure::too_many)?;
        let params: Code = ask.json()?;
        if params.auth_code.is_empty() || params.code_verifier.is_empty() {
            return Err(Failure::invalid("invalid request: both auth code and code verifier should be non-empty"));
        }
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let missing = || Failure::not_found("flow_state_not_found", "invalid flow state, no valid flow state found");
        let flow = flows::lock_code(&transaction, &params.auth_code).await?.ok_or_else(missing)?;
        let now = OffsetDateTime::now_utc();
        if flow.issued_at.is_none_or(|issued| issued + CODE_EXPIRY < now) {
            let message = "invalid flow state, flow state has expired";
            return Err(Failure::forbidden("flow_state_expired", message));
        }
        let (Some(challenge), Some(user)) = (&flow.challenge, flow.user) else { return Err(missing()) };
        if !challenge.is_met(&params.code_verifier) {
            let message = "code challenge does not match previously saved code verifier";
            return Err(Failure::bad("bad_code_verifier", message));
        }
        let user = users::lock(&transaction, user).await?.ok_or_else(missing)?;
        if user.is_banned(now) {
            return Err(Failure::bad("user_banned", "User is banned"));
        }
        flows::end(&transaction, flow.id).await?;
        let traits = json!({"provider_type": flow.provider});
        note(&transaction, &Actor::User(&user), Action::Login, traits, ask.client).await?;
        let ticket = self.open(&transaction, user, method(&flow.method), ask).await?;
        transaction.commit().await?;
        drop(connection);
        let mut opened = self.redeem(ticket).await?;
        opened.provider_token = flow.access_token;
        opened.provider_refresh_token = flow.refresh_token;
        answer::ok(&opened.json())
    }
}

/// The name of a way to sign in, out of those that are stored.
fn method(name: &str) -> &'static str {
    const KNOWN: [&str; 7] =
        ["oauth", "recovery", "invite", "magiclink", super::signup::BY_SIGNUP, "email_change", "password"];
    KNOWN.into_iter().find(|known| *known == name).unwrap_or("otp")
}

fn wrong() -> Failure {
    Failure::bad("invalid_credentials", "Invalid login credentials")
}
