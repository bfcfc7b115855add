//! What a journey runs against: a database with the town's orchestras, a mail server, and a Beacon between them.

use serde_json::json;

use crate::support::{Api, Smtp, free_port, token};

const SCHEMA: &str = include_str!("schema.sql");

/// A running Beacon with what it needs; all of it ends with the value.
pub struct Stage {
    api: Api,
    smtp: Smtp,
    provider: u16,
}

impl Stage {
    /// Starts everything, and returns when the API has seen the schema.
    pub fn new() -> Self {
        Self::start("", free_port())
    }

    /// The same with a provider of accounts, which the journey runs.
    pub fn with_provider() -> Self {
        let provider = free_port();
        let section = format!(
            r#"
            [auth.providers.town]
            client_id = "beacon"
            client_secret = "a secret of the town's"
            issuer = "http://127.0.0.1:{provider}"
            "#
        );
        Self::start(&section, provider)
    }

    fn start(more: &str, provider: u16) -> Self {
        let smtp = Smtp::start();
        let mail = smtp.address().port();
        let sections = format!(
            r#"
            [api]
            schemas = ["public", "archive"]
            aggregates_enabled = true
            plan_enabled = true
            tx_end = "commit-allow-override"
            [mail]
            host = "127.0.0.1"
            port = {mail}
            security = "none"
            from = "Beacon <beacon@example.org>"
            [auth.limits]
            signup = 0
            anonymous = 0
            sign_in = 0
            wrong_passwords = 0
            refresh = 0
            verify = 0
            mail = 0
            factor = 0
            user = 0
            mails_sent = 0
            {more}
            "#
        );
        let auth = "redirect_urls = [\"http://127.0.0.1:*/**\"]\nanonymous_enabled = true\nmail_interval = \"0s\"\nmanual_linking = true";
        Self { api: Api::start(SCHEMA, &sections, auth), smtp, provider }
    }

    /// Where clients find it.
    pub fn origin(&self) -> String {
        self.api.origin()
    }

    /// Where a journey may run an OpenID Connect provider, which Beacon knows as "town".
    pub fn provider(&self) -> u16 {
        self.provider
    }

    /// Where tests in other languages take their mail.
    pub fn mailbox(&self) -> String {
        self.smtp.mailbox()
    }

    /// The key that a page shows to everybody.
    pub fn publishable(&self) -> String {
        self.api.publishable()
    }

    /// What Beacon wrote to its log.
    pub fn log(&self) -> String {
        self.api.beacon().logged()
    }
}

/// A key of the service role: a token, as older projects have it.
pub fn secret_key() -> String {
    token(&json!({ "role": "service_role" }))
}
