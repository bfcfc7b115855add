//! All providers of a configuration, and the two halves of a flow.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::config::{Kind, Provider, is_scope};
use super::exchange::{self, Code, form};
use super::id_token::{self, Expected, Nonce};
use super::issuer::{Document, Issuer, get};
use super::person::{Person, text};
use super::{Error, github};
use crate::http::Outbound;
use crate::secret::Secret;

/// Parameters of an authorization request that are Beacon's to set.
const OURS: [&str; 14] = [
    "client_id",
    "client_secret",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
    "registration",
    "id_token_hint",
];
/// The most that a caller may add to an authorization request, in bytes.
const EXTRA: usize = 2_048;

/// The identity providers. A cheap clone.
#[derive(Clone)]
pub struct Providers(Arc<Inner>);

struct Inner {
    redirect_uri: String,
    outbound: Outbound,
    clients: BTreeMap<String, Client>,
}

struct Client {
    kind: Kind,
    provider: Provider,
    /// GitHub has none.
    issuer: Option<Issuer>,
    audience: Vec<String>,
}

/// A flow that has begun: send the browser to `url`, and keep the rest with the `state`.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Where the browser is sent.
    pub url: String,
    /// To be given to [`Providers::finish`]; none for a provider without ID tokens.
    pub nonce: Option<String>,
    /// To be given to [`Providers::finish`].
    pub verifier: String,
}

/// What the browser brought back, and what was kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Return<'a> {
    /// `code`
    pub code: &'a str,
    /// `iss`, if it is there (RFC 9207).
    pub issuer: Option<&'a str>,
    /// `user`, which Apple sends at the first sign-in; JSON.
    pub user: Option<&'a str>,
    /// [`Begun::nonce`]
    pub nonce: Option<&'a str>,
    /// [`Begun::verifier`]
    pub verifier: &'a str,
}

/// What a flow ended with.
#[derive(Debug)]
pub struct Outcome {
    /// Who it is.
    pub person: Person,
    /// The provider's tokens, for applications that call the provider; empty if there are none.
    pub access_token: Secret,
    /// As above.
    pub refresh_token: Secret,
}

/// An ID token that an application got by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdToken<'a> {
    /// The token.
    pub token: &'a str,
    /// The access token that came with it.
    pub access_token: Option<&'a str>,
    /// What the token has the SHA-256 of.
    pub nonce: Option<&'a str>,
}

impl Providers {
    /// The providers of a configuration, which was validated. `redirect_uri` is where browsers come back to, as it is
    /// registered with the providers.
    #[must_use]
    pub fn new(providers: &BTreeMap<String, Provider>, redirect_uri: &str, outbound: Outbound) -> Self {
        let client = |(name, provider): (&String, &Provider)| {
            let kind = provider.kind(name)?;
            let issuer = (kind != Kind::GitHub).then(|| Issuer::new(kind, provider, outbound.clone()));
            let client = Client { kind, provider: provider.clone(), issuer, audience: provider.audience() };
            Some((name.clone(), client))
        };
        let clients = providers.iter().filter_map(client).collect();
        Self(Arc::new(Inner { redirect_uri: redirect_uri.to_owned(), outbound, clients }))
    }

    /// The names of those that are enabled.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.clients.iter().filter(|(_, client)| client.provider.enabled).map(|(name, _)| name.as_str())
    }

    /// The configuration of a provider, enabled or not.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.0.clients.get(name).map(|client| &client.provider)
    }

    /// The provider with this issuer, for clients that name that instead.
    #[must_use]
    pub fn by_issuer(&self, issuer: &str) -> Option<&str> {
        let is = |client: &Client| client.issuer.as_ref().is_some_and(|known| known.url() == issuer);
        self.0.clients.iter().find(|(_, client)| is(client)).map(|(name, _)| name.as_str())
    }

    fn client(&self, name: &str) -> Result<&Client, Error> {
        let client = self.0.clients.get(name).ok_or_else(|| Error::Unknown(name.chars().take(64).collect()))?;
        if client.provider.enabled { Ok(client) } else { Err(Error::Disabled(name.to_owned())) }
    }

    /// Begins a flow. `scopes` are asked for besides the provider's own, separated by spaces or commas; `extra` are
    /// parameters of the provider's (`prompt`, `login_hint`, ...).
    ///
    /// # Errors
    /// A provider that is unknown, disabled or away; a parameter that cannot be passed on.
    pub async fn begin(
        &self,
        name: &str,
        state: &str,
        scopes: &str,
        extra: &[(String, String)],
    ) -> Result<Begun, Error> {
        let client = self.client(name)?;
        if let Some((name, _)) = extra.iter().find(|(name, _)| name.is_empty() || OURS.contains(&name.as_str())) {
            return Err(Error::Parameter(name.clone()));
        }
        let scope = client.scope(scopes)?;
        let verifier = random()?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let nonce = client.issuer.is_some().then(random).transpose()?;
        let mut pairs = vec![
            ("client_id", client.provider.client_id.as_str()),
            ("redirect_uri", &self.0.redirect_uri),
            ("response_type", "code"),
            ("scope", &scope),
            ("state", state),
        ];
        if client.has_pkce() {
            pairs.extend([("code_challenge", challenge.as_str()), ("code_challenge_method", "S256")]);
        }
        pairs.extend(nonce.as_deref().map(|nonce| ("nonce", nonce)));
        if client.kind == Kind::Apple {
            // Apple insists on it when a name is asked for.
            pairs.push(("response_mode", "form_post"));
        }
        let endpoint = match &client.issuer {
            Some(issuer) => issuer.document().await?.authorization_endpoint.clone(),
            None => format!("{}/login/oauth/authorize", github::site(&client.provider)),
        };
        let added = form(extra.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        if added.len() > EXTRA {
            return Err(Error::Parameter(extra.first().map(|(name, _)| name.clone()).unwrap_or_default()));
        }
        let separator = if endpoint.contains('?') { '&' } else { '?' };
        let between = if added.is_empty() { "" } else { "&" };
        let url = format!("{endpoint}{separator}{}{between}{added}", form(pairs));
        Ok(Begun { url, nonce, verifier })
    }

    /// Ends a flow: exchanges the code, and says who it is.
    ///
    /// # Errors
    /// A provider that is away or refuses, or tokens that are not good.
    pub async fn finish(&self, name: &str, back: Return<'_>) -> Result<Outcome, Error> {
        let client = self.client(name)?;
        let document = match &client.issuer {
            Some(issuer) => Some((issuer, issuer.document().await?)),
            None => None,
        };
        if let Some((issuer, document)) = &document
            && !issuer.answered(document, back.issuer)
        {
            return Err(Error::Mixed);
        }
        let to = match &document {
            Some((issuer, document)) => issuer.endpoint(&document.token_endpoint)?,
            None => {
                super::issuer::destination(&format!("{}/login/oauth/access_token", github::site(&client.provider)))?
            }
        };
        let code = Code {
            code: back.code,
            verifier: client.has_pkce().then_some(back.verifier),
            redirect_uri: &self.0.redirect_uri,
            basic: document.as_ref().is_some_and(|(_, document)| is_basic(client.kind, document)),
        };
        let tokens = exchange::exchange(&self.0.outbound, &to, client.kind, &client.provider, code).await?;
        let access_token = Some(tokens.access_token.expose()).filter(|token| !token.is_empty());
        let person = match &document {
            None => {
                let token = access_token.ok_or(Error::Answer("there is no access token"))?;
                github::person(&self.0.outbound, &client.provider, token).await?
            }
            Some((issuer, document)) => {
                let expected = Expected {
                    audience: std::slice::from_ref(&client.provider.client_id),
                    party: Some(&client.provider.client_id),
                    nonce: Nonce::Exactly(back.nonce.ok_or(Error::NonceMissing)?),
                    access_token,
                };
                let id_token = tokens.id_token.expose();
                if id_token.is_empty() {
                    return Err(Error::Answer("there is no ID token"));
                }
                let claims = issuer.open(id_token).await?;
                id_token::check(id_token, &claims, &expected)?;
                let mut claims = claims.into_object();
                if client.kind == Kind::Oidc {
                    self.complete(issuer, document, &mut claims, access_token).await?;
                }
                client.name_of(&mut claims, back.user);
                Person::of_claims(client.kind, &client.provider, &claims, issuer.is_one_tenant())
            }
        };
        Ok(Outcome { person, access_token: tokens.access_token, refresh_token: tokens.refresh_token })
    }

    /// Many providers have the address at their userinfo endpoint alone (OpenID Connect Core, section 5.3).
    async fn complete(
        &self,
        issuer: &Issuer,
        document: &Document,
        claims: &mut Map<String, Value>,
        access_token: Option<&str>,
    ) -> Result<(), Error> {
        let (Some(url), Some(token)) = (&document.userinfo_endpoint, access_token) else { return Ok(()) };
        if claims.get("email").is_some_and(Value::is_string) {
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::Answer("the access token has strange characters"))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        let more: Map<String, Value> = get(&self.0.outbound, &issuer.endpoint(url)?, headers).await?;
        // Section 5.3.4: another subject means that the answer is about somebody else.
        if more.get("sub") != claims.get("sub") {
            return Err(Error::Answer("the user's data are another's"));
        }
        claims.retain(|_, value| !value.is_null());
        for (name, value) in more {
            claims.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// Who an ID token is of.
    ///
    /// # Errors
    /// A provider that is unknown, disabled or away, or a token that is not good.
    pub async fn accept(&self, name: &str, given: IdToken<'_>) -> Result<Person, Error> {
        let client = self.client(name)?;
        let issuer = client.issuer.as_ref().ok_or_else(|| Error::NoIdTokens(name.to_owned()))?;
        let claims = issuer.open(given.token).await?;
        let nonce = if client.provider.skip_nonce_check {
            Nonce::Any
        } else {
            Nonce::HashOf(given.nonce.filter(|nonce| !nonce.is_empty()))
        };
        let expected = Expected {
            audience: &client.audience,
            party: None,
            nonce,
            access_token: given.access_token.filter(|token| !token.is_empty()),
        };
        id_token::check(given.token, &claims, &expected)?;
        Ok(Person::of_claims(client.kind, &client.provider, claims.object(), issuer.is_one_tenant()))
    }
}

impl Client {
    /// Apple does not know PKCE; the nonce binds its answer to the flow.
    fn has_pkce(&self) -> bool {
        self.kind != Kind::Apple
    }

    fn scope(&self, more: &str) -> Result<String, Error> {
        let own: &[&str] = match self.kind {
            Kind::GitHub => &["user:email"],
            Kind::Apple => &["name", "email"],
            _ => &["openid", "email", "profile"],
        };
        let mut scopes: Vec<&str> = own.to_vec();
        let more = more.split([' ', ',']).filter(|scope| !scope.is_empty());
        for scope in self.provider.scopes.iter().map(String::as_str).chain(more) {
            if !is_scope(scope) {
                return Err(Error::Parameter("scopes".into()));
            }
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        let scope = scopes.join(" ");
        if scope.len() > EXTRA { Err(Error::Parameter("scopes".into())) } else { Ok(scope) }
    }

    /// Apple gives the name beside the code, and only once. It is the browser's word, and names prove nothing.
    fn name_of(&self, claims: &mut Map<String, Value>, user: Option<&str>) {
        let Some(user) = user.filter(|user| self.kind == Kind::Apple && user.len() <= 4_096) else { return };
        let Ok(Value::Object(user)) = serde_json::from_str(user) else { return };
        let Some(Value::Object(name)) = user.get("name") else { return };
        let parts = [text(name, "firstName"), text(name, "lastName")];
        let whole = parts.iter().flatten().map(|part| part.trim()).collect::<Vec<_>>().join(" ");
        if !whole.is_empty() {
            claims.insert("name".into(), whole.into());
        }
    }
}

/// Where the issuer does not say, the specification says Basic; the great ones take the form, and document that.
fn is_basic(kind: Kind, document: &Document) -> bool {
    let methods = document.token_endpoint_auth_methods_supported.as_deref();
    kind == Kind::Oidc && methods.is_none_or(|methods| !methods.iter().any(|method| method == "client_secret_post"))
}

/// 256 bits that nobody can guess, in 43 characters.
fn random() -> Result<String, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Error::Ours("the system has no randomness"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
