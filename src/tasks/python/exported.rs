//! What the clerk tells of the application.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::secret::Secret;
use crate::tasks::Spec;

/// The application, as far as Beacon must know it.
#[derive(Clone, Debug, Deserialize)]
pub struct Exported {
    /// Celery's version.
    pub celery: String,
    /// The application's name.
    pub name: String,
    /// The node's name as Celery resolved it.
    pub node: String,
    /// The broker.
    pub broker: Broker,
    /// The result backend.
    pub result: Results,
    /// Seconds that results are kept; `None` is for ever.
    pub result_expires: Option<f64>,
    /// The application's time zone, as in "Europe/Berlin"; "" is the host's.
    pub timezone: String,
    /// Settings by name, as they are.
    pub settings: Map<String, Value>,
    /// Processes that the application or the command line asks for.
    pub concurrency: Option<usize>,
    /// worker_max_tasks_per_child
    pub max_tasks: Option<u32>,
    /// worker_max_memory_per_child, in KiB.
    pub max_memory_kib: Option<u64>,
    /// The hard limit of all tasks, in seconds.
    pub time_limit: Option<f64>,
    /// The soft limit of all tasks, in seconds.
    pub soft_time_limit: Option<f64>,
    /// The queues to work on.
    pub queues: Vec<Queue>,
    /// Its tasks, Celery's own among them, by name.
    pub tasks: Vec<Task>,
    /// The entries of beat.
    pub schedules: Vec<Schedule>,
    /// What does not carry over, each in a sentence.
    pub warnings: Vec<String>,
}

/// The broker's settings.
#[derive(Clone, Debug, Deserialize)]
pub struct Broker {
    /// With its password.
    pub url: Secret,
    /// broker_transport_options
    #[serde(default)]
    pub options: Map<String, Value>,
}

/// The result backend's settings.
#[derive(Clone, Debug, Deserialize)]
pub struct Results {
    /// "redis": Beacon can write to it; "other": the processes write; "none": nobody does.
    pub kind: String,
    /// Its class.
    pub class: String,
    /// With its password, for Redis.
    #[serde(default)]
    pub url: Secret,
    /// What is in front of a task's identifier, as in "celery-task-meta-".
    #[serde(default)]
    pub prefix: String,
    /// Seconds that a result is kept; 0 is for ever.
    #[serde(default)]
    pub expires: f64,
}

/// A queue.
#[derive(Clone, Debug, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// The exchange's name.
    pub exchange: String,
    /// direct, topic, fanout.
    pub exchange_type: String,
    /// The routing key.
    pub routing_key: String,
    /// Its arguments.
    pub arguments: Option<Map<String, Value>>,
    /// Seconds without a consumer after which it goes.
    pub expires: Option<f64>,
    /// As remote control shows it.
    pub described: Value,
}

/// A task's type.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields of celery.app.task.Task by their names")]
pub struct Task {
    pub name: String,
    pub rate: Option<f64>,
    pub rate_limit: Option<String>,
    pub exchange: Option<String>,
    pub routing_key: Option<String>,
    pub time_limit: Option<f64>,
    pub soft_time_limit: Option<f64>,
    pub ignore_result: bool,
    pub store_errors_even_if_ignored: bool,
    pub track_started: bool,
    pub send_events: bool,
    pub acks_late: bool,
    pub acks_on_failure: bool,
    pub acks_on_timeout: bool,
    pub reject_on_worker_lost: bool,
    pub retry_on_worker_lost: bool,
    pub max_retries: Option<u32>,
    pub default_retry_delay: f64,
    pub coroutine: bool,
}

/// An entry of beat.
#[derive(Clone, Debug, Deserialize)]
pub struct Schedule {
    /// The entry's name.
    pub name: String,
    /// The task.
    pub task: String,
    /// Arguments.
    pub args: Vec<Value>,
    /// Named arguments.
    pub kwargs: Map<String, Value>,
    /// Options of apply_async.
    pub options: Map<String, Value>,
    /// Its arguments are computed each time.
    pub lazy: bool,
    /// When.
    #[serde(rename = "schedule")]
    pub timing: Timing,
}

/// When an entry is due.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the fields of celery.schedules by their names")]
pub enum Timing {
    /// All of the sets must fit: day of the week and of the month too.
    Crontab {
        minute: Vec<u8>,
        hour: Vec<u8>,
        /// 0 is Sunday.
        day_of_week: Vec<u8>,
        day_of_month: Vec<u8>,
        month_of_year: Vec<u8>,
        timezone: String,
    },
    /// Each so many seconds.
    Interval {
        seconds: f64,
        /// Rounded to the unit of the interval.
        relative: bool,
    },
}

impl Exported {
    /// What the worker needs to know of each task.
    pub(super) fn specs(&self) -> BTreeMap<Arc<str>, Arc<Spec>> {
        let pool = (limit(self.time_limit), limit(self.soft_time_limit));
        self.tasks
            .iter()
            .map(|task| {
                let spec = Arc::new(spec(task, pool));
                (spec.name.clone(), spec)
            })
            .collect()
    }
}

fn limit(seconds: Option<f64>) -> Option<Duration> {
    seconds.filter(|seconds| *seconds > 0.0).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

fn spec(task: &Task, (hard, soft): (Option<Duration>, Option<Duration>)) -> Spec {
    Spec {
        time_limit: limit(task.time_limit).or(hard),
        soft_time_limit: limit(task.soft_time_limit).or(soft),
        rate: task.rate,
        ignore_result: task.ignore_result,
        store_errors_even_if_ignored: task.store_errors_even_if_ignored,
        track_started: task.track_started,
        send_events: task.send_events,
        acks_late: task.acks_late,
        acks_on_failure: task.acks_on_failure,
        acks_on_timeout: task.acks_on_timeout,
        reject_on_worker_lost: task.reject_on_worker_lost,
        concurrent: task.coroutine,
        ..Spec::new(&task.name)
    }
}
