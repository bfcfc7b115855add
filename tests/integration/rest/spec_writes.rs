//! Writes that PostgREST's specification describes and the other tests do not: defaults, keys, CSV, upserts, limits,
//! rights to some columns, what triggers say.

use super::*;

const ROWS: &str = "return=representation";

impl Bench {
    fn send_json(&self, method: Method, target: &str, body: &str) -> Ask<'_> {
        self.ask(method, target).body(body)
    }
}

#[tokio::test]
async fn empty_bodies() {
    let bench = Bench::new().await;
    for body in ["{}", "[]", "[{}]"] {
        let answer = bench.send_json(Method::PATCH, "/parts", body).send().await;
        assert_eq!(
            (answer.status, answer.header("content-range"), answer.body.as_str()),
            (204, Some("*/*"), ""),
            "{body}"
        );
        let answer = bench.send_json(Method::PATCH, "/films?select=id,shout", body).prefer(ROWS).send().await;
        assert_eq!(
            (answer.status, answer.header("content-range"), answer.body.as_str()),
            (200, Some("*/*"), "[]"),
            "{body}"
        );
    }
    for (body, rows) in [("{}", 1), ("[{}]", 1), ("[{},{}]", 2), ("[]", 0)] {
        let answer = bench.send_json(Method::POST, "/identities?select=slug,data", body).prefer(ROWS).send().await;
        assert_eq!(answer.status, 201, "{body}: {answer:?}");
        assert_eq!(answer.json(), json!(vec![json!({ "slug": null, "data": { "a": "b" } }); rows]), "{body}");
    }
    for body in ["", "}{ x = 2"] {
        for method in [Method::POST, Method::PATCH] {
            let answer = bench.send_json(method, "/parts", body).send().await;
            assert_eq!(answer.json()["message"], "Empty or invalid json", "{body}");
        }
    }
    let blank = bench.send_json(Method::POST, "/parts?columns=", "{}").send().await;
    assert_eq!(blank.json()["details"], "unexpected end of input expecting field name (* or [a..z0..9_$])");
    let spaced = "\t \n \r [{ \"id\": 1, \"data\": { \"a\":1 } }, \t \n \r {\"id\":2,\"data\": 34}]\t \n \r ";
    let answer = bench.send_json(Method::POST, "/jsons", spaced).prefer(ROWS).send().await;
    assert_eq!(answer.json(), json!([{ "id": 1, "data": { "a": 1 } }, { "id": 2, "data": 34 }]));
    for target in ["/jsons", "/jsons?columns=id,data"] {
        let answer = bench
            .send_json(Method::POST, target, r#"{ "data": { "a": 1, "a": 2 }, "id": 3 }"#)
            .prefer(ROWS)
            .send()
            .await;
        assert!(answer.body.contains(r#"{ "a": 1, "a": 2 }"#), "{target}: {}", answer.body);
    }
    let jsonb = bench.send_json(Method::POST, "/jsons?columns=id,data", r#"{ "data": { "a": 1, "a": 2 }, "id": 3 }"#);
    assert_eq!(
        jsonb.prefer("missing=default, return=representation").send().await.json(),
        json!([{ "id": 3, "data": { "a": 2 } }])
    );
}

#[tokio::test]
async fn what_is_missing_takes_its_default() {
    let bench = Bench::new().await;
    let post = |target: &'static str, body: &'static str| {
        let ask = bench.send_json(Method::POST, target, body).prefer("missing=default").prefer(ROWS);
        async move { ask.send().await }
    };
    let answer = post("/identities?columns=id,data,slug&select=data,slug", r#"{"slug":"foo"}"#).await;
    assert_eq!((answer.status, answer.json()), (201, json!([{ "data": { "a": "b" }, "slug": "foo" }])), "{answer:?}");
    assert_eq!(answer.header("preference-applied"), Some("missing=default, return=representation"));
    assert_eq!(
        post("/evil_friends?columns=id,name", r#"{"name":"Lu"}"#).await.json(),
        json!([{ "id": 666, "name": "Lu" }])
    );
    assert_eq!(
        post("/titles_default?columns=id,name", r#"[{"id":71,"name":"x"},{"id":72}]"#).await.json(),
        json!([
            { "id": 71, "name": "x" }, { "id": 72, "name": "unnamed" }
        ])
    );
    let mixed =
        post("/places?columns=name,size&select=name,size", r#"[{"name":"a"},{"size":3},{"name":null,"size":4}]"#).await;
    assert_eq!(
        mixed.json(),
        json!([{ "name": "a", "size": 7 }, { "name": "nowhere", "size": 3 }, { "name": null, "size": 4 }])
    );
    let derived = bench
        .send_json(Method::POST, "/derived?columns=a,b", r#"[{"a":"v"},{"a":"v","b":"w"}]"#)
        .prefer("missing=default");
    assert_eq!(derived.send().await.error(), (400, "428C9".into()));
    let patch = bench.send_json(Method::PATCH, "/places?id=eq.1&columns=name,code&select=name,code", r#"{"code":"z"}"#);
    let patch = patch.prefer("missing=default").prefer(ROWS).send().await;
    assert_eq!(patch.json(), json!([{ "name": "nowhere", "code": "z" }]));
    assert_eq!(patch.header("preference-applied"), Some("missing=default, return=representation"));
    let null = bench
        .send_json(Method::POST, "/places?columns=name,size&select=name", r#"{"size":3}"#)
        .prefer("missing=null")
        .prefer(ROWS);
    let null = null.send().await;
    assert_eq!(
        (null.json(), null.header("preference-applied")),
        (json!([{ "name": null }]), Some("missing=null, return=representation"))
    );
    let sized = bench
        .send_json(Method::POST, "/sized", r#"{"bit":"10101","char":"abcde","arr":["11111"]}"#)
        .prefer(ROWS)
        .send()
        .await;
    assert_eq!(sized.json(), json!([{ "bit": "10101", "char": "abcde", "arr": ["11111"] }]));
}

#[tokio::test]
async fn new_rows_have_addresses() {
    let bench = Bench::new().await;
    let located = |target: &'static str, body: &'static str| {
        let ask = bench.send_json(Method::POST, target, body).prefer("return=headers-only");
        async move {
            let answer = ask.send().await;
            assert_eq!(
                (answer.status, answer.body.as_str(), answer.header("content-type")),
                (201, "", None),
                "{target} {answer:?}"
            );
            assert_eq!(answer.header("preference-applied"), Some("return=headers-only"));
            answer.header("location").map(str::to_owned)
        }
    };
    assert_eq!(located("/parts?select=name", r#"{"id":11,"name":"New"}"#).await.as_deref(), Some("/parts?id=eq.11"));
    assert_eq!(
        located("/models", r#"{"name":"Enzo","year":2021}"#).await.as_deref(),
        Some("/models?name=eq.Enzo&year=eq.2021")
    );
    let address = located("/pairs", r#"{"k1":12,"k2":"Rock & R+ll"}"#).await;
    assert_eq!(address.as_deref(), Some("/pairs?k1=eq.12&k2=eq.Rock%20%26%20R%2Bll"));
    assert_eq!(located("/plain", r#"{"a":1}"#).await, None);
    let view = located("/parts_view", r#"{"p_id":12,"name":"v"}"#).await;
    assert_eq!(view.as_deref(), Some("/parts_view?p_id=eq.12"));
    let kept = bench
        .send_json(Method::POST, "/圍棋", r#"{"鍵":"棋圍","值 a":"￥"}"#)
        .prefer("tx=commit")
        .prefer("return=headers-only");
    let address = kept.send().await.header("location").unwrap().to_owned();
    assert_eq!(bench.get(&address).await.json(), json!([{ "鍵": "棋圍", "值 a": "￥" }]), "{address}");
    let gone = bench.ask(Method::DELETE, &address).prefer("tx=commit").send().await;
    assert_eq!((gone.status, gone.header("content-type")), (204, None));
    let patched =
        bench.send_json(Method::PATCH, "/parts?id=eq.1", r#"{"name":"x"}"#).prefer("return=headers-only").send().await;
    assert_eq!((patched.status, patched.body.as_str()), (204, ""));
}

#[tokio::test]
async fn lines_of_text_in_and_out() {
    let bench = Bench::new().await;
    let csv = |target: &'static str, body: &'static str| {
        let ask = bench
            .send_json(Method::POST, target, body)
            .header("content-type", "text/csv")
            .accept("text/csv")
            .prefer(ROWS);
        async move { ask.send().await }
    };
    let answer = csv("/plain", "a,b\n7,baz").await;
    assert_eq!(
        (answer.status, answer.body.as_str(), answer.header("content-type")),
        (201, "a,b\n7,baz", Some("text/csv; charset=utf-8"))
    );
    assert_eq!(csv("/plain", "a,b\nNULL,foo").await.body, "a,b\n,foo");
    assert_eq!(csv("/parts?select=id", "id,name,maker_id\n8,Xenix,1\n9,\"N,T\",1").await.body, "id\n8\n9");
    assert_eq!(csv("/plain?columns=b&select=a,b", "a,b\n7,baz").await.body, "a,b\n,baz");
    let few = csv("/plain", "a,b\nfoo,bar\nbaz").await;
    assert_eq!(few.json()["message"], "All lines must have same number of fields");
    let mixed = bench.ask(Method::GET, "/makers?select=name,parts(id)&id=eq.3").accept("text/csv").send().await;
    assert_eq!(mixed.body, "name,parts\nCoil,[]");
    let empty = bench.ask(Method::GET, "/makers?select=n:name,id&id=eq.99").accept("text/csv").send().await;
    assert_eq!(empty.body.trim_end(), "n,id");
    let gone = bench
        .ask(Method::DELETE, "/checks?part_id=eq.1&select=checker_id")
        .accept("text/csv")
        .prefer(ROWS)
        .send()
        .await;
    assert_eq!((gone.status, gone.body.as_str()), (200, "checker_id\n1"));
    let head = bench.ask(Method::HEAD, "/rpc/all_films").accept("text/csv").send().await;
    assert_eq!(
        (head.status, head.body.as_str(), head.header("content-type")),
        (200, "", Some("text/csv; charset=utf-8"))
    );
}

#[tokio::test]
async fn what_is_there_is_merged_or_left() {
    let bench = Bench::new().await;
    let post = |target: &'static str, body: &'static str, resolution: &'static str| {
        let ask = bench.send_json(Method::POST, target, body).prefer(ROWS).prefer(resolution);
        async move {
            let answer = ask.send().await;
            (answer.status, answer.json(), answer.header("preference-applied").map(str::to_owned))
        }
    };
    let (merge, ignore) = ("resolution=merge-duplicates", "resolution=ignore-duplicates");
    let merged = Some("resolution=merge-duplicates, return=representation".to_owned());
    assert_eq!(post("/only_key", r#"[{"id":1},{"id":2},{"id":4}]"#, ignore).await.1, json!([{ "id": 4 }]));
    let keys = post("/only_key", r#"[{"id":1},{"id":2},{"id":4}]"#, merge).await;
    assert_eq!(keys, (201, json!([{ "id": 1 }, { "id": 2 }, { "id": 4 }]), merged.clone()), "a row that is only a key");
    assert_eq!(post("/only_key", r#"[{"id":1}]"#, ignore).await.0, 201);
    assert_eq!(post("/parts", "[]", merge).await.0, 200, "nothing was inserted");
    let parted = r#"[{"name":"Veneno","year":2013,"brand":null},{"name":"Roma","year":2021,"brand":"F"}]"#;
    assert_eq!(post("/models", parted, merge).await, (201, serde_json::from_str(parted).unwrap(), merged.clone()));
    assert_eq!(post("/models", parted, ignore).await.1, json!([{ "name": "Roma", "year": 2021, "brand": "F" }]));
    let unkeyed = post("/plain", r#"{"a":1,"b":"z"}"#, merge).await;
    assert_eq!(unkeyed, (201, json!([{ "a": 1, "b": "z" }]), Some(ROWS.to_owned())), "nothing could be there already");
    let partial = bench
        .send_json(
            Method::POST,
            "/identities?columns=id,slug&select=slug,data",
            r#"[{"id":1,"slug":"a"},{"slug":"b"}]"#,
        )
        .prefer("resolution=merge-duplicates, missing=default, return=representation");
    let partial = partial.send().await;
    assert_eq!(partial.status, 201, "{partial:?}");
    assert_eq!(
        partial.header("preference-applied"),
        Some("resolution=merge-duplicates, missing=default, return=representation")
    );
    let unknown =
        bench.send_json(Method::POST, "/places?on_conflict=nothing", r#"{"name":"x"}"#).prefer(merge).send().await;
    assert_eq!(unknown.error(), (400, "42703".into()));
    let unfit = bench.send_json(Method::POST, "/places?on_conflict=name", r#"{"name":"x"}"#).prefer(merge).send().await;
    assert_eq!(unfit.error(), (400, "42P10".into()));
}

#[tokio::test]
async fn a_put_is_about_one_row() {
    let bench = Bench::new().await;
    let put = |target: &str, body: &str| bench.send_json(Method::PUT, target, body).prefer(ROWS);
    let pair = put("/pairs?k1=eq.1&k2=eq.x", r#"[{"k1":1,"k2":"x","extra":"e"}]"#).send().await;
    assert_eq!((pair.status, pair.json()), (201, json!([{ "k1": 1, "k2": "x", "extra": "e" }])));
    let key = put("/only_key?id=eq.1", r#"{"id":1}"#).send().await;
    assert_eq!((key.status, key.json()), (200, json!([{ "id": 1 }])));
    let new = bench.send_json(Method::PUT, "/only_key?id=eq.9", r#"{"id":9}"#).send().await;
    assert_eq!((new.status, new.body.as_str(), new.header("content-type")), (204, "", None));
    let parted = put("/models?name=eq.Roma&year=eq.2021", r#"{"name":"Roma","year":2021,"brand":"F"}"#).send().await;
    assert_eq!(parted.status, 201);
    let shaped = put("/parts?id=eq.1&select=id,makers(name)", r#"{"id":1,"name":"x","maker_id":2}"#).send().await;
    assert_eq!((shaped.status, shaped.json()), (200, json!([{ "id": 1, "makers": { "name": "Bolt" } }])));
    for target in [
        "/pairs?k1=eq.1",
        "/pairs?k1=eq.1&k2=like.x",
        "/pairs?k1=eq.1&k2=eq.x&extra=eq.y",
        "/pairs?k1=not.eq.1&k2=eq.x",
        "/pairs?and=(k1.eq.1,k2.eq.x)",
    ] {
        assert_eq!(put(target, r#"{"k1":1,"k2":"x"}"#).send().await.error(), (405, "PGRST105".into()), "{target}");
    }
    assert_eq!(put("/pairs?k1=eq.1&k2=eq.x", r#"{"k1":1}"#).send().await.error(), (400, "PGRST115".into()));
    assert_eq!(
        put("/pairs?k1=eq.1&k2=eq.x&offset=1", r#"{"k1":1,"k2":"x"}"#).send().await.error(),
        (400, "PGRST114".into())
    );
}

#[tokio::test]
async fn limits_choose_which_rows_are_written() {
    let bench = Bench::new().await;
    let changed = |method: Method, target: &'static str, body: &'static str| {
        let ask = bench.send_json(method, target, body).prefer(ROWS);
        async move {
            let answer = ask.send().await;
            assert_eq!(answer.status, 200, "{target}: {answer:?}");
            answer.json()
        }
    };
    assert_eq!(
        changed(Method::PATCH, "/parts?order=id.desc&limit=1&select=id", r#"{"name":"z"}"#).await,
        json!([{ "id": 4 }])
    );
    assert_eq!(
        changed(Method::PATCH, "/parts?order=id&limit=1&offset=1&select=id", r#"{"name":"z"}"#).await,
        json!([{ "id": 2 }])
    );
    assert_eq!(
        changed(Method::PATCH, "/parts?kind_id=eq.1&order=id&limit=1&select=id,name", r#"{"name":"z"}"#).await,
        json!([{ "id": 1, "name": "z" }])
    );
    assert_eq!(
        changed(Method::DELETE, "/checks?order=part_id.desc,checker_id&limit=1", "").await,
        json!([{ "part_id": 3, "checker_id": 1 }])
    );
    assert_eq!(changed(Method::DELETE, "/plain?order=a&limit=1&select=a", "").await, json!([{ "a": 1 }]));
    assert_eq!(changed(Method::DELETE, "/plain?limit=0", "").await, json!([]));
    let negative = bench.ask(Method::DELETE, "/plain?limit=-1").send().await;
    assert_eq!(negative.error(), (416, "PGRST103".into()));
}

#[tokio::test]
async fn what_is_returned_is_shaped() {
    let bench = Bench::new().await;
    let write = |method: Method, target: &'static str, body: &'static str| {
        let ask = bench.send_json(method, target, body).prefer(ROWS);
        async move {
            let answer = ask.send().await;
            assert!(answer.status < 300, "{target}: {answer:?}");
            answer.json()
        }
    };
    assert_eq!(
        write(
            Method::PATCH,
            "/boards?id=eq.0&select=name,boards(name,boards(name)),boss:boss_id(name)&boards.order=id",
            r#"{"name":"new"}"#
        )
        .await,
        json!([{ "name": "new", "boss": null, "boards": [
            { "name": "left", "boards": [{ "name": "leaf" }] }, { "name": "right", "boards": [] }
        ] }])
    );
    assert_eq!(
        write(Method::POST, "/boards?select=id,boss:boss_id(name)", r#"{"id":6,"boss_id":3}"#).await,
        json!([{ "id": 6, "boss": { "name": "leaf" } }])
    );
    assert_eq!(
        write(
            Method::PATCH,
            "/checkers?id=eq.1&select=name,parts(name,makers(name))&parts.order=id",
            r#"{"name":"May"}"#
        )
        .await,
        json!([{ "name": "May", "parts": [
            { "name": "a1", "makers": { "name": "Acme" } }, { "name": "b1", "makers": { "name": "Bolt" } }
        ] }])
    );
    assert_eq!(
        write(Method::DELETE, "/costs?part_id=eq.1&select=c:cost::text,...parts(part:name)", "").await,
        json!([{ "c": "150.00", "part": "a1" }])
    );
    assert_eq!(
        write(Method::PATCH, "/films?shout=eq.ALPHA&select=id,shout,boss(name)", r#"{"year":2001}"#).await,
        json!([{ "id": 1, "shout": "ALPHA", "boss": { "name": "Ann" } }])
    );
    assert_eq!(
        write(Method::POST, "/parts_view?select=p_id,makers(name)", r#"{"p_id":30,"m_id":3}"#).await,
        json!([{ "p_id": 30, "makers": { "name": "Coil" } }])
    );
    let stripped = bench
        .send_json(Method::POST, "/parts?select=id,name,maker_id", r#"{"id":31}"#)
        .prefer(ROWS)
        .accept("application/vnd.pgrst.object+json;nulls=stripped");
    assert_eq!(stripped.send().await.body, r#"{"id":31}"#);
    let aggregated = bench
        .send_json(Method::PATCH, "/parts?select=kind_id,count()&order=kind_id", r#"{"name":"x"}"#)
        .prefer(ROWS)
        .send()
        .await;
    assert_eq!(aggregated.json(), json!([{ "kind_id": 1, "count": 2 }, { "kind_id": 2, "count": 2 }]));
}

#[tokio::test]
async fn rights_to_some_columns_are_enough() {
    let bench = Bench::new().await;
    let write = |method: Method, target: &'static str, body: &'static str, prefer: &'static str| {
        let ask = bench.send_json(method, target, body).prefer(prefer);
        async move { ask.send().await }
    };
    assert_eq!(write(Method::POST, "/limited", r#"{"id":2,"a":2}"#, "return=minimal").await.status, 201);
    assert_eq!(write(Method::POST, "/limited?select=id", r#"{"id":2,"a":2}"#, ROWS).await.json(), json!([{ "id": 2 }]));
    assert_eq!(
        write(Method::POST, "/limited?select=id,secret", r#"{"id":2,"a":2}"#, ROWS).await.error(),
        (401, "42501".into())
    );
    assert_eq!(
        write(Method::POST, "/limited", r#"{"id":2,"a":2}"#, "return=headers-only").await.header("location"),
        Some("/limited?id=eq.2")
    );
    assert_eq!(write(Method::PATCH, "/limited?id=eq.1", r#"{"a":3}"#, "return=minimal").await.status, 204);
    assert_eq!(write(Method::PATCH, "/limited?id=eq.1&select=a", r#"{"a":3}"#, ROWS).await.json(), json!([{ "a": 3 }]));
    assert_eq!(write(Method::PATCH, "/limited?id=eq.1", r#"{"a":3}"#, ROWS).await.error(), (401, "42501".into()));
    assert_eq!(write(Method::DELETE, "/limited?id=eq.1&select=id", "", ROWS).await.json(), json!([{ "id": 1 }]));
    assert_eq!(write(Method::DELETE, "/limited?id=eq.1", "", "return=minimal").await.status, 204);
    assert_eq!(bench.get("/limited?select=id,a").await.json(), json!([{ "id": 1, "a": 1 }]));
    assert_eq!(bench.get("/limited").await.error(), (401, "42501".into()));
    let put = bench.send_json(Method::PUT, "/limited?id=eq.5", r#"{"id":5,"a":1}"#).send().await;
    assert_eq!(put.error(), (401, "42501".into()), "an upsert writes the key, which may not be changed: {put:?}");
}

#[tokio::test]
async fn triggers_speak_in_the_response() {
    let bench = Bench::new().await;
    let new = bench.send_json(Method::POST, "/stamps", r#"{"id":1}"#).send().await;
    assert_eq!((new.status, new.header("x-stamp")), (202, Some("yes")));
    let before = Bench::with(|config| config.pre_request = "test.greet_before".into()).await;
    assert_eq!(before.get("/parts").await.header("x-before"), Some("1"));
    assert_eq!(before.ask(Method::HEAD, "/parts").send().await.header("x-before"), Some("1"));
    let own = before.send_json(Method::POST, "/stamps", r#"{"id":1}"#).prefer(ROWS).send().await;
    assert_eq!(
        (own.header("x-before"), own.header("x-stamp")),
        (None, Some("yes")),
        "the last one who speaks is heard"
    );
}
