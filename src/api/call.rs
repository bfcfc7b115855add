//! Calling a function: GET, HEAD and POST of /rpc/name.

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};

use super::negotiate::{Shown, choose};
use super::payload::{self, Call};
use super::plan::{Arguments, Output, Target};
use super::query::{Applied, Media, Query};
use super::request::{Answer, Asked, shown_plan, warn};
use super::respond::{Extent, respond};
use super::schema::{BodyKind, Function, Name, Returns, Volatility};
use super::timing::Timing;
use super::{Error, exposure, shape};
use crate::http::{Body, Response};

/// What a function is called with, once it is known which it is.
enum Given {
    Json(Bytes, Vec<String>),
    Text(Vec<(String, Vec<String>)>),
    Whole(Bytes),
    Nothing,
}

/// Answers a call of the function `name`.
pub(super) async fn call(asked: &Asked<'_>, name: &str, body: Bytes, timing: &mut Timing) -> Result<Response, Error> {
    let by_address = *asked.method != Method::POST;
    let mut query = asked.query(by_address)?;
    asked.narrow(&mut query.level)?;
    let name = Name { schema: asked.schema.into(), name: name.into() };
    let (function, given) =
        if by_address { by_query(asked, &name, &mut query)? } else { by_body(asked, &name, &mut query, body)? };
    if asked.is_guarded()
        && let Returns::Composite(relation) = &function.returns
    {
        // The function itself shows what it likes; what is embedded from its rows has to be protected.
        exposure::check_embeds(asked.catalog(), relation, &query.level)?;
    }
    let many = function.returns_set;
    let most = asked.preferences.most_affected();
    if most.is_some() && !many {
        let message = "Function must return SETOF or TABLE when max-affected preference is used with handling=strict";
        return Err(Error::new(StatusCode::BAD_REQUEST, "PGRST128", message));
    }
    let (media, output) = choose(&asked.accepted, Shown::Result(&function), asked.force.config.plan_enabled)?;
    timing.mark("parse");
    let output = if asked.is_head() { Output::Nothing } else { output };
    let arguments = match &given {
        Given::Json(body, names) => Arguments::Json(body.clone(), names),
        Given::Text(all) => Arguments::Text(all),
        Given::Whole(body) => Arguments::Body(body.clone()),
        Given::Nothing => Arguments::Empty,
    };
    let work = asked.work(Target::Call(&function, arguments), &query.level, output, asked.count());
    let settings = asked.settings(Some(&function));
    let run = asked.run(&settings, by_address || function.volatility != Volatility::Volatile);
    let outcome = match asked.perform(&work, run, &media, most, timing).await? {
        Answer::Rows(outcome) => outcome,
        Answer::Plan(body) => return Ok(shown_plan(body, &media)),
    };
    let first = query.level.offset.unwrap_or_default() as i64;
    let extent = Extent { first, rows: outcome.rows, total: outcome.total };
    let status = extent.status()?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_RANGE, extent.header());
    asked.applied(&mut headers, Applied { max_affected: true, ..Applied::default() });
    warn(&mut headers, &query.legacy);
    if matches!(function.returns, Returns::Void) && !many {
        return respond(StatusCode::NO_CONTENT, headers, Body::Empty, &outcome);
    }
    headers.insert(CONTENT_TYPE, media.content_type());
    let body = if asked.is_head() { Body::Empty } else { Body::from(outcome.body.clone()) };
    respond(status, headers, body, &outcome)
}

type Chosen = (std::sync::Arc<Function>, Given);

/// Arguments in the query string.
fn by_query(asked: &Asked<'_>, name: &Name, query: &mut Query) -> Result<Chosen, Error> {
    let pairs = std::mem::take(&mut query.arguments);
    by_text(asked, name, pairs, BodyKind::None)
}

/// Arguments in the body.
fn by_body(asked: &Asked<'_>, name: &Name, query: &mut Query, body: Bytes) -> Result<Chosen, Error> {
    match payload::call(body, asked.headers, query.columns.take())? {
        Call::Json(body, names) => {
            let given: Vec<&str> = names.iter().map(String::as_str).collect();
            let function = asked.catalog().function(name, &given, BodyKind::Json)?;
            if takes_whole(&function) {
                return Ok((function, Given::Whole(body)));
            }
            // Of an array, the first object is called with.
            match shape::first_object(&body) {
                Some(range) if !names.is_empty() => Ok((function, Given::Json(body.slice(range), names))),
                _ => Ok((function, Given::Nothing)),
            }
        }
        Call::Text(pairs) => by_text(asked, name, pairs, BodyKind::Form),
        Call::Whole(body, media) => {
            let kind = match media {
                Media::Xml => BodyKind::Xml,
                Media::Octets => BodyKind::Bytes,
                _ => BodyKind::Text,
            };
            let function = asked.catalog().function(name, &[], kind)?;
            Ok(if takes_whole(&function) { (function, Given::Whole(body)) } else { (function, Given::Nothing) })
        }
    }
}

fn by_text(asked: &Asked<'_>, name: &Name, pairs: Vec<(String, String)>, kind: BodyKind) -> Result<Chosen, Error> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in pairs {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => all.push((name, vec![value])),
        }
    }
    let given: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let function = asked.catalog().function(name, &given, kind)?;
    for (name, values) in &mut all {
        let variadic = function.parameters.iter().any(|parameter| *parameter.name == **name && parameter.variadic);
        // What is given again replaces what was given before.
        if !variadic && values.len() > 1 {
            values.drain(..values.len() - 1);
        }
    }
    let given = if all.is_empty() { Given::Nothing } else { Given::Text(all) };
    Ok((function, given))
}

/// Whether the function takes a whole body as its one argument, which has no name.
fn takes_whole(function: &Function) -> bool {
    matches!(function.parameters.as_slice(), [only] if only.name.is_empty())
}
