//! What the edge does for good clients, over real connections: TLS, redirects, files, mounts, the wall, logs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::support::{Beacon, Event, Http1, Http2, Launch, Wire, client_tls, request_block, tls_over, until};

#[test]
fn tls_sessions_are_resumed_in_both_versions() {
    let beacon = Beacon::with("");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(beacon.authority()).unwrap()).unwrap();
        beacon::tls::provider();
        let config = Arc::new(
            rustls::ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(roots)
                .with_no_client_auth(),
        );
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let stream = TcpStream::connect(beacon.address("https")).unwrap();
            let mut stream = tls_over(stream, &config, "localhost").unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.starts_with(b"HTTP/1.1 200"));
            kinds.push(stream.conn.handshake_kind().unwrap());
        }
        assert_eq!(kinds[1], HandshakeKind::Resumed, "{version:?}: {kinds:?}");
    }
}

#[test]
fn plain_http_is_redirected_with_host_path_and_query() {
    let beacon = Beacon::with("http.redirect_to_https = true\nhttp.https_port = 8443");
    let mut client = beacon.plain();
    for (target, host, to) in [
        ("/a/b?x=1&y=%20", "localhost:8080", "https://localhost:8443/a/b?x=1&y=%20"),
        ("/", "x.localhost", "https://x.localhost:8443/"),
        ("//evil.test/", "localhost", "https://localhost:8443//evil.test/"),
        ("/%C3%A9?q=a/../b", "[::1]:1", "https://[::1]:8443/%C3%A9?q=a/../b"),
    ] {
        let answer = client.ask("GET", target, &format!("Host: {host}\r\n"));
        assert_eq!((answer.status, answer.header("location")), (308, Some(to)));
        assert!(answer.header("strict-transport-security").is_none(), "not over plain HTTP (RFC 6797 section 7.2)");
    }
    assert_eq!(client.ask("GET", "/", "Host: evil.test\r\n").status, 421, "no redirect to a host of others");
    assert_eq!(client.get("/.well-known/acme-challenge/none").status, 308, "no challenge is pending");
    let beacon = Beacon::with("http.redirect_to_https = true\nhttp.https_port = 443");
    assert_eq!(beacon.plain().get("/x").header("location"), Some("https://localhost/x"));
}

#[test]
fn hsts_is_sent_over_tls_alone() {
    let beacon = Beacon::with("http.hsts = \"1h\"\nhttp.hsts_subdomains = true");
    let answer = beacon.secure().get("/");
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=3600; includeSubDomains"));
    assert!(beacon.plain().get("/").header("strict-transport-security").is_none());
    assert!(Beacon::with("").secure().get("/").header("strict-transport-security").is_none());
}

#[test]
fn files_are_conditional_and_in_ranges_over_http_1_1() {
    let beacon = Beacon::with("");
    for mut client in [beacon.plain(), beacon.secure()] {
        let whole = client.get("/small.txt");
        assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
        assert_eq!(whole.header("content-type"), Some("text/plain; charset=utf-8"));
        let tag = whole.header("etag").unwrap().to_owned();
        assert!(!tag.starts_with("W/"), "strong: {tag}");
        assert_eq!(client.ask("GET", "/small.txt", &format!("If-None-Match: {tag}\r\n")).status, 304);
        let date = whole.header("last-modified").unwrap().to_owned();
        assert_eq!(client.ask("GET", "/small.txt", &format!("If-Modified-Since: {date}\r\n")).status, 304);
        assert_eq!(client.ask("GET", "/small.txt", "If-Match: \"other\"\r\n").status, 412);
        let part = client.ask("GET", "/small.txt", "Range: bytes=2-4\r\n");
        assert_eq!((part.status, part.text().as_str()), (206, "234"));
        assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
        assert_eq!(client.ask("GET", "/small.txt", "Range: bytes=-3\r\n").text(), "789");
        assert_eq!(client.ask("GET", "/small.txt", "Range: bytes=20-\r\n").status, 416);
        let parts = client.ask("GET", "/small.txt", "Range: bytes=0-1,8-9\r\n");
        assert!(parts.header("content-type").unwrap().starts_with("multipart/byteranges"));
        let other = client.ask("GET", "/small.txt", "Range: bytes=2-4\r\nIf-Range: \"other\"\r\n");
        assert_eq!((other.status, other.text().as_str()), (200, "0123456789"));
        let head = client.ask("HEAD", "/small.txt", "");
        assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
        assert_eq!(client.get("/sub").header("location"), Some("/sub/"));
    }
}

#[test]
fn files_are_conditional_and_in_ranges_over_http_2() {
    let beacon = Beacon::with("");
    let tag = beacon.secure().get("/small.txt").header("etag").unwrap().to_owned();
    let mut client = Http2::new(&beacon, 65_535);
    let mut ask = |more: &[(&str, &str)]| {
        let stream = client.request(&request_block("localhost", "/small.txt", more));
        client.outcome(stream)
    };
    assert_eq!(ask(&[]), Event::Answer(200, b"0123456789".to_vec()));
    assert_eq!(ask(&[("range", "bytes=2-4")]), Event::Answer(206, b"234".to_vec()));
    assert_eq!(ask(&[("if-none-match", &tag)]), Event::Answer(304, Vec::new()));
    assert_eq!(ask(&[("range", "bytes=2-4"), ("if-range", &tag)]), Event::Answer(206, b"234".to_vec()));
}

#[test]
fn a_large_file_comes_whole_over_every_protocol() {
    let beacon = Launch::new().big("big.bin", 20 << 20).start();
    for mut client in [beacon.plain(), beacon.secure()] {
        assert_eq!(client.get("/big.bin").body.len(), 20 << 20);
    }
    match Http2::new(&beacon, 65_535).get("/big.bin") {
        Event::Answer(200, body) => assert_eq!(body.len(), 20 << 20),
        _ => panic!("no answer"),
    }
    beacon.is_unharmed();
}

#[test]
fn text_is_compressed_as_the_client_prefers() {
    let beacon = Beacon::with("");
    let mut client = beacon.secure();
    let plain = client.get("/text.txt");
    assert!(plain.header("content-encoding").is_none());
    for coding in ["br", "zstd", "gzip"] {
        let answer = client.ask("GET", "/text.txt", &format!("Accept-Encoding: {coding}\r\n"));
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert!(answer.body.len() < plain.body.len() / 10);
        assert!(answer.header("vary").unwrap().to_ascii_lowercase().contains("accept-encoding"));
    }
    let refused = client.ask("GET", "/text.txt", "Accept-Encoding: br;q=0, gzip;q=0, zstd;q=0\r\n");
    assert!(refused.header("content-encoding").is_none());
    assert!(client.ask("GET", "/small.txt", "Accept-Encoding: gzip\r\n").header("content-encoding").is_none());
}

/// A folder with one page that says its name.
fn page(launch: &Launch, name: &str) -> String {
    let root = launch.path().join(name);
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("index.html"), name).unwrap();
    root.to_str().unwrap().to_owned()
}

#[test]
fn mounts_are_found_by_host_and_longest_prefix() {
    let launch = Launch::new();
    let config = format!(
        "[mounts.a]\npath = \"/a\"\nsite.root = {:?}\n[mounts.ab]\npath = \"/a/b\"\nsite.root = {:?}\n\
         [mounts.host]\nhost = \"own.test\"\nsite.root = {:?}\n[mounts.wild]\nhost = \"*.wild.test\"\nsite.root = {:?}\n",
        page(&launch, "one"),
        page(&launch, "two"),
        page(&launch, "three"),
        page(&launch, "four")
    );
    let beacon = launch.with(&config).start();
    let ask = |host: &str, target: &str| beacon.plain().ask("GET", target, &format!("Host: {host}\r\n"));
    assert_eq!(ask("localhost", "/a/").text(), "one");
    assert_eq!(ask("localhost", "/a/b/").text(), "two");
    assert_eq!(ask("localhost", "/a%2Fb/").status, 400);
    assert_eq!(ask("localhost", "/%61/b/").text(), "two");
    assert_eq!(ask("localhost", "/").text(), "<p>hello</p>");
    assert_eq!(ask("localhost", "/ab/").status, 404);
    assert_eq!(ask("localhost", "/a?x=1").header("location"), Some("/a/?x=1"));
    assert_eq!(ask("OWN.test", "/").text(), "three");
    assert_eq!(ask("x.wild.test", "/").text(), "four");
    assert_eq!(ask("wild.test", "/").status, 421);
    assert_eq!(ask("x.y.wild.test", "/").status, 421);
}

#[test]
fn redirect_mounts_keep_the_rest_of_the_path_as_it_came() {
    let config = "[mounts.old]\npath = \"/old path\"\nredirect.to = \"https://new.test{path}\"\n\
                  [mounts.gone]\npath = \"/gone\"\nredirect.to = \"/sub/\"\nredirect.status = 302\n\
                  [mounts.www]\nhost = \"www.localhost\"\nredirect.to = \"https://localhost{path}\"\n";
    let beacon = Beacon::with(config);
    let ask = |host: &str, target: &str| {
        let answer = beacon.plain().ask("GET", target, &format!("Host: {host}\r\n"));
        (answer.status, answer.header("location").map(str::to_owned))
    };
    let to = |status, to: &str| (status, Some(to.to_owned()));
    assert_eq!(ask("localhost", "/old%20path/a%20b?x=%2F"), to(308, "https://new.test/a%20b?x=%2F"));
    assert_eq!(ask("localhost", "/%6fld%20path/"), to(308, "https://new.test/"));
    assert_eq!(ask("localhost", "//old%20path//evil.test"), to(308, "https://new.test/evil.test"));
    assert_eq!(ask("localhost", "/gone/x"), to(302, "/sub/"));
    assert_eq!(ask("www.localhost", "/a/b/?c"), to(308, "https://localhost/a/b/?c"));
    assert_eq!(ask("www.localhost", "//evil.test/"), to(308, "https://localhost/evil.test/"));
}

#[test]
fn the_wall_stands_before_every_mount_but_the_exempt() {
    let launch = Launch::new();
    let config = format!(
        "wall = {{ username = \"u\", password = \"p\", realm = \"Here\", exempt = [\"/sub\"] }}\n\
         [mounts.open]\npath = \"/open\"\nwall = false\nsite.root = {:?}\n[mounts.away]\npath = \"/away\"\nredirect.to = \"/\"\n",
        page(&launch, "open")
    );
    let beacon = launch.with(&config).start();
    let mut client = beacon.secure();
    for target in ["/", "/small.txt", "/missing", "/away/"] {
        let answer = client.get(target);
        assert_eq!(answer.status, 401, "{target}");
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"Here\""));
        assert_eq!(client.ask("GET", target, "Authorization: Basic dTp4\r\n").status, 401);
    }
    assert_eq!(client.ask("GET", "/small.txt", "Authorization: Basic dTpw\r\n").text(), "0123456789");
    assert_eq!(client.get("/sub/page.html").status, 200);
    assert_eq!(client.get("/subway").status, 401, "a prefix ends at a slash");
    assert_eq!(client.get("/open/").text(), "open");
    assert_eq!(beacon.operations("/healthz").status, 200);
}

fn client_of(beacon: &Beacon, target: &str) -> String {
    let line = beacon.wait_access(target, |line| line["target"] == target);
    line["client"].as_str().unwrap().to_owned()
}

#[test]
fn the_proxy_protocol_names_the_client() {
    let beacon = Beacon::with("listen.proxy_protocol = [\"127.0.0.0/8\"]");
    let request = |n: u8| format!("GET /small.txt?{n} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut client = beacon.plain();
    client.send(format!("PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n{}", request(1)));
    assert_eq!(client.answer().unwrap().status, 200);
    assert_eq!(client_of(&beacon, "/small.txt?1"), "203.0.113.9");

    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend([203, 0, 113, 7, 127, 0, 0, 1, 0, 99, 0, 80]);
    let mut client = beacon.plain();
    client.send([v2.as_slice(), request(2).as_bytes()].concat());
    assert_eq!(client.answer().unwrap().status, 200);
    assert_eq!(client_of(&beacon, "/small.txt?2"), "203.0.113.7");

    let mut stream = TcpStream::connect(beacon.address("https")).unwrap();
    stream.write_all(&v2).unwrap();
    let stream = tls_over(stream, &Arc::new(client_tls(&beacon.authority(), &[])), "localhost").unwrap();
    let mut client = Http1::new(Wire::Tls(Box::new(stream)));
    assert_eq!(client.get("/small.txt?3").status, 200);
    assert_eq!(client_of(&beacon, "/small.txt?3"), "203.0.113.7");

    for bad in [request(4).as_str(), "PROXY TCP4 nonsense\r\n", "PROXY UNKNOWN", "\r\n\r\n\0\r\nQUIT\n\x31"] {
        let mut client = beacon.plain();
        client.send(bad);
        client.wire.shut_write();
        assert!(client.is_closed(), "{bad:?}");
    }
    beacon.is_sound();
}

#[test]
fn the_proxy_protocol_is_bad_input_from_others() {
    let beacon = Beacon::with("");
    let mut client = beacon.plain();
    client.send("PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.answer().unwrap().status, 400);
    assert!(client.is_closed());
    beacon.is_unharmed();
}

#[test]
fn forwarded_addresses_are_believed_from_trusted_proxies_alone() {
    let claim = "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\nX-Request-Id: from-outside\r\nForwarded: for=7.7.7.7\r\n";
    let beacon = Beacon::with("listen.trusted_proxies = [\"127.0.0.1/32\"]");
    let answer = beacon.plain().ask("GET", "/small.txt", claim);
    assert_eq!(answer.header("x-request-id"), Some("from-outside"));
    assert_eq!(client_of(&beacon, "/small.txt"), "203.0.113.9");
    let beacon = Beacon::with("");
    let answer = beacon.plain().ask("GET", "/small.txt", claim);
    assert_ne!(answer.header("x-request-id"), Some("from-outside"));
    assert_eq!(client_of(&beacon, "/small.txt"), "127.0.0.1");
    let standard = "listen.trusted_proxies = [\"127.0.0.1/32\"]\nlisten.forwarded_header = \"forwarded\"";
    let beacon = Beacon::with(standard);
    beacon.plain().ask("GET", "/small.txt", claim);
    assert_eq!(client_of(&beacon, "/small.txt"), "7.7.7.7");
}

#[test]
fn a_forwarded_scheme_decides_about_the_redirect() {
    let beacon = Beacon::with(
        "listen.trusted_proxies = [\"127.0.0.1/32\"]\nhttp.redirect_to_https = true\nhttp.https_port = 443",
    );
    assert_eq!(beacon.plain().ask("GET", "/", "X-Forwarded-Proto: https\r\n").status, 200);
    assert_eq!(beacon.plain().ask("GET", "/", "X-Forwarded-Proto: http\r\n").status, 308);
    let beacon = Beacon::with("http.redirect_to_https = true\nhttp.https_port = 443");
    assert_eq!(beacon.plain().ask("GET", "/", "X-Forwarded-Proto: https\r\n").status, 308);
}

#[test]
fn a_unix_socket_serves_and_is_removed_at_the_end() {
    let launch = Launch::new();
    let path = launch.path().join("edge.sock");
    let config = format!("listen.http = [\"unix:{}\", \"127.0.0.1:0\"]", path.display());
    let mut beacon = launch.with(&config).start();
    let answer = Http1::new(Wire::unix(&path)).ask("GET", "/small.txt", "X-Forwarded-For: 203.0.113.9\r\n");
    assert_eq!(answer.text(), "0123456789");
    assert_eq!(client_of(&beacon, "/small.txt"), "203.0.113.9", "its peers speak for others");
    beacon.signal("TERM");
    assert!(beacon.wait_end().success());
    assert!(!path.exists());
}

#[test]
fn every_answer_has_a_request_id_that_the_access_log_knows() {
    let beacon = Beacon::with("");
    for target in ["/small.txt", "/missing", "/%2e%2e/x"] {
        let answer = beacon.secure().get(target);
        let id = answer.header("x-request-id").unwrap().to_owned();
        let line = beacon.wait_access(target, |line| line["target"] == target);
        assert_eq!(line["request_id"], id.as_str());
        assert_eq!(line["status"], answer.status);
        assert_eq!(line["tls"], true);
        assert_eq!(line["bytes"], answer.body.len());
        assert_eq!(line["complete"], true);
    }
}

#[test]
fn the_access_log_has_a_line_a_request_and_survives_rotation() {
    let launch = Launch::new();
    let path = launch.path().join("access.log");
    let beacon = launch.with(&format!("log.access.output = {path:?}")).start();
    let mut client = beacon.plain();
    for _ in 0..100 {
        assert_eq!(client.get("/small.txt").status, 200);
    }
    let lines = || fs::read_to_string(&path).unwrap_or_default().lines().count();
    until("a hundred lines", || (lines() == 100).then_some(()));
    fs::rename(&path, beacon.path().join("access.log.1")).unwrap();
    until("a new file", || {
        client.get("/small.txt");
        (lines() > 0).then_some(())
    });
    fs::remove_file(&path).unwrap();
    beacon.signal("HUP");
    until("a file after SIGHUP", || {
        client.get("/small.txt");
        (lines() > 0).then_some(())
    });
    beacon.is_sound();
}

#[test]
fn the_operations_listener_tells_health_and_counts() {
    let beacon = Beacon::with("");
    assert_eq!(beacon.secure().get("/small.txt").status, 200);
    assert_eq!(beacon.operations("/healthz").status, 200);
    let ready = beacon.operations("/readyz");
    assert_eq!((ready.status, ready.header("content-type")), (200, Some("application/json")));
    let metrics = until("the count", || {
        let metrics = beacon.operations("/metrics");
        metrics.text().contains("mount=\"site\"").then_some(metrics)
    });
    assert!(metrics.text().ends_with("# EOF\n"));
    assert_eq!(beacon.operations("/other").status, 404);
    assert_eq!(beacon.plain().get("/metrics").status, 404, "not on the edge");
}

#[test]
fn errors_are_pages_for_browsers_and_json_for_programs() {
    let launch = Launch::new().with("mounts.site.site.error_pages = { 404 = \"404.html\" }");
    fs::write(launch.path().join("www/404.html"), "<p>our own</p>").unwrap();
    let beacon = launch.start();
    let own = beacon.secure().ask("GET", "/missing", "Accept: text/html\r\n");
    assert_eq!((own.status, own.text().as_str()), (404, "<p>our own</p>"));
    let beacon = Beacon::with("");
    let html = beacon.secure().ask("GET", "/missing", "Accept: text/html,*/*;q=0.8\r\n");
    assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(html.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let json = beacon.secure().ask("GET", "/missing", "Accept: application/json\r\n");
    let value: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(value["code"], "not_found");
    assert_eq!(value["request_id"], json.header("x-request-id").unwrap());
    for answer in [html, json] {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(answer.header("server").is_none());
    }
}

#[test]
fn ready_html_is_served_as_documentation() {
    let launch = Launch::new();
    let root = page(&launch, "book");
    fs::write(launch.path().join("book/404.html"), "lost").unwrap();
    let config = format!("[mounts.docs]\npath = \"/docs\"\ndocs.folder = {root:?}\n");
    let beacon = launch.with(&config).start();
    let mut client = beacon.secure();
    let answer = client.get("/docs/");
    assert_eq!(answer.text(), "book");
    assert!(answer.header("content-security-policy").is_some());
    let lost = client.ask("GET", "/docs/none", "Accept: text/html\r\n");
    assert_eq!((lost.status, lost.text().as_str()), (404, "lost"));
    assert_eq!(client.get("/docs").header("location"), Some("/docs/"));
}

#[test]
fn a_connection_that_rested_takes_up_where_it_was() {
    let beacon = Beacon::with("http.timeouts.header = \"1s\"");
    // Longer than a connection waits before it gives its buffers back.
    let pause = || std::thread::sleep(std::time::Duration::from_millis(400));
    for mut client in [beacon.plain(), beacon.secure()] {
        pause();
        for _ in 0..3 {
            assert_eq!(client.get("/small.txt").text(), "0123456789");
            pause();
        }
        // An empty line before a request line belongs to no request (RFC 9112 section 2.2), and rests with it.
        client.send("\r\n");
        pause();
        assert_eq!(client.get("/small.txt").status, 200);
        client.send("GET /small.txt HTTP/1.1\r\nHost: loc");
        pause();
        client.send("alhost\r\n\r\nGET /small.txt HTTP/1.1\r\n");
        assert_eq!(client.answer().unwrap().status, 200);
        pause();
        client.send("Host: localhost\r\n\r\n");
        assert_eq!(client.answer().unwrap().status, 200, "a head that stops for a while");
        client.send("GET /small.txt HTTP/1.1\r\n");
        assert_eq!(client.answer().unwrap().status, 408, "a head that stops for good");
    }
    beacon.is_unharmed();
}

#[test]
fn connections_that_rest_take_little_memory() {
    let beacon = Beacon::with("listen.max_connections_per_client = 0");
    let open = || {
        let mut client = beacon.secure();
        assert_eq!(client.get("/small.txt").status, 200);
        client
    };
    let mut clients: Vec<_> = (0..50).map(|_| open()).collect();
    let before = beacon.memory();
    clients.extend((0..300).map(|_| open()));
    let each = (beacon.memory() - before) * 1_024 / 300;
    assert!(each < 20 << 10, "{each} bytes for each connection; with its buffers it takes about 27,000");
    for client in &mut clients {
        assert_eq!(client.get("/small.txt").status, 200);
    }
}

#[test]
fn what_is_no_request_has_a_line_and_is_counted() {
    let beacon = Beacon::with("");
    let mut client = beacon.plain();
    assert_eq!(client.get("/small.txt").status, 200);
    client.send("GET / HTTP/1.1\nHost: localhost\n\n");
    assert_eq!(client.answer().unwrap().status, 400);
    drop(client);
    let line = beacon.wait_access("the refusal", |line| line["status"] == 400);
    assert_eq!((&line["client"], &line["target"], &line["mount"]), (&"127.0.0.1".into(), &"".into(), &"".into()));
    let metrics = beacon.operations("/metrics").text();
    assert!(metrics.contains("beacon_http_requests_total{mount=\"none\",status=\"400\"} 1"), "{metrics}");
}
