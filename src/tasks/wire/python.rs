//! Values as Python writes them: `json.dumps` (spaces after separators, nothing but ASCII) and `repr`, for the short forms
//! of arguments that events and Flower show.

use std::fmt::Write as _;
use std::io;

use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// The most characters of a short form.
const SHORT: usize = 1_024;

/// A value as `json.dumps` writes it.
#[must_use]
pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    let mut out = Vec::with_capacity(128);
    let written = value.serialize(&mut Serializer::with_formatter(&mut out, Python));
    if written.is_err() {
        out.truncate(0);
        out.extend_from_slice(b"null");
    }
    String::from_utf8(out).unwrap_or_default()
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\u{7f}') {
            return writer.write_all(fragment.as_bytes());
        }
        let mut units = [0; 2];
        for ch in fragment.chars() {
            if ch.is_ascii() {
                writer.write_all(&[ch as u8])?;
            } else {
                for unit in ch.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

/// A value as Python's `repr` shows it, cut off at 1,024 characters.
#[must_use]
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    show(value, &mut out, 0);
    short(out)
}

/// Positional arguments as Python shows a tuple.
pub(super) fn repr_tuple(values: &[Value]) -> String {
    let mut out = String::from("(");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        show(value, &mut out, 1);
        if out.len() > SHORT * 4 {
            break;
        }
    }
    if values.len() == 1 {
        out.push(',');
    }
    out.push(')');
    short(out)
}

fn short(mut out: String) -> String {
    if let Some((at, _)) = out.char_indices().nth(SHORT) {
        let cut = out[..at].char_indices().rev().nth(2).map_or(0, |(at, _)| at);
        out.truncate(cut);
        out.push_str("...");
    }
    out
}

fn show(value: &Value, out: &mut String, depth: usize) {
    // What is cut off in the end needs not be written.
    if out.len() > SHORT * 4 {
        return;
    }
    if depth > 20 {
        out.push_str("...");
        return;
    }
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::String(text) => quoted(text, out),
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                show(value, out, depth + 1);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                quoted(key, out);
                out.push_str(": ");
                show(value, out, depth + 1);
            }
            out.push('}');
        }
    }
}

fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for ch in text.chars() {
        match ch {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ch if ch == quote => {
                out.push('\\');
                out.push(ch);
            }
            ch if (ch as u32) < 0x20 || ch as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", ch as u32);
            }
            ch => out.push(ch),
        }
        if out.len() > SHORT * 4 {
            break;
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    #[test]
    fn json_is_written_as_python_writes_it() {
        // python3 -c 'import json; print(json.dumps({"a": [1, 2.5, None], "b": {}, "c": "é\u007f😀\n"}))'
        let written = json(&value!({"a": [1, 2.5, null], "b": {}, "c": "é\u{7f}😀\n"}));
        assert_eq!(written, "{\"a\": [1, 2.5, null], \"b\": {}, \"c\": \"\\u00e9\u{7f}\\ud83d\\ude00\\n\"}");
    }

    #[test]
    fn a_short_form_is_what_python_shows() {
        let shown = repr(&value!([1, -2.5, null, true, "it's", "a\"b'", "\n\u{1}é", {"k": [false]}]));
        assert_eq!(shown, r#"[1, -2.5, None, True, "it's", 'a"b\'', '\n\x01é', {'k': [False]}]"#);
        assert_eq!(repr_tuple(&[value!(2), value!(3)]), "(2, 3)");
        assert_eq!(repr_tuple(&[value!("a")]), "('a',)");
        assert_eq!(repr_tuple(&[]), "()");
        let long = repr(&value!("é".repeat(5_000)));
        assert_eq!((long.chars().count(), long.ends_with("...")), (1_024, true));
    }
}
