//! Why a mail cannot be sent, or a template not be used.

use std::io;
use std::path::PathBuf;

/// What can go wrong before a mail has been accepted into the queue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no mail server in the configuration.
    #[error("mail.host is not set, so no mail can be sent")]
    Unset,
    /// The queue is full: the mail server is away or slow.
    #[error("the mail queue is full")]
    Full,
    /// The address is none that a mail can be sent to.
    #[error("the address cannot be written to")]
    Address,
    /// The mail could not be put together.
    #[error("the mail could not be put together")]
    Build(#[source] lettre::error::Error),
    /// The transport could not be set up.
    #[error("mail: the connection to the mail server cannot be set up")]
    Transport(#[source] lettre::transport::smtp::Error),
    /// A file could not be read.
    #[error("mail: cannot read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A template uses what it may not.
    #[error("{file}, line {line}: {problem}. {fix}")]
    Template {
        /// The template's file, or the key of its subject.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        fix: &'static str,
    },
}
