//! Takes messages when there is a place for them.
//!
//! Never more than runners have places: what is taken beyond that would wait here instead of with a worker that is free.
//! With several runners it is not known before whose a message is; as many are taken as the runner has places that had
//! work lately, and what finds none goes back at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::select_all;

use super::Worker;
use crate::clock;
use crate::error::chain;
use crate::tasks::broker::{List, Wait};

/// Messages that one call takes at most.
const MOST: usize = 64;
/// Between two looks while Redis is away.
const AWAY: Duration = Duration::from_millis(100);
/// After an error.
const PAUSE: Duration = Duration::from_millis(500);
/// A wait that ended for nothing is followed by a pause, longer each time, up to this: a list may have something that
/// is not to be taken.
const NOTHING: Duration = Duration::from_millis(250);
/// A runner that had no work for so long does not hold back the others.
const LATELY: Duration = Duration::from_secs(10);
/// Between two looks at what nobody tells of.
const IDLE: Duration = Duration::from_secs(1);
/// Up to so many queues are waited for each alone.
const ALONE: usize = 4;
/// Ends that wait for Redis, beyond which nothing is taken.
const BACKLOG: usize = 10_000;

impl Worker {
    /// Takes messages for ever.
    pub(super) async fn fetch(&self) {
        let broker = &self.0.options.broker;
        let mut turn = Turn::new(self);
        let (mut nothing, mut failed) = (Duration::ZERO, false);
        let mut busy = vec![None; self.0.options.runners.len()];
        loop {
            if !broker.is_connected() || self.0.held.len() > BACKLOG {
                tokio::time::sleep(AWAY).await;
                continue;
            }
            let room = self.room(&busy);
            if room == 0 {
                tokio::select! {
                    // Others that are about to end go first, so that one call is for all their places.
                    () = self.freed() => tokio::task::yield_now().await,
                    () = self.0.queues.changed() => turn.follow(self),
                    () = tokio::time::sleep(IDLE) => {}
                }
                self.0.queues.resume(|runner| self.0.options.runners[runner].free() > 0);
                continue;
            }
            let lists = turn.lists(self);
            let claimed = match broker.claim(&self.0.id, &lists, room).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    if !failed {
                        tracing::warn!(error = %chain(&error), "no tasks can be taken; trying again");
                        failed = true;
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if failed {
                tracing::info!("tasks can be taken again");
                failed = false;
            }
            if claimed.is_empty() {
                let began = Instant::now();
                tokio::select! {
                    () = turn.next(self) => {}
                    () = self.0.queues.changed() => {
                        turn.follow(self);
                        continue;
                    }
                    // A queue waits for a runner.
                    () = self.freed(), if self.0.queues.any_waits() => {
                        self.0.queues.resume(|runner| self.0.options.runners[runner].free() > 0);
                        continue;
                    }
                }
                // Woken at once, several times, and nothing was there: no business of ours.
                if began.elapsed() < Duration::from_millis(5) {
                    tokio::time::sleep(nothing).await;
                    nothing = (nothing * 2).clamp(Duration::from_millis(1), NOTHING);
                } else {
                    nothing = Duration::ZERO;
                }
                continue;
            }
            nothing = Duration::ZERO;
            self.0.taken.store(clock::millis(), Ordering::Relaxed);
            let mut queues: Vec<Arc<str>> = Vec::new();
            for one in &claimed {
                if queues.last() != Some(&one.queue) && !queues.contains(&one.queue) {
                    queues.push(one.queue.clone());
                }
            }
            self.0.queues.delivered(&queues);
            let before: Vec<usize> = self.0.options.runners.iter().map(|runner| runner.free()).collect();
            self.admit(claimed).await;
            for (at, runner) in self.0.options.runners.iter().enumerate() {
                if runner.free() < before[at] || runner.free() == 0 {
                    busy[at] = Some(Instant::now());
                }
            }
        }
    }

    /// How many messages may be taken now.
    fn room(&self, busy: &[Option<Instant>]) -> usize {
        let runners = &self.0.options.runners;
        let free: Vec<usize> = runners.iter().map(|runner| runner.free()).collect();
        let most = free.iter().copied().max().unwrap_or(0);
        if most == 0 {
            return 0;
        }
        let lately = |at: &usize| busy[*at].is_some_and(|when| when.elapsed() < LATELY);
        // One at a time past a runner that is full: the message may be another's.
        let least = (0..runners.len()).filter(lately).map(|at| free[at].max(1)).min();
        least.unwrap_or(most).min(MOST)
    }

    /// Completes when some runner may have one more place.
    async fn freed(&self) {
        let runners = &self.0.options.runners;
        if runners.is_empty() {
            return std::future::pending().await;
        }
        select_all(runners.iter().map(|runner| runner.freed())).await;
    }
}

/// The queues: their lists, and who waits for them.
struct Turn {
    lists: Vec<(Arc<str>, Vec<Arc<List>>)>,
    waits: Vec<(Option<Arc<str>>, Wait)>,
    generation: u64,
}

impl Turn {
    fn new(worker: &Worker) -> Self {
        let mut turn = Self { lists: Vec::new(), waits: Vec::new(), generation: worker.0.queues.generation() };
        turn.follow(worker);
        turn
    }

    /// Takes over which queues there are now. Waiting for one costs connections: those that are there stay.
    fn follow(&mut self, worker: &Worker) {
        let queues = worker.0.queues.named();
        let broker = &worker.0.options.broker;
        if std::mem::replace(&mut self.generation, worker.0.queues.generation()) != worker.0.queues.generation() {
            self.waits.clear();
        }
        let same = self.lists.len() == queues.len() && self.lists.iter().all(|(known, _)| queues.contains(known));
        if same && !self.waits.is_empty() {
            return;
        }
        self.lists = queues.iter().map(|queue| (queue.clone(), broker.lists(queue))).collect();
        if queues.len() > ALONE {
            self.waits = vec![(None, broker.wait(&queues))];
            return;
        }
        // Each alone, so that one that is not to be taken from does not wake for the others.
        self.waits.retain(|(known, _)| known.as_ref().is_some_and(|known| queues.contains(known)));
        for queue in queues {
            if !self.waits.iter().any(|(known, _)| known.as_ref() == Some(&queue)) {
                let wait = broker.wait(std::slice::from_ref(&queue));
                self.waits.push((Some(queue), wait));
            }
        }
    }

    /// The lists in the order of preference: by step, and in a step by turn.
    fn lists(&self, worker: &Worker) -> Vec<Arc<List>> {
        let turn = worker.0.queues.turn();
        let of = |queue: &Arc<str>| self.lists.iter().find(|(known, _)| known == queue).map(|(_, lists)| lists);
        let mut all: Vec<Arc<List>> = turn.iter().filter_map(of).flatten().cloned().collect();
        all.sort_by_key(|list| list.step);
        all
    }

    /// Completes when a list may have something.
    async fn next(&self, worker: &Worker) {
        let turn = worker.0.queues.turn();
        let wanted = self.waits.iter().filter(|(queue, _)| queue.as_ref().is_none_or(|queue| turn.contains(queue)));
        let waits: Vec<_> = wanted.map(|(_, wait)| Box::pin(wait.next())).collect();
        if waits.is_empty() {
            return tokio::time::sleep(IDLE).await;
        }
        select_all(waits).await;
    }
}
