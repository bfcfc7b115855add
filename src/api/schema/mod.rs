//! The schema cache: what the database has, read from its catalogue.

mod catalog;
mod error;
mod functions;
mod fuzzy;
mod lineage;
mod links;
mod load;
mod names;
mod nodes;
mod overload;
mod read;
mod relate;
mod roles;

pub use catalog::{
    Catalog, Column, ForeignKey, Function, Join, Junction, Name, Parameter, Relation, RelationKind, Relationship,
    Returns, Volatility,
};
pub use error::Error;
pub use load::{Scope, load};
pub use overload::{BodyKind, CallError, Missing};
pub use relate::RelationshipError;

#[cfg(test)]
mod tests;
