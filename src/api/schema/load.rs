//! Reads the catalogue whole, in one transaction, so that its parts fit each other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::Client;

use super::catalog::{Catalog, Column, Name, Relation, RelationKind};
use super::error::Error;
use super::functions;
use super::lineage::{Lineage, Protection};
use super::links::{self, Ends};
use super::names::Names;
use super::read::{self, Described};
use super::roles;

/// Begins the transaction. Compiling such queries takes longer than running them.
const BEGIN: &str =
    "begin isolation level repeatable read read only; set local search_path to ''; set local jit to off";

const TIME_ZONES: &str = "select name from pg_timezone_names";

/// What is read.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Schemas that are exposed.
    pub schemas: &'a [String],
    /// Schemas where computed fields are found besides.
    pub extra_search_path: &'a [String],
    /// The role that requests log in with; nothing means the session's own.
    pub login: Option<&'a str>,
}

/// Reads the catalogue over `session`, which must be in no transaction. `last` is an older catalogue of the same server,
/// whose list of time zones is kept: it is slow to read and does not change.
///
/// # Errors
///
/// When a query fails. The session is then out of the transaction, or lost.
pub async fn load(session: &Client, scope: &Scope<'_>, last: Option<&Catalog>) -> Result<Catalog, Error> {
    let outside = |source| Error::Query { what: "anything", source };
    session.batch_execute(BEGIN).await.map_err(outside)?;
    let catalog = within(session, scope, last).await;
    let end = if catalog.is_ok() { "commit" } else { "rollback" };
    let ended = session.batch_execute(end).await.map_err(outside);
    let catalog = catalog?;
    ended?;
    Ok(catalog)
}

async fn within(session: &Client, scope: &Scope<'_>, last: Option<&Catalog>) -> Result<Catalog, Error> {
    let relations = read::relations(session, scope.schemas).await?;
    let oids: Vec<u32> = relations.iter().map(|relation| relation.oid).collect();
    let columns = read::columns(session, &oids).await?;
    let routines = read::functions(session, scope.schemas).await?;
    let types = read::types(session, &type_oids(&columns, &routines)).await?;
    let types: HashMap<u32, &Described> = types.iter().map(|described| (described.oid, described)).collect();
    let constraints = read::constraints(session).await?;

    let views: Vec<u32> =
        relations.iter().filter(|relation| matches!(&*relation.kind, "v" | "m")).map(|relation| relation.oid).collect();
    let lineage = Lineage::new(read::views(session, &views).await?);
    let guarded: HashSet<u32> = oids.iter().copied().chain(lineage.used()).collect();
    let guards = read::guards(session, &guarded.into_iter().collect::<Vec<_>>()).await?;
    let protection = Protection::new(&guards, &lineage);

    let searched: Vec<String> = scope.schemas.iter().chain(scope.extra_search_path).cloned().collect();
    let computed = read::computed(session, &searched).await?;

    let mut names = Names::default();
    let mut catalog = Catalog::default();
    let mut ends = Ends::new();
    let mut by_relation = grouped(&columns);
    let mut assembled: HashMap<u32, Relation> = HashMap::new();
    for relation in &relations {
        let columns = by_relation.remove(&relation.oid).unwrap_or_default();
        let exposed = scope.schemas.contains(&relation.schema);
        let (relation, oid) = (build(relation, columns, &types, protection.of(relation.oid), &mut names), relation.oid);
        if exposed {
            let numbers = columns.iter().zip(&relation.columns).map(|(raw, column)| (raw.number, column.name.clone()));
            ends.insert(oid, links::end(&relation, numbers.collect(), lineage.shown(oid)));
        }
        assembled.insert(oid, relation);
    }
    for constraint in constraints.iter().filter(|constraint| constraint.kind == "p") {
        if let Some(relation) = assembled.get_mut(&constraint.relation) {
            let raw = grouped_of(&columns, constraint.relation);
            let name = |number: &i16| raw.iter().position(|column| column.number == *number);
            relation.primary_key =
                constraint.columns.iter().filter_map(name).map(|at| relation.columns[at].name.clone()).collect();
        }
    }
    for (oid, end) in &mut ends {
        let key = if end.is_view {
            links::shown_primary_keys(end, &constraints)
        } else {
            assembled.get(oid).map(|relation| relation.primary_key.clone()).unwrap_or_default()
        };
        if let Some(relation) = assembled.get_mut(oid) {
            relation.primary_key.clone_from(&key);
        }
        end.primary_key = key;
    }

    catalog.relationships = links::relationships(&ends, &constraints, &computed);
    catalog.computed = computed_fields(&assembled, &computed, scope, &mut names);
    catalog.relations = assembled.into_values().map(|relation| (relation.name.clone(), Arc::new(relation))).collect();
    catalog.functions = functions::callable(&routines, &types, &mut names);
    catalog.time_zones = match last.filter(|last| !last.time_zones.is_empty()) {
        Some(last) => last.time_zones.clone(),
        None => time_zones(session).await?,
    };
    catalog.roles = roles::assumable(session, scope.login).await?;
    catalog.role_settings = roles::settings(session, scope.login, &catalog.roles).await?;
    Ok(catalog)
}

fn type_oids(columns: &[read::Column], routines: &[read::Function]) -> Vec<u32> {
    let mut oids: HashSet<u32> = columns.iter().map(|column| column.type_oid).collect();
    for routine in routines {
        oids.insert(routine.result);
        oids.extend(&routine.inputs);
        oids.extend(routine.all.iter().flatten());
    }
    oids.into_iter().collect()
}

/// Columns come ordered by relation: the part of each.
fn grouped(columns: &[read::Column]) -> HashMap<u32, &[read::Column]> {
    columns.chunk_by(|a, b| a.relation == b.relation).map(|part| (part[0].relation, part)).collect()
}

fn grouped_of(columns: &[read::Column], relation: u32) -> &[read::Column] {
    let start = columns.partition_point(|column| column.relation < relation);
    let length = columns[start..].partition_point(|column| column.relation == relation);
    &columns[start..start + length]
}

fn build(
    relation: &read::Relation,
    columns: &[read::Column],
    types: &HashMap<u32, &Described>,
    protected: bool,
    names: &mut Names,
) -> Relation {
    Relation {
        name: names.name(&relation.schema, &relation.name),
        comment: relation.comment.as_deref().map(Into::into),
        kind: match &*relation.kind {
            "v" => RelationKind::View,
            "m" => RelationKind::Materialized,
            "f" => RelationKind::Foreign,
            _ => RelationKind::Table,
        },
        columns: columns.iter().map(|column| build_column(column, types, names)).collect(),
        primary_key: Vec::new(),
        insertable: relation.events & 8 != 0,
        updatable: relation.events & 4 != 0,
        deletable: relation.events & 16 != 0,
        protected,
    }
}

fn build_column(column: &read::Column, types: &HashMap<u32, &Described>, names: &mut Names) -> Column {
    let described = types.get(&column.type_oid);
    let modifier = match described {
        Some(described) if described.base != described.oid => described.modifier,
        _ => column.modifier,
    };
    Column {
        name: names.keep(&column.name),
        comment: column.comment.as_deref().map(Into::into),
        type_name: column.type_name.as_str().into(),
        base_type: described.map_or(column.type_name.as_str(), |described| &described.base_name).into(),
        nullable: column.nullable,
        max_length: described.and_then(|described| max_length(&described.base_name, modifier)),
        default: column.default.as_deref().map(Into::into),
        generated: column.generated,
        values: described
            .and_then(|described| described.values.as_ref())
            .map(|values| values.iter().map(|value| value.as_str().into()).collect())
            .unwrap_or_default(),
        steps_by_json: described.is_some_and(|described| described.is_array || described.kind == "c"),
    }
}

/// The length that a type's modifier says. That of character types counts four bytes of header too.
fn max_length(base: &str, modifier: i32) -> Option<i32> {
    if modifier < 0 {
        return None;
    }
    match base {
        "character" | "character varying" => Some(modifier - 4),
        "bit" | "bit varying" => Some(modifier),
        _ => None,
    }
}

/// Fields that are functions over the row. A request finds them in the relation's own schema, then in the extra search
/// path.
fn computed_fields(
    relations: &HashMap<u32, Relation>,
    computed: &[read::Computed],
    scope: &Scope<'_>,
    names: &mut Names,
) -> HashMap<Name, BTreeMap<Arc<str>, Name>> {
    let mut found: HashMap<Name, BTreeMap<Arc<str>, Name>> = HashMap::new();
    let mut from = |place: &dyn Fn(&Relation, &read::Computed) -> bool| {
        for function in computed.iter().filter(|function| !function.set) {
            if let Some(relation) = relations.get(&function.relation)
                && place(relation, function)
            {
                let name = names.name(&function.schema, &function.name);
                let fields = found.entry(relation.name.clone()).or_default();
                fields.entry(name.name.clone()).or_insert(name);
            }
        }
    };
    from(&|relation, function| *relation.name.schema == *function.schema);
    for schema in scope.extra_search_path {
        from(&|_, function| function.schema == *schema);
    }
    found
}

async fn time_zones(session: &Client) -> Result<HashMap<Box<str>, Box<str>>, Error> {
    let rows = read::rows(session, "time zones", TIME_ZONES, &[]).await?;
    let decode = |row: &tokio_postgres::Row| {
        let name: &str = row.try_get(0)?;
        Ok((name.to_lowercase().into(), name.into()))
    };
    Ok(read::decoded(&rows, "time zones", decode)?.into_iter().collect())
}
