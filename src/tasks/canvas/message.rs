//! From a planned message to the one on the wire: Celery's options become headers and properties.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::plan::Message;
use super::signature::list;
use crate::tasks::broker::Publish;
use crate::tasks::wire::{Embed, Task, moment, now};

/// A message and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The queue.
    pub queue: String,
    /// 0 to 9; 0 goes first.
    pub priority: u8,
    /// The message.
    pub raw: Bytes,
}

impl Made {
    /// As the broker takes it.
    #[must_use]
    pub fn publish(&self) -> Publish<'_> {
        Publish { queue: &self.queue, priority: self.priority, raw: self.raw.clone(), queue_expires: None }
    }
}

impl Message {
    /// The message, to its own queue or else to `queue`, from this node.
    #[must_use]
    pub fn make(&self, queue: &str, origin: &str) -> Made {
        let options = &self.options;
        let text = |name: &str| options.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let number = |name: &str| options.get(name).and_then(Value::as_f64);
        // A queue may be given with all that it is bound to.
        let named = options.get("queue").and_then(|queue| queue.get("name")).and_then(Value::as_str);
        let queue = text("queue").or(named).or_else(|| text("routing_key")).unwrap_or(queue);
        let eta = match number("countdown") {
            Some(countdown) if countdown != 0.0 => Some(now() + countdown),
            _ => text("eta").and_then(read),
        };
        let expires = number("expires").map(|seconds| now() + seconds).or_else(|| text("expires").and_then(read));
        let priority = number("priority").map_or(0, |priority| priority.clamp(0.0, 9.0) as u8);
        let message = Task {
            task: &self.task,
            id: &self.id,
            args: &self.args,
            kwargs: self.kwargs.clone(),
            embed: Embed {
                callbacks: listed(options.get("link")),
                errbacks: listed(options.get("link_error")),
                chain: options.get("chain").cloned().unwrap_or_default(),
                chord: options.get("chord").cloned().unwrap_or_default(),
            },
            shadow: text("shadow"),
            eta,
            expires,
            group: text("group_id"),
            group_index: options.get("group_index").and_then(Value::as_i64),
            retries: number("retries").map_or(0, |retries| retries as u32),
            limits: (number("time_limit"), number("soft_time_limit")),
            root_id: text("root_id"),
            parent_id: text("parent_id"),
            origin,
            ignore_result: options.get("ignore_result").and_then(Value::as_bool),
            replaced_task_nesting: number("replaced_task_nesting").map_or(0, |nesting| nesting as u32),
            stamps: list(options.get("stamped_headers"))
                .iter()
                .filter_map(Value::as_str)
                .filter_map(|name| Some((name.to_owned(), options.get(name)?.clone())))
                .collect(),
            headers: options.get("headers").and_then(Value::as_object).cloned().unwrap_or_default(),
            reply_to: text("reply_to"),
            exchange: "",
            routing_key: queue,
            priority,
            reprs: None,
        };
        Made { queue: queue.to_owned(), priority, raw: message.message() }
    }
}

/// A moment in an option; without an offset it is one in UTC.
fn read(text: &str) -> Option<f64> {
    moment(text, |_| 0)
}

/// Options that are lists on the wire, whatever they were given as.
fn listed(value: Option<&Value>) -> Value {
    match value {
        None | Some(Value::Null) => Value::Null,
        value => Value::Array(list(value).to_vec()),
    }
}

/// Named options.
pub fn options<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tasks::wire::{Body, Envelope, Limits};

    #[test]
    fn options_become_headers() {
        let message = Message {
            task: "add".into(),
            id: "i1".into(),
            args: vec![json!(1)],
            kwargs: Map::from_iter([("k".to_owned(), json!("v"))]),
            options: options([
                ("queue", json!("slow")),
                ("priority", json!(42)),
                ("link", json!({"task": "after"})),
                ("chain", json!([])),
                ("group_id", json!("g")),
                ("group_index", json!(3)),
                ("root_id", json!("r")),
                ("time_limit", json!(3.5)),
                ("eta", json!("2026-11-25T00:00:00+00:00")),
                ("stamped_headers", json!(["color"])),
                ("color", json!("red")),
            ]),
        };
        let made = message.make("celery", "me@here");
        assert_eq!((made.queue.as_str(), made.priority), ("slow", 9));
        let envelope = Envelope::parse(made.raw, &Limits::new(10_000)).unwrap();
        let headers = &envelope.headers;
        assert_eq!((headers.task.as_str(), headers.id.as_str()), ("add", "i1"));
        assert_eq!((headers.group.as_deref(), headers.group_index), (Some("g"), Some(3)));
        assert_eq!((headers.root_id.as_deref(), headers.time_limit), (Some("r"), Some(3.5)));
        assert_eq!(headers.eta, Some(1_795_564_800.0));
        assert_eq!(headers.stamps, [("color".to_owned(), json!("red"))]);
        assert_eq!(envelope.routing_key, "slow");
        let body = Body::parse(&envelope.body).unwrap();
        assert_eq!(body.embed.callbacks, json!([{"task": "after"}]));
        assert_eq!((body.embed.errbacks, body.embed.chain), (Value::Null, json!([])));
    }

    #[test]
    fn a_message_without_options_goes_to_the_default_queue() {
        let message =
            Message { task: "a".into(), id: "i".into(), args: vec![], kwargs: Map::new(), options: Map::new() };
        let made = message.make("celery", "me@here");
        assert_eq!((made.queue.as_str(), made.priority), ("celery", 0));
    }
}
