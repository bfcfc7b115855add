//! Whole requests against a real PostgreSQL, below HTTP: the handler is given what a mount would give it.

mod calls;
mod guards;
mod reads;
mod spec_calls;
mod spec_reads;
mod spec_writes;
mod writes;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use beacon::api::{Api, Cache, Config, TxEnd};
use beacon::assets;
use beacon::auth::Gateway;
use beacon::auth::gateway::Options;
use beacon::auth::jwt::{Keys, Settings, Signing};
use beacon::auth::keys::ApiKeys;
use beacon::db::Database;
use beacon::http::{Context, Handler as _, Reply, Request, RequestBody};
use beacon::id::RequestId;
use beacon::secret::Secret;
use beacon::telemetry::Health;

use crate::support::{self, OWNER, Postgres};

const SECRET: &str = "a secret that is long enough for HS256";
/// The user of the fixtures.
const USER: &str = "00000000-0000-0000-0000-00000000000a";

static DATABASE: LazyLock<support::Database<'static>> = LazyLock::new(|| {
    let database = Postgres::shared().database();
    // Beacon's own migrations are prepared by whoever comes first, before the fixtures that need their roles.
    std::thread::scope(|scope| {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = database.url();
        scope.spawn(move || runtime().block_on(async { open(&url).prepare().await.unwrap() })).join().unwrap();
    });
    database.execute(include_str!("../../../src/api/plan/tests/fixtures.sql"));
    database.execute(include_str!("fixtures.sql"));
    database.execute(include_str!("spec.sql"));
    database
});

fn open(url: &str) -> Database {
    let own = assets::folder("migrations").unwrap();
    Database::new(
        &beacon::db::Config::default(),
        &Secret::new(url),
        own,
        ["reader", "writer", "hasty"].map(Into::into).to_vec(),
    )
    .unwrap()
}

/// An API, and the keys that sign its callers' tokens.
struct Bench {
    api: Api,
    keys: Keys,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The status and the code of an error.
    #[track_caller]
    fn error(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap().to_owned())
    }
}

/// A request that is being written.
struct Ask<'a> {
    bench: &'a Bench,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Bench {
    /// An API with the usual configuration of these tests: everything is shown, and tests may undo what they do.
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(&DATABASE, change).await
    }

    /// The same over another database.
    async fn on(database: &support::Database<'_>, change: impl FnOnce(&mut Config)) -> Self {
        let database = open(&database.url());
        database.prepare().await.unwrap();
        let mut config = Config {
            schemas: vec!["test".into()],
            expose_unprotected: true,
            tx_end: TxEnd::RollbackAllowOverride,
            aggregates_enabled: true,
            app_settings: [("host".to_owned(), "localhost".to_owned())].into(),
            ..Config::default()
        };
        change(&mut config);
        config.schema_poll = std::time::Duration::ZERO;
        let cache = Cache::new(database.clone(), config.schema_options(), Health::new().component("schema"));
        tokio::spawn(cache.clone().run());
        cache.after(0).await;
        let settings = Settings { secret: Secret::new(SECRET), signing: Signing::Hs256, ..Settings::default() };
        let keys = Keys::new(settings, &[]).unwrap();
        let anonymous = (!config.anon_role.is_empty()).then(|| config.anon_role.as_str().into());
        let gateway = Gateway::new(keys.clone(), ApiKeys::new(Vec::new()), Options { anonymous, ..Options::default() });
        let api = Api::new(config, database, gateway, cache, None);
        Self { api, keys }
    }

    fn ask(&self, method: Method, target: &str) -> Ask<'_> {
        Ask { bench: self, method, target: target.to_owned(), headers: HeaderMap::new(), body: Vec::new() }
    }

    async fn get(&self, target: &str) -> Answer {
        self.ask(Method::GET, target).send().await
    }

    fn token(&self, role: &str) -> String {
        let claims = json!({ "role": role, "sub": USER, "aud": "authenticated", "exp": 4_000_000_000_u32 });
        self.keys.sign(&claims).unwrap()
    }
}

impl Ask<'_> {
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    fn prefer(self, value: &str) -> Self {
        self.header("prefer", value)
    }

    fn accept(self, value: &str) -> Self {
        self.header("accept", value)
    }

    fn role(self, role: &str) -> Self {
        let token = format!("Bearer {}", self.bench.token(role));
        self.header("authorization", &token)
    }

    fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    async fn send(self) -> Answer {
        let target = self.target.replace(' ', "%20").replace('"', "%22").replace('>', "%3E").replace('\\', "%5C");
        let request = http::Request::builder().method(self.method).uri(format!("/rest/v1{target}")).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        parts.headers = self.headers;
        let path = percent_encoding::percent_decode_str(parts.uri.path()).decode_utf8().unwrap().into_owned();
        let context = Context {
            id: RequestId::new(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            secure: true,
            host: "api.example".into(),
            path: path.into(),
            mounted: "/rest/v1".len(),
            user: None,
        };
        let body = if self.body.is_empty() {
            RequestBody::empty()
        } else {
            let full = http_body_util::Full::new(bytes::Bytes::from(self.body));
            RequestBody::limited(full.map_err(|never| match never {}))
        };
        let response = match self.bench.api.handle(Request { parts, body, context }) {
            Reply::Now(response) => response,
            Reply::Later(later) => later.await,
        };
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(bytes.to_vec()).unwrap_or_else(|error| format!("{:?}", error.as_bytes()));
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}
