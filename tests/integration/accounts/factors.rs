//! Second factors: an authenticator added, asked, and removed.

use beacon::auth::accounts::{Config, Mfa};
use serde_json::{Value, json};

use super::harness::{Answer, Server, config, text};

const PASSWORD: &str = "correct horse";

/// The code of a secret, some steps from now.
fn code(secret: &str, steps: i64) -> String {
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let totp = totp_rs::Builder::new().with_algorithm(totp_rs::Algorithm::SHA1).with_digits(6).with_secret(secret);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    totp.build().unwrap().generate(now.saturating_add_signed(steps * 30)).to_string()
}

struct Enrolled {
    token: String,
    id: String,
    secret: String,
}

async fn enrol(server: &Server, token: &str, name: &str) -> Answer {
    server.post("/factors", token, json!({"factor_type": "totp", "friendly_name": name})).await
}

async fn challenge(server: &Server, token: &str, id: &str) -> String {
    let made = server.post(&format!("/factors/{id}/challenge"), token, json!({})).await.good();
    assert_eq!(made["type"], "totp");
    assert!(made["expires_at"].is_i64());
    text(&made, "id").to_owned()
}

async fn answer(server: &Server, token: &str, id: &str, code: &str) -> Answer {
    let challenge = challenge(server, token, id).await;
    server.post(&format!("/factors/{id}/verify"), token, json!({"challenge_id": challenge, "code": code})).await
}

/// A member with a verified factor.
async fn enrolled(server: &Server, email: &str) -> Enrolled {
    let session = server.member(email, PASSWORD).await;
    let made = enrol(server, text(&session, "access_token"), "phone").await.good();
    let (id, secret) = (text(&made, "id").to_owned(), text(&made["totp"], "secret").to_owned());
    let raised = answer(server, text(&session, "access_token"), &id, &code(&secret, 0)).await.good();
    Enrolled { token: text(&raised, "access_token").to_owned(), id, secret }
}

fn level(server: &Server, token: &str) -> String {
    server.keys.verify(token).unwrap().text("aal").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_raises_the_session_and_ends_the_lower_ones() {
    let server = Server::new(config()).await;
    let session = server.member("ann@example.org", PASSWORD).await;
    let token = text(&session, "access_token");
    let made = enrol(&server, token, "phone").await.good();
    assert_eq!((&made["type"], &made["friendly_name"]), (&json!("totp"), &json!("phone")));
    assert!(text(&made["totp"], "qr_code").contains("<svg"));
    assert!(text(&made["totp"], "uri").starts_with("otpauth://totp/app.example.org:ann%40example.org?"));
    let (id, secret) = (text(&made, "id"), text(&made["totp"], "secret"));
    let other = server.sign_in("ann@example.org", PASSWORD).await.good();

    let raised = answer(&server, token, id, &code(secret, 0)).await.good();
    assert_eq!(raised["user"]["factors"][0]["status"], "verified");
    let claims = server.keys.verify(text(&raised, "access_token")).unwrap();
    assert_eq!(claims.text("aal"), Some("aal2"));
    let methods: Vec<&str> =
        claims.get("amr").unwrap().as_array().unwrap().iter().map(|entry| text(entry, "method")).collect();
    assert_eq!(methods, ["totp", "otp"]);
    let gone = server.get("/user", text(&other, "access_token")).await;
    assert_eq!(gone.refusal(), (403, "session_not_found".into()));
    // The new refresh token keeps the level.
    let next = server.refresh(text(&raised, "refresh_token")).await.good();
    assert_eq!(level(&server, text(&next, "access_token")), "aal2");

    // From now on a password alone changes nothing that matters.
    let low = server.sign_in("ann@example.org", PASSWORD).await.good();
    let low = text(&low, "access_token");
    assert_eq!(level(&server, low), "aal1");
    let change = server.put("/user", low, json!({"password": "another horse"})).await;
    assert_eq!(change.refusal(), (401, "insufficient_aal".into()));
    assert_eq!(enrol(&server, low, "second").await.refusal(), (403, "insufficient_aal".into()));
    let removal = server.delete(&format!("/factors/{id}"), low, Value::Null).await;
    assert_eq!(removal.refusal(), (422, "insufficient_aal".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_counts_once() {
    let server = Server::new(config()).await;
    let Enrolled { token, id, secret } = enrolled(&server, "ben@example.org").await;
    let replay = answer(&server, &token, &id, &code(&secret, 0)).await;
    assert_eq!(replay.refusal(), (422, "mfa_verification_failed".into()));
    answer(&server, &token, &id, &code(&secret, 1)).await.good();
    let again = answer(&server, &token, &id, &code(&secret, 1)).await;
    assert_eq!(again.refusal(), (422, "mfa_verification_failed".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_is_answered_once_soon_from_the_same_place() {
    let server = Server::new(Config { otp_attempts: 2, ..config() }).await;
    let Enrolled { token, id, secret } = enrolled(&server, "cid@example.org").await;
    let path = format!("/factors/{id}/verify");
    let made = challenge(&server, &token, &id).await;
    let body = |code: &str| json!({"challenge_id": made, "code": code});
    let right = code(&secret, 1);
    let away = server.send_from([198, 51, 100, 1].into(), "POST", &path, &token, &[], body(&right)).await;
    assert_eq!(away.refusal(), (422, "mfa_ip_address_mismatch".into()));
    for _ in 0..2 {
        assert_eq!(server.post(&path, &token, body("000000")).await.refusal().1, "mfa_verification_failed");
    }
    assert_eq!(server.post(&path, &token, body(&right)).await.refusal(), (422, "mfa_challenge_expired".into()));
    let made = challenge(&server, &token, &id).await;
    let age = "update auth.mfa_challenges set created_at = created_at - interval '6 minutes'";
    server.database.execute_as_superuser(age);
    let late = server.post(&path, &token, json!({"challenge_id": made, "code": right})).await;
    assert_eq!(late.refusal(), (422, "mfa_challenge_expired".into()));
    // New challenges do not make room for endless guesses.
    let mut last = String::new();
    for _ in 0..12 {
        last = answer(&server, &token, &id, "000000").await.refusal().1;
    }
    assert_eq!(last, "over_request_rate_limit");
    let unknown = json!({"challenge_id": "00000000-0000-4000-8000-000000000000", "code": right});
    assert_eq!(server.post(&path, &token, unknown).await.refusal(), (422, "mfa_factor_not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn factors_are_limited_named_and_removed() {
    let server = Server::new(Config { mfa: Mfa { max_factors: 2, ..Mfa::default() }, ..config() }).await;
    let Enrolled { token, id, .. } = enrolled(&server, "dan@example.org").await;
    assert_eq!(enrol(&server, &token, "phone").await.refusal(), (422, "mfa_factor_name_conflict".into()));
    let second = enrol(&server, &token, "").await.good();
    assert_eq!(enrol(&server, &token, "").await.refusal(), (422, "too_many_enrolled_mfa_factors".into()));
    let removed = server.delete(&format!("/factors/{}", text(&second, "id")), &token, Value::Null).await.good();
    assert_eq!(removed["id"], second["id"]);
    let removed = server.delete(&format!("/factors/{id}"), &token, Value::Null).await.good();
    assert_eq!(removed["id"], json!(id));
    let user = server.get("/user", &token).await.good();
    assert!(user.get("factors").is_none(), "{user}");
    // What the factor raised is lower again at the next refresh.
    assert_eq!(server.database.value("select aal from auth.sessions limit 1"), "aal1");
    let gone = server.post(&format!("/factors/{id}/challenge"), &token, json!({})).await;
    assert_eq!(gone.refusal(), (404, "mfa_factor_not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_supported_is_told_by_name() {
    let server = Server::new(config()).await;
    let session = server.member("eve@example.org", PASSWORD).await;
    let token = text(&session, "access_token");
    for (kind, expected) in [
        ("phone", (422, "mfa_phone_enroll_not_enabled")),
        ("webauthn", (422, "mfa_webauthn_enroll_not_enabled")),
        ("carrier pigeon", (400, "validation_failed")),
    ] {
        let (status, code) = server.post("/factors", token, json!({"factor_type": kind})).await.refusal();
        assert_eq!((status, code.as_str()), expected, "{kind}");
    }
    assert_eq!(server.post("/factors", "", json!({})).await.refusal(), (401, "no_authorization".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_renames_and_removes_factors() {
    let server = Server::new(config()).await;
    let Enrolled { token, id, .. } = enrolled(&server, "fay@example.org").await;
    let user = server.get("/user", &token).await.good();
    let path = format!("/admin/users/{}/factors", text(&user, "id"));
    let key = server.service();
    let listed = server.get(&path, &key).await.good();
    assert_eq!(listed[0]["id"], json!(id));
    assert!(!listed.to_string().contains("secret"), "{listed}");
    let one = format!("{path}/{id}");
    let renamed = server.put(&one, &key, json!({"friendly_name": "old phone"})).await.good();
    assert_eq!(renamed["friendly_name"], "old phone");
    server.delete(&one, &key, Value::Null).await.good();
    assert_eq!(server.get(&path, &key).await.good(), json!([]));
    assert_eq!(server.delete(&one, &key, Value::Null).await.refusal(), (404, "mfa_factor_not_found".into()));
}
