//! Listening sockets: made by us or by systemd, TCP or Unix, with one way to accept from them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::AddressFamily;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{Address, Error};

/// How many connections the kernel keeps waiting.
const BACKLOG: i32 = 1_024;

/// How much the kernel takes that it has not sent yet, in bytes.
const UNSENT: u32 = 128 * 1024;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, Option<PathBuf>),
}

/// One accepted connection.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Listener {
    /// Makes a socket that listens at `address`, which is not one of systemd's.
    ///
    /// # Errors
    /// The address is taken, not ours, or not allowed; [`Error`] says which and what to do.
    pub fn bind(address: &Address) -> Result<Self, Error> {
        let failed = |source| Error::Bind { address: address.to_string(), source };
        let socket = match address {
            Address::Tcp(to) => Socket::Tcp(bind_tcp(*to).map_err(failed)?),
            Address::Unix(path) => Socket::Unix(bind_unix(path).map_err(failed)?, Some(path.clone())),
            Address::Systemd(name) => return Err(Error::NotInherited { name: name.clone() }),
        };
        Ok(Self { socket, address: address.clone() })
    }

    /// Takes a socket that systemd made and handed over under `name`.
    ///
    /// # Errors
    /// The descriptor is not a listening stream socket.
    pub fn inherit(name: &str, fd: OwnedFd) -> Result<Self, Error> {
        let failed = |source| Error::Inherit { name: name.to_owned(), source };
        let family = rustix::net::getsockname(&fd).map_err(|errno| failed(errno.into()))?.address_family();
        let socket = if family == AddressFamily::UNIX {
            let socket = std::os::unix::net::UnixListener::from(fd);
            socket.set_nonblocking(true).map_err(failed)?;
            Socket::Unix(UnixListener::from_std(socket).map_err(failed)?, None)
        } else {
            let socket = std::net::TcpListener::from(fd);
            socket.set_nonblocking(true).map_err(failed)?;
            socket2::SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT).map_err(failed)?;
            Socket::Tcp(TcpListener::from_std(socket).map_err(failed)?)
        };
        Ok(Self { socket, address: Address::Systemd(name.to_owned()) })
    }

    /// The address as configured.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The TCP address in fact, with the port that the kernel chose for port 0.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// Accepts one connection; its peer's address, if it has one.
    ///
    /// # Errors
    /// Those of accept(2).
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Responses are written whole; waiting for more would only delay them.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            Socket::Unix(listener, _) => Ok((Stream::Unix(listener.accept().await?.0), None)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix(_, Some(path)) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // The wildcard takes IPv4 too; any other address is IPv6 alone.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A connection counts as writable only when little is left unsent: otherwise megabytes in the kernel hide how slowly
    // a client takes them. Accepted connections inherit it.
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds a Unix socket, and takes away what a dead process left there; a live one keeps it.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket stands there"));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(_) => std::fs::remove_file(path)?,
        },
        Err(_) => {}
    }
    UnixListener::bind(path)
}

impl Stream {
    /// Whether there may be something to read, or the peer has closed; the task of `cx` is woken when there is.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx).map(drop),
            Self::Unix(stream) => stream.poll_read_ready(cx).map(drop),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One piece, as most responses are, costs the kernel less than a list of one.
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = Listener::bind(&address.parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
        assert!(error.fix().contains("another"), "{}", error.fix());
    }

    #[tokio::test]
    async fn a_dead_socket_file_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the file stays behind");
        let address = Address::Unix(path.clone());
        let live = Listener::bind(&address).unwrap();
        assert!(Listener::bind(&address).is_err());
        drop(live);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert!(Listener::bind(&address).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
