//! The section `[tasks]`: which queues, how many at once, which Redis, and a Celery application if there is one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::duration;
use crate::error::Fault;
use crate::secret::Secret;

/// Background tasks.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether `beacon serve` runs tasks; "auto": yes, unless they need programs (a Celery application, commands) and
    /// systemd runs beacon-worker.service for those. Schedules and the outbox are `serve`'s in any case but "off".
    pub mode: Mode,
    /// The Redis that carries messages, as redis.url; "" is redis.url. CELERY_BROKER_URL sets it too.
    pub broker_url: Secret,
    /// The Redis that keeps results; "" is the broker's. CELERY_RESULT_BACKEND sets it too.
    pub result_url: Secret,
    /// The worker's node name; %h is the host's name, %n the name before the @, %d the domain. Must be its own on every
    /// worker of one Redis.
    pub name: String,
    /// Queues that are worked on, all alike: which goes first is the messages' priority, then the turn. None is "beacon",
    /// and with a Celery application its own queues besides: stock workers on "celery" are not disturbed.
    pub queues: Vec<String>,
    /// Tasks at once; 0 is twice the number of processors, and for a Celery application their number.
    pub concurrency: usize,
    /// How long results are kept; "0s" is for ever.
    #[serde(with = "duration")]
    pub result_expires: Duration,
    /// The longest time that any task may run, unless it has its own limit; "0s" is no limit.
    #[serde(with = "duration")]
    pub time_limit: Duration,
    /// How often a task may be begun that took its worker or process down, before it becomes a dead letter.
    pub max_attempts: u32,
    /// How long dead letters are kept.
    #[serde(with = "duration")]
    pub dead_letters_expire: Duration,
    /// How long a stop waits for tasks that run, before it gives them back to the queue.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// The largest message that is taken, in bytes; a larger one becomes a dead letter.
    pub max_message_bytes: u64,
    /// Events about tasks are published for Flower and `celery events`; they can be turned on from there, too.
    pub events: bool,
    /// What is special about the broker, by the names of Celery's broker_transport_options.
    pub transport: Transport,
    /// A Celery application whose tasks run in child processes.
    pub python: crate::tasks::python::Config,
    /// Tasks that are sent at set times: [tasks.schedules.NAME].
    pub schedules: BTreeMap<String, crate::tasks::schedule::Entry>,
}

/// Whether tasks run in `beacon serve`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Unless another unit does.
    #[default]
    Auto,
    /// Yes.
    On,
    /// No; `beacon worker` runs them elsewhere.
    Off,
}

/// How messages lie in Redis, where an application has set it otherwise.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Transport {
    /// In front of every name that the broker uses.
    pub global_keyprefix: String,
    /// Of the results' names, from result_backend_transport_options.
    pub result_keyprefix: String,
    /// When a stock worker takes messages of another one that is silent.
    #[serde(with = "duration")]
    pub visibility_timeout: Duration,
    /// The priorities that have a list of their own.
    pub priority_steps: Vec<u8>,
    /// Between a queue's name and a priority.
    pub sep: String,
    /// The exchange of events.
    pub event_exchange: String,
    /// The exchange of remote control.
    pub control_exchange: String,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            global_keyprefix: String::new(),
            result_keyprefix: String::new(),
            visibility_timeout: Duration::from_hours(1),
            priority_steps: vec![0, 3, 6, 9],
            sep: "\u{6}\u{16}".into(),
            event_exchange: "celeryev".into(),
            control_exchange: "celery".into(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            broker_url: Secret::default(),
            result_url: Secret::default(),
            name: "beacon@%h".into(),
            queues: Vec::new(),
            concurrency: 0,
            result_expires: Duration::from_hours(24),
            time_limit: Duration::ZERO,
            max_attempts: 3,
            dead_letters_expire: Duration::from_hours(24 * 14),
            drain: Duration::from_secs(25),
            max_message_bytes: 64 * 1024 * 1024,
            events: false,
            transport: Transport::default(),
            python: crate::tasks::python::Config::default(),
            schedules: BTreeMap::new(),
        }
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (key, url) in [("broker_url", &self.broker_url), ("result_url", &self.result_url)] {
            let wrong = crate::redis::Config { url: url.clone() }.validate();
            faults.extend(wrong.into_iter().map(|fault| Fault::new(key, fault.problem, fault.fix)));
        }
        if self.queues.iter().any(String::is_empty) {
            faults.push(Fault::new("queues", "has an empty name", "Name queues, as in [\"celery\"], or leave it out."));
        }
        if self.name.is_empty() {
            faults.push(Fault::new("name", "is empty", "Use a name such as \"beacon@%h\"."));
        }
        if self.max_attempts == 0 {
            faults.push(Fault::new("max_attempts", "is 0", "Use 1 or more."));
        }
        let steps = &self.transport.priority_steps;
        if steps.first() != Some(&0) || !steps.is_sorted_by(|one, two| one < two) || steps.iter().any(|step| *step > 9)
        {
            faults.push(Fault::new(
                "transport.priority_steps",
                "is no rising list that begins with 0 and ends at 9 or before",
                "Use the list of the application, as in [0, 3, 6, 9].",
            ));
        }
        if self.transport.sep.is_empty() {
            faults.push(Fault::new("transport.sep", "is empty", "Use the application's, or leave it out."));
        }
        faults.extend(self.python.validate().into_iter().map(|fault| fault.within("python")));
        for (name, entry) in &self.schedules {
            faults.extend(entry.validate().into_iter().map(|fault| fault.within(&format!("schedules.{name}"))));
        }
        faults
    }
}
