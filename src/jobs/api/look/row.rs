//! A task as a row: of a list over HTTP, and of a table on a terminal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};

use super::Active;
use crate::clock;
use crate::tasks::broker::{DeadLetter, Parked, Taken};
use crate::tasks::wire::Envelope;

/// The longest short form of arguments that is shown, in characters.
const SHOWN: usize = 200;

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In a queue.
    Waiting,
    /// Put aside until its time.
    Scheduled,
    /// With a worker.
    Running,
    /// It has ended.
    Finished,
    /// Among the dead letters.
    Dead,
}

/// What is known of a task. What is not known is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Its identifier.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Celery's state: PENDING, RECEIVED, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, or one of the task's own.
    pub state: String,
    /// Where it is.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The queue that it is in, or came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// 0 to 9; 0 goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The short form of its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<String>,
    /// The short form of its named arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kwargs: Option<String>,
    /// When it is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<String>,
    /// What it waits for: its time, a rate limit, the pause before another try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<&'static str>,
    /// When it is no longer wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Tries before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// The node that has it, or had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The process that runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u64>,
    /// When its body began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended, or became a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How long its body ran, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<f64>,
    /// Why it failed, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The name of a dead letter, where it is another one than the task's identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub letter: Option<String>,
    /// The task that led here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// The first task of all that led here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_id: Option<String>,
    /// The group that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
}

impl Row {
    /// What a message says, of a task in this queue.
    #[must_use]
    pub fn of(envelope: &Envelope, queue: &str, place: Place) -> Self {
        let headers = &envelope.headers;
        let short = |text: &Option<String>| text.as_deref().map(|text| cut(text, SHOWN));
        Self {
            id: headers.id.clone(),
            task: Some(headers.task.clone()),
            state: "PENDING".into(),
            place: Some(place),
            queue: Some(queue.to_owned()),
            priority: Some(envelope.priority),
            args: short(&headers.argsrepr),
            kwargs: short(&headers.kwargsrepr),
            eta: headers.eta.map(moment),
            expires: headers.expires.map(moment),
            retries: Some(headers.retries),
            parent_id: headers.parent_id.clone(),
            root_id: headers.root_id.clone(),
            group_id: headers.group.clone(),
            ..Self::default()
        }
    }

    /// A task that waits for its time; `None` if its message cannot be read.
    #[must_use]
    pub fn parked(parked: &Parked) -> Option<Self> {
        let row = Self::of(&parked.envelope()?, &parked.queue, Place::Scheduled);
        let retried = row.retries.is_some_and(|retries| retries > 0);
        Some(Self {
            state: if retried { "RETRY".into() } else { row.state.clone() },
            eta: Some(moment(parked.until_ms as f64 / 1_000.0)),
            waits_for: Some(parked.why.as_str()),
            ..row
        })
    }

    /// A task that a worker has, with what the worker says of it.
    pub(super) fn taken(taken: &Taken, active: Option<&Active>) -> Self {
        let row = Self::of(&taken.envelope, &taken.queue, Place::Running);
        Self {
            state: if active.is_some() { "STARTED" } else { "RECEIVED" }.into(),
            worker: active.map(|active| active.node.clone()).or_else(|| taken.node().map(str::to_owned)),
            pid: active.and_then(|active| active.pid),
            started_at: active.and_then(|active| active.started).map(moment),
            ..row
        }
    }

    /// A task that has ended, as its worker told; `None` if it said nothing of use.
    #[must_use]
    pub fn ended(told: &Value) -> Option<Self> {
        let text = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            id: text("id")?,
            task: text("task"),
            state: text("state")?,
            place: Some(Place::Finished),
            queue: text("queue"),
            worker: text("node"),
            ended_at: told.get("at").and_then(Value::as_f64).map(moment),
            runtime: told.get("runtime").and_then(Value::as_f64),
            error: text("exception"),
            ..Self::default()
        })
    }

    /// A dead letter.
    #[must_use]
    pub fn dead(letter: &DeadLetter) -> Self {
        let id = letter.id.clone().unwrap_or_default();
        Self {
            letter: (id != letter.key).then(|| letter.key.clone()),
            id,
            task: letter.task.clone(),
            state: "FAILURE".into(),
            place: Some(Place::Dead),
            queue: Some(letter.queue.clone()),
            ended_at: Some(moment(letter.at)),
            error: Some(letter.reason.clone()),
            ..Self::default()
        }
    }
}

/// A dead letter with its message, as a value of its own.
#[must_use]
pub fn letter(letter: &DeadLetter, whole: bool) -> Value {
    let mut shown = json!({
        "id": letter.key,
        "task_id": letter.id,
        "task": letter.task,
        "queue": letter.queue,
        "reason": letter.reason,
        "at": moment(letter.at),
        "bytes": letter.raw.len(),
    });
    if whole {
        shown["message"] = String::from_utf8_lossy(&letter.raw).into();
    }
    shown
}

/// A moment in RFC 3339; those before 1970 count as 1970.
#[must_use]
pub fn moment(seconds: f64) -> String {
    let mut out = String::with_capacity(27);
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    clock::write_rfc3339(&mut out, UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH));
    out
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let told = json!({"id": "i", "task": "t", "state": "SUCCESS", "at": 12.5, "runtime": 0.25, "node": "w@h"});
        let row = serde_json::to_value(Row::ended(&told).unwrap()).unwrap();
        let expected = json!({"id": "i", "task": "t", "state": "SUCCESS", "where": "finished", "worker": "w@h",
            "ended_at": "1970-01-01T00:00:12.500000Z", "runtime": 0.25});
        assert_eq!(row, expected);
        assert!(Row::ended(&json!({"id": "i"})).is_none());
    }

    #[test]
    fn long_arguments_are_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöü", 2), "äö…");
    }

    #[test]
    fn a_time_that_is_none_does_not_matter() {
        for odd in [f64::NAN, -5.0, f64::INFINITY, 1e300] {
            assert_eq!(moment(odd), "1970-01-01T00:00:00.000000Z", "{odd}");
        }
    }
}
