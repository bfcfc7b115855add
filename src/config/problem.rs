//! One thing that is wrong with the configuration: where, what, and what to do. Never holds a secret's value.

use std::fmt;

use figment::error::{Actual, Kind as Cause};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file and line, the variable, or the option at fault.
    pub place: String,
    /// The key, dotted; empty if the fault is the place's as a whole.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    pub(super) fn new(
        place: impl Into<String>,
        key: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { place: place.into(), key: key.into(), problem: problem.into(), fix: fix.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        write!(out, "{}\n      {}", self.problem, self.fix)
    }
}

/// Joins the names of a key with dots; a name that TOML would quote is quoted.
pub(super) fn dotted(path: &[String]) -> String {
    let bare =
        |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let names: Vec<String> =
        path.iter().map(|name| if bare(name) { name.clone() } else { format!("{name:?}") }).collect();
    names.join(".")
}

/// What a value that does not fit is, and what would fit. A secret is told by its type alone.
pub(super) fn misfit(cause: &Cause, secret: bool) -> (String, String) {
    match cause {
        Cause::InvalidType(actual, expected) | Cause::InvalidValue(actual, expected) => {
            (found(actual, secret), format!("Give {}.", wanted(expected)))
        }
        Cause::UnknownVariant(name, variants) => {
            let shown = if secret { "the text given".into() } else { format!("the text {name:?}") };
            let names: Vec<String> = variants.iter().map(|name| format!("\"{name}\"")).collect();
            (format!("{shown} is not a choice"), format!("Give {}.", names.join(" or ")))
        }
        Cause::ISizeOutOfRange(_) | Cause::USizeOutOfRange(_) => {
            ("the number is out of range".into(), "Give a smaller number.".into())
        }
        Cause::Message(text) if !secret => {
            (format!("the value does not fit: {text}"), "See `beacon config default` for what it may be.".into())
        }
        _ => ("the value does not fit".into(), "See `beacon config default` for what it may be.".into()),
    }
}

fn found(actual: &Actual, secret: bool) -> String {
    match actual {
        Actual::Str(text) if !secret => format!("the text {text:?} does not fit"),
        Actual::Bool(value) if !secret => format!("{value} does not fit"),
        Actual::Unsigned(value) if !secret => format!("the number {value} does not fit"),
        Actual::Signed(value) if !secret => format!("the number {value} does not fit"),
        Actual::Float(value) if !secret => format!("the number {value} does not fit"),
        Actual::Str(_) | Actual::Char(_) => "a text does not fit".into(),
        Actual::Bool(_) => "true or false does not fit".into(),
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number does not fit".into(),
        Actual::Seq => "a list does not fit".into(),
        Actual::Map => "a table does not fit".into(),
        _ => "the value does not fit".into(),
    }
}

fn wanted(expected: &str) -> String {
    let range = |top: u64| format!("a whole number from 0 to {top}");
    match expected {
        "u8" => range(u8::MAX.into()),
        "u16" => range(u16::MAX.into()),
        "u32" => range(u32::MAX.into()),
        "u64" | "usize" => "a whole number, 0 or more".into(),
        "a boolean" => "true or false".into(),
        "a string" | "path string" => "a text in quotes".into(),
        "a sequence" => "a list, as in [\"one\", \"two\"]".into(),
        "a map" => "a table, as in { name = \"value\" }".into(),
        other if other.starts_with("struct ") => "a table".into(),
        other => other.into(),
    }
}
