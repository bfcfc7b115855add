//! POST /signup: new accounts with an address and a password, and anonymous ones.

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::Inner;
use super::answer;
use super::ask::Ask;
use super::failure::{Answer, Failure};
use super::hooking::Newcomer;
use super::limits::Class;
use super::rules;
use super::store::audit::{Action, Actor, note};
use super::store::flows::{self, Flow};
use super::store::{Db, identities, users};
use super::token::Challenge;
use super::user::{Data, User, moment};
use crate::mail::Kind;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    email: String,
    phone: String,
    password: String,
    data: Option<Data>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

/// The way to sign in of flows that begin with a sign-up.
pub const BY_SIGNUP: &str = "email/signup";

/// What became of a sign-up.
enum Outcome {
    /// A user who has to confirm the address.
    Waiting(Box<User>, Vec<super::outbox::Mailing>),
    /// A session.
    Open(Box<super::session::Ticket>),
    /// There is an account with this address.
    Taken,
}

impl Inner {
    /// POST /signup
    pub(super) async fn signup(&self, ask: &Ask) -> Answer {
        let params: Params = ask.json()?;
        if params.email.is_empty() && params.phone.is_empty() {
            return self.signup_anonymous(params, ask).await;
        }
        self.limits.take(Class::Signup, ask.client).map_err(Failure::too_many)?;
        self.may_sign_up()?;
        if !params.phone.is_empty() {
            if !params.email.is_empty() {
                let message = "Only an email address or phone number should be provided on signup.";
                return Err(Failure::invalid(message));
            }
            return Err(Failure::bad("phone_provider_disabled", "Phone signups are disabled"));
        }
        if !self.config.email_enabled {
            return Err(Failure::bad("email_provider_disabled", "Email signups are disabled"));
        }
        if params.password.is_empty() {
            return Err(Failure::invalid("Signup requires a valid password"));
        }
        if let Some(weak) = rules::weakness(&self.config, &params.password) {
            return Err(weak);
        }
        let challenge = Challenge::read(params.code_challenge_method.as_deref(), params.code_challenge.as_deref())?;
        let email = rules::email(&params.email)?;
        let data = params.data.unwrap_or_default();
        if !self.autoconfirms {
            self.may_mail()?;
        }
        // Before anything is known about the address, so that the time is the same.
        let hash = self.hasher.hash(&params.password).await?;
        let user = self.unborn(&email, Some(hash), data.clone(), self.autoconfirms);
        let made = self.make(self.welcome(user, ask).await?, challenge, ask).await?;
        match made {
            Outcome::Waiting(user, mailings) => {
                self.post(&user, &mailings)?;
                answer::ok(&user.json())
            }
            Outcome::Open(ticket) => answer::ok(&self.redeem(*ticket).await?.json()),
            Outcome::Taken if self.autoconfirms => {
                Err(Failure::unprocessable("user_already_exists", "User already registered"))
            }
            Outcome::Taken => answer::ok(&self.fake(&email, data)),
        }
    }

    /// Whether somebody may make an account.
    pub(super) fn may_sign_up(&self) -> Result<(), Failure> {
        if self.config.signup_enabled {
            return Ok(());
        }
        Err(Failure::unprocessable("signup_disabled", "Signups not allowed for this instance"))
    }

    async fn make(&self, newcomer: Newcomer, challenge: Option<Challenge>, ask: &Ask) -> Result<Outcome, Failure> {
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let known = users::lock_email(&transaction, newcomer.user.address()).await?;
        let mut user = match known {
            Some(user) if user.email_confirmed_at.is_some() || self.autoconfirms => {
                note(&transaction, &Actor::User(&user), Action::RepeatedSignUp, provider(), ask.client).await?;
                transaction.commit().await?;
                return Ok(Outcome::Taken);
            }
            // Whoever asks again may not be who asked first: nothing of the account changes but the link.
            Some(user) => user,
            None => match self.enter(&transaction, newcomer).await {
                Ok(user) => user,
                // Somebody was faster.
                Err(Failed::Taken) => return Ok(Outcome::Taken),
                Err(Failed::Other(failure)) => return Err(failure),
            },
        };
        if self.autoconfirms {
            note(&transaction, &Actor::User(&user), Action::SignedUp, provider(), ask.client).await?;
            note(&transaction, &Actor::User(&user), Action::Login, provider(), ask.client).await?;
            let ticket = self.open(&transaction, user, "password", ask).await?;
            transaction.commit().await?;
            return Ok(Outcome::Open(Box::new(ticket)));
        }
        self.check_interval(user.confirmation_sent_at)?;
        note(&transaction, &Actor::User(&user), Action::ConfirmationRequested, provider(), ask.client).await?;
        let pkce = challenge.is_some();
        if pkce {
            self.begin_flow(&transaction, user.id, challenge, BY_SIGNUP).await?;
        }
        let redirect_to = self.allowed.choose(ask.wanted());
        let mailings = self.prepare(&transaction, &mut user, Kind::Confirmation, pkce, redirect_to).await?;
        users::save(&transaction, &mut user).await?;
        transaction.commit().await?;
        Ok(Outcome::Waiting(Box::new(user), mailings))
    }

    /// Remembers what a client proves when the link in its mail was followed.
    pub(super) async fn begin_flow(
        &self,
        db: &impl Db,
        user: Uuid,
        challenge: Option<Challenge>,
        method: &str,
    ) -> Result<(), Failure> {
        let flow = Flow {
            id: Uuid::new_v4(),
            user: Some(user),
            challenge,
            provider: "email".into(),
            method: method.into(),
            ..Flow::default()
        };
        Ok(flows::begin(db, &flow).await?)
    }

    /// A user with an address, who is not in the database yet.
    pub(super) fn unborn(&self, email: &str, hash: Option<String>, data: Data, confirmed: bool) -> User {
        let now = OffsetDateTime::now_utc();
        let mut user = User::new(&self.config.audience, Some(email.to_owned()), now);
        user.encrypted_password = hash;
        user.user_metadata = with_claims(data, &user, confirmed);
        user.app_metadata = named("email");
        user.email_confirmed_at = confirmed.then_some(now);
        user
    }

    /// Writes a new user with an identity for the address.
    pub(super) async fn enter(&self, db: &impl Db, newcomer: Newcomer) -> Result<User, Failed> {
        let (id, said) = (newcomer.user.id.to_string(), newcomer.user.user_metadata.clone());
        self.insert(db, newcomer, "email", &id, said).await
    }

    /// Writes a new user with an identity.
    pub(super) async fn insert(
        &self,
        db: &impl Db,
        newcomer: Newcomer,
        provider: &str,
        provider_id: &str,
        said: Data,
    ) -> Result<User, Failed> {
        let mut user = newcomer.admitted().map_err(Failed::Other)?;
        users::insert(db, &user).await.map_err(refused)?;
        let now = OffsetDateTime::now_utc();
        identities::add(db, &mut user, provider, provider_id, said, now).await.map_err(refused)?;
        // A trigger of the application's may have changed the row.
        users::lock(db, user.id).await.map_err(refused)?.ok_or_else(|| {
            Failed::Other(Failure::internal("Database error loading user after sign-up", "the new row is gone"))
        })
    }

    async fn signup_anonymous(&self, params: Params, ask: &Ask) -> Answer {
        if !self.config.anonymous_enabled {
            return Err(Failure::unprocessable("anonymous_provider_disabled", "Anonymous sign-ins are disabled"));
        }
        self.limits.take(Class::Anonymous, ask.client).map_err(Failure::too_many)?;
        self.may_sign_up()?;
        let mut user = User::new(&self.config.audience, None, OffsetDateTime::now_utc());
        user.is_anonymous = true;
        user.user_metadata = params.data.unwrap_or_default();
        let user = self.welcome(user, ask).await?.admitted()?;
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        users::insert(&transaction, &user).await.map_err(refused)?;
        let user = users::lock(&transaction, user.id)
            .await?
            .ok_or_else(|| Failure::internal("Database error loading user after sign-up", "the new row is gone"))?;
        note(&transaction, &Actor::User(&user), Action::SignedUp, json!({"provider": "anonymous"}), ask.client).await?;
        let ticket = self.open(&transaction, user, "anonymous", ask).await?;
        transaction.commit().await?;
        drop(connection);
        answer::ok(&self.redeem(ticket).await?.json())
    }

    /// What looks like a new user, for an address that has an account.
    fn fake(&self, email: &str, data: Data) -> Value {
        let now = OffsetDateTime::now_utc();
        let mut user = User::new(&self.config.audience, Some(email.to_owned()), now);
        user.confirmation_sent_at = Some(now);
        user.app_metadata = named("email");
        user.user_metadata = with_claims(data, &user, false);
        let mut json = user.json();
        json["created_at"] = moment(now).into();
        json
    }
}

/// Why a user could not be written.
pub enum Failed {
    /// The address has an account.
    Taken,
    /// Something else.
    Other(Failure),
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Taken => Failure::unprocessable("user_already_exists", "User already registered"),
            Failed::Other(failure) => failure,
        }
    }
}

fn refused(error: tokio_postgres::Error) -> Failed {
    if error.code() == Some(&SqlState::UNIQUE_VIOLATION) {
        return Failed::Taken;
    }
    let message = "Database error saving new user";
    let failure = Failure::from(error);
    // Clients know this message: it is what a failing trigger of the application's looks like.
    Failed::Other(if failure.code == "unexpected_failure" {
        Failure { message: message.into(), ..failure }
    } else {
        failure
    })
}

fn provider() -> Value {
    json!({"provider": "email"})
}

/// The application's data of a user with one provider.
#[must_use]
pub fn named(provider: &str) -> Data {
    let mut data = Data::new();
    data.insert("provider".into(), provider.into());
    data.insert("providers".into(), json!([provider]));
    data
}

/// What the identity of an address says, on top of what the user says.
#[must_use]
pub fn with_claims(mut data: Data, user: &User, verified: bool) -> Data {
    data.insert("sub".into(), user.id.to_string().into());
    data.insert("email".into(), user.address().into());
    data.insert("email_verified".into(), verified.into());
    data.insert("phone_verified".into(), false.into());
    data
}
