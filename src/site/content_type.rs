//! Content types by file extension: the configuration's table, then the built-in one. Contents are never sniffed.

use std::collections::BTreeMap;

use http::HeaderValue;

use super::path::extension;

/// The content types of a site.
pub struct ContentTypes {
    own: BTreeMap<String, HeaderValue>,
}

/// The type of bytes that nothing is known about.
const UNKNOWN: HeaderValue = HeaderValue::from_static("application/octet-stream");

impl ContentTypes {
    /// The configuration's table, by extension with or without its dot, in any case. Values that no header can carry
    /// are left out: validation reports them.
    pub fn new(own: &BTreeMap<String, String>) -> Self {
        let own = own
            .iter()
            .filter_map(|(extension, value)| {
                let extension = extension.trim_start_matches('.').to_ascii_lowercase();
                Some((extension, with_charset(value)?))
            })
            .collect();
        Self { own }
    }

    /// The content type of the file at `path`.
    pub fn of(&self, path: &str) -> HeaderValue {
        let Some(extension) = extension(path) else { return UNKNOWN };
        let lower;
        let extension = if extension.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = extension.to_ascii_lowercase();
            lower.as_str()
        } else {
            extension
        };
        self.own.get(extension).cloned().unwrap_or_else(|| built_in(extension))
    }

    /// Whether the extension of `path` is a known type of something other than a page, so that nobody means a page by
    /// it.
    pub fn is_asset(&self, path: &str) -> bool {
        let value = self.of(path);
        value != UNKNOWN && !is_page(&value)
    }
}

/// Whether a content type is that of a page, whose name people type and link.
pub fn is_page(content_type: &HeaderValue) -> bool {
    let value = content_type.as_bytes();
    value.starts_with(b"text/html") || value.starts_with(b"application/xhtml")
}

/// Whether it pays to compress the type on the fly: text, and binary formats known to be loose.
pub fn is_compressible(content_type: &HeaderValue) -> bool {
    let essence = essence(content_type);
    is_text(essence)
        || matches!(
            essence,
            "application/wasm"
                | "image/bmp"
                | "image/x-icon"
                | "image/vnd.microsoft.icon"
                | "font/ttf"
                | "font/otf"
                | "font/collection"
                | "application/vnd.ms-fontobject"
        )
}

/// Whether a compressed neighbour may be expected: everything that is not compressed by its own format.
pub fn may_have_neighbours(content_type: &HeaderValue) -> bool {
    is_compressible(content_type) || *content_type == UNKNOWN || essence(content_type).ends_with("-stream")
}

fn essence(content_type: &HeaderValue) -> &str {
    let value = content_type.to_str().unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn is_text(essence: &str) -> bool {
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence,
            "application/json"
                | "application/javascript"
                | "application/x-javascript"
                | "application/xml"
                | "application/xml-dtd"
                | "application/toml"
                | "application/yaml"
                | "application/x-yaml"
                | "application/sql"
                | "application/x-sh"
                | "application/x-ndjson"
                | "application/jsonl"
                | "application/graphql"
        )
}

/// Adds `; charset=utf-8` to text that does not say its charset.
fn with_charset(value: &str) -> Option<HeaderValue> {
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if is_text(&essence) && !value.to_ascii_lowercase().contains("charset") {
        HeaderValue::try_from(format!("{value}; charset=utf-8")).ok()
    } else {
        HeaderValue::try_from(value).ok()
    }
}

fn built_in(extension: &str) -> HeaderValue {
    // First those that are asked for most, without an allocation; then where the table is out of date or a compressed
    // file must not be taken for an encoding of another.
    let fixed = match extension {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" | "cjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json; charset=utf-8",
        "svg" => "image/svg+xml; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" | "text" | "log" => "text/plain; charset=utf-8",
        "md" | "markdown" => "text/markdown; charset=utf-8",
        "webmanifest" => "application/manifest+json; charset=utf-8",
        "xml" => "application/xml; charset=utf-8",
        "toml" => "application/toml; charset=utf-8",
        "yaml" | "yml" => "application/yaml; charset=utf-8",
        "br" => "application/octet-stream",
        "zst" => "application/zstd",
        "gz" => "application/gzip",
        _ => "",
    };
    if !fixed.is_empty() {
        return HeaderValue::from_static(fixed);
    }
    mime_guess::from_ext(extension).first_raw().and_then(with_charset).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> ContentTypes {
        let own = [(".Foo", "text/x-foo"), ("wasm", "application/x-own"), ("bar", "text/plain; charset=latin-1")];
        ContentTypes::new(&own.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn text_says_its_charset_and_the_unknown_is_a_stream_of_bytes() {
        for (path, expected) in [
            ("a/index.html", "text/html; charset=utf-8"),
            ("APP.JS", "text/javascript; charset=utf-8"),
            ("feed.atom", "application/atom+xml; charset=utf-8"),
            ("a.csv", "text/csv; charset=utf-8"),
            ("a.mp4", "video/mp4"),
            ("a.pdf", "application/pdf"),
            ("app.js.br", "application/octet-stream"),
            ("app.js.gz", "application/gzip"),
            ("LICENSE", "application/octet-stream"),
            ("a.unheardof", "application/octet-stream"),
            ("x.foo", "text/x-foo; charset=utf-8"),
            ("x.bar", "text/plain; charset=latin-1"),
            ("x.wasm", "application/x-own"),
        ] {
            assert_eq!(types().of(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_compressed_already_is_left_alone() {
        let types = types();
        for (path, compressible) in [
            ("a.html", true),
            ("a.svg", true),
            ("a.json", true),
            ("a.ttf", true),
            ("a.png", false),
            ("a.woff2", false),
            ("a.zip", false),
            ("a.gz", false),
            ("a", false),
        ] {
            assert_eq!(is_compressible(&types.of(path)), compressible, "{path}");
        }
        assert!(may_have_neighbours(&types.of("data.bin")) && !may_have_neighbours(&types.of("a.png")));
    }

    #[test]
    fn pages_and_names_without_a_known_type_are_no_assets() {
        let types = types();
        assert!(types.is_asset("assets/app.123.js") && types.is_asset("logo.png"));
        assert!(!types.is_asset("users/jane.doe") && !types.is_asset("about") && !types.is_asset("about.html"));
    }
}
