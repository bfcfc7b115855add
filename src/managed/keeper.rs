//! Keeps the servers, or follows who keeps them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Config;
use super::place::Place;
use super::postgres::{self, Postgres};
use super::record::{self, Lock, Record};
use super::redis::{self, Redis};
use crate::process::{Condition, Service, supervise};
use crate::secret::Secret;
use crate::systemd;

/// How often one who does not keep the servers looks at how they are, and whether nobody keeps them any more.
const LOOK: Duration = Duration::from_millis(250);

/// Which servers are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// PostgreSQL.
    pub postgres: bool,
    /// Redis.
    pub redis: bool,
}

/// The private servers. Stop it last: dropped without that, its servers are killed.
#[derive(Debug)]
pub struct Managed {
    postgres: Option<(Secret, Watch)>,
    redis: Option<(Secret, Watch)>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

/// How a server is. Clones see the same.
#[derive(Clone, Debug)]
pub struct Watch(watch::Receiver<Condition>);

impl Watch {
    /// How it is now.
    #[must_use]
    pub fn now(&self) -> Condition {
        self.0.borrow().clone()
    }

    /// Why it does not answer; none when it does. The text is for operators and for clients: it names no secret.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<str>> {
        match &*self.0.borrow() {
            Condition::Ready => None,
            Condition::Starting => Some("it is being started".into()),
            Condition::Down(reason) => Some(reason.clone()),
        }
    }

    /// Waits for the next change; for ever when there will be none. Safe to cancel.
    pub async fn changed(&mut self) -> Condition {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().clone()
    }

    /// Waits until it answers, or is known not to.
    pub async fn settled(&mut self) {
        while self.now() == Condition::Starting {
            self.changed().await;
        }
    }
}

impl Managed {
    /// Starts to keep the wanted servers of a state folder, or to follow who keeps them: in a slot of systemd's,
    /// beacon-managed.service, and elsewhere another Beacon that came before. Returns at once: the first start of
    /// PostgreSQL takes seconds. To be called in a runtime; the state folder is there.
    #[must_use]
    pub fn start(config: &Config, state: &Path, wanted: Wanted) -> Self {
        let stop = CancellationToken::new();
        let place = Place::of(state);
        let channel = |wanted: bool| wanted.then(|| watch::channel(Condition::Starting)).unzip();
        let (postgres_told, postgres) = channel(wanted.postgres);
        let (redis_told, redis) = channel(wanted.redis);
        let postgres = postgres.map(|heard| (postgres::url(&place.sockets), Watch(heard)));
        let redis = redis.map(|heard| (redis::url(&place.sockets), Watch(heard)));
        let task = (wanted != Wanted::default()).then(|| {
            let keeper = Keeper {
                config: config.clone(),
                state: state.to_owned(),
                place,
                postgres: postgres_told,
                redis: redis_told,
                stop: stop.clone(),
            };
            tokio::spawn(keeper.run())
        });
        Self { postgres, redis, stop, task }
    }

    /// The URL that the private database of a state folder has, whether it runs or not.
    #[must_use]
    pub fn database_url_in(state: &Path) -> Secret {
        postgres::url(&Place::of(state).sockets)
    }

    /// The URL that the private Redis of a state folder has, whether it runs or not.
    #[must_use]
    pub fn redis_url_in(state: &Path) -> Secret {
        redis::url(&Place::of(state).sockets)
    }

    /// The URL of the database; none if none is kept.
    #[must_use]
    pub fn database_url(&self) -> Option<Secret> {
        self.postgres.as_ref().map(|(url, _)| url.clone())
    }

    /// The URL of Redis; none if none is kept.
    #[must_use]
    pub fn redis_url(&self) -> Option<Secret> {
        self.redis.as_ref().map(|(url, _)| url.clone())
    }

    /// How PostgreSQL is; none if none is kept.
    #[must_use]
    pub fn postgres(&self) -> Option<Watch> {
        self.postgres.as_ref().map(|(_, watch)| watch.clone())
    }

    /// How Redis is; none if none is kept.
    #[must_use]
    pub fn redis(&self) -> Option<Watch> {
        self.redis.as_ref().map(|(_, watch)| watch.clone())
    }

    /// Stops the servers that are kept here, cleanly, and waits for that: at most managed.stop_grace and 15 seconds.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

struct Keeper {
    config: Config,
    state: PathBuf,
    place: Place,
    postgres: Option<watch::Sender<Condition>>,
    redis: Option<watch::Sender<Condition>>,
    stop: CancellationToken,
}

impl Keeper {
    async fn run(self) {
        let in_slot = systemd::slot().is_some();
        let mut following = false;
        loop {
            let lock = if in_slot { Ok(None) } else { Lock::take(&self.state) };
            match lock {
                Ok(Some(lock)) => {
                    self.keep().await;
                    record::remove(&self.state);
                    drop(lock);
                    return;
                }
                Ok(None) => self.follow(in_slot, &mut following),
                Err(error) => {
                    self.tell(&Condition::Down(format!("{} cannot be used: {error}", self.state.display()).into()));
                }
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }

    /// Supervises the wanted servers until the stop.
    async fn keep(&self) {
        let writing = CancellationToken::new();
        let record = tokio::spawn(write(
            self.state.clone(),
            self.place.sockets.clone(),
            self.postgres.as_ref().map(watch::Sender::subscribe),
            self.redis.as_ref().map(watch::Sender::subscribe),
            writing.clone(),
        ));
        let (place, config) = (self.place.clone(), self.config.clone());
        let postgres = self.supervise(self.postgres.as_ref(), Postgres { place, config });
        let (place, config) = (self.place.clone(), self.config.clone());
        let redis = self.supervise(self.redis.as_ref(), Redis { place, config });
        tokio::join!(postgres, redis);
        writing.cancel();
        let _ = record.await;
        self.place.remove_sockets();
    }

    async fn supervise(&self, told: Option<&watch::Sender<Condition>>, service: impl Service) {
        if let Some(told) = told {
            supervise(Arc::new(service), told.clone(), self.stop.clone()).await;
        }
    }

    /// Tells what who keeps the servers says of them.
    fn follow(&self, in_slot: bool, following: &mut bool) {
        let Some(record) = record::running(&self.state) else {
            if in_slot {
                let text = "beacon-managed.service, which keeps the private servers, does not run. \
                            Run: systemctl start beacon-managed";
                self.tell(&Condition::Down(text.into()));
            }
            return;
        };
        if !*following && !in_slot {
            let sockets = record.sockets.display();
            tracing::info!(keeper = record.pid, %sockets, "another Beacon keeps the private servers of this state folder");
        }
        *following = true;
        let pid = record.pid;
        for (told, name, said) in
            [(&self.postgres, "PostgreSQL", record.postgres), (&self.redis, "Redis", record.redis)]
        {
            let Some(told) = told else { continue };
            let now = if record.sockets == self.place.sockets {
                let not = || {
                    format!("the Beacon that keeps the private servers (process {pid}) is configured to have no {name}")
                };
                said.map_or_else(|| Condition::Down(not().into()), Condition::from)
            } else {
                let there = record.sockets.display();
                Condition::Down(
                    format!("the private servers of this state folder are kept by process {pid}, in {there}").into(),
                )
            };
            told.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
        }
    }

    fn tell(&self, condition: &Condition) {
        for told in [&self.postgres, &self.redis].into_iter().flatten() {
            told.send_if_modified(|before| std::mem::replace(before, condition.clone()) != *condition);
        }
    }
}

/// Writes down how the servers are, whenever that changes.
async fn write(
    state: PathBuf,
    sockets: PathBuf,
    mut postgres: Option<watch::Receiver<Condition>>,
    mut redis: Option<watch::Receiver<Condition>>,
    stop: CancellationToken,
) {
    async fn changed(receiver: &mut Option<watch::Receiver<Condition>>) {
        match receiver {
            Some(receiver) => {
                // The sender outlives this task.
                let _ = receiver.changed().await;
            }
            None => std::future::pending().await,
        }
    }
    let told = |receiver: &mut Option<watch::Receiver<Condition>>| {
        receiver.as_mut().map(|receiver| (&*receiver.borrow_and_update()).into())
    };
    loop {
        let record = Record {
            pid: std::process::id(),
            sockets: sockets.clone(),
            postgres: told(&mut postgres),
            redis: told(&mut redis),
        };
        if let Err(error) = record.write(&state) {
            tracing::warn!(%error, "how the private servers are cannot be written down, so other processes do not know it");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed(&mut postgres) => {}
            () = changed(&mut redis) => {}
        }
    }
}
