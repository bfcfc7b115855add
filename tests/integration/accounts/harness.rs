//! Accounts with everything that they need, asked through their handler.

use std::net::IpAddr;
use std::time::Duration;

use beacon::auth::accounts::{Accounts, Config, Needs, Switch};
use beacon::auth::gateway::{self, Gateway, Options};
use beacon::auth::jwt::Keys;
use beacon::auth::keys::ApiKeys;
use beacon::auth::passwords::{Hasher, Limits};
use beacon::db;
use beacon::http::{Body, Context, Handler as _, Reply, Request, RequestBody};
use beacon::id::RequestId;
use beacon::mail::{self, Mailer, Security};
use beacon::secret::Secret;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::support::{Database, Postgres, Smtp};

/// What came back.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The body of a success.
    #[track_caller]
    pub fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text);
        self.json()
    }

    /// Status and code of a refusal.
    #[track_caller]
    pub fn refusal(&self) -> (u16, String) {
        let code = self.json()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!(self.headers.get("x-sb-error-code").map(|code| code.to_str().unwrap()), Some(code.as_str()));
        (self.status, code)
    }

    /// Where it sends the browser.
    #[track_caller]
    pub fn location(&self) -> String {
        assert!((300..400).contains(&self.status), "{}: {}", self.status, self.text);
        self.headers["location"].to_str().unwrap().to_owned()
    }
}

/// Accounts on a database of their own.
pub struct Server {
    pub accounts: Accounts,
    pub database: Database<'static>,
    pub smtp: Smtp,
    pub keys: Keys,
    pool: db::Database,
}

/// A configuration for tests: no limits, no waits between mails, and addresses that must be confirmed.
pub fn config() -> Config {
    let mut config = Config {
        site_url: "https://app.example.org".into(),
        external_url: "https://api.example.org".into(),
        redirect_urls: vec!["https://*.example.org/**".into()],
        autoconfirm: Switch::Off,
        mail_interval: Duration::ZERO,
        ..Config::default()
    };
    let limits = &mut config.limits;
    for limit in [
        &mut limits.signup,
        &mut limits.anonymous,
        &mut limits.sign_in,
        &mut limits.refresh,
        &mut limits.verify,
        &mut limits.mail,
        &mut limits.factor,
        &mut limits.user,
        &mut limits.mails_sent,
    ] {
        *limit = 0;
    }
    config
}

impl Server {
    pub async fn new(config: Config) -> Self {
        Self::with(config, true).await
    }

    pub async fn with(config: Config, mail: bool) -> Self {
        let database = Postgres::shared().database();
        let own = beacon::assets::folder("migrations").unwrap();
        let pool = db::Database::new(&db::Config::default(), &Secret::new(database.url()), own, Vec::new()).unwrap();
        pool.prepare().await.unwrap();
        let keys = Keys::of_settings(config.keys()).unwrap();
        let api_keys = ApiKeys::default();
        gateway::load(&pool, &keys, &api_keys).await.unwrap();
        let smtp = Smtp::start();
        let mail = mail::Config {
            host: if mail { smtp.address().ip().to_string() } else { String::new() },
            port: smtp.address().port(),
            security: Security::None,
            from: "Accounts <accounts@example.org>".into(),
            ..mail::Config::default()
        };
        assert_eq!(config.validate(), []);
        assert_eq!(mail.validate(), []);
        let hasher = Hasher::new(Limits { at_once: 2, waiting: 1_000, patience: Duration::from_mins(1) });
        let accounts = Accounts::new(Needs {
            config,
            base_url: "https://unused.example".into(),
            pool: pool.owner().clone(),
            hasher,
            keys: keys.clone(),
            gateway: Gateway::new(keys.clone(), api_keys, Options::default()),
            mailer: Mailer::new(&mail).unwrap(),
            outbound: beacon::http::Outbound::new().unwrap(),
        });
        Self { accounts, database, smtp, keys, pool }
    }

    /// A token of the service role.
    pub fn service(&self) -> String {
        self.keys.sign(&json!({"role": "service_role", "exp": 9_999_999_999_u64})).unwrap()
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.send("GET", path, token, &[], Value::Null).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send("POST", path, token, &[], body).await
    }

    pub async fn put(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send("PUT", path, token, &[], body).await
    }

    pub async fn delete(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send("DELETE", path, token, &[], body).await
    }

    /// Asks; a text as the body is a form, everything else is JSON.
    pub async fn send(&self, method: &str, path: &str, token: &str, more: &[(&str, &str)], body: Value) -> Answer {
        self.send_from([203, 0, 113, 9].into(), method, path, token, more, body).await
    }

    pub async fn send_from(
        &self,
        client: IpAddr,
        method: &str,
        path: &str,
        token: &str,
        more: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let mut builder = http::Request::builder().method(method).uri(format!("/auth/v1{path}"));
        if !more.iter().any(|(name, _)| *name == "x-supabase-api-version") {
            builder = builder.header("x-supabase-api-version", "2024-01-01");
        }
        if !token.is_empty() {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in more {
            builder = builder.header(*name, *value);
        }
        let bytes = match body {
            Value::Null => Bytes::new(),
            Value::String(form) => {
                builder = builder.header("content-type", "application/x-www-form-urlencoded");
                form.into()
            }
            json => json.to_string().into(),
        };
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        let context = Context {
            id: RequestId::new(),
            client,
            secure: true,
            host: "api.example.org".into(),
            path: parts.uri.path().into(),
            mounted: "/auth/v1".len(),
            user: None,
        };
        let body = RequestBody::limited(Full::new(bytes).map_err(|never| match never {}));
        let response = match self.accounts.handle(Request { parts, body, context }) {
            Reply::Now(response) => response,
            Reply::Later(later) => later.await,
        };
        let (parts, body) = response.into_parts();
        let bytes = match body {
            Body::Full(bytes) => bytes,
            Body::Empty => Bytes::new(),
            Body::Stream(_) => panic!("accounts stream nothing"),
        };
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// Signs up and follows the link: a session.
    pub async fn member(&self, email: &str, password: &str) -> Value {
        self.post("/signup", "", json!({"email": email, "password": password})).await.good();
        let code = self.smtp.take(email).code(6);
        self.post("/verify", "", json!({"type": "signup", "email": email, "token": code})).await.good()
    }

    /// Signs in with a password.
    pub async fn sign_in(&self, email: &str, password: &str) -> Answer {
        self.post("/token?grant_type=password", "", json!({"email": email, "password": password})).await
    }

    pub async fn refresh(&self, token: &str) -> Answer {
        self.post("/token?grant_type=refresh_token", "", json!({"refresh_token": token})).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.pool.close();
    }
}

/// The path and query of a link to Beacon, below the mount.
pub fn below(link: &str) -> String {
    link.strip_prefix("https://api.example.org/auth/v1").unwrap_or_else(|| panic!("{link}")).to_owned()
}

/// A pair of an address's query or fragment.
pub fn pair(address: &str, name: &str) -> Option<String> {
    let after = address.split_once(['?', '#'])?.1;
    after.split(['&', '#', '?']).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.replace('+', " ");
        (key == name).then(|| percent_encoding::percent_decode_str(&value).decode_utf8().unwrap().into_owned())
    })
}

/// A text of JSON.
#[track_caller]
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}
