//! A proxy for TCP that stalls and cuts: between a program and a server of its, to try what a network does.
//!
//! A stalled connection stays open and carries nothing, in either direction; the bytes come when it goes on.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How soon a pump sees that something has changed.
const GLANCE: Duration = Duration::from_millis(20);

/// A running proxy; its threads end with the test process.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    stalled: AtomicBool,
    refusing: AtomicBool,
    /// Both ends of each connection, until it has ended.
    ends: Mutex<Vec<[TcpStream; 2]>>,
}

impl Proxy {
    /// One on a free port before that server.
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            stalled: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            ends: Mutex::new(Vec::new()),
        });
        let ours = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                ours.take(client);
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries nothing, or goes on.
    pub fn stall(&self, stalled: bool) {
        self.shared.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Ends each connection at once, or takes new ones again.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
        if refusing {
            self.cut();
        }
    }

    /// Ends all connections.
    pub fn cut(&self) {
        let mut ends = self.shared.ends.lock().unwrap();
        for end in ends.iter().flatten() {
            let _ = end.shutdown(Shutdown::Both);
        }
        ends.clear();
    }
}

impl Shared {
    fn take(self: &Arc<Self>, client: TcpStream) {
        if self.refusing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(self.server) else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let copy = |stream: &TcpStream| stream.try_clone().unwrap();
        self.ends.lock().unwrap().push([copy(&client), copy(&server)]);
        for (from, to) in [(copy(&client), copy(&server)), (server, client)] {
            let ours = self.clone();
            std::thread::spawn(move || ours.pump(from, to));
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        from.set_read_timeout(Some(GLANCE)).unwrap();
        let mut piece = vec![0; 64 * 1024];
        loop {
            if self.stalled.load(Ordering::SeqCst) {
                std::thread::sleep(GLANCE);
                continue;
            }
            match from.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => {
                    while self.stalled.load(Ordering::SeqCst) {
                        std::thread::sleep(GLANCE);
                    }
                    if to.write_all(&piece[..length]).is_err() {
                        break;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
