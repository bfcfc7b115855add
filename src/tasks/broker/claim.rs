//! A worker takes messages, and keeps them by giving signs of life.

use std::sync::Arc;

use bytes::Bytes;

use super::unique::Place;
use super::{Broker, CALL, List};
use crate::redis::{self, Script, Value};
use crate::tasks::Error;
use crate::tasks::wire;

/// The most messages that one call takes.
const MOST: usize = 500;
/// What a redelivered message has in it somewhere, as Python and as compact writers have it.
const MARKS: [&[u8]; 2] = [b"\"redelivered\": true", b"\"redelivered\":true"];

/// A claim: a message that a worker has. Whoever lets go of the last copy before the claim has ended gives the message
/// back ([`Broker::renew`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimId {
    pub(super) id: Arc<str>,
    /// Where the task's losses are counted, if there are any.
    pub(super) attempts: Option<Arc<str>>,
    /// The place that it frees when it ends.
    pub(super) place: Option<Place>,
}

impl ClaimId {
    /// Its name in `unacked`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The claim, for [`Broker::settle`].
    pub claim: ClaimId,
    /// The queue that it came from.
    pub queue: Arc<str>,
    /// As it came.
    pub raw: Bytes,
    /// How often it was lost with a worker or process before.
    pub attempts_before: u32,
}

/// Takes messages and registers them in one step. KEYS: unacked_index, unacked, the worker's claims, workers, paused
/// queues, then lists in the order of preference. ARGV: worker, how many, number of the first claim, then for each list
/// its queue and what follows the message in `unacked`. Answers with a list's index and a message in turn.
///
/// The worker counts as alive from here on: else it could die between its first claim and its first heartbeat, and nobody
/// would look for its claims. That is also the first write, which fails when Redis's memory is full: nothing has been
/// taken then. A key of another type is passed over; an error in the middle would lose what was taken.
static CLAIM: Script = Script::new(
    "local time = redis.call('TIME')
-- Whole seconds: small sets keep them as numbers, where fractions would be read as text at each comparison.
local score = time[1]
local most, first, taken = tonumber(ARGV[2]), tonumber(ARGV[3]), 0
redis.call('ZADD', KEYS[4], 'GT', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
local paused = redis.call('EXISTS', KEYS[5]) == 1
local answer, index, fields, claims = {}, {}, {}, {}
for i = 6, #KEYS do
  if taken >= most then break end
  local list = i - 6
  if not (paused and redis.call('SISMEMBER', KEYS[5], ARGV[4 + 2 * list]) == 1) then
    local got = redis.pcall('RPOP', KEYS[i], most - taken)
    if type(got) == 'table' and not got.err then
      local tail = ARGV[5 + 2 * list]
      for _, raw in ipairs(got) do
        local claim = ARGV[1] .. ':' .. string.format('%.0f', first + taken)
        taken = taken + 1
        answer[2 * taken - 1], answer[2 * taken] = list, raw
        index[2 * taken - 1], index[2 * taken] = score, claim
        fields[2 * taken - 1], fields[2 * taken] = claim, '[' .. raw .. tail
        claims[taken] = claim
      end
    end
  end
end
if taken > 0 then
  redis.call('ZADD', KEYS[1], unpack(index))
  redis.call('HSET', KEYS[2], unpack(fields))
  redis.call('SADD', KEYS[3], unpack(claims))
end
return answer",
);

/// A sign of life. KEYS: workers, what is known of the worker, its claims, unacked_index. ARGV: worker, what is known of
/// it, for how long.
static RENEW: Script = Script::new(
    "local time = redis.call('TIME')
-- Whole seconds: small sets keep them as numbers, where fractions would be read as text at each comparison.
local score = time[1]
redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
local claims = redis.call('SMEMBERS', KEYS[3])
for from = 1, #claims, 1000 do
  local index = {}
  for i = from, math.min(from + 999, #claims) do
    index[#index + 1] = score
    index[#index + 1] = claims[i]
  end
  redis.call('ZADD', KEYS[4], 'XX', unpack(index))
end
return #claims",
);

/// How long what is known of a worker outlives its last sign of life, in milliseconds.
const KNOWN: i64 = 30_000;

impl Broker {
    /// Takes up to `most` messages from these lists, the first ones first, and registers them as this worker's. Lists of
    /// paused queues are passed over.
    ///
    /// # Errors
    /// Redis is away or refused. After a timeout messages may be claimed that nobody knows of: [`Broker::renew`] gives
    /// them back.
    pub async fn claim(&self, worker: &str, lists: &[Arc<List>], most: usize) -> Result<Vec<Claimed>, Error> {
        let most = most.min(MOST);
        if most == 0 || lists.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.numbers(most);
        let mut keys: Vec<Value> = ["unacked_index", "unacked"].iter().map(|name| self.key(name).into()).collect();
        keys.push(self.claims_key(worker).into());
        keys.extend(["beacon:workers", "beacon:paused"].iter().map(|name| Value::from(self.key(name))));
        keys.extend(lists.iter().map(|list| Value::from(list.key.as_str())));
        let mut arguments = Vec::with_capacity(3 + 2 * lists.len());
        arguments.extend([Value::from(worker), Value::from(most as i64), Value::from(first as i64)]);
        for list in lists {
            arguments.extend([Value::from(&*list.queue), Value::from(list.tail.as_str())]);
        }
        let asked = self.asking(first);
        let answer = redis::list(self.client().eval(&CLAIM, keys, arguments, CALL).await?);
        let mut claimed = Vec::with_capacity(answer.len() / 2);
        let mut answer = answer.into_iter();
        while let (Some(list), Some(raw)) = (answer.next(), answer.next()) {
            let list = redis::integer(&list).and_then(|list| lists.get(list as usize)).ok_or(Error::Answer("claim"))?;
            let raw = redis::bytes(raw).ok_or(Error::Answer("claim"))?;
            let id = format!("{worker}:{}", first + claimed.len() as u64).into();
            claimed.push(Claimed {
                claim: ClaimId { id, attempts: None, place: self.place_of(&raw) },
                queue: list.queue.clone(),
                raw,
                attempts_before: 0,
            });
        }
        asked.answered(&claimed);
        self.find_places(&mut claimed).await;
        self.count_attempts(&mut claimed).await?;
        Ok(claimed)
    }

    /// Looks up how often those that were delivered before were lost. Hardly any was, so this hardly ever asks Redis.
    async fn count_attempts(&self, claimed: &mut [Claimed]) -> Result<(), Error> {
        let mut again = Vec::new();
        for (index, one) in claimed.iter().enumerate() {
            if MARKS.iter().any(|mark| memchr::memmem::find(&one.raw, mark).is_some())
                && let Some(id) = wire::id_of(&one.raw)
            {
                again.push((index, self.attempts_key(&id)));
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        let keys = again.iter().map(|(_, key)| Value::from(key.as_str())).collect();
        let counts = match self.client().command("MGET", keys, CALL).await {
            Ok(counts) => redis::list(counts),
            // They are claimed: without a count is better than without the messages.
            Err(error) => {
                tracing::warn!(%error, "how often tasks were lost before is not known");
                return Ok(());
            }
        };
        for ((index, key), count) in again.into_iter().zip(counts) {
            if let Some(count) = redis::integer(&count).filter(|count| *count > 0) {
                claimed[index].attempts_before = count as u32;
                claimed[index].claim.attempts = Some(key.into());
            }
        }
        Ok(())
    }

    pub(super) fn attempts_key(&self, id: &str) -> String {
        self.key(&format!("beacon:attempts:{id}"))
    }

    /// A sign of life, at least every 2 s: keeps the worker and all that it has claimed. `info` is what people see of it,
    /// as JSON. What is claimed in its name and held by nobody in this process goes back. Gives how many claims there are.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn renew(&self, worker: &str, info: &str) -> Result<usize, Error> {
        // First, since they would be kept.
        let strays = self.give_strays_back(worker).await?;
        if strays > 0 {
            tracing::warn!(worker, strays, "messages were claimed that nobody has; they are in their queues again");
        }
        let keys = vec![
            self.key("beacon:workers").into(),
            self.key(&format!("beacon:worker:{worker}")).into(),
            self.claims_key(worker).into(),
            self.key("unacked_index").into(),
        ];
        let arguments = vec![Value::from(worker), Value::from(info), Value::from(KNOWN)];
        let answer = self.client().eval(&RENEW, keys, arguments, CALL).await?;
        redis::integer(&answer).map(|claims| claims as usize).ok_or(Error::Answer("renew"))
    }
}
