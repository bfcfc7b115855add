//! Configuration of the process as a whole: the section `[server]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::duration;
use crate::error::Fault;

/// The process as a whole: `[server]`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The folder for what Beacon keeps: keys, certificates. $STATE_DIRECTORY (set by systemd) goes before it; "" is
    /// $XDG_STATE_HOME/beacon, else ~/.local/state/beacon.
    pub state_dir: PathBuf,
    /// Threads that serve; 0 is one for each processor.
    pub workers: usize,
    /// How long to go on serving old connections after a stop was asked for.
    #[serde(with = "duration")]
    pub drain: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self { state_dir: PathBuf::new(), workers: 0, drain: Duration::from_secs(30) }
    }
}

impl Server {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.workers > 1_024 {
            faults.push(Fault::new("workers", format!("{} is out of range", self.workers), "Use 0 to 1024."));
        }
        if !self.state_dir.as_os_str().is_empty() && !self.state_dir.is_absolute() {
            faults.push(Fault::new(
                "state_dir",
                format!("\"{}\" is not an absolute path", self.state_dir.display()),
                "Give the path from /.",
            ));
        }
        faults
    }
}
