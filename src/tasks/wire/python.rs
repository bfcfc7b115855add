//! Values as Python's `json.dumps` writes them: spaces after separators, nothing but ASCII.

use std::io;

use serde_json::ser::{Formatter, Serializer};

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
}
