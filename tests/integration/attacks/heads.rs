//! Request heads that are too large, too many or not what a head may say.

use crate::support::{Beacon, Http1};

/// Over both transports.
fn both(beacon: &Beacon) -> [Http1; 2] {
    [beacon.plain(), beacon.secure()]
}

#[test]
fn a_huge_header_gets_431() {
    let beacon = Beacon::with("");
    for mut client in both(&beacon) {
        let answer = client.ask("GET", "/", &format!("X: {}\r\n", "a".repeat(70_000)));
        assert_eq!(answer.status, 431);
        assert!(client.is_closed());
    }
    beacon.is_unharmed();
}

#[test]
fn a_header_without_an_end_gets_431_before_it_takes_memory() {
    let beacon = Beacon::with("");
    for mut client in both(&beacon) {
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
        for _ in 0..40 {
            client.send("a".repeat(4_096));
        }
        assert_eq!(client.answer().unwrap().status, 431);
    }
    beacon.is_unharmed();
}

#[test]
fn a_header_just_within_the_limit_passes() {
    let beacon = Beacon::with("");
    for mut client in both(&beacon) {
        assert_eq!(client.ask("GET", "/", &format!("X: {}\r\n", "a".repeat(65_000))).status, 200);
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn too_many_headers_get_431() {
    let beacon = Beacon::with("");
    for mut client in both(&beacon) {
        assert_eq!(client.ask("GET", "/", &"X: y\r\n".repeat(99)).status, 200, "100 with Host");
        assert_eq!(client.ask("GET", "/", &"X: y\r\n".repeat(100)).status, 431);
        assert!(client.is_closed());
    }
    beacon.is_unharmed();
}

#[test]
fn a_long_address_gets_414() {
    let beacon = Beacon::with("");
    for mut client in both(&beacon) {
        assert_eq!(client.get(&format!("/{}", "a".repeat(32_000))).status, 404);
        assert_eq!(client.get(&format!("/?{}", "a".repeat(33_000))).status, 414);
        assert!(client.is_closed());
    }
    beacon.is_unharmed();
}

#[test]
fn an_address_without_an_end_gets_414() {
    let beacon = Beacon::with("");
    let mut client = beacon.plain();
    client.send("GET /");
    client.send("a".repeat(200_000));
    assert_eq!(client.answer().unwrap().status, 414);
    beacon.is_unharmed();
}

#[test]
fn configured_limits_are_kept() {
    let beacon =
        Beacon::with("http.limits.header_bytes = 2048\nhttp.limits.header_count = 10\nhttp.limits.uri_bytes = 256");
    let ask = |target: &str, headers: &str| beacon.plain().ask("GET", target, headers).status;
    assert_eq!(ask("/", &format!("X: {}\r\n", "a".repeat(1_900))), 200);
    assert_eq!(ask("/", &format!("X: {}\r\n", "a".repeat(2_100))), 431);
    assert_eq!(ask("/", &"X: y\r\n".repeat(10)), 431);
    assert_eq!(ask(&format!("/?{}", "a".repeat(300)), ""), 414);
    beacon.is_unharmed();
}

#[test]
fn a_host_that_is_not_served_gets_421() {
    let beacon = Beacon::with("");
    for mut client in both(&beacon) {
        for host in ["evil.test", "localhost.evil.test", "a.b.localhost", "127.0.0.2", "[::2]", "xn--localhost"] {
            let answer = client.ask("GET", "/", &format!("Host: {host}\r\n"));
            assert_eq!(answer.status, 421, "{host}");
            assert!(!answer.text().contains("hello"));
        }
        for host in ["localhost", "LOCALHOST:9", "localhost.", "x.localhost", "127.0.0.1:80", "[::1]"] {
            assert_eq!(client.ask("GET", "/", &format!("Host: {host}\r\n")).status, 200, "{host}");
        }
    }
    beacon.is_unharmed();
}

#[test]
fn a_request_without_a_host_gets_400() {
    let beacon = Beacon::with("");
    for version in ["1.1", "1.0"] {
        for mut client in both(&beacon) {
            client.send(format!("GET / HTTP/{version}\r\n\r\n"));
            assert_eq!(client.answer().unwrap().status, 400);
        }
    }
    beacon.is_unharmed();
}

#[test]
fn two_hosts_get_400() {
    let beacon = Beacon::with("");
    for second in ["localhost", "evil.test"] {
        for mut client in both(&beacon) {
            let answer = client.ask("GET", "/", &format!("Host: localhost\r\nHost: {second}\r\n"));
            assert_eq!(answer.status, 400, "{answer:?}");
        }
    }
    beacon.is_unharmed();
}

#[test]
fn a_malformed_host_gets_400() {
    let beacon = Beacon::with("");
    for host in [
        "",
        "a/b",
        "a@localhost",
        "u:p@localhost",
        "local host",
        "localhost:x",
        "localhost:99999",
        "[::1",
        "a,b",
        "loc%61lhost",
        "localhost#x",
        "..",
    ] {
        for mut client in both(&beacon) {
            let answer = client.ask("GET", "/", &format!("Host: {host}\r\n"));
            assert_eq!(answer.status, 400, "{host:?}: {answer:?}");
        }
    }
    beacon.is_unharmed();
}

#[test]
fn an_absolute_address_must_agree_with_the_host() {
    let beacon = Beacon::with("");
    for mut client in both(&beacon) {
        assert_eq!(client.get("http://localhost/small.txt").text(), "0123456789");
        assert_eq!(client.get("http://LocalHost:80/small.txt").status, 200);
        assert_eq!(client.get("http://evil.test/").status, 400);
        assert_eq!(client.get("http://127.0.0.1/").status, 400);
    }
    beacon.is_unharmed();
}

#[test]
fn user_information_in_an_address_gets_400() {
    let beacon = Beacon::with("");
    for target in ["http://user@localhost/", "http://user:password@localhost/", "http://evil.test@localhost/"] {
        assert_eq!(beacon.plain().get(target).status, 400, "{target}");
    }
    beacon.is_unharmed();
}

#[test]
fn addresses_of_other_forms_get_400() {
    let beacon = Beacon::with("");
    for target in [
        "index.html",
        "?x",
        "http://",
        "http:///x",
        "/a b",
        "/\u{e9}",
        "/\u{7f}",
        "//",
        "///etc/passwd",
        "ftp://localhost/",
        "\\",
        "/#fragment",
    ] {
        let mut client = beacon.plain();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let answer = client.answer();
        let status = answer.as_ref().map(|answer| answer.status);
        assert!(
            matches!(status, Some(400 | 404))
                || matches!((target, status), ("//" | "/#fragment" | "ftp://localhost/", Some(200))),
            "{target:?}: {answer:?}"
        );
    }
    beacon.is_unharmed();
}

#[test]
fn trace_and_connect_get_405() {
    let beacon = Beacon::with("");
    for mut client in both(&beacon) {
        let answer = client.ask("TRACE", "/", "Cookie: secret\r\n");
        assert_eq!(answer.status, 405);
        assert!(!answer.text().contains("secret"));
    }
    for mut client in both(&beacon) {
        assert_eq!(client.ask("CONNECT", "localhost:443", "").status, 405);
    }
    beacon.is_unharmed();
}

#[test]
fn unknown_methods_get_501() {
    let beacon = Beacon::with("");
    for method in ["get", "Get", "PROPFIND", "FOO", "G!"] {
        for mut client in both(&beacon) {
            assert_eq!(client.ask(method, "/", "").status, 501, "{method}");
        }
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let answer = beacon.plain().ask(method, "/", "Content-Length: 0\r\n");
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.header("allow").unwrap().contains("GET"));
    }
    beacon.is_unharmed();
}

#[test]
fn an_upgrade_to_cleartext_http_2_is_not_taken() {
    let beacon = Beacon::with("");
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    assert_eq!(beacon.plain().ask("GET", "/", upgrade).status, 200);
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut client = beacon.plain();
    assert_eq!(client.ask("GET", "/small.txt", websocket).status, 200);
    assert_eq!(client.get("/").status, 200, "the connection still speaks HTTP");
    beacon.is_unharmed();
}

#[test]
fn an_expectation_that_cannot_be_met_gets_417() {
    let beacon = Beacon::with("");
    assert_eq!(beacon.plain().ask("POST", "/", "Expect: miracles\r\nContent-Length: 3\r\n").status, 417);
    let answer = beacon.plain().ask("POST", "/", "Expect: 100-continue\r\nContent-Length: 3\r\n");
    assert_eq!(answer.status, 405, "a refusal comes instead of 100 Continue");
    beacon.is_unharmed();
}
