//! Putting a batch of rows on their queues, each once.
//!
//! A row that was sent is deleted in PostgreSQL, which may fail; so Redis remembers each row that it has from the script
//! that takes it until the deletion is known to be done. And a relay that was slow must not send what another has sent
//! meanwhile: each relay makes itself known in Redis *after* it has the lock in PostgreSQL and *before* it reads rows, and
//! the script refuses every other one.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::redis::{Script, Value, integer, list};
use crate::tasks::Error;
use crate::tasks::broker::Broker;

/// How long an answer of Redis is waited for.
const WITHIN: Duration = Duration::from_secs(5);

/// How long Redis remembers a row whose deletion it was not told of, in seconds: PostgreSQL may be away for as long.
const REMEMBERED: i64 = 7 * 86_400;

/// Takes messages that are not known yet. KEYS: the relay, the rows that were taken, then lists, idempotency and unique
/// keys as the arguments number them. ARGV: the relay, how long rows are remembered, how many deleted ones to forget and
/// these, then for each row: its id, the message, its list, its idempotency key or 0, its unique key or 0 and for how
/// many milliseconds. Answers 1 for each row that was taken, 0 for one that was here before, 2 for one whose key stands
/// for another task; or nothing, if another relay is at work.
static TAKE: Script = Script::new(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {} end
     local time = redis.call('TIME')
     redis.call('EXPIRE', KEYS[1], ARGV[2])
     local at = 4 + ARGV[3]
     for place = 4, at - 1 do redis.call('ZREM', KEYS[2], ARGV[place]) end
     redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', time[1] - ARGV[2])
     local answers = {}
     for row = at, #ARGV, 6 do
         local id, answer = ARGV[row], 1
         if redis.call('ZADD', KEYS[2], 'NX', time[1], id) == 0 then
             answer = 0
         else
             local idempotent, unique = tonumber(ARGV[row + 3]), tonumber(ARGV[row + 4])
             local there = idempotent > 0 and redis.call('GET', KEYS[idempotent])
             if not there and unique > 0 then
                 there = redis.call('GET', KEYS[unique])
                 if not there then redis.call('SET', KEYS[unique], id, 'PX', ARGV[row + 5]) end
             end
             if idempotent > 0 then redis.call('SET', KEYS[idempotent], there or id, 'EX', 86400) end
             if there then answer = 2 end
             if answer == 1 then redis.call('LPUSH', KEYS[tonumber(ARGV[row + 2])], ARGV[row + 1]) end
         end
         answers[#answers + 1] = answer
     end
     redis.call('EXPIRE', KEYS[2], ARGV[2])
     return answers",
);

/// A row's message, ready to be put on a list.
pub(super) struct Message {
    pub(super) id: Uuid,
    pub(super) raw: Bytes,
    /// The list's whole name.
    pub(super) list: String,
    /// The whole names of the keys.
    pub(super) idempotency: Option<String>,
    pub(super) unique: Option<(String, Duration)>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is on its list now.
    Now,
    /// It was sent before, by a relay that could not delete its row.
    Before,
    /// Its key stands for another task: it is not sent.
    Duplicate,
}

/// The way of one database's rows to Redis.
pub(super) struct Pass {
    broker: Broker,
    /// Who we are.
    relay: String,
    identity: String,
}

impl Pass {
    pub(super) fn new(broker: Broker, identity: String) -> Self {
        Self { broker, relay: Uuid::new_v4().to_string(), identity }
    }

    fn key(&self, name: &str) -> Value {
        Value::from(self.broker.key(&format!("beacon:outbox:{}:{name}", self.identity)))
    }

    /// Makes us the relay. The lock in PostgreSQL is ours.
    pub(super) async fn announce(&self) -> Result<(), Error> {
        let arguments = vec![
            self.key("relay"),
            Value::from(self.relay.as_str()),
            Value::from("EX"),
            Value::from(REMEMBERED.to_string()),
        ];
        self.broker.client().command("SET", arguments, WITHIN).await?;
        Ok(())
    }

    /// Puts messages on their lists in this order; `deleted` need not be remembered any more. `None` if another relay
    /// has made itself known since.
    pub(super) async fn take(&self, messages: &[Message], deleted: &[Uuid]) -> Result<Option<Vec<Taken>>, Error> {
        let mut keys = Keys(vec![self.key("relay"), self.key("taken")]);
        let mut arguments = vec![
            Value::from(self.relay.as_str()),
            Value::from(REMEMBERED.to_string()),
            Value::from(deleted.len().to_string()),
        ];
        arguments.extend(deleted.iter().map(|id| Value::from(id.to_string())));
        let (mut lists, mut last) = (std::collections::HashMap::new(), (String::new(), 0));
        for message in messages {
            if last.0 != message.list {
                let place = *lists.entry(message.list.clone()).or_insert_with(|| keys.add(&message.list));
                last = (message.list.clone(), place);
            }
            let idempotent = message.idempotency.as_deref().map_or(0, |key| keys.add(key));
            let (unique, lasts) = message.unique.as_ref().map_or((0, 0), |(key, lasts)| {
                (keys.add(key), lasts.as_millis().clamp(1, u128::from(u32::MAX) * 1_000))
            });
            arguments.extend([
                Value::from(message.id.to_string()),
                Value::Bytes(message.raw.clone()),
                Value::from(last.1.to_string()),
                Value::from(idempotent.to_string()),
                Value::from(unique.to_string()),
                Value::from(lasts.to_string()),
            ]);
        }
        let answers = list(self.broker.client().eval(&TAKE, keys.0, arguments, WITHIN).await?);
        if answers.is_empty() {
            return Ok(None);
        }
        let taken: Option<Vec<Taken>> = answers
            .iter()
            .map(|answer| match integer(answer) {
                Some(1) => Some(Taken::Now),
                Some(0) => Some(Taken::Before),
                Some(2) => Some(Taken::Duplicate),
                _ => None,
            })
            .collect();
        match taken {
            Some(taken) if taken.len() == messages.len() => Ok(Some(taken)),
            _ => Err(Error::Answer("rows of the outbox")),
        }
    }
}

/// Keys by their number in the script.
struct Keys(Vec<Value>);

impl Keys {
    fn add(&mut self, key: &str) -> usize {
        self.0.push(Value::from(key));
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::server::{Server, ask};

    fn message(number: u8) -> Message {
        Message {
            id: Uuid::from_u128(number.into()),
            raw: Bytes::from(vec![b'a' + number]),
            list: format!("q{}", number % 2),
            idempotency: None,
            unique: None,
        }
    }

    #[tokio::test]
    async fn a_relay_that_another_has_replaced_sends_nothing() {
        let server = Server::start();
        let broker = server.broker().await;
        let relay = || Pass::new(broker.clone(), "here:1".into());
        let (slow, quick) = (relay(), relay());
        assert_eq!(slow.take(&[message(0)], &[]).await.unwrap(), None, "nobody knows it yet");
        slow.announce().await.unwrap();
        // It has read rows, and sleeps. Its session ends, another takes over and is done with these rows.
        quick.announce().await.unwrap();
        let batch = [message(0), message(1), message(2)];
        assert_eq!(quick.take(&batch, &[]).await.unwrap(), Some(vec![Taken::Now; 3]));
        let deleted: Vec<Uuid> = batch.iter().map(|message| message.id).collect();
        assert_eq!(quick.take(&[message(3)], &deleted).await.unwrap(), Some(vec![Taken::Now]));
        assert_eq!(slow.take(&batch, &[]).await.unwrap(), None);
        assert_eq!(ask(broker.client(), "LRANGE", &["q0", "0", "-1"]).await, "c,a");
        assert_eq!(ask(broker.client(), "LRANGE", &["q1", "0", "-1"]).await, "d,b");
        // Back again with the lock, it goes on where the other was: what was sent and not deleted is known.
        slow.announce().await.unwrap();
        let answer = slow.take(&[message(3), message(5)], &[]).await.unwrap();
        assert_eq!(answer, Some(vec![Taken::Before, Taken::Now]));
        assert_eq!(ask(broker.client(), "ZCARD", &["beacon:outbox:here:1:taken"]).await, "2");
        let elsewhere = Pass::new(broker.clone(), "here:2".into());
        elsewhere.announce().await.unwrap();
        assert_eq!(slow.take(&[message(7)], &[]).await.unwrap(), Some(vec![Taken::Now]), "another database's relay");
    }
}
