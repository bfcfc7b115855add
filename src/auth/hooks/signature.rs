//! Signatures of Standard Webhooks: HMAC-SHA-256 over `id.timestamp.body`, so that a program knows that a request is
//! Beacon's and fresh.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::secret::Secret;

/// What stands before a secret.
const PREFIX: &str = "v1,whsec_";

/// A key that signs.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// The keys in a secret, which are separated by `|`.
///
/// # Errors
/// What is wrong with it.
pub fn keys(secret: &Secret) -> Result<Vec<Key>, &'static str> {
    if secret.is_empty() {
        return Ok(Vec::new());
    }
    secret.expose().split('|').map(|text| key(text.trim())).collect()
}

fn key(text: &str) -> Result<Key, &'static str> {
    let encoded = text.strip_prefix(PREFIX).ok_or("does not begin with \"v1,whsec_\"")?;
    let bytes = STANDARD.decode(encoded).map_err(|_| "is not in base 64")?;
    if !(24..=64).contains(&bytes.len()) {
        return Err("does not have 24 to 64 bytes");
    }
    Hmac::new_from_slice(&bytes).map(Key).map_err(|_| "cannot be a key")
}

/// The header `webhook-signature`: one signature for each key.
#[must_use]
pub fn sign(keys: &[Key], id: &str, timestamp: u64, body: &[u8]) -> String {
    let sign = |key: &Key| {
        let mut mac = key.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    keys.iter().map(sign).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the specification's libraries test with.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let secret = Secret::new("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let keys = keys(&secret).unwrap();
        let signature = sign(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs() {
        let one = "v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let both = Secret::new(format!("{one}|v1,whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
        let signatures = sign(&keys(&both).unwrap(), "id", 1, b"{}");
        let signatures: Vec<&str> = signatures.split(' ').collect();
        assert_eq!(signatures.len(), 2);
        assert_eq!(signatures[0], sign(&keys(&Secret::new(one)).unwrap(), "id", 1, b"{}"));
        assert_ne!(signatures[0], signatures[1]);
        for bad in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "v1,whsec_AAAA", "v1,whsec_!", "v1a,whpk_x"] {
            assert!(keys(&Secret::new(bad)).is_err(), "{bad}");
        }
        assert!(keys(&Secret::new(format!("{one}|"))).is_err());
    }
}
