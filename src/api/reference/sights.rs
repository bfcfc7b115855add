//! What a reader is shown, and what was asked of the database for it a moment ago.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::force::InForce;
use crate::api::openapi::{Question, Sight, View};
use crate::auth::Caller;
use crate::db::{self, Database};

/// How long an answer is kept: rights of a large schema take a while to ask for, and anybody may ask.
const KEPT: Duration = Duration::from_secs(2);
/// More roles than this are not remembered.
const ROLES: usize = 64;

/// Everything that one reader is shown.
pub(super) struct Shown {
    /// The mount's address with its final slash.
    pub(super) base: String,
    /// Scheme, host and port by which the reader came.
    pub(super) origin: String,
    /// The reader's role.
    pub(super) role: Arc<str>,
    /// The configuration and the catalogue.
    pub(super) force: Arc<InForce>,
    /// What the role may use.
    pub(super) sight: Sight,
    /// Schemas in which something is seen.
    pub(super) views: Vec<(String, View)>,
}

impl Shown {
    /// Whether requests that name no schema mean this one.
    pub(super) fn is_default(&self, schema: &str) -> bool {
        self.force.config.schemas.first().is_some_and(|first| first == schema)
    }

    /// The schema to name in a request for what is in `schema`.
    pub(super) fn profile<'a>(&self, schema: &'a str) -> Option<&'a str> {
        (!self.is_default(schema)).then_some(schema)
    }

    /// What is seen of a schema.
    pub(super) fn view(&self, schema: &str) -> Option<&View> {
        self.views.iter().find(|(known, _)| known == schema).map(|(_, view)| view)
    }
}

/// Answers of the last moments, by role.
#[derive(Default)]
pub(super) struct Sights(Mutex<HashMap<Arc<str>, Kept>>);

struct Kept {
    since: Instant,
    sight: Sight,
}

impl Sights {
    /// What a caller's role may use.
    pub(super) async fn of(&self, database: &Database, force: &InForce, caller: &Caller) -> Result<Sight, db::Error> {
        if let Some(kept) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&caller.role)
            && kept.since.elapsed() < KEPT
        {
            return Ok(kept.sight.clone());
        }
        let settings = [("role", &*caller.role), ("request.jwt.claims", &*caller.claims)];
        let question = Question { settings: &settings, before: None, schemas: &force.config.schemas };
        let sight = Sight::ask(database.requests(), question).await?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, kept| kept.since.elapsed() < KEPT);
        if all.len() < ROLES {
            let kept = Kept { since: Instant::now(), sight: sight.clone() };
            all.insert(caller.role.clone(), kept);
        }
        Ok(sight)
    }
}
