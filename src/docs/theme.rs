//! The look of the pages: style, scripts and icon, under addresses that hold a hash of their content.

use std::collections::HashMap;
use std::sync::OnceLock;

use http::{HeaderMap, StatusCode};

use super::encoded::{Encoded, IMMUTABLE, hash};
use crate::assets;
use crate::http::{Response, escape};

/// What the addresses of the theme's own files begin with, below the mount.
pub const FOLDER: &str = "_beacon/";

/// Name, extension and content type; the files are in assets/web.
const FILES: [(&str, &str, &str); 4] = [
    ("docs", "css", "text/css; charset=utf-8"),
    ("theme", "js", "text/javascript; charset=utf-8"),
    ("docs", "js", "text/javascript; charset=utf-8"),
    ("icon", "svg", "image/svg+xml"),
];

struct Asset {
    name: String,
    kind: &'static str,
    bytes: &'static [u8],
    /// Compressed at first use, because starting must be quick.
    encoded: OnceLock<Encoded>,
}

/// The theme's files.
pub struct Theme {
    assets: [Asset; 4],
    by_name: HashMap<String, usize>,
}

impl Theme {
    /// The theme of this binary.
    pub fn get() -> &'static Self {
        static THEME: OnceLock<Theme> = OnceLock::new();
        THEME.get_or_init(|| {
            let assets = FILES.map(|(stem, extension, kind)| {
                let bytes = assets::file(&format!("web/{stem}.{extension}")).unwrap_or_default();
                let name = format!("{stem}.{}.{extension}", &hash(bytes)[..12]);
                Asset { name, kind, bytes, encoded: OnceLock::new() }
            });
            let by_name = assets.iter().enumerate().map(|(at, asset)| (asset.name.clone(), at)).collect();
            Self { assets, by_name }
        })
    }

    /// The file at `rest`, a path below the mount, if it is one of ours.
    pub fn response(&self, rest: &str, headers: &HeaderMap) -> Option<Response> {
        let asset = &self.assets[*self.by_name.get(rest.strip_prefix(FOLDER)?)?];
        Some(asset.encoded().response(headers))
    }

    /// Compresses everything now, so that no request has to.
    pub fn warm(&self) {
        for asset in &self.assets {
            asset.encoded();
        }
    }

    /// What goes into the head of a page whose mount's addresses begin with `base`.
    pub fn head(&self, base: &str) -> String {
        let [css, theme, docs, icon] =
            self.assets.each_ref().map(|asset| format!("{}{FOLDER}{}", escape(base), asset.name));
        format!(
            "<link rel=\"icon\" href=\"{icon}\" type=\"image/svg+xml\">\n<script src=\"{theme}\"></script>\n\
             <link rel=\"stylesheet\" href=\"{css}\">\n<script src=\"{docs}\" type=\"module\"></script>\n"
        )
    }
}

impl Asset {
    fn encoded(&self) -> &Encoded {
        self.encoded.get_or_init(|| Encoded::new(StatusCode::OK, self.kind, IMMUTABLE, self.bytes, 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance (WCAG 2.2).
    fn luminance(hex: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(one: &str, two: &str) -> f64 {
        let (one, two) = (luminance(one), luminance(two));
        (one.max(two) + 0.05) / (one.min(two) + 0.05)
    }

    /// `--name: light-dark(#aaaaaa, #bbbbbb);` of the style sheet.
    fn colours() -> HashMap<String, [String; 2]> {
        let css = assets::text("web/docs.css");
        let mut out = HashMap::new();
        for part in css.split("--").skip(1) {
            if let Some((name, rest)) = part.split_once(": light-dark(") {
                let (light, rest) = rest.split_once(", ").unwrap();
                let (dark, _) = rest.split_once(')').unwrap();
                out.insert(name.to_owned(), [light.to_owned(), dark.to_owned()]);
            }
        }
        out
    }

    #[test]
    fn text_has_the_contrast_of_wcag_aa_in_both_schemes() {
        let colours = colours();
        let text = ["text", "muted", "link", "accent"];
        let code = [
            "text",
            "muted",
            "code-comment",
            "code-string",
            "code-number",
            "code-keyword",
            "code-function",
            "code-name",
            "code-key",
            "code-in",
            "code-out",
        ];
        let pairs = text.iter().flat_map(|name| [(*name, "page"), (*name, "raised")]);
        let pairs = pairs.chain(code.iter().map(|name| (*name, "code")));
        let pairs =
            pairs.chain(["note", "tip", "important", "warning", "caution"].into_iter().map(|name| (name, "page")));
        let pairs = pairs.chain([
            ("on-beam", "beam"),
            ("accent", "selected"),
            ("text", "mark"),
            ("text", "selected"),
            ("muted", "selected"),
        ]);
        for (front, back) in pairs {
            for (scheme, name) in ["light", "dark"].into_iter().enumerate() {
                let (one, two) = (&colours[front][scheme], &colours[back][scheme]);
                let ratio = contrast(one, two);
                assert!(ratio >= 4.5, "{name}: {front} {one} on {back} {two} is {ratio:.2}");
            }
        }
    }

    #[test]
    fn every_file_is_there_and_immutable() {
        let theme = Theme::get();
        for asset in &theme.assets {
            assert!(!asset.bytes.is_empty(), "{}", asset.name);
            let response = theme.response(&format!("{FOLDER}{}", asset.name), &HeaderMap::new()).unwrap();
            assert_eq!(response.headers()["cache-control"], IMMUTABLE);
        }
        assert!(theme.response("_beacon/docs.css", &HeaderMap::new()).is_none());
        assert!(theme.response("_beacon/../docs.css", &HeaderMap::new()).is_none());
    }

    #[test]
    fn nothing_of_the_theme_comes_from_elsewhere() {
        for (stem, extension, _) in FILES {
            let text = assets::text(&format!("web/{stem}.{extension}")).replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{stem}.{extension}");
        }
    }
}
