//! Tasks without which the process cannot go on: when one ends or panics before a stop, the process stops with a
//! failing exit code, so that whoever supervises it starts it anew.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinSet};

/// A set of such tasks.
#[derive(Debug, Default)]
pub struct Critical {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// A task that ended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task \"{task}\" {}", if *.panicked { "panicked" } else { "ended" })]
pub struct Ended {
    /// Its name.
    pub task: &'static str,
    /// Whether it panicked.
    pub panicked: bool,
}

impl Critical {
    /// Starts a task.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Waits for the first task to end; for ever when there are none. Safe to cancel.
    pub async fn ended(&mut self) -> Ended {
        loop {
            let (id, panicked) = match self.tasks.join_next_with_id().await {
                Some(Ok((id, ()))) => (id, false),
                Some(Err(error)) => (error.id(), error.is_panic()),
                None => std::future::pending().await,
            };
            if let Some(task) = self.names.remove(&id) {
                return Ended { task, panicked };
            }
        }
    }

    /// Waits until every task has ended.
    pub async fn all_ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_task_that_ended_is_named() {
        let mut critical = Critical::default();
        critical.spawn("steady", std::future::pending());
        critical.spawn("brief", async {});
        assert_eq!(critical.ended().await, Ended { task: "brief", panicked: false });
    }
}
