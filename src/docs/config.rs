//! Configuration of a documentation site: the part `docs` of a mount.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Error;
use super::source::Source;
use super::tree::is_page;
use crate::assets;
use crate::error::Fault;

/// A folder of Markdown, or of ready HTML, as a documentation site.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder; "" is Beacon's own documentation. A folder with an index.html and no Markdown (Sphinx, MkDocs) is
    /// served as it is.
    pub folder: PathBuf,
    /// The site's title; "" takes the title of the front page.
    pub title: String,
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !self.folder.as_os_str().is_empty() && !self.folder.is_absolute() {
            faults.push(Fault::new(
                "folder",
                format!("\"{}\" is not an absolute path", self.folder.display()),
                "Give the path from /, as in \"/srv/docs\", or \"\" for Beacon's own documentation.",
            ));
        }
        faults
    }
}

/// What a documentation folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Markdown, for [`super::Docs`].
    Markdown,
    /// Ready HTML (Sphinx, MkDocs), to be served as it is by a site. Such pages bring inline scripts and styles, so
    /// they need the Content-Security-Policy [`Kind::HTML_POLICY`].
    Html,
}

impl Kind {
    /// The Content-Security-Policy for ready HTML: everything from its own origin, inline scripts and styles too.
    pub const HTML_POLICY: &'static str = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' \
        'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; base-uri 'self'; form-action 'self'; \
        frame-ancestors 'self'";
}

/// Tells what the folder of `config` holds: Markdown if there is any Markdown file, else HTML if there is an index.html.
///
/// # Errors
/// The folder cannot be read, or has neither.
pub fn kind(config: &Config) -> Result<Kind, Error> {
    let source = source(config)?;
    let html = source.has_index();
    match source.scan() {
        Ok(entries) if entries.iter().any(|entry| is_page(&entry.path)) => Ok(Kind::Markdown),
        Ok(_) | Err(Error::TooMany { .. }) if html => Ok(Kind::Html),
        Ok(_) => Err(Error::Empty { path: source.name() }),
        Err(error) => Err(error),
    }
}

/// The source that `config` names.
pub(super) fn source(config: &Config) -> Result<Source, Error> {
    if config.folder.as_os_str().is_empty() {
        let own = assets::folder("docs").map(Source::Embedded);
        return own.ok_or_else(|| Error::Empty { path: "(embedded)".into() });
    }
    Ok(Source::Folder(config.folder.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_markdown_or_html_or_an_error_that_names_it() {
        assert_eq!(kind(&Config::default()).unwrap(), Kind::Markdown);
        let dir = tempfile::tempdir().unwrap();
        let config = Config { folder: dir.path().to_path_buf(), ..Config::default() };
        let error = kind(&config).unwrap_err().to_string();
        assert!(error.contains(dir.path().to_str().unwrap()) && error.contains("index.md"), "{error}");
        std::fs::write(dir.path().join("index.html"), "<p>").unwrap();
        assert_eq!(kind(&config).unwrap(), Kind::Html);
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b.md"), "").unwrap();
        assert_eq!(kind(&config).unwrap(), Kind::Markdown);
    }
}
