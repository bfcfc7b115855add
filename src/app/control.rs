//! The control socket: how `beacon status` and `beacon reload` talk to a running Beacon.
//!
//! It is HTTP over a Unix socket that only Beacon's user and root may open. `GET /status` gives a [`Status`];
//! `POST /reload` loads the configuration again and answers when that is done: 200, or 422 with the reason and nothing
//! changed.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::build;
use super::routes;
use super::status::{CertificateStatus, ComponentStatus, ListenerStatus, Phase, Status};
use crate::error::BoxError;
use crate::http::{self as engine, Body, Edge, Handler, Peer, Reply, Request, Response};
use crate::net::{self, Address, Limit, Listener};
use crate::systemd;
use crate::telemetry::{Health, Metrics};
use crate::tls::Tls;

/// How long an answer may take, a reload included.
const PATIENCE: Duration = Duration::from_mins(1);
/// The largest answer that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// What a client asks of the main loop.
pub enum Order {
    /// Load the configuration again, and say how it went.
    Reload(oneshot::Sender<Result<(), String>>),
}

/// What is shown, beside what the parts say when they are asked.
pub struct Board {
    slot: Option<String>,
    started: Instant,
    stopping: AtomicBool,
    listeners: ArcSwap<Vec<ListenerStatus>>,
    refused: Mutex<Option<String>>,
}

/// The open control socket. It closes, and its file goes, when this is dropped.
pub struct Control {
    /// What is shown.
    pub board: Arc<Board>,
    close: CancellationToken,
}

/// What the answers are made from.
pub struct Sight {
    /// Serves the mounts.
    pub edge: Edge,
    /// Certificates.
    pub tls: Tls,
    /// What the parts say of themselves.
    pub health: Health,
}

impl Board {
    fn new() -> Self {
        Self {
            slot: systemd::slot(),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            listeners: ArcSwap::default(),
            refused: Mutex::default(),
        }
    }

    /// Shows where Beacon listens.
    pub fn listens(&self, listeners: Vec<ListenerStatus>) {
        self.listeners.store(Arc::new(listeners));
    }

    /// Shows that the stop has begun.
    pub fn stops(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Shows why the last reload was refused, or that it was not.
    pub fn reloaded(&self, refused: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    fn status(&self, sight: &Sight) -> Status {
        let stopping = self.stopping.load(Ordering::Relaxed);
        Status {
            slot: self.slot.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: if stopping { Phase::Stopping } else { Phase::Serving },
            uptime_seconds: self.started.elapsed().as_secs(),
            listeners: self.listeners.load().to_vec(),
            certificates: sight
                .tls
                .status()
                .into_iter()
                .map(|certificate| CertificateStatus {
                    names: certificate.names,
                    source: certificate.source.to_string(),
                    days_left: certificate.not_after.map(days_until),
                    error: certificate.error,
                })
                .collect(),
            connections: sight.edge.registry().len(),
            components: sight
                .health
                .report()
                .into_iter()
                .map(|report| ComponentStatus {
                    name: report.name.to_owned(),
                    state: report.state.name().to_owned(),
                    detail: Some(report.reason).filter(|reason| !reason.is_empty()),
                })
                .collect(),
            refused_reload: self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// Whole days until `time`, rounded down.
fn days_until(time: SystemTime) -> i64 {
    let seconds = match time.duration_since(SystemTime::now()) {
        Ok(left) => left.as_secs() as i64,
        Err(since) => -(since.duration().as_secs() as i64),
    };
    seconds.div_euclid(86_400)
}

/// Where the control socket of this process is: in the unit's runtime folder under the slot's name, else in the state
/// folder.
#[must_use]
pub fn place(state: &Path) -> PathBuf {
    match (systemd::runtime_dir(), systemd::slot()) {
        (Some(folder), Some(slot)) => folder.join(format!("{slot}.sock")),
        (Some(folder), None) => folder.join("control.sock"),
        (None, _) => state.join("control.sock"),
    }
}

impl Control {
    /// Opens the socket at `path`. What clients ask of the main loop comes by the receiver.
    ///
    /// # Errors
    /// The socket cannot be made, or another Beacon answers there.
    pub fn open(path: &Path, sight: Sight, metrics: &Metrics) -> Result<(Self, mpsc::Receiver<Order>), BoxError> {
        let listener = Listener::bind(&Address::Unix(path.to_owned()))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let board = Arc::new(Board::new());
        let (orders, receiver) = mpsc::channel(4);
        let desk = Desk { board: board.clone(), sight, orders };
        let config = engine::Config {
            timeouts: engine::Timeouts { handler: PATIENCE, ..engine::Timeouts::default() },
            ..engine::Config::default()
        };
        let router = routes::control(desk, metrics);
        let edge = Edge::new(build::internal(config, router, metrics.mount("control")));
        let close = CancellationToken::new();
        let peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), secure: false, local: true };
        let serve = move |accepted: net::Accepted| {
            let serving = edge.serve(accepted.stream, false, peer);
            let seat = accepted.seat;
            async move {
                serving.await;
                drop(seat);
            }
        };
        tokio::spawn(net::run(listener, Limit::new(16, 0, engine::subject), close.clone(), serve));
        Ok((Self { board, close }, receiver))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

/// Answers what comes over the socket.
pub struct Desk {
    board: Arc<Board>,
    sight: Sight,
    orders: mpsc::Sender<Order>,
}

impl Handler for Desk {
    fn handle(&self, request: Request) -> Reply<'_> {
        match (&request.parts.method, request.context.rest()) {
            (&Method::GET, "status") => {
                let status = serde_json::to_string(&self.board.status(&self.sight)).unwrap_or_default();
                Reply::Now(answer(StatusCode::OK, "application/json", status))
            }
            (&Method::POST, "reload") => Reply::later(async {
                let (sender, receiver) = oneshot::channel();
                let sent = self.orders.send(Order::Reload(sender)).await.is_ok();
                match if sent { receiver.await.ok() } else { None } {
                    Some(Ok(())) => answer(StatusCode::OK, "text/plain", "reloaded".into()),
                    Some(Err(reason)) => answer(StatusCode::UNPROCESSABLE_ENTITY, "text/plain", reason),
                    None => answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "Beacon is stopping".into()),
                }
            }),
            _ => Reply::Now(answer(
                StatusCode::NOT_FOUND,
                "text/plain",
                "This socket has GET /status and POST /reload.".into(),
            )),
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Asks the Beacon behind the socket at `path`, and waits for its answer: its status code and text. Blocks.
///
/// # Errors
/// Nobody listens there, this user may not, or no whole answer comes within a minute.
pub fn ask(path: &Path, method: Method, target: &str) -> io::Result<(StatusCode, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asking = async {
        let stream = UnixStream::connect(path).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let request = ::http::Request::builder()
            .method(method)
            .uri(target)
            .header("host", "beacon")
            .body(String::new())
            .map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(io::Error::other)?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, asking).await.map_err(io::Error::other)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_go_below_zero() {
        let at = |hours: i64| {
            let now = SystemTime::now();
            let hour = Duration::from_hours(1);
            let span = hour * hours.unsigned_abs() as u32;
            days_until(if hours < 0 { now - span } else { now + span })
        };
        assert_eq!([at(49), at(1), at(-1), at(-49)], [2, 0, -1, -3]);
    }
}
