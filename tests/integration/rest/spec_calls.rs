//! Calls that PostgREST's specification describes and the other tests do not: types of arguments and results, overloads,
//! errors of functions, and what roles and functions set for their transactions.

use super::*;

async fn values(bench: &Bench, cases: &[(&str, Value)]) {
    for (target, wanted) in cases {
        let answer = bench.get(target).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert_eq!(answer.json(), *wanted, "{target}");
    }
}

#[tokio::test]
async fn results_of_every_type() {
    let bench = Bench::new().await;
    values(
        &bench,
        &[
            ("/rpc/ret_range?low=10&up=20", json!("[10,20)")),
            ("/rpc/ret_mood?val=calm", json!("calm")),
            ("/rpc/ret_positive?val=8", json!(8)),
            ("/rpc/ret_array", json!([1, 2, 3])),
            ("/rpc/ret_place", json!({ "street": "Oak", "number": 9 })),
            ("/rpc/an_address", json!({ "street": "Elm", "number": 3 })),
            (
                "/rpc/parts_as_domain?select=id,makers(name)",
                json!([
                    { "id": 1, "makers": { "name": "Acme" } }, { "id": 2, "makers": { "name": "Acme" } }
                ]),
            ),
            ("/rpc/both_ways?num=2", json!({ "num": 3, "str": "d!" })),
            ("/rpc/both_ways?num=2&str=x", json!({ "num": 3, "str": "x!" })),
            ("/rpc/one_out", json!({ "p": 5 })),
            ("/rpc/json_out?a=1", json!({ "made": { "a": 1 } })),
            ("/rpc/one_column", json!([{ "a": "A" }])),
            ("/rpc/test", json!([{ "test": "hello", "value": 1 }])),
            ("/rpc/as_table?n=3&x=gt.1&order=x.desc&limit=1&select=y", json!([{ "y": "v3" }])),
            ("/rpc/a_record", json!({ "id": 1, "title": "Alpha" })),
            ("/rpc/records", json!([{ "id": 1, "title": "Alpha" }, { "id": 2, "title": "Beta" }])),
            ("/rpc/all_films?select=id&title=eq.Beta", json!([{ "id": 2 }])),
            (
                "/rpc/all_films?select=title&id=gt.1&id=lt.4&order=title.desc",
                json!([{ "title": "Gamma" }, { "title": "Beta" }]),
            ),
            (
                "/rpc/all_films?select=id,roles(actors(name))&id=eq.3",
                json!([{ "id": 3, "roles": [{ "actors": { "name": "Zoe" } }] }]),
            ),
            ("/rpc/all_films?select=id,shout&shout=eq.BETA", json!([{ "id": 2, "shout": "BETA" }])),
            ("/rpc/all_films?select=id&or=(id.eq.1,title.like.G*)&order=id", json!([{ "id": 1 }, { "id": 3 }])),
            ("/rpc/best_film?select=id,directors(name)", json!({ "id": 2, "directors": { "name": "Ann" } })),
            ("/rpc/three_defaults?b=4", json!(8)),
            ("/rpc/quoted Name?fullName=A B&SSN=4-X", json!({ "fullName": "A B", "SSN": "4-X" })),
        ],
    )
    .await;
    let xml = bench.ask(Method::GET, "/rpc/page.xml").accept("text/xml").send().await;
    assert_eq!((xml.body.as_str(), xml.header("content-type")), ("<b/>", Some("text/xml; charset=utf-8")));
    let csv = bench.ask(Method::POST, "/rpc/as_table").body(r#"{"n":2}"#).accept("text/csv").send().await;
    assert_eq!(csv.body, "x,y\n1,v1\n2,v2");
    let one = "application/vnd.pgrst.object+json";
    assert_eq!(
        bench.ask(Method::GET, "/rpc/as_table?n=1").accept(one).send().await.json(),
        json!({ "x": 1, "y": "v1" })
    );
    assert_eq!(bench.ask(Method::GET, "/rpc/as_table?n=2").accept(one).send().await.error(), (406, "PGRST116".into()));
    assert_eq!(bench.ask(Method::GET, "/rpc/as_table?n=0").accept(one).send().await.error(), (406, "PGRST116".into()));
    assert_eq!(bench.ask(Method::GET, "/rpc/three_defaults").accept(one).send().await.body, "6");
    let stripped = bench
        .ask(Method::GET, "/rpc/all_films?id=eq.4&select=id,year")
        .accept("application/vnd.pgrst.array+json;nulls=stripped");
    assert_eq!(stripped.send().await.json(), json!([{ "id": 4 }]));
    let none = bench.ask(Method::GET, "/rpc/all_films?id=eq.99").prefer("count=exact").send().await;
    assert_eq!((none.status, none.header("content-range"), none.body.as_str()), (200, Some("*/0"), "[]"));
    let head = bench
        .ask(Method::HEAD, "/rpc/all_films?select=id,directors!inner(id)&directors.id=eq.1")
        .prefer("count=exact")
        .send()
        .await;
    assert_eq!(head.header("content-range"), Some("0-1/2"));
}

#[tokio::test]
async fn arguments_of_every_type() {
    let bench = Bench::new().await;
    let wanted = json!({
        "double": 3.1, "varchar": "hello", "boolean": true, "date": "2019-01-01", "money": "$0.00", "mood": "calm",
        "arr": ["a", "b", "c"], "integer": 43, "json": {}, "jsonb": {}
    });
    let text = "double=3.1&varchar=hello&boolean=true&date=20190101&money=0&mood=calm&arr=%7Ba,b,c%7D&integer=43";
    assert_eq!(bench.get(&format!("/rpc/varied?{text}")).await.json(), wanted);
    let form = |target: &'static str, body: &str| {
        let ask =
            bench.ask(Method::POST, target).header("content-type", "application/x-www-form-urlencoded").body(body);
        async move { ask.send().await }
    };
    assert_eq!(form("/rpc/varied", text).await.json(), wanted);
    let posted = r#"{"double":3.1,"varchar":"hello","boolean":true,"date":"20190101","money":0,"mood":"calm",
        "arr":["a","b","c"],"integer":43,"json":{"some key":"some value"},"jsonb":{"another key":[1,2,"3"]}}"#;
    let answer = bench.ask(Method::POST, "/rpc/varied").body(posted).send().await.json();
    assert_eq!(
        (&answer["json"], &answer["jsonb"]),
        (&json!({ "some key": "some value" }), &json!({ "another key": [1, 2, "3"] }))
    );
    let kind = |body: &'static str| {
        let ask = bench.ask(Method::POST, "/rpc/json_kind").body(body);
        async move { ask.send().await.json() }
    };
    assert_eq!(kind(r#"{"arg":{"key":3}}"#).await, "object");
    assert_eq!(kind(r#"{"arg":"{ \"key\": 3 }"}"#).await, "string");
    values(
        &bench,
        &[
            ("/rpc/list", json!([])),
            ("/rpc/list?v=hi", json!(["hi"])),
            ("/rpc/list?v=hi&v=the,re", json!(["hi", "the,re"])),
            ("/rpc/say?name=ignored&name=world&v=1&v=2", json!("Hello, world")),
        ],
    )
    .await;
    assert_eq!(form("/rpc/list", "").await.json(), json!([]));
    assert_eq!(form("/rpc/list", "v=hi&v=there").await.json(), json!(["hi", "there"]));
    assert_eq!(
        bench.ask(Method::POST, "/rpc/list").body(r#"{"v":["hi","there"]}"#).send().await.json(),
        json!(["hi", "there"])
    );
    let extra =
        bench.ask(Method::POST, "/rpc/say?columns=name,v").body(r#"{"name":"J","v":[1],"other":1}"#).send().await;
    assert_eq!(extra.json(), "Hello, J");
    let composite = |body: &'static str| {
        let ask = bench.ask(Method::POST, "/rpc/of_film").body(body);
        async move { ask.send().await.json() }
    };
    assert_eq!(composite(r#"{"film":{"id":1,"title":"T"}}"#).await, "T");
    assert_eq!(composite(r#"{"film":{"id":1}}"#).await, "untitled");
    assert_eq!(composite(r#"{"film":{"id":1,"title":null,"unknown":5}}"#).await, "untitled");
    assert_eq!(composite(r#"{"film":null}"#).await, "untitled");
}

#[tokio::test]
async fn overloads_are_told_apart_by_names() {
    let bench = Bench::new().await;
    values(
        &bench,
        &[("/rpc/over", json!([1, 2])), ("/rpc/over?a=1&b=2", json!(3)), ("/rpc/over?a=1&b=2&c=3", json!("123"))],
    )
    .await;
    let post = |body: &'static str| {
        let ask = bench.ask(Method::POST, "/rpc/over").body(body);
        async move { ask.send().await.json() }
    };
    assert_eq!(post(r#"{"a":1,"b":2}"#).await, 3);
    assert_eq!(
        post(r#"[{"x":1,"y":"first"},{"x":2,"y":"second"}]"#).await,
        json!([{ "x": 1, "y": "first" }, { "x": 2, "y": "second" }])
    );
    let twice = bench.get("/rpc/twice?arg=1").await;
    assert_eq!(twice.error(), (300, "PGRST203".into()));
    assert_eq!(
        twice.json()["message"],
        "Could not choose the best candidate function between: test.twice(arg => integer), test.twice(arg => text)"
    );
    let unknown = bench.get("/rpc/over?wrong_arg=value").await;
    assert_eq!(unknown.json()["hint"], Value::Null);
    assert_eq!(
        unknown.json()["details"],
        "Searched for the function test.over with parameter wrong_arg, but no matches were found in the schema cache."
    );
    let near = bench.get("/rpc/add_them?a=1&b=2&smthelse=blabla").await;
    assert_eq!(near.json()["hint"], "Perhaps you meant to call the function test.add_them(a, b)");
    let name = bench.get("/rpc/three_default").await;
    assert_eq!(name.json()["hint"], "Perhaps you meant to call the function test.three_defaults");
    for (body, media) in [("x", "text/plain"), ("x", "application/octet-stream"), ("<a/>", "text/xml")] {
        let refused = bench.ask(Method::POST, "/rpc/say").header("content-type", media).body(body).send().await;
        assert_eq!(refused.error(), (404, "PGRST202".into()), "{media}");
        assert!(refused.json()["details"].as_str().unwrap().contains(" with a single unnamed "), "{refused:?}");
    }
}

#[tokio::test]
async fn functions_fail_in_their_own_ways() {
    let bench = Bench::new().await;
    for (target, status, code) in [
        ("/rpc/bad_pt", 500, "PT40A"),
        ("/rpc/bad_pgrst", 500, "PGRST121"),
        ("/rpc/bad_status", 500, "PGRST112"),
        ("/rpc/asserted", 500, "P0004"),
    ] {
        assert_eq!(bench.ask(Method::POST, target).send().await.error(), (status, code.to_owned()), "{target}");
    }
    let bad = bench.ask(Method::POST, "/rpc/bad_pgrst").send().await.json();
    assert_eq!(bad["details"], "Invalid JSON value for MESSAGE: 'INVALID'");
    assert_eq!(
        bad["hint"],
        "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: 'details', 'hint'."
    );
    let hidden = bench.get("/rpc/secret_out").await;
    assert_eq!((hidden.error(), hidden.header("www-authenticate")), ((401, "42501".into()), Some("Bearer")));
    let before = DATABASE.value("SELECT last_value FROM test.calls");
    let called = bench.ask(Method::POST, "/rpc/count_calls").prefer("count=exact").send().await;
    assert_eq!(called.json().to_string(), before, "a function is called once");
    assert_eq!(bench.get("/rpc/count_calls").await.error(), (405, "25006".into()));
}

#[tokio::test]
async fn roles_and_functions_bring_settings() {
    let bench = Bench::new().await;
    let as_hasty = |target: &'static str, body: &'static str| {
        let ask = bench.ask(Method::POST, target).role("hasty").body(body);
        async move { ask.send().await }
    };
    let setting = async |name: &'static str| as_hasty("/rpc/setting", name).await.json();
    assert_eq!(setting(r#"{"name":"work_mem"}"#).await, "5MB");
    assert_eq!(setting(r#"{"name":"statement_timeout"}"#).await, "60ms");
    assert_eq!(as_hasty("/rpc/plain_level", "").await.json(), "repeatable read");
    assert_eq!(as_hasty("/rpc/level", "").await.json(), "serializable", "the function's own counts more");
    assert_eq!(as_hasty("/rpc/nap", "").await.error(), (500, "57014".into()));
    assert_eq!(as_hasty("/rpc/long_nap", "").await.json(), "7s");
    assert_eq!(bench.get("/rpc/plain_level").await.json(), "read committed");
    assert_eq!(bench.get("/rpc/level").await.json(), "serializable");
    let plans = Bench::with(|config| config.plan_enabled = true).await;
    let plan = plans
        .ask(Method::POST, "/rpc/nap")
        .role("hasty")
        .accept("application/vnd.pgrst.plan+json; options=analyze")
        .send()
        .await;
    assert_eq!(plan.error(), (500, "57014".into()), "a plan is made with the same settings");
}

#[tokio::test]
async fn the_database_brings_configuration_and_tells_of_changes() {
    let database = DATABASE.server().database();
    database.execute(
        "CREATE SCHEMA test; CREATE SCHEMA second; CREATE TABLE test.makers (id int PRIMARY KEY);
         CREATE TABLE second.makers (id int PRIMARY KEY);
         INSERT INTO test.makers VALUES (1), (2); INSERT INTO second.makers VALUES (7);
         GRANT USAGE ON SCHEMA test, second TO anon; GRANT SELECT ON test.makers, second.makers TO anon",
    );
    let bench = Bench::on(&database, |config| config.schemas = vec!["test".into()]).await;
    let until = async |what: &str, target: &str, ready: fn(&Answer) -> bool| {
        for _ in 0..200 {
            let answer = bench.get(target).await;
            if ready(&answer) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("{what}: {:?}", bench.get(target).await);
    };
    assert_eq!(bench.get("/later").await.error(), (404, "PGRST205".into()));
    database.execute("CREATE TABLE test.later (id int PRIMARY KEY); GRANT SELECT ON test.later TO anon; NOTIFY pgrst, 'reload schema'");
    until("a new table", "/later", |answer| answer.status == 200).await;
    database.execute("ALTER TABLE test.later ADD COLUMN maker_id int REFERENCES test.makers; NOTIFY pgrst");
    until("a new relationship", "/later?select=id,makers(id)", |answer| answer.status == 200).await;
    let name = database.name();
    database.execute_as_superuser(&format!("ALTER ROLE authenticator IN DATABASE {name} SET pgrst.db_max_rows = '1'"));
    database.execute("NOTIFY pgrst, 'reload config'");
    until("a setting", "/makers?select=id", |answer| answer.json().as_array().is_some_and(|rows| rows.len() == 1))
        .await;
    database.execute_as_superuser(&format!(
        "ALTER ROLE authenticator IN DATABASE {name} SET pgrst.db_schemas = 'second, test'"
    ));
    database.execute("NOTIFY pgrst, 'reload config'");
    until("other schemas", "/makers?select=id", |answer| answer.json() == json!([{ "id": 7 }])).await;
    database.execute_as_superuser(&format!("ALTER ROLE authenticator IN DATABASE {name} RESET ALL"));
    database.execute("NOTIFY pgrst, 'reload config'");
    until("the file's settings", "/makers?select=id", |answer| answer.json() == json!([{ "id": 1 }, { "id": 2 }]))
        .await;
    database.execute("DROP TABLE test.later; NOTIFY pgrst, 'reload schema'");
    until("a table that is gone", "/later", |answer| answer.status == 404).await;
}
