//! An alias in the SQL and what is known of its columns: how a field is written.

use std::sync::Arc;

use super::Error;
use super::planner::Planner;
use super::sql;
use crate::api::query::{Field, Key};
use crate::api::schema::{Catalog, Name, Relation, Returns};

/// Where an alias gets its rows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// A relation or a function: the alias has a row type, and functions take it as it is.
    Native,
    /// What a write returned: computed fields have been computed there and are columns here.
    Returned,
    /// A function's rows that are kept because they are read twice: the row type is lost.
    Kept,
}

/// An alias.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Its name.
    pub alias: String,
    /// The relation whose rows these are, or the function for messages.
    pub name: Name,
    /// What is known of the relation.
    pub relation: Option<Arc<Relation>>,
    /// Columns of a function's result that is no relation: name and type.
    pub columns: Vec<(Arc<str>, Box<str>)>,
    /// Where the rows come from.
    pub rows: Rows,
}

impl Scope {
    /// Rows of a relation.
    pub fn relation(catalog: &Catalog, name: &Name, alias: String, rows: Rows) -> Self {
        Self { alias, name: name.clone(), relation: catalog.relations.get(name).cloned(), columns: Vec::new(), rows }
    }

    /// The type below any domains of a column, when it is known.
    fn base_type(&self, catalog: &Catalog, column: &str) -> Option<Box<str>> {
        if let Some(known) = self.relation.as_ref().and_then(|relation| relation.column(column)) {
            return Some(known.base_type.clone());
        }
        if let Some((_, known)) = self.columns.iter().find(|(name, _)| &**name == column) {
            return Some(known.clone());
        }
        let function = catalog.computed.get(&self.name)?.get(column)?;
        catalog.functions.get(function)?.iter().find_map(|function| match &function.returns {
            Returns::Scalar(of) if function.parameters.len() == 1 => Some(of.clone()),
            _ => None,
        })
    }

    /// Whether the column is a text search vector.
    pub fn is_vector(&self, catalog: &Catalog, field: &Field) -> bool {
        field.path.is_empty() && self.base_type(catalog, &field.name).as_deref() == Some("tsvector")
    }

    /// The function that computes a field that is no column.
    pub fn computed<'a>(&self, catalog: &'a Catalog, field: &str) -> Option<&'a Name> {
        if self.relation.as_ref().is_some_and(|relation| relation.column(field).is_some()) {
            return None;
        }
        catalog.computed.get(&self.name)?.get(field)
    }

    /// The names of all columns, in their order; `None` when they are not known.
    pub fn names(&self) -> Option<Vec<Arc<str>>> {
        match &self.relation {
            Some(relation) => Some(relation.columns.iter().map(|column| column.name.clone()).collect()),
            None if self.columns.is_empty() => None,
            None => Some(self.columns.iter().map(|(name, _)| name.clone()).collect()),
        }
    }
}

impl Planner<'_> {
    /// The alias's whole row, as an argument for a function.
    pub fn row(&mut self, scope: &Scope) {
        match (&scope.relation, scope.rows) {
            (Some(relation), Rows::Returned | Rows::Kept) => {
                self.sql.push("ROW(");
                self.sql.list(",", &relation.columns, |sql, column| {
                    sql.column(&scope.alias, &column.name);
                });
                self.sql.push(")::").name(&scope.name);
            }
            // With `.*`, a column that has the alias's name is not meant.
            _ => {
                self.sql.ident(&scope.alias).push(".*");
            }
        }
    }

    /// A field: a column, a computed field, or a place inside of either.
    pub fn field(&mut self, scope: &Scope, field: &Field) {
        if field.path.is_empty() {
            return self.plain(scope, &field.name);
        }
        // An operator on a jsonb column itself can use its indexes, so only other types are converted.
        let json = matches!(scope.base_type(self.catalog, &field.name).as_deref(), Some("json" | "jsonb"));
        self.sql.push(if json { "(" } else { "(to_jsonb(" });
        self.plain(scope, &field.name);
        if !json {
            self.sql.push(")");
        }
        for step in &field.path {
            self.sql.push(if step.text { "->>" } else { "->" });
            match &step.to {
                Key::Name(name) => self.sql.key(name),
                Key::Index(index) => {
                    // A number of ours, and part of the query's form: indexes differ in meaning, not in value.
                    if *index < 0 {
                        self.sql.push("(-").number(index.unsigned_abs() as usize).push(")")
                    } else {
                        self.sql.number(*index as usize)
                    }
                }
            };
        }
        self.sql.push(")");
    }

    fn plain(&mut self, scope: &Scope, name: &str) {
        match scope.computed(self.catalog, name) {
            Some(function) if scope.rows != Rows::Returned => {
                self.sql.name(function).push("(");
                self.row(scope);
                self.sql.push(")");
            }
            // An unknown column too: PostgreSQL says that it does not exist, with its own code and hint.
            _ => {
                self.sql.column(&scope.alias, name);
            }
        }
    }

    /// A field, cast to the type that the client named.
    pub fn cast_field(&mut self, scope: &Scope, field: &Field, cast: Option<&str>) -> Result<(), Error> {
        self.cast(cast, |planner| planner.field(scope, field))
    }

    /// An expression, cast to the type that the client named.
    pub fn cast(&mut self, cast: Option<&str>, inner: impl FnOnce(&mut Self)) -> Result<(), Error> {
        let Some(cast) = cast else {
            inner(self);
            return Ok(());
        };
        let to = sql::type_name(cast).ok_or_else(|| Error::Cast(cast.to_owned()))?;
        self.sql.push("CAST(");
        inner(self);
        self.sql.push(" AS ").push(&to).push(")");
        Ok(())
    }
}
