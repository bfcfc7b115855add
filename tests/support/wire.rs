//! Raw connections, plain or encrypted, that never wait for ever.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The bound of every wait: far beyond every deadline that the tests configure, on a busy machine.
pub const BOUND: Duration = Duration::from_secs(30);

/// A connection.
pub enum Wire {
    Plain(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A client's TLS, which trusts the authority in the file and resumes sessions.
pub fn client_tls(authority: &Path, alpn: &[&[u8]]) -> ClientConfig {
    beacon::tls::provider();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// A handshake to its end.
pub fn tls_over(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
    name: &str,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(config.clone(), name).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

pub(super) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, BOUND).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Wire {
    #[track_caller]
    pub fn plain(address: SocketAddr) -> Self {
        Self::Plain(connect(address))
    }

    #[track_caller]
    pub fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        Self::Unix(stream)
    }

    #[track_caller]
    pub fn tls(address: SocketAddr, authority: &Path, alpn: &[&[u8]]) -> Self {
        let config = Arc::new(client_tls(authority, alpn));
        Self::Tls(Box::new(tls_over(connect(address), &config, "localhost").unwrap()))
    }

    /// How long a single read may take.
    pub fn patience(&self, wait: Duration) {
        match self {
            Self::Plain(stream) => stream.set_read_timeout(Some(wait)),
            Self::Unix(stream) => stream.set_read_timeout(Some(wait)),
            Self::Tls(stream) => stream.sock.set_read_timeout(Some(wait)),
        }
        .unwrap();
    }

    /// A handle that can close the sending side from elsewhere.
    pub fn shut_write(&self) {
        let _ = match self {
            Self::Plain(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(stream) => stream.sock.shutdown(Shutdown::Write),
        };
    }

    /// Everything until the peer closes, however it does; panics when it does not within the bound. Says how long
    /// that took.
    #[track_caller]
    pub fn drain(&mut self) -> (Vec<u8>, Duration) {
        let begun = Instant::now();
        let mut all = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match self.read(&mut chunk) {
                Ok(0) => return (all, begun.elapsed()),
                Ok(count) => all.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the connection is still open after {:?}; came: {:?}", begun.elapsed(), lossy(&all))
                }
                Err(_) => return (all, begun.elapsed()),
            }
            assert!(begun.elapsed() < BOUND, "the connection does not end");
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(500)]).into_owned()
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Unix(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
