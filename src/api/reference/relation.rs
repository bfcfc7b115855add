//! The page of a table or view: its columns, what it is related to, and requests.

use std::fmt::Write as _;

use super::code::field;
use super::examples::Place;
use super::frame::{Content, address};
use super::overview::kind;
use super::sights::Shown;
use crate::api::openapi::{Seen, referenced};
use crate::api::schema::{Column, Join, Relation, Relationship};
use crate::http::escape;

/// What the reader can do with a relation, in words.
pub(super) fn can(seen: &Seen) -> Vec<&'static str> {
    let all = [(seen.read, "read"), (seen.add, "insert"), (seen.change, "update"), (seen.remove, "delete")];
    all.into_iter().filter(|(can, _)| *can).map(|(_, word)| word).collect()
}

/// The page.
pub(super) fn page(shown: &Shown, seen: &Seen) -> Content {
    let relation = &*seen.relation;
    let schema = &*relation.name.schema;
    let mut content = Content::titled(&*relation.name.name);
    content.comment(relation.comment.as_deref());
    let mut facts = vec![kind(relation.kind)];
    facts.extend(can(seen));
    facts.push(if relation.protected { "row-level security" } else { "no row-level security" });
    content.add(&format!("<ul class=\"can\"><li>{}</li></ul>", facts.join("</li><li>")));

    content.section("columns", "Columns");
    let rows: String = relation.columns.iter().map(|column| row(shown, relation, column)).collect();
    content.add(&format!(
        "<div class=\"table\"><table><thead><tr><th>Name</th><th>Type</th><th>Notes</th></tr></thead>\n<tbody>\n{rows}\
         </tbody></table></div>"
    ));
    computed(shown, relation, &mut content);
    let embed = relationships(shown, relation, &mut content);

    let place = Place { origin: &shown.origin, profile: shown.profile(schema) };
    if seen.read {
        content.section("read", "Read rows");
        content.add(&place.read(relation, embed.as_deref()));
        content.section("filter", "Filter");
        content.add(&place.filter(relation));
    }
    if seen.add {
        content.section("insert", "Insert");
        content.add(&place.insert(relation));
    }
    if seen.change {
        content.section("update", "Update");
        content.add(&place.update(relation));
    }
    if seen.remove {
        content.section("delete", "Delete");
        content.add(&place.delete(relation));
    }
    content
}

fn row(shown: &Shown, relation: &Relation, column: &Column) -> String {
    let mut notes = String::new();
    if let Some(comment) = column.comment.as_deref() {
        let _ = write!(notes, "<p class=\"comment\">{}</p>", escape(comment));
    }
    if let Some((table, to)) = referenced(column, relation, &shown.force.catalog, &shown.sight) {
        let label = format!("{table}.{to}");
        let _ = write!(notes, "<p>Refers to <code>{}</code></p>", escape(&label));
    }
    if !column.values.is_empty() {
        let values: Vec<String> = column.values.iter().map(|value| format!("<code>{}</code>", escape(value))).collect();
        let _ = write!(notes, "<p>One of {}</p>", values.join(", "));
    }
    if column.generated {
        notes.push_str("<p>Made by the database</p>");
    } else if let Some(default) = column.default.as_deref() {
        let _ = write!(notes, "<p>Default <code>{}</code></p>", escape(default));
    } else if !column.nullable {
        notes.push_str("<p>Required</p>");
    }
    let key = if relation.primary_key.contains(&column.name) { "<span class=\"key\">primary key</span>" } else { "" };
    let null = if column.nullable { " or null" } else { "" };
    format!(
        "<tr><td><code>{}</code>{key}</td><td><code>{}</code>{null}</td><td>{notes}</td></tr>\n",
        escape(&column.name),
        escape(&column.type_name)
    )
}

/// Functions that are read like columns.
fn computed(shown: &Shown, relation: &Relation, content: &mut Content) {
    let catalog = &shown.force.catalog;
    let Some(fields) = catalog.computed.get(&relation.name).filter(|fields| !fields.is_empty()) else { return };
    let names: Vec<String> = fields.keys().map(|name| format!("<code>{}</code>", escape(name))).collect();
    content.section("computed", "Computed fields");
    content.add(&format!("<p>Read like columns, when asked for by name: {}.</p>", names.join(", ")));
}

/// What is related to the relation and seen; returns how to embed the first of them.
fn relationships(shown: &Shown, relation: &Relation, content: &mut Content) -> Option<String> {
    let catalog = &shown.force.catalog;
    let all = catalog.relationships.get(&relation.name)?;
    let seen = |relationship: &&std::sync::Arc<Relationship>| {
        let junction = match &relationship.join {
            Join::ManyToMany(junction) => shown.sight.reads(catalog, &junction.relation),
            _ => true,
        };
        junction && relationship.to.schema == relation.name.schema && shown.sight.reads(catalog, &relationship.to)
    };
    let mut rows: Vec<(String, &Relationship)> =
        all.iter().filter(seen).map(|one| (embedding(shown, one), &**one)).collect();
    if rows.is_empty() {
        return None;
    }
    rows.sort_by(|(a, one), (b, other)| (!one.to_one(), a.len(), a).cmp(&(!other.to_one(), b.len(), b)));
    content.section("related", "Related");
    let mut table = String::new();
    for (how, relationship) in &rows {
        let many = if relationship.to_one() { "at most one" } else { "many" };
        let _ = writeln!(
            table,
            "<tr><td><a href=\"{}\"><code>{}</code></a></td><td>{many}, {}</td><td><code>{}</code></td></tr>",
            address(shown, "table", &relationship.to.schema, &relationship.to.name),
            escape(&relationship.to.name),
            escape(&by(relationship)),
            escape(&format!("{how}(*)"))
        );
    }
    content.add(&format!(
        "<p>Rows of these come along when the last column is added to <code>select</code>.</p>\n<div class=\"table\"><table>\
         <thead><tr><th>Relation</th><th>How</th><th>To embed it</th></tr></thead>\n<tbody>\n{table}</tbody></table></div>"
    ));
    rows.into_iter().next().map(|(how, _)| how)
}

/// By what two relations are related.
fn by(relationship: &Relationship) -> String {
    let target = &relationship.to.name;
    match &relationship.join {
        Join::ManyToOne(key) | Join::OneToOne(key, _) | Join::OneToMany(key) => {
            let columns: Vec<String> = key.columns.iter().map(|(from, to)| format!("{from} = {target}.{to}")).collect();
            format!("where {}", columns.join(" and "))
        }
        Join::ManyToMany(junction) => format!("through {}", junction.relation.name),
        Join::Computed(function, _) => format!("computed by {}", function.name),
    }
}

/// How an embedding is written so that it means this relationship and no other.
fn embedding(shown: &Shown, relationship: &Relationship) -> String {
    let catalog = &shown.force.catalog;
    let target = &*relationship.to.name;
    if let Join::Computed(function, _) = &relationship.join {
        return field(&function.name);
    }
    if catalog.relationship(&relationship.from, target, None).is_ok() {
        return field(target);
    }
    let hints = match &relationship.join {
        Join::ManyToOne(key) | Join::OneToOne(key, _) | Join::OneToMany(key) => {
            let column = key.columns.first().map(|(from, _)| &**from).unwrap_or_default();
            [column, &*key.constraint]
        }
        Join::ManyToMany(junction) => [&*junction.relation.name, &*junction.far.constraint],
        Join::Computed(..) => ["", ""],
    };
    let means = |hint: &&str| {
        catalog
            .relationship(&relationship.from, target, Some(hint))
            .is_ok_and(|found| same(&found.join, &relationship.join))
    };
    match hints.into_iter().find(means) {
        Some(hint) => format!("{}!{}", field(target), field(hint)),
        None => field(target),
    }
}

fn same(one: &Join, other: &Join) -> bool {
    match (one, other) {
        (Join::ManyToOne(a), Join::ManyToOne(b))
        | (Join::OneToMany(a), Join::OneToMany(b))
        | (Join::OneToOne(a, _), Join::OneToOne(b, _)) => a.constraint == b.constraint && a.columns == b.columns,
        (Join::ManyToMany(a), Join::ManyToMany(b)) => {
            a.relation == b.relation && a.near.constraint == b.near.constraint && a.far.constraint == b.far.constraint
        }
        _ => false,
    }
}
