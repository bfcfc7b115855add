//! Variables, from a `.env` file or the process's environment: `BEACON_SECTION__KEY`, and the names that servers
//! already have in their `.env`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::layer::{KeyPath, Layer, Quotes};
use super::problem::dotted;
use super::schema::{Known, Place};
use super::{Origin, Problem, aliases};

/// Names that are no configuration keys: they say where the configuration is.
pub(super) const LOCATORS: [&str; 3] = ["BEACON_CONFIG", "BEACON_ENV_FILE", "BEACON_SLOT"];

const PREFIX: &str = "BEACON_";

/// One variable and where it was found.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// Makes a layer of the variables that concern us; all other names belong to the team's own applications.
pub(super) fn read<'a>(variables: &[Variable], known: &'a Known, warnings: &mut Vec<String>) -> Layer<'a> {
    let mut layer = Layer::new(known);
    // Aliases first: a BEACON_ name in the same layer replaces them.
    for (path, (variable, value)) in aliases(variables, &mut layer) {
        let direct = variables.iter().any(|other| {
            key_of(&other.name).is_some_and(|mut other| {
                if let (Place::SecretFile, Some(name)) = (known.at(&other), other.last_mut()) {
                    name.truncate(name.len() - "_file".len());
                }
                other == path
            })
        });
        if !direct {
            layer.put_text(path, &value, Quotes::Literal, variable.origin.clone());
        }
    }
    warnings.extend(without_effect(variables));
    for variable in variables {
        let Some(path) = key_of(&variable.name) else { continue };
        match known.at(&path) {
            Place::Unknown(_) => {
                let problem = unknown(variable, &path, known);
                layer.problem(problem);
            }
            _ => layer.put_text(path, &variable.value, Quotes::Literal, variable.origin.clone()),
        }
    }
    layer
}

/// The key of a `BEACON_` name.
fn key_of(name: &str) -> Option<KeyPath> {
    let name = name.strip_prefix(PREFIX).filter(|_| !LOCATORS.contains(&name))?;
    Some(name.split("__").map(str::to_ascii_lowercase).collect())
}

/// The aliases that are set, one for each key, with the value in our form. Empty ones count as not set, as they did for
/// the software before.
fn aliases<'v>(variables: &'v [Variable], layer: &mut Layer<'_>) -> Vec<(KeyPath, (&'v Variable, Cow<'v, str>))> {
    // The last one of a name counts, as in python-dotenv.
    let find = |name: &str| variables.iter().rfind(|variable| variable.name == name);
    let value = |name: &str| find(name).map(|variable| variable.value.as_str());
    let mut chosen: BTreeMap<&str, (&Variable, Cow<'_, str>)> = BTreeMap::new();
    for alias in aliases::all() {
        let Some(variable) = find(alias.name).filter(|variable| !variable.value.is_empty()) else { continue };
        let value = match alias.reading.read(&variable.value, &value) {
            Ok(Some(value)) => value,
            Ok(None) => continue,
            Err((problem, fix)) => {
                layer.problem(Problem::new(&variable.origin, alias.key, problem, fix));
                continue;
            }
        };
        let (first, before) = chosen.entry(alias.key).or_insert((variable, value.clone()));
        if *before != value {
            layer.problem(Problem::new(
                &variable.origin,
                alias.key,
                format!("{} and {} both set it, to different values", first.name, variable.name),
                "Keep one of them, or give both the same value.",
            ));
        }
    }
    chosen.into_iter().map(|(key, found)| (key.split('.').map(str::to_owned).collect(), found)).collect()
}

/// What to tell of names of GoTrue and PostgREST that set nothing here.
fn without_effect(variables: &[Variable]) -> Option<String> {
    let unknown = |variable: &&Variable| {
        let Variable { name, value, .. } = variable;
        aliases::is_of_a_family(name) && !aliases::is_known(name) && !aliases::is_moot(name, value)
    };
    let mut names: Vec<&str> = variables.iter().filter(unknown).map(|variable| variable.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let origin = &variables.iter().find(|variable| names.first().is_some_and(|name| *name == variable.name))?.origin;
    let place = match origin {
        Origin::EnvFile { path, .. } => path.display().to_string(),
        _ => "the environment".to_owned(),
    };
    Some(format!("no effect here have these names in {place}: {}", names.join(", ")))
}

fn unknown(variable: &Variable, path: &[String], known: &Known) -> Problem {
    // A single underscore where two belong is the likeliest slip, so names are compared as they are written.
    let near = known
        .keys()
        .into_iter()
        .map(|key| key.replace('.', "__").to_ascii_uppercase())
        .chain(LOCATORS.map(|name| name[PREFIX.len()..].to_owned()))
        .filter(|name| !name.contains('*'))
        .map(|name| (strsim::normalized_damerau_levenshtein(&name, &variable.name[PREFIX.len()..]), name))
        .filter(|(score, _)| *score > 0.6)
        .max_by(|(one, _), (two, _)| one.total_cmp(two))
        .map(|(_, name)| format!("{PREFIX}{name}"))
        .or_else(|| {
            let near = known.nearest(&path.join("."))?;
            Some(format!("{PREFIX}{}", near.replace('.', "__").to_ascii_uppercase()))
        });
    let fix = match near {
        Some(name) => format!("Did you mean {name}? Sections and keys are joined by two underscores."),
        None => "Remove it: names that begin with BEACON_ are Beacon's own.".into(),
    };
    Problem::new(&variable.origin, dotted(path), "unknown key", fix)
}
