//! Who is asking and what they may do: the auth wall.
//!
//! [`Wall`] is the configuration, [`Gate`] what stands in front of a handler. The answers are those of the Django
//! package django-auth-wall 0.3.0; `tests/integration/wall.rs` holds the two side by side.

pub mod accounts;
mod config;
mod cookie;
mod credentials;
pub mod directory;
mod error;
mod gate;
pub mod gateway;
mod guard;
pub mod hooks;
pub mod jwt;
pub mod keys;
mod mac;
pub mod oauth;
pub mod passwords;
mod proofs;
pub mod quota;
mod throttle;
pub mod totp;
mod users;

pub use config::{Mode, Wall};
pub use error::Error;
pub use gate::Gate;
pub use gateway::{Caller, Gateway, Refusal};
pub use mac::Key;
pub use quota::Quota;
