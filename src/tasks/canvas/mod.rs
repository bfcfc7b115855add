//! What follows a task, for tasks that no Python process runs: callbacks, chains, groups, chords and errbacks, as
//! Celery's canvas sends them, and the shape in which its clients expect the results.

mod follow;
mod freeze;
mod message;
mod plan;
mod record;
mod signature;

pub(super) use follow::blank;
pub use follow::{Canvas, Unsent};
pub use plan::{Message, Plan, Planner};
pub use signature::{Error, Kind, Signature};
