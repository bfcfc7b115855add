//! What Redis knows of schedules: which time of each was handled last, and how often it was sent.
//!
//! A time is claimed and its message put on the queue by one script, which looks at the last one first: of any number of
//! Beacons one sends it, and a Beacon that stops in the middle has sent it or left it to the others. The clock is Redis's,
//! so that all of them mean the same moment, and one whose own clock is wrong sends nothing early.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::{Plan, Source};
use crate::redis::{Script, Value, integer, list, text};
use crate::tasks::Error;
use crate::tasks::broker::Broker;

/// How long an answer of Redis is waited for.
const WITHIN: Duration = Duration::from_secs(5);

/// How long the state of an entry is kept that nobody has any more: longer than a year, for those that come once in one.
const KEPT: i64 = 500 * 86_400;

/// An entry that no Beacon has told of for so long is not shown any more, in milliseconds.
const TOLD: i64 = 10 * 60_000;

/// Gives the time, and of each entry the last time that was handled and since when its times are known. An entry whose
/// times are new is known from now on: what was due before is nobody's. Earlier times of it are forgotten after a week.
static READ: Script = Script::new(
    "local time = redis.call('TIME')
     local now = time[1] * 1000 + math.floor(time[2] / 1000)
     local found = {now}
     for place, key in ipairs(KEYS) do
         local field = 'since:' .. ARGV[place + 1]
         local state = redis.call('HMGET', key, 'slot', field)
         if not state[2] then
             local all = redis.call('HGETALL', key)
             for at = 1, #all, 2 do
                 if string.sub(all[at], 1, 6) == 'since:' and tonumber(all[at + 1]) < now - 604800000 then
                     redis.call('HDEL', key, all[at])
                 end
             end
             redis.call('HSET', key, field, string.format('%.0f', now))
             redis.call('EXPIRE', key, ARGV[1])
             state[2] = now
         end
         found[2 * place] = tonumber(state[1] or -1)
         found[2 * place + 1] = tonumber(state[2])
     end
     return found",
);

/// Claims a time, if the last one is still the one that was read, and if it has come; with a message, sends it.
/// Answers 1 if it was claimed, 0 if another was faster, -1 if it has not come yet.
static CLAIM: Script = Script::new(
    "local time = redis.call('TIME')
     local now = time[1] * 1000 + math.floor(time[2] / 1000)
     if tonumber(ARGV[2]) > now then return -1 end
     if (redis.call('HGET', KEYS[1], 'slot') or '-1') ~= ARGV[1] then return 0 end
     redis.call('HSET', KEYS[1], 'slot', ARGV[2], 'next', ARGV[3])
     redis.call('HINCRBY', KEYS[1], 'missed', ARGV[4])
     redis.call('EXPIRE', KEYS[1], ARGV[5])
     if ARGV[6] ~= '' then
         redis.call('HINCRBY', KEYS[1], 'sent', 1)
         redis.call('HSET', KEYS[1], 'last', ARGV[2], 'at', string.format('%.0f', now), 'id', ARGV[6])
         redis.call('LPUSH', KEYS[2], ARGV[7])
     end
     return 1",
);

/// Sends a message at once, and remembers it beside the times.
static RUN: Script = Script::new(
    "local time = redis.call('TIME')
     redis.call('HINCRBY', KEYS[1], 'sent', 1)
     redis.call('HSET', KEYS[1], 'at', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), 'id', ARGV[2])
     redis.call('EXPIRE', KEYS[1], ARGV[1])
     redis.call('LPUSH', KEYS[2], ARGV[3])
     return 1",
);

/// Tells of entries, and forgets those that nobody has told of for a day.
static TELL: Script = Script::new(
    "local time = redis.call('TIME')
     local now = time[1] * 1000 + math.floor(time[2] / 1000)
     for at = 1, #ARGV, 2 do
         redis.call('HSET', KEYS[1], ARGV[at], string.format('%.0f', now) .. ' ' .. ARGV[at + 1])
     end
     local all = redis.call('HGETALL', KEYS[1])
     for at = 1, #all, 2 do
         local told = tonumber(string.match(all[at + 1], '^%d+') or 0)
         if told < now - 86400000 then redis.call('HDEL', KEYS[1], all[at]) end
     end
     return 1",
);

/// Where schedules are remembered.
#[derive(Clone)]
pub(super) struct Ledger(Broker);

/// What is known of one entry's times, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The last time that was handled; -1 if none was.
    pub(super) slot: i64,
    /// Since when these times are known.
    pub(super) since: i64,
}

impl Known {
    /// The moment after which times count.
    pub(super) fn after(self) -> i64 {
        self.slot.max(self.since)
    }
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is ours, and the message is on its queue.
    Ours,
    /// Another Beacon had it.
    Gone,
    /// By Redis's clock it has not come yet.
    Early,
}

/// A message, ready to be put on a list.
pub(super) struct Ready {
    /// The task's identifier.
    pub(super) id: String,
    /// The list, with its prefix.
    pub(super) list: String,
    /// The message.
    pub(super) raw: bytes::Bytes,
}

/// What Beacons tell one another of an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) source: Source,
    pub(super) task: String,
    pub(super) when: String,
    pub(super) timezone: String,
    pub(super) queue: Option<String>,
    pub(super) enabled: bool,
    /// Why it is left out, if it is.
    pub(super) problem: Option<String>,
}

/// What has become of an entry's tasks so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    pub(super) last: Option<i64>,
    pub(super) next: Option<i64>,
    pub(super) at: Option<i64>,
    pub(super) id: Option<String>,
    pub(super) sent: u64,
    pub(super) missed: u64,
}

impl Ledger {
    pub(super) fn new(broker: Broker) -> Self {
        Self(broker)
    }

    fn key(&self, name: &str) -> Value {
        Value::from(self.0.key(&format!("beacon:schedule:{name}")))
    }

    /// The time, and what is known of these entries, in their order.
    pub(super) async fn read(&self, plans: &[&Plan]) -> Result<(i64, Vec<Known>), Error> {
        let keys = plans.iter().map(|plan| self.key(&plan.name)).collect();
        let arguments =
            std::iter::once(Value::from(KEPT)).chain(plans.iter().map(|plan| Value::from(plan.times()))).collect();
        let answer = list(self.0.client().eval(&READ, keys, arguments, WITHIN).await?);
        let numbers: Vec<i64> = answer.iter().filter_map(integer).collect();
        match &*numbers {
            [now, rest @ ..] if rest.len() == 2 * plans.len() => {
                let known = rest.as_chunks::<2>().0;
                Ok((*now, known.iter().map(|[slot, since]| Known { slot: *slot, since: *since }).collect()))
            }
            _ => Err(Error::Answer("the state of schedules")),
        }
    }

    /// Claims a time; without a message it is passed over.
    pub(super) async fn claim(
        &self,
        name: &str,
        known: Known,
        slot: i64,
        next: Option<i64>,
        missed: u64,
        ready: Option<&Ready>,
    ) -> Result<Claim, Error> {
        let mut keys = vec![self.key(name)];
        let mut arguments: Vec<Value> = [known.slot, slot, next.unwrap_or(-1), missed as i64, KEPT]
            .map(|number| Value::from(number.to_string()))
            .to_vec();
        match ready {
            None => arguments.push(Value::from("")),
            Some(ready) => {
                keys.push(Value::from(ready.list.as_str()));
                arguments.extend([Value::from(ready.id.as_str()), Value::Bytes(ready.raw.clone())]);
            }
        }
        match integer(&self.0.client().eval(&CLAIM, keys, arguments, WITHIN).await?) {
            Some(1) => Ok(Claim::Ours),
            Some(0) => Ok(Claim::Gone),
            Some(-1) => Ok(Claim::Early),
            _ => Err(Error::Answer("the claim of a schedule's time")),
        }
    }

    /// Sends an entry's task at once; its times stay as they are.
    pub(super) async fn run(&self, name: &str, ready: &Ready) -> Result<(), Error> {
        let keys = vec![self.key(name), Value::from(ready.list.as_str())];
        let arguments = vec![Value::from(KEPT), Value::from(ready.id.as_str()), Value::Bytes(ready.raw.clone())];
        self.0.client().eval(&RUN, keys, arguments, WITHIN).await?;
        Ok(())
    }

    /// Entries that are out of force know nothing of their times: once they are in force again, they begin anew.
    pub(super) async fn rest(&self, plans: &[&Plan]) -> Result<(), Error> {
        let commands = plans.iter().map(|plan| {
            let fields = [format!("since:{}", plan.times()), "next".to_owned()];
            ("HDEL", std::iter::once(self.key(&plan.name)).chain(fields.map(Value::from)).collect())
        });
        self.0.client().batch(commands.collect(), WITHIN).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(())
    }

    /// Forgets an entry that was deleted.
    pub(super) async fn forget(&self, name: &str) -> Result<(), Error> {
        let told = vec![Value::from(self.0.key("beacon:schedules")), Value::from(name)];
        let commands = vec![("DEL", vec![self.key(name)]), ("HDEL", told)];
        self.0.client().batch(commands, WITHIN).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(())
    }

    /// Tells everybody of these entries.
    pub(super) async fn tell(&self, entries: &[(&str, Told)]) -> Result<(), Error> {
        let arguments = entries
            .iter()
            .flat_map(|(name, told)| [Value::from(*name), Value::from(serde_json::json!(told).to_string())])
            .collect();
        self.0.client().eval(&TELL, vec![Value::from(self.0.key("beacon:schedules"))], arguments, WITHIN).await?;
        Ok(())
    }

    /// Every entry that a Beacon has told of lately, in the order of the names.
    pub(super) async fn told(&self) -> Result<Vec<(String, Told)>, Error> {
        let client = self.0.client();
        let commands = vec![("TIME", Vec::new()), ("HGETALL", vec![Value::from(self.0.key("beacon:schedules"))])];
        let [time, all] = client
            .batch(commands, WITHIN)
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .try_into()
            .map_err(|_| Error::Answer("schedules"))?;
        let now = list(time).first().and_then(integer).ok_or(Error::Answer("the time"))? * 1_000;
        let all: Vec<String> = list(all).into_iter().filter_map(text).collect();
        let mut told: Vec<(String, Told)> = all
            .as_chunks::<2>()
            .0
            .iter()
            .filter_map(|[name, value]| {
                let (at, json) = value.split_once(' ')?;
                let recent = at.parse::<i64>().is_ok_and(|at| at > now - TOLD);
                serde_json::from_str(json).ok().filter(|_| recent).map(|told| (name.clone(), told))
            })
            .collect();
        told.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(told)
    }

    /// What has become of these entries so far.
    pub(super) async fn histories(&self, names: &[&str]) -> Result<Vec<History>, Error> {
        const FIELDS: [&str; 6] = ["last", "next", "at", "id", "sent", "missed"];
        let commands = names
            .iter()
            .map(|name| ("HMGET", std::iter::once(self.key(name)).chain(FIELDS.map(Value::from)).collect::<Vec<_>>()));
        let answers = self.0.client().batch(commands.collect(), WITHIN).await;
        answers
            .into_iter()
            .map(|answer| {
                let values = list(answer?);
                let moment = |place: usize| values.get(place).and_then(integer).filter(|moment| *moment >= 0);
                let count = |place: usize| moment(place).unwrap_or(0) as u64;
                let id = values.get(3).cloned().and_then(text);
                let (last, next, at) = (moment(0), moment(1), moment(2));
                Ok(History { last, next, at, id, sent: count(4), missed: count(5) })
            })
            .collect()
    }
}
