//! Queues and workers, as people look at them.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value as Json;

use super::{Broker, CALL, SILENCE};
use crate::redis::{self, Script, Value};
use crate::tasks::Error;
use crate::tasks::wire::{self, Envelope, Limits};

/// How many messages wait in a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Length {
    /// The queue.
    pub queue: String,
    /// By priority step, the first priority first.
    pub steps: Vec<(u8, usize)>,
    /// Whether it is paused.
    pub paused: bool,
    /// The message that is next.
    pub head: Option<Bytes>,
}

/// How many messages a script removes at once.
const BATCH: i64 = 1_000;

/// KEYS: lists. ARGV: minus how many at most, a text. Removes messages from the tail of the first list that has some.
/// Answers with how many they were, and with those that have the text in them.
static PURGE: Script = Script::new(
    "for _, key in ipairs(KEYS) do
  local raws = redis.call('LRANGE', key, ARGV[1], -1)
  if #raws > 0 then
    redis.call('LTRIM', key, 0, -#raws - 1)
    local out = {#raws}
    for _, raw in ipairs(raws) do
      if string.find(raw, ARGV[2], 1, true) then out[#out + 1] = raw end
    end
    return out
  end
end
return {0}",
);

impl Length {
    /// In all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.steps.iter().map(|(_, length)| length).sum()
    }
}

/// A worker of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerInfo {
    /// Its identifier: `<node name>#<uuid>`.
    pub id: String,
    /// When it last gave a sign of life, in milliseconds since 1970 on Redis's clock.
    pub seen_ms: i64,
    /// Whether it counts as alive.
    pub alive: bool,
    /// What it says about itself.
    pub info: Json,
}

impl Broker {
    /// How long queues are.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn lengths(&self, queues: &[&str]) -> Result<Vec<Length>, Error> {
        let steps = &self.transport().priority_steps;
        let mut lengths = Vec::with_capacity(queues.len());
        for queues in queues.chunks(100) {
            let mut commands = Vec::with_capacity(queues.len() * (1 + 2 * steps.len()));
            for queue in queues {
                commands.push(("SISMEMBER", vec![self.key("beacon:paused").into(), Value::from(*queue)]));
                for step in steps {
                    let key = Value::from(self.list_for(queue, *step));
                    commands.push(("LLEN", vec![key.clone()]));
                    commands.push(("LINDEX", vec![key, (-1).into()]));
                }
            }
            let mut answers = self.client().batch(commands, CALL).await.into_iter();
            for queue in queues {
                let mut next = || answers.next().ok_or(Error::Answer("lengths"));
                let paused = redis::integer(&next()??) == Some(1);
                let (mut all, mut head) = (Vec::with_capacity(steps.len()), None);
                for step in steps {
                    // A key of another type has no length.
                    let length = next()?.ok().and_then(|length| redis::integer(&length)).unwrap_or_default();
                    let first = next()?.ok().and_then(redis::bytes);
                    all.push((*step, length as usize));
                    head = head.or(first);
                }
                lengths.push(Length { queue: (*queue).to_owned(), steps: all, paused, head });
            }
        }
        Ok(lengths)
    }

    /// Queues that somebody has declared, up to 10,000 of them; among them the mailboxes of remote control.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn known_queues(&self) -> Result<Vec<String>, Error> {
        const MOST: usize = 10_000;

        let mut found = BTreeSet::new();
        let pattern = format!("{}_kombu.binding.*", escaped(&self.transport().global_keyprefix));
        let mut cursor = "0".to_owned();
        loop {
            let arguments = vec![cursor.into(), "MATCH".into(), pattern.as_str().into(), "COUNT".into(), 1_000.into()];
            let mut answer = redis::list(self.client().command("SCAN", arguments, CALL).await?).into_iter();
            let (Some(next), Some(keys)) = (answer.next().and_then(redis::text), answer.next()) else {
                return Err(Error::Answer("SCAN"));
            };
            let commands = redis::list(keys).into_iter().map(|key| ("SMEMBERS", vec![key])).collect();
            for members in self.client().batch(commands, CALL).await {
                let members = redis::list(members.unwrap_or(Value::Null)).into_iter().filter_map(redis::text);
                found
                    .extend(members.filter_map(|member| member.split(&self.transport().sep).nth(2).map(str::to_owned)));
            }
            if next == "0" || found.len() > MOST {
                break;
            }
            cursor = next;
        }
        Ok(found.into_iter().filter(|queue| !queue.is_empty()).take(MOST).collect())
    }

    /// Messages that wait in a queue, in the order in which they are due: so many at most, after so many. What is no
    /// message is left out.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn peek(&self, queue: &str, from: usize, most: usize) -> Result<Vec<Envelope>, Error> {
        let (mut skip, mut envelopes) = (from, Vec::new());
        for list in self.lists(queue) {
            let left = most - envelopes.len();
            if left == 0 {
                break;
            }
            let length = self.client().command("LLEN", vec![list.key.as_str().into()], CALL).await?;
            let length = redis::integer(&length).unwrap_or_default() as usize;
            if skip >= length {
                skip -= length;
                continue;
            }
            let range =
                vec![Value::from(list.key.as_str()), (-((skip + left) as i64)).into(), (-(skip as i64) - 1).into()];
            skip = 0;
            let raws = redis::list(self.client().command("LRANGE", range, CALL).await?);
            envelopes.extend(
                raws.into_iter()
                    .rev()
                    .filter_map(redis::bytes)
                    .filter_map(|raw| Envelope::parse(raw, &Limits::new(usize::MAX)).ok()),
            );
        }
        Ok(envelopes)
    }

    /// Removes all messages that wait in a queue. Gives how many there were.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn purge(&self, queue: &str) -> Result<usize, Error> {
        let lists: Vec<Value> = self.lists(queue).iter().map(|list| Value::from(list.key.as_str())).collect();
        // What is sent meanwhile is not meant, and could go on for ever.
        let there = self.lengths(&[queue]).await?.first().map_or(0, Length::total);
        let mut done = 0;
        while done < there {
            let arguments = vec![Value::from(-BATCH), wire::UNIQUE.into()];
            let removed = redis::list(self.client().eval(&PURGE, lists.clone(), arguments, CALL).await?);
            let mut removed = removed.into_iter();
            let count = removed.next().as_ref().and_then(redis::integer).ok_or(Error::Answer("purge"))? as usize;
            if count == 0 {
                break;
            }
            done += count;
            let unique: Vec<Bytes> = removed.filter_map(redis::bytes).collect();
            self.free_places(unique.iter()).await?;
        }
        Ok(done)
    }

    /// No worker of ours takes from this queue any more; stock workers do.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn pause(&self, queue: &str) -> Result<(), Error> {
        self.client().command("SADD", vec![self.key("beacon:paused").into(), queue.into()], CALL).await?;
        Ok(())
    }

    /// Ends a pause. Gives whether there was one.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn resume(&self, queue: &str) -> Result<bool, Error> {
        let answer = self.client().command("SREM", vec![self.key("beacon:paused").into(), queue.into()], CALL).await?;
        Ok(redis::integer(&answer) == Some(1))
    }

    /// Queues that are paused.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn paused(&self) -> Result<Vec<String>, Error> {
        let answer = self.client().command("SMEMBERS", vec![self.key("beacon:paused").into()], CALL).await?;
        Ok(redis::list(answer).into_iter().filter_map(redis::text).collect())
    }

    /// Our workers, those that gave a sign of life last first.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, Error> {
        let range = vec![self.key("beacon:workers").into(), 0.into(), 999.into(), "WITHSCORES".into()];
        let mut answers = self.client().batch(vec![("ZREVRANGE", range), ("TIME", Vec::new())], CALL).await.into_iter();
        let mut next = || answers.next().ok_or(Error::Answer("workers"));
        let members: Vec<Value> = redis::list(next()??).into_iter().flat_map(redis::list).collect();
        let now = redis::list(next()??).first().and_then(redis::integer).unwrap_or_default() * 1_000;
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = members.iter().step_by(2).cloned().filter_map(redis::text).collect();
        let keys = ids.iter().map(|id| Value::from(self.key(&format!("beacon:worker:{id}")))).collect();
        let infos = redis::list(self.client().command("MGET", keys, CALL).await?);
        let seen = members.iter().skip(1).step_by(2).map(|score| redis::float(score).unwrap_or_default() as i64);
        Ok(ids
            .into_iter()
            .zip(seen)
            .zip(infos)
            .map(|((id, seen_ms), info)| WorkerInfo {
                id,
                seen_ms,
                alive: now - seen_ms < SILENCE.as_millis() as i64,
                info: redis::bytes(info).and_then(|info| serde_json::from_slice(&info).ok()).unwrap_or_default(),
            })
            .collect())
    }
}

/// A text that stands for itself in a pattern of SCAN.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, ch| {
        if matches!(ch, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(ch);
        out
    })
}
