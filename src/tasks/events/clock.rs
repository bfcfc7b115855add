//! A logical clock after Lamport, as Celery's events and remote control carry it: it orders what several workers say,
//! whatever their clocks show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest value that is taken from others: the largest that every reader of JSON knows exactly. Nobody gets there
/// by counting, and a larger one would have nowhere to go from.
const LARGEST: u64 = 1 << 53;

/// The clock. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// What it shows.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One step on, for something that is sent; gives the new value.
    #[must_use]
    pub fn forward(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Something came that another clock had stamped so.
    pub fn adjust(&self, other: u64) {
        let other = if other > LARGEST { 0 } else { other };
        self.0.fetch_max(other, Ordering::Relaxed);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_always_later_than_what_it_has_seen() {
        let clock = Clock::default();
        assert_eq!(clock.forward(), 1);
        clock.adjust(40);
        assert_eq!(clock.value(), 41);
        clock.adjust(7);
        assert_eq!(clock.value(), 42);
        assert_eq!(clock.clone().forward(), 43);
        clock.adjust(u64::MAX);
        assert_eq!(clock.value(), 44, "a value from nowhere does not move it on");
    }
}
