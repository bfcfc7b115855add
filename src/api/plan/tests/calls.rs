//! Functions: arguments of every kind, results of every shape, and queries over them.

use bytes::Bytes;
use serde_json::json;

use super::{Arguments, Bench, Count, JSON, OBJECT, Output, keys};

impl Bench {
    async fn rpc(&self, called: &str, body: &str, text: &str) -> String {
        self.shaped(called, body, text, JSON).await
    }

    async fn shaped(&self, called: &str, body: &str, text: &str, output: Output) -> String {
        let names = keys(body);
        let arguments = match names.as_slice() {
            [] => Arguments::Empty,
            names => Arguments::Json(Bytes::copy_from_slice(body.as_bytes()), names),
        };
        match self.call(called, arguments, text, output).await {
            Ok(outcome) => outcome.body.unwrap_or_else(|| "(nothing)".into()),
            Err(failure) => panic!("{called} {body}: {failure:?}"),
        }
    }

    async fn address(&self, called: &str, given: &[(&str, &[&str])]) -> String {
        let given: Vec<(String, Vec<String>)> = given
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect()))
            .collect();
        match self.call(called, Arguments::Text(&given), "", JSON).await {
            Ok(outcome) => outcome.body.unwrap_or_default(),
            Err(failure) => panic!("{called} {given:?}: {failure:?}"),
        }
    }
}

#[tokio::test]
async fn shapes() {
    let bench = Bench::new().await;
    for (called, body, expected) in [
        ("add_them", r#"{"a":1,"b":2}"#, "3"),
        ("add_them", r#"{"a":1}"#, "11"),
        ("no_arguments", "{}", "\"hi\""),
        ("nothing", "{}", "(nothing)"),
        ("a_null", "{}", "null"),
        ("numbers", r#"{"upto":3}"#, "[1, 2, 3]"),
        ("numbers", r#"{"upto":0}"#, "[]"),
        ("one_out", "{}", r#"{"p":5}"#),
        ("with_out", "{}", r#"{"p":1,"q":"one"}"#),
        ("as_table", r#"{"n":1}"#, r#"[{"x":1,"y":"v1"}]"#),
        ("a_record", "{}", r#"{"id":1,"title":"Alpha"}"#),
        ("records", "{}", "[{\"id\":1,\"title\":\"Alpha\"}, \n {\"id\":2,\"title\":\"Beta\"}]"),
        ("an_address", "{}", r#"{"street":"Elm","number":3}"#),
        ("greet", r#"{"names":["a","b"]}"#, "\"a+b\""),
        ("total", r#"{"list":[1,2,3]}"#, "6"),
        ("total", r#"{"list":"{4,5}"}"#, "9"),
        ("street", r#"{"at":{"street":"Elm","number":4}}"#, "\"Elm4\""),
        ("street", r#"{"at":{"number":4}}"#, "\"-4\""),
        ("street", r#"{"at":null}"#, "\"--\""),
        ("of_film", r#"{"film":{"title":"T","tags":["x"]}}"#, "\"T\""),
        ("of_film", r#"{"film":{}}"#, "\"untitled\""),
        ("of_film", r#"{"film":null}"#, "\"untitled\""),
        ("letter", r#"{"c":"é"}"#, "\"é\""),
    ] {
        assert_eq!(bench.rpc(called, body, "").await, expected, "{called} {body}");
    }
    let void = bench.call("nothing", Arguments::Empty, "", JSON).await.unwrap();
    assert_eq!(void.rows, 1);
    assert_eq!(bench.shaped("numbers", r#"{"upto":1}"#, "", OBJECT).await, "1");
    assert_eq!(bench.shaped("best_film", "{}", "select=id", OBJECT).await, r#"{"id":2}"#);
    assert_eq!(bench.shaped("no_arguments", "{}", "", Output::Plain).await, "hi");
    assert_eq!(bench.shaped("as_table", r#"{"n":2}"#, "", Output::Csv).await, "x,y\n1,v1\n2,v2");
    assert_eq!(bench.shaped("records", "{}", "", Output::Csv).await, "pgrst_scalar\n\"(1,Alpha)\"\n\"(2,Beta)\"");
    assert_eq!(bench.shaped("add_them", r#"{"a":1}"#, "", Output::Nothing).await, "(nothing)");
}

#[tokio::test]
async fn arguments_from_addresses_and_whole_bodies() {
    let bench = Bench::new().await;
    assert_eq!(bench.address("add_them", &[("a", &["5"]), ("b", &["6"])]).await, "11");
    assert_eq!(bench.address("add_them", &[("a", &["5"])]).await, "15");
    assert_eq!(bench.address("total", &[("list", &["{1,2}"])]).await, "3");
    assert_eq!(bench.address("greet", &[("names", &["a", "b,c"])]).await, "\"a+b,c\"");
    assert_eq!(bench.address("greet", &[("names", &["a"])]).await, "\"a\"");
    assert_eq!(bench.address("street", &[("at", &["(Elm,4)"])]).await, "\"Elm4\"");
    assert_eq!(bench.address("letter", &[("c", &["x"])]).await, "\"x\"");
    let body = |text: &'static str| Arguments::Body(Bytes::from_static(text.as_bytes()));
    let whole = bench.call("whole", body(r#"{"any": 1}"#), "", JSON).await.unwrap();
    assert_eq!(whole.text(), r#"{"got" : {"any": 1}}"#);
    let whole = bench.call("whole_text", body("a 'text'"), "", Output::Plain).await.unwrap();
    assert_eq!(whole.text(), "got a 'text'");
    let bytes = Arguments::Body(Bytes::from_static(&[0xff, 0, 1]));
    let whole = bench.call("whole_bytes", bytes, "", Output::Plain).await.unwrap();
    assert_eq!(whole.text(), "\u{ff}\0\u{1}\0");
}

#[tokio::test]
async fn queries_over_results() {
    let bench = Bench::new().await;
    for (called, text, expected) in [
        (
            "all_films",
            "select=id,title&id=lt.3&order=id.desc",
            json!([{"id":2,"title":"Beta"},{"id":1,"title":"Alpha"}]),
        ),
        (
            "all_films",
            "select=id,directors(name),actors(name),shout&id=eq.3",
            json!([{"id":3,"directors":{"name":"Bob"},"actors":[{"name":"Zoe"}],"shout":"GAMMA"}]),
        ),
        (
            "all_films",
            "select=id,peers(id),boss(name)&id=eq.1",
            json!([{"id":1,"peers":[{"id":2}],"boss":{"name":"Ann"}}]),
        ),
        ("all_films", "select=id,directors!inner()&directors.name=eq.Bob", json!([{"id":3}])),
        ("all_films", "select=count()", json!([{"count":4}])),
        ("all_films", "select=id&order=id&limit=1&offset=2", json!([{"id":3}])),
        ("best_film", "select=title,directors(name)", json!({"title":"Beta","directors":{"name":"Ann"}})),
        (
            "new_films",
            "select=id,directors(name)&order=id",
            json!([{"id":90,"directors":{"name":"Bob"}},{"id":91,"directors":{"name":"Ann"}}]),
        ),
    ] {
        let told = bench.rpc(called, "{}", text).await;
        assert_eq!(serde_json::from_str::<serde_json::Value>(&told).unwrap(), expected, "{called}?{text}");
    }
    assert_eq!(
        bench.rpc("as_table", r#"{"n":5}"#, "x=gt.3&select=y&order=x.desc").await,
        "[{\"y\":\"v5\"}, \n {\"y\":\"v4\"}]"
    );
    assert_eq!(bench.rpc("numbers", r#"{"upto":9}"#, "limit=2").await, "[1, 2]");
}

#[tokio::test]
async fn counts_and_settings() {
    let bench = Bench::new().await;
    for (text, rows, total) in [
        ("limit=1", 1, 2),
        ("select=id,directors!inner()&directors.name=eq.Ann&limit=5", 1, 1),
        ("select=*,shout,peers(id)&offset=1", 1, 2),
        ("", 2, 2),
    ] {
        for count in [Count::Exact, Count::Estimated] {
            let done = bench.counted_call("new_films", Arguments::Empty, text, JSON, Some(count)).await.unwrap();
            assert_eq!((done.rows, done.total), (rows, Some(total)), "{text}: {}", done.sql);
            // What the function left is read after it has run.
            assert_eq!(done.headers.as_deref(), Some(r#"[{"X-Made": "1"}]"#), "{}", done.sql);
        }
    }
    let done = bench.call("new_films", Arguments::Empty, "", Output::Nothing).await.unwrap();
    assert_eq!((done.rows, done.headers.is_some()), (2, true));
}
