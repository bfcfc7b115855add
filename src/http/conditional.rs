//! Conditional requests, in the order of RFC 9110 section 13.2.2.

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderName};

/// What the conditions say about a GET or HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as if there were no conditions.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Judges the conditions for a representation with the strong entity tag `etag` (quoted) and the time of last
/// modification in seconds since 1970.
pub fn judge(headers: &HeaderMap, etag: &[u8], modified: u64) -> Verdict {
    if headers.contains_key(IF_MATCH) {
        if !any_tag(headers, &IF_MATCH, |tag| tag == etag) {
            return Verdict::Failed;
        }
    } else if date(headers, &IF_UNMODIFIED_SINCE).is_some_and(|since| modified > since) {
        return Verdict::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        // Weak comparison: a W/ does not count.
        if any_tag(headers, &IF_NONE_MATCH, |tag| tag.strip_prefix(b"W/").unwrap_or(tag) == etag) {
            return Verdict::NotModified;
        }
    } else if date(headers, &IF_MODIFIED_SINCE).is_some_and(|since| modified <= since) {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether Range is to be honoured: there is no If-Range, or its one validator is strong and fits. A date is strong
/// when the file is at least a second older than `now` (RFC 9110 section 8.8.2.2).
pub fn range_applies(headers: &HeaderMap, etag: &[u8], modified: u64, now: u64) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    let value = value.as_bytes().trim_ascii();
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        value == etag
    } else {
        date(headers, &IF_RANGE).is_some_and(|date| date == modified && modified < now)
    }
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let text = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        // Two dates are no date.
        return None;
    }
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Whether any member of the list is `*` or passes `test`. Tags may contain commas, so the list is read tag by tag;
/// reading ends at the first thing that is no tag.
fn any_tag(headers: &HeaderMap, name: &HeaderName, test: impl Fn(&[u8]) -> bool) -> bool {
    headers.get_all(name).iter().any(|value| {
        let mut rest = value.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        loop {
            while let [b',' | b' ' | b'\t', tail @ ..] = rest {
                rest = tail;
            }
            let open = if rest.starts_with(b"W/\"") {
                3
            } else if rest.starts_with(b"\"") {
                1
            } else {
                return false;
            };
            let Some(length) = memchr::memchr(b'"', &rest[open..]) else { return false };
            let (tag, tail) = rest.split_at(open + length + 1);
            if test(tag) {
                return true;
            }
            rest = tail;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &[u8] = b"\"abc\"";
    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const AT: u64 = 784_111_777;
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn conditions_are_judged_in_the_order_of_the_rfc() {
        use Verdict::{Failed, NotModified, Proceed};
        for (list, expected) in [
            (&[][..], Proceed),
            (&[("if-match", "\"abc\"")], Proceed),
            (&[("if-match", "*")], Proceed),
            (&[("if-match", "\"x\", \"abc\"")], Proceed),
            (&[("if-match", "W/\"abc\"")], Failed),
            (&[("if-match", "\"x\"")], Failed),
            (&[("if-match", "abc")], Failed),
            (&[("if-match", "\"abc\""), ("if-unmodified-since", EARLIER)], Proceed),
            (&[("if-unmodified-since", EARLIER)], Failed),
            (&[("if-unmodified-since", SAME)], Proceed),
            (&[("if-unmodified-since", "yesterday")], Proceed),
            (&[("if-none-match", "\"abc\"")], NotModified),
            (&[("if-none-match", "W/\"abc\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"a,b\", \"abc\"")], NotModified),
            (&[("if-none-match", "\"x\""), ("if-none-match", "\"abc\"")], NotModified),
            (&[("if-none-match", "\"x\""), ("if-modified-since", LATER)], Proceed),
            (&[("if-none-match", "\"abc")], Proceed),
            (&[("if-modified-since", SAME)], NotModified),
            (&[("if-modified-since", LATER)], NotModified),
            (&[("if-modified-since", EARLIER)], Proceed),
            (&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], NotModified),
            (&[("if-modified-since", "Sun Nov  6 08:49:37 1994")], NotModified),
            (&[("if-modified-since", "never")], Proceed),
            (&[("if-modified-since", SAME), ("if-modified-since", LATER)], Proceed),
            (&[("if-match", "\"x\""), ("if-none-match", "\"abc\"")], Failed),
            (&[("if-match", "\"abc\""), ("if-none-match", "\"abc\"")], NotModified),
        ] {
            assert_eq!(judge(&headers(list), ETAG, AT), expected, "{list:?}");
        }
    }

    #[test]
    fn if_range_wants_a_strong_validator() {
        for (value, applies) in [
            ("\"abc\"", true),
            ("W/\"abc\"", false),
            ("\"x\"", false),
            (SAME, true),
            (EARLIER, false),
            (LATER, false),
            ("*", false),
        ] {
            assert_eq!(range_applies(&headers(&[("if-range", value)]), ETAG, AT, AT + 10), applies, "{value}");
        }
        assert!(range_applies(&HeaderMap::new(), ETAG, AT, AT));
        assert!(!range_applies(&headers(&[("if-range", SAME)]), ETAG, AT, AT), "written this very second");
    }
}
