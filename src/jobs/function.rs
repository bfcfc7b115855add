//! Names of functions in the database, and the statement that calls one. Names become part of it, values never do.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::db::Parameter;

/// A function with its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    schema: String,
    function: String,
    search_path: String,
}

/// Functions that a task may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    schema: String,
    /// None is every one.
    function: Option<String>,
}

impl Name {
    /// Reads "schema.function".
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (schema, function) = text.split_once('.')?;
        (is_name(schema) && is_name(function)).then(|| Self {
            schema: schema.to_owned(),
            function: function.to_owned(),
            // As the API has it for functions.
            search_path: format!("\"{schema}\", public, extensions"),
        })
    }

    /// Where the function finds what it does not name by its schema.
    pub(super) fn search_path(&self) -> &str {
        &self.search_path
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.schema, self.function)
    }
}

impl Pattern {
    /// Reads "schema.function" or "schema.*".
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(schema) = text.strip_suffix(".*") {
            return is_name(schema).then(|| Self { schema: schema.to_owned(), function: None });
        }
        Name::parse(text).map(|name| Self { schema: name.schema, function: Some(name.function) })
    }

    /// Whether it allows the function.
    pub(super) fn allows(&self, name: &Name) -> bool {
        self.schema == name.schema && self.function.as_ref().is_none_or(|function| *function == name.function)
    }
}

/// A plain identifier, as long as PostgreSQL lets it be. Case counts.
fn is_name(text: &str) -> bool {
    (1..64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|ch: char| ch.is_ascii_digit())
}

/// The statement that calls the function with these arguments, and its parameters. The first two are the function's
/// schema and name. Its row is: the result as JSON, whether it is void.
pub(super) fn call(name: &Name, args: &[Value], kwargs: &Map<String, Value>) -> (String, Vec<Parameter>) {
    let mut parameters = vec![parameter(&name.schema.clone().into()), parameter(&name.function.clone().into())];
    let mut list = String::new();
    let mut add = |named: Option<&str>, value: &Value| {
        parameters.push(parameter(value));
        let separator = if list.is_empty() { "" } else { ", " };
        let name = named.map(|name| format!("\"{}\" => ", name.replace('"', "\"\""))).unwrap_or_default();
        let _ = write!(list, "{separator}{name}${}", parameters.len());
    };
    for value in args {
        add(None, value);
    }
    for (name, value) in kwargs {
        add(Some(name), value);
    }
    (statement(name, &list), parameters)
}

/// The same with one argument of type jsonb.
pub(super) fn call_with_json(name: &Name, whole: &Value) -> (String, Vec<Parameter>) {
    let text = Parameter::Text(Some(whole.to_string()));
    let parameters = vec![parameter(&name.schema.clone().into()), parameter(&name.function.clone().into()), text];
    (statement(name, "$3::jsonb"), parameters)
}

/// A set becomes a list, even one of one row; a single value or row stays itself.
fn statement(name: &Name, list: &str) -> String {
    let Name { schema, function, .. } = name;
    format!(
        "with kind as (select bool_or(p.proretset) as many, bool_and(p.prorettype = 'void'::regtype) as void \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = $1 and p.proname = $2), \
         called as materialized (select \"{function}\" as value from \"{schema}\".\"{function}\"({list}) as \"{function}\") \
         select case when (select void from kind) then null \
         when (select many from kind) then coalesce((select json_agg(value) from called), '[]') \
         else (select to_json(value) from called limit 1) end::text, (select count(*) from called)"
    )
}

fn parameter(value: &Value) -> Parameter {
    Parameter::Text(match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_plain_names_are_functions() {
        assert_eq!(Name::parse("public.close_month").unwrap().to_string(), "public.close_month");
        for bad in ["close_month", "a.b.c", "public.x\"; drop table t;--", "1a.b", "a.", ".b", "a.b c", "ä.b"] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
        let allows = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().allows(&Name::parse(name).unwrap());
        assert!(allows("reports.*", "reports.x") && !allows("reports.*", "report.x") && !allows("a.b", "a.c"));
        assert!(Pattern::parse("*").is_none() && Pattern::parse("*.*").is_none());
    }

    #[test]
    fn values_are_parameters_and_names_are_quoted() {
        let kwargs = json!({"a\"b": {"x": 1}, "n": null}).as_object().cloned().unwrap();
        let (sql, parameters) = call(&Name::parse("s.f").unwrap(), &[json!("'; drop")], &kwargs);
        assert!(sql.contains(r#""s"."f"($3, "a""b" => $4, "n" => $5)"#), "{sql}");
        assert!(!sql.contains("drop"));
        let text = |text: &str| Parameter::Text(Some(text.into()));
        assert_eq!(parameters[2..], [text("'; drop"), text(r#"{"x":1}"#), Parameter::Text(None)]);
    }
}
