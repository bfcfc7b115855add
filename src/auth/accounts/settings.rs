//! What anybody may know: GET /settings, /health, the key set, and the discovery document.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Map, Value, json};

use super::answer;
use super::failure::Answer;
use super::{Inner, MOUNT};
use crate::http::{Body, Response};

/// Providers that clients ask for by these names; all are shown.
const PROVIDERS: [&str; 22] = [
    "apple",
    "azure",
    "bitbucket",
    "discord",
    "facebook",
    "figma",
    "fly",
    "github",
    "gitlab",
    "google",
    "kakao",
    "keycloak",
    "linkedin",
    "linkedin_oidc",
    "notion",
    "slack",
    "slack_oidc",
    "spotify",
    "twitch",
    "twitter",
    "workos",
    "zoom",
];

impl Inner {
    /// GET /settings
    pub(super) fn settings(&self) -> Answer {
        let mut external: Map<String, Value> =
            PROVIDERS.iter().map(|name| ((*name).to_owned(), false.into())).collect();
        external.extend(self.providers.names().map(|name| (name.to_owned(), true.into())));
        external.insert("email".into(), self.config.email_enabled.into());
        external.insert("phone".into(), false.into());
        external.insert("anonymous_users".into(), self.config.anonymous_enabled.into());
        answer::ok(&json!({
            "external": external,
            "disable_signup": !self.config.signup_enabled,
            "mailer_autoconfirm": self.autoconfirms,
            "phone_autoconfirm": false,
            "sms_provider": "",
            "saml_enabled": false,
            "passkeys_enabled": false,
        }))
    }

    /// GET /health. Clients look at the name to tell the dialect.
    pub(super) fn health() -> Answer {
        answer::ok(&json!({
            "version": concat!("beacon-", env!("CARGO_PKG_VERSION")),
            "name": "GoTrue",
            "description": "Accounts of Beacon, which speaks GoTrue's dialect",
        }))
    }

    /// GET /.well-known/jwks.json
    pub(super) fn jwks(&self) -> Response {
        let keys = Bytes::copy_from_slice(self.keys.jwks().as_bytes());
        let mut response = Response::new(Body::from(keys));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        response
    }

    /// GET /.well-known/openid-configuration
    pub(super) fn discovery(&self) -> Answer {
        let at = |path: &str| format!("{}{MOUNT}{path}", self.base_url);
        answer::ok(&json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "jwks_uri": at("/.well-known/jwks.json"),
            "userinfo_endpoint": at("/user"),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "fragment"],
            "grant_types_supported": ["password", "refresh_token", "pkce", "id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256", "plain"],
            "claims_supported": [
                "aud", "iss", "sub", "exp", "iat", "email", "phone", "role", "aal", "amr", "session_id",
                "is_anonymous", "app_metadata", "user_metadata"
            ],
        }))
    }
}
