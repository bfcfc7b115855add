//! A function as a table: its arguments, and the alias of its rows.

use std::sync::Arc;

use bytes::Bytes;

use super::planner::Planner;
use super::sql::array;
use super::work::Arguments;
use crate::api::schema::{Function, Parameter, Returns};

/// The column of a function's value.
pub const SCALAR: &str = "pgrst_scalar";
/// The alias of JSON arguments.
const GIVEN: &str = "pgrst_args";

/// What a function's result looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Rows: of a relation too.
    Rows,
    /// One row.
    Row,
    /// Values.
    Values,
    /// One value.
    Value,
    /// Nothing.
    Nothing,
}

impl Shape {
    /// Of a function's result.
    pub fn of(function: &Function) -> Self {
        match (&function.returns, function.returns_set) {
            (Returns::Void, _) => Self::Nothing,
            (Returns::Scalar(_) | Returns::Record, false) => Self::Value,
            (Returns::Scalar(_) | Returns::Record, true) => Self::Values,
            (Returns::Composite(_) | Returns::Columns(_), false) => Self::Row,
            (Returns::Composite(_) | Returns::Columns(_), true) => Self::Rows,
        }
    }
}

impl Planner<'_> {
    /// The function's rows, to stand after FROM.
    pub fn call(&mut self, function: &Arc<Function>, arguments: &Arguments<'_>, alias: &str) {
        let json = match arguments {
            Arguments::Json(body, names) => {
                let given: Vec<&Parameter> = function
                    .parameters
                    .iter()
                    .filter(|parameter| names.iter().any(|n| **n == *parameter.name))
                    .collect();
                (!given.is_empty()).then_some((body, given))
            }
            _ => None,
        };
        if let Some((body, given)) = &json {
            self.json_arguments(body, given);
        }
        let lateral = if json.is_some() { "LATERAL " } else { "" };
        if matches!(function.returns, Returns::Record) {
            // In FROM, a record would need the list of its columns; as a value it brings them.
            self.sql.push(lateral).push("(SELECT ");
            self.invoke(function, arguments, json.as_ref().map(|(_, given)| given.as_slice()));
            self.sql.push(" AS ").ident(SCALAR).push(") AS ").ident(alias);
            return;
        }
        self.sql.push(lateral);
        self.invoke(function, arguments, json.as_ref().map(|(_, given)| given.as_slice()));
        self.sql.push(" AS ").ident(alias);
        if matches!(function.returns, Returns::Scalar(_) | Returns::Void) {
            self.sql.push("(").ident(SCALAR).push(")");
        }
    }

    fn json_arguments(&mut self, body: &Bytes, given: &[&Parameter]) {
        self.sql.push("json_to_record(").body(body.clone()).push("::json) AS ").ident(GIVEN).push("(");
        self.sql.list(", ", given, |sql, parameter| {
            sql.ident(&parameter.name).push(" ").push(&parameter.record_type);
        });
        self.sql.push("), ");
    }

    fn invoke(&mut self, function: &Function, arguments: &Arguments<'_>, given: Option<&[&Parameter]>) {
        self.sql.name(&function.name).push("(");
        match arguments {
            Arguments::Json(..) => {
                self.sql.list(", ", given.unwrap_or_default(), |sql, parameter| {
                    sql.push(if parameter.variadic { "VARIADIC " } else { "" });
                    sql.ident(&parameter.name).push(" := ").column(GIVEN, &parameter.name);
                });
            }
            Arguments::Text(given) => {
                let known = given.iter().filter_map(|(name, values)| {
                    function.parameters.iter().find(|parameter| *parameter.name == **name).map(|p| (p, values))
                });
                self.sql.list(", ", known, |sql, (parameter, values)| {
                    sql.push(if parameter.variadic { "VARIADIC " } else { "" });
                    sql.ident(&parameter.name).push(" := ");
                    match values.as_slice() {
                        [value] if !parameter.variadic => sql.value(value.as_str()),
                        values if parameter.variadic => sql.value(array(values)),
                        // The last one counts, as with a JSON object's keys.
                        values => sql.value(values.last().map(String::as_str).unwrap_or_default()),
                    };
                    sql.push("::").push(&parameter.record_type);
                });
            }
            Arguments::Body(body) => {
                let of = function.parameters.first().map_or("text", |parameter| &*parameter.type_name);
                if of == "bytea" {
                    self.sql.binary(body.clone());
                } else {
                    self.sql.body(body.clone());
                }
                self.sql.push("::").push(of);
            }
            Arguments::Empty => {}
        }
        self.sql.push(")");
    }
}
