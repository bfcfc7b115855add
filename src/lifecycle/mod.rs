//! The life of the process: signals, tasks without which it cannot go on, and stages of a stop with a grace each.

mod critical;
mod signals;
mod stages;

pub use critical::{Critical, Ended};
pub use signals::{Signal, Signals};
pub use stages::within;
