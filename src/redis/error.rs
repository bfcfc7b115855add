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
        /// Answers of a Redis that is full, that reads its data, or that has just become a replica.
        const LATER: [&str; 8] =
            ["OOM", "LOADING", "READONLY", "MASTERDOWN", "BUSY", "MISCONF", "NOREPLICAS", "TRYAGAIN"];

        match self {
            Self::Away(_) | Self::Timeout(_) => true,
            Self::Refused(why) => LATER
                .iter()
                .any(|word| why.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))),
            Self::Url(_) | Self::Authorities { .. } => false,
        }
    }

    /// What a call to the Redis at `place`, which was to end `within`, failed with.
    pub(super) fn of_call(error: &fred::error::Error, place: &str, within: Duration) -> Self {
        /// What the client says, among others of no kind, when a connection broke while it was being written to.
        const UNWRITTEN: &str = "Failed to route command.";

        match error.kind() {
            ErrorKind::Timeout => Self::Timeout(within),
            ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Routing | ErrorKind::Tls | ErrorKind::Backpressure => {
                Self::Away(place.to_owned())
            }
            ErrorKind::Unknown if error.details() == UNWRITTEN => Self::Away(place.to_owned()),
            _ => Self::Refused(error.details().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_is_no_refusal() {
        let of = |text| {
            let error = fred::error::Error::new(ErrorKind::Unknown, text);
            Error::of_call(&error, "here", Duration::from_secs(1))
        };
        assert!(matches!(of("Failed to route command."), Error::Away(_)));
        assert!(matches!(of("ERR unknown command"), Error::Refused(_)));
    }

    #[test]
    fn what_may_work_later_is_told_from_what_will_not() {
        for (why, later) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", true),
            ("LOADING Redis is loading the dataset in memory", true),
            ("READONLY You can't write against a read only replica.", true),
            ("BUSYGROUP Consumer Group name already exists", false),
            ("WRONGTYPE Operation against a key", false),
            ("", false),
        ] {
            assert_eq!(Error::Refused(why.into()).is_unavailable(), later, "{why}");
        }
    }
}
