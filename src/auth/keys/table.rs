//! The API keys that are good at this moment, in memory, swapped whole when the database says that they changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use uuid::Uuid;

use super::text::{Kind, digest};

/// A key as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Identifies it for limits and lists.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// The SHA-256 of its text.
    pub hash: [u8; 32],
    /// The database role whose rights it gives.
    pub role: Arc<str>,
}

/// A key that was found, and when it was used last.
#[derive(Clone, Debug)]
pub struct Found {
    /// The key.
    pub key: ApiKey,
    /// Seconds since 1970, 0 for never since the start.
    pub used: Arc<AtomicU64>,
}

/// The keys that are good; by default none is known yet. A cheap clone; all clones change together.
#[derive(Clone, Default)]
pub struct ApiKeys(Arc<Inner>);

#[derive(Default)]
struct Inner {
    table: ArcSwap<HashMap<[u8; 32], Found>>,
    epoch: AtomicU64,
    loaded: AtomicBool,
}

impl ApiKeys {
    /// These keys; revoked ones are not among them.
    #[must_use]
    pub fn new(keys: Vec<ApiKey>) -> Self {
        let table = Self::default();
        table.replace(keys);
        table
    }

    /// Takes another state of the database. A key that is gone is refused from now on.
    pub fn replace(&self, keys: Vec<ApiKey>) {
        let old = self.0.table.load();
        let used = |key: &ApiKey| old.get(&key.hash).map(|found| found.used.clone()).unwrap_or_default();
        let new: HashMap<[u8; 32], Found> =
            keys.into_iter().map(|key| (key.hash, Found { used: used(&key), key })).collect();
        let changed = old.iter().any(|(hash, found)| new.get(hash).is_none_or(|new| new.key != found.key));
        self.0.table.store(Arc::new(new));
        self.0.loaded.store(true, Ordering::Release);
        if changed {
            self.0.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether the database has been asked for keys.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.0.loaded.load(Ordering::Acquire)
    }

    /// The key with this text.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<Found> {
        self.0.table.load().get(&digest(text)).cloned()
    }

    /// Grows when a key is taken away or changed: what was found before is void.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// When each key was used last, in seconds since 1970; keys that were not used since the start are left out.
    #[must_use]
    pub fn uses(&self) -> Vec<(Uuid, u64)> {
        let table = self.0.table.load();
        let uses = table.values().map(|found| (found.key.id, found.used.load(Ordering::Relaxed)));
        uses.filter(|(_, used)| *used > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str, role: &str) -> ApiKey {
        ApiKey { id: Uuid::new_v4(), name: text.into(), kind: Kind::Secret, hash: digest(text), role: role.into() }
    }

    #[test]
    fn a_key_that_is_gone_or_changed_is_void_at_once_and_a_new_one_is_not() {
        let (one, two) = (key("sb_secret_one", "a"), key("sb_secret_two", "b"));
        let keys = ApiKeys::new(vec![one.clone()]);
        assert_eq!(keys.find("sb_secret_one").unwrap().key, one);
        assert!(keys.find("sb_secret_two").is_none());
        keys.replace(vec![one.clone(), two.clone()]);
        assert_eq!(keys.epoch(), 0);
        assert!(keys.find("sb_secret_two").is_some());
        keys.replace(vec![two.clone()]);
        assert!(keys.find("sb_secret_one").is_none());
        assert_eq!(keys.epoch(), 1);
        keys.replace(vec![ApiKey { role: "c".into(), ..two }]);
        assert_eq!(keys.epoch(), 2);
    }

    #[test]
    fn the_last_use_outlives_a_reload() {
        let one = key("sb_secret_one", "a");
        let keys = ApiKeys::new(vec![one.clone(), key("sb_secret_two", "b")]);
        keys.find("sb_secret_one").unwrap().used.store(7, Ordering::Relaxed);
        keys.replace(vec![one.clone()]);
        assert_eq!(keys.uses(), [(one.id, 7)]);
    }
}
