//! Which paths a client may name.
//!
//! The ingress has decoded the path once and refused what has no business in one; this looks again, because the
//! answer decides what leaves the disk. A percent sign is an ordinary character here: nothing is decoded twice.

/// Whether `rest` (a decoded path without a leading slash) names something that may be served: no dot segments, empty
/// segments, control characters, backslashes, nor names with a leading dot other than `.well-known` (RFC 8615) first.
pub fn is_servable(rest: &str) -> bool {
    let mut at_start = true;
    let mut segment_start = 0;
    let bytes = rest.as_bytes();
    for (position, &byte) in bytes.iter().enumerate() {
        if byte < 0x20 || byte == 0x7f || byte == b'\\' {
            return false;
        }
        if at_start {
            if byte == b'/' || (byte == b'.' && !is_well_known(bytes, segment_start)) {
                return false;
            }
            at_start = false;
        } else if byte == b'/' {
            at_start = true;
            segment_start = position + 1;
        }
    }
    true
}

fn is_well_known(bytes: &[u8], start: usize) -> bool {
    const NAME: &[u8] = b".well-known";
    start == 0 && bytes.starts_with(NAME) && matches!(bytes.get(NAME.len()), None | Some(b'/'))
}

/// Whether `path`, from the configuration, stays below the folder: relative, with no dot segments or empty ones.
pub fn is_inner_file(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\0', '\\'])
        && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

/// The last segment.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What follows the last dot of the last segment, unless the segment begins with that dot.
pub fn extension(path: &str) -> Option<&str> {
    file_name(path).rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_climb_hide_or_confuse_are_refused() {
        for good in ["", "a", "a/", "a/b.html", "a.b/c", "%2e%2e/x", ".well-known/acme", ".well-known", "a..b", "ä/ö"]
        {
            assert!(is_servable(good), "{good:?}");
        }
        for bad in [
            "..",
            "../a",
            "a/..",
            "a/../b",
            ".",
            "./a",
            "a/./b",
            "/a",
            "a//b",
            "//",
            "a\\b",
            "..\\a",
            "a\0",
            "a\nb",
            "\x7f",
            ".env",
            "a/.git/config",
            ".well-known/.x",
            "a/.well-known/x",
            ".well-knownx",
            "...",
        ] {
            assert!(!is_servable(bad), "{bad:?}");
        }
    }

    #[test]
    fn configured_files_stay_inside() {
        assert!(is_inner_file("errors/404.html") && is_inner_file(".errors/404.html"));
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/"] {
            assert!(!is_inner_file(bad), "{bad:?}");
        }
    }

    #[test]
    fn extensions_belong_to_the_last_segment() {
        assert_eq!(extension("a.b/c"), None);
        assert_eq!(extension("a/b.tar.gz"), Some("gz"));
        assert_eq!(extension(".env"), None);
    }
}
