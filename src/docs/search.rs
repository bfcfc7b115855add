//! The search index: what the browser fetches once, at the first search.
//!
//! `[[title, address below the mount, section, [[anchor, heading, text], ...]], ...]`. Its address is always the same
//! and it is revalidated, so that pages do not change when only the text of another one does.

use serde_json::json;

use super::markdown::Content;
use super::tree::Tree;

/// How much text all pages together may give to the index, in bytes.
const MAX_TEXT: usize = 6 << 20;
/// How much of it one page may give.
const MAX_PAGE_TEXT: usize = 64 << 10;

/// The address of the index below the mount.
pub const ADDRESS: &str = "_beacon/search.json";

/// One page's part of the index.
pub fn entry(tree: &Tree, page: usize, content: &Content) -> String {
    let mut left = (MAX_TEXT / tree.pages.len().max(1)).min(MAX_PAGE_TEXT);
    let about = &tree.pages[page];
    let section: Vec<&str> = tree.ancestors(page).iter().skip(1).map(|&at| tree.pages[at].title.as_str()).collect();
    let sections: Vec<_> = content
        .sections
        .iter()
        .map(|(heading, text)| {
            let text = cut(text, left);
            left -= text.len();
            // The first heading is the page itself: no anchor, no title of its own.
            let heading = heading.as_ref().filter(|heading| heading.level > 1);
            json!([heading.map_or("", |heading| &heading.id), heading.map_or("", |heading| &heading.text), text])
        })
        .collect();
    json!([about.title, super::links::encode(&about.route), section.join(" › "), sections]).to_string()
}

/// The index of all pages.
pub fn index<'a>(entries: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::from("[");
    for entry in entries.filter(|entry| !entry.is_empty()) {
        if out.len() > 1 {
            out.push_str(",\n");
        }
        out.push_str(entry);
    }
    out.push(']');
    out
}

/// At most `limit` bytes, cut between characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!((cut("aé", 2), cut("aé", 3), cut("", 5)), ("a", "aé", ""));
    }

    #[test]
    fn parts_make_one_document() {
        let text = index(["[1]", "", "[2]"].into_iter());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json!([[1], [2]]));
        assert_eq!(index(std::iter::empty()), "[]");
    }
}
