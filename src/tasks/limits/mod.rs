//! Limits that all workers share through Redis: how many tasks of one key may run at once, and how many may begin in a
//! time. And those of one worker: how many of a task may begin in a time.

mod rate;
mod shared;

pub use rate::Rates;
pub use shared::{Entry, renew, waiting};

use std::time::Duration;

/// A limit over all workers.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared {
    /// What the limit counts by: text with `{task}`, `{queue}`, `{args.0}`, `{kwargs.name}`, as in "tenant:{kwargs.tenant}".
    pub key: String,
    /// How many may run at once.
    pub concurrency: Option<u32>,
    /// How many may begin in a time.
    pub rate: Option<(u32, Duration)>,
}
