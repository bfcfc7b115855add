//! What becomes of claims: acknowledged, given back, put aside, dead. One step with the results, which go first.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::dead;
use super::park::{Why, packed};
use super::{Broker, CALL, ClaimId};
use crate::redis::{self, Script, Value};
use crate::tasks::Error;
use crate::tasks::results::{Results, Write, store};
use crate::tasks::wire;

/// A claim's end.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The claim.
    pub claim: ClaimId,
    /// A result that is stored first.
    pub stored: Option<Write>,
    /// What becomes of the message.
    pub fate: Fate,
    /// A line for [`Broker::recent`], if the claim is still there: JSON.
    pub line: Option<String>,
}

/// What becomes of a message.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is done: a place that it has under a unique key is free again.
    Ack,
    /// It is done, and a message of the same task follows it (RETRY): its place is kept.
    Followed,
    /// It is done, and another task with its identifier stands for it, whose message does not name the key of the place:
    /// the place is kept and found by the identifier.
    Replaced,
    /// It goes to its queue again.
    Requeue {
        /// The message.
        raw: Bytes,
        /// The queue.
        queue: Arc<str>,
        /// 0 to 9.
        priority: u8,
        /// Next to run, or last of all.
        head: bool,
        /// Whether it counts as delivered: it gets the marks and a new delivery tag.
        redelivered: bool,
        /// The task's identifier, if it was lost with the process that ran it: counts as one more attempt.
        lost: Option<String>,
    },
    /// It waits for its time outside its queue.
    Park {
        /// The message.
        raw: Bytes,
        /// The queue.
        queue: Arc<str>,
        /// 0 to 9.
        priority: u8,
        /// The task's identifier.
        id: String,
        /// Until when, in milliseconds since 1970.
        until_ms: i64,
        /// The node that put it aside.
        node: Arc<str>,
        /// What it waits for.
        why: Why,
    },
    /// It cannot be worked on.
    Dead {
        /// The message.
        raw: Bytes,
        /// The queue.
        queue: Arc<str>,
        /// Why, in a sentence.
        reason: String,
        /// The task's identifier, if it has one.
        id: Option<String>,
        /// The task's name, if it has one.
        task: Option<String>,
    },
    /// It waits until a place of a shared limit is free: in the list `beacon:hold:<key>`, each element the list that it
    /// goes back to, a zero byte, and the message. If a place has become free since it was looked for, it goes to the
    /// head of its queue instead.
    Hold {
        /// The message.
        raw: Bytes,
        /// The queue.
        queue: Arc<str>,
        /// 0 to 9.
        priority: u8,
        /// The limit's key: its holders are the members of the sorted set `beacon:limit:<key>`, by the time in ms until
        /// which each holds its place. The key is remembered in the set `beacon:holds`.
        key: String,
        /// How many may hold a place.
        most: u32,
    },
}

/// KEYS: unacked_index, unacked, the worker's claims, parked, parked messages, dead, dead messages, holds, recent. ARGV:
/// results as in `store`, then for each claim its id, the key of its lost attempts or '', its unique key or '' and the
/// task that has it, its line of the recent ones or '', and a letter with what belongs to it.
/// Answers for each claim whether it was still there; if it was not, somebody else has the message, and nothing is done
/// with it.
static SETTLE: Script = Script::new(concat!(
    store!(),
    "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function free(messages, id)
  if redis.call('HEXISTS', messages, id) == 0 then return id end
  local n = 1
  while redis.call('HEXISTS', messages, id .. '\\n' .. n) == 1 do n = n + 1 end
  return id .. '\\n' .. n
end
local answer, gone, lines = {}, {}, {}
while at < #ARGV do
  local claim, attempts, place, id, line, fate = take(), take(), take(), take(), take(), take()
  local held = redis.call('ZREM', KEYS[1], claim) == 1
  gone[#gone + 1] = claim
  answer[#answer + 1] = held and 1 or 0
  if held and line ~= '' then lines[#lines + 1] = line end
  if held and (fate == 'a' or fate == 'f' or fate == 'r' or fate == 'd') then
    if attempts ~= '' then redis.call('DEL', attempts) end
    if place ~= '' and fate ~= 'f' and fate ~= 'r' and redis.call('GET', place) == id then redis.call('DEL', place) end
  end
  if fate == 'a' or fate == 'f' then
    -- That is all.
  elseif fate == 'r' then
    local of = take()
    if held and place ~= '' and redis.call('GET', place) == id then
      local left = redis.call('PTTL', place)
      if left > 0 then redis.call('SET', of, place, 'PX', left) end
    end
  elseif fate == 'h' or fate == 't' then
    local list, raw, lost = take(), take(), take()
    if held then
      redis.call(fate == 'h' and 'RPUSH' or 'LPUSH', list, raw)
      if lost ~= '' then
        redis.call('INCR', lost)
        redis.call('EXPIRE', lost, 86400)
      end
    end
  elseif fate == 'p' then
    local name, due, message = take(), take(), take()
    if held then
      name = free(KEYS[5], name)
      redis.call('ZADD', KEYS[4], due, name)
      redis.call('HSET', KEYS[5], name, message)
    end
  elseif fate == 'd' then
    local name, letter, raw = take(), take(), take()
    if held then
      name = free(KEYS[7], name)
      redis.call('ZADD', KEYS[6], now, name)
      redis.call('HSET', KEYS[7], name, string.gsub(letter, '@AT@', string.format('%.3f', now / 1000), 1) .. raw)
    end
  elseif fate == 'w' then
    local limit, hold, key, most, list, raw = take(), take(), take(), tonumber(take()), take(), take()
    if held then
      redis.call('ZREMRANGEBYSCORE', limit, '-inf', now)
      if redis.call('ZCARD', limit) < most then
        redis.call('RPUSH', list, raw)
      else
        redis.call('LPUSH', hold, list .. '\\0' .. raw)
        redis.call('SADD', KEYS[8], key)
      end
    end
  end
end
if #gone > 0 then
  redis.call('HDEL', KEYS[2], unpack(gone))
  redis.call('SREM', KEYS[3], unpack(gone))
end
if #lines > 0 then
  redis.call('LPUSH', KEYS[9], unpack(lines))
  redis.call('LTRIM', KEYS[9], 0, 999)
end
return answer"
));

impl Broker {
    /// Ends claims in one round trip: results first, then what becomes of the messages. Gives for each whether the claim
    /// was still there: if not, another worker has the message (this one was silent for too long), and only the result
    /// was stored. The same call may be made again after an error.
    ///
    /// # Errors
    /// Redis is away or refused. After a timeout it may have happened all the same.
    pub async fn settle(
        &self,
        worker: &str,
        results: Option<&Results>,
        settled: &[Settled],
    ) -> Result<Vec<bool>, Error> {
        if settled.is_empty() {
            return Ok(Vec::new());
        }
        let count = settled.iter().filter(|one| one.stored.is_some()).count();
        let writes = || settled.iter().filter_map(|one| one.stored.as_ref());
        let mut arguments = Vec::with_capacity(2 + 2 * count + 7 * settled.len());
        match results {
            Some(results) if results.client().sees_what(self.client()) => {
                results.arguments(writes(), count, &mut arguments);
            }
            Some(results) if count > 0 => {
                results.store(&writes().cloned().collect::<Vec<_>>()).await?;
                arguments.extend([Value::from(0), Value::from(0)]);
            }
            _ => arguments.extend([Value::from(0), Value::from(0)]),
        }
        for one in settled {
            self.end(one, &mut arguments);
        }
        let mut keys: Vec<Value> = vec![self.key("unacked_index").into(), self.key("unacked").into()];
        keys.push(self.claims_key(worker).into());
        keys.extend(
            [
                "beacon:eta",
                "beacon:eta:messages",
                "beacon:dead",
                "beacon:dead:messages",
                "beacon:holds",
                "beacon:recent",
            ]
            .iter()
            .map(|name| Value::from(self.key(name))),
        );
        let answer = redis::list(self.client().eval(&SETTLE, keys, arguments, CALL).await?);
        if answer.len() != settled.len() {
            return Err(Error::Answer("settle"));
        }
        Ok(answer.iter().map(|held| redis::integer(held) == Some(1)).collect())
    }

    fn end(&self, one: &Settled, arguments: &mut Vec<Value>) {
        let text = |text: &str| Value::from(text);
        arguments.push(text(&one.claim.id));
        arguments.push(text(one.claim.attempts.as_deref().unwrap_or_default()));
        let place = one.claim.place.as_ref().map_or(("", ""), |place| (&place.key, &place.id));
        arguments.extend([text(place.0), text(place.1), text(one.line.as_deref().unwrap_or_default())]);
        match &one.fate {
            Fate::Ack => arguments.push(text("a")),
            Fate::Followed => arguments.push(text("f")),
            Fate::Replaced => arguments.extend([text("r"), self.place_key(place.1).into()]),
            Fate::Requeue { raw, queue, priority, head, redelivered, lost } => {
                let raw = if *redelivered { marked(raw) } else { raw.clone() };
                arguments.extend([
                    text(if *head { "h" } else { "t" }),
                    self.list_for(queue, *priority).into(),
                    Value::Bytes(raw),
                    lost.as_deref().map_or(String::new(), |id| self.attempts_key(id)).into(),
                ]);
            }
            Fate::Park { raw, queue, priority, id, until_ms, node, why } => {
                let list = self.list_for(queue, *priority);
                arguments.extend([
                    text("p"),
                    text(id),
                    (*until_ms).into(),
                    Value::Bytes(packed(&list, queue, node, *why, id, raw)),
                ]);
            }
            Fate::Dead { raw, queue, reason, id, task } => {
                let (head, raw) = dead::letter(raw, queue, reason, id.as_deref(), task.as_deref());
                let name = id.as_deref().filter(|id| !id.is_empty()).unwrap_or(&one.claim.id);
                arguments.extend([text("d"), text(name), head.into(), raw.into()]);
            }
            Fate::Hold { raw, queue, priority, key, most } => arguments.extend([
                text("w"),
                self.key(&format!("beacon:limit:{key}")).into(),
                self.key(&format!("beacon:hold:{key}")).into(),
                text(key),
                i64::from(*most).into(),
                self.list_for(queue, *priority).into(),
                Value::Bytes(raw.clone()),
            ]),
        }
    }
}

/// The message with the marks of a redelivery; as it is, if it is none.
pub(super) fn marked(raw: &Bytes) -> Bytes {
    wire::redelivered(raw, &Uuid::new_v4().to_string()).unwrap_or_else(|| raw.clone())
}
