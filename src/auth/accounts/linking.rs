//! /user/identities: the ways to sign in of the signed-in user, where `auth.manual_linking` allows to change them.

use serde_json::json;

use super::Inner;
use super::admin::identifier;
use super::answer;
use super::ask::Ask;
use super::failure::{Answer, Failure};
use super::limits::Class;
use super::store::audit::{Action, Actor, note};
use super::store::{Db, identities, users};
use super::user::User;

impl Inner {
    /// Whether users may change their ways to sign in.
    pub(super) fn may_link(&self) -> Result<(), Failure> {
        if self.config.manual_linking {
            return Ok(());
        }
        Err(Failure::not_found("manual_linking_disabled", "Manual linking is disabled"))
    }

    /// DELETE /user/identities/{id}
    pub(super) async fn unlink(&self, ask: &Ask, identity: &str) -> Answer {
        self.limits.take(Class::User, ask.client).map_err(Failure::too_many)?;
        self.may_link()?;
        let mut connection = self.pool.get().await?;
        let id = self.signed(&*connection, ask).await?.user.id;
        let identity = identifier(identity, "identity_id")?;
        let transaction = connection.begin().await?;
        let mut user = users::lock(&transaction, id)
            .await?
            .ok_or_else(|| Failure::forbidden("user_not_found", "User from sub claim in JWT does not exist"))?;
        let Some(found) = user.identities.iter().find(|known| known.identity_id == identity).cloned() else {
            return Err(Failure::unprocessable("identity_not_found", "Identity doesn't exist"));
        };
        if user.identities.len() <= 1 {
            let message = "User must have at least 1 identity after unlinking";
            return Err(Failure::unprocessable("single_identity_not_deletable", message));
        }
        identities::remove(&transaction, &mut user, &[identity]).await?;
        if found.provider == "phone" {
            user.phone = None;
            user.phone_confirmed_at = None;
        } else {
            follow_identities(&transaction, &mut user).await?;
        }
        user.name_providers();
        let traits = json!({"identity_id": identity, "provider": found.provider, "provider_id": found.id});
        note(&transaction, &Actor::User(&user), Action::IdentityUnlinked, traits, ask.client).await?;
        users::save(&transaction, &mut user).await?;
        transaction.commit().await?;
        answer::nothing()
    }
}

/// Gives the user the address of an identity, unless one has the user's address already.
async fn follow_identities(db: &impl Db, user: &mut User) -> Result<(), Failure> {
    let address = user.address().to_owned();
    if user.identities.iter().any(|identity| identity.email.as_deref().unwrap_or_default() == address) {
        return Ok(());
    }
    for identity in &user.identities {
        match identity.email.clone().filter(|email| !email.is_empty()) {
            Some(email) if !users::is_taken(db, &email, Some(user.id)).await? => {
                user.email = Some(email);
                return Ok(());
            }
            Some(_) => {}
            None => {
                user.email = None;
                user.email_confirmed_at = None;
                return Ok(());
            }
        }
    }
    let message = "Unable to unlink identity due to email conflict";
    Err(Failure::unprocessable("email_conflict_identity_not_deletable", message))
}
