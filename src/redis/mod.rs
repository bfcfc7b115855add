//! Redis: for now its configuration, the section `[redis]`, which existing settings name already.

use serde::{Deserialize, Serialize};

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
        let url = self.url.expose();
        let known =
            ["redis://", "rediss://", "unix://", "redis+socket://"].iter().any(|scheme| url.starts_with(scheme));
        if url.is_empty() || known {
            return Vec::new();
        }
        vec![Fault::new("url", "is not a Redis URL", "Use \"redis://host:6379/0\" or \"rediss://host:6379/0\".")]
    }
}
