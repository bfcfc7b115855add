//! /admin/users: accounts made, changed and deleted with keys of the service role.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::Inner;
use super::answer;
use super::ask::{Ask, merge};
use super::failure::{Answer, Failure};
use super::pages::{paging, with_pages};
use super::rules;
use super::store::audit::{Action, Actor, note};
use super::store::sessions::{self, Which};
use super::store::users::{self, Page};
use super::store::{Db, factors, identities};
use super::token;
use super::user::{Data, User, filled};
use crate::auth::passwords::Stored;

/// What an administrator sets.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    id: String,
    aud: String,
    role: String,
    email: String,
    phone: String,
    password: Option<String>,
    password_hash: String,
    email_confirm: bool,
    phone_confirm: bool,
    user_metadata: Option<Data>,
    app_metadata: Option<Data>,
    ban_duration: String,
    nonce: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Deletion {
    should_soft_delete: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FactorParams {
    friendly_name: String,
    phone: String,
}

/// A ban that ends with the calendar.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 100);

/// Durations as in "24h", "1h30m"; "none" is zero.
fn duration(text: &str) -> Result<Duration, Failure> {
    let invalid = || Failure::invalid(format!("invalid format for ban duration: {text:?}"));
    if text == "none" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0.0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|ch: char| !ch.is_ascii_digit() && ch != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let unit = rest.find(|ch: char| ch.is_ascii_digit() || ch == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return Err(invalid()),
            };
        rest = &rest[unit..];
    }
    if text.is_empty() || !total.is_finite() {
        return Err(invalid());
    }
    Ok(Duration::from_secs_f64(total.min(FOR_EVER.as_secs_f64())))
}

fn ban(user: &mut User, text: &str, now: OffsetDateTime) -> Result<(), Failure> {
    if !text.is_empty() {
        let length = duration(text)?;
        user.banned_until = (!length.is_zero()).then(|| now + length);
    }
    Ok(())
}

/// A role is sent to the database with each of the user's requests, so it must look like one.
fn check_role(role: &str) -> Result<(), Failure> {
    if role.len() <= 63 && !role.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Failure::invalid("role must be a name of at most 63 bytes"))
}

const TAKEN: &str = "A user with this email address has already been registered";

/// The unique index knows more than a question asked before.
fn collided(error: tokio_postgres::Error) -> Failure {
    if error.code() == Some(&SqlState::UNIQUE_VIOLATION) {
        return Failure::unprocessable("email_exists", TAKEN);
    }
    error.into()
}

impl Inner {
    /// GET /admin/users
    pub(super) async fn list_users(&self, ask: &Ask) -> Answer {
        let (page, size) = paging(ask)?;
        let ascending = match ask.param("sort").map(str::trim) {
            None | Some("created_at" | "created_at desc") => false,
            Some("created_at asc") => true,
            Some(_) => return Err(Failure::invalid("Bad Sort Parameters: only created_at can be sorted by")),
        };
        let filter = ask.param("filter").unwrap_or_default().to_owned();
        let connection = self.pool.get().await?;
        let wanted = Page { offset: (page - 1).saturating_mul(size), limit: size, filter, ascending };
        let (users, total) = users::list(&*connection, &wanted).await?;
        let users: Vec<Value> = users.iter().map(User::json).collect();
        let response = answer::json(http::StatusCode::OK, &json!({"users": users, "aud": self.config.audience}));
        Ok(with_pages(response, ask, page, size, total))
    }

    /// GET /admin/users/{id}
    pub(super) async fn get_user(&self, id: &str) -> Answer {
        let connection = self.pool.get().await?;
        let user = users::by_id(&*connection, identifier(id, "user_id")?).await?.ok_or_else(missing)?;
        answer::ok(&user.json())
    }

    /// POST /admin/users
    pub(super) async fn create_user(&self, ask: &Ask, role: &str) -> Answer {
        let params: Params = ask.json()?;
        let user = self.create(params, &Actor::Admin(role), ask.client).await?;
        answer::ok(&user.json())
    }

    async fn create(&self, params: Params, actor: &Actor<'_>, client: IpAddr) -> Result<User, Failure> {
        let now = OffsetDateTime::now_utc();
        if params.email.is_empty() && params.phone.is_empty() {
            return Err(Failure::invalid("Cannot create a user without either an email or phone"));
        }
        let email = if params.email.is_empty() { None } else { Some(rules::email(&params.email)?) };
        let phone = if params.phone.is_empty() { None } else { Some(rules::phone(&params.phone)?) };
        let aud = if params.aud.is_empty() { &self.config.audience } else { &params.aud };
        let mut user = User::new(aud, email, now);
        user.phone = phone;
        if !params.id.is_empty() {
            user.id =
                Uuid::try_parse(&params.id).map_err(|_| Failure::invalid("ID must conform to the uuid v4 format"))?;
            if user.id.is_nil() {
                return Err(Failure::invalid("ID cannot be a nil uuid"));
            }
        }
        if !params.role.is_empty() {
            check_role(&params.role)?;
            user.role.clone_from(&params.role);
        }
        ban(&mut user, &params.ban_duration, now)?;
        user.encrypted_password = self.first_password(&params).await?;
        let mut providers = Vec::new();
        providers.extend(user.email.is_some().then_some("email"));
        providers.extend(user.phone.is_some().then_some("phone"));
        user.app_metadata.insert("provider".into(), providers[0].into());
        user.app_metadata.insert("providers".into(), json!(providers));
        merge(&mut user.app_metadata, params.app_metadata.unwrap_or_default());
        merge(&mut user.user_metadata, params.user_metadata.unwrap_or_default());
        if params.email_confirm && user.email.is_some() {
            user.email_confirmed_at = Some(now);
            user.user_metadata.insert("email_verified".into(), true.into());
        }
        if params.phone_confirm && user.phone.is_some() {
            user.phone_confirmed_at = Some(now);
        }
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        if let Some(email) = &user.email
            && users::is_taken(&transaction, email, None).await?
        {
            return Err(Failure::unprocessable("email_exists", TAKEN));
        }
        if let Some(phone) = &user.phone
            && users::is_phone_taken(&transaction, phone, None).await?
        {
            let message = "Phone number already registered by another user";
            return Err(Failure::unprocessable("phone_exists", message));
        }
        users::insert(&transaction, &user).await.map_err(collided)?;
        let (id, mut said) = (user.id.to_string(), Data::new());
        said.insert("sub".into(), id.clone().into());
        if user.email.is_some() {
            let mut data = said.clone();
            data.insert("email".into(), user.address().into());
            data.insert("email_verified".into(), params.email_confirm.into());
            data.insert("phone_verified".into(), false.into());
            identities::add(&transaction, &mut user, "email", &id, data, now).await?;
        }
        if let Some(phone) = user.phone.clone() {
            said.insert("phone".into(), phone.into());
            said.insert("phone_verified".into(), params.phone_confirm.into());
            identities::add(&transaction, &mut user, "phone", &id, said, now).await?;
        }
        let user = users::lock(&transaction, user.id).await?.ok_or_else(missing)?;
        note(&transaction, actor, Action::SignedUp, traits(&user), client).await?;
        transaction.commit().await?;
        Ok(user)
    }

    async fn first_password(&self, params: &Params) -> Result<Option<String>, Failure> {
        let password = params.password.as_deref().filter(|password| !password.is_empty());
        match (password, params.password_hash.as_str()) {
            (Some(_), hash) if !hash.is_empty() => {
                Err(Failure::invalid("Only a password or a password hash should be provided"))
            }
            (Some(password), _) => Ok(Some(self.hasher.hash(password).await?)),
            (None, "") => Ok(None),
            (None, hash) => {
                Stored::parse(hash).map_err(|error| Failure::invalid(format!("password_hash: {error}")))?;
                Ok(Some(hash.to_owned()))
            }
        }
    }

    /// PUT /admin/users/{id}
    pub(super) async fn change_user(&self, ask: &Ask, id: &str, role: &str) -> Answer {
        let id = identifier(id, "user_id")?;
        let params: Params = ask.json()?;
        let now = OffsetDateTime::now_utc();
        let email = if params.email.is_empty() { None } else { Some(rules::email(&params.email)?) };
        let phone = if params.phone.is_empty() { None } else { Some(rules::phone(&params.phone)?) };
        check_role(&params.role)?;
        if !params.password_hash.is_empty() || !params.id.is_empty() || params.nonce.is_some() {
            return Err(Failure::invalid("id, password_hash and nonce cannot be changed"));
        }
        let hash = match params.password.as_deref() {
            Some(password) => match rules::weakness(&self.config, password) {
                Some(weak) => return Err(weak),
                None => Some(self.hasher.hash(password).await?),
            },
            None => None,
        };
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let mut user = users::lock(&transaction, id).await?.ok_or_else(missing)?;
        if !params.role.is_empty() {
            user.role = params.role;
        }
        if !params.aud.is_empty() {
            user.aud = params.aud;
        }
        if params.email_confirm && (user.email.is_some() || email.is_some()) {
            user.confirm(now);
        }
        if params.phone_confirm && (user.phone.is_some() || phone.is_some()) {
            user.phone_confirmed_at = Some(now);
        }
        if let Some(hash) = hash {
            self.set_password(&transaction, &mut user, hash, None).await?;
        }
        if let Some(email) = email {
            if users::is_taken(&transaction, &email, Some(id)).await? {
                return Err(Failure::unprocessable("email_exists", TAKEN));
            }
            user.email = Some(email.clone());
            let said = [("email", Value::from(email)), ("email_verified", params.email_confirm.into())];
            say(&transaction, &mut user, "email", said, now).await?;
            user.is_anonymous &= !params.email_confirm;
        }
        if let Some(phone) = phone {
            if users::is_phone_taken(&transaction, &phone, Some(id)).await? {
                let message = "Phone number already registered by another user";
                return Err(Failure::unprocessable("phone_exists", message));
            }
            user.phone = Some(phone.clone());
            let said = [("phone", Value::from(phone)), ("phone_verified", params.phone_confirm.into())];
            say(&transaction, &mut user, "phone", said, now).await?;
            user.is_anonymous &= !params.phone_confirm;
        }
        merge(&mut user.app_metadata, params.app_metadata.unwrap_or_default());
        merge(&mut user.user_metadata, params.user_metadata.unwrap_or_default());
        ban(&mut user, &params.ban_duration, now)?;
        note(&transaction, &Actor::Admin(role), Action::Modified, traits(&user), ask.client).await?;
        users::save(&transaction, &mut user).await.map_err(collided)?;
        transaction.commit().await?;
        answer::ok(&user.json())
    }

    /// DELETE /admin/users/{id}
    pub(super) async fn delete_user(&self, ask: &Ask, id: &str, role: &str) -> Answer {
        let id = identifier(id, "user_id")?;
        let Deletion { should_soft_delete: soft } = ask.json()?;
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let mut user = users::lock(&transaction, id).await?.ok_or_else(missing)?;
        note(&transaction, &Actor::Admin(role), Action::Deleted, traits(&user), ask.client).await?;
        if soft {
            if user.deleted_at.is_none() {
                self.bury(&transaction, &mut user).await?;
            }
        } else {
            users::delete(&transaction, id).await?;
        }
        transaction.commit().await?;
        answer::nothing()
    }

    /// Deletes everything of a user but the row and its identifier.
    async fn bury(&self, db: &impl Db, user: &mut User) -> Result<(), Failure> {
        let now = OffsetDateTime::now_utc();
        // Nobody can sign up with a hash, and the address is free again.
        let id = user.id.to_string();
        let veil = |text: Option<&str>| text.map(|text| token::digest(&format!("{id}{text}")));
        user.email = veil(user.email.as_deref());
        user.phone = veil(user.phone.as_deref()).map(|hash| hash[..15].to_owned());
        user.email_change = veil(filled(user.email_change.as_ref()));
        user.phone_change = None;
        user.encrypted_password = None;
        user.confirmation_token = None;
        user.recovery_token = None;
        user.email_change_token_new = None;
        user.email_change_token_current = None;
        user.reauthentication_token = None;
        user.user_metadata = Data::new();
        user.app_metadata = Data::new();
        user.deleted_at = Some(now);
        super::store::tokens::clear(db, user.id).await?;
        sessions::close(db, user.id, Which::All).await?;
        factors::remove(db, user.id, None).await?;
        let all: Vec<Uuid> = user.identities.iter().map(|identity| identity.identity_id).collect();
        identities::remove(db, user, &all).await?;
        users::save(db, user).await?;
        Ok(())
    }

    /// GET /admin/users/{id}/factors
    pub(super) async fn list_factors(&self, id: &str) -> Answer {
        let connection = self.pool.get().await?;
        let user = users::by_id(&*connection, identifier(id, "user_id")?).await?.ok_or_else(missing)?;
        answer::ok(&user.factors)
    }

    /// PUT and DELETE /admin/users/{id}/factors/{factor}
    pub(super) async fn change_factor(&self, ask: &Ask, id: &str, factor: &str, role: &str) -> Answer {
        let (id, factor) = (identifier(id, "user_id")?, identifier(factor, "factor_id")?);
        let now = OffsetDateTime::now_utc();
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let user = users::lock(&transaction, id).await?.ok_or_else(missing)?;
        let mut found = user
            .factors
            .iter()
            .find(|known| known.id == factor)
            .cloned()
            .ok_or_else(|| Failure::not_found("mfa_factor_not_found", "Factor not found"))?;
        let mut traits = traits(&user);
        traits["factor_id"] = json!(factor);
        if ask.method == http::Method::DELETE {
            factors::remove(&transaction, id, Some(factor)).await?;
            sessions::lower(&transaction, id, factor).await?;
            note(&transaction, &Actor::Admin(role), Action::FactorDeleted, traits, ask.client).await?;
        } else {
            let params: FactorParams = ask.json()?;
            if !params.phone.is_empty() {
                return Err(Failure::invalid("Only the friendly_name of a factor can be changed"));
            }
            if !params.friendly_name.is_empty() {
                factors::rename(&transaction, id, factor, &params.friendly_name, now).await?;
                found.friendly_name = Some(params.friendly_name);
            }
            note(&transaction, &Actor::Admin(role), Action::FactorUpdated, traits, ask.client).await?;
        }
        transaction.commit().await?;
        answer::ok(&found)
    }
}

/// Puts what an administrator knows of a user into the identity of a provider, which is made if it is missing.
async fn say(
    db: &impl Db,
    user: &mut User,
    provider: &str,
    said: [(&str, Value); 2],
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let id = user.id.to_string();
    let known = user.identities.iter().find(|identity| identity.provider == provider).cloned();
    let mut data = known.as_ref().map(|known| known.identity_data.clone()).unwrap_or_default();
    data.insert("sub".into(), id.clone().into());
    for (name, value) in said {
        data.insert(name.into(), value);
    }
    if let Some(known) = known {
        identities::update(db, user, known.identity_id, data, now).await?;
    } else {
        identities::add(db, user, provider, &id, data, now).await?;
        user.name_providers();
    }
    Ok(())
}

fn traits(user: &User) -> Value {
    json!({
        "user_id": user.id,
        "user_email": user.address(),
        "user_phone": user.phone.as_deref().unwrap_or_default(),
    })
}

fn missing() -> Failure {
    Failure::not_found("user_not_found", "User not found")
}

/// A path segment that is an identifier.
pub fn identifier(text: &str, name: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(text).map_err(|_| Failure::not_found("validation_failed", format!("{name} must be an UUID")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_are_written_as_in_go() {
        for (text, seconds) in [("none", 0.0), ("24h", 86_400.0), ("1h30m", 5_400.0), ("1.5s", 1.5), ("100ms", 0.1)] {
            assert_eq!(duration(text).unwrap(), Duration::from_secs_f64(seconds), "{text}");
        }
        assert_eq!(duration("99999999999h").unwrap(), FOR_EVER);
        for bad in ["", "24", "h", "1d", "-1h", "1h 30m", "1e9h", "nan"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_role_is_a_name() {
        assert!(check_role("editor").is_ok() && check_role("").is_ok());
        assert!(check_role(&"x".repeat(64)).is_err() && check_role("a\0b").is_err());
    }
}
