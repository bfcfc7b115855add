//! Listening sockets: made, inherited from systemd, and accepted from under limits.

mod accept;
mod address;
mod config;
mod error;
mod listener;
pub mod proxy_protocol;

pub use accept::{Accepted, Limit, Seat, run};
pub use address::Address;
pub use config::{Config, ForwardedHeader};
pub use error::Error;
pub use listener::{Listener, Stream};
