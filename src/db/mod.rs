//! PostgreSQL: for now its configuration, the section `[database]`, which existing settings name already.

use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::secret::Secret;

/// Where the database is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// "postgres://user:password@host:5432/name"; DATABASE_URL sets it too.
    pub url: Secret,
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let url = self.url.expose();
        let known = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        if url.is_empty() || known {
            return Vec::new();
        }
        vec![Fault::new("url", "is not a PostgreSQL URL", "Use \"postgres://user:password@host:5432/name\".")]
    }
}
