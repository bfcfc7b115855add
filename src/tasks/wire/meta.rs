//! What is stored of a task's end: the value of `celery-task-meta-<id>`, in Celery's members and order.

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
        let mut add = |name: &str, value: String| text.push_str(&format!(", {}: {value}", json(name)));
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
    let message = if exception.message.is_empty() { "[]".into() } else { json(&[&exception.message]) };
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
