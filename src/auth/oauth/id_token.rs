//! The checks of an ID token (OpenID Connect Core 1.0, section 3.1.3.7) besides signature and issuer.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;

use super::Error;
use crate::auth::jwt::{Claims, Invalid, Rules};

/// What a nonce must be.
#[derive(Clone, Copy)]
pub(super) enum Nonce<'a> {
    /// Exactly this: Beacon chose it.
    Exactly(&'a str),
    /// The SHA-256 of this in hexadecimal, because the application keeps the original to itself until now; there in both
    /// places or in none.
    HashOf(Option<&'a str>),
    /// The operator does not care.
    Any,
}

/// What is expected of a token.
pub(super) struct Expected<'a> {
    pub audience: &'a [String],
    /// `azp`, if the token has one.
    pub party: Option<&'a str>,
    pub nonce: Nonce<'a>,
    pub access_token: Option<&'a str>,
}

/// Checks the claims of `token`, whose signature is good.
pub(super) fn check(token: &str, claims: &Claims, expected: &Expected<'_>) -> Result<(), Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if expected.audience.is_empty() {
        return Err(Error::Token(Invalid::Audience));
    }
    let rules = Rules { audience: expected.audience, needs_audience: true, needs_expiry: true, ..Rules::default() };
    claims.check(&rules, now)?;
    if claims.text("sub").is_none_or(|subject| subject.is_empty() || subject.len() > 255) {
        return Err(Error::Subject);
    }
    if let (Some(party), Some(claimed)) = (expected.party, claims.get("azp"))
        && claimed.as_str() != Some(party)
    {
        return Err(Error::Token(Invalid::Audience));
    }
    check_nonce(claims, expected.nonce)?;
    match (expected.access_token, claims.get("at_hash")) {
        (Some(access_token), Some(hash)) => check_hash(token, access_token, hash),
        _ => Ok(()),
    }
}

fn check_nonce(claims: &Claims, nonce: Nonce<'_>) -> Result<(), Error> {
    let claimed = claims.text("nonce").filter(|nonce| !nonce.is_empty());
    let wanted = match nonce {
        Nonce::Any | Nonce::HashOf(None) if claimed.is_none() => return Ok(()),
        Nonce::Any => return Ok(()),
        Nonce::HashOf(None) => return Err(Error::NonceMissing),
        Nonce::Exactly(nonce) => nonce.to_owned(),
        Nonce::HashOf(Some(nonce)) => hex(&Sha256::digest(nonce)),
    };
    let claimed = claimed.ok_or(Error::NonceMissing)?;
    if claimed.as_bytes().ct_eq(wanted.as_bytes()).into() { Ok(()) } else { Err(Error::Nonce) }
}

/// The access token's hash: the left half of it, by the hash of the token's own algorithm.
fn check_hash(token: &str, access_token: &str, claimed: &Value) -> Result<(), Error> {
    let header = token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header: Value = header.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
    let hash = match header["alg"].as_str().unwrap_or_default() {
        "RS256" | "PS256" | "ES256" => Sha256::digest(access_token).to_vec(),
        "RS384" | "PS384" | "ES384" => Sha384::digest(access_token).to_vec(),
        "RS512" | "PS512" | "EdDSA" => Sha512::digest(access_token).to_vec(),
        _ => return Err(Error::AccessToken),
    };
    let right = URL_SAFE_NO_PAD.encode(&hash[..hash.len() / 2]);
    if claimed.as_str() == Some(&right) { Ok(()) } else { Err(Error::AccessToken) }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
