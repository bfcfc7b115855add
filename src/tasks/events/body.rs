//! Events as Celery's consumers read them: which fields each has, in the order of a stock worker.

use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::tasks::wire::repr;
use crate::tasks::wire::{Envelope, iso};
use crate::tasks::{Event, Exception, Happening};

/// The largest content that is read to show arguments that came without a short form, in bytes.
const READABLE: usize = 64 * 1024;

/// What all events of a worker have.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The node name.
    pub(super) node: Arc<str>,
    /// The process.
    pub(super) pid: u32,
    /// Hours that the local time is behind UTC. Celery's consumers move each timestamp by the difference between this
    /// and their own.
    pub(super) west: f64,
}

/// A task's event.
pub(super) struct OfTask<'a> {
    pub(super) origin: &'a Origin,
    pub(super) clock: u64,
    pub(super) event: &'a Event,
    /// With the task's name and queue in each event, which Celery has in the first one only.
    pub(super) full: bool,
}

/// A worker's event.
pub(super) struct OfWorker<'a> {
    pub(super) origin: &'a Origin,
    pub(super) clock: u64,
    pub(super) kind: &'static str,
    pub(super) at: f64,
    /// Seconds between heartbeats.
    pub(super) every: Option<f64>,
    pub(super) state: Option<State>,
    /// An election that is acknowledged.
    pub(super) election: Option<&'a Value>,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct State {
    pub(super) active: usize,
    pub(super) processed: u64,
    pub(super) load: [f64; 3],
}

/// The event's type in Celery's words.
pub(super) fn kind(what: &Happening) -> &'static str {
    match what {
        Happening::Received => "task-received",
        Happening::Started(_) => "task-started",
        Happening::Succeeded { .. } => "task-succeeded",
        Happening::Failed { .. } => "task-failed",
        Happening::Retried(_) => "task-retried",
        Happening::Revoked { .. } => "task-revoked",
        Happening::Rejected { .. } => "task-rejected",
        Happening::Dead(_) => DEAD,
    }
}

/// An event that Celery does not have, and that its consumers are not told.
pub(super) const DEAD: &str = "task-dead";

/// The name that events, lists and logs show.
#[must_use]
pub fn name(envelope: &Envelope) -> &str {
    envelope.headers.shadow.as_deref().filter(|name| !name.is_empty()).unwrap_or(&envelope.headers.task)
}

/// The short forms of the positional and of the named arguments: those that came with the message, else made of its
/// content.
#[must_use]
pub fn arguments(envelope: &Envelope) -> (String, String) {
    let headers = &envelope.headers;
    if let (Some(args), Some(kwargs)) = (&headers.argsrepr, &headers.kwargsrepr) {
        return (args.clone(), kwargs.clone());
    }
    let (args, kwargs) = match content(envelope, READABLE) {
        Some((args, kwargs)) => (repr::tuple(&args), repr::short_dict(&kwargs)),
        None => ("...".to_owned(), "...".to_owned()),
    };
    (headers.argsrepr.clone().unwrap_or(args), headers.kwargsrepr.clone().unwrap_or(kwargs))
}

/// The arguments themselves; `None` if the content is larger than `most` bytes, or no JSON.
#[must_use]
pub fn content(envelope: &Envelope, most: usize) -> Option<(Vec<Value>, Map<String, Value>)> {
    if envelope.body.len() > most || envelope.content_type != "application/json" {
        return None;
    }
    let (args, kwargs, _) = serde_json::from_slice::<(Option<Vec<Value>>, Option<_>, Value)>(&envelope.body).ok()?;
    Some((args.unwrap_or_default(), kwargs.unwrap_or_default()))
}

fn shown(exception: &Exception) -> String {
    if exception.repr.is_empty() {
        repr::exception(&exception.class, &exception.message)
    } else {
        exception.repr.clone()
    }
}

fn begin<S: SerializeMap>(map: &mut S, origin: &Origin, clock: u64) -> Result<(), S::Error> {
    map.serialize_entry("hostname", &*origin.node)?;
    map.serialize_entry("utcoffset", &origin.west)?;
    map.serialize_entry("pid", &origin.pid)?;
    map.serialize_entry("clock", &clock)
}

impl Serialize for OfTask<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let headers = &self.event.envelope.headers;
        let mut map = serializer.serialize_map(None)?;
        begin(&mut map, self.origin, self.clock)?;
        map.serialize_entry("uuid", &headers.id)?;
        let received = self.event.what == Happening::Received;
        if received || self.full {
            map.serialize_entry("name", name(&self.event.envelope))?;
        }
        if self.full {
            map.serialize_entry("queue", &*self.event.queue)?;
        }
        match &self.event.what {
            Happening::Received => {
                let (args, kwargs) = arguments(&self.event.envelope);
                map.serialize_entry("args", &args)?;
                map.serialize_entry("kwargs", &kwargs)?;
                map.serialize_entry("root_id", &headers.root_id)?;
                map.serialize_entry("parent_id", &headers.parent_id)?;
                map.serialize_entry("retries", &headers.retries)?;
                map.serialize_entry("eta", &headers.eta.map(iso))?;
                map.serialize_entry("expires", &headers.expires.map(iso))?;
            }
            Happening::Started(pid) => {
                if self.full {
                    map.serialize_entry("worker_pid", pid)?;
                }
            }
            Happening::Succeeded { result, runtime } => {
                map.serialize_entry("result", result)?;
                map.serialize_entry("runtime", &runtime.as_secs_f64())?;
            }
            Happening::Failed { exception, .. } | Happening::Retried(exception) => {
                map.serialize_entry("exception", &shown(exception))?;
                map.serialize_entry("traceback", &exception.traceback)?;
            }
            Happening::Revoked { terminated, signal, expired } => {
                map.serialize_entry("terminated", terminated)?;
                map.serialize_entry("signum", signal)?;
                map.serialize_entry("expired", expired)?;
            }
            Happening::Rejected { requeue } => map.serialize_entry("requeue", requeue)?,
            Happening::Dead(reason) => map.serialize_entry("reason", reason)?,
        }
        map.serialize_entry("timestamp", &self.event.at)?;
        map.serialize_entry("type", kind(&self.event.what))?;
        map.end()
    }
}

impl Serialize for OfWorker<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        begin(&mut map, self.origin, self.clock)?;
        if let Some(id) = self.election {
            map.serialize_entry("id", id)?;
        }
        if let Some(every) = self.every {
            map.serialize_entry("freq", &every)?;
        }
        if let Some(state) = &self.state {
            map.serialize_entry("active", &state.active)?;
            map.serialize_entry("processed", &state.processed)?;
            map.serialize_entry("loadavg", &state.load)?;
        }
        if self.election.is_none() {
            map.serialize_entry("sw_ident", "beacon")?;
            map.serialize_entry("sw_ver", env!("CARGO_PKG_VERSION"))?;
            map.serialize_entry("sw_sys", "Linux")?;
        }
        map.serialize_entry("timestamp", &self.at)?;
        map.serialize_entry("type", self.kind)?;
        map.end()
    }
}

#[cfg(test)]
pub(in crate::tasks) mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::tasks::wire::Headers;

    /// A message of a task, as if it had come from a queue.
    pub(in crate::tasks) fn envelope(task: &str, id: &str, body: &str) -> Envelope {
        Envelope {
            raw: Bytes::new(),
            headers: Headers { task: task.into(), id: id.into(), root_id: Some(id.into()), ..Headers::default() },
            content_type: "application/json".into(),
            content_encoding: "utf-8".into(),
            correlation_id: None,
            reply_to: None,
            delivery_tag: "tag".into(),
            exchange: String::new(),
            routing_key: "celery".into(),
            priority: 0,
            redelivered: false,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn event(what: Happening) -> Event {
        let mut envelope = envelope("wapp.add", "749", "[[1, 2], {\"z\": null}, {}]");
        envelope.headers.eta = Some(1_795_573_370.663_97);
        Event { envelope: Arc::new(envelope), queue: "celery".into(), at: 1_795_573_369.5, what }
    }

    fn origin() -> Origin {
        Origin { node: "w@h".into(), pid: 7, west: -1.0 }
    }

    fn shown(what: Happening, full: bool) -> Value {
        serde_json::to_value(OfTask { origin: &origin(), clock: 9, event: &event(what), full }).unwrap()
    }

    #[test]
    fn every_event_has_the_fields_of_a_stock_worker() {
        // The fields are those of a capture from celery 5.7.
        let common = json!({"hostname": "w@h", "utcoffset": -1.0, "pid": 7, "clock": 9, "uuid": "749",
            "timestamp": 1_795_573_369.5});
        let exception = Exception {
            class: "ValueError".into(),
            message: "bad".into(),
            traceback: Some("Traceback".into()),
            ..Exception::default()
        };
        let failed = json!({"exception": "ValueError('bad')", "traceback": "Traceback"});
        for (what, kind, fields) in [
            (
                Happening::Received,
                "task-received",
                json!({"name": "wapp.add", "args": "(1, 2)", "kwargs": "{'z': None}", "root_id": "749",
                    "parent_id": null, "retries": 0, "eta": "2026-11-25T02:22:50.663970+00:00", "expires": null}),
            ),
            (Happening::Started(Some(5)), "task-started", json!({})),
            (
                Happening::Succeeded { result: "3".into(), runtime: Duration::from_millis(1_500) },
                "task-succeeded",
                json!({"result": "3", "runtime": 1.5}),
            ),
            (Happening::Failed { exception: exception.clone(), runtime: None }, "task-failed", failed.clone()),
            (Happening::Retried(exception), "task-retried", failed),
            (
                Happening::Revoked { terminated: true, signal: Some(15), expired: false },
                "task-revoked",
                json!({"terminated": true, "signum": 15, "expired": false}),
            ),
            (Happening::Rejected { requeue: true }, "task-rejected", json!({"requeue": true})),
        ] {
            let mut whole = common.clone();
            whole["type"] = kind.into();
            whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            assert_eq!(shown(what, false), whole);
        }
        let full = shown(Happening::Started(Some(5)), true);
        assert_eq!(
            (&full["name"], &full["queue"], &full["worker_pid"]),
            (&json!("wapp.add"), &json!("celery"), &json!(5))
        );
    }

    #[test]
    fn a_workers_event_has_its_state_only_when_it_is_asked_for() {
        let state = State { active: 1, processed: 4, load: [4.13, 2.37, 1.56] };
        let origin = origin();
        let mut event = OfWorker {
            origin: &origin,
            clock: 2,
            kind: "worker-heartbeat",
            at: 5.5,
            every: Some(2.0),
            state: Some(state),
            election: None,
        };
        let whole = json!({"hostname": "w@h", "utcoffset": -1.0, "pid": 7, "clock": 2, "freq": 2.0, "active": 1,
            "processed": 4, "loadavg": [4.13, 2.37, 1.56], "sw_ident": "beacon", "sw_ver": env!("CARGO_PKG_VERSION"),
            "sw_sys": "Linux", "timestamp": 5.5, "type": "worker-heartbeat"});
        assert_eq!(serde_json::to_value(&event).unwrap(), whole);
        let id = json!("e1");
        (event.kind, event.every, event.state, event.election) = ("worker-elect-ack", None, None, Some(&id));
        let whole = json!({"hostname": "w@h", "utcoffset": -1.0, "pid": 7, "clock": 2, "id": "e1", "timestamp": 5.5,
            "type": "worker-elect-ack"});
        assert_eq!(serde_json::to_value(&event).unwrap(), whole);
    }

    #[test]
    fn short_forms_come_from_the_message_or_from_its_content() {
        let mut one = envelope("a", "1", "[[1], {\"k\": \"v\"}, null]");
        assert_eq!(arguments(&one), ("(1,)".into(), "{'k': 'v'}".into()));
        one.headers.argsrepr = Some("(one,)".into());
        assert_eq!(arguments(&one), ("(one,)".into(), "{'k': 'v'}".into()));
        one.headers.kwargsrepr = Some("{}".into());
        assert_eq!(arguments(&one), ("(one,)".into(), "{}".into()));
        let pickle =
            Envelope { content_type: "application/x-python-serialize".into(), ..envelope("a", "1", "[[],{},{}]") };
        assert_eq!(content(&pickle, 100), None);
        assert_eq!(arguments(&pickle), ("...".into(), "...".into()));
        assert_eq!(content(&envelope("a", "1", "[[NaN], {}, {}]"), 100), None, "Python's own JSON is left alone");
        assert_eq!(content(&envelope("a", "1", "[[1], {}, {}]"), 5), None);
        assert_eq!(content(&envelope("a", "1", "[null, null, null]"), 50), Some((vec![], Map::new())));
        one.headers.shadow = Some("shady".into());
        assert_eq!(name(&one), "shady");
    }
}
