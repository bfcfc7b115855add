//! What must not be possible: to find out who has an account, to guess codes, to be sent elsewhere, to flood.

use std::time::{Duration, Instant};

use beacon::auth::accounts::{Config, Limits};
use serde_json::{Value, json};

use super::harness::{Server, below, config, pair, text};

const PASSWORD: &str = "correct horse";

/// A body without what differs by chance.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(list) => Value::Array(list.iter().map(shape).collect()),
        Value::String(_) => json!("text"),
        other => other.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_who_has_an_account() {
    let server = Server::new(Config { mail_interval: Duration::from_mins(1), ..config() }).await;
    server.member("ann@example.org", PASSWORD).await;
    let sign_up = async |email: &str| {
        server.post("/signup", "", json!({"email": email, "password": "another horse"})).await.good()
    };
    let (mut known, mut new) = (sign_up("ann@example.org").await, sign_up("new@example.org").await);
    // Upstream's clients look at the identities, so they may differ; nothing else does.
    known.as_object_mut().unwrap().remove("identities");
    new.as_object_mut().unwrap().remove("identities");
    assert_eq!(shape(&known), shape(&new));
    server.sign_in("ann@example.org", PASSWORD).await.good();

    for path in ["/recover", "/resend"] {
        let ask = async |email: &str| {
            let answer = server.post(path, "", json!({"email": email, "type": "signup"})).await;
            (answer.status, answer.text.clone())
        };
        assert_eq!(ask("ann@example.org").await, ask("nobody@example.org").await, "{path}");
        let (again, unknown) = (ask("ann@example.org").await, ask("nobody@example.org").await);
        assert_eq!((again.0, unknown.0), (429, 429), "{path}: {again:?} {unknown:?}");
        assert!(again.1.contains("over_email_send_rate_limit"), "{again:?}");
    }
    let wrong = server.sign_in("ann@example.org", "wrong horse").await.text;
    assert_eq!(wrong, server.sign_in("nobody@example.org", "wrong horse").await.text);
    let code = async |email: &str| {
        server.post("/verify", "", json!({"type": "recovery", "email": email, "token": "000000"})).await.text
    };
    assert_eq!(code("ann@example.org").await, code("nobody@example.org").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_takes_the_same_time_for_everybody() {
    let server = Server::new(config()).await;
    server.member("ann@example.org", PASSWORD).await;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..8 {
        for (who, email) in ["ann@example.org", "nobody@example.org"].into_iter().enumerate() {
            let begin = Instant::now();
            assert_eq!(server.sign_in(email, "wrong horse").await.status, 400);
            times[who].push(begin.elapsed());
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    });
    let ratio = known / unknown;
    assert!((0.6..1.67).contains(&ratio), "known {known} s, unknown {unknown} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_cannot_be_guessed() {
    let server = Server::new(Config { otp_attempts: 3, ..config() }).await;
    server.member("ben@example.org", PASSWORD).await;
    server.post("/otp", "", json!({"email": "ben@example.org"})).await.good();
    let code = server.smtp.take("ben@example.org").code(6);
    let wrong = if code == "123456" { "654321" } else { "123456" };
    let attempt = async |code: &str| {
        server.post("/verify", "", json!({"type": "email", "email": "ben@example.org", "token": code})).await
    };
    for _ in 0..3 {
        assert_eq!(attempt(wrong).await.refusal(), (403, "otp_expired".into()));
    }
    assert_eq!(attempt(&code).await.refusal(), (403, "otp_expired".into()));
    // The next one is good again, and counts from the start.
    server.post("/otp", "", json!({"email": "ben@example.org"})).await.good();
    let code = server.smtp.take("ben@example.org").code(6);
    attempt(wrong).await;
    attempt(&code).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_for_a_time_for_its_purpose_and_once() {
    let server = Server::new(config()).await;
    server.member("cid@example.org", PASSWORD).await;
    let send = async || {
        server.post("/recover", "", json!({"email": "cid@example.org"})).await.good();
        server.smtp.take("cid@example.org").code(6)
    };
    let verify = async |kind: &str, code: &str| {
        server.post("/verify", "", json!({"type": kind, "email": "cid@example.org", "token": code})).await
    };
    let code = send().await;
    for kind in ["signup", "email_change"] {
        assert_eq!(verify(kind, &code).await.refusal(), (403, "otp_expired".into()), "{kind}");
    }
    let answers = futures_util::future::join_all((0..8).map(|_| verify("recovery", &code))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    let code = send().await;
    server
        .database
        .execute_as_superuser("update auth.one_time_tokens set created_at = created_at - interval '61 minutes'");
    assert_eq!(verify("recovery", &code).await.refusal(), (403, "otp_expired".into()));
    // Another mail makes the one before it void.
    let (first, second) = (send().await, send().await);
    if first != second {
        assert_eq!(verify("recovery", &first).await.status, 403);
    }
    verify("recovery", &second).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_has_no_secret_in_clear() {
    let server = Server::new(config()).await;
    let email = "dan@example.org";
    server.post("/signup", "", json!({"email": email, "password": PASSWORD})).await.good();
    let code = server.smtp.take(email).code(6);
    let everything = server.database.value(
        "select concat((select jsonb_agg(u) from auth.users u), (select jsonb_agg(t) from auth.one_time_tokens t))",
    );
    assert!(!everything.contains(&format!("\"{code}\"")) && !everything.contains(PASSWORD), "{everything}");
    assert!(everything.contains("$argon2id$"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_elsewhere() {
    let server = Server::new(config()).await;
    server.member("eve@example.org", PASSWORD).await;
    for (number, evil) in [
        "https://evil.example/",
        "//evil.example",
        "https://app.example.org@evil.example/",
        "https:%5C%5Cevil.example",
        "javascript:alert(1)",
        "https://app.example.org%0d%0aSet-Cookie:x",
        "https://8.8.8.8/",
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/recover?redirect_to={evil}");
        server.post(&path, "", json!({"email": "eve@example.org"})).await.good();
        let link = server.smtp.take("eve@example.org").link("/verify");
        assert_eq!(pair(&link, "redirect_to").as_deref(), Some("https://app.example.org"), "{number} {evil}");
        // Nor does it help to change the link, or the page that it stands on.
        let hash = pair(&link, "token").unwrap();
        let path = format!("/verify?token={hash}&type=recovery&redirect_to={evil}");
        let to = server.send("GET", &path, "", &[("referer", "https://evil.example/")], Value::Null).await.location();
        assert!(to.starts_with("https://app.example.org#access_token="), "{evil}: {to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_address_is_held_off() {
    let limits = Limits { sign_in: 12, signup: 12, verify: 12, mail: 12, wrong_passwords: 0, ..Limits::default() };
    let server = Server::new(Config { limits, ..config() }).await;
    let from = async |last: u8, path: &str, body: Value| {
        server.send_from([198, 51, 100, last].into(), "POST", path, "", &[], body).await
    };
    let body = json!({"email": "nobody@example.org", "password": "wrong horse", "type": "email", "token": "1"});
    for (number, path) in ["/token?grant_type=password", "/verify", "/recover"].into_iter().enumerate() {
        let mut last = 0;
        for _ in 0..11 {
            last = from(number as u8, path, body.clone()).await.status;
        }
        assert_eq!(last, 429, "{path}");
        let answer = from(number as u8, path, body.clone()).await;
        assert_eq!(answer.refusal(), (429, "over_request_rate_limit".into()), "{path}");
        assert!(answer.headers.contains_key("retry-after"), "{path}");
        assert_ne!(from(100 + number as u8, path, body.clone()).await.status, 429, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_for_one_account_are_held_off_from_wherever_they_come() {
    let limits = Limits { wrong_passwords: 12, ..Limits::default() };
    let server = Server::new(Config { limits, ..config() }).await;
    for email in ["ann@example.org", "bob@example.org"] {
        server.member(email, PASSWORD).await;
    }
    let attempt = async |last: u8, email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        server.send_from([198, 51, 100, last].into(), "POST", "/token?grant_type=password", "", &[], body).await
    };
    // Right passwords count nothing.
    for last in 0..12 {
        attempt(last, "ann@example.org", PASSWORD).await.good();
    }
    for email in ["ann@example.org", "nobody@example.org"] {
        for last in 0..10 {
            let answer = attempt(last, email, "wrong horse").await;
            assert_eq!(answer.refusal(), (400, "invalid_credentials".into()), "{email} {last}");
        }
        // However it is written, and whether there is such an account.
        let answer = attempt(100, &email.to_uppercase(), "wrong horse").await;
        assert_eq!(answer.refusal(), (429, "over_request_rate_limit".into()), "{email}");
        assert!(answer.headers.contains_key("retry-after"), "{email}");
    }
    assert_eq!(attempt(101, "ann@example.org", PASSWORD).await.status, 429, "a guess that is right is not told either");
    attempt(0, "bob@example.org", PASSWORD).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_to_one_address_have_a_pause_between_them() {
    let server = Server::new(Config { mail_interval: Duration::from_mins(1), ..config() }).await;
    let ask = async || server.post("/otp", "", json!({"email": "fay@example.org"})).await;
    ask().await.good();
    let answer = ask().await;
    assert_eq!(answer.refusal(), (429, "over_email_send_rate_limit".into()));
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("For security purposes, you can only request this after "), "{message}");
    server.smtp.take("fay@example.org");
    assert_eq!(server.smtp.received(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strange_token_is_refused_by_name() {
    let server = Server::new(config()).await;
    let session = server.member("gus@example.org", PASSWORD).await;
    let claims = |more: Value| {
        let mut claims = json!({"exp": 9_999_999_999_u64, "role": "authenticated", "sub": session["user"]["id"]});
        claims.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        server.keys.sign(&claims).unwrap()
    };
    let nobody = "00000000-0000-4000-8000-000000000000";
    for (token, expected) in [
        ("x.y.z".to_owned(), (403, "bad_jwt")),
        (claims(json!({"exp": 1})), (403, "bad_jwt")),
        (claims(json!({"aud": "others"})), (403, "bad_jwt")),
        (claims(json!({"sub": null})), (403, "bad_jwt")),
        (claims(json!({"sub": "7"})), (400, "bad_jwt")),
        (claims(json!({"sub": nobody})), (403, "user_not_found")),
        (claims(json!({"session_id": nobody})), (403, "session_not_found")),
        (claims(json!({"session_id": "7"})), (403, "bad_jwt")),
    ] {
        let (status, code) = server.get("/user", &token).await.refusal();
        assert_eq!((status, code.as_str()), expected);
    }
    // Somebody else's session does not do.
    let other = server.member("hal@example.org", PASSWORD).await;
    let other = server.keys.verify(text(&other, "access_token")).unwrap().get("session_id").cloned().unwrap();
    let token = claims(json!({"session_id": other}));
    assert_eq!(server.get("/user", &token).await.refusal(), (403, "session_not_found".into()));
    let wanted = server.put("/user", text(&session, "access_token"), json!({"app_metadata": {"plan": "pro"}})).await;
    assert_eq!(wanted.refusal(), (403, "not_admin".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_cannot_be_given_another_header_or_recipient() {
    let server = Server::new(config()).await;
    for email in ["a@example.org\r\nBcc: b@example.org", "a@example.org,b@example.org", "<a@example.org>"] {
        let answer = server.post("/signup", "", json!({"email": email, "password": PASSWORD})).await;
        assert_eq!(answer.refusal(), (400, "validation_failed".into()), "{email}");
    }
    let data = json!({"full_name": "<script>alert(1)</script>"});
    server.post("/signup", "", json!({"email": "ida@example.org", "password": PASSWORD, "data": data})).await.good();
    let mail = server.smtp.take("ida@example.org");
    assert!(!mail.html.contains("<script>"));
    let to = server.get(&below(&mail.link("/verify")), "").await.location();
    assert!(to.contains("#access_token="));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_trigger_of_the_application_is_told_and_leaves_nothing() {
    let server = Server::new(config()).await;
    server.database.execute_as_superuser(
        "create function public.no() returns trigger language plpgsql as $$ begin raise exception 'no secret'; end $$; \
         create trigger no after insert on auth.users for each row execute function public.no()",
    );
    let answer = server.post("/signup", "", json!({"email": "jan@example.org", "password": PASSWORD})).await;
    assert_eq!(answer.refusal(), (500, "unexpected_failure".into()));
    assert_eq!(answer.json()["message"], "Database error saving new user");
    assert_eq!(server.database.value("select count(*) from auth.users"), "0");
    assert_eq!(server.smtp.received(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_get_the_old_form_of_an_error() {
    let server = Server::new(config()).await;
    let old = [("x-supabase-api-version", "1999-01-01")];
    let answer = server.send("POST", "/token?grant_type=password", "", &old, json!({})).await;
    assert!(!answer.headers.contains_key("x-supabase-api-version"));
    assert_eq!(answer.headers["x-sb-error-code"], "validation_failed");
    let expected = json!({"code": 400, "error_code": "validation_failed", "msg": "missing email or phone"});
    assert_eq!(answer.json(), expected);
}
