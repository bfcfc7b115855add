//! What is revoked, as a copy of what Redis has: asked of Redis anew whenever somebody changes it or the line was cut,
//! and of Redis itself while the copy may be old.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::error::chain;
use crate::redis::Heard;
use crate::tasks::broker::Broker;
use crate::tasks::wire::Envelope;
use crate::tasks::wire::repr;

/// What changes in a burst is read once.
const BURST: Duration = Duration::from_millis(20);
/// Without news it is read again, since revocations end.
const QUIET: Duration = Duration::from_secs(30);

/// The copy.
#[derive(Debug, Default)]
pub struct Revocations(Mutex<Copy>);

#[derive(Debug, Default)]
struct Copy {
    fresh: bool,
    ids: HashSet<String>,
    stamps: BTreeMap<String, Vec<String>>,
}

impl Revocations {
    /// Which of these messages are revoked, in this order. Costs no round trip while the copy is fresh.
    pub async fn ask(&self, broker: &Broker, envelopes: &[&Envelope]) -> Vec<bool> {
        {
            let copy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if copy.fresh {
                let revoked = |envelope: &&Envelope| {
                    copy.ids.contains(&envelope.headers.id) || stamped(&copy.stamps, &envelope.headers.stamps)
                };
                return envelopes.iter().map(revoked).collect();
            }
        }
        let ids: Vec<&str> = envelopes.iter().map(|envelope| envelope.headers.id.as_str()).collect();
        let stamps = if envelopes.iter().any(|envelope| !envelope.headers.stamps.is_empty()) {
            broker.revoked_stamps().await.unwrap_or_default()
        } else {
            BTreeMap::new()
        };
        let revoked = match broker.is_revoked(&ids).await {
            Ok(revoked) => revoked,
            Err(error) => {
                // They are claimed; to let them lie would be worse than to run one that was revoked.
                tracing::warn!(error = %chain(&error), "it is not known which tasks are revoked");
                vec![false; ids.len()]
            }
        };
        let known = |(envelope, revoked): (&&Envelope, bool)| revoked || stamped(&stamps, &envelope.headers.stamps);
        envelopes.iter().zip(revoked).map(known).collect()
    }

    /// Keeps the copy, for ever.
    pub async fn keep(&self, broker: Broker) {
        let channel = broker.revoked_channel();
        let mut heard = broker.client().subscribe(&[&channel], &[]);
        // Whether Redis has confirmed that it tells us.
        let mut listening = false;
        loop {
            match tokio::time::timeout(QUIET, heard.next()).await {
                // Until it is read, Redis itself is asked.
                Ok(Heard::Message { .. }) => self.doubt(),
                Err(_) => {}
                Ok(Heard::Gap) => listening = false,
            }
            tokio::time::sleep(BURST).await;
            while let Ok(more) = tokio::time::timeout(Duration::ZERO, heard.next()).await {
                listening &= more != Heard::Gap;
            }
            if !listening {
                self.set(false, HashSet::new(), BTreeMap::new());
                listening = heard.add(&channel).await.is_ok();
            }
            // What changes from here on is heard.
            match (broker.revoked().await, broker.revoked_stamps().await) {
                (Ok(ids), Ok(stamps)) => self.set(listening, ids.into_iter().collect(), stamps),
                _ => self.set(false, HashSet::new(), BTreeMap::new()),
            }
        }
    }

    fn doubt(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fresh = false;
    }

    fn set(&self, fresh: bool, ids: HashSet<String>, stamps: BTreeMap<String, Vec<String>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Copy { fresh, ids, stamps };
    }
}

/// Whether one of a task's stamps, each a value or a list of them, has a revoked value.
pub fn stamped(revoked: &BTreeMap<String, Vec<String>>, stamps: &[(String, Value)]) -> bool {
    stamps.iter().any(|(name, value)| {
        revoked.get(name).is_some_and(|revoked| {
            let values = match value {
                Value::Array(values) => values.as_slice(),
                value => std::slice::from_ref(value),
            };
            values.iter().any(|value| match value {
                Value::String(text) => revoked.contains(text),
                other => revoked.contains(&repr::short(other)) || revoked.contains(&other.to_string()),
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stamps_are_compared_by_value() {
        let revoked = BTreeMap::from([("color".to_owned(), vec!["red".to_owned(), "3".to_owned()])]);
        for (stamps, expected) in [
            (vec![("color".to_owned(), json!("red"))], true),
            (vec![("color".to_owned(), json!(["blue", "red"]))], true),
            (vec![("color".to_owned(), json!(3))], true),
            (vec![("color".to_owned(), json!("blue")), ("other".to_owned(), json!("red"))], false),
            (vec![], false),
        ] {
            assert_eq!(stamped(&revoked, &stamps), expected, "{stamps:?}");
        }
    }
}
