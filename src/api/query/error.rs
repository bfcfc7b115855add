//! What can be wrong with a query before anybody looked whether its names exist.

/// A query that is not understood, or that asks for too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A parameter is not in the form that it must have.
    #[error("{message}: {details}")]
    Syntax {
        /// Which one, and where in it.
        message: String,
        /// What stands there, and what would have been right.
        details: String,
    },
    /// A parameter speaks of a relation that the select list does not embed.
    #[error("'{0}' is not an embedded resource in this request")]
    NotEmbedded(String),
    /// A limit below zero.
    #[error("the limit is negative")]
    NegativeLimit,
    /// An offset below zero, of an embedded relation.
    #[error("the offset is negative")]
    NegativeOffset,
    /// A range that ends before it begins.
    #[error("the range ends before it begins")]
    Backwards,
    /// A range of which limit and offset leave nothing.
    #[error("the range has no row in common with limit and offset")]
    Disjoint,
}

impl Error {
    /// A query string that is too long.
    #[must_use]
    pub fn too_long() -> Self {
        Self::refused("the query string is too long", format!("it has more than {} bytes", super::MAX_QUERY))
    }

    /// A query that is refused as a whole.
    pub(super) fn refused(message: &str, details: impl Into<String>) -> Self {
        Self::Syntax { message: message.to_owned(), details: details.into() }
    }
}
