//! From a connection to a request to a response: HTTP/1.1 and HTTP/2 behind one strict ingress.
//!
//! This engine knows no feature. A feature implements [`Handler`]; `app` mounts handlers on a [`Router`] and gives the
//! whole to an [`Edge`], which serves connections. A request passes, in this order: the gate (HTTP/1.1 framing) or the
//! frame watch (HTTP/2), hyper, the ingress, ACME challenges, the redirect to HTTPS, rate limits, the router, the
//! mount's handler; its response gets headers, compression, and a line in the access log when its body has ended.

mod accept_encoding;
mod body;
mod client;
mod compress;
mod conditional;
mod config;
mod connection;
mod cors;
mod edge;
mod file;
mod frames;
mod gate;
mod guard;
mod handler;
mod host;
mod http1;
mod incoming;
mod ingress;
mod outbound;
mod path;
mod problem;
mod range;
mod rate;
mod reach;
mod record;
mod registry;
mod representation;
mod request;
mod router;
mod streams;
mod watch;

pub use accept_encoding::{AcceptEncoding, Encoding};
pub use body::{Body, Stream};
pub use client::Trusted;
pub use compress::is_text;
pub use config::{Compression, Config, Limits, Rate, SecurityHeaders, Timeouts};
pub use cors::{Cors, CorsConfig};
pub use edge::{Arrival, Challenges, Edge, Served};
pub use file::{FileStream, Piece, read_exactly};
pub use handler::{Handler, Later, Reply, Response, User};
pub use host::Hosts;
pub use incoming::BodyError;
pub use ingress::Rules;
pub use outbound::{Answer, Bounds, Destination, Message, Outbound, OutboundError};
pub use problem::{Problem, escape};
pub use rate::{Buckets, Limiter, Pace, subject};
pub use reach::{Reach, ReachError};
pub use registry::{Peer, Registry, Stage};
pub use representation::{Decision, Representation, Source, answer, decide, partial};
pub use request::{Context, Request, RequestBody};
pub use router::{Mount, Router};
