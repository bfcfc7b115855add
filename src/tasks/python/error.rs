//! What can go wrong with a Celery application's processes.

use std::path::PathBuf;
use std::time::Duration;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no interpreter.
    #[error("no Python at {}: set tasks.python.python to the interpreter or to the virtual environment's folder", .0.display())]
    Interpreter(PathBuf),
    /// The process cannot be started.
    #[error("{} cannot be started", program.display())]
    Start {
        /// The interpreter.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The application cannot be loaded.
    #[error("the Celery application cannot be loaded: {why}")]
    Unusable {
        /// In a sentence.
        why: String,
        /// Python's traceback.
        trace: Option<String>,
    },
    /// The process ended before it was ready.
    #[error("the application's process ended before it was ready ({status}){}", words(.last))]
    Ended {
        /// How.
        status: String,
        /// Its last lines.
        last: Vec<String>,
    },
    /// It takes too long.
    #[error(
        "the application was not ready after {0:?}: raise tasks.python.start_timeout, or see what its import waits for"
    )]
    Slow(Duration),
    /// It said something that is no frame.
    #[error("the application's process cannot be understood: {0}")]
    Garbled(String),
}

fn words(last: &[String]) -> String {
    if last.is_empty() { String::new() } else { format!(": {}", last.join(" / ")) }
}
