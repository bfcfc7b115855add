//! The first page: where the API is, how to come in, and what there is; and the index for the search.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::code::{self, encode, quoted, shell};
use super::frame::{Content, address};
use super::sights::Shown;
use crate::api::schema::RelationKind;
use crate::http::escape;

/// What a relation is called.
pub(super) fn kind(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "table",
        RelationKind::View => "view",
        RelationKind::Materialized => "materialized view",
        RelationKind::Foreign => "foreign table",
    }
}

/// The overview.
pub(super) fn page(shown: &Shown) -> Content {
    let mut content = Content::titled("Data API");
    let role = escape(&shown.role);
    let protection = if shown.sight.is_narrowed() {
        " Without a token, only what is under row-level security is listed and answered."
    } else {
        ""
    };
    content.add(&format!(
        "<p class=\"role\">Made from the live schema, as the role <code>{role}</code> may use it.{protection}</p>"
    ));
    content.section("start", "Where to begin");
    content.add(
        "<p>Rows are read and written by HTTP, or with supabase-js. Each request has an API key in the header \
         <code>apikey</code>; the access token of a signed-in user comes in <code>Authorization: Bearer</code> and \
         decides whose rows are seen.</p>",
    );
    let origin = &shown.origin;
    content.add("<div class=\"both\">");
    content.add(&code::block(
        "supabase-js",
        &format!(
            "import {{ createClient }} from \"@supabase/supabase-js\"\n\nconst supabase = createClient({}, key)",
            quoted(origin)
        ),
    ));
    content.add(&code::block(
        "curl",
        &format!(
            "curl {} \\\n  -H \"apikey: $KEY\" \\\n  -H \"Authorization: Bearer $TOKEN\" \\\n  -H 'Accept: \
             application/openapi+json'",
            shell(&format!("{origin}/rest/v1/"))
        ),
    ));
    content.add("</div>");
    content.add(
        "<p>The last request answers the machine-readable description of all this, as an OpenAPI 2.0 document.</p>",
    );
    if shown.views.iter().all(|(_, view)| view.relations.is_empty() && view.functions.is_empty()) {
        content.section("nothing", "Nothing to see yet");
        content.add(&format!(
            "<p>The role <code>{role}</code> may use no table and no function of the exposed schemas ({}). Make a table, \
             enable row-level security, and grant the role what it may do; this page follows by itself.</p>",
            escape(&shown.force.config.schemas.join(", "))
        ));
        return content;
    }
    let several = shown.views.len() > 1;
    for (at, (schema, view)) in shown.views.iter().enumerate() {
        if several {
            // Anchors are ours; only the first schema of many is in the table of contents.
            let heading = escape(schema);
            let _ = writeln!(content.html, "<h2>Schema {heading}</h2>");
            content.comment(view.comment.as_deref());
        }
        if !view.relations.is_empty() {
            heading(&mut content, at == 0, several, "tables", "Tables and views");
            let rows = view.relations.iter().map(|(name, seen)| {
                let what = format!("{}: {}", kind(seen.relation.kind), super::relation::can(seen).join(", "));
                row(&address(shown, "table", schema, name), name, &what, seen.relation.comment.as_deref())
            });
            content.add(&table("Kind and rights", rows));
        }
        if !view.functions.is_empty() {
            heading(&mut content, at == 0, several, "functions", "Functions");
            let rows = view.functions.iter().map(|(name, overloads)| {
                let comment = overloads.iter().find_map(|function| function.comment.as_deref());
                let returns = overloads.first().map(|first| super::function::returns(first)).unwrap_or_default();
                row(&address(shown, "function", schema, name), name, &returns, comment)
            });
            content.add(&table("Returns", rows));
        }
    }
    content
}

fn heading(content: &mut Content, first: bool, several: bool, anchor: &'static str, text: &str) {
    if several {
        let id = if first { format!(" id=\"{anchor}\"") } else { String::new() };
        let _ = writeln!(content.html, "<h3{id}>{text}</h3>");
    } else {
        content.section(anchor, text);
    }
}

fn table(second: &str, rows: impl Iterator<Item = String>) -> String {
    format!(
        "<div class=\"table\"><table><thead><tr><th>Name</th><th>{second}</th><th>Comment</th></tr></thead>\n<tbody>\n{}\
         </tbody></table></div>",
        rows.collect::<String>()
    )
}

fn row(address: &str, name: &str, what: &str, comment: Option<&str>) -> String {
    let comment = comment.and_then(|comment| comment.lines().next()).unwrap_or_default();
    format!(
        "<tr><td><a href=\"{address}\"><code>{}</code></a></td><td>{}</td><td>{}</td></tr>\n",
        escape(name),
        escape(what),
        escape(comment)
    )
}

/// What the script of the documentation searches: title, address below the mount, what is above, and sections.
pub(super) fn index(shown: &Shown) -> Value {
    let mut pages = Vec::new();
    for (schema, view) in &shown.views {
        let address = |kind: &str, name: &str| {
            let schema = if shown.is_default(schema) { String::new() } else { format!("schema={}&", encode(schema)) };
            format!("?{schema}{kind}={}", encode(name))
        };
        for (name, seen) in &view.relations {
            let mut text = seen.relation.comment.as_deref().unwrap_or_default().to_owned();
            for column in &seen.relation.columns {
                let _ = write!(text, " {} {}", column.name, column.comment.as_deref().unwrap_or_default());
            }
            pages.push(json!([&**name, address("table", name), "Tables and views", [["", "", text.trim()]]]));
        }
        for (name, overloads) in &view.functions {
            let comments: Vec<&str> = overloads.iter().filter_map(|function| function.comment.as_deref()).collect();
            let named = overloads.iter().flat_map(|function| &function.parameters).map(|parameter| &*parameter.name);
            let text = comments.into_iter().chain(named).collect::<Vec<_>>().join(" ");
            pages.push(json!([&**name, address("function", name), "Functions", [["", "", text]]]));
        }
    }
    pages.into()
}
