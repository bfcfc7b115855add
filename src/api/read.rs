//! Reading rows: GET and HEAD of a relation.

use http::HeaderMap;
use http::header::{CONTENT_RANGE, CONTENT_TYPE};

use super::Error;
use super::exposure;
use super::negotiate::{Shown, choose};
use super::plan::{Output, Target};
use super::query::{self, Applied};
use super::request::{Answer, Asked, shown_plan, warn};
use super::respond::{Extent, content_location, respond};
use super::timing::Timing;
use crate::http::{Body, Response};

/// Answers a read of the relation `name`.
pub(super) async fn read(asked: &Asked<'_>, name: &str, timing: &mut Timing) -> Result<Response, Error> {
    let mut query = asked.query(false)?;
    asked.narrow(&mut query.level)?;
    let relation = asked.catalog().relation(asked.schema, name)?;
    if asked.is_guarded() {
        exposure::check(asked.catalog(), &relation.name, &query.level)?;
    }
    let (media, output) = choose(&asked.accepted, Shown::Rows, asked.force.config.plan_enabled)?;
    timing.mark("parse");
    let output = if asked.is_head() { Output::Nothing } else { output };
    let work = asked.work(Target::Read(&relation.name), &query.level, output, asked.count());
    let settings = asked.settings(None);
    let run = asked.run(&settings, true);
    let outcome = match asked.perform(&work, run, &media, None, timing).await? {
        Answer::Rows(outcome) => outcome,
        Answer::Plan(body) => return Ok(shown_plan(body, &media)),
    };
    let first = query.level.offset.unwrap_or_default() as i64;
    let extent = Extent { first, rows: outcome.rows, total: outcome.total };
    let status = extent.status()?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_RANGE, extent.header());
    headers.insert(CONTENT_TYPE, media.content_type());
    content_location(&mut headers, name, &query::canonical(&asked.pairs));
    asked.applied(&mut headers, Applied::default());
    warn(&mut headers, &query.legacy);
    let body = if asked.is_head() { Body::Empty } else { Body::from(outcome.body.clone()) };
    respond(status, headers, body, &outcome)
}
