//! Claims of workers that are no longer there go back to their queues: of ours within seconds, of stock workers when
//! their visibility timeout is over.
//!
//! Any worker does it, and two may do it at once: who removes a claim from `unacked_index` puts its message back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::settle::marked;
use super::{Broker, CALL, SILENCE};
use crate::clock;
use crate::redis::{self, Script, Value};
use crate::tasks::Error;
use crate::tasks::wire;

/// Claims that are handled in one step.
const BATCH: i64 = 200;
/// How often claims of stock workers are looked through, which is what they do among themselves.
const SWEEP: Duration = Duration::from_mins(1);
/// The least of it, where stock workers are given up soon.
const LEAST_SWEEP: Duration = Duration::from_secs(2);
/// How often a batch of them is looked at in a row.
const SWEEPS: usize = 100;
/// How long the right to do so is held; kombu's own time.
const MUTEX: i64 = 300_000;

/// A silence below nothing: whenever the last sign of life was.
const ALIVE: i64 = -3_600_000;

/// How claims are given back.
#[derive(Clone, Copy)]
struct Mode {
    /// Only if the worker has been silent for so long, in ms.
    silence: i64,
    /// Whether it counts as one more loss of the task.
    lost: bool,
    /// Whether a worker without claims is forgotten.
    forget: bool,
}

/// A message that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// The task's identifier, if it has one.
    pub id: Option<String>,
    /// The queue.
    pub queue: String,
    /// The worker that had it; "" if it was a stock one.
    pub worker: String,
    /// How often it was lost by now.
    pub attempts: u32,
}

/// KEYS: workers. ARGV: ms of silence. Answers with the dead.
static DEAD: Script = Script::new(
    "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, 16)",
);

/// Puts messages back. KEYS: workers, the worker's claims, unacked_index, unacked. ARGV: worker, ms of silence, '0' or '1', then for
/// each its claim, its list, its message and where its losses are counted, or ''. Nothing is done if the worker has given
/// a sign of life in between. A worker without claims is forgotten if ARGV[3] is '1'. Answers with each one's losses, -1 if it was not there.
static GIVE_BACK: Script = Script::new(
    "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local seen = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
if seen > now - tonumber(ARGV[2]) then return {} end
local answer = {}
for i = 4, #ARGV, 4 do
  local n = -1
  if redis.call('ZREM', KEYS[3], ARGV[i]) == 1 then
    n = 0
    if ARGV[i + 1] ~= '' then redis.call('RPUSH', ARGV[i + 1], ARGV[i + 2]) end
    if ARGV[i + 3] ~= '' then
      n = redis.call('INCR', ARGV[i + 3])
      redis.call('EXPIRE', ARGV[i + 3], 86400)
    end
  end
  redis.call('HDEL', KEYS[4], ARGV[i])
  redis.call('SREM', KEYS[2], ARGV[i])
  answer[#answer + 1] = n
end
if ARGV[3] == '1' and redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return answer",
);

/// The claims of silent stock workers. KEYS: unacked_index, unacked, unacked_mutex. ARGV: token, ms of the mutex, seconds
/// of silence, how many. Answers with claims and their values, in turn, or with nothing if somebody else looks at them.
static SILENT: Script = Script::new(
    "if not redis.call('SET', KEYS[3], ARGV[1], 'NX', 'PX', ARGV[2]) then return {} end
local time = redis.call('TIME')
local claims = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time[1] - tonumber(ARGV[3]), 'LIMIT', 0, ARGV[4])
local answer = {}
for _, claim in ipairs(claims) do
  answer[#answer + 1] = claim
  answer[#answer + 1] = redis.call('HGET', KEYS[2], claim) or ''
end
return answer",
);

/// KEYS: unacked_index, unacked, unacked_mutex. ARGV: token, seconds of silence, then claim, list and message in turn; ''
/// as list removes alone. A claim that was renewed in between stays. Ends the mutex if it is ours.
static RESTORE: Script = Script::new(
    "local time = redis.call('TIME')
local done = {}
for i = 3, #ARGV, 3 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  local n = 0
  if score and tonumber(score) <= time[1] - tonumber(ARGV[2]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[2], ARGV[i])
    if ARGV[i + 1] ~= '' then redis.call('RPUSH', ARGV[i + 1], ARGV[i + 2]) n = 1 end
  end
  done[#done + 1] = n
end
if redis.call('GET', KEYS[3]) == ARGV[1] then redis.call('DEL', KEYS[3]) end
return done",
);

impl Broker {
    /// Puts the claims of dead workers back, each with a new delivery tag and the marks of a redelivery, next to run.
    /// Looks after dead letters and silent stock workers, too, once a minute or twice in
    /// their visibility timeout. To be called every few seconds.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn bury(&self) -> Result<Vec<Reclaimed>, Error> {
        let silence = SILENCE.as_millis() as i64;
        let dead =
            self.client().eval(&DEAD, vec![self.key("beacon:workers").into()], vec![silence.into()], CALL).await?;
        let mut reclaimed = Vec::new();
        for worker in redis::list(dead).into_iter().filter_map(redis::text) {
            self.give_back(&worker, silence, true, &mut reclaimed).await?;
        }
        let (now, last) = (clock::millis(), self.0.swept.load(Ordering::Relaxed));
        let pause = SWEEP.min(self.transport().visibility_timeout / 2).max(LEAST_SWEEP);
        let due = last == 0 || now.saturating_sub(last) > pause.as_millis() as u64;
        if due && self.0.swept.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            // A stock worker may have had thousands that wait for their time.
            for _ in 0..SWEEPS {
                if self.sweep(&mut reclaimed).await? < BATCH as usize {
                    break;
                }
            }
            self.tidy_dead().await?;
        }
        Ok(reclaimed)
    }

    /// A clean stop: whatever this worker still has goes back to the heads of its queues, and the worker is forgotten. Gives
    /// how many messages went back.
    ///
    /// # Errors
    /// Redis is away or refused: the claims go back by themselves, a few seconds later.
    pub async fn leave(&self, worker: &str) -> Result<usize, Error> {
        let mut given = Vec::new();
        self.give_back(worker, ALIVE, false, &mut given).await?;
        self.client().command("DEL", vec![self.key(&format!("beacon:worker:{worker}")).into()], CALL).await?;
        Ok(given.len())
    }

    async fn give_back(&self, worker: &str, silence: i64, lost: bool, given: &mut Vec<Reclaimed>) -> Result<(), Error> {
        let claims_key = self.claims_key(worker);
        loop {
            let some = vec![Value::from(claims_key.as_str()), BATCH.into()];
            let claims = redis::list(self.client().command("SRANDMEMBER", some, CALL).await?);
            let claims = claims.into_iter().filter_map(redis::text).collect();
            if !self.give_back_some(worker, claims, Mode { silence, lost, forget: true }, given).await? {
                return Ok(());
            }
        }
    }

    /// Puts these claims of a worker that is alive back, as far as there are such. Gives how many there were.
    pub(super) async fn give_back_claims(&self, worker: &str, claims: &[String]) -> Result<usize, Error> {
        let mut given = Vec::new();
        for claims in claims.chunks(BATCH as usize) {
            let mode = Mode { silence: ALIVE, lost: false, forget: false };
            self.give_back_some(worker, claims.to_vec(), mode, &mut given).await?;
        }
        Ok(given.len())
    }

    /// False if there was nothing to do, or nothing may be done.
    async fn give_back_some(
        &self,
        worker: &str,
        mut claims: Vec<String>,
        mode: Mode,
        given: &mut Vec<Reclaimed>,
    ) -> Result<bool, Error> {
        // The first one claimed is pushed last, and runs first.
        let number = |claim: &str| claim.rsplit(':').next().and_then(|text| text.parse::<u64>().ok());
        claims.sort_by_key(|claim| std::cmp::Reverse(number(claim)));
        let values = if claims.is_empty() {
            Vec::new()
        } else {
            let mut arguments = vec![Value::from(self.key("unacked"))];
            arguments.extend(claims.iter().map(|claim| Value::from(claim.as_str())));
            redis::list(self.client().command("HMGET", arguments, CALL).await?)
        };
        let mut arguments = vec![Value::from(worker), mode.silence.into(), i64::from(mode.forget).into()];
        let mut back = Vec::with_capacity(claims.len());
        for (claim, value) in claims.iter().zip(values) {
            let (raw, queue) = match redis::bytes(value).map(|value| opened(&value)) {
                Some(opened) => opened.unwrap_or_default(),
                // A guess: if it is claimed only now, its message is not known here, and must not go with the claim.
                None if !mode.forget => continue,
                None => Default::default(),
            };
            let id = wire::id_of(&raw);
            let list = if queue.is_empty() { String::new() } else { self.list_for(&queue, wire::priority_of(&raw)) };
            let counted = id.as_deref().filter(|_| mode.lost).map(|id| self.attempts_key(id)).unwrap_or_default();
            arguments.extend([Value::from(claim.as_str()), list.into(), Value::Bytes(marked(&raw)), counted.into()]);
            back.push(Reclaimed { id, queue, worker: worker.to_owned(), attempts: 0 });
        }
        let keys = vec![
            self.key("beacon:workers").into(),
            self.claims_key(worker).into(),
            self.key("unacked_index").into(),
            self.key("unacked").into(),
        ];
        let answer = redis::list(self.client().eval(&GIVE_BACK, keys, arguments, CALL).await?);
        let more = !answer.is_empty();
        for (mut one, attempts) in back.into_iter().zip(answer) {
            if let Some(attempts) = redis::integer(&attempts).filter(|attempts| *attempts >= 0) {
                one.attempts = attempts as u32;
                given.push(one);
            }
        }
        Ok(more)
    }

    /// Restores what silent stock workers had, as any of them would do: one batch. Gives how many were looked at.
    async fn sweep(&self, restored: &mut Vec<Reclaimed>) -> Result<usize, Error> {
        let token = Uuid::new_v4().to_string();
        let silence = Value::from(self.transport().visibility_timeout.as_secs() as i64);
        let keys =
            || ["unacked_index", "unacked", "unacked_mutex"].iter().map(|name| Value::from(self.key(name))).collect();
        let arguments = vec![token.as_str().into(), MUTEX.into(), silence.clone(), BATCH.into()];
        let silent = redis::list(self.client().eval(&SILENT, keys(), arguments, CALL).await?);
        let mut arguments = vec![Value::from(token), silence];
        let mut back = Vec::new();
        let mut silent = silent.into_iter();
        // The oldest comes first, and is to be pushed last.
        let mut found = Vec::new();
        while let (Some(claim), Some(value)) = (silent.next(), silent.next()) {
            found.push((claim, redis::bytes(value).unwrap_or_default()));
        }
        let count = found.len();
        for (claim, value) in found.into_iter().rev() {
            let Some((raw, exchange, routing_key)) = taken_apart(&value) else {
                arguments.extend([claim, "".into(), "".into()]);
                back.push(None);
                continue;
            };
            let queue = self.queue_of(&exchange, &routing_key).await?;
            let id = wire::id_of(&raw);
            arguments.extend([
                claim,
                self.list_for(&queue, wire::priority_of(&raw)).into(),
                Value::Bytes(marked(&raw)),
            ]);
            back.push(Some(Reclaimed { id, queue, worker: String::new(), attempts: 0 }));
        }
        let done = redis::list(self.client().eval(&RESTORE, keys(), arguments, CALL).await?);
        restored.extend(
            back.into_iter().zip(done).filter_map(|(one, done)| one.filter(|_| redis::integer(&done) == Some(1))),
        );
        Ok(count)
    }

    /// Where a message of this exchange goes: the queue itself for the anonymous one, else what is bound.
    async fn queue_of(&self, exchange: &str, routing_key: &str) -> Result<String, Error> {
        if exchange.is_empty() || exchange == routing_key {
            return Ok(routing_key.to_owned());
        }
        let set = vec![Value::from(self.key(&format!("_kombu.binding.{exchange}")))];
        let members = redis::list(self.client().command("SMEMBERS", set, CALL).await?);
        let sep = self.transport().sep.as_str();
        for member in members.into_iter().filter_map(redis::text) {
            let mut parts = member.split(sep);
            if let (Some(bound), Some(_pattern), Some(queue)) = (parts.next(), parts.next(), parts.next())
                && (bound == routing_key || topic(bound, routing_key))
            {
                return Ok(queue.to_owned());
            }
        }
        // A queue that nobody knows any more is better than a message that is lost.
        Ok(routing_key.to_owned())
    }
}

/// Whether a topic's pattern fits a key: `*` is one word, `#` any number of them.
fn topic(pattern: &str, key: &str) -> bool {
    fn fits(pattern: &[&str], key: &[&str]) -> bool {
        match pattern.split_first() {
            None => key.is_empty(),
            Some((&"#", rest)) => (0..=key.len()).any(|skipped| fits(rest, &key[skipped..])),
            Some((word, rest)) => {
                key.split_first().is_some_and(|(first, after)| (*word == "*" || word == first) && fits(rest, after))
            }
        }
    }
    let words = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, key) = (words(pattern), words(key));
    // More would be somebody's attack on the search.
    pattern.iter().filter(|word| *word == "#").count() <= 3
        && fits(
            &pattern.iter().map(String::as_str).collect::<Vec<_>>(),
            &key.iter().map(String::as_str).collect::<Vec<_>>(),
        )
}

/// One of our own claims' values: the message and its queue. From the end, since the message may be no JSON.
fn opened(value: &Bytes) -> Option<(Bytes, String)> {
    let at = memchr::memmem::rfind(value, b", \"\", ")?;
    let queue = serde_json::from_slice(value.get(at + 6..value.len() - 1)?).ok()?;
    Some((value.slice(1..at), queue))
}

/// A stock worker's: the message, exchange and routing key.
fn taken_apart(value: &Bytes) -> Option<(Bytes, String, String)> {
    let parts = wire::parts_of(value)?;
    let [raw, exchange, routing_key] = parts.try_into().ok()?;
    let text = |range: std::ops::Range<usize>| serde_json::from_slice::<Option<String>>(&value[range]).ok();
    Some((value.slice(raw), text(exchange)?.unwrap_or_default(), text(routing_key)?.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_opened_even_if_their_message_is_none() {
        let open = |text: &'static [u8]| opened(&Bytes::from_static(text));
        assert_eq!(open(b"[{\"a\": 1}, \"\", \"celery\"]"), Some(("{\"a\": 1}".into(), "celery".into())));
        assert_eq!(
            open(b"[\xff, \"\", \"x\", \"\", \"q\\u00e9\"]"),
            Some((Bytes::from_static(b"\xff, \"\", \"x\""), "q\u{e9}".into()))
        );
        assert_eq!(open(b"nonsense"), None);
        let value = Bytes::from_static(b"[{\"a\": [1, NaN]}, \"ex\", null]");
        assert_eq!(taken_apart(&value), Some(("{\"a\": [1, NaN]}".into(), "ex".into(), String::new())));
        assert_eq!(taken_apart(&Bytes::from_static(b"[1, 2]")), None);
    }

    #[test]
    fn a_topic_fits_word_by_word() {
        for (pattern, key, is) in [
            ("feed.#", "feed.a.b", true),
            ("feed.#", "feed", true),
            ("*.x", "a.x", true),
            ("*.x", "a.b.x", false),
            ("#.x.#", "a.x", true),
            ("a", "a", true),
            ("a", "b", false),
        ] {
            assert_eq!(topic(pattern, key), is, "{pattern} {key}");
        }
    }
}
