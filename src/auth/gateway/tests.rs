//! Credentials in every combination.

use serde_json::json;

use super::*;
use crate::auth::jwt::{Settings, Status, generate};
use crate::auth::keys::{ApiKey, Kind, NewKey, digest};

const NOW: u64 = 1_795_000_000;

struct Scene {
    gateway: Gateway,
    keys: Keys,
    api_keys: ApiKeys,
    rows: Vec<ApiKey>,
    publishable: String,
    secret: String,
}

fn scene_with(options: Options) -> Scene {
    let keys = Keys::ephemeral(Settings::default());
    let made = [Kind::Publishable, Kind::Secret].map(|kind| {
        let text = NewKey::generate(kind).unwrap().text.expose().to_owned();
        let row = ApiKey {
            id: Uuid::new_v4(),
            name: kind.as_str().into(),
            kind,
            hash: digest(&text),
            role: kind.role().into(),
        };
        (text, row)
    });
    let rows: Vec<ApiKey> = made.iter().map(|(_, row)| row.clone()).collect();
    let api_keys = ApiKeys::new(rows.clone());
    let [(publishable, _), (secret, _)] = made;
    let gateway = Gateway::new(keys.clone(), api_keys.clone(), options);
    Scene { gateway, keys, api_keys, rows, publishable, secret }
}

fn scene() -> Scene {
    scene_with(Options::default())
}

impl Scene {
    fn token(&self, claims: &Value) -> String {
        let mut all = json!({ "exp": NOW + 60, "role": "authenticated" });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        self.keys.sign(&all).unwrap()
    }

    fn ask(&self, key: Option<&str>, bearer: Option<&str>) -> Result<Arc<Caller>, Refusal> {
        self.gateway.identify_at(key, bearer, NOW)
    }

    fn code(&self, key: Option<&str>, bearer: Option<&str>) -> &'static str {
        self.ask(key, bearer).unwrap_err().code
    }
}

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
    // `collect` would replace, not append.
    pairs.fold(HeaderMap::new(), |mut headers, (name, value)| {
        headers.append(name, value);
        headers
    })
}

#[test]
fn whoever_brings_nothing_is_anonymous_or_refused() {
    let caller = scene().gateway.identify(&HeaderMap::new()).unwrap();
    assert_eq!(*caller, Caller::anonymous("anon"));
    let closed = scene_with(Options { anonymous: None, ..Options::default() });
    let refusal = closed.gateway.identify(&HeaderMap::new()).unwrap_err();
    assert_eq!((refusal.code, refusal.status.as_u16()), ("PGRST302", 401));
    assert_eq!(refusal.message, "Anonymous access is disabled");
    let roleless = closed.keys.sign(&json!({ "exp": NOW + 60 })).unwrap();
    assert_eq!(closed.code(None, Some(&roleless)), "PGRST302");
}

#[test]
fn a_key_gives_its_role() {
    let scene = scene();
    let anon = scene.ask(Some(&scene.publishable), None).unwrap();
    assert_eq!((&*anon.role, &*anon.claims, anon.authenticated), ("anon", r#"{"role":"anon"}"#, false));
    assert_eq!(anon.key, Some(scene.rows[0].id));
    let service = scene.ask(Some(&scene.secret), None).unwrap();
    assert_eq!((&*service.role, service.authenticated, service.key), ("service_role", true, Some(scene.rows[1].id)));
}

#[test]
fn a_token_gives_role_subject_session_and_claims() {
    let scene = scene();
    let session = Uuid::new_v4();
    let token = scene.token(&json!({ "sub": "ann", "session_id": session, "n": 1 }));
    let caller = scene.ask(None, Some(&token)).unwrap();
    assert_eq!(
        (&*caller.role, caller.subject.as_deref(), caller.session),
        ("authenticated", Some("ann"), Some(session))
    );
    assert!(caller.authenticated && caller.key.is_none());
    let claims: Value = serde_json::from_str(&caller.claims).unwrap();
    assert_eq!(
        claims,
        json!({ "exp": NOW + 60, "role": "authenticated", "sub": "ann", "session_id": session, "n": 1 })
    );
}

#[test]
fn a_token_wins_over_a_key_and_the_key_stays_known() {
    let scene = scene();
    let token = scene.token(&json!({ "sub": "ann" }));
    for key in [&scene.publishable, &scene.secret] {
        let caller = scene.ask(Some(key), Some(&token)).unwrap();
        assert_eq!((&*caller.role, caller.subject.as_deref()), ("authenticated", Some("ann")));
        assert!(caller.key.is_some());
    }
    // Not the other way round: a good token does not make a bad key good.
    assert_eq!(scene.code(Some("sb_secret_unknown"), Some(&token)), "invalid_api_key");
    assert_eq!(scene.code(Some(""), Some(&token)), "invalid_api_key");
    // Not even when the token alone was seen before, or after.
    assert!(scene.ask(None, Some(&token)).is_ok());
    assert_eq!(scene.code(Some(""), Some(&token)), "invalid_api_key");
    assert_eq!(scene.code(Some(&scene.secret), Some("x.y.z")), "PGRST301");
}

#[test]
fn an_api_key_is_no_bearer_token() {
    let scene = scene();
    let (public, secret) = (scene.publishable.as_str(), scene.secret.as_str());
    assert_eq!(&*scene.ask(Some(secret), Some(secret)).unwrap().role, "service_role");
    assert_eq!(&*scene.ask(Some(public), Some(public)).unwrap().role, "anon");
    for (key, bearer) in [(None, secret), (Some(public), secret), (Some(secret), public), (None, "sb_x")] {
        assert_eq!(scene.code(key, Some(bearer)), "invalid_api_key", "{key:?} {bearer}");
    }
}

#[test]
fn a_token_can_be_the_key_as_in_older_projects() {
    let scene = scene();
    let legacy = scene.token(&json!({ "role": "service_role" }));
    assert_eq!(&*scene.ask(Some(&legacy), None).unwrap().role, "service_role");
    assert_eq!(&*scene.ask(Some(&legacy), Some(&legacy)).unwrap().role, "service_role");
    let user = scene.token(&json!({ "sub": "ann" }));
    assert_eq!(scene.ask(Some(&legacy), Some(&user)).unwrap().subject.as_deref(), Some("ann"));
    let expired = scene.token(&json!({ "exp": NOW - 60 }));
    assert_eq!(scene.code(Some(&expired), Some(&user)), "PGRST303");
    assert_eq!(scene.code(Some("hunter2"), Some(&user)), "PGRST301");
}

#[test]
fn headers_are_read_strictly() {
    let scene = scene();
    let code = |list: &[(&'static str, &str)]| scene.gateway.identify(&headers(list)).err().map(|refusal| refusal.code);
    let far = scene.keys.sign(&json!({ "exp": 9_999_999_999_u64, "role": "authenticated" })).unwrap();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(code(&[("authorization", &format!("{scheme} {far}"))]), None, "{scheme}");
    }
    // Credentials of another scheme are not for us: the wall in front has its own.
    for other in ["Basic YTpi", "Bearerx y", "Token abc", far.as_str()] {
        assert_eq!(
            scene.gateway.identify(&headers(&[("authorization", other)])).unwrap().role,
            "anon".into(),
            "{other}"
        );
    }
    let empty = scene.gateway.identify(&headers(&[("authorization", "Bearer")])).unwrap_err();
    assert_eq!(empty.message, "Empty JWT is sent in Authorization header");
    assert_eq!(code(&[("authorization", "Bearer undefined")]), Some("PGRST301"));
    assert_eq!(code(&[("authorization", &format!("Bearer {far}")), ("authorization", "Bearer x")]), Some("PGRST301"));
    assert_eq!(code(&[("apikey", &scene.publishable), ("apikey", &scene.secret)]), Some("PGRST301"));
    assert_eq!(code(&[("apikey", "")]), Some("invalid_api_key"));
    assert_eq!(code(&[("apikey", "sch\u{fc}")]), Some("invalid_api_key"));
    assert_eq!(code(&[("authorization", "Bearer \u{fc}")]), Some("PGRST301"));
}

#[test]
fn a_key_that_is_revoked_is_refused_at_once_with_a_hint() {
    let scene = scene();
    let token = scene.token(&json!({}));
    assert!(scene.ask(Some(&scene.secret), None).is_ok());
    assert!(scene.ask(Some(&scene.secret), Some(&token)).is_ok());
    scene.api_keys.replace(vec![scene.rows[0].clone()]);
    let refusal = scene.ask(Some(&scene.secret), None).unwrap_err();
    assert!(refusal.hint.unwrap().contains("revoked"));
    assert_eq!(scene.code(Some(&scene.secret), Some(&token)), "invalid_api_key");
    assert!(scene.ask(Some(&scene.publishable), Some(&token)).is_ok());
    let cut = &scene.publishable[..scene.publishable.len() - 1];
    assert!(scene.ask(Some(cut), None).unwrap_err().hint.unwrap().contains("mistyped"));
}

#[test]
fn a_signing_key_that_is_revoked_takes_remembered_tokens_along() {
    let scene = scene();
    let token = scene.token(&json!({}));
    assert!(scene.ask(None, Some(&token)).is_ok());
    scene.keys.replace(&[generate(Status::Current).unwrap()]).unwrap();
    assert_eq!(scene.code(None, Some(&token)), "PGRST301");
}

#[test]
fn a_remembered_token_ends_when_it_says() {
    let scene = scene();
    let token = scene.token(&json!({}));
    let at =
        |seconds: u64| scene.gateway.identify_at(None, Some(&token), NOW + seconds).map_err(|refusal| refusal.message);
    let (first, second) = (at(0).unwrap(), at(59).unwrap());
    assert!(Arc::ptr_eq(&first, &second), "the second is remembered");
    assert!(at(89).is_ok());
    assert_eq!(at(91).unwrap_err(), "JWT expired");
}

#[test]
fn the_role_is_where_the_options_say_and_the_claims_show_it() {
    let options = Options { role_claim: ".app.roles[0]".parse().unwrap(), ..Options::default() };
    let scene = scene_with(options);
    let token = scene.token(&json!({ "role": "ignored", "app": { "roles": ["editor"] } }));
    let caller = scene.ask(None, Some(&token)).unwrap();
    assert_eq!(&*caller.role, "editor");
    assert_eq!(serde_json::from_str::<Value>(&caller.claims).unwrap()["role"], "editor");
    let none = scene.ask(None, Some(&scene.token(&json!({ "sub": "ann" })))).unwrap();
    assert_eq!((&*none.role, none.authenticated, none.subject.as_deref()), ("anon", false, Some("ann")));
    let odd = scene.token(&json!({ "app": { "roles": [{ "x": 1 }] } }));
    assert_eq!(scene.code(None, Some(&odd)), "PGRST303");
    let own = scene.token(&json!({ "app": { "roles": ["none"] } }));
    assert_eq!(scene.code(None, Some(&own)), "PGRST303");
}

#[test]
fn without_any_key_a_token_is_the_servers_fault() {
    let keys = Keys::new(Settings::default(), &[]).unwrap();
    let gateway = Gateway::new(keys, ApiKeys::default(), Options::default());
    let refusal = gateway.identify_with(None, Some("a.b.c")).unwrap_err();
    assert_eq!((refusal.code, refusal.status.as_u16()), ("PGRST300", 500));
    assert!(gateway.identify_with(None, None).is_ok());
}

#[test]
fn the_last_use_of_a_key_is_known() {
    let scene = scene();
    assert!(scene.api_keys.uses().is_empty());
    for later in [0, 5] {
        scene.gateway.identify_at(Some(&scene.publishable), None, NOW + later).unwrap();
        assert_eq!(scene.api_keys.uses(), [(scene.rows[0].id, NOW + later)]);
    }
}

#[test]
fn before_the_database_was_asked_nobody_is_told_that_credentials_are_bad() {
    let keys = Keys::of_settings(Settings::default()).unwrap();
    let api_keys = ApiKeys::default();
    let gateway = Gateway::new(keys.clone(), api_keys.clone(), Options::default());
    let token = scene().token(&json!({}));
    for (key, bearer) in [(Some("sb_secret_x"), None), (None, Some(token.as_str()))] {
        let refusal = gateway.identify_at(key, bearer, NOW).unwrap_err();
        assert_eq!((refusal.code, refusal.status.as_u16()), ("PGRST000", 503));
        assert_eq!(refusal.response().headers()["retry-after"], "1");
    }
    assert_eq!(gateway.identify_at(None, Some("x.y"), NOW).unwrap_err().code, "PGRST301");
    assert!(gateway.identify_at(None, None, NOW).is_ok());
    keys.replace(&[generate(Status::Current).unwrap()]).unwrap();
    api_keys.replace(Vec::new());
    for (key, bearer) in [(Some("sb_secret_x"), None), (None, Some(token.as_str()))] {
        assert_eq!(gateway.identify_at(key, bearer, NOW).unwrap_err().status.as_u16(), 401);
    }
}
