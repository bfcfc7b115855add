//! What can be asked for: paths with their operations, and the parameters that they share.

use std::sync::Arc;

use super::definitions::{self, items, json_type, merged};
use super::node::{Node, Object};
use super::sight::{Seen, View};
use crate::api::schema::{Function, Parameter, Volatility};

const JSON: [&str; 3] =
    ["application/json", "application/vnd.pgrst.object+json;nulls=stripped", "application/vnd.pgrst.object+json"];

/// What bodies are, of requests and of responses.
pub(super) fn media() -> Node {
    JSON.into_iter().chain(["text/csv"]).collect()
}

/// The paths.
pub(super) fn paths(view: &View) -> Object {
    let mut paths = Object::default().with("/", Object::default().with("get", introspection()));
    for (name, seen) in &view.relations {
        paths.add(format!("/{name}"), relation(name, seen));
    }
    for (name, overloads) in &view.functions {
        paths.add(format!("/rpc/{name}"), function(name, overloads));
    }
    paths
}

/// The parameters.
pub(super) fn parameters(view: &View) -> Object {
    let mut all = Object::default()
        .with("preferParams", prefer(&[]))
        .with("preferReturn", prefer(&["return=representation", "return=minimal", "return=none"]))
        .with("preferCount", prefer(&["count=none"]))
        .with(
            "preferPost",
            prefer(&[
                "return=representation",
                "return=minimal",
                "return=none",
                "resolution=ignore-duplicates",
                "resolution=merge-duplicates",
            ]),
        )
        .with("select", parameter("select", Some("Filtering Columns"), "query"))
        .with("on_conflict", parameter("on_conflict", Some("On Conflict"), "query"))
        .with("order", parameter("order", Some("Ordering"), "query"))
        .with("range", parameter("Range", Some("Limiting and Pagination"), "header"))
        .with("rangeUnit", parameter("Range-Unit", Some("Limiting and Pagination"), "header").with("default", "items"))
        .with("offset", parameter("offset", Some("Limiting and Pagination"), "query"))
        .with("limit", parameter("limit", Some("Limiting and Pagination"), "query"));
    for (name, seen) in &view.relations {
        let body = Object::default()
            .with("name", &**name)
            .with("description", &**name)
            .with("required", false)
            .with("in", "body")
            .with("schema", reference("definitions", name));
        all.add(format!("body.{name}"), body);
        for column in &seen.relation.columns {
            let filter = parameter(&column.name, column.comment.as_deref(), "query");
            all.add(format!("rowFilter.{name}.{}", column.name), filter);
        }
    }
    all
}

fn parameter(name: &str, description: Option<&str>, place: &str) -> Object {
    Object::default()
        .with("name", name)
        .maybe("description", description)
        .with("required", false)
        .with("in", place)
        .with("type", "string")
}

fn prefer(values: &[&str]) -> Object {
    let parameter = parameter("Prefer", Some("Preference"), "header");
    parameter.maybe("enum", (!values.is_empty()).then(|| values.iter().copied().collect::<Node>()))
}

fn reference(section: &str, name: &str) -> Object {
    // A name in a JSON pointer (RFC 6901 section 3), in a fragment.
    let name = name.replace('~', "~0").replace('/', "~1");
    let name = percent_encoding::utf8_percent_encode(&name, FRAGMENT);
    Object::default().with("$ref", format!("#/{section}/{name}"))
}

/// What a fragment cannot hold as it is (RFC 3986 section 3.5).
const FRAGMENT: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'%')
    .add(b'#')
    .add(b'{')
    .add(b'}');

fn response(description: &str) -> Object {
    Object::default().with("description", description)
}

fn introspection() -> Object {
    Object::default()
        .with("tags", ["Introspection"].into_iter().collect::<Node>())
        .with("summary", "OpenAPI description (this document)")
        .with("produces", ["application/openapi+json", "application/json"].into_iter().collect::<Node>())
        .with("responses", Object::default().with("200", response("OK")))
}

/// A comment's first line, and what follows it.
fn summary(comment: Option<&str>) -> (Option<&str>, Option<&str>) {
    let Some(comment) = comment else { return (None, None) };
    let (summary, rest) = comment.split_once('\n').unwrap_or((comment, ""));
    let rest = rest.trim_start_matches('\n');
    (Some(summary), (!rest.is_empty()).then_some(rest))
}

/// What all operations of a path begin with.
fn operation(tag: &str, comment: Option<&str>) -> Object {
    let (summary, description) = summary(comment);
    Object::default()
        .with("tags", [tag].into_iter().collect::<Node>())
        .maybe("summary", summary)
        .maybe("description", description)
}

fn relation(name: &str, seen: &Seen) -> Object {
    let operation = || operation(name, seen.relation.comment.as_deref());
    let filters: Vec<String> =
        seen.relation.columns.iter().map(|column| format!("rowFilter.{name}.{}", column.name)).collect();
    let body = format!("body.{name}");
    let parameters = |filtered: bool, others: &[&str]| -> Node {
        let filters = filters.iter().filter(|_| filtered).map(String::as_str);
        filters.chain(others.iter().copied()).map(|name| reference("parameters", name)).collect()
    };
    let done = |status: &'static str, text: &str| Object::default().with(status, response(text));
    let mut item = Object::default();
    if seen.read {
        let rows = Object::default().with("type", "array").with("items", reference("definitions", name));
        let responses =
            Object::default().with("200", response("OK").with("schema", rows)).with("206", response("Partial Content"));
        let shared = ["select", "order", "range", "rangeUnit", "offset", "limit", "preferCount"];
        item.add("get", operation().with("parameters", parameters(true, &shared)).with("responses", responses));
    }
    if seen.add {
        let parameters = parameters(false, &[&body, "select", "preferPost"]);
        item.add("post", operation().with("parameters", parameters).with("responses", done("201", "Created")));
    }
    if seen.change {
        let parameters = parameters(true, &[&body, "preferReturn"]);
        item.add("patch", operation().with("parameters", parameters).with("responses", done("204", "No Content")));
    }
    if seen.remove {
        let parameters = parameters(true, &["preferReturn"]);
        item.add("delete", operation().with("parameters", parameters).with("responses", done("204", "No Content")));
    }
    item
}

fn function(name: &str, overloads: &[Arc<Function>]) -> Object {
    let comment = overloads.iter().find_map(|function| function.comment.as_deref());
    let operation = || {
        operation(&format!("(rpc) {name}"), comment)
            .with("produces", JSON.into_iter().collect::<Node>())
            .with("responses", Object::default().with("200", response("OK")))
    };
    let lists = |readers: bool| -> Vec<&[Parameter]> {
        let wanted = overloads.iter().filter(|function| !readers || function.volatility != Volatility::Volatile);
        wanted.map(|function| function.parameters.as_slice()).collect()
    };
    let mut item = Object::default();
    let readers = lists(true);
    if !readers.is_empty() {
        let parameters: Node =
            merged(&readers).into_iter().map(|(parameter, required)| argument(parameter, required)).collect();
        item.add("get", operation().with("parameters", parameters));
    }
    let body = Object::default()
        .with("name", "args")
        .with("required", true)
        .with("in", "body")
        .with("schema", definitions::arguments(&lists(false), comment));
    let parameters: Node = [body, reference("parameters", "preferParams")].into_iter().collect();
    item.add("post", operation().with("parameters", parameters));
    item
}

/// An argument in a query: an array is written as one text, unless it takes all the values of its name.
fn argument(parameter: &Parameter, required: bool) -> Object {
    let type_name = &*parameter.type_name;
    let object = Object::default().with("name", &*parameter.name).with("required", required).with("in", "query");
    if parameter.variadic {
        let items = items(type_name).unwrap_or_default();
        let items = items.with("format", type_name.trim_end_matches("[]"));
        return object.with("type", "array").with("collectionFormat", "multi").with("items", items);
    }
    let json = json_type(type_name).filter(|json| *json != "array").unwrap_or("string");
    object.with("format", type_name).with("type", json)
}
