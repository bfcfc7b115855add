//! SQL text in the making, and its parameters.
//!
//! What a client wrote comes into the text in two ways only: [`Sql::ident`], which quotes it as an identifier, and the
//! name of a type that [`type_name`] has taken to pieces. All else is a parameter.

use std::fmt::Write;

use bytes::Bytes;

use crate::api::schema::Name;
use crate::db::Parameter;

/// The longest identifier of PostgreSQL, in bytes; it cuts longer ones off without a word.
const LONGEST: usize = 63;

/// Text and parameters.
#[derive(Debug, Default)]
pub struct Sql {
    text: String,
    parameters: Vec<Parameter>,
    /// Keys of JSON paths and their parameter: the same key is the same parameter, so that PostgreSQL sees the same
    /// expression in the select list, GROUP BY and ORDER BY.
    keys: Vec<(String, usize)>,
}

impl Sql {
    /// Room for an ordinary statement.
    pub fn new() -> Self {
        Self { text: String::with_capacity(512), ..Self::default() }
    }

    /// Text of our own.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// A number of our own.
    pub fn number(&mut self, number: usize) -> &mut Self {
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{number}");
        self
    }

    /// A quoted identifier. A NUL, which would end the text, becomes a character that no name of the database has by
    /// chance: the client hears that its column does not exist.
    pub fn ident(&mut self, name: &str) -> &mut Self {
        self.text.push('"');
        for ch in name.chars() {
            match ch {
                '"' => self.text.push_str("\"\""),
                '\0' => self.text.push('\u{fffd}'),
                ch => self.text.push(ch),
            }
        }
        self.text.push('"');
        self
    }

    /// A name with its schema.
    pub fn name(&mut self, name: &Name) -> &mut Self {
        self.ident(&name.schema).push(".").ident(&name.name)
    }

    /// A column of an alias.
    pub fn column(&mut self, alias: &str, column: &str) -> &mut Self {
        self.ident(alias).push(".").ident(column)
    }

    /// A list, separated.
    pub fn list<T>(
        &mut self,
        separator: &str,
        members: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        for (at, member) in members.into_iter().enumerate() {
            if at > 0 {
                self.push(separator);
            }
            each(self, member);
        }
    }

    /// A value whose type PostgreSQL takes from where it stands.
    pub fn value(&mut self, value: impl Into<String>) -> &mut Self {
        let at = self.add(Parameter::Text(Some(value.into())));
        self.parameter(at)
    }

    /// A key of a JSON path.
    pub fn key(&mut self, key: &str) -> &mut Self {
        let known = self.keys.iter().find(|(known, _)| known == key).map(|(_, at)| *at);
        let at = known.unwrap_or_else(|| {
            let at = self.add(Parameter::Text(Some(key.to_owned())));
            self.keys.push((key.to_owned(), at));
            at
        });
        self.parameter(at).push("::text")
    }

    /// A body of text.
    pub fn body(&mut self, body: Bytes) -> &mut Self {
        let at = self.add(Parameter::Body(body));
        self.parameter(at)
    }

    /// A body of bytes.
    pub fn binary(&mut self, body: Bytes) -> &mut Self {
        let at = self.add(Parameter::Binary(body));
        self.parameter(at)
    }

    /// Takes a parameter in and gives its number.
    pub fn add(&mut self, parameter: Parameter) -> usize {
        self.parameters.push(parameter);
        self.parameters.len()
    }

    /// A parameter that is there already.
    pub fn parameter(&mut self, number: usize) -> &mut Self {
        self.push("$").number(number)
    }

    /// Text and parameters.
    pub fn finish(self) -> (String, Vec<Parameter>) {
        (self.text, self.parameters)
    }
}

/// An array literal of texts, each quoted.
pub fn array(values: &[String]) -> String {
    let mut literal = String::with_capacity(values.iter().map(|value| value.len() + 3).sum::<usize>() + 2);
    literal.push('{');
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            literal.push(',');
        }
        literal.push('"');
        for ch in value.chars() {
            if matches!(ch, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(ch);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

/// `base` and `suffix` as an identifier that PostgreSQL does not cut off.
pub fn alias(base: &str, suffix: &str) -> String {
    let mut end = base.len().min(LONGEST.saturating_sub(suffix.len()));
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &base[..end])
}

/// Names of types that are words of the grammar and lose their meaning in quotes, with what may follow them.
const WORDS: &[&str] = &[
    "bigint",
    "bit",
    "bit varying",
    "boolean",
    "char",
    "character",
    "character varying",
    "dec",
    "decimal",
    "double precision",
    "float",
    "int",
    "integer",
    "interval",
    "nchar",
    "numeric",
    "real",
    "smallint",
    "time",
    "time with time zone",
    "time without time zone",
    "timestamp",
    "timestamp with time zone",
    "timestamp without time zone",
    "varchar",
];

/// The name of a type that a client wrote, as SQL: one of the grammar's own, or a quoted name that may have a schema;
/// then a modifier such as (10,2) and brackets. Names fold to lower case, as unquoted ones do in SQL. `None` when it is
/// none.
pub fn type_name(given: &str) -> Option<String> {
    let mut rest = given.trim();
    let mut brackets = 0;
    while let Some(shorter) = rest.strip_suffix("[]") {
        rest = shorter.trim_end();
        brackets += 1;
    }
    let (before, modifier, after) = match rest.split_once('(') {
        Some((before, inside)) => {
            let (modifier, after) = inside.split_once(')')?;
            (before, Some(modifier), after)
        }
        None => (rest, None, ""),
    };
    let words: Vec<String> = before.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
    let tail: Vec<String> = after.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
    let whole = words.iter().chain(&tail).map(String::as_str).collect::<Vec<_>>().join(" ");
    let modifier = match modifier {
        Some(modifier) => {
            let numbers: Vec<&str> = modifier.split(',').map(str::trim).collect();
            let plain =
                |number: &&str| !number.is_empty() && number.len() < 6 && number.bytes().all(|b| b.is_ascii_digit());
            if numbers.len() > 2 || !numbers.iter().all(plain) {
                return None;
            }
            format!("({})", numbers.join(","))
        }
        None => String::new(),
    };
    let mut sql = if WORDS.contains(&whole.as_str()) {
        let tail = if tail.is_empty() { String::new() } else { format!(" {}", tail.join(" ")) };
        format!("{}{modifier}{tail}", words.join(" "))
    } else {
        let [name] = words.as_slice() else { return None };
        let parts: Vec<&str> = name.split('.').collect();
        let plain = |part: &&str| {
            part.starts_with(|first: char| first.is_alphabetic() || first == '_')
                && part.chars().all(|ch| ch.is_alphanumeric() || ch == '_')
        };
        if !tail.is_empty() || parts.len() > 2 || !parts.iter().all(plain) {
            return None;
        }
        let quoted: Vec<String> = parts.iter().map(|part| format!("\"{part}\"")).collect();
        format!("{}{modifier}", quoted.join("."))
    };
    for _ in 0..brackets {
        sql.push_str("[]");
    }
    Some(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_cannot_break_out() {
        let mut sql = Sql::new();
        sql.ident("a\"; drop table x; --\0b");
        assert_eq!(sql.finish().0, "\"a\"\"; drop table x; --\u{fffd}b\"");
    }

    #[test]
    fn array_literals_quote_every_member() {
        let values = ["a".to_owned(), "b,\"c\"".to_owned(), "\\".to_owned(), String::new(), "NULL".to_owned()];
        assert_eq!(array(&values), r#"{"a","b,\"c\"","\\","","NULL"}"#);
        assert_eq!(array(&[]), "{}");
    }

    #[test]
    fn aliases_are_never_cut_off_by_postgresql() {
        assert_eq!(alias("films", "_1"), "films_1");
        let long = alias(&"é".repeat(40), "_12");
        assert!(long.len() <= 63 && long.ends_with("_12"), "{long}");
    }

    #[test]
    fn types_are_taken_to_pieces() {
        let some = |given: &str| type_name(given).unwrap();
        assert_eq!(some("text"), "\"text\"");
        assert_eq!(some("INT"), "int");
        assert_eq!(some("numeric(10,2)"), "numeric(10,2)");
        assert_eq!(some("timestamp(3) with time zone"), "timestamp(3) with time zone");
        assert_eq!(some("double precision[]"), "double precision[]");
        assert_eq!(some("public.mood[][]"), "\"public\".\"mood\"[][]");
        for bad in
            ["", "int;drop", "a b", "select 1", "a\"b", "x(y)", "x(1,2,3)", "a.b.c", "int) as x", "int(1", "1a", "()"]
        {
            assert_eq!(type_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_key_is_one_parameter_however_often_it_is_used() {
        let mut sql = Sql::new();
        sql.key("a").push(" ").value("a").push(" ").key("a");
        let (text, parameters) = sql.finish();
        assert_eq!(text, "$1::text $2 $1::text");
        assert_eq!(parameters.len(), 2);
    }
}
