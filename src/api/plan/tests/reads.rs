//! Columns, conditions, order, pages, counts, aggregates and media types of reads.

use serde_json::json;

use super::{Bench, Count, Error, Failure, JSON, OBJECT, Output};

#[tokio::test]
async fn columns_casts_paths_and_computed_fields() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("plain", "order=a").await, json!([{"a":1,"b":"x"},{"a":2,"b":"y"},{"a":3,"b":null}]));
    let of = |select: &str| format!("select={select}&id=eq.1");
    for (select, expected) in [
        ("id,name:title", json!([{"id":1,"name":"Alpha"}])),
        ("id::text,year::float8", json!([{"id":"1","year":1990}])),
        ("info->k->n,info->k->>s,info->l->1", json!([{"n":1,"s":"x","l":20}])),
        ("info->l->-1", json!([{"l":20}])),
        ("last:info->l->>-1,info->k->>n::int", json!([{"last":"20","n":1}])),
        ("raw->z,tags->0,home->>street,home->number", json!([{"z":1,"tags":"a","street":"Main","number":5}])),
        ("id,shout", json!([{"id":1,"shout":"ALPHA"}])),
        ("during,mood,rating", json!([{"during":"[1,5)","mood":"calm","rating":7.50}])),
        ("title->x", json!([{"x":null}])),
        ("of_film", json!([{"of_film":"Alpha"}])),
    ] {
        assert_eq!(bench.get("films", &of(select)).await, expected, "{select}");
    }
    // Not in `*`.
    assert!(bench.get("films", "id=eq.1").await[0].get("shout").is_none());
    assert_eq!(
        bench.get("od d", "select=%22we%20ird%5C%22c%22,x:%22od%20d%22").await,
        json!([{"we ird\"c":1,"x":"q"}])
    );
    assert_eq!(bench.get("films", "select=*,shout&id=eq.1").await[0]["shout"], "ALPHA");
}

#[tokio::test]
async fn json_is_postgresqls_own() {
    let bench = Bench::new().await;
    let read = bench.read("films", "select=id,rating,added,raw&order=id&limit=2").await;
    assert_eq!(
        read.text(),
        "[{\"id\":1,\"rating\":7.50,\"added\":\"2020-01-01T00:00:00+00:00\",\"raw\":{\"z\": 1, \"a\": 2}}, \n \
         {\"id\":2,\"rating\":8.00,\"added\":\"2020-01-01T00:00:00+00:00\",\"raw\":null}]"
    );
    assert_eq!(read.rows, 2);
    assert_eq!(bench.read("films", "id=eq.99").await.text(), "[]");
}

#[tokio::test]
async fn every_operator() {
    let bench = Bench::new().await;
    for (filter, expected) in [
        ("id=eq.2", vec![2]),
        ("id=neq.2", vec![1, 3, 4]),
        ("id=gt.2", vec![3, 4]),
        ("id=gte.2", vec![2, 3, 4]),
        ("id=lt.2", vec![1]),
        ("id=lte.2", vec![1, 2]),
        ("title=like.*a", vec![1, 2, 3]),
        ("title=ilike.a*", vec![1]),
        ("title=match.^[AB]", vec![1, 2]),
        ("title=imatch.^[ab]", vec![1, 2]),
        ("title=not.like.*a", vec![4]),
        ("title=like(any).{A*,B*}", vec![1, 2]),
        ("title=like(all).{*a,A*}", vec![1]),
        ("title=ilike(any).{a*,b*}", vec![1, 2]),
        ("id=eq(any).{1,3}", vec![1, 3]),
        ("id=gt(all).{1,2}", vec![3, 4]),
        ("id=gte(any).{3,4}", vec![3, 4]),
        ("id=lt(all).{3,4}", vec![1, 2]),
        ("id=lte(any).{1,2}", vec![1, 2]),
        ("title=match(any).{^A,^B}", vec![1, 2]),
        ("title=imatch(all).{^a,a$}", vec![1]),
        ("id=in.(1,2)", vec![1, 2]),
        ("title=in.(Alpha,\"Del\\\"ta, \\\\x\")", vec![1, 4]),
        ("id=not.in.(1,2)", vec![3, 4]),
        ("id=in.()", vec![]),
        ("id=not.in.()", vec![1, 2, 3, 4]),
        ("year=is.null", vec![4]),
        ("year=not.is.null", vec![1, 2, 3]),
        ("year=is.not_null", vec![1, 2, 3]),
        ("deleted=is.true", vec![1]),
        ("deleted=is.false", vec![2]),
        ("deleted=is.unknown", vec![3, 4]),
        ("deleted=not.is.true", vec![2, 3, 4]),
        ("deleted=not.eq.true", vec![2]),
        ("year=isdistinct.1990", vec![2, 3, 4]),
        ("year=not.isdistinct.1990", vec![1]),
        ("tags=cs.{a}", vec![1]),
        ("tags=cd.{a,b,z}", vec![1, 3]),
        ("tags=ov.{b}", vec![1, 2]),
        ("tags=eq.{a,b}", vec![1]),
        ("info=cs.{\"k\":{\"n\":1}}", vec![1]),
        ("info->k=cs.{\"n\":2}", vec![2]),
        ("info->k->>s=eq.y", vec![2]),
        ("info->k->n=eq.2", vec![2]),
        ("info->l->>0=eq.10", vec![1]),
        ("tags->>0=eq.b", vec![2]),
        ("home->>street=eq.Main", vec![1]),
        ("during=cs.[2,3)", vec![1]),
        ("during=ov.[4,6)", vec![1, 2]),
        ("during=sl.[5,9)", vec![1]),
        ("during=sr.[1,5)", vec![2, 4]),
        ("during=nxr.[1,9)", vec![1, 2]),
        ("during=nxl.[5,9)", vec![2, 4]),
        ("during=adj.[9,20)", vec![2, 4]),
        ("search=fts.cat", vec![1]),
        ("search=fts(english).run%26cat", vec![1]),
        ("search=plfts(english).fat cat", vec![1]),
        ("search=phfts(english).fat cats", vec![1]),
        ("search=wfts(english).running -dog", vec![1]),
        ("search=not.fts.cat", vec![2, 3, 4]),
        ("title=fts(simple).alpha", vec![1]),
        ("title=wfts.beta", vec![2]),
        ("info->k->>s=fts.x", vec![1]),
        ("words=fts(english).cat", vec![1]),
        ("shout=eq.BETA", vec![2]),
        ("mood=eq.cross", vec![2]),
        ("added=gt.2019-12-31", vec![1, 2, 3, 4]),
        ("id=gt.1&id=lt.4", vec![2, 3]),
        ("or=(id.eq.1,and(id.gt.2,year.not.is.null))", vec![1, 3]),
        ("not.or=(id.eq.1,id.eq.2)", vec![3, 4]),
        ("and=(id.gt.1,or(title.like.*a,year.is.null),not.and(id.eq.2,id.eq.2))", vec![3, 4]),
    ] {
        assert_eq!(bench.ids("films", filter).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn order_pages_and_counts() {
    let bench = Bench::new().await;
    let ids = |order: &'static str| {
        let bench = &bench;
        async move {
            let rows = bench.get("films", &format!("select=id&{order}")).await;
            rows.as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>()
        }
    };
    assert_eq!(ids("order=year.desc").await, [4, 3, 2, 1]);
    assert_eq!(ids("order=year.desc.nullslast").await, [3, 2, 1, 4]);
    assert_eq!(ids("order=year.asc.nullsfirst").await, [4, 1, 2, 3]);
    assert_eq!(ids("order=year.nullsfirst,id").await, [4, 1, 2, 3]);
    assert_eq!(ids("order=info->k->>s.desc.nullslast,id").await, [2, 1, 3, 4]);
    assert_eq!(ids("order=shout.desc").await, [3, 4, 2, 1]);
    assert_eq!(ids("order=id&limit=2").await, [1, 2]);
    assert_eq!(ids("order=id&limit=2&offset=1").await, [2, 3]);
    assert_eq!(ids("order=id&offset=3").await, [4]);
    for (text, rows, total) in [
        ("limit=2", 2, 4),
        ("limit=4", 4, 4),
        ("limit=5", 4, 4),
        ("limit=0", 0, 4),
        ("offset=3", 1, 4),
        ("offset=4", 0, 4),
        ("offset=9", 0, 4),
        ("limit=1&offset=1", 1, 4),
        ("limit=2&offset=3", 1, 4),
        ("", 4, 4),
        ("id=gt.1&limit=1", 1, 3),
        ("select=id,directors!inner(id)&limit=1", 1, 3),
        ("select=id,directors!inner(id)&directors.name=eq.Ann&limit=1", 1, 2),
        ("select=id,directors()&directors=is.null&limit=5", 1, 1),
        ("select=director_id,count()&limit=1", 1, 3),
    ] {
        let read = bench.attempt("films", text, JSON, Some(Count::Exact)).await.unwrap();
        assert_eq!((read.rows, read.total), (rows, Some(total)), "{text}: {}", read.sql);
        let head = bench.attempt("films", text, Output::Nothing, Some(Count::Exact)).await.unwrap();
        assert_eq!((head.body, head.rows, head.total), (None, rows, Some(total)), "{text}");
        let planned = bench.attempt("films", text, JSON, Some(Count::Planned)).await.unwrap();
        assert_eq!(planned.total, None);
        let estimated = bench.attempt("films", text, JSON, Some(Count::Estimated)).await.unwrap();
        assert_eq!(estimated.total, Some(total));
    }
}

#[tokio::test]
async fn aggregates() {
    let bench = Bench::new().await;
    for (text, expected) in [
        ("select=count()", json!([{"count":4}])),
        ("select=total:count(),year.max(),year.min()", json!([{"total":4,"max":2000,"min":1990}])),
        ("select=rating.avg()::int,year.sum()::text", json!([{"avg":7,"sum":"5985"}])),
        ("select=year.count()", json!([{"count":3}])),
        ("select=info->k->n::int.sum()", json!([{"sum":3}])),
        (
            "select=director_id,count()&order=director_id",
            json!([{"director_id":1,"count":2},{"director_id":2,"count":1},{"director_id":null,"count":1}]),
        ),
        (
            "select=count(),directors(name)&order=director_id&director_id=not.is.null",
            json!([{"count":2,"directors":{"name":"Ann"}},{"count":1,"directors":{"name":"Bob"}}]),
        ),
        ("select=...directors(name),count()&directors=not.is.null&id=lt.3", json!([{"name":"Ann","count":2}])),
        ("select=...directors(born.sum())", json!([{"sum":5860}])),
        ("select=...directors(count())", json!([{"count":3}])),
        (
            "select=...directors(name,oldest:born.min()),count()&id=lt.3",
            json!([{"name":"Ann","oldest":1950,"count":2}]),
        ),
        ("select=s:info->k->>s,count()&order=info->k->>s&limit=1", json!([{"s":"x","count":1}])),
    ] {
        let read = bench.attempt("films", text, JSON, Some(Count::Exact)).await;
        let read = match read {
            Ok(read) => read,
            // What is ordered by must be grouped by: that one is the client's.
            Err(failure) if text.contains("order=director_id&director_id") => {
                assert_eq!(failure.code(), "42803");
                continue;
            }
            Err(failure) => panic!("{text}: {failure:?}"),
        };
        assert_eq!(read.json(), expected, "{text}: {}", read.sql);
    }
    let by_director = bench.get("directors", "select=name,films(count(),year.max())&order=id").await;
    assert_eq!(
        by_director,
        json!([
            {"name":"Ann","films":[{"count":2,"max":1995}]},
            {"name":"Bob","films":[{"count":1,"max":2000}]},
            {"name":"Cy","films":[{"count":0,"max":null}]}
        ])
    );
    let refused = bench.failure("directors", "select=name,...films(year.max())").await;
    assert!(matches!(refused, Failure::Plan(Error::Unsupported(_))), "{refused:?}");
}

#[tokio::test]
async fn media_types() {
    let bench = Bench::new().await;
    let csv = |text: &'static str| {
        let bench = &bench;
        async move { bench.attempt("films", text, Output::Csv, None).await.unwrap().body.unwrap() }
    };
    assert_eq!(
        csv("select=id,title,year,tags&order=id").await,
        "id,title,year,tags\n1,Alpha,1990,\"{a,b}\"\n2,Beta,1995,\"{b,\"\"c,d\"\"}\"\n3,Gamma,2000,{}\n\
         4,\"Del\"\"ta, \\x\",,"
    );
    assert_eq!(csv("select=id,n:title&id=eq.99").await, "id,n\n");
    assert_eq!(csv("select=id,directors(name)&id=eq.1").await, "id,directors\n1,\"{\"\"name\"\":\"\"Ann\"\"}\"");
    assert!(csv("id=eq.1").await.starts_with("id,title,year,rating,director_id,tags,"));
    let one = bench.attempt("films", "select=id&id=eq.1", OBJECT, None).await.unwrap();
    assert_eq!((one.text(), one.rows), ("{\"id\":1}", 1));
    let two = bench.attempt("films", "select=id&id=lt.3", OBJECT, None).await.unwrap();
    assert_eq!(two.rows, 2);
    let none = bench.attempt("films", "select=id&id=gt.9", OBJECT, None).await.unwrap();
    assert_eq!(none.rows, 0);
    let stripped = Output::Json { strip_nulls: true };
    let read = bench.attempt("films", "select=id,year&id=gt.2&order=id", stripped, None).await.unwrap();
    assert_eq!(read.json(), json!([{"id":3,"year":2000},{"id":4}]));
    let stripped = Output::Object { strip_nulls: true };
    let read = bench.attempt("films", "select=id,year&id=eq.4", stripped, None).await.unwrap();
    assert_eq!(read.text(), "{\"id\":4}");
}

#[tokio::test]
async fn mistakes_are_told_by_postgresql() {
    let bench = Bench::new().await;
    for (relation, text, code, message) in [
        ("films", "select=nope", "42703", "column films.nope does not exist"),
        ("films", "nope=eq.1", "42703", "column films.nope does not exist"),
        ("films", "order=nope", "42703", "column films.nope does not exist"),
        ("films", "select=id,directors(nope)", "42703", "column directors_1.nope does not exist"),
        ("films", "id=eq.x", "22P02", "invalid input syntax for type integer: \"x\""),
        ("films", "select=id::nope", "42704", "type \"nope\" does not exist"),
        ("films", "search=fts(nope).x", "42704", "text search configuration \"nope\" does not exist"),
        ("films", "title=cs.1", "42883", "operator does not exist: text @> unknown"),
    ] {
        match bench.failure(relation, text).await {
            Failure::Database { code: told, message: words } => {
                assert_eq!((&*told, &*words), (code, message), "{text}");
            }
            Failure::Plan(error) => panic!("{text}: {error:?}"),
        }
    }
}

/// The text matters where it is fast or slow: these are the forms that most requests have.
#[tokio::test]
async fn ordinary_reads_are_lean() {
    let bench = Bench::new().await;
    let sql = |relation: &'static str, text: &'static str| {
        let bench = &bench;
        async move {
            let sql = bench.read(relation, text).await.sql;
            let rest = "SELECT coalesce(json_agg(r.*), '[]')::text, count(*), NULL::int8, NULL::int8, NULL::text, \
                nullif(current_setting('response.headers', true), ''), nullif(current_setting('response.status', true), '') FROM (";
            sql.strip_prefix(rest).unwrap_or_else(|| panic!("{sql}")).strip_suffix(") AS r").unwrap().to_owned()
        }
    };
    assert_eq!(
        sql("films", "id=eq.1").await,
        r#"SELECT "films".* FROM "test"."films" AS "films" WHERE "films"."id" = $2 LIMIT $1"#
    );
    assert_eq!(
        sql("films", "select=id,directors(name)&order=id.desc&limit=20").await,
        r#"SELECT "films"."id", (SELECT row_to_json(r.*) FROM (SELECT "directors_1"."name" FROM "test"."directors" AS "directors_1" WHERE "directors_1"."id" = "films"."director_id") AS r) AS "directors" FROM "test"."films" AS "films" ORDER BY "films"."id" DESC LIMIT $1"#
    );
    assert_eq!(
        sql("directors", "select=id,films!inner(title)&films.year=gt.1").await,
        r#"SELECT "directors"."id", coalesce((SELECT json_agg(r.*) FROM (SELECT "films_1"."title" FROM "test"."films" AS "films_1" WHERE "films_1"."director_id" = "directors"."id" AND "films_1"."year" > $2 LIMIT $3) AS r), '[]') AS "films" FROM "test"."directors" AS "directors" WHERE EXISTS (SELECT FROM "test"."films" AS "films_1" WHERE "films_1"."director_id" = "directors"."id" AND "films_1"."year" > $4) LIMIT $1"#
    );
    assert_eq!(
        sql("film_titles", "select=id,directors(name)").await,
        r#"SELECT "film_titles"."id", (SELECT row_to_json(r.*) FROM (SELECT "directors_1"."name" FROM "test"."directors" AS "directors_1" WHERE "directors_1"."id" = "film_titles"."director_id") AS r) AS "directors" FROM "test"."film_titles" AS "film_titles" LIMIT $1"#
    );
}

/// Whatever stands where a name or a value may stand, the statement is the same but for a quoted name.
#[tokio::test]
async fn nothing_breaks_out_of_its_place() {
    let bench = Bench::new().await;
    for nasty in
        ["x\"; SELECT 1; --", "x' OR '1'='1", "\\'; --", "$1", "a\"\"b", "é\u{1f600}", "x\u{0}y", "}{", "(,)", "%25s"]
    {
        let quoted = nasty.replace('\\', "\\\\").replace('"', "\\\"");
        let encode = |text: &str| text.bytes().fold(String::new(), |all, byte| all + &format!("%{byte:02X}"));
        let (value, word) = (encode(nasty), encode(&format!("\"{quoted}\"")));
        for text in [
            format!("title=eq.{value}"),
            format!("title=like.{value}"),
            format!("title=in.({word},b)"),
            format!("title=fts.{value}"),
            format!("search=fts(english).{value}"),
            format!("info=cs.{value}"),
            format!("tags=ov.{value}"),
            format!("or=(title.eq.{word},id.eq.1)"),
            format!("{word}=eq.1"),
            format!("select={word}:id"),
            format!("select={word}"),
            format!("select=info->{word}"),
            format!("select=id,{word}:directors(name)"),
            format!("select=id,...directors({word}:name)"),
            format!("select={word}:id.sum()"),
            format!("order={word}"),
            format!("order=info->>{word}"),
        ] {
            if let Err(Failure::Database { code, message }) =
                bench.attempt("films", &text, JSON, Some(Count::Exact)).await
            {
                let known = ["42703", "22P02", "22021", "42601", "22P05", "2202E"];
                assert!(known.contains(&code.as_str()), "{text}: {code} {message}");
                // 42601 is a tsquery's syntax only.
                assert!(code != "42601" || message.contains("tsquery"), "{text}: {code} {message}");
            }
        }
    }
}
