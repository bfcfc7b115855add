//! The sections `[tasks.schedules.NAME]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::duration;
use crate::error::Fault;

/// A task that is sent at set times.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Entry {
    /// The task's name.
    pub task: String,
    /// When, as five fields of cron (minute, hour, day of the month, month, day of the week), or "@daily" and its like.
    /// Either this or `every`.
    pub cron: String,
    /// How often; counted from the last time.
    #[serde(with = "duration")]
    pub every: Duration,
    /// The time zone of `cron`, as in "Europe/Zurich".
    pub timezone: String,
    /// The arguments, as a JSON list.
    pub args: String,
    /// The named arguments, as a JSON object.
    pub kwargs: String,
    /// The queue; "" is "beacon".
    pub queue: String,
    /// 0 to 9; 0 goes first.
    pub priority: u8,
    /// The task is dropped when it has not begun so long after its time; "0s" is never.
    #[serde(with = "duration")]
    pub expires: Duration,
    /// A time that was missed, because no Beacon ran, is made up for as long after it.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Whether it is in force.
    pub enabled: bool,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            task: String::new(),
            cron: String::new(),
            every: Duration::ZERO,
            timezone: "UTC".into(),
            args: "[]".into(),
            kwargs: "{}".into(),
            queue: String::new(),
            priority: 0,
            expires: Duration::ZERO,
            grace: Duration::from_hours(1),
            enabled: true,
        }
    }
}

impl Entry {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.task.is_empty() {
            faults.push(Fault::new("task", "is empty", "Name the task that is sent."));
        }
        if self.cron.is_empty() == self.every.is_zero() {
            faults.push(Fault::new("cron", "and every are both set, or neither is", "Set one of them."));
        }
        if self.priority > 9 {
            faults.push(Fault::new("priority", "is more than 9", "Use 0 (goes first) to 9."));
        }
        faults
    }
}
