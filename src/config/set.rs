//! `--set section.key=value` on the command line.

use super::layer::{Layer, Quotes};
use super::schema::Known;
use super::{Origin, Problem};

/// Makes a layer of the options.
pub(super) fn read<'a>(options: &[String], known: &'a Known) -> Layer<'a> {
    let mut layer = Layer::new(known);
    for (number, option) in options.iter().enumerate() {
        // What has no `=` is not repeated here: it may be a secret that a shell cut off its key.
        match option.split_once('=').and_then(|(key, value)| Some((path(key.trim())?, value))) {
            Some((path, value)) => layer.put_text(path, value, Quotes::Toml, Origin::Set),
            None => layer.problem(Problem::new(
                format!("--set number {}", number + 1),
                "",
                "this is not section.key=value",
                "Write it as in --set http.timeouts.idle=90s.",
            )),
        }
    }
    layer
}

/// Splits a dotted key as TOML does, so that a name may stand in quotes.
pub(super) fn path(key: &str) -> Option<Vec<String>> {
    toml_edit::Key::parse(key).ok().map(|keys| keys.iter().map(|key| key.get().to_owned()).collect())
}
