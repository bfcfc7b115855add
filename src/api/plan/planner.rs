//! The statement in the making, with the catalogue it is made from.

use super::sql::Sql;
use crate::api::schema::Catalog;

/// Writes SQL; the parts are in the files of what they write.
#[derive(Debug)]
pub struct Planner<'c> {
    /// What the database has.
    pub catalog: &'c Catalog,
    /// The text so far.
    pub sql: Sql,
}

impl<'c> Planner<'c> {
    /// An empty statement.
    pub fn new(catalog: &'c Catalog) -> Self {
        Self { catalog, sql: Sql::new() }
    }
}
