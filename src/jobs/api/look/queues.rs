//! Queues and workers, as people look at them.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Look;
use super::row::moment;
use crate::tasks::Error;
use crate::tasks::broker::{Length, WorkerInfo};
use crate::tasks::wire::{self, Envelope, Limits};

/// The most queues that are looked at.
pub(super) const QUEUES: usize = 1_000;

/// A queue.
#[derive(Clone, Debug, Serialize)]
pub struct QueueRow {
    /// Its name.
    pub name: String,
    /// How many messages wait in it.
    pub waiting: usize,
    /// The same by priority step: "0", "3", "6", "9".
    pub by_priority: Map<String, Value>,
    /// How long the next message has waited, in seconds, as far as it says: those that were due at a time do, others have
    /// no time in them.
    pub oldest_seconds: Option<f64>,
    /// The next task's name.
    pub next_task: Option<String>,
    /// Whether Beacon's workers take nothing from it.
    pub paused: bool,
    /// How many of Beacon's workers work on it. Stock workers do not say.
    pub consumers: usize,
}

/// A worker of Beacon's.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerRow {
    /// Its node name.
    pub name: String,
    /// Its identifier: the node name and a number of this run.
    pub id: String,
    /// Whether it gave a sign of life within the last six seconds.
    pub alive: bool,
    /// When it last did.
    pub seen_at: String,
    /// When it started.
    pub started_at: Option<String>,
    /// Its process.
    pub pid: Option<u64>,
    /// Its version.
    pub version: Option<String>,
    /// Queues that it works on.
    pub queues: Vec<String>,
    /// Tasks at once.
    pub places: Option<u64>,
    /// Tasks that run.
    pub active: Option<u64>,
    /// Tasks that have ended since it started.
    pub ended: Option<u64>,
    /// Whether it takes no more tasks and ends when those that run have ended.
    pub stopping: bool,
}

impl Look {
    /// Names of queues: those that live workers work on, and those that somebody has declared, mailboxes of remote
    /// control and events left out.
    pub(super) async fn queue_names(&self, most: usize) -> Result<Vec<String>, Error> {
        let (workers, known, paused) =
            tokio::try_join!(self.broker().workers(), self.broker().known_queues(), self.broker().paused())?;
        let transport = self.broker().transport();
        let mailbox = format!(".{}.pidbox", transport.control_exchange);
        let events = format!("{}.", transport.event_exchange);
        let known = known.into_iter().filter(|queue| !queue.ends_with(&mailbox) && !queue.starts_with(&events));
        let worked = workers.iter().filter(|worker| worker.alive).flat_map(|worker| queues_of(&worker.info));
        let mut names: Vec<String> = worked.collect::<BTreeSet<_>>().into_iter().collect();
        let rest: BTreeSet<String> = known.chain(paused).filter(|queue| !names.contains(queue)).collect();
        names.extend(rest);
        names.truncate(most);
        Ok(names)
    }

    /// All queues, those that Beacon's workers work on first: 1,000 at most.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn queues(&self) -> Result<Vec<QueueRow>, Error> {
        let names = Box::pin(self.queue_names(QUEUES)).await?;
        Box::pin(self.queues_of(&names)).await
    }

    /// These queues.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn queues_of(&self, names: &[String]) -> Result<Vec<QueueRow>, Error> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (lengths, workers) = tokio::try_join!(self.broker().lengths(&names), self.broker().workers())?;
        let consumers = |queue: &str| {
            let works = |worker: &&WorkerInfo| worker.alive && queues_of(&worker.info).any(|name| name == queue);
            workers.iter().filter(works).count()
        };
        Ok(lengths.iter().map(|length| row(length, consumers(&length.queue))).collect())
    }

    /// Beacon's workers, by name.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, Error> {
        let mut rows: Vec<WorkerRow> = self.broker().workers().await?.iter().map(worker).collect();
        rows.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(rows)
    }
}

fn row(length: &Length, consumers: usize) -> QueueRow {
    let head = length.head.clone().and_then(|raw| Envelope::parse(raw, &Limits::new(usize::MAX)).ok());
    let due = head.as_ref().and_then(|envelope| envelope.headers.eta);
    QueueRow {
        name: length.queue.clone(),
        waiting: length.total(),
        by_priority: length.steps.iter().map(|(step, count)| (step.to_string(), (*count).into())).collect(),
        oldest_seconds: due.map(|due| (wire::now() - due).max(0.0)),
        next_task: head.map(|envelope| envelope.headers.task),
        paused: length.paused,
        consumers,
    }
}

fn queues_of(info: &Value) -> impl Iterator<Item = String> {
    let queues = info.get("queues").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    queues.iter().filter_map(Value::as_str).map(str::to_owned)
}

fn worker(worker: &WorkerInfo) -> WorkerRow {
    let info = &worker.info;
    let number = |name: &str| info.get(name).and_then(Value::as_u64);
    WorkerRow {
        name: worker.id.rsplit_once('#').map_or(worker.id.as_str(), |(node, _)| node).to_owned(),
        id: worker.id.clone(),
        alive: worker.alive,
        seen_at: moment(worker.seen_ms as f64 / 1_000.0),
        started_at: info.get("since").and_then(Value::as_f64).map(moment),
        pid: number("pid"),
        version: info.get("version").and_then(Value::as_str).map(str::to_owned),
        queues: queues_of(info).collect(),
        places: number("places"),
        active: number("active"),
        ended: number("ended"),
        stopping: info.get("stopping").and_then(Value::as_bool).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_worker_that_says_nothing_is_shown_all_the_same() {
        let info = json!({"node": "w@h", "pid": 12, "since": 3.0, "queues": ["a", "b"], "places": 4, "stopping": true});
        let told = WorkerInfo { id: "w@h#1".into(), seen_ms: 1_500, alive: true, info };
        let shown = worker(&told);
        assert_eq!((shown.name.as_str(), shown.pid, shown.places, shown.stopping), ("w@h", Some(12), Some(4), true));
        assert_eq!(
            (shown.queues, shown.seen_at.as_str()),
            (vec!["a".to_owned(), "b".into()], "1970-01-01T00:00:01.500000Z")
        );
        let silent = worker(&WorkerInfo { info: Value::Null, id: "odd".into(), ..told });
        assert_eq!((silent.name.as_str(), silent.pid, silent.queues.len()), ("odd", None, 0));
    }

    #[test]
    fn a_queue_shows_its_next_message_and_the_age_that_it_knows() {
        let due = wire::now() - 30.0;
        let raw =
            wire::Task { task: "a.b", id: "i", eta: Some(due), routing_key: "q", ..wire::Task::default() }.message();
        let length = Length { queue: "q".into(), steps: vec![(0, 2), (3, 1)], paused: false, head: Some(raw) };
        let shown = row(&length, 1);
        assert_eq!((shown.waiting, shown.next_task.as_deref()), (3, Some("a.b")));
        assert!((29.0..40.0).contains(&shown.oldest_seconds.unwrap()));
        assert_eq!(Value::Object(shown.by_priority), json!({"0": 2, "3": 1}));
    }
}
