//! Configuration of accounts: the section `[auth]`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::Hourly;
use super::redirect::{Allowed, Target};
use crate::auth::hooks;
use crate::auth::jwt::{self, Issuer, Signing};
use crate::auth::oauth;
use crate::clock::duration;
use crate::error::Fault;
use crate::secret::Secret;

/// Accounts: who may sign up and sign in, and what that takes.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether /auth/v1 is served.
    pub enabled: bool,
    /// Where users are sent after they followed a link, unless the link names an allowed address; "" is
    /// auth.external_url.
    pub site_url: String,
    /// The address under which the world reaches this Beacon, as in `"https://api.example.org"`; links in mails and the
    /// tokens' issuer begin with it. "" is what the start makes of http.hosts and the listeners.
    pub external_url: String,
    /// More addresses that users may be sent to: whole ones, or patterns with * (up to the next . or /), ** (anything),
    /// ? (one character), [a-z] and {one,other}, as in "https://*.example.org/**" or "myapp://callback".
    pub redirect_urls: Vec<String>,
    /// A secret shared with others for HS256: their tokens are accepted, which is how tokens of another account server
    /// stay good; "" accepts none.
    pub jwt_secret: Secret,
    /// What signs access tokens: "es256" (keys made on the first start; anybody can verify with the published set) or
    /// "hs256" (auth.jwt_secret).
    pub signing: Signing,
    /// Others whose access tokens are accepted: each with `issuer`, `audience` (a list) and `keys` (a JSON Web Key Set).
    pub issuers: Vec<Issuer>,
    /// The `iss` of access tokens; "" is auth.external_url followed by /auth/v1.
    pub issuer: String,
    /// The `aud` of access tokens, and of the users that sign up.
    pub audience: String,
    /// How long an access token is good.
    #[serde(with = "duration")]
    pub access_token_ttl: Duration,
    /// How long a refresh token that was used already may be used again by a client that did not see the answer.
    #[serde(with = "duration")]
    pub refresh_reuse_interval: Duration,
    /// When sessions end by themselves.
    pub sessions: Sessions,
    /// Whether somebody without an account may make one.
    pub signup_enabled: bool,
    /// Whether accounts have an e-mail address and a password, a link or a code.
    pub email_enabled: bool,
    /// Whether somebody may sign in without saying who.
    pub anonymous_enabled: bool,
    /// Whether an address is believed without a mail: "auto" (yes as long as mail.host is not set), "on" or "off".
    pub autoconfirm: Switch,
    /// Whether a change of the address must be confirmed at the old address too.
    pub secure_email_change: bool,
    /// Whether a link in a mail shows a page with a button, instead of acting at once: programs that look at mails
    /// follow links too, and would use them up.
    pub confirm_by_form: bool,
    /// The fewest characters of a password.
    pub password_min_length: u32,
    /// Sets of characters; a password needs one of each, as in "abcdefghijklmnopqrstuvwxyz" and
    /// "0123456789".
    pub password_required: Vec<String>,
    /// Whether a change of the password needs a code from a mail when the session is older than a day.
    pub password_change_reauthenticates: bool,
    /// Whether a change of the password needs the current one.
    pub password_change_needs_current: bool,
    /// How long a link or a code in a mail is good.
    #[serde(with = "duration")]
    pub otp_expiry: Duration,
    /// Digits of a code, 6 to 10.
    pub otp_length: u32,
    /// After so many wrong codes, a code is good no more.
    pub otp_attempts: u32,
    /// The least time between two mails of one kind to one address.
    #[serde(with = "duration")]
    pub mail_interval: Duration,
    /// How much one client address may ask for.
    pub limits: Limits,
    /// Second factors.
    pub mfa: Mfa,
    /// Whether a user may add another provider's identity to the account.
    pub manual_linking: bool,
    /// An identity provider whose accounts may sign in, by the name that clients use: google, github, apple and azure (or
    /// microsoft) are known; any other name needs an issuer. At the provider, register auth.external_url followed by
    /// /auth/v1/callback as the address to come back to.
    pub providers: BTreeMap<String, crate::auth::oauth::Provider>,
    /// Functions and programs that are asked while a request is served.
    pub hooks: crate::auth::hooks::Config,
}

/// When sessions end by themselves.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// How long a session lasts at most; "0s" is for ever.
    #[serde(with = "duration")]
    pub timebox: Duration,
    /// A session that was not refreshed for so long has ended; "0s" is never.
    #[serde(with = "duration")]
    pub inactivity: Duration,
}

/// How many requests one client address (IPv6: one /64) may make in an hour, by what they are for; a sixth of them may
/// come at once. 0 is no limit.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// New accounts.
    pub signup: u32,
    /// New anonymous accounts.
    pub anonymous: u32,
    /// Sign-ins with a password, a code of PKCE, or another provider's token.
    pub sign_in: u32,
    /// Sessions refreshed.
    pub refresh: u32,
    /// Links followed and codes tried.
    pub verify: u32,
    /// Mails asked for.
    pub mail: u32,
    /// Codes of second factors tried.
    pub factor: u32,
    /// Changes to an account.
    pub user: u32,
    /// Mails sent, by all clients together.
    pub mails_sent: u32,
    /// Wrong passwords for one account, from all addresses together.
    pub wrong_passwords: u32,
}

/// Second factors.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Mfa {
    /// Whether codes of an authenticator (TOTP) may be added to an account.
    pub totp_enroll: bool,
    /// Whether they are accepted.
    pub totp_verify: bool,
    /// The most factors of an account.
    pub max_factors: u32,
    /// How long a challenge can be answered.
    #[serde(with = "duration")]
    pub challenge_expiry: Duration,
}

/// On, off, or what suits the rest of the configuration.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// What suits the rest.
    #[default]
    Auto,
    /// On.
    On,
    /// Off.
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            site_url: String::new(),
            external_url: String::new(),
            redirect_urls: Vec::new(),
            jwt_secret: Secret::default(),
            signing: Signing::Es256,
            issuers: Vec::new(),
            issuer: String::new(),
            audience: "authenticated".into(),
            access_token_ttl: Duration::from_hours(1),
            refresh_reuse_interval: Duration::from_secs(10),
            sessions: Sessions::default(),
            signup_enabled: true,
            email_enabled: true,
            anonymous_enabled: false,
            autoconfirm: Switch::Auto,
            secure_email_change: true,
            confirm_by_form: false,
            password_min_length: 6,
            password_required: Vec::new(),
            password_change_reauthenticates: false,
            password_change_needs_current: false,
            otp_expiry: Duration::from_hours(1),
            otp_length: 6,
            otp_attempts: 10,
            mail_interval: Duration::from_mins(1),
            limits: Limits::default(),
            mfa: Mfa::default(),
            manual_linking: false,
            providers: BTreeMap::new(),
            hooks: hooks::Config::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            signup: 60,
            anonymous: 30,
            sign_in: 360,
            refresh: 1_800,
            verify: 360,
            mail: 60,
            factor: 360,
            user: 360,
            mails_sent: 600,
            wrong_passwords: 60,
        }
    }
}

impl Default for Mfa {
    fn default() -> Self {
        Self { totp_enroll: true, totp_verify: true, max_factors: 10, challenge_expiry: Duration::from_mins(5) }
    }
}

impl Limits {
    /// The limits in the order of [`super::limits::Class`].
    pub(super) fn table(&self) -> [Hourly; 10] {
        [
            self.signup,
            self.anonymous,
            self.sign_in,
            self.refresh,
            self.verify,
            self.mail,
            self.factor,
            self.user,
            self.mails_sent,
            self.wrong_passwords,
        ]
        .map(Hourly::new)
    }
}

impl Config {
    /// Whether an address is believed without a mail, given whether mail can be sent.
    #[must_use]
    pub fn autoconfirms(&self, mail: bool) -> bool {
        match self.autoconfirm {
            Switch::Auto => !mail,
            Switch::On => true,
            Switch::Off => false,
        }
    }

    /// What the keys of access tokens need to know.
    #[must_use]
    pub fn keys(&self) -> jwt::Settings {
        jwt::Settings {
            secret: self.jwt_secret.clone(),
            signing: self.signing,
            audience: vec![self.audience.clone()],
            issuers: self.issuers.clone(),
        }
    }

    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (key, url) in [("site_url", &self.site_url), ("external_url", &self.external_url)] {
            if !url.is_empty() && Target::parse(url).is_none_or(|target| key == "external_url" && !target.is_web()) {
                faults.push(Fault::new(key, "is no address", "Use \"https://www.example.org\"."));
            }
        }
        if self.external_url.ends_with('/') {
            faults.push(Fault::new("external_url", "ends with a slash", "Write it without, and without a path."));
        }
        for pattern in &self.redirect_urls {
            if let Err(problem) = Allowed::pattern(pattern) {
                faults.push(Fault::new(
                    "redirect_urls",
                    format!("\"{pattern}\" {problem}"),
                    "Use \"https://*.example.org/**\", or an address without patterns.",
                ));
            }
        }
        if self.signing == Signing::Hs256 && self.jwt_secret.is_empty() {
            faults.push(Fault::new("jwt_secret", "is not set although auth.signing is \"hs256\"", SECRET_FIX));
        }
        if !self.jwt_secret.is_empty() && self.jwt_secret.expose().len() < 32 {
            faults.push(Fault::new(
                "jwt_secret",
                "is shorter than 32 bytes, so that a token would give it away to a patient guesser (RFC 7518)",
                SECRET_FIX,
            ));
        }
        if self.audience.is_empty() {
            faults.push(Fault::new("audience", "is empty", "Use \"authenticated\"."));
        }
        if self.access_token_ttl < Duration::from_secs(30) || self.access_token_ttl > Duration::from_hours(24 * 7) {
            faults.push(Fault::new("access_token_ttl", "is not between 30s and 7days", "Use \"1h\"."));
        }
        if !(6..=10).contains(&self.otp_length) {
            faults.push(Fault::new("otp_length", "is not between 6 and 10", "Use 6."));
        }
        if self.otp_attempts == 0 {
            faults.push(Fault::new("otp_attempts", "is 0, so that no code could be tried", "Use 10."));
        }
        if self.otp_expiry < Duration::from_mins(1) || self.otp_expiry > Duration::from_hours(24) {
            faults.push(Fault::new("otp_expiry", "is not between 1m and 24h", "Use \"1h\"."));
        }
        if !(1..=128).contains(&self.password_min_length) {
            faults.push(Fault::new("password_min_length", "is not between 1 and 128", "Use 6, or better 10."));
        }
        if self.password_required.iter().any(String::is_empty) {
            faults.push(Fault::new("password_required", "holds an empty set of characters", "Remove it."));
        }
        faults.extend(oauth::validate(&self.providers).into_iter().map(|fault| fault.within("providers")));
        faults.extend(self.hooks.validate().into_iter().map(|fault| fault.within("hooks")));
        faults
    }
}

const SECRET_FIX: &str = "Make one with `openssl rand -base64 48`, or use the secret of the other server.";

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(config: &Config) -> Vec<String> {
        config.validate().into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn the_defaults_are_valid_and_mistakes_are_told() {
        assert!(keys(&Config::default()).is_empty());
        let config = Config {
            site_url: "www.example.org".into(),
            external_url: "myapp://x/".into(),
            redirect_urls: ["https://good.example/**", "https://[broken"].map(String::from).into(),
            signing: Signing::Hs256,
            otp_length: 4,
            password_required: vec![String::new()],
            access_token_ttl: Duration::from_secs(1),
            ..Config::default()
        };
        assert_eq!(
            keys(&config),
            [
                "site_url",
                "external_url",
                "external_url",
                "redirect_urls",
                "jwt_secret",
                "access_token_ttl",
                "otp_length",
                "password_required"
            ]
        );
        assert_eq!(keys(&Config { jwt_secret: Secret::new("short"), ..Config::default() }), ["jwt_secret"]);
    }

    #[test]
    fn addresses_are_believed_only_as_long_as_no_mail_can_be_sent() {
        let config = Config::default();
        assert!(config.autoconfirms(false) && !config.autoconfirms(true));
        assert!(!Config { autoconfirm: Switch::Off, ..Config::default() }.autoconfirms(false));
        assert!(Config { autoconfirm: Switch::On, ..Config::default() }.autoconfirms(true));
    }
}
