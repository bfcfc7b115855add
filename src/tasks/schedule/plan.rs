//! An entry of any source in the one form that is sent: what, when, and for how long a missed time is made up for.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::config::{Entry, SHORTEST, zone};
use super::cron::{BadPattern, Pattern};
use super::timing::Timing;
use crate::tasks::python::{Schedule, Timing as Given};

/// Where an entry comes from. Of two with one name, the first of these counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The configuration.
    Configuration,
    /// The table beacon.schedules.
    Database,
    /// The Celery application.
    Application,
}

/// What is sent, and when.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: Arc<str>,
    /// Where it comes from.
    pub source: Source,
    /// The task's name.
    pub task: String,
    /// The arguments.
    pub args: Vec<Value>,
    /// The named arguments.
    pub kwargs: Map<String, Value>,
    /// The queue, if it is not the usual one.
    pub queue: Option<String>,
    /// 0 goes first.
    pub priority: u8,
    /// Dropped when it has not begun so many seconds after it was sent.
    pub expires: Option<f64>,
    /// Begins so many seconds after it was sent.
    pub countdown: Option<f64>,
    /// Headers besides the usual ones.
    pub headers: Map<String, Value>,
    /// Hard limit in seconds.
    pub time_limit: Option<f64>,
    /// Soft limit in seconds.
    pub soft_time_limit: Option<f64>,
    /// Whether the result is not wanted.
    pub ignore_result: Option<bool>,
    /// When it is due.
    pub timing: Timing,
    /// The same for people, as in "30 4 * * 1" or "every 10s".
    pub when: String,
    /// The zone of a pattern.
    pub timezone: String,
    /// A time that was missed is made up for as long after it, in milliseconds.
    pub grace: i64,
    /// Whether it is in force.
    pub enabled: bool,
}

/// Why an entry is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The times.
    #[error("its times cannot be used: {0}")]
    Pattern(#[from] BadPattern),
    /// The zone.
    #[error("the time zone \"{0}\" is not known")]
    Zone(String),
    /// The interval.
    #[error("its interval is less than a second")]
    Interval,
    /// Arguments that only the application could compute.
    #[error(
        "its arguments are computed by the application each time (BeatLazyFunc), which only its own process can do"
    )]
    Lazy,
    /// The arguments.
    #[error("its arguments are no JSON")]
    Arguments,
}

impl Plan {
    /// Of the configuration or the database.
    ///
    /// # Errors
    /// What [`Entry::validate`] finds, in short.
    pub fn of_entry(name: &str, entry: &Entry, source: Source) -> Result<Self, Unusable> {
        let (timing, when) = if entry.cron.is_empty() {
            of_interval(entry.every)?
        } else {
            (Timing::Pattern(Pattern::parse(&entry.cron)?, known_zone(&entry.timezone)?), entry.cron.clone())
        };
        Ok(Self {
            name: name.into(),
            source,
            task: entry.task.clone(),
            args: serde_json::from_str(&entry.args).map_err(|_| Unusable::Arguments)?,
            kwargs: serde_json::from_str(&entry.kwargs).map_err(|_| Unusable::Arguments)?,
            queue: Some(entry.queue.clone()).filter(|queue| !queue.is_empty()),
            priority: entry.priority.min(9),
            expires: Some(entry.expires.as_secs_f64()).filter(|expires| *expires > 0.0),
            countdown: None,
            headers: Map::new(),
            time_limit: None,
            soft_time_limit: None,
            ignore_result: None,
            timing,
            when,
            timezone: entry.timezone.clone(),
            grace: i64::try_from(entry.grace.as_millis()).unwrap_or(i64::MAX),
            enabled: entry.enabled,
        })
    }

    /// Of a Celery application, whose options are those that apply when it is sent: the task's own and its router's
    /// among them.
    ///
    /// # Errors
    /// Arguments that cannot be worked out here, or times that make no sense.
    pub fn of_application(exported: &Schedule) -> Result<Self, Unusable> {
        let options = &exported.options;
        let text = |key: &str| options.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| options.get(key).and_then(Value::as_f64);
        if exported.lazy {
            return Err(Unusable::Lazy);
        }
        let (timing, when, timezone) = match &exported.timing {
            Given::Interval { seconds, relative } => {
                let every = Duration::try_from_secs_f64(*seconds).map_err(|_| Unusable::Interval)?;
                let (timing, when) = of_interval(every)?;
                let timing = if *relative { timing.relative() } else { timing };
                (timing, when, "UTC".to_owned())
            }
            Given::Crontab { minute, hour, day_of_week, day_of_month, month_of_year, timezone } => {
                let pattern = Pattern::of_sets(minute, hour, day_of_month, month_of_year, day_of_week)?;
                let fields = [
                    written(minute, 0, 59),
                    written(hour, 0, 23),
                    written(day_of_month, 1, 31),
                    written(month_of_year, 1, 12),
                    written(day_of_week, 0, 6),
                ];
                (Timing::Pattern(pattern, known_zone(timezone)?), fields.join(" "), timezone.clone())
            }
        };
        Ok(Self {
            name: exported.name.as_str().into(),
            source: Source::Application,
            task: exported.task.clone(),
            args: exported.args.clone(),
            kwargs: exported.kwargs.clone(),
            queue: text("queue").filter(|queue| !queue.is_empty()),
            priority: options.get("priority").and_then(Value::as_u64).unwrap_or(0).min(9) as u8,
            expires: number("expires").filter(|seconds| *seconds > 0.0),
            countdown: number("countdown").filter(|seconds| *seconds > 0.0),
            headers: options.get("headers").and_then(Value::as_object).cloned().unwrap_or_default(),
            time_limit: number("time_limit"),
            soft_time_limit: number("soft_time_limit"),
            ignore_result: options.get("ignore_result").and_then(Value::as_bool),
            timing,
            when,
            timezone,
            grace: i64::try_from(Entry::default().grace.as_millis()).unwrap_or(i64::MAX),
            enabled: options.get("enabled").and_then(Value::as_bool).unwrap_or(true),
        })
    }

    /// What tells its times from others: when they change, those before the change are nobody's.
    #[must_use]
    pub fn times(&self) -> String {
        format!("{} {}", self.when, self.timezone)
    }
}

fn of_interval(every: Duration) -> Result<(Timing, String), Unusable> {
    if every < SHORTEST {
        return Err(Unusable::Interval);
    }
    Ok((Timing::every(every), format!("every {}", humantime::format_duration(every))))
}

fn known_zone(name: &str) -> Result<TimeZone, Unusable> {
    zone(name).ok_or_else(|| Unusable::Zone(name.to_owned()))
}

/// A set as a field of cron.
fn written(values: &[u8], low: u8, high: u8) -> String {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    if values.len() > usize::from(high - low) {
        return "*".into();
    }
    let mut text = String::new();
    let mut rest = &*values;
    while let Some(first) = rest.first() {
        let run = rest.iter().zip(*first..).take_while(|(value, expected)| *value == expected).count();
        let separator = if text.is_empty() { "" } else { "," };
        let _ = match run {
            1 => write!(text, "{separator}{first}"),
            2 => write!(text, "{separator}{first},{}", first + 1),
            _ => write!(text, "{separator}{first}-{}", rest[run - 1]),
        };
        rest = &rest[run..];
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_of_a_celery_application_is_understood() {
        let exported: Schedule = serde_json::from_value(json!({
            "name": "mondays", "task": "app.report", "args": [1], "kwargs": {"a": 2}, "lazy": false,
            "options": {"queue": "slow", "priority": 3, "expires": 15.0, "headers": {"x": 1}, "time_limit": 60},
            "schedule": {
                "kind": "crontab", "minute": [0, 30], "hour": [1, 2, 3, 4, 9], "day_of_week": [1],
                "day_of_month": (1..=31).collect::<Vec<u8>>(), "month_of_year": (1..=12).collect::<Vec<u8>>(),
                "timezone": "Europe/Zurich"
            }
        }))
        .unwrap();
        let plan = Plan::of_application(&exported).unwrap();
        assert_eq!(plan.when, "0,30 1-4,9 * * 1");
        assert_eq!((plan.queue.as_deref(), plan.priority, plan.expires), (Some("slow"), 3, Some(15.0)));
        assert_eq!(plan.time_limit, Some(60.0));
        assert_eq!(plan.times(), "0,30 1-4,9 * * 1 Europe/Zurich");
        let interval = |seconds, relative| Schedule {
            timing: Given::Interval { seconds, relative },
            options: Map::new(),
            ..exported.clone()
        };
        let plan = Plan::of_application(&interval(90.0, false)).unwrap();
        assert_eq!((plan.when.as_str(), plan.timing.next(1_000)), ("every 1m 30s", Some(91_000)));
        let plan = Plan::of_application(&interval(90.0, true)).unwrap();
        assert_eq!(plan.timing.next(61_000), Some(150_000), "counted from the full minute");
        for seconds in [0.2, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Plan::of_application(&interval(seconds, false)).unwrap_err(), Unusable::Interval);
        }
        let lazy = Plan::of_application(&Schedule { lazy: true, ..exported });
        assert_eq!(lazy.unwrap_err(), Unusable::Lazy);
    }

    #[test]
    fn an_entry_of_the_configuration_is_understood() {
        let entry = Entry {
            task: "app.report".into(),
            every: Duration::from_secs(10),
            args: "[1, \"two\"]".into(),
            expires: Duration::from_secs(5),
            ..Entry::default()
        };
        let plan = Plan::of_entry("report", &entry, Source::Configuration).unwrap();
        assert_eq!((plan.when.as_str(), plan.expires, plan.grace), ("every 10s", Some(5.0), 3_600_000));
        assert_eq!(plan.args, [json!(1), json!("two")]);
        let wrong = Entry { args: "{".into(), ..entry.clone() };
        assert_eq!(Plan::of_entry("report", &wrong, Source::Database).unwrap_err(), Unusable::Arguments);
        let wrong = Entry { cron: "0 0 * * *".into(), timezone: "Nowhere".into(), ..entry };
        assert!(matches!(Plan::of_entry("report", &wrong, Source::Database), Err(Unusable::Zone(_))));
    }
}
