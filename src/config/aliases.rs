//! Names that other software uses for the same things, and how its values become ours.
//!
//! A table for whoever comes from GoTrue or PostgREST: their names work as they are. A name of theirs that is not here
//! has no effect, which the start tells.

use std::borrow::Cow;

/// A name, the key that it sets, and how its value is read.
pub(super) struct Alias {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    pub(super) reading: Reading,
}

/// How a value becomes one of ours.
#[derive(Clone, Copy)]
pub(super) enum Reading {
    /// As it is.
    Plain,
    /// In lower case.
    Lower,
    /// Items between commas.
    List,
    /// The first item of a list.
    First,
    /// The others.
    Rest,
    /// Sets of characters between colons; `\:` is a colon.
    Colons,
    /// A whole or broken number of seconds, or a duration with a unit.
    Seconds,
    /// Yes or no.
    Bool,
    /// No or yes.
    Not,
    /// "on" or "off".
    Switch,
    /// An address with a scheme; anything else is not meant for us.
    Site,
    /// An address, maybe with our mount behind it.
    Origin,
    /// The last part of an address.
    LastPart,
    /// The protection that is usual at a port of a mail server.
    Port,
    /// A sender's address, whose name is in the other variable.
    Sender(&'static str),
    /// As it is, if the other variable says yes.
    If(&'static str),
    /// A secret shared by both sides, and no set of keys.
    Shared,
}

const fn alias(name: &'static str, key: &'static str, reading: Reading) -> Alias {
    Alias { name, key, reading }
}

use Reading::{
    Bool, Colons, First, If, LastPart, List, Lower, Not, Origin, Plain, Port, Rest, Seconds, Sender, Shared, Site,
    Switch,
};

/// Names that servers usually have in their `.env`.
pub(super) const GENERAL: [Alias; 14] = [
    alias("DATABASE_URL", "database.url", Plain),
    alias("REDIS_URL", "redis.url", Plain),
    alias("CELERY_BROKER_URL", "tasks.broker_url", Plain),
    alias("CELERY_RESULT_BACKEND", "tasks.result_url", Plain),
    alias("BUCKET_NAME", "storage.bucket", Plain),
    alias("AWS_ACCESS_ID", "storage.access_key_id", Plain),
    alias("AWS_ACCESS_KEY_ID", "storage.access_key_id", Plain),
    alias("AWS_ACCESS_SECRET", "storage.secret_access_key", Plain),
    alias("AWS_SECRET_ACCESS_KEY", "storage.secret_access_key", Plain),
    alias("AWS_REGION", "storage.region", Plain),
    alias("AUTH_WALL_USERNAME", "wall.username", Plain),
    alias("AUTH_WALL_PASSWORD", "wall.password", Plain),
    alias("AUTH_WALL_REALM", "wall.realm", Plain),
    alias("AUTH_WALL", "wall.mode", Lower),
];

/// Names of GoTrue and PostgREST.
pub(super) const FAMILIES: [Alias; 92] = [
    alias("GOTRUE_SITE_URL", "auth.site_url", Plain),
    alias("SITE_URL", "auth.site_url", Site),
    alias("API_EXTERNAL_URL", "auth.external_url", Origin),
    alias("GOTRUE_API_EXTERNAL_URL", "auth.external_url", Origin),
    alias("GOTRUE_URI_ALLOW_LIST", "auth.redirect_urls", List),
    alias("ADDITIONAL_REDIRECT_URLS", "auth.redirect_urls", List),
    alias("GOTRUE_JWT_SECRET", "auth.jwt_secret", Shared),
    alias("SUPABASE_JWT_SECRET", "auth.jwt_secret", Shared),
    alias("PGRST_JWT_SECRET", "auth.jwt_secret", Shared),
    alias("GOTRUE_JWT_EXP", "auth.access_token_ttl", Seconds),
    alias("GOTRUE_JWT_AUD", "auth.audience", Plain),
    alias("PGRST_JWT_AUD", "auth.audience", Plain),
    alias("GOTRUE_JWT_ISSUER", "auth.issuer", Plain),
    alias("GOTRUE_DISABLE_SIGNUP", "auth.signup_enabled", Not),
    alias("GOTRUE_EXTERNAL_EMAIL_ENABLED", "auth.email_enabled", Bool),
    alias("GOTRUE_EXTERNAL_ANONYMOUS_USERS_ENABLED", "auth.anonymous_enabled", Bool),
    alias("GOTRUE_MAILER_AUTOCONFIRM", "auth.autoconfirm", Switch),
    alias("GOTRUE_MAILER_SECURE_EMAIL_CHANGE_ENABLED", "auth.secure_email_change", Bool),
    alias("GOTRUE_MAILER_OTP_EXP", "auth.otp_expiry", Seconds),
    alias("GOTRUE_MAILER_OTP_LENGTH", "auth.otp_length", Plain),
    alias("GOTRUE_PASSWORD_MIN_LENGTH", "auth.password_min_length", Plain),
    alias("GOTRUE_PASSWORD_REQUIRED_CHARACTERS", "auth.password_required", Colons),
    alias("GOTRUE_SMTP_MAX_FREQUENCY", "auth.mail_interval", Seconds),
    alias("GOTRUE_SECURITY_REFRESH_TOKEN_REUSE_INTERVAL", "auth.refresh_reuse_interval", Seconds),
    alias("GOTRUE_SECURITY_UPDATE_PASSWORD_REQUIRE_REAUTHENTICATION", "auth.password_change_reauthenticates", Bool),
    alias("GOTRUE_SECURITY_UPDATE_PASSWORD_REQUIRE_CURRENT_PASSWORD", "auth.password_change_needs_current", Bool),
    alias("GOTRUE_SECURITY_MANUAL_LINKING_ENABLED", "auth.manual_linking", Bool),
    alias("GOTRUE_SESSIONS_TIMEBOX", "auth.sessions.timebox", Seconds),
    alias("GOTRUE_SESSIONS_INACTIVITY_TIMEOUT", "auth.sessions.inactivity", Seconds),
    alias("GOTRUE_MFA_MAX_ENROLLED_FACTORS", "auth.mfa.max_factors", Plain),
    alias("GOTRUE_MFA_CHALLENGE_EXPIRY_DURATION", "auth.mfa.challenge_expiry", Seconds),
    alias("GOTRUE_MFA_TOTP_ENROLL_ENABLED", "auth.mfa.totp_enroll", Bool),
    alias("GOTRUE_MFA_TOTP_VERIFY_ENABLED", "auth.mfa.totp_verify", Bool),
    alias("GOTRUE_RATE_LIMIT_ANONYMOUS_USERS", "auth.limits.anonymous", Plain),
    alias("GOTRUE_RATE_LIMIT_EMAIL_SENT", "auth.limits.mails_sent", Plain),
    alias("GOTRUE_SMTP_HOST", "mail.host", Plain),
    alias("GOTRUE_SMTP_PORT", "mail.port", Plain),
    alias("GOTRUE_SMTP_PORT", "mail.security", Port),
    alias("GOTRUE_SMTP_USER", "mail.username", Plain),
    alias("GOTRUE_SMTP_PASS", "mail.password", Plain),
    alias("GOTRUE_SMTP_ADMIN_EMAIL", "mail.from", Sender("GOTRUE_SMTP_SENDER_NAME")),
    alias("GOTRUE_MAILER_SUBJECTS_CONFIRMATION", "mail.subjects.confirmation", Plain),
    alias("GOTRUE_MAILER_SUBJECTS_RECOVERY", "mail.subjects.recovery", Plain),
    alias("GOTRUE_MAILER_SUBJECTS_MAGIC_LINK", "mail.subjects.magic_link", Plain),
    alias("GOTRUE_MAILER_SUBJECTS_INVITE", "mail.subjects.invite", Plain),
    alias("GOTRUE_MAILER_SUBJECTS_EMAIL_CHANGE", "mail.subjects.email_change", Plain),
    alias("GOTRUE_MAILER_SUBJECTS_REAUTHENTICATION", "mail.subjects.reauthentication", Plain),
    alias("GOTRUE_EXTERNAL_GOOGLE_ENABLED", "auth.providers.google.enabled", Bool),
    alias("GOTRUE_EXTERNAL_GOOGLE_CLIENT_ID", "auth.providers.google.client_id", First),
    alias("GOTRUE_EXTERNAL_GOOGLE_CLIENT_ID", "auth.providers.google.client_ids", Rest),
    alias("GOTRUE_EXTERNAL_GOOGLE_SECRET", "auth.providers.google.client_secret", Plain),
    alias("GOTRUE_EXTERNAL_GOOGLE_SKIP_NONCE_CHECK", "auth.providers.google.skip_nonce_check", Bool),
    alias("GOTRUE_EXTERNAL_GITHUB_ENABLED", "auth.providers.github.enabled", Bool),
    alias("GOTRUE_EXTERNAL_GITHUB_CLIENT_ID", "auth.providers.github.client_id", Plain),
    alias("GOTRUE_EXTERNAL_GITHUB_SECRET", "auth.providers.github.client_secret", Plain),
    alias("GOTRUE_EXTERNAL_GITHUB_URL", "auth.providers.github.url", Plain),
    alias("GOTRUE_EXTERNAL_APPLE_ENABLED", "auth.providers.apple.enabled", Bool),
    alias("GOTRUE_EXTERNAL_APPLE_CLIENT_ID", "auth.providers.apple.client_id", First),
    alias("GOTRUE_EXTERNAL_APPLE_CLIENT_ID", "auth.providers.apple.client_ids", Rest),
    alias("GOTRUE_EXTERNAL_APPLE_SECRET", "auth.providers.apple.client_secret", Plain),
    alias("GOTRUE_EXTERNAL_AZURE_ENABLED", "auth.providers.azure.enabled", Bool),
    alias("GOTRUE_EXTERNAL_AZURE_CLIENT_ID", "auth.providers.azure.client_id", First),
    alias("GOTRUE_EXTERNAL_AZURE_CLIENT_ID", "auth.providers.azure.client_ids", Rest),
    alias("GOTRUE_EXTERNAL_AZURE_SECRET", "auth.providers.azure.client_secret", Plain),
    alias("GOTRUE_EXTERNAL_AZURE_URL", "auth.providers.azure.tenant", LastPart),
    alias("GOTRUE_EXTERNAL_KEYCLOAK_ENABLED", "auth.providers.keycloak.enabled", Bool),
    alias("GOTRUE_EXTERNAL_KEYCLOAK_CLIENT_ID", "auth.providers.keycloak.client_id", Plain),
    alias("GOTRUE_EXTERNAL_KEYCLOAK_SECRET", "auth.providers.keycloak.client_secret", Plain),
    alias("GOTRUE_EXTERNAL_KEYCLOAK_URL", "auth.providers.keycloak.issuer", Plain),
    alias(
        "GOTRUE_HOOK_CUSTOM_ACCESS_TOKEN_URI",
        "auth.hooks.custom_access_token.uri",
        If("GOTRUE_HOOK_CUSTOM_ACCESS_TOKEN_ENABLED"),
    ),
    alias(
        "GOTRUE_HOOK_CUSTOM_ACCESS_TOKEN_SECRETS",
        "auth.hooks.custom_access_token.secret",
        If("GOTRUE_HOOK_CUSTOM_ACCESS_TOKEN_ENABLED"),
    ),
    alias("GOTRUE_HOOK_SEND_EMAIL_URI", "auth.hooks.send_email.uri", If("GOTRUE_HOOK_SEND_EMAIL_ENABLED")),
    alias("GOTRUE_HOOK_SEND_EMAIL_SECRETS", "auth.hooks.send_email.secret", If("GOTRUE_HOOK_SEND_EMAIL_ENABLED")),
    alias(
        "GOTRUE_HOOK_BEFORE_USER_CREATED_URI",
        "auth.hooks.before_user_created.uri",
        If("GOTRUE_HOOK_BEFORE_USER_CREATED_ENABLED"),
    ),
    alias(
        "GOTRUE_HOOK_BEFORE_USER_CREATED_SECRETS",
        "auth.hooks.before_user_created.secret",
        If("GOTRUE_HOOK_BEFORE_USER_CREATED_ENABLED"),
    ),
    alias("PGRST_DB_URI", "database.url", Plain),
    alias("PGRST_DB_SCHEMAS", "api.schemas", List),
    alias("PGRST_DB_SCHEMA", "api.schemas", List),
    alias("PGRST_DB_ANON_ROLE", "api.anon_role", Plain),
    alias("PGRST_DB_MAX_ROWS", "api.max_rows", Plain),
    alias("PGRST_DB_EXTRA_SEARCH_PATH", "api.extra_search_path", List),
    alias("PGRST_DB_PRE_REQUEST", "api.pre_request", Plain),
    alias("PGRST_DB_TX_END", "api.tx_end", Plain),
    alias("PGRST_DB_AGGREGATES_ENABLED", "api.aggregates_enabled", Bool),
    alias("PGRST_DB_PLAN_ENABLED", "api.plan_enabled", Bool),
    alias("PGRST_JWT_ROLE_CLAIM_KEY", "api.role_claim_key", Plain),
    alias("PGRST_OPENAPI_MODE", "api.openapi_mode", Plain),
    alias("PGRST_SERVER_TIMING_ENABLED", "api.server_timing", Bool),
    alias("PGRST_SERVER_CORS_ALLOWED_ORIGINS", "api.cors.origins", List),
    alias("PGRST_APP_SETTINGS_JWT_SECRET", "api.app_settings.jwt_secret", Plain),
    alias("PGRST_APP_SETTINGS_JWT_EXP", "api.app_settings.jwt_exp", Plain),
    alias("PGRST_DB_POOL", "database.connections", Plain),
];

/// Names that are read beside another.
const BESIDE: [&str; 4] = [
    "GOTRUE_SMTP_SENDER_NAME",
    "GOTRUE_HOOK_CUSTOM_ACCESS_TOKEN_ENABLED",
    "GOTRUE_HOOK_SEND_EMAIL_ENABLED",
    "GOTRUE_HOOK_BEFORE_USER_CREATED_ENABLED",
];

/// Every alias.
pub(super) fn all() -> impl Iterator<Item = &'static Alias> {
    GENERAL.iter().chain(&FAMILIES)
}

/// Whether a name belongs to one of the families, known or not.
pub(super) fn is_of_a_family(name: &str) -> bool {
    name.starts_with("GOTRUE_") || name.starts_with("PGRST_")
}

/// Whether a name may set something.
pub(super) fn is_known(name: &str) -> bool {
    BESIDE.contains(&name) || all().any(|alias| alias.name == name)
}

/// Whether a name of a family that is not known switches off what we have not got anyway.
pub(super) fn is_moot(name: &str, value: &str) -> bool {
    value.is_empty() || (name.ends_with("_ENABLED") && yes(value) == Some(false))
}

impl Reading {
    /// The value in our form; nothing when it sets nothing. `other` is another variable's value.
    ///
    /// # Errors
    /// What is wrong with the value, which is not repeated, and what to do about it.
    pub(super) fn read<'a>(
        self,
        text: &'a str,
        other: &dyn Fn(&str) -> Option<&'a str>,
    ) -> Result<Option<Cow<'a, str>>, (&'static str, &'static str)> {
        let bool = || yes(text).ok_or(("the value is neither yes nor no", "Use true or false."));
        let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Ok(match self {
            Lower => Some(text.to_ascii_lowercase().into()),
            List => Some(array(items()).into()),
            First => items().next().map(Cow::from),
            Rest => Some(array(items().skip(1)).into()).filter(|_| items().count() > 1),
            Colons => {
                let sets: Vec<String> =
                    text.replace("\\:", "\0").split(':').map(|set| set.replace('\0', ":")).collect();
                Some(array(sets.iter().map(String::as_str).filter(|set| !set.is_empty())).into())
            }
            Seconds => Some(match text.parse::<f64>() {
                Ok(seconds) => format!("{}ms", (seconds * 1_000.0).round()).into(),
                Err(_) => text.into(),
            }),
            Bool => Some(if bool()? { "true" } else { "false" }.into()),
            Not => Some(if bool()? { "false" } else { "true" }.into()),
            Switch => Some(if bool()? { "on" } else { "off" }.into()),
            Site => text.contains("://").then(|| text.into()),
            Origin => {
                let text = text.trim_end_matches('/');
                Some(text.strip_suffix("/auth/v1").unwrap_or(text).into())
            }
            LastPart => text.trim_end_matches('/').rsplit('/').next().map(Cow::from),
            Port => (text == "465").then(|| "tls".into()),
            Sender(name) => Some(match other(name).filter(|name| !name.is_empty()) {
                Some(name) => format!("\"{}\" <{text}>", name.replace('\\', "\\\\").replace('"', "\\\"")).into(),
                None => text.into(),
            }),
            If(name) => other(name).and_then(yes).unwrap_or_default().then(|| text.into()),
            Shared if text.trim_start().starts_with('{') => {
                return Err(("the value is a set of keys, and no shared secret", "Put the set into auth.issuers."));
            }
            Plain | Shared => Some(text.into()),
        })
    }
}

/// What Go and Haskell programs take for yes and no.
fn yes(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "y" | "on" => Some(true),
        "0" | "f" | "false" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// A list in TOML.
fn array<'a>(items: impl Iterator<Item = &'a str>) -> String {
    toml::Value::Array(items.map(toml::Value::from).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::schema::{Known, Place};
    use super::*;

    #[test]
    fn every_alias_sets_a_known_key_and_has_its_row_in_the_documentation() {
        let known = Known::of_config();
        let page = include_str!("../../assets/docs/operate/configuration.md");
        for Alias { name, key, .. } in all() {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            assert!(matches!(known.at(&path), Place::Known(Known::Leaf(_))), "{name} {key}");
            let row = page.lines().any(|row| row.contains(&format!("`{name}`")) && row.contains(&format!("`{key}`")));
            assert!(row, "configuration.md has no row of {name} and {key}");
        }
        for name in BESIDE {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn values_take_our_form() {
        let none = |_: &str| None;
        let read = |reading: Reading, text| reading.read(text, &none).unwrap().map(Cow::into_owned);
        assert_eq!(read(List, "public, storage,,").as_deref(), Some("[\"public\", \"storage\"]"));
        assert_eq!(
            read(List, "a\"b\\c").and_then(|text| format!("x = {text}").parse::<toml::Table>().ok()).unwrap()["x"][0]
                .as_str(),
            Some("a\"b\\c")
        );
        assert_eq!(read(First, "web,phone").as_deref(), Some("web"));
        assert_eq!(read(Rest, "web,phone").as_deref(), Some("[\"phone\"]"));
        assert_eq!(read(Rest, "web"), None);
        assert_eq!(read(Colons, "abc:012:\\:!").as_deref(), Some("[\"abc\", \"012\", \":!\"]"));
        assert_eq!(read(Seconds, "3600").as_deref(), Some("3600000ms"));
        assert_eq!(read(Seconds, "1m0s").as_deref(), Some("1m0s"));
        assert_eq!(read(Not, "TRUE").as_deref(), Some("false"));
        assert_eq!(read(Switch, "0").as_deref(), Some("off"));
        assert_eq!(read(Site, "www.example.org"), None);
        assert_eq!(read(Origin, "https://api.example.org/auth/v1/").as_deref(), Some("https://api.example.org"));
        assert_eq!(read(LastPart, "https://login.microsoftonline.com/t-1/").as_deref(), Some("t-1"));
        assert_eq!((read(Port, "465").as_deref(), read(Port, "587")), (Some("tls"), None));
        assert_eq!(read(If("X"), "uri"), None);
        assert!(Bool.read("maybe", &none).is_err());
        assert!(Shared.read("{\"keys\": []}", &none).is_err());
        let some = |name: &str| (name == "X").then_some("yes");
        assert_eq!(If("X").read("uri", &some).unwrap().as_deref(), Some("uri"));
        let sender = Sender("X").read("a@example.org", &|_| Some("A \"B\"")).unwrap();
        assert_eq!(sender.as_deref(), Some("\"A \\\"B\\\"\" <a@example.org>"));
    }
}
