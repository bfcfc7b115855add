//! A key that verifies: from a JSON Web Key (RFC 7517) or a shared secret, with the one algorithm it is for.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::token::Token;
use super::{Claims, Invalid};

/// More keys than anybody publishes.
const MOST: usize = 64;

/// A key that verifies tokens.
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    /// Its identifier, if it has one: a token that names another is not for it.
    pub id: Option<String>,
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

/// The keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Verifier>);

/// Why a key or set of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is no JSON Web Key Set.
    #[error("it is no JSON Web Key Set ({{\"keys\": [...]}})")]
    Form(#[source] serde_json::Error),
    /// It holds no key that verifies signatures with an algorithm that is supported.
    #[error("it holds no key for RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA")]
    Empty,
    /// It holds a shared secret, which must not stand among public keys.
    #[error("it holds a shared secret (kty oct); give that as auth.jwt_secret")]
    Symmetric,
    /// It holds too many keys.
    #[error("it holds more than {MOST} keys")]
    TooMany,
    /// A private key cannot be read.
    #[error("the signing key {0} cannot be used")]
    Private(String),
    /// The system has no randomness, or the key cannot be written.
    #[error("no signing key could be made")]
    Generate,
}

impl Verifier {
    /// The key that `jwk` describes; none for a use or algorithm that is not ours.
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let for_others = common.public_key_use.as_ref().is_some_and(|use_| *use_ != PublicKeyUse::Signature)
            || common.key_operations.as_ref().is_some_and(|list| !list.contains(&KeyOperations::Verify));
        if for_others {
            return None;
        }
        let natural = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Algorithm::ES384,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            AlgorithmParameters::RSA(_) => match common.key_algorithm {
                Some(KeyAlgorithm::RS384) => Algorithm::RS384,
                Some(KeyAlgorithm::RS512) => Algorithm::RS512,
                Some(KeyAlgorithm::PS256) => Algorithm::PS256,
                Some(KeyAlgorithm::PS384) => Algorithm::PS384,
                Some(KeyAlgorithm::PS512) => Algorithm::PS512,
                _ => Algorithm::RS256,
            },
            _ => return None,
        };
        let said = common.key_algorithm.map(|algorithm| algorithm.to_string());
        if said.is_some_and(|said| said != format!("{natural:?}")) {
            return None;
        }
        Some(Self { id: common.key_id.clone(), algorithm: natural, key: DecodingKey::from_jwk(jwk).ok()? })
    }

    /// A secret for HS256.
    pub(super) fn from_secret(id: Option<String>, secret: &[u8]) -> Self {
        Self { id, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) }
    }

    /// Whether a token with this header may be for this key.
    pub(super) fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        self.algorithm == algorithm && (id.is_none() || self.id.is_none() || self.id.as_deref() == id)
    }
}

impl KeySet {
    /// Reads a set; keys for other uses and algorithms are left out.
    ///
    /// # Errors
    /// No set, or nothing of use in it.
    pub fn parse(json: &[u8]) -> Result<Self, KeyError> {
        #[derive(serde::Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(KeyError::Form)?;
        if set.keys.len() > MOST {
            return Err(KeyError::TooMany);
        }
        if set.keys.iter().any(|key| key.get("kty").is_some_and(|kind| kind == "oct")) {
            return Err(KeyError::Symmetric);
        }
        // One by one: a key of an unknown kind must not take the others with it.
        let read = |key: serde_json::Value| Verifier::from_jwk(&serde_json::from_value::<Jwk>(key).ok()?);
        let keys: Vec<Verifier> = set.keys.into_iter().filter_map(read).collect();
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self(keys)) }
    }

    /// The claims of `token`, if one of these keys signed it. Times and audience are not looked at yet.
    ///
    /// # Errors
    /// Why the token is refused; [`Invalid::NoKey`] can mean that newer keys should be fetched.
    pub fn open(&self, token: &str) -> Result<Claims, Invalid> {
        let token = Token::parse(token)?;
        token.find(self.0.iter().map(|key| (key, ())))?;
        token.claims()
    }

    pub(super) fn into_keys(self) -> Vec<Verifier> {
        self.0
    }
}
