//! The harness: the real binary on ports of its own, and clients that can misbehave.
//!
//! Clients block, and every wait of theirs has a bound: a server that hangs fails its test and does not hang it.

mod api;
mod beacon;
mod http1;
mod http2;
mod ports;
mod postgres;
mod redis;
mod seaweed;
mod smtp;
mod wire;

pub use api::{Api, JWT_SECRET, send, token};
pub use beacon::{Beacon, Launch, SECRET, until};
pub use http1::{Answer, Http1};
pub use http2::{Event, Http2, frame, literal, request_block};
pub use ports::free_port;
pub use postgres::{Database, OWNER, PASSWORD, Postgres, Stop, programs, servant};
pub use redis::Redis;
pub use seaweed::Seaweed;
pub use smtp::{Behaviour, Smtp};
pub use wire::{BOUND, Wire, client_tls, tls_over};
