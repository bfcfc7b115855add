//! Configuration of a documentation site: the part `docs` of a mount.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
