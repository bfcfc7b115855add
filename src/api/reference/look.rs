//! The look of the pages: the documentation's own style and scripts, at addresses that hold a hash of their content.

use std::fmt::Write as _;
use std::sync::OnceLock;

use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use sha2::{Digest as _, Sha256};

use crate::assets;
use crate::http::{Body, Response, escape};

/// What their addresses begin with, below the mount.
pub(super) const FOLDER: &str = "_beacon/";

/// Name, extension and content type; the files are in assets/web.
const FILES: [(&str, &str, &str); 5] = [
    ("docs", "css", "text/css; charset=utf-8"),
    ("reference", "css", "text/css; charset=utf-8"),
    ("theme", "js", "text/javascript; charset=utf-8"),
    ("docs", "js", "text/javascript; charset=utf-8"),
    ("icon", "svg", "image/svg+xml"),
];

struct File {
    address: String,
    kind: &'static str,
    bytes: &'static [u8],
}

fn files() -> &'static [File; 5] {
    static ALL: OnceLock<[File; 5]> = OnceLock::new();
    ALL.get_or_init(|| {
        FILES.map(|(stem, extension, kind)| {
            let bytes = assets::file(&format!("web/{stem}.{extension}")).unwrap_or_default();
            let hash = Sha256::digest(bytes).iter().take(6).fold(String::new(), |mut out, byte| {
                let _ = write!(out, "{byte:02x}");
                out
            });
            File { address: format!("{FOLDER}{stem}.{hash}.{extension}"), kind, bytes }
        })
    })
}

/// The file at `rest`, a path below the mount.
pub(super) fn response(rest: &str) -> Option<Response> {
    let file = files().iter().find(|file| file.address == rest)?;
    let mut response = Response::new(Body::from(file.bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Some(response)
}

/// What goes into the head of a page; `base` is the mount's address with its final slash.
pub(super) fn head(base: &str) -> String {
    let base = escape(base);
    let [css, own, theme, docs, icon] = files().each_ref().map(|file| format!("{base}{}", file.address));
    format!(
        "<link rel=\"icon\" href=\"{icon}\" type=\"image/svg+xml\">\n<script src=\"{theme}\"></script>\n\
         <link rel=\"stylesheet\" href=\"{css}\">\n<link rel=\"stylesheet\" href=\"{own}\">\n\
         <script src=\"{docs}\" type=\"module\"></script>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_there() {
        for file in files() {
            assert!(!file.bytes.is_empty(), "{}", file.address);
            assert_eq!(response(&file.address).unwrap().headers()[CONTENT_TYPE], file.kind);
            assert!(head("/docs/api/").contains(&format!("\"/docs/api/{}\"", file.address)));
        }
        assert!(response("_beacon/docs.css").is_none());
    }
}
