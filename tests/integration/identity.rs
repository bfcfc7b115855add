//! Keys in a real database: made once, rotated, revoked, and followed by every Beacon on it.

use std::time::Duration;

use beacon::auth::gateway::{self, Gateway, Options};
use beacon::auth::hooks::{self, Hook, Hooks, Point};
use beacon::auth::jwt::{self, Keys, Settings, Status};
use beacon::auth::keys::{self, ApiKeys, Kind};
use beacon::db::Database;
use beacon::http::Outbound;
use beacon::secret::Secret;

use crate::support::Postgres;

/// A Beacon's view of the database.
struct Host {
    database: Database,
    keys: Keys,
    api_keys: ApiKeys,
    gateway: Gateway,
}

async fn host(url: &str) -> Host {
    let config = beacon::db::Config::default();
    let own = beacon::assets::folder("migrations").unwrap();
    let database = Database::new(&config, &Secret::new(url), own, Vec::new()).unwrap();
    database.prepare().await.unwrap();
    let keys = Keys::of_settings(Settings::default()).unwrap();
    let api_keys = ApiKeys::default();
    let gateway = Gateway::new(keys.clone(), api_keys.clone(), Options::default());
    Host { database, keys, api_keys, gateway }
}

impl Host {
    async fn load(&self) -> Option<String> {
        gateway::load(&self.database, &self.keys, &self.api_keys).await.unwrap()
    }

    fn follow(&self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(gateway::follow(self.database.clone(), self.keys.clone(), self.api_keys.clone()))
    }

    fn token(&self) -> String {
        self.keys.sign(&serde_json::json!({ "role": "authenticated", "exp": 9_999_999_999_u64 })).unwrap()
    }

    /// The status of a request with these credentials.
    fn status(&self, key: Option<&str>, bearer: Option<&str>) -> u16 {
        self.gateway.identify_with(key, bearer).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }
}

/// Waits for a state, at most ten seconds.
async fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if is_there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_beacons_make_one_set_of_keys() {
    let database = Postgres::shared().database();
    let url = database.url();
    let hosts = futures_util::future::join_all((0..6).map(|_| host(&url))).await;
    let shown = futures_util::future::join_all(hosts.iter().map(Host::load)).await;
    assert!(shown[0].as_ref().unwrap().starts_with("sb_publishable_"));
    assert!(shown.iter().all(|key| *key == shown[0]), "{shown:?}");
    let statuses = database.rows("select status from beacon.signing_keys order by 1");
    assert_eq!(statuses.concat(), ["current", "next"]);
    assert_eq!(database.value("select count(*) from beacon.api_keys"), "1");
    for host in &hosts {
        assert_eq!(host.keys.jwks(), hosts[0].keys.jwks());
        assert_eq!(host.status(None, Some(&hosts[0].token())), 200);
        assert_eq!(host.status(shown[0].as_deref(), None), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_reaches_every_beacon_and_a_revocation_too() {
    let database = Postgres::shared().database();
    let (one, two) = (host(&database.url()).await, host(&database.url()).await);
    one.load().await;
    two.load().await;
    let tasks = [one.follow(), two.follow()];
    let before = one.token();
    let next = jwt::store::rotate(one.database.owner(), false).await.unwrap().to_string();
    assert!(two.keys.jwks().contains(&next), "it was published before it signed");
    let signs_with = |host: &Host, id: &str| {
        use base64::Engine as _;
        let token = host.token();
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        String::from_utf8(header).unwrap().contains(id)
    };
    wait_for("both sign with the next key", || signs_with(&one, &next) && signs_with(&two, &next)).await;
    assert_eq!(two.status(None, Some(&before)), 200);

    let after = jwt::store::rotate(one.database.owner(), true).await.unwrap().to_string();
    wait_for("both sign with a new key", || signs_with(&one, &after) && signs_with(&two, &after)).await;
    for host in [&one, &two] {
        assert_eq!(host.status(None, Some(&before)), 401);
    }
    let left = "select count(*) from beacon.signing_keys where status = 'revoked' and private_key = ''";
    assert_eq!(database.value(left), "3", "a revoked private key is kept nowhere");
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_good_from_its_making_to_its_revocation() {
    let database = Postgres::shared().database();
    let host = host(&database.url()).await;
    assert_eq!(host.status(Some("sb_secret_x"), None), 503, "nobody knows yet");
    host.load().await;
    assert_eq!(host.status(Some("sb_secret_x"), None), 401);
    let task = host.follow();
    let owner = host.database.owner();
    let made = keys::store::create(owner, "ci", Kind::Secret, "service_role").await.unwrap();
    let text = made.text.expose();
    wait_for("the key is known", || host.status(Some(text), None) == 200).await;
    assert_eq!(&*host.gateway.identify_with(Some(text), None).unwrap().role, "service_role");
    // Nothing in the database is the key.
    assert_eq!(
        database.value("select value is null and hash = sha256('x') is false from beacon.api_keys where name = 'ci'"),
        "t"
    );
    let dump = database.rows("select to_jsonb(k)::text from beacon.api_keys k").concat().join("\n");
    assert!(!dump.contains(text) && !dump.contains(&text[15..]), "{dump}");

    let again = keys::store::create(owner, "ci", Kind::Secret, "anon").await;
    assert!(matches!(again, Err(keys::store::Error::Taken(_))));
    let nobody = keys::store::create(owner, "x", Kind::Secret, "no such role").await;
    assert!(matches!(nobody, Err(keys::store::Error::NoRole(_))));

    keys::store::touch(owner, &host.api_keys.uses()).await.unwrap();
    let listed = keys::store::list(owner).await.unwrap();
    assert_eq!(listed.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["default", "ci"]);
    assert!(listed[1].last_used_at.is_some() && listed[1].value.is_none() && listed[0].value.is_some());

    assert!(keys::store::revoke(owner, "ci").await.unwrap());
    assert!(!keys::store::revoke(owner, "ci").await.unwrap());
    wait_for("the key is void", || host.status(Some(text), None) == 401).await;
    assert!(keys::store::create(owner, "ci", Kind::Secret, "anon").await.is_ok(), "the name is free again");
    // Who revokes all keys gets no new one.
    keys::store::revoke(owner, keys::store::DEFAULT).await.unwrap();
    assert_eq!(host.load().await, None);
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_used_does_not_replace_good_ones() {
    let database = Postgres::shared().database();
    let host = host(&database.url()).await;
    host.load().await;
    let token = host.token();
    database.execute("update beacon.signing_keys set private_key = 'nonsense' where status = 'current'");
    assert!(gateway::load(&host.database, &host.keys, &host.api_keys).await.is_err());
    assert_eq!(host.status(None, Some(&token)), 200);
    assert_eq!(Status::named("current"), Some(Status::Current));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_may_be_a_function_in_the_database() {
    let database = Postgres::shared().database();
    let host = host(&database.url()).await;
    database.execute(
        "create table seen (event jsonb);
         create function answer(event jsonb) returns jsonb language plpgsql as $$
         begin
             insert into seen values (event);
             case event->>'say'
                 when 'nothing' then return null;
                 when 'no' then return '{\"error\": {\"http_code\": 403, \"message\": \"Not today.\"}}';
                 when 'list' then return '[]';
                 when 'much' then return jsonb_build_object('x', repeat('x', 300000));
                 when 'late' then perform pg_sleep(60); return '{}';
                 when 'fail' then raise exception 'secret words';
                 else return jsonb_build_object('claims', event->'claims' || '{\"level\": 7}');
             end case;
         end $$",
    );
    let function = |uri: &str| Hook { uri: uri.into(), timeout: Duration::from_millis(300), ..Hook::default() };
    let config = hooks::Config {
        custom_access_token: function("pg-functions://postgres/public/answer"),
        before_user_created: function("public.missing"),
        ..hooks::Config::default()
    };
    assert!(config.validate().is_empty());
    let hooks = Hooks::new(&config, host.database.owner().clone(), Outbound::new().unwrap());
    assert!(hooks.has(Point::CustomAccessToken) && !hooks.has(Point::SendEmail));
    let event = |say: &str| serde_json::json!({ "say": say, "claims": { "sub": "it's \u{fc}" } });
    let call = async |say: &str| hooks.call(Point::CustomAccessToken, &event(say)).await;

    let answer = call("something").await.unwrap().unwrap();
    assert_eq!(answer["claims"], serde_json::json!({ "sub": "it's \u{fc}", "level": 7 }));
    assert!(call("nothing").await.unwrap().unwrap().is_empty());
    assert_eq!(database.value("select count(*) from seen"), "2");
    let refused = call("no").await.unwrap_err();
    assert_eq!((refused.status(), refused.to_string().as_str()), (403, "Not today."));
    assert!(matches!(call("list").await, Err(hooks::Error::Output)));
    assert!(matches!(call("much").await, Err(hooks::Error::TooLarge)));
    let late = call("late").await.unwrap_err();
    assert_eq!((late.status(), late.code()), (422, "hook_timeout"));
    let failed = call("fail").await.unwrap_err();
    assert!(matches!(failed, hooks::Error::Function(_)) && !failed.to_string().contains("secret"), "{failed}");
    assert!(matches!(hooks.call(Point::BeforeUserCreated, &event("")).await, Err(hooks::Error::Function(_))));
    assert!(hooks.call(Point::SendEmail, &event("")).await.unwrap().is_none());
    // The connections are good after all that.
    assert!(call("something").await.is_ok());
}
