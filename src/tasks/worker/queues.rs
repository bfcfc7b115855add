//! Which queue is asked first.
//!
//! The step of the priority goes first, then the turn: a queue that delivered goes to the end of the row, so that a
//! busy one cannot starve the others. A queue whose next message waits for a runner that has no place left is left
//! alone until there is one: its messages would only lie here instead of with a worker that has a place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The queues of a worker.
#[derive(Debug, Default)]
pub struct Queues {
    row: Mutex<Row>,
    /// Told when there is one more or less, or one is asked again.
    changed: Notify,
    /// Counts how often connections were to be made anew.
    rebuilt: AtomicU64,
}

#[derive(Debug, Default)]
struct Row {
    /// In the order in which they were named.
    named: Vec<Arc<str>>,
    /// In the order of their turn.
    turn: Vec<Arc<str>>,
    /// Which runner each of these waits for.
    waiting: HashMap<Arc<str>, usize>,
}

impl Queues {
    /// These queues.
    #[must_use]
    pub fn new(queues: &[String]) -> Self {
        let mut named: Vec<Arc<str>> = Vec::with_capacity(queues.len());
        for queue in queues {
            if !named.iter().any(|known| **known == **queue) {
                named.push(queue.as_str().into());
            }
        }
        Self {
            row: Mutex::new(Row { turn: named.clone(), named, waiting: HashMap::new() }),
            changed: Notify::new(),
            rebuilt: AtomicU64::new(0),
        }
    }

    /// All, in the order in which they were named.
    #[must_use]
    pub fn named(&self) -> Vec<Arc<str>> {
        self.lock().named.clone()
    }

    /// Those that are to be asked, in the order of their turn.
    #[must_use]
    pub fn turn(&self) -> Vec<Arc<str>> {
        let row = self.lock();
        row.turn.iter().filter(|queue| !row.waiting.contains_key(*queue)).cloned().collect()
    }

    /// These delivered: the others go first.
    pub fn delivered(&self, queues: &[Arc<str>]) {
        let mut row = self.lock();
        for queue in queues {
            if let Some(at) = row.turn.iter().position(|known| known == queue) {
                let queue = row.turn.remove(at);
                row.turn.push(queue);
            }
        }
    }

    /// Leaves a queue alone until this runner has a place again.
    pub fn wait_for(&self, queue: &Arc<str>, runner: usize) {
        self.lock().waiting.insert(queue.clone(), runner);
    }

    /// Whether any queue waits for a runner.
    #[must_use]
    pub fn any_waits(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// Asks the queues again that wait for a runner of which `free` says that it has a place.
    pub fn resume(&self, free: impl Fn(usize) -> bool) {
        let mut row = self.lock();
        let before = row.waiting.len();
        row.waiting.retain(|_, runner| !free(*runner));
        if row.waiting.len() != before {
            drop(row);
            self.changed.notify_one();
        }
    }

    /// One more; false if it is there.
    pub fn add(&self, queue: &str) -> bool {
        let mut row = self.lock();
        if row.named.iter().any(|known| &**known == queue) {
            return false;
        }
        let queue: Arc<str> = queue.into();
        row.named.push(queue.clone());
        row.turn.push(queue);
        drop(row);
        self.changed.notify_one();
        true
    }

    /// One less; false if it is not there.
    pub fn remove(&self, queue: &str) -> bool {
        let mut row = self.lock();
        let before = row.named.len();
        row.named.retain(|known| &**known != queue);
        row.turn.retain(|known| &**known != queue);
        row.waiting.remove(queue);
        let removed = row.named.len() != before;
        drop(row);
        if removed {
            self.changed.notify_one();
        }
        removed
    }

    /// Whoever waits for them makes new connections for that.
    pub fn rebuild(&self) {
        self.rebuilt.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Changes with [`Queues::rebuild`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.rebuilt.load(Ordering::Acquire)
    }

    /// Completes when something has changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(queues: &[&str]) -> Queues {
        Queues::new(&queues.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn shown(queues: &[Arc<str>]) -> String {
        queues.join(" ")
    }

    #[test]
    fn a_queue_that_delivered_goes_to_the_end() {
        let queues = of(&["a", "b", "c", "a"]);
        assert_eq!(shown(&queues.turn()), "a b c");
        queues.delivered(&["a".into()]);
        assert_eq!(shown(&queues.turn()), "b c a");
        queues.delivered(&["c".into(), "gone".into()]);
        assert_eq!(shown(&queues.turn()), "b a c");
        assert_eq!(shown(&queues.named()), "a b c");
    }

    #[test]
    fn a_queue_that_waits_for_a_runner_is_left_alone() {
        let queues = of(&["a", "b"]);
        queues.wait_for(&"a".into(), 1);
        assert!(queues.any_waits());
        assert_eq!(shown(&queues.turn()), "b");
        queues.resume(|runner| runner == 0);
        assert_eq!(shown(&queues.turn()), "b");
        queues.resume(|runner| runner == 1);
        assert_eq!(shown(&queues.turn()), "a b");
    }

    #[tokio::test]
    async fn queues_come_and_go() {
        let queues = of(&["a"]);
        assert!(queues.add("b") && !queues.add("b"));
        queues.changed().await;
        assert!(queues.remove("a") && !queues.remove("a"));
        queues.changed().await;
        assert_eq!(shown(&queues.turn()), "b");
    }
}
