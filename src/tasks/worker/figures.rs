//! What Prometheus sees of tasks.
//!
//! Names of tasks and queues come from messages, which anybody may send who reaches Redis: their number is bounded, and
//! what comes after is counted as "other".

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::Metrics;

/// The most names that are told apart.
const NAMES: usize = 1_000;
/// Upper bounds of run times, in seconds.
const BUCKETS: [f64; 14] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0];

type Labels = Vec<(&'static str, String)>;
type Seconds = Gauge<f64, AtomicU64>;

/// The figures. Clones share them.
#[derive(Clone)]
pub struct Figures(Arc<Inner>);

struct Inner {
    runs: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    active: Gauge,
    parked: Gauge,
    dead: Gauge,
    length: Family<Labels, Gauge>,
    oldest: Family<Labels, Seconds>,
    names: Mutex<HashSet<Arc<str>>>,
}

impl Default for Figures {
    fn default() -> Self {
        Self(Arc::new(Inner {
            runs: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            active: Gauge::default(),
            parked: Gauge::default(),
            dead: Gauge::default(),
            length: Family::default(),
            oldest: Family::default(),
            names: Mutex::default(),
        }))
    }
}

impl Figures {
    /// Shows them among the others. To be called once.
    pub fn register(&self, metrics: &Metrics) {
        let inner = &self.0;
        metrics.register(|registry| {
            registry.register("tasks_runs", "Tasks that have ended, by outcome", inner.runs.clone());
            registry.register("tasks_run_seconds", "How long task bodies ran", inner.seconds.clone());
            registry.register("tasks_active", "Tasks that run", inner.active.clone());
            registry.register("tasks_parked", "Tasks that wait for their time, over all workers", inner.parked.clone());
            registry.register("tasks_dead", "Dead letters", inner.dead.clone());
            registry.register("tasks_queue_length", "Messages that wait in a queue", inner.length.clone());
            registry.register("tasks_queue_oldest_seconds", "Age of a queue's next message", inner.oldest.clone());
        });
    }

    /// A task has ended.
    pub fn ended(&self, task: &Arc<str>, outcome: &'static str, runtime: Option<Duration>) {
        let task = self.named(task);
        self.0.runs.get_or_create(&vec![("task", task.clone()), ("outcome", outcome.to_owned())]).inc();
        if let Some(runtime) = runtime {
            self.0.seconds.get_or_create(&vec![("task", task)]).observe(runtime.as_secs_f64());
        }
    }

    /// So many run.
    pub fn active(&self, active: usize) {
        self.0.active.set(active as i64);
    }

    /// So many wait for their time, and so many are dead letters.
    pub fn kept(&self, parked: usize, dead: usize) {
        self.0.parked.set(parked as i64);
        self.0.dead.set(dead as i64);
    }

    /// How a queue of this worker stands.
    pub fn queue(&self, queue: &str, length: usize, oldest: Option<f64>) {
        let labels = vec![("queue", queue.to_owned())];
        self.0.length.get_or_create(&labels).set(length as i64);
        self.0.oldest.get_or_create(&labels).set(oldest.unwrap_or_default());
    }

    /// A queue is no longer one of this worker's.
    pub fn forget_queue(&self, queue: &str) {
        let labels = vec![("queue", queue.to_owned())];
        self.0.length.remove(&labels);
        self.0.oldest.remove(&labels);
    }

    fn named(&self, task: &Arc<str>) -> String {
        let mut names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(task) || (names.len() < NAMES && names.insert(task.clone())) {
            task.to_string()
        } else {
            "other".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        let (figures, metrics) = (Figures::default(), Metrics::new());
        figures.register(&metrics);
        for task in 0..NAMES + 50 {
            figures.ended(&Arc::from(format!("t{task}")), "succeeded", Some(Duration::from_millis(20)));
        }
        figures.queue("celery", 3, Some(1.5));
        figures.queue("gone", 1, None);
        figures.forget_queue("gone");
        let page = metrics.render();
        assert!(page.contains("beacon_tasks_runs_total{task=\"other\",outcome=\"succeeded\"} 50"), "{page}");
        assert!(page.contains("beacon_tasks_queue_length{queue=\"celery\"} 3"));
        assert!(page.contains("beacon_tasks_queue_oldest_seconds{queue=\"celery\"} 1.5"));
        assert!(!page.contains("gone"));
        assert!(page.contains("beacon_tasks_run_seconds_bucket{le=\"0.05\",task=\"t0\"} 1"));
    }
}
