//! What keys of the service role may do.

use serde_json::{Value, json};

use super::harness::{Server, below, config, pair, text};

const PASSWORD: &str = "correct horse";

#[tokio::test(flavor = "multi_thread")]
async fn only_the_service_role_is_an_administrator() {
    let server = Server::new(config()).await;
    let session = server.member("ann@example.org", PASSWORD).await;
    for path in ["/admin/users", "/admin/audit", "/admin/nowhere"] {
        assert_eq!(server.get(path, "").await.refusal(), (401, "no_authorization".into()), "{path}");
        let user = server.get(path, text(&session, "access_token")).await;
        assert_eq!(user.refusal(), (403, "not_admin".into()), "{path}");
        assert_eq!(server.get(path, "not.a.token").await.refusal(), (403, "bad_jwt".into()), "{path}");
    }
    let answer = server.post("/invite", text(&session, "access_token"), json!({"email": "x@example.org"})).await;
    assert_eq!(answer.refusal(), (403, "not_admin".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_made_changed_and_deleted() {
    let server = Server::new(config()).await;
    let key = server.service();
    let id = "0b5e1b8e-54f0-4c5b-8d1f-0d6e3b0d6a11";
    let body = json!({
        "id": id, "email": "Ben@example.org", "password": PASSWORD, "email_confirm": true, "phone": "+49 170 1234567",
        "phone_confirm": true, "user_metadata": {"a": 1, "b": 2}, "app_metadata": {"plan": "pro"}, "role": "editor",
    });
    let user = server.post("/admin/users", &key, body.clone()).await.good();
    assert_eq!((text(&user, "id"), text(&user, "email"), text(&user, "role")), (id, "ben@example.org", "editor"));
    assert_eq!(user["app_metadata"], json!({"provider": "email", "providers": ["email", "phone"], "plan": "pro"}));
    assert_eq!(user["identities"].as_array().unwrap().len(), 2);
    assert_eq!(server.post("/admin/users", &key, body).await.refusal(), (422, "email_exists".into()));
    let session = server.sign_in("ben@example.org", PASSWORD).await.good();
    let claims = server.keys.verify(text(&session, "access_token")).unwrap();
    assert_eq!(claims.text("role"), Some("editor"));
    let by_phone = json!({"phone": "491701234567", "password": PASSWORD});
    server.post("/token?grant_type=password", "", by_phone).await.good();

    let path = format!("/admin/users/{id}");
    let change = json!({
        "email": "ben2@example.org", "password": "another horse", "user_metadata": {"a": null, "c": 3},
        "app_metadata": {"plan": "free"}, "ban_duration": "1h30m",
    });
    let user = server.put(&path, &key, change).await.good();
    assert_eq!(user["email"], "ben2@example.org");
    assert_eq!((&user["user_metadata"]["a"], &user["user_metadata"]["c"]), (&Value::Null, &json!(3)));
    assert_eq!(user["app_metadata"]["plan"], "free");
    assert!(user["banned_until"].is_string());
    assert_eq!(user["identities"][0]["identity_data"]["email"], "ben2@example.org");
    // A password set by an administrator ends all sessions.
    let gone = server.get("/user", text(&session, "access_token")).await;
    assert_eq!(gone.refusal(), (403, "session_not_found".into()));
    assert_eq!(server.get(&path, &key).await.good()["email"], "ben2@example.org");
    server.delete(&path, &key, Value::Null).await.good();
    assert_eq!(server.get(&path, &key).await.refusal(), (404, "user_not_found".into()));
    assert_eq!(server.get("/admin/users/nonsense", &key).await.refusal(), (404, "validation_failed".into()));
    assert_eq!(server.database.value("select count(*) from auth.refresh_tokens"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_deleted_user_leaves_a_row_and_nothing_else() {
    let server = Server::new(config()).await;
    let session = server.member("cid@example.org", PASSWORD).await;
    let path = format!("/admin/users/{}", text(&session["user"], "id"));
    server.delete(&path, &server.service(), json!({"should_soft_delete": true})).await.good();
    let user = server.get(&path, &server.service()).await.good();
    assert!(user["deleted_at"].is_string() && user["identities"] == json!([]));
    assert!(!user.to_string().contains("cid@example.org"), "{user}");
    assert_eq!(server.sign_in("cid@example.org", PASSWORD).await.refusal().1, "invalid_credentials");
    server.member("cid@example.org", PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told() {
    let server = Server::new(config()).await;
    let key = server.service();
    for (body, code) in [
        (json!({}), "validation_failed"),
        (json!({"email": "no address"}), "validation_failed"),
        (json!({"email": "a@b.c", "id": "7"}), "validation_failed"),
        (json!({"email": "a@b.c", "ban_duration": "soon"}), "validation_failed"),
        (json!({"email": "a@b.c", "password": "long enough", "password_hash": "$2a$"}), "validation_failed"),
        (json!({"email": "a@b.c", "password_hash": "nonsense"}), "validation_failed"),
        (json!({"phone": "12"}), "validation_failed"),
        (json!({"email": 7}), "bad_json"),
    ] {
        let answer = server.post("/admin/users", &key, body.clone()).await;
        assert_eq!(answer.refusal(), (400, code.into()), "{body}");
    }
    assert_eq!(server.database.value("select count(*) from auth.users"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_of_another_system_is_taken_over() {
    let server = Server::new(config()).await;
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let body = json!({"email": "dan@example.org", "password_hash": hash, "email_confirm": true});
    server.post("/admin/users", &server.service(), body).await.good();
    server.sign_in("dan@example.org", PASSWORD).await.good();
    assert!(server.database.value("select encrypted_password from auth.users").starts_with("$argon2id$"));
    server.sign_in("dan@example.org", PASSWORD).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_by_pages() {
    let server = Server::new(config()).await;
    let key = server.service();
    for number in 0..5 {
        let email = format!("user{number}@example.org");
        server.post("/admin/users", &key, json!({"email": email})).await.good();
    }
    let answer = server.get("/admin/users?page=2&per_page=2", &key).await;
    assert_eq!(answer.headers["x-total-count"], "5");
    let links = answer.headers["link"].to_str().unwrap();
    assert_eq!(
        links,
        "</auth/v1/admin/users?page=3&per_page=2>; rel=\"next\", </auth/v1/admin/users?page=3&per_page=2>; rel=\"last\""
    );
    let body = answer.good();
    assert_eq!(body["aud"], "authenticated");
    let emails: Vec<&str> = body["users"].as_array().unwrap().iter().map(|user| text(user, "email")).collect();
    assert_eq!(emails, ["user2@example.org", "user1@example.org"]);
    let found = server.get("/admin/users?filter=USER4", &key).await.good();
    assert_eq!(found["users"].as_array().unwrap().len(), 1);
    let none = server.get("/admin/users?filter=%25", &key).await.good();
    assert_eq!(none["users"], json!([]));
    for bad in ["page=x", "per_page=0", "per_page=-1", "sort=email%20desc"] {
        let answer = server.get(&format!("/admin/users?{bad}"), &key).await;
        assert_eq!(answer.refusal(), (400, "validation_failed".into()), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_accepted_by_its_link() {
    let server = Server::new(config()).await;
    let key = server.service();
    let path = "/invite?redirect_to=https://www.example.org/welcome";
    let user = server.post(path, &key, json!({"email": "eve@example.org", "data": {"team": 7}})).await.good();
    assert!(user["invited_at"].is_string());
    let link = server.smtp.take("eve@example.org").link("type=invite");
    let to = server.get(&below(&link), "").await.location();
    assert!(to.starts_with("https://www.example.org/welcome#access_token="), "{to}");
    let token = pair(&to, "access_token").unwrap();
    server.put("/user", &token, json!({"password": PASSWORD})).await.good();
    let session = server.sign_in("eve@example.org", PASSWORD).await.good();
    assert_eq!(session["user"]["user_metadata"]["team"], 7);
    let again = server.post("/invite", &key, json!({"email": "eve@example.org"})).await;
    assert_eq!(again.refusal(), (422, "email_exists".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_made_without_a_mail() {
    let server = Server::new(config()).await;
    let key = server.service();
    let generate = async |body: Value| server.post("/admin/generate_link", &key, body).await;
    let made = generate(json!({
        "type": "signup", "email": "fay@example.org", "password": PASSWORD, "data": {"x": 1},
        "redirect_to": "https://www.example.org/in",
    }))
    .await
    .good();
    assert_eq!(made["verification_type"], "signup");
    assert_eq!(made["redirect_to"], "https://www.example.org/in");
    assert_eq!(made["user_metadata"]["x"], 1);
    let to = server.get(&below(text(&made, "action_link")), "").await.location();
    assert!(to.starts_with("https://www.example.org/in#access_token="), "{to}");

    for (kind, verification) in [("magiclink", "magiclink"), ("recovery", "recovery")] {
        let made = generate(json!({"type": kind, "email": "fay@example.org"})).await.good();
        assert_eq!(made["verification_type"], verification);
        let body = json!({"type": kind, "token_hash": made["hashed_token"]});
        server.post("/verify", "", body).await.good();
        let made = generate(json!({"type": kind, "email": "fay@example.org"})).await.good();
        let body = json!({"type": "email", "email": "fay@example.org", "token": made["email_otp"]});
        server.post("/verify", "", body).await.good();
    }
    let new = generate(json!({"type": "magiclink", "email": "gus@example.org"})).await.good();
    assert_eq!(new["verification_type"], "signup");
    let change = json!({"type": "email_change_current", "email": "fay@example.org", "new_email": "fay2@example.org"});
    let current = generate(change).await.good();
    let to = server.get(&below(text(&current, "action_link")), "").await.location();
    assert!(pair(&to, "message").is_some(), "{to}");
    for (body, expected) in [
        (json!({"type": "recovery", "email": "nobody@example.org"}), (404, "user_not_found")),
        (json!({"type": "signup", "email": "fay@example.org", "password": PASSWORD}), (422, "email_exists")),
        (json!({"type": "nonsense", "email": "fay@example.org"}), (400, "validation_failed")),
        (json!({"type": "signup", "email": "new@example.org"}), (400, "validation_failed")),
    ] {
        let (status, code) = generate(body.clone()).await.refusal();
        assert_eq!((status, code.as_str()), expected, "{body}");
    }
    assert_eq!(server.smtp.received(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_did_what() {
    let server = Server::new(config()).await;
    server.member("hal@example.org", PASSWORD).await;
    server.sign_in("hal@example.org", PASSWORD).await.good();
    let answer = server.get("/admin/audit?query=action:login", &server.service()).await;
    assert_eq!(answer.headers["x-total-count"], "1");
    let entries = answer.good();
    assert_eq!(entries[0]["payload"]["actor_username"], "hal@example.org");
    assert_eq!(entries[0]["payload"]["log_type"], "account");
    assert_eq!(entries[0]["ip_address"], "203.0.113.9");
    let wrong = server.get("/admin/audit?query=password:x", &server.service()).await;
    assert_eq!(wrong.refusal(), (400, "validation_failed".into()));
}
