//! Code in the examples: how values and names are written in it, and its colours.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::http::escape;

/// What a part of a query does not hold as it is. Commas, brackets and stars are the dialect's.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b',')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b':')
    .remove(b'!');

const WORDS: [&str; 7] = ["await", "const", "curl", "from", "import", "true", "false"];

/// A text in an address.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// A name in the dialect's lists: in quotes if it holds what the dialect gives a meaning.
pub(super) fn field(name: &str) -> String {
    let plain = |ch: char| ch.is_alphanumeric() || matches!(ch, '_' | '$');
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A text in JavaScript.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A text in a shell.
pub(super) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// An object in JavaScript, on one line.
pub(super) fn object(members: &[(&str, Value)]) -> String {
    let mut out = String::from("{");
    for (at, (name, value)) in members.iter().enumerate() {
        let plain = name.starts_with(|ch: char| ch.is_ascii_alphabetic() || ch == '_')
            && name.chars().all(|ch| ch.is_ascii_alphanumeric() || ch == '_');
        let name = if plain { (*name).to_owned() } else { quoted(name) };
        let _ = write!(out, "{} {name}: {value}", if at == 0 { "" } else { "," });
    }
    out.push_str(if members.is_empty() { "}" } else { " }" });
    out
}

/// A block of code as HTML.
pub(super) fn block(language: &str, code: &str) -> String {
    format!(
        "<div class=\"code\" data-language=\"{}\"><pre tabindex=\"0\"><code>{}\n</code></pre></div>\n",
        escape(language),
        coloured(code)
    )
}

/// Code with colours for texts, words and comments.
fn coloured(code: &str) -> String {
    let mut out = String::with_capacity(code.len() * 2);
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let (class, length) = match first {
            '"' | '\'' => ("s", text_length(rest, first)),
            '/' if rest.starts_with("//") => ("c", rest.find('\n').unwrap_or(rest.len())),
            ch if ch.is_alphanumeric() || ch == '_' => {
                let length = rest.find(|ch: char| !ch.is_alphanumeric() && ch != '_').unwrap_or(rest.len());
                let word = &rest[..length];
                let class = match word {
                    _ if rest[length..].starts_with('(') => "f",
                    word if WORDS.contains(&word) => "k",
                    word if word.starts_with(|ch: char| ch.is_ascii_digit()) => "n",
                    _ => "",
                };
                (class, length)
            }
            other => ("", other.len_utf8()),
        };
        let (token, after) = rest.split_at(length);
        if class.is_empty() {
            out.push_str(&escape(token));
        } else {
            let _ = write!(out, "<span class=\"{class}\">{}</span>", escape(token));
        }
        rest = after;
    }
    out
}

/// How long the text is that `code` begins with.
fn text_length(code: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, ch) in code.char_indices().skip(1) {
        match ch {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            ch if ch == quote => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_values_are_written_so_that_they_are_read_back() {
        assert_eq!(field("plain_ü1"), "plain_ü1");
        assert_eq!(field("a \"b\".c"), r#""a \"b\".c""#);
        assert_eq!(encode("a b&c=\"d\""), "a%20b%26c%3D%22d%22");
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(object(&[("a", json!(1)), ("b c", json!("x"))]), r#"{ a: 1, "b c": "x" }"#);
        assert_eq!(object(&[]), "{}");
    }

    #[test]
    fn code_is_escaped_and_coloured() {
        assert_eq!(
            coloured("const a = f(\"<\\\"x\", 12) // <b>"),
            "<span class=\"k\">const</span> a = <span class=\"f\">f</span>(<span class=\"s\">&quot;&lt;\\&quot;x&quot;</span>, \
             <span class=\"n\">12</span>) <span class=\"c\">// &lt;b&gt;</span>"
        );
        // A text that does not end takes the rest.
        assert_eq!(coloured("'<"), "<span class=\"s\">&#39;&lt;</span>");
    }
}
