//! Why a token is refused, in the words and codes of PostgREST 14, which clients show and test for.

use std::borrow::Cow;

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// There is a header but no token in it.
    Empty,
    /// It has so many bytes, more than [`super::LONGEST`].
    TooLong(usize),
    /// It has so many parts between dots, not three.
    Parts(usize),
    /// Its header or signature cannot be read.
    Malformed,
    /// Its header says `none`.
    Unsecured,
    /// Its algorithm is unknown.
    Algorithm(String),
    /// It is no access token, or demands an extension that is unknown.
    Kind(&'static str),
    /// No key has its identifier and algorithm.
    NoKey,
    /// No key made its signature.
    Signature,
    /// Its claims are no JSON object.
    Claims,
    /// It has expired.
    Expired,
    /// It may not be used yet.
    NotYet,
    /// It says that it was made in the future.
    Future,
    /// It is meant for others.
    Audience,
    /// Its issuer is not the one whose key signed it.
    Issuer,
    /// This claim is no number.
    NotNumber(&'static str),
    /// Its audience is neither a text nor a list of texts.
    AudienceForm,
    /// Its role is no text, or a name that no role can have.
    Role,
}

impl Invalid {
    /// PGRST301 when the token could not be read or verified, PGRST303 when a claim is wrong.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty
            | Self::TooLong(_)
            | Self::Parts(_)
            | Self::Malformed
            | Self::Unsecured
            | Self::Algorithm(_)
            | Self::Kind(_)
            | Self::NoKey
            | Self::Signature => "PGRST301",
            Self::Claims
            | Self::Expired
            | Self::NotYet
            | Self::Future
            | Self::Audience
            | Self::Issuer
            | Self::NotNumber(_)
            | Self::AudienceForm
            | Self::Role => "PGRST303",
        }
    }

    /// One sentence for the client.
    #[must_use]
    pub fn message(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Empty => "Empty JWT is sent in Authorization header",
            Self::TooLong(_) => "JWT too long",
            Self::Parts(count) => return format!("Expected 3 parts in JWT; got {count}").into(),
            Self::Malformed => "JWT cryptographic operation failed",
            Self::Unsecured | Self::Algorithm(_) => "Wrong or unsupported encoding algorithm",
            Self::Kind(_) => "Unsupported token type",
            Self::NoKey | Self::Signature => "No suitable key or wrong key type",
            Self::Claims => "Parsing claims failed",
            Self::Expired => "JWT expired",
            Self::NotYet => "JWT not yet valid",
            Self::Future => "JWT issued at future",
            Self::Audience => "JWT not in audience",
            Self::Issuer => "JWT not from the issuer of its key",
            Self::NotNumber(claim) => return format!("The JWT '{claim}' claim must be a number").into(),
            Self::AudienceForm => "The JWT 'aud' claim must be a string or an array of strings",
            Self::Role => "The JWT role claim must be the name of a database role",
        })
    }

    /// More about it, for some.
    #[must_use]
    pub fn details(&self) -> Option<String> {
        Some(match self {
            Self::TooLong(bytes) => format!("It has {bytes} bytes, the limit is {}", super::LONGEST),
            Self::Unsecured => "JWT is unsecured but expected 'alg' was not 'none'".into(),
            Self::Algorithm(name) => format!("The algorithm is {name}"),
            Self::Kind(what) => (*what).into(),
            Self::NoKey => "No suitable key was found to decode the JWT".into(),
            Self::Signature => "None of the keys was able to decode the JWT".into(),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message())
    }
}

impl std::error::Error for Invalid {}
