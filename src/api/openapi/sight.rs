//! What a caller's role may use of the exposed schemas: asked of the database as that role, so that it answers as it
//! would answer a request.
//!
//! Rights are the database's. That an anonymous caller is not shown relations without row-level security is ours, and
//! the same here as in a request.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use tokio_postgres::types::Json;

use crate::api::schema::{Catalog, Function, Name, Relation};
use crate::api::{Config, OpenApiMode};
use crate::db::{self, Parameter, Pool, Transaction};

/// Types are written with their schemas, as in the catalogue; whatever ran before has had the caller's search path.
const PLAIN: &str = "set local search_path to ''";

/// One row with one text. Columns are listed where the relation as a whole allows none of reading, adding and changing.
const RIGHTS: &str = "\
with schemas as materialized (
    select n.oid, n.nspname, has_schema_privilege(n.oid, 'USAGE') as usable, obj_description(n.oid, 'pg_namespace') as comment
    from pg_namespace n where n.nspname in (select json_array_elements_text($1::json))
), relations as (
    select n.nspname as schema, c.relname as name,
        has_any_column_privilege(c.oid, 'SELECT') as read,
        has_any_column_privilege(c.oid, 'INSERT') as add,
        has_any_column_privilege(c.oid, 'UPDATE') as change,
        has_table_privilege(c.oid, 'DELETE') as remove,
        case when not has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE') then array(
            select a.attname::text from pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
              and has_column_privilege(c.oid, a.attnum, 'SELECT, INSERT, UPDATE')
        ) end as columns
    from pg_class c join schemas n on n.oid = c.relnamespace and n.usable
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
), functions as (
    select n.nspname as schema, p.proname as name, array(
        select format_type(t.type, null) from unnest(p.proargtypes) with ordinality t(type, place) order by t.place
    ) as arguments
    from pg_proc p join schemas n on n.oid = p.pronamespace and n.usable
    where p.prokind = 'f' and has_function_privilege(p.oid, 'EXECUTE')
)
select json_build_object(
    'comments', (select coalesce(json_object_agg(nspname, comment) filter (where comment is not null), '{}') from schemas),
    'relations', (select coalesce(json_agg(r), '[]') from relations r where read or add or change or remove),
    'functions', (select coalesce(json_agg(f), '[]') from functions f)
)";

/// A question for [`Sight::ask`].
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Settings of the transaction in their order, `role` among them.
    pub settings: &'a [(&'a str, &'a str)],
    /// What runs before, as in any other request of the caller.
    pub before: Option<&'a str>,
    /// The schemas that are asked about.
    pub schemas: &'a [String],
}

/// What a role may use. Clones share what the database said.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    known: Arc<Known>,
    /// Whether rights do not matter.
    everything: bool,
    /// Whether only relations under row-level security are seen.
    only_protected: bool,
}

/// What the database said.
#[derive(Debug, Default)]
struct Known {
    comments: HashMap<String, String>,
    relations: HashMap<Name, Rights>,
    functions: HashSet<(Name, Vec<String>)>,
}

#[derive(Clone, Debug, Deserialize)]
struct Rights {
    schema: String,
    name: String,
    read: bool,
    add: bool,
    change: bool,
    remove: bool,
    columns: Option<HashSet<String>>,
}

#[derive(Deserialize)]
struct Answer {
    comments: HashMap<String, String>,
    relations: Vec<Rights>,
    functions: Vec<Callable>,
}

#[derive(Deserialize)]
struct Callable {
    schema: String,
    name: String,
    arguments: Vec<String>,
}

/// A relation, and what can be done with it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The relation with the columns that are seen.
    pub relation: Arc<Relation>,
    /// Whether rows can be read.
    pub read: bool,
    /// Whether rows can be added.
    pub add: bool,
    /// Whether rows can be changed.
    pub change: bool,
    /// Whether rows can be removed.
    pub remove: bool,
}

/// What is seen of one schema, in the order of names.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The schema's comment.
    pub comment: Option<String>,
    /// Relations.
    pub relations: BTreeMap<Arc<str>, Seen>,
    /// Functions, overloads together.
    pub functions: BTreeMap<Arc<str>, Vec<Arc<Function>>>,
}

impl Sight {
    /// Asks the database.
    ///
    /// # Errors
    /// Those of the pool and of PostgreSQL, among them whatever `before` raises.
    pub async fn ask(pool: &Pool, question: Question<'_>) -> Result<Self, db::Error> {
        let before = question.before.map(|before| format!("{before}; {PLAIN}"));
        let parameters = [Parameter::Text(Some(serde_json::json!(question.schemas).to_string()))];
        let transaction = Transaction {
            read_only: true,
            isolation: None,
            settings: question.settings,
            before: Some(before.as_deref().unwrap_or(PLAIN)),
            sql: RIGHTS,
            parameters: &parameters,
            rollback: false,
            prepare: true,
        };
        let row = pool.transact(&transaction).await?;
        let Json(answer): Json<Answer> = row.try_get(0)?;
        let name = |schema: &str, name: &str| Name { schema: schema.into(), name: name.into() };
        let relations = answer.relations.into_iter().map(|rights| (name(&rights.schema, &rights.name), rights));
        let functions =
            answer.functions.into_iter().map(|function| (name(&function.schema, &function.name), function.arguments));
        let (comments, relations, functions) = (answer.comments, relations.collect(), functions.collect());
        let known = Arc::new(Known { comments, relations, functions });
        Ok(Self { known, everything: false, only_protected: false })
    }

    /// As the configuration says, and for an anonymous caller without what it does not expose. None: there is no
    /// description.
    #[must_use]
    pub fn under(self, config: &Config, anonymous: bool) -> Option<Self> {
        match config.openapi_mode {
            OpenApiMode::Disabled => None,
            OpenApiMode::IgnorePrivileges => Some(Self { everything: true, ..self }),
            OpenApiMode::FollowPrivileges => {
                Some(Self { only_protected: anonymous && !config.expose_unprotected, ..self })
            }
        }
    }

    /// Whether only relations under row-level security are seen.
    #[must_use]
    pub fn is_narrowed(&self) -> bool {
        self.only_protected
    }

    /// A relation, if it is seen.
    #[must_use]
    pub fn relation(&self, relation: &Arc<Relation>) -> Option<Seen> {
        if self.only_protected && !relation.protected {
            return None;
        }
        let (insertable, updatable, deletable) = (relation.insertable, relation.updatable, relation.deletable);
        if self.everything {
            let relation = relation.clone();
            return Some(Seen { relation, read: true, add: insertable, change: updatable, remove: deletable });
        }
        let rights = self.known.relations.get(&relation.name)?;
        let relation = match &rights.columns {
            None => relation.clone(),
            Some(columns) => {
                let mut narrowed = Relation::clone(relation);
                narrowed.columns.retain(|column| columns.contains(&*column.name));
                narrowed.primary_key.retain(|column| columns.contains(&**column));
                Arc::new(narrowed)
            }
        };
        let (read, add) = (rights.read, rights.add && insertable);
        let (change, remove) = (rights.change && updatable, rights.remove && deletable);
        (read || add || change || remove).then_some(Seen { relation, read, add, change, remove })
    }

    /// Whether rows of the relation of this name are seen, so that it can be embedded.
    #[must_use]
    pub fn reads(&self, catalog: &Catalog, name: &Name) -> bool {
        catalog.relations.get(name).and_then(|relation| self.relation(relation)).is_some_and(|seen| seen.read)
    }

    /// Whether a function is seen.
    #[must_use]
    pub fn calls(&self, function: &Function) -> bool {
        let types = || function.parameters.iter().map(|parameter| parameter.type_name.to_string()).collect();
        self.everything || self.known.functions.contains(&(function.name.clone(), types()))
    }

    /// What is seen of one schema.
    #[must_use]
    pub fn view(&self, catalog: &Catalog, schema: &str) -> View {
        let here = |name: &Name| *name.schema == *schema;
        let relations = catalog.relations.values().filter(|relation| here(&relation.name));
        let functions = catalog.functions.iter().filter(|(name, _)| here(name)).filter_map(|(name, overloads)| {
            let seen: Vec<_> = overloads.iter().filter(|function| self.calls(function)).cloned().collect();
            (!seen.is_empty()).then(|| (name.name.clone(), seen))
        });
        View {
            comment: self.known.comments.get(schema).cloned(),
            relations: relations
                .filter_map(|relation| Some((relation.name.name.clone(), self.relation(relation)?)))
                .collect(),
            functions: functions.collect(),
        }
    }
}
