//! /events: what happens, as Server-Sent Events.
//!
//! A stream costs a bounded amount, whoever reads it: an event that its reader has not taken while a thousand more
//! happened is the end of the stream, which says so. Readers come back by themselves.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::answer::{Answer, Failure};
use super::ask::Ask;
use crate::http::{Body, Response};
use crate::tasks::events::Told;

/// How often a stream says that it is there: proxies in between end connections that say nothing.
const QUIET: Duration = Duration::from_secs(15);
/// How many tasks a stream remembers the names of.
const REMEMBERED: usize = 10_000;

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of tasks with this name.
    pub task: Option<String>,
    /// Of tasks from this queue.
    pub queue: Option<String>,
}

/// Names and queues of tasks by their identifiers: of stock workers' events the first about a task alone has them.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<String, (Option<String>, Option<String>)>,
    order: VecDeque<String>,
}

impl Names {
    /// The event's fields, with `name` and `queue` as far as they were told before.
    #[must_use]
    pub fn complete(&mut self, mut event: Value) -> Value {
        let Some(id) = event.get("uuid").and_then(Value::as_str).map(str::to_owned) else { return event };
        let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
        let (name, queue) = (text("name"), text("queue"));
        if !self.known.contains_key(&id) {
            if name.is_none() && queue.is_none() {
                return event;
            }
            if self.order.len() >= REMEMBERED
                && let Some(first) = self.order.pop_front()
            {
                self.known.remove(&first);
            }
            self.order.push_back(id.clone());
        }
        let known = self.known.entry(id).or_default();
        known.0 = name.or(known.0.take());
        known.1 = queue.or(known.1.take());
        for (member, value) in [("name", &known.0), ("queue", &known.1)] {
            if let Some(value) = value {
                event[member] = value.as_str().into();
            }
        }
        event
    }
}

impl Filter {
    /// Whether an event is wanted. Those of workers are, unless tasks are picked out.
    #[must_use]
    pub fn wants(&self, event: &Value) -> bool {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| event.get(name).and_then(Value::as_str) == Some(wanted))
        };
        is(&self.task, "name") && is(&self.queue, "queue")
    }
}

/// A stream.
struct Stream {
    events: Receiver<Told>,
    filter: Filter,
    names: Names,
    beat: tokio::time::Interval,
    number: u64,
    ending: CancellationToken,
    over: bool,
    _place: OwnedSemaphorePermit,
}

impl Inner {
    /// GET /events
    pub(super) fn events(&self, ask: &Ask) -> Answer {
        ask.only(&["task", "queue"])?;
        let place = self.streams.clone().try_acquire_owned();
        let place = place.map_err(|_| Failure::later("too_many_streams", "Too many streams of events are open."))?;
        let mut beat = interval(QUIET);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stream = Stream {
            events: self.feed.follow(),
            filter: Filter { task: ask.param("task").map(str::to_owned), queue: ask.param("queue").map(str::to_owned) },
            names: Names::default(),
            beat,
            number: 0,
            ending: self.ending.clone(),
            over: false,
            _place: place,
        };
        let frames = unfold(stream, |mut stream| async move {
            let text = stream.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), stream))
        });
        let mut response = Response::new(Body::stream(StreamBody::new(frames).map_err(Into::into)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        // An event must not wait in a compressor, or in a proxy, for the next one.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }
}

impl Stream {
    /// What is sent next; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        loop {
            let told = tokio::select! {
                biased;
                () = self.ending.cancelled() => {
                    return Some(self.end("ending", &json!({"hint": "The server stops. Come back."})));
                }
                told = self.events.recv() => told,
                // The first comes at once, so that a reader knows that it is heard.
                _ = self.beat.tick() => return Some(": \n\n".into()),
            };
            match told {
                Ok(told) => {
                    let event = self.names.complete(told.fields());
                    if self.filter.wants(&event) {
                        self.number += 1;
                        return Some(block(self.number, &told.kind, &event));
                    }
                }
                Err(RecvError::Lagged(lost)) => {
                    let hint = "You read more slowly than events happen. Pick some out with ?task= or ?queue=.";
                    return Some(self.end("lagged", &json!({"lost": lost, "hint": hint})));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn end(&mut self, kind: &str, event: &Value) -> String {
        self.over = true;
        self.number += 1;
        block(self.number, kind, event)
    }
}

/// One event of the stream. JSON has no bare line break, so it is one line.
fn block(number: u64, kind: &str, event: &Value) -> String {
    let mut text = String::new();
    let kind: String = kind.chars().filter(|ch| !ch.is_control()).collect();
    let _ = write!(text, "id: {number}\nevent: {kind}\ndata: {event}\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_events_of_a_task_have_its_name() {
        let mut names = Names::default();
        let first = names.complete(json!({"type": "task-received", "uuid": "1", "name": "a.b", "queue": "q"}));
        assert_eq!(first["queue"], "q");
        let later = names.complete(json!({"type": "task-succeeded", "uuid": "1"}));
        assert_eq!((&later["name"], &later["queue"]), (&json!("a.b"), &json!("q")));
        assert!(names.complete(json!({"type": "task-succeeded", "uuid": "2"})).get("name").is_none());
        for number in 0..REMEMBERED {
            let _ = names.complete(json!({"uuid": format!("n{number}"), "name": "x"}));
        }
        assert!(names.complete(json!({"uuid": "1"})).get("name").is_none());
        assert_eq!((names.known.len(), names.order.len()), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn tasks_can_be_picked_out() {
        let filter = Filter { task: Some("a.b".into()), queue: None };
        assert!(filter.wants(&json!({"name": "a.b"})) && !filter.wants(&json!({"name": "c"})));
        assert!(!filter.wants(&json!({"type": "worker-heartbeat"})));
        assert!(Filter::default().wants(&json!({"type": "worker-heartbeat"})));
    }

    #[test]
    fn an_event_is_one_block_whatever_it_holds() {
        let text = block(3, "task-failed\nx", &json!({"exception": "a\nb"}));
        assert_eq!(text, "id: 3\nevent: task-failedx\ndata: {\"exception\":\"a\\nb\"}\n\n");
    }
}
