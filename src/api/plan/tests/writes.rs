//! Inserts, upserts, updates and deletes, what they return, and with which rights.

use serde_json::json;

use super::{Bench, Count, Error, Failure, OBJECT, Output, Write};

#[tokio::test]
async fn inserts() {
    let bench = Bench::new().await;
    let to = Write::to("films", "select=id,title,directors(name)&order=id");
    let done =
        bench.insert(&to, r#"[{"id":50,"title":"New","director_id":2},{"id":51,"title":"Newer"}]"#).await.unwrap();
    assert_eq!(
        done.json(),
        json!([{"id":50,"title":"New","directors":{"name":"Bob"}},{"id":51,"title":"Newer","directors":null}])
    );
    assert_eq!((done.rows, done.total, done.inserted), (2, None, None));
    let all = bench.insert(&Write::to("plain", ""), r#"{"a":9}"#).await.unwrap();
    assert_eq!(all.json(), json!([{"a":9,"b":null}]));
    let counted = Write { count: Some(Count::Exact), output: Output::Nothing, ..Write::to("plain", "") };
    let done = bench.insert(&counted, r#"[{"a":9},{"b":"z"}]"#).await.unwrap();
    assert_eq!((done.body.as_deref(), done.rows, done.total), (None, 2, Some(2)));
    let one = Write { output: OBJECT, ..Write::to("plain", "select=b") };
    assert_eq!(bench.insert(&one, r#"{"b":"z"}"#).await.unwrap().text(), r#"{"b":"z"}"#);
    let types = Write::to("films", "select=tags,info,raw->z,during,home,mood,rating,shout");
    let body = r#"{"id":60,"title":"t","tags":["a","b c"],"info":{"k":[1]},"raw":{"z": 1.0},"during":"[1,3)","home":{"street":"S"},"mood":"calm","rating":1.255}"#;
    assert_eq!(
        bench.insert(&types, body).await.unwrap().json(),
        json!([{"tags":["a","b c"],"info":{"k":[1]},"z":1.0,"during":"[1,3)","home":{"street":"S","number":null},"mood":"calm","rating":1.26,"shout":"T"}])
    );
    let computed = Write::to("films", "select=*,shout,peers(id)");
    let done = bench.insert(&computed, r#"{"id":61,"title":"u","director_id":2}"#).await.unwrap().json();
    assert_eq!(
        (&done[0]["shout"], &done[0]["peers"], &done[0]["title"]),
        (&json!("U"), &json!([{"id":3}]), &json!("u"))
    );
    let columns = Write::to("plain", "columns=a");
    assert_eq!(bench.insert(&columns, r#"[{"a":1,"b":"dropped"}]"#).await.unwrap().json(), json!([{"a":1,"b":null}]));
    let shaped = Write::to("plain", "a=gt.1&order=a.desc&limit=1");
    assert_eq!(bench.insert(&shaped, r#"[{"a":1},{"a":2},{"a":3}]"#).await.unwrap().json(), json!([{"a":3,"b":null}]));
    let parted = Write::to("parted", "");
    assert_eq!(bench.insert(&parted, r#"{"id":12,"v":"x"}"#).await.unwrap().json(), json!([{"id":12,"v":"x"}]));
    let unknown = bench.insert(&Write::to("plain", ""), r#"{"c":1}"#).await.unwrap_err();
    assert!(
        matches!(unknown, Failure::Plan(Error::ColumnNotFound { column, relation }) if column == "c" && relation == "plain")
    );
    let csv = Write { output: Output::Csv, ..Write::to("plain", "") };
    assert_eq!(bench.insert(&csv, r#"{"a":7,"b":"q"}"#).await.unwrap().text(), "a,b\n7,q");
}

#[tokio::test]
async fn inserts_of_nothing_and_of_defaults() {
    let bench = Bench::new().await;
    let places = Write::to("places", "select=name,size");
    assert_eq!(bench.insert(&places, "{}").await.unwrap().json(), json!([{"name":"nowhere","size":7}]));
    assert_eq!(bench.insert(&places, "[{},{}]").await.unwrap().rows, 2);
    let none = bench.insert(&places, "[]").await.unwrap();
    assert_eq!((none.text(), none.rows), ("[]", 0));
    let filled =
        Write { defaults: true, ..Write::to("places", "columns=name,size,code,made&select=name,size,code&order=code") };
    let body = r#"[{"code":"a"},{"code":"b","name":null,"size":3},{"code":"c","name":"x"}]"#;
    assert_eq!(
        bench.insert(&filled, body).await.unwrap().json(),
        json!([{"name":"nowhere","size":7,"code":"a"},{"name":null,"size":3,"code":"b"},{"name":"x","size":7,"code":"c"}])
    );
    assert_eq!(
        bench.insert(&filled, r#"{"code":"d"}"#).await.unwrap().json(),
        json!([{"name":"nowhere","size":7,"code":"d"}])
    );
    let nulls = Write { defaults: false, ..filled };
    assert_eq!(
        bench.insert(&nulls, r#"{"code":"d"}"#).await.unwrap().json(),
        json!([{"name":null,"size":null,"code":"d"}])
    );
    let refused = bench.insert(&Write::to("places", ""), r#"{"size":0}"#).await.unwrap_err();
    assert_eq!(refused.code(), "23514");
    let long = bench.insert(&Write::to("places", ""), r#"{"name":"longer than ten"}"#).await.unwrap_err();
    assert_eq!(long.code(), "22001");
}

#[tokio::test]
async fn upserts() {
    let bench = Bench::new().await;
    let merge = Write { merge: Some(true), ..Write::to("plain", "") };
    // Without a key there is nothing to be in conflict with.
    assert_eq!(bench.insert(&merge, r#"{"a":1}"#).await.unwrap().rows, 1);
    let merge = Write { merge: Some(true), ..Write::to("actors", "order=id") };
    let body = r#"[{"id":1,"name":"Xena II"},{"id":7,"name":"New"}]"#;
    let done = bench.insert(&merge, body).await.unwrap();
    assert_eq!(done.json(), json!([{"id":1,"name":"Xena II"},{"id":7,"name":"New"}]));
    assert_eq!(done.inserted, Some(1));
    assert_eq!(bench.insert(&merge, r#"{"id":1,"name":"x"}"#).await.unwrap().inserted, Some(0));
    assert_eq!(bench.insert(&merge, "[]").await.unwrap().inserted, Some(0));
    let ignore = Write { merge: Some(false), ..Write::to("actors", "") };
    let done = bench.insert(&ignore, body).await.unwrap();
    assert_eq!((done.json(), done.inserted), (json!([{"id":7,"name":"New"}]), None));
    let code = Write { merge: Some(true), ..Write::to("places", "on_conflict=code&select=name,code&order=code") };
    let done = bench.insert(&code, r#"[{"name":"moved","code":"h"},{"name":"n","code":"n"}]"#).await.unwrap();
    assert_eq!((done.json(), done.inserted), (json!([{"name":"moved","code":"h"},{"name":"n","code":"n"}]), Some(1)));
    let parted = Write { merge: Some(true), ..Write::to("parted", "") };
    assert_eq!(bench.insert(&parted, r#"[{"id":1,"v":"x"},{"id":11,"v":"y"}]"#).await.unwrap().inserted, Some(2));
    let silent = Write { merge: Some(true), output: Output::Nothing, ..Write::to("actors", "") };
    let done = bench.insert(&silent, body).await.unwrap();
    assert_eq!((done.rows, done.inserted), (2, Some(1)));
    let bad = Write { merge: Some(true), ..Write::to("places", "on_conflict=name") };
    assert_eq!(bench.insert(&bad, r#"{"name":"x"}"#).await.unwrap_err().code(), "42P10");
}

#[tokio::test]
async fn locations() {
    let bench = Bench::new().await;
    let to = |relation| Write { output: Output::Location, ..Write::to(relation, "") };
    let done = bench.insert(&to("actors"), r#"{"id":7,"name":"n"}"#).await.unwrap();
    assert_eq!((done.body.as_deref(), done.location.as_deref(), done.rows), (None, Some("{\"id\":7}"), 1));
    let done = bench.insert(&to("roles"), r#"{"film_id":4,"actor_id":3}"#).await.unwrap();
    assert_eq!(done.location.as_deref(), Some("{\"actor_id\":3,\"film_id\":4}"));
    assert_eq!(bench.insert(&to("plain"), r#"{"a":1}"#).await.unwrap().location, None);
}

#[tokio::test]
async fn updates() {
    let bench = Bench::new().await;
    let to = Write {
        count: Some(Count::Exact),
        ..Write::to("films", "id=in.(1,2)&select=id,title,tags,directors(name)&order=id.desc")
    };
    let done = bench.update(&to, r#"{"title":"T","tags":["q"]}"#).await.unwrap();
    assert_eq!(
        done.json(),
        json!([{"id":2,"title":"T","tags":["q"],"directors":{"name":"Ann"}},{"id":1,"title":"T","tags":["q"],"directors":{"name":"Ann"}}])
    );
    assert_eq!((done.rows, done.total), (2, Some(2)));
    let none = bench.update(&Write::to("films", "id=eq.99&select=id"), r#"{"title":"T"}"#).await.unwrap();
    assert_eq!((none.text(), none.rows), ("[]", 0));
    let empty = bench.update(&Write::to("films", "select=id,shout"), "{}").await.unwrap();
    assert_eq!((empty.text(), empty.rows), ("[]", 0));
    let empty = Write { output: Output::Nothing, ..Write::to("films", "") };
    assert_eq!(bench.update(&empty, "{}").await.unwrap().rows, 0);
    let first = bench.update(&Write::to("plain", "a=eq.1"), r#"[{"b":"first"},{"b":"second"}]"#).await.unwrap();
    assert_eq!(first.json(), json!([{"a":1,"b":"first"}]));
    let filled = Write { defaults: true, ..Write::to("places", "id=eq.1&columns=name,size&select=name,size") };
    assert_eq!(bench.update(&filled, r#"{"size":2}"#).await.unwrap().json(), json!([{"name":"nowhere","size":2}]));
    let related = Write::to("films", "select=id,directors!inner()&directors=is.null");
    let _ = bench.update(&related, r#"{"title":"T"}"#).await.unwrap();
    let orphans = Write { output: Output::Nothing, ..Write::to("films", "select=id,directors()&directors=is.null") };
    assert_eq!(bench.update(&orphans, r#"{"title":"T"}"#).await.unwrap().rows, 1);
    let inner = Write { count: Some(Count::Exact), ..Write::to("films", "select=id,directors!inner(id)&order=id") };
    let done = bench.update(&inner, r#"{"year":1}"#).await.unwrap();
    // The embed is a condition on what is shown, not on what is written.
    assert_eq!((done.rows, done.total), (3, Some(4)));
}

#[tokio::test]
async fn limited_writes() {
    let bench = Bench::new().await;
    let to = Write::to("films", "select=id&order=year.desc.nullslast&limit=2&id=gt.1");
    assert_eq!(bench.update(&to, r#"{"title":"T"}"#).await.unwrap().json(), json!([{"id":3},{"id":2}]));
    let to = Write::to("films", "select=id&limit=1&offset=1&id=lt.4");
    assert_eq!(bench.update(&to, r#"{"title":"T"}"#).await.unwrap().json(), json!([{"id":2}]));
    let keyless = Write::to("plain", "order=a.desc&limit=1");
    assert_eq!(bench.delete(&keyless).await.unwrap().json(), json!([{"a":3,"b":null}]));
    let roles = Write::to("roles", "select=character&order=character&limit=1");
    assert_eq!(bench.delete(&roles).await.unwrap().json(), json!([{"character":"aunt"}]));
    let view = bench.update(&Write::to("film_titles", "select=title&limit=1&order=id"), r#"{"title":"T"}"#).await;
    assert_eq!(view.unwrap().json(), json!([{"title":"T"}]));
}

#[tokio::test]
async fn deletes() {
    let bench = Bench::new().await;
    let to = Write::to("roles", "film_id=eq.1&select=character,actors(name)&order=character");
    assert_eq!(
        bench.delete(&to).await.unwrap().json(),
        json!([{"character":"hero","actors":{"name":"Xena"}},{"character":"villain","actors":{"name":"Yul"}}])
    );
    let to =
        Write { output: Output::Nothing, count: Some(Count::Exact), ..Write::to("plain", "or=(a.eq.1,b.is.null)") };
    let done = bench.delete(&to).await.unwrap();
    assert_eq!((done.rows, done.total), (2, Some(2)));
    let to = Write::to("roles", "select=count()");
    assert_eq!(bench.delete(&to).await.unwrap().json(), json!([{"count":4}]));
}

#[tokio::test]
async fn who_may_not_read_may_write() {
    let bench = Bench::new().await;
    bench.client.batch_execute("SET LOCAL ROLE writer").await.unwrap();
    let silent = |relation, query| Write { output: Output::Nothing, ..Write::to(relation, query) };
    assert_eq!(bench.insert(&silent("secrets", ""), r#"[{"id":2},{"id":3,"word":"x"}]"#).await.unwrap().rows, 2);
    assert_eq!(bench.update(&silent("secrets", ""), r#"{"word":"x"}"#).await.unwrap().rows, 1);
    assert_eq!(bench.delete(&silent("secrets", "")).await.unwrap().rows, 1);
    assert_eq!(bench.insert(&Write::to("secrets", ""), r#"{"id":2}"#).await.unwrap_err().code(), "42501");
    assert_eq!(bench.insert(&silent("films", ""), r#"{"id":2}"#).await.unwrap_err().code(), "42501");
    bench.client.batch_execute("SET LOCAL ROLE reader").await.unwrap();
    assert_eq!(bench.insert(&silent("secrets", ""), r#"{"id":2}"#).await.unwrap_err().code(), "42501");
    assert_eq!(bench.get("secrets", "").await, json!([{"id":1,"word":"a"}]));
}
