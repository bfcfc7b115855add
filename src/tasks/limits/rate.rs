//! How many runs of a task one worker may begin in a time: Celery's `rate_limit`.
//!
//! The bucket holds one token, as Celery's does. A run that must wait is told its time at once, and that time is its
//! own: a thousand that wait are not asked again every second which of them is next. They wait in Redis meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Times that are kept for runs that wait, of one task; what comes later takes its turn without one.
const KEPT: usize = 100_000;
/// A run that comes back a little early, as Redis's clock has it, is let through.
const EARLY: Duration = Duration::from_millis(50);
/// A time that was not used for so long has been lost: another worker has taken the message.
const LOST: Duration = Duration::from_mins(1);

/// The rates of one worker's tasks.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<Arc<str>, Bucket>>);

#[derive(Debug)]
struct Bucket {
    interval: Duration,
    /// When the next token is there.
    next: Instant,
    /// Whose time is when.
    times: HashMap<String, Instant>,
}

impl Rates {
    /// Takes a token for the run of this identifier.
    ///
    /// # Errors
    /// How long it has to wait for its own.
    pub fn take(&self, task: &Arc<str>, rate: f64, id: &str, now: Instant) -> Result<(), Duration> {
        let interval = interval(rate);
        let mut all = self.lock();
        let bucket = all.entry(task.clone()).or_insert_with(|| Bucket::new(interval, now));
        if bucket.interval != interval {
            *bucket = Bucket::new(interval, now);
        }
        bucket.take(id, now)
    }

    /// Forgets what has been promised to runs of this task, and gives whose it was: the rate has changed.
    pub fn reset(&self, task: &str) -> Vec<String> {
        self.lock().remove(task).map(|bucket| bucket.times.into_keys().collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Bucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, next: now, times: HashMap::new() }
    }

    fn take(&mut self, id: &str, now: Instant) -> Result<(), Duration> {
        if let Some(time) = self.times.get(id) {
            let wait = time.saturating_duration_since(now);
            if wait > EARLY {
                return Err(wait);
            }
            self.times.remove(id);
            return Ok(());
        }
        if self.next <= now {
            self.next = now + self.interval;
            return Ok(());
        }
        let time = self.next;
        self.next += self.interval;
        if self.times.len() >= KEPT {
            self.times.retain(|_, time| now.saturating_duration_since(*time) < LOST);
        }
        if self.times.len() < KEPT {
            self.times.insert(id.to_owned(), time);
        }
        Err(time - now)
    }
}

/// From one run to the next; a rate that is none of a number is a run a day.
fn interval(rate: f64) -> Duration {
    Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX).min(Duration::from_hours(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_begin_at_the_rate_and_each_has_its_own_time() {
        let (rates, task, start) = (Rates::default(), Arc::from("a"), Instant::now());
        assert_eq!(rates.take(&task, 10.0, "1", start), Ok(()));
        let waits: Vec<_> = (2..5).map(|id| rates.take(&task, 10.0, &id.to_string(), start).unwrap_err()).collect();
        assert_eq!(waits, [100, 200, 300].map(Duration::from_millis));
        // Whoever asks early waits for the rest of its own time, and takes nobody else's.
        let later = start + Duration::from_millis(200);
        assert_eq!(rates.take(&task, 10.0, "4", later), Err(Duration::from_millis(100)));
        assert_eq!(rates.take(&task, 10.0, "3", later), Ok(()));
        assert_eq!(rates.take(&task, 10.0, "2", later), Ok(()));
        assert_eq!(rates.take(&task, 10.0, "5", later), Err(Duration::from_millis(200)));
    }

    #[test]
    fn an_idle_task_saves_no_tokens() {
        let (rates, task, start) = (Rates::default(), Arc::from("a"), Instant::now());
        assert!(rates.take(&task, 1.0, "1", start).is_ok());
        let later = start + Duration::from_mins(1);
        assert!(rates.take(&task, 1.0, "2", later).is_ok());
        assert!(rates.take(&task, 1.0, "3", later).is_err());
    }

    #[test]
    fn a_new_rate_begins_anew_and_gives_back_who_waited() {
        let (rates, task, start) = (Rates::default(), Arc::from("a"), Instant::now());
        assert!(rates.take(&task, 0.01, "1", start).is_ok());
        assert_eq!(rates.take(&task, 0.01, "2", start), Err(Duration::from_secs(100)));
        assert_eq!(rates.reset("a"), ["2"]);
        assert!(rates.take(&task, 1000.0, "2", start).is_ok());
        assert!(rates.reset("unknown").is_empty());
    }

    #[test]
    fn odd_rates_are_slow_and_never_a_panic() {
        let (rates, start) = (Rates::default(), Instant::now());
        for (rate, name) in [(0.0, "zero"), (-1.0, "negative"), (f64::NAN, "nan"), (1e-300, "tiny")] {
            let task = Arc::from(name);
            assert!(rates.take(&task, rate, "1", start).is_ok());
            assert_eq!(rates.take(&task, rate, "2", start), Err(Duration::from_hours(24)), "{name}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (rates, task, start) = (Rates::default(), Arc::from("a"), Instant::now());
        for id in 0..KEPT + 1_000 {
            let _ = rates.take(&task, 1e6, &id.to_string(), start);
        }
        assert!(rates.lock()["a"].times.len() <= KEPT);
    }
}
