//! What a journey runs against: a database with the town's orchestras, a mail server, and a Beacon between them.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use crate::support::{Beacon, Database, Launch, Postgres, Smtp, until};

const SCHEMA: &str = include_str!("schema.sql");

/// The secret that Beacon shares with an application that signs tokens itself.
pub const JWT_SECRET: &str = "a secret of sufficient length that an application shares";

/// A running Beacon with what it needs; all of it ends with the value.
pub struct Stage {
    // First, so that it ends before its database does.
    beacon: Beacon,
    database: Database<'static>,
    smtp: Smtp,
    port: u16,
    provider: u16,
}

impl Stage {
    /// Starts everything, and returns when the API has seen the schema.
    pub fn new() -> Self {
        let database = Postgres::shared().database();
        let smtp = Smtp::start();
        // The links in mails name Beacon's own address, which must be known before it has one.
        let (port, provider) = (free_port(), free_port());
        let mail = smtp.address().port();
        let config = format!(
            r#"
            listen.http = ["127.0.0.1:{port}"]
            [api]
            schemas = ["public", "archive"]
            aggregates_enabled = true
            plan_enabled = true
            tx_end = "commit-allow-override"
            [auth]
            site_url = "http://127.0.0.1:{port}"
            external_url = "http://127.0.0.1:{port}"
            redirect_urls = ["http://127.0.0.1:{port}/**"]
            jwt_secret = "{JWT_SECRET}"
            anonymous_enabled = true
            mail_interval = "0s"
            manual_linking = true
            [mail]
            host = "127.0.0.1"
            port = {mail}
            tls = "none"
            from = "Beacon <beacon@example.org>"
            [auth.limits]
            signup = 0
            anonymous = 0
            sign_in = 0
            refresh = 0
            verify = 0
            mail = 0
            factor = 0
            user = 0
            mails_sent = 0
            [auth.providers.town]
            client_id = "beacon"
            client_secret = "a secret of the town's"
            issuer = "http://127.0.0.1:{provider}"
            "#
        );
        let beacon = Launch::new().env("DATABASE_URL", &database.url()).with(&config).start();
        database.execute(SCHEMA);
        database.execute("NOTIFY pgrst, 'reload schema'");
        let stage = Self { beacon, database, smtp, port, provider };
        until("the API's view of the schema", || {
            (stage.beacon.plain().get("/rest/v1/players?limit=1").status == 200).then_some(())
        });
        stage
    }

    /// Where clients find it.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
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
        self.database.value("SELECT value FROM beacon.api_keys WHERE kind = 'publishable' AND revoked_at IS NULL")
    }

    /// What Beacon wrote to its log.
    pub fn log(&self) -> String {
        self.beacon.logged()
    }
}

/// A port that nobody has; another process may take it before we do, which then fails the test.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A key of the service role: a token, as older projects have it.
pub fn secret_key() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "role": "service_role", "iss": "beacon", "iat": now - 60, "exp": now + 3600 });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(JWT_SECRET.as_bytes())).unwrap()
}
