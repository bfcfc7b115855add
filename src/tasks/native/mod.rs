//! Tasks in Rust: those that Beacon brings along and those of its configuration.

mod builtin;
mod handler;
mod progress;
mod runner;

pub use handler::{Again, Call, Failure, Handler, Progress, Settings};
pub use runner::{Native, Registry};
