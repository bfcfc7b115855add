//! `beacon tasks get`, `list`, `cancel` and `retry`

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Context, dash, print_json, print_rows, second, span};
use crate::cli::{Failure, output};
use crate::error::exit;
use crate::jobs::api::{Cancelled, Found, Place, Retried, Row, Wanted, duration};

/// A wait without a bound.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// A time to wait; "" is for ever.
pub(super) fn patience(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Ok(FOREVER);
    }
    duration(text).map(|read| read.min(FOREVER)).ok_or_else(|| "use seconds, or text as in 5m".into())
}

/// Shows what is known of a task
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks get 5f0c9a52-7f3c-4d6e-9d60-3f7c35b3f1aa
  beacon tasks get 5f0c9a52-7f3c-4d6e-9d60-3f7c35b3f1aa --wait 30 --json | jq .result")]
pub(super) struct Get {
    /// The task's identifier
    #[arg(value_name = "ID")]
    id: String,
    /// Waits for the end first, for so much time at most if it is given
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "", value_parser = patience)]
    wait: Option<Duration>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Lists tasks: those that run, wait, are put aside until their time, are dead letters, and have ended lately
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks list
  beacon tasks list --state running
  beacon tasks list --state dead --task reports.make --json")]
pub(super) struct List {
    /// Lists those in one state
    #[arg(long, value_name = "STATE", value_enum)]
    state: Option<State>,
    /// Lists those of this queue
    #[arg(long, short = 'Q', value_name = "QUEUE")]
    queue: Option<String>,
    /// Lists those with this name
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Lists at most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Leaves out so many first
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    offset: u32,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Waiting,
    Scheduled,
    Running,
    Finished,
    Dead,
}

/// Cancels tasks: they never run, whatever is restarted
///
/// One that runs goes on, and is not tried again, unless --terminate ends it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks cancel 5f0c9a52-7f3c-4d6e-9d60-3f7c35b3f1aa
  beacon tasks cancel 5f0c9a52-7f3c-4d6e-9d60-3f7c35b3f1aa --terminate")]
pub(super) struct Cancel {
    /// The tasks' identifiers
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Ends a task that runs
    #[arg(long)]
    terminate: bool,
    /// The signal that ends it, if a process runs it
    #[arg(long, value_name = "NAME", default_value = "SIGTERM", requires = "terminate")]
    signal: String,
}

/// Sends dead letters' tasks to their queues again
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks retry 5f0c9a52-7f3c-4d6e-9d60-3f7c35b3f1aa
  beacon tasks dead replay --all")]
pub(super) struct Retry {
    /// The tasks' identifiers
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Waits for a task and prints its result.
pub(super) async fn wait(context: &Context, id: &str, within: Duration, json: bool) -> Result<(), Failure> {
    context.tools.client.wait(id, within).await?;
    let Some(found) = context.look.find(id).await? else {
        return Err(Failure::Other(format!("the task {id} has not ended, and is not to be found.")));
    };
    if json {
        print_json(&found)?;
    } else if found.row.state == "SUCCESS" {
        output::print(&format!("{}\n", found.result))?;
    }
    match found.row.state.as_str() {
        "SUCCESS" => Ok(()),
        _ if json => Err(Failure::Told(exit::FAILURE)),
        state @ ("FAILURE" | "REVOKED") => {
            let why = reason(&found).unwrap_or_else(|| state.to_owned());
            let traceback = found.traceback.as_deref().map(|text| format!("\n{}", text.trim_end())).unwrap_or_default();
            Err(Failure::Other(format!("the task {id} ended with {state}: {}{}", harmless(&why), harmless(&traceback))))
        }
        state => Err(Failure::Other(format!("the task {id} has not ended yet: {state}."))),
    }
}

/// A text of strangers, so that it cannot command the terminal.
fn harmless(text: &str) -> String {
    text.replace(|ch: char| ch.is_control() && ch != '\n' && ch != '\t', "\u{fffd}")
}

fn reason(found: &Found) -> Option<String> {
    let Some(exception) = &found.exception else { return found.row.error.clone() };
    let text = |name: &str| exception.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, message) = (text("type"), text("message"));
    Some(if message.is_empty() { kind } else { format!("{kind}: {message}") })
}

impl Get {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        if let Some(within) = self.wait {
            context.tools.client.wait(&self.id, within).await?;
        }
        let Some(found) = context.look.find(&self.id).await? else {
            return Err(Failure::Other(format!(
                "nothing is known of a task {:?}: it was never sent, its result has expired or is not kept, or it is in a \
                 queue behind 10,000 others.",
                self.id
            )));
        };
        if self.json { print_json(&found) } else { Ok(output::print(&text(&found))?) }
    }
}

/// A task in lines.
fn text(found: &Found) -> String {
    let row = &found.row;
    let mut out = String::new();
    let mut line = |title: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let value = harmless(&value).trim_end().replace('\n', "\n             ");
            let _ = writeln!(out, "{title:<12} {value}");
        }
    };
    let place = row.place.map(|place| format!(" ({})", json!(place).as_str().unwrap_or_default())).unwrap_or_default();
    line("id", Some(row.id.clone()));
    line("task", row.task.clone());
    line("state", Some(format!("{}{place}", row.state)));
    line("queue", row.queue.clone());
    line("priority", row.priority.map(|priority| priority.to_string()));
    line("args", row.args.clone());
    line("kwargs", row.kwargs.clone());
    line("eta", row.eta.as_deref().map(second));
    line("waits for", row.waits_for.map(str::to_owned));
    line("expires", row.expires.as_deref().map(second));
    line("retries", row.retries.filter(|retries| *retries > 0).map(|retries| retries.to_string()));
    line("worker", row.worker.clone());
    line("process", row.pid.map(|pid| pid.to_string()));
    line("started", row.started_at.as_deref().map(second));
    line("ended", row.ended_at.as_deref().map(second));
    line("runtime", row.runtime.map(span));
    line("result", (!found.result.is_null() || row.state == "SUCCESS").then(|| found.result.to_string()));
    line("error", reason(found).or_else(|| row.error.clone()));
    line("traceback", found.traceback.clone());
    line("parent", row.parent_id.clone());
    line("group", row.group_id.clone());
    line("children", Some(found.children.join("\n")));
    out
}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let place = self.state.map(|state| match state {
            State::Waiting => Place::Waiting,
            State::Scheduled => Place::Scheduled,
            State::Running => Place::Running,
            State::Finished => Place::Finished,
            State::Dead => Place::Dead,
        });
        let (limit, offset) = (self.limit as usize, self.offset as usize);
        let listing = context.look.list(&Wanted { place, queue: self.queue, task: self.task, limit, offset }).await?;
        if self.json {
            return print_json(&listing.rows);
        }
        let rows: Vec<_> = listing.rows.iter().map(cells).collect();
        print_rows(["id", "task", "state", "where", "queue", "worker", "when"], &rows, "There are no such tasks.")?;
        if listing.more {
            output::warn(
                "there are more; see --limit and --offset, or pick some out with --state, --queue and --task.",
            );
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 7] {
    let when = match row.place {
        Some(Place::Running) => row.started_at.as_deref().map(|at| format!("since {}", second(at))),
        Some(Place::Scheduled | Place::Waiting) => row.eta.as_deref().map(|at| format!("at {}", second(at))),
        Some(Place::Dead | Place::Finished) => row.ended_at.as_deref().map(second),
        _ => None,
    };
    let id = row.letter.clone().unwrap_or_else(|| row.id.clone());
    let place = row.place.and_then(|place| json!(place).as_str().map(str::to_owned));
    [
        id,
        dash(row.task.as_ref()),
        row.state.clone(),
        dash(place),
        dash(row.queue.as_ref()),
        dash(row.worker.as_ref()),
        dash(when),
    ]
}

impl Cancel {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let signal = self.terminate.then_some(self.signal.as_str());
        for id in &self.ids {
            let told = match context.look.cancel(id, signal).await? {
                Cancelled::Ended(found) => format!("has ended before: {}", found.row.state),
                Cancelled::Removed(_) => "is cancelled".to_owned(),
                Cancelled::Running(_) if self.terminate => "runs, and is being ended".to_owned(),
                Cancelled::Running(_) => "runs: it goes on to its end, and not again; --terminate ends it".to_owned(),
                Cancelled::Unseen => "is not to be found; should it be in a queue, it is dropped there".to_owned(),
            };
            output::print(&format!("{id} {told}\n"))?;
        }
        Ok(())
    }
}

impl Retry {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut missed = false;
        for id in &self.ids {
            match context.look.retry(id).await? {
                Retried::Again(row) => output::print(&format!("{id} is in the queue {} again\n", dash(row.queue)))?,
                Retried::Elsewhere(found) => {
                    missed = true;
                    let state = found.row.state;
                    output::complain(&format!(
                        "{id} is no dead letter ({state}): its message is not kept; send it anew."
                    ));
                }
                Retried::Unknown => {
                    missed = true;
                    output::complain(&format!("{id} is not known."));
                }
            }
        }
        if missed { Err(Failure::Told(exit::FAILURE)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_cannot_command_the_terminal() {
        let row = Row { id: "\x1b[2J".into(), state: "FAILURE".into(), ..Row::default() };
        let exception = Some(json!({"type": "ValueError", "message": "bad\x07"}));
        let found = Found { row, result: Value::Null, exception, traceback: Some("a\n b\n".into()), children: vec![] };
        let shown = text(&found);
        assert!(!shown.contains('\x1b') && !shown.contains('\x07'), "{shown:?}");
        assert!(
            shown.contains("error        ValueError: bad\u{fffd}\n")
                && shown.contains("traceback    a\n              b\n"),
            "{shown}"
        );
    }

    #[test]
    fn waiting_has_a_bound_or_none() {
        assert_eq!((patience(""), patience("1m")), (Ok(FOREVER), Ok(Duration::from_mins(1))));
        assert!(patience("soon").is_err());
    }
}
