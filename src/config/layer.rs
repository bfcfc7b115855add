//! One layer of the configuration: entries that know their key and their origin, each checked against the known keys
//! and its own type when it is put in, so that one bad value hides no other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use figment::error::Kind as Cause;
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::file::{self, Node};
use super::problem::{dotted, misfit};
use super::schema::{Kind, Known, Place};
use super::{Config, Origin, Problem};
use crate::secret::MASK;

/// The largest file that a secret is read from, in bytes.
const MAX_SECRET: u64 = 65_536;

/// A key's names from the outside in.
pub(super) type KeyPath = Vec<String>;

struct Entry {
    value: Value,
    origin: Origin,
    /// Whether it was given as `<key>_file`.
    from_file: bool,
}

/// What one source sets.
pub(super) struct Layer<'a> {
    known: &'a Known,
    entries: BTreeMap<KeyPath, Entry>,
    problems: Vec<Problem>,
}

/// How a text from outside TOML is understood when its key takes text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// As it is, quotes and all: variables, credentials.
    Literal,
    /// As a TOML string if it is one, else as it is: `--set`.
    Toml,
}

impl<'a> Layer<'a> {
    pub(super) fn new(known: &'a Known) -> Self {
        Self { known, entries: BTreeMap::new(), problems: Vec::new() }
    }

    /// Notes something that is wrong with the source.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The entries' keys and origins.
    pub(super) fn origins(&self) -> impl Iterator<Item = (&KeyPath, &Origin)> {
        self.entries.iter().map(|(path, entry)| (path, &entry.origin))
    }

    /// What was wrong, taken out.
    pub(super) fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    /// Puts a TOML table in; `origin` makes the origin of a key from its line.
    pub(super) fn put_document(&mut self, table: Vec<(String, usize, Node)>, origin: &dyn Fn(usize) -> Origin) {
        let known = self.known;
        self.put_table(&mut Vec::new(), known, table, origin);
    }

    fn put_table(
        &mut self,
        path: &mut KeyPath,
        known: &Known,
        table: Vec<(String, usize, Node)>,
        origin: &dyn Fn(usize) -> Origin,
    ) {
        for (name, line, node) in table {
            path.push(name);
            let name = &path[path.len() - 1];
            if known.is_secret_file(name) {
                match node {
                    Node::Value(Value::String(_, file)) => self.put_secret_file(path.clone(), &file, origin(line)),
                    _ => self.misplaced(path, &origin(line), "the value is no file name", "a path in quotes"),
                }
            } else if let Some(child) = known.child(name) {
                self.put_node(path, child, node, line, origin);
            } else {
                self.unknown(path, &origin(line));
            }
            path.pop();
        }
    }

    fn put_node(
        &mut self,
        path: &mut KeyPath,
        known: &Known,
        node: Node,
        line: usize,
        origin: &dyn Fn(usize) -> Origin,
    ) {
        match (known, node) {
            (Known::Leaf(kind), Node::Value(value)) => self.put(path.clone(), *kind, vec![value], origin(line)),
            (Known::Leaf(_), Node::Table(_)) => {
                self.misplaced(path, &origin(line), "a table does not fit", "a single value");
            }
            (_, Node::Value(_)) => {
                self.misplaced(path, &origin(line), "a single value does not fit", "a table of keys and values");
            }
            (_, Node::Table(table)) => {
                if table.is_empty() && self.known.is_named_by_user(path) {
                    // Here an empty table says something: [mounts.x.docs] makes a documentation mount.
                    let entry = Entry { value: Dict::new().into(), origin: origin(line), from_file: false };
                    self.entries.insert(path.clone(), entry);
                }
                self.put_table(path, known, table, origin);
            }
        }
    }

    /// Puts in what a variable, an option or a credential says as text.
    pub(super) fn put_text(&mut self, path: KeyPath, text: &str, quotes: Quotes, origin: Origin) {
        match self.known.at(&path) {
            Place::Unknown(_) => self.unknown(&path, &origin),
            Place::SecretFile => {
                let plain = match (quotes, file::value(text)) {
                    (Quotes::Toml, Some(Node::Value(Value::String(_, plain)))) => plain,
                    _ => text.to_owned(),
                };
                self.put_secret_file(path, &plain, origin);
            }
            Place::Known(Known::Leaf(kind)) => {
                let toml = match file::value(text) {
                    Some(Node::Value(value)) => Some(value),
                    _ => None,
                };
                let literal = Value::from(text);
                let candidates = match (kind, quotes, toml) {
                    (Kind::Other, _, Some(value)) | (_, Quotes::Toml, Some(value @ Value::String(..))) => vec![value],
                    // A number in a text's place may be a password of digits or a duration in seconds.
                    (Kind::Text, _, Some(value)) => vec![literal, value],
                    _ => vec![literal],
                };
                self.put(path, *kind, candidates, origin);
            }
            Place::Known(known) => match file::value(text) {
                Some(node @ Node::Table(_)) => {
                    self.put_node(&mut path.clone(), known, node, 0, &|_| origin.clone());
                }
                _ => self.misplaced(
                    &path,
                    &origin,
                    "a single value does not fit",
                    "a table in TOML, as in { key = \"value\" }, or name a key below it",
                ),
            },
        }
    }

    /// Puts in the first candidate that fits the key's type.
    fn put(&mut self, path: KeyPath, kind: Kind, candidates: Vec<Value>, origin: Origin) {
        let secret = kind == Kind::Secret;
        if secret && candidates.iter().any(|value| value.as_str() == Some(MASK)) {
            self.problem(Problem::new(
                &origin,
                dotted(&path),
                "the value is the mask that `beacon config show` prints in place of a secret",
                "Give the secret itself, or remove the key.",
            ));
            return;
        }
        let mut misfits = Vec::new();
        for value in candidates {
            match fits(&path, &value) {
                Ok(()) => return self.insert(path, Entry { value, origin, from_file: false }),
                Err(cause) => misfits.push(misfit(&cause, secret)),
            }
        }
        if let Some((problem, fix)) = misfits.into_iter().next() {
            self.problem(Problem::new(&origin, dotted(&path), problem, fix));
        }
    }

    /// Puts in a secret that is the content of a file; `path` ends in `_file`.
    fn put_secret_file(&mut self, mut path: KeyPath, file: &str, origin: Origin) {
        let written = dotted(&path);
        match read_secret(Path::new(file)) {
            Ok(text) => {
                if let Some(name) = path.last_mut() {
                    name.truncate(name.len() - "_file".len());
                }
                self.insert(path, Entry { value: text.into(), origin, from_file: true });
            }
            Err((problem, fix)) => self.problem(Problem::new(&origin, written, problem, fix)),
        }
    }

    fn insert(&mut self, path: KeyPath, entry: Entry) {
        if let Some(before) = self.entries.get(&path).filter(|before| before.from_file != entry.from_file) {
            let key = dotted(&path);
            let problem = Problem::new(
                &entry.origin,
                key.clone(),
                format!("{key} and {key}_file are both set here ({} too)", before.origin),
                "Keep one of them.",
            );
            self.problems.push(problem);
            return;
        }
        self.entries.insert(path, entry);
    }

    fn misplaced(&mut self, path: &[String], origin: &Origin, problem: &str, wanted: &str) {
        self.problem(Problem::new(origin, dotted(path), problem, format!("Give {wanted}.")));
    }

    fn unknown(&mut self, path: &[String], origin: &Origin) {
        let known = match self.known.at(path) {
            Place::Unknown(depth) => depth,
            _ => path.len().saturating_sub(1),
        };
        // Told once for a table that is unknown as a whole.
        let path = &path[..(known + 1).min(path.len())];
        let key = dotted(path);
        let fix = match self.known.nearest(&path.join(".")) {
            Some(near) => format!("Did you mean {near}? `beacon config default` lists every key."),
            None => "Remove it; `beacon config default` lists every key.".into(),
        };
        let problem = Problem::new(origin, key, "unknown key", fix);
        if !self.problems.contains(&problem) {
            self.problem(problem);
        }
    }
}

impl Provider for Layer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named("a layer of the configuration")
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let mut whole = Dict::new();
        for (path, entry) in &self.entries {
            nest(&mut whole, path, entry.value.clone());
        }
        Ok(Profile::Default.collect(whole))
    }
}

/// Puts `value` into `dict` at `path`, making the tables on the way.
fn nest(dict: &mut Dict, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        // An empty table of one entry must not wipe what another put below it.
        if !(matches!(&value, Value::Dict(_, table) if table.is_empty()) && dict.contains_key(name)) {
            dict.insert(name.clone(), value);
        }
        return;
    }
    let inner = dict.entry(name.clone()).or_insert_with(|| Dict::new().into());
    if let Value::Dict(_, inner) = inner {
        nest(inner, rest, value);
    }
}

/// Whether the key at `path` takes `value`, by reading a configuration that sets nothing else.
fn fits(path: &[String], value: &Value) -> Result<(), Cause> {
    let mut dict = Dict::new();
    nest(&mut dict, path, value.clone());
    Value::from(dict).deserialize::<Config>().map(drop).map_err(|error| error.kind)
}

/// The content of a secret's file without the newline at its end, or what is wrong with it and what to do.
pub(super) fn read_secret(path: &Path) -> Result<String, (String, String)> {
    let shown = path.display();
    if !path.is_absolute() {
        // Not shown: it may be the secret itself.
        return Err(("the value is not an absolute path".into(), "Give the path of a file from /.".into()));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SECRET + 1).read_to_end(&mut bytes))
        .map_err(|error| (format!("{shown} cannot be read: {error}"), "Make it readable for Beacon's user.".into()))?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err((format!("{shown} is larger than {MAX_SECRET} bytes"), "Name the file of the secret.".into()));
    }
    let mut text =
        String::from_utf8(bytes).map_err(|_| (format!("{shown} is not UTF-8 text"), "Write it as text.".to_owned()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err((format!("{shown} is empty"), "Write the secret into it, or remove the key.".into()));
    }
    Ok(text)
}
