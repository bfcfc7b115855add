//! What is stored of a task's end: the value of `celery-task-meta-<id>`, in Celery's members and order.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::envelope::Envelope;
use super::moment::{iso, now};
use super::python::json;
use super::scan::Json;

/// A task's state, by Celery's name.
pub type State = &'static str;

/// How a task stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Result {
    /// SUCCESS, with the value.
    Success(Value),
    /// FAILURE.
    Failure(Exception),
    /// RETRY.
    Retry(Exception),
    /// REVOKED: "revoked", "expired" or "terminated".
    Revoked(&'static str),
    /// STARTED in this process on this node.
    Started {
        /// The process.
        pid: u32,
        /// The node's name.
        hostname: String,
    },
    /// A state of the task's own, such as PROGRESS.
    Custom(&'static str, Value),
}

pub use crate::tasks::runner::Exception;

impl Result {
    /// Its name.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Self::Success(_) => "SUCCESS",
            Self::Failure(_) => "FAILURE",
            Self::Retry(_) => "RETRY",
            Self::Revoked(_) => "REVOKED",
            Self::Started { .. } => "STARTED",
            Self::Custom(state, _) => state,
        }
    }

    /// The whole value. `children` are result tuples, `null` when it was not the task's body that ended it; `worker` adds
    /// the members of Celery's `result_extended`.
    #[must_use]
    pub fn meta(&self, envelope: &Envelope, children: &Value, extended: Option<&Extended<'_>>) -> Bytes {
        let (result, traceback) = match self {
            Self::Success(value) | Self::Custom(_, value) => (json(value), None),
            Self::Failure(exception) | Self::Retry(exception) => (raised(exception), exception.traceback.as_deref()),
            Self::Revoked(reason) => (
                format!(
                    r#"{{"exc_type": "TaskRevokedError", "exc_message": ["{reason}"], "exc_module": "celery.exceptions"}}"#
                ),
                None,
            ),
            Self::Started { pid, hostname } => (format!(r#"{{"pid": {pid}, "hostname": {}}}"#, json(hostname)), None),
        };
        let done = matches!(self, Self::Success(_) | Self::Failure(_) | Self::Revoked(_)).then(|| iso(now()));
        let headers = &envelope.headers;
        let mut text = format!(
            "{{\"status\": {}, \"result\": {result}, \"traceback\": {}, \"children\": {}, \"date_done\": {}",
            json(self.state()),
            json(&traceback),
            json(children),
            json(&done),
        );
        let mut add = |name: &str, value: String| {
            let _ = write!(text, ", {}: {value}", json(name));
        };
        if let Some(group) = &headers.group {
            add("group_id", json(group));
        }
        if let Some(parent) = &headers.parent_id {
            add("parent_id", json(parent));
        }
        if let Some(extended) = extended {
            add("name", json(&headers.task));
            add("args", json(extended.args));
            add("kwargs", json(extended.kwargs));
            add("worker", json(extended.worker));
            add("retries", headers.retries.to_string());
            add("queue", json(&envelope.routing_key));
            if !headers.stamps.is_empty() {
                add("stamped_headers", json(&headers.stamps.iter().map(|(name, _)| name).collect::<Vec<_>>()));
                for (name, value) in &headers.stamps {
                    add(name, json(value));
                }
            }
        }
        add("task_id", json(&headers.id));
        text.push('}');
        text.into()
    }
}

/// What `result_extended` adds.
#[derive(Clone, Copy, Debug)]
pub struct Extended<'a> {
    /// Positional arguments.
    pub args: &'a [Value],
    /// Named arguments.
    pub kwargs: &'a Map<String, Value>,
    /// The node's name.
    pub worker: &'a str,
}

/// An exception as results have it.
#[must_use]
pub fn raised(exception: &Exception) -> String {
    let message = match &exception.args {
        Some(args) => json(args),
        None if exception.message.is_empty() => "[]".into(),
        None => json(&[&exception.message]),
    };
    format!(
        r#"{{"exc_type": {}, "exc_message": {message}, "exc_module": {}}}"#,
        json(&exception.class),
        json(&exception.module)
    )
}

/// A stored result, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// "SUCCESS"
    pub status: String,
    /// The value; for a failure an object with exc_type, exc_message, exc_module.
    pub result: Value,
    /// A failure's.
    pub traceback: Option<String>,
    /// Result tuples of what the task sent.
    pub children: Value,
    /// When it ended, in ISO 8601.
    pub date_done: Option<String>,
    /// All members, these included.
    pub all: Map<String, Value>,
}

impl Meta {
    /// Reads a stored value; `None` if it is none in plain JSON (another serialiser, compressed).
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let Value::Object(all) = Json::parse(std::str::from_utf8(value).ok()?)?.to_value() else { return None };
        let text = |name: &str| all.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            status: text("status")?,
            result: all.get("result").cloned().unwrap_or_default(),
            traceback: text("traceback"),
            children: all.get("children").cloned().unwrap_or_default(),
            date_done: text("date_done"),
            all,
        })
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.status.as_str(), "SUCCESS" | "FAILURE" | "REVOKED")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;
    use crate::tasks::wire::{Limits, Task};

    fn envelope(parent: Option<&str>, group: Option<&str>) -> Envelope {
        let stamps = Map::from_iter([("mtask_id".to_owned(), value!("abc"))]);
        let task = Task {
            task: "wapp.add",
            id: "i",
            parent_id: parent,
            group,
            stamps,
            routing_key: "celery",
            ..Task::default()
        };
        Envelope::parse(task.message(), &Limits::new(10_000)).unwrap()
    }

    /// The value with its time replaced.
    fn text(result: &Result, envelope: &Envelope, children: &Value, extended: Option<&Extended<'_>>) -> String {
        let meta = result.meta(envelope, children, extended);
        let read = Meta::parse(&meta).unwrap();
        let text = String::from_utf8(meta.to_vec()).unwrap();
        match &read.date_done {
            Some(done) => text.replace(done, "T"),
            None => text,
        }
    }

    #[test]
    fn metas_are_those_of_celery() {
        let envelope = envelope(None, None);
        // facts/celery-wire.md, 9.
        assert_eq!(
            text(&Result::Success(value!(5)), &envelope, &value!([]), None),
            r#"{"status": "SUCCESS", "result": 5, "traceback": null, "children": [], "date_done": "T", "task_id": "i"}"#
        );
        let exception = Exception {
            class: "ValueError".into(),
            module: "builtins".into(),
            message: "bad".into(),
            args: None,
            repr: "ValueError('bad')".into(),
            traceback: Some("Traceback\n".into()),
        };
        assert_eq!(
            text(&Result::Failure(exception.clone()), &envelope, &Value::Null, None),
            r#"{"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["bad"], "exc_module": "builtins"}, "traceback": "Traceback\n", "children": null, "date_done": "T", "task_id": "i"}"#
        );
        let late = Result::Failure(Exception::time_limit(std::time::Duration::from_millis(1_500)));
        assert!(text(&late, &envelope, &value!([]), None).contains(
            r#""result": {"exc_type": "TimeLimitExceeded", "exc_message": [1.5], "exc_module": "billiard.exceptions"}"#
        ));
        assert_eq!(Exception::time_limit(std::time::Duration::from_secs(5)).repr, "TimeLimitExceeded(5)");
        assert!(text(&Result::Retry(exception), &envelope, &value!([]), None).contains(r#""date_done": null"#));
        assert_eq!(
            text(&Result::Revoked("expired"), &envelope, &Value::Null, None),
            r#"{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": ["expired"], "exc_module": "celery.exceptions"}, "traceback": null, "children": null, "date_done": "T", "task_id": "i"}"#
        );
        let (args, kwargs) = ([value!(1), value!(2)], Map::new());
        let extended = Extended { args: &args, kwargs: &kwargs, worker: "w2@host1" };
        assert_eq!(
            text(&Result::Started { pid: 22363, hostname: "w2@host1".into() }, &envelope, &value!([]), Some(&extended)),
            r#"{"status": "STARTED", "result": {"pid": 22363, "hostname": "w2@host1"}, "traceback": null, "children": [], "date_done": null, "name": "wapp.add", "args": [1, 2], "kwargs": {}, "worker": "w2@host1", "retries": 0, "queue": "celery", "stamped_headers": ["mtask_id"], "mtask_id": "abc", "task_id": "i"}"#
        );
    }

    #[test]
    fn a_member_of_a_group_says_so_and_a_value_is_read_again() {
        let envelope = envelope(Some("p"), Some("g"));
        let meta = Result::Custom("PROGRESS", value!({"done": 3})).meta(&envelope, &Value::Null, None);
        let read = Meta::parse(&meta).unwrap();
        assert_eq!((read.status.as_str(), read.is_ready(), &read.result), ("PROGRESS", false, &value!({"done": 3})));
        assert_eq!((&read.all["group_id"], &read.all["parent_id"]), (&value!("g"), &value!("p")));
        assert!(Meta::parse(b"\x80\x04").is_none() && Meta::parse(b"[]").is_none() && Meta::parse(b"{}").is_none());
        assert!(Meta::parse(br#"{"status": "SUCCESS", "result": NaN}"#).unwrap().is_ready());
    }
}
