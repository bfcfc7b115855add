//! Loading: reads every layer, merges them, checks the whole.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use figment::Figment;

use super::environment::{self, LOCATORS, Variable};
use super::layer::Layer;
use super::problem::{dotted, misfit};
use super::schema::Known;
use super::{Config, Error, Origin, Origins, Problem, Sources, credentials, dotenv, file, set};

/// A configuration that may be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each of its values came from.
    pub origins: Origins,
    /// What the user should know although nothing is wrong.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Every key, quoted where TOML needs it, with its value and origin, in the order of the keys. Secrets are masked.
    #[must_use]
    pub fn values(&self) -> Vec<(String, toml::Value, &Origin)> {
        let mut values = Vec::new();
        if let Ok(whole) = toml::Value::try_from(&self.config) {
            self.collect(&mut Vec::new(), whole, &mut values);
        }
        values
    }

    fn collect<'a>(
        &'a self,
        path: &mut Vec<String>,
        value: toml::Value,
        values: &mut Vec<(String, toml::Value, &'a Origin)>,
    ) {
        match value {
            toml::Value::Table(table) if !table.is_empty() => {
                for (name, value) in table {
                    path.push(name);
                    self.collect(path, value, values);
                    path.pop();
                }
            }
            value => values.push((dotted(path), value, self.origins.of(&path.join(".")))),
        }
    }
}

/// Loads the configuration. Nothing but files is touched, and nothing is changed, so that a running server can load
/// again and keep what it has when this fails.
///
/// # Errors
/// Everything that is wrong with the configuration, not only the first fault.
pub fn load(sources: &Sources) -> Result<Loaded, Error> {
    let known = Known::of_config();
    let mut warnings = Vec::new();
    let mut problems = Vec::new();
    let mut layers = Vec::new();

    let main = sources.config();
    if main.required || main.path.exists() {
        layers.push(file::read(&main.path, &known));
    }
    match file::folder(&sources.conf_d()) {
        Ok(files) => layers.extend(files.iter().map(|path| file::read(path, &known))),
        Err(problem) => problems.push(problem),
    }
    if let Some(path) = sources.env_file() {
        layers.push(read_env_file(&path, sources, &known, &mut warnings));
    }
    layers.push(read_environment(sources, &known));
    layers.push(set::read(sources.sets(), &known));
    if let Some(folder) = sources.credentials() {
        layers.push(credentials::read(&folder, &known, &mut warnings));
    }

    let mut origins = Origins::default();
    let mut figment = Figment::new();
    for mut layer in layers {
        problems.extend(layer.take_problems());
        for (path, origin) in layer.origins() {
            origins.note(path.join("."), origin.clone());
        }
        figment = figment.merge(layer);
    }
    // Each value was tried by itself before, so what is left to fail here are only clashes of tables with values.
    let mut config: Config = match figment.extract() {
        Ok(config) => config,
        Err(error) => {
            for one in error {
                let key = one.path.join(".");
                let (problem, fix) = misfit(&one.kind, true);
                problems.push(Problem::new(origins.place(&key), key, problem, fix));
            }
            return Err(Error::Invalid { problems });
        }
    };
    config.normalise();
    for fault in config.validate() {
        // A key whose value was refused is at its default now, which says nothing about what the user wrote.
        if !problems.iter().any(|problem| problem.key == fault.key) {
            problems.push(Problem::new(origins.place(&fault.key), fault.key, fault.problem, fault.fix));
        }
    }
    if problems.is_empty() { Ok(Loaded { config, origins, warnings }) } else { Err(Error::Invalid { problems }) }
}

fn read_env_file<'a>(path: &Path, sources: &Sources, known: &'a Known, warnings: &mut Vec<String>) -> Layer<'a> {
    let mut layer = Layer::new(known);
    let text = match file::text(path) {
        Ok(text) => text,
        Err(problem) => {
            layer.problem(problem);
            return layer;
        }
    };
    let shown = path.display();
    if path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
        warnings.push(format!("{shown} can be read by every user of this machine. Run: chmod o-r {shown}"));
    }
    let (variables, faults) = dotenv::parse(&text, &|name| sources.variable(name));
    let variables: Vec<Variable> = variables
        .into_iter()
        .filter_map(|dotenv::Variable { name, value, line }| {
            let origin = Origin::EnvFile { path: path.to_owned(), name: name.clone(), line };
            value.map(|value| Variable { name, value, origin })
        })
        .collect();
    for name in LOCATORS {
        if variables.iter().any(|variable| variable.name == name) {
            warnings.push(format!("{name} in {shown} has no effect: it must be set before this file is read"));
        }
    }
    let mut layer = environment::read(&variables, known);
    for dotenv::Fault { line, problem, fix } in faults {
        layer.problem(Problem::new(format!("file {shown} line {line}"), "", problem, fix));
    }
    layer
}

fn read_environment<'a>(sources: &Sources, known: &'a Known) -> Layer<'a> {
    let mut unreadable = Vec::new();
    let mut variables = Vec::new();
    for (name, value) in sources.environment() {
        let Some(name) = name.to_str() else { continue };
        let ours = name.starts_with("BEACON_") || environment::ALIASES.iter().any(|(alias, _)| *alias == name);
        let origin = Origin::Environment { name: name.to_owned() };
        match value.to_str() {
            Some(value) if ours => variables.push(Variable { name: name.into(), value: value.into(), origin }),
            None if ours && !LOCATORS.contains(&name) => {
                unreadable.push(Problem::new(origin, "", "the value is not UTF-8 text", "Set it to text in UTF-8."));
            }
            _ => {}
        }
    }
    let mut layer = environment::read(&variables, known);
    unreadable.into_iter().for_each(|problem| layer.problem(problem));
    layer
}
