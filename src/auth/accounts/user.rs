//! A user as the database has it, and as clients see it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::clock;

/// Free data of a user.
pub type Data = Map<String, Value>;

/// A user with identities and factors. Token columns are hashes; null and empty mean the same in them.
#[derive(Clone, Debug)]
pub struct User {
    /// The primary key, `sub` in tokens.
    pub id: Uuid,
    /// `aud` in tokens.
    pub aud: String,
    /// The database role of requests.
    pub role: String,
    /// In lower case.
    pub email: Option<String>,
    /// Digits alone.
    pub phone: Option<String>,
    /// The password's hash.
    pub encrypted_password: Option<String>,
    /// When the address was confirmed.
    pub email_confirmed_at: Option<OffsetDateTime>,
    /// When the number was confirmed.
    pub phone_confirmed_at: Option<OffsetDateTime>,
    /// When somebody invited the user.
    pub invited_at: Option<OffsetDateTime>,
    /// Hash of the token that confirms the address.
    pub confirmation_token: Option<String>,
    /// When it was sent.
    pub confirmation_sent_at: Option<OffsetDateTime>,
    /// Hash of the token that signs in without a password.
    pub recovery_token: Option<String>,
    /// When it was sent.
    pub recovery_sent_at: Option<OffsetDateTime>,
    /// Hash of the token sent to the new address.
    pub email_change_token_new: Option<String>,
    /// Hash of the token sent to the old address.
    pub email_change_token_current: Option<String>,
    /// The new address that is not confirmed yet.
    pub email_change: Option<String>,
    /// When the tokens were sent.
    pub email_change_sent_at: Option<OffsetDateTime>,
    /// How many of the two addresses have been confirmed.
    pub email_change_confirm_status: i16,
    /// A new number that is not confirmed yet.
    pub phone_change: Option<String>,
    /// Hash of the token that says that it is really the user.
    pub reauthentication_token: Option<String>,
    /// When it was sent.
    pub reauthentication_sent_at: Option<OffsetDateTime>,
    /// The last sign-in.
    pub last_sign_in_at: Option<OffsetDateTime>,
    /// What the application keeps about the user.
    pub app_metadata: Data,
    /// What the user says about themselves.
    pub user_metadata: Data,
    /// Row creation.
    pub created_at: Option<OffsetDateTime>,
    /// Last change.
    pub updated_at: Option<OffsetDateTime>,
    /// May not sign in before then.
    pub banned_until: Option<OffsetDateTime>,
    /// Managed by a single sign-on provider.
    pub is_sso_user: bool,
    /// Deleted, but the row is kept.
    pub deleted_at: Option<OffsetDateTime>,
    /// Has neither address nor number yet.
    pub is_anonymous: bool,
    /// The ways to sign in.
    pub identities: Vec<Identity>,
    /// Second factors.
    pub factors: Vec<Factor>,
}

/// One way to sign in.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Identity {
    /// The row.
    pub identity_id: Uuid,
    /// Who the user is to the provider.
    pub id: String,
    /// Whose it is.
    pub user_id: Uuid,
    /// What the provider says.
    pub identity_data: Data,
    /// "email", or the provider's name.
    pub provider: String,
    /// Its last use.
    pub last_sign_in_at: Option<String>,
    /// Row creation.
    pub created_at: Option<String>,
    /// Last change.
    pub updated_at: Option<String>,
    /// The address that the provider knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// A second factor, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Factor {
    /// The row.
    pub id: Uuid,
    /// Row creation.
    pub created_at: String,
    /// Last change.
    pub updated_at: String,
    /// "verified" once a code was accepted.
    pub status: String,
    /// The user's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub friendly_name: Option<String>,
    /// "totp".
    pub factor_type: String,
    /// When a challenge was made last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_challenged_at: Option<String>,
}

/// Text of a moment, RFC 3339 in UTC with microseconds.
#[must_use]
pub fn moment(at: OffsetDateTime) -> String {
    let mut text = String::with_capacity(27);
    clock::write_rfc3339(&mut text, at.into());
    text
}

/// Whether a value in a nullable text column is there.
#[must_use]
pub fn filled(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

impl User {
    /// A new user who is not in the database yet.
    #[must_use]
    pub fn new(aud: &str, email: Option<String>, now: OffsetDateTime) -> Self {
        Self {
            id: Uuid::new_v4(),
            aud: aud.to_owned(),
            role: "authenticated".into(),
            email,
            phone: None,
            encrypted_password: None,
            email_confirmed_at: None,
            phone_confirmed_at: None,
            invited_at: None,
            confirmation_token: None,
            confirmation_sent_at: None,
            recovery_token: None,
            recovery_sent_at: None,
            email_change_token_new: None,
            email_change_token_current: None,
            email_change: None,
            email_change_sent_at: None,
            email_change_confirm_status: 0,
            phone_change: None,
            reauthentication_token: None,
            reauthentication_sent_at: None,
            last_sign_in_at: None,
            app_metadata: Data::new(),
            user_metadata: Data::new(),
            created_at: Some(now),
            updated_at: Some(now),
            banned_until: None,
            is_sso_user: false,
            deleted_at: None,
            is_anonymous: false,
            identities: Vec::new(),
            factors: Vec::new(),
        }
    }

    /// The user of a row with the columns of `store::users`.
    ///
    /// # Errors
    /// A row of another form.
    pub fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let data = |name| -> Result<Data, tokio_postgres::Error> {
            Ok(match row.try_get::<_, Option<Value>>(name)? {
                Some(Value::Object(object)) => object,
                _ => Data::new(),
            })
        };
        let text = |name| -> Result<Option<String>, tokio_postgres::Error> { row.try_get(name) };
        let list = |name| row.try_get::<_, Value>(name);
        Ok(Self {
            id: row.try_get("id")?,
            aud: text("aud")?.unwrap_or_default(),
            role: text("role")?.unwrap_or_default(),
            email: text("email")?.filter(|email| !email.is_empty()),
            phone: text("phone")?.filter(|phone| !phone.is_empty()),
            encrypted_password: text("encrypted_password")?,
            email_confirmed_at: row.try_get("email_confirmed_at")?,
            phone_confirmed_at: row.try_get("phone_confirmed_at")?,
            invited_at: row.try_get("invited_at")?,
            confirmation_token: text("confirmation_token")?,
            confirmation_sent_at: row.try_get("confirmation_sent_at")?,
            recovery_token: text("recovery_token")?,
            recovery_sent_at: row.try_get("recovery_sent_at")?,
            email_change_token_new: text("email_change_token_new")?,
            email_change_token_current: text("email_change_token_current")?,
            email_change: text("email_change")?,
            email_change_sent_at: row.try_get("email_change_sent_at")?,
            email_change_confirm_status: row
                .try_get::<_, Option<i16>>("email_change_confirm_status")?
                .unwrap_or_default(),
            phone_change: text("phone_change")?,
            reauthentication_token: text("reauthentication_token")?,
            reauthentication_sent_at: row.try_get("reauthentication_sent_at")?,
            last_sign_in_at: row.try_get("last_sign_in_at")?,
            app_metadata: data("raw_app_meta_data")?,
            user_metadata: data("raw_user_meta_data")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            banned_until: row.try_get("banned_until")?,
            is_sso_user: row.try_get("is_sso_user")?,
            deleted_at: row.try_get("deleted_at")?,
            is_anonymous: row.try_get("is_anonymous")?,
            // Made by our own statement, so that their form is known.
            identities: serde_json::from_value(list("identities")?).unwrap_or_default(),
            factors: serde_json::from_value(list("factors")?).unwrap_or_default(),
        })
    }

    /// The address; empty if there is none.
    #[must_use]
    pub fn address(&self) -> &str {
        self.email.as_deref().unwrap_or_default()
    }

    /// Whether the user may not sign in at `now`.
    #[must_use]
    pub fn is_banned(&self, now: OffsetDateTime) -> bool {
        self.banned_until.is_some_and(|until| now < until)
    }

    /// Whether there is a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        filled(self.encrypted_password.as_ref()).is_some()
    }

    /// Whether a second factor is in use.
    #[must_use]
    pub fn has_factor(&self) -> bool {
        self.factors.iter().any(|factor| factor.status == "verified")
    }

    /// Marks the address as confirmed.
    pub fn confirm(&mut self, now: OffsetDateTime) {
        self.confirmation_token = None;
        self.email_confirmed_at = Some(now);
        self.user_metadata.insert("email_verified".into(), true.into());
    }

    /// Sets the providers in the application's data from the identities.
    pub fn name_providers(&mut self) {
        let mut providers: Vec<&str> = Vec::new();
        for identity in &self.identities {
            if !providers.contains(&identity.provider.as_str()) {
                providers.push(&identity.provider);
            }
        }
        let first = providers.first().map(|first| (*first).to_owned());
        let providers = json!(providers);
        self.app_metadata.insert("providers".into(), providers);
        if let Some(first) = first {
            self.app_metadata.insert("provider".into(), first.into());
        }
    }

    /// How long until a mail sent at `sent` may be followed by another.
    #[must_use]
    pub fn wait(sent: Option<OffsetDateTime>, interval: Duration, now: OffsetDateTime) -> Option<Duration> {
        let left = sent? + interval - now;
        (left.is_positive()).then(|| left.unsigned_abs())
    }

    /// The user as clients see it.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut out = json!({
            "id": self.id,
            "aud": self.aud,
            "role": self.role,
            "email": self.address(),
            "phone": self.phone.as_deref().unwrap_or_default(),
            "app_metadata": self.app_metadata,
            "user_metadata": self.user_metadata,
            "identities": self.identities,
            "created_at": self.created_at.map(moment).unwrap_or_default(),
            "updated_at": self.updated_at.map(moment).unwrap_or_default(),
            "is_anonymous": self.is_anonymous,
        });
        let confirmed = match (self.email_confirmed_at, self.phone_confirmed_at) {
            (Some(email), Some(phone)) => Some(email.min(phone)),
            (email, phone) => email.or(phone),
        };
        for (name, at) in [
            ("email_confirmed_at", self.email_confirmed_at),
            ("invited_at", self.invited_at),
            ("phone_confirmed_at", self.phone_confirmed_at),
            ("confirmation_sent_at", self.confirmation_sent_at),
            ("confirmed_at", confirmed),
            ("recovery_sent_at", self.recovery_sent_at),
            ("email_change_sent_at", self.email_change_sent_at),
            ("reauthentication_sent_at", self.reauthentication_sent_at),
            ("last_sign_in_at", self.last_sign_in_at),
            ("banned_until", self.banned_until),
            ("deleted_at", self.deleted_at),
        ] {
            if let Some(at) = at {
                out[name] = moment(at).into();
            }
        }
        for (name, text) in [("new_email", &self.email_change), ("new_phone", &self.phone_change)] {
            if let Some(text) = filled(text.as_ref()) {
                out[name] = text.into();
            }
        }
        if !self.factors.is_empty() {
            out["factors"] = json!(self.factors);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_795_471_123).unwrap()
    }

    #[test]
    fn clients_see_no_secret_and_no_empty_field() {
        let mut user = User::new("authenticated", Some("a@example.org".into()), now());
        user.encrypted_password = Some("$argon2id$hash".into());
        user.confirmation_token = Some("deadbeef".into());
        user.email_change = Some(String::new());
        let json = user.json();
        let text = json.to_string();
        assert!(!text.contains("argon2id") && !text.contains("deadbeef"), "{text}");
        for absent in ["new_email", "factors", "last_sign_in_at", "confirmed_at", "banned_until"] {
            assert!(json.get(absent).is_none(), "{absent}");
        }
        assert_eq!(json["created_at"], "2026-11-23T21:58:43.000000Z");
        assert_eq!(json["phone"], "");
    }

    #[test]
    fn a_ban_and_a_wait_end_in_time() {
        let mut user = User::new("authenticated", None, now());
        user.banned_until = Some(now());
        assert!(!user.is_banned(now()));
        assert!(user.is_banned(now() - Duration::from_secs(1)));
        let minute = Duration::from_mins(1);
        assert_eq!(User::wait(None, minute, now()), None);
        assert_eq!(User::wait(Some(now() - minute), minute, now()), None);
        assert_eq!(User::wait(Some(now()), minute, now()), Some(minute));
    }
}
