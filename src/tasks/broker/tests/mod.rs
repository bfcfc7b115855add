//! Every script against a real Redis: what is where after each step, and after a crash between two of them.

mod claims;
mod queues;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::*;
use crate::redis::Value;
use crate::tasks::results::Write;
use crate::tasks::server::{Server, ask, until};
use crate::tasks::wire::{self, Envelope, Limits};

fn message(id: &str) -> Bytes {
    wire::Task { task: "t", id, origin: "test", routing_key: "celery", ..wire::Task::default() }.message()
}

async fn put(broker: &Broker, queue: &str, priority: u8, id: &str) {
    broker.publish(&[Publish { queue, priority, raw: message(id), queue_expires: None }]).await.unwrap();
}

fn ids(claimed: &[Claimed]) -> Vec<String> {
    claimed.iter().map(|one| wire::id_of(&one.raw).unwrap_or_default()).collect()
}

fn settled(claim: &Claimed, fate: Fate) -> Settled {
    Settled { claim: claim.claim.clone(), stored: None, fate, line: None }
}

fn requeue(claim: &Claimed, head: bool) -> Settled {
    let (raw, queue) = (claim.raw.clone(), claim.queue.clone());
    settled(claim, Fate::Requeue { raw, queue, priority: 0, head, redelivered: true, lost: None })
}

fn park(claim: &Claimed, id: &str, until_ms: i64) -> Settled {
    let (raw, queue) = (claim.raw.clone(), claim.queue.clone());
    let fate = Fate::Park { raw, queue, priority: 0, id: id.into(), until_ms, node: "w@h".into(), why: Why::Eta };
    settled(claim, fate)
}

/// Nothing of any claim is left.
async fn assert_no_claims(broker: &Broker, worker: &str) {
    for name in ["unacked", "unacked_index", &format!("beacon:claims:{worker}")] {
        assert_eq!(ask(broker.client(), "EXISTS", &[&broker.key(name)]).await, "0", "{name}");
    }
}

/// Makes a worker look as if it had been silent for so long.
async fn silence(broker: &Broker, worker: &str, ms: i64) {
    let now = (wire::now() * 1e3) as i64 - ms;
    ask(broker.client(), "ZADD", &["beacon:workers", &now.to_string(), worker]).await;
}
