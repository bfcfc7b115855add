//! The schema cache: what the database has, read from its catalogue.

mod catalog;

pub use catalog::{
    Catalog, Column, ForeignKey, Function, Join, Junction, Name, Parameter, Relation, RelationKind, Relationship,
    Returns, Volatility,
};
