//! GET and POST /verify: links followed and codes typed in.
//!
//! A link acts at once, unless `auth.confirm_by_form` puts a page with a button before it. A code is counted against its
//! token when it is wrong, outside of any transaction, so that the count stays.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Inner;
use super::answer;
use super::ask::{Ask, find};
use super::failure::{Answer, Failure};
use super::limits::Class;
use super::rules;
use super::session::{Opened, Ticket};
use super::signup::{BY_SIGNUP, with_claims};
use super::store::audit::{Action, Actor, note};
use super::store::tokens::{self, Purpose, Sent};
use super::store::{Db, flows, identities, users};
use super::token;
use super::user::{Data, User, filled};
use crate::http::{Body, Response, escape};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    #[serde(rename = "type")]
    kind: String,
    token: String,
    token_hash: String,
    email: String,
    phone: String,
}

/// What was proved.
enum Proved {
    /// The user may come in.
    User(Box<User>),
    /// One of two addresses is confirmed.
    Half,
}

/// What following a link leads to.
enum Led {
    Ticket(Box<Ticket>),
    Code(String),
    Half,
}

const HALF: &str = "Confirmation link accepted. Please proceed to confirm link sent to the other email";

/// The tokens that a `type` stands for.
fn purposes(kind: &str) -> Result<&'static [Purpose], Failure> {
    Ok(match kind {
        "signup" | "invite" => &[Purpose::Confirmation],
        "recovery" | "magiclink" => &[Purpose::Recovery],
        "email" => &[Purpose::Confirmation, Purpose::Recovery],
        "email_change" => &[Purpose::EmailChangeNew, Purpose::EmailChangeCurrent],
        // Nobody was ever sent one by phone.
        "sms" | "phone_change" => return Err(expired()),
        "" => return Err(Failure::invalid("Verify requires a verification type")),
        _ => return Err(Failure::invalid("Unsupported verification type")),
    })
}

/// The name that a flow of PKCE was begun with, for the `type` of its link.
fn flow_method(kind: &str) -> &'static str {
    match kind {
        "signup" => BY_SIGNUP,
        "invite" => "invite",
        "recovery" => "recovery",
        "email_change" => "email_change",
        _ => "magiclink",
    }
}

impl Inner {
    /// GET /verify, and the form of its page.
    pub(super) async fn follow(&self, ask: &Ask) -> Answer {
        let form = if ask.is_form() { ask.form()? } else { Vec::new() };
        let get = |name| find(&form, name).or_else(|| ask.param(name));
        let redirect_to = self.allowed.choose(find(&form, "redirect_to").into_iter().chain(ask.wanted()));
        let hash = get("token").or_else(|| get("token_hash")).unwrap_or_default();
        let kind = get("type").unwrap_or_default();
        if self.config.confirm_by_form && form.is_empty() {
            return Ok(page(hash, kind, redirect_to));
        }
        let limited = self.limits.take(Class::Verify, ask.client).map_err(Failure::too_many);
        let led = match limited {
            Ok(()) => self.led(hash, kind, ask).await,
            Err(failure) => Err(failure),
        };
        let led = match led {
            Ok(Led::Ticket(ticket)) => {
                self.redeem(*ticket).await.map(|opened| opened.redirect(redirect_to, Some(kind)))
            }
            Ok(Led::Code(code)) => Ok(answer::extend(redirect_to, &[("code", &code)], &[])),
            Ok(Led::Half) => {
                let pairs = [("message", HALF)];
                Ok(answer::extend(redirect_to, if hash.starts_with(token::PKCE) { &pairs } else { &[] }, &pairs))
            }
            Err(failure) => Err(failure),
        };
        let to = led.unwrap_or_else(|failure| Self::refusal(redirect_to, &failure));
        answer::redirect(StatusCode::SEE_OTHER, &to)
    }

    /// `to` with what went wrong, where servers and where scripts look for it.
    pub(super) fn refusal(to: &str, failure: &Failure) -> String {
        failure.log();
        let pairs = [
            ("error", failure.oauth_name()),
            ("error_code", failure.code),
            ("error_description", failure.message.as_ref()),
        ];
        answer::extend(to, &pairs, &pairs)
    }

    async fn led(&self, hash: &str, kind: &str, ask: &Ask) -> Result<Led, Failure> {
        let mut connection = self.pool.get().await?;
        let transaction = connection.begin().await?;
        let led = match self.prove_hash(&transaction, hash, kind, ask).await? {
            Proved::Half => Led::Half,
            Proved::User(user) if hash.starts_with(token::PKCE) => {
                let missing = || Failure::not_found("flow_state_not_found", "No associated flow state found");
                let flow = flows::of_user(&transaction, user.id, flow_method(kind)).await?.ok_or_else(missing)?;
                let code = token::opaque()?;
                flows::issue(&transaction, &flow, user.id, &code).await?;
                Led::Code(code)
            }
            Proved::User(user) => Led::Ticket(Box::new(self.open(&transaction, *user, "otp", ask).await?)),
        };
        transaction.commit().await?;
        Ok(led)
    }

    /// POST /verify
    pub(super) async fn verify(&self, ask: &Ask) -> Answer {
        if ask.is_form() {
            return self.follow(ask).await;
        }
        self.limits.take(Class::Verify, ask.client).map_err(Failure::too_many)?;
        let params: Params = ask.json()?;
        if !params.phone.is_empty() {
            rules::phone(&params.phone)?;
        }
        let purposes = purposes(&params.kind)?;
        let mut connection = self.pool.get().await?;
        let proved;
        let transaction;
        if params.token_hash.is_empty() {
            if params.token.is_empty() {
                return Err(Failure::invalid("Verify requires a token or a token hash"));
            }
            if !params.phone.is_empty() || params.email.is_empty() {
                let message = "Only an email address or phone number should be provided on verify";
                return Err(Failure::invalid(message));
            }
            let email = rules::email(&params.email)?;
            let code = params.token.replace('-', "");
            let sent = self.find_code(&*connection, &email, &code, purposes).await?;
            transaction = connection.begin().await?;
            proved = self.prove(&transaction, &sent, ask).await?;
        } else {
            if !params.token.is_empty() || !params.email.is_empty() || !params.phone.is_empty() {
                return Err(Failure::invalid("Only the token_hash and type should be provided"));
            }
            transaction = connection.begin().await?;
            proved = self.prove_hash(&transaction, &params.token_hash, &params.kind, ask).await?;
        }
        let ticket = match proved {
            Proved::User(user) => Some(self.open(&transaction, *user, "otp", ask).await?),
            Proved::Half => None,
        };
        transaction.commit().await?;
        drop(connection);
        match ticket {
            Some(ticket) => {
                let opened: Opened = self.redeem(ticket).await?;
                answer::ok(&opened.json())
            }
            None => answer::ok(&json!({"msg": HALF, "code": "200"})),
        }
    }

    /// The token that a code belongs to; a wrong code is counted.
    async fn find_code(&self, db: &impl Db, email: &str, code: &str, purposes: &[Purpose]) -> Result<Sent, Failure> {
        let hash = token::hash(email, code);
        let sent = tokens::by_address(db, email, purposes).await?;
        let found = sent
            .iter()
            .find(|sent| token::same(sent.hash.strip_prefix(token::PKCE).unwrap_or(&sent.hash), &hash))
            .cloned();
        if let Some(found) = found {
            return Ok(found);
        }
        let mut users: Vec<_> = sent.iter().map(|sent| sent.user).collect();
        users.sort_unstable();
        users.dedup();
        for user in users {
            tokens::miss(db, user, purposes, self.config.otp_attempts as i32).await?;
        }
        Err(expired())
    }

    async fn prove_hash(&self, db: &impl Db, hash: &str, kind: &str, ask: &Ask) -> Result<Proved, Failure> {
        let purposes = purposes(kind)?;
        if hash.is_empty() {
            return Err(Failure::invalid("Verify requires a token"));
        }
        let sent = tokens::by_hash(db, hash, purposes).await?.ok_or_else(link_expired)?;
        self.prove(db, &sent, ask).await.map_err(|failure| if failure.code == OVER { link_expired() } else { failure })
    }

    /// What a token that was found proves, once.
    async fn prove(&self, db: &impl Db, sent: &Sent, ask: &Ask) -> Result<Proved, Failure> {
        let mut user = users::lock(db, sent.user).await?.ok_or_else(expired)?;
        // Whoever locked the row first may have used it.
        let still = tokens::of_user(db, user.id, sent.purpose).await?;
        if still.is_none_or(|still| !token::same(&still.hash, &sent.hash)) {
            return Err(expired());
        }
        let now = OffsetDateTime::now_utc();
        if sent.at.is_none_or(|at| at + self.config.otp_expiry < now) {
            return Err(expired());
        }
        if user.is_banned(now) {
            return Err(Failure::forbidden("user_banned", "User is banned"));
        }
        match sent.purpose {
            Purpose::EmailChangeNew | Purpose::EmailChangeCurrent => {
                return self.confirm_change(db, user, sent.purpose, ask).await;
            }
            Purpose::Confirmation => {
                let action = if user.invited_at.is_some() { Action::InviteAccepted } else { Action::SignedUp };
                note(db, &Actor::User(&user), action, Value::Null, ask.client).await?;
                self.confirm(db, &mut user, now).await?;
            }
            Purpose::Recovery | Purpose::Reauthentication => {
                user.recovery_token = None;
                if user.email_confirmed_at.is_none() {
                    note(db, &Actor::User(&user), Action::SignedUp, Value::Null, ask.client).await?;
                    self.confirm(db, &mut user, now).await?;
                } else {
                    note(db, &Actor::User(&user), Action::Login, Value::Null, ask.client).await?;
                }
            }
        }
        tokens::clear(db, user.id).await?;
        users::save(db, &mut user).await?;
        Ok(Proved::User(Box::new(user)))
    }

    /// Believes the user's address, and says so in the identity that it belongs to.
    pub(super) async fn confirm(&self, db: &impl Db, user: &mut User, now: OffsetDateTime) -> Result<(), Failure> {
        user.confirm(now);
        let own = user.identities.iter().find(|identity| identity.provider == "email").cloned();
        if let Some(own) = own {
            let mut data = own.identity_data;
            data.insert("email_verified".into(), true.into());
            identities::update(db, user, own.identity_id, data, now).await?;
        }
        Ok(())
    }

    async fn confirm_change(
        &self,
        db: &impl Db,
        mut user: User,
        purpose: Purpose,
        ask: &Ask,
    ) -> Result<Proved, Failure> {
        let both = self.config.secure_email_change && user.email_change_confirm_status == 0 && user.email.is_some();
        if both && filled(user.email_change_token_current.as_ref()).is_some() {
            user.email_change_confirm_status = 1;
            match purpose {
                Purpose::EmailChangeCurrent => user.email_change_token_current = None,
                _ => user.email_change_token_new = None,
            }
            tokens::take(db, user.id, purpose).await?;
            users::save(db, &mut user).await?;
            return Ok(Proved::Half);
        }
        self.change_address(db, &mut user).await?;
        note(db, &Actor::User(&user), Action::Modified, Value::Null, ask.client).await?;
        Ok(Proved::User(Box::new(user)))
    }

    /// Gives the user the address that was waiting to be confirmed.
    pub(super) async fn change_address(&self, db: &impl Db, user: &mut User) -> Result<(), Failure> {
        let now = OffsetDateTime::now_utc();
        let Some(email) = filled(user.email_change.as_ref()).map(str::to_owned) else { return Err(expired()) };
        if users::is_taken(db, &email, Some(user.id)).await? {
            return Err(Failure::unprocessable(
                "email_exists",
                "A user with this email address has already been registered",
            ));
        }
        user.email = Some(email.clone());
        user.email_change = None;
        user.email_change_token_new = None;
        user.email_change_token_current = None;
        user.email_change_confirm_status = 0;
        user.is_anonymous = false;
        user.confirm(now);
        let own = user.identities.iter().find(|identity| identity.provider == "email").cloned();
        if let Some(own) = own {
            let mut data = own.identity_data;
            data.insert("email".into(), email.clone().into());
            data.insert("email_verified".into(), true.into());
            identities::update(db, user, own.identity_id, data, now).await?;
        } else {
            let id = user.id.to_string();
            let data = with_claims(Data::new(), user, true);
            identities::add(db, user, "email", &id, data, now).await?;
        }
        if user.user_metadata.contains_key("email") {
            user.user_metadata.insert("email".into(), email.into());
        }
        user.name_providers();
        tokens::clear(db, user.id).await?;
        users::save(db, user).await?;
        Ok(())
    }
}

const OVER: &str = "otp_expired";

fn expired() -> Failure {
    Failure::forbidden(OVER, "Token has expired or is invalid")
}

fn link_expired() -> Failure {
    Failure::forbidden(OVER, "Email link is invalid or has expired")
}

const STYLE: &str = "body{font:1rem/1.6 system-ui,sans-serif;max-width:30rem;margin:20vh auto;padding:0 1.5rem;\
text-align:center;color:#1f2933;background:#fff;color-scheme:light dark}button{font:inherit;padding:.6rem 1.6rem;\
border:0;border-radius:.4rem;color:#fff;background:#1f5fbf;cursor:pointer}\
@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#12161b}}";

/// A page whose button does what the link was for.
fn page(hash: &str, kind: &str, redirect_to: &str) -> Response {
    use base64::Engine as _;
    use sha2::Digest as _;
    let title = match kind {
        "recovery" => "Reset your password",
        "magiclink" | "email" => "Sign in",
        "invite" => "Accept the invitation",
        _ => "Confirm your address",
    };
    let field =
        |name: &str, value: &str| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value));
    let body = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <meta name=robots content=noindex><title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>\
         <form method=post>{}{}{}<button>Continue</button></form></main></html>\n",
        field("token", hash),
        field("type", kind),
        field("redirect_to", redirect_to),
    );
    let style = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(STYLE));
    // No form-action: browsers hold it against the redirect that follows, which leads to another site.
    let policy = format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; frame-ancestors 'none'");
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let strict = HeaderValue::from_static("default-src 'none'");
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::try_from(policy).unwrap_or(strict));
    response
}
