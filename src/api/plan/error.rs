//! Why a query has no SQL. What PostgreSQL itself refuses (an unknown column in a filter, a bad value) is not here: it
//! answers with its own code.

use crate::api::schema::RelationshipError;

/// Why no statement could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relation of an embed is not related, or is in several ways (PGRST200, PGRST201).
    #[error(transparent)]
    Relationship(#[from] RelationshipError),
    /// Two embeds of a level have one name, so that neither a response nor a condition could tell them apart (42712, as
    /// if PostgreSQL had been asked to join both).
    #[error("table name \"{0}\" specified more than once")]
    SameName(String),
    /// An ordering by a related relation of which there may be many rows (PGRST118).
    #[error("A related order on '{target}' is not possible")]
    OrderNotToOne {
        /// The relation that is ordered.
        origin: String,
        /// The embed that it is ordered by.
        target: String,
    },
    /// An aggregate while they are switched off (PGRST123).
    #[error("Use of aggregate functions is not allowed")]
    AggregatesDisabled,
    /// A combination that has no meaning here, told in words for `details` (PGRST127).
    #[error("Feature not implemented")]
    Unsupported(&'static str),
    /// A column to be written that the relation does not have (PGRST204).
    #[error("Could not find the '{column}' column of '{relation}' in the schema cache")]
    ColumnNotFound {
        /// The column.
        column: String,
        /// The relation.
        relation: String,
    },
    /// The relation itself is not in the catalogue (PGRST205); the handler looks before it plans, so that this is for
    /// a reload in between.
    #[error("Could not find the table '{0}' in the schema cache")]
    RelationNotFound(String),
    /// The type of a cast is not the name of a type (PGRST100).
    #[error("'{0}' is not the name of a type")]
    Cast(String),
    /// Embeds are nested more deeply than is allowed (PGRST100).
    #[error("Embeds are nested more than {0} deep")]
    TooDeep(usize),
}
