//! One task by its identifier, wherever it is.

use serde::Serialize;
use serde_json::{Value, json};

use super::queues::QUEUES;
use super::row::{Place, Row, moment};
use super::{DEPTH, Look};
use crate::redis;
use crate::tasks::Error;
use crate::tasks::wire::{Envelope, Limits, Meta};

/// Messages that are read at once.
const PAGE: usize = 500;
/// How long Redis may take for a page.
const CALL: std::time::Duration = std::time::Duration::from_secs(5);

/// A task that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Where it is, and what is known of it.
    #[serde(flatten)]
    pub row: Row,
    /// What it gave, or what it says of its progress; `null` until then.
    pub result: Value,
    /// Why it failed: `type`, `module`, `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<Value>,
    /// Where that came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
    /// Tasks that it has sent.
    pub children: Vec<String>,
}

impl Found {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.row.state.as_str(), "SUCCESS" | "FAILURE" | "REVOKED")
    }
}

impl Look {
    /// What is known of a task; `None` if nothing is. A message in a queue is found among the first 10,000 of all queues.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn find(&self, id: &str) -> Result<Option<Found>, Error> {
        // Boxed, as its like here: what asks Redis for several things at once is large.
        Box::pin(self.seek(id)).await
    }

    async fn seek(&self, id: &str) -> Result<Option<Found>, Error> {
        let broker = self.broker();
        let names = [id.to_owned()];
        let (meta, parked, letters) =
            tokio::try_join!(self.results().get(id), broker.parked_of(id), broker.letters(&names))?;
        let mut row = parked.as_ref().and_then(Row::parked);
        if row.is_none() {
            row = letters.first().map(Row::dead);
        }
        if row.is_none() {
            row = self.find_recent(id).await?;
        }
        let ended = meta.as_ref().is_some_and(Meta::is_ready);
        if row.is_none() && !ended {
            row = match self.find_taken(id).await? {
                Some(row) => Some(row),
                None => Box::pin(self.find_waiting(id)).await?.map(|(_, row)| row),
            };
        }
        if row.is_none() && meta.is_none() {
            return Ok(None);
        }
        let mut found = told(id, row, meta.as_ref());
        if !found.is_ready() && broker.is_revoked(&[id]).await? == [true] && found.row.state != "STARTED" {
            found.row.state = "REVOKED".into();
        }
        Ok(Some(found))
    }

    async fn find_recent(&self, id: &str) -> Result<Option<Row>, Error> {
        let recent = self.broker().recent(0, DEPTH).await?;
        let of = recent.iter().find(|told| told.get("id").and_then(Value::as_str) == Some(id));
        Ok(of.and_then(Row::ended))
    }

    /// A task that a worker has.
    pub(super) async fn find_taken(&self, id: &str) -> Result<Option<Row>, Error> {
        let taken = self.broker().taken(DEPTH).await?;
        let Some(taken) = taken.into_iter().find(|taken| taken.envelope.headers.id == id) else { return Ok(None) };
        let active = self.active().await?;
        Ok(Some(Row::taken(&taken, active.get(id))))
    }

    /// A task in a queue: the list that it is in with its message, and what it says.
    pub(super) async fn find_waiting(&self, id: &str) -> Result<Option<(Lain, Row)>, Error> {
        let wanted = memchr::memmem::Finder::new(id.as_bytes());
        let mut left = DEPTH;
        for queue in Box::pin(self.queue_names(QUEUES)).await? {
            for list in self.broker().lists(&queue) {
                let mut at = 0;
                while left > 0 {
                    let most = PAGE.min(left);
                    let range = vec![
                        redis::Value::from(list.key.as_str()),
                        (-((at + most) as i64)).into(),
                        (-(at as i64) - 1).into(),
                    ];
                    let raws = redis::list(self.broker().client().command("LRANGE", range, CALL).await?);
                    let got = raws.len();
                    let raws = raws.into_iter().filter_map(redis::bytes).filter(|raw| wanted.find(raw).is_some());
                    for raw in raws {
                        let Ok(envelope) = Envelope::parse(raw, &Limits::new(usize::MAX)) else { continue };
                        if envelope.headers.id == id {
                            let row = Row::of(&envelope, &queue, Place::Waiting);
                            return Ok(Some((Lain { list: list.key.clone(), envelope }, row)));
                        }
                    }
                    (at, left) = (at + got, left.saturating_sub(got));
                    if got < most {
                        break;
                    }
                }
            }
        }
        Ok(None)
    }
}

/// A message in a queue.
pub(super) struct Lain {
    /// The list.
    pub(super) list: String,
    /// The message.
    pub(super) envelope: Envelope,
}

/// What the places and the result together say.
fn told(id: &str, row: Option<Row>, meta: Option<&Meta>) -> Found {
    let mut row = row.unwrap_or_else(|| Row { id: id.to_owned(), state: "PENDING".into(), ..Row::default() });
    let (mut result, mut exception, mut traceback, mut children) = (Value::Null, None, None, Vec::new());
    if let Some(meta) = meta {
        // A result may be older than the message: a task that was retried by hand has the failure of before.
        let again = !matches!(row.place, None | Some(Place::Finished | Place::Dead));
        if !(again && meta.is_ready()) {
            row.state.clone_from(&meta.status);
        }
        if meta.is_ready() && row.place.is_none() {
            row.place = Some(Place::Finished);
        }
        let text = |name: &str| meta.all.get(name).and_then(Value::as_str).map(str::to_owned);
        row.task = row.task.or_else(|| text("name"));
        row.queue = row.queue.or_else(|| text("queue"));
        row.worker = row.worker.or_else(|| text("worker"));
        row.parent_id = row.parent_id.or_else(|| text("parent_id"));
        row.group_id = row.group_id.or_else(|| text("group_id"));
        row.ended_at = row.ended_at.or_else(|| meta.date_done.clone());
        match meta.status.as_str() {
            "FAILURE" | "RETRY" | "REVOKED" => exception = Some(raised(&meta.result)),
            _ => result = meta.result.clone(),
        }
        traceback.clone_from(&meta.traceback);
        children = identifiers(&meta.children);
    }
    Found { row, result, exception, traceback, children }
}

/// An exception as a result has it, in our words.
fn raised(result: &Value) -> Value {
    let message = match result.get("exc_message") {
        Some(Value::Array(parts)) => {
            let shown = |part: &Value| part.as_str().map_or_else(|| part.to_string(), str::to_owned);
            parts.iter().map(shown).collect::<Vec<_>>().join(", ").into()
        }
        other => other.cloned().unwrap_or_default(),
    };
    json!({"type": result.get("exc_type"), "module": result.get("exc_module"), "message": message})
}

/// The identifiers in result tuples: `[[id, parent], null]` of a task, `[[id, parent], [tuple, ...]]` of a group.
fn identifiers(children: &Value) -> Vec<String> {
    let tuple = |child: &Value| {
        let id = child.pointer("/0/0").and_then(Value::as_str).map(str::to_owned);
        match child.get(1) {
            Some(members @ Value::Array(_)) => identifiers(members),
            _ => id.into_iter().collect(),
        }
    };
    children.as_array().map(Vec::as_slice).unwrap_or_default().iter().flat_map(tuple).collect()
}

/// What a revoked task's result is from now on, for a task whose message was removed.
pub(super) fn revoked(row: Row) -> Row {
    let now = moment(crate::tasks::wire::now());
    Row { state: "REVOKED".into(), place: Some(Place::Finished), ended_at: Some(now), ..row }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(text: &str) -> Meta {
        Meta::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_failure_is_told_in_our_words() {
        let failed = meta(
            r#"{"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["bad", 3], "exc_module":
            "builtins"}, "traceback": "T", "children": [[["c", "p"], null], [["g", null], [[["d", null], null]]]],
            "date_done": "2026-11-23T15:38:16+00:00", "task_id": "i", "parent_id": "p"}"#,
        );
        let found = told("i", None, Some(&failed));
        assert_eq!(found.exception.unwrap(), json!({"type": "ValueError", "module": "builtins", "message": "bad, 3"}));
        assert_eq!((found.result, found.traceback.as_deref()), (Value::Null, Some("T")));
        assert_eq!(found.children, ["c", "d"]);
        assert_eq!((found.row.place, found.row.parent_id.as_deref()), (Some(Place::Finished), Some("p")));
    }

    #[test]
    fn a_task_that_waits_again_is_not_told_to_have_failed() {
        let failed = meta(r#"{"status": "FAILURE", "result": null, "task_id": "i"}"#);
        let waiting = Row { id: "i".into(), state: "PENDING".into(), place: Some(Place::Waiting), ..Row::default() };
        assert_eq!(told("i", Some(waiting), Some(&failed)).row.state, "PENDING");
        let progress = meta(r#"{"status": "PROGRESS", "result": {"done": 3}, "task_id": "i"}"#);
        let running = Row { id: "i".into(), state: "STARTED".into(), place: Some(Place::Running), ..Row::default() };
        let found = told("i", Some(running), Some(&progress));
        assert_eq!((found.row.state.as_str(), found.result), ("PROGRESS", json!({"done": 3})));
    }
}
