//! Configuration of a folder as a web site: the part `site` of a mount.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::path::is_inner_file;
use crate::error::Fault;

/// A folder as a web site.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder.
    pub root: PathBuf,
    /// The files tried, in this order, for an address that names a folder.
    pub index: Vec<String>,
    /// The file, below root, that answers every address without a file of its own (a single-page application), as in
    /// "index.html"; "" answers 404.
    pub fallback: String,
    /// Pages of your own for error statuses: a status, and a file below root, as in { 404 = "404.html" }.
    pub error_pages: BTreeMap<String, String>,
    /// Lists the files of a folder that has no index file.
    pub listing: bool,
    /// Follows symbolic links that stay below root: "never" or "inside". A link has to be relative for that. The root
    /// itself may always be a link, and is followed anew every second.
    pub symlinks: Symlinks,
    /// Serves a file's compressed neighbour (.br, .zst, .gz) to clients that take it. One that is more than a second
    /// older than the file is ignored.
    pub precompressed: bool,
    /// Cache-Control by pattern: a glob of the path ("*" within a segment, "**" across; without a slash, of the file
    /// name at any depth), and the header's value. The longest pattern that fits is used. Files with a hash in their
    /// name (as in app.3f9a1c2b.js) are immutable for a year unless a pattern says otherwise; all others are
    /// revalidated ("no-cache").
    pub cache_control: BTreeMap<String, String>,
    /// Content types by file extension, before the built-in table, as in { "wasm" = "application/wasm" }.
    pub types: BTreeMap<String, String>,
    /// How much memory small files may take, in bytes; 0 reads every file from disk.
    pub cache_bytes: usize,
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Symlinks {
    /// None: a link is not found.
    #[default]
    Never,
    /// Relative ones whose target is below the root.
    Inside,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: PathBuf::new(),
            index: vec!["index.html".into()],
            fallback: String::new(),
            error_pages: BTreeMap::new(),
            listing: false,
            symlinks: Symlinks::Never,
            precompressed: true,
            cache_control: BTreeMap::new(),
            types: BTreeMap::new(),
            cache_bytes: 67_108_864,
        }
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.root.as_os_str().is_empty() {
            faults.push(Fault::new("root", "is not set", "Give the folder to serve, as in \"/srv/www\"."));
        } else if !self.root.is_absolute() {
            faults.push(Fault::new(
                "root",
                format!("\"{}\" is not an absolute path", self.root.display()),
                "Give the path from /, as in \"/srv/www\".",
            ));
        }
        if !self.fallback.is_empty() && !is_inner_file(&self.fallback) {
            faults.push(not_inside("fallback", &self.fallback));
        }
        for name in &self.index {
            if !is_inner_file(name) || name.contains('/') {
                faults.push(Fault::new(
                    "index",
                    format!("\"{name}\" is not a file name"),
                    "Use names such as \"index.html\".",
                ));
            }
        }
        for (status, path) in &self.error_pages {
            if !is_inner_file(path) {
                faults.push(not_inside(&format!("error_pages.{status}"), path));
            }
            if !status.parse::<u16>().is_ok_and(|code| (400..600).contains(&code)) {
                faults.push(Fault::new(
                    format!("error_pages.{status}"),
                    "is not an error status",
                    "Use a status from 400 to 599.",
                ));
            }
        }
        for (section, map) in [("cache_control", &self.cache_control), ("types", &self.types)] {
            for (key, value) in map {
                if http::HeaderValue::try_from(value.as_str()).is_err() {
                    faults.push(Fault::new(
                        format!("{section}.{key}"),
                        "has a character that a header cannot carry",
                        "Use visible ASCII characters.",
                    ));
                }
            }
        }
        faults
    }
}

fn not_inside(key: &str, path: &str) -> Fault {
    Fault::new(
        key,
        format!("\"{path}\" is not a file below root"),
        "Give a path relative to root without dot segments, as in \"errors/404.html\".",
    )
}
