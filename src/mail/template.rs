//! Templates in the part of Go's template language that mail templates of other account servers use: variables,
//! `if`/`else`/`end` with a variable or `eq`, comments, and trimmed white space.
//!
//! Everything is checked when a template is read, so that a variable that does not exist is an error at the start, and not
//! a hole in somebody's mail.

use std::borrow::Cow;

use serde_json::Value;

use super::{Error, Values};

/// A template that has been read.
#[derive(Debug)]
pub struct Template {
    pieces: Vec<Piece>,
    markup: bool,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Value {
        name: Name,
        /// The value is a whole address in an attribute, where `javascript:` would run.
        address: bool,
    },
    Choice {
        test: Test,
        then: Vec<Piece>,
        otherwise: Vec<Piece>,
    },
}

#[derive(Debug)]
struct Test {
    name: Name,
    /// What it must be equal to; without, it must not be empty.
    equal: Option<String>,
}

/// A variable.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    ConfirmationUrl,
    Token,
    TokenHash,
    SiteUrl,
    RedirectTo,
    Email,
    NewEmail,
    SendingTo,
    /// A path into the user's own data.
    Data(Vec<String>),
}

const VARIABLES: &str = "The variables are {{ .ConfirmationURL }}, {{ .Token }}, {{ .TokenHash }}, {{ .SiteURL }}, \
{{ .RedirectTo }}, {{ .Email }}, {{ .NewEmail }}, {{ .SendingTo }} and {{ .Data.NAME }}; also {{ if .NAME }}, \
{{ if eq .NAME \"text\" }}, {{ else }} and {{ end }}";

impl Template {
    /// Reads a template; `markup` says that it is HTML, so that values are escaped. `file` names it in errors.
    ///
    /// # Errors
    /// A variable or a statement that is not known, or a statement without an end.
    pub fn read(file: &str, text: &str, markup: bool) -> Result<Self, Error> {
        let mut reader = Reader { file, whole: text, rest: text, trim: false, markup };
        let (pieces, end) = reader.pieces(0)?;
        match end {
            Stop::Text => Ok(Self { pieces, markup }),
            Stop::Else | Stop::End => Err(reader.error("{{ else }} or {{ end }} has no {{ if }} before it")),
        }
    }

    /// The text with the values put in.
    #[must_use]
    pub fn render(&self, values: &Values<'_>) -> String {
        let mut out = String::new();
        self.write(&self.pieces, values, &mut out);
        out
    }

    fn write(&self, pieces: &[Piece], values: &Values<'_>, out: &mut String) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value { name, address } => {
                    let value = name.value(values);
                    let value = if *address && !is_harmless(&value) { Cow::Borrowed("#") } else { value };
                    if self.markup { escape(&value, out) } else { out.push_str(&value) }
                }
                Piece::Choice { test, then, otherwise } => {
                    let value = test.name.value(values);
                    let chosen = match &test.equal {
                        Some(equal) => value == *equal,
                        None => !value.is_empty() && value != "false",
                    };
                    self.write(if chosen { then } else { otherwise }, values, out);
                }
            }
        }
    }
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.strip_prefix('.')? {
            "ConfirmationURL" => Self::ConfirmationUrl,
            "Token" => Self::Token,
            "TokenHash" => Self::TokenHash,
            "SiteURL" => Self::SiteUrl,
            "RedirectTo" => Self::RedirectTo,
            "Email" => Self::Email,
            "NewEmail" => Self::NewEmail,
            "SendingTo" => Self::SendingTo,
            other => {
                let path: Vec<String> = other.strip_prefix("Data.")?.split('.').map(str::to_owned).collect();
                let plain = |part: &String| {
                    !part.is_empty() && part.chars().all(|ch| ch.is_alphanumeric() || ch == '_' || ch == '-')
                };
                if !path.iter().all(plain) {
                    return None;
                }
                Self::Data(path)
            }
        })
    }

    fn value<'a>(&self, values: &Values<'a>) -> Cow<'a, str> {
        match self {
            Self::ConfirmationUrl => values.confirmation_url.into(),
            Self::Token => values.token.into(),
            Self::TokenHash => values.token_hash.into(),
            Self::SiteUrl => values.site_url.into(),
            Self::RedirectTo => values.redirect_to.into(),
            Self::Email => values.email.into(),
            Self::NewEmail => values.new_email.into(),
            Self::SendingTo => values.sending_to.into(),
            Self::Data(path) => {
                let mut at = values.data.get(&path[0]);
                for part in &path[1..] {
                    at = at.and_then(|value| value.get(part));
                }
                match at {
                    None | Some(Value::Null) => Cow::Borrowed(""),
                    Some(Value::String(text)) => Cow::Borrowed(text),
                    Some(other) => Cow::Owned(other.to_string()),
                }
            }
        }
    }
}

/// What ended a run of pieces.
#[derive(PartialEq, Eq)]
enum Stop {
    Text,
    Else,
    End,
}

struct Reader<'a> {
    file: &'a str,
    whole: &'a str,
    rest: &'a str,
    /// The statement before asked for the white space after it to be removed.
    trim: bool,
    markup: bool,
}

/// Deeper nesting is a mistake, and reading is recursive.
const DEEPEST: usize = 16;

impl Reader<'_> {
    fn pieces(&mut self, depth: usize) -> Result<(Vec<Piece>, Stop), Error> {
        let mut pieces = Vec::new();
        loop {
            let Some(at) = self.rest.find("{{") else {
                let text = if self.trim { self.rest.trim_start() } else { self.rest };
                pieces.push(Piece::Text(text.to_owned()));
                self.rest = "";
                return Ok((pieces, Stop::Text));
            };
            let before = &self.rest[..at];
            let inside = &self.rest[at + 2..];
            let Some(length) = inside.find("}}") else {
                return Err(self.error("{{ has no }} after it"));
            };
            let mut statement = &inside[..length];
            let mut text = if self.trim { before.trim_start() } else { before };
            if let Some(cut) = statement.strip_prefix('-').filter(|cut| cut.starts_with(char::is_whitespace)) {
                statement = cut;
                text = text.trim_end();
            }
            let trim = statement.strip_suffix('-').filter(|cut| cut.ends_with(char::is_whitespace));
            self.trim = trim.is_some();
            let statement = trim.unwrap_or(statement).trim();
            let address = self.markup && opens_address(text);
            pieces.push(Piece::Text(text.to_owned()));
            let piece = match statement {
                "else" => {
                    self.rest = &inside[length + 2..];
                    return Ok((pieces, Stop::Else));
                }
                "end" => {
                    self.rest = &inside[length + 2..];
                    return Ok((pieces, Stop::End));
                }
                comment if comment.starts_with("/*") && comment.ends_with("*/") => None,
                other => match (other.strip_prefix("if "), Name::parse(other)) {
                    (Some(test), _) => {
                        let test = test_of(test.trim()).ok_or_else(|| {
                            self.error(&format!("{{{{ {other} }}}} is a condition that is not known"))
                        })?;
                        if depth >= DEEPEST {
                            return Err(self.error("conditions are nested too deeply"));
                        }
                        self.rest = &inside[length + 2..];
                        pieces.push(self.choice(test, depth)?);
                        continue;
                    }
                    (None, Some(name)) => Some(Piece::Value { name, address }),
                    (None, None) => {
                        return Err(self.error(&format!("{{{{ {other} }}}} is not known")));
                    }
                },
            };
            pieces.extend(piece);
            self.rest = &inside[length + 2..];
        }
    }

    fn choice(&mut self, test: Test, depth: usize) -> Result<Piece, Error> {
        let (then, mut end) = self.pieces(depth + 1)?;
        let mut otherwise = Vec::new();
        if end == Stop::Else {
            (otherwise, end) = self.pieces(depth + 1)?;
        }
        if end != Stop::End {
            return Err(self.error("{{ if }} has no {{ end }}"));
        }
        Ok(Piece::Choice { test, then, otherwise })
    }

    fn error(&self, problem: &str) -> Error {
        let at = self.whole.len() - self.rest.len();
        let skipped = self.rest.find("{{").unwrap_or(0);
        let line = self.whole[..at + skipped].matches('\n').count() + 1;
        Error::Template { file: self.file.to_owned(), line, problem: problem.to_owned(), fix: VARIABLES }
    }
}

fn test_of(text: &str) -> Option<Test> {
    let Some(equal) = text.strip_prefix("eq ") else {
        return Some(Test { name: Name::parse(text)?, equal: None });
    };
    let (name, literal) = equal.trim().split_once(char::is_whitespace)?;
    let literal = literal.trim().strip_prefix('"')?.strip_suffix('"')?;
    if literal.contains(['"', '\\']) {
        return None;
    }
    Some(Test { name: Name::parse(name)?, equal: Some(literal.to_owned()) })
}

/// Whether the value after `text` is the start of an address in an attribute.
fn opens_address(text: &str) -> bool {
    let Some(text) = text.strip_suffix(['"', '\'']) else { return false };
    let Some(text) = text.trim_end().strip_suffix('=') else { return false };
    let text = text.trim_end().to_ascii_lowercase();
    ["href", "src", "action", "background"].iter().any(|name| text.ends_with(name))
}

/// Whether an address may stand in a link: its scheme runs nothing. Schemes of mobile applications are fine.
fn is_harmless(address: &str) -> bool {
    let compact: String = address
        .chars()
        .filter(|ch| !ch.is_whitespace() && !ch.is_control())
        .take(16)
        .collect::<String>()
        .to_ascii_lowercase();
    !["javascript:", "data:", "vbscript:"].iter().any(|scheme| compact.starts_with(scheme))
}

fn escape(text: &str, out: &mut String) {
    for ch in text.chars() {
        match ch {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn data() -> Map<String, Value> {
        json!({"name": "<b>Ann</b>", "site": "javascript:alert(1)", "deep": {"er": 7}, "plan": "pro", "off": false})
            .as_object()
            .cloned()
            .unwrap()
    }

    fn render(text: &str, markup: bool) -> String {
        let data = data();
        let values = Values {
            confirmation_url: "https://a.example/verify?token=1&type=signup",
            token: "123456",
            email: "o'brien@example.org",
            data: &data,
            ..Values::default()
        };
        Template::read("test.html", text, markup).unwrap().render(&values)
    }

    fn problem(text: &str) -> String {
        Template::read("folder/test.html", text, true).unwrap_err().to_string()
    }

    #[test]
    fn values_are_escaped_in_html_and_left_alone_in_text() {
        let text = "{{ .Data.name }} {{.Token}} {{ .Email }}";
        assert_eq!(render(text, true), "&lt;b&gt;Ann&lt;/b&gt; 123456 o&#39;brien@example.org");
        assert_eq!(render(text, false), "<b>Ann</b> 123456 o'brien@example.org");
        assert_eq!(render("{{ .Data.deep.er }}{{ .Data.none }}{{ .Data.none.at.all }}", true), "7");
    }

    #[test]
    fn an_address_from_a_user_runs_nothing() {
        assert_eq!(render("<a href=\"{{ .Data.site }}\">", true), "<a href=\"#\">");
        assert_eq!(render("<a HREF = '{{ .Data.site }}'>", true), "<a HREF = '#'>");
        assert_eq!(
            render("<a href=\"{{ .ConfirmationURL }}\">", true),
            "<a href=\"https://a.example/verify?token=1&amp;type=signup\">"
        );
    }

    #[test]
    fn conditions_comments_and_trimming_work() {
        assert_eq!(render("{{ if .Data.name }}yes{{ else }}no{{ end }}", true), "yes");
        assert_eq!(render("{{ if .Data.off }}yes{{ else }}no{{ end }}", true), "no");
        assert_eq!(render("{{ if eq .Data.plan \"pro\" }}a{{ if .NewEmail }}b{{ end }}c{{ end }}d", true), "acd");
        assert_eq!(render("a {{- /* note */ -}} b", true), "ab");
        assert_eq!(render("a {{- .Token -}} b", true), "a123456b");
    }

    #[test]
    fn what_is_not_known_is_told_with_file_line_and_what_is() {
        let message = problem("one\ntwo {{ .ConfirmationUrl }}");
        assert!(message.starts_with("folder/test.html, line 2: {{ .ConfirmationUrl }} is not known."), "{message}");
        assert!(message.contains(".TokenHash"), "{message}");
        for text in [
            "{{ range .Data }}{{ end }}",
            "{{ .Data }}",
            "{{ .Data. }}",
            "{{ if ne .Email \"a\" }}{{ end }}",
            "{{ if .Email }}",
            "{{ end }}",
            "{{ .Email",
            "{{ .Email | html }}",
            "{{}}",
        ] {
            assert!(problem(text).contains("line 1"), "{text}");
        }
    }
}
