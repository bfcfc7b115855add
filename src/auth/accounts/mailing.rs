//! What clients ask for by mail: POST /recover, /otp, /magiclink and /resend, GET /reauthenticate.
//!
//! The answer is the same whether somebody has an account with the address or not, and so is the wait between two mails.

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::Inner;
use super::answer;
use super::ask::Ask;
use super::failure::{Answer, Failure};
use super::limits::Class;
use super::outbox::Mailing;
use super::rules;
use super::signup::BY_SIGNUP;
use super::store::audit::{Action, Actor, note};
use super::store::users;
use super::token::Challenge;
use super::user::{Data, filled};
use crate::mail::Kind;

#[derive(Deserialize)]
#[serde(default)]
struct Params {
    email: String,
    phone: String,
    channel: String,
    create_user: bool,
    data: Option<Data>,
    #[serde(rename = "type")]
    kind: String,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            email: String::new(),
            phone: String::new(),
            channel: String::new(),
            create_user: true,
            data: None,
            kind: String::new(),
            code_challenge: None,
            code_challenge_method: None,
        }
    }
}

impl Params {
    fn challenge(&self) -> Result<Option<Challenge>, Failure> {
        Challenge::read(self.code_challenge_method.as_deref(), self.code_challenge.as_deref())
    }
}

impl Inner {
    /// POST /recover
    pub(super) async fn recover(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::Mail, ask.client).map_err(Failure::too_many)?;
        let params: Params = ask.json()?;
        self.needs_email()?;
        if params.email.is_empty() {
            return Err(Failure::invalid("Password recovery requires an email"));
        }
        let email = rules::email(&params.email)?;
        let challenge = params.challenge()?;
        self.may_mail()?;
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let Some(mut user) = users::lock_email(&transaction, &email).await? else {
            self.check_unknown(Kind::Recovery, &email)?;
            return answer::nothing();
        };
        self.check_interval(user.recovery_sent_at)?;
        note(&transaction, &Actor::User(&user), Action::RecoveryRequested, Value::Null, ask.client).await?;
        let pkce = challenge.is_some();
        if pkce {
            self.begin_flow(&transaction, user.id, challenge, "recovery").await?;
        }
        let redirect_to = self.allowed.choose(ask.wanted());
        let mailings = self.prepare(&transaction, &mut user, Kind::Recovery, pkce, redirect_to).await?;
        users::save(&transaction, &mut user).await?;
        transaction.commit().await?;
        self.post(&user, &mailings)?;
        answer::nothing()
    }

    /// POST /otp
    pub(super) async fn otp(&self, ask: &Ask) -> Answer {
        let params: Params = ask.json()?;
        if !params.email.is_empty() && !params.phone.is_empty() {
            return Err(Failure::invalid("Only an email address or phone number should be provided"));
        }
        if !params.email.is_empty() && !params.channel.is_empty() {
            return Err(Failure::invalid("Channel should only be specified with Phone OTP"));
        }
        if !params.phone.is_empty() {
            return Err(Failure::bad("phone_provider_disabled", "Unsupported phone provider"));
        }
        if params.email.is_empty() {
            return Err(Failure::invalid("One of email or phone must be set"));
        }
        self.magic_link(params, ask).await
    }

    /// POST /magiclink, which clients no longer call.
    pub(super) async fn magiclink(&self, ask: &Ask) -> Answer {
        let params: Params = ask.json()?;
        if params.email.is_empty() {
            return Err(Failure::invalid("Password recovery requires an email"));
        }
        self.magic_link(Params { create_user: true, ..params }, ask).await
    }

    async fn magic_link(&self, params: Params, ask: &Ask) -> Answer {
        self.limits.take(Class::Mail, ask.client).map_err(Failure::too_many)?;
        self.needs_email()?;
        let email = rules::email(&params.email)?;
        let challenge = params.challenge()?;
        self.may_mail()?;
        let pkce = challenge.is_some();
        let redirect_to = self.allowed.choose(ask.wanted());
        // Asked before it is known whether somebody has an account.
        let newcomer = if params.create_user && self.config.signup_enabled {
            let user = self.unborn(&email, None, params.data.unwrap_or_default(), self.autoconfirms);
            Some(self.welcome(user, ask).await?)
        } else {
            None
        };
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let known = users::lock_email(&transaction, &email).await?;
        let mut user = match (known, newcomer) {
            (Some(user), _) => user,
            (None, Some(newcomer)) => self.enter(&transaction, newcomer).await?,
            // This tells that there is no account; clients that do not want that let accounts be made.
            (None, None) => return Err(Failure::unprocessable("otp_disabled", "Signups not allowed for otp")),
        };
        // A link to confirm the address signs in as well.
        let (kind, method, action, sent) = if user.email_confirmed_at.is_some() {
            (Kind::MagicLink, "magiclink", Action::RecoveryRequested, user.recovery_sent_at)
        } else {
            (Kind::Confirmation, BY_SIGNUP, Action::ConfirmationRequested, user.confirmation_sent_at)
        };
        self.check_interval(sent)?;
        note(&transaction, &Actor::User(&user), action, Value::Null, ask.client).await?;
        if pkce {
            self.begin_flow(&transaction, user.id, challenge, method).await?;
        }
        let mailings = self.prepare(&transaction, &mut user, kind, pkce, redirect_to).await?;
        users::save(&transaction, &mut user).await?;
        transaction.commit().await?;
        self.post(&user, &mailings)?;
        answer::nothing()
    }

    /// POST /resend
    pub(super) async fn resend(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::Mail, ask.client).map_err(Failure::too_many)?;
        let params: Params = ask.json()?;
        let kind = match params.kind.as_str() {
            "signup" => Kind::Confirmation,
            "email_change" => Kind::EmailChange,
            "sms" | "phone_change" => {
                return Err(Failure::bad("phone_provider_disabled", "Phone logins are disabled"));
            }
            _ => {
                let message = "Missing one of these types: signup, email_change, sms, phone_change";
                return Err(Failure::invalid(message));
            }
        };
        if !params.phone.is_empty() {
            return Err(Failure::invalid("Only an email address or phone number should be provided."));
        }
        if params.email.is_empty() {
            return Err(Failure::invalid("Type provided requires an email address"));
        }
        self.needs_email()?;
        let email = rules::email(&params.email)?;
        self.may_mail()?;
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let known = users::lock_email(&transaction, &email).await?.filter(|user| match kind {
            Kind::Confirmation => user.email_confirmed_at.is_none(),
            _ => filled(user.email_change.as_ref()).is_some(),
        });
        let Some(mut user) = known else {
            self.check_unknown(kind, &email)?;
            return answer::nothing();
        };
        let (action, sent) = match kind {
            Kind::Confirmation => (Action::ConfirmationRequested, user.confirmation_sent_at),
            _ => (Action::Modified, user.email_change_sent_at),
        };
        self.check_interval(sent)?;
        note(&transaction, &Actor::User(&user), action, Value::Null, ask.client).await?;
        let redirect_to = self.allowed.choose(ask.wanted());
        let mailings = self.prepare(&transaction, &mut user, kind, false, redirect_to).await?;
        users::save(&transaction, &mut user).await?;
        transaction.commit().await?;
        self.post(&user, &mailings)?;
        answer::nothing()
    }

    /// GET /reauthenticate
    pub(super) async fn reauthenticate(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::Mail, ask.client).map_err(Failure::too_many)?;
        let mut connection = self.pool.get().await?;
        let id = self.signed(&*connection, ask).await?.user.id;
        self.may_mail()?;
        let transaction = connection.begin().await?;
        let (user, mailings) = {
            let mut user = users::lock(&transaction, id)
                .await?
                .ok_or_else(|| Failure::forbidden("user_not_found", "User does not exist"))?;
            if user.email.is_none() {
                let message = "Reauthentication requires the user to have an email or a phone number";
                return Err(Failure::unprocessable("validation_failed", message));
            }
            if user.email_confirmed_at.is_none() {
                return Err(Failure::unprocessable("email_not_confirmed", "Please verify your email first."));
            }
            self.check_interval(user.reauthentication_sent_at)?;
            note(&transaction, &Actor::User(&user), Action::ReauthenticateRequested, Value::Null, ask.client).await?;
            let mailings: Vec<Mailing> =
                self.prepare(&transaction, &mut user, Kind::Reauthentication, false, "").await?;
            users::save(&transaction, &mut user).await?;
            (user, mailings)
        };
        transaction.commit().await?;
        self.post(&user, &mailings)?;
        answer::nothing()
    }

    fn needs_email(&self) -> Result<(), Failure> {
        if self.config.email_enabled {
            return Ok(());
        }
        Err(Failure::unprocessable("email_provider_disabled", "Email logins are disabled"))
    }

    /// Whether the session is young enough, or the code of a mail says that it is the user.
    pub(super) fn is_recent(session: Option<&super::store::sessions::Session>) -> bool {
        let day = std::time::Duration::from_hours(24);
        session.and_then(|session| session.created_at).is_some_and(|began| OffsetDateTime::now_utc() < began + day)
    }
}
