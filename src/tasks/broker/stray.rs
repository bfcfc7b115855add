//! Claims that Redis has in a worker's name and that nobody here holds: the answer that told of them was lost with its
//! connection, or whoever held them was dropped. Signs of life would keep them for ever; they go back to their queues.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use super::{Broker, CALL, Claimed};
use crate::redis::{self, Value};
use crate::tasks::Error;

/// So many are remembered before those that have ended are taken out.
const MOST: usize = 20_000;

/// What this process has claimed. A claim is held as long as somebody has its identifier.
#[derive(Debug, Default)]
pub(super) struct Known {
    held: Vec<Weak<str>>,
    /// The first numbers of claims that Redis was asked for and has not answered.
    asked: BTreeSet<u64>,
}

/// Claims that Redis was asked for, until it has answered or nobody waits for the answer any more.
pub(super) struct Asked<'a> {
    broker: &'a Broker,
    first: u64,
}

impl Asked<'_> {
    /// These are held from now on.
    pub(super) fn answered(self, claimed: &[Claimed]) {
        let mut known = self.broker.known();
        if known.held.len() + claimed.len() > MOST {
            known.held.retain(|claim| claim.strong_count() > 0);
        }
        known.held.extend(claimed.iter().map(|one| Arc::downgrade(&one.claim.id)));
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.broker.known().asked.remove(&self.first);
    }
}

impl Broker {
    /// Asks for claims with these numbers: their first one.
    pub(super) fn asking(&self, first: u64) -> Asked<'_> {
        self.known().asked.insert(first);
        Asked { broker: self, first }
    }

    /// Gives back what Redis has in a worker's name and nobody in this process holds, nor may still be told of. Gives how
    /// many there were. A call may also lie in the buffer of a connection that was given up, and be done after newer ones.
    pub(super) async fn give_strays_back(&self, worker: &str) -> Result<usize, Error> {
        let key = vec![Value::from(self.claims_key(worker))];
        let claims = redis::list(self.client().command("SMEMBERS", key, CALL).await?);
        let mut strays = self.strangers(claims.into_iter().filter_map(redis::text).collect());
        // The first one is pushed last, and runs first.
        strays.sort_by_key(|claim| std::cmp::Reverse(number(claim)));
        self.give_back_claims(worker, &strays).await
    }

    /// Those of which nobody knows. The list is older than what is known by now: what has been claimed since is not in
    /// it, and what has ended since is no longer there to be given back.
    fn strangers(&self, claims: Vec<String>) -> Vec<String> {
        if claims.is_empty() {
            return claims;
        }
        let mut known = self.known();
        known.held.retain(|claim| claim.strong_count() > 0);
        let held: Vec<Arc<str>> = known.held.iter().filter_map(Weak::upgrade).collect();
        let held: HashSet<&str> = held.iter().map(|claim| &**claim).collect();
        let asked = known.asked.first().copied().unwrap_or(u64::MAX);
        let strange =
            |claim: &String| !held.contains(claim.as_str()) && number(claim).is_none_or(|number| number < asked);
        claims.into_iter().filter(strange).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(claim: &str) -> Option<u64> {
    claim.rsplit(':').next().and_then(|text| text.parse().ok())
}
