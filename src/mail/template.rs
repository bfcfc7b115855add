//! Templates in the part of Go's template language that mail templates of other account servers use: variables,
//! `if`/`else`/`end` with a variable or `eq`, comments, and trimmed white space. Mails of tasks have `range`/`else`/`end`
//! besides, and variables of the task's choice.
//!
//! Everything is checked when a template is read, so that a variable that does not exist is an error at the start, and not
//! a hole in somebody's mail; a variable that a task forgets is an error of that mail.

use std::borrow::Cow;

use serde_json::{Map, Value};

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
    Each {
        list: Name,
        item: Vec<Piece>,
        /// What is there instead of an empty list.
        otherwise: Vec<Piece>,
    },
}

/// Whose variables a template has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// Those of the mails of accounts.
    Accounts,
    /// Those that a task hands over.
    Free,
}

/// What variables mean at a place in the template.
#[derive(Clone, Copy)]
struct Scope<'a> {
    values: &'a Values<'a>,
    /// The list's item that it is the turn of.
    item: Option<&'a Value>,
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
    /// A path into the user's own data, or into what the task hands over.
    Data(Vec<String>),
    /// A path into the list's item, if there is one; else as [`Name::Data`].
    Item(Vec<String>),
}

const VARIABLES: &str = "The variables are {{ .ConfirmationURL }}, {{ .Token }}, {{ .TokenHash }}, {{ .SiteURL }}, \
{{ .RedirectTo }}, {{ .Email }}, {{ .NewEmail }}, {{ .SendingTo }} and {{ .Data.NAME }}; also {{ if .NAME }}, \
{{ if eq .NAME \"text\" }}, {{ else }} and {{ end }}";

const STATEMENTS: &str = "Values are {{ .NAME }} and {{ .NAME.NAME }}; also {{ if .NAME }}, {{ if eq .NAME \"text\" }}, \
{{ range .NAME }} with {{ . }}, {{ .NAME }} of the item and {{ $.NAME }} of the whole, {{ else }} and {{ end }}";

impl Template {
    /// Reads a template; `markup` says that it is HTML, so that values are escaped. `file` names it in errors.
    ///
    /// # Errors
    /// A variable or a statement that is not known, or a statement without an end.
    pub fn read(file: &str, text: &str, markup: bool, vocabulary: Vocabulary) -> Result<Self, Error> {
        let mut reader = Reader { file, whole: text, rest: text, trim: false, markup, vocabulary };
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
        // The names were checked when it was read.
        self.write(&self.pieces, Scope { values, item: None }, &mut out, &mut None);
        out
    }

    /// The text with what a task hands over put in.
    ///
    /// # Errors
    /// The name of a value that is not there.
    pub fn render_free(&self, data: &Map<String, Value>) -> Result<String, String> {
        let (mut out, mut missing) = (String::new(), None);
        let values = Values { data, ..Values::default() };
        self.write(&self.pieces, Scope { values: &values, item: None }, &mut out, &mut missing);
        missing.map_or(Ok(out), Err)
    }

    fn write(&self, pieces: &[Piece], scope: Scope<'_>, out: &mut String, missing: &mut Option<String>) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value { name, address } => {
                    if let Some(path) = name.missing(scope) {
                        missing.get_or_insert(path);
                    }
                    let value = name.value(scope);
                    let value = if *address && !is_harmless(&value) { Cow::Borrowed("#") } else { value };
                    if self.markup { escape(&value, out) } else { out.push_str(&value) }
                }
                Piece::Choice { test, then, otherwise } => {
                    let value = test.name.value(scope);
                    let chosen = match &test.equal {
                        Some(equal) => value == *equal,
                        None => !matches!(&*value, "" | "false" | "[]" | "{}"),
                    };
                    self.write(if chosen { then } else { otherwise }, scope, out, missing);
                }
                Piece::Each { list, item, otherwise } => match list.find(scope) {
                    Some(Value::Array(items)) if !items.is_empty() => {
                        for value in items {
                            self.write(item, Scope { item: Some(value), ..scope }, out, missing);
                        }
                    }
                    _ => self.write(otherwise, scope, out, missing),
                },
            }
        }
    }
}

impl Name {
    fn parse(text: &str, vocabulary: Vocabulary) -> Option<Self> {
        if vocabulary == Vocabulary::Free {
            return match text.strip_prefix("$.") {
                Some(path) => Self::path(path).map(Self::Data),
                None if text == "." => Some(Self::Item(Vec::new())),
                None => Self::path(text.strip_prefix('.')?).map(Self::Item),
            };
        }
        Some(match text.strip_prefix('.')? {
            "ConfirmationURL" => Self::ConfirmationUrl,
            "Token" => Self::Token,
            "TokenHash" => Self::TokenHash,
            "SiteURL" => Self::SiteUrl,
            "RedirectTo" => Self::RedirectTo,
            "Email" => Self::Email,
            "NewEmail" => Self::NewEmail,
            "SendingTo" => Self::SendingTo,
            other => Self::Data(Self::path(other.strip_prefix("Data.")?)?),
        })
    }

    fn path(text: &str) -> Option<Vec<String>> {
        let path: Vec<String> = text.split('.').map(str::to_owned).collect();
        let plain =
            |part: &String| !part.is_empty() && part.chars().all(|ch| ch.is_alphanumeric() || ch == '_' || ch == '-');
        path.iter().all(plain).then_some(path)
    }

    /// The value of a path.
    fn find<'a>(&self, scope: Scope<'a>) -> Option<&'a Value> {
        let (path, begin) = match self {
            Self::Item(path) => (path, scope.item),
            Self::Data(path) => (path, None),
            _ => return None,
        };
        let Some(value) = begin else {
            let (first, rest) = path.split_first()?;
            return rest.iter().try_fold(scope.values.data.get(first)?, |value, part| value.get(part));
        };
        path.iter().try_fold(value, |value, part| value.get(part))
    }

    /// The path, if a task was to hand over what is there, and has not.
    fn missing(&self, scope: Scope<'_>) -> Option<String> {
        match self {
            Self::Item(path) | Self::Data(path) if self.find(scope).is_none() => Some(path.join(".")),
            _ => None,
        }
    }

    fn value<'a>(&self, scope: Scope<'a>) -> Cow<'a, str> {
        let values = scope.values;
        match self {
            Self::ConfirmationUrl => values.confirmation_url.into(),
            Self::Token => values.token.into(),
            Self::TokenHash => values.token_hash.into(),
            Self::SiteUrl => values.site_url.into(),
            Self::RedirectTo => values.redirect_to.into(),
            Self::Email => values.email.into(),
            Self::NewEmail => values.new_email.into(),
            Self::SendingTo => values.sending_to.into(),
            Self::Data(_) | Self::Item(_) => match self.find(scope) {
                None | Some(Value::Null) => Cow::Borrowed(""),
                Some(Value::String(text)) => Cow::Borrowed(text),
                Some(other) => Cow::Owned(other.to_string()),
            },
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
    vocabulary: Vocabulary,
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
                other if self.vocabulary == Vocabulary::Free && other.starts_with("range ") => {
                    let name = other.strip_prefix("range ").and_then(|name| Name::parse(name.trim(), self.vocabulary));
                    let list =
                        name.ok_or_else(|| self.error(&format!("{{{{ {other} }}}} is a list that is not known")))?;
                    if depth >= DEEPEST {
                        return Err(self.error("lists are nested too deeply"));
                    }
                    self.rest = &inside[length + 2..];
                    let (item, otherwise) = self.branches(depth, "{{ range }} has no {{ end }}")?;
                    pieces.push(Piece::Each { list, item, otherwise });
                    continue;
                }
                other => match (other.strip_prefix("if "), Name::parse(other, self.vocabulary)) {
                    (Some(test), _) => {
                        let test = test_of(test.trim(), self.vocabulary).ok_or_else(|| {
                            self.error(&format!("{{{{ {other} }}}} is a condition that is not known"))
                        })?;
                        if depth >= DEEPEST {
                            return Err(self.error("conditions are nested too deeply"));
                        }
                        self.rest = &inside[length + 2..];
                        let (then, otherwise) = self.branches(depth, "{{ if }} has no {{ end }}")?;
                        pieces.push(Piece::Choice { test, then, otherwise });
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

    /// What is before and after an `else`, up to the `end`.
    fn branches(&mut self, depth: usize, endless: &str) -> Result<(Vec<Piece>, Vec<Piece>), Error> {
        let (then, mut end) = self.pieces(depth + 1)?;
        let mut otherwise = Vec::new();
        if end == Stop::Else {
            (otherwise, end) = self.pieces(depth + 1)?;
        }
        if end != Stop::End {
            return Err(self.error(endless));
        }
        Ok((then, otherwise))
    }

    fn error(&self, problem: &str) -> Error {
        let at = self.whole.len() - self.rest.len();
        let skipped = self.rest.find("{{").unwrap_or(0);
        let line = self.whole[..at + skipped].matches('\n').count() + 1;
        let fix = match self.vocabulary {
            Vocabulary::Accounts => VARIABLES,
            Vocabulary::Free => STATEMENTS,
        };
        Error::Template { file: self.file.to_owned(), line, problem: problem.to_owned(), fix }
    }
}

fn test_of(text: &str, vocabulary: Vocabulary) -> Option<Test> {
    let Some(equal) = text.strip_prefix("eq ") else {
        return Some(Test { name: Name::parse(text, vocabulary)?, equal: None });
    };
    let (name, literal) = equal.trim().split_once(char::is_whitespace)?;
    let literal = literal.trim().strip_prefix('"')?.strip_suffix('"')?;
    if literal.contains(['"', '\\']) {
        return None;
    }
    Some(Test { name: Name::parse(name, vocabulary)?, equal: Some(literal.to_owned()) })
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
        Template::read("test.html", text, markup, Vocabulary::Accounts).unwrap().render(&values)
    }

    fn problem(text: &str) -> String {
        Template::read("folder/test.html", text, true, Vocabulary::Accounts).unwrap_err().to_string()
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

    fn free(text: &str) -> Result<String, String> {
        let values = json!({"name": "<Ann>", "none": null, "empty": [],
            "lines": [{"what": "Tea", "tags": ["a", "b"]}, {"what": "<Milk>", "tags": []}]});
        Template::read("free.html", text, true, Vocabulary::Free).unwrap().render_free(values.as_object().unwrap())
    }

    #[test]
    fn lists_are_gone_through_with_the_item_s_own_names() {
        let text =
            "{{ range .lines }}{{ .what }} for {{ $.name }}:{{ range .tags }} {{ . }}{{ else }} -{{ end }}. {{ end }}";
        assert_eq!(free(text).unwrap(), "Tea for &lt;Ann&gt;: a b. &lt;Milk&gt; for &lt;Ann&gt;: -. ");
        assert_eq!(free("{{ range .empty }}x{{ else }}none{{ end }}{{ if .lines }}some{{ end }}").unwrap(), "nonesome");
    }

    #[test]
    fn a_value_that_a_task_forgets_is_told() {
        assert_eq!(free("{{ .name }} {{ .date.day }}").unwrap_err(), "date.day");
        assert_eq!(free("{{ range .lines }}{{ .price }}{{ end }}").unwrap_err(), "price");
        assert_eq!(free("{{ .none }}{{ if .forgotten }}x{{ else }}y{{ end }}").unwrap(), "y");
        let problem = Template::read("a.txt", "{{ range x }}{{ end }}", false, Vocabulary::Free).unwrap_err();
        assert!(problem.to_string().contains("a.txt, line 1"), "{problem}");
        assert!(Template::read("a.txt", "{{ range .x }}", false, Vocabulary::Free).is_err());
    }
}
