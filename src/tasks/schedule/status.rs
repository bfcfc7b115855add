//! What people see of schedules, and what they do with them.

use serde::Serialize;

use super::config::Entry;
use super::ledger::{History, Told};
use super::plan::Source;
use super::scheduler::Scheduler;
use super::store::{Store, StoreError};

/// An entry and what has become of it. Moments are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// The task.
    pub task: String,
    /// When it is due, as in "30 4 * * 1" or "every 10s".
    pub when: String,
    /// The zone of that.
    pub timezone: String,
    /// The queue, if it is not the usual one.
    pub queue: Option<String>,
    /// Whether it is in force.
    pub enabled: bool,
    /// Why it is left out, if it is.
    pub problem: Option<String>,
    /// The last time that it was sent for.
    pub last: Option<i64>,
    /// When it is due next.
    pub next: Option<i64>,
    /// When it was sent last, by its times or by hand.
    pub sent_at: Option<i64>,
    /// The identifier of the task that was sent then.
    pub task_id: Option<String>,
    /// How often it was sent.
    pub sent: u64,
    /// How many times were passed over, because no Beacon ran or Redis was away.
    pub missed: u64,
}

/// What can go wrong with a schedule.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has an entry of this name.
    #[error("there is no schedule named \"{0}\"")]
    Unknown(String),
    /// The entry belongs to a file or to an application, and is changed there.
    #[error("the schedule \"{0}\" is not in the database: change it where it comes from")]
    Elsewhere(String),
    /// There is no database to keep entries in.
    #[error("there is no database that schedules could be kept in")]
    NoDatabase,
    /// The message cannot be made or sent.
    #[error("the task cannot be sent")]
    Send(#[from] crate::tasks::Error),
    /// The entry cannot be kept or found in the database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Scheduler {
    /// All entries of all Beacons on this Redis, in the order of their names.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn list(&self) -> Result<Vec<Status>, Error> {
        let told = self.0.ledger.told().await?;
        let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
        let histories = self.0.ledger.histories(&names).await?;
        let plans = self.plans();
        let status = |((name, told), history): ((String, Told), History)| {
            let ours = plans.usable.iter().find(|plan| *plan.name == *name && plan.when == told.when);
            // One that was never sent has no next time in Redis yet.
            let next = history.next.or_else(|| ours.and_then(|plan| plan.timing.next(now())));
            Status {
                name,
                source: told.source,
                task: told.task,
                when: told.when,
                timezone: told.timezone,
                queue: told.queue,
                next: next.filter(|_| told.enabled),
                enabled: told.enabled,
                problem: told.problem,
                last: history.last,
                sent_at: history.at,
                task_id: history.id,
                sent: history.sent,
                missed: history.missed,
            }
        };
        Ok(told.into_iter().zip(histories).map(status).collect())
    }

    /// Sends an entry's task now, besides its times, and gives the task's identifier. Works for entries out of force, too.
    ///
    /// # Errors
    /// No entry of this name is known here, or it cannot be sent.
    pub async fn run_now(&self, name: &str) -> Result<String, Error> {
        let plans = self.plans();
        let plan = plans.usable.iter().find(|plan| *plan.name == *name);
        let plan = plan.ok_or_else(|| Error::Unknown(name.to_owned()))?;
        let ready = self.message(plan, now()).await?;
        self.0.ledger.run(name, &ready).await?;
        tracing::info!(schedule = name, task = plan.task, id = ready.id, "a task of a schedule was sent by hand");
        Ok(ready.id)
    }

    /// Adds an entry to the database, or changes it.
    ///
    /// # Errors
    /// The entry makes no sense, or another source has one of this name.
    pub async fn put(&self, name: &str, entry: &Entry) -> Result<(), Error> {
        self.ours(name)?;
        Ok(self.store()?.put(name, entry).await?)
    }

    /// Removes an entry from the database, and what is known of it.
    ///
    /// # Errors
    /// There is none, or it belongs to another source.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        self.ours(name)?;
        if !self.store()?.delete(name).await? {
            return Err(Error::Unknown(name.to_owned()));
        }
        Ok(self.0.ledger.forget(name).await?)
    }

    /// Puts an entry of the database into force or out of it. One that comes into force again makes up for nothing.
    ///
    /// # Errors
    /// As [`Scheduler::delete`].
    pub async fn enable(&self, name: &str, enabled: bool) -> Result<(), Error> {
        self.ours(name)?;
        if self.store()?.enable(name, enabled).await? { Ok(()) } else { Err(Error::Unknown(name.to_owned())) }
    }

    fn store(&self) -> Result<&Store, Error> {
        self.0.sources.store.as_ref().ok_or(Error::NoDatabase)
    }

    /// Refuses a name that another source has.
    fn ours(&self, name: &str) -> Result<(), Error> {
        let plans = self.plans();
        let usable = plans.usable.iter().map(|plan| (&*plan.name, plan.source));
        let mut all = usable.chain(plans.refused.iter().map(|refused| (&*refused.name, refused.source)));
        match all.find(|(known, _)| *known == name) {
            Some((_, source)) if source != Source::Database => Err(Error::Elsewhere(name.to_owned())),
            _ => Ok(()),
        }
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
