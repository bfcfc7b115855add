//! Follows the events of all workers, ours and others', as Flower and `celery events` do.

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::line::channel;
use super::{Feed, Told};
use crate::redis::Heard;
use crate::tasks::broker::Broker;
use crate::tasks::wire::Notice;

/// The largest message that is read, in bytes.
const LARGEST: usize = 16 * 1024 * 1024;

impl Feed {
    /// Tells what the workers publish at this Redis, until `stop`; not what the node `but` says, which is heard here
    /// already. Stock workers tell of tasks only after they were asked to: `enable_events` of [`crate::tasks::control::Remote`].
    pub async fn listen(&self, broker: &Broker, but: Option<&str>, stop: CancellationToken) {
        // Everything that stands in a pattern for more than itself is in the last character.
        let all = escaped(&channel(broker, &broker.transport().event_exchange, "")) + "/*";
        let mut subscription = broker.client().subscribe(&[], &[&all]);
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return,
                heard = subscription.next() => heard,
            };
            if let Heard::Message { payload, .. } = heard {
                for one in told(&payload, but) {
                    self.tell(one);
                }
            }
        }
    }
}

/// The text as a pattern that matches nothing else.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for ch in text.chars() {
        if matches!(ch, '*' | '?' | '[' | ']' | '\\' | '^') {
            out.push('\\');
        }
        out.push(ch);
    }
    out
}

/// The events of a message: one, or a list of them.
fn told(raw: &[u8], but: Option<&str>) -> Vec<Told> {
    let events = match Notice::read(raw, LARGEST) {
        Some((_, Value::Array(events))) => events,
        Some((_, one)) => vec![one],
        None => return Vec::new(),
    };
    let events = events.into_iter().filter_map(|event| {
        let kind = event.get("type")?.as_str()?.to_owned();
        let node = event.get("hostname")?.as_str()?;
        if Some(node) == but {
            return None;
        }
        Some(Told { kind: kind.into(), node: node.into(), json: event.to_string().into() })
    });
    events.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn lists_and_single_events_are_heard_and_nothing_else() {
        let seal = |body: Value| {
            let body = body.to_string();
            Notice { body: &body, headers: Map::new(), exchange: "celeryev", routing_key: "x" }.message()
        };
        let one = json!({"type": "worker-online", "hostname": "w@h", "freq": 2.0});
        let heard = told(&seal(one.clone()), None);
        assert_eq!(
            (heard.len(), &*heard[0].kind, &*heard[0].node, heard[0].fields()),
            (1, "worker-online", "w@h", one.clone())
        );
        let mine = json!({"type": "task-started", "hostname": "me@h", "uuid": "1"});
        let list = seal(json!([one, mine, 3, {"type": "x"}, {"hostname": "w@h"}, null]));
        assert_eq!(told(&list, Some("me@h")).len(), 1);
        assert_eq!(told(&list, None).len(), 2);
        assert!(told(b"no message", None).is_empty());
        assert!(told(&seal(json!(null)), None).is_empty());
    }

    #[test]
    fn a_prefix_with_a_patterns_characters_matches_itself_only() {
        assert_eq!(escaped("{app}[1]*:/0.celeryev"), "{app}\\[1\\]\\*:/0.celeryev");
    }
}
