//! A request that is understood so far: who asks for what, in which form, and what all answers have in common.

use http::header::{CONTENT_TYPE, HeaderName, RANGE, WARNING};
use http::{HeaderMap, HeaderValue, Method};

use super::Error;
use super::database_error::explain;
use super::execute::{Outcome, Run};
use super::force::InForce;
use super::plan::{self, Count, Output, Statement, Target, Work};
use super::query::{self, Counted, End, Level, Media, Mode, Pair, Preferences, Query};
use super::schema::{Catalog, Function};
use super::settings::{Heard, Settings};
use super::timing::Timing;
use crate::auth::Caller;
use crate::db::{self, Pool};
use crate::http::{Body, Response};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A request.
pub(super) struct Asked<'a> {
    pub(super) force: &'a InForce,
    /// Connections that requests run on.
    pub(super) pool: &'a Pool,
    pub(super) caller: &'a Caller,
    /// The schema that it is about.
    pub(super) schema: &'a str,
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    /// The path below the mount.
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    /// The query string's pairs.
    pub(super) pairs: Vec<Pair<'a>>,
    pub(super) preferences: Preferences,
    /// Media types, the best first.
    pub(super) accepted: Vec<Media>,
}

impl<'a> Asked<'a> {
    /// What the database has.
    pub(super) fn catalog(&self) -> &'a Catalog {
        &self.force.catalog
    }

    /// Reads the query string. `arguments` says whether a function is called by it.
    pub(super) fn query(&self, arguments: bool) -> Result<Query, Error> {
        let mode = Mode { arguments, legacy_names: self.force.config.legacy_target_names };
        Ok(query::parse(&self.pairs, mode)?)
    }

    /// Narrows a level by the header Range, which means something for GET alone (RFC 9110 section 14.2).
    pub(super) fn narrow(&self, level: &mut Level) -> Result<(), Error> {
        let range = self.headers.get(RANGE).filter(|_| *self.method == Method::GET);
        match range.and_then(|value| value.to_str().ok()) {
            Some(range) => Ok(query::narrow(level, range)?),
            None => Ok(()),
        }
    }

    /// Whether the caller is anybody, and so only sees what is protected.
    pub(super) fn is_guarded(&self) -> bool {
        !self.force.config.expose_unprotected && !self.caller.authenticated
    }

    /// Whether a body is not wanted.
    pub(super) fn is_head(&self) -> bool {
        *self.method == Method::HEAD
    }

    /// What the planner is to do.
    pub(super) fn work<'w>(
        &self,
        target: Target<'w>,
        level: &'w Level,
        output: Output,
        count: Option<Count>,
    ) -> Work<'w> {
        Work {
            target,
            level,
            output,
            count,
            max_rows: Some(self.force.config.max_rows).filter(|rows| *rows > 0),
            aggregates: self.force.config.aggregates_enabled,
        }
    }

    /// How rows are counted.
    pub(super) fn count(&self) -> Option<Count> {
        self.preferences.count.map(|count| match count {
            Counted::Exact => Count::Exact,
            Counted::Planned => Count::Planned,
            Counted::Estimated => Count::Estimated,
        })
    }

    /// What the transaction knows of the request.
    pub(super) fn settings(&'a self, function: Option<&'a Function>) -> Settings<'a> {
        let heard = Heard { method: self.method.as_str(), path: self.path, headers: self.headers, host: self.host };
        let zone = self.preferences.time_zone.as_deref();
        Settings::new(&self.force.config, &self.force.catalog, self.caller, self.schema, heard, zone, function)
    }

    /// How the transaction runs.
    pub(super) fn run<'r>(&'r self, settings: &'r Settings<'r>, read_only: bool) -> Run<'r> {
        let rollback = match self.preferences.end {
            Some(End::Commit) => false,
            Some(End::Rollback) => true,
            None => self.force.config.tx_end.rolls_back(),
        } && !read_only;
        let before = if rollback { Some(&*self.force.before_undone) } else { self.force.before.as_deref() };
        Run { settings, before, read_only, rollback }
    }

    /// Makes and runs a statement; or shows how it would run, when that is what was asked for.
    pub(super) async fn perform(
        &self,
        work: &Work<'_>,
        run: Run<'_>,
        media: &Media,
        most: Option<i64>,
        timing: &mut Timing,
    ) -> Result<Answer, Error> {
        let statement = plan::plan(&self.force.catalog, work)?;
        timing.mark("plan");
        let pool = self.pool;
        if let Media::Plan(plan) = media {
            let body = run.explain(pool, &statement, plan).await.map_err(|error| self.failure(&error))?;
            timing.mark("transaction");
            return Ok(Answer::Plan(body.into()));
        }
        let single = matches!(media, Media::Object(_));
        // A read has nothing to undo, so that it is told after it was done.
        let accept = (!run.read_only && (single || most.is_some()))
            .then_some(move |rows: i64| (!single || rows == 1) && most.is_none_or(|most| rows <= most));
        let (outcome, _) = run.statement(pool, &statement, accept).await.map_err(|error| self.failure(&error))?;
        if single && outcome.rows != 1 {
            return Err(Error::singular(outcome.rows));
        }
        if most.is_some_and(|most| outcome.rows > most) {
            return Err(Error::max_affected(outcome.rows));
        }
        let outcome = self.counted(outcome, work, &statement, run).await?;
        timing.mark("transaction");
        Ok(Answer::Rows(outcome))
    }

    /// The outcome with an estimate of the total, where that was asked for.
    async fn counted(
        &self,
        mut outcome: Outcome,
        work: &Work<'_>,
        statement: &Statement,
        run: Run<'_>,
    ) -> Result<Outcome, Error> {
        let Some((sql, parameters)) = &statement.estimate else { return Ok(outcome) };
        let many = match (work.count, outcome.total, work.max_rows) {
            (Some(Count::Planned), ..) => true,
            (Some(Count::Estimated), Some(total), Some(most)) => total > most as i64,
            _ => false,
        };
        if many {
            let run = Run { read_only: true, rollback: false, ..run };
            let estimate = run.estimate(self.pool, sql, parameters).await.map_err(|error| self.failure(&error))?;
            outcome.total = outcome.total.max(estimate);
        }
        Ok(outcome)
    }

    /// What the client hears of a failure.
    pub(super) fn failure(&self, error: &db::Error) -> Error {
        explain(error, self.caller.authenticated)
    }

    /// Adds what applies of the preferences.
    pub(super) fn applied(&self, headers: &mut HeaderMap, which: query::Applied) {
        if let Some(value) = self.preferences.applied(which) {
            headers.insert(PREFERENCE_APPLIED, value);
        }
    }
}

/// What came of a request.
pub(super) enum Answer {
    /// What the statement returned.
    Rows(Outcome),
    /// How it would run, as it is shown.
    Plan(Body),
}

/// An execution plan as a response.
pub(super) fn shown_plan(body: Body, media: &Media) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, media.content_type());
    response
}

/// Says that embeds were called by names that will not do for ever.
pub(super) fn warn(headers: &mut HeaderMap, legacy: &[(String, String)]) {
    if legacy.is_empty() {
        return;
    }
    let pairs: Vec<String> = legacy.iter().map(|(target, alias)| format!("`{target}` to `{alias}`")).collect();
    let text = format!(
        "299 Beacon \"Embedded resource was referenced by relation name even though it has an alias. This is \
         deprecated and will stop working in a future release. Update {} in query string filters, orders or limits.\"",
        pairs.join(", ").replace(['"', '\\'], "'")
    );
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(WARNING, value);
    }
}
