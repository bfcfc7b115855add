//! What there is to be seen of tasks: where each is, what became of it, queues and workers. The API and the command line
//! show the same.
//!
//! Redis has no register of tasks: one is looked for in every place that it may be in, which are lists and sets. Those
//! are read up to a bound, so that looking costs the same however long a queue is.

mod change;
mod find;
mod list;
mod queues;
mod row;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

pub use change::{Cancelled, Retried};
pub use find::Found;
pub use list::{Listing, Wanted};
pub use queues::{QueueRow, WorkerRow};
pub use row::{Place, Row, letter, moment};

use crate::tasks::broker::Broker;
use crate::tasks::control::Remote;
use crate::tasks::results::Results;
use crate::tasks::{Client, Error};

/// The most messages that are looked through for a task or a page.
pub const DEPTH: usize = 10_000;
/// How long workers may take to say what they do.
const ANSWER: Duration = Duration::from_secs(1);

/// Looks at tasks, and changes what becomes of them. Clones share everything.
#[derive(Clone)]
pub struct Look {
    client: Client,
    remote: Remote,
}

/// What a worker says of a task that it runs.
#[derive(Clone, Debug)]
struct Active {
    node: String,
    started: Option<f64>,
    pid: Option<u64>,
}

impl Look {
    /// Looks through this client's Redis.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let remote = Remote::new(client.broker().clone());
        Self { client, remote }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        self.client.broker()
    }

    /// The results.
    #[must_use]
    pub fn results(&self) -> &Results {
        self.client.results()
    }

    /// Remote control of all workers.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// What runs at this moment, by the tasks' identifiers: as far as workers answer.
    async fn active(&self) -> Result<HashMap<String, Active>, Error> {
        let answers = self.remote.call("active", json!({"safe": true}), None, ANSWER).await?;
        Ok(answers.iter().flat_map(|(node, answer)| active(node, answer)).collect())
    }
}

fn active(node: &str, answer: &Value) -> Vec<(String, Active)> {
    let tasks = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    tasks
        .iter()
        .filter_map(|task| {
            let active = Active {
                node: node.to_owned(),
                started: task.get("time_start").and_then(Value::as_f64),
                pid: task.get("worker_pid").and_then(Value::as_u64),
            };
            Some((task.get("id")?.as_str()?.to_owned(), active))
        })
        .collect()
}
