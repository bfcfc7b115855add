//! The path of a request, decoded once and made safe to look files up with.

use std::sync::Arc;

/// Decodes the percent-encoded path of a request target, once (RFC 3986 section 2.4: never twice), and joins runs of
/// slashes.
///
/// # Errors
/// What is wrong: a path that does not start with a slash, a bad or truncated escape, bytes that are not UTF-8, a
/// control character (NUL among them), a backslash, an encoded slash, or a segment `.` or `..` in any encoding.
pub fn normalise(raw: &str) -> Result<Arc<str>, &'static str> {
    let bytes = raw.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err("the path does not start with a slash");
    }
    let mut before = 0;
    let plain = bytes.iter().all(|&byte| {
        let joined = before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        !joined && !matches!(byte, b'%' | b'\\' | 0..=0x1f | 0x7f)
    });
    if plain {
        return Ok(Arc::from(raw));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (byte, used) = match bytes[at] {
            b'%' => (decode(bytes.get(at + 1..at + 3)).ok_or("the path has a bad percent escape")?, 3),
            byte => (byte, 1),
        };
        match byte {
            0..=0x1f | 0x7f => return Err("the path has a control character"),
            b'\\' => return Err("the path has a backslash"),
            b'/' if used == 3 => return Err("the path has an encoded slash"),
            b'/' if out.last() == Some(&b'/') => {}
            byte => out.push(byte),
        }
        at += used;
    }
    let text = String::from_utf8(out).map_err(|_| "the path is not UTF-8")?;
    if text.split('/').any(|segment| segment == "." || segment == "..") {
        return Err("the path has a dot segment");
    }
    Ok(Arc::from(text))
}

fn decode(pair: Option<&[u8]>) -> Option<u8> {
    let pair = pair?;
    let digit = |byte: u8| (byte as char).to_digit(16);
    Some((digit(pair[0])? << 4 | digit(*pair.get(1)?)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths_decode_once() {
        for (raw, path) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a%20b", "/a b"),
            ("/%C3%A9", "/é"),
            ("//a///b/", "/a/b/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a..b/...", "/a..b/..."),
            ("/%252e%252e/x", "/%2e%2e/x"),
        ] {
            assert_eq!(normalise(raw).as_deref(), Ok(path), "{raw}");
        }
    }

    #[test]
    fn no_encoding_of_a_traversal_passes() {
        for raw in [
            "/../etc/passwd",
            "/a/../../b",
            "/a/..",
            "/./a",
            "/%2e%2e/a",
            "/%2E./a",
            "/.%2e/a",
            "/a/%2e",
            "/..%2fa",
            "/a%2Fb",
            "/..\\a",
            "/..%5ca",
            "/%00",
            "/a%0d%0ab",
            "/%c0%ae%c0%ae/a",
            "/%c0%af",
            "/%e0%80%ae/",
            "/%u002e/",
            "/%2",
            "/%",
            "/%zz",
            "/%ff",
            "/%7f",
            "//../a",
            "*",
            "a/b",
            "",
        ] {
            assert!(normalise(raw).is_err(), "{raw}");
        }
    }
}
