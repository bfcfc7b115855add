//! The section `[redis]`.

use serde::{Deserialize, Serialize};

use super::address::Address;
use crate::error::Fault;
use crate::secret::Secret;

/// Where Redis is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// "redis://host:6379/0", or "rediss://" for TLS, or "unix:///path"; REDIS_URL sets it too.
    pub url: Secret,
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        if self.url.is_empty() {
            return Vec::new();
        }
        match Address::parse(&self.url) {
            Ok(_) => Vec::new(),
            Err(error) => vec![Fault::new(
                "url",
                error.to_string(),
                "Use \"redis://host:6379/0\", \"rediss://host:6379/0\" or \"unix:///path\".",
            )],
        }
    }
}
