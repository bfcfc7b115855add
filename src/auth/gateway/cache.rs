//! Remembers who sent which credentials, so that a signature is computed once in a token's life.
//!
//! Entries are named by the SHA-256 of the credentials; no token is kept. Only good ones are remembered, so a stranger
//! cannot fill the table, and users who can are bounded by number and by bytes. An entry ends with its token, or when
//! the epoch grows because a key was taken away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::Caller;

const SHARDS: usize = 16;
/// Entries and bytes of claims in one shard.
const ENTRIES: usize = 1_024;
const BYTES: usize = 1024 * 1024;
/// What an entry takes besides its claims.
const OVERHEAD: usize = 256;

/// The name of credentials.
pub(super) type Name = [u8; 32];

/// Who sent which credentials.
pub(super) struct Cache(Box<[RwLock<Shard>]>);

#[derive(Default)]
struct Shard {
    entries: HashMap<Name, Entry>,
    bytes: usize,
}

pub(super) struct Entry {
    pub caller: Arc<Caller>,
    /// In seconds since 1970.
    pub expires: u64,
    pub epoch: u64,
    /// When the API key was used last.
    pub key_used: Option<Arc<AtomicU64>>,
    /// Since the shard was swept.
    pub used: AtomicBool,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| RwLock::default()).collect())
    }

    pub(super) fn find(&self, name: &Name, now: u64, epoch: u64) -> Option<Arc<Caller>> {
        let shard = self.shard(name).read().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.entries.get(name).filter(|entry| entry.expires > now && entry.epoch == epoch)?;
        // Looked at before it is written: a line that all cores write costs more than the look-up.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        if let Some(used) = entry.key_used.as_ref().filter(|used| used.load(Ordering::Relaxed) != now) {
            used.store(now, Ordering::Relaxed);
        }
        Some(entry.caller.clone())
    }

    pub(super) fn add(&self, name: Name, entry: Entry, now: u64) {
        let mut shard = self.shard(&name).write().unwrap_or_else(PoisonError::into_inner);
        let size = entry.size();
        if size > BYTES / 8 {
            return;
        }
        if shard.entries.len() >= ENTRIES || shard.bytes + size > BYTES {
            let epoch = entry.epoch;
            shard
                .entries
                .retain(|_, old| old.expires > now && old.epoch == epoch && old.used.swap(false, Ordering::Relaxed));
            if shard.entries.len() >= ENTRIES / 2 {
                shard.entries.clear();
            }
            shard.bytes = shard.entries.values().map(Entry::size).sum();
            if shard.bytes > BYTES / 2 {
                shard.entries.clear();
                shard.bytes = 0;
            }
        }
        shard.bytes += size;
        if let Some(old) = shard.entries.insert(name, entry) {
            shard.bytes -= old.size();
        }
    }

    fn shard(&self, name: &Name) -> &RwLock<Shard> {
        &self.0[usize::from(name[0]) % SHARDS]
    }
}

impl Entry {
    fn size(&self) -> usize {
        self.caller.claims.len() + OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(claims: usize, expires: u64) -> Entry {
        let caller = Caller { claims: "x".repeat(claims).into(), ..Caller::anonymous("anon") };
        Entry { caller: Arc::new(caller), expires, epoch: 1, key_used: None, used: AtomicBool::new(false) }
    }

    /// All in one shard.
    fn name(number: u32) -> Name {
        let mut name = [0; 32];
        name[4..8].copy_from_slice(&number.to_be_bytes());
        name
    }

    fn weight(cache: &Cache) -> (usize, usize, usize) {
        let shard = cache.0[0].read().unwrap();
        (shard.entries.len(), shard.bytes, shard.entries.values().map(Entry::size).sum())
    }

    #[test]
    fn an_entry_ends_with_its_token_and_with_its_epoch() {
        let cache = Cache::new();
        cache.add(name(1), entry(10, 100), 50);
        assert!(cache.find(&name(1), 99, 1).is_some());
        assert!(cache.find(&name(1), 100, 1).is_none());
        assert!(cache.find(&name(1), 99, 2).is_none());
        assert!(cache.find(&name(2), 99, 1).is_none());
    }

    #[test]
    fn entries_and_bytes_are_bounded() {
        for claims in [10, 12_000, 200_000] {
            let cache = Cache::new();
            for number in 0..5_000 {
                cache.add(name(number), entry(claims, 100), 50);
                let (entries, bytes, sum) = weight(&cache);
                assert!(entries <= ENTRIES && bytes <= BYTES && bytes == sum, "{entries} {bytes} {sum}");
            }
        }
    }

    #[test]
    fn what_is_used_outlives_a_sweep() {
        let cache = Cache::new();
        cache.add(name(0), entry(10, 100), 50);
        for number in 1..ENTRIES as u32 {
            cache.add(name(number), entry(10, 100), 50);
        }
        assert!(cache.find(&name(0), 50, 1).is_some());
        cache.add(name(9_999), entry(10, 100), 50);
        assert!(cache.find(&name(0), 50, 1).is_some());
        assert!(cache.find(&name(1), 50, 1).is_none());
        assert!(cache.find(&name(9_999), 50, 1).is_some());
    }

    #[test]
    fn the_same_credentials_count_once() {
        let cache = Cache::new();
        for _ in 0..10 {
            cache.add(name(1), entry(100, 100), 50);
        }
        assert_eq!(weight(&cache), (1, 100 + OVERHEAD, 100 + OVERHEAD));
    }
}
