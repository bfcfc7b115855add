//! Redis: one connection that is opened again whenever it is lost, and scripts that run there; more connections for what
//! blocks ([`Client::another`]) and for subscriptions ([`Subscription`]).
//!
//! Nothing waits for Redis: a call while it is away fails at once, and each call has a deadline. What a caller does
//! without Redis is the caller's to say.

mod address;
mod client;
mod config;
mod error;
mod script;
mod subscription;
mod tls;
mod value;

pub use client::Client;
pub use config::Config;
pub use error::Error;
pub use script::Script;
pub use subscription::{Heard, Subscription};
pub use value::{Value, bytes, float, integer, list, text};
