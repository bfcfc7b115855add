//! The site as its clients see it: requests in, responses out, on folders made for the purpose.

mod disk;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use tempfile::TempDir;

use super::{Config, Site, Symlinks};
use crate::http::{Context, Handler, Reply, Request, RequestBody, Response};
use crate::id::RequestId;

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn request(method: &Method, target: &str, headers: &[(&str, &str)]) -> Request {
    let mut builder = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    let path = percent_encoding::percent_decode_str(parts.uri.path()).decode_utf8().unwrap().into_owned();
    with_path(parts, &path, 0)
}

fn with_path(parts: http::request::Parts, path: &str, mounted: usize) -> Request {
    Request {
        parts,
        body: RequestBody::empty(),
        context: Context {
            id: RequestId::new(),
            client: [127, 0, 0, 1].into(),
            secure: true,
            host: "localhost".into(),
            path: path.into(),
            mounted,
            user: None,
        },
    }
}

async fn send(site: &Site, request: Request) -> Response {
    match site.handle(request) {
        Reply::Now(response) => response,
        Reply::Later(response) => response.await,
    }
}

async fn collect(response: Response) -> Got {
    let (parts, body) = response.into_parts();
    Got { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

async fn get(site: &Site, target: &str) -> Got {
    get_with(site, target, &[]).await
}

async fn get_with(site: &Site, target: &str, headers: &[(&str, &str)]) -> Got {
    collect(send(site, request(&Method::GET, target, headers)).await).await
}

/// A path as a careless ingress might let it through.
async fn get_raw(site: &Site, path: &str) -> Got {
    let (parts, ()) = http::Request::new(()).into_parts();
    collect(send(site, with_path(parts, path, 0)).await).await
}

/// The answer that comes at once; once a second another one does not, because it looks at the disk.
async fn from_memory(site: &Site, target: &str, headers: &[(&str, &str)]) -> Got {
    for _ in 0..100 {
        match site.handle(request(&Method::GET, target, headers)) {
            Reply::Now(response) => return collect(response).await,
            Reply::Later(response) => drop(response.await),
        }
    }
    panic!("{target} never comes from memory");
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (path, content) in files {
        write(folder.path(), path, content);
    }
    folder
}

fn write(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn config(root: &Path) -> Config {
    Config { root: root.to_owned(), ..Config::default() }
}

fn open(root: &Path) -> Site {
    Site::open(&config(root)).unwrap()
}

/// Asks again until the answer fits; what the disk holds may be believed for a second.
async fn until(site: &Site, target: &str, fits: impl Fn(&Got) -> bool) -> Got {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let got = get(site, target).await;
        if fits(&got) {
            return got;
        }
        assert!(Instant::now() < end, "{target} stays {} {:?}", got.status, got.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn text(size: usize) -> Vec<u8> {
    b"the quick brown fox jumps over the lazy dog. ".iter().copied().cycle().take(size).collect()
}

#[tokio::test]
async fn a_file_comes_with_all_its_headers_and_then_from_memory() {
    let folder = folder(&[("index.html", b"<p>hello"), ("a/b.txt", b"text"), ("empty.txt", b"")]);
    let site = open(folder.path());
    let first = get(&site, "/").await;
    assert_eq!((first.status, &first.body[..]), (StatusCode::OK, &b"<p>hello"[..]));
    assert_eq!(first.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(first.header("cache-control"), "no-cache");
    assert_eq!(first.header("accept-ranges"), "bytes");
    assert_eq!(first.header("vary"), "accept-encoding");
    assert!(first.header("etag").len() == 18 && first.header("etag").starts_with('"'));
    assert!(httpdate::parse_http_date(first.header("last-modified")).is_ok());
    let second = from_memory(&site, "/", &[]).await;
    assert_eq!((second.headers, second.body), (first.headers, first.body));
    assert_eq!(get(&site, "/a/b.txt").await.text(), "text");
    assert_eq!(get(&site, "/empty.txt").await.status, StatusCode::OK);
    assert_eq!(get(&site, "/a/b.txt/").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&site, &format!("/{}", "x".repeat(300))).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn conditions_and_ranges_work_from_memory_and_from_disk() {
    let content: Vec<u8> = (0..300_000u32).map(|place| (place % 251) as u8).collect();
    let folder = folder(&[("f.bin", &content)]);
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    fs::File::open(folder.path().join("f.bin")).unwrap().set_modified(hour_ago).unwrap();
    let memory = open(folder.path());
    let disk = Site::open(&Config { cache_bytes: 0, ..config(folder.path()) }).unwrap();
    for site in [&memory, &disk] {
        let whole = get(site, "/f.bin").await;
        assert!(whole.body == content);
        let (tag, date) = (whole.header("etag").to_owned(), whole.header("last-modified").to_owned());

        let same = get_with(site, "/f.bin", &[("if-none-match", &tag)]).await;
        assert_eq!((same.status, same.body.len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!((same.header("etag"), same.header("cache-control")), (&*tag, "no-cache"));
        assert!(!same.headers.contains_key("content-type"));
        let same = get_with(site, "/f.bin", &[("if-modified-since", &date)]).await;
        assert_eq!(same.status, StatusCode::NOT_MODIFIED);
        let failed = get_with(site, "/f.bin", &[("if-match", "\"other\"")]).await;
        assert_eq!((failed.status, failed.body.len()), (StatusCode::PRECONDITION_FAILED, 0));

        let one = get_with(site, "/f.bin", &[("range", "bytes=100-199"), ("if-range", &tag)]).await;
        assert_eq!(one.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(one.header("content-range"), "bytes 100-199/300000");
        assert!(one.body == content[100..200]);
        let suffix = get_with(site, "/f.bin", &[("range", "bytes=-5"), ("if-range", &date)]).await;
        assert!(suffix.body == content[299_995..]);
        let changed = get_with(site, "/f.bin", &[("range", "bytes=-5"), ("if-range", "\"other\"")]).await;
        assert_eq!((changed.status, changed.body.len()), (StatusCode::OK, 300_000));
        let none = get_with(site, "/f.bin", &[("range", "bytes=300000-")]).await;
        assert_eq!(none.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!((none.header("content-range"), none.body.len()), ("bytes */300000", 0));

        let response = send(site, request(&Method::GET, "/f.bin", &[("range", "bytes=0-4,200000-299999")])).await;
        let announced = response.body().len();
        let many = collect(response).await;
        assert_eq!(many.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(announced, Some(many.body.len() as u64));
        let boundary = many.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
        let part = |range: &str, bytes: &[u8]| {
            let head = format!(
                "\r\n--{boundary}\r\ncontent-type: application/octet-stream\r\ncontent-range: bytes {range}/300000\r\n\r\n"
            );
            [head.as_bytes(), bytes].concat()
        };
        let expected = [
            part("0-4", &content[..5]),
            part("200000-299999", &content[200_000..]),
            format!("\r\n--{boundary}--\r\n").into_bytes(),
        ];
        assert!(many.body == expected.concat());

        let head = send(site, request(&Method::HEAD, "/f.bin", &[("range", "bytes=0-1")])).await;
        assert_eq!((head.status(), head.body().len()), (StatusCode::OK, Some(300_000)));
    }
}

#[tokio::test]
async fn text_is_compressed_once_as_the_client_prefers() {
    let page = text(20_000);
    let folder = folder(&[("a.html", &page), ("small.html", b"<p>"), ("a.png", &page)]);
    let site = open(folder.path());
    let plain = get(&site, "/a.html").await;
    let mut tags = vec![plain.header("etag").to_owned()];
    for (accept, encoding) in
        [("gzip", "gzip"), ("zstd", "zstd"), ("gzip, deflate, br, zstd", "br"), ("br;q=0.1, gzip", "gzip")]
    {
        let got = get_with(&site, "/a.html", &[("accept-encoding", accept)]).await;
        assert_eq!(got.header("content-encoding"), encoding, "{accept}");
        assert_eq!(got.header("vary"), "accept-encoding");
        assert_eq!(decode(encoding, &got.body), page, "{encoding}");
        tags.push(got.header("etag").to_owned());
        let same =
            get_with(&site, "/a.html", &[("accept-encoding", accept), ("if-none-match", got.header("etag"))]).await;
        assert_eq!(same.status, StatusCode::NOT_MODIFIED);
        let again = from_memory(&site, "/a.html", &[("accept-encoding", accept)]).await;
        assert_eq!(again.header("content-encoding"), encoding);
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 4, "each form has a tag of its own");
    for accept in ["identity", "br;q=0, gzip;q=0, zstd;q=0", "deflate"] {
        let got = get_with(&site, "/a.html", &[("accept-encoding", accept)]).await;
        assert!(!got.headers.contains_key("content-encoding") && got.body == page, "{accept}");
        assert_eq!(got.header("vary"), "accept-encoding");
    }
    for path in ["/small.html", "/a.png"] {
        let got = get_with(&site, path, &[("accept-encoding", "br")]).await;
        assert!(!got.headers.contains_key("content-encoding"), "{path}");
    }
    assert!(!get(&site, "/a.png").await.headers.contains_key("vary"));
    let range = get_with(&site, "/a.html", &[("accept-encoding", "br"), ("range", "bytes=0-9")]).await;
    assert!(range.body == page[..10] && !range.headers.contains_key("content-encoding"));
}

fn decode(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match encoding {
        "br" => brotli::BrotliDecompress(&mut &*bytes, &mut out).unwrap(),
        "zstd" => out = zstd::stream::decode_all(bytes).unwrap(),
        "gzip" => drop(std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut out).unwrap()),
        other => panic!("{other}"),
    }
    out
}

#[tokio::test]
async fn compressed_neighbours_are_served_unless_they_are_old() {
    let big = text(2_000_000);
    let folder = folder(&[
        ("a.js", b"the original text"),
        ("a.js.br", b"BR"),
        ("a.js.gz", b"GZ"),
        ("old.js", b"the original text"),
        ("old.js.gz", b"GZ"),
        ("big.bin", &big),
        ("big.bin.zst", b"ZST"),
    ]);
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    fs::File::open(folder.path().join("old.js.gz")).unwrap().set_modified(hour_ago).unwrap();
    let site = open(folder.path());
    let all = [("accept-encoding", "gzip, br, zstd")];
    let got = get_with(&site, "/a.js", &all).await;
    assert_eq!((got.header("content-encoding"), got.text()), ("br", "BR".into()));
    assert_eq!(got.header("content-type"), "text/javascript; charset=utf-8");
    let got = get_with(&site, "/a.js", &[("accept-encoding", "gzip")]).await;
    assert_eq!((got.header("content-encoding"), got.text()), ("gzip", "GZ".into()));
    let got = get_with(&site, "/old.js", &all).await;
    assert_eq!((got.header("content-encoding"), got.text()), ("", "the original text".into()));
    let got = get_with(&site, "/big.bin", &all).await;
    assert_eq!((got.header("content-encoding"), got.text()), ("zstd", "ZST".into()));
    let plain = get(&site, "/big.bin").await;
    assert!(plain.body == big && plain.header("vary") == "accept-encoding");
    assert_ne!(plain.header("etag"), got.header("etag"));
    let direct = get_with(&site, "/a.js.br", &all).await;
    assert_eq!((direct.header("content-type"), direct.header("content-encoding")), ("application/octet-stream", ""));
    assert_eq!(direct.text(), "BR");
    let off = Site::open(&Config { precompressed: false, ..config(folder.path()) }).unwrap();
    assert_eq!(get_with(&off, "/a.js", &all).await.text(), "the original text");
}

#[tokio::test]
async fn folders_redirect_below_their_mount_and_keep_the_query() {
    let folder = folder(&[("guide/index.html", b"guide"), ("a b?/index.html", b"odd")]);
    let site = open(folder.path());
    for _ in 0..2 {
        let got = get(&site, "/guide?x=1&y=%2F").await;
        assert_eq!(got.status, StatusCode::PERMANENT_REDIRECT);
        assert_eq!(got.header("location"), "/guide/?x=1&y=%2F");
    }
    assert_eq!(get(&site, "/guide/").await.text(), "guide");
    assert_eq!(get_raw(&site, "/a b?").await.header("location"), "/a%20b%3F/");
    let (parts, ()) = http::Request::builder().uri("/docs/guide").body(()).unwrap().into_parts();
    let got = collect(send(&site, with_path(parts, "/docs/guide", 5)).await).await;
    assert_eq!(got.header("location"), "/docs/guide/");
    assert!(get_raw(&site, "//guide").await.header("location").starts_with("/g"));
}

#[tokio::test]
async fn the_fallback_answers_for_pages_but_not_for_assets() {
    let folder = folder(&[("index.html", b"app"), ("404.html", b"mine")]);
    let pages = [("404".to_owned(), "404.html".to_owned())].into();
    let site =
        Site::open(&Config { fallback: "index.html".into(), error_pages: pages, ..config(folder.path()) }).unwrap();
    let browser = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    for (path, accept, falls) in [
        ("/users/7", browser, true),
        ("/users/jane.doe", browser, true),
        ("/users/7", ("accept", "*/*"), true),
        ("/users/", browser, true),
        ("/assets/app.123.js", browser, false),
        ("/logo.png", browser, false),
        ("/users/7", ("accept", "application/json"), false),
        ("/.env", browser, false),
    ] {
        for round in 0..2 {
            let got = get_with(&site, path, &[accept]).await;
            let expected = if falls { (StatusCode::OK, "app") } else { (StatusCode::NOT_FOUND, "mine") };
            assert_eq!((got.status, &*got.text()), expected, "{path} {accept:?} {round}");
            assert_eq!(got.header("cache-control"), if falls { "no-cache" } else { "no-store" });
        }
    }
    let post = collect(send(&site, request(&Method::POST, "/users/7", &[])).await).await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn other_methods_are_told_what_is_allowed() {
    let folder = folder(&[("a.txt", b"a")]);
    let site = open(folder.path());
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let got = collect(send(&site, request(&method, "/a.txt", &[])).await).await;
        assert_eq!((got.status, got.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, OPTIONS"));
    }
    let got = collect(send(&site, request(&Method::OPTIONS, "/a.txt", &[])).await).await;
    assert_eq!((got.status, got.header("allow"), got.body.len()), (StatusCode::NO_CONTENT, "GET, HEAD, OPTIONS", 0));
}

#[tokio::test]
async fn a_listing_escapes_sorts_and_hides() {
    let folder = folder(&[
        ("b.txt", &[b'x'; 2_048]),
        ("<img src=x>.txt", b""),
        ("javascript:alert(1)", b""),
        (".hidden", b""),
        ("zoo/inner.txt", b""),
    ]);
    symlink("b.txt", folder.path().join("link.txt")).unwrap();
    let site = Site::open(&Config { listing: true, ..config(folder.path()) }).unwrap();
    let page = get(&site, "/").await;
    let html = page.text();
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("style-src 'sha256-"));
    assert!(html.contains("&lt;img src=x&gt;.txt") && !html.contains("<img"));
    assert!(html.contains("href=\"./javascript%3Aalert%281%29\""));
    assert!(!html.contains(".hidden") && !html.contains("link.txt") && !html.contains("href=\"../\""));
    assert!(html.find("zoo/").unwrap() < html.find("b.txt").unwrap(), "folders first");
    assert!(html.contains("2.0 KiB"));
    assert!(get(&site, "/zoo/").await.text().contains("href=\"../\""));
    let json = get_with(&site, "/", &[("accept", "application/json")]).await;
    assert_eq!(json.header("content-type"), "application/json");
    let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(json["entries"][0]["name"], "zoo");
    assert_eq!(json["entries"].as_array().unwrap().len(), 4);
    assert_eq!(get(&open(folder.path()), "/").await.status, StatusCode::NOT_FOUND);
    let inside = Site::open(&Config { listing: true, symlinks: Symlinks::Inside, ..config(folder.path()) }).unwrap();
    assert!(get(&inside, "/").await.text().contains("link.txt"));
}

#[tokio::test]
async fn compressed_forms_count_towards_the_bound() {
    let folder = folder(&[("a.html", &text(30_000))]);
    let site = Site::open(&Config { cache_bytes: 4_000_000, ..config(folder.path()) }).unwrap();
    get(&site, "/a.html").await;
    let before = site.loader().cache.bytes();
    let br = get_with(&site, "/a.html", &[("accept-encoding", "br")]).await;
    assert!(site.loader().cache.bytes() >= before + br.body.len());
}

#[tokio::test]
async fn many_clients_of_a_cold_file_all_get_it() {
    let page = text(100_000);
    let folder = folder(&[("a.html", &page)]);
    let site = Arc::new(open(folder.path()));
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let site = Arc::clone(&site);
            tokio::spawn(async move { get_with(&site, "/a.html", &[("accept-encoding", "zstd")]).await })
        })
        .collect();
    for client in clients {
        let got = client.await.unwrap();
        assert_eq!(decode("zstd", &got.body), page);
    }
}
