//! Texts of the configuration into which a task's arguments are filled: `tenant-{kwargs.tenant}`.
//!
//! Whoever fills says how a value is written where it goes, so that no value can be more than a value there. A place
//! whose value is missing is a failure of the task, and not a hole.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// What can be filled in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// The task's identifier.
    pub(super) id: &'a str,
    /// The task's name.
    pub(super) task: &'a str,
    /// Its arguments.
    pub(super) args: &'a [Value],
    /// Its named arguments.
    pub(super) kwargs: &'a Map<String, Value>,
}

/// A text with places in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Place(Place),
}

/// A value's place: `kwargs.user.email` is `kwargs`, `user`, `email`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place(Vec<String>);

/// The task has no such argument.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task has no argument {0}")]
pub(super) struct Missing(pub(super) String);

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        let steps: Vec<String> = text.split('.').map(str::to_owned).collect();
        let known = match steps[0].as_str() {
            "id" | "task" => steps.len() == 1,
            "args" | "kwargs" => true,
            _ => false,
        };
        if !known || steps.iter().any(String::is_empty) {
            return Err(format!("has {{{text}}}, which is not known"));
        }
        Ok(Self(steps))
    }

    fn value<'a>(&self, source: &Source<'a>) -> Result<Cow<'a, Value>, Missing> {
        let missing = || Missing(self.0.join("."));
        let (first, rest) = self.0.split_first().ok_or_else(missing)?;
        let step = |value: &'a Value, name: &String| match value {
            Value::Object(map) => map.get(name),
            Value::Array(list) => list.get(name.parse::<usize>().ok()?),
            _ => None,
        };
        let (begin, rest) = match (first.as_str(), rest.split_first()) {
            ("id", _) => return Ok(Cow::Owned(source.id.into())),
            ("task", _) => return Ok(Cow::Owned(source.task.into())),
            ("args", None) => return Ok(Cow::Owned(source.args.into())),
            ("args", Some((index, rest))) => (index.parse().ok().and_then(|at: usize| source.args.get(at)), rest),
            (_, None) => return Ok(Cow::Owned(Value::Object(source.kwargs.clone()))),
            (_, Some((name, rest))) => (source.kwargs.get(name), rest),
        };
        rest.iter()
            .try_fold(begin.ok_or_else(missing)?, |at, name| step(at, name).ok_or_else(missing))
            .map(Cow::Borrowed)
    }
}

impl Text {
    /// Reads a text; `{{` and `}}` are braces.
    ///
    /// # Errors
    /// What is wrong with it, after the name of its key.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, after) = (&rest[at..=at], &rest[at + 1..]);
            if let Some(after) = after.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let Some(end) = after.find('}').filter(|_| brace == "{") else {
                return Err("has a brace without its other one".into());
            };
            if !plain.is_empty() {
                pieces.push(Piece::Plain(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Place(Place::parse(&after[..end])?));
            rest = &after[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Plain(plain));
        }
        Ok(Self(pieces))
    }

    /// Whether nothing is filled in.
    pub(super) fn is_plain(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Plain(_)))
    }

    /// The text, each value as `write` writes it.
    ///
    /// # Errors
    /// A value that is missing.
    pub(super) fn fill(&self, source: &Source<'_>, write: impl Fn(&str) -> String) -> Result<String, Missing> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Plain(text) => out.push_str(text),
                Piece::Place(place) => out.push_str(&write(&text(place.value(source)?.as_ref()))),
            }
        }
        Ok(out)
    }

    /// The value: of its own type where the text is nothing but one place, else text.
    ///
    /// # Errors
    /// A value that is missing.
    pub(super) fn value(&self, source: &Source<'_>) -> Result<Value, Missing> {
        match self.0.as_slice() {
            [Piece::Place(place)] => place.value(source).map(Cow::into_owned),
            _ => self.fill(source, str::to_owned).map(Value::String),
        }
    }
}

/// A value as text: strings as they are, null as nothing, everything else as JSON.
pub(super) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Null => Cow::Borrowed(""),
        other => Cow::Owned(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with<T>(test: impl FnOnce(&Source<'_>) -> T) -> T {
        let args = [json!("first"), json!({"deep": [1, 2]})];
        let kwargs = json!({"name": "Ann", "count": 3, "none": null}).as_object().cloned().unwrap();
        test(&Source { id: "1234", task: "a.b", args: &args, kwargs: &kwargs })
    }

    #[test]
    fn values_are_found_wherever_they_are() {
        let fill = |text: &str| with(|source| Text::parse(text).unwrap().fill(source, str::to_owned));
        assert_eq!(fill("{task}/{id}/{args.0}-{args.1.deep.1}").unwrap(), "a.b/1234/first-2");
        assert_eq!(fill("{kwargs.name} {kwargs.count}{kwargs.none}").unwrap(), "Ann 3");
        assert_eq!(fill("{{{kwargs.name}}} {{}}").unwrap(), "{Ann} {}");
        assert_eq!(fill("{args.2}").unwrap_err(), Missing("args.2".into()));
        assert_eq!(fill("{kwargs.name.deeper}").unwrap_err(), Missing("kwargs.name.deeper".into()));
    }

    #[test]
    fn a_lone_place_keeps_the_type() {
        let value = |text: &str| with(|source| Text::parse(text).unwrap().value(source)).unwrap();
        assert_eq!(value("{kwargs.count}"), json!(3));
        assert_eq!(value("{args.1}"), json!({"deep": [1, 2]}));
        assert_eq!(value("{args}"), json!(["first", {"deep": [1, 2]}]));
        assert_eq!(value("{kwargs.count} times"), json!("3 times"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in ["{kwargs", "}", "{}", "{name}", "{id.x}", "{kwargs..x}", "{env.HOME}"] {
            assert!(Text::parse(text).is_err(), "{text}");
        }
        assert!(Text::parse("no {{ place }}").unwrap().is_plain());
    }
}
