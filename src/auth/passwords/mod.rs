//! Passwords of accounts: argon2id for new ones, and what other systems stored is verified and replaced.
//!
//! [`Stored`] reads a stored hash and bounds what it may cost; [`Hasher`] computes on a bounded number of threads, so
//! that a flood of sign-ins can slow sign-ins and nothing else.

mod hasher;
mod stored;

pub use hasher::{Hasher, Limits};
pub use stored::{LONGEST, Stored};

/// What a password is, measured by a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another one.
    Wrong,
    /// The right one.
    Right,
    /// The right one, but its hash is weaker than a new one or in another system's form: store `hash` of it.
    RightButOld,
}

/// Why there is no verdict or hash.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too many passwords are waiting for their turn: answer 503 or 429 with Retry-After.
    #[error("too many passwords are being checked at this moment")]
    Busy,
    /// A new password is longer than [`LONGEST`].
    #[error("the password is longer than {LONGEST} bytes")]
    TooLong,
    /// A stored hash is of a kind that cannot be verified here. The user needs a new password.
    #[error("the stored password hash is {0}, which is not supported")]
    Unsupported(&'static str),
    /// A stored hash that is none.
    #[error("the stored password hash is not usable: {0}")]
    Malformed(&'static str),
    /// The thread that computes was lost, or the system has no randomness.
    #[error("a password could not be hashed")]
    Failed,
}
