//! From a query and a catalogue to one SQL statement.

mod work;

pub use work::{Arguments, Conflict, Count, Insert, Output, Parameter, Rows, Statement, Target, Work};
