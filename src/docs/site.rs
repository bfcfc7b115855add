//! A documentation site as a handler. `renewal` is the task that renders it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio_util::sync::CancellationToken;

use super::edition::Edition;
use super::renewal::POLL;
use super::source::Source;
use super::theme::Theme;
use super::tree::Place;
use super::{Config, Error, config, links, search};
use crate::http::{Body, Handler, Problem, Reply, Request, Response};
use crate::id::RequestId;

/// A documentation site. Cheap to clone; clones are the same site.
#[derive(Clone)]
pub struct Docs(pub(super) Arc<Inner>);

/// What the clones share.
pub(super) struct Inner {
    pub edition: ArcSwap<Edition>,
    pub source: Source,
    pub base: String,
    pub title: String,
    pub broken: AtomicUsize,
    pub poll: Duration,
    /// Set when [`Docs::run`] ends, so that nobody waits for a page that nobody renders.
    pub halted: CancellationToken,
}

impl Docs {
    /// Reads the folder's pages as far as their titles; nothing is rendered before [`Docs::run`].
    ///
    /// `mount_path` is the mount's prefix as configured ("/docs", "/").
    ///
    /// # Errors
    /// The folder cannot be read, has no Markdown, or has more than 20,000 files. A bad page is no error.
    pub fn open(config: &Config, mount_path: &str) -> Result<Self, Error> {
        Self::with_poll(config, mount_path, POLL)
    }

    fn with_poll(config: &Config, mount_path: &str, poll: Duration) -> Result<Self, Error> {
        let source = config::source(config)?;
        let base = links::base(mount_path);
        let edition = Edition::new(source.clone(), base.clone(), &config.title, source.scan()?)?;
        Ok(Self(Arc::new(Inner {
            edition: ArcSwap::from_pointee(edition),
            source,
            base,
            title: config.title.clone(),
            broken: AtomicUsize::new(0),
            poll,
            halted: CancellationToken::new(),
        })))
    }

    /// How many links of the site lead nowhere; known once all pages are rendered.
    #[must_use]
    pub fn broken_links(&self) -> usize {
        self.0.broken.load(Ordering::Relaxed)
    }

    /// Whether all pages are rendered.
    #[must_use]
    pub fn is_rendered(&self) -> bool {
        self.0.edition.load().search().get().is_some()
    }
}

impl Inner {
    async fn later(&self, edition: Arc<Edition>, wanted: Wanted, request: Request) -> Response {
        let headers = &request.parts.headers;
        let made = async {
            match wanted {
                Wanted::Page(at) => edition.wait_for(at).await.page.response(headers),
                Wanted::Search => edition.search().wait().await.response(headers),
                Wanted::Missing => edition.missing().wait().await.response(headers),
                Wanted::File(at) => {
                    match edition.files.response(at, headers, request.parts.method == Method::GET).await {
                        Ok(response) => response,
                        // Deleted or replaced by a link since the folder was listed.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                            missing(&edition, headers, &request.context.id)
                        }
                        Err(error) => {
                            tracing::error!(path = %request.context.path, problem = %error, "documentation file cannot be read");
                            let status = StatusCode::INTERNAL_SERVER_ERROR;
                            Problem::new(status, "unreadable", "This file cannot be read.", "Try again later.")
                                .response(headers, &request.context.id)
                        }
                    }
                }
            }
        };
        self.halted.run_until_cancelled(made).await.unwrap_or_else(|| {
            let (status, message) = (StatusCode::SERVICE_UNAVAILABLE, "The server is stopping.");
            Problem::new(status, "stopping", message, "Try again in a moment.").response(headers, &request.context.id)
        })
    }
}

enum Wanted {
    Page(usize),
    File(usize),
    Search,
    Missing,
}

impl Handler for Docs {
    fn handle(&self, request: Request) -> Reply<'_> {
        let headers = &request.parts.headers;
        if let Some(refusal) = refuse_method(&request) {
            return Reply::Now(refusal);
        }
        let rest = request.context.rest();
        if let Some(response) = Theme::get().response(rest, headers) {
            return Reply::Now(response);
        }
        let edition = self.0.edition.load();
        let (ready, wanted) = if rest == search::ADDRESS {
            (edition.search().get(), Wanted::Search)
        } else {
            match edition.tree.find(rest) {
                Some(Place::Page(at)) => (edition.page(at).map(|rendered| &rendered.page), Wanted::Page(at)),
                Some(Place::File(at)) => (None, Wanted::File(at)),
                None => {
                    if let Some(route) = edition.tree.canonical(rest) {
                        return Reply::Now(redirect(&self.0.base, route, &request));
                    }
                    if !wants_html(headers) {
                        return Reply::Now(Problem::not_found().response(headers, &request.context.id));
                    }
                    (edition.missing().get(), Wanted::Missing)
                }
            }
        };
        match ready {
            Some(encoded) => Reply::Now(encoded.response(headers)),
            None => Reply::later(self.0.later(arc_swap::Guard::into_inner(edition), wanted, request)),
        }
    }
}

/// The answer to a method other than GET and HEAD.
pub(super) fn refuse_method(request: &Request) -> Option<Response> {
    if matches!(request.parts.method, Method::GET | Method::HEAD) {
        return None;
    }
    let (status, message) = (StatusCode::METHOD_NOT_ALLOWED, "This page can only be read.");
    let mut response = Problem::new(status, "method_not_allowed", message, "Use GET or HEAD.")
        .response(&request.parts.headers, &request.context.id);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(response)
}

/// Whether a client shows HTML.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|value| memchr::memmem::find(value.as_bytes(), b"text/html").is_some())
}

fn missing(edition: &Edition, headers: &HeaderMap, id: &RequestId) -> Response {
    match edition.missing().get() {
        Some(page) if wants_html(headers) => page.response(headers),
        _ => Problem::not_found().response(headers, id),
    }
}

/// To the one address of a page, with the query as it came.
fn redirect(base: &str, route: &str, request: &Request) -> Response {
    let query = request.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(location) = HeaderValue::try_from(format!("{base}{}{query}", links::encode(route))) {
        response.headers_mut().insert(LOCATION, location);
    }
    // The pages of a folder come and go; browsers keep a 308 without this for ever.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    response
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::http::{Context, RequestBody};

    /// A browser's GET of `path` under a mount.
    pub fn get(mount: &str, path: &str) -> Request {
        let builder = http::Request::builder().uri("http://h/?q=1").header(ACCEPT, "text/html");
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        let context = Context {
            id: RequestId::new(),
            client: [127, 0, 0, 1].into(),
            secure: true,
            host: "h".into(),
            path: path.into(),
            mounted: mount.trim_end_matches('/').len(),
            user: None,
        };
        Request { parts, body: RequestBody::empty(), context }
    }

    pub fn header<'a>(response: &'a Response, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(response: Response) -> String {
        match response.into_body() {
            Body::Full(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Body::Empty => String::new(),
            Body::Stream(_) => panic!("a stream"),
        }
    }

    async fn ask(docs: &Docs, request: Request) -> Response {
        let answer = async {
            match docs.handle(request) {
                Reply::Now(response) => response,
                Reply::Later(later) => later.await,
            }
        };
        tokio::time::timeout(Duration::from_mins(1), answer).await.expect("an answer within a minute")
    }

    /// A running site, stopped when dropped.
    struct Running {
        docs: Docs,
        _stop: tokio_util::sync::DropGuard,
    }

    fn run(folder: &Path, mount: &str) -> Running {
        let config = Config { folder: folder.to_path_buf(), ..Config::default() };
        let docs = Docs::with_poll(&config, mount, Duration::from_millis(20)).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(docs.clone().run(stop.clone()));
        Running { docs, _stop: stop.drop_guard() }
    }

    impl Running {
        async fn page(&self, path: &str) -> (StatusCode, String) {
            let response = ask(&self.docs, get(&self.docs.0.base, path)).await;
            (response.status(), text(response))
        }

        /// Asks until the answer fits.
        async fn until(&self, path: &str, fits: impl Fn(StatusCode, &str) -> bool) {
            let wait = async {
                loop {
                    let (status, html) = self.page(path).await;
                    if fits(status, &html) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_mins(1), wait).await.expect("the wanted state within a minute");
        }

        async fn rendered(&self) {
            drop(self.page(&format!("{}_beacon/search.json", self.docs.0.base)).await);
        }
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn our_own_documentation_renders_without_a_broken_link() {
        let docs = Docs::open(&Config::default(), "/docs").unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(docs.clone().run(stop.clone()));
        let response = ask(&docs, get("/docs", "/docs/_beacon/search.json")).await;
        assert_eq!(header(&response, "content-type"), "application/json");
        assert!(docs.is_rendered());
        stop.cancel();
        task.await.unwrap();
        assert_eq!(docs.broken_links(), 0, "the log names the links");
        let edition = docs.0.edition.load();
        for (at, page) in edition.tree.pages.iter().enumerate() {
            assert_eq!(page.fault, None, "{}", page.file);
            let html = String::from_utf8(edition.page(at).unwrap().page.bytes().to_vec()).unwrap();
            assert!(
                !html.contains(" style=") && !html.contains("<script>"),
                "{} needs what the policy forbids",
                page.file
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn addresses_have_one_form_under_any_mount() {
        let dir = folder(&[("index.md", "# Front\n\n[a](guide/tls.md)"), ("guide/tls.md", "# TLS"), ("x.md", "# X")]);
        for mount in ["/", "/docs", "/a/b"] {
            let site = run(dir.path(), mount);
            let base = links::base(mount);
            let (status, html) = site.page(&base).await;
            assert_eq!(status, StatusCode::OK);
            assert!(html.contains(&format!("href=\"{base}guide/tls\"")), "{html}");
            for (from, to) in [
                ("guide/tls/", "guide/tls"),
                ("guide/tls.md", "guide/tls"),
                ("guide/tls.html", "guide/tls"),
                ("guide", "guide/"),
                ("guide/index.html", "guide/"),
                ("index", ""),
                ("index.md", ""),
            ] {
                let response = ask(&site.docs, get(mount, &format!("{base}{from}"))).await;
                assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT, "{from}");
                assert_eq!(header(&response, "location"), format!("{base}{to}?q=1"), "{from}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_outside_and_nothing_hidden_is_served() {
        let dir = folder(&[("docs/index.md", "# F"), ("docs/.env", "S"), ("docs/a.txt", "text"), ("secret.txt", "S")]);
        std::os::unix::fs::symlink(dir.path().join("secret.txt"), dir.path().join("docs/link.txt")).unwrap();
        let site = run(&dir.path().join("docs"), "/docs");
        for path in [
            "/docs/.env",
            "/docs/../secret.txt",
            "/docs/link.txt",
            "/docs/%2e%2e/secret.txt",
            "/docs/none",
            "/docs/a.txt/x",
        ] {
            let (status, html) = site.page(path).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            assert!(html.contains("There is no page at this address"));
        }
        let response = ask(&site.docs, get("/docs", "/docs/a.txt")).await;
        assert_eq!(header(&response, "content-type"), "text/plain; charset=utf-8");
        let mut again = get("/docs", "/docs/a.txt");
        again.parts.headers.insert("if-none-match", header(&response, "etag").parse().unwrap());
        assert_eq!(text(response), "text");
        assert_eq!(ask(&site.docs, again).await.status(), StatusCode::NOT_MODIFIED);
        // Swapped for a link after the folder was listed.
        fs::remove_file(dir.path().join("docs/a.txt")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret.txt"), dir.path().join("docs/a.txt")).unwrap();
        assert_ne!(site.page("/docs/a.txt").await.0, StatusCode::OK);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn other_methods_are_refused_and_programs_get_json() {
        let dir = folder(&[("index.md", "# F")]);
        let site = run(dir.path(), "/docs");
        let mut request = get("/docs", "/docs/");
        request.parts.method = Method::POST;
        let response = ask(&site.docs, request).await;
        assert_eq!((response.status(), header(&response, "allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
        let mut request = get("/docs", "/docs/none");
        request.parts.headers.clear();
        assert_eq!(header(&ask(&site.docs, request).await, "content-type"), "application/json");
        let mut request = get("/docs", "/docs/");
        request.parts.method = Method::HEAD;
        let response = ask(&site.docs, request).await;
        assert!(response.status() == StatusCode::OK && !header(&response, "content-length").is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn markup_in_titles_names_and_descriptions_is_text() {
        let evil =
            "---\ntitle: \"<script>alert(1)</script>\"\ndescription: '\"><script>x</script>'\n---\n## A </script>\n";
        let dir = folder(&[("index.md", evil), ("<img src=x onerror=y>.md", "text"), ("b.md", evil)]);
        let site = run(dir.path(), "/docs");
        for path in ["/docs/", "/docs/b", "/docs/<img src=x onerror=y>"] {
            let (status, html) = site.page(path).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            assert!(!html.contains("<script>") && !html.contains("<img"), "{html}");
        }
        let (_, index) = site.page("/docs/_beacon/search.json").await;
        let parsed: serde_json::Value = serde_json::from_str(&index).unwrap();
        assert_eq!(parsed[0][0], "<script>alert(1)</script>");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn changes_are_picked_up_and_what_is_unchanged_is_kept() {
        let dir = folder(&[("index.md", "# One"), ("b.md", "# B\n\nold")]);
        let site = run(dir.path(), "/docs");
        site.until("/docs/b", |_, html| html.contains("old")).await;
        site.rendered().await;
        let front = Arc::clone(site.docs.0.edition.load().page(0).unwrap());
        fs::write(dir.path().join("b.md"), "# B\n\nnewer").unwrap();
        site.until("/docs/b", |_, html| html.contains("newer")).await;
        assert!(Arc::ptr_eq(&front, site.docs.0.edition.load().page(0).unwrap()));
        fs::write(dir.path().join("c.md"), "# Added").unwrap();
        site.until("/docs/", |_, html| html.contains("Added")).await;
        fs::remove_file(dir.path().join("c.md")).unwrap();
        site.until("/docs/c", |status, _| status == StatusCode::NOT_FOUND).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bad_page_costs_only_itself_and_comes_back() {
        let dir = folder(&[("index.md", "# Front"), ("bad.md", "# Bad")]);
        fs::write(dir.path().join("bad.md"), b"# \xff\xfe").unwrap();
        fs::write(dir.path().join("big.md"), vec![b'x'; (2 << 20) + 1]).unwrap();
        let site = run(dir.path(), "/docs");
        for (path, why) in [("/docs/bad", "not UTF-8 (at byte 2)"), ("/docs/big", "2048 KiB")] {
            let (status, html) = site.page(path).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(html.contains(why) && html.contains(".md</code>"), "{html}");
        }
        assert_eq!(site.page("/docs/").await.0, StatusCode::OK);
        fs::write(dir.path().join("bad.md"), "# Mended").unwrap();
        site.until("/docs/bad", |status, html| status == StatusCode::OK && html.contains("Mended")).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_that_goes_away_leaves_the_last_state() {
        let dir = folder(&[("in/index.md", "# Front")]);
        let site = run(&dir.path().join("in"), "/docs");
        site.rendered().await;
        fs::rename(dir.path().join("in"), dir.path().join("out")).unwrap();
        for _ in 0..20 {
            assert_eq!(site.page("/docs/").await.0, StatusCode::OK);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fs::write(dir.path().join("out/index.md"), "# Back").unwrap();
        fs::rename(dir.path().join("out"), dir.path().join("in")).unwrap();
        site.until("/docs/", |_, html| html.contains("Back")).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_waits_for_a_page_is_answered_when_rendering_stops() {
        let dir = folder(&[("index.md", "# Front")]);
        let config = Config { folder: dir.path().to_path_buf(), ..Config::default() };
        let docs = Docs::open(&config, "/docs").unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        docs.clone().run(stop).await;
        assert_eq!(ask(&docs, get("/docs", "/docs/")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ten_thousand_pages_open_quickly_and_none_lists_them_all() {
        let dir = tempfile::tempdir().unwrap();
        for section in 0..100 {
            fs::create_dir(dir.path().join(format!("s{section}"))).unwrap();
            for page in 0..100 {
                fs::write(dir.path().join(format!("s{section}/p{page}.md")), format!("# P{page}\n\ntext")).unwrap();
            }
        }
        let began = Instant::now();
        let site = run(dir.path(), "/docs");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        // The last page comes first when somebody waits for it.
        let (status, html) = site.page("/docs/s99/p99").await;
        assert_eq!(status, StatusCode::OK);
        assert!(html.len() < 60_000, "{}", html.len());
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }

    #[test]
    fn too_many_files_are_refused_by_number() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..=crate::docs::source::MAX_FILES {
            fs::write(dir.path().join(format!("{name}.md")), "").unwrap();
        }
        let config = Config { folder: dir.path().to_path_buf(), ..Config::default() };
        let error = Docs::open(&config, "/docs").err().unwrap().to_string();
        assert!(error.contains("more than 20000 files"), "{error}");
    }
}
