//! `beacon tasks send`

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::arguments::{kwargs, moment, pair, seconds, value};
use super::{Context, one, print_json};
use crate::cli::{Failure, output};
use crate::tasks::wire::now;
use crate::tasks::{NewTask, QUEUE, Sent, Unique};

/// Sends a task and prints its identifier
///
/// With --wait it prints the result in JSON instead; the exit code is 1 if the task fails. A value is JSON, or plain text
/// if it is none.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon tasks send notify --kwarg order=42 --wait
  beacon tasks send reports.make --arg '\"weekly\"' --arg 7 --queue reports --countdown 10m
  beacon tasks send beacon.mail --kwarg to=ann@example.org --kwarg subject=Hello --kwarg text='Good day'
  beacon tasks send sync --unique sync:7 --unique-for 30m")]
pub(super) struct Send {
    /// The task's name
    #[arg(value_name = "NAME")]
    task: String,
    /// A positional argument; may be repeated
    #[arg(long = "arg", value_name = "JSON", value_parser = value, allow_hyphen_values = true)]
    args: Vec<Value>,
    /// A named argument; may be repeated
    #[arg(long = "kwarg", value_name = "NAME=JSON", value_parser = pair)]
    kwargs: Vec<(String, Value)>,
    /// The queue [default: beacon]
    #[arg(long, short = 'Q', value_name = "QUEUE")]
    queue: Option<String>,
    /// The identifier [default: a new one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// 0 to 9; 0 goes first
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: u8,
    /// Not before so much time has gone by: seconds, or text as in 10m
    #[arg(long, value_name = "TIME", value_parser = seconds, conflicts_with = "eta")]
    countdown: Option<f64>,
    /// Not before this moment, in RFC 3339
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    eta: Option<f64>,
    /// Not at all once so much time has gone by
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<f64>,
    /// Is ended by force after so much time
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    time_limit: Option<f64>,
    /// Is not sent while another one with this key waits or runs
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// How long --unique holds at most
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "1h", requires = "unique")]
    unique_for: f64,
    /// Is not sent again within a day if one with this key was
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Waits for the end, for so much time at most if it is given, and prints the result
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "", value_parser = one::patience)]
    wait: Option<Duration>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Send {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let task = NewTask {
            task: self.task,
            args: self.args,
            kwargs: kwargs(self.kwargs),
            id: self.id,
            queue: self.queue.clone(),
            priority: self.priority,
            eta: self.eta.or_else(|| self.countdown.map(|countdown| now() + countdown)),
            expires: self.expires.map(|expires| now() + expires),
            time_limit: self.time_limit,
            unique: self.unique.map(|key| Unique { key, for_: Duration::from_secs_f64(self.unique_for) }),
            idempotency_key: self.idempotency_key,
            ..NewTask::default()
        };
        let sent = context.tools.client.send(&task).await?;
        let queue = self.queue.unwrap_or_else(|| QUEUE.into());
        let worked = context.look.queues_of(std::slice::from_ref(&queue)).await?;
        if worked.iter().all(|queue| queue.consumers == 0) {
            output::warn(&format!("no worker of Beacon's works on the queue {queue} at this moment."));
        }
        if let Sent::Same(id) = &sent {
            output::warn(&format!("it was not sent: the task {id} has the same key."));
        }
        if let Some(within) = self.wait {
            return one::wait(context, sent.id(), within, self.json).await;
        }
        if self.json {
            return print_json(&json!({"id": sent.id(), "new": matches!(sent, Sent::New(_))}));
        }
        Ok(output::print(&format!("{}\n", sent.id()))?)
    }
}
