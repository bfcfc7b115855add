//! Whose account it is when somebody comes from a provider.
//!
//! An identity that is known is its user's. One that is not goes to the user with the same address, if the provider
//! says that the address is verified; else a user is made. An address that nobody verified never leads to an account:
//! whoever may write any address at a provider would get the account of its owner here. And where the account's own
//! address was never confirmed, whoever made it loses it: the password, the other identities and the sessions go.

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Inner;
use super::ask::{Ask, merge};
use super::failure::Failure;
use super::hooking::Newcomer;
use super::rules;
use super::session::Ticket;
use super::signup::{Failed, named};
use super::store::audit::{Action, Actor, note};
use super::store::flows::{self, Flow};
use super::store::sessions::{self, Which};
use super::store::{Db, factors, identities, tokens, users};
use super::token;
use super::user::User;
use crate::auth::oauth::Person;

/// Somebody who comes from a provider.
pub struct Arrival<'a> {
    /// The provider's name here.
    pub provider: &'a str,
    /// Who it is there.
    pub person: &'a Person,
    /// Who adds this identity to their account.
    pub linking: Option<Uuid>,
}

/// What the client gets.
pub enum Arrived {
    /// A session.
    Ticket(Box<Ticket>),
    /// A code for it.
    Code(String),
}

/// Why nobody came in yet.
enum Unsettled {
    /// A user must be made, and it was not asked yet whether that may be.
    New(Box<User>),
    /// Somebody changed the same rows.
    Raced,
    Failed(Failure),
}

impl<T: Into<Failure>> From<T> for Unsettled {
    fn from(error: T) -> Self {
        Self::Failed(error.into())
    }
}

impl Inner {
    /// Lets somebody in. With `flow`, which continues one of PKCE, there is a code; else a session.
    pub(super) async fn arrive(
        &self,
        arrival: &Arrival<'_>,
        method: &'static str,
        flow: Option<Flow>,
        ask: &Ask,
    ) -> Result<Arrived, Failure> {
        let mut newcomer = None;
        for _ in 0..4 {
            let mut connection = self.pool.get().await?;
            let transaction = connection.begin().await?;
            match self.settle(&transaction, arrival, newcomer.take(), ask).await {
                Ok(user) => {
                    let arrived = match &flow {
                        None => Arrived::Ticket(Box::new(self.open(&transaction, user, method, ask).await?)),
                        Some(flow) => {
                            let code = token::opaque()?;
                            flows::begin(&transaction, flow).await?;
                            flows::issue(&transaction, flow, user.id, &code).await?;
                            Arrived::Code(code)
                        }
                    };
                    transaction.commit().await?;
                    return Ok(arrived);
                }
                Err(Unsettled::Failed(failure)) => return Err(failure),
                Err(Unsettled::Raced) => {}
                Err(Unsettled::New(user)) => {
                    transaction.rollback().await?;
                    drop(connection);
                    newcomer = Some(self.welcome(*user, ask).await?);
                }
            }
        }
        Err(Failure::new(http::StatusCode::CONFLICT, "conflict", "The account was changed meanwhile. Try again."))
    }

    async fn settle(
        &self,
        db: &impl Db,
        arrival: &Arrival<'_>,
        newcomer: Option<Newcomer>,
        ask: &Ask,
    ) -> Result<User, Unsettled> {
        let Arrival { provider, person, linking } = *arrival;
        let known = identities::owner(db, provider, &person.subject).await?;
        if let Some(target) = linking {
            return Self::adopt(db, arrival, target, known, ask).await;
        }
        // An address that could not be stored is none.
        let address = person.email.as_deref().and_then(|email| rules::email(email).ok());
        if let Some(owner) = known {
            return Self::known(db, arrival, owner, address.as_deref(), ask).await;
        }
        if let Some(address) = address.as_deref().filter(|_| person.email_verified)
            && let Some(owner) = one_of(&users::of_address(db, address).await?)?
        {
            return Self::join(db, arrival, owner, address, ask).await;
        }
        let Some(newcomer) = newcomer else {
            return Err(Unsettled::New(Box::new(self.newborn(db, arrival, address).await?)));
        };
        let data = person.data.clone();
        let user = match self.insert(db, newcomer, provider, &person.subject, data).await {
            Ok(user) => user,
            Err(Failed::Taken) => return Err(Unsettled::Raced),
            Err(Failed::Other(failure)) => return Err(failure.into()),
        };
        let traits = json!({"provider": provider});
        note(db, &Actor::User(&user), Action::SignedUp, traits.clone(), ask.client).await?;
        note(db, &Actor::User(&user), Action::Login, traits, ask.client).await?;
        Ok(user)
    }

    /// The user who would be made.
    async fn newborn(&self, db: &impl Db, arrival: &Arrival<'_>, address: Option<String>) -> Result<User, Failure> {
        let Arrival { provider, person, .. } = *arrival;
        self.may_sign_up()?;
        let optional = self.providers.get(provider).is_some_and(|known| known.email_optional);
        let address = match address {
            Some(address) if person.email_verified => Some(address),
            // Where addresses are believed, one that is free is believed here too.
            Some(address) if self.autoconfirms && !users::is_taken(db, &address, None).await? => Some(address),
            _ if optional => None,
            Some(_) => return Err(unverified(provider)),
            None => {
                let message = format!("{provider} gave no email address of the user");
                return Err(Failure::unprocessable("provider_email_needs_verification", message));
            }
        };
        let now = OffsetDateTime::now_utc();
        let mut user = User::new(&self.config.audience, address, now);
        user.email_confirmed_at = user.email.is_some().then_some(now);
        user.user_metadata.clone_from(&person.data);
        user.app_metadata = named(provider);
        Ok(user)
    }

    /// Somebody who has been here with this identity.
    async fn known(
        db: &impl Db,
        arrival: &Arrival<'_>,
        owner: Uuid,
        address: Option<&str>,
        ask: &Ask,
    ) -> Result<User, Unsettled> {
        let Arrival { provider, person, .. } = *arrival;
        let mut user = users::lock(db, owner).await?.ok_or(Unsettled::Raced)?;
        let is = |known: &super::user::Identity| known.provider == provider && known.id == person.subject;
        let identity = user.identities.iter().find(|known| is(known)).ok_or(Unsettled::Raced)?.identity_id;
        may_come(&user)?;
        let now = OffsetDateTime::now_utc();
        if user.email.is_some() && user.email_confirmed_at.is_none() && user.phone_confirmed_at.is_none() {
            if !person.email_verified || address != user.email.as_deref() {
                return Err(unverified(provider).into());
            }
            take_over(db, &mut user, Some(identity)).await?;
            user.confirm(now);
        }
        identities::update(db, &mut user, identity, person.data.clone(), now).await?;
        merge(&mut user.user_metadata, person.data.clone());
        users::save(db, &mut user).await?;
        note(db, &Actor::User(&user), Action::Login, json!({"provider": provider}), ask.client).await?;
        Ok(user)
    }

    /// Somebody who has an account, and proves it by the address.
    async fn join(
        db: &impl Db,
        arrival: &Arrival<'_>,
        owner: Uuid,
        address: &str,
        ask: &Ask,
    ) -> Result<User, Unsettled> {
        let Arrival { provider, person, .. } = *arrival;
        let mut user = users::lock(db, owner).await?.ok_or(Unsettled::Raced)?;
        if !users::of_address(db, address).await?.iter().any(|(id, _)| *id == owner) {
            return Err(Unsettled::Raced);
        }
        may_come(&user)?;
        let now = OffsetDateTime::now_utc();
        if user.email_confirmed_at.is_none() && user.phone_confirmed_at.is_none() {
            take_over(db, &mut user, None).await?;
            user.confirm(now);
        }
        add(db, &mut user, arrival, now).await?;
        merge(&mut user.user_metadata, person.data.clone());
        users::save(db, &mut user).await.map_err(raced)?;
        note(db, &Actor::User(&user), Action::Login, json!({"provider": provider}), ask.client).await?;
        Ok(user)
    }

    /// Adds the identity to the account of somebody who is signed in.
    async fn adopt(
        db: &impl Db,
        arrival: &Arrival<'_>,
        target: Uuid,
        known: Option<Uuid>,
        ask: &Ask,
    ) -> Result<User, Unsettled> {
        let Arrival { provider, person, .. } = *arrival;
        let missing = || Failure::forbidden("user_not_found", "User from sub claim in JWT does not exist");
        let mut user = users::lock(db, target).await?.ok_or_else(missing)?;
        may_come(&user)?;
        match known {
            None => {}
            Some(owner) if owner == target => {
                let message = "Identity is already linked";
                return Err(Failure::unprocessable("identity_already_exists", message).into());
            }
            Some(_) => {
                let message = "Identity is already linked to another user";
                return Err(Failure::unprocessable("identity_already_exists", message).into());
            }
        }
        let now = OffsetDateTime::now_utc();
        add(db, &mut user, arrival, now).await?;
        let address = person.email.as_deref().and_then(|email| rules::email(email).ok());
        if let Some(address) = address.filter(|_| user.email.is_none() && person.email_verified) {
            if users::is_taken(db, &address, Some(target)).await? {
                let message = "A user with this email address has already been registered";
                return Err(Failure::unprocessable("email_exists", message).into());
            }
            user.email = Some(address);
            user.confirm(now);
        }
        user.is_anonymous = false;
        users::save(db, &mut user).await.map_err(raced)?;
        note(db, &Actor::User(&user), Action::Modified, json!({"provider": provider}), ask.client).await?;
        Ok(user)
    }
}

/// The one user of those who have an address: whose own it is comes before those with an identity that has it.
fn one_of(owners: &[(Uuid, bool)]) -> Result<Option<Uuid>, Failure> {
    match owners {
        [] => Ok(None),
        [(owner, _)] | [(owner, true), ..] => Ok(Some(*owner)),
        _ => Err(Failure::internal(
            "Multiple accounts with the same email address in the same linking domain detected: default",
            "identities of several users have one verified address",
        )),
    }
}

async fn add(db: &impl Db, user: &mut User, arrival: &Arrival<'_>, now: OffsetDateTime) -> Result<(), Unsettled> {
    let Arrival { provider, person, .. } = *arrival;
    identities::add(db, user, provider, &person.subject, person.data.clone(), now).await.map_err(raced)?;
    user.name_providers();
    Ok(())
}

/// The unique indices know more than a question asked before.
fn raced(error: tokio_postgres::Error) -> Unsettled {
    if error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION) {
        return Unsettled::Raced;
    }
    error.into()
}

fn may_come(user: &User) -> Result<(), Failure> {
    if user.is_banned(OffsetDateTime::now_utc()) {
        return Err(Failure::forbidden("user_banned", "User is banned"));
    }
    Ok(())
}

/// Leaves nothing in an account to whoever made it with an address that was never confirmed.
async fn take_over(db: &impl Db, user: &mut User, keep: Option<Uuid>) -> Result<(), Failure> {
    let others: Vec<Uuid> =
        user.identities.iter().map(|identity| identity.identity_id).filter(|id| Some(*id) != keep).collect();
    identities::remove(db, user, &others).await?;
    sessions::close(db, user.id, Which::All).await?;
    factors::remove(db, user.id, None).await?;
    tokens::clear(db, user.id).await?;
    user.factors.clear();
    user.encrypted_password = None;
    user.phone = None;
    user.recovery_token = None;
    user.email_change = None;
    user.email_change_token_new = None;
    user.email_change_token_current = None;
    user.email_change_confirm_status = 0;
    user.phone_change = None;
    user.reauthentication_token = None;
    // What an administrator wrote into an invitation stays.
    if user.invited_at.is_none() {
        user.user_metadata.clear();
    }
    user.name_providers();
    Ok(())
}

fn unverified(provider: &str) -> Failure {
    let message = format!("Unverified email with {provider}. Verify the email with {provider} in order to sign in");
    Failure::unprocessable("provider_email_needs_verification", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_an_address_comes_before_others_and_two_strangers_are_an_error() {
        let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
        assert_eq!(one_of(&[]).unwrap(), None);
        assert_eq!(one_of(&[(one, false)]).unwrap(), Some(one));
        assert_eq!(one_of(&[(two, true), (one, false)]).unwrap(), Some(two));
        assert_eq!(one_of(&[(one, false), (two, false)]).unwrap_err().status, 500);
    }
}
