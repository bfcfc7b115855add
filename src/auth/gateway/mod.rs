//! Who a request is from: reads `apikey` and `Authorization: Bearer`, and says with which role and claims it runs.
//!
//! A Bearer token wins over the API key beside it; the key is judged all the same, and stays known for limits. An API
//! key (`sb_...`) is never a Bearer token: clients that have no session repeat their key there, which is ignored, and a
//! different one is refused. Other schemes of Authorization belong to others. Whoever brings nothing is anonymous.

mod cache;
mod follow;
mod refusal;
mod role;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::jwt::{Invalid, Keys};
use super::keys::{ApiKeys, Found, is_whole, looks_like_key};
use cache::{Cache, Entry, Name};
pub use follow::{CHANNEL, follow, load};
pub use refusal::Refusal;
pub use role::{NoPath, RolePath};

const APIKEY: HeaderName = HeaderName::from_static("apikey");
/// A result without an end of its own is looked at again after so many seconds.
const LONGEST: u64 = 3_600;
/// A token is good for so long after its `exp`; see `jwt::claims`.
const SKEW: u64 = 30;

/// Who a request is from, for SQL and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The database role.
    pub role: Arc<str>,
    /// A JSON object for `request.jwt.claims`; its `role` is the one above.
    pub claims: Arc<str>,
    /// The user (`sub`).
    pub subject: Option<Arc<str>>,
    /// Whether it is somebody, and not merely anybody: its role is not the anonymous one.
    pub authenticated: bool,
    /// The session of the token (`session_id`).
    pub session: Option<Uuid>,
    /// The API key, if one came along.
    pub key: Option<Uuid>,
}

/// How callers are told apart.
#[derive(Clone, Debug)]
pub struct Options {
    /// The role of those who bring nothing, and of tokens that name no role; none: they are refused (PGRST302).
    pub anonymous: Option<Arc<str>>,
    /// Where a token has its role.
    pub role_claim: RolePath,
}

impl Default for Options {
    fn default() -> Self {
        Self { anonymous: Some("anon".into()), role_claim: RolePath::default() }
    }
}

/// Says who a request is from. A cheap clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    keys: Keys,
    api_keys: ApiKeys,
    options: Options,
    anonymous: Option<Arc<Caller>>,
    cache: Cache,
}

impl Caller {
    /// Somebody of whom nothing is known, with this role.
    #[must_use]
    pub fn anonymous(role: &str) -> Self {
        Self {
            role: role.into(),
            claims: serde_json::json!({ "role": role }).to_string().into(),
            subject: None,
            authenticated: false,
            session: None,
            key: None,
        }
    }
}

impl Gateway {
    /// A gateway; it sees every later change of `keys` and `api_keys`.
    #[must_use]
    pub fn new(keys: Keys, api_keys: ApiKeys, options: Options) -> Self {
        let anonymous = options.anonymous.as_deref().map(Caller::anonymous).map(Arc::new);
        Self(Arc::new(Inner { keys, api_keys, options, anonymous, cache: Cache::new() }))
    }

    /// Who a request with these headers is from. Without an allocation when the credentials were seen before.
    ///
    /// # Errors
    /// Credentials that are not good, or none where some are needed.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        let key = one(headers, &APIKEY)?.map(HeaderValue::to_str).transpose().map_err(|_| bad_key(None))?;
        let bearer = match one(headers, &AUTHORIZATION)? {
            Some(value) => bearer(value.as_bytes()),
            None => None,
        };
        let bearer = bearer.map(str::from_utf8).transpose().map_err(|_| Invalid::Malformed)?;
        self.identify_with(key, bearer)
    }

    /// Who sent this API key and this Bearer token, wherever they stood.
    ///
    /// # Errors
    /// As [`Gateway::identify`].
    pub fn identify_with(&self, key: Option<&str>, bearer: Option<&str>) -> Result<Arc<Caller>, Refusal> {
        self.identify_at(key, bearer, now())
    }

    fn identify_at(&self, key: Option<&str>, bearer: Option<&str>, now: u64) -> Result<Arc<Caller>, Refusal> {
        let bearer = without_key(key, bearer)?;
        if key.is_none() && bearer.is_none() {
            return self.0.anonymous.clone().ok_or_else(Refusal::anonymous);
        }
        // Before anything is verified: a key that goes meanwhile makes the result void.
        let epoch = self.0.keys.epoch().wrapping_add(self.0.api_keys.epoch());
        let name = name(key, bearer);
        if let Some(caller) = self.0.cache.find(&name, now, epoch) {
            return Ok(caller);
        }
        let (caller, expires, key) = self.judge(key, bearer, now)?;
        let (caller, key_used) = (Arc::new(caller), key.map(|found| found.used));
        if let Some(used) = &key_used {
            used.store(now, Ordering::Relaxed);
        }
        let entry = Entry { caller: caller.clone(), expires, epoch, key_used, used: AtomicBool::new(false) };
        self.0.cache.add(name, entry, now);
        Ok(caller)
    }

    fn judge(
        &self,
        key: Option<&str>,
        bearer: Option<&str>,
        now: u64,
    ) -> Result<(Caller, u64, Option<Found>), Refusal> {
        let (from_key, mut expires, found) = match key {
            Some(text) if looks_like_key(text) => {
                let loaded = self.0.api_keys.is_loaded();
                let unknown = || if loaded { bad_key(Some(text)) } else { Refusal::unready() };
                let found = self.0.api_keys.find(text).ok_or_else(unknown)?;
                let caller = Caller {
                    authenticated: Some(&found.key.role) != self.0.options.anonymous.as_ref(),
                    key: Some(found.key.id),
                    ..Caller::anonymous(&found.key.role)
                };
                (Some(caller), now + LONGEST, Some(found))
            }
            Some("") => return Err(bad_key(Some(""))),
            // A token made to be a key, as older projects have them; often the Bearer token is the same.
            Some(token) => {
                let (caller, expires) = self.verify(token, now)?;
                (Some(caller), expires, None)
            }
            None => (None, now + LONGEST, None),
        };
        let from_token = match bearer {
            Some(token) if key == Some(token) => None,
            Some(token) => {
                let (mut caller, end) = self.verify(token, now)?;
                caller.key = found.as_ref().map(|found| found.key.id);
                expires = expires.min(end);
                Some(caller)
            }
            None => None,
        };
        let caller = from_token.or(from_key).ok_or_else(Refusal::anonymous)?;
        Ok((caller, expires, found))
    }

    /// Who a token is from, and until when that is known.
    fn verify(&self, token: &str, now: u64) -> Result<(Caller, u64), Refusal> {
        let loaded = self.0.keys.is_loaded();
        let claims = match self.0.keys.verify_at(token, now) {
            Err(Invalid::NoKey | Invalid::Signature) if !loaded => return Err(Refusal::unready()),
            _ if loaded && self.0.keys.is_empty() => return Err(Refusal::keyless()),
            result => result?,
        };
        let expires = claims.expires().map_or(now + LONGEST, |end| end.saturating_add(SKEW).min(now + LONGEST));
        let caller = self.caller(claims.into_object())?;
        Ok((caller, expires))
    }

    fn caller(&self, mut claims: Map<String, Value>) -> Result<Caller, Refusal> {
        let anonymous = self.0.options.anonymous.as_deref();
        let role = self.0.options.role_claim.find(&claims)?.or(anonymous).ok_or_else(Refusal::anonymous)?;
        let role: Arc<str> = role.into();
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let (subject, session) = (text("sub").map(Arc::from), text("session_id").and_then(|id| id.parse().ok()));
        claims.insert("role".into(), Value::from(&*role));
        Ok(Caller {
            authenticated: Some(&*role) != anonymous,
            claims: Value::Object(claims).to_string().into(),
            subject,
            session,
            key: None,
            role,
        })
    }
}

/// The Bearer token, unless it is the API key once more.
fn without_key<'a>(key: Option<&str>, bearer: Option<&'a str>) -> Result<Option<&'a str>, Refusal> {
    let Some(token) = bearer else { return Ok(None) };
    if !looks_like_key(token) {
        return Ok(bearer);
    }
    if key.is_some_and(|key| key.as_bytes().ct_eq(token.as_bytes()).into()) {
        return Ok(None);
    }
    Err(Refusal::new(
        "invalid_api_key",
        "An API key is no Bearer token",
        "Send the key in the header \"apikey\"; Authorization is for the access token of a user.",
    ))
}

/// The one header of this name: with two of them, what is behind could see another one than we did.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Refusal::new("PGRST301", "A header with credentials came more than once", "")),
    }
}

/// What follows the scheme Bearer; none for other schemes.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let ends = rest.is_empty() || rest[0] == b' ' || rest[0] == b'\t';
    (ends && scheme.eq_ignore_ascii_case(b"bearer")).then(|| rest.trim_ascii())
}

fn bad_key(key: Option<&str>) -> Refusal {
    let hint = match key {
        Some(key) if !key.is_empty() && !is_whole(key) => {
            "The key is cut off or mistyped, or it is not of this server."
        }
        Some("") | None => "The header \"apikey\" holds no key.",
        Some(_) => "The key was revoked, or it is not of this server; `beacon keys list` shows which there are.",
    };
    Refusal::new("invalid_api_key", "Invalid API key", hint)
}

fn name(key: Option<&str>, bearer: Option<&str>) -> Name {
    // No key and an empty key are two things.
    let length = key.map_or(0, |key| key.len() as u64 + 1);
    let hash = Sha256::new().chain_update(length.to_le_bytes()).chain_update(key.unwrap_or_default());
    hash.chain_update(bearer.unwrap_or_default()).finalize().into()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
