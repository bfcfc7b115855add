//! Query strings and bodies of forms: pairs of names and values, percent-encoded, with `+` for a blank.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::Error;

/// A name and a value; a name without `=` has none.
pub type Pair<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// The pairs, decoded. Empty ones (`a=1&&b=2`) are no pairs.
///
/// # Errors
/// A name or a value that is not UTF-8 when it is decoded.
pub fn pairs(text: &str) -> Result<Vec<Pair<'_>>, Error> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => Ok((decode(name)?, Some(decode(value)?))),
            None => Ok((decode(pair)?, None)),
        })
        .collect()
}

/// A percent sign that no two hexadecimal digits follow stands for itself, as in browsers.
fn decode(text: &str) -> Result<Cow<'_, str>, Error> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(hexadecimal);
        match (byte, pair) {
            (_, Some(decoded)) => {
                out.push(decoded);
                at += 2;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| {
        Error::refused("the query string is not UTF-8", format!("{text} is not UTF-8 when its escapes are decoded"))
    })
}

fn hexadecimal(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?) as u8)
}

/// The pairs in the order of their names, encoded: one address for all queries that ask the same.
#[must_use]
pub fn canonical(pairs: &[Pair<'_>]) -> String {
    let mut sorted: Vec<&Pair<'_>> = pairs.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = String::new();
    for (name, value) in sorted {
        if !out.is_empty() {
            out.push('&');
        }
        encode(&mut out, name);
        out.push('=');
        encode(&mut out, value.as_deref().unwrap_or_default());
    }
    out
}

/// Appends `text` with everything escaped but letters, digits, `-`, `_`, `.` and `~`.
pub fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_by_the_rules_of_forms() {
        let read = |text| {
            let all = pairs(text).unwrap();
            all.into_iter().map(|(name, value)| (name.into_owned(), value.map(Cow::into_owned))).collect::<Vec<_>>()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        assert_eq!(read("a=1&b=x+y%2B&&c"), [pair("a", "1"), pair("b", "x y+"), ("c".to_owned(), None)]);
        assert_eq!(read("a=b=c&%C3%A9=%zz%"), [pair("a", "b=c"), pair("é", "%zz%")]);
        assert_eq!(read(""), []);
        assert!(pairs("a=%ff").is_err());
        assert!(pairs("%c0%af=1").is_err());
    }

    #[test]
    fn the_canonical_form_is_sorted_by_name_and_escaped() {
        let pairs = pairs("b=eq.1&select=a,c(d)&a=x y&a=%C3%A9&d").unwrap();
        assert_eq!(canonical(&pairs), "a=x%20y&a=%C3%A9&b=eq.1&d=&select=a%2Cc%28d%29");
    }
}
