//! What is random, and the hashes of it: codes and links in mails, refresh tokens, codes of PKCE.
//!
//! The database has hashes alone. Hashes of codes are those of other servers of this dialect (SHA-224 of address and
//! code), because their rows must stay good when a database is moved.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha224, Sha256};
use subtle::ConstantTimeEq as _;

use super::failure::Failure;

/// Stands before the hash of a token whose link continues a PKCE flow.
pub const PKCE: &str = "pkce_";

/// Random bytes from the system.
///
/// # Errors
/// The system has none.
pub fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::internal("The system has no randomness", error.to_string()))?;
    Ok(bytes)
}

/// A code of `digits` decimal digits, 1 to 18, each equally likely.
///
/// # Errors
/// The system has no randomness.
pub fn code(digits: u32) -> Result<String, Failure> {
    let most = 10_u64.pow(digits.clamp(1, 18));
    let fair = u64::MAX - u64::MAX % most;
    loop {
        let value = u64::from_le_bytes(random()?);
        if value < fair {
            return Ok(format!("{:0width$}", value % most, width = digits as usize));
        }
    }
}

/// An unguessable token of 32 characters that are safe in URLs.
///
/// # Errors
/// The system has no randomness.
pub fn opaque() -> Result<String, Failure> {
    Ok(URL_SAFE_NO_PAD.encode(random::<24>()?))
}

/// The hash of a code that was sent to `address`.
#[must_use]
pub fn hash(address: &str, code: &str) -> String {
    hex(&Sha224::new().chain_update(address).chain_update(code).finalize())
}

/// The hash under which a token of high entropy is stored.
#[must_use]
pub fn digest(token: &str) -> String {
    hex(&Sha256::digest(token))
}

/// The refresh token that follows `token` in a session with `key`: the same each time, and nobody who lacks one of the two
/// can know it.
///
/// # Errors
/// Never: HMAC takes keys of any length.
pub fn successor(key: &str, token: &str) -> Result<String, Failure> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .map_err(|error| Failure::internal("The session cannot be continued", error.to_string()))?;
    mac.update(token.as_bytes());
    Ok(URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..24]))
}

/// Whether two texts are equal, in a time that depends on their lengths alone.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// What a client proves later that it began a flow with (RFC 7636).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// "s256" or "plain".
    pub method: &'static str,
    /// The challenge.
    pub value: String,
}

impl Challenge {
    /// Reads what the client sent; none when it sent neither.
    ///
    /// # Errors
    /// 400 `validation_failed`.
    pub fn read(method: Option<&str>, value: Option<&str>) -> Result<Option<Self>, Failure> {
        let method = method.filter(|text| !text.is_empty());
        let value = value.filter(|text| !text.is_empty());
        let (method, value) = match (method, value) {
            (None, None) => return Ok(None),
            (Some(method), Some(value)) => (method, value),
            _ => {
                return Err(Failure::invalid("PKCE flow requires code_challenge_method and code_challenge"));
            }
        };
        if !(43..=128).contains(&value.len()) {
            return Err(Failure::invalid("code challenge has to be between 43 and 128 characters"));
        }
        if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            return Err(Failure::invalid(
                "code challenge can only contain alphanumeric characters, hyphens, periods, underscores and tildes",
            ));
        }
        let method = match method.to_ascii_lowercase().as_str() {
            "s256" => "s256",
            "plain" => "plain",
            _ => return Err(Failure::invalid("code_challenge_method must be s256 or plain")),
        };
        Ok(Some(Self { method, value: value.to_owned() }))
    }

    /// Whether `verifier` is what the challenge was made of.
    #[must_use]
    pub fn is_met(&self, verifier: &str) -> bool {
        match self.method {
            "s256" => same(&URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)), &self.value),
            _ => same(verifier, &self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_field() {
        // SHA-224 of "abc" (FIPS 180-4), cut anywhere between address and code.
        assert_eq!(hash("a", "bc"), "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7");
        assert_eq!(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn codes_have_their_length_and_leading_zeros() {
        let codes: std::collections::BTreeSet<String> = (0..2_000).map(|_| code(6).unwrap()).collect();
        assert!(codes.iter().all(|code| code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit())));
        assert!(codes.len() > 1_950, "{}", codes.len());
        assert!(codes.iter().any(|code| code.starts_with('0')));
        assert_eq!(code(10).unwrap().len(), 10);
    }

    #[test]
    fn a_successor_follows_from_both_parts() {
        let next = successor("key", "token").unwrap();
        assert_eq!(next, successor("key", "token").unwrap());
        assert_eq!(next.len(), 32);
        assert_ne!(next, successor("key2", "token").unwrap());
        assert_ne!(next, successor("key", "token2").unwrap());
    }

    #[test]
    fn a_challenge_is_met_by_its_verifier_alone() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let value = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let challenge = Challenge::read(Some("S256"), Some(value)).unwrap().unwrap();
        assert!(challenge.is_met(verifier));
        assert!(!challenge.is_met(value));
        let plain = Challenge::read(Some("plain"), Some(verifier)).unwrap().unwrap();
        assert!(plain.is_met(verifier) && !plain.is_met(value));
    }

    #[test]
    fn half_a_challenge_or_a_strange_one_is_refused() {
        assert_eq!(Challenge::read(None, Some("")).unwrap(), None);
        let long = "x".repeat(43);
        for (method, value) in [
            (None, Some(long.as_str())),
            (Some("s256"), None),
            (Some("s512"), Some(long.as_str())),
            (Some("s256"), Some("short")),
            (Some("s256"), Some("x x x x x x x x x x x x x x x x x x x x x x x x")),
        ] {
            assert_eq!(Challenge::read(method, value).unwrap_err().code, "validation_failed", "{method:?} {value:?}");
        }
    }
}
