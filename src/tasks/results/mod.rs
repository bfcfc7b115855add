//! The results' Redis, which may be another one than the broker's: what tasks ended with, and the counters of chords.
//!
//! A client subscribes to a result's key and also reads it once, so the same bytes are stored and published; a SUCCESS is
//! never overwritten, and looking and writing are one step.

mod chord;

use std::time::Duration;

pub use chord::Counted;

use bytes::Bytes;

use super::config::Transport;
use super::error::Error;
use super::wire::Meta;
use crate::redis::{self, Client, Script, Value};
use crate::secret::Secret;

/// How long Redis may take for an answer.
const CALL: Duration = Duration::from_secs(5);

/// Writes results: takes from ARGV by `take`. Looks for SUCCESS in the start alone, where every serialiser has the state.
macro_rules! store {
    () => {
        "local at = 0
local function take() at = at + 1 return ARGV[at] end
local ttl = tonumber(take())
for _ = 1, tonumber(take()) do
  local key, value = take(), take()
  local old = redis.pcall('GETRANGE', key, 0, 40)
  if type(old) ~= 'string' or not string.find(old, 'SUCCESS', 1, true) then
    if ttl > 0 then redis.call('SETEX', key, ttl, value) else redis.call('SET', key, value) end
    redis.call('PUBLISH', key, value)
  end
end
"
    };
}
pub(super) use store;

static STORE: Script = Script::new(concat!(store!(), "return 1"));

/// A result to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The task's identifier.
    pub id: String,
    /// The whole value.
    pub value: Bytes,
}

/// Where results are. Clones share one connection.
#[derive(Clone)]
pub struct Results {
    client: Client,
    prefix: String,
    expires: Duration,
}

impl Results {
    /// The results at this URL, kept for so long (0 is for ever), without going there.
    ///
    /// # Errors
    /// A URL that cannot be used.
    pub fn new(url: &Secret, transport: &Transport, expires: Duration) -> Result<Self, Error> {
        let client = Client::new(&redis::Config { url: url.clone() })?;
        let mut prefix = transport.result_keyprefix.clone();
        // As Celery does it, for results alone.
        if !prefix.is_empty() && !prefix.ends_with([':', '_', '-', '.']) {
            prefix.push('_');
        }
        Ok(Self { client, prefix, expires })
    }

    /// Connects, and connects again whenever the connection is lost, until [`Results::close`]. To be started once.
    pub async fn keep(self) {
        self.client.keep().await;
    }

    /// Ends the connection.
    pub async fn close(&self) {
        self.client.close().await;
    }

    /// Whether there is a connection at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// For commands of one's own.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The key and channel of a task's result.
    #[must_use]
    pub fn key(&self, id: &str) -> String {
        format!("{}celery-task-meta-{id}", self.prefix)
    }

    /// The key of a group, and of its chord's counters with a suffix: ".j" and its like.
    #[must_use]
    pub fn group_key(&self, id: &str, suffix: &str) -> String {
        format!("{}celery-taskset-meta-{id}{suffix}", self.prefix)
    }

    /// How long results are kept, in whole seconds; 0 is for ever.
    #[must_use]
    pub fn ttl(&self) -> u64 {
        self.expires.as_secs()
    }

    /// Stores and publishes, all in one go; a SUCCESS that is there stays.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn store(&self, results: &[Write]) -> Result<(), Error> {
        if results.is_empty() {
            return Ok(());
        }
        let mut arguments = Vec::with_capacity(2 + 2 * results.len());
        self.arguments(results.iter(), results.len(), &mut arguments);
        self.client.eval(&STORE, Vec::new(), arguments, CALL).await?;
        Ok(())
    }

    /// What the script's part `store` takes.
    pub(super) fn arguments<'a>(
        &self,
        results: impl Iterator<Item = &'a Write>,
        count: usize,
        arguments: &mut Vec<Value>,
    ) {
        arguments.push(Value::from(self.ttl().min(i64::MAX as u64) as i64));
        arguments.push(Value::from(count as i64));
        for result in results {
            arguments.push(Value::from(self.key(&result.id)));
            arguments.push(Value::Bytes(result.value.clone()));
        }
    }

    /// A task's result, if there is one.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn get(&self, id: &str) -> Result<Option<Meta>, Error> {
        let value = self.raw(id).await?;
        Ok(value.and_then(|value| Meta::parse(&value)))
    }

    /// A task's result as it is stored.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn raw(&self, id: &str) -> Result<Option<Bytes>, Error> {
        Ok(redis::bytes(self.client.command("GET", vec![Value::from(self.key(id))], CALL).await?))
    }

    /// Forgets a task's result.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn forget(&self, id: &str) -> Result<(), Error> {
        self.client.command("DEL", vec![Value::from(self.key(id))], CALL).await?;
        Ok(())
    }

    /// Waits until a task has ended, so long at most; gives what is known then.
    ///
    /// # Errors
    /// Redis is away or refused.
    pub async fn wait(&self, id: &str, within: Duration) -> Result<Option<Meta>, Error> {
        let key = self.key(id);
        let until = tokio::time::Instant::now() + within;
        let mut heard = self.client.subscribe(&[&key], &[]);
        loop {
            let found = self.get(id).await?;
            if found.as_ref().is_some_and(Meta::is_ready) {
                return Ok(found);
            }
            // The read again after a while is for what was published before the subscription was there.
            let pause = Duration::from_secs(1).min(until.saturating_duration_since(tokio::time::Instant::now()));
            if pause.is_zero() {
                return Ok(found);
            }
            let _ = tokio::time::timeout(pause, heard.next()).await;
        }
    }
}
