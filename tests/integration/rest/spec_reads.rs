//! Reads that PostgREST's specification describes and the other tests do not: aggregates, spreads, related orders, views,
//! counts and pages, execution plans, schemas.

use super::*;

/// Reads each address and compares the rows.
async fn rows(bench: &Bench, cases: &[(&str, Value)]) {
    for (target, wanted) in cases {
        let answer = bench.get(target).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert_eq!(answer.json(), *wanted, "{target}");
    }
}

#[tokio::test]
async fn aggregates() {
    let bench = Bench::new().await;
    rows(
        &bench,
        &[
            ("/parts?select=count()", json!([{ "count": 4 }])),
            ("/parts?select=n:count()", json!([{ "n": 4 }])),
            ("/parts?select=count()::text", json!([{ "count": "4" }])),
            ("/parts?select=count", json!([{ "count": 4 }])),
            (
                "/makers?select=name,parts(count)&order=id&limit=1",
                json!([{ "name": "Acme", "parts": [{ "count": 2 }] }]),
            ),
            (
                "/costs?select=cost.sum(),cost.min(),cost.max(),cost.count()",
                json!([{ "sum": 530.0, "min": 150.0, "max": 200.0, "count": 3 }]),
            ),
            (
                "/parts?select=kind_id,n:count()&order=kind_id",
                json!([{ "kind_id": 1, "n": 2 }, { "kind_id": 2, "n": 2 }]),
            ),
            ("/parts?select=kind:kind_id,n:count()&order=kind_id.desc&limit=1", json!([{ "kind": 2, "n": 2 }])),
            ("/costs?select=total:cost.sum()::text", json!([{ "total": "530.00" }])),
            ("/parts?select=s:detail->>n::integer.sum()::text", json!([{ "s": "12" }])),
            ("/parts?select=detail->>n::integer.sum()", json!([{ "sum": 12 }])),
            ("/rpc/all_films?select=id.max()", json!([{ "max": 4 }])),
            (
                "/parts?select=maker_id,n:count(),makers(name)&order=maker_id",
                json!([
                    { "maker_id": 1, "n": 2, "makers": { "name": "Acme" } },
                    { "maker_id": 2, "n": 1, "makers": { "name": "Bolt" } },
                    { "maker_id": null, "n": 1, "makers": null }
                ]),
            ),
            (
                "/makers?select=name,parts(id.max(),id.count())&order=id",
                json!([
                    { "name": "Acme", "parts": [{ "max": 2, "count": 2 }] },
                    { "name": "Bolt", "parts": [{ "max": 3, "count": 1 }] },
                    { "name": "Coil", "parts": [{ "max": null, "count": 0 }] }
                ]),
            ),
            (
                "/parts?select=...costs(cost.sum()),...kinds(label)&order=kinds(label)",
                json!([{ "sum": 330.0, "label": "batch" }, { "sum": 200.0, "label": "mass" }]),
            ),
            (
                "/checks?select=...parts(maker_id,...costs(total:cost.sum()))&order=parts(maker_id)",
                json!([{ "maker_id": 1, "total": 350.0 }, { "maker_id": 2, "total": 360.0 }]),
            ),
            (
                "/checks?select=checker_id,...parts(makers(name),...costs(cost.sum()))&order=checker_id",
                json!([
                    { "checker_id": 1, "makers": { "name": "Acme" }, "sum": 150.0 },
                    { "checker_id": 1, "makers": { "name": "Bolt" }, "sum": 180.0 },
                    { "checker_id": 2, "makers": { "name": "Acme" }, "sum": 200.0 },
                    { "checker_id": 2, "makers": { "name": "Bolt" }, "sum": 180.0 }
                ]),
            ),
            ("/parts?select=...costs(count())", json!([{ "count": 3 }])),
            ("/parts?select=...costs(cost.sum())", json!([{ "sum": 530.0 }])),
        ],
    )
    .await;
    let many = bench.get("/makers?select=name,...parts(id.max())").await;
    assert_eq!(many.error(), (400, "PGRST127".into()));
    let counted = bench.ask(Method::GET, "/parts?select=kind_id,count()&limit=1").prefer("count=exact").send().await;
    assert_eq!((counted.status, counted.header("content-range")), (206, Some("0-0/2")));
    let off = Bench::with(|config| config.aggregates_enabled = false).await;
    for target in ["/parts?select=count()", "/makers?select=parts(id.max())", "/parts?select=...costs(cost.sum())"] {
        assert_eq!(off.get(target).await.error(), (400, "PGRST123".into()), "{target}");
    }
    // Written without parentheses it has always been there, and clients count what they embed by it.
    rows(&off, &[("/makers?select=parts(count)&id=eq.1", json!([{ "parts": [{ "count": 2 }] }]))]).await;
}

#[tokio::test]
async fn spreads_of_many() {
    let bench = Bench::new().await;
    rows(
        &bench,
        &[
            (
                "/makers?select=name,...parts(part:name,kind_id)&order=id",
                json!([
                    { "name": "Acme", "part": ["a1", "a2"], "kind_id": [1, 2] },
                    { "name": "Bolt", "part": ["b1"], "kind_id": [1] },
                    { "name": "Coil", "part": [], "kind_id": [] }
                ]),
            ),
            ("/makers?select=...parts(part:name)&id=eq.1&parts.order=name.desc", json!([{ "part": ["a2", "a1"] }])),
            (
                "/parts?select=id,...checkers(who:name)&id=eq.3&checkers.order=name",
                json!([{ "id": 3, "who": ["John", "Mary"] }]),
            ),
            (
                "/makers?select=name,...parts(part:name,...kinds(label))&id=eq.1&parts.order=id",
                json!([{ "name": "Acme", "part": ["a1", "a2"], "label": ["batch", "mass"] }]),
            ),
            (
                "/makers?select=...parts(part:name,costs(cost))&id=eq.2",
                json!([{ "part": ["b1"], "costs": [{ "cost": 180.0 }] }]),
            ),
            (
                "/parts?select=id,maker:makers(name,...parts(sibling:name))&id=eq.3",
                json!([{ "id": 3, "maker": { "name": "Bolt", "sibling": ["b1"] } }]),
            ),
            ("/makers?select=name,...parts(part:name)&parts=is.null", json!([{ "name": "Coil", "part": [] }])),
            (
                "/makers?select=name,...parts!inner(part:name)&parts.kind_id=eq.2",
                json!([{ "name": "Acme", "part": ["a2"] }]),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn related_orders_and_null_filters() {
    let bench = Bench::new().await;
    rows(
        &bench,
        &[
            (
                "/parts?select=id,makers(name)&order=makers(name).desc.nullslast,id.desc",
                json!([
                    { "id": 3, "makers": { "name": "Bolt" } },
                    { "id": 2, "makers": { "name": "Acme" } },
                    { "id": 1, "makers": { "name": "Acme" } },
                    { "id": 4, "makers": null }
                ]),
            ),
            ("/parts?select=id,m:makers()&order=m(name).asc,id&limit=2", json!([{ "id": 1 }, { "id": 2 }])),
            ("/costs?select=part_id,parts()&order=parts(detail->n).desc.nullslast", json!([{ "part_id": 2 }, { "part_id": 1 }, { "part_id": 3 }])),
            ("/makers?select=id,parts(id,kinds())&parts.order=kinds(label).desc,id&id=eq.1", json!([{ "id": 1, "parts": [{ "id": 2 }, { "id": 1 }] }])),
            ("/parts?select=id,makers(),checks()&or=(makers.is.null,checks.not.is.null)&order=id", json!([{ "id": 1 }, { "id": 2 }, { "id": 3 }, { "id": 4 }])),
            ("/parts?select=id,makers(),checks()&and=(makers.not.is.null,checks.not.is.null)&order=id&checks.checker_id=eq.1", json!([{ "id": 1 }, { "id": 3 }])),
            ("/makers?select=name,parts(id,checks())&parts.checks=not.is.null&parts=not.is.null&order=id", json!([
                { "name": "Acme", "parts": [{ "id": 1 }, { "id": 2 }] }, { "name": "Bolt", "parts": [{ "id": 3 }] }
            ])),
            ("/parts?select=id,maker:maker_id(name)&maker_id=eq.2", json!([{ "id": 3, "maker": { "name": "Bolt" } }])),
            ("/parts?select=id,maker_id(name)&maker_id=eq.2", json!([{ "id": 3, "maker_id": { "name": "Bolt" } }])),
        ],
    )
    .await;
    let counted = bench.ask(Method::GET, "/parts?select=id,makers()&makers=is.null").prefer("count=exact").send().await;
    assert_eq!((counted.status, counted.header("content-range")), (200, Some("0-0/1")));
    let answer = bench.get("/makers?select=id,pros:parts(id)&order=pros(id)").await;
    assert_eq!(
        answer.json(),
        json!({
            "code": "PGRST118", "hint": null, "message": "A related order on 'pros' is not possible",
            "details": "'makers' and 'pros' do not form a many-to-one or one-to-one relationship"
        })
    );
    let answer = bench.get("/parts?select=id,makers(name)&order=makersx(name)").await;
    assert_eq!(answer.error(), (400, "PGRST108".into()));
    for target in ["/parts?select=id,makers(id),makers(name)", "/makers?select=id,parts(id,kinds(id),kinds:makers(id))"]
    {
        let twice = bench.get(target).await;
        assert_eq!(twice.error(), (400, "42712".into()), "{target}");
    }
    let message = bench.get("/parts?select=id,makers(id),makers(name)").await.json()["message"].clone();
    assert_eq!(message, "table name \"parts_makers_1\" specified more than once");
}

#[tokio::test]
async fn views_are_related_as_their_tables_are() {
    let bench = Bench::new().await;
    rows(
        &bench,
        &[
            (
                "/parts_view?select=p_id,makers(name),checkers(name)&p_id=eq.1",
                json!([{ "p_id": 1, "makers": { "name": "Acme" }, "checkers": [{ "name": "Mary" }] }]),
            ),
            (
                "/parts_view_view?select=p_id,makers(name),costs(cost)&p_id=eq.2",
                json!([{ "p_id": 2, "makers": { "name": "Acme" }, "costs": { "cost": 200.0 } }]),
            ),
            (
                "/makers?select=id,parts_view(p_id)&id=eq.1",
                json!([{ "id": 1, "parts_view": [{ "p_id": 1 }, { "p_id": 2 }] }]),
            ),
            ("/parts_kept?select=id,makers(name)&id=eq.3", json!([{ "id": 3, "makers": { "name": "Bolt" } }])),
            ("/parts_of_makers?select=n,makers(name)&maker_id=eq.1", json!([{ "n": 2, "makers": { "name": "Acme" } }])),
            ("/films?select=id,peers(id)&id=eq.1", json!([{ "id": 1, "peers": [{ "id": 2 }] }])),
            ("/films?select=id,boss(name)&id=eq.1", json!([{ "id": 1, "boss": { "name": "Ann" } }])),
            ("/films?select=id,boss!inner(name)&boss.name=eq.Bob", json!([{ "id": 3, "boss": { "name": "Bob" } }])),
            ("/films?select=id,...boss(who:name)&id=eq.1", json!([{ "id": 1, "who": "Ann" }])),
            (
                "/films?select=id,peers(id,directors(name))&id=eq.1",
                json!([{ "id": 1, "peers": [{ "id": 2, "directors": { "name": "Ann" } }] }]),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn pages_and_counts() {
    let small = Bench::with(|config| config.max_rows = 2).await;
    let ask = |method: Method, target: &str| small.ask(method, target);
    let all = ask(Method::GET, "/parts?order=id").prefer("count=exact").send().await;
    assert_eq!((all.status, all.header("content-range")), (206, Some("0-1/4")));
    assert_eq!(ask(Method::GET, "/parts?limit=3").send().await.header("content-range"), Some("0-1/*"));
    assert_eq!(
        small.get("/parts?select=id,checks(part_id)&id=eq.3").await.json()[0]["checks"].as_array().unwrap().len(),
        2
    );
    let embedded = small.get("/kinds?select=id,parts(id)&id=eq.1").await;
    assert_eq!(embedded.json()[0]["parts"].as_array().unwrap().len(), 2);
    assert_eq!(small.get("/rpc/numbers?upto=5").await.json(), json!([1, 2]));
    let written =
        ask(Method::PATCH, "/parts?select=id").body(r#"{"name":"n"}"#).prefer("return=representation").send().await;
    assert_eq!(written.json().as_array().unwrap().len(), 4, "a write returns all that it did");
    let bench = Bench::new().await;
    let counted = |target: &'static str, range: &'static str| {
        let ask =
            bench.ask(Method::GET, target).header("range-unit", "items").header("range", range).prefer("count=exact");
        async move {
            let answer = ask.send().await;
            (answer.status, answer.header("content-range").unwrap_or_default().to_owned())
        }
    };
    assert_eq!(counted("/parts", "0-1").await, (206, "0-1/4".into()));
    assert_eq!(counted("/parts", "0-").await, (200, "0-3/4".into()));
    assert_eq!(counted("/parts", "2-100").await, (206, "2-3/4".into()));
    assert_eq!(counted("/parts", "3-3").await, (206, "3-3/4".into()));
    assert_eq!(counted("/parts?id=eq.99", "0-1").await, (200, "*/0".into()));
    assert_eq!(counted("/parts?id=eq.99", "1-2").await, (416, "*/0".into()));
    assert_eq!(counted("/parts", "100-199").await, (416, "*/4".into()));
    assert_eq!(counted("/rpc/numbers?upto=3", "1-1").await, (206, "1-1/3".into()));
    let posted =
        bench.ask(Method::POST, "/rpc/numbers").body(r#"{"upto":3}"#).header("range", "1-1").prefer("count=exact");
    assert_eq!(posted.send().await.header("content-range"), Some("0-2/3"), "a range is for GET");
    for (target, count) in [("/parts?select=id&offset=-4", 4), ("/parts?select=id&offset=0", 4), ("/parts?limit=0", 0)]
    {
        assert_eq!(bench.get(target).await.json().as_array().unwrap().len(), count, "{target}");
    }
    let planned = bench.ask(Method::HEAD, "/parts?limit=2&offset=1").prefer("count=planned").send().await;
    assert_eq!((planned.status, planned.header("content-range")), (206, Some("1-2/4")));
    let inner = bench
        .ask(Method::HEAD, "/makers?select=id,parts!inner(id)&parts.kind_id=eq.1")
        .prefer("count=exact")
        .send()
        .await;
    assert_eq!((inner.status, inner.header("content-range")), (200, Some("0-1/2")));
    let none = bench.ask(Method::GET, "/parts").prefer("count=none").send().await;
    assert_eq!((none.header("content-range"), none.header("preference-applied")), (Some("0-3/*"), None));
}

#[tokio::test]
async fn execution_plans() {
    let bench = Bench::with(|config| config.plan_enabled = true).await;
    let json_plan = "application/vnd.pgrst.plan+json";
    let get = bench
        .ask(Method::GET, "/parts?id=in.(1,2)")
        .accept(&format!("{json_plan}; for=\"application/json\"; options=;"));
    let answer = get.send().await;
    assert!(answer.json()[0]["Plan"]["Total Cost"].as_f64().unwrap() > 0.0);
    assert_eq!(
        answer.header("content-type"),
        Some("application/vnd.pgrst.plan+json; for=\"application/json\"; charset=utf-8")
    );
    for (method, target, body) in [
        (Method::POST, "/makers", r#"{"id":50,"name":"x"}"#),
        (Method::PATCH, "/makers?id=eq.1", r#"{"name":"x"}"#),
        (Method::PUT, "/makers?id=eq.1", r#"{"id":1,"name":"x"}"#),
        (Method::DELETE, "/checks?part_id=eq.1", ""),
        (Method::POST, "/rpc/add_them", r#"{"a":1}"#),
    ] {
        let answer = bench.ask(method, target).body(body).accept(json_plan).send().await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert!(answer.json()[0]["Plan"]["Node Type"].is_string(), "{target}");
    }
    let options = "application/vnd.pgrst.plan+json; options=analyze|buffers|wal|settings|verbose";
    let answer = bench.ask(Method::GET, "/rpc/all_films?id=in.(1,2)").accept(options).send().await;
    assert!(answer.json()[0]["Settings"]["search_path"].as_str().unwrap().contains("test"), "{answer:?}");
    assert!(answer.json()[0]["Plan"]["Actual Rows"].is_number());
    let text =
        bench.ask(Method::GET, "/parts").accept("application/vnd.pgrst.plan+text; for=\"text/csv\"").send().await;
    assert!(text.body.starts_with("Aggregate"), "{text:?}");
    assert_eq!(text.header("content-type"), Some("application/vnd.pgrst.plan+text; for=\"text/csv\"; charset=utf-8"));
    // The settings of a plan are those of the statement: a serializable transaction shows itself in what is run.
    let analyzed =
        bench.ask(Method::GET, "/rpc/level").accept("application/vnd.pgrst.plan+json; options=analyze").send().await;
    assert_eq!(analyzed.status, 200, "{analyzed:?}");
}

#[tokio::test]
async fn each_schema_is_a_world_of_its_own() {
    let bench = Bench::with(|config| config.schemas = vec!["test".into(), "second".into()]).await;
    let post = bench
        .ask(Method::POST, "/children")
        .header("content-profile", "second")
        .body(r#"{"id":1,"name":"n","film_id":7}"#);
    let post = post.prefer("return=representation").header("accept-profile", "test").send().await;
    assert_eq!((post.status, post.header("content-profile")), (201, Some("second")), "{post:?}");
    assert_eq!(post.json(), json!([{ "id": 1, "name": "n", "film_id": 7 }]));
    assert_eq!(bench.ask(Method::POST, "/children").body("{}").send().await.error(), (404, "PGRST205".into()));
    let patch = bench
        .ask(Method::PATCH, "/children?id=eq.1")
        .header("content-profile", "second")
        .body(r#"{"name":"m"}"#)
        .send()
        .await;
    assert_eq!(patch.status, 204);
    let embed = bench.ask(Method::GET, "/children?select=id,films(id)").header("accept-profile", "second").send().await;
    assert_eq!(embed.status, 200, "{embed:?}");
    let call = bench.ask(Method::GET, "/rpc/whereabouts").header("accept-profile", "second").send().await;
    assert_eq!(call.json(), r#""second", "public", "extensions""#);
    let call = bench.ask(Method::POST, "/rpc/whereabouts").header("content-profile", "second").send().await;
    assert_eq!(call.status, 200);
    for ask in [
        bench.ask(Method::GET, "/films").header("accept-profile", "unknown"),
        bench.ask(Method::POST, "/films").header("content-profile", "unknown").body("{}"),
        bench.ask(Method::GET, "/").header("accept-profile", "unknown"),
        bench.ask(Method::GET, "/rpc/whereabouts").header("accept-profile", "unknown"),
    ] {
        let answer = ask.send().await;
        assert_eq!(answer.error(), (406, "PGRST106".into()));
        assert_eq!(answer.json()["message"], "Invalid schema: unknown");
        assert_eq!(answer.json()["hint"], "Only the following schemas are exposed: test, second");
    }
}
#[tokio::test]
async fn json_paths_and_trees() {
    let bench = Bench::new().await;
    rows(
        &bench,
        &[
            ("/films?select=info->k->>s,n:info->k->n&id=eq.1", json!([{ "s": "x", "n": 1 }])),
            ("/films?select=last:info->l->>-1::int,info->l->0&id=eq.1", json!([{ "last": 20, "l": 10 }])),
            ("/films?select=id&info->k->>n=eq.2", json!([{ "id": 2 }])),
            ("/films?select=id&info->k=eq.{\"n\":2,\"s\":\"y\"}", json!([{ "id": 2 }])),
            ("/films?select=id&info->l->>1=eq.20", json!([{ "id": 1 }])),
            ("/films?select=id&tags->>0=eq.b", json!([{ "id": 2 }])),
            ("/films?select=street:home->street,home->>number&id=eq.1", json!([{ "street": "Main", "number": "5" }])),
            ("/films?select=id&order=home->number.desc.nullslast&limit=1", json!([{ "id": 1 }])),
            ("/films?select=raw->>z&id=eq.1", json!([{ "z": "1" }])),
            (
                "/films?select=id&or=(info->k->>s.eq.y,title.eq.\"Del\\\"ta, \\\\x\")&order=id",
                json!([{ "id": 2 }, { "id": 4 }]),
            ),
            (
                "/films?select=id&and=( or ( id.in.( 1, 2 ) , id.eq.3 ) , not.and(id.eq.1,title.like.A*) )&order=id",
                json!([{ "id": 2 }, { "id": 3 }]),
            ),
            ("/films?select=id&not.or=(id.eq.1,id.eq.2)&not.and=(id.eq.3,title.eq.Gamma)", json!([{ "id": 4 }])),
            ("/films?select=id&tags=cs.{\"c,d\"}", json!([{ "id": 2 }])),
            ("/films?select=id&id=in.()", json!([])),
            ("/films?select=id&id=not.in.()&limit=1&order=id", json!([{ "id": 1 }])),
            ("/films?select=id&title=in.(\"Del\\\"ta, \\\\x\",Beta)&order=id", json!([{ "id": 2 }, { "id": 4 }])),
            ("/films?select=id&title=fts.beta", json!([{ "id": 2 }])),
            ("/films?select=id&search=wfts(english).run", json!([{ "id": 1 }])),
            ("/films?select=id&words=fts(english).cats", json!([{ "id": 1 }])),
            ("/films?select=id&year=isdistinct.1990&order=id", json!([{ "id": 2 }, { "id": 3 }, { "id": 4 }])),
            ("/films?select=id&rating=gte(any).{7.5,8}&order=id", json!([{ "id": 1 }, { "id": 2 }])),
            ("/films?select=id&title=ilike(all).{*a,b*}", json!([{ "id": 2 }])),
            ("/films?select=id&deleted=is.not_null&order=id", json!([{ "id": 1 }, { "id": 2 }])),
            ("/films?select=id&during=adj.[9,20)&order=id", json!([{ "id": 2 }, { "id": 4 }])),
            ("/od d?select=\"we ird\\\"c\",\"od d\"&\"od d\"=eq.q", json!([{ "we ird\"c": 1, "od d": "q" }])),
            (
                "/makers?select=id,parts(id)&parts.or=(id.eq.1,name.eq.b1)&order=id",
                json!([
                    { "id": 1, "parts": [{ "id": 1 }] }, { "id": 2, "parts": [{ "id": 3 }] }, { "id": 3, "parts": [] }
                ]),
            ),
            (
                "/makers?select=id,p:parts(id,c:checkers(name))&p.c.not.or=(name.eq.Mary)&id=eq.2",
                json!([
                    { "id": 2, "p": [{ "id": 3, "c": [{ "name": "John" }] }] }
                ]),
            ),
            (
                "/makers?select=id,a:parts(id),b:parts(id)&a.kind_id=eq.1&b.kind_id=eq.2&id=eq.1",
                json!([
                    { "id": 1, "a": [{ "id": 1 }], "b": [{ "id": 2 }] }
                ]),
            ),
            (
                "/makers?select=id,parts(id)&parts.limit=1&parts.offset=1&parts.order=id.desc&id=eq.1",
                json!([{ "id": 1, "parts": [{ "id": 1 }] }]),
            ),
        ],
    )
    .await;
    for (target, code) in [
        ("/films?or=()", "PGRST100"),
        ("/films?id=in.( ,3)", "22P02"),
        ("/films?select=info->>k->n", "42883"),
        ("/films?select=info->k->>s::int&id=eq.1", "22P02"),
        ("/films?select=id::nothing", "42704"),
        ("/films?order=id.ac", "PGRST100"),
    ] {
        let answer = bench.get(target).await;
        assert_eq!(answer.json()["code"], code, "{target}: {answer:?}");
    }
}

#[tokio::test]
async fn accepted_types_are_weighed() {
    let bench = Bench::new().await;
    for (accept, wanted) in [
        ("*/*", "application/json; charset=utf-8"),
        ("text/unknowntype, */*", "application/json; charset=utf-8"),
        ("text/csv, application/json", "text/csv; charset=utf-8"),
        ("text/csv;q=0.4, application/json;q=0.9", "application/json; charset=utf-8"),
        ("text/csv; version=1", "text/csv; charset=utf-8"),
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/png,*/*;q=0.8",
            "application/json; charset=utf-8",
        ),
        ("application/vnd.pgrst.array", "application/json; charset=utf-8"),
        (
            "application/vnd.pgrst.array+json;nulls=stripped",
            "application/vnd.pgrst.array+json;nulls=stripped; charset=utf-8",
        ),
    ] {
        let answer = bench.ask(Method::GET, "/makers?id=eq.1").accept(accept).send().await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(wanted)), "{accept}");
    }
    for accept in [
        "text/unknowntype",
        "application/vnd.pgrst.object+json;nulls=kept",
        "application/geo+json",
        "application/vnd.pgrst.plan",
    ] {
        for ask in [
            bench.ask(Method::GET, "/makers"),
            bench.ask(Method::DELETE, "/makers?id=eq.99"),
            bench.ask(Method::POST, "/makers").body(r#"{"id":99}"#),
            bench.ask(Method::GET, "/rpc/add_them?a=1"),
        ] {
            let answer = ask.accept(accept).send().await;
            assert_eq!(answer.error(), (406, "PGRST107".into()), "{accept}");
        }
    }
    let sorted = bench.get("/plain?b=eq.x&a=eq.1").await;
    assert_eq!(sorted.header("content-location"), Some("/plain?a=eq.1&b=eq.x"));
}
