//! Tasks of which there is one at most: the key is in a header of the message, and is free again when the task has ended.

use std::sync::Arc;

use super::{Broker, CALL};
use crate::redis::{Script, Value};
use crate::tasks::Error;
use crate::tasks::wire;

/// The place of a task under its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The key in Redis.
    pub(super) key: Arc<str>,
    /// The task that has it.
    pub(super) id: Arc<str>,
}

/// KEYS: keys. ARGV: for each the task that has it.
static FREE: Script = Script::new(
    "for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i] then redis.call('DEL', KEYS[i]) end
end
return 1",
);

impl Broker {
    /// Where the task of a key is remembered.
    pub(in crate::tasks) fn unique_key(&self, key: &str) -> String {
        self.key(&format!("beacon:unique:{key}"))
    }

    /// The place of a message's task, if it has one; hardly any has, and the rest is not read for it.
    pub(super) fn place_of(&self, raw: &[u8]) -> Option<Place> {
        memchr::memmem::find(raw, wire::UNIQUE.as_bytes())?;
        let key = wire::header_of(raw, wire::UNIQUE)?;
        Some(Place { key: self.unique_key(&key).into(), id: wire::id_of(raw)?.into() })
    }

    /// These messages will not run: others of their keys may.
    pub(super) async fn free_places(&self, raws: impl Iterator<Item = &bytes::Bytes>) -> Result<(), Error> {
        let places: Vec<Place> = raws.filter_map(|raw| self.place_of(raw)).collect();
        if places.is_empty() {
            return Ok(());
        }
        let keys = places.iter().map(|place| Value::from(&*place.key)).collect();
        let ids = places.iter().map(|place| Value::from(&*place.id)).collect();
        self.client().eval(&FREE, keys, ids, CALL).await?;
        Ok(())
    }
}
