//! Ends of claims, many in one round trip.
//!
//! What ends while a round trip is under way goes with the next one: a worker that has little to do settles at once, and
//! one that has much settles in batches, without a clock. An end is told to the world when Redis has it. While Redis is
//! away ends are kept, and settled afterwards: settling twice does no harm.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::chain;
use crate::tasks::broker::{Broker, Fate, Settled};
use crate::tasks::results::Results;

/// Ends that go in one round trip.
const MOST: usize = 256;
/// Bytes of results and messages that go in one round trip, beyond the first end.
const BYTES: usize = 4 << 20;
/// Between two attempts while Redis is away.
const PAUSE: Duration = Duration::from_millis(200);
/// Attempts at an end alone that Redis refuses, before it is left to the lease.
const TRIES: u32 = 30;

/// What is handed over.
pub enum Item {
    /// A claim's end.
    End(Box<End>),
    /// Called when everything before it is settled.
    Flush(Box<dyn FnOnce() + Send>),
}

/// A claim's end, and what is to be told when Redis has it.
pub struct End {
    /// The end.
    pub settled: Settled,
    /// Called with whether the claim was still this worker's.
    pub then: Box<dyn FnOnce(bool) + Send>,
}

/// Takes ends.
#[derive(Clone)]
pub struct Settler(UnboundedSender<Item>);

impl Settler {
    /// Takes ends, and the other side of it, for [`run`].
    #[must_use]
    pub fn new() -> (Self, UnboundedReceiver<Item>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    /// An end. There are never more than claims, whose number is bounded.
    pub fn end(&self, settled: Settled, then: impl FnOnce(bool) + Send + 'static) {
        // Nobody listens any more once the worker has left: the lease is over by then.
        let _ = self.0.send(Item::End(Box::new(End { settled, then: Box::new(then) })));
    }

    /// Calls this when everything before it is settled.
    pub fn flush(&self, then: impl FnOnce() + Send + 'static) {
        let _ = self.0.send(Item::Flush(Box::new(then)));
    }
}

/// Settles until all senders are gone and everything is settled.
pub async fn run(broker: Broker, results: Results, worker: String, mut ends: UnboundedReceiver<Item>) {
    let mut next = None;
    let mut away = false;
    // Claims whose ends Redis refused: held, so that they do not begin anew at once, and end the same way.
    let mut refused = Vec::new();
    loop {
        let first = match next.take() {
            Some(item) => item,
            None => match ends.recv().await {
                Some(item) => item,
                None => return,
            },
        };
        let first = match first {
            Item::End(end) => end,
            Item::Flush(then) => {
                then();
                continue;
            }
        };
        let mut size = weight(&first.settled);
        let mut batch = vec![first];
        while batch.len() < MOST
            && let Ok(item) = ends.try_recv()
        {
            match item {
                Item::End(end) if size + weight(&end.settled) <= BYTES => {
                    size += weight(&end.settled);
                    batch.push(end);
                }
                item => {
                    next = Some(item);
                    break;
                }
            }
        }
        let mut tries = 0;
        let (settled, mut then): (Vec<Settled>, Vec<_>) = batch.into_iter().map(|end| (end.settled, end.then)).unzip();
        let mut settled = settled.as_slice();
        // All together, and one by one if Redis refuses: one of them must not hold up the others.
        let mut together = true;
        // An attempt that was not answered may have been done.
        let mut unanswered = false;
        while !settled.is_empty() {
            let part = if together { settled } else { &settled[..1] };
            match broker.settle(&worker, Some(&results), part).await {
                Ok(held) => {
                    if away {
                        tracing::info!("what ended while Redis was away is settled");
                        away = false;
                    }
                    let rest = then.split_off(part.len());
                    then.into_iter().zip(held).for_each(|(then, held)| then(held || unanswered));
                    (then, settled, tries) = (rest, &settled[part.len()..], 0);
                }
                Err(error) if error.is_unavailable() => {
                    if !away {
                        tracing::warn!(error = %chain(&error), "tasks have ended, and Redis is away; trying again");
                        away = true;
                    }
                    unanswered = true;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if together && settled.len() > 1 => {
                    tracing::warn!(error = %chain(&error), "Redis refused the ends of tasks; trying one by one");
                    together = false;
                }
                Err(error) => {
                    tries += 1;
                    if tries == 1 || tries == TRIES {
                        let claim = part[0].claim.as_str();
                        tracing::error!(claim, tries, error = %chain(&error), "Redis refused the end of a task");
                    }
                    if tries == TRIES {
                        // The claim is kept, and the task begins anew when this worker has left.
                        then.remove(0)(false);
                        refused.push(part[0].claim.clone());
                        (settled, tries) = (&settled[1..], 0);
                    } else {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }
}

fn weight(settled: &Settled) -> usize {
    let message = match &settled.fate {
        Fate::Ack | Fate::Followed | Fate::Replaced => 0,
        Fate::Requeue { raw, .. } | Fate::Park { raw, .. } | Fate::Dead { raw, .. } | Fate::Hold { raw, .. } => {
            raw.len()
        }
    };
    message
        + settled.line.as_ref().map_or(0, String::len)
        + settled.stored.as_ref().map_or(0, |write| write.value.len())
}
