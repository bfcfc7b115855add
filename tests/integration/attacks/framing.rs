//! Where one request ends and the next begins: every shape of ambiguity gets its status, and the connection ends, so
//! that what follows is never taken for a request (RFC 9112 section 11.2).

use crate::support::{Beacon, Http1};

/// A request that must never be answered: it follows a message whose end is not certain.
const SMUGGLED: &str = "GET /small.txt HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends `first`, good, and `text`, bad, and something to smuggle, in one piece and byte by byte.
fn refused(text: &str, status: u16) {
    let beacon = Beacon::with("");
    let good = "GET /sub/page.html HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for secure in [false, true] {
        let connect = || if secure { beacon.secure() } else { beacon.plain() };
        let mut client = connect();
        client.send(format!("{text}{SMUGGLED}"));
        ends(&mut client, status);

        let mut client = connect();
        client.send(format!("{good}{good}{text}{SMUGGLED}"));
        for _ in 0..2 {
            let answer = client.answer().unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "<p>below</p>"), "what came before is answered");
        }
        ends(&mut client, status);
    }
    let mut client = beacon.plain();
    for byte in text.as_bytes() {
        client.send([*byte]);
    }
    client.send(SMUGGLED);
    ends(&mut client, status);
    beacon.is_unharmed();
}

fn ends(client: &mut Http1, status: u16) {
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    assert!(client.is_closed(), "nothing else is answered");
}

/// One named test a shape: the request line and Host are added to heads that begin with a header.
macro_rules! refused {
    ($($name:ident: $text:expr => $status:expr;)*) => {$(
        #[test]
        fn $name() {
            refused($text, $status);
        }
    )*};
}

macro_rules! post {
    ($rest:expr) => {
        concat!("POST / HTTP/1.1\r\nHost: localhost\r\n", $rest)
    };
}

refused! {
    content_length_then_transfer_encoding:
        post!("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") => 400;
    transfer_encoding_then_content_length:
        post!("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n") => 400;
    transfer_encoding_twice:
        post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") => 501;
    transfer_encoding_chunked_then_identity:
        post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n") => 501;
    transfer_encoding_list_of_two_chunked:
        post!("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n") => 501;
    transfer_encoding_gzip_chunked:
        post!("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n") => 501;
    transfer_encoding_identity:
        post!("Transfer-Encoding: identity\r\n\r\n") => 501;
    transfer_encoding_empty:
        post!("Transfer-Encoding:\r\n\r\n") => 501;
    transfer_encoding_with_a_vertical_tab:
        post!("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n") => 400;
    transfer_encoding_with_a_vertical_tab_behind:
        post!("Transfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n") => 400;
    transfer_encoding_with_a_form_feed:
        post!("Transfer-Encoding: \x0cchunked\r\n\r\n0\r\n\r\n") => 400;
    transfer_encoding_in_quotes:
        post!("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n") => 501;
    transfer_encoding_with_a_space_before_the_colon:
        post!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n") => 400;
    transfer_encoding_with_a_tab_before_the_colon:
        post!("Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n") => 400;
    transfer_encoding_in_http_1_0:
        "POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" => 400;
    content_length_twice_and_equal:
        post!("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc") => 400;
    content_length_twice_and_different:
        post!("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd") => 400;
    content_length_with_a_plus:
        post!("Content-Length: +3\r\n\r\nabc") => 400;
    content_length_negative:
        post!("Content-Length: -3\r\n\r\nabc") => 400;
    content_length_list:
        post!("Content-Length: 3, 3\r\n\r\nabc") => 400;
    content_length_hexadecimal:
        post!("Content-Length: 0x3\r\n\r\nabc") => 400;
    content_length_empty:
        post!("Content-Length:\r\n\r\n") => 400;
    content_length_beyond_64_bits:
        post!("Content-Length: 18446744073709551619\r\n\r\nabc") => 400;
    content_length_with_a_space_inside:
        post!("Content-Length: 1 3\r\n\r\nabc") => 400;
    bare_line_feeds:
        "GET / HTTP/1.1\nHost: localhost\n\n" => 400;
    a_bare_line_feed_behind_one_header:
        "GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n" => 400;
    a_bare_line_feed_at_the_end:
        "GET / HTTP/1.1\r\nHost: localhost\r\n\n" => 400;
    a_bare_carriage_return_in_a_value:
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rY: b\r\n\r\n" => 400;
    a_bare_carriage_return_in_the_request_line:
        "GET /\r HTTP/1.1\r\nHost: localhost\r\n\r\n" => 400;
    a_folded_header:
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n" => 400;
    a_header_that_begins_with_a_space:
        "GET / HTTP/1.1\r\n X: a\r\nHost: localhost\r\n\r\n" => 400;
    a_space_before_the_colon:
        "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n" => 400;
    a_header_without_a_colon:
        "GET / HTTP/1.1\r\nHost: localhost\r\nnonsense\r\n\r\n" => 400;
    a_header_without_a_name:
        "GET / HTTP/1.1\r\nHost: localhost\r\n: value\r\n\r\n" => 400;
    nul_in_a_value:
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n" => 400;
    nul_in_a_name:
        "GET / HTTP/1.1\r\nHost: localhost\r\nX\0: a\r\n\r\n" => 400;
    nul_in_the_request_line:
        "GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n" => 400;
    no_version:
        "GET /\r\nHost: localhost\r\n\r\n" => 400;
    an_unknown_version:
        "GET / HTTP/1.2\r\nHost: localhost\r\n\r\n" => 505;
    the_http_2_preface_in_the_clear:
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" => 505;
    an_empty_request_line_twice:
        "\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n" => 400;
}

/// Within a body the request is being answered already: its answer may come, then the connection ends.
fn cut_off(text: &str) {
    let beacon = Beacon::with("");
    for secure in [false, true] {
        let mut client = if secure { beacon.secure() } else { beacon.plain() };
        client.send(format!("{text}{SMUGGLED}"));
        let (came, _) = client.wire.drain();
        let came = String::from_utf8_lossy(&came);
        assert!(!came.contains("0123456789"), "the smuggled request is answered: {came}");
        assert!(came.matches("HTTP/1.1 ").count() <= 1, "{came}");
    }
    beacon.is_unharmed();
}

macro_rules! cut_off {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            cut_off(post!(concat!("Transfer-Encoding: chunked\r\n\r\n", $text)));
        }
    )*};
}

cut_off! {
    a_chunk_size_with_0x: "0x3\r\nabc\r\n0\r\n\r\n";
    a_chunk_size_with_a_sign: "+3\r\nabc\r\n0\r\n\r\n";
    a_chunk_size_with_a_space: "3 \r\nabc\r\n0\r\n\r\n";
    a_chunk_size_that_overflows: "10000000000000003\r\nabc\r\n0\r\n\r\n";
    a_chunk_without_a_size: "\r\nabc\r\n0\r\n\r\n";
    a_bare_line_feed_behind_a_chunk_size: "3\nabc\r\n0\r\n\r\n";
    a_bare_line_feed_behind_a_chunk: "3\r\nabc\n0\r\n\r\n";
    a_bare_line_feed_behind_the_last_chunk: "3\r\nabc\r\n0\n\n";
    a_bare_line_feed_in_a_chunk_extension: "3;a\nb\r\nabc\r\n0\r\n\r\n";
    a_chunk_longer_than_its_size: "3\r\nabcdef\r\n0\r\n\r\n";
}

#[test]
fn an_endless_chunk_extension_is_cut_off() {
    cut_off(&format!(post!("Transfer-Encoding: chunked\r\n\r\n3;{}\r\nabc\r\n0\r\n\r\n"), "x".repeat(100_000)));
}

#[test]
fn endless_trailers_are_cut_off() {
    cut_off(&format!(post!("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{}\r\n"), "X: y\r\n".repeat(50_000)));
}

#[test]
fn well_formed_bodies_leave_the_next_request_intact() {
    let beacon = Beacon::with("");
    for secure in [false, true] {
        for body in [
            "Content-Length: 3\r\n\r\nabc",
            "content-length:\t3 \r\n\r\nabc",
            "Content-Length: 0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "Transfer-Encoding:\t Chunked\t\r\n\r\n3;name=value\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
        ] {
            let mut client = if secure { beacon.secure() } else { beacon.plain() };
            client.send(format!("{}{body}{SMUGGLED}", post!("")));
            assert_eq!(client.answer().expect(body).status, 405, "a site takes no POST: {body:?}");
            // The server may close instead of reading a body that nobody wanted; it must not misread.
            if let Some(next) = client.answer() {
                assert_eq!((next.status, next.text().as_str()), (200, "0123456789"), "{body:?}");
            }
        }
    }
    beacon.is_unharmed();
}
