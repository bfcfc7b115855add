//! The whole statement: body, counts and settings in one row.
//!
//! The outer SELECT aggregates, so that everything in it is computed when all rows have been made: the settings that
//! functions and triggers leave are read after them.

use std::sync::Arc;

use super::call::{SCALAR, Shape};
use super::planner::Planner;
use super::select::Page;
use super::tree::Node;
use super::work::{Count, Output, Statement, Target, Work};
use super::write::Needs;
use super::{Error, SOURCE};
use crate::api::schema::{Catalog, Returns};
use crate::db::Parameter;

/// `response.headers` and `response.status`; an empty setting is one that was reset.
const SETTINGS: &str = ", nullif(current_setting('response.headers', true), ''), \
                        nullif(current_setting('response.status', true), '')";

/// One statement for a request.
///
/// # Errors
///
/// When the query asks for what the catalogue has not, or for what has no meaning. Columns are not checked, except those
/// to be written: PostgreSQL knows them better.
pub fn plan(catalog: &Catalog, work: &Work<'_>) -> Result<Statement, Error> {
    if let Target::Read(name) = &work.target
        && !catalog.relations.contains_key(name)
    {
        return Err(Error::RelationNotFound(name.name.to_string()));
    }
    // A function whose rows are counted beyond the page is called once and its rows are read twice.
    let capped = work.level.limit.or(work.max_rows).is_some() || work.level.offset.is_some();
    let kept = matches!(work.target, Target::Call(..)) && capped && !matches!(work.count, None | Some(Count::Planned));
    let mut node = Node::root(catalog, work, kept)?;
    node.expand = Needs::of(&node).computed(catalog, &node.scope);
    let mut planner = Planner::new(catalog);
    planner.source(work, &node, kept)?;
    let shown = !matches!(work.output, Output::Nothing | Output::Location);
    if shown || matches!(work.target, Target::Read(_) | Target::Call(..)) {
        planner.response(work, &node)?;
    } else {
        planner.outcome(work, &node);
    }
    let estimate = estimate(catalog, work)?;
    let (sql, parameters) = planner.sql.finish();
    Ok(Statement { sql, parameters, estimate })
}

fn estimate(catalog: &Catalog, work: &Work<'_>) -> Result<Option<(String, Vec<Parameter>)>, Error> {
    let estimated = match work.count {
        Some(Count::Planned) => true,
        // Without a maximum, everything is counted.
        Some(Count::Estimated) => work.max_rows.is_some(),
        Some(Count::Exact) | None => false,
    };
    if !estimated || !matches!(work.target, Target::Read(_) | Target::Call(..)) {
        return Ok(None);
    }
    let mut planner = Planner::new(catalog);
    planner.matches(&Node::root(catalog, work, false)?)?;
    Ok(Some(planner.sql.finish()))
}

impl Planner<'_> {
    /// The CTE that the rest reads from: a write, or a function's rows that are kept.
    fn source(&mut self, work: &Work<'_>, node: &Node<'_>, kept: bool) -> Result<(), Error> {
        if matches!(work.target, Target::Read(_)) || (matches!(work.target, Target::Call(..)) && !kept) {
            return Ok(());
        }
        self.sql.push("WITH ").ident(SOURCE).push(" AS ");
        match &work.target {
            Target::Read(_) => {}
            Target::Insert(name, insert) => {
                self.sql.push("(");
                self.insert(name, insert, work, node)?;
            }
            Target::Update(name, rows) => {
                self.sql.push("(");
                self.update(name, rows, work, node)?;
            }
            Target::Delete(name) => {
                self.sql.push("(");
                self.delete(name, work, node)?;
            }
            Target::Call(function, arguments) => {
                self.sql.push("MATERIALIZED (SELECT ").ident(&node.scope.alias).push(".* FROM ");
                self.call(function, arguments, &node.scope.alias);
            }
        }
        self.sql.push(") ");
        Ok(())
    }

    fn response(&mut self, work: &Work<'_>, node: &Node<'_>) -> Result<(), Error> {
        self.sql.push("SELECT ");
        self.body(work, node)?;
        self.sql.push(", count(*), ");
        let page = self.page(node);
        self.total(work, node, page)?;
        self.trailer(work, node);
        self.sql.push(" FROM (");
        self.outermost(node, page)?;
        self.sql.push(") AS r");
        Ok(())
    }

    /// The response of a write that shows no rows.
    fn outcome(&mut self, work: &Work<'_>, node: &Node<'_>) {
        self.sql.push("SELECT NULL::text, count(*), ");
        self.sql.push(if work.count.is_some() { "count(*)" } else { "NULL::int8" });
        self.trailer(work, node);
        self.sql.push(" FROM ").ident(SOURCE).push(" AS r");
    }

    /// Inserted, location and settings.
    fn trailer(&mut self, work: &Work<'_>, node: &Node<'_>) {
        self.sql.push(", ");
        match &work.target {
            Target::Insert(_, insert) => self.inserted(insert),
            _ => {
                self.sql.push("NULL::int8");
            }
        }
        let key = node.scope.relation.as_ref().map_or(&[][..], |relation| &relation.primary_key);
        if work.output == Output::Location && !key.is_empty() {
            self.sql.push(", (json_agg(r.*)->0)::text");
        } else {
            self.sql.push(", NULL::text");
        }
        self.sql.push(SETTINGS);
    }

    /// How many rows there are without limit and offset.
    fn total(&mut self, work: &Work<'_>, node: &Node<'_>, page: Page) -> Result<(), Error> {
        let Some(count) = work.count else {
            self.sql.push("NULL::int8");
            return Ok(());
        };
        if !matches!(work.target, Target::Read(_) | Target::Call(..)) {
            self.sql.push("(SELECT count(*) FROM ").ident(SOURCE).push(")");
            return Ok(());
        }
        if count == Count::Planned {
            self.sql.push("NULL::int8");
            return Ok(());
        }
        // A page that is not full is the last one, and tells the total.
        match page {
            Page { limit: None, offset: None } => {
                self.sql.push("count(*)");
                return Ok(());
            }
            Page { limit: Some(limit), offset: None } => {
                self.sql.push("CASE WHEN count(*) < ").parameter(limit).push("::int8 THEN count(*) ELSE ");
            }
            Page { limit: Some(limit), offset: Some(offset) } => {
                self.sql.push("CASE WHEN count(*) > 0 AND count(*) < ").parameter(limit);
                self.sql.push("::int8 THEN count(*) + ").parameter(offset).push("::int8 ELSE ");
            }
            Page { limit: None, offset: Some(offset) } => {
                self.sql.push("CASE WHEN count(*) > 0 THEN count(*) + ").parameter(offset).push("::int8 ELSE ");
            }
        }
        self.sql.push("(SELECT count(*) FROM (");
        self.matches(node)?;
        if let (Count::Estimated, Some(most)) = (count, work.max_rows) {
            self.sql.push(" LIMIT ").value((most.saturating_add(1)).to_string());
        }
        self.sql.push(") AS c) END");
        Ok(())
    }

    fn body(&mut self, work: &Work<'_>, node: &Node<'_>) -> Result<(), Error> {
        let shape = match &work.target {
            Target::Call(function, _) => Shape::of(function),
            _ => Shape::Rows,
        };
        let strip = |yes: bool| if yes { ("json_strip_nulls(", ")") } else { ("", "") };
        match (work.output, shape) {
            (Output::Nothing | Output::Location, _) | (_, Shape::Nothing) => {
                self.sql.push("NULL::text");
            }
            (Output::Json { strip_nulls }, Shape::Rows) => {
                let (open, close) = strip(strip_nulls);
                self.sql.push(open).push("coalesce(json_agg(r.*), '[]')").push(close).push("::text");
            }
            (Output::Json { strip_nulls }, Shape::Values) => {
                let (open, close) = strip(strip_nulls);
                self.sql.push(open).push("coalesce(json_agg(").column("r", SCALAR).push("), '[]')").push(close);
                self.sql.push("::text");
            }
            // One row or value: its JSON, joined with nothing.
            (Output::Json { strip_nulls } | Output::Object { strip_nulls }, Shape::Row | Shape::Rows) => {
                let (open, close) = strip(strip_nulls);
                self.sql.push("coalesce(string_agg(").push(open).push("row_to_json(r.*)").push(close);
                self.sql.push("::text, ','), 'null')");
            }
            (Output::Json { strip_nulls } | Output::Object { strip_nulls }, Shape::Value | Shape::Values) => {
                let (open, close) = strip(strip_nulls);
                self.sql.push("coalesce(string_agg(").push(open).push("to_json(").column("r", SCALAR).push(")");
                self.sql.push(close).push("::text, ','), 'null')");
            }
            (Output::Csv, _) => self.csv(node),
            (Output::Plain, _) => match &work.target {
                Target::Call(function, _) if shape == Shape::Value || shape == Shape::Values => {
                    let bytes = matches!(&function.returns, Returns::Scalar(of) if &**of == "bytea");
                    self.sql.push("string_agg(").column("r", SCALAR);
                    self.sql.push(if bytes { ", ''::bytea)" } else { "::text, '')" });
                }
                _ => return Err(Error::Unsupported("Only a function that returns a value can be shown as it is.")),
            },
        }
        Ok(())
    }

    fn csv(&mut self, node: &Node<'_>) {
        match node.outputs() {
            Ok(outputs) => {
                let names: Vec<String> = outputs.iter().map(|output| csv_word(&output.name)).collect();
                self.sql.value(names.join(",")).push("::text");
            }
            // The columns of a record show in its rows only.
            Err(_) => {
                self.sql.push("coalesce((SELECT string_agg(k, ',') FROM json_object_keys(json_agg(r.*)->0) AS k), '')");
            }
        }
        // A row's text is CSV but for its parentheses and for backslashes, which it doubles.
        self.sql.push(" || E'\\n' || coalesce(string_agg(replace(substring((r.*)::text, 2, length((r.*)::text) - 2), ");
        self.sql.push("E'\\\\\\\\', E'\\\\'), E'\\n'), '')");
    }
}

/// A name for the header line.
fn csv_word(name: &Arc<str>) -> String {
    if name.contains([',', '"', '\n', '\r']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_string() }
}
