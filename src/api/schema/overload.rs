//! Which function a call means, and what to say when it means none or several.
//!
//! PostgreSQL chooses among overloads by types; here only the names of the given arguments are known. The function is the
//! one whose required arguments are all given and that has all of the given ones; failing that, one whose single unnamed
//! argument takes the whole body.

use std::sync::Arc;

use super::catalog::{Catalog, Function, Name, Relation};
use super::fuzzy;

/// What a call brings besides arguments by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// POST with JSON, which is also what a POST without a content type has.
    Json,
    /// POST with text/plain.
    Text,
    /// POST with application/octet-stream.
    Bytes,
    /// POST with text/xml.
    Xml,
    /// POST with a form or CSV: arguments by name only.
    Form,
    /// GET or HEAD: arguments by name, from the query string.
    None,
}

impl BodyKind {
    /// Whether the whole body is one value, which no named argument can take.
    fn is_raw(self) -> bool {
        matches!(self, Self::Text | Self::Bytes | Self::Xml)
    }

    /// Whether a value of this kind fits an unnamed argument of a type.
    fn fits(self, type_name: &str) -> bool {
        matches!(
            (self, type_name),
            (Self::Json, "json" | "jsonb") | (Self::Text, "text") | (Self::Bytes, "bytea") | (Self::Xml, "xml")
        )
    }

    fn unnamed(self) -> Option<&'static str> {
        match self {
            Self::Text => Some(" with a single unnamed text parameter"),
            Self::Bytes => Some(" with a single unnamed bytea parameter"),
            Self::Xml => Some(" with a single unnamed xml parameter"),
            Self::Json | Self::Form | Self::None => None,
        }
    }
}

/// Why no function was chosen.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// None fits.
    #[error("Could not find the function {}.{}{} in the schema cache", function.schema, function.name, shown(given, *body))]
    None {
        /// What was called.
        function: Name,
        /// Names of the given arguments, sorted, each once.
        given: Vec<Box<str>>,
        /// What else was given.
        body: BodyKind,
        /// What may have been meant.
        hint: Option<Box<str>>,
    },
    /// Several fit.
    #[error("Could not choose the best candidate function between: {}", signatures(.0))]
    Ambiguous(Vec<Arc<Function>>),
}

impl CallError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::None { .. } => "PGRST202",
            Self::Ambiguous(_) => "PGRST203",
        }
    }

    /// The member `details` of the error.
    #[must_use]
    pub fn details(&self) -> Option<String> {
        let Self::None { function, given, body, .. } = self else {
            return None;
        };
        let listed = match given.len() {
            0 => " without parameters".to_owned(),
            1 => format!(" with parameter {}", given[0]),
            _ => format!(" with parameters {}", given.join(", ")),
        };
        let searched = match (body.unnamed(), body) {
            (Some(unnamed), _) => unnamed.to_owned(),
            (None, BodyKind::Json) => format!("{listed} or with a single unnamed json/jsonb parameter"),
            (None, _) => listed,
        };
        Some(format!(
            "Searched for the function {}.{}{searched}, but no matches were found in the schema cache.",
            function.schema, function.name
        ))
    }

    /// The member `hint` of the error.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::None { hint, .. } => hint.as_deref(),
            Self::Ambiguous(_) => Some(
                "Try renaming the parameters or the function itself in the database so function overloading can be \
                 resolved",
            ),
        }
    }
}

/// The arguments in the message of a function that was not found.
fn shown(given: &[Box<str>], body: BodyKind) -> String {
    if body.is_raw() {
        String::new()
    } else if given.is_empty() {
        " without parameters".to_owned()
    } else {
        format!("({})", given.join(", "))
    }
}

fn signatures(functions: &[Arc<Function>]) -> String {
    let signature = |function: &Arc<Function>| {
        let arguments: Vec<String> = function
            .parameters
            .iter()
            .map(|parameter| format!("{} => {}", parameter.name, parameter.type_name))
            .collect();
        format!("{}.{}({})", function.name.schema, function.name.name, arguments.join(", "))
    };
    functions.iter().map(signature).collect::<Vec<_>>().join(", ")
}

/// A relation that is not there.
#[derive(Debug, thiserror::Error)]
#[error("Could not find the table '{schema}.{name}' in the schema cache")]
pub struct Missing {
    /// Where it was searched.
    pub schema: Box<str>,
    /// What was asked for.
    pub name: Box<str>,
    /// The member `hint` of the error.
    pub hint: Option<Box<str>>,
}

impl Missing {
    /// The stable code.
    pub const CODE: &'static str = "PGRST205";
}

impl Catalog {
    /// The relation of a name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn relation(&self, schema: &str, name: &str) -> Result<Arc<Relation>, Missing> {
        let wanted = Name { schema: schema.into(), name: name.into() };
        self.relations.get(&wanted).cloned().ok_or_else(|| {
            let mut names: Vec<&str> =
                self.relations.keys().filter(|known| &*known.schema == schema).map(|known| &*known.name).collect();
            names.sort_unstable();
            let hint = fuzzy::best(names, name, fuzzy::SURE)
                .map(|(_, meant)| format!("Perhaps you meant the table '{schema}.{meant}'").into());
            Missing { schema: schema.into(), name: name.into(), hint }
        })
    }

    /// The function that a call of `name` with the arguments `given` and a body of some kind means.
    ///
    /// # Errors
    ///
    /// When none fits, or several do.
    pub fn function(&self, name: &Name, given: &[&str], body: BodyKind) -> Result<Arc<Function>, CallError> {
        let overloads: &[Arc<Function>] = self.functions.get(name).map_or(&[], Vec::as_slice);
        let by_name: Vec<&Arc<Function>> =
            overloads.iter().filter(|function| takes_by_name(function, given, body)).collect();
        let chosen = if by_name.is_empty() {
            overloads.iter().filter(|function| takes_whole(function, body)).collect()
        } else {
            by_name
        };
        match chosen.as_slice() {
            [function] => Ok(Arc::clone(function)),
            [] => {
                let mut given: Vec<Box<str>> = given.iter().map(|name| (*name).into()).collect();
                given.sort_unstable();
                given.dedup();
                let hint = if body.is_raw() { None } else { self.nearest_call(name, &given, overloads) };
                Err(CallError::None { function: name.clone(), given, body, hint })
            }
            several => Err(CallError::Ambiguous(several.iter().copied().map(Arc::clone).collect())),
        }
    }

    /// A hint for a call that fits nothing: another function's name, or other arguments of this one.
    fn nearest_call(&self, name: &Name, given: &[Box<str>], overloads: &[Arc<Function>]) -> Option<Box<str>> {
        let meant = if overloads.is_empty() {
            let mut names: Vec<&str> =
                self.functions.keys().filter(|known| known.schema == name.schema).map(|known| &*known.name).collect();
            names.sort_unstable();
            fuzzy::best(names, &name.name, fuzzy::LIKELY)?.1.to_owned()
        } else {
            let lists: Vec<String> = overloads
                .iter()
                .map(|function| {
                    let mut names: Vec<&str> = function.parameters.iter().map(|parameter| &*parameter.name).collect();
                    names.sort_unstable();
                    format!("({})", names.join(", "))
                })
                .collect();
            let wanted = format!("({})", given.join(", "));
            let (_, list) = fuzzy::best(lists.iter().map(String::as_str), &wanted, fuzzy::LIKELY)?;
            format!("{}{list}", name.name)
        };
        Some(format!("Perhaps you meant to call the function {}.{meant}", name.schema).into())
    }
}

/// Whether all required arguments are given and all that are given exist.
fn takes_by_name(function: &Function, given: &[&str], body: BodyKind) -> bool {
    if function.parameters.is_empty() {
        return given.is_empty() && !body.is_raw();
    }
    given.iter().all(|name| function.parameters.iter().any(|parameter| &*parameter.name == *name))
        && function
            .parameters
            .iter()
            .all(|parameter| !parameter.required || given.iter().any(|name| &*parameter.name == *name))
}

/// Whether the function's only argument has no name and takes such a body whole.
fn takes_whole(function: &Function, body: BodyKind) -> bool {
    matches!(function.parameters.as_slice(), [only] if only.name.is_empty() && body.fits(&only.type_name))
}
