//! HTTP/2 frames that no library sends: floods, bombs, and heads that are not well formed.

use super::SHORT;
use crate::support::{Beacon, Event, Http2, frame, literal, request_block};

/// Sends pieces until the server has had enough, or they are all sent; then the connection must end.
fn flood(client: &mut Http2, pieces: impl Iterator<Item = Vec<u8>>) {
    // What the server answers is read by nobody for the moment: a flood does not wait.
    let mut batch = Vec::new();
    for piece in pieces {
        batch.extend(piece);
        if batch.len() > 8_192 && !client.send(std::mem::take(&mut batch)) {
            return;
        }
    }
    client.send(batch);
    client.end();
}

/// A server that would only end the connection much later.
const PATIENT: &str = "http.timeouts = { header = \"60s\", first_byte = \"60s\", idle = \"60s\", stall = \"60s\" }";

#[test]
fn rapid_reset_ends_the_connection() {
    let beacon = Beacon::with(PATIENT);
    let mut client = Http2::new(&beacon, 65_535);
    let block = request_block("localhost", "/text.txt", &[]);
    let pieces: Vec<_> = (0..10_000)
        .map(|_| {
            let stream = client.stream();
            [frame(1, 5, stream, &block), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
        })
        .collect();
    flood(&mut client, pieces.into_iter());
    beacon.is_unharmed();
}

#[test]
fn resets_that_the_server_is_made_to_send_end_the_connection() {
    let beacon = Beacon::with(PATIENT);
    let mut client = Http2::new(&beacon, 0);
    let block = request_block("localhost", "/text.txt", &[]);
    let pieces: Vec<_> = (0..10_000)
        .map(|_| {
            let stream = client.stream();
            // A window update of zero is an error of the stream (RFC 9113 section 6.9).
            [frame(1, 5, stream, &block), frame(8, 0, stream, &[0; 4])].concat()
        })
        .collect();
    flood(&mut client, pieces.into_iter());
    beacon.is_unharmed();
}

#[test]
fn a_window_update_of_zero_is_an_error() {
    let beacon = Beacon::with(PATIENT);
    let mut client = Http2::new(&beacon, 0);
    let stream = client.request(&request_block("localhost", "/text.txt", &[]));
    client.send(frame(8, 0, stream, &[0; 4]));
    let outcome = client.outcome(stream);
    assert!(matches!(outcome, Event::Reset(1) | Event::Gone(Some(1))), "{outcome:?}");
    let mut client = Http2::new(&beacon, 65_535);
    client.send(frame(8, 0, 0, &[0; 4]));
    assert_eq!(client.end(), Some(1), "on the connection");
    beacon.is_unharmed();
}

#[test]
fn a_window_beyond_its_limit_is_an_error() {
    let beacon = Beacon::with(PATIENT);
    let mut client = Http2::new(&beacon, 65_535);
    client.send(frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()));
    assert_eq!(client.end(), Some(3));
    beacon.is_unharmed();
}

#[test]
fn a_flood_of_continuations_ends_the_connection() {
    for piece in [vec![], literal(b"x", b"y"), vec![b'x'; 1_000]] {
        let beacon = Beacon::with(PATIENT);
        let mut client = Http2::new(&beacon, 65_535);
        let stream = client.stream();
        client.send(frame(1, 1, stream, &request_block("localhost", "/", &[])));
        flood(&mut client, (0..200_000).map(|_| frame(9, 0, stream, &piece)));
        beacon.is_unharmed();
    }
}

#[test]
fn a_header_block_held_open_is_closed_at_the_deadline_of_heads() {
    let beacon = Beacon::with(SHORT);
    let mut client = Http2::new(&beacon, 65_535);
    let stream = client.stream();
    let begun = std::time::Instant::now();
    client.send(frame(1, 1, stream, &request_block("localhost", "/", &[])));
    let code = client.end();
    assert!(begun.elapsed().as_millis() > 800, "not before its deadline: {code:?} after {:?}", begun.elapsed());

    let mut client = Http2::new(&beacon, 65_535);
    assert!(matches!(client.get("/"), Event::Answer(200, _)));
    let stream = client.stream();
    client.send(frame(1, 1, stream, &request_block("localhost", "/", &[])));
    let begun = std::time::Instant::now();
    while client.send(frame(9, 0, stream, b"")) {
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(begun.elapsed().as_secs() < 20, "empty continuations hold the block open");
    }
    beacon.is_unharmed();
}

#[test]
fn a_frame_that_stops_in_its_middle_is_closed_at_a_deadline() {
    let beacon = Beacon::with(SHORT);
    for part in [&b"\0"[..], b"\0\0\x20\x01\x05\0\0\0\x01", b"\0\x40\0\x01\x05\0\0\0\x01xxx"] {
        let mut client = Http2::new(&beacon, 65_535);
        client.send(part);
        client.end();
    }
    beacon.is_unharmed();
}

macro_rules! floods {
    ($($name:ident: $piece:expr;)*) => {$(
        #[test]
        fn $name() {
            let beacon = Beacon::with(PATIENT);
            let mut client = Http2::new(&beacon, 65_535);
            flood(&mut client, (0..200_000).map(|_| $piece));
            beacon.is_unharmed();
        }
    )*};
}

floods! {
    a_flood_of_pings_ends_the_connection: frame(6, 0, 0, &[0; 8]);
    a_flood_of_answers_to_pings_ends_the_connection: frame(6, 1, 0, &[0; 8]);
    a_flood_of_settings_ends_the_connection: frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]);
    a_flood_of_empty_settings_ends_the_connection: frame(4, 0, 0, &[]);
    a_flood_of_priorities_ends_the_connection: frame(2, 0, 9, &[0, 0, 0, 0, 16]);
    a_flood_of_resets_of_idle_streams_ends_the_connection: frame(3, 0, 9, &[0, 0, 0, 8]);
    a_flood_of_unknown_frames_ends_the_connection: frame(0x42, 0, 0, &[0; 100]);
    data_on_an_idle_stream_ends_the_connection: frame(0, 0, 9, b"");
    a_push_promise_from_a_client_ends_the_connection: frame(5, 4, 1, &[0, 0, 0, 2]);
    a_frame_beyond_the_largest_size_ends_the_connection: frame(0, 0, 1, &vec![0; 20_000]);
    headers_on_an_even_stream_end_the_connection: frame(1, 5, 2, &request_block("localhost", "/", &[]));
    a_malformed_settings_frame_ends_the_connection: frame(4, 0, 0, &[0; 5]);
    a_malformed_ping_ends_the_connection: frame(6, 0, 0, &[0; 7]);
    a_malformed_header_block_ends_the_connection: frame(1, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn a_flood_of_window_updates_harms_nobody() {
    let beacon = Beacon::with(PATIENT);
    let mut client = Http2::new(&beacon, 65_535);
    for _ in 0..200 {
        client.send(frame(8, 0, 0, &[0, 0, 0, 1]).repeat(100));
    }
    assert!(matches!(client.get("/small.txt"), Event::Answer(200, _) | Event::Gone(_)));
    beacon.is_unharmed();
}

#[test]
fn a_flood_of_empty_data_ends_the_connection() {
    let beacon = Beacon::with(PATIENT);
    let mut client = Http2::new(&beacon, 65_535);
    let stream = client.stream();
    client.send(frame(1, 4, stream, &request_block("localhost", "/", &[])));
    flood(&mut client, (0..200_000).map(|_| frame(0, 0, stream, b"")));
    beacon.is_unharmed();
}

#[test]
fn a_bomb_of_indexed_headers_gets_431_and_takes_no_memory() {
    let beacon = Beacon::with(PATIENT);
    for _ in 0..20 {
        let mut client = Http2::new(&beacon, 65_535);
        let mut block = request_block("localhost", "/", &[]);
        // One entry of nearly the whole table, then the same again by one byte each (RFC 7541 sections 6.2.1, 6.1).
        let mut entry = literal(b"x", &[b'y'; 4_000]);
        entry[0] = 0x40;
        block.extend(entry);
        block.resize(16_000, 0xbe);
        let stream = client.request(&block);
        let outcome = client.outcome(stream);
        assert!(matches!(outcome, Event::Answer(431, _) | Event::Reset(_) | Event::Gone(_)), "{outcome:?}");
    }
    beacon.is_unharmed();
}

/// One request; what becomes of it.
fn outcome(beacon: &Beacon, block: &[u8]) -> Event {
    let mut client = Http2::new(beacon, 65_535);
    // In pieces of a frame each.
    let stream = client.stream();
    let mut chunks = block.chunks(16_000).peekable();
    let mut kind = 1;
    while let Some(chunk) = chunks.next() {
        let last = if chunks.peek().is_none() { 4 } else { 0 };
        client.send(frame(kind, last | u8::from(kind == 1), stream, chunk));
        kind = 9;
    }
    client.outcome(stream)
}

fn status(beacon: &Beacon, host: &str, path: &str, more: &[(&str, &str)]) -> u16 {
    match outcome(beacon, &request_block(host, path, more)) {
        Event::Answer(status, _) => status,
        other => panic!("{host} {path}: {other:?}"),
    }
}

#[test]
fn heads_beyond_the_limits_get_their_status() {
    let beacon = Beacon::with("");
    let more: Vec<_> = (0..101).map(|_| ("x", "y")).collect();
    assert_eq!(status(&beacon, "localhost", "/", &more), 431);
    assert_eq!(status(&beacon, "localhost", "/", &more[..99]), 200);
    let wide = "w".repeat(70_000);
    assert_eq!(status(&beacon, "localhost", "/", &[("x", &wide)]), 431);
    assert_eq!(status(&beacon, "localhost", &format!("/{}", "a".repeat(33_000)), &[]), 414);
    beacon.is_unharmed();
}

#[test]
fn an_authority_that_is_wrong_gets_its_status() {
    let beacon = Beacon::with("");
    assert_eq!(status(&beacon, "localhost", "/", &[("host", "localhost")]), 200);
    assert_eq!(status(&beacon, "localhost", "/", &[("host", "evil.test")]), 400);
    assert_eq!(status(&beacon, "localhost", "/", &[("host", "localhost"), ("host", "localhost")]), 400);
    assert_eq!(status(&beacon, "evil.test", "/", &[]), 421);
    assert_eq!(status(&beacon, "evil.test", "/", &[("host", "localhost")]), 400);
    for bad in ["u@localhost", "localhost:99999", "local host", ""] {
        let outcome = outcome(&beacon, &request_block(bad, "/", &[]));
        assert!(matches!(outcome, Event::Answer(400, _) | Event::Reset(1)), "{bad:?}: {outcome:?}");
    }
    beacon.is_unharmed();
}

#[test]
fn methods_that_are_not_served_get_their_status() {
    let beacon = Beacon::with("");
    for (method, expected) in [("TRACE", 405), ("get", 501), ("FOO", 501), ("DELETE", 405)] {
        let mut block = literal(b":method", method.as_bytes());
        for (name, value) in [(":scheme", "https"), (":authority", "localhost"), (":path", "/")] {
            block.extend(literal(name.as_bytes(), value.as_bytes()));
        }
        let outcome = outcome(&beacon, &block);
        assert!(matches!(outcome, Event::Answer(status, _) if status == expected), "{method}: {outcome:?}");
    }
    let mut connect = literal(b":method", b"CONNECT");
    connect.extend(literal(b":authority", b"localhost:443"));
    let outcome = outcome(&beacon, &connect);
    assert!(matches!(outcome, Event::Answer(405, _) | Event::Reset(_)), "CONNECT: {outcome:?}");
    beacon.is_unharmed();
}

/// A malformed request is an error of its stream or of the connection, or gets a 400; a handler never sees it.
macro_rules! malformed {
    ($($name:ident: $fields:expr;)*) => {$(
        #[test]
        fn $name() {
            let beacon = Beacon::with("");
            let fields: &[(&[u8], &[u8])] = $fields;
            let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
            let outcome = outcome(&beacon, &block);
            assert!(
                matches!(outcome, Event::Answer(400, _) | Event::Reset(1) | Event::Gone(Some(1 | 9))),
                "{outcome:?}"
            );
            beacon.is_unharmed();
        }
    )*};
}

macro_rules! get_with {
    ($($more:expr),*) => {
        &[(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/"), $($more),*]
    };
}

malformed! {
    connection_in_http_2: get_with!((b"connection", b"close"));
    keep_alive_in_http_2: get_with!((b"keep-alive", b"timeout=5"));
    proxy_connection_in_http_2: get_with!((b"proxy-connection", b"close"));
    transfer_encoding_in_http_2: get_with!((b"transfer-encoding", b"chunked"));
    upgrade_in_http_2: get_with!((b"upgrade", b"websocket"));
    te_gzip_in_http_2: get_with!((b"te", b"gzip"));
    an_upper_case_name_in_http_2: get_with!((b"X-Upper", b"y"));
    a_name_with_a_space_in_http_2: get_with!((b"x y", b"z"));
    a_name_with_a_colon_in_http_2: get_with!((b"x:y", b"z"));
    an_empty_name_in_http_2: get_with!((b"", b"z"));
    a_line_break_in_a_value_in_http_2: get_with!((b"x", b"y\r\nz: w"));
    nul_in_a_value_in_http_2: get_with!((b"x", b"y\0z"));
    a_pseudo_header_behind_others_in_http_2:
        &[(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b"x", b"y"), (b":path", b"/")];
    an_unknown_pseudo_header_in_http_2: get_with!((b":unknown", b"y"));
    a_response_pseudo_header_in_http_2: get_with!((b":status", b"200"));
    two_methods_in_http_2: get_with!((b":method", b"POST"));
    two_paths_in_http_2: get_with!((b":path", b"/small.txt"));
    two_authorities_in_http_2: get_with!((b":authority", b"evil.test"));
    no_method_in_http_2: &[(b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")];
    no_scheme_in_http_2: &[(b":method", b"GET"), (b":authority", b"localhost"), (b":path", b"/")];
    no_path_in_http_2: &[(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost")];
    an_empty_path_in_http_2:
        &[(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"")];
    a_relative_path_in_http_2:
        &[(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"small.txt")];
    a_path_with_a_line_break_in_http_2:
        &[(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/ HTTP/1.1\r\n")];
    no_authority_in_http_2: &[(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/")];
    a_content_length_with_no_body_in_http_2: get_with!((b"content-length", b"5"));
    a_content_length_that_is_no_number_in_http_2: get_with!((b"content-length", b"+5"));
    two_content_lengths_in_http_2: get_with!((b"content-length", b"0"), (b"content-length", b"5"));
}

#[test]
fn more_streams_than_allowed_are_refused_and_the_others_served() {
    let beacon = Beacon::with("http.limits.h2_streams = 10");
    let mut client = Http2::new(&beacon, 0);
    let streams: Vec<_> = (0..11).map(|_| client.request(&request_block("localhost", "/small.txt", &[]))).collect();
    assert_eq!(client.outcome(streams[10]), Event::Reset(7), "REFUSED_STREAM");
    for stream in &streams[..10] {
        client.send(frame(8, 0, *stream, &100_u32.to_be_bytes()));
    }
    let mut left = 10;
    while left > 0 {
        let next = client.next().expect("the others are served");
        if next.kind == 0 && next.flags & 1 != 0 {
            assert_eq!(next.payload, b"0123456789");
            left -= 1;
        }
    }
    beacon.is_unharmed();
}

#[test]
fn a_stream_that_is_used_twice_ends_the_connection() {
    let beacon = Beacon::with(PATIENT);
    let mut client = Http2::new(&beacon, 65_535);
    let block = request_block("localhost", "/", &[]);
    client.send([frame(1, 5, 5, &block), frame(1, 5, 3, &block)].concat());
    assert!(client.end().is_some());
    beacon.is_unharmed();
}

#[test]
fn frames_within_a_header_block_end_the_connection() {
    let beacon = Beacon::with(PATIENT);
    let mut client = Http2::new(&beacon, 65_535);
    let block = request_block("localhost", "/", &[]);
    client.send([frame(1, 1, 1, &block), frame(6, 0, 0, &[0; 8])].concat());
    assert_eq!(client.end(), Some(1));
    beacon.is_unharmed();
}
