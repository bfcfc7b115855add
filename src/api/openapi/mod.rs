//! The description of the API as an OpenAPI 2.0 document: what GET / answers, for the role that asks.
//!
//! The shape is the upstream API's, which code generators know: notes in a column's description say which keys it belongs
//! to. Unlike there, an operation is listed only where the role may do it, and a column only where the role may use it.

mod definitions;
mod node;
mod paths;
mod sight;

use super::schema::Catalog;
pub use definitions::referenced;
use node::Object;
pub use sight::{Question, Seen, Sight, View};

/// The Content-Type of the document, when it was asked for by name.
pub const CONTENT_TYPE: &str = "application/openapi+json; charset=utf-8";

/// Where the API is, as the client sees it.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// Whether the client's connection is encrypted.
    pub secure: bool,
    /// Host and port.
    pub host: &'a str,
    /// The path of the mount, as in "/rest/v1".
    pub path: &'a str,
}

/// The document of one schema, as `sight` sees it.
#[must_use]
pub fn document(catalog: &Catalog, sight: &Sight, schema: &str, address: Address<'_>) -> String {
    let view = sight.view(catalog, schema);
    let (title, description) = match view.comment.as_deref() {
        Some(comment) => comment.split_once('\n').map_or((comment, ""), |(title, rest)| (title, rest)),
        None => ("Beacon API", ""),
    };
    let description = match description.trim_start_matches('\n') {
        "" => "A dynamic API that Beacon makes from the database's schema",
        text => text,
    };
    let scheme = if address.secure { "https" } else { "http" };
    let mut definitions = Object::default();
    for (name, seen) in &view.relations {
        definitions.add(name.to_string(), definitions::relation(seen, catalog, sight));
    }
    let info = Object::default()
        .with("title", title)
        .with("description", description)
        .with("version", env!("CARGO_PKG_VERSION"));
    let documentation = Object::default()
        .with("description", "Documentation of this API")
        .with("url", format!("{scheme}://{}/docs/api", address.host));
    let document = Object::default()
        .with("swagger", "2.0")
        .with("info", info)
        .with("host", address.host)
        .with("basePath", if address.path.is_empty() { "/" } else { address.path })
        .with("schemes", [scheme].into_iter().collect::<node::Node>())
        .with("consumes", paths::media())
        .with("produces", paths::media())
        .with("paths", paths::paths(&view))
        .with("definitions", definitions)
        .with("parameters", paths::parameters(&view))
        .with("externalDocs", documentation);
    // Text, numbers and objects with text for names cannot fail.
    serde_json::to_string(&document).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests;
