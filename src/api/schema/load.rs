//! Reads the catalogue whole, in one transaction, so that its parts fit each other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::{Client, Transaction};

use super::catalog::{Catalog, Name, Relation};
use super::describe::Description;
use super::error::Error;
use super::functions;
use super::lineage::{Lineage, Protection};
use super::links::{self, Ends};
use super::names::Names;
use super::read;
use super::roles;

/// The transaction sees one state of the catalogue. Compiling such queries takes longer than running them.
const SETTINGS: &str = "set transaction isolation level repeatable read, read only; set local search_path to ''; \
                        set local jit to off";

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

/// Reads the catalogue within `transaction`, which must be new. `last` is an older catalogue of the same server, whose
/// list of time zones is kept: it is slow to read and does not change.
///
/// # Errors
///
/// When a query fails.
pub async fn load(transaction: &Transaction<'_>, scope: &Scope<'_>, last: Option<&Catalog>) -> Result<Catalog, Error> {
    let session = transaction.client();
    session.batch_execute(SETTINGS).await.map_err(|source| Error::Query { what: "anything", source })?;
    let relations = read::relations(session, scope.schemas).await?;
    let oids: Vec<u32> = relations.iter().map(|relation| relation.oid).collect();
    let columns = read::columns(session, &oids).await?;
    let routines = read::functions(session, scope.schemas).await?;
    let types = read::types(session, &type_oids(&columns, &routines)).await?;
    let comments = read::comments(session).await?;
    let constraints = read::constraints(session).await?;
    let description = Description::read(session, &columns, &types, &comments).await?;

    let views: Vec<u32> =
        relations.iter().filter(|relation| matches!(&*relation.kind, "v" | "m")).map(|relation| relation.oid).collect();
    let lineage = Lineage::new(read::views(session, &views).await?);
    let guarded: HashSet<u32> = oids.iter().copied().chain(lineage.used()).collect();
    let guards = read::guards(session, &guarded.into_iter().collect::<Vec<_>>()).await?;
    let protection = Protection::new(&guards, &lineage);

    let searched: Vec<String> = scope.schemas.iter().chain(scope.extra_search_path).cloned().collect();
    let computed = read::computed(session, &searched).await?;

    let mut names = Names::default();
    let mut ends = Ends::new();
    let mut assembled: HashMap<u32, Relation> = HashMap::new();
    let primary_keys: HashMap<u32, &[i16]> = constraints
        .iter()
        .filter(|constraint| constraint.kind == "p")
        .map(|constraint| (constraint.relation, constraint.columns.as_slice()))
        .collect();
    // Columns come ordered by relation.
    let mut by_relation: HashMap<u32, &[read::Column]> =
        columns.chunk_by(|a, b| a.relation == b.relation).map(|part| (part[0].relation, part)).collect();
    for raw in &relations {
        let columns = by_relation.remove(&raw.oid).unwrap_or_default();
        let mut relation = description.relation(raw, columns, protection.of(raw.oid), &mut names);
        let numbers: HashMap<i16, Arc<str>> =
            columns.iter().zip(&relation.columns).map(|(raw, column)| (raw.number, column.name.clone())).collect();
        let shown = lineage.shown(raw.oid);
        relation.primary_key = match primary_keys.get(&raw.oid) {
            Some(key) => key.iter().filter_map(|number| numbers.get(number).cloned()).collect(),
            None => links::shown_primary_keys(&numbers, &shown, &primary_keys),
        };
        if scope.schemas.contains(&raw.schema) {
            ends.insert(raw.oid, links::end(&relation, numbers, shown));
        }
        assembled.insert(raw.oid, relation);
    }

    let mut catalog = Catalog {
        relationships: links::relationships(&ends, &constraints, &computed),
        computed: computed_fields(&assembled, &computed, scope, &mut names),
        relations: assembled.into_values().map(|relation| (relation.name.clone(), Arc::new(relation))).collect(),
        functions: functions::callable(&routines, &description, &mut names),
        ..Catalog::default()
    };
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
