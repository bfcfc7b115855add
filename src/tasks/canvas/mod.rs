//! What follows a task, for tasks that no Python process runs: callbacks, chains, groups, chords and errbacks, as
//! Celery's canvas sends them, and the shape in which its clients expect the results.

mod freeze;
mod plan;
pub mod repr;
mod signature;

pub use plan::{Message, Plan, Planner};
pub use signature::{Error, Kind, Signature};
