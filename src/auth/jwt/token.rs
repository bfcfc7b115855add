//! A token in its compact form (RFC 7515 section 3.1), before anything in it is believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, crypto};
use serde::Deserialize;
use serde_json::Value;

use super::key::Verifier;
use super::{Claims, Invalid};

/// The longest token in bytes.
pub const LONGEST: usize = 16 * 1024;

/// A token whose header was read and whose signature was not looked at.
pub(super) struct Token<'a> {
    algorithm: Algorithm,
    id: Option<String>,
    /// What is signed: header and payload with the dot between.
    signed: &'a [u8],
    payload: &'a str,
    signature: &'a str,
}

/// Parameters other than these (`jku`, `jwk`, `x5c` ...) are never looked at. A repeated one is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::Empty);
        }
        if text.len() > LONGEST {
            return Err(Invalid::TooLong(text.len()));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [header, payload, signature] = parts[..] else { return Err(Invalid::Parts(parts.len())) };
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Invalid::Malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| Invalid::Malformed)?;
        let algorithm = algorithm(&header.alg)?;
        if header.crit.is_some() {
            return Err(Invalid::Kind("The header has \"crit\", and no extension is supported"));
        }
        if header.typ.as_deref().is_some_and(|kind| !is_access_token(kind)) {
            return Err(Invalid::Kind("The header's \"typ\" is not JWT"));
        }
        let signed = &text.as_bytes()[..text.len() - signature.len() - 1];
        Ok(Self { algorithm, id: header.kid, signed, payload, signature })
    }

    /// The companion of the key that made the signature.
    pub(super) fn find<'k, T>(&self, keys: impl Iterator<Item = (&'k Verifier, T)>) -> Result<T, Invalid> {
        let mut refused = Invalid::NoKey;
        for (key, companion) in keys {
            if !key.fits(self.algorithm, self.id.as_deref()) {
                continue;
            }
            match crypto::verify(self.signature, self.signed, &key.key, key.algorithm) {
                Ok(true) => return Ok(companion),
                Ok(false) | Err(_) => refused = Invalid::Signature,
            }
        }
        Err(refused)
    }

    /// What the token says; only after [`Token::find`].
    pub(super) fn claims(&self) -> Result<Claims, Invalid> {
        let json = URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| Invalid::Claims)?;
        match serde_json::from_slice(&json) {
            Ok(Value::Object(claims)) => Ok(Claims(claims)),
            _ => Err(Invalid::Claims),
        }
    }
}

fn algorithm(name: &str) -> Result<Algorithm, Invalid> {
    if name.eq_ignore_ascii_case("none") {
        return Err(Invalid::Unsecured);
    }
    name.parse().map_err(|_| Invalid::Algorithm(name.chars().filter(char::is_ascii_graphic).take(32).collect()))
}

/// What `typ` an access token may have. Tokens for other purposes have another one (RFC 8725 section 3.11).
fn is_access_token(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
}
