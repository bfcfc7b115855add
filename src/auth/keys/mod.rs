//! API keys: `sb_publishable_...` for what runs in browsers and phones, `sb_secret_...` for servers.
//!
//! A key is random; only its SHA-256 is needed to recognise it, and of secret keys nothing else is kept. Looking up a
//! hash leaks nothing through time that helps: who chooses a key cannot choose the bytes that are compared.

pub mod store;
mod table;
mod text;

pub use table::{ApiKey, ApiKeys, Found};
pub use text::{Kind, NewKey, digest, is_whole, looks_like_key};
