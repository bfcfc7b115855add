//! Tasks of which there is one at most: the key is in a header of the message, and is free again when the task has ended.

use std::sync::Arc;

use super::{Broker, CALL, Claimed};
use crate::redis::{self, Script, Value};
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

    /// Where the key of a task is remembered that stands for another one.
    pub(super) fn place_key(&self, id: &str) -> String {
        self.key(&format!("beacon:unique:of:{id}"))
    }

    /// Looks up the places of tasks that stand for others. Hardly any does.
    pub(super) async fn find_places(&self, claimed: &mut [Claimed]) {
        let mut replaced = Vec::new();
        for (index, one) in claimed.iter().enumerate() {
            if one.claim.place.is_none()
                && stands_for_another(&one.raw)
                && let Some(id) = wire::id_of(&one.raw)
            {
                replaced.push((index, id));
            }
        }
        if replaced.is_empty() {
            return;
        }
        let keys = replaced.iter().map(|(_, id)| Value::from(self.place_key(id))).collect();
        match self.client().command("MGET", keys, CALL).await {
            Ok(places) => {
                for ((index, id), key) in replaced.into_iter().zip(redis::list(places)) {
                    if let Some(key) = redis::text(key) {
                        claimed[index].claim.place = Some(Place { key: key.into(), id: id.into() });
                    }
                }
            }
            // Their keys are free again when their time is over.
            Err(error) => tracing::warn!(%error, "it is not known which unique tasks were replaced"),
        }
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

/// Whether a message is of a task that was sent in the place of another one.
fn stands_for_another(raw: &[u8]) -> bool {
    const NAME: &[u8] = b"\"replaced_task_nesting\":";

    memchr::memmem::find(raw, NAME).is_some_and(|at| {
        let nesting = raw[at + NAME.len()..].iter().find(|byte| **byte != b' ');
        nesting.is_some_and(|byte| (b'1'..=b'9').contains(byte))
    })
}
