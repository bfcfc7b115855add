//! Values as Python shows them: Celery's texts are made of `repr()`, and people and programs compare them.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// How long an argument's or a result's short form may be, in characters, as in Celery.
pub const SHORT: usize = 1024;
/// What is written at most of a text that will be cut to [`SHORT`], in bytes: bytes are no characters.
const WRITTEN: usize = 8 * SHORT;

/// A value, as in `{'a': [1, None, 'x']}`.
#[must_use]
pub fn value(value: &Value) -> String {
    let mut out = Writer::whole();
    out.value(value);
    out.text
}

/// A value's short form.
#[must_use]
pub fn short(value: &Value) -> String {
    let mut out = Writer::short();
    out.value(value);
    shorten(out.text, SHORT)
}

/// A text, as in `'x'`, or `"it's"`.
#[must_use]
pub fn text(text: &str) -> String {
    let mut out = Writer::whole();
    out.quote(text);
    out.text
}

/// The short form of positional arguments, as in `(1,)`.
#[must_use]
pub fn tuple(values: &[Value]) -> String {
    let mut out = Writer::short();
    out.text.push('(');
    out.list(values);
    out.text.push_str(if values.len() == 1 { ",)" } else { ")" });
    shorten(out.text, SHORT)
}

/// Named values, as in `{'a': 1}`.
#[must_use]
pub fn dict(values: &Map<String, Value>) -> String {
    let mut out = Writer::whole();
    out.dict(values);
    out.text
}

/// The short form of named arguments.
#[must_use]
pub fn short_dict(values: &Map<String, Value>) -> String {
    let mut out = Writer::short();
    out.dict(values);
    shorten(out.text, SHORT)
}

/// An exception with one argument, as in `ValueError('bad')`.
#[must_use]
pub fn exception(class: &str, message: &str) -> String {
    format!("{class}({})", text(message))
}

/// An exception with these arguments.
#[must_use]
pub fn call(class: &str, arguments: &[Value]) -> String {
    let mut out = Writer::whole();
    out.list(arguments);
    format!("{class}({})", out.text)
}

/// Texts as a set, as in `{'a', 'b'}`.
#[must_use]
pub fn set<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = Writer::whole();
    for one in texts {
        out.text.push_str(if out.text.is_empty() { "{" } else { ", " });
        out.quote(one);
    }
    if out.text.is_empty() { "set()".to_owned() } else { out.text + "}" }
}

/// The first characters of a text that is too long, with three dots.
#[must_use]
pub fn shorten(text: String, most: usize) -> String {
    // A text of fewer bytes has fewer characters.
    if text.len() <= most {
        return text;
    }
    match text.char_indices().nth(most) {
        None => text,
        Some(_) => text.chars().take(most.saturating_sub(3)).chain("...".chars()).collect(),
    }
}

/// Writes until `most` bytes are there: what is cut off in the end need not be written.
struct Writer {
    text: String,
    most: usize,
}

impl Writer {
    fn whole() -> Self {
        Self { text: String::new(), most: usize::MAX }
    }

    fn short() -> Self {
        Self { text: String::new(), most: WRITTEN }
    }

    fn is_full(&self) -> bool {
        self.text.len() > self.most
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.text.push_str("None"),
            Value::Bool(true) => self.text.push_str("True"),
            Value::Bool(false) => self.text.push_str("False"),
            Value::Number(number) => match number.as_f64() {
                Some(real) if number.is_f64() => self.float(real),
                _ => {
                    let _ = write!(self.text, "{number}");
                }
            },
            Value::String(text) => self.quote(text),
            Value::Array(values) => {
                self.text.push('[');
                self.list(values);
                self.text.push(']');
            }
            Value::Object(values) => self.dict(values),
        }
    }

    fn list(&mut self, values: &[Value]) {
        for (index, one) in values.iter().enumerate() {
            if self.is_full() {
                return;
            }
            if index > 0 {
                self.text.push_str(", ");
            }
            self.value(one);
        }
    }

    fn dict(&mut self, values: &Map<String, Value>) {
        self.text.push('{');
        for (index, (name, one)) in values.iter().enumerate() {
            if self.is_full() {
                break;
            }
            if index > 0 {
                self.text.push_str(", ");
            }
            self.quote(name);
            self.text.push_str(": ");
            self.value(one);
        }
        self.text.push('}');
    }

    /// Rust writes the shortest text that reads back the same, with the exponent from the same sizes on as Python, which
    /// has a sign and two digits in it.
    fn float(&mut self, real: f64) {
        let plain = format!("{real:?}");
        let Some((digits, exponent)) = plain.split_once('e') else {
            self.text.push_str(&plain);
            return;
        };
        let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
        // Python has no ".0" before an exponent.
        let digits = digits.strip_suffix(".0").unwrap_or(digits);
        let _ = write!(self.text, "{digits}e{sign}{size:0>2}");
    }

    fn quote(&mut self, text: &str) {
        let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        self.text.push(mark);
        for ch in text.chars() {
            if self.is_full() {
                break;
            }
            match ch {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                _ if ch == mark => self.text.extend(['\\', ch]),
                ' ' => self.text.push(' '),
                _ if ch.is_control() || ch.is_whitespace() || ch == '\u{ad}' || ch == '\u{feff}' => {
                    let code = ch as u32;
                    let _ = match code {
                        0..=0xff => write!(self.text, "\\x{code:02x}"),
                        0x100..=0xffff => write!(self.text, "\\u{code:04x}"),
                        _ => write!(self.text, "\\U{code:08x}"),
                    };
                }
                _ => self.text.push(ch),
            }
        }
        self.text.push(mark);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_value_is_shown_as_python_does() {
        // Each of these was compared with CPython's repr() of json.loads() of the same text.
        for (one, shown) in [
            (json!(null), "None"),
            (json!(true), "True"),
            (json!(-3), "-3"),
            (json!(18_446_744_073_709_551_615_u64), "18446744073709551615"),
            (json!(1.0), "1.0"),
            (json!(0.1), "0.1"),
            (json!(1e16), "1e+16"),
            (json!(1.5e300), "1.5e+300"),
            (json!(123_456_789_012_345.0), "123456789012345.0"),
            (json!(0.0001), "0.0001"),
            (json!(0.000_012), "1.2e-05"),
            (json!("it's"), "\"it's\""),
            (json!("it's \"so\""), "'it\\'s \"so\"'"),
            (json!("a\\b\n\t\u{1}\u{a0}\u{2028}é"), "'a\\\\b\\n\\t\\x01\\xa0\\u2028é'"),
            (json!([1, [2.5, "x"], {}]), "[1, [2.5, 'x'], {}]"),
            (json!({"a": {"b": null}, "c": []}), "{'a': {'b': None}, 'c': []}"),
        ] {
            assert_eq!(value(&one), shown);
        }
        assert_eq!(tuple(&[]), "()");
        assert_eq!(tuple(&[json!(20)]), "(20,)");
        assert_eq!(tuple(&[json!(1), json!("b")]), "(1, 'b')");
        assert_eq!(exception("KeyError", "nosuch"), "KeyError('nosuch')");
        assert_eq!(call("ValueError", &[json!("x"), json!(3)]), "ValueError('x', 3)");
        assert_eq!(set([]), "set()");
        assert_eq!(set(["zz2", "zz1"]), "{'zz2', 'zz1'}");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shorten("é".repeat(6), 6), "éééééé");
        assert_eq!(shorten("é".repeat(7), 6), "ééé...");
        assert_eq!(shorten("abc".into(), 6), "abc");
    }

    #[test]
    fn long_values_are_cut_and_cost_little() {
        let long = json!(["x".repeat(10_000_000), "y"]);
        let shown = short(&long);
        assert_eq!((shown.chars().count(), shown.ends_with("...")), (SHORT, true));
        let many = vec![json!(7); 1_000_000];
        assert_eq!(tuple(&many).chars().count(), SHORT);
        let mut writer = Writer::short();
        writer.value(&json!(many));
        assert!(writer.text.len() < 2 * WRITTEN);
    }
}
