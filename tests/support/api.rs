//! A Beacon that serves a database's API: a fresh database, a schema, and requests as somebody.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::{Answer, Beacon, Database, Http1, Launch, Postgres, Wire, free_port, until};

/// The secret that Beacon shares with an application that signs tokens itself.
pub const JWT_SECRET: &str = "a secret of sufficient length that an application shares";

/// A running API; all of it ends with the value.
pub struct Api {
    // First, so that it ends before its database does.
    beacon: Beacon,
    database: Database<'static>,
    port: u16,
}

impl Api {
    /// Starts one on the shared server, and returns when it has seen the schema. `sections` is configuration in full, to
    /// which the keys of `auth` are added.
    pub fn start(schema: &str, sections: &str, auth: &str) -> Self {
        Self::on(Postgres::shared(), schema, sections, auth)
    }

    /// The same on a server of one's own.
    pub fn on(server: &'static Postgres, schema: &str, sections: &str, auth: &str) -> Self {
        let database = server.database();
        // Links in mails and tokens name Beacon's own address, which must be known before it has one.
        let port = free_port();
        let config = format!(
            "listen.http = [\"127.0.0.1:{port}\"]\n{sections}\n[auth]\nsite_url = \"http://127.0.0.1:{port}\"\n\
             external_url = \"http://127.0.0.1:{port}\"\njwt_secret = \"{JWT_SECRET}\"\n{auth}\n"
        );
        let beacon = Launch::new().env("DATABASE_URL", &database.url()).with(&config).start();
        database.execute(schema);
        let api = Self { beacon, database, port };
        api.reload();
        api
    }

    /// Asks for the schema to be read again, and waits until it was: a table that is made for it can be asked for.
    pub fn reload(&self) {
        // A name that was never there: of one that is gone again, the API may not know yet that it is gone.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("seen_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.database.execute(&format!(
            "CREATE TABLE public.{name} (); ALTER TABLE public.{name} ENABLE ROW LEVEL SECURITY; NOTIFY pgrst, 'reload schema'"
        ));
        let service = Self::service();
        until("the API's view of the schema", || {
            let answer = self.ask("GET", &format!("/rest/v1/{name}"), &[("apikey", &service)], "");
            (answer.status == 200).then_some(())
        });
        self.database.execute(&format!("DROP TABLE public.{name}"));
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut client = Http1::new(Wire::plain((Ipv4Addr::LOCALHOST, self.port).into()));
        send(&mut client, method, target, headers, body)
    }

    /// A connection for more than one request.
    pub fn connect(&self) -> Http1 {
        Http1::new(Wire::plain((Ipv4Addr::LOCALHOST, self.port).into()))
    }

    /// Where clients find it.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The database behind it.
    pub fn database(&self) -> &Database<'static> {
        &self.database
    }

    /// The process.
    pub fn beacon(&self) -> &Beacon {
        &self.beacon
    }

    /// The key that a page shows to everybody.
    pub fn publishable(&self) -> String {
        self.database.value("SELECT value FROM beacon.api_keys WHERE kind = 'publishable' AND revoked_at IS NULL")
    }

    /// A token of the service role.
    pub fn service() -> String {
        token(&json!({ "role": "service_role" }))
    }
}

/// Sends a request and reads its answer; a body is JSON unless a header says otherwise.
#[track_caller]
pub fn send(client: &mut Http1, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut lines = String::new();
    for (name, value) in headers {
        let _ = write!(lines, "{name}: {value}\r\n");
    }
    if !body.is_empty() {
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            lines.push_str("Content-Type: application/json\r\n");
        }
        let _ = write!(lines, "Content-Length: {}\r\n", body.len());
    }
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{body}"));
    client.answer_to(method).unwrap_or_else(|| panic!("no answer to {method} {target}"))
}

/// A token (HS256) with claims, good for an hour unless they say otherwise.
pub fn token(claims: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut all = json!({ "aud": "authenticated", "iat": now - 5, "exp": now + 3600 });
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    jsonwebtoken::encode(&Header::default(), &all, &EncodingKey::from_secret(JWT_SECRET.as_bytes())).unwrap()
}
