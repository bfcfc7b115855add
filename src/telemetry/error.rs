//! What can go wrong when logging starts.

use std::io;
use std::path::PathBuf;

/// Why a log cannot be written as configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `log.level` is no filter.
    #[error("log.level \"{level}\" cannot be read: {problem}; use error, warn, info, debug or trace")]
    Level {
        /// The text as it was given.
        level: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something else in the process collects log events already.
    #[error("logging was started by something else in this process; start it with telemetry::init alone")]
    Taken,
    /// The level cannot be changed because logging has not been started.
    #[error("logging has not been started")]
    NotStarted,
    /// The journal's socket cannot be used.
    #[error(
        "the journal at {path} cannot be reached; set log.format or log.access.output to something other than journald"
    )]
    Journal {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The access log's file cannot be opened.
    #[error(
        "the access log {path} (log.access.output) cannot be opened; make its folder and let Beacon's user write there"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `log.access.output` is no place that is known.
    #[error("log.access.output \"{output}\" is unknown; use stdout, journald, off or the absolute path of a file")]
    Output {
        /// The value.
        output: String,
    },
    /// Standard output is closed.
    #[error("standard output cannot be used for the access log; set log.access.output")]
    Stdout(#[source] io::Error),
    /// The writer's thread could not be started.
    #[error("the access log's writer cannot be started")]
    Thread(#[source] io::Error),
}
