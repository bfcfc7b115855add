//! The schema cache: what the database has, read from its catalogue.

mod cache;
mod catalog;
mod describe;
mod error;
mod fingerprint;
mod functions;
mod fuzzy;
mod lineage;
mod links;
mod load;
mod names;
mod nodes;
mod overload;
mod overrides;
mod read;
mod relate;
mod roles;
mod service_role;

pub use cache::{Cache, Options, Snapshot};
pub use catalog::{
    Catalog, Column, ForeignKey, Function, Join, Junction, Name, Parameter, Relation, RelationKind, Relationship,
    Returns, Settings, Volatility,
};
pub use error::Error;
pub use load::{Scope, load};
pub use overload::{BodyKind, CallError, Missing};
pub use overrides::Overrides;
pub use relate::RelationshipError;

#[cfg(test)]
mod tests;
