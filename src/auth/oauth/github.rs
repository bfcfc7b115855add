//! GitHub: who has an access token is asked at its API, because there are no ID tokens.

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, json};

use super::Error;
use super::config::{Provider, base};
use super::issuer::{destination, get};
use super::person::{Person, is_address};
use crate::http::Outbound;

#[derive(Deserialize)]
struct User {
    id: u64,
    #[serde(default)]
    login: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    avatar_url: Option<String>,
}

#[derive(Deserialize)]
struct Email {
    #[serde(default)]
    email: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    verified: bool,
}

/// Where people sign in.
pub(super) fn site(provider: &Provider) -> &str {
    if provider.url.is_empty() { "https://github.com" } else { base(&provider.url).unwrap_or(&provider.url) }
}

fn api(provider: &Provider) -> String {
    if provider.url.is_empty() { "https://api.github.com".into() } else { format!("{}/api/v3", site(provider)) }
}

/// Who the token is of.
pub(super) async fn person(outbound: &Outbound, provider: &Provider, access_token: &str) -> Result<Person, Error> {
    let mut headers = HeaderMap::new();
    let mut bearer = HeaderValue::from_str(&format!("Bearer {access_token}"))
        .map_err(|_| Error::Answer("the access token has strange characters"))?;
    bearer.set_sensitive(true);
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    headers.insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
    let api = api(provider);
    let user: User = get(outbound, &destination(&format!("{api}/user"))?, headers.clone()).await?;
    let emails: Vec<Email> = get(outbound, &destination(&format!("{api}/user/emails?per_page=100"))?, headers).await?;
    if user.id == 0 {
        return Err(Error::Answer("the user has no number"));
    }
    // The name can change hands; the number cannot.
    let subject = user.id.to_string();
    let chosen =
        emails.iter().filter(|email| is_address(&email.email)).max_by_key(|email| (email.primary, email.verified));
    let mut person = Person {
        subject,
        email: chosen.map(|email| email.email.clone()),
        email_verified: chosen.is_some_and(|email| email.verified),
        data: Map::new(),
    };
    person.data.insert("iss".into(), json!(api));
    let some = |text: Option<String>| text.filter(|text| !text.is_empty() && text.len() <= 2_048);
    person.put("name", some(user.name));
    person.put("preferred_username", some(user.login.clone()));
    person.put("user_name", some(user.login));
    person.put("avatar_url", some(user.avatar_url));
    Ok(person.finish(provider))
}
