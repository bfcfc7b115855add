//! Why a hook's answer is no answer.

use std::time::Duration;

use crate::db;
use crate::http::OutboundError;

/// What can go wrong with a hook.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hook said no: what the client reads, and the status that the hook wants.
    #[error("{message}")]
    Refused {
        /// 400 to 599.
        status: u16,
        /// In the hook's words.
        message: String,
    },
    /// It took too long.
    #[error("Failed to reach hook within maximum time of {} seconds", .0.as_secs_f64())]
    Timeout(Duration),
    /// It could not be reached, several times.
    #[error("Failed to reach hook after maximum retries")]
    Unreachable(#[source] OutboundError),
    /// The connection broke, or what came is no HTTP.
    #[error("The hook did not answer in HTTP")]
    Broken(#[source] OutboundError),
    /// It answered with this status.
    #[error("Unexpected status code returned from hook: {0}")]
    Status(u16),
    /// Its answer is not JSON by its Content-Type.
    #[error("Invalid JSON response of the hook: its Content-Type is not application/json")]
    ContentType,
    /// Its answer is too long.
    #[error("Payload size exceeded size limit of {} bytes", super::LARGEST)]
    TooLarge,
    /// What it should be told is too long.
    #[error("The event for the hook is longer than {} bytes", super::LARGEST_EVENT)]
    EventTooLarge,
    /// Its answer is no JSON object.
    #[error("The hook's answer is no JSON object")]
    Output,
    /// The function failed, or the database is away.
    #[error("The hook's function failed")]
    Function(#[source] db::Error),
}

impl Error {
    /// The status for the client.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused { status, .. } => *status,
            Self::Timeout(_) | Self::Unreachable(_) | Self::TooLarge => 422,
            Self::ContentType => 400,
            _ => 500,
        }
    }

    /// One of the dialect's codes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "hook_timeout",
            Self::Unreachable(_) => "hook_timeout_after_retry",
            Self::TooLarge => "hook_payload_over_size_limit",
            Self::ContentType => "hook_payload_invalid_content_type",
            _ => "unexpected_failure",
        }
    }
}
