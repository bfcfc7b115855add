//! TOML with the line of every key, and the configuration files.

use std::fs;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Value};
use toml_edit::{ImDocument, Item, TableLike};

use super::layer::Layer;
use super::schema::Known;
use super::{Origin, Problem};

/// The largest configuration file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A value or a table, as TOML gives it.
pub(super) enum Node {
    Table(Vec<(String, usize, Node)>),
    Value(Value),
}

/// Reads a configuration file into a layer; what is wrong is among the layer's problems.
pub(super) fn read<'a>(path: &Path, known: &'a Known) -> Layer<'a> {
    let mut layer = Layer::new(known);
    let text = match text(path) {
        Ok(text) => text,
        Err(problem) => {
            layer.problem(problem);
            return layer;
        }
    };
    match ImDocument::parse(text.as_str()) {
        Ok(document) => {
            let table = table(document.as_table(), &text);
            layer.put_document(table, &|line| Origin::File { path: path.to_owned(), line });
        }
        Err(error) => {
            // The library's own Display would quote the line, which may hold a secret; its message names no value.
            let line = error.span().map_or(0, |span| line_at(text.as_bytes(), span.start));
            layer.problem(Problem::new(
                &Origin::File { path: path.to_owned(), line },
                "",
                format!("this is not TOML: {}", one_line(error.message())),
                "Write it as key = \"value\", with text in quotes, below a [section].",
            ));
        }
    }
    layer
}

/// The folder's *.toml files in the order of their names; hidden ones are not taken.
pub(super) fn folder(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Problem::new(
                format!("folder {}", path.display()),
                "",
                format!("cannot be read: {error}"),
                "Make it readable for Beacon's user, or remove it.",
            ));
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            !hidden && path.extension().is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    Ok(files)
}

/// Reads `text` as a TOML value: a number, true, a list, a table, a string in quotes.
pub(super) fn value(text: &str) -> Option<Node> {
    // On a line of its own a comment or a second key in `text` could not be told from its value.
    let document = ImDocument::parse(format!("value = {text}")).ok()?;
    let keys = document.as_table();
    let item = keys.get("value").filter(|_| keys.len() == 1)?;
    Some(node(item, ""))
}

/// A file's text, or what is wrong with it.
pub(super) fn text(path: &Path) -> Result<String, Problem> {
    let problem = |problem: String, fix: &str| Problem::new(format!("file {}", path.display()), "", problem, fix);
    let metadata = fs::metadata(path).map_err(|error| cannot_read(path, &error))?;
    if metadata.is_dir() {
        return Err(problem("is a folder".into(), "Name a file."));
    }
    if metadata.len() > MAX_FILE {
        return Err(problem(format!("is larger than {MAX_FILE} bytes"), "Name a configuration file."));
    }
    let bytes = fs::read(path).map_err(|error| cannot_read(path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
        problem(format!("line {line} is not UTF-8 text"), "Save the file in UTF-8.")
    })
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Problem {
    let fix = match error.kind() {
        std::io::ErrorKind::NotFound => "Make the file, or name another one.",
        _ => "Make it readable for Beacon's user.",
    };
    Problem::new(format!("file {}", path.display()), "", format!("cannot be read: {error}"), fix)
}

fn table(table: &dyn TableLike, text: &str) -> Vec<(String, usize, Node)> {
    table
        .iter()
        .map(|(name, item)| {
            let span = table.key(name).and_then(toml_edit::Key::span);
            let line = span.map_or(0, |span| line_at(text.as_bytes(), span.start));
            (name.to_owned(), line, node(item, text))
        })
        .collect()
}

fn node(item: &Item, text: &str) -> Node {
    match item.as_table_like() {
        Some(inner) => Node::Table(table(inner, text)),
        None => Node::Value(plain(item)),
    }
}

fn plain(item: &Item) -> Value {
    match item {
        Item::Value(value) => scalar(value),
        Item::ArrayOfTables(tables) => tables.iter().map(|table| plain_table(table)).collect::<Vec<Value>>().into(),
        Item::Table(table) => plain_table(table),
        Item::None => Dict::new().into(),
    }
}

fn plain_table(table: &dyn TableLike) -> Value {
    table.iter().map(|(name, item)| (name.to_owned(), plain(item))).collect::<Dict>().into()
}

fn scalar(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(value) => (*value.value()).into(),
        toml_edit::Value::Datetime(time) => time.value().to_string().into(),
        toml_edit::Value::Array(list) => list.iter().map(scalar).collect::<Vec<Value>>().into(),
        toml_edit::Value::InlineTable(table) => plain_table(table),
    }
}

fn line_at(text: &[u8], offset: usize) -> usize {
    text[..offset.min(text.len())].split(|byte| *byte == b'\n').count()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
