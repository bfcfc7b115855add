//! A code for tokens (RFC 6749 section 4.1.3), and how Beacon says there who it is.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use super::Error;
use super::config::{Kind, Provider};
use super::issuer::{DEADLINE, LARGEST};
use crate::http::{Destination, Message, Outbound};
use crate::secret::Secret;

/// RFC 3986's unreserved characters stay as they are.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The longest words of a provider that are kept, in characters.
const WORDS: usize = 256;

/// What a provider gave for a code.
#[derive(Deserialize)]
pub(super) struct Tokens {
    #[serde(default)]
    pub access_token: Secret,
    #[serde(default)]
    pub refresh_token: Secret,
    #[serde(default)]
    pub id_token: Secret,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: Option<String>,
    error_description: String,
}

/// Escapes text for a query or form.
pub(super) fn escape(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, PLAIN)
}

/// A query or form.
pub(super) fn form<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        use std::fmt::Write as _;
        let separator = if out.is_empty() { "" } else { "&" };
        let _ = write!(out, "{separator}{}={}", escape(name), escape(value));
    }
    out
}

/// What to exchange.
pub(super) struct Code<'a> {
    pub code: &'a str,
    /// None where the provider does not know PKCE.
    pub verifier: Option<&'a str>,
    pub redirect_uri: &'a str,
    /// Whether the client's secret is sent as a password; otherwise it is in the form.
    pub basic: bool,
}

/// Exchanges a code.
pub(super) async fn exchange(
    outbound: &Outbound,
    to: &Destination,
    kind: Kind,
    provider: &Provider,
    code: Code<'_>,
) -> Result<Tokens, Error> {
    let made;
    let secret = if kind == Kind::Apple && !provider.private_key.is_empty() {
        made = apple_secret(provider)?;
        made.expose()
    } else {
        provider.client_secret.expose()
    };
    let mut pairs =
        vec![("grant_type", "authorization_code"), ("code", code.code), ("redirect_uri", code.redirect_uri)];
    pairs.extend(code.verifier.map(|verifier| ("code_verifier", verifier)));
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    if code.basic && !secret.is_empty() {
        // Section 2.3.1: both are form-encoded before they become user name and password.
        let both = STANDARD.encode(format!("{}:{}", escape(&provider.client_id), escape(secret)));
        let mut value =
            HeaderValue::from_str(&format!("Basic {both}")).map_err(|_| Error::Ours("the secret cannot be sent"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    } else {
        pairs.push(("client_id", &provider.client_id));
        pairs.extend((!secret.is_empty()).then_some(("client_secret", secret)));
    }
    let message = Message { method: Method::POST, headers, body: form(pairs).into() };
    let answer = outbound.send(to, message, DEADLINE, LARGEST).await?;
    // GitHub refuses with status 200.
    if let Ok(Refusal { error: Some(code), error_description }) = serde_json::from_slice(&answer.body) {
        return Err(Error::Refused { code: words(&code), description: words(&error_description) });
    }
    if !answer.status.is_success() {
        return Err(Error::Refused { code: answer.status.as_str().to_owned(), description: String::new() });
    }
    serde_json::from_slice(&answer.body).map_err(|_| Error::Answer("it is not the expected JSON"))
}

fn words(text: &str) -> String {
    text.chars().filter(|ch| !ch.is_control()).take(WORDS).collect()
}

fn signing_key(key: &Secret) -> Option<EncodingKey> {
    // In an environment file the lines of a key are often joined by \n in two characters.
    EncodingKey::from_ec_pem(key.expose().replace("\\n", "\n").as_bytes()).ok()
}

/// Whether the key can sign for Apple.
pub(super) fn is_apple_key(key: &Secret) -> bool {
    signing_key(key).is_some_and(|key| crypto::sign(b"proof", &key, Algorithm::ES256).is_ok())
}

/// What Apple takes for a client secret: a token about the client that the team's key signs. It is good for five minutes.
fn apple_secret(provider: &Provider) -> Result<Secret, Error> {
    const BROKEN: Error = Error::Ours("Apple's private key cannot be used");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let header = json!({ "alg": "ES256", "kid": provider.key_id, "typ": "JWT" });
    let claims = json!({
        "iss": provider.team_id, "iat": now, "exp": now + 300, "aud": "https://appleid.apple.com",
        "sub": provider.client_id,
    });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let key = signing_key(&provider.private_key).ok_or(BROKEN)?;
    let signature = crypto::sign(signed.as_bytes(), &key, Algorithm::ES256).map_err(|_| BROKEN)?;
    Ok(Secret::new(format!("{signed}.{signature}")))
}
