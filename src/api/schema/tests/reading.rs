//! Relations, columns, keys, functions and roles as they are read.

use super::super::{BodyKind, CallError, Catalog, Column, Function, Missing, RelationKind, Returns, Scope, Volatility};
use super::{FIXTURES, fixtures, name, read, scratch};

fn column<'a>(catalog: &'a Catalog, relation: &str, column: &str) -> &'a Column {
    catalog.relations[&name(relation)].column(column).unwrap()
}

fn key(catalog: &Catalog, relation: &str) -> Vec<String> {
    catalog.relations[&name(relation)].primary_key.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn columns_are_described() {
    let catalog = fixtures().await;
    let of = |name| column(&catalog, "kinds", name);
    let types = |name| (&*of(name).type_name, &*of(name).base_type);
    assert_eq!(types("id"), ("bigint", "bigint"));
    assert_eq!(types("a name"), ("character varying(20)", "character varying"));
    assert_eq!(types("flag"), ("character(3)", "character"));
    assert_eq!(types("digit"), ("test.one_nine", "integer"));
    assert_eq!(types("word"), ("test.shorter", "character varying"));
    assert_eq!(types("feeling"), ("test.mood", "test.mood"));
    assert_eq!(types("feelings"), ("test.mood[]", "test.mood[]"));
    assert_eq!(types("hidden"), ("test.moods", "test.mood"));
    assert_eq!(types("tags"), ("text[]", "text[]"));
    assert_eq!(types("amount"), ("numeric(8,2)", "numeric"));

    let default = |name| of(name).default.as_deref();
    assert_eq!(default("id"), Some("nextval('test.kinds_id_seq')"));
    assert_eq!(default("fixed"), None);
    assert_eq!(default("twice"), None);
    assert_eq!(default("a name"), Some("'it''s'::character varying"));
    assert_eq!(default("digit"), Some("5"));
    assert_eq!(default("made"), Some("now()"));

    let generated: Vec<&str> =
        catalog.relations[&name("kinds")].columns.iter().filter(|c| c.generated).map(|c| &*c.name).collect();
    assert_eq!(generated, ["fixed", "twice"]);
    let lengths = ["a name", "flag", "bits", "word", "amount", "digit"].map(|name| of(name).max_length);
    assert_eq!(lengths, [Some(20), Some(3), Some(4), Some(7), None, None]);
    assert!(!of("a name").nullable && of("feeling").nullable);
    let stepped = ["feelings", "place", "tags", "feeling", "word"].map(|name| of(name).steps_by_json);
    assert_eq!(stepped, [true, true, true, false, false]);
    let values = |name| of(name).values.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(values("feeling"), ["sad", "ok", "very happy"]);
    assert_eq!(values("hidden"), ["sad", "ok", "very happy"]);
    assert!(values("feelings").is_empty());
    assert_eq!(of("flag").comment.as_deref(), Some("Three letters"));
    assert_eq!(catalog.relations[&name("kinds")].comment.as_deref(), Some("Kinds\n\nAll of them"));
    assert!(catalog.relations[&name("weird \"name")].column("col.umn, {}").is_some());
}

#[tokio::test]
async fn relations_have_kinds_keys_and_verbs() {
    let catalog = fixtures().await;
    let of = |relation| &catalog.relations[&name(relation)];
    assert_eq!(of("car_models").kind, RelationKind::Table);
    assert_eq!(of("projects_view").kind, RelationKind::View);
    assert_eq!(of("materialized_projects").kind, RelationKind::Materialized);
    assert!(!catalog.relations.contains_key(&name("car_models_2021")), "a partition is no relation of its own");
    let verbs = |relation| (of(relation).insertable, of(relation).updatable, of(relation).deletable);
    assert_eq!(verbs("projects"), (true, true, true));
    assert_eq!(verbs("projects_view"), (true, true, true));
    assert_eq!(verbs("with_rule"), (true, true, true));
    assert_eq!(verbs("distinct_names"), (false, false, false));
    assert_eq!(verbs("materialized_projects"), (false, false, false));

    assert_eq!(key(&catalog, "users_tasks"), ["task_id", "user_id"]);
    assert_eq!(key(&catalog, "compound_pk"), ["k2", "k1"]);
    assert_eq!(key(&catalog, "compound_pk_view"), ["k2", "K one"]);
    assert_eq!(key(&catalog, "half_key"), [""; 0]);
    assert_eq!(key(&catalog, "with_multiple_pks"), ["pk1", "pk2"]);
    assert_eq!(key(&catalog, "books_above"), ["id"]);
    assert_eq!(key(&catalog, "odd_books"), ["id"]);
    assert_eq!(key(&catalog, "joined_books"), ["id"]);
    assert_eq!(key(&catalog, "distinct_names"), [""; 0]);
    assert_eq!(key(&catalog, "weird view"), ["()"]);
    assert_eq!(key(&catalog, "orders"), [""; 0], "a unique constraint is no primary key");

    let missing = |schema, name| {
        let error = catalog.relation(schema, name).unwrap_err();
        (Missing::CODE, error.to_string(), error.hint.map(String::from))
    };
    assert_eq!(
        missing("test", "project"),
        (
            "PGRST205",
            "Could not find the table 'test.project' in the schema cache".into(),
            Some("Perhaps you meant the table 'test.projects'".into())
        )
    );
    assert_eq!(missing("test", "noclosealternative").2, None);
    assert_eq!(missing("private", "actor").2, None);
    assert!(catalog.relation("test", "projects").is_ok());
}

#[tokio::test]
async fn protection_is_known() {
    let catalog = fixtures().await;
    let protected = |relation| catalog.relations[&name(relation)].protected;
    assert!(protected("protected") && protected("protected_parts") && protected("protected_by_caller"));
    assert!(!protected("protected_by_owner"), "a view that its table's owner owns is not bound");
    assert!(!protected("half_protected") && !protected("clients") && !protected("projects_view"));
    assert!(!protected("materialized_projects"));
}

#[tokio::test]
async fn computed_fields_are_found_where_a_request_may_find_them() {
    let catalog = fixtures().await;
    let fields = &catalog.computed[&name("items")];
    let found: Vec<(&str, &str)> = fields.iter().map(|(name, function)| (&**name, &*function.schema)).collect();
    assert_eq!(found, [("always_true", "test"), ("anti_id", "test"), ("from_afar", "extensions")]);
    assert!(catalog.computed[&name("videogames")].contains_key("computed_designers_noset"));
    assert!(!catalog.computed[&name("videogames")].contains_key("computed_designers"));
}

fn overloads<'a>(catalog: &'a Catalog, function: &str) -> Vec<&'a Function> {
    catalog.functions[&name(function)].iter().map(|function| &**function).collect()
}

#[tokio::test]
async fn functions_have_arguments_and_results() {
    let catalog = fixtures().await;
    let one = |function| {
        let found = overloads(&catalog, function);
        assert_eq!(found.len(), 1, "{function}");
        found[0]
    };
    let arguments = |function: &Function| {
        let show = |p: &super::super::Parameter| {
            format!(
                "{}{} {}{}",
                if p.variadic { "..." } else { "" },
                p.name,
                p.type_name,
                if p.required { "" } else { "?" }
            )
        };
        function.parameters.iter().map(show).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(arguments(one("three_defaults")), "a integer?, b integer?, c integer?");
    assert_eq!(arguments(one("variadic_param")), "name text, ...v text[]?");
    assert_eq!(arguments(one("many_out")), "first integer, num integer");
    assert_eq!(arguments(one("out_before_in")), "amount numeric");
    assert_eq!(arguments(one("ret_mood")), "val text?");
    assert_eq!(arguments(one("unnamed_text")), " text");
    assert_eq!(one("cut").parameters[0].record_type.as_ref(), "character varying");
    assert_eq!(one("cut").parameters[1].record_type.as_ref(), "bit varying[]");
    let shown = |function| match &one(function).returns {
        Returns::Void => "void".to_owned(),
        Returns::Record => "record".to_owned(),
        Returns::Scalar(name) => format!("scalar {name}"),
        Returns::Composite(name) => format!("composite {}.{}", name.schema, name.name),
        Returns::Columns(columns) => {
            columns.iter().map(|(name, type_name)| format!("{name} {type_name}")).collect::<Vec<_>>().join(", ")
        }
    };
    assert_eq!(shown("many_out"), "my_json json, num integer, str text");
    assert_eq!(shown("out_before_in"), "result text");
    assert_eq!(shown("ret_void"), "void");
    assert_eq!(shown("ret_record"), "record");
    assert_eq!(shown("ret_point"), "composite test.point_2d");
    assert_eq!(shown("ret_mood"), "scalar test.mood");
    assert_eq!(shown("ret_below"), "composite private.films");
    assert_eq!(shown("no_parameters"), "scalar text");
    assert_eq!(shown("cut"), "scalar character");
    assert!(catalog.relations.keys().any(|name| &*name.schema == "private" && &*name.name == "films"));
    assert!(one("ret_below").returns_set && !one("ret_point").returns_set);
    assert_eq!(one("no_parameters").volatility, Volatility::Immutable);
    assert_eq!(one("ret_void").volatility, Volatility::Volatile);
    assert_eq!(one("no_parameters").comment.as_deref(), Some("Takes nothing"));
    let settings: Vec<(&str, &str)> = one("slow").settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(settings, [("statement_timeout", "4s"), ("default_transaction_isolation", "serializable")]);
    for absent in ["unnamed_integer", "unnamed_two", "on_change", "unsupported", "sum_of"] {
        assert!(!catalog.functions.contains_key(&name(absent)), "{absent}");
    }
    assert_eq!(overloads(&catalog, "overloaded").iter().map(|f| f.parameters.len()).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn calls_are_resolved_by_the_names_of_arguments() {
    use BodyKind::{Bytes, Form, Json, None as Get, Text, Xml};
    let catalog = fixtures().await;
    let call = |function: &str, given: &[&str], body| match catalog.function(&name(function), given, body) {
        Ok(function) => {
            function.parameters.iter().map(|p| format!("{} {}", p.name, p.type_name)).collect::<Vec<_>>().join(", ")
        }
        Err(CallError::None { .. }) => "none".into(),
        Err(CallError::Ambiguous(found)) => format!("{} candidates", found.len()),
    };
    let cases: [(&str, &[&str], BodyKind, &str); 25] = [
        ("no_parameters", &[], Get, ""),
        ("no_parameters", &[], Json, ""),
        ("no_parameters", &["x"], Get, "none"),
        ("no_parameters", &[], Text, "none"),
        ("three_defaults", &["b"], Get, "a integer, b integer, c integer"),
        ("three_defaults", &["d"], Get, "none"),
        ("overloaded", &[], Get, ""),
        ("overloaded", &["a", "b"], Json, "a integer, b integer"),
        ("overloaded", &["c", "a", "b"], Json, "a text, b text, c text"),
        ("overloaded", &["x", "y"], Json, " json"),
        ("overloaded", &["x", "y"], Form, "none"),
        ("overloaded", &["x", "y"], Get, "none"),
        ("overloaded_default", &["opt_param"], Json, "opt_param text"),
        ("overloaded_default", &["must_param"], Json, "must_param integer"),
        ("overloaded_default", &["a"], Json, "a integer, opt_param text"),
        ("overloaded_default", &["a", "must_param"], Json, "a integer, must_param integer"),
        ("overloaded_same_args", &["arg"], Get, "3 candidates"),
        ("overloaded_same_args", &["arg", "num"], Get, "arg text, num integer"),
        ("unnamed_text", &[], Text, " text"),
        ("unnamed_text", &[], Json, "none"),
        ("unnamed_bytea", &[], Bytes, " bytea"),
        ("unnamed_xml", &[], Xml, " xml"),
        ("unnamed_json_jsonb", &["x"], Json, "2 candidates"),
        ("variadic_param", &["name", "v", "v"], Get, "name text, v text[]"),
        ("nothing_like_it", &[], Get, "none"),
    ];
    for (function, given, body, expected) in cases {
        assert_eq!(call(function, given, body), expected, "{function} {given:?} {body:?}");
    }
}

#[tokio::test]
async fn calls_that_fit_nothing_are_explained_as_upstream_explains_them() {
    use BodyKind::{Bytes, Form, Json, None as Get};
    let catalog = fixtures().await;
    let refused = |function: &str, given: &[&str], body| {
        let error = catalog.function(&name(function), given, body).unwrap_err();
        (error.code(), error.to_string(), error.details(), error.hint().map(str::to_owned))
    };
    assert_eq!(
        refused("three_defaults", &["d", "a"], Json),
        (
            "PGRST202",
            "Could not find the function test.three_defaults(a, d) in the schema cache".into(),
            Some(
                "Searched for the function test.three_defaults with parameters a, d or with a single unnamed \
                 json/jsonb parameter, but no matches were found in the schema cache."
                    .into()
            ),
            Some("Perhaps you meant to call the function test.three_defaults(a, b, c)".into())
        )
    );
    assert_eq!(
        refused("no_parameter", &[], Get),
        (
            "PGRST202",
            "Could not find the function test.no_parameter without parameters in the schema cache".into(),
            Some(
                "Searched for the function test.no_parameter without parameters, but no matches were found in the \
                 schema cache."
                    .into()
            ),
            Some("Perhaps you meant to call the function test.no_parameters".into())
        )
    );
    assert_eq!(
        refused("no_parameters", &[], Bytes),
        (
            "PGRST202",
            "Could not find the function test.no_parameters in the schema cache".into(),
            Some(
                "Searched for the function test.no_parameters with a single unnamed bytea parameter, but no matches \
                 were found in the schema cache."
                    .into()
            ),
            None
        )
    );
    assert_eq!(
        refused("overloaded", &["wrong"], Form).2.unwrap(),
        "Searched for the function test.overloaded with parameter wrong, but no matches were found in the schema cache."
    );
    assert_eq!(
        refused("overloaded_same_args", &["arg"], Get),
        (
            "PGRST203",
            "Could not choose the best candidate function between: test.overloaded_same_args(arg => integer), \
             test.overloaded_same_args(arg => xml), test.overloaded_same_args(arg => text, num => integer)"
                .into(),
            None,
            Some(
                "Try renaming the parameters or the function itself in the database so function overloading can be \
                 resolved"
                    .into()
            )
        )
    );
}

#[tokio::test]
async fn roles_and_their_settings_are_those_of_the_login() {
    let (database, mut owner) = scratch::database(FIXTURES).await;
    let setup = format!(
        "create role {database}_login login noinherit; create role {database}_anon; create role {database}_other;
         grant {database}_anon to {database}_login;
         alter role {database}_anon set statement_timeout to '3s';
         alter role {database}_anon set work_mem to '1MB';
         alter role {database}_anon set log_min_duration_statement to '1s';
         alter role {database}_anon in database {database} set statement_timeout to '1s';
         alter role {database}_other set statement_timeout to '9s'"
    );
    let admin = scratch::session("postgres", &database).await;
    admin.batch_execute(&setup).await.unwrap();
    let (login, anon) = (format!("{database}_login"), format!("{database}_anon"));
    let schemas = ["test".to_owned()];
    let scope = Scope { schemas: &schemas, extra_search_path: &[], login: Some(&login) };
    let catalog = read(&mut owner, &scope, None).await.unwrap();
    let mut roles: Vec<(&str, bool)> = catalog.roles.iter().map(|(name, bypasses)| (&**name, *bypasses)).collect();
    roles.sort_unstable();
    assert_eq!(roles, [(anon.as_str(), false), (login.as_str(), false)]);
    let mut settings: Vec<(&str, &str)> =
        catalog.role_settings[anon.as_str()].iter().map(|(name, value)| (&**name, &**value)).collect();
    settings.sort_unstable();
    assert_eq!(settings, [("statement_timeout", "1s"), ("work_mem", "1MB")]);
    assert_eq!(catalog.role_settings.len(), 1);
    assert_eq!(catalog.time_zones["europe/london"].as_ref(), "Europe/London");
    let again = read(&mut owner, &scope, Some(&catalog)).await.unwrap();
    assert_eq!(again.time_zones.len(), catalog.time_zones.len());
    assert_eq!(again.relations.len(), catalog.relations.len());
}

#[tokio::test]
async fn a_large_schema_is_read_quickly() {
    let (_, mut owner) = scratch::database("create schema test").await;
    for part in 0..10 {
        let sql = format!(
            "do $$ begin for i in {part} * 100 + 1 .. {part} * 100 + 100 loop
                 execute format('create table test.t_%s (id bigint generated by default as identity primary key,
                     parent bigint %s, name text not null default %L, made timestamptz default now(), tags text[])',
                     i, case when i > 1 then format('references test.t_%s', i - 1) end, 'x');
                 if i % 10 = 0 then
                     execute format('create view test.v_%s as select a.id, b.name, a.parent from test.t_%s a
                         join test.t_%s b on b.id = a.parent', i, i, i - 1);
                 end if;
             end loop; end $$"
        );
        owner.batch_execute(&sql).await.unwrap();
    }
    let schemas = ["test".to_owned()];
    let scope = Scope { schemas: &schemas, extra_search_path: &[], login: None };
    let started = std::time::Instant::now();
    let catalog = read(&mut owner, &scope, None).await.unwrap();
    let took = started.elapsed();
    assert_eq!(catalog.relations.len(), 1_100);
    assert!(catalog.relationship(&name("v_10"), "t_9", None).is_ok());
    // Five times as many take about a second in this build; what grows faster than the schema is noticed here.
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
}
