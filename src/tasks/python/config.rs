//! The section `[tasks.python]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::duration;
use crate::error::Fault;

/// Celery alone, imported, has more than 60 MiB of addresses.
const SMALLEST_LIMIT: u64 = 64 << 20;

/// A Celery application and the processes that run its tasks.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The application, as `celery -A` takes it: "mysite", "mysite.celery:app"; "" is none.
    pub celery_app: String,
    /// The folder that it is imported from; "" is the one that Beacon runs in.
    pub directory: PathBuf,
    /// The interpreter, or a virtual environment's folder; "" looks for .venv and venv in the directory, then python3
    /// in PATH.
    pub python: PathBuf,
    /// Who runs it: "auto" is beacon-worker.service under systemd and `beacon serve` itself elsewhere.
    pub runs_in: RunsIn,
    /// Processes; 0 is the number of processors.
    pub processes: usize,
    /// Variables for the application beside those that Beacon passes on (PATH, HOME, LANG, TZ, PYTHON*, DJANGO_*).
    pub env: BTreeMap<String, String>,
    /// A file of more variables in .env syntax, such as the application's own; "" is none.
    pub env_file: PathBuf,
    /// A process is replaced after so many tasks; 0 is never.
    pub max_tasks: u32,
    /// A process is replaced when its memory is larger after a task, in bytes; 0 is never.
    pub max_memory_bytes: u64,
    /// Addresses that a process may have, in bytes (RLIMIT_AS): beyond it a task gets MemoryError, and its process is
    /// replaced; 0 is no limit.
    pub memory_limit_bytes: u64,
    /// A process is replaced when it is older, after a task; "0s" is never.
    #[serde(with = "duration")]
    pub max_age: Duration,
    /// How many `async def` tasks run at once in one process.
    pub async_concurrency: usize,
    /// How long a process may take until it is ready for its first task.
    #[serde(with = "duration")]
    pub start_timeout: Duration,
    /// A process that does not answer for so long while it runs nothing is ended and replaced.
    #[serde(with = "duration")]
    pub silence: Duration,
}

/// Who runs the application's tasks.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RunsIn {
    /// The worker's unit under systemd, `serve` elsewhere.
    #[default]
    Auto,
    /// `beacon serve`.
    Serve,
    /// `beacon worker` alone.
    Worker,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            celery_app: String::new(),
            directory: PathBuf::new(),
            python: PathBuf::new(),
            runs_in: RunsIn::Auto,
            processes: 0,
            env: BTreeMap::new(),
            env_file: PathBuf::new(),
            max_tasks: 0,
            max_memory_bytes: 0,
            memory_limit_bytes: 0,
            max_age: Duration::ZERO,
            async_concurrency: 100,
            start_timeout: Duration::from_mins(1),
            silence: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.async_concurrency == 0 {
            faults.push(Fault::new("async_concurrency", "is 0", "Use 1 or more."));
        }
        if (1..SMALLEST_LIMIT).contains(&self.memory_limit_bytes) {
            faults.push(Fault::new(
                "memory_limit_bytes",
                format!("is {}, in which no interpreter starts", self.memory_limit_bytes),
                "Use 256 MiB (268435456) or more, or 0 for no limit.",
            ));
        }
        if self.start_timeout.is_zero() {
            faults.push(Fault::new("start_timeout", "is 0", "Give the application time to be imported, as in \"1m\"."));
        }
        faults
    }
}
