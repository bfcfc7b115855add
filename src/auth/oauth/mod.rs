//! Signing in with somebody else's account: Google, GitHub, Apple, Microsoft, and whoever speaks OpenID Connect.
//!
//! [`Providers`] is all that others use. A flow is [`Providers::begin`], which makes the address that the browser is sent
//! to, and [`Providers::finish`], when it comes back with a code; what the first returns besides the address must be kept
//! with the `state` and given to the second. [`Providers::accept`] takes an ID token that an application got by itself.
//!
//! An address is verified only if the provider says so: whoever may claim any address there would otherwise get the
//! account of its owner here. Keys and endpoints come from the issuer's own document; nothing in a token says where to
//! look.

mod config;
mod error;
mod exchange;
mod github;
mod id_token;
mod issuer;
mod person;
mod providers;
#[cfg(test)]
mod tests;

pub use config::{Kind, Provider, validate};
pub use error::Error;
pub use person::Person;
pub use providers::{Begun, IdToken, Outcome, Providers, Return};
