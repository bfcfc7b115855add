//! The page around the content: bar, list of everything that is seen, and the page's own sections.
//!
//! Whatever comes from the database or the request goes through `escape`.

use std::fmt::Write as _;

use super::code::encode;
use super::look;
use super::sights::Shown;
use crate::http::escape;

/// How many entries of a list are shown before and after the current one.
const WINDOW: usize = 60;

const MENU: &str = "<svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path d=\"M4 7h16M4 12h16M4 17h16\"/></svg>";
const LENS: &str = "<svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><circle cx=\"11\" cy=\"11\" r=\"6.5\"/>\
<path d=\"m16 16 4.5 4.5\"/></svg>";
const SCHEME: &str = "<svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><circle cx=\"12\" cy=\"12\" r=\"8\"/>\
<path class=\"fill\" d=\"M12 4a8 8 0 0 1 0 16z\"/></svg>";
const MARK: &str = "<svg viewBox=\"0 0 24 24\" class=\"mark\" aria-hidden=\"true\"><path class=\"beam\" \
d=\"M13.7 6.3 23 3.2v9.6l-9.3-3z\"/><path class=\"tower\" d=\"M7 5.1 10.5 2 14 5.1zM7.9 6.1h5.2v3.9H7.9zM6.7 \
11h7.6v1.5H6.7zM7.6 13.5h5.8l1.4 8.5H6.2z\"/></svg>";

/// What a page is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    /// Everything.
    Overview,
    /// A relation: its schema and name.
    Relation(&'a str, &'a str),
    /// A function: its schema and name.
    Function(&'a str, &'a str),
    /// Something that is not there, or not for this reader.
    Missing,
}

/// The content of a page.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The title.
    pub(super) title: String,
    /// HTML below the title.
    pub(super) html: String,
    /// Anchors and headings.
    pub(super) sections: Vec<(&'static str, String)>,
}

impl Content {
    /// A page with a title.
    pub(super) fn titled(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Adds HTML.
    pub(super) fn add(&mut self, html: &str) {
        self.html.push_str(html);
        self.html.push('\n');
    }

    /// Begins a section.
    pub(super) fn section(&mut self, anchor: &'static str, heading: &str) {
        let escaped = escape(heading);
        let _ = writeln!(
            self.html,
            "<h2 id=\"{anchor}\">{escaped}<a class=\"anchor\" href=\"#{anchor}\" aria-label=\"Link to this section\"></a></h2>"
        );
        self.sections.push((anchor, escaped.into_owned()));
    }

    /// Adds a comment of the database.
    pub(super) fn comment(&mut self, comment: Option<&str>) {
        if let Some(comment) = comment {
            let _ = writeln!(self.html, "<p class=\"comment\">{}</p>", escape(comment));
        }
    }
}

/// The address of a page, as HTML. The default schema is not named.
pub(super) fn address(shown: &Shown, kind: &str, schema: &str, name: &str) -> String {
    let schema = if shown.is_default(schema) { String::new() } else { format!("schema={}&amp;", encode(schema)) };
    format!("{}?{schema}{kind}={}", escape(&shown.base), encode(name))
}

/// The whole document.
pub(super) fn document(shown: &Shown, subject: Subject<'_>, content: &Content) -> String {
    let title = match subject {
        Subject::Overview => "Data API".to_owned(),
        _ => format!("{} · Data API", escape(&content.title)),
    };
    let base = escape(&shown.base);
    let contents = contents(&content.sections);
    let (inner, aside) = if contents.is_empty() {
        (String::new(), String::new())
    } else {
        (
            format!("<details class=\"contents\"><summary>On this page</summary>{contents}</details>\n"),
            format!(
                "<aside class=\"contents\"><nav aria-label=\"On this page\"><p>On this page</p>{contents}</nav></aside>\n"
            ),
        )
    };
    let front = if subject == Subject::Overview { " aria-current=\"page\"" } else { "" };
    let class = if subject == Subject::Missing { " class=\"missing\"" } else { "" };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n{head}</head>\n<body>\n\
         <a class=\"skip\" href=\"#content\">Skip to the content</a>\n<header class=\"bar\">\n\
         <button class=\"icon menu\" popovertarget=\"pages\" aria-label=\"All pages\">{MENU}</button>\n\
         <a class=\"brand\" href=\"{base}\">{MARK}<span>Data API</span></a>\n\
         <button class=\"find\" type=\"button\" hidden aria-keyshortcuts=\"/ Control+K\" data-base=\"{base}\" \
         data-index=\"{base}search.json\">{LENS}<span>Search</span><kbd>/</kbd></button>\n\
         <a class=\"to-docs\" href=\"/docs/\">Documentation</a>\n\
         <button class=\"icon scheme\" type=\"button\" hidden>{SCHEME}</button>\n</header>\n\
         <div class=\"frame\">\n<nav id=\"pages\" class=\"pages\" popover aria-label=\"All pages\">\n\
         <ul><li><a href=\"{base}\"{front}>Overview</a></li></ul>\n{list}</nav>\n\
         <main id=\"content\" tabindex=\"-1\">\n<article{class}>\n<h1>{heading}</h1>\n{inner}{html}</article>\n</main>\n\
         {aside}</div>\n</body>\n</html>\n",
        head = look::head(&shown.base),
        list = list(shown, subject),
        heading = escape(&content.title),
        html = content.html,
    )
}

fn contents(sections: &[(&'static str, String)]) -> String {
    if sections.len() < 2 {
        return String::new();
    }
    let mut out = String::from("<ul>");
    for (anchor, heading) in sections {
        let _ = write!(out, "<li class=\"level-2\"><a href=\"#{anchor}\">{heading}</a></li>");
    }
    out.push_str("</ul>");
    out
}

/// All relations and functions.
fn list(shown: &Shown, subject: Subject<'_>) -> String {
    let mut out = String::new();
    for (schema, view) in &shown.views {
        let relations: Vec<&str> = view.relations.keys().map(|name| &**name).collect();
        let functions: Vec<&str> = view.functions.keys().map(|name| &**name).collect();
        for (kind, heading, names) in [("table", "Tables and views", relations), ("function", "Functions", functions)] {
            if names.is_empty() {
                continue;
            }
            let heading = match shown.views.as_slice() {
                [_] => heading.to_owned(),
                _ => format!("{} in {}", heading, escape(schema)),
            };
            let here = match (kind, subject) {
                ("table", Subject::Relation(in_schema, name)) | ("function", Subject::Function(in_schema, name))
                    if in_schema == schema =>
                {
                    names.iter().position(|known| *known == name)
                }
                _ => None,
            };
            let from = here.unwrap_or(0).saturating_sub(WINDOW);
            let window = from..(here.unwrap_or(0) + WINDOW + 1).min(names.len());
            let _ = write!(out, "<h2>{heading}</h2>\n<ul>\n");
            for (at, name) in names.iter().enumerate().take(window.end).skip(window.start) {
                let mark = if Some(at) == here { " aria-current=\"page\"" } else { "" };
                let _ = writeln!(
                    out,
                    "<li><a href=\"{}\"{mark}>{}</a></li>",
                    address(shown, kind, schema, name),
                    escape(name)
                );
            }
            if window.len() < names.len() {
                let more = names.len() - window.len();
                let _ =
                    writeln!(out, "<li><a class=\"more\" href=\"{}\">and {more} more</a></li>", escape(&shown.base));
            }
            out.push_str("</ul>\n");
        }
    }
    out
}
