//! Files embedded in the binary: the documentation, the look of its pages, the welcome page.

use include_dir::{Dir, include_dir};

static ROOT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets");

/// The embedded folder at `path` below assets/, without a leading slash.
#[must_use]
pub fn folder(path: &str) -> Option<&'static Dir<'static>> {
    ROOT.get_dir(path)
}

/// The contents of the embedded file at `path` below assets/, without a leading slash.
#[must_use]
pub fn file(path: &str) -> Option<&'static [u8]> {
    ROOT.get_file(path).map(include_dir::File::contents)
}

/// The embedded text at `path`; empty if there is none, which the tests of its users notice.
#[must_use]
pub fn text(path: &str) -> &'static str {
    file(path).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}
