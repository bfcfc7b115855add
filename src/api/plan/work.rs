//! The seam between the handler and SQL: what is to be done, and the statement that does it.

use std::sync::Arc;

use bytes::Bytes;

use crate::api::query::Level;
use crate::api::schema::{Function, Name};
use crate::db::Parameter;

/// What a request wants done.
#[derive(Debug)]
pub struct Work<'a> {
    /// To what.
    pub target: Target<'a>,
    /// The query: columns, embeds, filters, order and limits. For a write, filters choose the rows, and the select list
    /// shapes what is returned of them.
    pub level: &'a Level,
    /// How the response's body is made.
    pub output: Output,
    /// Whether rows are counted.
    pub count: Option<Count>,
    /// At most so many rows in the body of a read (`api.max_rows`); a write returns all of its rows.
    pub max_rows: Option<u64>,
    /// Whether aggregates are allowed.
    pub aggregates: bool,
}

/// What is read, written or called.
#[derive(Debug)]
pub enum Target<'a> {
    /// Rows of a relation.
    Read(&'a Name),
    /// New rows.
    Insert(&'a Name, Insert<'a>),
    /// Changed rows.
    Update(&'a Name, Rows<'a>),
    /// Removed rows.
    Delete(&'a Name),
    /// A function's result.
    Call(&'a Arc<Function>, Arguments<'a>),
}

/// An insert.
#[derive(Debug)]
pub struct Insert<'a> {
    /// The rows.
    pub rows: Rows<'a>,
    /// What happens to a row that is there already.
    pub conflict: Option<Conflict<'a>>,
}

/// The rows of a body.
#[derive(Debug)]
pub struct Rows<'a> {
    /// The JSON text: an array of objects, or one object. It goes to PostgreSQL as one parameter.
    pub body: Bytes,
    /// The columns to write, known to exist as text only: the planner refuses those that the relation lacks (PGRST204).
    pub columns: &'a [String],
    /// Whether a key that an object lacks takes the column's default (`Prefer: missing=default`) and not NULL.
    pub defaults: bool,
}

/// `ON CONFLICT`
#[derive(Debug)]
pub struct Conflict<'a> {
    /// `on_conflict=a,b`; empty is the primary key.
    pub columns: &'a [String],
    /// Whether the row is changed (merge-duplicates) or left (ignore-duplicates).
    pub merge: bool,
}

/// What a function is called with.
#[derive(Debug)]
pub enum Arguments<'a> {
    /// Named values in a JSON object, which goes to PostgreSQL as one parameter; only names that the function has.
    Json(Bytes, &'a [String]),
    /// Named values as text, from a URL: each value is cast from an untyped literal to its parameter's type, so that an
    /// array is written `{1,2}`. Several values for the variadic parameter.
    Text(&'a [(String, Vec<String>)]),
    /// The whole body as the one unnamed parameter; its bytes are text unless the parameter is bytea.
    Body(Bytes),
    /// None.
    Empty,
}

/// How the response's body is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// No body: HEAD, return=minimal. Rows are counted all the same.
    Nothing,
    /// An array; for a function that returns no set, its value or object.
    Json {
        /// Whether keys with NULL are left out.
        strip_nulls: bool,
    },
    /// The one object (`application/vnd.pgrst.object+json`). The handler refuses when there is not exactly one row; the
    /// statement's `rows` says so.
    Object {
        /// Whether keys with NULL are left out.
        strip_nulls: bool,
    },
    /// Comma separated values with a header line.
    Csv,
    /// A scalar as it is: text/plain, text/xml, application/octet-stream. For functions that return a scalar.
    Plain,
    /// `return=headers-only`: no body, and the primary key of the first row in `location`.
    Location,
}

/// How rows are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// All rows that match, with `inner` embeds respected.
    Exact,
    /// The database's estimate. The planner leaves `total` NULL and gives [`Statement::estimate`].
    Planned,
    /// Exact up to `max_rows`, the estimate above: as Planned, with a count that stops at `max_rows` + 1.
    Estimated,
}

/// A statement that is ready to be run. It returns exactly one row with the columns, in this order:
///
/// | # | name | type | what |
/// | --- | --- | --- | --- |
/// | 0 | body | text or NULL | the response's body (bytea for `Output::Plain` of a bytea) |
/// | 1 | rows | int8 | how many rows are in it (or were written; a function without a set: 1) |
/// | 2 | total | int8 or NULL | how many there are without limit and offset, if asked |
/// | 3 | inserted | int8 or NULL | for an insert with a conflict clause that merges: how many were new |
/// | 4 | location | text or NULL | JSON object of the first row's primary key, for `Output::Location` |
/// | 5 | headers | text or NULL | the setting response.headers |
/// | 6 | status | text or NULL | the setting response.status |
#[derive(Debug)]
pub struct Statement {
    /// The SQL, the same text for every request of one form, so that it can be prepared.
    pub sql: String,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// What to EXPLAIN (FORMAT JSON) for an estimate: SQL that uses a prefix of nothing but its own parameters.
    pub estimate: Option<(String, Vec<Parameter>)>,
}
