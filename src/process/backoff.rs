//! The pause before a process is started again: short at first, doubled with each failure, up to a bound.

use std::time::Duration;

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(15);
/// So many failures in a row are a crash loop.
const LOOP: u32 = 5;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One more failure; gives the pause before the next attempt.
    pub(super) fn failed(&mut self) -> Duration {
        let pause = SHORTEST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// It ran for long enough: what comes next is a first failure again.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Whether it fails again and again.
    pub(super) fn in_a_loop(&self) -> bool {
        self.failures >= LOOP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..40).map(|_| backoff.failed()).collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800].map(Duration::from_millis));
        assert!(pauses.is_sorted() && pauses[39] == LONGEST, "{pauses:?}");
        assert!(backoff.in_a_loop());
        backoff.succeeded();
        assert!(!backoff.in_a_loop());
        assert_eq!(backoff.failed(), SHORTEST);
    }
}
