//! The limits that all workers share, in Redis.
//!
//! Who runs holds a place by a lease: a member of `beacon:limit:<key>` with the time until which it is held, in ms of
//! Redis's clock, renewed with the worker's heartbeat. A worker that dies frees its places by falling silent. Who finds
//! no place waits in the list `beacon:hold:<key>` and goes back to the head of its queue when one is free.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::Shared;
use crate::redis::{self, Script, Value};
use crate::tasks::broker::Broker;
use crate::tasks::error::Error;
use crate::tasks::wire::Headers;
use crate::tasks::wire::repr;

/// How long a place is held without being renewed.
const LEASE: Duration = Duration::from_secs(8);
const CALL: Duration = Duration::from_secs(5);
/// The most bytes of a key's part that comes from a message.
const LONGEST: usize = 200;

/// Whether a run may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It holds a place, if the limit has places.
    Enter,
    /// No place is free.
    Full,
    /// Not before so long.
    After(Duration),
}

/// KEYS: holders, the rate's state. ARGV: holder, places or 0, lease in ms, runs or 0, in so many microseconds. The rate
/// is a GCRA: its state is the time in microseconds at which the bucket is full again. Answers 0 for yes, -1 for no
/// place, or the microseconds to wait. A place that is held already is entered again.
static ENTER: Script = Script::new(
    "local time = redis.call('TIME')
local us = time[1] * 1000000 + time[2]
local now = math.floor(us / 1000)
local places, runs = tonumber(ARGV[2]), tonumber(ARGV[4])
if places > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= places then return -1 end
end
if runs > 0 then
  local period = tonumber(ARGV[5])
  local step = period / runs
  local full = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), us)
  local wait = full + step - us - period
  if wait > 0.5 then return math.ceil(wait) end
  redis.call('SET', KEYS[2], string.format('%.0f', full + step), 'PX', math.ceil((full + step - us) / 1000) + 1000)
end
if places > 0 then
  redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3] * 2)
end
return 0",
);

/// KEYS: holders, who waits, the keys of all that wait. ARGV: a holder that leaves or '', places, key. Those that waited
/// longest go to the heads of their queues, as many as there are places.
static LEAVE: Script = Script::new(
    "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] ~= '' then redis.call('ZREM', KEYS[1], ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local free = tonumber(ARGV[2]) - redis.call('ZCARD', KEYS[1])
local let = 0
while let < free do
  local held = redis.call('RPOP', KEYS[2])
  if not held then break end
  local at = string.find(held, '\\0', 1, true)
  if at then redis.call('RPUSH', string.sub(held, 1, at - 1), string.sub(held, at + 1)) end
  let = let + 1
end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('SREM', KEYS[3], ARGV[3]) end
return let",
);

/// KEYS: holders of a key each. ARGV: lease in ms, then for each key its holder.
static RENEW: Script = Script::new(
    "local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], 'XX', till, ARGV[i + 1])
  redis.call('PEXPIRE', KEYS[i], ARGV[1] * 2)
end
return #KEYS",
);

impl Shared {
    /// The key of a task with these arguments: `{task}`, `{queue}`, `{args.0}` and `{kwargs.name}` are filled in. What
    /// is not there is empty.
    #[must_use]
    pub fn key_of(&self, headers: &Headers, queue: &str, args: &[Json], kwargs: &Map<String, Json>) -> String {
        let mut out = String::new();
        let mut rest = self.key.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let Some((name, behind)) = after.split_once('}') else {
                out.push('{');
                rest = after;
                continue;
            };
            let value = match name.split_once('.') {
                None if name == "task" => headers.task.clone(),
                None if name == "queue" => queue.to_owned(),
                Some(("args", at)) => at.parse().ok().and_then(|at: usize| args.get(at)).map(plain).unwrap_or_default(),
                Some(("kwargs", name)) => kwargs.get(name).map(plain).unwrap_or_default(),
                _ => String::new(),
            };
            let end = value.char_indices().map(|(at, ch)| at + ch.len_utf8()).take_while(|end| *end <= LONGEST).last();
            out.push_str(&value[..end.unwrap_or(0)]);
            rest = behind;
        }
        out.push_str(rest);
        out
    }

    /// Enters a run, if the limits let it.
    ///
    /// # Errors
    /// Redis.
    pub async fn enter(&self, broker: &Broker, key: &str, holder: &str) -> Result<Entry, Error> {
        let (runs, period) = self.rate.unwrap_or_default();
        let keys = vec![holders(broker, key), Value::from(broker.key(&format!("beacon:rate:{key}")))];
        let arguments = vec![
            Value::from(holder),
            Value::from(i64::from(self.concurrency.unwrap_or_default())),
            Value::from(LEASE.as_millis() as i64),
            Value::from(i64::from(runs)),
            Value::from(period.as_micros().max(1) as i64),
        ];
        let answer = broker.client().eval(&ENTER, keys, arguments, CALL).await?;
        match redis::integer(&answer) {
            Some(0) => Ok(Entry::Enter),
            Some(-1) => Ok(Entry::Full),
            Some(wait) if wait > 0 => Ok(Entry::After(Duration::from_micros(wait as u64))),
            _ => Err(Error::Answer("enter")),
        }
    }

    /// Ends a run, and lets in who waits. Without a holder it lets in who waits for a place that fell free by itself.
    ///
    /// # Errors
    /// Redis.
    pub async fn leave(&self, broker: &Broker, key: &str, holder: &str) -> Result<usize, Error> {
        let keys = vec![
            holders(broker, key),
            Value::from(broker.key(&format!("beacon:hold:{key}"))),
            Value::from(broker.key("beacon:holds")),
        ];
        // Without a limit all that waits goes on.
        let places = self.concurrency.map_or(i64::from(u32::MAX), i64::from);
        let arguments = vec![Value::from(holder), Value::from(places), Value::from(key)];
        let answer = broker.client().eval(&LEAVE, keys, arguments, CALL).await?;
        redis::integer(&answer).map(|let_in| let_in as usize).ok_or(Error::Answer("leave"))
    }
}

/// Keeps places: keys and their holders.
///
/// # Errors
/// Redis.
pub async fn renew(broker: &Broker, held: &[(String, String)]) -> Result<(), Error> {
    for held in held.chunks(500) {
        let keys = held.iter().map(|(key, _)| holders(broker, key)).collect();
        let mut arguments = vec![Value::from(LEASE.as_millis() as i64)];
        arguments.extend(held.iter().map(|(_, holder)| Value::from(holder.as_str())));
        broker.client().eval(&RENEW, keys, arguments, CALL).await?;
    }
    Ok(())
}

/// Keys at which somebody waits, so many at most.
///
/// # Errors
/// Redis.
pub async fn waiting(broker: &Broker, most: usize) -> Result<Vec<String>, Error> {
    let arguments = vec![Value::from(broker.key("beacon:holds")), Value::from(most as i64)];
    let answer = broker.client().command("SRANDMEMBER", arguments, CALL).await?;
    Ok(redis::list(answer).into_iter().filter_map(redis::text).collect())
}

fn holders(broker: &Broker, key: &str) -> Value {
    Value::from(broker.key(&format!("beacon:limit:{key}")))
}

/// A value as a part of a key.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => repr::short(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_filled_in() {
        let key = |key: &str| {
            let shared = Shared { key: key.into(), concurrency: None, rate: None };
            let headers = Headers { task: "t".into(), ..Headers::default() };
            let kwargs = json!({"tenant": "acme", "n": 3, "long": "é".repeat(300)});
            shared.key_of(&headers, "q", &[json!("a"), json!([1])], kwargs.as_object().unwrap())
        };
        assert_eq!(key("tenant:{kwargs.tenant}:{task}@{queue}"), "tenant:acme:t@q");
        assert_eq!(key("{args.0}-{args.1}-{args.2}-{kwargs.none}-{odd}"), "a-[1]---");
        assert_eq!(key("{kwargs.n}{"), "3{");
        assert_eq!(key("{kwargs.long}").len(), 200);
    }
}
