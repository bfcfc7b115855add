//! Sign-ins with an account elsewhere: GET /authorize, GET and POST /callback, GET /user/identities/authorize, and POST
//! /token with an ID token that an application got by itself.
//!
//! The `state` that a provider hands back is the name of a row that counts once and for a few minutes. The provider is
//! asked between two transactions, never inside of one.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Inner;
use super::answer;
use super::arrival::{Arrival, Arrived};
use super::ask::{Ask, find};
use super::failure::{Answer, Failure};
use super::limits::Class;
use super::store::flows::{self, Flow};
use super::token::Challenge;
use crate::auth::oauth::{self, IdToken, Return};

/// How long somebody may be at a provider.
const AWAY: Duration = Duration::from_mins(10);
/// The way to sign in.
const METHOD: &str = "oauth";
/// Parameters of /authorize that are for us; all others are for the provider.
const OURS: [&str; 7] = [
    "provider",
    "redirect_to",
    "scopes",
    "code_challenge",
    "code_challenge_method",
    "skip_http_redirect",
    // Browsers that are sent here cannot set headers.
    "apikey",
];
/// The most of a provider's own words that is passed on, in characters.
const WORDS: usize = 300;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    id_token: String,
    provider: String,
    issuer: String,
    client_id: String,
    access_token: String,
    nonce: String,
    link_identity: bool,
}

impl Inner {
    /// GET /authorize
    pub(super) async fn authorize(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::SignIn, ask.client).map_err(Failure::too_many)?;
        self.send_away(ask, None).await
    }

    /// GET /user/identities/authorize
    pub(super) async fn authorize_link(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::User, ask.client).map_err(Failure::too_many)?;
        let user = self.linker(ask).await?;
        self.send_away(ask, Some(user)).await
    }

    /// The signed-in user, who may add an identity.
    async fn linker(&self, ask: &Ask) -> Result<Uuid, Failure> {
        self.may_link()?;
        let connection = self.pool.get().await?;
        let signed = self.signed(&*connection, ask).await?;
        if signed.user.is_banned(OffsetDateTime::now_utc()) {
            return Err(Failure::forbidden("user_banned", "User is banned"));
        }
        // Another identity is another way in, past the second factor's keeper.
        if signed.user.has_factor() && signed.session.as_ref().is_none_or(|session| session.aal == "aal1") {
            let message = "AAL2 session is required to link an identity when MFA is enabled.";
            return Err(Failure::unauthorized("insufficient_aal", message));
        }
        Ok(signed.user.id)
    }

    async fn send_away(&self, ask: &Ask, linking: Option<Uuid>) -> Answer {
        let provider = ask.param("provider").ok_or_else(|| Failure::invalid("Unsupported provider: none is named"))?;
        if ask.param("invite_token").is_some() {
            let message = "invite_token is not supported: who was invited is known by the address at the provider";
            return Err(Failure::invalid(message));
        }
        let challenge = Challenge::read(ask.param("code_challenge_method"), ask.param("code_challenge"))?;
        let state = Uuid::new_v4();
        let extra: Vec<(String, String)> =
            ask.params().iter().filter(|(name, _)| !OURS.contains(&name.as_str())).cloned().collect();
        let scopes = ask.param("scopes").unwrap_or_default();
        let begun = self.providers.begin(provider, &state.to_string(), scopes, &extra).await.map_err(refused)?;
        let flow = Flow {
            id: state,
            challenge,
            provider: provider.to_owned(),
            method: METHOD.into(),
            redirect_to: Some(self.allowed.choose(ask.wanted()).to_owned()),
            nonce: begun.nonce,
            verifier: Some(begun.verifier),
            linking,
            ..Flow::default()
        };
        flows::begin(&*self.pool.get().await?, &flow).await?;
        if ask.param("skip_http_redirect").is_some_and(|skip| !matches!(skip, "false" | "0")) {
            return answer::ok(&json!({"url": begun.url}));
        }
        answer::redirect(StatusCode::FOUND, &begun.url)
    }

    /// GET and POST /callback
    pub(super) async fn callback(&self, ask: &Ask) -> Answer {
        let form = if ask.method == Method::POST { ask.form()? } else { Vec::new() };
        let pairs = if ask.method == Method::POST { &form } else { ask.params() };
        let mut to = self.allowed.site_url().to_owned();
        let back = self.come_back(pairs, &mut to, ask).await;
        let to = back.unwrap_or_else(|failure| Self::refusal(&to, &failure));
        answer::redirect(StatusCode::SEE_OTHER, &to)
    }

    /// Where the browser goes in the end. `to` becomes the address that the flow was begun with, once it is known.
    async fn come_back(&self, pairs: &[(String, String)], to: &mut String, ask: &Ask) -> Result<String, Failure> {
        self.limits.take(Class::SignIn, ask.client).map_err(Failure::too_many)?;
        let get = |name| find(pairs, name);
        let state = get("state").ok_or_else(|| bad_callback("OAuth state parameter missing"))?;
        let flow = match Uuid::try_parse(state) {
            Ok(state) => flows::take(&*self.pool.get().await?, state, AWAY).await?,
            Err(_) => None,
        };
        let flow = flow.ok_or_else(|| Failure::bad("bad_oauth_state", "OAuth callback with invalid state"))?;
        self.allowed.choose(flow.redirect_to.as_deref()).clone_into(to);
        if let Some(error) = get("error") {
            return Err(declined(error, get("error_description")));
        }
        let back = Return {
            code: get("code").ok_or_else(|| bad_callback("OAuth callback with missing authorization code missing"))?,
            issuer: get("iss"),
            user: get("user"),
            nonce: flow.nonce.as_deref(),
            verifier: flow.verifier.as_deref().unwrap_or_default(),
        };
        let outcome = self.providers.finish(&flow.provider, back).await.map_err(|error| {
            let failure = refused(error);
            // What is wrong with a token is for the application's eyes at /token, and for the provider's here.
            if failure.status.is_client_error() { Failure { code: BAD_CALLBACK, ..failure } } else { failure }
        })?;
        let given = |secret: &crate::secret::Secret| Some(secret.expose().to_owned()).filter(|text| !text.is_empty());
        let tokens = (given(&outcome.access_token), given(&outcome.refresh_token));
        let arrival = Arrival { provider: &flow.provider, person: &outcome.person, linking: flow.linking };
        let next = flow.challenge.is_some().then(|| Flow {
            // The provider has seen the state.
            id: Uuid::new_v4(),
            nonce: None,
            verifier: None,
            linking: None,
            access_token: tokens.0.clone(),
            refresh_token: tokens.1.clone(),
            ..flow.clone()
        });
        match self.arrive(&arrival, METHOD, next, ask).await? {
            Arrived::Code(code) => Ok(answer::extend(to, &[("code", &code)], &[])),
            Arrived::Ticket(ticket) => {
                let mut opened = self.redeem(*ticket).await?;
                (opened.provider_token, opened.provider_refresh_token) = tokens;
                Ok(opened.redirect(to, None))
            }
        }
    }

    /// POST /token?grant_type=id_token
    pub(super) async fn by_id_token(&self, ask: &Ask) -> Answer {
        self.limits.take(Class::SignIn, ask.client).map_err(Failure::too_many)?;
        let params: Params = ask.json()?;
        if params.id_token.is_empty() {
            return Err(Failure::invalid("id_token required"));
        }
        let provider = match (params.provider.as_str(), params.issuer.as_str()) {
            ("", "") => return Err(Failure::invalid("provider or client_id and issuer required")),
            ("", issuer) => self.providers.by_issuer(issuer).ok_or_else(|| unknown(issuer))?,
            (provider, "") => provider,
            (provider, issuer) if self.providers.by_issuer(issuer) == Some(provider) => provider,
            (_, issuer) => return Err(unknown(issuer)),
        };
        let is_client = |known: &oauth::Provider| {
            params.client_id.is_empty()
                || known.client_id == params.client_id
                || known.client_ids.contains(&params.client_id)
        };
        if !self.providers.get(provider).is_none_or(is_client) {
            return Err(Failure::invalid("client_id is none of the provider's"));
        }
        let linking = if params.link_identity { Some(self.linker(ask).await?) } else { None };
        let given =
            IdToken { token: &params.id_token, access_token: Some(&params.access_token), nonce: Some(&params.nonce) };
        let person = self.providers.accept(provider, given).await.map_err(|error| match error {
            oauth::Error::Disabled(name) | oauth::Error::Unknown(name) => match issuer_of(&name) {
                Some(issuer) => {
                    Failure::bad("provider_disabled", format!("Provider (issuer {issuer:?}) is not enabled"))
                }
                None => Failure::bad("provider_disabled", format!("Provider {name:?} is not enabled")),
            },
            other => refused(other),
        })?;
        let arrival = Arrival { provider, person: &person, linking };
        match self.arrive(&arrival, METHOD, None, ask).await? {
            Arrived::Ticket(ticket) => answer::ok(&self.redeem(*ticket).await?.json()),
            Arrived::Code(_) => Err(Failure::internal("The sign-in did not end", "a code without a flow")),
        }
    }
}

/// The issuer that clients know a provider by.
fn issuer_of(provider: &str) -> Option<&'static str> {
    match provider {
        "google" => Some("https://accounts.google.com"),
        "apple" => Some("https://appleid.apple.com"),
        _ => None,
    }
}

const BAD_CALLBACK: &str = "bad_oauth_callback";

fn bad_callback(message: &'static str) -> Failure {
    Failure::bad(BAD_CALLBACK, message)
}

fn unknown(issuer: &str) -> Failure {
    let issuer: String = issuer.chars().take(WORDS).collect();
    Failure::invalid(format!("No provider with the issuer {issuer:?} is enabled"))
}

/// What a provider says instead of giving a code, as when somebody changed their mind.
fn declined(error: &str, description: Option<&str>) -> Failure {
    let message: String = description.unwrap_or(error).chars().filter(|ch| !ch.is_control()).take(WORDS).collect();
    let status = match error {
        "access_denied" | "user_cancelled_login" | "user_cancelled_authorize" => StatusCode::FORBIDDEN,
        "server_error" => StatusCode::BAD_GATEWAY,
        "temporarily_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    Failure::new(status, BAD_CALLBACK, message)
}

/// Why a provider's word is not taken.
fn refused(error: oauth::Error) -> Failure {
    match error {
        oauth::Error::Unknown(name) => {
            Failure::invalid(format!("Unsupported provider: Provider {name:?} could not be found"))
        }
        oauth::Error::Disabled(_) => Failure::invalid("Unsupported provider: provider is not enabled"),
        oauth::Error::NoIdTokens(_) | oauth::Error::Parameter(_) | oauth::Error::NonceMissing => {
            Failure::invalid(error.to_string())
        }
        oauth::Error::Nonce => Failure::invalid("Nonces mismatch"),
        oauth::Error::Away(_) | oauth::Error::AwayStill => Failure {
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry: Some(Duration::from_secs(5)),
            ..Failure::internal("The identity provider does not answer", crate::error::chain(&error).to_string())
        },
        _ if error.is_upstream() => {
            Failure::internal("Unable to exchange external code", crate::error::chain(&error).to_string())
        }
        oauth::Error::Refused { .. } => Failure::bad(BAD_CALLBACK, "Unable to exchange external code"),
        other => Failure::bad("bad_jwt", format!("Bad ID token: {}", crate::error::chain(&other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_mind_is_no_fault_and_words_are_cut() {
        let failure = declined("access_denied", Some("The user\r\nsaid no"));
        assert_eq!((failure.oauth_name(), failure.message.as_ref()), ("access_denied", "The usersaid no"));
        assert_eq!(declined("server_error", None).oauth_name(), "server_error");
        assert_eq!(declined("temporarily_unavailable", None).oauth_name(), "temporarily_unavailable");
        let failure = declined("nonsense", Some(&"x".repeat(5_000)));
        assert_eq!((failure.oauth_name(), failure.message.len()), ("invalid_request", WORDS));
    }

    #[test]
    fn the_callers_mistakes_and_the_providers_are_told_apart() {
        let refusal = |code: &str| oauth::Error::Refused { code: code.into(), description: "d".into() };
        assert_eq!(refused(refusal("invalid_grant")).status, 400);
        // The client's secret is wrong: nothing that the user could do.
        assert_eq!(refused(refusal("invalid_client")).status, 500);
        assert_eq!(refused(oauth::Error::AwayStill).status, 503);
        assert_eq!(refused(oauth::Error::Unknown("x".into())).code, "validation_failed");
        assert_eq!(refused(oauth::Error::Subject).code, "bad_jwt");
    }
}
