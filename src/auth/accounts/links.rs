//! POST /invite and /admin/generate_link: what an administrator sends to users.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Inner;
use super::answer;
use super::ask::{Ask, merge};
use super::failure::{Answer, Failure};
use super::rules;
use super::store::audit::{Action, Actor, note};
use super::store::users;
use super::user::{Data, User};
use crate::mail::Kind;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    #[serde(rename = "type")]
    kind: String,
    email: String,
    new_email: String,
    password: String,
    data: Option<Data>,
    redirect_to: String,
}

const TAKEN: &str = "A user with this email address has already been registered";

impl Inner {
    /// POST /invite
    pub(super) async fn invite(&self, ask: &Ask, role: &str) -> Answer {
        let params: Params = ask.json()?;
        let email = rules::email(&params.email)?;
        self.may_mail()?;
        let newcomer = self.welcome(self.unborn(&email, None, params.data.unwrap_or_default(), false), ask).await?;
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let mut user = match users::lock_email(&transaction, &email).await? {
            Some(user) if user.email_confirmed_at.is_some() => {
                return Err(Failure::unprocessable("email_exists", TAKEN));
            }
            Some(user) => user,
            None => self.enter(&transaction, newcomer).await?,
        };
        note(&transaction, &Actor::Admin(role), Action::Invited, traits(&user), ask.client).await?;
        let redirect_to = self.allowed.choose(ask.wanted());
        let mailings = self.prepare(&transaction, &mut user, Kind::Invite, false, redirect_to).await?;
        users::save(&transaction, &mut user).await?;
        transaction.commit().await?;
        self.post(&user, &mailings)?;
        answer::ok(&user.json())
    }

    /// POST /admin/generate_link
    pub(super) async fn generate_link(&self, ask: &Ask, role: &str) -> Answer {
        let params: Params = ask.json()?;
        let email = rules::email(&params.email)?;
        let redirect_to =
            self.allowed.choose(Some(params.redirect_to.as_str()).into_iter().chain(ask.wanted())).to_owned();
        let mut kind = match params.kind.as_str() {
            "signup" => Kind::Confirmation,
            "invite" => Kind::Invite,
            "magiclink" => Kind::MagicLink,
            "recovery" => Kind::Recovery,
            "email_change_current" | "email_change_new" => Kind::EmailChange,
            other => {
                return Err(Failure::invalid(format!("Invalid email action link type requested: {other}")));
            }
        };
        if params.kind == "email_change_current" && !self.config.secure_email_change {
            return Err(Failure::invalid("Enable secure email change to generate link for current email"));
        }
        let hash = if kind == Kind::Confirmation { self.signup_password(&params.password).await? } else { None };
        let data = params.data.unwrap_or_default();
        let makes = match kind {
            Kind::Confirmation => hash.is_some(),
            Kind::Invite | Kind::MagicLink => true,
            Kind::Recovery | Kind::EmailChange | Kind::Reauthentication => false,
        };
        let newcomer =
            if makes { Some(self.welcome(self.unborn(&email, hash, data.clone(), false), ask).await?) } else { None };
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let known = users::lock_email(&transaction, &email).await?;
        let mut verification = params.kind.clone();
        let mut user = match (known, kind) {
            (Some(user), Kind::Confirmation | Kind::Invite) if user.email_confirmed_at.is_some() => {
                return Err(Failure::unprocessable("email_exists", TAKEN));
            }
            (Some(mut user), _) => {
                if kind == Kind::Confirmation {
                    merge(&mut user.user_metadata, data);
                }
                user
            }
            (None, _) => match newcomer {
                Some(newcomer) => {
                    if kind == Kind::MagicLink {
                        // The link confirms the address, too.
                        kind = Kind::Confirmation;
                        "signup".clone_into(&mut verification);
                    }
                    self.enter(&transaction, newcomer).await?
                }
                None if kind == Kind::Confirmation => {
                    return Err(Failure::invalid("Signup requires a valid password"));
                }
                None => return Err(Failure::not_found("user_not_found", "User with this email not found")),
            },
        };
        if kind == Kind::EmailChange {
            let new = rules::email(&params.new_email)?;
            if users::is_taken(&transaction, &new, Some(user.id)).await? {
                return Err(Failure::unprocessable("email_exists", TAKEN));
            }
            user.email_change = Some(new);
        }
        let action = match kind {
            Kind::Invite => Action::Invited,
            Kind::Confirmation => Action::ConfirmationRequested,
            Kind::EmailChange => Action::Modified,
            _ => Action::RecoveryRequested,
        };
        note(&transaction, &Actor::Admin(role), action, traits(&user), ask.client).await?;
        let mailings = self.prepare(&transaction, &mut user, kind, false, &redirect_to).await?;
        users::save(&transaction, &mut user).await?;
        transaction.commit().await?;
        // A change of the address has a token for the new one first, then one for the old one.
        let wanted = if params.kind == "email_change_current" { mailings.last() } else { mailings.first() };
        let mailing = wanted.ok_or_else(|| Failure::internal("No link was made", "no mail was prepared"))?;
        let mut out = user.json();
        out["action_link"] = self.link(&mailing.hash, mailing.action, &redirect_to).into();
        out["email_otp"] = mailing.code.as_str().into();
        out["hashed_token"] = mailing.hash.as_str().into();
        out["verification_type"] = verification.into();
        out["redirect_to"] = redirect_to.into();
        answer::ok(&out)
    }

    async fn signup_password(&self, password: &str) -> Result<Option<String>, Failure> {
        if password.is_empty() {
            return Ok(None);
        }
        match rules::weakness(&self.config, password) {
            Some(weak) => Err(weak),
            None => Ok(Some(self.hasher.hash(password).await?)),
        }
    }
}

fn traits(user: &User) -> Value {
    json!({"user_id": user.id, "user_email": user.address()})
}
