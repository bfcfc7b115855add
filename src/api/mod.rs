//! The native API over PostgreSQL: rows and functions at /rest/v1, in the dialect of PostgREST.

mod plan;
mod query;
mod schema;
