//! systemd credentials: files in $CREDENTIALS_DIRECTORY that are named after the key they hold, as in `wall.password`.

use std::fs;
use std::path::Path;

use super::layer::{Layer, Quotes, read_secret};
use super::schema::{Known, Place};
use super::{Origin, Problem, set};

/// The name of the credential that is a whole `.env` file.
pub(super) const ENV: &str = "env";

/// Makes a layer of the credentials whose name is a key. A dotted name in one of our sections that is no key is worth
/// a warning, not an error: credentials are also how certificates get here.
pub(super) fn read<'a>(folder: &Path, known: &'a Known, warnings: &mut Vec<String>) -> Layer<'a> {
    let mut layer = Layer::new(known);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            layer.problem(Problem::new(
                format!("folder {}", folder.display()),
                "",
                format!("the credentials cannot be read: {error}"),
                "CREDENTIALS_DIRECTORY must name the folder that systemd made; unset it elsewhere.",
            ));
            return layer;
        }
    };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    for name in names.into_iter().filter(|name| name.contains('.') && !name.starts_with('.')) {
        let Some(path) = set::path(&name) else { continue };
        match known.at(&path) {
            Place::Unknown(0) => {}
            Place::Known(Known::Leaf(_)) => {
                let origin = Origin::Credential { name: name.clone() };
                match read_secret(&folder.join(&name)) {
                    Ok(text) => layer.put_text(path, &text, Quotes::Literal, origin),
                    Err((problem, fix)) => layer.problem(Problem::new(&origin, name, problem, fix)),
                }
            }
            _ => {
                let near = known.nearest(&name).map_or_else(String::new, |near| format!(" Did you mean {near}?"));
                warnings.push(format!("the credential {name} is not the name of a key, and is not used.{near}"));
            }
        }
    }
    layer
}
