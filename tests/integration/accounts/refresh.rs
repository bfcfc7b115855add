//! Refresh tokens: rotation, two tabs at once, a lost answer, and a thief.

use std::time::Duration;

use beacon::auth::accounts::{Config, Sessions};
use serde_json::json;

use super::harness::{Server, config, text};

const PASSWORD: &str = "correct horse";

fn fresh(session: &serde_json::Value) -> String {
    text(session, "refresh_token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_and_its_successor_after_it() {
    let server = Server::new(Config { refresh_reuse_interval: Duration::ZERO, ..config() }).await;
    let first = fresh(&server.member("ann@example.org", PASSWORD).await);
    let second = fresh(&server.refresh(&first).await.good());
    let third = fresh(&server.refresh(&second).await.good());
    assert!(first != second && second != third);
    // Only hashes are stored.
    let stored = server.database.value("select string_agg(token, ' ') from auth.refresh_tokens");
    assert!([&first, &second, &third].iter().all(|token| !stored.contains(token.as_str())), "{stored}");
    // The parent of the active token gets the active one: the answer may have been lost.
    let again = server.refresh(&second).await.good();
    assert_eq!(fresh(&again), third);
    assert_eq!(server.database.value("select count(*) from auth.refresh_tokens where not revoked"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_token_ends_the_family() {
    let server = Server::new(Config { refresh_reuse_interval: Duration::ZERO, ..config() }).await;
    let session = server.member("ben@example.org", PASSWORD).await;
    let stolen = fresh(&session);
    let second = fresh(&server.refresh(&stolen).await.good());
    let third = fresh(&server.refresh(&second).await.good());
    let thief = server.refresh(&stolen).await;
    assert_eq!(thief.refusal(), (400, "refresh_token_already_used".into()));
    // The refusal was committed: nobody holds a good token any more.
    assert_eq!(server.refresh(&third).await.refusal(), (400, "refresh_token_already_used".into()));
    assert_eq!(server.database.value("select count(*) from auth.refresh_tokens where not revoked"), "0");
    let noted = "select count(*) from auth.audit_log_entries where payload ->> 'action' = 'token_revoked'";
    assert_ne!(server.database.value(noted), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_that_was_ended_stays_so_within_the_interval_too() {
    let interval = Duration::from_millis(600);
    let server = Server::new(Config { refresh_reuse_interval: interval, ..config() }).await;
    let first = fresh(&server.member("dan@example.org", PASSWORD).await);
    let second = fresh(&server.refresh(&first).await.good());
    let third = fresh(&server.refresh(&second).await.good());
    tokio::time::sleep(interval + Duration::from_millis(200)).await;
    assert_eq!(server.refresh(&first).await.refusal().1, "refresh_token_already_used");
    // The token that was good until a moment ago.
    assert_eq!(server.refresh(&third).await.refusal().1, "refresh_token_already_used");
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_interval_an_older_token_is_forgiven() {
    let server = Server::new(Config { refresh_reuse_interval: Duration::from_mins(1), ..config() }).await;
    let first = fresh(&server.member("cid@example.org", PASSWORD).await);
    let second = fresh(&server.refresh(&first).await.good());
    server.refresh(&second).await.good();
    let late = fresh(&server.refresh(&first).await.good());
    server.refresh(&late).await.good();
    server.database.execute_as_superuser("update auth.refresh_tokens set updated_at = now() - interval '61 seconds'");
    assert_eq!(server.refresh(&first).await.refusal().1, "refresh_token_already_used");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_at_once_get_one_successor() {
    let server = Server::new(config()).await;
    let first = fresh(&server.member("dan@example.org", PASSWORD).await);
    let answers = futures_util::future::join_all((0..12).map(|_| server.refresh(&first))).await;
    let tokens: std::collections::BTreeSet<String> = answers.into_iter().map(|answer| fresh(&answer.good())).collect();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert_eq!(server.database.value("select count(*) from auth.refresh_tokens"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_orphaned_tokens_are_told_apart() {
    let server = Server::new(config()).await;
    let token = fresh(&server.member("eve@example.org", PASSWORD).await);
    for unknown in ["nonsense", "", &"x".repeat(5_000)] {
        let answer = server.refresh(unknown).await;
        let expected = if unknown.is_empty() { "validation_failed" } else { "refresh_token_not_found" };
        assert_eq!(answer.refusal(), (400, expected.into()));
    }
    // A hash out of the database is no token.
    let hash = server.database.value("select token from auth.refresh_tokens limit 1");
    assert_eq!(server.refresh(&hash).await.refusal().1, "refresh_token_not_found");
    server.database.execute_as_superuser("delete from auth.sessions");
    assert_eq!(server.refresh(&token).await.refusal().1, "refresh_token_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_server_stays_good() {
    let server = Server::new(config()).await;
    server.member("fay@example.org", PASSWORD).await;
    server.database.execute_as_superuser(
        "update auth.sessions set refresh_token_hmac_key = null; \
         update auth.refresh_tokens set token = 'abcdefghijkl'",
    );
    let second = fresh(&server.refresh("abcdefghijkl").await.good());
    assert_eq!(fresh(&server.refresh("abcdefghijkl").await.good()), second);
    server.refresh(&second).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_by_themselves() {
    let sessions = Sessions { timebox: Duration::from_hours(24), inactivity: Duration::from_hours(1) };
    let server = Server::new(Config { sessions, ..config() }).await;
    let token = fresh(&server.member("gus@example.org", PASSWORD).await);
    let age = |column: &str, hours: u32| {
        server.database.execute_as_superuser(&format!(
            "update auth.sessions set {column} = now() at time zone 'utc' - interval '{hours} hours'"
        ));
    };
    age("created_at", 23);
    age("refreshed_at", 2);
    assert_eq!(server.refresh(&token).await.refusal(), (400, "session_expired".into()));
    age("refreshed_at", 0);
    let token = fresh(&server.refresh(&token).await.good());
    age("created_at", 25);
    assert_eq!(server.refresh(&token).await.refusal(), (400, "session_expired".into()));
    server.accounts.sweep().await.unwrap();
    assert_eq!(server.database.value("select count(*) from auth.sessions"), "1");
    age("created_at", 49);
    server.accounts.sweep().await.unwrap();
    assert_eq!(server.database.value("select count(*) from auth.sessions"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_user_refreshes_nothing() {
    let server = Server::new(config()).await;
    let session = server.member("hal@example.org", PASSWORD).await;
    let path = format!("/admin/users/{}", text(&session["user"], "id"));
    server.put(&path, &server.service(), json!({"ban_duration": "24h"})).await.good();
    assert_eq!(server.refresh(&fresh(&session)).await.refusal(), (400, "user_banned".into()));
    assert_eq!(server.sign_in("hal@example.org", PASSWORD).await.refusal(), (400, "user_banned".into()));
    server.put(&path, &server.service(), json!({"ban_duration": "none"})).await.good();
    server.refresh(&fresh(&session)).await.good();
}
