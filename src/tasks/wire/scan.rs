//! JSON as Python writes it, looked at in place: where a member's value lies in the text, without a copy of the rest.
//!
//! Not serde_json, for three reasons: NaN and Infinity and integers of any length occur in real messages and must not
//! make one fail, a value must be found with its place so that it can be replaced without writing the rest again, and a
//! body of megabytes must not be copied to read three headers. The grammar is RFC 8259's with Python's three words.

use std::borrow::Cow;

/// How deep values may be nested; Python's own limit is about a thousand.
const DEPTH: usize = 500;

/// A value's text, known to be well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Json<'a>(&'a str);

/// An object's members, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Json<'a> {
    /// A whole text; `None` if it is no JSON.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let start = space(bytes, 0);
        let end = value(bytes, start, 0)?;
        (space(bytes, end) == bytes.len()).then(|| Self(&text[start..end]))
    }

    pub(super) fn text(self) -> &'a str {
        self.0
    }

    /// Where it begins in the text that it was found in.
    pub(super) fn offset_in(self, whole: &str) -> usize {
        self.0.as_ptr() as usize - whole.as_ptr() as usize
    }

    pub(super) fn is_null(self) -> bool {
        self.0 == "null"
    }

    pub(super) fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    pub(super) fn as_bool(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A finite number.
    pub(super) fn as_f64(self) -> Option<f64> {
        if self.0.starts_with(|ch: char| ch == '-' || ch.is_ascii_digit()) {
            self.0.parse().ok().filter(|number: &f64| number.is_finite())
        } else {
            None
        }
    }

    pub(super) fn as_i64(self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// A text; half of a surrogate pair becomes U+FFFD.
    pub(super) fn as_str(self) -> Option<Cow<'a, str>> {
        let inside = self.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(if inside.contains('\\') { Cow::Owned(unescaped(inside)) } else { Cow::Borrowed(inside) })
    }

    /// A text that is not empty.
    pub(super) fn as_word(self) -> Option<String> {
        self.as_str().filter(|text| !text.is_empty()).map(Cow::into_owned)
    }

    pub(super) fn object(self) -> Option<Object<'a>> {
        let bytes = self.0.as_bytes();
        if bytes.first() != Some(&b'{') {
            return None;
        }
        let mut members = Vec::new();
        let mut at = space(bytes, 1);
        while bytes.get(at) == Some(&b'"') {
            let end = string(bytes, at)?;
            let key = Json(&self.0[at..end]).as_str()?;
            at = space(bytes, space(bytes, end) + 1);
            let end = value(bytes, at, 0)?;
            members.push((key, Json(&self.0[at..end])));
            at = space(bytes, end);
            at = space(bytes, at + 1);
        }
        Some(Object(members))
    }

    pub(super) fn array(self) -> Option<Vec<Json<'a>>> {
        let bytes = self.0.as_bytes();
        if bytes.first() != Some(&b'[') {
            return None;
        }
        let mut elements = Vec::new();
        let mut at = space(bytes, 1);
        while at < bytes.len() && bytes[at] != b']' {
            let end = value(bytes, at, 0)?;
            elements.push(Json(&self.0[at..end]));
            at = space(bytes, end);
            at = space(bytes, at + 1);
        }
        Some(elements)
    }

    /// As serde_json has it; what only Python knows becomes null (NaN) or the nearest number.
    pub(super) fn to_value(self) -> serde_json::Value {
        use serde_json::Value;
        match self.0.as_bytes().first() {
            Some(b'{') => Value::Object(
                self.object()
                    .unwrap_or_default()
                    .0
                    .into_iter()
                    .map(|(key, value)| (key.into_owned(), value.to_value()))
                    .collect(),
            ),
            Some(b'[') => self.array().unwrap_or_default().into_iter().map(Json::to_value).collect(),
            Some(b'"') => Value::String(self.as_str().unwrap_or_default().into_owned()),
            _ => serde_json::from_str(self.0).unwrap_or_else(|_| self.as_f64().map_or(Value::Null, Value::from)),
        }
    }
}

impl<'a> Object<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A member that is not null; the last one of that name, as in Python.
    pub(super) fn get(&self, name: &str) -> Option<Json<'a>> {
        self.any(name).filter(|value| !value.is_null())
    }

    /// A member, null included.
    pub(super) fn any(&self, name: &str) -> Option<Json<'a>> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }
}

fn space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// Where the value that begins at `at` ends.
fn value(bytes: &[u8], at: usize, depth: usize) -> Option<usize> {
    match *bytes.get(at)? {
        b'"' => string(bytes, at),
        open @ (b'{' | b'[') => {
            if depth == DEPTH {
                return None;
            }
            let close = if open == b'{' { b'}' } else { b']' };
            let mut at = space(bytes, at + 1);
            if bytes.get(at) == Some(&close) {
                return Some(at + 1);
            }
            loop {
                if open == b'{' {
                    if bytes.get(at) != Some(&b'"') {
                        return None;
                    }
                    at = space(bytes, string(bytes, at)?);
                    if bytes.get(at) != Some(&b':') {
                        return None;
                    }
                    at = space(bytes, at + 1);
                }
                at = space(bytes, value(bytes, at, depth + 1)?);
                match bytes.get(at) {
                    Some(b',') => at = space(bytes, at + 1),
                    Some(byte) if *byte == close => return Some(at + 1),
                    _ => return None,
                }
            }
        }
        b'-' if bytes[at..].starts_with(b"-Infinity") => Some(at + 9),
        b'-' | b'0'..=b'9' => number(bytes, at),
        _ => ["null", "true", "false", "NaN", "Infinity"]
            .iter()
            .find(|word| bytes[at..].starts_with(word.as_bytes()))
            .map(|word| at + word.len()),
    }
}

fn digits(bytes: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    (at > start).then_some(at)
}

fn number(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes[at] == b'-' {
        at += 1;
    }
    at = if bytes.get(at) == Some(&b'0') { at + 1 } else { digits(bytes, at)? };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(bytes.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        at = digits(bytes, at)?;
    }
    Some(at)
}

/// Where the string that begins at `at` ends, after its quote.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    let start = at + 1;
    let mut at = start;
    loop {
        at += memchr::memchr2(b'"', b'\\', &bytes[at..])?;
        if bytes[at] == b'"' {
            break;
        }
        match bytes.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
            b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
            _ => return None,
        }
    }
    bytes[start..at].iter().all(|byte| *byte >= 0x20).then_some(at + 1)
}

/// A string's inside without its escapes; the grammar has been looked at.
fn unescaped(inside: &str) -> String {
    let mut out = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let mut taken = 1;
        match escape.as_bytes().first() {
            Some(b'b') => out.push('\u{8}'),
            Some(b'f') => out.push('\u{c}'),
            Some(b'n') => out.push('\n'),
            Some(b'r') => out.push('\r'),
            Some(b't') => out.push('\t'),
            Some(b'u') => {
                let unit = |text: Option<&str>| text.and_then(|hex| u16::from_str_radix(hex, 16).ok());
                let first = unit(escape.get(1..5)).unwrap_or_default();
                let second = escape.get(5..7).filter(|next| *next == "\\u").and_then(|_| unit(escape.get(7..11)));
                let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
                if let Some(ch) = pair.filter(|_| (0xD800..0xDC00).contains(&first)) {
                    out.push(ch);
                    taken = 11;
                } else {
                    out.push(char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER));
                    taken = 5;
                }
            }
            Some(other) => out.push(char::from(*other)),
            None => {}
        }
        rest = &escape[taken.min(escape.len())..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_is_read_and_what_it_would_not_read_is_refused() {
        for good in [
            "null",
            " {} ",
            "[]",
            r#"{"a": NaN, "b": [Infinity, -Infinity, 1e400, 123456789012345678901234567890]}"#,
            r#"{"a":{"b":[1,2.5,-3e-2,{"c":"\u00e9\ud83d\ude00\n\"\\/"}]},"é":"é"}"#,
            "0",
            "-0.0",
        ] {
            assert!(Json::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{'a':1}",
            "01",
            "1.",
            "+1",
            "nul",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\n\"",
            "1 2",
            "-",
            "{1:2}",
            "[1 2]",
            "{\"a\" 1}",
        ] {
            assert!(Json::parse(bad).is_none(), "{bad}");
        }
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Json::parse(&deep(400)).is_some());
        assert!(Json::parse(&deep(100_000)).is_none());
    }

    #[test]
    fn a_member_is_found_with_its_place_and_the_last_of_a_name_counts() {
        let text = r#" {"a" : [1, "x", {"b": null}], "k\u0041": "\ud83d\ude00\ud83d!", "n": 1, "n": 2, "e": ""}"#;
        let object = Json::parse(text).unwrap().object().unwrap();
        let list = object.get("a").unwrap();
        assert_eq!(list.text(), r#"[1, "x", {"b": null}]"#);
        assert_eq!(list.offset_in(text), text.find('[').unwrap());
        assert_eq!(list.array().unwrap().len(), 3);
        assert_eq!(object.get("kA").unwrap().as_str().unwrap(), "\u{1F600}\u{FFFD}!");
        assert_eq!(object.get("n").unwrap().as_i64(), Some(2));
        assert_eq!(object.get("e").unwrap().as_word(), None);
        assert!(list.array().unwrap()[2].object().unwrap().any("b").unwrap().is_null());
        assert_eq!(Json::parse("NaN").unwrap().to_value(), serde_json::Value::Null);
        assert_eq!(Json::parse("1e2").unwrap().as_f64(), Some(100.0));
        assert_eq!(Json::parse(text).unwrap().to_value()["a"][2]["b"], serde_json::Value::Null);
    }
}
