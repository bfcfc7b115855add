//! An OpenID Connect issuer: its document (OpenID Connect Discovery 1.0) and its keys, fetched when they are needed and
//! kept for an hour.
//!
//! While an issuer is away, what it said in the last day counts; it is asked again at most every few seconds. A token with
//! an unknown key makes Beacon ask at most once a minute, whatever strangers send.

use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::Error;
use super::config::{Kind, Provider};
use crate::auth::jwt::{Claims, Invalid, KeySet};
use crate::http::{Destination, Message, Outbound};

/// How long an exchange with a provider may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer of a provider, in bytes.
pub(super) const LARGEST: usize = 256 * 1024;
const FRESH: Duration = Duration::from_hours(1);
const STALE: Duration = Duration::from_hours(24);
/// The least time between two looks for a key that is not there.
const REFRESH: Duration = Duration::from_mins(1);
/// How long an issuer that did not answer is left alone.
const PAUSE: Duration = Duration::from_secs(5);
/// In the place of the tenant in the issuer of Microsoft's document for many tenants.
const TENANT: &str = "{tenantid}";
/// The tenant of Microsoft's personal accounts.
const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// What an issuer says about itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Document {
    pub issuer: String,
    pub authorization_endpoint: String,
    #[serde(default)]
    pub token_endpoint: String,
    pub jwks_uri: String,
    #[serde(default)]
    pub userinfo_endpoint: Option<String>,
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// Keys, and whose tokens they are for where Microsoft says so: those for personal accounts must not sign for firms.
type Keys = Vec<(Option<String>, KeySet)>;

#[derive(Default)]
struct Known {
    document: Option<(Arc<Document>, Instant)>,
    keys: Option<(Arc<Keys>, Instant)>,
    failed: Option<Instant>,
}

/// An issuer and what is known of it.
pub(super) struct Issuer {
    kind: Kind,
    /// Without a slash at its end that the operator did not write.
    url: String,
    tenant: String,
    outbound: Outbound,
    known: Mutex<Known>,
}

impl Issuer {
    pub(super) fn new(kind: Kind, provider: &Provider, outbound: Outbound) -> Self {
        let url = match kind {
            _ if !provider.issuer.is_empty() => provider.issuer.clone(),
            Kind::Google => "https://accounts.google.com".into(),
            Kind::Apple => "https://appleid.apple.com".into(),
            _ => format!("https://login.microsoftonline.com/{}/v2.0", provider.tenant()),
        };
        Self { kind, url, tenant: provider.tenant().to_owned(), outbound, known: Mutex::default() }
    }

    /// What the issuer says about itself.
    pub(super) async fn document(&self) -> Result<Arc<Document>, Error> {
        self.document_of(&mut *self.known.lock().await).await
    }

    async fn document_of(&self, known: &mut Known) -> Result<Arc<Document>, Error> {
        if let Some((document, at)) = &known.document
            && at.elapsed() < FRESH
        {
            return Ok(document.clone());
        }
        match self.ask(known, Self::fetch_document).await {
            Ok(document) => {
                let document = Arc::new(document);
                known.document = Some((document.clone(), Instant::now()));
                Ok(document)
            }
            Err(error) => match &known.document {
                Some((document, at)) if at.elapsed() < STALE => Ok(document.clone()),
                _ => Err(error),
            },
        }
    }

    async fn keys(&self, newer: bool) -> Result<Arc<Keys>, Error> {
        let mut known = self.known.lock().await;
        let patience = if newer { REFRESH } else { FRESH };
        if let Some((keys, at)) = &known.keys
            && at.elapsed() < patience
        {
            return Ok(keys.clone());
        }
        let document = self.document_of(&mut known).await?;
        match self.ask(&mut known, async |issuer: &Self| issuer.fetch_keys(&document).await).await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                known.keys = Some((keys.clone(), Instant::now()));
                Ok(keys)
            }
            Err(error) => match &known.keys {
                Some((keys, at)) if at.elapsed() < STALE => Ok(keys.clone()),
                _ => Err(error),
            },
        }
    }

    /// Asks, unless the last question was in vain a moment ago.
    async fn ask<T>(&self, known: &mut Known, fetch: impl AsyncFnOnce(&Self) -> Result<T, Error>) -> Result<T, Error> {
        if known.failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(Error::AwayStill);
        }
        let result = fetch(self).await;
        known.failed = result.is_err().then(Instant::now);
        result
    }

    async fn fetch_document(&self) -> Result<Document, Error> {
        let url = format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/'));
        let document: Document = get(&self.outbound, &destination(&url)?, HeaderMap::new()).await?;
        // Somebody who writes another's issuer into the own document must not become the other.
        let same = match self.kind {
            Kind::Apple => self.is_apple(&document.issuer),
            // A tenant may be configured by name; the document has its number.
            Kind::Microsoft => same_origin(&document.issuer.replace(TENANT, "common"), &self.url),
            _ => document.issuer == self.url,
        };
        if !same {
            return Err(Error::Answer("the document is of another issuer"));
        }
        for url in [&document.authorization_endpoint, &document.jwks_uri]
            .into_iter()
            .chain(&document.userinfo_endpoint)
            .chain(Some(&document.token_endpoint).filter(|url| !url.is_empty()))
        {
            self.endpoint(url)?;
        }
        Ok(document)
    }

    async fn fetch_keys(&self, document: &Document) -> Result<Keys, Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = get(&self.outbound, &self.endpoint(&document.jwks_uri)?, HeaderMap::new()).await?;
        let mut groups: Vec<(Option<String>, Vec<Value>)> = Vec::new();
        // A shared secret among public keys is of no use to us, and takes the others with it.
        for key in set.keys.into_iter().filter(|key| key.get("kty").is_some_and(|kind| kind != "oct")) {
            let owner = key.get("issuer").and_then(Value::as_str).filter(|_| self.kind == Kind::Microsoft);
            let owner = owner.map(str::to_owned);
            match groups.iter_mut().find(|(name, _)| *name == owner) {
                Some((_, keys)) => keys.push(key),
                None => groups.push((owner, vec![key])),
            }
        }
        let keys: Keys = groups
            .into_iter()
            .filter_map(|(owner, keys)| {
                let text = serde_json::json!({ "keys": keys }).to_string();
                Some((owner, KeySet::parse(text.as_bytes()).ok()?))
            })
            .collect();
        if keys.is_empty() { Err(Error::Answer("no key that verifies signatures")) } else { Ok(keys) }
    }

    /// The claims of a token that this issuer signed. Times and audience are not looked at yet.
    pub(super) async fn open(&self, token: &str) -> Result<Claims, Error> {
        let (claims, owner) = match find(&*self.keys(false).await?, token) {
            Err(Invalid::NoKey) => find(&*self.keys(true).await?, token)?,
            found => found?,
        };
        let document = self.document().await?;
        self.check_issuer(&document, owner.as_deref(), &claims)?;
        Ok(claims)
    }

    fn check_issuer(&self, document: &Document, owner: Option<&str>, claims: &Claims) -> Result<(), Error> {
        let issuer = claims.text("iss").unwrap_or_default();
        let good = match self.kind {
            Kind::Google => issuer == document.issuer || Some(issuer) == document.issuer.strip_prefix("https://"),
            Kind::Apple => self.is_apple(issuer),
            Kind::Microsoft => {
                let tenant = claims.text("tid").and_then(|tenant| tenant.parse::<Uuid>().ok());
                let tenant = tenant.map(|tenant| tenant.to_string()).unwrap_or_default();
                let is = |pattern: &str| !tenant.is_empty() && pattern.replace(TENANT, &tenant) == issuer;
                is(&document.issuer) && owner.is_none_or(is) && !(self.tenant == "organizations" && tenant == PERSONAL)
            }
            _ => issuer == document.issuer,
        };
        if good { Ok(()) } else { Err(Error::Token(Invalid::Issuer)) }
    }

    /// Whether `iss` beside a code (RFC 9207) is this issuer's.
    pub(super) fn answered(&self, document: &Document, issuer: Option<&str>) -> bool {
        match issuer {
            None => !document.authorization_response_iss_parameter_supported,
            Some(issuer) if document.issuer.contains(TENANT) => same_origin(issuer, &self.url),
            Some(issuer) => issuer == document.issuer,
        }
    }

    /// Apple is on its way from one name to another.
    fn is_apple(&self, issuer: &str) -> bool {
        issuer == self.url || issuer == "https://appleid.apple.com" || issuer == "https://account.apple.com"
    }

    /// Whether the operator named one firm, whose administrators are trusted with its addresses.
    pub(super) fn is_one_tenant(&self) -> bool {
        !matches!(self.tenant.as_str(), "common" | "organizations" | "consumers")
    }

    /// An address out of the document. An issuer on the net must not lead to what listens on this machine.
    pub(super) fn endpoint(&self, url: &str) -> Result<Destination, Error> {
        let to = destination(url)?;
        let local = destination(&self.url).is_ok_and(|issuer| !issuer.is_tls());
        if to.is_tls() || local { Ok(to) } else { Err(Error::Answer("an endpoint is not https")) }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

fn find(keys: &Keys, token: &str) -> Result<(Claims, Option<String>), Invalid> {
    let mut refused = Invalid::NoKey;
    for (owner, set) in keys {
        match set.open(token) {
            Ok(claims) => return Ok((claims, owner.clone())),
            Err(Invalid::NoKey) => {}
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn same_origin(one: &str, other: &str) -> bool {
    let parse = |text: &str| Destination::parse(text).ok();
    parse(one).zip(parse(other)).is_some_and(|(one, other)| one.same_origin(&other))
}

pub(super) fn destination(url: &str) -> Result<Destination, Error> {
    Destination::parse(url).map_err(|_| Error::Answer("an endpoint is no address"))
}

/// Fetches JSON.
pub(super) async fn get<T: DeserializeOwned>(
    outbound: &Outbound,
    to: &Destination,
    mut headers: HeaderMap,
) -> Result<T, Error> {
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    let message = Message { method: Method::GET, headers, body: bytes::Bytes::new() };
    let answer = outbound.send(to, message, DEADLINE, LARGEST).await?;
    if !answer.status.is_success() {
        tracing::warn!(host = to.host(), status = answer.status.as_u16(), "an identity provider refused a request");
        return Err(Error::Answer("the status is not 200"));
    }
    serde_json::from_slice(&answer.body).map_err(|_| Error::Answer("it is not the expected JSON"))
}
