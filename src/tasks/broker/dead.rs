//! Messages that cannot be worked on, kept with the reason until somebody has looked at them or their time is over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value as Json;

use super::{Broker, CALL};
use crate::redis::{self, Script, Value};
use crate::tasks::Error;
use crate::tasks::wire;

/// The most dead letters that are kept.
const MOST: i64 = 100_000;

/// A dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its own name: the task's identifier, with a number behind it if there are more; or the claim's, if the task has
    /// none.
    pub key: String,
    /// The task's identifier.
    pub id: Option<String>,
    /// The task's name.
    pub task: Option<String>,
    /// The queue that it came from.
    pub queue: String,
    /// Why, in a sentence.
    pub reason: String,
    /// When, in seconds since 1970.
    pub at: f64,
    /// The message.
    pub raw: Bytes,
}

/// A letter up to its message, and the rest. The script puts in when it is.
pub(super) fn letter(raw: &[u8], queue: &str, reason: &str, id: Option<&str>, task: Option<&str>) -> (String, String) {
    let head = format!(
        r#"{{"at": @AT@, "id": {}, "task": {}, "queue": {}, "reason": {}, "#,
        wire::json(&id),
        wire::json(&task),
        wire::json(queue),
        wire::json(reason)
    );
    let rest = match std::str::from_utf8(raw) {
        Ok(text) => format!(r#""raw": {}}}"#, wire::json(text)),
        Err(_) => format!(r#""raw_base64": "{}"}}"#, STANDARD.encode(raw)),
    };
    (head, rest)
}

fn read(key: &str, value: &[u8]) -> Option<DeadLetter> {
    let letter: Json = serde_json::from_slice(value).ok()?;
    let text = |name: &str| letter.get(name)?.as_str().map(str::to_owned);
    let raw = match text("raw") {
        Some(raw) => raw.into_bytes(),
        None => STANDARD.decode(text("raw_base64")?).ok()?,
    };
    Some(DeadLetter {
        key: key.to_owned(),
        id: text("id"),
        task: text("task"),
        queue: text("queue")?,
        reason: text("reason").unwrap_or_default(),
        at: letter.get("at").and_then(Json::as_f64).unwrap_or_default(),
        raw: raw.into(),
    })
}

/// KEYS: dead, their messages. ARGV: the oldest time that is kept, in ms; how many are kept. Answers with how many were
/// too old, and how many too many; at most 1,000 go at once.
static TIDY: Script = Script::new(
    "local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1000)
local over = redis.call('ZCARD', KEYS[1]) - #old - tonumber(ARGV[2])
local answer = {#old, math.max(0, math.min(over, 1000))}
if #old > 0 then redis.call('ZREM', KEYS[1], unpack(old)) redis.call('HDEL', KEYS[2], unpack(old)) end
if answer[2] > 0 then
  local first = redis.call('ZRANGE', KEYS[1], 0, answer[2] - 1)
  redis.call('ZREM', KEYS[1], unpack(first))
  redis.call('HDEL', KEYS[2], unpack(first))
end
return answer",
);

/// KEYS: dead, their messages. ARGV: name, list and message in turn; '' as list removes alone. Answers with how many were
/// there.
static REPLAY: Script = Script::new(
    "local done = 0
for i = 1, #ARGV, 3 do
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    done = done + 1
    if ARGV[i + 1] ~= '' then redis.call('LPUSH', ARGV[i + 1], ARGV[i + 2]) end
  end
  redis.call('HDEL', KEYS[2], ARGV[i])
end
return done",
);

impl Broker {
    fn dead_keys(&self) -> Vec<Value> {
        vec![self.key("beacon:dead").into(), self.key("beacon:dead:messages").into()]
    }

    /// How many dead letters there are.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn dead_count(&self) -> Result<usize, Error> {
        let answer = self.client().command("ZCARD", vec![self.key("beacon:dead").into()], CALL).await?;
        redis::integer(&answer).map(|count| count as usize).ok_or(Error::Answer("ZCARD"))
    }

    /// Dead letters, the newest first: so many at most, after so many.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn dead(&self, from: usize, most: usize) -> Result<Vec<DeadLetter>, Error> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let (first, last) = (from as i64, from.saturating_add(most).saturating_sub(1) as i64);
        let range = vec![self.key("beacon:dead").into(), first.into(), last.into()];
        let names = redis::list(self.client().command("ZREVRANGE", range, CALL).await?);
        let names: Vec<String> = names.into_iter().filter_map(redis::text).collect();
        self.letters(&names).await
    }

    /// Dead letters by name; those that are not there are left out.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn letters(&self, names: &[String]) -> Result<Vec<DeadLetter>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec![Value::from(self.key("beacon:dead:messages"))];
        arguments.extend(names.iter().map(|name| Value::from(name.as_str())));
        let values = redis::list(self.client().command("HMGET", arguments, CALL).await?);
        Ok(names.iter().zip(values).filter_map(|(name, value)| read(name, &redis::bytes(value)?)).collect())
    }

    /// Sends dead letters to their queues again, as if they were new. Gives how many were there.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn replay(&self, names: &[String]) -> Result<usize, Error> {
        let mut done = 0;
        for names in names.chunks(100) {
            let mut arguments = Vec::with_capacity(3 * names.len());
            for letter in self.letters(names).await? {
                let list = self.list_for(&letter.queue, wire::priority_of(&letter.raw));
                arguments.extend([letter.key.into(), list.into(), Value::Bytes(letter.raw)]);
            }
            done += self.end_letters(arguments).await?;
        }
        Ok(done)
    }

    /// Removes dead letters. Gives how many were there.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn drop_dead(&self, names: &[String]) -> Result<usize, Error> {
        let mut done = 0;
        for names in names.chunks(1_000) {
            let arguments = names.iter().flat_map(|name| [name.as_str(), "", ""]).map(Value::from).collect();
            done += self.end_letters(arguments).await?;
        }
        Ok(done)
    }

    async fn end_letters(&self, arguments: Vec<Value>) -> Result<usize, Error> {
        if arguments.is_empty() {
            return Ok(0);
        }
        let answer = self.client().eval(&REPLAY, self.dead_keys(), arguments, CALL).await?;
        redis::integer(&answer).map(|done| done as usize).ok_or(Error::Answer("replay"))
    }

    /// Removes dead letters whose time is over, and the oldest beyond 100,000.
    pub(super) async fn tidy_dead(&self) -> Result<(), Error> {
        let oldest = (wire::now() - self.0.keep_dead.as_secs_f64()) * 1e3;
        let arguments = vec![Value::from(oldest as i64), MOST.into()];
        let answer = redis::list(self.client().eval(&TIDY, self.dead_keys(), arguments, CALL).await?);
        let [old, over] = [0, 1].map(|index| answer.get(index).and_then(redis::integer).unwrap_or_default());
        if old > 0 {
            tracing::info!(count = old, "dead letters were removed: their time is over");
        }
        if over > 0 {
            tracing::warn!(count = over, most = MOST, "the oldest dead letters were removed: there are too many");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_comes_back_whatever_it_holds() {
        for raw in [&b"{\"a\": \"@AT@ \xc3\xa9\"}"[..], b"\xff\x00", b""] {
            let (head, rest) = letter(raw, "q@AT@", "why %1 \"x\"", Some("@AT@"), None);
            let read = read("k", (head.replacen("@AT@", "12.500", 1) + &rest).as_bytes()).unwrap();
            assert_eq!((read.id.as_deref(), read.task.as_deref(), read.queue.as_str()), (Some("@AT@"), None, "q@AT@"));
            assert_eq!((read.reason.as_str(), read.at, &read.raw[..]), ("why %1 \"x\"", 12.5, raw));
        }
    }
}
