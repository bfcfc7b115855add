//! What remote control says of tasks and queues: dictionaries with the keys of Celery's.

use serde_json::{Value, json};

use crate::tasks::events::{arguments, content, task_name};
use crate::tasks::wire::iso;
use crate::tasks::{Held, Transport};

/// Arguments of this size and less are shown as they are, in bytes; larger ones by their short forms.
const WHOLE: usize = 16 * 1024;
/// So much of them in one answer; what follows is shown by short forms.
const TOGETHER: usize = 4 * 1024 * 1024;
/// What Celery's timer gives all tasks that wait for their time.
const TIMER: u8 = 6;

/// Makes dictionaries of tasks for one answer.
pub(super) struct Tasks<'a> {
    node: &'a str,
    left: usize,
}

impl<'a> Tasks<'a> {
    /// With the arguments themselves where they are not too large, or (`safe`) with their short forms.
    pub(super) fn new(node: &'a str, safe: bool) -> Self {
        Self { node, left: if safe { 0 } else { TOGETHER } }
    }

    /// As `celery inspect active` shows a task.
    pub(super) fn of(&mut self, held: &Held) -> Value {
        let envelope = &held.envelope;
        let (args, kwargs) = if let Some((args, kwargs)) = content(envelope, WHOLE.min(self.left)) {
            self.left -= envelope.body.len();
            (Value::from(args), Value::from(kwargs))
        } else {
            let (args, kwargs) = arguments(envelope);
            (Value::from(args), Value::from(kwargs))
        };
        json!({
            "id": envelope.headers.id,
            "name": task_name(envelope),
            "args": args,
            "kwargs": kwargs,
            "type": envelope.headers.task,
            "hostname": self.node,
            "time_start": held.started,
            "acknowledged": held.acknowledged,
            "delivery_info": {
                "exchange": envelope.exchange,
                "routing_key": envelope.routing_key,
                "priority": envelope.priority,
                "redelivered": envelope.redelivered,
            },
            "worker_pid": held.pid,
        })
    }

    /// As `celery inspect scheduled` shows one that waits for its time.
    pub(super) fn scheduled(&mut self, held: &Held) -> Value {
        let eta = held.eta.or(held.envelope.headers.eta);
        json!({"eta": eta.map(iso), "priority": TIMER, "request": self.of(held)})
    }
}

/// How a queue is bound, as `celery inspect active_queues` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The queue.
    pub queue: String,
    /// The exchange that it is bound to.
    pub exchange: String,
    /// "direct" or "topic".
    pub kind: String,
    /// By which key.
    pub routing_key: String,
}

impl Binding {
    /// As Celery makes queues of which nothing but the name is known.
    #[must_use]
    pub fn direct(queue: &str) -> Self {
        Self { queue: queue.into(), exchange: queue.into(), kind: "direct".into(), routing_key: queue.into() }
    }

    /// The member of the exchange's set that says so to producers.
    pub(super) fn member(&self, transport: &Transport) -> String {
        let pattern = if self.kind == "topic" { topic(&self.routing_key) } else { String::new() };
        [&*self.routing_key, &*pattern, &*self.queue].join(&transport.sep)
    }

    /// As `celery inspect active_queues` shows it.
    pub(super) fn shown(&self) -> Value {
        json!({
            "name": self.queue,
            "exchange": {
                "name": self.exchange,
                "type": self.kind,
                "arguments": null,
                "durable": true,
                "passive": false,
                "auto_delete": false,
                "delivery_mode": null,
                "no_declare": false,
            },
            "routing_key": self.routing_key,
            "queue_arguments": null,
            "binding_arguments": null,
            "consumer_arguments": null,
            "durable": true,
            "exclusive": false,
            "auto_delete": false,
            "no_ack": false,
            "alias": null,
            "bindings": [],
            "no_declare": null,
            "expires": null,
            "message_ttl": null,
            "max_length": null,
            "max_length_bytes": null,
            "max_priority": null,
        })
    }
}

/// The expression that kombu makes of a topic's key.
fn topic(key: &str) -> String {
    let words = key.split('.').map(|word| match word {
        "*" => "[^\\.]+".to_owned(),
        "#" => ".*?".to_owned(),
        word => fancy_regex::escape(word).into_owned(),
    });
    format!("^{}$", words.collect::<Vec<_>>().join("\\."))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tasks::events::testing::envelope;

    #[test]
    fn a_task_is_shown_with_the_keys_of_celery() {
        let mut message = envelope("wapp.sleeping", "fd38", "[[20], {}, {\"chain\": null}]");
        message.headers.argsrepr = Some("(20,)".into());
        message.headers.kwargsrepr = Some("{}".into());
        let mut held = Held {
            envelope: Arc::new(message),
            queue: "celery".into(),
            started: Some(1_795_573_092.25),
            pid: Some(30_614),
            acknowledged: true,
            eta: None,
        };
        let mut whole = json!({"id": "fd38", "name": "wapp.sleeping", "args": [20], "kwargs": {}, "type": "wapp.sleeping",
            "hostname": "w@h", "time_start": 1_795_573_092.25, "acknowledged": true, "delivery_info": {"exchange": "",
            "routing_key": "celery", "priority": 0, "redelivered": false}, "worker_pid": 30_614});
        assert_eq!(Tasks::new("w@h", false).of(&held), whole);
        (whole["args"], whole["kwargs"]) = ("(20,)".into(), "{}".into());
        assert_eq!(Tasks::new("w@h", true).of(&held), whole);
        held.eta = Some(1_795_573_692.332_511);
        let scheduled = Tasks::new("w@h", true).scheduled(&held);
        assert_eq!(scheduled, json!({"eta": "2026-11-25T02:28:12.332511+00:00", "priority": 6, "request": whole}));
    }

    #[test]
    fn large_arguments_do_not_make_an_answer_that_nobody_can_read() {
        let body = format!("[[\"{}\"], {{}}, {{}}]", "x".repeat(10_000));
        let mut message = envelope("a", "1", &body);
        message.headers.argsrepr = Some("('xxx...',)".into());
        message.headers.kwargsrepr = Some("{}".into());
        let held = Held {
            envelope: Arc::new(message),
            queue: "celery".into(),
            started: None,
            pid: None,
            acknowledged: false,
            eta: None,
        };
        let mut tasks = Tasks::new("w@h", false);
        let all = (0..2_000).map(|_| tasks.of(&held)).collect::<Vec<_>>();
        assert!(all[0]["args"].is_array());
        assert_eq!(all[1_999]["args"], "('xxx...',)");
        assert!(serde_json::to_vec(&all).unwrap().len() < 6_000_000);
    }

    #[test]
    fn bindings_are_written_as_kombu_writes_them() {
        let transport = Transport::default();
        assert_eq!(Binding::direct("celery").member(&transport), "celery\u{6}\u{16}\u{6}\u{16}celery");
        for (key, pattern) in [("feed.#", "^feed\\..*?$"), ("*.x", "^[^\\.]+\\.x$")] {
            let binding =
                Binding { queue: "t".into(), exchange: "e".into(), kind: "topic".into(), routing_key: key.into() };
            assert_eq!(binding.member(&transport), format!("{key}\u{6}\u{16}{pattern}\u{6}\u{16}t"));
        }
    }
}
