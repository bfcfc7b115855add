//! The `.env` syntax of python-dotenv 1.2.4, to the letter, because the files exist already and are read by it too.
//!
//! What surprises: `${NAME}` is expanded in single quotes too, and the environment goes before earlier lines
//! (`override=False`); a `#` begins a comment only after white space; a bare `NAME` has no value at all, which is
//! not the same as an empty one. The one difference: where python-dotenv warns and skips a statement, this fails and
//! names the line.

use std::collections::BTreeMap;

/// A variable of the file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    /// `None` for a name without `=`.
    pub(super) value: Option<String>,
    /// Where its statement begins, from 1.
    pub(super) line: usize,
}

/// A statement that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where it begins, from 1.
    pub(super) line: usize,
    pub(super) problem: &'static str,
    pub(super) fix: &'static str,
}

/// Reads a file's text; `environment` is asked for the names in `${NAME}` before the file's own earlier lines. Every
/// statement that can be read is returned beside the faults of those that cannot.
pub(super) fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> (Vec<Variable>, Vec<Fault>) {
    // Python reads text files with universal newlines.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = Reader { rest: &text, line: 1 };
    let mut variables: Vec<Variable> = Vec::new();
    let mut faults = Vec::new();
    let mut before: BTreeMap<String, Option<String>> = BTreeMap::new();
    while !reader.rest.is_empty() {
        match reader.statement() {
            Ok(None) => {}
            Ok(Some(mut variable)) => {
                variable.value = variable.value.map(|value| expand(&value, environment, &before));
                before.insert(variable.name.clone(), variable.value.clone());
                variables.push(variable);
            }
            Err(fault) => {
                faults.push(fault);
                reader.skip_line();
            }
        }
    }
    (variables, faults)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    fn statement(&mut self) -> Result<Option<Variable>, Fault> {
        self.take_while(is_space);
        if self.rest.is_empty() {
            return Ok(None);
        }
        let line = self.line;
        let fault = |problem, fix| Fault { line, problem, fix };
        self.export();
        let name = match self.rest.chars().next() {
            Some('#') => None,
            Some('\'') => {
                let name = self.quoted_name().ok_or_else(|| {
                    fault(
                        "a name in single quotes is empty or never ends",
                        "Write NAME=value, without quotes around NAME.",
                    )
                })?;
                Some(name)
            }
            _ => {
                let name = self.take_while(|c| c != '=' && c != '#' && !is_space(c));
                if name.is_empty() {
                    return Err(fault("there is no name before the =", "Write NAME=value."));
                }
                Some(name)
            }
        };
        self.take_while(is_blank);
        let mut value = None;
        if self.rest.starts_with('=') {
            self.advance(1);
            let blank = !self.take_while(is_blank).is_empty();
            value = Some(if blank && self.rest.starts_with('#') { String::new() } else { self.value(line)? });
        }
        self.comment();
        self.take_while(is_blank);
        if !(self.rest.is_empty() || self.rest.starts_with('\n')) {
            return Err(fault(
                "there is more text after the end of the name or of the quoted value",
                "Write NAME=value, put quotes around the whole value, and a backslash before a quote inside it.",
            ));
        }
        self.advance(usize::from(!self.rest.is_empty()));
        Ok(name.map(|name| Variable { name: name.to_owned(), value, line }))
    }

    /// Skips `export` and the blanks after it, if there are any.
    fn export(&mut self) {
        if let Some(after) = self.rest.strip_prefix("export") {
            let name = after.trim_start_matches(is_blank);
            if name.len() < after.len() {
                self.rest = name;
            }
        }
    }

    fn quoted_name(&mut self) -> Option<&'a str> {
        let end = self.rest[1..].find('\'').filter(|end| *end > 0)?;
        let name = &self.rest[1..=end];
        self.advance(end + 2);
        Some(name)
    }

    fn value(&mut self, line: usize) -> Result<String, Fault> {
        let quote = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => quote,
            Some('\n') | None => return Ok(String::new()),
            Some(_) => return Ok(unquoted(self.take_while(|c| c != '\n'))),
        };
        let mut escaped = false;
        let end = self.rest[1..].find(|c| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some(end) = end else {
            return Err(Fault {
                line,
                problem: "a value begins with a quote that is never closed",
                fix: "Close the quote, or put a value that contains one in the other kind of quotes.",
            });
        };
        let inside = &self.rest[1..=end];
        self.advance(end + 2);
        Ok(unescape(inside, if quote == '"' { "\\'\"abfnrtv" } else { "\\'" }))
    }

    fn comment(&mut self) {
        if self.rest.trim_start_matches(is_blank).starts_with('#') {
            self.take_while(|c| c != '\n');
        }
    }

    fn skip_line(&mut self) {
        self.take_while(|c| c != '\n');
        self.advance(usize::from(!self.rest.is_empty()));
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let taken = &self.rest[..end];
        self.advance(end);
        taken
    }

    fn advance(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
    }
}

/// Python's `\s`, which has four control characters more than Unicode's White_Space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn is_blank(c: char) -> bool {
    is_space(c) && c != '\n'
}

/// Cuts an inline comment (white space, then `#`) and white space at the end.
fn unquoted(text: &str) -> String {
    let mut end = text.len();
    let mut space = true;
    // The value begins after white space was taken, but its first character cannot begin a comment.
    for (at, c) in text.char_indices() {
        if c == '#' && space && at > 0 {
            end = at;
            break;
        }
        space = is_space(c);
    }
    text[..end].trim_end_matches(is_space).to_owned()
}

/// Replaces a backslash followed by one of `known`, as Python's `unicode-escape` does; others stay.
fn unescape(text: &str, known: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let next = chars.as_str().chars().next().filter(|next| c == '\\' && known.contains(*next));
        let Some(next) = next else {
            out.push(c);
            continue;
        };
        chars.next();
        out.push(match next {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            same => same,
        });
    }
    out
}

/// Replaces `${NAME}` and `${NAME:-default}`. The default stands in for a name that is nowhere; a name without a value
/// is empty.
fn expand(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    before: &BTreeMap<String, Option<String>>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let Some((name, default, after)) = reference(&rest[start + 2..]) else {
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        };
        match environment(name).map(Some).or_else(|| before.get(name).cloned()) {
            Some(value) => out.push_str(&value.unwrap_or_default()),
            None => out.push_str(default.unwrap_or_default()),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Takes `NAME}` or `NAME:-default}` off the beginning: the name, the default, and what follows.
fn reference(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let end = text.find([':', '}'])?;
    let (name, rest) = text.split_at(end);
    if let Some(after) = rest.strip_prefix('}') {
        return Some((name, None, after));
    }
    let (default, after) = rest.strip_prefix(":-")?.split_once('}')?;
    Some((name, Some(default), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Recorded {
        version: String,
        environment: BTreeMap<String, String>,
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        values: BTreeMap<String, Option<String>>,
        faults: usize,
    }

    /// tests/fixtures/record_dotenv.py recorded what the original makes of each text.
    #[test]
    fn every_text_means_what_python_dotenv_makes_of_it() {
        let recorded = std::env::var_os("DOTENV_CASES").map_or_else(
            || include_str!("../../tests/fixtures/dotenv.json").to_owned(),
            |path| std::fs::read_to_string(path).unwrap(),
        );
        let recorded: Recorded = serde_json::from_str(&recorded).unwrap();
        assert_eq!(recorded.version, "1.2.4");
        assert!(recorded.cases.len() > 200);
        for case in &recorded.cases {
            let (variables, faults) = parse(&case.text, &|name| recorded.environment.get(name).cloned());
            let values: BTreeMap<_, _> =
                variables.into_iter().map(|variable| (variable.name, variable.value)).collect();
            assert_eq!(values, case.values, "{:?}", case.text);
            assert_eq!(faults.len(), case.faults, "{:?}: {faults:?}", case.text);
        }
    }

    #[test]
    fn a_fault_names_the_line_where_its_statement_begins_and_spoils_no_other() {
        let text = "A=1\n\n# comment\nB=\"never closed\nC=3\n  =x\nD='ok'";
        let (variables, faults) = parse(text, &|_| None);
        let names: Vec<(&str, usize)> = variables.iter().map(|one| (one.name.as_str(), one.line)).collect();
        assert_eq!(names, [("A", 1), ("C", 5), ("D", 7)]);
        let lines: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [4, 6]);
        assert!(faults[0].problem.contains("never closed"), "{:?}", faults[0]);
    }

    #[test]
    fn lines_are_counted_through_values_of_many_lines() {
        let (variables, _) = parse("A=\"1\r\n2\r\n3\"\r\nB=4", &|_| None);
        assert_eq!((variables[0].value.as_deref(), variables[1].line), (Some("1\n2\n3"), 4));
    }
}
