//! `beacon tasks`: tasks sent, looked at and looked after. All of it talks to Redis, whether a Beacon runs or not.

mod arguments;
mod confirm;
mod dead;
mod events;
mod one;
mod picture;
mod python;
mod queues;
mod schedules;
mod screen;
mod send;
mod top;

use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::table::table;
use super::{Failure, database, output};
use crate::app::tasks_client::{Tools, connect};
use crate::config::{Config, Sources, load};
use crate::error::chain;
use crate::jobs::api::Look;
use crate::tasks;

/// Sends background tasks, shows them, and looks after queues, dead letters and schedules
///
/// The commands talk to the Redis of tasks.broker_url, else of redis.url, else to the private one of a running Beacon.
#[derive(Args, Debug)]
pub(super) struct TasksCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Send(Box<send::Send>),
    Get(one::Get),
    List(one::List),
    Cancel(one::Cancel),
    Retry(one::Retry),
    Dead(dead::Dead),
    Queues(queues::Queues),
    Pause(queues::Pause),
    Resume(queues::Resume),
    Purge(queues::Purge),
    Workers(queues::Workers),
    Schedules(schedules::Schedules),
    Events(events::Events),
    Top(top::Top),
    Release(queues::Release),
    Python(python::Python),
}

/// What the commands work with.
struct Context {
    config: Config,
    tools: Tools,
    look: Look,
}

impl TasksCommand {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        if let Action::Python(command) = &self.command {
            return command.run();
        }
        let config = load(sources)?.config;
        let runtime: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(async {
            let tools = connect(&config).await?;
            let look = Look::new(tools.client.clone());
            self.command.run(Context { config, tools, look }).await
        });
        // Whoever still reads a terminal or waits for a name to be resolved must not keep the process.
        runtime.shutdown_timeout(Duration::from_millis(100));
        done
    }
}

impl Action {
    async fn run(self, context: Context) -> Result<(), Failure> {
        let context = &context;
        let work: LocalBoxFuture<'_, _> = match self {
            Self::Send(command) => Box::pin(command.run(context)),
            Self::Get(command) => Box::pin(command.run(context)),
            Self::List(command) => Box::pin(command.run(context)),
            Self::Cancel(command) => Box::pin(command.run(context)),
            Self::Retry(command) => Box::pin(command.run(context)),
            Self::Dead(command) => Box::pin(command.run(context)),
            Self::Queues(command) => Box::pin(command.run(context)),
            Self::Pause(command) => Box::pin(command.run(context)),
            Self::Resume(command) => Box::pin(command.run(context)),
            Self::Purge(command) => Box::pin(command.run(context)),
            Self::Workers(command) => Box::pin(command.run(context)),
            Self::Schedules(command) => Box::pin(command.run(context)),
            Self::Events(command) => Box::pin(command.run(context)),
            Self::Top(command) => Box::pin(command.run(context)),
            Self::Release(command) => Box::pin(command.run(context)),
            Self::Python(command) => Box::pin(async move { command.run() }),
        };
        work.await
    }
}

/// Prints JSON for programs.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from)?;
    Ok(output::print(&format!("{text}\n"))?)
}

/// Prints rows, or a sentence if there are none.
fn print_rows<const N: usize>(titles: [&str; N], rows: &[[String; N]], none: &str) -> Result<(), Failure> {
    let text = if rows.is_empty() { format!("{none}\n") } else { table(titles, rows) };
    Ok(output::print(&text)?)
}

/// What to tell of an error of the tasks' Redis.
fn failed(error: &tasks::Error) -> Failure {
    match error {
        tasks::Error::Task(_) | tasks::Error::TooLarge { .. } => Failure::Refused(format!("{}.", chain(error))),
        _ if error.is_unavailable() => Failure::Unavailable(format!("{}.", chain(error))),
        _ => Failure::Other(format!("{}.", chain(error))),
    }
}

impl From<tasks::Error> for Failure {
    fn from(error: tasks::Error) -> Self {
        failed(&error)
    }
}

/// A moment of our own making to the second, without its zone.
fn second(text: &str) -> String {
    text.chars().take(19).map(|ch| if ch == 'T' { ' ' } else { ch }).collect()
}

/// "-" for what is not known.
fn dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".into(), |text| text.to_string())
}

/// A time in one or two units: "350ms", "12s", "3m 20s", "2h 5m", "3d 4h".
fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0 => format!("{:.0}ms", seconds.max(0.0) * 1_000.0),
        1..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, shown) in
            [(0.35, "350ms"), (12.9, "12s"), (200.0, "3m 20s"), (7_500.0, "2h 5m"), (273_600.0, "3d 4h"), (-1.0, "0ms")]
        {
            assert_eq!(span(seconds), shown);
        }
        assert_eq!(second("2026-11-23T21:58:43.000123Z"), "2026-11-23 21:58:43");
    }
}
