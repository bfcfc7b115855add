//! A client that makes TLS 1.3 handshakes one after the other on four threads and prints how many a second.
//!
//! `openssl s_time -reuse` never reads the tickets that TLS 1.3 sends after the handshake, so it resumes nothing. Here
//! each connection reads to its end and so takes the ticket for the next, and a handshake that was not of the asked
//! kind is an error. Both servers negotiate X25519, unless the post-quantum group is asked for.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and stops at the first error")]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

const THREADS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [address, certificate, kind, seconds] = arguments.as_slice() else {
        println!("usage: handshakes ADDRESS CERTIFICATE.pem full|full-pq|resumed SECONDS");
        return;
    };
    let (address, resumed) = (address.parse().unwrap(), kind == "resumed");
    let length = Duration::from_secs(seconds.parse().unwrap());
    let wanted = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
    let configs: Vec<_> = (0..THREADS)
        .map(|_| {
            // Each thread has tickets of its own, for a ticket is used once.
            let config = Arc::new(configuration(certificate, kind == "full-pq", resumed));
            assert_eq!(handshake(address, &config).unwrap(), HandshakeKind::Full);
            config
        })
        .collect();
    let start = Instant::now();
    let threads: Vec<_> = configs
        .into_iter()
        .map(|config| {
            std::thread::spawn(move || {
                let mut count = 0_u32;
                while start.elapsed() < length {
                    assert_eq!(handshake(address, &config).unwrap(), wanted);
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    println!("{:.1}", f64::from(count) / start.elapsed().as_secs_f64());
}

fn configuration(certificate: &str, post_quantum: bool, resumed: bool) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups =
        vec![if post_quantum { aws_lc_rs::kx_group::X25519MLKEM768 } else { aws_lc_rs::kx_group::X25519 }];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = if resumed { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// One handshake and an orderly end: what the server still sends (its tickets) is read, so that nobody is reset.
fn handshake(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<HandshakeKind> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(config.clone(), name).map_err(io::Error::other)?, socket);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    let kind = tls.conn.handshake_kind().ok_or(io::ErrorKind::InvalidData)?;
    tls.conn.send_close_notify();
    tls.flush()?;
    // A server may answer with close_notify or close at once; both end it.
    match tls.read(&mut [0]) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {}
        Err(error) => return Err(error),
    }
    Ok(kind)
}
