//! Variables, from a `.env` file or the process's environment: `BEACON_SECTION__KEY`, and the names that servers
//! already have in their `.env`.

use std::collections::BTreeMap;

use super::layer::{KeyPath, Layer, Quotes};
use super::problem::dotted;
use super::schema::{Known, Place};
use super::{Origin, Problem};

/// Names that are no configuration keys: they say where the configuration is.
pub(super) const LOCATORS: [&str; 3] = ["BEACON_CONFIG", "BEACON_ENV_FILE", "BEACON_SLOT"];

/// Names that other software uses for the same things, and our keys.
pub(super) const ALIASES: [(&str, &str); 12] = [
    ("DATABASE_URL", "database.url"),
    ("REDIS_URL", "redis.url"),
    ("BUCKET_NAME", "storage.bucket"),
    ("AWS_ACCESS_ID", "storage.access_key_id"),
    ("AWS_ACCESS_KEY_ID", "storage.access_key_id"),
    ("AWS_ACCESS_SECRET", "storage.secret_access_key"),
    ("AWS_SECRET_ACCESS_KEY", "storage.secret_access_key"),
    ("AWS_REGION", "storage.region"),
    ("AUTH_WALL_USERNAME", "wall.username"),
    ("AUTH_WALL_PASSWORD", "wall.password"),
    ("AUTH_WALL_REALM", "wall.realm"),
    ("AUTH_WALL", "wall.mode"),
];

const PREFIX: &str = "BEACON_";

/// One variable and where it was found.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// Makes a layer of the variables that concern us; all other names belong to the team's own applications.
pub(super) fn read<'a>(variables: &[Variable], known: &'a Known) -> Layer<'a> {
    let mut layer = Layer::new(known);
    // Aliases first: a BEACON_ name in the same layer replaces them.
    for (path, variable) in aliases(variables, &mut layer) {
        let direct = variables.iter().any(|other| {
            key_of(&other.name).is_some_and(|mut other| {
                if let (Place::SecretFile, Some(name)) = (known.at(&other), other.last_mut()) {
                    name.truncate(name.len() - "_file".len());
                }
                other == path
            })
        });
        if !direct {
            let lower = variable.value.to_ascii_lowercase();
            let value = if variable.name == "AUTH_WALL" { &lower } else { &variable.value };
            layer.put_text(path, value, Quotes::Literal, variable.origin.clone());
        }
    }
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

/// The aliases that are set, one for each key. Empty ones count as not set, as they did for the software before.
fn aliases<'v>(variables: &'v [Variable], layer: &mut Layer<'_>) -> Vec<(KeyPath, &'v Variable)> {
    let mut chosen: BTreeMap<&str, &Variable> = BTreeMap::new();
    for (alias, key) in ALIASES {
        // The last one of a name counts, as in python-dotenv.
        let Some(variable) = variables.iter().rfind(|variable| variable.name == alias) else { continue };
        if variable.value.is_empty() {
            continue;
        }
        let first = *chosen.entry(key).or_insert(variable);
        if first.value != variable.value {
            layer.problem(Problem::new(
                &variable.origin,
                key,
                format!("{} and {} both set it, to different values", first.name, variable.name),
                "Keep one of them, or give both the same value.",
            ));
        }
    }
    chosen.into_iter().map(|(key, variable)| (key.split('.').map(str::to_owned).collect(), variable)).collect()
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
