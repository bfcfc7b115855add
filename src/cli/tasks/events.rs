//! `beacon tasks events`

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Duration, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Context, span};
use crate::cli::{Failure, output};
use crate::jobs::api::{Filter, Names, moment};
use crate::tasks::events::Feed;

/// Follows what happens to tasks, as it happens
///
/// Workers, stock ones too, are asked to tell of their tasks, as Flower and `celery events` ask them.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks events
  beacon tasks events --task reports.make --json | jq .runtime")]
pub(super) struct Events {
    /// Follows tasks with this name
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Follows tasks of this queue
    #[arg(long, short = 'Q', value_name = "QUEUE")]
    queue: Option<String>,
    /// Shows workers' heartbeats, too
    #[arg(long)]
    workers: bool,
    /// Prints each event as a line of JSON
    #[arg(long)]
    json: bool,
}

/// How often workers are asked to tell: those that start later are asked, too.
const ASK: Duration = Duration::from_secs(5);

impl Events {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (feed, stop) = (Feed::default(), CancellationToken::new());
        let mut events = feed.follow();
        let broker = context.tools.broker.clone();
        let listening = feed.clone();
        tokio::spawn(async move { listening.listen(&broker, None, stop).await });
        let mut ask = interval(ASK);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (filter, mut names) = (Filter { task: self.task, queue: self.queue }, Names::default());
        loop {
            let told = tokio::select! {
                told = events.recv() => told,
                _ = ask.tick() => {
                    // While Redis is away nothing happens that could be told of either.
                    let _ = context.look.remote().cast("enable_events", json!({}), None).await;
                    continue;
                }
            };
            let told = match told {
                Ok(told) => told,
                Err(tokio::sync::broadcast::error::RecvError::Lagged(lost)) => {
                    output::warn(&format!("{lost} events were lost: they come faster than they can be written."));
                    continue;
                }
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return Ok(()),
            };
            let event = names.complete(told.fields());
            let beat = &*told.kind == "worker-heartbeat";
            if filter.wants(&event) && (self.workers || !beat) {
                let line = if self.json { event.to_string() } else { line(&told.kind, &told.node, &event) };
                output::print(&format!("{line}\n"))?;
            }
        }
    }
}

/// An event in one line: when, where, what, which task, and what came of it.
fn line(kind: &str, node: &str, event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let at = moment(event.get("timestamp").and_then(Value::as_f64).unwrap_or_default());
    let mut parts = vec![at.get(11..23).unwrap_or_default().to_owned(), node.to_owned(), kind.to_owned()];
    parts.extend(text("name").map(str::to_owned));
    parts.extend(text("uuid").map(str::to_owned));
    parts.extend(event.get("runtime").and_then(Value::as_f64).map(|runtime| format!("in {}", span(runtime))));
    parts.extend(text("result").or(text("exception")).or(text("reason")).map(str::to_owned));
    parts.join("  ").replace(|ch: char| ch.is_control(), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_harmless_line() {
        let event =
            json!({"type": "task-failed", "uuid": "i", "name": "a.b", "timestamp": 12.5, "exception": "E('\x1b\n')"});
        assert_eq!(line("task-failed", "w@h", &event), "00:00:12.500  w@h  task-failed  a.b  i  E('\u{fffd}\u{fffd}')");
    }
}
