//! Requests as a reader would write them, in JavaScript with supabase-js and with curl.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::code::{self, encode, field, object, quoted, shell};
use crate::api::schema::{Column, Function, Relation, Volatility};

/// Where requests go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Scheme, host and port.
    pub(super) origin: &'a str,
    /// The schema that is asked for; none for the default one.
    pub(super) profile: Option<&'a str>,
}

impl Place<'_> {
    /// What a call begins with in JavaScript.
    fn client(&self) -> String {
        self.profile.map_or_else(|| "supabase".to_owned(), |schema| format!("supabase.schema({})", quoted(schema)))
    }

    /// A request with curl. Without a method it is a GET.
    fn curl(&self, method: &str, path: &str, prefer: &str, body: Option<&Value>) -> String {
        let mut out = String::from("curl ");
        if !method.is_empty() && (method != "POST" || body.is_none()) {
            let _ = write!(out, "-X {method} ");
        }
        let _ = write!(out, "{} \\\n  -H \"apikey: $KEY\"", shell(&format!("{}/rest/v1/{path}", self.origin)));
        if let Some(schema) = self.profile {
            let header = if method.is_empty() { "Accept-Profile" } else { "Content-Profile" };
            let _ = write!(out, " \\\n  -H {}", shell(&format!("{header}: {schema}")));
        }
        if !prefer.is_empty() {
            let _ = write!(out, " \\\n  -H 'Prefer: {prefer}'");
        }
        if let Some(body) = body {
            let _ = write!(out, " \\\n  -H 'Content-Type: application/json' \\\n  -d {}", shell(&body.to_string()));
        }
        out
    }

    /// Reading rows, with what is embedded.
    pub(super) fn read(&self, relation: &Relation, embed: Option<&str>) -> String {
        let mut columns: Vec<String> = relation.columns.iter().take(4).map(|column| field(&column.name)).collect();
        if relation.columns.len() > 4 && embed.is_none() {
            columns = vec!["*".to_owned()];
        }
        columns.extend(embed.map(|target| format!("{target}(*)")));
        let select = columns.join(",");
        let name = &*relation.name.name;
        let js = format!(
            "const {{ data, error }} = await {}\n  .from({})\n  .select({})\n  .limit(10)",
            self.client(),
            quoted(name),
            quoted(&select)
        );
        let path = format!("{}?select={}&limit=10", encode(name), encode(&select));
        both(&js, &self.curl("", &path, "", None))
    }

    /// Reading the rows that a filter lets through.
    pub(super) fn filter(&self, relation: &Relation) -> String {
        let (js, query) = filters(relation);
        let name = &*relation.name.name;
        let js =
            format!("const {{ data, error }} = await {}\n  .from({})\n  .select(){js}", self.client(), quoted(name));
        both(&js, &self.curl("", &format!("{}?{query}", encode(name)), "", None))
    }

    /// Adding a row.
    pub(super) fn insert(&self, relation: &Relation) -> String {
        let name = &*relation.name.name;
        let members = members(&to_insert(relation));
        let js = format!(
            "const {{ data, error }} = await {}\n  .from({})\n  .insert({})\n  .select()",
            self.client(),
            quoted(name),
            object(&members)
        );
        both(&js, &self.curl("POST", &encode(name), "return=representation", Some(&body(&members))))
    }

    /// Changing rows.
    pub(super) fn update(&self, relation: &Relation) -> String {
        let name = &*relation.name.name;
        let plain = |column: &&Column| !column.generated && !relation.primary_key.contains(&column.name);
        let changed: Vec<&Column> = relation
            .columns
            .iter()
            .find(plain)
            .or_else(|| relation.columns.iter().find(|column| !column.generated))
            .into_iter()
            .collect();
        let members = members(&changed);
        let (filter, query) = filters(relation);
        let js = format!(
            "const {{ error }} = await {}\n  .from({})\n  .update({}){filter}",
            self.client(),
            quoted(name),
            object(&members)
        );
        both(&js, &self.curl("PATCH", &format!("{}?{query}", encode(name)), "", Some(&body(&members))))
    }

    /// Removing rows.
    pub(super) fn delete(&self, relation: &Relation) -> String {
        let name = &*relation.name.name;
        let (filter, query) = filters(relation);
        let js = format!("const {{ error }} = await {}\n  .from({})\n  .delete(){filter}", self.client(), quoted(name));
        both(&js, &self.curl("DELETE", &format!("{}?{query}", encode(name)), "", None))
    }

    /// Calling a function.
    pub(super) fn call(&self, function: &Function) -> String {
        let name = &*function.name.name;
        let path = format!("rpc/{}", encode(name));
        let reads = function.volatility != Volatility::Volatile;
        let arguments: Vec<(&str, Value)> = function
            .parameters
            .iter()
            .filter(|parameter| parameter.required && !parameter.name.is_empty())
            .map(|parameter| (&*parameter.name, sample(&parameter.type_name)))
            .collect();
        let given = if function.parameters.iter().any(|parameter| parameter.name.is_empty()) {
            ", { any: \"body\" }".to_owned()
        } else if arguments.is_empty() {
            String::new()
        } else {
            format!(", {}", object(&arguments))
        };
        let js = format!("const {{ data, error }} = await {}\n  .rpc({}{given})", self.client(), quoted(name));
        let whole = function.parameters.iter().any(|parameter| parameter.name.is_empty());
        let curl = if whole {
            self.curl("POST", &path, "", Some(&json!({ "any": "body" })))
        } else if reads && arguments.iter().all(|(_, value)| !value.is_object() && !value.is_array()) {
            let query: Vec<String> =
                arguments.iter().map(|(name, value)| format!("{}={}", encode(name), encode(&plain(value)))).collect();
            let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
            self.curl("", &format!("{path}{query}"), "", None)
        } else {
            self.curl("POST", &path, "", Some(&body(&arguments)))
        };
        both(&js, &curl)
    }
}

fn both(js: &str, curl: &str) -> String {
    format!("<div class=\"both\">\n{}{}</div>\n", code::block("supabase-js", js), code::block("curl", curl))
}

/// The filter for one row where there is a key, in JavaScript and in a query.
fn filters(relation: &Relation) -> (String, String) {
    let keys: Vec<&Column> = relation.primary_key.iter().filter_map(|name| relation.column(name)).collect();
    let keys = if keys.is_empty() { relation.columns.iter().take(1).collect() } else { keys };
    let (mut js, mut query) = (String::new(), Vec::new());
    for column in keys {
        let value = sample_of(column);
        let _ = write!(js, "\n  .eq({}, {value})", quoted(&field(&column.name)));
        query.push(format!("{}=eq.{}", encode(&field(&column.name)), encode(&plain(&value))));
    }
    (js, query.join("&"))
}

/// What a new row is shown with: what must be given, or else what can be.
fn to_insert(relation: &Relation) -> Vec<&Column> {
    let given = || relation.columns.iter().filter(|column| !column.generated);
    let required: Vec<&Column> =
        given().filter(|column| !column.nullable && column.default.is_none()).take(5).collect();
    if !required.is_empty() {
        return required;
    }
    let free: Vec<&Column> = given().filter(|column| column.default.is_none()).take(3).collect();
    if free.is_empty() { given().take(2).collect() } else { free }
}

fn members<'a>(columns: &[&'a Column]) -> Vec<(&'a str, Value)> {
    columns.iter().map(|column| (&*column.name, sample_of(column))).collect()
}

fn body(members: &[(&str, Value)]) -> Value {
    members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

/// A value as a filter writes it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn sample_of(column: &Column) -> Value {
    column.values.first().map_or_else(|| sample(&column.base_type), |value| json!(value))
}

/// A value of a type, for examples.
fn sample(type_name: &str) -> Value {
    match type_name {
        "boolean" => json!(true),
        "smallint" | "integer" | "bigint" => json!(1),
        "numeric" | "real" | "double precision" => json!(1.5),
        "json" | "jsonb" => json!({}),
        "uuid" => json!("3f333df6-90a4-4fda-8dd3-9485d27cee36"),
        "date" => json!("2026-01-31"),
        "time without time zone" | "time with time zone" => json!("12:30:00"),
        "timestamp without time zone" => json!("2026-01-31T12:30:00"),
        "timestamp with time zone" => json!("2026-01-31T12:30:00Z"),
        "interval" => json!("1 day"),
        other if other.ends_with("[]") => json!([]),
        _ => json!("text"),
    }
}
