//! Answers of S3 in XML as small trees. Texts are kept to the letter: an object's name may begin with a space.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

use crate::error::BoxError;

/// How deep an answer may be; S3's are four deep.
const DEEPEST: usize = 16;

/// An element without its namespace.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    text: String,
    children: Vec<Self>,
}

impl Node {
    /// Children of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of this name.
    pub(super) fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next().map(|child| child.text.as_str())
    }
}

/// Reads a document.
pub(super) fn parse(bytes: &[u8]) -> Result<Node, BoxError> {
    let mut reader = Reader::from_reader(bytes);
    reader.config_mut().expand_empty_elements = true;
    let mut open = vec![Node::default()];
    loop {
        let text = |open: &mut Vec<Node>, text: &str| {
            if let Some(node) = open.last_mut() {
                node.text.push_str(text);
            }
        };
        match reader.read_event()? {
            Event::Start(start) if open.len() <= DEEPEST => {
                let name = std::str::from_utf8(start.local_name().into_inner())?.to_owned();
                open.push(Node { name, ..Node::default() });
            }
            Event::Start(_) => return Err("the answer is too deep".into()),
            Event::End(_) => {
                if let (Some(node), Some(parent)) = (open.pop(), open.last_mut()) {
                    parent.children.push(node);
                }
            }
            Event::Text(found) => text(&mut open, &found.decode()?),
            Event::CData(found) => text(&mut open, &found.decode()?),
            Event::GeneralRef(found) => {
                if let Some(letter) = found.resolve_char_ref()? {
                    text(&mut open, letter.encode_utf8(&mut [0; 4]));
                } else {
                    let known = resolve_predefined_entity(&found.decode()?);
                    text(&mut open, known.ok_or("the answer has an unknown entity")?);
                }
            }
            Event::Eof => break,
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    let mut root = open.pop().filter(|_| open.is_empty()).ok_or("the answer ends early")?;
    root.children.pop().ok_or_else(|| "the answer is no XML".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_to_the_letter() {
        let root = parse(
            b"<?xml version=\"1.0\"?>\n<R xmlns=\"x\"><C><Key> a&amp;b &#x1;&lt;\xc3\xa4</Key></C><C><Key/></C>\n</R>\n",
        )
        .unwrap();
        assert_eq!(root.name, "R");
        let keys: Vec<_> = root.all("C").map(|node| node.text("Key").unwrap()).collect();
        assert_eq!(keys, [" a&b \u{1}<ä", ""]);
        for bad in [&b"<a><b></a>"[..], b"<a>", b"", b"text", b"<a>&nbsp;</a>", b"<a>\xff</a>"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let deep = "<a>".repeat(100) + &"</a>".repeat(100);
        assert!(parse(deep.as_bytes()).is_err());
    }
}
