//! `beacon tasks queues`, `pause`, `resume`, `purge`, `workers` and `release`

use clap::Args;

use super::confirm::confirm;
use super::{Context, dash, print_json, print_rows, second, span};
use crate::cli::{Failure, output};
use crate::tasks::broker::Length;

/// Shows queues: how many messages wait, how long the oldest one has, and who works on them
///
/// Messages have no time in them, unless they were due at one: "-" is not known.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks queues
  beacon tasks queues --json | jq '.[] | select(.waiting > 100).name'")]
pub(super) struct Queues {
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Lets Beacon's workers take nothing more from a queue
///
/// Stock Celery workers do not know of it. What runs goes on.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks pause reports")]
pub(super) struct Pause {
    /// The queue
    #[arg(value_name = "QUEUE")]
    queue: String,
}

/// Ends a pause
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks resume reports")]
pub(super) struct Resume {
    /// The queue
    #[arg(value_name = "QUEUE")]
    queue: String,
}

/// Removes all messages that wait in a queue
///
/// What runs, and what waits for its time, stays.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks purge reports --yes")]
pub(super) struct Purge {
    /// The queue
    #[arg(value_name = "QUEUE")]
    queue: String,
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
}

/// Shows Beacon's workers; `celery status` and Flower show stock ones, too
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks workers")]
pub(super) struct Workers {
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Puts what waits for its time into the queues, before Beacon is removed
///
/// Stock workers keep such tasks in their memory until they are due; Beacon keeps them in Redis, where no stock worker
/// looks for them. Stop Beacon's workers first.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks release")]
pub(super) struct Release {
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
}

impl Queues {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let queues = context.look.queues().await?;
        if self.json {
            return print_json(&queues);
        }
        let rows: Vec<_> = queues
            .iter()
            .map(|queue| {
                let steps = queue.by_priority.iter().filter(|(_, count)| count.as_u64() != Some(0));
                let steps: Vec<String> = steps.map(|(step, count)| format!("{step}:{count}")).collect();
                let state = if queue.paused { "paused" } else { "open" };
                [
                    queue.name.clone(),
                    queue.waiting.to_string(),
                    if steps.is_empty() { "-".into() } else { steps.join(" ") },
                    dash(queue.oldest_seconds.map(span)),
                    queue.consumers.to_string(),
                    state.into(),
                    dash(queue.next_task.as_ref()),
                ]
            })
            .collect();
        let titles = ["queue", "waiting", "by priority", "oldest", "workers", "state", "next"];
        print_rows(titles, &rows, "There are no queues yet: one is there as soon as something is sent to it.")
    }
}

impl Pause {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        context.tools.broker.pause(&self.queue).await?;
        Ok(output::print(&format!("Beacon's workers take nothing from {} until `beacon tasks resume`.\n", self.queue))?)
    }
}

impl Resume {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let paused = context.tools.broker.resume(&self.queue).await?;
        let told = if paused { "is worked on again" } else { "was not paused" };
        Ok(output::print(&format!("The queue {} {told}.\n", self.queue))?)
    }
}

impl Purge {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let broker = &context.tools.broker;
        let waiting = broker.lengths(&[&self.queue]).await?.first().map_or(0, Length::total);
        if waiting == 0 {
            return Ok(output::print(&format!("Nothing waits in the queue {}.\n", self.queue))?);
        }
        confirm(&format!("remove {} from the queue {} for ever", messages(waiting), self.queue), self.yes)?;
        let done = broker.purge(&self.queue).await?;
        Ok(output::print(&format!("{} removed.\n", messages(done)))?)
    }
}

impl Workers {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let workers = context.look.workers().await?;
        if self.json {
            return print_json(&workers);
        }
        let rows: Vec<_> = workers
            .iter()
            .map(|worker| {
                [
                    worker.name.clone(),
                    state(worker.alive, worker.stopping).into(),
                    dash(worker.pid),
                    dash(worker.places),
                    dash(worker.active),
                    dash(worker.ended),
                    dash(worker.started_at.as_deref().map(second)),
                    dash(worker.version.as_ref()),
                    worker.queues.join(" "),
                ]
            })
            .collect();
        let titles = ["worker", "state", "process", "places", "active", "ended", "since", "version", "queues"];
        print_rows(titles, &rows, "No worker of Beacon's runs.")
    }
}

fn messages(count: usize) -> String {
    if count == 1 { "1 message".into() } else { format!("{count} messages") }
}

/// How a worker does, in a word.
pub(super) fn state(alive: bool, stopping: bool) -> &'static str {
    match (alive, stopping) {
        (false, _) => "silent",
        (true, true) => "stopping",
        (true, false) => "alive",
    }
}

impl Release {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let workers = context.look.workers().await?;
        if let Some(worker) = workers.iter().find(|worker| worker.alive) {
            let text = "would only put the tasks aside again: stop Beacon's workers first";
            return Err(Failure::Other(format!("{} runs, and {text}.", worker.name)));
        }
        let parked = context.tools.broker.parked_count().await?;
        if parked == 0 {
            return Ok(output::print("Nothing waits for its time.\n")?);
        }
        confirm(&format!("put {parked} tasks that wait for their time into their queues"), self.yes)?;
        let done = context.look.release().await?;
        Ok(output::print(&format!("{done} tasks are in their queues.\n"))?)
    }
}
