//! Reads.

use super::*;

#[tokio::test]
async fn a_read_says_what_it_has() {
    let bench = Bench::new().await;
    let answer = bench.get("/films?select=id,title&order=id&limit=2&offset=1").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), json!([{ "id": 2, "title": "Beta" }, { "id": 3, "title": "Gamma" }]));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("content-range"), Some("1-2/*"));
    assert_eq!(answer.header("content-location"), Some("/films?limit=2&offset=1&order=id&select=id%2Ctitle"));
    assert_eq!(answer.header("preference-applied"), None);
    assert_eq!(bench.get("/films").await.header("content-location"), Some("/films"));
    let head = bench.ask(Method::HEAD, "/films?limit=2&offset=3").prefer("count=exact").send().await;
    assert_eq!((head.status, head.body.as_str(), head.header("content-range")), (206, "", Some("3-3/4")));
    assert_eq!(head.header("content-type"), Some("application/json; charset=utf-8"));
}

#[tokio::test]
async fn counts_decide_the_status() {
    let bench = Bench::new().await;
    let counted = |target: &'static str, count: &'static str| {
        let ask = bench.ask(Method::GET, target).prefer(count);
        async move {
            let answer = ask.send().await;
            (answer.status, answer.header("content-range").unwrap().to_owned(), answer.body.clone())
        }
    };
    let (status, range, _) = counted("/films?id=gt.1", "count=exact").await;
    assert_eq!((status, range.as_str()), (200, "0-2/3"));
    let (status, range, _) = counted("/films?limit=1", "count=exact").await;
    assert_eq!((status, range.as_str()), (206, "0-0/4"));
    let (status, range, _) = counted("/films?id=gt.100", "count=exact").await;
    assert_eq!((status, range.as_str()), (200, "*/0"));
    let (status, range, body) = counted("/films?offset=100", "count=exact").await;
    assert_eq!((status, range.as_str()), (416, "*/4"));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["details"], "An offset of 100 was requested, but there are only 4 rows.");
    let (status, range, _) = counted("/films?limit=2", "count=planned").await;
    assert_eq!((status, range.as_str()), (206, "0-1/4"));
    let (status, range, _) = counted("/films?limit=2", "count=estimated").await;
    assert_eq!((status, range.as_str()), (206, "0-1/4"));
    let small = Bench::with(|config| config.max_rows = 2).await;
    let answer = small.ask(Method::GET, "/films").prefer("count=estimated").send().await;
    assert_eq!((answer.status, answer.header("content-range")), (206, Some("0-1/4")));
    assert_eq!(answer.header("preference-applied"), Some("count=estimated"));
}

#[tokio::test]
async fn ranges_are_headers_of_get_alone() {
    let bench = Bench::new().await;
    let answer = bench.ask(Method::GET, "/films?order=id&limit=3").header("range", "1-1").send().await;
    assert_eq!((answer.status, answer.header("content-range")), (200, Some("1-1/*")));
    let head = bench.ask(Method::HEAD, "/films?limit=3").header("range", "1-1").send().await;
    assert_eq!(head.header("content-range"), Some("0-2/*"));
    let wrong = bench.ask(Method::GET, "/films").header("range", "1-0").send().await;
    assert_eq!(wrong.error(), (416, "PGRST103".into()));
    assert_eq!(bench.get("/films?limit=-1").await.error(), (416, "PGRST103".into()));
    let none = bench.get("/films?limit=0").await;
    assert_eq!((none.status, none.body.as_str(), none.header("content-range")), (200, "[]", Some("*/*")));
}

#[tokio::test]
async fn one_row_or_an_error() {
    let bench = Bench::new().await;
    let one = |target: &'static str| bench.ask(Method::GET, target).accept("application/vnd.pgrst.object+json");
    let answer = one("/films?id=eq.1&select=id").send().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"id":1}"#));
    assert_eq!(answer.header("content-type"), Some("application/vnd.pgrst.object+json; charset=utf-8"));
    let none = one("/films?id=eq.100").send().await;
    assert_eq!(none.error(), (406, "PGRST116".into()));
    assert_eq!(none.json()["details"], "The result contains 0 rows");
    assert_eq!(one("/films").send().await.json()["details"], "The result contains 4 rows");
}

#[tokio::test]
async fn other_forms() {
    let bench = Bench::new().await;
    let csv = bench.ask(Method::GET, "/films?select=id,title&id=lt.3&order=id").accept("text/csv").send().await;
    assert_eq!(
        (csv.body.as_str(), csv.header("content-type")),
        ("id,title\n1,Alpha\n2,Beta", Some("text/csv; charset=utf-8"))
    );
    let stripped = "application/vnd.pgrst.array+json;nulls=stripped";
    let answer = bench.ask(Method::GET, "/films?id=eq.3&select=id,rating").accept(stripped).send().await;
    assert_eq!(answer.json(), json!([{ "id": 3 }]));
    assert_eq!(answer.header("content-type"), Some("application/vnd.pgrst.array+json;nulls=stripped; charset=utf-8"));
    let refused = bench.ask(Method::GET, "/films").accept("text/plain, image/png").send().await;
    assert_eq!(refused.error(), (406, "PGRST107".into()));
    assert_eq!(refused.json()["message"], "None of these media types are available: text/plain, image/png");
    let plan = "application/vnd.pgrst.plan+json; options=verbose";
    assert_eq!(bench.ask(Method::GET, "/films").accept(plan).send().await.error(), (406, "PGRST107".into()));
    let open = Bench::with(|config| config.plan_enabled = true).await;
    let shown = open.ask(Method::GET, "/films").accept(plan).send().await;
    assert_eq!(shown.status, 200);
    assert!(shown.json()[0]["Plan"]["Output"].is_array(), "{shown:?}");
    let text = open.ask(Method::GET, "/films").accept("application/vnd.pgrst.plan").send().await;
    assert!(text.body.contains("(cost=") && text.body.lines().count() > 1, "{text:?}");
}

#[tokio::test]
async fn failures_of_queries() {
    let bench = Bench::new().await;
    for (target, status, code) in [
        ("/films?id=0", 400, "PGRST100"),
        ("/films?nothing.id=eq.1", 400, "PGRST108"),
        ("/films?select=id,nobody(id)", 400, "PGRST200"),
        ("/films?unknown=eq.1", 400, "42703"),
        ("/films?id=eq.x", 400, "22P02"),
        ("/directors?select=*,films(*)&order=films(id)", 400, "PGRST118"),
        ("/film", 404, "PGRST205"),
        ("/a/b", 404, "PGRST125"),
        ("/films/", 404, "PGRST125"),
    ] {
        assert_eq!(bench.get(target).await.error(), (status, code.to_owned()), "{target}");
    }
    let answer = bench.get("/film").await;
    assert_eq!(answer.json()["hint"], "Perhaps you meant the table 'test.films'");
    assert_eq!(answer.header("proxy-status"), Some("PostgREST; error=PGRST205"));
    let plain = Bench::with(|config| config.aggregates_enabled = false).await;
    assert_eq!(plain.get("/films?select=id.max()").await.error(), (400, "PGRST123".into()));
    let strange = bench.ask(Method::from_bytes(b"BREW").unwrap(), "/films").send().await;
    assert_eq!(strange.error(), (405, "PGRST117".into()));
}

#[tokio::test]
async fn embeds_and_their_names() {
    let bench = Bench::new().await;
    let answer = bench.get("/films?select=id,d:directors(name)&id=eq.1&directors.name=eq.Ann").await;
    assert_eq!(answer.json(), json!([{ "id": 1, "d": { "name": "Ann" } }]));
    assert!(answer.header("warning").unwrap().contains("Update `directors` to `d`"), "{answer:?}");
    let strict = Bench::with(|config| config.legacy_target_names = false).await;
    assert_eq!(
        strict.get("/films?select=id,d:directors(name)&directors.name=eq.Ann").await.error(),
        (400, "PGRST108".into())
    );
    let nobody = bench.get("/films?select=id,roles()&roles=is.null&order=id").await;
    assert_eq!(nobody.json(), json!([{ "id": 4 }]));
}

#[tokio::test]
async fn several_schemas() {
    let bench = Bench::with(|config| config.schemas = vec!["test".into(), "second".into()]).await;
    let answer = bench.get("/films?select=id&limit=1").await;
    assert_eq!(answer.header("content-profile"), Some("test"));
    let second = bench.ask(Method::GET, "/films").header("accept-profile", "second").send().await;
    assert_eq!((second.body.as_str(), second.header("content-profile")), (r#"[{"id":7}]"#, Some("second")));
    let wrong = bench.ask(Method::GET, "/films").header("accept-profile", "private").send().await;
    assert_eq!(wrong.error(), (406, "PGRST106".into()));
}

#[tokio::test]
async fn the_address_says_which_methods_it_takes() {
    let bench = Bench::new().await;
    let allowed = |target: &'static str| {
        let ask = bench.ask(Method::OPTIONS, target);
        async move { ask.send().await.header("allow").map(str::to_owned) }
    };
    assert_eq!(allowed("/films").await.as_deref(), Some("OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"));
    assert_eq!(allowed("/plain").await.as_deref(), Some("OPTIONS,GET,HEAD,POST,PATCH,DELETE"));
    assert_eq!(allowed("/").await.as_deref(), Some("OPTIONS,GET,HEAD"));
    assert_eq!(allowed("/rpc/all_films").await.as_deref(), Some("OPTIONS,GET,HEAD,POST"));
    assert_eq!(allowed("/rpc/delete_plain").await.as_deref(), Some("OPTIONS,POST"));
    assert_eq!(bench.ask(Method::OPTIONS, "/unknown").send().await.status, 404);
    assert_eq!(bench.ask(Method::OPTIONS, "/rpc/unknown").send().await.error(), (404, "PGRST202".into()));
}

#[tokio::test]
async fn preferences_are_met_or_refused() {
    let bench = Bench::new().await;
    let strict = bench.ask(Method::GET, "/films").prefer("handling=strict").prefer("something, else").send().await;
    assert_eq!(strict.error(), (400, "PGRST122".into()));
    assert_eq!(strict.json()["details"], "Invalid preferences: something, else");
    let lenient = bench.ask(Method::GET, "/films").prefer("handling=lenient, anything").send().await;
    assert_eq!((lenient.status, lenient.header("preference-applied")), (200, Some("handling=lenient")));
    let zone = |zone: &'static str| {
        let ask = bench.ask(Method::GET, "/films?select=added&id=eq.1").prefer(zone);
        async move { ask.send().await }
    };
    let answer = zone("timezone=America/Los_Angeles").await;
    assert_eq!(answer.json()[0]["added"], "2019-12-31T16:00:00-08:00");
    assert_eq!(answer.header("preference-applied"), Some("timezone=America/Los_Angeles"));
    let wrong = zone("timezone=Invalid/Timezone").await;
    assert_eq!(wrong.error(), (400, "22023".into()));
}

#[tokio::test]
async fn timing_is_told_when_it_is_wanted() {
    let bench = Bench::with(|config| config.server_timing = true).await;
    let answer = bench.get("/films").await;
    let header = answer.header("server-timing").unwrap();
    for part in ["jwt", "parse", "plan", "transaction", "response"] {
        assert!(header.contains(&format!("{part};dur=")), "{header}");
    }
    assert_eq!(Bench::new().await.get("/films").await.header("server-timing"), None);
}
