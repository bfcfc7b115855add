//! Inserts, updates and deletes, which become the CTE that the response is read from.
//!
//! What they return is no more than the response needs, so that a role without SELECT may write.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Error;
use super::planner::Planner;
use super::scope::{Rows as Origin, Scope};
use super::select::direction;
use super::tree::Node;
use super::work::{Conflict, Insert, Output, Rows, Work};
use crate::api::query::{By, Field, Item, Level, Logic};
use crate::api::schema::{Catalog, Column, Join, Name, Relation, RelationKind};
use crate::db::Parameter;

/// The body's rows.
const BODY: &str = "pgrst_body";
/// The JSON of one of them.
const ROW: &str = "pgrst_row";

/// Where a merge counts new rows. RETURNING could say it too (xmax), but not of views and partitions, and not without
/// the right to read the whole row.
const INSERTED: &str = "coalesce(nullif(current_setting('beacon.inserted', true), ''), '0')::int8";

/// What a response needs of the rows.
#[derive(Debug, Default)]
pub struct Needs<'a> {
    /// All columns.
    pub all: bool,
    /// Columns and computed fields by name.
    pub fields: BTreeSet<&'a str>,
}

impl<'a> Needs<'a> {
    /// Of a level that is read from what a write returned.
    pub fn of(node: &'a Node<'_>) -> Self {
        let mut needs = Self::default();
        for item in node.select {
            match item {
                Item::All => needs.all = true,
                Item::Column(column) => needs.fields.extend(column.field.iter().map(|field| field.name.as_str())),
                Item::Embed(_) => {}
            }
        }
        for order in &node.level.order {
            if let By::Field(field) = &order.by {
                needs.fields.insert(&field.name);
            }
        }
        node.filters.iter().for_each(|logic| needs.logic(logic));
        for link in &node.links {
            match link.node.relationship().map(|relationship| &relationship.join) {
                Some(Join::ManyToOne(key) | Join::OneToOne(key, _) | Join::OneToMany(key)) => {
                    needs.fields.extend(key.columns.iter().map(|(near, _)| &**near));
                }
                Some(Join::ManyToMany(through)) => {
                    needs.fields.extend(through.near.columns.iter().map(|(near, _)| &**near));
                }
                Some(Join::Computed(..)) => needs.all = true,
                None => {}
            }
        }
        needs
    }

    /// Whether all columns are wanted, and computed fields besides.
    pub fn computed(&self, catalog: &Catalog, scope: &Scope) -> bool {
        scope.rows == Origin::Returned
            && self.all
            && self.fields.iter().any(|field| scope.computed(catalog, field).is_some())
    }

    fn logic(&mut self, logic: &'a Logic) {
        match logic {
            Logic::And(_, members) | Logic::Or(_, members) => members.iter().for_each(|member| self.logic(member)),
            Logic::Filter(filter) => {
                self.fields.insert(&filter.field.name);
            }
            Logic::Related(..) => {}
        }
    }
}

/// Whether the JSON text is an object and not an array; PostgreSQL says whether it is JSON at all.
fn is_object(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// The columns to be written, each once, in the order they are given.
fn columns<'r>(relation: &'r Relation, names: &[String]) -> Result<Vec<&'r Column>, Error> {
    let mut columns: Vec<&Column> = Vec::with_capacity(names.len());
    for name in names {
        let column = relation
            .column(name)
            .ok_or_else(|| Error::ColumnNotFound { column: name.clone(), relation: relation.name.name.to_string() })?;
        if !columns.iter().any(|known| known.name == column.name) {
            columns.push(column);
        }
    }
    Ok(columns)
}

impl Planner<'_> {
    fn relation(&self, name: &Name) -> Result<Arc<Relation>, Error> {
        self.catalog.relations.get(name).cloned().ok_or_else(|| Error::RelationNotFound(name.name.to_string()))
    }

    fn native(&self, name: &Name) -> Scope {
        Scope::relation(self.catalog, name, name.name.to_string(), Origin::Native)
    }

    /// `INSERT`
    pub fn insert(&mut self, name: &Name, insert: &Insert<'_>, work: &Work<'_>, node: &Node<'_>) -> Result<(), Error> {
        let relation = self.relation(name)?;
        let scope = self.native(name);
        let columns = columns(&relation, insert.rows.columns)?;
        let target: Vec<Arc<str>> = match &insert.conflict {
            Some(Conflict { columns: [], .. }) => relation.primary_key.clone(),
            Some(conflict) => conflict.columns.iter().map(|column| Arc::from(column.as_str())).collect(),
            None => Vec::new(),
        };
        let merges = insert.conflict.as_ref().is_some_and(|conflict| conflict.merge) && !target.is_empty();
        self.sql.push("INSERT INTO ").name(name).push(" AS ").ident(&scope.alias);
        if columns.is_empty() {
            if is_object(&insert.rows.body) {
                self.sql.push(" DEFAULT VALUES");
            } else {
                self.sql.push(" SELECT FROM json_array_elements(").body(insert.rows.body.clone()).push("::json)");
            }
        } else {
            self.sql.push(" (");
            self.sql.list(", ", &columns, |sql, column| {
                sql.ident(&column.name);
            });
            self.sql.push(") SELECT ");
            self.values(&columns, &insert.rows);
            self.sql.push(" FROM ");
            self.rows(&columns, &insert.rows, false);
            if merges {
                self.sql.push(" WHERE set_config('beacon.inserted', (").push(INSERTED).push(" + 1)::text, true) <> ''");
            }
        }
        if !target.is_empty() {
            self.sql.push(" ON CONFLICT (");
            self.sql.list(", ", &target, |sql, column| {
                sql.ident(column);
            });
            self.sql.push(") DO ");
            if merges && !columns.is_empty() {
                self.sql.push("UPDATE SET ");
                self.sql.list(", ", &columns, |sql, column| {
                    sql.ident(&column.name).push(" = EXCLUDED.").ident(&column.name);
                });
                self.sql.push(" WHERE set_config('beacon.inserted', (").push(INSERTED).push(" - 1)::text, true) <> ''");
            } else {
                self.sql.push("NOTHING");
            }
        }
        self.returning(" RETURNING ", work.output, node, &scope, &relation);
        Ok(())
    }

    /// How many rows of a merge were new, once it has been done.
    pub fn inserted(&mut self, insert: &Insert<'_>) {
        let merges = insert.conflict.as_ref().is_some_and(|conflict| conflict.merge);
        self.sql.push(if merges { INSERTED } else { "NULL::int8" });
    }

    /// `UPDATE`
    pub fn update(&mut self, name: &Name, rows: &Rows<'_>, work: &Work<'_>, node: &Node<'_>) -> Result<(), Error> {
        let relation = self.relation(name)?;
        let scope = self.native(name);
        let columns = columns(&relation, rows.columns)?;
        if columns.is_empty() {
            // Nothing to set: no row is changed, and none is returned, but the columns that were asked for must be.
            self.returning("SELECT ", work.output, node, &scope, &relation);
            self.sql.push(" FROM ").name(name).push(" AS ").ident(&scope.alias).push(" WHERE FALSE");
            return Ok(());
        }
        self.sql.push("UPDATE ").name(name).push(" AS ").ident(&scope.alias).push(" SET ");
        for (at, column) in columns.iter().enumerate() {
            self.sql.push(if at == 0 { "" } else { ", " }).ident(&column.name).push(" = ");
            self.values(&[column], rows);
        }
        self.sql.push(" FROM ");
        self.rows(&columns, rows, true);
        self.chosen(work.level, node, &scope, &relation)?;
        self.returning(" RETURNING ", work.output, node, &scope, &relation);
        Ok(())
    }

    /// `DELETE`
    pub fn delete(&mut self, name: &Name, work: &Work<'_>, node: &Node<'_>) -> Result<(), Error> {
        let relation = self.relation(name)?;
        let scope = self.native(name);
        self.sql.push("DELETE FROM ").name(name).push(" AS ").ident(&scope.alias);
        self.chosen(work.level, node, &scope, &relation)?;
        self.returning(" RETURNING ", work.output, node, &scope, &relation);
        Ok(())
    }

    /// The rows that a write is about: those of the filters, and with a limit, so many of them in the given order.
    fn chosen(&mut self, level: &Level, node: &Node<'_>, scope: &Scope, relation: &Relation) -> Result<(), Error> {
        let offset = level.offset.filter(|offset| *offset > 0);
        if level.limit.is_none() && offset.is_none() {
            self.write_conditions(&level.filters, scope, &node.links);
            return Ok(());
        }
        let key: Vec<&str> = if !relation.primary_key.is_empty() {
            relation.primary_key.iter().map(|column| &**column).collect()
        } else if relation.kind == RelationKind::Table {
            // A place is unique in a partition only.
            vec!["tableoid", "ctid"]
        } else {
            return Err(Error::Unsupported("A limit on a write needs a relation with a primary key."));
        };
        let columns = |planner: &mut Self| {
            planner.sql.list(", ", &key, |sql, column| {
                sql.column(&scope.alias, column);
            });
        };
        self.sql.push(" WHERE (");
        columns(self);
        self.sql.push(") IN (SELECT ");
        columns(self);
        self.sql.push(" FROM ").name(&relation.name).push(" AS ").ident(&scope.alias);
        self.write_conditions(&level.filters, scope, &node.links);
        self.sql.push(" ORDER BY ");
        for order in &level.order {
            let By::Field(field) = &order.by else {
                return Err(Error::Unsupported("A limit on a write cannot go by the order of a related relation."));
            };
            self.field(scope, field);
            self.sql.push(direction(order)).push(", ");
        }
        // Whatever the order leaves open, the key decides.
        columns(self);
        if let Some(limit) = level.limit {
            self.sql.push(" LIMIT ").value(limit.to_string());
        }
        if let Some(offset) = offset {
            self.sql.push(" OFFSET ").value(offset.to_string());
        }
        self.sql.push(")");
        Ok(())
    }

    /// The values of columns, from the body's rows.
    fn values(&mut self, columns: &[&Column], rows: &Rows<'_>) {
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                self.sql.push(", ");
            }
            match column.default.as_deref().filter(|_| rows.defaults) {
                Some(default) => {
                    self.sql.push("CASE WHEN ").column(ROW, ROW).push(" ? ").key(&column.name).push(" THEN ");
                    self.sql.column(BODY, &column.name).push(" ELSE CAST((").push(default).push(") AS ");
                    self.sql.push(&column.type_name).push(") END");
                }
                None => {
                    self.sql.column(BODY, &column.name);
                }
            }
        }
    }

    /// The body's rows as a table with the columns' types.
    fn rows(&mut self, columns: &[&Column], rows: &Rows<'_>, one: bool) {
        let object = is_object(&rows.body);
        let body = self.sql.add(Parameter::Body(rows.body.clone()));
        let defaults = rows.defaults && columns.iter().any(|column| column.default.is_some());
        if defaults {
            // As jsonb, whose keys can be asked for.
            self.sql.push("(SELECT ");
            if object {
                self.sql.parameter(body).push("::jsonb AS ").ident(ROW);
            } else {
                self.sql.push("jsonb_array_elements(").parameter(body).push("::jsonb) AS ").ident(ROW);
                self.sql.push(if one { " LIMIT 1" } else { "" });
            }
            self.sql.push(") AS ").ident(ROW).push(", LATERAL jsonb_to_record(").column(ROW, ROW).push(")");
        } else {
            self.sql.push(if one && !object { "(SELECT * FROM " } else { "" });
            self.sql
                .push(if object { "json_to_record(" } else { "json_to_recordset(" })
                .parameter(body)
                .push("::json)");
        }
        self.sql.push(" AS ").ident(BODY).push("(");
        self.sql.list(", ", columns, |sql, column| {
            sql.ident(&column.name).push(" ").push(&column.type_name);
        });
        self.sql.push(")");
        if one && !object && !defaults {
            self.sql.push(" LIMIT 1) AS ").ident(BODY);
        }
    }

    /// What a write gives back.
    fn returning(&mut self, word: &str, output: Output, node: &Node<'_>, scope: &Scope, relation: &Relation) {
        self.sql.push(word);
        let mut needs = match output {
            Output::Nothing => Needs::default(),
            Output::Location => {
                Needs { all: false, fields: relation.primary_key.iter().map(|column| &**column).collect() }
            }
            Output::Json { .. } | Output::Object { .. } | Output::Csv | Output::Plain => Needs::of(node),
        };
        if needs.all {
            // Columns are there already; what is computed is not.
            needs.fields.retain(|field| scope.computed(self.catalog, field).is_some());
            self.sql.ident(&scope.alias).push(".*").push(if needs.fields.is_empty() { "" } else { ", " });
        } else if needs.fields.is_empty() {
            self.sql.push("1");
        }
        for (at, name) in needs.fields.iter().enumerate() {
            self.sql.push(if at == 0 { "" } else { ", " });
            self.field(scope, &Field { name: (*name).to_owned(), path: Vec::new() });
            if scope.computed(self.catalog, name).is_some() {
                self.sql.push(" AS ").ident(name);
            }
        }
    }
}
