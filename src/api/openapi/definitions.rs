//! Relations and arguments as JSON schemas: the `definitions` of the document, and what a call's body holds.

use serde_json::Value;

use super::node::{Node, Object};
use super::sight::{Seen, Sight};
use crate::api::schema::{Catalog, Column, Join, Parameter, Relation, RelationKind};

/// The JSON type of a PostgreSQL type; none where any JSON can stand.
pub(super) fn json_type(type_name: &str) -> Option<&'static str> {
    match type_name {
        "boolean" => Some("boolean"),
        "smallint" | "integer" | "bigint" => Some("integer"),
        "numeric" | "real" | "double precision" => Some("number"),
        "json" | "jsonb" => None,
        other if other.ends_with("[]") => Some("array"),
        _ => Some("string"),
    }
}

/// What the items of an array are.
pub(super) fn items(type_name: &str) -> Option<Object> {
    let item = type_name.strip_suffix("[]")?;
    Some(Object::default().maybe("type", json_type(item)))
}

/// A relation's definition.
pub(super) fn relation(seen: &Seen, catalog: &Catalog, sight: &Sight) -> Object {
    let relation = &*seen.relation;
    let mut properties = Object::default();
    for column in &relation.columns {
        properties.add(column.name.to_string(), property(column, relation, catalog, sight));
    }
    let required = names(relation.columns.iter().filter(|column| !column.nullable).map(|column| &*column.name));
    Object::default()
        .maybe("description", relation.comment.as_deref())
        .maybe("required", required)
        .with("properties", properties)
        .with("type", "object")
}

/// A list of names; none for no names, since an empty `required` is not valid.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> Option<Node> {
    let mut names = names.peekable();
    names.peek().is_some().then(|| names.collect())
}

fn property(column: &Column, relation: &Relation, catalog: &Catalog, sight: &Sight) -> Object {
    let type_name = &*column.base_type;
    Object::default()
        .maybe("default", column.default.as_deref().and_then(|default| value_of(default, type_name)))
        .maybe("description", description(column, relation, catalog, sight))
        .maybe(
            "enum",
            (!column.values.is_empty()).then(|| column.values.iter().map(|value| &**value).collect::<Node>()),
        )
        .with("format", type_name)
        .maybe("maxLength", column.max_length)
        .maybe("type", json_type(type_name))
        .maybe("items", items(type_name))
}

/// The column's comment, and which keys it belongs to in a form that programs read.
fn description(column: &Column, relation: &Relation, catalog: &Catalog, sight: &Sight) -> Option<String> {
    let mut notes = Vec::new();
    if relation.primary_key.contains(&column.name) {
        notes.push("This is a Primary Key.<pk/>".to_owned());
    }
    if let Some((table, to)) = referenced(column, relation, catalog, sight) {
        notes.push(format!("This is a Foreign Key to `{table}.{to}`.<fk table='{table}' column='{to}'/>"));
    }
    if notes.is_empty() {
        return column.comment.as_deref().map(str::to_owned);
    }
    let comment = column.comment.as_deref().map(|comment| format!("{comment}\n\n")).unwrap_or_default();
    Some(format!("{comment}Note:\n{}", notes.join("\n")))
}

/// What a column by itself refers to: a table rather than a view of it.
#[must_use]
pub fn referenced<'a>(
    column: &Column,
    relation: &Relation,
    catalog: &'a Catalog,
    sight: &Sight,
) -> Option<(&'a str, &'a str)> {
    let all = catalog.relationships.get(&relation.name)?;
    let found = all.iter().filter_map(|relationship| {
        let (Join::ManyToOne(key) | Join::OneToOne(key, false)) = &relationship.join else { return None };
        let [(from, to)] = key.columns.as_slice() else { return None };
        if *from != column.name {
            return None;
        }
        let target = catalog.relations.get(&relationship.to)?;
        sight.relation(target)?;
        Some((target.kind != RelationKind::Table, &*relationship.to.name, &**to))
    });
    found.min().map(|(_, table, to)| (table, to))
}

/// The JSON value of a default. An expression that is no literal is a text where the column is one, and else left out.
fn value_of(default: &str, type_name: &str) -> Option<Value> {
    match json_type(type_name) {
        Some("string") => {
            let text = default.strip_suffix(type_name).and_then(|rest| rest.strip_suffix("::")).unwrap_or(default);
            let literal = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
            Some(Value::from(literal.map_or_else(|| text.to_owned(), |literal| literal.replace("''", "'"))))
        }
        Some("boolean" | "integer" | "number") => serde_json::from_str(default).ok(),
        _ => None,
    }
}

/// The body of a call: an object of the arguments. Of overloads it has all arguments, and requires what all require.
pub(super) fn arguments(overloads: &[&[Parameter]], comment: Option<&str>) -> Object {
    if let [[only]] = overloads
        && only.name.is_empty()
    {
        // The body is the argument.
        return Object::default()
            .maybe("description", comment)
            .with("format", &*only.type_name)
            .maybe("type", json_type(&only.type_name));
    }
    let merged = merged(overloads);
    let required = names(merged.iter().filter(|(_, required)| *required).map(|(parameter, _)| &*parameter.name));
    let mut properties = Object::default();
    for (parameter, _) in &merged {
        let type_name = &*parameter.type_name;
        let property = Object::default()
            .with("format", type_name)
            .maybe("type", json_type(type_name))
            .maybe("items", items(type_name));
        properties.add(parameter.name.to_string(), property);
    }
    Object::default()
        .maybe("description", comment)
        .maybe("required", required)
        .with("properties", properties)
        .with("type", "object")
}

/// The named arguments of overloads, each once, with whether every overload requires it.
pub(super) fn merged<'a>(overloads: &[&'a [Parameter]]) -> Vec<(&'a Parameter, bool)> {
    let mut merged: Vec<(&Parameter, bool)> = Vec::new();
    for parameter in overloads.iter().copied().flatten().filter(|parameter| !parameter.name.is_empty()) {
        if merged.iter().all(|(known, _)| known.name != parameter.name) {
            let requires =
                |overload: &&[Parameter]| overload.iter().any(|other| other.name == parameter.name && other.required);
            merged.push((parameter, overloads.iter().all(requires)));
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn literals_become_json() {
        for (default, type_name, expected) in [
            ("'default'::text", "text", Some(json!("default"))),
            ("'it''s'::character varying", "character varying", Some(json!("it's"))),
            ("'1900-01-01'::date", "date", Some(json!("1900-01-01"))),
            ("'13:00:00'::time without time zone", "time without time zone", Some(json!("13:00:00"))),
            ("now()", "timestamp with time zone", Some(json!("now()"))),
            ("false", "boolean", Some(json!(false))),
            ("42", "integer", Some(json!(42))),
            ("42.2", "numeric", Some(json!(42.2))),
            ("nextval('test.s'::regclass)", "integer", None),
            ("'{}'::jsonb", "jsonb", None),
            ("'{}'::text[]", "text[]", None),
        ] {
            assert_eq!(value_of(default, type_name), expected, "{default}");
        }
    }
}
