//! The doors: listening sockets, and what happens between a connection's arrival and its first request.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use ipnet::IpNet;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use crate::http::{self, Arrival, Edge, Peer};
use crate::net::{self, Accepted, Address, Limit, Listener, Stream, proxy_protocol};
use crate::telemetry::{self, Metrics};
use crate::tls::Tls;

/// What a listener is for.
pub use telemetry::Listener as Role;

/// All that a door needs to know. A cheap handle.
#[derive(Clone)]
pub struct Hall {
    /// Serves the mounts.
    pub edge: Edge,
    /// Serves operations.
    pub operations: Edge,
    /// Certificates.
    pub tls: Tls,
    /// Counts.
    pub metrics: Metrics,
    /// What a reload may change.
    pub manners: Arc<ArcSwap<Manners>>,
}

/// How connections are received.
pub struct Manners {
    /// Who must begin with a PROXY protocol header.
    pub proxy_protocol: Vec<IpNet>,
    /// Who may have any number of connections.
    pub trusted: http::Trusted,
    /// The deadline of handshakes.
    pub handshake: Duration,
    /// The limits on connections.
    pub limit: Limit,
}

impl Manners {
    /// As configured.
    pub fn new(listen: &net::Config, waits: &http::Timeouts) -> Self {
        Self {
            proxy_protocol: listen.proxy_protocol.clone(),
            trusted: http::Trusted::new(listen.trusted_proxies.clone(), false),
            handshake: waits.handshake,
            limit: Limit::new(listen.max_connections, listen.max_connections_per_client, http::subject),
        }
    }
}

/// The open doors.
pub struct Doors {
    open: HashMap<(Address, Role), Door>,
    inherited: Vec<(String, OwnedFd)>,
    tasks: TaskTracker,
}

struct Door {
    shown: String,
    close: CancellationToken,
    /// What accepts.
    loops: Vec<JoinHandle<()>>,
}

/// Sockets that are bound and not yet accepted from.
pub struct Bound(Vec<(Address, Role, Listener)>);

impl Doors {
    /// No doors yet; `inherited` are the sockets that systemd handed over.
    pub fn new(inherited: Vec<(String, OwnedFd)>) -> Self {
        Self { open: HashMap::new(), inherited, tasks: TaskTracker::new() }
    }

    /// Binds what `config` names and is not open yet. Nothing is accepted and nothing closed before [`Self::swap`].
    ///
    /// # Errors
    /// A socket that cannot be had.
    pub fn bind(&self, config: &net::Config) -> Result<Bound, Error> {
        let mut bound = Vec::new();
        for (address, role) in wanted(config) {
            if self.open.contains_key(&(address.clone(), role)) {
                continue;
            }
            for listener in self.listeners(&address).map_err(|source| Error::Net { source })? {
                bound.push((address.clone(), role, listener));
            }
        }
        Ok(Bound(bound))
    }

    /// One socket, or all that systemd handed over under one name.
    fn listeners(&self, address: &Address) -> Result<Vec<Listener>, net::Error> {
        let Address::Systemd(name) = address else { return Ok(vec![Listener::bind(address)?]) };
        let duplicates = self.inherited.iter().filter(|(given, _)| given == name).map(|(_, fd)| {
            // The original stays, so that a later reload can open the door again.
            let fd = fd.try_clone().map_err(|source| net::Error::Inherit { name: name.clone(), source })?;
            Listener::inherit(name, fd)
        });
        let listeners = duplicates.collect::<Result<Vec<_>, _>>()?;
        if listeners.is_empty() { Err(net::Error::NotInherited { name: name.clone() }) } else { Ok(listeners) }
    }

    /// Opens the doors that were bound, and closes those that `config` names no longer.
    pub fn swap(&mut self, bound: Bound, config: &net::Config, hall: &Hall) {
        let wanted = wanted(config);
        self.open.retain(|(address, role), door| {
            let keep = wanted.iter().any(|(other, wish)| other == address && wish == role);
            if !keep {
                tracing::info!(listener = %door.shown, "listener closed");
                door.close.cancel();
            }
            keep
        });
        for (address, role, listener) in bound.0 {
            let shown = listener.local_addr().map_or_else(|| address.to_string(), |local| local.to_string());
            tracing::info!(listener = %shown, role = role_name(role), "listening");
            let door = self.open.entry((address, role)).or_insert_with(|| Door {
                shown,
                close: CancellationToken::new(),
                loops: Vec::new(),
            });
            let hall = hall.clone();
            // Operations have places of their own, so that monitoring works when the others are taken.
            let limit = match role {
                Role::Operations => Limit::new(64, 0, http::subject),
                Role::Http | Role::Https => hall.manners.load().limit.clone(),
            };
            // Counted here, in the accept loop: a stop that begins before the task runs must know of the connection.
            let serve = move |accepted| receive(hall.clone(), role, accepted, hall.edge.arrive());
            let loops = self.tasks.spawn(net::run(listener, limit, door.close.clone(), serve));
            door.loops.push(loops);
        }
    }

    /// The addresses of a role, as they are in fact.
    pub fn addresses(&self, role: Role) -> Vec<String> {
        let mut list: Vec<String> =
            self.open.iter().filter(|((_, other), _)| *other == role).map(|(_, door)| door.shown.clone()).collect();
        list.sort();
        list
    }

    /// Closes the doors of clients. Monitoring goes on seeing a stop, unless its socket is systemd's: then the other slot
    /// accepts there too, and answers for the host. What this gives resolves when nothing more is accepted.
    pub fn close_to_clients(&mut self) -> impl Future<Output = ()> + use<> {
        let mut loops = Vec::new();
        for ((address, role), door) in &mut self.open {
            if *role != Role::Operations || matches!(address, Address::Systemd(_)) {
                door.close.cancel();
                loops.append(&mut door.loops);
            }
        }
        futures_util::future::join_all(loops).map(drop)
    }

    /// Closes every door, and waits until nothing is accepted any more.
    pub async fn close(&self) {
        for door in self.open.values() {
            door.close.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Http => "http",
        Role::Https => "https",
        Role::Operations => "operations",
    }
}

fn wanted(config: &net::Config) -> Vec<(Address, Role)> {
    let lists = [(&config.https, Role::Https), (&config.http, Role::Http), (&config.operations, Role::Operations)];
    // The texts were validated with the configuration.
    lists
        .into_iter()
        .flat_map(|(list, role)| list.iter().filter_map(move |text| Some((text.parse().ok()?, role))))
        .collect()
}

/// Serves one connection from its arrival to its end.
async fn receive(hall: Hall, role: Role, accepted: Accepted, arrival: Arrival) {
    let Accepted { mut stream, peer, local, mut seat } = accepted;
    let manners = hall.manners.load_full();
    let mut address = peer.ip().to_canonical();
    if !local && role != Role::Operations && manners.proxy_protocol.iter().any(|network| network.contains(&address)) {
        match tokio::time::timeout(manners.handshake, proxy_protocol::read(&mut stream)).await {
            Ok(Ok(Some(client))) => address = client.ip().to_canonical(),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                hall.metrics.connection_refused("proxy_protocol");
                tracing::debug!(peer = %address, %error, "connection refused");
                return;
            }
            Err(_) => return hall.metrics.connection_refused("proxy_protocol"),
        }
    }
    let exempt = local || role == Role::Operations || manners.trusted.contains(address);
    if !exempt && !manners.limit.admit(&mut seat, address) {
        return hall.metrics.connection_refused("too_many_from_client");
    }
    let _counted = Counted::new(&hall.metrics, role);
    let peer = Peer { address, secure: role == Role::Https, local };
    let serving = match role {
        Role::Operations => hall.operations.serve(stream, false, peer),
        Role::Http => hall.edge.serve(stream, false, peer),
        // In a box, so that an open connection does not keep the room that the handshake took.
        Role::Https => match tokio::time::timeout(manners.handshake, Box::pin(handshake(&hall, stream))).await {
            Ok(Ok(Some((stream, http2)))) => hall.edge.serve(stream, http2, peer),
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                hall.metrics.handshake_failed();
                tracing::debug!(peer = %address, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                hall.metrics.handshake_failed();
                tracing::debug!(peer = %address, "TLS handshake took too long");
                return;
            }
        },
    };
    // From here on the connection is in the registry.
    drop((manners, arrival));
    serving.await;
}

/// Counts a connection while it is open.
struct Counted<'a> {
    metrics: &'a Metrics,
    role: Role,
}

impl<'a> Counted<'a> {
    fn new(metrics: &'a Metrics, role: Role) -> Self {
        metrics.connection_opened(role);
        Self { metrics, role }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.connection_closed(self.role);
    }
}

type Encrypted = tokio_rustls::server::TlsStream<Stream>;

/// The TLS handshake; whether HTTP/2 was chosen. `None` for connections that had another purpose.
async fn handshake(hall: &Hall, mut stream: Stream) -> io::Result<Option<(Encrypted, bool)>> {
    if speaks_plain_http(&stream).await? {
        let body = "This port speaks HTTPS. Use https:// in the address.\n";
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    let stream = TlsAcceptor::from(hall.tls.acceptor_config()).accept(stream).await?;
    let connection = stream.get_ref().1;
    let http2 = match connection.alpn_protocol() {
        // An ACME authority has seen what it wanted in the handshake (RFC 8737 section 3).
        Some(b"acme-tls/1") => return Ok(None),
        Some(b"h2") => true,
        _ => false,
    };
    hall.metrics.handshake_done(connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed));
    Ok(Some((stream, http2)))
}

/// Whether the first byte is the beginning of a method's name; a TLS record begins with 22.
async fn speaks_plain_http(stream: &Stream) -> io::Result<bool> {
    let mut first = [0];
    match stream {
        Stream::Tcp(stream) => Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase()),
        Stream::Unix(_) => Ok(false),
    }
}
