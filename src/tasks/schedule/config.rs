//! The sections `[tasks.schedules.NAME]`.

use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cron::Pattern;
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
        if !self.cron.is_empty()
            && let Err(error) = Pattern::parse(&self.cron)
        {
            faults.push(Fault::new("cron", error.to_string(), "Use five fields, as in \"30 4 * * mon-fri\"."));
        }
        if !self.every.is_zero() && self.every < SHORTEST {
            faults.push(Fault::new("every", "is less than a second", "Use \"1s\" or more."));
        }
        if zone(&self.timezone).is_none() {
            let problem = format!("\"{}\" is not known", self.timezone);
            faults.push(Fault::new("timezone", problem, "Use a name such as \"Europe/Zurich\" or \"UTC\"."));
        }
        if serde_json::from_str::<Vec<Value>>(&self.args).is_err() {
            faults.push(Fault::new("args", "is no JSON list", "Use a list, as in '[1, \"two\"]'."));
        }
        if serde_json::from_str::<Map<String, Value>>(&self.kwargs).is_err() {
            faults.push(Fault::new("kwargs", "is no JSON object", "Use an object, as in '{\"name\": 1}'."));
        }
        if self.priority > 9 {
            faults.push(Fault::new("priority", "is more than 9", "Use 0 (goes first) to 9."));
        }
        faults
    }
}

/// The shortest interval.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);

/// A time zone by its name.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok().filter(|_| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(change: impl FnOnce(&mut Entry)) -> Vec<String> {
        let mut entry = Entry { task: "app.report".into(), cron: "@daily".into(), ..Entry::default() };
        change(&mut entry);
        entry.validate().into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn an_entry_is_checked_before_it_is_used() {
        assert!(faults(|_| {}).is_empty());
        assert!(faults(|entry| entry.timezone = "America/Argentina/Buenos_Aires".into()).is_empty());
        assert_eq!(faults(|entry| entry.cron = "61 * * * *".into()), ["cron"]);
        assert_eq!(faults(|entry| entry.every = Duration::from_secs(5)), ["cron"]);
        assert_eq!(faults(|entry| entry.timezone = "Europe/Bern".into()), ["timezone"]);
        assert_eq!(faults(|entry| entry.args = "{}".into()), ["args"]);
        assert_eq!(faults(|entry| entry.kwargs = "[]".into()), ["kwargs"]);
        let both = faults(|entry| (entry.task, entry.priority) = (String::new(), 10));
        assert_eq!(both, ["task", "priority"]);
        let short = |entry: &mut Entry| (entry.cron, entry.every) = (String::new(), Duration::from_millis(900));
        assert_eq!(faults(short), ["every"]);
    }
}
