//! Everything that is served at /auth/v1.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};

use super::ask::{API_VERSION, Ask, DATED, is_dated};
use super::failure::{Answer, Failure};
use super::{Accounts, Inner};
use crate::http::{Handler, Reply, Request};

/// The least time from a request that asks for mail to its answer: an account costs a few statements more than none, and
/// must not be told by them.
const EVEN: Duration = Duration::from_millis(100);

/// Whether a path sends mail to whoever has an account.
fn is_evened(path: &str) -> bool {
    matches!(path, "recover" | "otp" | "magiclink" | "resend")
}

impl Handler for Accounts {
    fn handle(&self, request: Request) -> Reply<'_> {
        Reply::later(async move {
            let dated = is_dated(&request.parts.headers);
            let even = is_evened(request.context.rest()).then(|| tokio::time::sleep(EVEN));
            let answer = match Ask::read(request).await {
                Ok(ask) => self.0.answer(&ask).await,
                Err(failure) => Err(failure),
            };
            let mut response = answer.unwrap_or_else(|failure| failure.response(dated));
            if dated {
                response.headers_mut().insert(API_VERSION, HeaderValue::from_static(DATED));
            }
            if let Some(even) = even {
                even.await;
            }
            response
        })
    }
}

impl Inner {
    async fn answer(&self, ask: &Ask) -> Answer {
        let path: Vec<&str> = ask.path.split('/').collect();
        let get = ask.method == Method::GET || ask.method == Method::HEAD;
        let (post, put, delete) = (ask.method == Method::POST, ask.method == Method::PUT, ask.method == Method::DELETE);
        match path.as_slice() {
            ["health"] if get => Self::health(),
            ["settings"] if get => self.settings(),
            [".well-known", "jwks.json"] if get => Ok(self.jwks()),
            [".well-known", "openid-configuration" | "oauth-authorization-server"] if get => self.discovery(),

            ["signup"] if post => self.signup(ask).await,
            ["token"] if post => self.token(ask).await,
            ["logout"] if post => self.logout(ask).await,
            ["recover"] if post => self.recover(ask).await,
            ["otp"] if post => self.otp(ask).await,
            ["magiclink"] if post => self.magiclink(ask).await,
            ["resend"] if post => self.resend(ask).await,
            ["verify"] if get => self.follow(ask).await,
            ["verify"] if post => self.verify(ask).await,
            ["reauthenticate"] if get => self.reauthenticate(ask).await,
            ["user"] if get => self.user(ask).await,
            ["user"] if put => self.update_user(ask).await,

            ["authorize"] if get => self.authorize(ask).await,
            ["callback"] if get || post => self.callback(ask).await,
            ["user", "identities", "authorize"] if get => self.authorize_link(ask).await,
            ["user", "identities", id] if delete => self.unlink(ask, id).await,
            ["factors"] if post => self.enrol_factor(ask).await,
            ["factors", id] if delete => self.remove_factor(ask, id).await,
            ["factors", id, "challenge"] if post => self.challenge_factor(ask, id).await,
            ["factors", id, "verify"] if post => self.verify_factor(ask, id).await,

            ["invite"] if post => self.invite(ask, &self.administrator(ask)?).await,
            ["admin", rest @ ..] => {
                let role = self.administrator(ask)?;
                match rest {
                    ["users"] if get => self.list_users(ask).await,
                    ["users"] if post => self.create_user(ask, &role).await,
                    ["users", id] if get => self.get_user(id).await,
                    ["users", id] if put => self.change_user(ask, id, &role).await,
                    ["users", id] if delete => self.delete_user(ask, id, &role).await,
                    ["users", id, "factors"] if get => self.list_factors(id).await,
                    ["users", id, "factors", factor] if put || delete => {
                        self.change_factor(ask, id, factor, &role).await
                    }
                    ["generate_link"] if post => self.generate_link(ask, &role).await,
                    ["audit"] if get => self.audit(ask).await,
                    ["sso", ..] => Err(no_saml()),
                    ["oauth", ..] => Err(no_oauth_server()),
                    ["custom-providers", ..] => Err(Failure::not_found(
                        "custom_provider_disabled",
                        "Providers are set in the server's configuration",
                    )),
                    ["users" | "generate_link" | "audit"]
                    | ["users", _]
                    | ["users", _, "factors"]
                    | ["users", _, "factors", _] => Err(no_method(&ask.method)),
                    _ => Err(nowhere()),
                }
            }

            ["sso", ..] => Err(no_saml()),
            ["oauth", ..] | ["user", "oauth", ..] => Err(no_oauth_server()),
            ["passkeys", ..] => Err(Failure::not_found("passkey_disabled", "Passkeys are disabled")),
            ["scim", ..] => Err(Failure::not_found("scim_disabled", "SCIM is disabled")),

            [
                "health" | "settings" | "signup" | "token" | "logout" | "recover" | "otp" | "magiclink" | "resend"
                | "verify" | "reauthenticate" | "user" | "invite" | "factors" | "authorize" | "callback",
            ]
            | ["factors", _]
            | ["user", "identities", _]
            | ["factors", _, "challenge" | "verify"]
            | [".well-known", "jwks.json" | "openid-configuration" | "oauth-authorization-server"] => {
                Err(no_method(&ask.method))
            }
            _ => Err(nowhere()),
        }
    }
}

fn nowhere() -> Failure {
    Failure::not_found("not_found", "There is nothing at this address")
}

fn no_method(method: &Method) -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("{method} is not possible here"))
}

fn no_saml() -> Failure {
    Failure::not_found("saml_provider_disabled", "SAML 2.0 is disabled")
}

fn no_oauth_server() -> Failure {
    Failure::not_found("oauth_server_disabled", "This server is no OAuth 2.1 server for others")
}
