//! Cache-Control by pattern, and by the hash that build tools put into file names.
//!
//! To call a file immutable that is not costs a visitor a year with a stale file; to miss one that is costs a
//! revalidation. So the rules for a hash in a name are narrow. It is the last piece before the extension, after a dot
//! or a dash, and it is either
//! - 8 to 64 hexadecimal digits in one case, letters and digits both, that do not begin like a date; or
//! - exactly 8 (Vite, Rollup, esbuild), or 16 to 64, letters and digits with a capital, and somewhere a digit before a
//!   letter, so that `Carousel5` and `RELEASE2` are words. Eight may contain `-` and `_` as Base64 does.
//!
//! Pages (html) are never immutable. `jquery-20240101.js` is a date, `index-DiwrgTda.js` might be a word: name those in
//! a pattern, as in `{ "assets/**" = "public, max-age=31536000, immutable" }`.

use std::collections::BTreeMap;

use http::HeaderValue;

use super::path::file_name;

const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// The Cache-Control values of a site.
pub struct CacheControl {
    /// The longest pattern first.
    rules: Vec<(Glob, HeaderValue)>,
}

impl CacheControl {
    /// The configuration's patterns. Values that no header can carry are left out: validation reports them.
    pub fn new(patterns: &BTreeMap<String, String>) -> Self {
        let mut rules: Vec<_> = patterns
            .iter()
            .filter_map(|(pattern, value)| Some((Glob::new(pattern), HeaderValue::try_from(value).ok()?)))
            .collect();
        rules.sort_by_key(|(glob, _)| std::cmp::Reverse(glob.length));
        Self { rules }
    }

    /// The value for the file at `path` below the folder.
    pub fn of(&self, path: &str) -> HeaderValue {
        if let Some((_, value)) = self.rules.iter().find(|(glob, _)| glob.fits(path)) {
            value.clone()
        } else if is_hashed(file_name(path)) {
            IMMUTABLE
        } else {
            REVALIDATE
        }
    }
}

/// A pattern of paths: `*` within a segment, `**` across segments, `**/` any folders or none, `?` one character of a
/// segment. A pattern without a slash is one of file names, at any depth.
struct Glob {
    tokens: Vec<Token>,
    length: usize,
    by_name: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Star,
    /// `**`
    Deep,
    /// `**/`, which stands for nothing, or for what [`Token::Folders`] after it takes.
    MaybeFolders,
    /// Anything up to a slash.
    Folders,
}

impl Glob {
    fn new(pattern: &str) -> Self {
        let by_name = !pattern.contains('/');
        let mut rest = pattern.trim_start_matches('/').as_bytes();
        let mut tokens = Vec::with_capacity(rest.len());
        let mut opens = true;
        while let Some((&byte, tail)) = rest.split_first() {
            if opens && let Some(tail) = rest.strip_prefix(b"**/") {
                tokens.extend([Token::MaybeFolders, Token::Folders]);
                rest = tail;
                continue;
            }
            opens = byte == b'/';
            let (token, tail) = match (byte, tail) {
                (b'*', [b'*', tail @ ..]) => (Token::Deep, tail),
                (b'*', _) => (Token::Star, tail),
                (b'?', _) => (Token::One, tail),
                _ => (Token::Byte(byte), tail),
            };
            tokens.push(token);
            rest = tail;
        }
        Self { tokens, length: pattern.len(), by_name }
    }

    fn fits(&self, path: &str) -> bool {
        matches(&self.tokens, if self.by_name { file_name(path) } else { path }.as_bytes())
    }
}

/// Keeps the set of places in the pattern that the text so far can have led to: linear in the text, whatever the
/// number of stars.
fn matches(tokens: &[Token], text: &[u8]) -> bool {
    let mut places = vec![false; tokens.len() + 1];
    let mut next = places.clone();
    places[0] = true;
    skip(tokens, &mut places);
    for &byte in text {
        next.fill(false);
        for (place, token) in tokens.iter().enumerate().filter(|(place, _)| places[*place]) {
            match token {
                Token::Byte(expected) => next[place + 1] |= byte == *expected,
                Token::One => next[place + 1] |= byte != b'/',
                Token::Star => next[place] |= byte != b'/',
                Token::Deep => next[place] = true,
                Token::MaybeFolders => {}
                Token::Folders => {
                    next[place] = true;
                    next[place + 1] |= byte == b'/';
                }
            }
        }
        skip(tokens, &mut next);
        std::mem::swap(&mut places, &mut next);
    }
    places[tokens.len()]
}

/// Goes on from where a token may stand for nothing.
fn skip(tokens: &[Token], places: &mut [bool]) {
    for (place, token) in tokens.iter().enumerate() {
        if places[place] {
            match token {
                Token::Star | Token::Deep => places[place + 1] = true,
                Token::MaybeFolders => places[place + 1..=place + 2].fill(true),
                Token::Byte(_) | Token::One | Token::Folders => {}
            }
        }
    }
}

/// Whether a file name carries a hash of the file's contents.
fn is_hashed(name: &str) -> bool {
    let Some((mut stem, extension)) = name.rsplit_once('.') else { return false };
    if extension.eq_ignore_ascii_case("html") || extension.eq_ignore_ascii_case("htm") {
        return false;
    }
    // A source map or compressed file is as immutable as what it is of; `.min` and `.chunk` follow the hash.
    if matches!(extension, "map" | "br" | "zst" | "gz")
        && let Some((shorter, inner)) = stem.rsplit_once('.')
        && (1..=5).contains(&inner.len())
    {
        if matches!(inner, "html" | "htm") {
            return false;
        }
        stem = shorter;
    }
    for suffix in [".min", ".chunk", ".bundle", ".module"] {
        stem = stem.strip_suffix(suffix).unwrap_or(stem);
    }
    if let Some((before, piece)) = stem.rsplit_once(['.', '-'])
        && !before.is_empty()
        && (is_hex_hash(piece) || is_mixed_hash(piece))
    {
        return !is_uuid_end(before, piece);
    }
    // Eight of Base64's letters, which may hold the very dash that separates.
    let bytes = stem.as_bytes();
    bytes.len() > 9
        && matches!(bytes[bytes.len() - 9], b'-' | b'.')
        && stem.get(bytes.len() - 8..).is_some_and(|piece| piece.contains(['-', '_']) && is_mixed_hash(piece))
}

fn is_hex_hash(piece: &str) -> bool {
    let bytes = piece.as_bytes();
    let lower = bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let upper = bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    (8..=64).contains(&bytes.len())
        && (lower || upper)
        && bytes.iter().any(u8::is_ascii_digit)
        && bytes.iter().any(u8::is_ascii_alphabetic)
        && !bytes[..8].iter().all(u8::is_ascii_digit)
}

fn is_mixed_hash(piece: &str) -> bool {
    let bytes = piece.as_bytes();
    let eight = bytes.len() == 8;
    (eight || (16..=64).contains(&bytes.len()))
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || (eight && matches!(byte, b'-' | b'_')))
        && bytes.iter().any(u8::is_ascii_uppercase)
        && bytes.windows(2).any(|pair| pair[0].is_ascii_digit() && pair[1].is_ascii_alphabetic())
        && !bytes[..8].iter().all(u8::is_ascii_digit)
}

/// A UUID names a thing, not its contents.
fn is_uuid_end(before: &str, piece: &str) -> bool {
    let groups: Vec<_> = before.rsplit('-').take(4).map(str::len).collect();
    piece.len() == 12 && groups.len() >= 3 && groups[..3] == [4, 4, 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_hash_are_told_from_words_dates_and_versions() {
        for hashed in [
            "app.3f9a1c2b.js",
            "app-3f9a1c2b.css",
            "index-BxY3k9Qz.js",
            "index-Bx-3k9Qz.js",
            "index-B_Y3k9Qz.js",
            "chunk-4QXZ7M2K.js",
            "main.3f9a1c2b.chunk.js",
            "app.3f9a1c2b.min.js",
            "app.3f9a1c2b.js.map",
            "app.3f9a1c2b.js.br",
            "logo.d41d8cd98f00b204e9800998ecf8427e.svg",
            "_app-9b4d1f0c2a7e8d3f.js",
        ] {
            assert!(is_hashed(hashed), "{hashed}");
        }
        for plain in [
            "app.js",
            "jquery-20240101.js",
            "jquery-3.7.1.min.js",
            "report-20240101a.pdf",
            "Bootstrap-Carousel5.js",
            "notes-RELEASE2.txt",
            "index-DiwrgTda.js",
            "my-component.js",
            "data-deadbeef.json",
            "page.3f9a1c2b.html",
            "page.3f9a1c2b.html.br",
            "3f9a1c2b",
            ".3f9a1c2b.js",
            "photo-550e8400-e29b-41d4-a716-4466554400ab.jpg",
            "app.3f9a1c2.js",
            "Übersicht-ÄÖÜ1234.js",
        ] {
            assert!(!is_hashed(plain), "{plain}");
        }
    }

    #[test]
    fn globs_know_segments() {
        for (pattern, path, fits) in [
            ("*.css", "a/b/site.css", true),
            ("*.css", "site.css.map", false),
            ("assets/*", "assets/a.js", true),
            ("assets/*", "assets/b/a.js", false),
            ("assets/**", "assets/b/a.js", true),
            ("/assets/**", "assets/b/a.js", true),
            ("**/a.js", "a.js", true),
            ("**/a.js", "x/y/a.js", true),
            ("**/a.js", "x/ya.js", false),
            ("x/**/a.js", "x/a.js", true),
            ("x/**/a.js", "x/1/2/a.js", true),
            ("a?c/x", "abc/x", true),
            ("a?c/x", "a/c/x", false),
            ("**", "anything/at/all", true),
            ("a*a*a*a*a*a*a*/b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/c", false),
            ("", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).fits(path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn the_longest_pattern_wins_and_hashes_are_immutable_unless_told() {
        let patterns = [("**", "max-age=1"), ("assets/**", "max-age=2"), ("assets/*.js", "max-age=3")];
        let rules = CacheControl::new(&patterns.map(|(key, value)| (key.into(), value.into())).into());
        assert_eq!(rules.of("assets/app.3f9a1c2b.js"), "max-age=3");
        assert_eq!(rules.of("assets/app.css"), "max-age=2");
        assert_eq!(rules.of("index.html"), "max-age=1");
        let none = CacheControl::new(&BTreeMap::new());
        assert_eq!(none.of("assets/app.3f9a1c2b.js"), IMMUTABLE);
        assert_eq!(none.of("index.html"), "no-cache");
    }
}
