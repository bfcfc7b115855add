//! Writing rows: POST, PATCH, PUT and DELETE of a relation.

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use super::execute::Outcome;
use super::negotiate::{Shown, choose};
use super::plan::{Conflict, Insert, Output, Rows, Target};
use super::query::{
    Applied, Field, Filter, Level, Logic, Media, Missing, Operation, Operator, Query, Resolution, Returned,
};
use super::request::{Answer, Asked, shown_plan, warn};
use super::respond::{Extent, location, only_total, respond};
use super::schema::Relation;
use super::timing::Timing;
use super::{Error, exposure, payload};
use crate::http::{Body, Response};

/// What a write has in hand before it is planned.
struct Prepared {
    query: Query,
    relation: std::sync::Arc<Relation>,
    media: Media,
    output: Output,
}

fn prepare(asked: &Asked<'_>, name: &str) -> Result<Prepared, Error> {
    let query = asked.query(false)?;
    let relation = asked.catalog().relation(asked.schema, name)?;
    if asked.is_guarded() {
        exposure::check(asked.catalog(), &relation.name, &query.level)?;
    }
    let (media, output) = choose(&asked.accepted, Shown::Rows, asked.force.config.plan_enabled)?;
    let output = match asked.preferences.returned {
        Some(Returned::Representation) => output,
        _ => Output::Nothing,
    };
    Ok(Prepared { query, relation, media, output })
}

impl Asked<'_> {
    fn defaults(&self) -> bool {
        self.preferences.missing == Some(Missing::Default)
    }

    fn wants_rows(&self) -> bool {
        self.preferences.returned == Some(Returned::Representation)
    }

    /// How many rows a write touched, if the client wants to know.
    fn touched(&self, outcome: &Outcome) -> Option<i64> {
        self.preferences.counts_writes().then_some(outcome.rows)
    }

    /// The response of a write: with its rows, or without a body.
    fn written(
        &self,
        status: (StatusCode, StatusCode),
        mut headers: HeaderMap,
        media: &Media,
        outcome: &Outcome,
    ) -> Result<Response, Error> {
        if !self.wants_rows() {
            return respond(status.1, headers, Body::Empty, outcome);
        }
        headers.insert(CONTENT_TYPE, media.content_type());
        respond(status.0, headers, outcome.body.clone(), outcome)
    }
}

/// Answers a POST: new rows, or changes of those that are there already.
pub(super) async fn insert(asked: &Asked<'_>, name: &str, body: Bytes, timing: &mut Timing) -> Result<Response, Error> {
    let Prepared { query, relation, media, mut output } = prepare(asked, name)?;
    if !query.level.filters.is_empty() {
        return Err(Error::unsupported(
            "An insert has no rows to choose among: filters are for reads, PATCH and DELETE.",
        ));
    }
    let rows = payload::rows(body, asked.headers, query.columns)?;
    timing.mark("parse");
    if asked.preferences.returned == Some(Returned::HeadersOnly) {
        output = Output::Location;
    }
    let on_conflict = query.on_conflict.unwrap_or_default();
    // Without a key there is nothing that could be there already.
    let keyed = !relation.primary_key.is_empty() || !on_conflict.is_empty();
    let resolution = asked.preferences.resolution.filter(|_| keyed);
    if resolution.is_none() && !on_conflict.is_empty() {
        return Err(Error::unsupported("on_conflict needs Prefer: resolution=merge-duplicates or ignore-duplicates."));
    }
    let conflict =
        resolution.map(|resolution| Conflict { columns: &on_conflict, merge: resolution == Resolution::Merge });
    let insert =
        Insert { rows: Rows { body: rows.json, columns: &rows.columns, defaults: asked.defaults() }, conflict };
    let work = asked.work(Target::Insert(&relation.name, insert), &query.level, output, None);
    let settings = asked.settings(None);
    let run = asked.run(&settings, false);
    let outcome = match asked.perform(&work, run, &media, None, timing).await? {
        Answer::Rows(outcome) => outcome,
        Answer::Plan(body) => return Ok(shown_plan(body, &media)),
    };
    let nothing_new = resolution == Some(Resolution::Merge) && outcome.inserted == Some(0);
    let status = if nothing_new { StatusCode::OK } else { StatusCode::CREATED };
    let mut headers = HeaderMap::new();
    location(&mut headers, name, outcome.location.as_deref());
    headers.insert(CONTENT_RANGE, only_total(asked.touched(&outcome)));
    let which = Applied { resolution: keyed, missing: true, returned: true, max_affected: false };
    asked.applied(&mut headers, which);
    warn(&mut headers, &query.legacy);
    asked.written((status, status), headers, &media, &outcome)
}

/// Answers a PATCH: changes of the rows that the filters choose.
pub(super) async fn update(asked: &Asked<'_>, name: &str, body: Bytes, timing: &mut Timing) -> Result<Response, Error> {
    let Prepared { query, relation, media, output } = prepare(asked, name)?;
    let rows = payload::rows(body, asked.headers, query.columns)?;
    timing.mark("parse");
    let target =
        Target::Update(&relation.name, Rows { body: rows.json, columns: &rows.columns, defaults: asked.defaults() });
    let work = asked.work(target, &query.level, output, None);
    let settings = asked.settings(None);
    let run = asked.run(&settings, false);
    let outcome = match asked.perform(&work, run, &media, asked.preferences.most_affected(), timing).await? {
        Answer::Rows(outcome) => outcome,
        Answer::Plan(body) => return Ok(shown_plan(body, &media)),
    };
    let mut headers = HeaderMap::new();
    let extent = Extent { first: 0, rows: outcome.rows, total: asked.touched(&outcome) };
    headers.insert(CONTENT_RANGE, extent.header());
    let which = Applied { missing: true, returned: true, max_affected: true, resolution: false };
    asked.applied(&mut headers, which);
    warn(&mut headers, &query.legacy);
    asked.written((StatusCode::OK, StatusCode::NO_CONTENT), headers, &media, &outcome)
}

/// Answers a DELETE: the rows that the filters choose go.
pub(super) async fn delete(asked: &Asked<'_>, name: &str, timing: &mut Timing) -> Result<Response, Error> {
    let Prepared { query, relation, media, output } = prepare(asked, name)?;
    timing.mark("parse");
    let work = asked.work(Target::Delete(&relation.name), &query.level, output, None);
    let settings = asked.settings(None);
    let run = asked.run(&settings, false);
    let outcome = match asked.perform(&work, run, &media, asked.preferences.most_affected(), timing).await? {
        Answer::Rows(outcome) => outcome,
        Answer::Plan(body) => return Ok(shown_plan(body, &media)),
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_RANGE, only_total(asked.touched(&outcome)));
    let which = Applied { returned: true, max_affected: true, ..Applied::default() };
    asked.applied(&mut headers, which);
    warn(&mut headers, &query.legacy);
    asked.written((StatusCode::OK, StatusCode::NO_CONTENT), headers, &media, &outcome)
}

/// Answers a PUT: the one row that the address names is there afterwards, as the body says.
pub(super) async fn put(asked: &Asked<'_>, name: &str, body: Bytes, timing: &mut Timing) -> Result<Response, Error> {
    let Prepared { query, relation, media, output } = prepare(asked, name)?;
    if query.level.limit.is_some() || query.level.offset.is_some() {
        let message = "limit/offset querystring parameters are not allowed for PUT";
        return Err(Error::new(StatusCode::BAD_REQUEST, "PGRST114", message));
    }
    let key = key_of(&query.level, &relation)?;
    let rows = payload::rows(body, asked.headers, query.columns)?;
    if !is_row_of(&rows.json, &key) {
        let message = "Payload values do not match URL in primary key column(s)";
        return Err(Error::new(StatusCode::BAD_REQUEST, "PGRST115", message));
    }
    timing.mark("parse");
    let level = Level { filters: Vec::new(), ..query.level };
    let insert = Insert {
        rows: Rows { body: rows.json, columns: &rows.columns, defaults: false },
        conflict: Some(Conflict { columns: &[], merge: true }),
    };
    let work = asked.work(Target::Insert(&relation.name, insert), &level, output, None);
    let settings = asked.settings(None);
    let run = asked.run(&settings, false);
    let outcome = match asked.perform(&work, run, &media, None, timing).await? {
        Answer::Rows(outcome) => outcome,
        Answer::Plan(body) => return Ok(shown_plan(body, &media)),
    };
    let status = if outcome.inserted == Some(0) { StatusCode::OK } else { StatusCode::CREATED };
    let mut headers = HeaderMap::new();
    asked.applied(&mut headers, Applied { returned: true, ..Applied::default() });
    asked.written((status, StatusCode::NO_CONTENT), headers, &media, &outcome)
}

/// The values of the primary key, which the filters must be, and nothing else.
fn key_of(level: &Level, relation: &Relation) -> Result<Vec<(String, String)>, Error> {
    let wrong = || {
        let message = "Filters must include all and only primary key columns with 'eq' operators";
        Error::new(StatusCode::METHOD_NOT_ALLOWED, "PGRST105", message)
    };
    let mut key = Vec::new();
    for logic in &level.filters {
        match logic {
            Logic::Filter(Filter {
                field: Field { name, path },
                negated: false,
                operation: Operation::Compare(Operator::Eq, None, value),
            }) if path.is_empty() => key.push((name.clone(), value.clone())),
            _ => return Err(wrong()),
        }
    }
    let is_key = key.len() == relation.primary_key.len()
        && relation.primary_key.iter().all(|column| key.iter().any(|(name, _)| **name == **column));
    if is_key && !key.is_empty() { Ok(key) } else { Err(wrong()) }
}

/// Whether a body is one row with this key.
fn is_row_of(json: &[u8], key: &[(String, String)]) -> bool {
    let row = match serde_json::from_slice(json) {
        Ok(serde_json::Value::Array(mut rows)) if rows.len() == 1 => rows.remove(0),
        Ok(value) => value,
        Err(_) => return false,
    };
    key.iter().all(|(column, value)| match row.get(column) {
        Some(serde_json::Value::String(text)) => text == value,
        Some(other) => {
            let text = other.to_string();
            text == *value
        }
        None => false,
    })
}
