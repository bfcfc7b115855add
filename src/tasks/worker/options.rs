//! What a worker is made of.

use std::sync::Arc;
use std::time::Duration;

use super::figures::Figures;
use crate::tasks::broker::Broker;
use crate::tasks::canvas::Canvas;
use crate::tasks::event::Witness;
use crate::tasks::results::Results;
use crate::tasks::runner::Runner;
use crate::tasks::wire::Limits;

/// What a worker is made of.
#[derive(Clone)]
pub struct Options {
    /// The node's name, which no other worker has.
    pub node: Arc<str>,
    /// The queues, all alike.
    pub queues: Vec<String>,
    /// What runs tasks. A task goes to the first one that knows it: a Celery application stands before the native tasks,
    /// so that Celery's own tasks are its own. Remote control's changes of the pool go to the first.
    pub runners: Vec<Arc<dyn Runner>>,
    /// Where messages are; kept by the caller.
    pub broker: Broker,
    /// Where results are; kept by the caller.
    pub results: Results,
    /// Makes ends known of tasks that no runner knows.
    pub canvas: Canvas,
    /// Who is told of events.
    pub witnesses: Vec<Arc<dyn Witness>>,
    /// Content types that are taken, as in "application/json". "application/data" is what has none, and always taken.
    pub accept: Vec<String>,
    /// What messages may be.
    pub limits: Limits,
    /// How often a task may be begun that took its worker or process down.
    pub max_attempts: u32,
    /// When a run is ended by force that has no limit of its own; zero is never.
    pub time_limit: Duration,
    /// When it is asked to end; zero is never.
    pub soft_time_limit: Duration,
    /// How long a stop waits for what runs.
    pub drain: Duration,
    /// What Prometheus sees.
    pub figures: Figures,
}
