//! Sending tasks from within Beacon, and asking what became of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::broker::Broker;
use super::error::Error;
use super::results::{Results, Write};
use super::wire::{self, Meta};
use crate::redis::{self, Script, Value};

/// How long Redis may take for an answer.
const CALL: Duration = Duration::from_secs(5);
/// How long an idempotency key is remembered, in milliseconds: a day.
const IDEMPOTENCY: i64 = 86_400_000;

/// Sends tasks. Clones share everything.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    broker: Broker,
    results: Results,
    defaults: Defaults,
}

/// What a task has that says nothing about it.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The queue.
    pub queue: String,
    /// Who sends: [`origin`] of this process, or a worker's node name.
    pub origin: String,
    /// The largest message, in bytes.
    pub bytes: usize,
}

/// A task to be sent.
#[derive(Clone, Debug, Default)]
pub struct NewTask {
    /// Its name.
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Json>,
    /// Named arguments.
    pub kwargs: Map<String, Json>,
    /// Its identifier; a new one if there is none.
    pub id: Option<String>,
    /// Its queue.
    pub queue: Option<String>,
    /// 0 to 9; 0 goes first.
    pub priority: u8,
    /// Not before, in seconds since 1970.
    pub eta: Option<f64>,
    /// Not after, in seconds since 1970.
    pub expires: Option<f64>,
    /// It is ended by force after so many seconds.
    pub time_limit: Option<f64>,
    /// It is asked to end after so many seconds.
    pub soft_time_limit: Option<f64>,
    /// Whether its result is not wanted; `None` leaves it to the task's type.
    pub ignore_result: Option<bool>,
    /// More headers.
    pub headers: Map<String, Json>,
    /// Tries before.
    pub retries: u32,
    /// The first task of all that led here.
    pub root_id: Option<String>,
    /// The task that led here.
    pub parent_id: Option<String>,
    /// The name to show instead.
    pub shadow: Option<String>,
    /// Not sent while another one of this key is queued or running.
    pub unique: Option<Unique>,
    /// Not sent if one with this key was, within a day.
    pub idempotency_key: Option<String>,
}

/// That there is one at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// Of what.
    pub key: String,
    /// For so long at most, should its end never be told.
    pub for_: Duration,
}

/// What sending led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A task with this identifier.
    New(String),
    /// Nothing: the task with this identifier is there.
    Same(String),
}

/// A message that is ready, for who puts it on its list within a script of their own.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The task's identifier.
    pub id: String,
    /// Its queue.
    pub queue: String,
    /// The list of that queue, prefix included, to LPUSH to.
    pub list: String,
    /// The message.
    pub raw: Bytes,
}

/// Sends one message or none. KEYS: its list, the unique key, the idempotency key. ARGV: '1' for each of the two keys that
/// counts, ms of each, the identifier, the message. Answers with the identifier of the one that is there, or ''.
static SEND: Script = Script::new(
    "local there = ARGV[2] == '1' and redis.call('GET', KEYS[3])
if there then return there end
there = ARGV[1] == '1' and redis.call('GET', KEYS[2])
if not there then redis.call('LPUSH', KEYS[1], ARGV[6]) end
local id = there or ARGV[5]
if ARGV[1] == '1' and not there then redis.call('SET', KEYS[2], id, 'PX', ARGV[3]) end
if ARGV[2] == '1' then redis.call('SET', KEYS[3], id, 'PX', ARGV[4]) end
return there or ''",
);

/// Who this process is, as Celery's clients say it.
#[must_use]
pub fn origin() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("gen{}@{host}", std::process::id())
}

impl Sent {
    /// The task's identifier.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::New(id) | Self::Same(id) => id,
        }
    }
}

impl Client {
    /// Sends to this broker.
    #[must_use]
    pub fn new(broker: Broker, results: Results, defaults: Defaults) -> Self {
        Self(Arc::new(Inner { broker, results, defaults }))
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.0.broker
    }

    /// Where results are.
    #[must_use]
    pub fn results(&self) -> &Results {
        &self.0.results
    }

    /// The message of a task, ready to be put on its list. [`Broker::declare_once`] is the caller's to do; uniqueness and
    /// idempotency are not looked at.
    ///
    /// # Errors
    /// The task makes no sense, or is too large.
    pub fn prepare(&self, task: &NewTask) -> Result<Prepared, Error> {
        let Defaults { queue, origin, bytes } = &self.0.defaults;
        if task.task.is_empty() {
            return Err(Error::Task("the task has no name".into()));
        }
        let queue = task.queue.as_ref().unwrap_or(queue);
        let id = match &task.id {
            Some(id) if id.is_empty() => return Err(Error::Task("the task's identifier is empty".into())),
            Some(id) => id.clone(),
            None => Uuid::new_v4().to_string(),
        };
        if queue.is_empty() || queue.contains(self.0.broker.transport().sep.as_str()) {
            return Err(Error::Task("the queue's name is empty, or has what stands between it and a priority".into()));
        }
        for (name, moment) in [("eta", task.eta), ("expires", task.expires)] {
            // The year 9999 is the end of what Python can read.
            if moment.is_some_and(|moment| !(0.0..253_402_300_800.0).contains(&moment)) {
                return Err(Error::Task(format!("{name} is no time between 1970 and 9999")));
            }
        }
        let mut headers = task.headers.clone();
        if let Some(unique) = &task.unique {
            headers.insert(wire::UNIQUE.into(), unique.key.as_str().into());
        }
        let raw = wire::Task {
            task: &task.task,
            id: &id,
            args: &task.args,
            kwargs: task.kwargs.clone(),
            shadow: task.shadow.as_deref(),
            eta: task.eta,
            expires: task.expires,
            retries: task.retries,
            limits: (task.time_limit, task.soft_time_limit),
            root_id: task.root_id.as_deref(),
            parent_id: task.parent_id.as_deref(),
            origin,
            ignore_result: task.ignore_result,
            headers,
            routing_key: queue,
            priority: task.priority,
            ..wire::Task::default()
        }
        .message();
        if raw.len() > *bytes {
            return Err(Error::TooLarge { size: raw.len(), limit: *bytes });
        }
        let list = self.0.broker.list_for(queue, task.priority);
        Ok(Prepared { id, queue: queue.clone(), list, raw })
    }

    /// Sends a task.
    ///
    /// # Errors
    /// The task makes no sense or is too large; Redis is away or refused. After a timeout it may have been sent: with an
    /// idempotency key it can be sent again without harm.
    pub async fn send(&self, task: &NewTask) -> Result<Sent, Error> {
        let mut sent = self.send_all(std::slice::from_ref(task)).await?;
        sent.pop().ok_or(Error::Answer("send"))
    }

    /// Sends tasks in this order. Those with a key are sent one by one, the others in one go with their neighbours.
    ///
    /// # Errors
    /// As [`Client::send`]; none is sent if one of them makes no sense. If Redis goes away in between, the first ones have
    /// been sent.
    pub async fn send_all(&self, tasks: &[NewTask]) -> Result<Vec<Sent>, Error> {
        let prepared = tasks.iter().map(|task| self.prepare(task)).collect::<Result<Vec<_>, _>>()?;
        let mut sent = Vec::with_capacity(tasks.len());
        let mut together = Vec::new();
        for (task, one) in tasks.iter().zip(&prepared) {
            if task.unique.is_none() && task.idempotency_key.is_none() {
                together.push(super::broker::Publish {
                    queue: &one.queue,
                    priority: task.priority,
                    raw: one.raw.clone(),
                    queue_expires: None,
                });
                sent.push(Sent::New(one.id.clone()));
            } else {
                self.0.broker.publish(&std::mem::take(&mut together)).await?;
                sent.push(self.send_keyed(task, one).await?);
            }
        }
        self.0.broker.publish(&together).await?;
        Ok(sent)
    }

    async fn send_keyed(&self, task: &NewTask, one: &Prepared) -> Result<Sent, Error> {
        let broker = &self.0.broker;
        broker.declare_once(&one.queue).await?;
        let unique = task.unique.as_ref();
        let keys = vec![
            one.list.as_str().into(),
            broker.unique_key(unique.map_or("", |unique| &unique.key)).into(),
            broker.key(&format!("beacon:idempotency:{}", task.idempotency_key.as_deref().unwrap_or_default())).into(),
        ];
        let arguments = vec![
            i64::from(unique.is_some()).into(),
            i64::from(task.idempotency_key.is_some()).into(),
            unique.map_or(1, |unique| unique.for_.as_millis().clamp(1, i64::MAX as u128) as i64).into(),
            IDEMPOTENCY.into(),
            one.id.as_str().into(),
            Value::Bytes(one.raw.clone()),
        ];
        let there = redis::text(broker.client().eval(&SEND, keys, arguments, CALL).await?);
        match there.ok_or(Error::Answer("send"))? {
            there if there.is_empty() => Ok(Sent::New(one.id.clone())),
            there => Ok(Sent::Same(there)),
        }
    }

    /// What became of a task, as far as it is stored; `None` if nothing is.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn result(&self, id: &str) -> Result<Option<Meta>, Error> {
        self.0.results.get(id).await
    }

    /// Waits until a task has ended, so long at most; gives what is known then.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn wait(&self, id: &str, within: Duration) -> Result<Option<Meta>, Error> {
        self.0.results.wait(id, within).await
    }

    /// Revokes tasks: those that wait for their time are removed at once, and their result is REVOKED; those in a queue
    /// are dropped when their turn comes; those that run are ended if there is a signal, "SIGTERM" or its like. Stock
    /// workers are told, too.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn cancel(&self, ids: &[String], signal: Option<&str>) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let broker = &self.0.broker;
        broker.revoke(ids).await?;
        let removed = broker.forget_parked(ids).await?;
        let revoked = wire::Result::Revoked("revoked");
        let writes: Vec<_> = removed
            .iter()
            .map(|one| Write { id: one.headers.id.clone(), value: revoked.meta(one, &Json::Null, None) })
            .collect();
        self.0.results.store(&writes).await?;
        let body = wire::json(&json!({
            "method": "revoke",
            "arguments": {"task_id": ids, "terminate": signal.is_some(), "signal": signal.unwrap_or("SIGTERM")},
            "destination": null, "pattern": null, "matcher": null,
        }));
        let exchange = format!("{}.pidbox", broker.transport().control_exchange);
        let message = wire::Notice {
            body: &body,
            headers: Map::from_iter([("clock".to_owned(), json!(1)), ("expires".to_owned(), json!(0))]),
            exchange: &exchange,
            routing_key: "",
        }
        .message();
        let channel = broker.key(&format!("/{}.{exchange}", broker.client().database()));
        broker.client().command("PUBLISH", vec![channel.into(), Value::Bytes(message)], CALL).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::broker::{Claimed, Fate, Publish, Settled, Why};
    use super::super::server::{Server, ask};
    use super::*;

    fn ids(claimed: &[Claimed]) -> Vec<String> {
        claimed.iter().map(|one| wire::id_of(&one.raw).unwrap_or_default()).collect()
    }

    async fn end(broker: &Broker, claim: &Claimed, fate: Fate) {
        let settled = Settled { claim: claim.claim.clone(), stored: None, fate, line: None };
        assert_eq!(broker.settle("w", None, &[settled]).await.unwrap(), [true]);
    }

    fn parked(claim: &Claimed) -> Fate {
        let (raw, queue) = (claim.raw.clone(), claim.queue.clone());
        let until_ms = i64::MAX / 1_000_000;
        Fate::Park { raw, queue, priority: 0, id: "a".into(), until_ms, node: "w@h".into(), why: Why::Eta }
    }

    fn again(claim: &Claimed) -> Fate {
        let (raw, queue) = (claim.raw.clone(), claim.queue.clone());
        Fate::Requeue { raw, queue, priority: 0, head: true, redelivered: true, lost: None }
    }

    fn sender(broker: &Broker, results: &Results) -> Client {
        let defaults = Defaults { queue: "q".into(), origin: "gen1@h".into(), bytes: 10_000 };
        Client::new(broker.clone(), results.clone(), defaults)
    }

    #[tokio::test]
    async fn a_unique_task_is_there_once_until_it_has_ended() {
        let server = Server::start();
        let (broker, results) = (server.broker().await, server.results().await);
        let client = sender(&broker, &results);
        let unique = Unique { key: "k".into(), for_: Duration::from_mins(1) };
        let task = NewTask { task: "t".into(), unique: Some(unique), ..NewTask::default() };
        let Sent::New(first) = client.send(&task).await.unwrap() else { panic!("not new") };
        assert_eq!(client.send(&task).await.unwrap(), Sent::Same(first.clone()));
        let lists = broker.lists("q");
        let claimed = broker.claim("w", &lists, 9).await.unwrap();
        assert_eq!(ids(&claimed), [&*first]);
        assert_eq!(client.send(&task).await.unwrap(), Sent::Same(first.clone()));
        // Tried again: still there. Ended: free.
        end(&broker, &claimed[0], again(&claimed[0])).await;
        let claimed = broker.claim("w", &lists, 9).await.unwrap();
        end(&broker, &claimed[0], Fate::Followed).await;
        assert_eq!(client.send(&task).await.unwrap(), Sent::Same(first));
        ask(broker.client(), "LPUSH", &["q", std::str::from_utf8(&claimed[0].raw).unwrap()]).await;
        let claimed = broker.claim("w", &lists, 9).await.unwrap();
        end(&broker, &claimed[0], Fate::Ack).await;
        assert!(matches!(client.send(&task).await.unwrap(), Sent::New(_)));
    }

    #[tokio::test]
    async fn a_unique_task_that_was_replaced_is_there_until_its_replacement_has_ended() {
        let server = Server::start();
        let (broker, results) = (server.broker().await, server.results().await);
        let client = sender(&broker, &results);
        let unique = Unique { key: "k".into(), for_: Duration::from_mins(1) };
        let task = NewTask { task: "t".into(), id: Some("a".into()), unique: Some(unique), ..NewTask::default() };
        client.send(&task).await.unwrap();
        let other = NewTask { id: None, ..task };
        let lists = broker.lists("q");
        for nesting in 1..=2 {
            let claimed = broker.claim("w", &lists, 9).await.unwrap();
            assert_eq!(ids(&claimed), ["a"]);
            let stands = wire::Task { task: "u", id: "a", replaced_task_nesting: nesting, ..wire::Task::default() };
            let raw = wire::Task { origin: "test", routing_key: "q", ..stands }.message();
            broker.publish(&[Publish { queue: "q", priority: 0, raw, queue_expires: None }]).await.unwrap();
            end(&broker, &claimed[0], Fate::Replaced).await;
            assert_eq!(client.send(&other).await.unwrap(), Sent::Same("a".into()));
        }
        let claimed = broker.claim("w", &lists, 9).await.unwrap();
        end(&broker, &claimed[0], Fate::Ack).await;
        assert!(matches!(client.send(&other).await.unwrap(), Sent::New(_)));
    }

    #[tokio::test]
    async fn an_idempotency_key_gives_the_first_task_and_sending_keeps_the_order() {
        let server = Server::start();
        let (broker, results) = (server.broker().await, server.results().await);
        let client = sender(&broker, &results);
        let named = |name: &str| NewTask { task: name.into(), id: Some(name.into()), ..NewTask::default() };
        let keyed = NewTask { idempotency_key: Some("i".into()), ..named("b") };
        let sent = client.send_all(&[named("a"), keyed.clone(), named("c")]).await.unwrap();
        assert_eq!(sent, ["a", "b", "c"].map(|id| Sent::New(id.into())));
        let other = NewTask { id: None, ..keyed };
        assert_eq!(client.send(&other).await.unwrap(), Sent::Same("b".into()));
        assert_eq!(ids(&broker.claim("w", &broker.lists("q"), 9).await.unwrap()), ["a", "b", "c"]);
        for bad in [
            NewTask::default(),
            NewTask { queue: Some(String::new()), ..named("x") },
            NewTask { eta: Some(f64::NAN), ..named("x") },
            NewTask { args: vec!["x".repeat(20_000).into()], ..named("x") },
        ] {
            assert!(client.send(&bad).await.is_err(), "{bad:?}");
        }
        assert_eq!(broker.lengths(&["q"]).await.unwrap()[0].total(), 0);
    }

    #[tokio::test]
    async fn a_cancelled_task_that_waits_for_its_time_is_gone_and_its_client_knows() {
        let server = Server::start();
        let (broker, results) = (server.broker().await, server.results().await);
        let client = sender(&broker, &results);
        client.send(&NewTask { task: "t".into(), id: Some("a".into()), ..NewTask::default() }).await.unwrap();
        let claimed = broker.claim("w", &broker.lists("q"), 1).await.unwrap();
        end(&broker, &claimed[0], parked(&claimed[0])).await;
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.wait("a", Duration::from_secs(20)).await }
        });
        client.cancel(&["a".into(), "b".into()], None).await.unwrap();
        let meta = waiting.await.unwrap().unwrap().unwrap();
        assert_eq!((meta.status.as_str(), &meta.result["exc_type"]), ("REVOKED", &json!("TaskRevokedError")));
        assert_eq!(broker.parked_count().await.unwrap(), 0);
        assert_eq!(broker.is_revoked(&["a", "b"]).await.unwrap(), [true, true]);
        assert_eq!(client.wait("b", Duration::from_millis(50)).await.unwrap(), None);
    }
}
