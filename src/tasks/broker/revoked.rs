//! Tasks that must not run any more, remembered in Redis so that every worker knows it, and every later one.

use std::collections::BTreeMap;

use super::{Broker, CALL};
use crate::redis::{self, Script, Value};
use crate::tasks::Error;

/// How long a revocation is remembered, in milliseconds; three hours, as Celery does.
const TTL: i64 = 3 * 3_600_000;
/// The most that are remembered; the oldest go.
const MOST: i64 = 50_000;

/// KEYS: the set, the channel. ARGV: ms to remember, how many, members. Scores are when it may be forgotten.
static REVOKE: Script = Script::new(
    "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[i]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PUBLISH', KEYS[2], #ARGV - 2)
return redis.call('ZCARD', KEYS[1])",
);

/// KEYS: the set. Answers with what is not forgotten yet.
static REVOKED: Script = Script::new(
    "local time = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', time[1] * 1000), '+inf')",
);

impl Broker {
    /// Revokes tasks by their identifiers.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn revoke(&self, ids: &[String]) -> Result<(), Error> {
        self.remember("beacon:revoked", ids.iter().map(String::as_str)).await
    }

    /// What is revoked and not forgotten yet.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn revoked(&self) -> Result<Vec<String>, Error> {
        let answer = self.client().eval(&REVOKED, vec![self.key("beacon:revoked").into()], Vec::new(), CALL).await?;
        Ok(redis::list(answer).into_iter().filter_map(redis::text).collect())
    }

    /// Which of these tasks are revoked, in this order.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn is_revoked(&self, ids: &[&str]) -> Result<Vec<bool>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec![Value::from(self.key("beacon:revoked"))];
        arguments.extend(ids.iter().map(|id| Value::from(*id)));
        let scores = redis::list(self.client().command("ZMSCORE", arguments, CALL).await?);
        if scores.len() != ids.len() {
            return Err(Error::Answer("ZMSCORE"));
        }
        Ok(scores.iter().map(|score| !matches!(score, Value::Null)).collect())
    }

    /// Takes a revocation back: for a task that is sent again under its old identifier.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn unrevoke(&self, ids: &[String]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut arguments = vec![Value::from(self.key("beacon:revoked"))];
        arguments.extend(ids.iter().map(|id| Value::from(id.as_str())));
        self.client().command("ZREM", arguments, CALL).await?;
        self.client().command("PUBLISH", vec![self.key("beacon:revoked").into(), "0".into()], CALL).await?;
        Ok(())
    }

    /// Revokes all tasks with one of these values of a stamp.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn revoke_stamps(&self, stamps: &[(String, String)]) -> Result<(), Error> {
        let members: Vec<String> = stamps.iter().map(|(name, value)| format!("{name}\n{value}")).collect();
        self.remember("beacon:revoked:stamps", members.iter().map(String::as_str)).await
    }

    /// Revoked values of stamps, by the stamps' names.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn revoked_stamps(&self) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let keys = vec![self.key("beacon:revoked:stamps").into()];
        let answer = redis::list(self.client().eval(&REVOKED, keys, Vec::new(), CALL).await?);
        let mut stamps: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for member in answer.into_iter().filter_map(redis::text) {
            if let Some((name, value)) = member.split_once('\n') {
                stamps.entry(name.to_owned()).or_default().push(value.to_owned());
            }
        }
        Ok(stamps)
    }

    /// The channel on which every change of revocations is told, to be listened to by who keeps a copy.
    #[must_use]
    pub fn revoked_channel(&self) -> String {
        self.key("beacon:revoked")
    }

    async fn remember(&self, set: &str, members: impl Iterator<Item = &str>) -> Result<(), Error> {
        let members: Vec<Value> = members.map(Value::from).collect();
        for members in members.chunks(1_000) {
            let mut arguments = vec![Value::from(TTL), MOST.into()];
            arguments.extend_from_slice(members);
            let keys = vec![self.key(set).into(), self.revoked_channel().into()];
            self.client().eval(&REVOKE, keys, arguments, CALL).await?;
        }
        Ok(())
    }
}
