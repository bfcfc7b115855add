//! Markdown to HTML, with what the rest of the site needs to know of a page: headings, text for search, links.

use std::collections::HashSet;

use comrak::nodes::{AstNode, NodeHtmlBlock, NodeValue};
use comrak::options::AlertStyleType;
use comrak::{Anchorizer, Arena, Options};

use super::highlight::Highlighter;
use super::links::{self, Target};
use super::tree::Tree;
use crate::http::escape;

/// A heading of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// 1 to 6.
    pub level: u8,
    /// The anchor.
    pub id: String,
    /// The text without markup.
    pub text: String,
}

/// A rendered page without its surroundings.
#[derive(Debug, Default)]
pub struct Content {
    /// The HTML.
    pub html: String,
    /// All headings in order.
    pub headings: Vec<Heading>,
    /// For search: the heading that a text stands under (none before the first), and the text.
    pub sections: Vec<(Option<Heading>, String)>,
    /// Every anchor of the page.
    pub anchors: HashSet<String>,
    /// Links to anchors of pages of the site.
    pub links: Vec<(usize, String)>,
    /// Links that lead nowhere, as written.
    pub broken: Vec<String>,
}

fn options() -> Options<'static> {
    let mut options = Options::default();
    let extension = &mut options.extension;
    extension.strikethrough = true;
    extension.table = true;
    extension.autolink = true;
    extension.tasklist = true;
    extension.footnotes = true;
    extension.description_lists = true;
    extension.alerts = true;
    extension.header_id_prefix = Some(String::new());
    // The folder is the operator's own; what a script in it could do is forbidden by the Content-Security-Policy.
    options.render.r#unsafe = true;
    options.render.tasklist_classes = true;
    options.render.alert_style = AlertStyleType::Specific;
    options
}

/// Renders the Markdown of page `at`, which has no front matter any more.
pub fn render(tree: &Tree, base: &str, at: usize, text: &str, highlighter: &Highlighter) -> Content {
    let options = options();
    let arena = Arena::new();
    let root = comrak::parse_document(&arena, text, &options);
    let mut content = Content::default();
    let mut anchorizer = Anchorizer::new();
    let mut section: (Option<Heading>, String) = (None, String::new());
    let nodes: Vec<&AstNode<'_>> = root.descendants().collect();
    for node in nodes {
        let mut heading = None;
        match &mut node.data_mut().value {
            NodeValue::Heading(found) => heading = Some(found.level),
            NodeValue::Text(text) if !in_heading(node) => section.1.push_str(text),
            NodeValue::Code(code) if !in_heading(node) => section.1.push_str(&code.literal),
            NodeValue::SoftBreak
            | NodeValue::LineBreak
            | NodeValue::Paragraph
            | NodeValue::Item(_)
            | NodeValue::TableCell
            | NodeValue::DescriptionTerm
            | NodeValue::DescriptionDetails => section.1.push(' '),
            NodeValue::Link(link) | NodeValue::Image(link) => {
                let (target, address) = links::resolve(tree, base, at, &link.url);
                match target {
                    Target::Page(page, anchor) if !anchor.is_empty() => content.links.push((page, anchor)),
                    Target::Broken => content.broken.push(link.url.clone()),
                    _ => {}
                }
                if let Some(address) = address {
                    link.url = address;
                }
            }
            _ => {}
        }
        if let Some(level) = heading {
            // The same text through the same anchorizer as the renderer's, hence the same anchors.
            let text = node.collect_text();
            let heading = Heading { level, id: anchorizer.anchorize(&text), text: text.trim().to_owned() };
            content.headings.push(heading.clone());
            content.sections.push(std::mem::replace(&mut section, (Some(heading), String::new())));
        }
        frame(&arena, node, highlighter, &mut section.1);
    }
    content.sections.push(section);
    tidy(&mut content.sections);
    // Writing to a String cannot fail.
    let _ = comrak::format_html(root, &options, &mut content.html);
    content.anchors = anchors(&content.html);
    content
}

/// Puts code and tables into boxes that scroll by themselves, and gives code its colours.
fn frame<'a>(arena: &'a Arena<'a>, node: &'a AstNode<'a>, highlighter: &Highlighter, text: &mut String) {
    let html = |literal: String| {
        let block = NodeHtmlBlock { block_type: 6, literal };
        &*arena.alloc(NodeValue::HtmlBlock(block).into())
    };
    let replaced = match &node.data().value {
        NodeValue::CodeBlock(block) => {
            text.push(' ');
            text.push_str(&block.literal);
            let language: String = block.info.split([' ', ',', '{']).next().unwrap_or_default().to_lowercase();
            let code = highlighter.html(&language, &block.literal);
            // tabindex: what scrolls must be reachable by keyboard (WCAG 2.1.1).
            Some(format!(
                "<div class=\"code\" data-language=\"{}\"><pre tabindex=\"0\"><code>{code}</code></pre></div>\n",
                escape(&language)
            ))
        }
        NodeValue::Table(_) => None,
        _ => return,
    };
    if let Some(literal) = replaced {
        node.data_mut().value = NodeValue::HtmlBlock(NodeHtmlBlock { block_type: 6, literal });
    } else {
        node.insert_before(html("<div class=\"table\" tabindex=\"0\" role=\"group\" aria-label=\"Table\">\n".into()));
        node.insert_after(html("</div>\n".into()));
    }
}

fn in_heading<'a>(node: &'a AstNode<'a>) -> bool {
    node.ancestors().skip(1).any(|above| matches!(above.data().value, NodeValue::Heading(_)))
}

/// One space between words, no empty first section, and no section for the page's own title.
fn tidy(sections: &mut Vec<(Option<Heading>, String)>) {
    for (_, text) in sections.iter_mut() {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    sections.retain(|(heading, text)| heading.is_some() || !text.is_empty());
}

/// The values of all `id="..."` in HTML, decoded as far as an anchor needs.
fn anchors(html: &str) -> HashSet<String> {
    html.split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"'))
        .map(|(id, _)| id.replace("&amp;", "&"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docs::source::Source;

    fn page(text: &str) -> Content {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("index.md"), "# T").unwrap();
        std::fs::write(dir.path().join("other.md"), "# T").unwrap();
        let source = Source::Folder(dir.path().to_path_buf());
        let entries = source.scan().unwrap();
        render(&Tree::read(&source, entries), "/docs/", 0, text, &Highlighter::new())
    }

    #[test]
    fn the_markup_of_the_guide_is_there() {
        let content = page(
            "# Top\n\n## A `b` c\n\n| a | b |\n|---|---|\n| 1 | ~~2~~ |\n\n- [x] done\n\nA note[^1]. https://example.org\n\n\
             [^1]: Foot.\n\n> [!WARNING]\n> Hot.\n\nTerm\n\n: Meaning\n\n```toml\na = 1\n```\n",
        );
        let html = &content.html;
        for part in [
            "<h2 id=\"a-b-c\">A <code>b</code> c<a href=\"#a-b-c\"",
            "<div class=\"table\" tabindex=\"0\" role=\"group\" aria-label=\"Table\">\n<table>",
            "</table>\n</div>",
            "<del>2</del>",
            "task-list-item",
            "<a href=\"https://example.org\">",
            "class=\"footnotes\"",
            "markdown-alert-warning",
            "<dt>Term</dt>",
            "data-language=\"toml\"",
        ] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
        assert_eq!(content.headings[1], Heading { level: 2, id: "a-b-c".into(), text: "A b c".into() });
    }

    #[test]
    fn anchors_found_are_anchors_written() {
        let content = page("# One\n\n## Two & *three*\n\n## Two & *three*\n\n<a id=\"own\"></a>\n");
        for heading in &content.headings {
            assert!(content.anchors.contains(&heading.id), "{heading:?} not in {:?}", content.anchors);
        }
        assert!(content.anchors.contains("own"));
        assert_eq!(content.headings[2].id, "two--three-1");
    }

    #[test]
    fn links_are_rewritten_and_broken_ones_counted() {
        let content = page("[a](other.md#x) [b](missing.md) ![c](missing.png) [d](https://example.org/x.md)");
        assert!(content.html.contains("href=\"/docs/other#x\""), "{}", content.html);
        assert_eq!(content.broken, ["missing.md", "missing.png"]);
        assert_eq!(content.links.len(), 1);
        assert_eq!(content.links[0].1, "x");
    }

    #[test]
    fn a_language_cannot_leave_its_attribute() {
        let content = page("```\"><script>alert(1)</script>\nx < y\n```\n");
        assert!(!content.html.contains("<script>"), "{}", content.html);
        assert!(content.html.contains("x &lt; y"));
    }

    #[test]
    fn text_for_search_stands_under_its_heading() {
        let content = page("Intro *text*.\n\n# Top\n\nBody `code`\n\n```\nblock\n```\n\n## Next\n\nMore\n");
        let sections: Vec<(&str, &str)> = content
            .sections
            .iter()
            .map(|(heading, text)| (heading.as_ref().map_or("", |heading| heading.text.as_str()), text.as_str()))
            .collect();
        assert_eq!(sections[0], ("", "Intro text."));
        assert_eq!(sections[1], ("Top", "Body code block"));
        assert_eq!(sections[2], ("Next", "More"));
    }
}
