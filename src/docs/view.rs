//! The page around the content: head, navigation, table of contents, next and previous.
//!
//! Everything that is not ours goes through `escape`; addresses are percent-encoded first.

use std::fmt::Write as _;

use super::links::encode;
use super::markdown::{Content, Heading};
use super::search;
use super::theme::Theme;
use super::tree::{Page, Tree};
use crate::http::escape;

/// A site of at most this many pages shows all of them in its navigation; a larger one opens only the current branch.
const SMALL: usize = 80;
/// How many pages of one section are shown before and after the current one.
const WINDOW: usize = 60;

const MENU: &str = "<svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path d=\"M4 7h16M4 12h16M4 17h16\"/></svg>";
const LENS: &str = "<svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><circle cx=\"11\" cy=\"11\" r=\"6.5\"/>\
<path d=\"m16 16 4.5 4.5\"/></svg>";
/// A half-filled disc: light and dark.
const SCHEME: &str = "<svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><circle cx=\"12\" cy=\"12\" r=\"8\"/>\
<path class=\"fill\" d=\"M12 4a8 8 0 0 1 0 16z\"/></svg>";
/// A tower and its beam.
const MARK: &str = "<svg viewBox=\"0 0 24 24\" class=\"mark\" aria-hidden=\"true\"><path class=\"beam\" \
d=\"M13.7 6.3 23 3.2v9.6l-9.3-3z\"/><path class=\"tower\" d=\"M7 5.1 10.5 2 14 5.1zM7.9 6.1h5.2v3.9H7.9zM6.7 \
11h7.6v1.5H6.7zM7.6 13.5h5.8l1.4 8.5H6.2z\"/></svg>";

/// What all pages of a site share.
pub struct View<'a> {
    /// The pages.
    pub tree: &'a Tree,
    /// What addresses begin with.
    pub base: &'a str,
    /// The site's title.
    pub title: &'a str,
}

impl View<'_> {
    /// A page with its content.
    pub fn page(&self, at: usize, content: &Content) -> String {
        let page = &self.tree.pages[at];
        let mut article = String::with_capacity(content.html.len() + 2_048);
        self.breadcrumb(&mut article, at);
        let contents = contents(&content.headings);
        article.push_str("<article>\n");
        let own = content.headings.iter().any(|heading| heading.level == 1);
        if !own {
            let _ = writeln!(article, "<h1>{}</h1>", escape(&page.title));
        }
        // Where there is no room beside the text, the table of contents stands below the title.
        let (title, rest) = match content.html.find("</h1>") {
            Some(at) if own => content.html.split_at(at + "</h1>".len()),
            _ => ("", content.html.as_str()),
        };
        article.push_str(title);
        if !contents.is_empty() {
            let _ =
                write!(article, "\n<details class=\"contents\"><summary>On this page</summary>{contents}</details>\n");
        }
        article.push_str(rest);
        if page.file.is_empty() {
            self.listing(&mut article, page);
        }
        article.push_str("</article>\n");
        self.pager(&mut article, at);
        let aside = if contents.is_empty() {
            String::new()
        } else {
            format!(
                "<aside class=\"contents\"><nav aria-label=\"On this page\"><p>On this page</p>{contents}</nav></aside>\n"
            )
        };
        self.frame(Some(at), &page.title, &page.description, &article, &aside)
    }

    /// The page for a file that cannot be shown.
    pub fn fault(&self, at: usize, problem: &str) -> String {
        let page = &self.tree.pages[at];
        let article = format!(
            "<article>\n<h1>This page cannot be shown</h1>\n<p>The file <code>{}</code> is the reason: {}.</p>\n\
             <p>All other pages are fine. This one comes back as soon as the file is mended.</p>\n</article>\n",
            escape(&page.file),
            escape(problem)
        );
        self.frame(Some(at), &page.title, "", &article, "")
    }

    /// The page for an address with nothing at it.
    pub fn missing(&self) -> String {
        let article = format!(
            "<article class=\"missing\">\n<p class=\"status\">404</p>\n<h1>There is no page at this address</h1>\n\
             <p>It may have moved, or the link that led here may have a mistake. The search knows every page, and \
             <a href=\"{}\">the front page</a> is always there.</p>\n</article>\n",
            escape(self.base)
        );
        self.frame(None, "Not found", "", &article, "")
    }

    fn frame(&self, at: Option<usize>, title: &str, description: &str, main: &str, aside: &str) -> String {
        let mut nav = String::new();
        self.section(&mut nav, 0, at);
        let title = if at == Some(0) || title == self.title {
            escape(self.title).into_owned()
        } else {
            format!("{} · {}", escape(title), escape(self.title))
        };
        let base = escape(self.base);
        let front = if at == Some(0) { " aria-current=\"page\"" } else { "" };
        let mut head = String::new();
        if !description.is_empty() {
            let _ = writeln!(head, "<meta name=\"description\" content=\"{}\">", escape(description));
        }
        let (before, after) = at.map_or((None, None), |at| self.tree.neighbours(at));
        for (relation, page) in [("prev", before), ("next", after)] {
            if let Some(page) = page {
                let _ = writeln!(head, "<link rel=\"{relation}\" href=\"{}\">", self.address(page));
            }
        }
        document(
            &title,
            &format!("{head}{}", Theme::get().head(self.base)),
            &format!(
                "<header class=\"bar\">\n\
                 <button class=\"icon menu\" popovertarget=\"pages\" aria-label=\"All pages\">{MENU}</button>\n\
                 <a class=\"brand\" href=\"{base}\">{MARK}<span>{}</span></a>\n\
                 <button class=\"find\" type=\"button\" hidden aria-keyshortcuts=\"/ Control+K\" data-base=\"{base}\" \
                 data-index=\"{base}{}\">{LENS}<span>Search</span><kbd>/</kbd></button>\n{}</header>\n\
                 <div class=\"frame\">\n<nav id=\"pages\" class=\"pages\" popover aria-label=\"All pages\">\n\
                 <ul>\n<li><a href=\"{base}\"{front}>{}</a></li>\n{nav}</ul>\n</nav>\n\
                 <main id=\"content\" tabindex=\"-1\">\n{main}</main>\n{aside}</div>\n",
                escape(self.title),
                search::ADDRESS,
                scheme_button(),
                escape(&self.tree.pages[0].title),
            ),
        )
    }

    /// The list items of a section's pages.
    fn section(&self, out: &mut String, section: usize, current: Option<usize>) {
        let children = &self.tree.pages[section].children;
        let small = self.tree.pages.len() <= SMALL;
        let branch = current.map(|at| self.tree.ancestors(at)).unwrap_or_default();
        let here = children.iter().position(|at| Some(*at) == current || branch.contains(at)).unwrap_or(0);
        let window = here.saturating_sub(WINDOW)..(here + WINDOW + 1).min(children.len());
        for &at in &children[window.clone()] {
            let page = &self.tree.pages[at];
            let mark = if Some(at) == current { " aria-current=\"page\"" } else { "" };
            let _ = write!(out, "<li><a href=\"{}\"{mark}>{}</a>", self.address(at), escape(&page.title));
            if !page.children.is_empty() && (small || Some(at) == current || branch.contains(&at)) {
                out.push_str("\n<ul>\n");
                self.section(out, at, current);
                out.push_str("</ul>\n");
            }
            out.push_str("</li>\n");
        }
        if window.len() < children.len() {
            let more = children.len() - window.len();
            let _ = writeln!(out, "<li><a class=\"more\" href=\"{}\">and {more} more</a></li>", self.address(section));
        }
    }

    fn breadcrumb(&self, out: &mut String, at: usize) {
        let line = self.tree.ancestors(at);
        if line.len() < 2 {
            return;
        }
        out.push_str("<nav class=\"crumbs\" aria-label=\"Breadcrumb\"><ol>");
        for above in line {
            let _ = write!(
                out,
                "<li><a href=\"{}\">{}</a></li>",
                self.address(above),
                escape(&self.tree.pages[above].title)
            );
        }
        out.push_str("</ol></nav>\n");
    }

    /// The pages of a folder that has no index of its own.
    fn listing(&self, out: &mut String, page: &Page) {
        out.push_str("<ul class=\"listing\">\n");
        for &at in &page.children {
            let child = &self.tree.pages[at];
            let _ = write!(out, "<li><a href=\"{}\">{}</a>", self.address(at), escape(&child.title));
            if !child.description.is_empty() {
                let _ = write!(out, "<p>{}</p>", escape(&child.description));
            }
            out.push_str("</li>\n");
        }
        out.push_str("</ul>\n");
    }

    fn pager(&self, out: &mut String, at: usize) {
        let (before, after) = self.tree.neighbours(at);
        if before.is_none() && after.is_none() {
            return;
        }
        out.push_str("<nav class=\"pager\" aria-label=\"Previous and next page\">\n");
        for (class, label, page) in [("previous", "Previous", before), ("next", "Next", after)] {
            if let Some(page) = page {
                let title = escape(&self.tree.pages[page].title);
                let _ = writeln!(
                    out,
                    "<a class=\"{class}\" href=\"{}\"><small>{label}</small><span>{title}</span></a>",
                    self.address(page)
                );
            }
        }
        out.push_str("</nav>\n");
    }

    fn address(&self, at: usize) -> String {
        format!("{}{}", escape(self.base), encode(&self.tree.pages[at].route))
    }
}

/// A whole document in the theme. `title` and the other parts are HTML.
pub fn document(title: &str, head: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n{head}</head>\n<body>\n\
         <a class=\"skip\" href=\"#content\">Skip to the content</a>\n{body}</body>\n</html>\n"
    )
}

/// The mark of Beacon.
pub fn mark() -> &'static str {
    MARK
}

/// Changes between light and dark; shown by the script that makes it work.
pub fn scheme_button() -> String {
    format!("<button class=\"icon scheme\" type=\"button\" hidden>{SCHEME}</button>\n")
}

/// The table of contents: second and third level; nothing for a page with fewer than two entries.
fn contents(headings: &[Heading]) -> String {
    let shown: Vec<&Heading> = headings.iter().filter(|heading| (2..=3).contains(&heading.level)).collect();
    if shown.len() < 2 {
        return String::new();
    }
    let mut out = String::from("<ul>");
    for heading in shown {
        let _ = write!(
            out,
            "<li class=\"level-{}\"><a href=\"#{}\">{}</a></li>",
            heading.level,
            escape(&heading.id),
            escape(&heading.text)
        );
    }
    out.push_str("</ul>");
    out
}
