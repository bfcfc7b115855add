//! The schema cache: what the database has, read from its catalogue.

mod cache;
mod catalog;
mod describe;
mod error;
mod figures;
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
    Catalog, Column, Function, Join, Name, Parameter, Relation, RelationKind, Relationship, Returns, Volatility,
};
pub use figures::Figures;
pub use overload::{BodyKind, CallError, Missing};
pub use overrides::Overrides;
pub use relate::RelationshipError;

#[cfg(test)]
pub use catalog::ForeignKey;
#[cfg(test)]
pub use error::Error;
#[cfg(test)]
pub use load::{Scope, load};

#[cfg(test)]
pub(super) mod tests;
