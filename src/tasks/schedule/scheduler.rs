//! Follows the entries of all sources, and sends each when its time has come.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::Entry;
use super::ledger::{Claim, Known, Ledger, Ready, Told};
use super::plan::{Plan, Source, Unusable};
use super::store::{Store, StoreError};
use super::timing::Due;
use crate::db::Listener;
use crate::error::chain;
use crate::tasks::client::{Client, NewTask};
use crate::tasks::python::Schedule;

/// The longest pause between two looks, so that a clock that was set is noticed.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the start waits for Redis.
const OPENING: Duration = Duration::from_secs(5);
/// The pause after Redis or the database did not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the entries of the database are read without a notice of a change.
const RELOAD: Duration = Duration::from_secs(30);
/// How often the others are told of the entries.
const TELL: Duration = Duration::from_mins(1);
/// The least time, in milliseconds, that a task may be late: as long as Redis may take to be found again.
const LEAST_GRACE: i64 = 10_000;
/// How far ahead, in milliseconds, an entry's last time may lie without a word.
const CLOCK: i64 = 60_000;

/// Sends tasks at set times. Clones share it.
#[derive(Clone)]
pub struct Scheduler(pub(super) Arc<Inner>);

/// Where entries come from.
pub struct Sources {
    /// The configuration's.
    pub entries: BTreeMap<String, Entry>,
    /// The database's, if there is one.
    pub store: Option<Store>,
    /// Those of a Celery application, whenever they are known.
    pub exported: watch::Receiver<Arc<[Schedule]>>,
}

pub(super) struct Inner {
    pub(super) ledger: Ledger,
    client: Client,
    pub(super) sources: Sources,
    plans: Mutex<Arc<Plans>>,
}

/// All entries: those that are usable, and why others are not.
#[derive(Default)]
pub(super) struct Plans {
    pub(super) usable: Vec<Plan>,
    pub(super) refused: Vec<Refused>,
}

pub(super) struct Refused {
    pub(super) name: String,
    pub(super) source: Source,
    task: String,
    why: Unusable,
}

/// What is known between two looks.
#[derive(Default)]
struct Memory {
    /// Of each entry its times, the moment after which they count, and the next one: it is not worked out each time.
    next: HashMap<Arc<str>, (String, i64, Option<i64>)>,
    loaded: Option<Instant>,
    told: Option<Instant>,
    /// Whether Redis refused, and the database did not answer, the last time: each change is told once.
    refused: bool,
    no_store: bool,
    /// Entries whose last time lies ahead, and of which that was told.
    ahead: HashSet<Arc<str>>,
    stored: Vec<(String, Entry)>,
}

impl Scheduler {
    /// A scheduler; [`Scheduler::run`] makes it work.
    #[must_use]
    pub fn new(client: Client, sources: Sources) -> Self {
        let inner = Inner { ledger: Ledger::new(client.broker().clone()), client, sources, plans: Mutex::default() };
        Self(Arc::new(inner))
    }

    /// Sends tasks when they are due, until it is stopped.
    pub async fn run(&self, stop: CancellationToken) {
        let mut listener = self.0.sources.store.as_ref().map(|store| store.database().listen(&["beacon_schedules"]));
        let mut exported = Some(self.0.sources.exported.clone());
        let mut memory = Memory::default();
        // A connection that is only just being opened is nothing to be told of.
        let broker = self.0.client.broker();
        let connected = async {
            while !broker.is_connected() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(OPENING, stop.run_until_cancelled(connected)).await;
        loop {
            if memory.loaded.is_none_or(|loaded| loaded.elapsed() >= RELOAD) {
                self.load(&mut memory).await;
            }
            let turn = self.turn(&mut memory).await;
            // That Redis is away, and that it is back, the connection says itself.
            if let Err(error) = &turn
                && !error.is_unavailable()
                && !memory.refused
            {
                tracing::warn!(error = %chain(error), "schedules wait: Redis refuses");
            } else if turn.is_ok() && memory.refused {
                tracing::info!("schedules go on");
            }
            memory.refused = turn.as_ref().is_err_and(|error| memory.refused || !error.is_unavailable());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(turn.unwrap_or(AGAIN)) => {}
                () = heard(&mut listener) => memory.loaded = None,
                () = changed(&mut exported) => memory.loaded = None,
            }
        }
    }

    /// Reads the entries of all sources once, for who sends nothing by itself: [`Scheduler::run_now`] and changes of
    /// entries know them then.
    ///
    /// # Errors
    /// The database is away.
    pub async fn read(&self) -> Result<(), StoreError> {
        let stored = match &self.0.sources.store {
            Some(store) => store.list().await?,
            None => Vec::new(),
        };
        *self.0.plans.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.collect(&stored));
        Ok(())
    }

    /// Takes the entries of all sources together.
    async fn load(&self, memory: &mut Memory) {
        if let Some(store) = &self.0.sources.store
            && store.database().is_ready()
        {
            match store.list().await {
                Ok(stored) => {
                    memory.stored = stored;
                    memory.no_store = false;
                }
                Err(error) if !memory.no_store => {
                    tracing::warn!(error = %chain(&error), "schedules of the database cannot be read; those known stay");
                    memory.no_store = true;
                }
                Err(_) => {}
            }
        }
        let plans = self.collect(&memory.stored);
        let before = self.plans();
        for refused in &plans.refused {
            if !before.refused.iter().any(|known| known.name == refused.name && known.why == refused.why) {
                tracing::warn!(schedule = refused.name, task = refused.task, "a schedule is left out: {}", refused.why);
            }
        }
        memory.ahead.retain(|name| plans.usable.iter().any(|plan| plan.name == *name));
        memory.next.retain(|name, _| plans.usable.iter().any(|plan| plan.name == *name));
        *self.0.plans.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(plans);
        memory.loaded = Some(Instant::now());
        memory.told = None;
    }

    fn collect(&self, stored: &[(String, Entry)]) -> Plans {
        let sources = &self.0.sources;
        let exported = sources.exported.borrow().clone();
        let of_entry = |source| {
            move |(name, entry): (&String, &Entry)| {
                (name.clone(), entry.task.clone(), source, { Plan::of_entry(name, entry, source) })
            }
        };
        let all = (sources.entries.iter().map(of_entry(Source::Configuration)))
            .chain(stored.iter().map(|(name, entry)| (name, entry)).map(of_entry(Source::Database)))
            .chain(exported.iter().map(|exported| {
                let plan = Plan::of_application(exported);
                (exported.name.clone(), exported.task.clone(), Source::Application, plan)
            }));
        let (mut plans, mut taken) = (Plans::default(), BTreeMap::new());
        for (name, task, source, plan) in all {
            if let Some(first) = taken.get(&name) {
                tracing::debug!(schedule = name, ?source, ?first, "two schedules have one name; the first counts");
                continue;
            }
            taken.insert(name.clone(), source);
            match plan {
                Ok(plan) => plans.usable.push(plan),
                Err(why) => plans.refused.push(Refused { name, source, task, why }),
            }
        }
        plans
    }

    pub(super) fn plans(&self) -> Arc<Plans> {
        self.0.plans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends what is due, and gives the time until there may be more.
    async fn turn(&self, memory: &mut Memory) -> Result<Duration, crate::tasks::Error> {
        let plans = self.plans();
        if memory.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.tell(&plans).await?;
            memory.told = Some(Instant::now());
        }
        let active: Vec<&Plan> = plans.usable.iter().filter(|plan| plan.enabled).collect();
        if active.is_empty() {
            return Ok(PAUSE);
        }
        let (now, known) = self.0.ledger.read(&active).await?;
        let begun = Instant::now();
        let mut soonest = i64::MAX;
        for (plan, known) in active.into_iter().zip(known) {
            let next = match memory.next.get(&plan.name) {
                Some((times, after, next)) if *after == known.after() && *times == plan.times() => *next,
                _ => {
                    let next = plan.timing.next(known.after());
                    memory.next.insert(plan.name.clone(), (plan.times(), known.after(), next));
                    next
                }
            };
            if known.slot > now + CLOCK && memory.ahead.insert(plan.name.clone()) {
                tracing::warn!(
                    schedule = &*plan.name,
                    ahead_s = (known.slot - now) / 1_000,
                    "a schedule waits: its last time lies ahead, so Redis's clock was put back"
                );
            }
            let Some(next) = next else { continue };
            if next > now {
                soonest = soonest.min(next);
                continue;
            }
            if let Some(due) = plan.timing.due(known.after(), now) {
                self.due(plan, known, due, now).await?;
                soonest = soonest.min(plan.timing.next(due.slot).unwrap_or(i64::MAX));
            }
        }
        let left = Duration::from_millis(soonest.saturating_sub(now).max(0) as u64);
        // A millisecond more, because Redis's clock was cut to whole ones.
        Ok((left.saturating_sub(begun.elapsed()) + Duration::from_millis(1)).min(PAUSE))
    }

    /// Sends a task whose time has come, or passes it over when that was too long ago.
    async fn due(&self, plan: &Plan, known: Known, due: Due, now: i64) -> Result<(), crate::tasks::Error> {
        let late = now - due.slot;
        let (name, task) = (&*plan.name, plan.task.as_str());
        let next = plan.timing.next(due.slot);
        let ready = if late > plan.grace.max(LEAST_GRACE) {
            None
        } else {
            match self.message(plan, now).await {
                Ok(ready) => Some(ready),
                Err(error) if error.is_unavailable() => return Err(error),
                Err(error) => {
                    tracing::error!(schedule = name, task, error = %chain(&error), "a task cannot be sent at its time");
                    None
                }
            }
        };
        let missed = due.missed + u64::from(ready.is_none());
        let claim = self.0.ledger.claim(name, known, due.slot, next, missed, ready.as_ref()).await?;
        if claim != Claim::Ours {
            return Ok(());
        }
        if missed > 0 {
            tracing::warn!(
                schedule = name,
                task,
                missed,
                late_ms = late,
                sent = ready.is_some(),
                "times of a schedule were missed, because no Beacon ran or Redis was away"
            );
        }
        if let Some(ready) = ready {
            tracing::info!(schedule = name, task, id = ready.id, late_ms = late, "a task was sent at its time");
        }
        Ok(())
    }

    /// The message of an entry, as Celery's beat sends it.
    pub(super) async fn message(&self, plan: &Plan, now: i64) -> Result<Ready, crate::tasks::Error> {
        let from_now = |seconds: f64| now as f64 / 1_000.0 + seconds;
        let mut headers = plan.headers.clone();
        headers.insert("celery_beat_task".into(), true.into());
        let task = NewTask {
            task: plan.task.clone(),
            args: plan.args.clone(),
            kwargs: plan.kwargs.clone(),
            queue: plan.queue.clone(),
            priority: plan.priority,
            eta: plan.countdown.map(from_now),
            expires: plan.expires.map(from_now),
            time_limit: plan.time_limit,
            soft_time_limit: plan.soft_time_limit,
            ignore_result: plan.ignore_result,
            headers,
            ..NewTask::default()
        };
        let built = self.0.client.prepare(&task)?;
        self.0.client.broker().declare_once(&built.queue).await?;
        Ok(Ready { id: built.id, list: built.list, raw: built.raw })
    }

    async fn tell(&self, plans: &Plans) -> Result<(), crate::tasks::Error> {
        let resting: Vec<&Plan> = plans.usable.iter().filter(|plan| !plan.enabled).collect();
        if !resting.is_empty() {
            self.0.ledger.rest(&resting).await?;
        }
        let usable = plans.usable.iter().map(|plan| {
            let told = Told {
                source: plan.source,
                task: plan.task.clone(),
                when: plan.when.clone(),
                timezone: plan.timezone.clone(),
                queue: plan.queue.clone(),
                enabled: plan.enabled,
                problem: None,
            };
            (&*plan.name, told)
        });
        let refused = plans.refused.iter().map(|refused| {
            let told = Told {
                source: refused.source,
                task: refused.task.clone(),
                when: String::new(),
                timezone: String::new(),
                queue: None,
                enabled: false,
                problem: Some(refused.why.to_string()),
            };
            (&*refused.name, told)
        });
        self.0.ledger.tell(&usable.chain(refused).collect::<Vec<_>>()).await
    }
}

/// Waits for a change in the database; for ever if there is none to listen to.
async fn heard(listener: &mut Option<Listener>) {
    match listener {
        Some(listener) => drop(listener.next().await),
        None => std::future::pending().await,
    }
}

/// Waits for a change of the application's entries; for ever once nobody can tell of one.
async fn changed(exported: &mut Option<watch::Receiver<Arc<[Schedule]>>>) {
    if let Some(receiver) = exported {
        if receiver.changed().await.is_ok() {
            return;
        }
        *exported = None;
    }
    std::future::pending::<()>().await;
}
