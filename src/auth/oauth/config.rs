//! Configuration of identity providers: the section `[auth.providers.NAME]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::http::Destination;
use crate::secret::Secret;

/// A provider whose accounts may sign in. The section's name is what clients call it: google, github, apple and azure (or
/// microsoft) are known; any other name needs an issuer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// Whether it is offered.
    pub enabled: bool,
    /// "google", "github", "apple", "azure" or "oidc"; "" goes by the section's name.
    pub kind: String,
    /// What the provider calls this Beacon.
    pub client_id: String,
    /// The secret that belongs to it. Apple: leave it unset and give team_id, key_id and private_key.
    pub client_secret: Secret,
    /// More client identifiers whose ID tokens are accepted: those of applications on phones.
    pub client_ids: Vec<String>,
    /// The issuer of an OpenID Connect provider, as in `"https://id.example.org/realms/main"`.
    pub issuer: String,
    /// Microsoft: who may sign in: "common", "organizations", "consumers", or a tenant's identifier.
    pub tenant: String,
    /// GitHub: the address of an Enterprise Server; "" is `https://github.com`.
    pub url: String,
    /// Scopes to ask for besides those that are needed to know the user.
    pub scopes: Vec<String>,
    /// Apple: the team's identifier.
    pub team_id: String,
    /// Apple: the identifier of private_key.
    pub key_id: String,
    /// Apple: the private key (.p8), which signs what Apple takes for a client secret.
    pub private_key: Secret,
    /// Whether addresses count as verified although the provider does not say so. Only for a provider at which nobody can
    /// enter another's address.
    pub trust_email: bool,
    /// Whether users without an address are let in.
    pub email_optional: bool,
    /// Whether ID tokens that applications got by themselves need no nonce.
    pub skip_nonce_check: bool,
}

/// The dialect of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// accounts.google.com
    Google,
    /// GitHub, which has no ID tokens for users.
    GitHub,
    /// appleid.apple.com
    Apple,
    /// login.microsoftonline.com, for one tenant or for many.
    Microsoft,
    /// Any other OpenID Connect provider.
    Oidc,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            enabled: true,
            kind: String::new(),
            client_id: String::new(),
            client_secret: Secret::default(),
            client_ids: Vec::new(),
            issuer: String::new(),
            tenant: String::new(),
            url: String::new(),
            scopes: Vec::new(),
            team_id: String::new(),
            key_id: String::new(),
            private_key: Secret::default(),
            trust_email: false,
            email_optional: false,
            skip_nonce_check: false,
        }
    }
}

impl Provider {
    /// The dialect of the provider called `name`; none for a kind that is unknown.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<Kind> {
        Some(match if self.kind.is_empty() { name } else { &self.kind } {
            "google" => Kind::Google,
            "github" => Kind::GitHub,
            "apple" => Kind::Apple,
            "azure" | "microsoft" => Kind::Microsoft,
            "oidc" => Kind::Oidc,
            _ if self.kind.is_empty() => Kind::Oidc,
            _ => return None,
        })
    }

    /// The tenant whose accounts Microsoft lets in.
    pub(super) fn tenant(&self) -> &str {
        if self.tenant.is_empty() { "common" } else { &self.tenant }
    }

    /// Whether tokens made for this client are for us.
    pub(super) fn audience(&self) -> Vec<String> {
        std::iter::once(&self.client_id).chain(&self.client_ids).filter(|id| !id.is_empty()).cloned().collect()
    }

    /// What is wrong with the values of the provider called `name`.
    #[must_use]
    pub fn validate(&self, name: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let Some(kind) = self.kind(name) else {
            let fix = "Use \"google\", \"github\", \"apple\", \"azure\" or \"oidc\".";
            return vec![Fault::new("kind", format!("\"{}\" is no kind of provider", self.kind), fix)];
        };
        if !self.enabled {
            return faults;
        }
        if self.client_id.is_empty() {
            faults.push(Fault::new("client_id", "is not set", "Use the identifier that the provider shows."));
        }
        self.validate_secret(kind, &mut faults);
        if kind == Kind::Oidc && self.issuer.is_empty() {
            let fix = "Use the address below which /.well-known/openid-configuration is.";
            faults.push(Fault::new("issuer", "is not set", fix));
        }
        for (key, url) in [("issuer", &self.issuer), ("url", &self.url)] {
            if let Some(problem) = (!url.is_empty()).then(|| base(url).err()).flatten() {
                faults.push(Fault::new(key, problem, "Use \"https://id.example.org\"."));
            }
        }
        let elsewhere = [
            ("issuer", !self.issuer.is_empty(), Kind::Oidc),
            ("tenant", !self.tenant.is_empty(), Kind::Microsoft),
            ("url", !self.url.is_empty(), Kind::GitHub),
            ("team_id", !self.team_id.is_empty(), Kind::Apple),
            ("key_id", !self.key_id.is_empty(), Kind::Apple),
            ("private_key", !self.private_key.is_empty(), Kind::Apple),
        ];
        for (key, set, owner) in elsewhere {
            if set && kind != owner {
                faults.push(Fault::new(key, "is of no use to this kind of provider", "Remove it."));
            }
        }
        if !self.tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
            faults.push(Fault::new("tenant", "is no tenant", "Use its identifier, or \"common\"."));
        }
        if self.scopes.iter().any(|scope| !is_scope(scope)) {
            faults.push(Fault::new("scopes", "holds something that is no scope", "Use [\"one\", \"other\"]."));
        }
        faults
    }

    fn validate_secret(&self, kind: Kind, faults: &mut Vec<Fault>) {
        let apple = [!self.team_id.is_empty(), !self.key_id.is_empty(), !self.private_key.is_empty()];
        let some = apple.contains(&true);
        if kind == Kind::Apple && some && apple.contains(&false) {
            let problem = "do not go without each other";
            faults.push(Fault::new("team_id, key_id and private_key", problem, "Give all three."));
        }
        if kind == Kind::Apple && some && !self.client_secret.is_empty() {
            faults.push(Fault::new("client_secret", "is set beside private_key", "Remove one of them."));
        }
        if kind == Kind::Apple && !self.private_key.is_empty() && !super::exchange::is_apple_key(&self.private_key) {
            let fix = "Use the file that Apple gave, which begins with -----BEGIN PRIVATE KEY-----.";
            faults.push(Fault::new("private_key", "is no private key for ES256", fix));
        }
        // A public client has no secret, and proves by PKCE that it is the one who asked.
        if self.client_secret.is_empty() && !some && kind != Kind::Oidc {
            faults.push(Fault::new("client_secret", "is not set", "Use the secret that the provider gave."));
        }
    }
}

/// What is wrong with the providers; keys are below `auth.providers`.
#[must_use]
pub fn validate(providers: &BTreeMap<String, Provider>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, provider) in providers {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-:".contains(&byte);
        // These stand beside providers in a user's data, and mean something else there.
        if matches!(name.as_str(), "" | "email" | "phone" | "anonymous" | "sso") || !name.bytes().all(good) {
            let fix = "Use lower-case letters, digits, - and _, and not email, phone, anonymous or sso.";
            faults.push(Fault::new(name.clone(), "cannot be the name of a provider", fix));
        }
        faults.extend(provider.validate(name).into_iter().map(|fault| fault.within(name)));
    }
    faults
}

/// An address below which others are, without a slash at its end.
pub(super) fn base(url: &str) -> Result<&str, &'static str> {
    Destination::parse(url)?;
    if url.contains('?') { Err("has a query") } else { Ok(url.trim_end_matches('/')) }
}

/// RFC 6749 section 3.3, without commas, which separate scopes too in this dialect.
pub(super) fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\,".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(name: &str, provider: Provider) -> Vec<String> {
        validate(&BTreeMap::from([(name.to_owned(), provider)])).into_iter().map(|fault| fault.key).collect()
    }

    fn client() -> Provider {
        Provider { client_id: "id".into(), client_secret: Secret::new("s"), ..Provider::default() }
    }

    #[test]
    fn each_kind_needs_its_own_and_nothing_else() {
        for known in ["google", "github", "apple", "azure", "microsoft"] {
            assert!(keys(known, client()).is_empty(), "{known}");
            assert_eq!(keys(known, Provider::default()).len(), 2, "{known}");
        }
        assert_eq!(keys("keycloak", client()), ["keycloak.issuer"]);
        assert!(keys("keycloak", Provider { issuer: "https://id.example.org".into(), ..client() }).is_empty());
        assert_eq!(keys("google", Provider { issuer: "https://id.example.org".into(), ..client() }), ["google.issuer"]);
        assert_eq!(keys("github", Provider { tenant: "common".into(), ..client() }), ["github.tenant"]);
        assert_eq!(keys("work", Provider { kind: "saml".into(), ..client() }), ["work.kind"]);
        assert!(keys("work", Provider { kind: "google".into(), ..client() }).is_empty());
        assert!(keys("google", Provider { enabled: false, ..Provider::default() }).is_empty());
    }

    #[test]
    fn addresses_names_and_scopes_are_looked_at() {
        assert_eq!(keys("x", Provider { issuer: "http://id.example.org".into(), ..client() }), ["x.issuer"]);
        assert_eq!(keys("github", Provider { url: "https://u@g.example.org".into(), ..client() }), ["github.url"]);
        assert_eq!(keys("azure", Provider { tenant: "a/b".into(), ..client() }), ["azure.tenant"]);
        assert_eq!(keys("google", Provider { scopes: vec!["a b".into()], ..client() }), ["google.scopes"]);
        for name in ["email", "Google", "a.b", "sso"] {
            assert!(!keys(name, Provider { kind: "google".into(), ..client() }).is_empty(), "{name}");
        }
    }

    #[test]
    fn apple_has_a_key_or_a_secret() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        let with_key = Provider {
            client_secret: Secret::default(),
            team_id: "T".into(),
            key_id: "K".into(),
            private_key: Secret::new(key),
            ..client()
        };
        assert!(keys("apple", with_key.clone()).is_empty());
        assert_eq!(keys("apple", Provider { key_id: String::new(), ..with_key.clone() }).len(), 1);
        assert_eq!(
            keys("apple", Provider { private_key: Secret::new("x"), ..with_key.clone() }),
            ["apple.private_key"]
        );
        assert_eq!(keys("apple", Provider { client_secret: Secret::new("x"), ..with_key }), ["apple.client_secret"]);
    }
}
