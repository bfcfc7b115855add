//! /queues and /workers.

use serde_json::{Value, json};

use super::answer::{Answer, Failure, ok};
use super::ask::Ask;
use super::{Inner, moment};

impl Inner {
    /// GET /queues
    pub(super) async fn queues(&self, ask: &Ask) -> Answer {
        ask.only(&[])?;
        ok(&json!({"queues": self.look.queues().await?}))
    }

    /// GET /queues/{name}
    pub(super) async fn queue(&self, ask: &Ask, name: &str) -> Answer {
        ask.only(&[])?;
        ok(&self.one(name).await?)
    }

    /// POST /queues/{name}/pause
    pub(super) async fn pause(&self, ask: &Ask, name: &str) -> Answer {
        ask.only(&[])?;
        self.look.broker().pause(name).await?;
        ok(&self.one(name).await?)
    }

    /// POST /queues/{name}/resume
    pub(super) async fn resume(&self, ask: &Ask, name: &str) -> Answer {
        ask.only(&[])?;
        self.look.broker().resume(name).await?;
        ok(&self.one(name).await?)
    }

    /// DELETE /queues/{name}/messages
    pub(super) async fn purge(&self, ask: &Ask, name: &str) -> Answer {
        ask.only(&[])?;
        ok(&json!({"purged": self.look.broker().purge(name).await?}))
    }

    /// A queue is there as soon as somebody says its name.
    async fn one(&self, name: &str) -> Result<Value, Failure> {
        let queues = self.look.queues_of(&[name.to_owned()]).await?;
        Ok(json!(queues.first()))
    }

    /// GET /workers
    pub(super) async fn workers(&self, ask: &Ask) -> Answer {
        ask.only(&[])?;
        let own = self.desk.as_ref().map(|desk| json!({"name": &*desk.node(), "since": moment(desk.since())}));
        ok(&json!({"workers": self.look.workers().await?, "own": own}))
    }
}
