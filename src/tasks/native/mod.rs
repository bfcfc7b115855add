//! Tasks in Rust: those that Beacon brings along and those of its configuration.

mod handler;

pub use handler::{Again, Call, Failure, Handler, Progress, Settings};
