//! Messages that wait for their time, outside their queue and outside every worker's memory: a sorted set by time, and a
//! hash with the messages. Whichever worker is there when a time has come puts the message at the head of its queue.

use std::time::Duration;

use bytes::Bytes;

use super::{Broker, CALL};
use crate::redis::{self, Script, Value};
use crate::tasks::Error;
use crate::tasks::wire::{Envelope, Limits};

/// The most messages that are put back in one step.
const BATCH: i64 = 500;
/// How many messages of one task may wait at once so that all are found by its identifier.
const SAME: usize = 8;

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its own time.
    Eta,
    /// A rate limit.
    Rate,
    /// The pause before another try.
    Retry,
}

/// A message that waits.
#[derive(Clone, Debug)]
pub struct Parked {
    /// The task's identifier.
    pub id: String,
    /// Until when, in milliseconds since 1970.
    pub until_ms: i64,
    /// The queue that it goes back to.
    pub queue: String,
    /// The node that put it aside.
    pub node: String,
    /// What it waits for.
    pub why: Why,
    /// The message.
    pub raw: Bytes,
}

impl Parked {
    /// The message, read.
    #[must_use]
    pub fn envelope(&self) -> Option<Envelope> {
        Envelope::parse(self.raw.clone(), &Limits::new(usize::MAX)).ok()
    }
}

/// Takes the parts that the scripts need from a packed message: the list it goes back to, and the message.
macro_rules! unpacked {
    () => {
        "local function unpacked(value)
  local list, at = nil, 1
  for _ = 1, 5 do
    local length, from = string.match(value, '^(%d+):()', at)
    if not list then list = string.sub(value, from, from + length - 1) end
    at = from + length
  end
  return list, string.sub(value, at)
end
"
    };
}

/// KEYS: parked, their messages. ARGV: how many at most. Those whose time came first are pushed last, and run first.
static RELEASE: Script = Script::new(concat!(
    unpacked!(),
    "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for i = #due, 1, -1 do
  local value = redis.call('HGET', KEYS[2], due[i])
  redis.call('ZREM', KEYS[1], due[i])
  redis.call('HDEL', KEYS[2], due[i])
  if value then
    local list, raw = unpacked(value)
    redis.call('RPUSH', list, raw)
  end
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {#due, next[2] and math.max(0, tonumber(next[2]) - now) or -1}"
));

/// KEYS: parked, their messages. ARGV: '1' to put them at the heads of their queues, then members. Answers with the
/// messages.
static TAKE: Script = Script::new(concat!(
    unpacked!(),
    "local answer = {}
for i = 2, #ARGV do
  local value = redis.call('HGET', KEYS[2], ARGV[i])
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 and value then
    local list, raw = unpacked(value)
    if ARGV[1] == '1' then redis.call('RPUSH', list, raw) end
    answer[#answer + 1] = raw
  end
  redis.call('HDEL', KEYS[2], ARGV[i])
end
return answer"
));

impl Why {
    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eta => "eta",
            Self::Rate => "rate",
            Self::Retry => "retry",
        }
    }
}

/// What is stored of a parked message: each part with its length in front, and the message.
pub(super) fn packed(list: &str, queue: &str, node: &str, why: Why, id: &str, raw: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(raw.len() + list.len() + queue.len() + node.len() + id.len() + 32);
    for part in [list, queue, node, why.as_str(), id] {
        out.extend_from_slice(part.len().to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(raw);
    out.into()
}

pub(super) fn unpacked(value: &Bytes, until_ms: i64) -> Option<Parked> {
    let mut at = 0;
    let mut part = || {
        let colon = at + memchr::memchr(b':', &value[at..])?;
        let length: usize = std::str::from_utf8(&value[at..colon]).ok()?.parse().ok()?;
        at = colon + 1 + length;
        Some(String::from_utf8_lossy(value.get(colon + 1..at)?).into_owned())
    };
    let (_list, queue, node, why, id) = (part()?, part()?, part()?, part()?, part()?);
    let why = match why.as_str() {
        "rate" => Why::Rate,
        "retry" => Why::Retry,
        _ => Why::Eta,
    };
    Some(Parked { id, until_ms, queue, node, why, raw: value.slice(at..) })
}

impl Broker {
    fn parked_keys(&self) -> Vec<Value> {
        vec![self.key("beacon:eta").into(), self.key("beacon:eta:messages").into()]
    }

    /// Puts what is due at the head of its queue. Gives the time to the next one, if there is one: 0 if more is due.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn release_due(&self) -> Result<Option<Duration>, Error> {
        let answer = self.client().eval(&RELEASE, self.parked_keys(), vec![BATCH.into()], CALL).await?;
        let answer: Vec<i64> = redis::list(answer).iter().filter_map(redis::integer).collect();
        match answer[..] {
            [_, next] => Ok((next >= 0).then(|| Duration::from_millis(next as u64))),
            _ => Err(Error::Answer("release")),
        }
    }

    /// Messages that wait, the next ones first, so many at most.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn parked(&self, most: usize) -> Result<Vec<Parked>, Error> {
        let [set, messages] = [self.key("beacon:eta"), self.key("beacon:eta:messages")].map(Value::from);
        if most == 0 {
            return Ok(Vec::new());
        }
        let range = vec![set, 0.into(), (most as i64 - 1).into(), "WITHSCORES".into()];
        let members = redis::list(self.client().command("ZRANGE", range, CALL).await?);
        // RESP3 has pairs where RESP2 has a flat list.
        let members: Vec<Value> = members.into_iter().flat_map(redis::list).collect();
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec![messages];
        arguments.extend(members.iter().step_by(2).cloned());
        let values = redis::list(self.client().command("HMGET", arguments, CALL).await?);
        let times = members.iter().skip(1).step_by(2).map(|score| redis::float(score).unwrap_or_default() as i64);
        Ok(values.into_iter().zip(times).filter_map(|(value, until)| unpacked(&redis::bytes(value)?, until)).collect())
    }

    /// How many messages wait.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn parked_count(&self) -> Result<usize, Error> {
        let answer = self.client().command("ZCARD", vec![self.key("beacon:eta").into()], CALL).await?;
        redis::integer(&answer).map(|count| count as usize).ok_or(Error::Answer("ZCARD"))
    }

    /// Puts the messages of these tasks at the heads of their queues before their time. Gives how many.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn unpark(&self, ids: &[String]) -> Result<usize, Error> {
        Ok(self.take_parked(ids, true).await?.len())
    }

    /// Removes the messages of these tasks, and gives them.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn forget_parked(&self, ids: &[String]) -> Result<Vec<Envelope>, Error> {
        let raws = self.take_parked(ids, false).await?;
        self.free_places(raws.iter()).await?;
        Ok(raws.into_iter().filter_map(|raw| Envelope::parse(raw, &Limits::new(usize::MAX)).ok()).collect())
    }

    async fn take_parked(&self, ids: &[String], back: bool) -> Result<Vec<Bytes>, Error> {
        let mut taken = Vec::new();
        for ids in ids.chunks(1_000) {
            let mut arguments = vec![Value::from(i64::from(back))];
            for id in ids {
                arguments.push(id.as_str().into());
                // Copies of the same task have a number behind it.
                arguments.extend((1..SAME).map(|copy| Value::from(format!("{id}\n{copy}"))));
            }
            let answer = self.client().eval(&TAKE, self.parked_keys(), arguments, CALL).await?;
            taken.extend(redis::list(answer).into_iter().filter_map(redis::bytes));
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_message_comes_back_whatever_its_names_are() {
        let value = packed("p:q\u{6}\u{16}3", "q:1", "w@h", Why::Rate, "i\n:5:", b"\xff{}");
        let parked = unpacked(&value, 12).unwrap();
        assert_eq!((parked.queue.as_str(), parked.node.as_str(), parked.id.as_str()), ("q:1", "w@h", "i\n:5:"));
        assert_eq!((parked.why, parked.until_ms, &parked.raw[..]), (Why::Rate, 12, &b"\xff{}"[..]));
        for bad in ["", "5:ab", "x:", "1:a1:b"] {
            assert!(unpacked(&Bytes::from(bad), 0).is_none(), "{bad}");
        }
    }
}
