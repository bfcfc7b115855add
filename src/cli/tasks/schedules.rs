//! `beacon tasks schedules`

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::arguments::{kwargs, pair, seconds, value};
use super::confirm::confirm;
use super::{Context, dash, database, failed, print_json, print_rows, second};
use crate::app;
use crate::cli::{Failure, output};
use crate::db::Database;
use crate::error::chain;
use crate::jobs::api::moment;
use crate::tasks::schedule::{Entry, Error, Scheduler, Source, Sources, Status, Store, StoreError};

/// Tasks at set times: of the configuration, the database, and a Celery application
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  beacon tasks schedules
  beacon tasks schedules put nightly --task reports.make --cron '30 4 * * mon-fri' --timezone Europe/Zurich
  beacon tasks schedules run nightly
  beacon tasks schedules disable nightly"
)]
pub(super) struct Schedules {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Put(Box<Put>),
    Delete(Delete),
    Run(Name),
    Enable(Name),
    Disable(Name),
}

/// Lists schedules, with their last and next time
#[derive(Args, Debug)]
struct List {
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Adds a schedule to the database, or changes it; every running Beacon knows of it within moments
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("when").required(true))]
struct Put {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: String,
    /// The task that is sent
    #[arg(long, value_name = "TASK")]
    task: String,
    /// When, as five fields of cron, or @daily and its like
    #[arg(long, value_name = "PATTERN", group = "when")]
    cron: Option<String>,
    /// How often: seconds, or text as in 10m
    #[arg(long, value_name = "TIME", group = "when", value_parser = seconds)]
    every: Option<f64>,
    /// The time zone of --cron
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    timezone: String,
    /// A positional argument; may be repeated
    #[arg(long = "arg", value_name = "JSON", value_parser = value, allow_hyphen_values = true)]
    args: Vec<Value>,
    /// A named argument; may be repeated
    #[arg(long = "kwarg", value_name = "NAME=JSON", value_parser = pair)]
    kwargs: Vec<(String, Value)>,
    /// The queue [default: beacon]
    #[arg(long, short = 'Q', value_name = "QUEUE")]
    queue: Option<String>,
    /// 0 to 9; 0 goes first
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: u8,
    /// The task is dropped when it has not begun so long after its time
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<f64>,
    /// A time that was missed is made up for as long after it
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "1h")]
    grace: f64,
    /// Adds it out of force
    #[arg(long)]
    disabled: bool,
}

/// Removes a schedule from the database
#[derive(Args, Debug)]
struct Delete {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: String,
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
}

/// Sends the task now, or puts the schedule into force or out of it
#[derive(Args, Debug)]
struct Name {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Schedules {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let database = match app::database(&context.config) {
            Ok(database) => Some(database),
            // Schedules of the configuration can be had without.
            Err(app::Error::NoDatabase | app::Error::Asleep) => None,
            Err(error) => return Err(error.into()),
        };
        // Nobody changes the entries of an application from here.
        let (_none, exported) = watch::channel(std::sync::Arc::default());
        let sources = Sources {
            entries: context.config.tasks.schedules.clone(),
            store: database.clone().map(Store::new),
            exported,
        };
        let scheduler = Scheduler::new(context.tools.client.clone(), sources);
        let told = |error: Error| self::told(database.as_ref(), &error);
        let action = self.action.unwrap_or(Action::List(self.list));
        let read = scheduler.read().await;
        // A list has the next time of one that was never sent from there, and can do without.
        if !matches!(action, Action::List(_)) {
            read.map_err(|error| told(error.into()))?;
        }
        match action {
            Action::List(command) => command.run(&scheduler.list().await.map_err(told)?),
            Action::Put(command) => {
                let name = command.name.clone();
                scheduler.put(&name, &command.entry()).await.map_err(told)?;
                Ok(output::print(&format!("The schedule {name} is in the database.\n"))?)
            }
            Action::Delete(command) => {
                confirm(&format!("remove the schedule {}", command.name), command.yes)?;
                scheduler.delete(&command.name).await.map_err(told)?;
                Ok(output::print(&format!("The schedule {} is removed.\n", command.name))?)
            }
            Action::Run(command) => {
                let id = scheduler.run_now(&command.name).await.map_err(told)?;
                Ok(output::print(&format!("{id}\n"))?)
            }
            Action::Enable(command) => {
                scheduler.enable(&command.name, true).await.map_err(told)?;
                Ok(output::print(&format!("The schedule {} is in force.\n", command.name))?)
            }
            Action::Disable(command) => {
                scheduler.enable(&command.name, false).await.map_err(told)?;
                Ok(output::print(&format!("The schedule {} is out of force.\n", command.name))?)
            }
        }
    }
}

impl Put {
    fn entry(self) -> Entry {
        let time = |seconds: Option<f64>| Duration::from_secs_f64(seconds.unwrap_or_default());
        Entry {
            task: self.task,
            cron: self.cron.unwrap_or_default(),
            every: time(self.every),
            timezone: self.timezone,
            args: Value::Array(self.args).to_string(),
            kwargs: Value::Object(kwargs(self.kwargs)).to_string(),
            queue: self.queue.unwrap_or_default(),
            priority: self.priority,
            expires: time(self.expires),
            grace: time(Some(self.grace)),
            enabled: !self.disabled,
        }
    }
}

impl List {
    fn run(self, all: &[Status]) -> Result<(), Failure> {
        if self.json {
            return print_json(&all.iter().map(shown).collect::<Vec<_>>());
        }
        let rows: Vec<_> = all
            .iter()
            .map(|status| {
                let at = |ms: Option<i64>| dash(ms.map(|ms| second(&moment(ms as f64 / 1_000.0))));
                let source = match status.source {
                    Source::Configuration => "configuration",
                    Source::Database => "database",
                    Source::Application => "application",
                };
                let state = match &status.problem {
                    Some(problem) => format!("left out: {problem}"),
                    None if status.enabled => "in force".into(),
                    None => "out of force".into(),
                };
                [
                    status.name.clone(),
                    status.task.clone(),
                    format!("{} {}", status.when, status.timezone).trim().to_owned(),
                    source.into(),
                    at(status.last),
                    at(status.next),
                    status.sent.to_string(),
                    status.missed.to_string(),
                    state,
                ]
            })
            .collect();
        let titles = ["schedule", "task", "when", "from", "last", "next", "sent", "missed", "state"];
        print_rows(titles, &rows, "There are no schedules, or no Beacon that runs them.")
    }
}

fn shown(status: &Status) -> Value {
    let mut value = json!(status);
    let at = |ms: Option<i64>| Value::from(ms.map(|ms| moment(ms as f64 / 1_000.0)));
    let moments = [("last", status.last), ("next", status.next), ("sent_at", status.sent_at)];
    if let Value::Object(members) = &mut value {
        members.extend(Map::from_iter(moments.map(|(name, ms)| (name.to_owned(), at(ms)))));
    }
    value
}

/// What to tell of an error of schedules.
fn told(database: Option<&Database>, error: &Error) -> Failure {
    match error {
        Error::Unknown(_) => Failure::Refused(format!(
            "{error}; `beacon tasks schedules` lists them. Those of a Celery application are run over HTTP."
        )),
        Error::Elsewhere(_) => Failure::Refused(format!("{error}.")),
        Error::NoDatabase => {
            Failure::Refused(format!("{error}: set DATABASE_URL, or start Beacon, which has one of its own."))
        }
        Error::Send(error) => failed(error),
        Error::Store(StoreError::Invalid(faults)) => {
            let lines: Vec<String> =
                faults.iter().map(|fault| format!("{} {}. {}", fault.key, fault.problem, fault.fix)).collect();
            Failure::Refused(lines.join("\n"))
        }
        Error::Store(StoreError::Database(error)) => match database {
            Some(database) => database::failed(database, error),
            None => Failure::Other(format!("{}.", chain(error))),
        },
    }
}
