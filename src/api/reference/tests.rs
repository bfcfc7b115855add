//! Pages as readers of different roles get them.

use std::time::Duration;

use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::*;
use crate::api::openapi::tests::{Described, described};
use crate::api::schema::{Figures, Options};
use crate::auth::gateway;
use crate::auth::jwt::{Keys, Settings};
use crate::auth::keys::ApiKeys;
use crate::http::RequestBody;
use crate::id::RequestId;
use crate::telemetry::{Health, Metrics};

struct Scene {
    described: Described,
    page: Page,
    keys: Keys,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn scene(config: Config) -> Scene {
    let described = described().await;
    let config = Config { schemas: vec!["test".into()], extra_search_path: Vec::new(), ..config };
    let options = Options { schemas: config.schemas.clone(), extra_search_path: Vec::new(), poll: Duration::ZERO };
    let figures = Figures::register(&Metrics::new());
    let cache = Cache::counted(described.database.clone(), options, Health::new().component("schema"), figures);
    let keys = Keys::ephemeral(Settings::default());
    let gateway = Gateway::new(keys.clone(), ApiKeys::new(Vec::new()), gateway::Options::default());
    let page = Page::new("/docs/api", config, described.database.clone(), gateway, cache.clone());
    let unread = ask(&page, request("", "", None)).await;
    assert_eq!((unread.status, unread.header("retry-after")), (503, "1"));
    let task = tokio::spawn(cache.clone().run());
    tokio::time::timeout(Duration::from_secs(20), cache.after(0)).await.unwrap();
    Scene { described, page, keys, task }
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn request(rest: &str, query: &str, token: Option<&str>) -> Request {
    let mut builder = http::Request::builder().uri(format!("/docs/api/{rest}?{query}")).header("accept", "text/html");
    builder = builder.header("host", "api.example.org:8443");
    if let Some(token) = token {
        builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    let context = Context {
        id: RequestId::new(),
        client: [127, 0, 0, 1].into(),
        secure: true,
        host: "api.example.org".into(),
        path: format!("/docs/api/{rest}").into(),
        mounted: "/docs/api".len(),
        user: None,
    };
    Request { parts, body: RequestBody::empty(), context }
}

async fn ask(page: &Page, request: Request) -> Answer {
    let response = match page.handle(request) {
        Reply::Now(response) => response,
        Reply::Later(later) => later.await,
    };
    let (parts, body) = response.into_parts();
    let text = match body {
        Body::Full(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::new(),
    };
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}

impl Scene {
    async fn get(&self, rest: &str, query: &str, role: Option<&str>) -> Answer {
        let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 60;
        let token = role.map(|role| self.keys.sign(&json!({ "exp": exp, "role": role })).unwrap());
        ask(&self.page, request(rest, query, token.as_deref())).await
    }
}

#[tokio::test]
async fn each_role_reads_what_it_may_use() {
    let scene = scene(Config::default()).await;
    let anonymous = scene.get("", "", None).await;
    assert_eq!(anonymous.status, 200);
    assert!(anonymous.text.contains(">entities<") && anonymous.text.contains(">open<"), "{}", anonymous.text);
    for hidden in ["child_entities", "half", "shown", "varied"] {
        assert!(!anonymous.text.contains(hidden), "{hidden}");
    }
    let member = scene.get("", "", Some("authenticated")).await;
    for seen in ["child_entities", "half", "shown", "varied"] {
        assert!(member.text.contains(seen), "{seen}");
    }
    assert_eq!(scene.get("", "table=half", None).await.status, 404);
    assert_eq!(scene.get("", "table=half", Some("authenticated")).await.status, 200);
    assert_eq!(scene.get("", "function=varied", None).await.status, 404);
    // A role that the database does not know is no reason to show anything.
    assert_eq!(scene.get("", "", Some("nobody_at_all")).await.status, 403);
    let bad = ask(&scene.page, request("", "", Some("not.a.token"))).await;
    assert_eq!(bad.status, 401);
    assert!(bad.header("www-authenticate").starts_with("Bearer"));
}

#[tokio::test]
async fn pages_load_only_what_is_beside_them_and_are_nobody_elses() {
    let scene = scene(Config { expose_unprotected: true, ..Config::default() }).await;
    for query in ["", "table=entities", "table=half", "function=open", "table=missing"] {
        let page = scene.get("", query, None).await;
        assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self'"));
        assert_eq!(page.header("cache-control"), "private, no-cache");
        assert_eq!(page.header("vary"), "apikey, authorization");
        assert!(!page.text.contains("style=") && !page.text.contains("<style") && !page.text.contains("onclick"));
        let files: Vec<&str> =
            page.text.split("\"/docs/api/_beacon/").skip(1).map(|rest| rest.split_once('"').unwrap().0).collect();
        assert_eq!(files.len(), 5, "{query}");
        for file in files {
            let file = scene.get(&format!("_beacon/{file}"), "", None).await;
            assert_eq!((file.status, file.header("cache-control").contains("immutable")), (200, true));
        }
    }
    assert_eq!(scene.get("other", "", None).await.status, 404);
    let mut posted = request("", "", None);
    posted.parts.method = Method::POST;
    let refused = ask(&scene.page, posted).await;
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn a_table_has_its_columns_relationships_and_requests() {
    let scene = scene(Config::default()).await;
    let page = scene.get("", "table=child_entities", Some("authenticated")).await.text;
    assert!(
        page.contains("<td><code>id</code><span class=\"key\">primary key</span></td><td><code>integer</code></td>")
    );
    assert!(page.contains("<p>Refers to <code>entities.id</code></p>"));
    assert!(page.contains("<td><code>entities(*)</code></td>"), "{page}");
    for heading in ["columns", "related", "read", "filter", "insert", "update", "delete"] {
        assert!(page.contains(&format!("<h2 id=\"{heading}\">")), "{heading}");
    }
    let text = page.replace("<span class=\"s\">", "").replace("</span>", "");
    assert!(text.contains("&#39;https://api.example.org:8443/rest/v1/child_entities?id=eq.1&#39;"), "{text}");
    let read = scene.get("", "table=entities", None).await.text;
    assert!(read.contains("id=\"read\"") && !read.contains("id=\"insert\"") && !read.contains("id=\"delete\""));
    let function = scene.get("", "function=overloaded", Some("authenticated")).await.text;
    assert!(function.contains("<h2>Form 2</h2>") && function.contains("may write: POST only"));
}

#[tokio::test]
async fn names_and_comments_from_the_database_are_text() {
    let scene = scene(Config::default()).await;
    let sql = r#"create table test."<b>&""'" ("<i>" integer primary key, "a b" text default '<u>');
        comment on table test."<b>&""'" is '<script>alert(1)</script>';
        comment on column test."<b>&""'"."<i>" is '<img src=x>';
        grant all on all tables in schema test to authenticated; notify beacon_schema"#;
    // The task may not listen yet.
    let page = async {
        loop {
            let _ = scene.described.owner.batch_execute(sql).await;
            scene.described.owner.batch_execute("notify beacon_schema").await.unwrap();
            let page = scene.get("", "table=%3Cb%3E%26%22%27", Some("authenticated")).await;
            if page.status == 200 {
                return page.text;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let page = tokio::time::timeout(Duration::from_secs(20), page).await.unwrap();
    for forbidden in ["<b>", "<i>", "<u>", "<script>", "<img"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    let index: Value = serde_json::from_str(&scene.get("search.json", "", Some("authenticated")).await.text).unwrap();
    let found = index.as_array().unwrap().iter().find(|entry| entry[0] == "<b>&\"'").unwrap();
    assert_eq!(found[1], "?table=%3Cb%3E%26%22%27");
}

#[tokio::test]
async fn a_description_that_is_switched_off_is_not_there() {
    let scene = scene(Config { openapi_mode: crate::api::OpenApiMode::Disabled, ..Config::default() }).await;
    assert_eq!(scene.get("", "", None).await.status, 404);
    assert_eq!(scene.get("search.json", "", None).await.status, 404);
}

#[test]
fn queries_are_decoded() {
    let asked = Asked::read("schema=a+b&table=%C3%BC%26&x=y");
    assert_eq!((asked.schema.as_deref(), asked.table.as_deref()), (Some("a b"), Some("ü&")));
    assert_eq!(Asked::read(""), Asked::default());
}
