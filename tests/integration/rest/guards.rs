//! Who sees what.

use super::*;

#[tokio::test]
async fn requests_run_as_their_role() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("/rpc/who").await.body, r#""anon""#);
    for role in ["authenticated", "service_role"] {
        let answer = bench.ask(Method::GET, "/rpc/who").role(role).send().await;
        assert_eq!(answer.body, format!("\"{role}\""));
    }
    let mine = bench.ask(Method::GET, "/notes?select=id").role("authenticated").send().await;
    assert_eq!(mine.json(), json!([{ "id": 2 }]));
    assert_eq!(bench.get("/notes?select=id").await.json(), json!([{ "id": 1 }]));
    let other = r#"{"id":9,"owner":"00000000-0000-0000-0000-00000000000b"}"#;
    let refused = bench.ask(Method::POST, "/notes").role("authenticated").body(other).send().await;
    assert_eq!(refused.error(), (403, "42501".into()));
}

#[tokio::test]
async fn who_has_no_right_is_asked_who_they_are() {
    let bench = Bench::new().await;
    let anonymous = bench.get("/hidden").await;
    assert_eq!(anonymous.error(), (401, "42501".into()));
    assert_eq!(anonymous.header("www-authenticate"), Some("Bearer"));
    let known = bench.ask(Method::GET, "/hidden").role("authenticated").send().await;
    assert_eq!((known.error(), known.header("www-authenticate")), ((403, "42501".into()), None));
    let stranger = bench.ask(Method::GET, "/films").role("nobody_knows").send().await;
    assert_eq!(stranger.error(), (401, "22023".into()));
    let owner = bench.ask(Method::GET, "/films").role(OWNER).send().await;
    assert_eq!(owner.error(), (403, "42501".into()), "a token does not make its bearer the owner");
    let bad = bench.ask(Method::GET, "/films").header("authorization", "Bearer a.b").send().await;
    assert_eq!(bad.error(), (401, "PGRST301".into()));
    let closed = Bench::with(|config| config.anon_role.clear()).await;
    assert_eq!(closed.get("/films").await.error(), (401, "PGRST302".into()));
}

#[tokio::test]
async fn the_anonymous_only_see_what_is_protected() {
    let bench = Bench::with(|config| config.expose_unprotected = false).await;
    assert_eq!(bench.get("/notes").await.status, 200);
    assert_eq!(bench.get("/guarded_notes").await.status, 200);
    for ask in [
        bench.ask(Method::GET, "/films"),
        bench.ask(Method::HEAD, "/films"),
        bench.ask(Method::GET, "/open_notes"),
        bench.ask(Method::GET, "/notes?select=id,films(id)"),
        bench.ask(Method::GET, "/notes?select=id,...films()"),
        bench.ask(Method::POST, "/actors").body(r#"{"id":77,"name":"x"}"#),
        bench.ask(Method::PATCH, "/actors?id=eq.1").body(r#"{"name":"x"}"#),
        bench.ask(Method::DELETE, "/actors?id=eq.1"),
        bench.ask(Method::GET, "/rpc/all_films?select=id,directors(id)"),
    ] {
        let what = format!("{} {}", ask.method, ask.target);
        let head = ask.method == Method::HEAD;
        let answer = ask.send().await;
        assert_eq!(answer.status, 401, "{what}");
        if !head {
            assert_eq!(answer.error(), (401, "BEACON_RLS".into()), "{what}");
        }
    }
    let hint = bench.get("/films").await.json()["hint"].as_str().unwrap().to_owned();
    assert!(hint.contains("ALTER TABLE \"test\".\"films\" ENABLE ROW LEVEL SECURITY"), "{hint}");
    // Whoever signed in is somebody, and the grants decide.
    assert_eq!(bench.ask(Method::GET, "/films").role("authenticated").send().await.status, 200);
    // A function shows what its author lets it show.
    assert_eq!(bench.get("/rpc/all_films?select=id").await.status, 200);
}
