//! Limits on connections, rates, bodies and file descriptors: what is one too many, and that it passes again.

use std::time::{Duration, Instant};

use crate::support::{Beacon, Http1, Launch, Wire, until};

#[test]
fn connections_of_one_client_are_limited_and_come_back() {
    let beacon = Beacon::with("listen.max_connections_per_client = 4");
    let mut open: Vec<_> = (0..4).map(|_| beacon.plain()).collect();
    for client in &mut open {
        assert_eq!(client.get("/").status, 200);
    }
    let mut fifth = beacon.plain();
    fifth.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = fifth.answer();
    assert!(answer.as_ref().is_none_or(|answer| matches!(answer.status, 429 | 503)), "{answer:?}");
    assert!(fifth.is_closed());
    for client in &mut open {
        assert_eq!(client.get("/").status, 200, "those that were there go on");
    }
    assert_eq!(beacon.operations("/healthz").status, 200, "operations have places of their own");
    open.pop();
    until("a place", || {
        let mut client = beacon.plain();
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.answer().filter(|answer| answer.status == 200)
    });
    drop(open);
    until("all places", || beacon.plain().answer_if_served());
    beacon.is_sound();
}

#[test]
fn connections_beyond_the_limit_wait_and_are_served_later() {
    let beacon = Beacon::with("listen.max_connections = 3");
    let mut open: Vec<_> = (0..3).map(|_| beacon.plain()).collect();
    for client in &mut open {
        assert_eq!(client.get("/").status, 200);
    }
    let mut fourth = beacon.plain();
    fourth.send("GET /small.txt HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(fourth.is_silent_for(Duration::from_millis(500)), "it waits");
    assert_eq!(beacon.operations("/healthz").status, 200, "operations have places of their own");
    open.pop();
    assert_eq!(fourth.answer().unwrap().text(), "0123456789");
    drop(open);
    drop(fourth);
    beacon.is_unharmed();
}

#[test]
fn requests_beyond_the_rate_get_429_and_pass_again() {
    let beacon = Beacon::with("http.rate = { per_second = 1, burst = 3 }");
    let mut client = beacon.plain();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    // A slow machine may have earned another one meanwhile.
    let begun = Instant::now();
    let refused = until("429", || Some(client.get("/")).filter(|answer| answer.status == 429));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert_eq!(beacon.secure().get("/").status, 429, "another connection of the same client");
    assert_eq!(beacon.operations("/healthz").status, 200);
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(client.get("/").status, 200);
    beacon.is_sound();
}

#[test]
fn a_mount_has_a_rate_of_its_own() {
    let launch = Launch::new();
    let root = launch.path().join("www");
    let config =
        format!("[mounts.slow]\npath = \"/slow\"\nrate = {{ per_second = 1, burst = 2 }}\nsite.root = {root:?}\n");
    let beacon = launch.with(&config).start();
    let mut client = beacon.plain();
    assert_eq!(client.get("/slow/").status, 200);
    assert_eq!(client.get("/slow/small.txt").status, 200);
    let refused = until("429", || Some(client.get("/slow/")).filter(|answer| answer.status == 429));
    assert!(refused.header("retry-after").is_some());
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200, "other mounts have no limit");
    }
    beacon.is_unharmed();
}

#[test]
fn a_declared_body_beyond_the_limit_gets_413() {
    let beacon = Beacon::with("http.limits.body_bytes = 1000");
    for mut client in [beacon.plain(), beacon.secure()] {
        let answer = client.ask("POST", "/", "Content-Length: 1001\r\n");
        assert_eq!(answer.status, 413);
        let answer = client.answer();
        assert!(answer.is_none(), "{answer:?}");
    }
    let answer = beacon.plain().ask("POST", "/", "Content-Length: 1001\r\nExpect: 100-continue\r\n");
    assert_eq!(answer.status, 413, "instead of 100 Continue");
    beacon.is_unharmed();
}

#[test]
fn a_large_body_that_is_sent_anyway_does_not_hide_the_answer() {
    let beacon = Beacon::with("http.limits.body_bytes = 1000");
    for mut client in [beacon.plain(), beacon.secure()] {
        client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n");
        for _ in 0..50 {
            client.send(vec![b'x'; 1_000_000]);
        }
        let answer = client.answer().expect("the answer is there, though the body was not taken");
        assert_eq!(answer.status, 413);
    }
    beacon.is_unharmed();
}

#[test]
fn a_chunked_body_beyond_the_limit_takes_no_memory_and_is_not_read_to_its_end() {
    let beacon = Beacon::with("http.limits.body_bytes = 1000");
    for mut client in [beacon.plain(), beacon.secure()] {
        client.send("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 65_536], b"\r\n"].concat();
        for _ in 0..1_000 {
            client.send(&chunk);
        }
        // A site reads no body: it answers that it takes no POST, or that the body is too large.
        let answer = client.answer();
        assert!(answer.as_ref().is_none_or(|answer| matches!(answer.status, 405 | 413)), "{answer:?}");
        assert!(client.is_closed());
    }
    beacon.is_unharmed();
}

#[test]
fn a_mount_may_take_larger_bodies() {
    let launch = Launch::new();
    let root = launch.path().join("www");
    let config = format!(
        "http.limits.body_bytes = 1000\n[mounts.large]\npath = \"/large\"\nbody_bytes = 5000\nsite.root = {root:?}\n"
    );
    let beacon = launch.with(&config).start();
    assert_eq!(beacon.plain().ask("POST", "/large/", "Content-Length: 4000\r\n").status, 405);
    assert_eq!(beacon.plain().ask("POST", "/large/", "Content-Length: 5001\r\n").status, 413);
    assert_eq!(beacon.plain().ask("POST", "/", "Content-Length: 4000\r\n").status, 413);
}

#[test]
fn running_out_of_file_descriptors_passes() {
    let beacon = Launch::new().through(&["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"]).start();
    let mut open: Vec<_> = (0..150).map(|_| Http1::new(Wire::plain(beacon.address("http")))).collect();
    beacon.wait_log("the shortage", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("cannot accept connections"))
    });
    // Those that were accepted are served even now; a file may not be opened.
    let answer = open[0].get("/");
    assert!(matches!(answer.status, 200 | 500 | 503), "{answer:?}");
    drop(open);
    beacon.wait_log("the recovery", |line| line["message"] == "accepting connections again");
    beacon.is_unharmed();
    assert!(beacon.count("accepting connections again") < 20, "not a line for each try");
}

#[test]
fn a_thousand_connections_at_a_time_are_served() {
    let beacon = Beacon::with("listen.max_connections_per_client = 0");
    let mut open: Vec<_> = (0..1_000).map(|_| beacon.plain()).collect();
    for client in &mut open {
        client.send("GET /small.txt HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    for client in &mut open {
        assert_eq!(client.answer().unwrap().text(), "0123456789");
    }
    drop(open);
    beacon.is_unharmed();
}
