//! From a connection to a request to a response: HTTP/1.1 and HTTP/2 behind one strict ingress.
//!
//! This engine knows no feature. A feature implements [`Handler`]; `app` mounts handlers on a [`Router`].

mod body;
mod config;
mod handler;
mod problem;
mod request;

pub use body::{Body, Stream};
pub use config::{Compression, Config, Limits, Rate, SecurityHeaders, Timeouts};
pub use handler::{Handler, Later, Reply, Response};
pub use problem::{Problem, escape};
pub use request::{Context, Request, RequestBody};
