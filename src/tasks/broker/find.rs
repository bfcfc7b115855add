//! Where a task is, for people who ask: put aside, with a worker, or ended a while ago.

use bytes::Bytes;
use serde_json::Value as Json;

use super::park::{Parked, unpacked};
use super::{Broker, CALL};
use crate::redis::{self, Value};
use crate::tasks::Error;
use crate::tasks::wire::{self, Envelope, Limits};

/// A message that a worker has, ours or a stock one.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The claim's name in `unacked`: of our workers `<worker>:<number>`, of stock ones the delivery tag.
    pub claim: String,
    /// The queue that it came from.
    pub queue: String,
    /// The last sign of life of its worker; of stock workers, when it was taken. In seconds since 1970.
    pub seen: f64,
    /// The message.
    pub envelope: Envelope,
}

impl Taken {
    /// The node name of our worker that has it; `None` for stock workers, which leave no name.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        let (worker, _) = self.claim.rsplit_once(':')?;
        worker.rsplit_once('#').map(|(node, _)| node)
    }
}

impl Broker {
    /// The message of a task that waits for its time.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn parked_of(&self, id: &str) -> Result<Option<Parked>, Error> {
        let commands = vec![
            ("ZSCORE", vec![Value::from(self.key("beacon:eta")), id.into()]),
            ("HGET", vec![Value::from(self.key("beacon:eta:messages")), id.into()]),
        ];
        let mut answers = self.client().batch(commands, CALL).await.into_iter();
        let mut next = || answers.next().ok_or(Error::Answer("ZSCORE"));
        let (until, message) = (redis::float(&next()??), redis::bytes(next()??));
        Ok(until.zip(message).and_then(|(until, message)| unpacked(&message, until as i64)))
    }

    /// Messages that workers have, those taken first before the others: so many at most. What is no message is left out.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn taken(&self, most: usize) -> Result<Vec<Taken>, Error> {
        const BATCH: usize = 500;

        let range = vec![self.key("unacked_index").into(), 0.into(), (most as i64 - 1).into(), "WITHSCORES".into()];
        if most == 0 {
            return Ok(Vec::new());
        }
        let members = redis::list(self.client().command("ZRANGE", range, CALL).await?);
        // RESP3 has pairs where RESP2 has a flat list.
        let members: Vec<Value> = members.into_iter().flat_map(redis::list).collect();
        let mut taken = Vec::with_capacity(members.len() / 2);
        for batch in members.chunks(2 * BATCH) {
            let mut arguments = vec![Value::from(self.key("unacked"))];
            arguments.extend(batch.iter().step_by(2).cloned());
            let values = redis::list(self.client().command("HMGET", arguments, CALL).await?);
            taken.extend(batch.chunks(2).zip(values).filter_map(|(member, value)| {
                let [claim, seen] = member else { return None };
                read(redis::text(claim.clone())?, redis::float(seen)?, &redis::bytes(value)?)
            }));
        }
        Ok(taken)
    }

    /// Takes a message out of the list that it lies in, before anybody has claimed it. Whether it was still there.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn withdraw(&self, list: &str, raw: &Bytes) -> Result<bool, Error> {
        let arguments = vec![Value::from(list), 1.into(), Value::Bytes(raw.clone())];
        let removed = redis::integer(&self.client().command("LREM", arguments, CALL).await?) == Some(1);
        if removed {
            self.free_places(std::iter::once(raw)).await?;
        }
        Ok(removed)
    }

    /// Tasks that ended last, as their workers told of them, the latest first: so many at most, after so many.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn recent(&self, from: usize, most: usize) -> Result<Vec<Json>, Error> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let (first, last) = (from as i64, from.saturating_add(most).saturating_sub(1) as i64);
        let range = vec![self.key("beacon:recent").into(), first.into(), last.into()];
        let told = redis::list(self.client().command("LRANGE", range, CALL).await?);
        let told = told.into_iter().filter_map(redis::bytes);
        Ok(told.filter_map(|one| serde_json::from_slice(&one).ok()).collect())
    }
}

/// A value of `unacked`: the message, its exchange, its queue.
fn read(claim: String, seen: f64, value: &Bytes) -> Option<Taken> {
    let parts = wire::parts_of(value)?;
    let [message, _, queue] = &parts[..] else { return None };
    let envelope = Envelope::parse(value.slice(message.clone()), &Limits::new(usize::MAX)).ok()?;
    let queue = serde_json::from_slice(value.get(queue.clone())?).ok()?;
    Some(Taken { claim, queue, seen, envelope })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_with_its_worker_and_its_queue() {
        let raw = wire::Task { task: "a.b", id: "i1", routing_key: "q", ..wire::Task::default() }.message();
        let mut value = b"[".to_vec();
        value.extend_from_slice(&raw);
        value.extend_from_slice(b", \"\", \"q\"]");
        let taken = read("w@h#0b1c:17".into(), 12.5, &value.clone().into()).unwrap();
        assert_eq!((taken.node(), taken.queue.as_str(), taken.envelope.headers.id.as_str()), (Some("w@h"), "q", "i1"));
        assert_eq!(taken.envelope.raw, raw);
        assert_eq!(read("b73c550b-b2d2".into(), 1.0, &value.into()).unwrap().node(), None);
        for bad in ["", "[]", "[1, 2, 3]", "{}"] {
            assert!(read("c".into(), 0.0, &Bytes::from(bad)).is_none(), "{bad}");
        }
    }
}
