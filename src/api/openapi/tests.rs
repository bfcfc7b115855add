//! Documents against the shape of the upstream API's own specification, from a real database.

use std::sync::Arc;

use include_dir::{Dir, include_dir};
use serde_json::{Value, json};

use super::*;
use crate::api::schema::tests::scratch;
use crate::api::schema::{Catalog, Scope, load};
use crate::api::{Config, OpenApiMode};
use crate::db::Database;
use crate::secret::Secret;

static MIGRATIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets/migrations");

/// A prepared database with the fixtures, and its catalogue.
pub(in crate::api) struct Described {
    pub(in crate::api) owner: tokio_postgres::Client,
    pub(in crate::api) database: Database,
    pub(in crate::api) catalog: Catalog,
}

pub(in crate::api) async fn described() -> Described {
    let (name, mut owner) = scratch::database("").await;
    let url = Secret::new(scratch::url(scratch::OWNER, &name));
    let database = Database::new(&crate::db::Config::default(), &url, &MIGRATIONS, Vec::new()).unwrap();
    database.prepare().await.unwrap_or_else(|error| panic!("{}", crate::error::chain(&error)));
    let fixtures = include_str!("fixtures.sql");
    owner.batch_execute(fixtures).await.unwrap_or_else(|error| panic!("{}", crate::error::chain(&error)));
    let scope = Scope { schemas: &["test".to_owned()], extra_search_path: &[], login: None };
    let catalog = load(&owner.transaction().await.unwrap(), &scope, None).await.unwrap();
    Described { owner, database, catalog }
}

impl Described {
    async fn sight(&self, role: &str) -> Sight {
        let settings = [("search_path", "test"), ("role", role)];
        let question = Question { settings: &settings, before: None, schemas: &["test".to_owned()] };
        Sight::ask(self.database.requests(), question).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    fn document(&self, sight: &Sight) -> Value {
        let address = Address { secure: true, host: "db.example.org:8443", path: "/rest/v1" };
        serde_json::from_str(&document(&self.catalog, sight, "test", address)).unwrap()
    }
}

#[tokio::test]
async fn the_document_has_the_shape_that_tools_know() {
    let described = described().await;
    let document = described.document(&described.sight("authenticated").await);
    assert_eq!(
        [&document["swagger"], &document["host"], &document["basePath"], &document["schemes"]],
        [&json!("2.0"), &json!("db.example.org:8443"), &json!("/rest/v1"), &json!(["https"])]
    );
    assert_eq!(document["info"]["title"], "Test title");
    assert_eq!(document["info"]["description"], "Test description\nof two lines");
    assert_eq!(
        document["definitions"]["child_entities"],
        json!({
            "type": "object",
            "description": "child_entities summary\n\nand more\nof it",
            "properties": {
                "id": {
                    "description": "child_entities id comment\n\nNote:\nThis is a Primary Key.<pk/>",
                    "format": "integer",
                    "type": "integer"
                },
                "name": { "description": "a name", "format": "text", "type": "string" },
                "parent_id": {
                    "description":
                        "Note:\nThis is a Foreign Key to `entities.id`.<fk table='entities' column='id'/>",
                    "format": "integer",
                    "type": "integer"
                }
            },
            "required": ["id"]
        })
    );
    let path = &document["paths"]["/child_entities"];
    assert_eq!(path["get"]["summary"], "child_entities summary");
    assert_eq!(path["get"]["description"], "and more\nof it");
    assert_eq!(path["get"]["tags"], json!(["child_entities"]));
    let parameters = |names: &[&str]| {
        let list: Vec<Value> = names.iter().map(|name| json!({ "$ref": format!("#/parameters/{name}") })).collect();
        Value::from(list)
    };
    let filters =
        ["rowFilter.child_entities.id", "rowFilter.child_entities.name", "rowFilter.child_entities.parent_id"];
    let with = |others: &[&'static str]| parameters(&[&filters, others].concat());
    assert_eq!(
        path["get"]["parameters"],
        with(&["select", "order", "range", "rangeUnit", "offset", "limit", "preferCount"])
    );
    assert_eq!(path["post"]["parameters"], parameters(&["body.child_entities", "select", "preferPost"]));
    assert_eq!(path["patch"]["parameters"], with(&["body.child_entities", "preferReturn"]));
    assert_eq!(path["delete"]["parameters"], with(&["preferReturn"]));
    assert_eq!(
        path["get"]["responses"],
        json!({
            "200": { "description": "OK", "schema": { "items": { "$ref": "#/definitions/child_entities" }, "type": "array" } },
            "206": { "description": "Partial Content" }
        })
    );
    assert_eq!(path["post"]["responses"], json!({ "201": { "description": "Created" } }));
    assert_eq!(
        document["parameters"]["rowFilter.child_entities.name"],
        json!({ "name": "name", "description": "a name", "required": false, "in": "query", "type": "string" })
    );
    assert_eq!(
        document["parameters"]["body.child_entities"],
        json!({
            "name": "child_entities", "description": "child_entities", "required": false, "in": "body",
            "schema": { "$ref": "#/definitions/child_entities" }
        })
    );
    assert!(document.get("security").is_none());
}

#[tokio::test]
async fn types_and_defaults_are_translated() {
    let described = described().await;
    let document = described.document(&described.sight("authenticated").await);
    let properties = &document["definitions"]["openapi_types"]["properties"];
    for (column, expected) in [
        ("a_varchar", json!({ "format": "character varying", "type": "string", "maxLength": 20 })),
        ("a_character", json!({ "format": "character", "type": "string", "maxLength": 1 })),
        ("a_boolean", json!({ "format": "boolean", "type": "boolean", "default": false })),
        ("a_bigint", json!({ "format": "bigint", "type": "integer", "default": 42 })),
        ("a_numeric", json!({ "format": "numeric", "type": "number" })),
        ("a_double", json!({ "format": "double precision", "type": "number" })),
        ("a_json", json!({ "format": "json" })),
        ("a_jsonb", json!({ "format": "jsonb" })),
        ("a_date", json!({ "format": "date", "type": "string", "default": "1900-01-01" })),
        ("a_text_arr", json!({ "format": "text[]", "type": "array", "items": { "type": "string" } })),
        ("a_json_arr", json!({ "format": "json[]", "type": "array", "items": {} })),
        ("an_enum", json!({ "format": "test.mood", "type": "string", "enum": ["sad", "happy"] })),
    ] {
        assert_eq!(properties[column], expected, "{column}");
    }
    // Columns come in the table's order, and nothing requires a list of nothing.
    let address = Address { secure: false, host: "h", path: "" };
    let text = super::document(&described.catalog, &described.sight("authenticated").await, "test", address);
    assert!(text.find("\"a_varchar\":{").unwrap() < text.find("\"a_character\":{").unwrap());
    assert!(text.contains("\"basePath\":\"/\"") && !text.contains("\"required\":[]"));
}

#[tokio::test]
async fn functions_are_listed_with_their_arguments() {
    let described = described().await;
    let document = described.document(&described.sight("authenticated").await);
    let varied = &document["paths"]["/rpc/varied"];
    assert_eq!(varied["post"]["summary"], "A function");
    assert_eq!(varied["post"]["tags"], json!(["(rpc) varied"]));
    assert_eq!(
        varied["post"]["parameters"],
        json!([
            {
                "name": "args", "required": true, "in": "body",
                "schema": {
                    "type": "object",
                    "description": "A function\n\nof many arguments",
                    "required": ["double", "ints"],
                    "properties": {
                        "double": { "format": "double precision", "type": "number" },
                        "ints": { "format": "integer[]", "type": "array", "items": { "type": "integer" } },
                        "data": { "format": "jsonb" }
                    }
                }
            },
            { "$ref": "#/parameters/preferParams" }
        ])
    );
    assert_eq!(
        varied["get"]["parameters"],
        json!([
            { "name": "double", "required": true, "in": "query", "format": "double precision", "type": "number" },
            { "name": "ints", "required": true, "in": "query", "format": "integer[]", "type": "string" },
            { "name": "data", "required": false, "in": "query", "format": "jsonb", "type": "string" }
        ])
    );
    // What may write is not read.
    assert!(document["paths"]["/rpc/writes"].get("get").is_none());
    assert!(document["paths"]["/rpc/writes"].get("post").is_some());
    let many = &document["paths"]["/rpc/many"]["get"]["parameters"][0];
    let items = json!({ "type": "string", "format": "text" });
    assert_eq!(
        *many,
        json!({ "name": "v", "required": true, "in": "query", "type": "array", "collectionFormat": "multi", "items": items })
    );
    // Overloads: every argument, and only what all of them require is required.
    let schema = &document["paths"]["/rpc/overloaded"]["post"]["parameters"][0]["schema"];
    assert_eq!(schema["required"], json!(["a"]));
    assert_eq!(schema["properties"].as_object().unwrap().keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(document["paths"]["/rpc/whole"]["post"]["parameters"][0]["schema"], json!({ "format": "jsonb" }));
}

#[tokio::test]
async fn a_role_sees_what_it_may_use() {
    let described = described().await;
    let paths = |document: &Value| -> Vec<String> { document["paths"].as_object().unwrap().keys().cloned().collect() };
    let anon = described.document(&described.sight("anon").await);
    assert_eq!(paths(&anon), ["/", "/entities", "/half", "/rpc/open", "/shown"]);
    // Of a table only the methods, of a table with grants on columns only those columns.
    assert_eq!(anon["paths"]["/entities"].as_object().unwrap().keys().collect::<Vec<_>>(), ["get"]);
    let half = &anon["definitions"]["half"];
    assert_eq!(half["properties"].as_object().unwrap().keys().collect::<Vec<_>>(), ["id", "seen"]);
    assert!(!anon.to_string().contains("secret"));
    assert_eq!(anon["paths"]["/half"].as_object().unwrap().keys().collect::<Vec<_>>(), ["get", "patch"]);
    // A view that cannot be written is only read, whatever is granted.
    assert_eq!(anon["paths"]["/shown"].as_object().unwrap().keys().collect::<Vec<_>>(), ["get"]);

    let protected = described.document(&described.sight("anon").await.under(&Config::default(), true).unwrap());
    assert_eq!(paths(&protected), ["/", "/entities", "/rpc/open"]);

    let exposing = Config { expose_unprotected: true, ..Config::default() };
    let exposed = described.document(&described.sight("anon").await.under(&exposing, true).unwrap());
    assert_eq!(exposed, anon);

    let disabled = Config { openapi_mode: OpenApiMode::Disabled, ..Config::default() };
    assert!(described.sight("anon").await.under(&disabled, true).is_none());
    let ignoring = Config { openapi_mode: OpenApiMode::IgnorePrivileges, ..Config::default() };
    let everything = described.document(&described.sight("anon").await.under(&ignoring, true).unwrap());
    assert!(
        paths(&everything).contains(&"/hidden".to_owned()) && paths(&everything).contains(&"/rpc/varied".to_owned())
    );
    assert!(everything["paths"]["/hidden"].get("delete").is_some());

    // A schema that the role may not enter has nothing.
    described.owner.batch_execute("revoke usage on schema test from anon").await.unwrap();
    assert_eq!(paths(&described.document(&described.sight("anon").await)), ["/"]);
}

#[tokio::test]
async fn what_runs_before_may_refuse_and_does_not_change_the_answer() {
    let described = described().await;
    let settings = [("search_path", "test"), ("role", "anon")];
    let ask = async |before| {
        let question = Question { settings: &settings, before: Some(before), schemas: &["test".to_owned()] };
        Sight::ask(described.database.requests(), question).await
    };
    let sight = ask("select test.open()").await.unwrap();
    let overloads = &described.catalog.functions[&name("open")];
    assert!(overloads.iter().any(|function| sight.calls(function)));
    let error = ask("select 1 / 0").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"));
}

fn name(name: &str) -> crate::api::schema::Name {
    crate::api::schema::Name { schema: "test".into(), name: Arc::from(name) }
}
