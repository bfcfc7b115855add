//! Calls of functions.

use super::*;

#[tokio::test]
async fn arguments_come_in_three_ways() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("/rpc/add_them?a=3&b=4").await.body, "7");
    assert_eq!(bench.get("/rpc/add_them?a=1&a=3").await.body, "13", "the last of several counts");
    let post = |target: &str, body: &str| bench.ask(Method::POST, target).body(body);
    assert_eq!(post("/rpc/add_them", r#"{"a":3,"b":4}"#).send().await.body, "7");
    assert_eq!(post("/rpc/add_them", r#"[{"a":3,"b":4},{"a":5,"b":6}]"#).send().await.body, "7");
    assert_eq!(post("/rpc/add_them?columns=a", r#"{"a":3,"c":4}"#).send().await.body, "13");
    let form = post("/rpc/add_them", "a=3&b=4").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(form.send().await.body, "7");
    assert_eq!(bench.get("/rpc/greet?names=a&names=b").await.body, r#""a+b""#);
    assert_eq!(post("/rpc/greet", r#"{"names":["a","b"]}"#).send().await.body, r#""a+b""#);
    assert_eq!(post("/rpc/no_arguments", "").send().await.body, r#""hi""#);
    assert_eq!(post("/rpc/street", r#"{"at":{"street":"Main"}}"#).send().await.body, r#""Main-""#);
    assert_eq!(post("/rpc/whole", r#"{"x":[1]}"#).send().await.json(), json!({ "got": { "x": [1] } }));
    assert_eq!(post("/rpc/whole", "5").send().await.json(), json!({ "got": 5 }));
    let text = post("/rpc/whole_text", "a b").header("content-type", "text/plain").send().await;
    assert_eq!(text.body, r#""got a b""#);
    let bytes = bench
        .ask(Method::POST, "/rpc/whole_bytes")
        .body([1, 0xff])
        .header("content-type", "application/octet-stream")
        .accept("application/octet-stream")
        .send()
        .await;
    assert_eq!((bytes.body.as_str(), bytes.header("content-type")), ("[1, 255, 0]", Some("application/octet-stream")));
}

#[tokio::test]
async fn results_have_their_shapes() {
    let bench = Bench::new().await;
    let set = bench.ask(Method::GET, "/rpc/all_films?select=id,directors(name)&id=lt.3&order=id.desc&limit=1");
    let set = set.prefer("count=exact").send().await;
    assert_eq!((set.status, set.header("content-range")), (206, Some("0-0/2")));
    assert_eq!(set.json(), json!([{ "id": 2, "directors": { "name": "Ann" } }]));
    assert_eq!(set.header("content-location"), None);
    let void = bench.ask(Method::POST, "/rpc/nothing").send().await;
    assert_eq!((void.status, void.body.as_str(), void.header("content-type")), (204, "", None));
    assert_eq!(bench.get("/rpc/a_null").await.body, "null");
    assert_eq!(bench.get("/rpc/numbers?upto=3").await.json(), json!([1, 2, 3]));
    assert_eq!(bench.get("/rpc/best_film?select=id").await.json(), json!({ "id": 2 }));
    assert_eq!(bench.get("/rpc/with_out").await.json(), json!({ "p": 1, "q": "one" }));
    let scalar = bench.ask(Method::GET, "/rpc/add_them?a=1").prefer("count=exact").send().await;
    assert_eq!((scalar.status, scalar.header("content-range")), (200, Some("0-0/1")));
    let plain = bench.ask(Method::GET, "/rpc/no_arguments").accept("text/plain").send().await;
    assert_eq!((plain.body.as_str(), plain.header("content-type")), ("hi", Some("text/plain; charset=utf-8")));
    let xml = bench.ask(Method::GET, "/rpc/page").accept("text/xml").send().await;
    assert_eq!(xml.body, "<a/>");
    let head = bench.ask(Method::HEAD, "/rpc/all_films").prefer("count=exact").send().await;
    assert_eq!((head.status, head.body.as_str(), head.header("content-range")), (200, "", Some("0-3/4")));
    let refused = bench.ask(Method::GET, "/rpc/numbers?upto=1").accept("text/plain").send().await;
    assert_eq!(refused.error(), (406, "PGRST107".into()));
}

#[tokio::test]
async fn what_cannot_be_called() {
    let bench = Bench::new().await;
    for (target, status, code) in [
        ("/rpc/add_thm?a=1", 404, "PGRST202"),
        ("/rpc/add_them?x=1", 404, "PGRST202"),
        ("/rpc/write_by_get", 405, "25006"),
        ("/rpc/raise_pt", 402, "PT402"),
        ("/rpc/raise_all", 332, "123"),
        ("/rpc/plain_raise", 400, "P0001"),
        ("/rpc/bad_headers", 500, "PGRST111"),
        ("/rpc/slow", 500, "57014"),
    ] {
        assert_eq!(bench.get(target).await.error(), (status, code.to_owned()), "{target}");
    }
    let raised = bench.get("/rpc/raise_all").await;
    assert_eq!((raised.header("x-header"), raised.header("proxy-status")), (Some("str"), Some("PostgREST; error=123")));
    let delete = bench.ask(Method::DELETE, "/rpc/add_them").send().await;
    assert_eq!(delete.error(), (405, "PGRST101".into()));
    let query = bench.ask(Method::POST, "/rpc/add_them?a=1").body(r#"{"a":1}"#).send().await;
    assert_eq!(query.error(), (400, "PGRST100".into()), "arguments of a POST are in its body");
}

#[tokio::test]
async fn functions_hear_of_the_request_and_speak_in_the_response() {
    let bench = Bench::new().await;
    let setting = |name: &'static str| {
        let ask = bench
            .ask(Method::POST, "/rpc/setting")
            .body(format!(r#"{{"name":"{name}"}}"#))
            .header("x-a", "b")
            .header("cookie", "c=d");
        async move { ask.send().await.json().as_str().unwrap_or_default().to_owned() }
    };
    assert_eq!(setting("request.method").await, "POST");
    assert_eq!(setting("request.path").await, "/rpc/setting");
    assert_eq!(setting("app.settings.host").await, "localhost");
    assert_eq!(setting("search_path").await, r#""test", "public", "extensions""#);
    assert_eq!(serde_json::from_str::<Value>(&setting("request.headers").await).unwrap()["x-a"], "b");
    assert_eq!(setting("request.cookies").await, r#"{"c":"d"}"#);
    assert_eq!(serde_json::from_str::<Value>(&setting("request.jwt.claims").await).unwrap()["role"], "anon");
    let answer = bench.ask(Method::POST, "/rpc/custom").send().await;
    assert_eq!((answer.status, answer.header("cache-control")), (202, Some("no-cache")));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_function_may_stand_before_every_request() {
    let bench = Bench::with(|config| config.pre_request = "test.check_request".into()).await;
    assert_eq!(bench.get("/films?limit=1").await.status, 200);
    for ask in [
        bench.ask(Method::GET, "/films"),
        bench.ask(Method::POST, "/rpc/nothing"),
        bench.ask(Method::DELETE, "/films"),
        bench.ask(Method::DELETE, "/films").prefer("tx=commit"),
    ] {
        assert_eq!(ask.header("x-refuse", "1").send().await.error(), (400, "P0001".into()));
    }
}
