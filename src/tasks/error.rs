//! What can go wrong with messages and their Redis.

use crate::redis;

/// An error of the broker, the results, or a message that is to be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis is away, or refused.
    #[error(transparent)]
    Redis(#[from] redis::Error),
    /// Redis answered something that makes no sense.
    #[error("Redis answered with something else than it was asked for ({0})")]
    Answer(&'static str),
    /// The message is larger than messages may be.
    #[error("the message has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// tasks.max_message_bytes.
        limit: usize,
    },
    /// The task to be sent makes no sense.
    #[error("{0}")]
    Task(String),
}

impl Error {
    /// Whether Redis is not there, or not now: the same call may succeed later.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Redis(error) if error.is_unavailable())
    }
}
