//! Listening sockets: made, inherited from systemd, and accepted from under limits.

mod address;
mod config;

pub use address::Address;
pub use config::Config;
