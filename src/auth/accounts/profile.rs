//! GET and PUT /user: what the signed-in user sees and may change.

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::Inner;
use super::access::Signed;
use super::answer;
use super::ask::{Ask, merge};
use super::failure::{Answer, Failure};
use super::limits::Class;
use super::rules;
use super::store::audit::{Action, Actor, note};
use super::store::sessions::{self, Which};
use super::store::tokens::{self, Purpose};
use super::store::{Db, users};
use super::token::{self, Challenge};
use super::user::{Data, User};
use crate::auth::passwords::Verdict;
use crate::mail::Kind;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    email: String,
    phone: String,
    password: Option<String>,
    current_password: Option<String>,
    nonce: String,
    data: Option<Data>,
    app_metadata: Option<Data>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

impl Inner {
    /// GET /user
    pub(super) async fn user(&self, ask: &Ask) -> Answer {
        let connection = self.pool.get().await?;
        let signed = self.signed(&*connection, ask).await?;
        answer::ok(&signed.user.json())
    }

    /// PUT /user
    pub(super) async fn update_user(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::User, ask.client).map_err(Failure::too_many)?;
        let mut params: Params = ask.json()?;
        let signed = {
            let connection = self.pool.get().await?;
            self.signed(&*connection, ask).await?
        };
        if params.app_metadata.is_some() {
            let message = "Updating app_metadata requires admin privileges";
            return Err(Failure::forbidden("not_admin", message));
        }
        if !params.phone.is_empty() {
            return Err(Failure::bad("phone_provider_disabled", "Unsupported phone provider"));
        }
        if !params.email.is_empty() {
            params.email = rules::email(&params.email)?;
        }
        let challenge = Challenge::read(params.code_challenge_method.as_deref(), params.code_challenge.as_deref())?;
        let moves = !params.email.is_empty() && params.email != signed.user.address();
        Self::may_change(&signed, &params, moves)?;
        let hash = match &params.password {
            Some(password) => Some(self.new_password(&signed, &params, password).await?),
            None => None,
        };
        // An address that no mail can be sent to is believed, where addresses are believed.
        let at_once = self.autoconfirms && (signed.user.is_anonymous || !self.mails());
        if moves && !at_once {
            self.may_mail()?;
        }

        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let mut user = users::lock(&transaction, signed.user.id)
            .await?
            .ok_or_else(|| Failure::forbidden("user_not_found", "User from sub claim in JWT does not exist"))?;
        if let Some(hash) = hash {
            if user.encrypted_password != signed.user.encrypted_password {
                return Err(Failure::new(http::StatusCode::CONFLICT, "conflict", "The password was changed meanwhile"));
            }
            self.set_password(&transaction, &mut user, hash, signed.session.as_ref().map(|session| session.id)).await?;
            note(&transaction, &Actor::User(&user), Action::PasswordUpdated, Value::Null, ask.client).await?;
        }
        if let Some(data) = params.data {
            merge(&mut user.user_metadata, data);
        }
        let mut mailings = Vec::new();
        if moves {
            if users::is_taken(&transaction, &params.email, Some(user.id)).await? {
                let message = "A user with this email address has already been registered";
                return Err(Failure::unprocessable("email_exists", message));
            }
            user.email_change = Some(params.email);
            if at_once {
                self.change_address(&transaction, &mut user).await?;
            } else {
                self.check_interval(signed.user.email_change_sent_at)?;
                let pkce = challenge.is_some();
                if pkce {
                    self.begin_flow(&transaction, user.id, challenge, "email_change").await?;
                }
                let redirect_to = self.allowed.choose(ask.wanted());
                mailings = self.prepare(&transaction, &mut user, Kind::EmailChange, pkce, redirect_to).await?;
            }
        }
        note(&transaction, &Actor::User(&user), Action::Modified, Value::Null, ask.client).await?;
        users::save(&transaction, &mut user).await?;
        transaction.commit().await?;
        self.post(&user, &mailings)?;
        answer::ok(&user.json())
    }

    fn may_change(signed: &Signed, params: &Params, moves: bool) -> Result<(), Failure> {
        let user = &signed.user;
        let secures = params.password.is_some() || moves;
        if secures && user.has_factor() && signed.session.as_ref().is_none_or(|session| session.aal == "aal1") {
            let message = "AAL2 session is required to update email or password when MFA is enabled.";
            return Err(Failure::unauthorized("insufficient_aal", message));
        }
        if user.is_anonymous && params.password.is_some() && params.email.is_empty() {
            let message = "Updating password of an anonymous user without an email or phone is not allowed";
            return Err(Failure::unprocessable("validation_failed", message));
        }
        if user.is_sso_user && (secures || !params.nonce.is_empty()) {
            let message = "Updating email, phone, password of a SSO account only possible via SSO";
            return Err(Failure::unprocessable("user_sso_managed", message));
        }
        Ok(())
    }

    /// The hash of a new password that may be set.
    async fn new_password(&self, signed: &Signed, params: &Params, password: &str) -> Result<String, Failure> {
        if let Some(weak) = rules::weakness(&self.config, password) {
            return Err(weak);
        }
        let stored = signed.user.encrypted_password.clone().unwrap_or_default();
        if self.config.password_change_needs_current && signed.user.has_password() {
            let Some(current) = params.current_password.as_deref().filter(|current| !current.is_empty()) else {
                let message = "Current password required when setting new password.";
                return Err(Failure::bad("current_password_required", message));
            };
            if self.hasher.verify(current, &stored).await? == Verdict::Wrong {
                let message = "Current password required when setting new password.";
                return Err(Failure::bad("current_password_mismatch", message));
            }
        }
        if self.config.password_change_reauthenticates && !Self::is_recent(signed.session.as_ref()) {
            if params.nonce.is_empty() {
                let message = "Password update requires reauthentication";
                return Err(Failure::bad("reauthentication_needed", message));
            }
            self.check_nonce(&signed.user, &params.nonce).await?;
        }
        if signed.user.has_password()
            && self.hasher.verify(password, &stored).await.is_ok_and(|is| is != Verdict::Wrong)
        {
            let message = "New password should be different from the old password.";
            return Err(Failure::unprocessable("same_password", message));
        }
        Ok(self.hasher.hash(password).await?)
    }

    /// Whether a code from the mail of /reauthenticate is right; a wrong one is counted.
    async fn check_nonce(&self, user: &User, nonce: &str) -> Result<(), Failure> {
        let connection = self.pool.get().await?;
        let invalid = || Failure::unprocessable("reauthentication_not_valid", "Nonce has expired or is invalid");
        let sent = tokens::of_user(&*connection, user.id, Purpose::Reauthentication).await?.ok_or_else(invalid)?;
        if sent.at.is_none_or(|at| at + self.config.otp_expiry < OffsetDateTime::now_utc()) {
            return Err(invalid());
        }
        if !token::same(&sent.hash, &token::hash(user.address(), nonce)) {
            let most = self.config.otp_attempts as i32;
            tokens::miss(&*connection, user.id, &[Purpose::Reauthentication], most).await?;
            return Err(invalid());
        }
        Ok(())
    }

    /// Gives the user, whose row is locked, another password: all that was sent by mail is void, and the other sessions
    /// end.
    pub(super) async fn set_password(
        &self,
        db: &impl Db,
        user: &mut User,
        hash: String,
        session: Option<uuid::Uuid>,
    ) -> Result<(), Failure> {
        user.encrypted_password = Some(hash);
        user.confirmation_token = None;
        user.confirmation_sent_at = None;
        user.recovery_token = None;
        user.recovery_sent_at = None;
        user.email_change_token_current = None;
        user.email_change_token_new = None;
        user.email_change_sent_at = None;
        user.reauthentication_token = None;
        user.reauthentication_sent_at = None;
        tokens::clear(db, user.id).await?;
        sessions::close(db, user.id, session.map_or(Which::All, Which::Others)).await?;
        Ok(())
    }
}
