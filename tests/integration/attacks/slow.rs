//! Clients that take their time: each deadline closes, not before its time, and a slow but steady client is left alone.

use std::io::Read as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::SHORT;
use crate::support::{Beacon, Http1, Http2, Launch, request_block};

/// A deadline may be checked a little early by the coarse clock.
fn at_least(waited: Duration, seconds: f32) {
    assert!(waited.as_secs_f32() > seconds - 0.2, "closed after {waited:?}, before its deadline of {seconds} s");
    assert!(waited.as_secs_f32() < seconds + 15.0, "closed after {waited:?}, long after its deadline of {seconds} s");
}

#[test]
fn a_head_that_stops_gets_408_at_its_deadline() {
    let beacon = Beacon::with(SHORT);
    for secure in [false, true] {
        let mut client = if secure { beacon.secure() } else { beacon.plain() };
        let begun = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: local");
        let answer = client.answer().expect("an answer");
        at_least(begun.elapsed(), 1.0);
        assert_eq!(answer.status, 408);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.is_closed());
    }
    beacon.is_unharmed();
}

#[test]
fn a_head_byte_by_byte_gets_408_at_the_same_deadline() {
    let beacon = Beacon::with(SHORT);
    let mut client = beacon.plain();
    let begun = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n");
    while begun.elapsed() < Duration::from_millis(2_500) && client.is_silent_for(Duration::from_millis(50)) {
        client.send("X: y\r\n");
    }
    at_least(begun.elapsed(), 1.0);
    assert!(begun.elapsed() < Duration::from_secs(2), "each byte gains time: {:?}", begun.elapsed());
    beacon.is_unharmed();
}

#[test]
fn one_byte_alone_gets_408() {
    let beacon = Beacon::with(SHORT);
    let mut client = beacon.plain();
    let begun = Instant::now();
    client.send("P");
    assert_eq!(client.answer().unwrap().status, 408);
    at_least(begun.elapsed(), 1.0);
    beacon.is_unharmed();
}

#[test]
fn a_second_head_that_stops_gets_408() {
    let beacon = Beacon::with(SHORT);
    let mut client = beacon.plain();
    assert_eq!(client.get("/").status, 200);
    client.send("GET / HT");
    assert_eq!(client.answer().unwrap().status, 408);
    assert!(client.is_closed());
    beacon.is_unharmed();
}

#[test]
fn a_client_that_never_speaks_is_closed_at_the_first_byte_deadline() {
    let beacon = Beacon::with(SHORT);
    for secure in [false, true] {
        let mut client = if secure { beacon.secure() } else { beacon.plain() };
        let (came, waited) = client.wire.drain();
        assert!(came.is_empty());
        at_least(waited, 2.0);
    }
    beacon.is_unharmed();
}

#[test]
fn an_idle_client_is_closed_at_the_idle_deadline_and_not_at_that_of_heads() {
    let beacon = Beacon::with(SHORT);
    for secure in [false, true] {
        let mut client = if secure { beacon.secure() } else { beacon.plain() };
        assert_eq!(client.get("/").status, 200);
        assert!(client.is_silent_for(Duration::from_millis(2_500)), "longer than header and first_byte");
        assert_eq!(client.get("/").status, 200);
        let (came, waited) = client.wire.drain();
        assert!(came.is_empty());
        at_least(waited, 4.0);
    }
    beacon.is_unharmed();
}

#[test]
fn half_an_http_2_preface_is_closed_at_the_deadline_of_heads() {
    let beacon = Beacon::with(SHORT);
    for half in ["P", "PRI * HTTP/2.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut client = Http1::new(beacon.wire(&[b"h2"]));
        client.send(half);
        let (_, waited) = client.wire.drain();
        at_least(waited, 1.0);
    }
    beacon.is_unharmed();
}

#[test]
fn http_2_without_a_word_is_closed_at_the_first_byte_deadline() {
    let beacon = Beacon::with(SHORT);
    let (_, waited) = beacon.wire(&[b"h2"]).drain();
    at_least(waited, 2.0);
    beacon.is_unharmed();
}

#[test]
fn many_slow_heads_do_not_keep_others_out() {
    let beacon = Beacon::with(SHORT);
    let mut slow: Vec<_> = (0..200).map(|_| beacon.plain()).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\nX");
    }
    for _ in 0..20 {
        assert_eq!(beacon.plain().get("/").status, 200);
    }
    for client in &mut slow {
        assert_eq!(client.answer().unwrap().status, 408);
    }
    beacon.is_unharmed();
}

#[test]
fn a_body_that_nobody_reads_and_that_never_ends_does_not_hold_the_connection() {
    let beacon = Beacon::with(SHORT);
    for secure in [false, true] {
        let mut client = if secure { beacon.secure() } else { beacon.plain() };
        client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
        assert_eq!(client.answer().unwrap().status, 405);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if !client.is_silent_for(Duration::from_millis(100)) {
                break;
            }
            client.send("x");
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "a dripped body holds its connection");
    }
    beacon.is_unharmed();
}

/// Over HTTP/1.1 in the clear and encrypted.
#[test]
fn a_client_that_stops_reading_is_cut_off() {
    let beacon = Launch::new().big("big.bin", 256 << 20).with(SHORT).start();
    for secure in [false, true] {
        let mut client = if secure { beacon.secure() } else { beacon.plain() };
        let target = format!("/big.bin?{secure}");
        client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let line = beacon.wait_access("the cut download", |line| line["target"] == target);
        assert_eq!(line["complete"], false);
        assert!(line["duration_us"].as_u64().unwrap() > 800_000, "not before its deadline: {line}");
        let (rest, _) = client.wire.drain();
        assert!(rest.len() < 200 << 20);
    }
    beacon.is_unharmed();
}

#[test]
fn a_client_that_reads_too_slowly_is_cut_off() {
    let beacon = Launch::new().big("big.bin", 256 << 20).with(SHORT).start();
    let mut client = beacon.plain();
    client.send("GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let begun = Instant::now();
    let mut chunk = [0; 100];
    loop {
        match client.wire.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(_) => sleep(Duration::from_millis(50)),
        }
        if beacon.accessed("/big.bin") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(25), "2 kB a second is below the limit of 20 kB");
    }
    at_least(begun.elapsed(), 1.0);
    beacon.is_unharmed();
}

#[test]
fn a_client_that_reads_slowly_and_steadily_above_the_rate_is_not_cut_off() {
    let beacon = Launch::new().big("big.bin", 256 << 20).with(SHORT).start();
    let mut client = beacon.plain();
    client.send("GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let begun = Instant::now();
    let mut chunk = vec![0; 16 * 1024];
    let mut count = 0;
    // About 300 kB a second, where 20 kB are asked for.
    while begun.elapsed() < Duration::from_secs(8) {
        let read = client.wire.read(&mut chunk).expect("the download goes on");
        assert!(read > 0, "the download was cut after {count} bytes and {:?}", begun.elapsed());
        assert!(!beacon.accessed("/big.bin"), "the server gave up after {count} bytes and {:?}", begun.elapsed());
        count += read;
        sleep(Duration::from_millis(50));
    }
    beacon.is_sound();
}

#[test]
fn http_2_with_a_window_of_zero_is_closed_at_the_deadline() {
    let beacon = Launch::new().big("big.bin", 256 << 20).with(SHORT).start();
    for target in ["/big.bin", "/small.txt"] {
        let mut client = Http2::new(&beacon, 0);
        client.request(&request_block("localhost", target, &[]));
        let begun = Instant::now();
        client.end();
        at_least(begun.elapsed(), 1.0);
    }
    beacon.is_unharmed();
}

#[test]
fn http_2_that_opens_its_window_by_single_bytes_is_closed() {
    let beacon = Launch::new().big("big.bin", 256 << 20).with(SHORT).start();
    let mut client = Http2::new(&beacon, 0);
    let stream = client.request(&request_block("localhost", "/big.bin", &[]));
    let begun = Instant::now();
    while client.send(crate::support::frame(8, 0, stream, &[0, 0, 0, 1])) && !beacon.accessed("/big.bin") {
        sleep(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(20), "a window of one byte at a time holds the stream");
    }
    beacon.is_unharmed();
}

#[test]
fn http_2_pings_do_not_keep_an_idle_connection_open() {
    let beacon = Beacon::with(SHORT);
    let mut client = Http2::new(&beacon, 65_535);
    client.get("/");
    let begun = Instant::now();
    while client.send(crate::support::frame(6, 0, 0, &[0; 8])) {
        sleep(Duration::from_millis(100));
        assert!(begun.elapsed() < Duration::from_secs(20), "pings hold an idle connection");
    }
    at_least(begun.elapsed(), 4.0);
    beacon.is_unharmed();
}
