//! Writes. They are undone unless they say otherwise.

use super::*;

#[tokio::test]
async fn inserts() {
    let bench = Bench::new().await;
    let post = |target: &str, body: &str| bench.ask(Method::POST, target).body(body);
    let plain = post("/actors", r#"{"id":10,"name":"Una"}"#).send().await;
    assert_eq!((plain.status, plain.body.as_str()), (201, ""), "{plain:?}");
    assert_eq!((plain.header("content-type"), plain.header("content-range")), (None, Some("*/*")));
    let rows = post("/actors?select=name", r#"[{"id":10,"name":"Una"},{"id":11,"name":"Vic"}]"#)
        .prefer("return=representation, count=exact")
        .send()
        .await;
    assert_eq!(rows.json(), json!([{ "name": "Una" }, { "name": "Vic" }]));
    assert_eq!(rows.header("content-range"), Some("*/2"));
    assert_eq!(rows.header("preference-applied"), Some("return=representation, count=exact"));
    let headers = post("/actors", r#"{"id":10,"name":"Una"}"#).prefer("return=headers-only").send().await;
    assert_eq!(
        (headers.status, headers.header("location"), headers.body.as_str()),
        (201, Some("/actors?id=eq.10"), "")
    );
    let none = post("/actors", "[]").prefer("return=representation").send().await;
    assert_eq!((none.status, none.body.as_str()), (201, "[]"));
    let csv = post("/actors", "id,name\n10,Una\n11,NULL").header("content-type", "text/csv").send().await;
    assert_eq!(csv.error(), (400, "23502".into()));
    let named = post("/actors?columns=\"id\",\"name\"", r#"[{"id":10,"name":"Una","extra":1}]"#)
        .prefer("return=representation")
        .send()
        .await;
    assert_eq!(named.json(), json!([{ "id": 10, "name": "Una" }]));
    let kept = bench.get("/actors?id=gte.10").await;
    assert_eq!(kept.body, "[]", "the transactions were undone");
}

#[tokio::test]
async fn what_an_insert_cannot_be() {
    let bench = Bench::new().await;
    let post = |target: &str, body: &str| bench.ask(Method::POST, target).body(body);
    for (target, body, status, code) in [
        ("/actors", "", 400, "PGRST102"),
        ("/actors", "{", 400, "PGRST102"),
        ("/actors", r#"[{"id":1},{"name":"x"}]"#, 400, "PGRST102"),
        ("/actors", r#"{"id":1,"name":"x"}"#, 409, "23505"),
        ("/actors", r#"{"id":20,"nom":"x"}"#, 400, "PGRST204"),
        ("/actors?id=eq.1", r#"{"id":20,"name":"x"}"#, 400, "PGRST127"),
        ("/actors?on_conflict=id", r#"{"id":20,"name":"x"}"#, 400, "PGRST127"),
        ("/roles", r#"{"film_id":99,"actor_id":1}"#, 409, "23503"),
        ("/nobody", "{}", 404, "PGRST205"),
    ] {
        assert_eq!(post(target, body).send().await.error(), (status, code.to_owned()), "{target} {body}");
    }
    let media = post("/actors", "x").header("content-type", "image/png").send().await;
    assert_eq!(media.json()["message"], "Content-Type not acceptable: image/png");
    let late = bench.ask(Method::POST, "/deferred").role("authenticated").body(r#"{"id":1,"other":5}"#).send().await;
    assert_eq!(late.error(), (409, "23503".into()), "what would fail at the end fails when all is undone too");
}

#[tokio::test]
async fn upserts() {
    let bench = Bench::new().await;
    let post = |body: &str, resolution: &str| {
        bench.ask(Method::POST, "/actors?order=id").body(body).prefer(resolution).prefer("return=representation")
    };
    let mixed = post(r#"[{"id":1,"name":"A"},{"id":10,"name":"B"}]"#, "resolution=merge-duplicates").send().await;
    assert_eq!((mixed.status, mixed.json()), (201, json!([{ "id": 1, "name": "A" }, { "id": 10, "name": "B" }])));
    assert_eq!(mixed.header("preference-applied"), Some("resolution=merge-duplicates, return=representation"));
    let old = post(r#"[{"id":1,"name":"A"}]"#, "resolution=merge-duplicates").send().await;
    assert_eq!(old.status, 200);
    let left = post(r#"[{"id":1,"name":"A"},{"id":10,"name":"B"}]"#, "resolution=ignore-duplicates").send().await;
    assert_eq!((left.status, left.json()), (201, json!([{ "id": 10, "name": "B" }])));
    let by_code = bench
        .ask(Method::POST, "/places?on_conflict=code&select=name")
        .body(r#"{"code":"h","name":"changed"}"#)
        .prefer("resolution=merge-duplicates, return=representation")
        .send()
        .await;
    assert_eq!((by_code.status, by_code.json()), (200, json!([{ "name": "changed" }])));
}

#[tokio::test]
async fn puts() {
    let bench = Bench::new().await;
    let put = |target: &str, body: &str| bench.ask(Method::PUT, target).body(body).prefer("return=representation");
    let new = put("/actors?id=eq.10", r#"{"id":10,"name":"Una"}"#).send().await;
    assert_eq!((new.status, new.json()), (201, json!([{ "id": 10, "name": "Una" }])));
    let old = put("/actors?id=eq.1", r#"[{"id":1,"name":"Una"}]"#).send().await;
    assert_eq!(old.status, 200);
    let silent = bench.ask(Method::PUT, "/actors?id=eq.1").body(r#"{"id":1,"name":"Una"}"#).send().await;
    assert_eq!((silent.status, silent.body.as_str()), (204, ""));
    for (target, body, status, code) in [
        ("/actors?id=eq.1&limit=1", r#"{"id":1,"name":"x"}"#, 400, "PGRST114"),
        ("/actors?id=eq.1", r#"{"id":2,"name":"x"}"#, 400, "PGRST115"),
        ("/actors?id=eq.1", r#"[{"id":1},{"id":1}]"#, 400, "PGRST115"),
        ("/actors?id=gt.1", r#"{"id":2,"name":"x"}"#, 405, "PGRST105"),
        ("/actors?id=eq.1&name=eq.x", r#"{"id":1,"name":"x"}"#, 405, "PGRST105"),
        ("/actors", r#"{"id":1,"name":"x"}"#, 405, "PGRST105"),
    ] {
        assert_eq!(put(target, body).send().await.error(), (status, code.to_owned()), "{target}");
    }
}

#[tokio::test]
async fn updates_and_deletes() {
    let bench = Bench::new().await;
    let patch = bench.ask(Method::PATCH, "/films?id=lt.3").body(r#"{"year":1}"#).send().await;
    assert_eq!((patch.status, patch.body.as_str(), patch.header("content-range")), (204, "", Some("0-1/*")));
    let rows = bench
        .ask(Method::PATCH, "/films?id=lt.3&select=id,directors(name)&order=id")
        .body(r#"{"year":1}"#)
        .prefer("return=representation, count=exact")
        .send()
        .await;
    assert_eq!((rows.status, rows.header("content-range")), (200, Some("0-1/2")));
    assert_eq!(rows.json()[0], json!({ "id": 1, "directors": { "name": "Ann" } }));
    let none = bench.ask(Method::PATCH, "/films?id=eq.100").body(r#"{"year":1}"#).prefer("count=exact").send().await;
    assert_eq!((none.status, none.header("content-range")), (204, Some("*/0")));
    let gone = bench.ask(Method::DELETE, "/plain?a=lt.3").prefer("count=exact").send().await;
    assert_eq!((gone.status, gone.header("content-range"), gone.header("content-type")), (204, Some("*/2"), None));
    let gone = bench.ask(Method::DELETE, "/plain?a=eq.1").prefer("return=representation").send().await;
    assert_eq!(
        (gone.status, gone.json(), gone.header("content-range")),
        (200, json!([{ "a": 1, "b": "x" }]), Some("*/*"))
    );
}

#[tokio::test]
async fn too_much_is_undone() {
    let bench = Bench::with(|config| config.tx_end = TxEnd::Commit).await;
    let delete = |prefer: &'static str| bench.ask(Method::DELETE, "/plain").prefer(prefer);
    let answer = delete("handling=strict, max-affected=2").send().await;
    assert_eq!(answer.error(), (400, "PGRST124".into()));
    assert_eq!(answer.json()["details"], "The query affects 3 rows");
    let single = bench
        .ask(Method::PATCH, "/plain")
        .accept("application/vnd.pgrst.object+json")
        .body(r#"{"b":"changed"}"#)
        .send()
        .await;
    assert_eq!(single.error(), (406, "PGRST116".into()));
    let call = bench.ask(Method::POST, "/rpc/delete_plain").prefer("handling=strict, max-affected=2").send().await;
    assert_eq!(call.error(), (400, "PGRST124".into()));
    let left = bench.ask(Method::GET, "/plain?b=neq.changed").prefer("count=exact").send().await;
    assert_eq!(left.header("content-range"), Some("0-1/2"));
    // Within the limit, in a transaction that is undone for the other tests' sake.
    let undone = Bench::new().await;
    let within = undone.ask(Method::DELETE, "/plain").prefer("handling=strict, max-affected=3").send().await;
    assert_eq!((within.status, within.header("preference-applied")), (204, Some("handling=strict, max-affected=3")));
    let call = undone.ask(Method::POST, "/rpc/delete_plain").prefer("handling=strict, max-affected=3").send().await;
    assert_eq!(call.json().as_array().unwrap().len(), 3);
    let one = undone.ask(Method::POST, "/rpc/nothing").prefer("handling=strict, max-affected=3").send().await;
    assert_eq!(one.error(), (400, "PGRST128".into()));
}

#[tokio::test]
async fn transactions_end_as_they_are_asked_to() {
    let bench = Bench::new().await;
    let insert = |id: u32, prefer: &str| {
        bench.ask(Method::POST, "/actors").body(format!(r#"{{"id":{id},"name":"t"}}"#)).prefer(prefer)
    };
    assert_eq!(insert(500, "tx=rollback").send().await.header("preference-applied"), Some("tx=rollback"));
    assert_eq!(bench.get("/actors?id=eq.500").await.body, "[]");
    assert_eq!(insert(500, "tx=commit").send().await.header("preference-applied"), Some("tx=commit"));
    assert_eq!(bench.get("/actors?id=eq.500&select=id").await.body, r#"[{"id":500}]"#);
    let gone = bench.ask(Method::DELETE, "/actors?id=eq.500").prefer("tx=commit").send().await;
    assert_eq!(gone.status, 204);
    let fixed = Bench::with(|config| config.tx_end = TxEnd::Commit).await;
    let strict = fixed.ask(Method::DELETE, "/actors?id=eq.500").prefer("tx=rollback, handling=strict").send().await;
    assert_eq!(strict.error(), (400, "PGRST122".into()), "what cannot be met is not ignored");
}
