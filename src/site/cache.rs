//! Small files in memory, bounded in bytes, and names that are not there, bounded in number.
//!
//! Readers take a read lock on one of many shards for the time of one look-up. Writers are rare and share one lock
//! over the clock, which decides what goes: an entry that was not asked for since the hand last passed. Absent names
//! live in a table of their own and of fixed size, so that a flood of them takes no memory and evicts no file.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::entry::Entry;
use super::root::FRESH;

const SHARDS: usize = 32;
const ABSENT: usize = 4_096;

/// Below this age an entry is still served while one request compares it with the disk; above it, all wait.
const STALE: u64 = 5 * FRESH;

/// What is known of a name.
pub enum Look {
    /// The file, as it was within the last [`FRESH`] milliseconds.
    Fresh(Arc<Entry>),
    /// A file that was looked at a little longer ago; this caller is the one to compare it with the disk.
    Claimed,
    /// There is no such file.
    Absent(Absence),
    /// Nothing that is still believed.
    Unknown,
}

/// What is there instead of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Nothing.
    Missing,
    /// A folder, named without its slash.
    Folder,
}

type Shard = RwLock<HashMap<Box<str>, Arc<Entry>>>;

/// The cache.
pub struct Cache {
    shards: Box<[Shard]>,
    clock: Mutex<Clock>,
    absent: Mutex<Box<[Gap]>>,
    hasher: RandomState,
    budget: usize,
}

#[derive(Default)]
struct Clock {
    places: Vec<Option<Arc<Entry>>>,
    free: Vec<usize>,
    hand: usize,
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Gap {
    hash: u64,
    at: u64,
    generation: u64,
    absence: Absence,
}

impl Cache {
    /// A cache of at most `budget` bytes of files.
    pub fn new(budget: usize) -> Self {
        let gap = Gap { hash: 0, at: 0, generation: 0, absence: Absence::Missing };
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            clock: Mutex::default(),
            absent: Mutex::new(vec![gap; ABSENT].into()),
            hasher: RandomState::new(),
            budget,
        }
    }

    /// The hash of a name, keyed at random: nobody outside can make two names collide.
    pub fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    /// What is known of `key` at `now`, while the root has `generation`.
    pub fn look(&self, key: &str, generation: u64, now: u64) -> Look {
        let hash = self.hash(key);
        let Some(entry) = self.entry_of(key, hash) else { return self.look_absent(hash, generation, now) };
        if entry.generation.load(Acquire) != generation {
            return Look::Unknown;
        }
        let checked = entry.checked.load(Acquire);
        let age = now.saturating_sub(checked);
        if age >= STALE {
            return Look::Unknown;
        }
        if age >= FRESH && entry.checked.compare_exchange(checked, now, AcqRel, Relaxed).is_ok() {
            return Look::Claimed;
        }
        // Loaded first: a store that changes nothing still takes the cache line from every other core.
        if !entry.used.load(Relaxed) {
            entry.used.store(true, Relaxed);
        }
        Look::Fresh(entry)
    }

    fn look_absent(&self, hash: u64, generation: u64, now: u64) -> Look {
        let absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = absent[hash as usize % ABSENT];
        if gap.hash == hash && gap.generation == generation && gap.at > 0 && now.saturating_sub(gap.at) < FRESH {
            Look::Absent(gap.absence)
        } else {
            Look::Unknown
        }
    }

    /// The entry of `key`, however old.
    pub fn entry(&self, key: &str) -> Option<Arc<Entry>> {
        self.entry_of(key, self.hash(key))
    }

    fn entry_of(&self, key: &str, hash: u64) -> Option<Arc<Entry>> {
        self.shard(hash).read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn shard(&self, hash: u64) -> &Shard {
        // The low bits choose the place among the absent.
        &self.shards[(hash >> 59) as usize % SHARDS]
    }

    /// Keeps `entry` in place of an older one of its name, and lets others go until all fit.
    pub fn insert(&self, entry: &Arc<Entry>) {
        let old = {
            let mut shard = self.shard(self.hash(&entry.key)).write().unwrap_or_else(PoisonError::into_inner);
            shard.insert(entry.key.clone(), Arc::clone(entry))
        };
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = old {
            clock.take_out(&old);
        }
        clock.put_in(entry);
        self.shrink(&mut clock);
    }

    /// Forgets the file called `key`, and remembers for a moment what is there instead.
    pub fn set_absent(&self, key: &str, absence: Absence, generation: u64, now: u64) {
        self.remove(key);
        let hash = self.hash(key);
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        absent[hash as usize % ABSENT] = Gap { hash, at: now, generation, absence };
    }

    /// Forgets the file called `key`.
    pub fn remove(&self, key: &str) {
        let old = self.shard(self.hash(key)).write().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some(old) = old {
            self.clock.lock().unwrap_or_else(PoisonError::into_inner).take_out(&old);
        }
    }

    /// Accounts for `bytes` more that `entry` takes now.
    pub fn grow(&self, entry: &Entry, bytes: usize) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if entry.place.load(Relaxed) != usize::MAX {
            entry.weight.fetch_add(bytes, Relaxed);
            clock.bytes += bytes;
            self.shrink(&mut clock);
        }
    }

    fn shrink(&self, clock: &mut Clock) {
        while clock.bytes > self.budget {
            let Some(victim) = clock.next_victim() else { return };
            clock.take_out(&victim);
            // Lock order: the clock, then a shard. No one takes the clock while holding a shard.
            let mut shard = self.shard(self.hash(&victim.key)).write().unwrap_or_else(PoisonError::into_inner);
            if shard.get(&victim.key).is_some_and(|entry| Arc::ptr_eq(entry, &victim)) {
                shard.remove(&victim.key);
            }
        }
    }

    /// Bytes of files held now.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

impl Clock {
    fn put_in(&mut self, entry: &Arc<Entry>) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(Arc::clone(entry));
        entry.place.store(place, Release);
        self.bytes += entry.weight.load(Relaxed);
    }

    fn take_out(&mut self, entry: &Entry) {
        let place = entry.place.swap(usize::MAX, AcqRel);
        if place != usize::MAX {
            self.places[place] = None;
            self.free.push(place);
            self.bytes -= entry.weight.load(Relaxed);
        }
    }

    /// The next entry that was not asked for since the hand last passed; after two rounds, any.
    fn next_victim(&mut self) -> Option<Arc<Entry>> {
        let mut last = None;
        for _ in 0..self.places.len() * 2 {
            self.hand = (self.hand + 1) % self.places.len();
            if let Some(entry) = &self.places[self.hand] {
                if !entry.used.swap(false, Relaxed) {
                    return Some(Arc::clone(entry));
                }
                last = Some(Arc::clone(entry));
            }
        }
        last
    }
}
