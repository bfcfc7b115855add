//! Beacon's own keys, the shared secret, and the keys of trusted issuers: everything that an access token may be signed
//! with, swapped whole when keys rotate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::key::Verifier;
use super::token::Token;
use super::{Claims, Invalid, KeyError, KeySet, Rules};
use crate::secret::Secret;

/// What signs new tokens.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Signing {
    /// Keys of Beacon's own, which anybody can verify with the published set.
    #[default]
    Es256,
    /// The shared secret.
    Hs256,
}

/// An issuer whose tokens are accepted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Issuer {
    /// What its tokens have in `iss`; "" accepts any.
    pub issuer: String,
    /// Its tokens are for one of these (`aud`); empty accepts any.
    pub audience: Vec<String>,
    /// Its JSON Web Key Set: `{"keys": [...]}` with RS256, PS256, ES256 or EdDSA keys.
    pub keys: String,
}

/// What does not come from the database.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Accepted for HS256, and signs if `signing` says so; empty: HS256 is refused.
    pub secret: Secret,
    /// What signs.
    pub signing: Signing,
    /// Tokens signed by Beacon are for one of these; empty: `aud` is not looked at.
    pub audience: Vec<String>,
    /// Others whose tokens are accepted.
    pub issuers: Vec<Issuer>,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Published so that everybody knows it before it signs.
    Next,
    /// Signs.
    Current,
    /// Signs no more; what it signed is good until it ends.
    Previous,
    /// What it signed is refused.
    Revoked,
}

/// A signing key as the database has it.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// The `kid`.
    pub id: Uuid,
    /// "ES256".
    pub algorithm: String,
    /// PKCS #8 in PEM.
    pub private_key: Secret,
    /// The public key as a JSON Web Key.
    pub public_jwk: Value,
    /// Where it is in its life.
    pub status: Status,
}

/// The keys that sign and verify access tokens. A cheap clone; all clones change together.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    settings: Settings,
    foreign: Vec<(Verifier, Option<Arc<Issuer>>)>,
    ring: ArcSwap<Ring>,
    epoch: AtomicU64,
    loaded: AtomicBool,
}

/// The keys of one moment.
struct Ring {
    /// Foreign keys are there with whose they are.
    verifiers: Vec<(Verifier, Option<Arc<Issuer>>)>,
    signer: Option<Signer>,
    jwks: Arc<str>,
    /// Identifiers of what verifies, sorted: when one goes, cached results must go.
    ids: Vec<Uuid>,
}

struct Signer {
    algorithm: Algorithm,
    id: Option<String>,
    key: EncodingKey,
}

impl Status {
    /// Its name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Revoked => "revoked",
        }
    }

    /// The status with this name in the database.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Next, Self::Current, Self::Previous, Self::Revoked].into_iter().find(|status| status.as_str() == name)
    }
}

impl Keys {
    /// Keys from the settings alone, until [`Keys::replace`] brings those of the database.
    ///
    /// # Errors
    /// A key of an issuer that cannot be used.
    pub fn of_settings(settings: Settings) -> Result<Self, KeyError> {
        let keys = Self::new(settings, &[])?;
        keys.0.loaded.store(false, Ordering::Release);
        Ok(keys)
    }

    /// Keys from the settings and the database.
    ///
    /// # Errors
    /// A key that cannot be used; it is named.
    pub fn new(settings: Settings, stored: &[StoredKey]) -> Result<Self, KeyError> {
        let mut foreign = Vec::new();
        for issuer in &settings.issuers {
            let owner = Arc::new(issuer.clone());
            let keys = KeySet::parse(issuer.keys.as_bytes())?.into_keys();
            foreign.extend(keys.into_iter().map(|key| (key, Some(owner.clone()))));
        }
        let ring = ArcSwap::from_pointee(Ring::new(&settings, &foreign, stored)?);
        Ok(Self(Arc::new(Inner { settings, foreign, ring, epoch: AtomicU64::new(0), loaded: AtomicBool::new(true) })))
    }

    /// Takes another state of the database. What was signed with a key that is gone is refused from now on.
    ///
    /// # Errors
    /// A key that cannot be used: then everything stays as it was.
    pub fn replace(&self, stored: &[StoredKey]) -> Result<(), KeyError> {
        let ring = Ring::new(&self.0.settings, &self.0.foreign, stored)?;
        let old = self.0.ring.swap(Arc::new(ring));
        let new = self.0.ring.load();
        if old.ids.iter().any(|id| new.ids.binary_search(id).is_err()) {
            self.0.epoch.fetch_add(1, Ordering::Release);
        }
        self.0.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// Grows when a key is taken away: results of [`Keys::verify`] from before are void.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Signs claims, which must be an object with its own `iat`, `exp` and so on.
    ///
    /// # Errors
    /// [`KeyError::Private`] when there is no current key.
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        self.sign_as("JWT", claims)
    }

    /// Signs claims for a purpose of their own: `kind` is the header's `typ`, and unless it is "JWT" the token is not
    /// an access token to [`Keys::verify`].
    ///
    /// # Errors
    /// [`KeyError::Private`] when there is no current key.
    pub fn sign_as(&self, kind: &str, claims: &Value) -> Result<String, KeyError> {
        let ring = self.0.ring.load();
        let signer = ring.signer.as_ref().ok_or_else(|| KeyError::Private("current".into()))?;
        let mut header = json!({ "alg": signer.algorithm, "typ": kind });
        if let Some(id) = &signer.id {
            header["kid"] = json!(id);
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = crypto::sign(signed.as_bytes(), &signer.key, signer.algorithm)
            .map_err(|_| KeyError::Private(signer.id.clone().unwrap_or_default()))?;
        Ok(format!("{signed}.{signature}"))
    }

    /// The claims of an access token that is good now.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &str) -> Result<Claims, Invalid> {
        self.verify_at(token, now())
    }

    /// The claims of an access token that is good at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify_at(&self, token: &str, now: u64) -> Result<Claims, Invalid> {
        let token = Token::parse(token)?;
        let ring = self.0.ring.load();
        let owner = token.find(ring.verifiers.iter().map(|(key, owner)| (key, owner)))?;
        let claims = token.claims()?;
        let rules = match owner {
            None => Rules { audience: &self.0.settings.audience, ..Rules::default() },
            Some(issuer) => Rules {
                audience: &issuer.audience,
                needs_audience: !issuer.audience.is_empty(),
                needs_expiry: true,
                issuer: &issuer.issuer,
            },
        };
        claims.check(&rules, now)?;
        Ok(claims)
    }

    /// Whether the database has been asked for keys.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.0.loaded.load(Ordering::Acquire)
    }

    /// Whether no token at all can be verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.ring.load().verifiers.is_empty()
    }

    /// The published set of public keys, as JSON text.
    #[must_use]
    pub fn jwks(&self) -> Arc<str> {
        self.0.ring.load().jwks.clone()
    }

    /// Keys for tests of other modules: one new ES256 key.
    #[cfg(test)]
    pub(crate) fn ephemeral(settings: Settings) -> Self {
        Self::new(settings, &[generate(Status::Current).unwrap()]).unwrap()
    }
}

impl Ring {
    fn new(
        settings: &Settings,
        foreign: &[(Verifier, Option<Arc<Issuer>>)],
        stored: &[StoredKey],
    ) -> Result<Self, KeyError> {
        let mut ring = Self { verifiers: Vec::new(), signer: None, jwks: Arc::default(), ids: Vec::new() };
        let mut published = Vec::new();
        for key in stored.iter().filter(|key| key.status != Status::Revoked) {
            let refuse = || KeyError::Private(key.id.to_string());
            let private = EncodingKey::from_ec_pem(key.private_key.expose().as_bytes()).map_err(|_| refuse())?;
            let mut public = key.public_jwk.clone();
            for (name, value) in [("kid", json!(key.id)), ("alg", json!("ES256")), ("use", json!("sig"))] {
                public.as_object_mut().ok_or_else(refuse)?.insert(name.into(), value);
            }
            if let Some(list) = public.as_object_mut() {
                // What is published must not hold more than it should, whoever wrote the row.
                list.retain(|name, _| ["kty", "crv", "x", "y", "kid", "alg", "use"].contains(&name.as_str()));
            }
            let jwk: Jwk = serde_json::from_value(public.clone()).map_err(|_| refuse())?;
            let verifier = Verifier::from_jwk(&jwk).filter(|_| key.algorithm == "ES256").ok_or_else(refuse)?;
            // The two halves belong together, or nobody could verify what is signed.
            let proof = crypto::sign(b"proof", &private, Algorithm::ES256).map_err(|_| refuse())?;
            if !crypto::verify(&proof, b"proof", &verifier.key, Algorithm::ES256).unwrap_or(false) {
                return Err(refuse());
            }
            if key.status == Status::Current {
                ring.signer = Some(Signer { algorithm: Algorithm::ES256, id: Some(key.id.to_string()), key: private });
            }
            ring.verifiers.push((verifier, None));
            ring.ids.push(key.id);
            published.push(public);
        }
        ring.ids.sort_unstable();
        if !settings.secret.is_empty() {
            let secret = settings.secret.expose().as_bytes();
            ring.verifiers.push((Verifier::from_secret(None, secret), None));
            if settings.signing == Signing::Hs256 {
                let key = EncodingKey::from_secret(secret);
                ring.signer = Some(Signer { algorithm: Algorithm::HS256, id: None, key });
            }
        }
        ring.verifiers.extend(foreign.iter().cloned());
        ring.jwks = json!({ "keys": published }).to_string().into();
        Ok(ring)
    }
}

/// A new ES256 key.
///
/// # Errors
/// [`KeyError::Generate`].
pub fn generate(status: Status) -> Result<StoredKey, KeyError> {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|_| KeyError::Generate)?;
    // An uncompressed point: 4, then x and y of 32 bytes each.
    let point = pair.public_key_raw();
    let [4, coordinates @ ..] = point else { return Err(KeyError::Generate) };
    let (x, y) = coordinates.split_at_checked(32).filter(|(_, y)| y.len() == 32).ok_or(KeyError::Generate)?;
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    Ok(StoredKey {
        id: Uuid::new_v4(),
        algorithm: "ES256".into(),
        private_key: Secret::new(pair.serialize_pem()),
        public_jwk: json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) }),
        status,
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
