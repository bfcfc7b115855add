//! What can go wrong between Beacon and an identity provider. No variant quotes a code or a token.

use crate::auth::jwt::Invalid;
use crate::http::OutboundError;

/// An error of a provider, or of what somebody claims to have from one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such provider; the caller's mistake.
    #[error("there is no provider called {0:?}")]
    Unknown(String),
    /// It is there and switched off; the caller's mistake.
    #[error("the provider {0:?} is not enabled")]
    Disabled(String),
    /// It has no ID tokens; the caller's mistake.
    #[error("the provider {0:?} has no ID tokens")]
    NoIdTokens(String),
    /// A parameter cannot be passed on; the caller's mistake.
    #[error("the parameter {0:?} cannot be used here")]
    Parameter(String),
    /// The provider does not answer.
    #[error("the identity provider does not answer")]
    Away(#[source] OutboundError),
    /// The provider did not answer a moment ago, and was not asked again.
    #[error("the identity provider did not answer a moment ago")]
    AwayStill,
    /// The provider refused the code, or the client's secret: its code and its words.
    #[error("the identity provider refused: {code}: {description}")]
    Refused {
        /// As in `invalid_grant`.
        code: String,
        /// What it says more.
        description: String,
    },
    /// The provider's answer makes no sense.
    #[error("the identity provider's answer is not usable: {0}")]
    Answer(&'static str),
    /// An answer came from another issuer than the one that was asked (RFC 9207).
    #[error("the answer is of another issuer")]
    Mixed,
    /// The ID token is not good.
    #[error("the ID token is refused")]
    Token(#[source] Invalid),
    /// The ID token names nobody.
    #[error("the ID token has no subject")]
    Subject,
    /// The token is of another request, or is used for the second time.
    #[error("the nonce is not that of the ID token")]
    Nonce,
    /// One of the two has a nonce and the other has not.
    #[error("the nonce and the nonce in the ID token should both be there or not")]
    NonceMissing,
    /// The access token is not the one that belongs to the ID token.
    #[error("the access token does not belong to the ID token")]
    AccessToken,
    /// The client's own key cannot sign, or the system has no randomness.
    #[error("{0}")]
    Ours(&'static str),
}

impl From<OutboundError> for Error {
    fn from(error: OutboundError) -> Self {
        Self::Away(error)
    }
}

impl From<Invalid> for Error {
    fn from(error: Invalid) -> Self {
        Self::Token(error)
    }
}

impl Error {
    /// Whether it is not the caller's fault: the provider is away, refuses Beacon itself, or talks nonsense.
    #[must_use]
    pub fn is_upstream(&self) -> bool {
        match self {
            Self::Away(_) | Self::AwayStill | Self::Answer(_) | Self::Ours(_) => true,
            Self::Refused { code, .. } => code != "invalid_grant" && code != "bad_verification_code",
            _ => false,
        }
    }
}
