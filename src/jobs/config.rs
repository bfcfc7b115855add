//! The sections `[handlers.NAME]`: tasks by that name, and what they do.

use serde::{Deserialize, Serialize};

use crate::error::Fault;

/// What a task does. One of the kinds is set.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The task's name, if it is not the section's.
    pub task: String,
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        Vec::new()
    }
}
