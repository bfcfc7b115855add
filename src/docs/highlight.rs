//! Colours for code, as CSS classes.
//!
//! The grammars are large and their regular expressions are compiled at first use, so a [`Highlighter`] lives only as
//! long as pages are being rendered. Classes are few (`k` keyword, `s` string ...), one span a run of text, because
//! the nested scopes of the grammars would treble the size of a page.

use std::fmt::Write as _;
use std::sync::OnceLock;

use syntect::parsing::{ParseState, Scope, ScopeStack, ScopeStackOp, SyntaxReference, SyntaxSet};

use crate::http::escape;

/// Longer code is shown plain, in bytes; so is everything after a line this long. Bounds what a grammar that backtracks can cost.
const MAX_CODE: usize = 128 << 10;
const MAX_LINE: usize = 4 << 10;

/// The grammars.
pub struct Highlighter {
    syntaxes: OnceLock<SyntaxSet>,
    classes: Vec<(Scope, &'static str)>,
}

/// Scopes and their classes; the most particular that fits the innermost scope is used.
const CLASSES: &[(&str, &str)] = &[
    ("comment", "c"),
    ("string", "s"),
    ("constant.character.escape", "e"),
    ("constant.numeric", "n"),
    ("constant.language", "n"),
    ("constant.other", "n"),
    ("constant", "n"),
    ("keyword.operator", "o"),
    ("keyword", "k"),
    ("storage", "k"),
    ("variable.language", "k"),
    ("variable.function", "f"),
    ("variable.parameter.option", "a"),
    ("variable.other.readwrite", "v"),
    ("variable.other.member", "v"),
    ("entity.name.function", "f"),
    ("entity.name.tag", "t"),
    ("entity.name", "t"),
    ("entity.other.attribute-name", "a"),
    ("support.function", "f"),
    ("support.type", "t"),
    ("support.constant", "n"),
    ("meta.mapping.key", "a"),
    ("markup.inserted", "i"),
    ("markup.deleted", "d"),
    ("markup.heading", "k"),
    ("punctuation.definition.comment", "c"),
    ("punctuation.definition.string", "s"),
];

impl Highlighter {
    /// Cheap; grammars are loaded with the first code.
    pub fn new() -> Self {
        let classes = CLASSES.iter().filter_map(|&(scope, class)| Some((Scope::new(scope).ok()?, class))).collect();
        Self { syntaxes: OnceLock::new(), classes }
    }

    /// Code as HTML, without `<pre>` around it. An unknown language is shown plain.
    pub fn html(&self, language: &str, code: &str) -> String {
        if language.is_empty() || code.len() > MAX_CODE {
            return escape(code).into_owned();
        }
        let syntaxes = self.syntaxes.get_or_init(two_face::syntax::extra_newlines);
        match find(syntaxes, language) {
            Some(syntax) => self.spans(syntaxes, syntax, code),
            None => escape(code).into_owned(),
        }
    }

    fn spans(&self, syntaxes: &SyntaxSet, syntax: &SyntaxReference, code: &str) -> String {
        let mut out = String::with_capacity(code.len() * 2);
        let mut state = ParseState::new(syntax);
        let mut stack = ScopeStack::new();
        let mut class = "";
        let mut plain = false;
        for line in code.split_inclusive('\n') {
            plain |= line.len() > MAX_LINE;
            let ops = if plain { None } else { state.parse_line(line, syntaxes).ok() };
            let mut at = 0;
            for (index, op) in ops.unwrap_or_default() {
                self.text(&mut out, &mut class, &stack, &line[at..index]);
                at = index;
                if !matches!(op, ScopeStackOp::Noop) && stack.apply(&op).is_err() {
                    plain = true;
                }
            }
            self.text(&mut out, &mut class, &stack, &line[at..]);
        }
        if !class.is_empty() {
            out.push_str("</span>");
        }
        out
    }

    /// Writes text, going on in the open span if it has the same class. White space never needs a span of its own.
    fn text(&self, out: &mut String, class: &mut &'static str, stack: &ScopeStack, text: &str) {
        if text.is_empty() {
            return;
        }
        let wanted = if text.trim().is_empty() { *class } else { self.class(stack) };
        if wanted != *class {
            if !class.is_empty() {
                out.push_str("</span>");
            }
            if !wanted.is_empty() {
                let _ = write!(out, "<span class={wanted}>");
            }
            *class = wanted;
        }
        out.push_str(&escape(text));
    }

    fn class(&self, stack: &ScopeStack) -> &'static str {
        stack
            .as_slice()
            .iter()
            .rev()
            .find_map(|&scope| {
                let fits = self.classes.iter().filter(|(prefix, _)| prefix.is_prefix_of(scope));
                fits.max_by_key(|(prefix, _)| prefix.len()).map(|&(_, class)| class)
            })
            .unwrap_or_default()
    }
}

fn find<'a>(syntaxes: &'a SyntaxSet, language: &str) -> Option<&'a SyntaxReference> {
    let name = match language {
        "console" | "shell" | "shell-session" | "env" | "dotenv" => "bash",
        "systemd" | "service" | "socket" => "ini",
        "js" => "javascript",
        "text" | "txt" | "plain" | "output" => return None,
        other => other,
    };
    syntaxes.find_syntax_by_token(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_gets_classes_and_stays_text() {
        let highlighter = Highlighter::new();
        let toml = highlighter.html("toml", "# note\n[server]\nport = 8443\nname = \"<b>\"\n");
        assert!(toml.contains("<span class=c># note"), "{toml}");
        assert!(toml.contains("<span class=n>8443"), "{toml}");
        assert!(toml.contains("&lt;b&gt;") && !toml.contains("<b>"), "{toml}");
        assert_eq!(toml.matches("<span").count(), toml.matches("</span>").count());
    }

    #[test]
    fn languages_of_our_documentation_are_known() {
        let highlighter = Highlighter::new();
        for (language, code) in [
            ("bash", "export A=1 # x"),
            ("console", "export A=1 # x"),
            ("toml", "a = 1"),
            ("json", "{\"a\": 1}"),
            ("nginx", "server { listen 80; }"),
            ("python", "def f(): pass"),
            ("sql", "select 1 from t"),
            ("yaml", "a: 1"),
            ("ini", "[Unit]\nA=1"),
            ("rust", "fn main() {}"),
            ("html", "<p class=x>"),
            ("dockerfile", "FROM debian"),
            ("diff", "-a\n+b"),
        ] {
            assert!(highlighter.html(language, code).contains("<span"), "{language}");
        }
    }

    #[test]
    fn unknown_languages_and_huge_code_are_shown_plain() {
        let highlighter = Highlighter::new();
        assert_eq!(highlighter.html("klingon", "a < b"), "a &lt; b");
        assert_eq!(highlighter.html("", "a"), "a");
        let long = format!("x = \"{}\"\n", "y".repeat(MAX_LINE));
        assert!(!highlighter.html("toml", &long).contains("<span"));
    }
}
