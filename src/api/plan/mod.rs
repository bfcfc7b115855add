//! From a query and a catalogue to one SQL statement.

mod call;
mod error;
mod filter;
mod planner;
mod scope;
mod select;
mod sql;
mod statement;
#[cfg(test)]
mod tests;
mod tree;
mod work;
mod write;

pub use error::Error;
pub use statement::plan;
pub use work::{Arguments, Conflict, Count, Insert, Output, Rows, Statement, Target, Work};

/// The CTE of a write, or of a function's rows.
const SOURCE: &str = "pgrst_source";
