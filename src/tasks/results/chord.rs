//! Groups, and the counters of chords, in the protocol of Celery 5.7: keys `.j` (the parts' results), `.t` (parts that were
//! added), `.s` (how many there are), `.d` (which were counted), `.c` (who publishes the body).
//!
//! Counting a part and the right to publish the body are one step, so that the body is published once, and a part that
//! comes twice counts once. Who has the right and dies loses it after some seconds; a later copy of a part gets it then.

use bytes::Bytes;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{CALL, Results};
use crate::redis::{self, Script, Value};
use crate::tasks::Error;
use crate::tasks::wire;

/// How long who completes a chord has the right to publish its body, in seconds: as stock workers with the usual
/// result_chord_join_timeout.
const CLAIM: i64 = 6;
/// How long a chord whose body has been published is remembered, in seconds.
const DONE: i64 = 300;

/// A chord after one of its parts was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Parts that have ended.
    pub ready: u64,
    /// Parts that there are, `None` if the publisher has not said it yet.
    pub size: Option<u64>,
    /// The right to publish the body, if this was the last part; to be kept with [`Results::extend_chord`] and ended with
    /// [`Results::finish_chord`].
    pub claim: Option<String>,
    /// The body has been published before: nothing is to be done.
    pub done: bool,
}

/// KEYS: .j .t .s .d, the group, .c. ARGV: task, part, '1' if ordered, index or '+inf', seconds to keep, seconds to keep the
/// group, seconds of the claim, its token.
static PART: Script = Script::new(
    "if redis.call('GET', KEYS[6]) == 'done' then return {-1, false, false, 0} end
local counted = ARGV[1] .. ':' .. ARGV[4]
local ordered = ARGV[3] == '1'
if redis.call('SISMEMBER', KEYS[4], counted) == 0 then
  if ordered then redis.call('ZADD', KEYS[1], ARGV[4], ARGV[2]) else redis.call('RPUSH', KEYS[1], ARGV[2]) end
  redis.call('SADD', KEYS[4], counted)
end
local ready = redis.call(ordered and 'ZCARD' or 'LLEN', KEYS[1])
local keep, keep_group = tonumber(ARGV[5]), tonumber(ARGV[6])
if keep > 0 then
  for i = 1, 4 do redis.call('EXPIRE', KEYS[i], keep) end
  if keep_group > 0 then redis.call('EXPIRE', KEYS[5], keep_group) end
end
local more, size, claimed = redis.call('GET', KEYS[2]), redis.call('GET', KEYS[3]), 0
if size and ready == tonumber(size) + tonumber(more or 0)
  and redis.call('SET', KEYS[6], ARGV[8], 'NX', 'EX', ARGV[7]) then
  claimed = 1
end
return {ready, more, size, claimed}",
);

/// KEYS: .c .s. ARGV: token, seconds.
static EXTEND: Script = Script::new(
    "local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end
if not holder and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
  return 1
end
return 0",
);

/// KEYS: .c .j .t .s .d. ARGV: token, seconds.
static FINISH: Script = Script::new(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
return 1",
);

impl Results {
    fn group_keys(&self, group: &str, suffixes: &[&str]) -> Vec<Value> {
        suffixes.iter().map(|suffix| Value::from(self.group_key(group, suffix))).collect()
    }

    fn seconds(&self) -> Value {
        Value::from(self.ttl().min(i64::MAX as u64) as i64)
    }

    /// Says how many parts a chord has; to be called before its last part is sent. A chord that is sent again under the
    /// same group begins anew.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn chord_size(&self, group: &str, size: u64) -> Result<(), Error> {
        let mut set = self.group_keys(group, &[".s"]);
        set.push((size as i64).into());
        if self.ttl() > 0 {
            set.extend(["EX".into(), self.seconds()]);
        }
        for answer in self.client.batch(vec![("DEL", self.group_keys(group, &[".c"])), ("SET", set)], CALL).await {
            answer?;
        }
        Ok(())
    }

    /// Counts a part: its task has ended, and its result is stored. `result` is the value or the exception's object, as
    /// JSON text; `ordered` is Celery's `result_chord_ordered`, true unless the application says otherwise.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn chord_part(
        &self,
        group: &str,
        task: &str,
        index: Option<i64>,
        state: &str,
        result: &str,
        ordered: bool,
    ) -> Result<Counted, Error> {
        let part = format!("[1, {}, {}, {result}]", wire::json(task), wire::json(state));
        let token = Uuid::new_v4().simple().to_string();
        let arguments = vec![
            task.into(),
            part.into(),
            i64::from(ordered).into(),
            index.map_or_else(|| "+inf".into(), Value::from),
            self.seconds(),
            self.seconds(),
            CLAIM.into(),
            token.as_str().into(),
        ];
        let keys = self.group_keys(group, &[".j", ".t", ".s", ".d", "", ".c"]);
        let answer = redis::list(self.client.eval(&PART, keys, arguments, CALL).await?);
        let [ready, more, size, claimed] = &answer[..] else { return Err(Error::Answer("chord")) };
        let ready = redis::integer(ready).ok_or(Error::Answer("chord"))?;
        let more = redis::integer(more).unwrap_or_default();
        Ok(Counted {
            ready: ready.max(0) as u64,
            size: redis::integer(size).map(|size| (size + more).max(0) as u64),
            claim: (redis::integer(claimed) == Some(1)).then_some(token),
            done: ready < 0,
        })
    }

    /// The parts of a chord, in their order: `[1, id, state, result]` each, serialised.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn chord_parts(&self, group: &str, ordered: bool) -> Result<Vec<Bytes>, Error> {
        let mut range = self.group_keys(group, &[".j"]);
        range.extend([0.into(), (-1).into()]);
        let answer = self.client.command(if ordered { "ZRANGE" } else { "LRANGE" }, range, CALL).await?;
        Ok(redis::list(answer).into_iter().filter_map(redis::bytes).collect())
    }

    /// Keeps the right to publish a chord's body for so many seconds more, or takes it again if it was lost and nobody has
    /// it. False: somebody else publishes, or has done so.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn extend_chord(&self, group: &str, claim: &str, seconds: u32) -> Result<bool, Error> {
        let arguments = vec![claim.into(), i64::from(seconds).into()];
        let answer = self.client.eval(&EXTEND, self.group_keys(group, &[".c", ".s"]), arguments, CALL).await?;
        Ok(redis::integer(&answer) == Some(1))
    }

    /// The body is published: forgets the parts, and remembers that it is done. False if the right was lost in between.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn finish_chord(&self, group: &str, claim: &str) -> Result<bool, Error> {
        let keys = self.group_keys(group, &[".c", ".j", ".t", ".s", ".d"]);
        let answer = self.client.eval(&FINISH, keys, vec![claim.into(), DONE.into()], CALL).await?;
        Ok(redis::integer(&answer) == Some(1))
    }

    /// The body will not run, since a part failed: a later copy of a part must not fail the chord again. The parts stay
    /// until their time is over.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn fail_chord(&self, group: &str) -> Result<(), Error> {
        self.client.command("DEL", self.group_keys(group, &[".s"]), CALL).await?;
        Ok(())
    }

    /// Saves a group's structure, a result tuple: `[[id, parent], [[[child, parent], null], ...]]`.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn save_group(&self, group: &str, tuple: &Json) -> Result<(), Error> {
        let value = wire::json(&json!({ "result": tuple }));
        let mut set = self.group_keys(group, &[""]);
        set.push(value.into());
        if self.ttl() > 0 {
            set.extend(["EX".into(), self.seconds()]);
        }
        self.client.command("SET", set, CALL).await?;
        Ok(())
    }

    /// A group's structure, if it was saved: a chord's only is when there are groups among its parts.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn saved_group(&self, group: &str) -> Result<Option<Json>, Error> {
        let value = redis::bytes(self.client.command("GET", self.group_keys(group, &[""]), CALL).await?);
        Ok(value.and_then(|value| serde_json::from_slice::<Json>(&value).ok()?.get("result").cloned()))
    }

    /// The results of these tasks, in this order, as far as they are there: for joining a saved group.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn get_all(&self, ids: &[&str]) -> Result<Vec<Option<wire::Meta>>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = ids.iter().map(|id| Value::from(self.key(id))).collect();
        let values = redis::list(self.client.command("MGET", keys, CALL).await?);
        if values.len() != ids.len() {
            return Err(Error::Answer("MGET"));
        }
        Ok(values.into_iter().map(|value| wire::Meta::parse(&redis::bytes(value)?)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::server::{Server, ask};

    #[tokio::test]
    async fn a_chord_counts_each_part_once_and_one_publishes() {
        let server = Server::start();
        let results = server.results().await;
        results.chord_size("g", 3).await.unwrap();
        let part = |task: &'static str, index| {
            let results = results.clone();
            async move { results.chord_part("g", task, Some(index), "SUCCESS", &index.to_string(), true).await.unwrap() }
        };
        assert_eq!((part("b", 1).await.ready, part("b", 1).await.ready), (1, 1));
        let last = part("c", 2).await;
        assert_eq!((last.ready, last.size, last.claim), (2, Some(3), None));
        let (one, two) = tokio::join!(part("a", 0), part("a", 0));
        let claims: Vec<String> = [one.claim, two.claim].into_iter().flatten().collect();
        assert_eq!(claims.len(), 1);
        let parts = results.chord_parts("g", true).await.unwrap();
        assert_eq!(parts, ["[1, \"a\", \"SUCCESS\", 0]", "[1, \"b\", \"SUCCESS\", 1]", "[1, \"c\", \"SUCCESS\", 2]"]);
        assert!(results.extend_chord("g", &claims[0], 21).await.unwrap());
        assert!(!results.extend_chord("g", "other", 21).await.unwrap());
        assert!(!results.finish_chord("g", "other").await.unwrap());
        assert!(results.finish_chord("g", &claims[0]).await.unwrap());
        assert!(part("a", 0).await.done);
        let client = results.client();
        assert_eq!(ask(client, "KEYS", &["*"]).await, "celery-taskset-meta-g.c");
        // Unordered, added parts, and a failure.
        results.chord_size("h", 1).await.unwrap();
        ask(client, "INCR", &["celery-taskset-meta-h.t"]).await;
        let first = results.chord_part("h", "x", None, "SUCCESS", "1", false).await.unwrap();
        assert_eq!((first.size, first.claim), (Some(2), None));
        assert!(results.chord_part("h", "y", None, "FAILURE", "{}", false).await.unwrap().claim.is_some());
        assert_eq!(results.chord_parts("h", false).await.unwrap().len(), 2);
        results.fail_chord("h").await.unwrap();
        let copy = results.chord_part("h", "z", None, "SUCCESS", "1", false).await.unwrap();
        assert_eq!((copy.size, copy.claim), (None, None));
        let tuple = json!([["h", null], [[["x", null], null]]]);
        results.save_group("h", &tuple).await.unwrap();
        assert_eq!(results.saved_group("h").await.unwrap(), Some(tuple));
        assert_eq!(results.saved_group("none").await.unwrap(), None);
    }
}
