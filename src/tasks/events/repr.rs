//! Values as Python shows them: Celery's texts are made of `repr()`, and people and programs compare them.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// How long an argument's or a result's short form may be, in characters, as in Celery.
pub const SHORT: usize = 1024;

/// A value, as in `{'a': [1, None, 'x']}`.
#[must_use]
pub fn value(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// A text, as in `'x'`, or `"it's"`.
#[must_use]
pub fn text(text: &str) -> String {
    let mut out = String::new();
    quote(&mut out, text);
    out
}

/// Positional arguments, as in `(1,)`.
#[must_use]
pub fn tuple(values: &[Value]) -> String {
    let mut out = String::from("(");
    for (index, one) in values.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write(&mut out, one);
    }
    out.push_str(if values.len() == 1 { ",)" } else { ")" });
    out
}

/// Named values, as in `{'a': 1}`.
#[must_use]
pub fn dict(values: &Map<String, Value>) -> String {
    let mut out = String::new();
    write_dict(&mut out, values);
    out
}

/// An exception with one argument, as in `ValueError('bad')`.
#[must_use]
pub fn exception(class: &str, message: &str) -> String {
    let mut out = format!("{class}(");
    quote(&mut out, message);
    out.push(')');
    out
}

/// Texts as a set, as in `{'a', 'b'}`.
#[must_use]
pub fn set<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for one in texts {
        out.push_str(if out.is_empty() { "{" } else { ", " });
        quote(&mut out, one);
    }
    if out.is_empty() { "set()".to_owned() } else { out + "}" }
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

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => match number.as_f64() {
            Some(real) if number.is_f64() => float(out, real),
            _ => {
                let _ = write!(out, "{number}");
            }
        },
        Value::String(text) => quote(out, text),
        Value::Array(values) => {
            out.push('[');
            for (index, one) in values.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write(out, one);
            }
            out.push(']');
        }
        Value::Object(values) => write_dict(out, values),
    }
}

fn write_dict(out: &mut String, values: &Map<String, Value>) {
    out.push('{');
    for (index, (name, one)) in values.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        quote(out, name);
        out.push_str(": ");
        write(out, one);
    }
    out.push('}');
}

/// Rust writes the shortest text that reads back the same, with the exponent from the same sizes on as Python, which has
/// a sign and two digits in it.
fn float(out: &mut String, real: f64) {
    let plain = format!("{real:?}");
    let Some((digits, exponent)) = plain.split_once('e') else {
        out.push_str(&plain);
        return;
    };
    let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
    // Python has no ".0" before an exponent.
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    let _ = write!(out, "{digits}e{sign}{size:0>2}");
}

fn quote(out: &mut String, text: &str) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for ch in text.chars() {
        match ch {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if ch == mark => {
                out.push('\\');
                out.push(ch);
            }
            ' ' => out.push(' '),
            _ if ch.is_control() || ch.is_whitespace() || ch == '\u{ad}' || ch == '\u{feff}' => {
                let code = ch as u32;
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
            _ => out.push(ch),
        }
    }
    out.push(mark);
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
        assert_eq!(set([]), "set()");
        assert_eq!(set(["zz2", "zz1"]), "{'zz2', 'zz1'}");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shorten("é".repeat(6), 6), "éééééé");
        assert_eq!(shorten("é".repeat(7), 6), "ééé...");
        assert_eq!(shorten("abc".into(), 6), "abc");
    }
}
