//! The TLS port: what is no handshake, half of one, or one of another time.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::SHORT;
use crate::support::{Beacon, Http1, Wire, client_tls};

/// The first flight of a good client.
fn client_hello(beacon: &Beacon) -> Vec<u8> {
    let config = Arc::new(client_tls(&beacon.authority(), &[b"h2", b"http/1.1"]));
    let mut connection = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn plain_http_on_the_tls_port_is_told_so() {
    let beacon = Beacon::with("");
    let mut client = Http1::new(Wire::plain(beacon.address("https")));
    let answer = client.get("/");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("HTTPS"), "{answer:?}");
    assert!(client.is_closed());
    beacon.is_unharmed();
}

#[test]
fn garbage_on_the_tls_port_ends_the_connection() {
    let beacon = Beacon::with(SHORT);
    for garbage in [
        vec![0; 5_000],
        vec![0xff; 5_000],
        vec![22; 5_000],
        b"\x16\x03\x01\xff\xff".repeat(500),
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00".to_vec(),
        b"\x80\x2e\x01\x00\x02SSLv2".to_vec(),
        b"{}\r\n".to_vec(),
        b"SSH-2.0-client\r\n".to_vec(),
    ] {
        let mut wire = Wire::plain(beacon.address("https"));
        let _ = wire.write_all(&garbage);
        wire.drain();
    }
    beacon.is_unharmed();
}

#[test]
fn a_truncated_client_hello_is_closed_at_the_deadline_or_with_the_client() {
    let beacon = Beacon::with(SHORT);
    let hello = client_hello(&beacon);
    for length in [1, 3, 5, 6, 40, hello.len() / 2, hello.len() - 1] {
        let mut wire = Wire::plain(beacon.address("https"));
        wire.write_all(&hello[..length]).unwrap();
        wire.shut_write();
        let (_, waited) = wire.drain();
        assert!(waited < Duration::from_secs(20), "{length} bytes: {waited:?}");
    }
    let begun = Instant::now();
    let mut wire = Wire::plain(beacon.address("https"));
    wire.write_all(&hello[..hello.len() / 2]).unwrap();
    wire.drain();
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(800), "closed before its deadline, after {waited:?}");
    beacon.is_unharmed();
}

#[test]
fn a_corrupted_client_hello_ends_the_connection() {
    let beacon = Beacon::with(SHORT);
    let hello = client_hello(&beacon);
    for at in (0..hello.len()).step_by(hello.len() / 60 + 1) {
        let mut bytes = hello.clone();
        bytes[at] ^= 0x55;
        let mut wire = Wire::plain(beacon.address("https"));
        let _ = wire.write_all(&bytes);
        wire.shut_write();
        wire.drain();
    }
    beacon.is_unharmed();
}

#[test]
fn a_client_that_sends_nothing_on_the_tls_port_is_closed_at_the_deadline() {
    let beacon = Beacon::with(SHORT);
    let mut wire = Wire::plain(beacon.address("https"));
    let (came, waited) = wire.drain();
    assert!(came.is_empty());
    assert!(waited > Duration::from_millis(800), "{waited:?}");
    beacon.is_unharmed();
}

#[test]
fn a_client_that_stalls_in_the_handshake_is_closed_at_the_deadline() {
    let beacon = Beacon::with(SHORT);
    let begun = Instant::now();
    let mut wires: Vec<_> = (0..50)
        .map(|_| {
            let mut wire = Wire::plain(beacon.address("https"));
            wire.write_all(&client_hello(&beacon)).unwrap();
            wire
        })
        .collect();
    assert_eq!(beacon.secure().get("/").status, 200, "others are served meanwhile");
    for wire in &mut wires {
        let (came, _) = wire.drain();
        assert!(came.len() > 500, "the server's flight came, and our answer to it did not");
    }
    assert!(begun.elapsed() > Duration::from_millis(800));
    beacon.is_unharmed();
}

#[test]
fn a_client_hello_byte_by_byte_is_cut_at_the_deadline() {
    let beacon = Beacon::with(SHORT);
    let mut wire = Wire::plain(beacon.address("https"));
    wire.patience(Duration::from_millis(50));
    let begun = Instant::now();
    let mut closed = false;
    for byte in client_hello(&beacon) {
        let mut answer = [0; 64];
        if wire.write_all(&[byte]).is_err() || matches!(wire.read(&mut answer), Ok(0)) {
            closed = true;
            break;
        }
    }
    assert!(closed, "a dripping handshake was taken for {:?}", begun.elapsed());
    assert!(begun.elapsed() > Duration::from_millis(800));
    beacon.is_unharmed();
}

fn openssl(beacon: &Beacon, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &beacon.address("https").to_string(), "-servername", "localhost", "-CAfile"])
        .arg(beacon.authority())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("install openssl: apt-get install openssl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success() && !text.contains("Cipher is (NONE)"), text)
}

#[test]
fn old_protocol_versions_are_refused_and_current_ones_spoken() {
    let beacon = Beacon::with("");
    for old in ["-tls1", "-tls1_1"] {
        let (connected, text) = openssl(&beacon, &[old, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(!connected, "{old}: {text}");
        assert!(text.contains("alert"), "refused by the server, not by the client: {text}");
    }
    for new in ["-tls1_2", "-tls1_3"] {
        let (connected, text) = openssl(&beacon, &[new, "-verify_return_error"]);
        assert!(connected, "{new}: {text}");
    }
    beacon.is_unharmed();
}

#[test]
fn weak_ciphers_are_refused() {
    let beacon = Beacon::with("");
    for weak in ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "NULL"] {
        let (connected, text) = openssl(&beacon, &["-tls1_2", "-cipher", &format!("{weak}:@SECLEVEL=0")]);
        assert!(!connected, "{weak}: {text}");
    }
    beacon.is_unharmed();
}

#[test]
fn tls_1_2_can_be_switched_off() {
    let beacon = Beacon::with("tls.min_version = \"1.3\"");
    assert!(!openssl(&beacon, &["-tls1_2"]).0);
    assert!(openssl(&beacon, &["-tls1_3"]).0);
}

#[test]
fn renegotiation_is_refused() {
    let beacon = Beacon::with("");
    let mut child = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-connect", &beacon.address("https").to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"R\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("HTTP/1.1 200"), "no request after a renegotiation");
    beacon.is_unharmed();
}

#[test]
fn an_unknown_protocol_in_alpn_is_refused_and_none_means_http_1_1() {
    let beacon = Beacon::with("");
    let config = Arc::new(client_tls(&beacon.authority(), &[b"spdy/3"]));
    let stream = std::net::TcpStream::connect(beacon.address("https")).unwrap();
    let error = crate::support::tls_over(stream, &config, "localhost").unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "RFC 7301 section 3.2: {error}");
    let mut client = Http1::new(beacon.wire(&[]));
    assert_eq!(client.get("/").status, 200);
    beacon.is_unharmed();
}

#[test]
fn the_challenge_protocol_of_acme_serves_nothing_without_a_challenge() {
    let beacon = Beacon::with("");
    let config = Arc::new(client_tls(&beacon.authority(), &[b"acme-tls/1"]));
    let stream = std::net::TcpStream::connect(beacon.address("https")).unwrap();
    assert!(crate::support::tls_over(stream, &config, "localhost").is_err());
    beacon.is_unharmed();
}
