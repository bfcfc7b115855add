//! What can go wrong between Beacon and Redis.

use std::path::PathBuf;
use std::time::Duration;

use fred::error::ErrorKind;

/// An error of Redis or of the way to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not usable; never quotes it.
    #[error("{0}")]
    Url(String),
    /// The certificates cannot be read or used.
    #[error("{path}: Redis's certificate authorities cannot be used: {why}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is no connection at this moment.
    #[error("Redis {0} does not answer")]
    Away(String),
    /// Redis did not answer in time. What was asked may happen all the same.
    #[error("Redis did not answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// Redis answered with an error, or with something else than it was asked for.
    #[error("Redis refused: {0}")]
    Refused(String),
}

impl Error {
    /// Whether Redis is not there, or not now: the same call may succeed later.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Timeout(_))
    }

    /// What a call to the Redis at `place`, which was to end `within`, failed with.
    pub(super) fn of_call(error: &fred::error::Error, place: &str, within: Duration) -> Self {
        match error.kind() {
            ErrorKind::Timeout => Self::Timeout(within),
            ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Routing | ErrorKind::Tls | ErrorKind::Backpressure => {
                Self::Away(place.to_owned())
            }
            _ => Self::Refused(error.details().to_owned()),
        }
    }
}
