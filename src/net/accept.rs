//! Accepts connections under limits, and goes on whatever happens.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{Listener, Stream};

/// How long to wait when descriptors or memory have run out.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Limits on the number of connections, shared by listeners.
#[derive(Clone)]
pub struct Limit(Arc<Inner>);

struct Inner {
    seats: Arc<Semaphore>,
    per_client: usize,
    clients: Mutex<HashMap<u64, usize>>,
    /// Maps an address to what is counted together.
    subject: fn(IpAddr) -> u64,
}

/// A connection's place within the limits; free again when dropped.
pub struct Seat {
    _permit: OwnedSemaphorePermit,
    client: Option<(Limit, u64)>,
}

/// A connection that was accepted.
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// Its peer; the unspecified address for a Unix socket.
    pub peer: SocketAddr,
    /// Whether it came over a Unix socket.
    pub local: bool,
    /// Its place.
    pub seat: Seat,
}

impl Limit {
    /// At most `connections` in all and `per_client` (0: any number) from one client, as `subject` tells clients apart.
    #[must_use]
    pub fn new(connections: usize, per_client: usize, subject: fn(IpAddr) -> u64) -> Self {
        Self(Arc::new(Inner {
            seats: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            per_client,
            clients: Mutex::default(),
            subject,
        }))
    }

    /// Counts a connection as one of `client`'s; false when it has too many.
    #[must_use]
    pub fn admit(&self, seat: &mut Seat, client: IpAddr) -> bool {
        if self.0.per_client == 0 {
            return true;
        }
        let key = (self.0.subject)(client);
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(key).or_insert(0);
        if *count >= self.0.per_client {
            return false;
        }
        *count += 1;
        seat.client = Some((self.clone(), key));
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some((limit, key)) = self.client.take() {
            let mut clients = limit.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = clients.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    clients.remove(&key);
                }
            }
        }
    }
}

/// Accepts from `listener` until `stop`, and spawns `serve` for each connection. A connection waits in the kernel's
/// queue while there are as many as allowed; errors of single connections are passed over, and when file descriptors
/// run out accepting goes on as soon as there are some.
pub async fn run<F>(listener: Listener, limit: Limit, stop: CancellationToken, serve: impl Fn(Accepted) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut warned = false;
    loop {
        let accepting = async {
            // No place is held while nobody comes: idle listeners would keep theirs from the busy one. The semaphore
            // is never closed.
            drop(limit.0.seats.acquire().await.map_err(io::Error::other)?);
            listener.accept().await
        };
        let result = tokio::select! {
            () = stop.cancelled() => return,
            result = accepting => result,
        };
        match result {
            Ok((stream, peer)) => {
                // Not given up for a stop: the client has been accepted, and nobody else can answer it.
                let Ok(permit) = limit.0.seats.clone().acquire_owned().await else { return };
                if warned {
                    tracing::info!(listener = %listener.address(), "accepting connections again");
                    warned = false;
                }
                tokio::spawn(serve(Accepted {
                    stream,
                    local: peer.is_none(),
                    peer: peer.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
                    seat: Seat { _permit: permit, client: None },
                }));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !warned {
                    warned = true;
                    tracing::error!(
                        listener = %listener.address(),
                        %error,
                        "cannot accept connections; trying again every 50 ms (raise LimitNOFILE= if descriptors ran out)"
                    );
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(EXHAUSTED) => {}
                }
            }
        }
    }
}

/// Errors that concern the connection that was to be accepted, not the listener (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput, NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | InvalidInput | NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_bounded_and_come_back() {
        let limit = Limit::new(2, 1, |address| match address {
            IpAddr::V4(address) => u64::from(u32::from(address)),
            IpAddr::V6(_) => 0,
        });
        let seat = || Seat { _permit: limit.0.seats.clone().try_acquire_owned().unwrap(), client: None };
        let (mut first, mut second) = (seat(), seat());
        assert!(limit.0.seats.clone().try_acquire_owned().is_err());
        let client = "203.0.113.9".parse().unwrap();
        assert!(limit.admit(&mut first, client));
        assert!(!limit.admit(&mut second, client), "one each");
        drop(first);
        assert!(limit.admit(&mut second, client));
        drop(second);
        assert!(limit.0.clients.lock().unwrap().is_empty());
    }
}
