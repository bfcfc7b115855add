//! The life of the process: reloads that drop nothing, refused ones that change nothing, stops in stages, and what the
//! service manager sees.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{BOUND, Beacon, Event, Http1, Http2, Launch, Wire, until};

#[test]
fn reloads_swap_mounts_and_listeners_without_a_failed_request() {
    let mut beacon = Beacon::with("");
    let other = beacon.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("index.html"), "other").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let mut threads = Vec::new();
    for secure in [false, false, true, true] {
        let mut client = if secure { beacon.secure() } else { beacon.plain() };
        let (stop, served) = (stop.clone(), served.clone());
        threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let answer = client.get("/small.txt");
                assert_eq!((answer.status, answer.text().as_str()), (200, "0123456789"));
                served.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let mut client = Http2::new(&beacon, 65_535);
    let (stopping, count) = (stop.clone(), served.clone());
    threads.push(std::thread::spawn(move || {
        while !stopping.load(Ordering::Relaxed) {
            assert_eq!(client.get("/small.txt"), Event::Answer(200, b"0123456789".to_vec()));
            count.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let first = beacon.address("http");
    for round in 0..6 {
        let before = served.load(Ordering::Relaxed);
        let more = if round % 2 == 0 { ", \"127.0.0.2:0\"" } else { "" };
        let config = format!(
            "listen.http = [\"127.0.0.1:0\"{more}]\n[mounts.other]\npath = \"/other{round}\"\nsite.root = {other:?}\n"
        );
        beacon.reload(&config).unwrap();
        assert_eq!(Http1::new(Wire::plain(first)).get(&format!("/other{round}/")).text(), "other");
        if round > 0 {
            let gone = Http1::new(Wire::plain(first)).get(&format!("/other{}/", round - 1)).status;
            assert_eq!(gone, 404, "the mount before is gone");
        }
        if round % 2 == 0 {
            assert_ne!(beacon.address("http"), first);
            assert_eq!(beacon.plain().get("/").status, 200, "the new listener serves");
        }
        until("requests under the new configuration", || (served.load(Ordering::Relaxed) > before + 20).then_some(()));
    }
    let second = beacon.address("http");
    until("the end of the second listener", || std::net::TcpStream::connect(second).is_err().then_some(()));
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("no request fails");
    }
    beacon.is_sound();
}

#[test]
fn a_reload_that_is_wrong_changes_nothing_and_says_why() {
    let mut beacon = Beacon::with("http.hsts = \"1h\"");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    fs::write(beacon.path().join("bad.pem"), "no certificate").unwrap();
    let pem = beacon.path().join("bad.pem");
    let mut kept = beacon.plain();
    for (config, reason) in [
        ("http.hstss = \"2h\"".to_owned(), "hsts"),
        ("this is no TOML".to_owned(), "50-test.toml"),
        ("http.limits.header_count = 1".to_owned(), "header_count"),
        (
            format!("http.hsts = \"2h\"\nlisten.http = [\"127.0.0.1:0\", \"127.0.0.1:{port}\"]"),
            &*format!("127.0.0.1:{port}"),
        ),
        (
            "http.hsts = \"2h\"\n[mounts.x]\npath = \"/x\"\nsite.root = \"/does/not/exist\"".to_owned(),
            "/does/not/exist",
        ),
        (format!("http.hsts = \"2h\"\n[tls.certificates.own]\ncert = {pem:?}\nkey = {pem:?}"), "bad.pem"),
        ("http.hsts = \"2h\"\n[mounts.twin]\npath = \"/\"\nredirect.to = \"/x\"".to_owned(), "mounts.twin"),
        ("http.hsts = \"2h\"\nlisten.http = [\"systemd:web\"]".to_owned(), "web"),
    ] {
        let error = beacon.reload(&config).expect_err(&config);
        assert!(error.contains(reason), "{config}: {error}");
        let hsts = beacon.secure().get("/").header("strict-transport-security").map(str::to_owned);
        assert_eq!(hsts.as_deref(), Some("max-age=3600"), "{config}");
        assert_eq!(kept.get("/").status, 200);
    }
    beacon.reload("http.hsts = \"2h\"").unwrap();
    let hsts = beacon.secure().get("/").header("strict-transport-security").map(str::to_owned);
    assert_eq!(hsts.as_deref(), Some("max-age=7200"));
    beacon.is_unharmed();
}

/// Writes a certificate and its key into one file.
fn certificate(path: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let new = path.with_extension("new");
    fs::write(&new, certificate.pem() + &key.serialize_pem()).unwrap();
    fs::rename(new, path).unwrap();
}

fn accepts(beacon: &Beacon, trusted: &Path) -> bool {
    let stream = std::net::TcpStream::connect(beacon.address("https")).unwrap();
    let config = Arc::new(crate::support::client_tls(trusted, &[]));
    crate::support::tls_over(stream, &config, "localhost").is_ok()
}

#[test]
fn a_certificate_is_loaded_anew_when_its_file_changes() {
    let launch = Launch::new();
    let path = launch.path().join("own.pem");
    certificate(&path);
    let old = launch.path().join("old.pem");
    fs::copy(&path, &old).unwrap();
    let beacon = launch.with(&format!("[tls.certificates.own]\ncert = {path:?}\nkey = {path:?}")).start();
    assert!(accepts(&beacon, &old));
    certificate(&path);
    until("the new certificate", || accepts(&beacon, &path).then_some(()));
    assert!(!accepts(&beacon, &old));
    let good = beacon.path().join("good.pem");
    fs::copy(&path, &good).unwrap();
    fs::write(&path, "half a certif").unwrap();
    beacon.wait_log("the bad file", |line| line["level"] == "ERROR" && line.to_string().contains("own.pem"));
    assert!(accepts(&beacon, &good), "a bad file leaves the old certificate serving");
    certificate(&path);
    until("the certificate after that", || accepts(&beacon, &path).then_some(()));
    beacon.is_sound();
}

/// A download of 64 MiB that has begun.
fn download(beacon: &Beacon) -> Http1 {
    let mut client = beacon.secure();
    client.send("GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut start = [0; 1_000];
    client.wire.read_exact(&mut start).unwrap();
    client
}

#[test]
fn a_stop_finishes_what_has_begun_and_takes_nothing_new() {
    let mut beacon = Launch::new().big("big.bin", 64 << 20).start();
    let mut idle = beacon.plain();
    assert_eq!(idle.get("/").status, 200);
    let mut running = download(&beacon);
    let address = beacon.address("http");
    beacon.signal("TERM");
    assert!(idle.is_closed(), "idle connections are closed");
    until("closed doors", || std::net::TcpStream::connect(address).is_err().then_some(()));
    let (rest, _) = running.wire.drain();
    assert!(rest.len() > (64 << 20) - 1_000, "the download was cut after {} bytes", rest.len());
    assert_eq!(beacon.wait_end().code(), Some(0));
    beacon.wait_log("the end", |line| line["message"] == "stopped");
}

#[test]
fn a_second_signal_cuts_what_has_begun() {
    let mut beacon = Launch::new().big("big.bin", 64 << 20).start();
    let mut running = download(&beacon);
    beacon.signal("TERM");
    beacon.wait_log("the stop", |line| line["message"].as_str().is_some_and(|text| text.starts_with("stopping")));
    let begun = Instant::now();
    beacon.signal("TERM");
    assert_eq!(beacon.wait_end().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(15));
    let (rest, _) = running.wire.drain();
    assert!(rest.len() < 60 << 20);
}

#[test]
fn the_grace_of_a_stop_has_an_end() {
    let mut beacon = Launch::new().big("big.bin", 64 << 20).with("server.drain = \"1s\"").start();
    let running = download(&beacon);
    let begun = Instant::now();
    beacon.signal("TERM");
    assert_eq!(beacon.wait_end().code(), Some(0));
    assert!(begun.elapsed() > Duration::from_millis(800) && begun.elapsed() < Duration::from_secs(20));
    beacon.wait_log("who was cut off", |line| line["connections"] == 1);
    drop(running);
}

#[test]
fn the_service_manager_is_told_of_every_state() {
    let launch = Launch::new();
    let path = launch.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(BOUND)).unwrap();
    let mut beacon = launch.env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", "400000").start();
    let wait = |what: &str| {
        let begun = Instant::now();
        let mut buffer = [0; 1_024];
        loop {
            assert!(begun.elapsed() < BOUND, "no {what}");
            let length = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("no {what}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(what) {
                return text;
            }
        }
    };
    assert!(wait("READY=1").contains("STATUS=Serving on 127.0.0.1:"));
    wait("WATCHDOG=1");
    wait("WATCHDOG=1");
    beacon.reload("http.hsts = \"1h\"").unwrap();
    assert!(wait("RELOADING=1").contains("MONOTONIC_USEC="));
    wait("READY=1");
    beacon.reload("nonsense = 1").unwrap_err();
    wait("RELOADING=1");
    wait("READY=1");
    beacon.signal("TERM");
    wait("STOPPING=1");
    assert_eq!(beacon.wait_end().code(), Some(0));
}

#[test]
fn inherited_sockets_are_served_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut beacon = Launch::new()
        .with("listen.http = [\"systemd:web\"]")
        .through(&["sh", "-c", "LISTEN_PID=$$ exec \"$@\" 3<&0", "sh"])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "web")
        .input(listener.try_clone().unwrap())
        .start();
    assert_eq!(Http1::new(Wire::plain(address)).get("/").status, 200);
    // A reload may close the door and open it again: the socket stays ours.
    beacon.reload("listen.http = []").unwrap();
    beacon.reload("listen.http = [\"systemd:web\"]").unwrap();
    assert_eq!(Http1::new(Wire::plain(address)).get("/").status, 200);
    beacon.is_sound();
}

#[test]
fn a_socket_that_was_not_handed_over_is_named() {
    let (status, text) = Launch::new().with("listen.http = [\"systemd:web\"]").fail();
    assert_eq!(status.code(), Some(78), "{text}");
    assert!(text.contains("\"web\""), "{text}");
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let launch = Launch::new().with(&format!("listen.https = [\"{address}\"]"));
    let (status, text) = launch.fail();
    assert_eq!(status.code(), Some(69), "{text}");
    assert!(text.contains(&address) && text.contains("ss -ltnp"), "{text}");
}

#[test]
fn a_missing_folder_is_named() {
    let (status, text) = Launch::new().with("mounts.site.site.root = \"/does/not/exist\"").fail();
    assert_eq!(status.code(), Some(78), "{text}");
    assert!(text.contains("mounts.site") && text.contains("/does/not/exist"), "{text}");
}
