//! The queries over PostgreSQL's catalogue, and their rows.
//!
//! Few and set-based: their number does not depend on the schema's size. They run with an empty search path, so that
//! `format_type` and `pg_get_expr` write names that mean the same in any session. They use what every role may read, and
//! speak of oids and column numbers; names come in when the catalogue is assembled.

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::error::Error;
use super::nodes::{self, Origin};

/// A relation of an exposed schema, or one whose rows an exposed function returns.
pub(super) struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub comment: Option<String>,
    pub kind: String,
    /// As of pg_relation_is_updatable: 4 update, 8 insert, 16 delete.
    pub events: i32,
}

const RELATIONS: &str = "\
select c.oid, n.nspname, c.relname, d.description, c.relkind::text,
       case when c.relkind in ('r', 'p') then 28
            when c.relkind in ('v', 'f') then pg_relation_is_updatable(c.oid, true)
            else 0 end
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
left join pg_description d on d.objoid = c.oid and d.classoid = 'pg_class'::regclass and d.objsubid = 0
where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
  and (n.nspname = any($1)
       or (n.nspname not in ('pg_catalog', 'information_schema')
           and c.reltype in (select p.prorettype from pg_proc p join pg_namespace f on f.oid = p.pronamespace
                             where f.nspname = any($1))))
order by n.nspname, c.relname";

/// A column of a relation.
pub(super) struct Column {
    pub relation: u32,
    pub number: i16,
    pub name: String,
    pub comment: Option<String>,
    pub type_oid: u32,
    pub type_name: String,
    pub modifier: i32,
    pub nullable: bool,
    pub default: Option<String>,
    pub generated: bool,
}

const COLUMNS: &str = "\
select a.attrelid, a.attnum, a.attname, d.description, a.atttypid, format_type(a.atttypid, a.atttypmod), a.atttypmod,
       not (a.attnotnull or t.typtype = 'd' and t.typnotnull),
       case when a.attgenerated <> '' then null
            when a.attidentity = 'd' then (
                select format('nextval(%L)', s.objid::regclass) from pg_depend s
                where s.classid = 'pg_class'::regclass and s.refclassid = 'pg_class'::regclass
                  and s.refobjid = a.attrelid and s.refobjsubid = a.attnum and s.deptype = 'i' limit 1)
            when ad.adbin is not null then pg_get_expr(ad.adbin, ad.adrelid)
            when t.typdefaultbin is not null then pg_get_expr(t.typdefaultbin, 0) end,
       a.attidentity = 'a' or a.attgenerated <> ''
from pg_attribute a
join pg_type t on t.oid = a.atttypid
left join pg_attrdef ad on ad.adrelid = a.attrelid and ad.adnum = a.attnum
left join pg_description d on d.objoid = a.attrelid and d.classoid = 'pg_class'::regclass and d.objsubid = a.attnum
where a.attrelid = any($1) and a.attnum > 0 and not a.attisdropped
order by a.attrelid, a.attnum";

/// A type, and what is below its domains.
pub(super) struct Described {
    pub oid: u32,
    pub name: String,
    pub base: u32,
    pub base_name: String,
    /// typtype of the base: b, c, e, p, r, m.
    pub kind: String,
    pub is_array: bool,
    /// The modifier that a domain gives, else -1.
    pub modifier: i32,
    /// For a composite type its schema and name.
    pub composite: Option<(String, String)>,
    pub values: Option<Vec<String>>,
}

const TYPES: &str = "\
with recursive chain(oid, base, modifier) as (
    select t.oid, t.oid, -1 from pg_type t where t.oid = any($1)
    union all
    select c.oid, t.typbasetype, case when c.modifier = -1 then t.typtypmod else c.modifier end
    from chain c join pg_type t on t.oid = c.base and t.typtype = 'd'
)
select c.oid, format_type(c.oid, null), b.oid, format_type(b.oid, null), b.typtype::text, b.typcategory = 'A',
       c.modifier, n.nspname, r.relname,
       case when b.typtype = 'e' then (
           select array_agg(e.enumlabel::text order by e.enumsortorder) from pg_enum e where e.enumtypid = b.oid) end
from chain c
join pg_type b on b.oid = c.base and b.typtype <> 'd'
left join pg_class r on r.oid = b.typrelid and b.typtype = 'c'
left join pg_namespace n on n.oid = r.relnamespace";

/// A primary key, unique constraint or foreign key.
pub(super) struct Constraint {
    pub name: String,
    /// p, u or f.
    pub kind: String,
    pub relation: u32,
    pub columns: Vec<i16>,
    pub foreign_relation: u32,
    pub foreign_columns: Vec<i16>,
    /// Whether it is a partition's share of a constraint.
    pub inherited: bool,
}

const CONSTRAINTS: &str = "\
select c.conname, c.contype::text, c.conrelid, c.conkey, c.confrelid, c.confkey, c.conparentid <> 0
from pg_constraint c
join pg_namespace n on n.oid = c.connamespace
where c.contype in ('p', 'u', 'f') and c.conrelid <> 0 and n.nspname not in ('pg_catalog', 'information_schema')
order by c.conrelid, c.conname";

/// A view that the exposed schemas lead to.
pub(super) struct View {
    pub oid: u32,
    /// Where its columns come from.
    pub origins: Vec<Origin>,
    /// All relations that its query names.
    pub uses: Vec<u32>,
}

const VIEWS: &str = "\
with recursive reached(oid) as (
    select unnest($1::oid[])
    union
    select d.refobjid
    from reached v
    join pg_rewrite r on r.ev_class = v.oid and r.ev_type = '1'
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
    join pg_class c on c.oid = d.refobjid and c.relkind in ('v', 'm')
)
select v.oid, r.ev_action::text, array(
    select distinct d.refobjid from pg_depend d
    where d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
      and d.refobjid <> v.oid)
from reached v
join pg_rewrite r on r.ev_class = v.oid and r.ev_type = '1'";

/// What decides whether policies stand before a relation's rows.
pub(super) struct Guard {
    pub oid: u32,
    pub kind: String,
    pub owner: u32,
    /// The owner is a superuser or has BYPASSRLS.
    pub owner_bypasses: bool,
    pub secured: bool,
    pub forced: bool,
    pub invoker: bool,
    /// A relation of pg_catalog or information_schema.
    pub system: bool,
}

const GUARDS: &str = "\
select c.oid, c.relkind::text, c.relowner, o.rolsuper or o.rolbypassrls, c.relrowsecurity, c.relforcerowsecurity,
       coalesce((select x.option_value::boolean from pg_options_to_table(c.reloptions) x
                 where x.option_name = 'security_invoker'), false),
       n.nspname in ('pg_catalog', 'information_schema')
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_roles o on o.oid = c.relowner
where c.oid = any($1)";

/// A function of an exposed schema.
pub(super) struct Function {
    pub schema: String,
    pub name: String,
    pub comment: Option<String>,
    /// Names of all arguments, the results' too.
    pub names: Vec<String>,
    /// Types of the arguments that are given.
    pub inputs: Vec<u32>,
    /// Types of all arguments, where there are others than those given.
    pub all: Option<Vec<u32>>,
    /// Modes of all arguments: i, o, b, v, t.
    pub modes: Vec<String>,
    pub defaults: i16,
    pub result: u32,
    pub set: bool,
    pub volatility: String,
    pub settings: Vec<String>,
}

const FUNCTIONS: &str = "\
select n.nspname, p.proname, d.description, p.proargnames, p.proargtypes::oid[], p.proallargtypes,
       p.proargmodes::text[], p.pronargdefaults, p.prorettype, p.proretset, p.provolatile::text, p.proconfig
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
left join pg_description d on d.objoid = p.oid and d.classoid = 'pg_proc'::regclass and d.objsubid = 0
where p.prokind = 'f' and n.nspname = any($1)
  and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
order by n.nspname, p.proname, p.oid";

/// A function over a row of a relation.
pub(super) struct Computed {
    pub schema: String,
    pub name: String,
    pub relation: u32,
    pub set: bool,
    /// At most one row: no set, or a set declared with ROWS 1.
    pub single: bool,
    /// The relation whose rows it returns.
    pub to: Option<u32>,
}

const COMPUTED: &str = "\
select n.nspname, p.proname, t.oid, p.proretset, not p.proretset or p.prorows = 1, r.oid
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
join pg_class t on t.reltype = p.proargtypes[0] and t.relkind in ('r', 'p', 'v', 'm', 'f')
left join pg_class r on r.reltype = p.prorettype and r.relkind in ('r', 'p', 'v', 'm', 'f')
where p.prokind = 'f' and p.pronargs = 1 and p.proargtypes[0] <> 0 and n.nspname = any($1)
order by n.nspname, p.proname, p.oid";

/// Runs one of the queries.
pub(super) async fn rows(
    session: &Client,
    what: &'static str,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, Error> {
    session.query_typed(sql, parameters).await.map_err(|source| Error::Query { what, source })
}

/// Relations of `schemas` and those that functions there return.
pub(super) async fn relations(session: &Client, schemas: &[String]) -> Result<Vec<Relation>, Error> {
    let what = "relations";
    let decode = |row: &Row| {
        Ok(Relation {
            oid: row.try_get(0)?,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            comment: row.try_get(3)?,
            kind: row.try_get(4)?,
            events: row.try_get(5)?,
        })
    };
    decoded(&rows(session, what, RELATIONS, &[(&schemas, Type::TEXT_ARRAY)]).await?, what, decode)
}

/// Columns of `relations`, those of one together and in order.
pub(super) async fn columns(session: &Client, relations: &[u32]) -> Result<Vec<Column>, Error> {
    let what = "columns";
    let decode = |row: &Row| {
        Ok(Column {
            relation: row.try_get(0)?,
            number: row.try_get(1)?,
            name: row.try_get(2)?,
            comment: row.try_get(3)?,
            type_oid: row.try_get(4)?,
            type_name: row.try_get(5)?,
            modifier: row.try_get(6)?,
            nullable: row.try_get(7)?,
            default: row.try_get(8)?,
            generated: row.try_get(9)?,
        })
    };
    decoded(&rows(session, what, COLUMNS, &[(&relations, Type::OID_ARRAY)]).await?, what, decode)
}

/// Descriptions of `types`.
pub(super) async fn types(session: &Client, types: &[u32]) -> Result<Vec<Described>, Error> {
    let what = "types";
    let decode = |row: &Row| {
        let composite: (Option<String>, Option<String>) = (row.try_get(7)?, row.try_get(8)?);
        Ok(Described {
            oid: row.try_get(0)?,
            name: row.try_get(1)?,
            base: row.try_get(2)?,
            base_name: row.try_get(3)?,
            kind: row.try_get(4)?,
            is_array: row.try_get(5)?,
            modifier: row.try_get(6)?,
            composite: composite.0.zip(composite.1),
            values: row.try_get(9)?,
        })
    };
    decoded(&rows(session, what, TYPES, &[(&types, Type::OID_ARRAY)]).await?, what, decode)
}

/// All keys, of any schema: a view may show those of a table that is not exposed.
pub(super) async fn constraints(session: &Client) -> Result<Vec<Constraint>, Error> {
    let what = "constraints";
    let decode = |row: &Row| {
        Ok(Constraint {
            name: row.try_get(0)?,
            kind: row.try_get(1)?,
            relation: row.try_get(2)?,
            columns: row.try_get::<_, Option<_>>(3)?.unwrap_or_default(),
            foreign_relation: row.try_get(4)?,
            foreign_columns: row.try_get::<_, Option<_>>(5)?.unwrap_or_default(),
            inherited: row.try_get(6)?,
        })
    };
    decoded(&rows(session, what, CONSTRAINTS, &[]).await?, what, decode)
}

/// `views` and those below them. Their rules are long, so that each is forgotten before the next is read.
pub(super) async fn views(session: &Client, views: &[u32]) -> Result<Vec<View>, Error> {
    let failed = |source| Error::Query { what: "views", source };
    let rows = session.query_typed_raw(VIEWS, [(&views, Type::OID_ARRAY)]).await.map_err(failed)?;
    pin_mut!(rows);
    let mut found = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let oid: u32 = row.try_get(0).map_err(failed)?;
        let rule: &str = row.try_get(1).map_err(failed)?;
        let origins = nodes::origins(rule);
        if origins.is_none() {
            tracing::warn!(view = oid, "the rule of a view cannot be read: it has no relationships");
        }
        let uses = row.try_get(2).map_err(failed)?;
        found.push(View { oid, origins: origins.unwrap_or_default(), uses });
    }
    Ok(found)
}

/// What protects `relations`.
pub(super) async fn guards(session: &Client, relations: &[u32]) -> Result<Vec<Guard>, Error> {
    let what = "row-level security";
    let decode = |row: &Row| {
        Ok(Guard {
            oid: row.try_get(0)?,
            kind: row.try_get(1)?,
            owner: row.try_get(2)?,
            owner_bypasses: row.try_get(3)?,
            secured: row.try_get(4)?,
            forced: row.try_get(5)?,
            invoker: row.try_get(6)?,
            system: row.try_get(7)?,
        })
    };
    decoded(&rows(session, what, GUARDS, &[(&relations, Type::OID_ARRAY)]).await?, what, decode)
}

/// Functions of `schemas`.
pub(super) async fn functions(session: &Client, schemas: &[String]) -> Result<Vec<Function>, Error> {
    let what = "functions";
    let decode = |row: &Row| {
        Ok(Function {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
            comment: row.try_get(2)?,
            names: row.try_get::<_, Option<_>>(3)?.unwrap_or_default(),
            inputs: row.try_get(4)?,
            all: row.try_get(5)?,
            modes: row.try_get::<_, Option<_>>(6)?.unwrap_or_default(),
            defaults: row.try_get(7)?,
            result: row.try_get(8)?,
            set: row.try_get(9)?,
            volatility: row.try_get(10)?,
            settings: row.try_get::<_, Option<_>>(11)?.unwrap_or_default(),
        })
    };
    decoded(&rows(session, what, FUNCTIONS, &[(&schemas, Type::TEXT_ARRAY)]).await?, what, decode)
}

/// Functions of `schemas` over one row of a relation.
pub(super) async fn computed(session: &Client, schemas: &[String]) -> Result<Vec<Computed>, Error> {
    let what = "computed fields";
    let decode = |row: &Row| {
        Ok(Computed {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
            relation: row.try_get(2)?,
            set: row.try_get(3)?,
            single: row.try_get(4)?,
            to: row.try_get(5)?,
        })
    };
    decoded(&rows(session, what, COMPUTED, &[(&schemas, Type::TEXT_ARRAY)]).await?, what, decode)
}

pub(super) fn decoded<T>(
    rows: &[Row],
    what: &'static str,
    decode: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>, Error> {
    rows.iter().map(|row| decode(row).map_err(|source| Error::Query { what, source })).collect()
}
