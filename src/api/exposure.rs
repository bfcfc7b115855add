//! Whether somebody without a token may see what a request is about.
//!
//! A table without row-level security is one for which nobody wrote down who may see which row. It is not shown to
//! everybody because somebody forgot; `api.expose_unprotected` says that nobody did.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};

use super::Error;
use super::query::{Item, Level};
use super::schema::{Catalog, Join, Name, Relation, RelationKind};

/// Refuses a level whose relation, or one that it embeds, is not protected.
pub(super) fn check(catalog: &Catalog, from: &Name, level: &Level) -> Result<(), Error> {
    if let Some(relation) = catalog.relations.get(from) {
        check_one(relation)?;
    }
    check_embeds(catalog, from, level)
}

/// Refuses a level that embeds a relation which is not protected.
pub(super) fn check_embeds(catalog: &Catalog, from: &Name, level: &Level) -> Result<(), Error> {
    for item in &level.select {
        let Item::Embed(embed) = item else { continue };
        // What is not related is the planner's to refuse.
        let Ok(relationship) = catalog.relationship(from, &embed.target, embed.hint.as_deref()) else { continue };
        if let Join::ManyToMany(junction) = &relationship.join
            && let Some(relation) = catalog.relations.get(&junction.relation)
        {
            check_one(relation)?;
        }
        check(catalog, &relationship.to, &embed.level)?;
    }
    Ok(())
}

fn check_one(relation: &Relation) -> Result<(), Error> {
    if relation.protected {
        return Ok(());
    }
    let name = &relation.name;
    let (schema, table) = (&name.schema, &name.name);
    let (what, hint) = match relation.kind {
        RelationKind::Table => (
            "Row-level security is not enabled on the table",
            format!(
                "Enable it with ALTER TABLE \"{schema}\".\"{table}\" ENABLE ROW LEVEL SECURITY and write policies, or \
                 set api.expose_unprotected to show such tables to everybody."
            ),
        ),
        RelationKind::View => (
            "Row-level security does not reach through the view",
            format!(
                "Let it run with the caller's rights: ALTER VIEW \"{schema}\".\"{table}\" SET (security_invoker = \
                 true), or set api.expose_unprotected to show such views to everybody."
            ),
        ),
        RelationKind::Materialized | RelationKind::Foreign => (
            "There is no row-level security on the relation",
            "Show it through a function or to signed-in callers, or set api.expose_unprotected to show such relations \
             to everybody."
                .to_owned(),
        ),
    };
    let message = format!("{what} \"{schema}\".\"{table}\"");
    Err(Error::new(StatusCode::UNAUTHORIZED, "BEACON_RLS", message)
        .hint(hint)
        .details("Callers without a token only see what is protected by row-level security.")
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}
