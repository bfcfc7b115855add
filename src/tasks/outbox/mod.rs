//! Tasks from SQL: `beacon.enqueue` writes a row with the transaction of its caller, and the relay moves rows to Redis
//! after the commit, so that a task is never lost and never begins before its data is there.

mod pass;
mod relay;
mod row;

pub use relay::{Error, Figures, Relay};
