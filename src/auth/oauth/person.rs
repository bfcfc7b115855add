//! Who somebody is to a provider, in the words of this dialect's identities.

use serde_json::{Map, Value, json};

use super::config::{Kind, Provider};

/// The longest text of a provider that is kept, in bytes: addresses of pictures are long.
const LONGEST: usize = 2_048;
/// Claims that are kept under their own names.
const KEPT: [&str; 13] = [
    "name",
    "family_name",
    "given_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
];
/// Claims that say something about the token, and not about the user.
const OF_THE_TOKEN: [&str; 16] = [
    "aud",
    "iss",
    "iat",
    "nbf",
    "exp",
    "c_hash",
    "at_hash",
    "aio",
    "nonce",
    "rh",
    "uti",
    "jti",
    "ver",
    "sub",
    "name",
    "preferred_username",
];

/// Somebody at a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// Who it is there: never changes, and is never given to another.
    pub subject: String,
    /// The address; as the provider writes it.
    pub email: Option<String>,
    /// Whether the address is known to be this person's.
    pub email_verified: bool,
    /// All of it as an identity's data: sub, email, email_verified, name, avatar_url and so on.
    pub data: Map<String, Value>,
}

impl Person {
    /// A person out of verified claims. `one_tenant`: Microsoft's tokens are those of one firm that the operator named.
    pub(super) fn of_claims(kind: Kind, provider: &Provider, claims: &Map<String, Value>, one_tenant: bool) -> Self {
        let mut person = Self {
            subject: text(claims, "sub").unwrap_or_default(),
            email: text(claims, "email").filter(|email| is_address(email)),
            email_verified: false,
            data: Map::new(),
        };
        person.email_verified = match kind {
            // Whoever owns a tenant can write any address into it; only this claim says that Microsoft looked.
            Kind::Microsoft => claims.get("xms_edov").map_or(one_tenant, is_yes),
            _ => claims.get("email_verified").is_some_and(is_yes),
        };
        for name in KEPT {
            person.put(name, text(claims, name));
        }
        person.put("iss", text(claims, "iss"));
        let custom: Map<String, Value> = match kind {
            Kind::Google => pick(claims, &["hd"]),
            Kind::Apple => pick(claims, &["is_private_email", "auth_time"]),
            Kind::Microsoft => {
                claims.iter().filter(|(name, _)| !OF_THE_TOKEN.contains(&name.as_str())).map(own).collect()
            }
            Kind::GitHub | Kind::Oidc => Map::new(),
        };
        if !custom.is_empty() {
            person.data.insert("custom_claims".into(), custom.into());
        }
        person.finish(provider)
    }

    /// Fills in what clients look for under older names. The address is given by now.
    pub(super) fn finish(mut self, provider: &Provider) -> Self {
        self.email_verified = self.email.is_some() && (self.email_verified || provider.trust_email);
        self.data.insert("sub".into(), json!(self.subject));
        self.data.insert("provider_id".into(), json!(self.subject));
        self.data.insert("email_verified".into(), json!(self.email_verified));
        self.data.insert("phone_verified".into(), json!(false));
        self.put("email", self.email.clone());
        self.put("full_name", text(&self.data, "name"));
        self.put("avatar_url", text(&self.data, "picture"));
        self
    }

    /// Sets what is there and not empty.
    pub(super) fn put(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.data.insert(name.into(), value.into());
        }
    }
}

/// A claim that is a text, and not too long to keep.
pub(super) fn text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    claims.get(name)?.as_str().filter(|text| !text.is_empty() && text.len() <= LONGEST).map(str::to_owned)
}

/// Whether it looks like an address at all.
pub(super) fn is_address(email: &str) -> bool {
    email.len() <= 255 && email.contains('@') && !email.contains(|ch: char| ch.is_control() || ch.is_whitespace())
}

fn pick(claims: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    claims.iter().filter(|(name, _)| names.contains(&name.as_str())).map(own).collect()
}

fn own((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

/// Some providers write a truth as text, or as a number.
fn is_yes(value: &Value) -> bool {
    match value {
        Value::Bool(yes) => *yes,
        Value::String(text) => text == "true" || text == "1",
        Value::Number(number) => number.as_u64() == Some(1),
        _ => false,
    }
}
