//! The flows of clients, from the first request to the last.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use beacon::auth::accounts::{Config, Switch};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::harness::{Server, below, config, pair, text};

const PASSWORD: &str = "correct horse";

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

const VERIFIER: &str = "a-verifier-that-is-long-enough-for-everybody-here";

#[tokio::test(flavor = "multi_thread")]
async fn a_link_confirms_an_address_and_signs_in() {
    let server = Server::new(config()).await;
    let email = "ann@example.org";
    let body = json!({"email": "Ann@Example.org", "password": PASSWORD, "data": {"full_name": "Ann"}});
    let user = server.post("/signup?redirect_to=https://www.example.org/in?x=1", "", body).await.good();
    assert_eq!(user["email"], email);
    assert_eq!(user["user_metadata"]["full_name"], "Ann");
    assert!(user["confirmation_sent_at"].is_string() && user.get("email_confirmed_at").is_none());
    assert_eq!(user["identities"][0]["provider"], "email");
    assert_eq!(server.sign_in(email, PASSWORD).await.refusal(), (400, "email_not_confirmed".into()));

    let link = server.smtp.take(email).link("/verify");
    let to = server.get(&below(&link), "").await.location();
    assert!(to.starts_with("https://www.example.org/in?x=1#access_token="), "{to}");
    assert_eq!(pair(&to, "type").as_deref(), Some("signup"));
    assert_eq!(pair(&to, "token_type").as_deref(), Some("bearer"));
    let access = pair(&to, "access_token").unwrap();
    let me = server.get("/user", &access).await.good();
    assert_eq!(me["id"], user["id"]);
    assert!(me["email_confirmed_at"].is_string() && me["confirmed_at"].is_string());
    assert_eq!(me["user_metadata"]["email_verified"], true);
    server.refresh(&pair(&to, "refresh_token").unwrap()).await.good();

    // A link works once.
    let again = server.get(&below(&link), "").await.location();
    assert_eq!(pair(&again, "error_code").as_deref(), Some("otp_expired"));
    assert_eq!(pair(&again, "error").as_deref(), Some("access_denied"));
    assert!(again.contains("error_description=Email+link+is+invalid+or+has+expired"), "{again}");
    assert!(again.starts_with("https://www.example.org/in?x=1&error="), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_what_clients_read() {
    let server = Server::new(config()).await;
    server.member("ben@example.org", PASSWORD).await;
    let session = server.sign_in("BEN@example.org", PASSWORD).await.good();
    assert_eq!(session["token_type"], "bearer");
    assert_eq!(session["expires_in"], 3600);
    assert!(session["user"]["last_sign_in_at"].is_string());
    let claims = server.keys.verify(text(&session, "access_token")).unwrap();
    let claims = Value::Object(claims.into_object());
    assert_eq!(claims["iss"], "https://api.example.org/auth/v1");
    assert_eq!(claims["aud"], "authenticated");
    assert_eq!(claims["role"], "authenticated");
    assert_eq!(claims["aal"], "aal1");
    assert_eq!(claims["amr"][0]["method"], "password");
    assert_eq!(claims["sub"], session["user"]["id"]);
    assert_eq!(claims["exp"], session["expires_at"]);
    assert_eq!(claims["is_anonymous"], false);
    assert_eq!(claims["app_metadata"], json!({"provider": "email", "providers": ["email"]}));
    assert_eq!(server.sign_in("ben@example.org", "wrong horse").await.refusal(), (400, "invalid_credentials".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_believed_when_configured() {
    let server = Server::with(Config { autoconfirm: Switch::Auto, ..config() }, false).await;
    let body = json!({"email": "cid@example.org", "password": PASSWORD});
    let session = server.post("/signup", "", body.clone()).await.good();
    assert!(session["access_token"].is_string() && session["user"]["email_confirmed_at"].is_string());
    assert_eq!(server.post("/signup", "", body).await.refusal(), (422, "user_already_exists".into()));
    assert_eq!(server.get("/settings", "").await.good()["mailer_autoconfirm"], true);
    // Nothing that needs a mail pretends to have sent one.
    for path in ["/recover", "/otp"] {
        let answer = server.post(path, "", json!({"email": "cid@example.org"})).await;
        assert_eq!(answer.refusal(), (422, "email_provider_disabled".into()), "{path}");
    }
    let token = text(&session, "access_token");
    let moved = server.put("/user", token, json!({"email": "cid2@example.org"})).await.good();
    assert_eq!(moved["email"], "cid2@example.org");
    server.sign_in("cid2@example.org", PASSWORD).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_signs_in_and_makes_an_account() {
    let server = Server::new(config()).await;
    let email = "dan@example.org";
    assert_eq!(server.post("/otp", "", json!({"email": email, "data": {"a": 1}})).await.good(), json!({}));
    let code = server.smtp.take(email).code(6);
    let session = server.post("/verify", "", json!({"type": "email", "email": email, "token": code})).await.good();
    assert_eq!(session["user"]["user_metadata"]["a"], 1);
    // The next one is a magic link.
    server.post("/otp", "", json!({"email": email, "create_user": false})).await.good();
    let mail = server.smtp.take(email);
    assert!(mail.link("type=magiclink").contains("redirect_to="));
    let hash = pair(&mail.link("/verify"), "token").unwrap();
    let body = json!({"type": "magiclink", "token_hash": hash});
    let session = server.post("/verify", "", body.clone()).await.good();
    let claims = server.keys.verify(text(&session, "access_token")).unwrap();
    assert_eq!(claims.get("amr").unwrap()[0]["method"], "otp");
    assert_eq!(server.post("/verify", "", body).await.refusal(), (403, "otp_expired".into()));
    let unknown = server.post("/otp", "", json!({"email": "nobody@example.org", "create_user": false})).await;
    assert_eq!(unknown.refusal(), (422, "otp_disabled".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn pkce_ends_with_a_code_that_only_its_client_can_use() {
    let server = Server::new(config()).await;
    let email = "eve@example.org";
    let body = json!({
        "email": email, "password": PASSWORD,
        "code_challenge": challenge(VERIFIER), "code_challenge_method": "s256",
    });
    server.post("/signup", "", body).await.good();
    let link = server.smtp.take(email).link("/verify");
    assert!(pair(&link, "token").unwrap().starts_with("pkce_"), "{link}");
    let to = server.get(&below(&link), "").await.location();
    assert!(to.starts_with("https://app.example.org?code=") && !to.contains("access_token"), "{to}");
    let code = pair(&to, "code").unwrap();
    let exchange = |code: &str, verifier: &str| json!({"auth_code": code, "code_verifier": verifier});
    let wrong = server.post("/token?grant_type=pkce", "", exchange(&code, "another")).await;
    assert_eq!(wrong.refusal(), (400, "bad_code_verifier".into()));
    let session = server.post("/token?grant_type=pkce", "", exchange(&code, VERIFIER)).await.good();
    assert_eq!(session["user"]["email"], email);
    let again = server.post("/token?grant_type=pkce", "", exchange(&code, VERIFIER)).await;
    assert_eq!(again.refusal(), (404, "flow_state_not_found".into()));
    assert_eq!(server.database.value("select count(*) from auth.flow_state"), "0");

    // A code in the same mail works too, without PKCE.
    let body = json!({"email": email, "code_challenge": challenge(VERIFIER), "code_challenge_method": "s256"});
    server.post("/otp", "", body).await.good();
    let code = server.smtp.take(email).code(6);
    server.post("/verify", "", json!({"type": "magiclink", "email": email, "token": code})).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_is_replaced() {
    let server = Server::new(config()).await;
    let email = "fay@example.org";
    let old = server.member(email, PASSWORD).await;
    server.post("/recover?redirect_to=https://evil.example/", "", json!({"email": email})).await.good();
    let link = server.smtp.take(email).link("/verify");
    let to = server.get(&below(&link), "").await.location();
    assert!(to.starts_with("https://app.example.org#access_token="), "{to}");
    let token = pair(&to, "access_token").unwrap();
    let same = server.put("/user", &token, json!({"password": PASSWORD})).await;
    assert_eq!(same.refusal(), (422, "same_password".into()));
    let weak = server.put("/user", &token, json!({"password": "short"})).await;
    assert_eq!(weak.json()["weak_password"]["reasons"], json!(["length"]));
    server.put("/user", &token, json!({"password": "another horse"})).await.good();
    assert_eq!(server.sign_in(email, PASSWORD).await.refusal().1, "invalid_credentials");
    server.sign_in(email, "another horse").await.good();
    // The other sessions have ended, this one has not.
    let gone = server.get("/user", text(&old, "access_token")).await;
    assert_eq!(gone.refusal(), (403, "session_not_found".into()));
    server.get("/user", &token).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_is_confirmed_at_both() {
    let server = Server::new(config()).await;
    let session = server.member("gus@example.org", PASSWORD).await;
    server.member("taken@example.org", PASSWORD).await;
    let token = text(&session, "access_token");
    let taken = server.put("/user", token, json!({"email": "taken@example.org"})).await;
    assert_eq!(taken.refusal(), (422, "email_exists".into()));
    let user = server.put("/user", token, json!({"email": "gus2@example.org"})).await.good();
    assert_eq!((&user["email"], &user["new_email"]), (&json!("gus@example.org"), &json!("gus2@example.org")));
    let new = server.smtp.take("gus2@example.org");
    let old = server.smtp.take("gus@example.org");
    let to = server.get(&below(&old.link("/verify")), "").await.location();
    assert!(pair(&to, "message").unwrap().starts_with("Confirmation link accepted"), "{to}");
    let code = json!({"type": "email_change", "email": "gus2@example.org", "token": new.code(6)});
    let session = server.post("/verify", "", code).await.good();
    assert_eq!(session["user"]["email"], "gus2@example.org");
    assert!(session["user"].get("new_email").is_none());
    assert_eq!(session["user"]["identities"][0]["identity_data"]["email"], "gus2@example.org");
    server.sign_in("gus2@example.org", PASSWORD).await.good();

    let server = Server::new(Config { secure_email_change: false, ..config() }).await;
    let session = server.member("gus@example.org", PASSWORD).await;
    server.put("/user", text(&session, "access_token"), json!({"email": "gus3@example.org"})).await.good();
    let link = server.smtp.take("gus3@example.org").link("/verify");
    assert!(server.get(&below(&link), "").await.location().contains("#access_token="));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_user_becomes_a_member() {
    let server = Server::new(config()).await;
    assert_eq!(server.post("/signup", "", json!({})).await.refusal(), (422, "anonymous_provider_disabled".into()));
    let server = Server::new(Config { anonymous_enabled: true, ..config() }).await;
    let session = server.post("/signup", "", json!({"data": {"cart": 3}})).await.good();
    assert_eq!(session["user"]["is_anonymous"], true);
    let token = text(&session, "access_token");
    let early = server.put("/user", token, json!({"password": PASSWORD})).await;
    assert_eq!(early.refusal(), (422, "validation_failed".into()));
    server.put("/user", token, json!({"email": "hal@example.org"})).await.good();
    let code = server.smtp.take("hal@example.org").code(6);
    let body = json!({"type": "email_change", "email": "hal@example.org", "token": code});
    let session = server.post("/verify", "", body).await.good();
    assert_eq!(session["user"]["is_anonymous"], false);
    assert_eq!(session["user"]["user_metadata"]["cart"], 3);
    assert_eq!(session["user"]["app_metadata"]["providers"], json!(["email"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_change_can_ask_for_proof() {
    let server =
        Server::new(Config { password_change_reauthenticates: true, password_change_needs_current: true, ..config() })
            .await;
    let email = "ida@example.org";
    let session = server.member(email, PASSWORD).await;
    let token = text(&session, "access_token");
    let wanted = |more: Value| {
        let mut body = json!({"password": "another horse"});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        body
    };
    let ask = async |more| server.put("/user", token, wanted(more)).await;
    assert_eq!(ask(json!({})).await.refusal().1, "current_password_required");
    assert_eq!(ask(json!({"current_password": "x"})).await.refusal().1, "current_password_mismatch");
    server.database.execute_as_superuser("update auth.sessions set created_at = now() - interval '2 days'");
    assert_eq!(ask(json!({"current_password": PASSWORD})).await.refusal().1, "reauthentication_needed");
    server.get("/reauthenticate", token).await.good();
    let code = server.smtp.take(email).code(6);
    let wrong = ask(json!({"current_password": PASSWORD, "nonce": "000000"})).await;
    assert_eq!(wrong.refusal(), (422, "reauthentication_not_valid".into()));
    ask(json!({"current_password": PASSWORD, "nonce": code})).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_scanner_uses_nothing_up_behind_a_form() {
    let server = Server::new(Config { confirm_by_form: true, ..config() }).await;
    let email = "jan@example.org";
    server.post("/signup", "", json!({"email": email, "password": PASSWORD})).await.good();
    let link = below(&server.smtp.take(email).link("/verify"));
    for _ in 0..2 {
        let page = server.get(&link, "").await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("<form method=post>"), "{}", page.text);
        assert!(!page.headers["content-security-policy"].to_str().unwrap().contains("unsafe"));
    }
    let hash = pair(&link, "token").unwrap();
    let form = format!("token={hash}&type=signup&redirect_to=https%3A%2F%2Fwww.example.org%2Fdone");
    let answer = server.send("POST", "/verify", "", &[], Value::String(form)).await;
    assert!(answer.location().starts_with("https://www.example.org/done#access_token="));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_what_was_asked_for() {
    let server = Server::new(config()).await;
    server.member("kim@example.org", PASSWORD).await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        let session = server.sign_in("kim@example.org", PASSWORD).await.good();
        tokens.push(text(&session, "access_token").to_owned());
    }
    let live = async |number: usize| server.get("/user", &tokens[number]).await.status == 200;
    assert_eq!(server.post("/logout?scope=local", &tokens[0], Value::Null).await.status, 204);
    assert!(!live(0).await && live(1).await && live(2).await);
    assert_eq!(server.post("/logout?scope=others", &tokens[1], Value::Null).await.status, 204);
    assert!(live(1).await && !live(2).await && !live(3).await);
    assert_eq!(server.post("/logout?scope=wrong", &tokens[1], Value::Null).await.status, 400);
    assert_eq!(server.post("/logout", &tokens[1], Value::Null).await.status, 204);
    assert!(!live(1).await);
    assert_eq!(server.post("/logout", &tokens[1], Value::Null).await.refusal(), (403, "session_not_found".into()));
    assert_eq!(server.post("/logout", "", Value::Null).await.refusal(), (401, "no_authorization".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_seed_wrote_works() {
    let server = Server::new(config()).await;
    // The cost 4 keeps the test fast; seeds use crypt(.., gen_salt('bf')).
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    server.database.execute_as_superuser(&format!(
        "insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, \
         raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, \
         email_change, email_change_token_new) values ('00000000-0000-0000-0000-000000000000', gen_random_uuid(), \
         'authenticated', 'authenticated', 'Seed@Example.org', '{hash}', now(), '{{\"provider\":\"email\"}}', '{{}}', \
         now(), now(), '', '', '', ''); \
         insert into auth.users (id, email, encrypted_password, email_confirmed_at, confirmation_token, \
         email_change_token_current, reauthentication_token, phone_change, email_change_confirm_status) \
         values (gen_random_uuid(), 'bare@example.org', '{hash}', now(), null, null, null, null, null)"
    ));
    for email in ["seed@example.org", "bare@example.org"] {
        let session = server.sign_in(email, PASSWORD).await.good();
        let token = text(&session, "access_token").to_owned();
        server.put("/user", &token, json!({"data": {"seen": true}})).await.good();
        server.post("/recover", "", json!({"email": email})).await.good();
        let stored = format!("select encrypted_password from auth.users where lower(email) = '{email}'");
        assert!(server.database.value(&stored).starts_with("$argon2id$"), "{email}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_may_read_what_is_public() {
    let server = Server::new(config()).await;
    let health = server.get("/health", "").await.good();
    assert_eq!(health["name"], "GoTrue");
    let settings = server.get("/settings", "").await.good();
    assert_eq!(settings["external"]["email"], true);
    assert_eq!(settings["external"]["google"], false);
    let keys = server.get("/.well-known/jwks.json", "").await.good();
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    let discovery = server.get("/.well-known/openid-configuration", "").await.good();
    assert_eq!(discovery["issuer"], "https://api.example.org/auth/v1");
    for (method, path, expected) in [
        ("GET", "/sso/saml/metadata", (404, "saml_provider_disabled")),
        ("POST", "/sso", (404, "saml_provider_disabled")),
        ("GET", "/passkeys", (404, "passkey_disabled")),
        ("POST", "/oauth/token", (404, "oauth_server_disabled")),
        ("GET", "/nowhere", (404, "not_found")),
        ("PATCH", "/user", (405, "method_not_allowed")),
        ("POST", "/token?grant_type=web3", (422, "web3_provider_disabled")),
        ("POST", "/token?grant_type=magic", (400, "invalid_credentials")),
    ] {
        let (status, code) = server.send(method, path, "", &[], Value::Null).await.refusal();
        assert_eq!((status, code.as_str()), expected, "{method} {path}");
    }
}
