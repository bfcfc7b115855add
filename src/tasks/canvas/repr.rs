//! JSON values as Python shows them: what events, logs and errors of Celery carry.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

/// The longest short form, in characters.
pub const LONGEST: usize = 1024;

/// A value's short form, cut at [`LONGEST`].
#[must_use]
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    cut(out)
}

/// Positional arguments as a tuple.
#[must_use]
pub fn args(args: &[Value]) -> String {
    let mut out = String::from("(");
    for (at, value) in args.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        write(&mut out, value);
        if out.len() > 8 * LONGEST {
            break;
        }
    }
    out.push_str(if args.len() == 1 { ",)" } else { ")" });
    cut(out)
}

/// Named arguments as a dict.
#[must_use]
pub fn kwargs(kwargs: &Map<String, Value>) -> String {
    let mut out = String::new();
    object(&mut out, kwargs);
    cut(out)
}

/// A call of an exception's class with its arguments.
#[must_use]
pub fn call(class: &str, arguments: &[Value]) -> String {
    let mut out = format!("{class}(");
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        write(&mut out, value);
    }
    out.push(')');
    out
}

/// Text in Python's quotes.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(&mut out, text);
    out
}

fn write(out: &mut String, value: &Value) {
    // What is cut off in the end need not be written; a little more than that, since bytes are no characters.
    if out.len() > 8 * LONGEST {
        return;
    }
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => out.push_str(&shown(number)),
        Value::String(text) => quote(out, text),
        Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write(out, value);
                if out.len() > 8 * LONGEST {
                    break;
                }
            }
            out.push(']');
        }
        Value::Object(map) => object(out, map),
    }
}

fn object(out: &mut String, map: &Map<String, Value>) {
    out.push('{');
    for (at, (name, value)) in map.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        quote(out, name);
        out.push_str(": ");
        write(out, value);
        if out.len() > 8 * LONGEST {
            break;
        }
    }
    out.push('}');
}

/// A number as Python's `repr` has it: the shortest digits that are read back as the same, with an exponent below
/// 1e-4 and from 1e16 on.
fn shown(number: &Number) -> String {
    let Some(value) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    if value == 0.0 {
        return if value.is_sign_negative() { "-0.0".into() } else { "0.0".into() };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        if plain.contains('.') { plain } else { plain + ".0" }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
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
            ch if ch == mark => out.extend(['\\', ch]),
            ch if ch.is_control() => {
                let _ = write!(out, "\\x{:02x}", ch as u32);
            }
            ch => out.push(ch),
        }
        if out.len() > 16 * LONGEST {
            break;
        }
    }
    out.push(mark);
}

fn cut(text: String) -> String {
    if text.char_indices().nth(LONGEST).is_none() {
        return text;
    }
    let end = text.char_indices().nth(LONGEST - 3).map_or(text.len(), |(at, _)| at);
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_look_as_in_python() {
        for (value, shown) in [
            (json!(null), "None"),
            (json!([true, false]), "[True, False]"),
            (json!({"a": {"b": [1]}, "c": "it's"}), r#"{'a': {'b': [1]}, 'c': "it's"}"#),
            (json!(1.0), "1.0"),
            (json!(-0.5), "-0.5"),
            (json!(1e16), "1e+16"),
            (json!(1.5e-7), "1.5e-07"),
            (json!(123_456_789_012_345.0), "123456789012345.0"),
            (json!(0.0001), "0.0001"),
            (json!(18_446_744_073_709_551_615_u64), "18446744073709551615"),
            (json!("a\\b\n\u{7f}é"), "'a\\\\b\\n\\x7fé'"),
        ] {
            assert_eq!(repr(&value), shown);
        }
        assert_eq!(args(&[]), "()");
        assert_eq!(args(&[json!(1)]), "(1,)");
        assert_eq!(args(&[json!(2), json!("x")]), "(2, 'x')");
        assert_eq!(call("ValueError", &[json!("x"), json!(3)]), "ValueError('x', 3)");
    }

    #[test]
    fn long_values_are_cut_and_cost_little() {
        let long = json!(["x".repeat(10_000_000), "y"]);
        let short = repr(&long);
        assert_eq!(short.chars().count(), LONGEST);
        assert!(short.ends_with("..."));
        let many = json!(vec![7; 1_000_000]);
        assert_eq!(repr(&many).chars().count(), LONGEST);
    }
}
