//! The connections being served, so that a stop can reach them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::watch::Watch;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The address: of the connection, or from its PROXY protocol header.
    pub address: IpAddr,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// Whether it is a Unix socket, whose peers are trusted to speak for others.
    pub local: bool,
}

/// One connection.
pub struct Connection {
    /// Who is at the other end.
    pub peer: Peer,
    pub(super) watch: Watch,
}

impl Connection {
    /// Whether the client should be asked to come back over another connection.
    pub(super) fn is_draining(&self) -> bool {
        self.watch.stage.load(Relaxed) >= Stage::LameDuck as u8
    }
}

/// How far a stop has gone. Each stage includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Serving.
    Serving = 0,
    /// Every response asks the client to close; HTTP/2 takes no new streams.
    LameDuck = 1,
    /// Idle connections are closed, the others after their response.
    Graceful = 2,
    /// Every connection is closed.
    Abort = 3,
}

/// All connections of an edge.
#[derive(Default)]
pub struct Registry {
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    stage: AtomicU8,
    /// Connections that are not open yet: in their handshake.
    arriving: AtomicUsize,
    emptied: Notify,
}

impl Registry {
    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes every connection, and those to come, to a stage of a stop.
    pub fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Relaxed);
        for connection in self.lock().values() {
            connection.watch.stage.fetch_max(stage as u8, Relaxed);
            connection.watch.waker.wake();
        }
    }

    /// Counts a connection that is on its way to being served, until [`Self::arrived`].
    pub(super) fn arrives(&self) {
        self.arriving.fetch_add(1, Relaxed);
    }

    /// A connection that was on its way is served or gone.
    pub(super) fn arrived(&self) {
        if self.arriving.fetch_sub(1, Relaxed) == 1 {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until no connection is open or on its way.
    pub async fn emptied(&self) {
        loop {
            let notified = self.emptied.notified();
            if self.is_empty() && self.arriving.load(Relaxed) == 0 {
                return;
            }
            notified.await;
        }
    }

    pub(super) fn insert(&self, peer: Peer) -> (u64, Arc<Connection>) {
        let connection = Arc::new(Connection { peer, watch: Watch::default() });
        let id = self.next.fetch_add(1, Relaxed);
        let mut open = self.lock();
        // Under the lock, so that a stop that begins now is not missed.
        connection.watch.stage.store(self.stage.load(Relaxed), Relaxed);
        open.insert(id, connection.clone());
        (id, connection)
    }

    pub(super) fn remove(&self, id: u64) {
        let mut open = self.lock();
        open.remove(&id);
        if open.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
