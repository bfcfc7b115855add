//! JSON Web Tokens: the keys that sign and verify them, and the rules that a token must meet (RFC 7519, RFC 8725).
//!
//! A key has one algorithm and verifies nothing else, whatever a token's header says; where to fetch a key (`jku`,
//! `x5u`, `jwk`) is never taken from a token. [`Keys`] holds Beacon's own keys and those of issuers that the operator
//! trusts; [`KeySet`] is a set of somebody else's, as an identity provider publishes it.

mod claims;
mod invalid;
mod key;
mod keys;
pub mod store;
#[cfg(test)]
mod tests;
mod token;

pub use claims::{Claims, Rules};
pub use invalid::Invalid;
pub use key::{KeyError, KeySet};
pub use keys::{Issuer, Keys, Settings, Signing, Status, StoredKey, generate};
pub use token::LONGEST;
