//! Whole flows with a provider that listens on this machine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::auth::jwt::{Invalid, Status, StoredKey, generate};
use crate::http::Outbound;
use crate::secret::Secret;

/// What the provider answers, by path, and what it was asked.
#[derive(Default)]
struct State {
    answers: BTreeMap<String, (u16, Value)>,
    asked: Vec<String>,
}

struct Fake {
    url: String,
    state: Arc<Mutex<State>>,
    key: StoredKey,
}

impl Fake {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        let fake = Self { url, state, key: generate(Status::Current).unwrap() };
        fake.set("/.well-known/openid-configuration", fake.document(&fake.url));
        fake.set("/keys", json!({ "keys": [public(&fake.key)] }));
        fake
    }

    fn document(&self, issuer: &str) -> Value {
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{}/authorize", self.url),
            "token_endpoint": format!("{}/token", self.url),
            "jwks_uri": format!("{}/keys", self.url),
            "userinfo_endpoint": format!("{}/userinfo", self.url),
        })
    }

    fn set(&self, path: &str, answer: Value) {
        self.state.lock().unwrap().answers.insert(path.to_owned(), (200, answer));
    }

    fn asked(&self, path: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|asked| asked.split(' ').nth(1) == Some(path)).cloned().collect()
    }

    fn providers(&self, name: &str, provider: Provider) -> Providers {
        let provider = Provider { client_id: "ours".into(), issuer: self.url.clone(), ..provider };
        let map = BTreeMap::from([(name.to_owned(), provider)]);
        Providers::new(&map, "https://api.example.org/auth/v1/callback", Outbound::new().unwrap())
    }

    /// A token with good claims, changed by `change`.
    fn token(&self, change: &Value) -> String {
        let mut claims = json!({
            "iss": self.url, "sub": "s-1", "aud": "ours", "iat": now(), "exp": now() + 60, "email": "Ann@example.org",
            "email_verified": true, "name": "Ann",
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        sign(&self.key, &claims)
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut read = Vec::new();
    let whole = loop {
        let mut buffer = [0; 4_096];
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        read.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) || count == 0 {
                break text;
            }
        }
    };
    let path = whole.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, answer) = {
        let mut state = state.lock().unwrap();
        state.asked.push(whole);
        state.answers.get(path.split('?').next().unwrap()).cloned().unwrap_or((404, json!({})))
    };
    let body = answer.to_string();
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes()).await;
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn public(key: &StoredKey) -> Value {
    let mut jwk = key.public_jwk.clone();
    jwk["kid"] = json!(key.id);
    jwk
}

fn sign(key: &StoredKey, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({ "alg": "ES256", "kid": key.id })), encode(claims));
    let private = EncodingKey::from_ec_pem(key.private_key.expose().as_bytes()).unwrap();
    format!("{signed}.{}", crypto::sign(signed.as_bytes(), &private, Algorithm::ES256).unwrap())
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let pairs = url.split_once('?').map_or(url, |(_, query)| query).split('&');
    let found = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
    Some(percent_encoding::percent_decode_str(found).decode_utf8().unwrap().into_owned())
}

fn secret() -> Provider {
    Provider { client_secret: Secret::new("se:cret"), ..Provider::default() }
}

#[tokio::test]
async fn a_flow_says_who_it_is() {
    let fake = Fake::new().await;
    let providers = fake.providers("work", Provider { scopes: vec!["groups".into()], ..secret() });
    let extra = [("prompt".to_owned(), "select account".to_owned())];
    let begun = providers.begin("work", "st&te", "openid calendar,mail", &extra).await.unwrap();
    assert!(begun.url.starts_with(&format!("{}/authorize?client_id=ours&", fake.url)), "{}", begun.url);
    let get = |name| parameter(&begun.url, name).unwrap_or_default();
    assert_eq!(get("state"), "st&te");
    assert_eq!(get("scope"), "openid email profile groups calendar mail");
    assert_eq!(get("redirect_uri"), "https://api.example.org/auth/v1/callback");
    assert_eq!((get("response_type").as_str(), get("prompt").as_str()), ("code", "select account"));
    assert_eq!(get("code_challenge"), URL_SAFE_NO_PAD.encode(Sha256::digest(&begun.verifier)));
    assert_eq!(get("code_challenge_method"), "S256");
    assert_eq!(Some(get("nonce")), begun.nonce);

    let id_token = fake.token(&json!({ "nonce": begun.nonce, "azp": "ours", "picture": "https://x/y.png" }));
    fake.set("/token", json!({ "access_token": "at", "refresh_token": "rt", "id_token": id_token }));
    let back = Return {
        code: "the code",
        nonce: begun.nonce.as_deref(),
        verifier: &begun.verifier,
        issuer: Some(&fake.url),
        ..Return::default()
    };
    let outcome = providers.finish("work", back).await.unwrap();
    assert_eq!((outcome.access_token.expose(), outcome.refresh_token.expose()), ("at", "rt"));
    let person = outcome.person;
    assert_eq!(
        (person.subject.as_str(), person.email.as_deref(), person.email_verified),
        ("s-1", Some("Ann@example.org"), true)
    );
    assert_eq!(
        Value::Object(person.data),
        json!({
            "iss": fake.url, "sub": "s-1", "provider_id": "s-1", "email": "Ann@example.org", "email_verified": true,
            "phone_verified": false, "name": "Ann", "full_name": "Ann", "picture": "https://x/y.png",
            "avatar_url": "https://x/y.png",
        })
    );
    let asked = &fake.asked("/token")[0];
    assert!(asked.contains(&format!("authorization: Basic {}", STANDARD.encode("ours:se%3Acret"))), "{asked}");
    let body = asked.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(parameter(body, "code").as_deref(), Some("the code"));
    assert_eq!(parameter(body, "code_verifier"), Some(begun.verifier));
    assert!(!body.contains("secret"), "{body}");
    assert!(fake.asked("/userinfo").is_empty());
    assert_eq!((fake.asked("/.well-known/openid-configuration").len(), fake.asked("/keys").len()), (1, 1));
}

#[tokio::test]
async fn an_address_may_come_from_userinfo_and_only_about_the_same_user() {
    let fake = Fake::new().await;
    let mut document = fake.document(&fake.url);
    document["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
    fake.set("/.well-known/openid-configuration", document);
    let providers = fake.providers("work", secret());
    let id_token = fake.token(&json!({ "nonce": "n", "email": null, "email_verified": null }));
    fake.set("/token", json!({ "access_token": "at", "id_token": id_token }));
    fake.set("/userinfo", json!({ "sub": "s-1", "email": "ann@example.org", "email_verified": "true", "iss": "x" }));
    let back = Return { code: "c", nonce: Some("n"), verifier: "v", ..Return::default() };
    let person = providers.finish("work", back).await.unwrap().person;
    assert_eq!((person.email.as_deref(), person.email_verified), (Some("ann@example.org"), true));
    assert_eq!(person.data["iss"], json!(fake.url));
    assert!(fake.asked("/userinfo")[0].contains("authorization: Bearer at\r\n"));
    assert_eq!(
        parameter(fake.asked("/token")[0].split_once("\r\n\r\n").unwrap().1, "client_secret").unwrap(),
        "se:cret"
    );
    fake.set("/userinfo", json!({ "sub": "s-2", "email": "victim@example.org", "email_verified": true }));
    assert!(matches!(providers.finish("work", back).await, Err(Error::Answer(_))));
}

#[tokio::test]
async fn tokens_of_another_flow_client_or_issuer_are_refused() {
    let fake = Fake::new().await;
    let providers = fake.providers("work", secret());
    let good = json!({ "nonce": "n" });
    let with = |name: &str, value: Value| {
        let mut change = good.clone();
        change[name] = value;
        change
    };
    let finish = async |token: String| {
        fake.set("/token", json!({ "access_token": "at", "id_token": token }));
        let back = Return { code: "c", nonce: Some("n"), verifier: "v", ..Return::default() };
        providers.finish("work", back).await.map(|outcome| outcome.person)
    };
    assert!(finish(fake.token(&good)).await.is_ok());
    for (change, wrong) in [
        (with("aud", json!("theirs")), Invalid::Audience),
        (with("aud", json!([])), Invalid::Audience),
        (with("azp", json!("theirs")), Invalid::Audience),
        (with("exp", json!(now() - 60)), Invalid::Expired),
        (with("exp", json!(null)), Invalid::NotNumber("exp")),
        (with("iat", json!(now() + 60)), Invalid::Future),
        (with("iss", json!("https://id.example.net")), Invalid::Issuer),
    ] {
        let refused = finish(fake.token(&change)).await.unwrap_err();
        assert!(matches!(&refused, Error::Token(invalid) if *invalid == wrong), "{change}: {refused:?}");
    }
    assert!(matches!(finish(fake.token(&with("nonce", json!("m")))).await, Err(Error::Nonce)));
    assert!(matches!(finish(fake.token(&with("nonce", json!("")))).await, Err(Error::NonceMissing)));
    assert!(matches!(finish(fake.token(&with("sub", json!("")))).await, Err(Error::Subject)));
    assert!(matches!(finish(fake.token(&with("sub", json!(7)))).await, Err(Error::Subject)));
    // SHA-256 of "at", its left half.
    let half = URL_SAFE_NO_PAD.encode(&Sha256::digest("at")[..16]);
    assert!(finish(fake.token(&with("at_hash", json!(half)))).await.is_ok());
    assert!(matches!(finish(fake.token(&with("at_hash", json!("x")))).await, Err(Error::AccessToken)));

    let token = fake.token(&good);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let payload = signed.split_once('.').unwrap().1;
    for (forged, wrong) in [
        (format!("{none}.{payload}."), Invalid::Unsecured),
        (format!("{signed}.{}", signature.chars().rev().collect::<String>()), Invalid::Signature),
        (sign(&generate(Status::Current).unwrap(), &json!({ "iss": fake.url })), Invalid::NoKey),
    ] {
        let refused = finish(forged.clone()).await.unwrap_err();
        assert!(matches!(&refused, Error::Token(invalid) if *invalid == wrong), "{forged}: {refused:?}");
    }
    let mixed = Return { code: "c", nonce: Some("n"), issuer: Some("https://id.example.net"), ..Return::default() };
    assert!(matches!(providers.finish("work", mixed).await, Err(Error::Mixed)));
}

#[tokio::test]
async fn an_applications_own_token_has_the_hash_of_its_nonce() {
    let fake = Fake::new().await;
    let phone = Provider { client_ids: vec!["phone".into()], ..secret() };
    let providers = fake.providers("work", phone.clone());
    let hash = super::id_token::hex(&Sha256::digest("n"));
    let token = fake.token(&json!({ "aud": "phone", "azp": "other", "nonce": hash, "email_verified": "false" }));
    let accept = async |providers: &Providers, nonce| {
        providers.accept("work", IdToken { token: &token, nonce, access_token: None }).await
    };
    let person = accept(&providers, Some("n")).await.unwrap();
    assert!(!person.email_verified && person.data["email_verified"] == json!(false));
    assert!(matches!(accept(&providers, Some("m")).await, Err(Error::Nonce)));
    assert!(matches!(accept(&providers, Some(&hash)).await, Err(Error::Nonce)));
    assert!(matches!(accept(&providers, None).await, Err(Error::NonceMissing)));
    assert!(matches!(accept(&providers, Some("")).await, Err(Error::NonceMissing)));
    let careless = fake.providers("work", Provider { skip_nonce_check: true, trust_email: true, ..phone });
    assert!(accept(&careless, None).await.unwrap().email_verified);
    let bare = fake.token(&json!({}));
    let given = |nonce| IdToken { token: &bare, nonce, access_token: None };
    assert!(providers.accept("work", given(None)).await.is_ok());
    assert!(matches!(providers.accept("work", given(Some("n"))).await, Err(Error::NonceMissing)));
    assert!(matches!(providers.accept("nobody", given(None)).await, Err(Error::Unknown(_))));
    let off = fake.providers("work", Provider { enabled: false, ..secret() });
    assert!(matches!(off.accept("work", given(None)).await, Err(Error::Disabled(_))));
    assert_eq!((off.names().count(), providers.names().collect::<Vec<_>>()), (0, vec!["work"]));
}

#[tokio::test]
async fn new_keys_are_looked_for_once_a_minute() {
    let mut fake = Fake::new().await;
    let providers = fake.providers("work", secret());
    let accept = async |token: &str| providers.accept("work", IdToken { token, ..IdToken::default() }).await;
    assert!(accept(&fake.token(&json!({}))).await.is_ok());
    let old = std::mem::replace(&mut fake.key, generate(Status::Current).unwrap());
    fake.set("/keys", json!({ "keys": [{ "kty": "oct", "k": "AAAA" }, public(&fake.key)] }));
    for _ in 0..3 {
        assert!(matches!(accept(&fake.token(&json!({}))).await, Err(Error::Token(Invalid::NoKey))));
    }
    assert_eq!(fake.asked("/keys").len(), 1);
    wait(61).await;
    assert!(accept(&fake.token(&json!({}))).await.is_ok());
    assert_eq!(fake.asked("/keys").len(), 2);
    assert!(accept(&sign(&old, &json!({}))).await.is_err());
    // The issuer is away: what it said counts for a day.
    fake.state.lock().unwrap().answers.clear();
    wait(2 * 3_600).await;
    assert!(accept(&fake.token(&json!({}))).await.is_ok());
    wait(25 * 3_600).await;
    assert!(matches!(accept(&fake.token(&json!({}))).await, Err(Error::Answer(_))));
    assert!(matches!(accept(&fake.token(&json!({}))).await, Err(Error::AwayStill)));
}

async fn wait(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_document_of_another_issuer_is_refused() {
    let fake = Fake::new().await;
    fake.set("/.well-known/openid-configuration", fake.document("https://accounts.google.com"));
    for name in ["work", "google", "apple", "azure"] {
        let refused = fake.providers(name, secret()).begin(name, "s", "", &[]).await.unwrap_err();
        assert!(matches!(refused, Error::Answer(_)) && refused.is_upstream(), "{name}: {refused:?}");
    }
    for parameter in ["redirect_uri", "state", "response_mode", "request_uri"] {
        let extra = [(parameter.to_owned(), "x".to_owned())];
        let refused = fake.providers("work", secret()).begin("work", "s", "", &extra).await.unwrap_err();
        assert!(matches!(refused, Error::Parameter(_)), "{parameter}: {refused:?}");
    }
    let refused = fake.providers("work", secret()).begin("work", "s", "a\"b", &[]).await.unwrap_err();
    assert!(matches!(refused, Error::Parameter(_)), "{refused:?}");
}

#[tokio::test]
async fn microsoft_s_tenants_sign_for_themselves() {
    const FIRM: &str = "11111111-2222-4333-8444-555555555555";
    const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
    let fake = Fake::new().await;
    let pattern = format!("{}/{{tenantid}}/v2.0", fake.url);
    fake.set("/.well-known/openid-configuration", fake.document(&pattern));
    let of = |tenant: &str| pattern.replace("{tenantid}", tenant);
    let token = |tenant: &str, issuer: &str, edov: Value| {
        fake.token(&json!({ "tid": tenant, "iss": issuer, "xms_edov": edov, "oid": "o", "email_verified": true }))
    };
    let accept = async |provider: Provider, token: &str| {
        fake.providers("azure", provider).accept("azure", IdToken { token, ..IdToken::default() }).await
    };
    let person = accept(secret(), &token(FIRM, &of(FIRM), json!("1"))).await.unwrap();
    assert!(person.email_verified);
    assert_eq!(person.data["custom_claims"]["oid"], json!("o"));
    // Anybody can make a tenant and write another's address into it.
    assert!(!accept(secret(), &token(FIRM, &of(FIRM), json!(false))).await.unwrap().email_verified);
    for (tenant, issuer) in [(FIRM, of(PERSONAL)), ("evil", of("evil")), (FIRM, pattern.clone()), ("", of(""))] {
        let refused = accept(secret(), &token(tenant, &issuer, json!(true))).await.unwrap_err();
        assert!(matches!(refused, Error::Token(Invalid::Issuer)), "{tenant} {issuer}: {refused:?}");
    }
    let firms = || Provider { tenant: "organizations".into(), ..secret() };
    assert!(accept(firms(), &token(FIRM, &of(FIRM), json!(true))).await.is_ok());
    assert!(accept(firms(), &token(PERSONAL, &of(PERSONAL), json!(true))).await.is_err());
    // A key for personal accounts does not sign for firms.
    let mut key = public(&fake.key);
    key["issuer"] = json!(of(PERSONAL));
    fake.set("/keys", json!({ "keys": [key] }));
    assert!(accept(secret(), &token(PERSONAL, &of(PERSONAL), json!(true))).await.is_ok());
    assert!(accept(secret(), &token(FIRM, &of(FIRM), json!(true))).await.is_err());
}

#[tokio::test]
async fn microsoft_s_addresses_without_a_word_are_those_of_a_trusted_tenant() {
    let claims = json!({ "sub": "s", "email": "ann@example.org", "email_verified": true });
    let person = |one_tenant| {
        let claims = claims.as_object().unwrap();
        super::person::Person::of_claims(Kind::Microsoft, &Provider::default(), claims, one_tenant)
    };
    assert!(!person(false).email_verified);
    assert!(person(true).email_verified);
}

#[tokio::test]
async fn apple_gets_a_secret_that_its_key_made() {
    let fake = Fake::new().await;
    let key = generate(Status::Current).unwrap();
    let provider = Provider {
        team_id: "TEAM".into(),
        key_id: "KEY".into(),
        private_key: Secret::new(key.private_key.expose().replace('\n', "\\n")),
        ..Provider::default()
    };
    let providers = fake.providers("apple", provider);
    let begun = providers.begin("apple", "s", "", &[]).await.unwrap();
    assert_eq!(parameter(&begun.url, "response_mode").as_deref(), Some("form_post"));
    assert_eq!(parameter(&begun.url, "scope").as_deref(), Some("name email"));
    assert_eq!(parameter(&begun.url, "code_challenge"), None);
    let change =
        json!({ "nonce": begun.nonce, "name": null, "iss": "https://appleid.apple.com", "is_private_email": "true" });
    fake.set("/token", json!({ "access_token": "at", "id_token": fake.token(&change) }));
    let back = Return {
        code: "c",
        nonce: begun.nonce.as_deref(),
        user: Some(r#"{"name":{"firstName":" Ann","lastName":"Lee"},"email":"victim@example.org"}"#),
        ..Return::default()
    };
    let person = providers.finish("apple", back).await.unwrap().person;
    assert_eq!((person.email.as_deref(), &person.data["name"]), (Some("Ann@example.org"), &json!("Ann Lee")));
    assert_eq!(person.data["custom_claims"], json!({ "is_private_email": "true" }));
    let asked = &fake.asked("/token")[0];
    let body = asked.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(parameter(body, "code_verifier"), None);
    let secret = parameter(body, "client_secret").unwrap();
    let set = crate::auth::jwt::KeySet::parse(json!({ "keys": [key.public_jwk] }).to_string().as_bytes()).unwrap();
    let claims = set.open(&secret).unwrap();
    assert_eq!((claims.text("iss"), claims.text("sub")), (Some("TEAM"), Some("ours")));
    assert!(claims.expires().unwrap() > now());
}

#[tokio::test]
async fn github_is_asked_who_has_the_token() {
    let fake = Fake::new().await;
    let provider = Provider { url: fake.url.clone(), ..secret() };
    let providers = fake.providers("github", provider);
    let begun = providers.begin("github", "s", "repo", &[]).await.unwrap();
    assert!(begun.url.starts_with(&format!("{}/login/oauth/authorize?client_id=ours&", fake.url)), "{}", begun.url);
    assert_eq!(parameter(&begun.url, "scope").as_deref(), Some("user:email repo"));
    assert_eq!(begun.nonce, None);
    let back = Return { code: "c", verifier: &begun.verifier, ..Return::default() };
    fake.set(
        "/login/oauth/access_token",
        json!({ "error": "bad_verification_code", "error_description": "ex\npired" }),
    );
    let refused = providers.finish("github", back).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { description, .. } if description == "expired"), "{refused:?}");
    assert!(!refused.is_upstream());
    fake.set("/login/oauth/access_token", json!({ "access_token": "at", "token_type": "bearer" }));
    fake.set("/api/v3/user", json!({ "id": 42, "login": "ann", "name": null, "avatar_url": "https://x/a.png" }));
    fake.set(
        "/api/v3/user/emails",
        json!([
            { "email": "old@example.org", "primary": false, "verified": true },
            { "email": "ann@example.org", "primary": true, "verified": false },
        ]),
    );
    let person = providers.finish("github", back).await.unwrap().person;
    assert_eq!((person.subject.as_str(), person.email.as_deref()), ("42", Some("ann@example.org")));
    assert!(!person.email_verified);
    assert_eq!((&person.data["user_name"], &person.data["avatar_url"]), (&json!("ann"), &json!("https://x/a.png")));
    assert!(fake.asked("/api/v3/user")[0].contains("user-agent: beacon/"));
    let token = IdToken { token: "x", ..IdToken::default() };
    assert!(matches!(providers.accept("github", token).await, Err(Error::NoIdTokens(_))));
}
