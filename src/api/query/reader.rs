//! Reads the text of one parameter, and says where and why it could not.
//!
//! The words of a failure are part of the dialect: clients and their tests compare them. They are those of a parser
//! that keeps, at the furthest place it failed, what it found there and what it would have taken. A rule that fails
//! without having consumed anything may be called by one name for all that it would have taken ([`Reader::named`]).
//!
//! A text is read silently first; only one that is wrong is read again, with notes taken.

use std::fmt::Write as _;

use super::Error;

/// Conditions and selected items nest no deeper than this.
pub(super) const MAX_DEPTH: usize = 32;

/// A rule did not match. What was wrong is in the reader's notes.
#[derive(Debug)]
pub(super) struct Fail;

/// The outcome of a rule. A failure at the place where the rule began lets an alternative try; one further on does not.
pub(super) type Read<T> = Result<T, Fail>;

/// The text and the place in it.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Why the text is refused although it is well formed.
    refused: Option<&'static str>,
    /// Only while a failure is being explained.
    notes: Option<Notes>,
}

/// What was seen at the furthest place.
#[derive(Clone, Debug, Default)]
struct Notes {
    at: usize,
    seen: Vec<Note>,
}

#[derive(Clone, Debug, PartialEq)]
enum Note {
    /// The character that stood in the way, or the end.
    Found(Option<char>),
    /// A character that may not come here.
    Unwanted(char),
    /// What would have been taken, as it is shown.
    Wanted(&'static str),
    /// A literal that would have been taken, shown in quotes.
    Literal(&'static str),
}

/// Reads all of `text` by `rule`. `title` says in a failure what the text was, and `shown` is the text as the client
/// wrote it.
pub(super) fn read_all<'a, T>(
    text: &'a str,
    title: &str,
    shown: &str,
    rule: impl Fn(&mut Reader<'a>) -> Read<T>,
) -> Result<T, Error> {
    let mut reader = Reader::new(text);
    if let Ok(value) = rule(&mut reader)
        && reader.at == text.len()
    {
        return Ok(value);
    }
    Err(explain(text, title, shown, rule))
}

/// Reads a prefix of `text`; `None` when not even its first character fits.
pub(super) fn read_some<'a, T>(
    text: &'a str,
    title: &str,
    rule: impl Fn(&mut Reader<'a>) -> Read<T>,
) -> Result<Option<T>, Error> {
    let mut reader = Reader::new(text);
    match rule(&mut reader) {
        Ok(value) if reader.at == text.len() => Ok(Some(value)),
        Err(Fail) if reader.at == 0 => Ok(None),
        _ => Err(explain(text, title, text, rule)),
    }
}

#[cold]
fn explain<'a, T>(text: &'a str, title: &str, shown: &str, rule: impl Fn(&mut Reader<'a>) -> Read<T>) -> Error {
    let mut reader = Reader::new(text);
    reader.notes = Some(Notes::default());
    if rule(&mut reader).is_ok() {
        let _ = reader.end();
    }
    let notes = reader.notes.unwrap_or_default();
    let (line, column) = position(text, notes.at);
    let message = format!("\"failed to parse {title} ({shown})\" (line {line}, column {column})");
    let details = reader.refused.map_or_else(|| notes.words(), str::to_owned);
    Error::Syntax { message, details }
}

/// Line and column of a byte, as editors count: a tab reaches to the next multiple of eight.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    before.chars().fold((1, 1), |(line, column), ch| match ch {
        '\n' => (line + 1, 1),
        '\t' => (line, column + 8 - (column - 1) % 8),
        _ => (line, column + 1),
    })
}

impl Notes {
    fn add(&mut self, at: usize, note: Note) {
        if at > self.at || self.seen.is_empty() {
            self.seen.clear();
            self.at = at;
        } else if at < self.at {
            return;
        }
        self.seen.push(note);
    }

    /// Both together: those of the further place, or all.
    fn join(self, later: Self) -> Self {
        if later.seen.is_empty() && !self.seen.is_empty() {
            return self;
        }
        if self.seen.is_empty() && !later.seen.is_empty() {
            return later;
        }
        match self.at.cmp(&later.at) {
            std::cmp::Ordering::Less => later,
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Equal => Self { at: self.at, seen: self.seen.into_iter().chain(later.seen).collect() },
        }
    }

    fn words(&self) -> String {
        let mut out = String::new();
        let mut unwanted: Vec<String> = Vec::new();
        let mut wanted: Vec<String> = Vec::new();
        let mut found = None;
        for note in &self.seen {
            let (list, text) = match note {
                Note::Found(ch) => {
                    found = found.or(Some(ch));
                    continue;
                }
                Note::Unwanted(ch) => (&mut unwanted, format!("'{ch}'")),
                Note::Wanted(text) => (&mut wanted, (*text).to_owned()),
                Note::Literal(text) => (&mut wanted, format!("{text:?}")),
            };
            if !list.contains(&text) {
                list.push(text);
            }
        }
        if !unwanted.is_empty() {
            let _ = write!(out, "unexpected {}", alternatives(&unwanted));
        } else if let Some(found) = found {
            match found {
                Some(ch) => _ = write!(out, "unexpected {:?}", ch.to_string()),
                None => out.push_str("unexpected end of input"),
            }
        }
        if !wanted.is_empty() {
            let space = if out.is_empty() { "" } else { " " };
            let _ = write!(out, "{space}expecting {}", alternatives(&wanted));
        }
        if out.is_empty() {
            out.push_str("unknown parse error");
        }
        out
    }
}

/// `a, b or c`
fn alternatives(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, refused: None, notes: None }
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next character.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn note(&mut self, note: Note) {
        let at = self.at;
        if let Some(notes) = &mut self.notes {
            notes.add(at, note);
        }
    }

    /// Notes that the text would have been right with this here.
    pub(super) fn wanted(&mut self, what: &'static str) {
        self.note(Note::Wanted(what));
    }

    /// Notes that the text would have been right with this literal here.
    pub(super) fn wanted_literal(&mut self, what: &'static str) {
        self.note(Note::Literal(what));
    }

    /// Notes what stands here instead.
    pub(super) fn found(&mut self) {
        self.note(Note::Found(self.peek()));
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        let at = self.at;
        if let Some(notes) = &mut self.notes {
            notes.seen.clear();
            notes.at = at;
        }
    }

    /// Refuses the text for a reason that is not its form.
    pub(super) fn refuse<T>(&mut self, reason: &'static str) -> Read<T> {
        self.refused = self.refused.or(Some(reason));
        Err(Fail)
    }

    /// All that is left.
    pub(super) fn take_rest(&mut self) -> &'a str {
        let rest = self.rest();
        if !rest.is_empty() {
            self.advance(rest.len());
        }
        rest
    }

    /// As many characters as pass the test; possibly none.
    pub(super) fn take_while(&mut self, test: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|ch| !test(ch)).unwrap_or(rest.len());
        if length > 0 {
            self.advance(length);
        }
        self.found();
        rest.get(..length).unwrap_or_default()
    }

    /// One character that passes the test.
    pub(super) fn one(&mut self, test: impl Fn(char) -> bool) -> Read<char> {
        match self.peek() {
            Some(ch) if test(ch) => {
                self.advance(ch.len_utf8());
                Ok(ch)
            }
            _ => {
                self.found();
                Err(Fail)
            }
        }
    }

    /// A literal. When its beginning is there, the failure names the first character that differs, and the place is that
    /// of the word's beginning; nothing is consumed.
    pub(super) fn word(&mut self, literal: &'static str) -> Read<()> {
        let mut found = self.rest().chars();
        for wanted in literal.chars() {
            let next = found.next();
            if next != Some(wanted) {
                self.note(Note::Found(next));
                self.wanted_literal(literal);
                return Err(Fail);
            }
        }
        self.advance(literal.len());
        Ok(())
    }

    /// A word in lower or upper case.
    pub(super) fn word_any_case(&mut self, literal: &'static str) -> Read<()> {
        let rest = self.rest();
        if rest.get(..literal.len()).is_some_and(|start| start.eq_ignore_ascii_case(literal)) {
            self.advance(literal.len());
            return Ok(());
        }
        self.found();
        Err(Fail)
    }

    /// The end of the text.
    pub(super) fn end(&mut self) -> Read<()> {
        match self.peek() {
            None => Ok(()),
            Some(ch) => {
                self.note(Note::Unwanted(ch));
                self.wanted("end of input");
                Err(Fail)
            }
        }
    }

    /// Fails when a character that passes the test comes next.
    pub(super) fn not_before(&mut self, test: impl Fn(char) -> bool) -> Read<()> {
        match self.peek() {
            Some(ch) if test(ch) => {
                self.note(Note::Unwanted(ch));
                Err(Fail)
            }
            _ => Ok(()),
        }
    }

    /// Whether the text goes on like this; notes that it could have.
    pub(super) fn ahead(&mut self, literal: &'static str) -> bool {
        if self.rest().starts_with(literal) {
            return true;
        }
        self.found();
        self.wanted_literal(literal);
        false
    }

    /// A rule that, when it fails, has consumed nothing.
    pub(super) fn attempt<T>(&mut self, rule: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        let (start, before) = (self.at, self.notes.clone());
        rule(self).inspect_err(|_| {
            if self.at != start {
                self.at = start;
                if let (Some(before), Some(after)) = (before, self.notes.take()) {
                    self.notes = Some(before.join(after));
                }
            }
        })
    }

    /// A rule, or another one when the first fails at its beginning.
    pub(super) fn either<T>(
        &mut self,
        first: impl FnOnce(&mut Self) -> Read<T>,
        second: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<T> {
        let start = self.at;
        match first(self) {
            Err(Fail) if self.at == start && self.refused.is_none() => second(self),
            other => other,
        }
    }

    /// A rule that may be left out.
    pub(super) fn maybe<T>(&mut self, rule: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        self.either(|reader| rule(reader).map(Some), |_| Ok(None))
    }

    /// A rule that a failure at its beginning calls by `name`, whatever it would have taken.
    pub(super) fn named<T>(&mut self, name: &'static str, rule: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        let start = self.at;
        let before = self.notes.replace(Notes { at: start, seen: Vec::new() });
        if before.is_none() {
            self.notes = None;
        }
        let outcome = rule(self);
        if let (Some(before), Some(mut after)) = (before, self.notes.take()) {
            if self.at == start {
                if outcome.is_err() || !after.seen.is_empty() {
                    after.seen.retain(|note| !matches!(note, Note::Wanted(_) | Note::Literal(_)));
                    after.seen.push(Note::Wanted(name));
                }
                self.notes = Some(before.join(after));
            } else {
                self.notes = Some(after);
            }
        }
        outcome
    }

    /// Blanks around a rule.
    pub(super) fn spaced<T>(&mut self, rule: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        self.take_while(blank);
        let value = rule(self)?;
        self.take_while(blank);
        Ok(value)
    }

    /// A rule, any number of times and at least once, with a separator that may stand in blanks.
    pub(super) fn list<T>(
        &mut self,
        mut rule: impl FnMut(&mut Self) -> Read<T>,
        mut separator: impl FnMut(&mut Self) -> Read<()>,
    ) -> Read<Vec<T>> {
        let mut all = vec![rule(self)?];
        while self.maybe(&mut separator)?.is_some() {
            all.push(rule(self)?);
        }
        Ok(all)
    }

    /// One level deeper; refused when that is too deep.
    pub(super) fn deeper<T>(&mut self, rule: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.depth == MAX_DEPTH {
            return self.refuse("it nests more than 32 levels deep");
        }
        self.depth += 1;
        let outcome = rule(self);
        self.depth -= 1;
        outcome
    }
}

fn blank(ch: char) -> bool {
    matches!(ch, ' ' | '\t')
}
