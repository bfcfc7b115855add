//! One order: account, challenges, certificate.
//!
//! A failed challenge makes the whole order invalid (RFC 8555 section 7.1.6), so the next kind of challenge is tried
//! with a new order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeType, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::store::Store;
use crate::tls::certificate::Certificate;
use crate::tls::config::Challenge;
use crate::tls::error::{Error, FileError};
use crate::tls::provider::provider;
use crate::tls::server::Tls;

/// How the authority is asked whether it is done: soon at first, two minutes at most.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(200)).backoff(1.5).timeout(Duration::from_mins(2));

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The state folder.
    #[error(transparent)]
    State(#[from] Error),
    /// The authority refused or did not answer.
    #[error("the authority did not answer as hoped")]
    Authority(#[from] instant_acme::Error),
    /// The authority could not convince itself that the names are ours.
    #[error("the authority could not validate the names: {details}")]
    Validation {
        /// What it found, for each name and kind of challenge.
        details: String,
    },
    /// None of the configured challenges is on offer.
    #[error("the authority offers none of the challenges in tls.acme.challenges for {name}")]
    NotOffered {
        /// The name.
        name: String,
    },
    /// The profile is unknown.
    #[error("the authority has no profile \"{profile}\" (it has: {known})")]
    Profile {
        /// The one asked for.
        profile: String,
        /// Those that there are.
        known: String,
    },
    /// What was issued cannot be used.
    #[error("the issued certificate cannot be used")]
    Unusable(#[from] FileError),
    /// A key or a request could not be made.
    #[error("cannot make the certificate request")]
    Request(#[from] rcgen::Error),
    /// It took too long.
    #[error("the order was not done within ten minutes")]
    Slow,
}

impl Failure {
    /// What to check.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::State(_) => "see that the state folder can be written",
            Self::Validation { .. } => {
                "see that the names lead to this machine and that ports 80 and 443 reach it from the internet"
            }
            Self::NotOffered { .. } => "set tls.acme.challenges to \"tls-alpn-01\", \"http-01\" or both",
            Self::Profile { .. } => "set tls.acme.profile to one that it has, or leave it empty",
            Self::Unusable(_) | Self::Request(_) => "this is between Beacon and the authority: please report it",
            Self::Slow => "the authority may be overloaded: see its status page",
            Self::Authority(error) => match problem(error) {
                Some("rateLimited") => "the authority's rate limit is reached: wait, and try out with tls.acme.staging",
                Some("rejectedIdentifier" | "unsupportedIdentifier") => {
                    "the authority does not certify such names: see tls.acme.domains"
                }
                Some("caa") => "a CAA record of the domain forbids this authority",
                Some("externalAccountRequired" | "unauthorized") => "see tls.acme.eab_key_id and tls.acme.eab_key",
                Some("invalidContact" | "unsupportedContact") => "see tls.acme.email",
                Some(_) => "the authority refused the order",
                None => {
                    "see that this machine reaches tls.acme.directory and trusts its certificate (package \
                     ca-certificates, or tls.acme.ca_file)"
                }
            },
        }
    }

    /// The least time to the next attempt, if the failure is of a kind that does not pass by itself soon.
    #[must_use]
    pub fn least_wait(&self) -> Option<Duration> {
        match self {
            Self::Authority(error) if problem(error) == Some("rateLimited") => Some(Duration::from_hours(1)),
            _ => None,
        }
    }
}

/// The last part of the authority's error type (RFC 8555 section 6.7).
fn problem(error: &instant_acme::Error) -> Option<&str> {
    match error {
        instant_acme::Error::Api(problem) => {
            let kind = problem.r#type.as_deref().unwrap_or_default();
            Some(kind.rsplit(':').next().unwrap_or_default())
        }
        _ => None,
    }
}

/// Orders, answers challenges, and keeps what is issued.
///
/// # Errors
/// [`Failure`]; nothing that serves has changed.
pub async fn order(
    tls: &Tls,
    store: &Store,
    account: &mut Option<Account>,
    replaces: Option<&CertificateIdentifier<'_>>,
) -> Result<Certificate, Failure> {
    let mut details = Vec::new();
    for kind in &store.config().challenges {
        let account = signed_in(store, account).await?;
        let mut order = match new_order(store, account, replaces).await {
            Err(Failure::Authority(error)) if problem(&error) == Some("accountDoesNotExist") => {
                store.forget_account();
                let mut fresh = None;
                let made = new_order(store, signed_in(store, &mut fresh).await?, replaces).await?;
                *account = fresh.take().unwrap_or_else(|| account.clone());
                made
            }
            other => other?,
        };
        match validate(tls, store, &mut order, *kind).await {
            Ok(()) => return issue(store, &mut order).await,
            Err(Failure::Validation { details: found }) => details.push(found),
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::Validation { details: details.join("; ") })
}

/// The account, made if there is none.
async fn signed_in<'a>(store: &Store, account: &'a mut Option<Account>) -> Result<&'a mut Account, Failure> {
    let found = match account.take() {
        Some(found) => found,
        None => match store.account().await? {
            Some(found) => found,
            None => register(store).await?,
        },
    };
    Ok(account.insert(found))
}

async fn register(store: &Store) -> Result<Account, Failure> {
    let config = store.config();
    let mail = format!("mailto:{}", config.email);
    let contact: &[&str] = if config.email.is_empty() { &[] } else { &[&mail] };
    let new = NewAccount { contact, terms_of_service_agreed: true, only_return_existing: false };
    let binding = (!config.eab_key_id.is_empty())
        .then(|| ExternalAccountKey::new(config.eab_key_id.clone(), &config.eab_key_bytes().unwrap_or_default()));
    let (account, credentials) = store.builder()?.create(&new, store.directory().into(), binding.as_ref()).await?;
    store.save_account(&credentials)?;
    Ok(account)
}

async fn new_order(
    store: &Store,
    account: &Account,
    replaces: Option<&CertificateIdentifier<'_>>,
) -> Result<Order, Failure> {
    let identifiers: Vec<Identifier> = store
        .names()
        .iter()
        .map(|name| name.parse::<IpAddr>().map_or_else(|_| Identifier::Dns(name.clone()), Identifier::Ip))
        .collect();
    let profile = &store.config().profile;
    if !profile.is_empty() && !account.profiles().any(|known| known.name == profile) {
        let known: Vec<&str> = account.profiles().map(|known| known.name).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        return Err(Failure::Profile { profile: profile.clone(), known });
    }
    let plain = || {
        let new = NewOrder::new(&identifiers);
        if profile.is_empty() { new } else { new.profile(profile) }
    };
    if let Some(replaces) = replaces {
        // `replaces` only asks for a better place in the authority's limits. Some refuse it (already replaced, other
        // account): then an ordinary order does.
        match account.new_order(&plain().replaces(replaces.clone())).await {
            Ok(order) => return Ok(order),
            Err(error) => tracing::debug!(%error, "the order that replaces a certificate was refused"),
        }
    }
    Ok(account.new_order(&plain()).await?)
}

/// Answers the challenges of one kind until the order is ready.
async fn validate(tls: &Tls, store: &Store, order: &mut Order, kind: Challenge) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut used = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(Failure::Validation { details: format!("an authorization is {status:?}") }),
        }
        let name = authorization.identifier().to_string();
        let mut kinds = std::iter::once(kind).chain(store.config().challenges.iter().copied());
        let Some(kind) = kinds.find(|kind| authorization.challenges.iter().any(|one| one.r#type == wire(*kind))) else {
            return Err(Failure::NotOffered { name });
        };
        let Some(mut challenge) = authorization.challenge(wire(kind)) else {
            return Err(Failure::NotOffered { name });
        };
        answers.push(Answer::give(tls, kind, &name, &challenge)?);
        used.push(wire(kind));
        challenge.set_ready().await?;
    }
    let found = order.poll_ready(&PATIENCE).await;
    if matches!(found, Ok(OrderStatus::Ready)) {
        return Ok(());
    }
    let details = explain(order, &used).await;
    match found {
        Err(error) if details.is_empty() => Err(error.into()),
        _ if details.is_empty() => Err(Failure::Validation { details: "no reason was given".into() }),
        _ => Err(Failure::Validation { details }),
    }
}

/// What the authority found, for each name.
async fn explain(order: &mut Order, used: &[ChallengeType]) -> String {
    let mut details = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let name = authorization.identifier().to_string();
        for challenge in authorization.challenges.iter().filter(|challenge| used.contains(&challenge.r#type)) {
            if let Some(error) = &challenge.error {
                let detail = error.detail.as_deref().unwrap_or("no reason given");
                details.push(format!("{name} by {}: {detail}", text(&challenge.r#type)));
            }
        }
    }
    details.join("; ")
}

/// Asks for the certificate of a ready order and keeps it.
async fn issue(store: &Store, order: &mut Order) -> Result<Certificate, Failure> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(store.names().to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    order.finalize_csr(params.serialize_request(&key)?.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    let (path, key) = (store.certificate_path(), key.serialize_pem());
    // Checked before it is kept: a bad one must not take the place of a good one.
    let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes(), &path, &path)?;
    store.save_certificate(&key, &chain)?;
    Ok(certificate)
}

/// An answer that stands ready for the authority; withdrawn when dropped.
struct Answer {
    tls: Tls,
    kind: Challenge,
    name: String,
}

impl Answer {
    fn give(tls: &Tls, kind: Challenge, name: &str, challenge: &ChallengeHandle<'_>) -> Result<Self, Failure> {
        let proof = challenge.key_authorization();
        let (resolver, tokens) = tls.challenges();
        let name = match kind {
            Challenge::Http01 => {
                tokens.rcu(|now| {
                    let mut next = std::collections::HashMap::clone(now);
                    next.insert(challenge.token.clone(), proof.as_str().into());
                    next
                });
                challenge.token.clone()
            }
            Challenge::TlsAlpn01 => {
                let key = probe_certificate(name, proof.digest().as_ref())?;
                let asked = asked_name(name);
                resolver.challenge(&asked, Some(&key));
                asked
            }
        };
        Ok(Self { tls: tls.clone(), kind, name })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let (resolver, tokens) = self.tls.challenges();
        match self.kind {
            Challenge::Http01 => {
                tokens.rcu(|now| {
                    let mut next = std::collections::HashMap::clone(now);
                    next.remove(&self.name);
                    next
                });
            }
            Challenge::TlsAlpn01 => resolver.challenge(&self.name, None),
        }
    }
}

/// The certificate that answers a tls-alpn-01 probe (RFC 8737 section 3).
fn probe_certificate(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, Failure> {
    let mut params = CertificateParams::new(vec![name.into()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = provider().key_provider.load_private_key(secret).map_err(Error::Rustls)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer)))
}

/// What the probe asks for: the name, or the reverse name of an address (RFC 8738 section 6).
fn asked_name(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Err(_) => name.to_ascii_lowercase(),
        Ok(IpAddr::V4(v4)) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(v6)) => {
            let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
            let octets = v6.octets();
            let digits = octets.iter().rev().flat_map(|byte| [digit(byte & 15), '.', digit(byte >> 4), '.']);
            digits.chain("ip6.arpa".chars()).collect()
        }
    }
}

fn wire(kind: Challenge) -> ChallengeType {
    match kind {
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Http01 => ChallengeType::Http01,
    }
}

fn text(kind: &ChallengeType) -> &'static str {
    match kind {
        ChallengeType::Http01 => "http-01",
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        _ => "another challenge",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_for_an_address_asks_for_its_reverse_name() {
        assert_eq!(asked_name("Example.org"), "example.org");
        assert_eq!(asked_name("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        assert_eq!(asked_name("2001:db8::1"), format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23)));
    }
}
