//! Addresses of requests: one of the configuration with arguments in its path, or one that a task names and a list of
//! hosts allows.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::fill::{Missing, Source, Text};
use crate::http::Destination;

/// Everything but what never means anything in an address (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An address with places behind its host.
#[derive(Clone, Debug)]
pub(super) struct Template {
    text: Text,
    plain: bool,
}

/// Why a filled address is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// A value is not there.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A value would lead to another folder.
    #[error("an argument in the address is empty, \".\" or \"..\"")]
    Segment,
    /// What came out cannot be used.
    #[error("the address {0}")]
    Unusable(&'static str),
}

impl Template {
    /// Reads an address; `plain` lets it be `http://` anywhere.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str, plain: bool) -> Result<Self, String> {
        let template = Self { text: Text::parse(text)?, plain };
        // Places in front of the path would let arguments choose the host.
        let behind = text.find("://").map_or(0, |at| at + 3);
        let end = text[behind..].find(['/', '?']).map_or(text.len(), |at| behind + at);
        if text[..end].contains(['{', '}']) {
            return Err("has a place for an argument in front of its path".into());
        }
        destination(&text.replace(['{', '}'], ""), plain)?;
        Ok(template)
    }

    /// The address for a task.
    ///
    /// # Errors
    /// A value that is missing or leads elsewhere.
    pub(super) fn fill(&self, source: &Source<'_>) -> Result<Destination, Error> {
        let text = self.text.fill(source, |value| {
            // A segment of nothing but dots means a folder, and could not be told apart once it is in place.
            let dots = matches!(value, "" | "." | "..");
            if dots { "\0".into() } else { utf8_percent_encode(value, RESERVED).to_string() }
        })?;
        if text.contains('\0') {
            return Err(Error::Segment);
        }
        destination(&text, self.plain).map_err(Error::Unusable)
    }
}

/// Reads an address.
///
/// # Errors
/// What is wrong with it, after "the address ".
pub(super) fn destination(text: &str, plain: bool) -> Result<Destination, &'static str> {
    if plain { Destination::parse_any(text) } else { Destination::parse(text) }
}

/// A host that tasks may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Without the star and its dot.
    host: String,
    below: bool,
    port: Option<u16>,
}

impl Pattern {
    /// Reads "example.org", "*.example.org" or "example.org:8443"; an IPv6 address stands in brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let to = Destination::parse(&format!("https://{rest}")).ok()?;
        let port = if rest.ends_with(']') { None } else { rest.rsplit_once(':').map(|_| to.port()) };
        let usable = !rest.contains(['/', '?', '*']) && !to.host().is_empty();
        usable.then(|| Self { host: to.host().to_owned(), below, port })
    }

    /// Whether an address is at this host.
    pub(super) fn allows(&self, to: &Destination) -> bool {
        let host = to.host().strip_suffix('.').unwrap_or(to.host());
        let named = if self.below {
            host.strip_suffix(&self.host).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
        } else {
            host == self.host
        };
        named && to.port() == self.port.unwrap_or(if to.is_tls() { 443 } else { 80 })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn fill(template: &str, value: Value) -> Result<String, Error> {
        let kwargs = Map::from_iter([("x".to_owned(), value)]);
        let source = Source { id: "1", task: "t", args: &[], kwargs: &kwargs };
        Template::parse(template, false).unwrap().fill(&source).map(|to| to.to_string())
    }

    #[test]
    fn an_argument_is_one_segment_or_one_value_and_nothing_more() {
        let template = "https://api.example.org/users/{kwargs.x}?x={kwargs.x}";
        assert_eq!(
            fill(template, json!("a/b?c&d=é")).unwrap(),
            "https://api.example.org/users/a%2Fb%3Fc%26d%3D%C3%A9?x=a%2Fb%3Fc%26d%3D%C3%A9"
        );
        assert_eq!(fill(template, json!(7)).unwrap(), "https://api.example.org/users/7?x=7");
        for bad in ["..", ".", ""] {
            assert_eq!(fill(template, json!(bad)).unwrap_err(), Error::Segment, "{bad}");
        }
    }

    #[test]
    fn no_argument_chooses_the_host() {
        for bad in [
            "https://{kwargs.host}/x",
            "https://{kwargs.host}.example.org/x",
            "{kwargs.url}",
            "https://example.org{kwargs.x}",
            "https://example.org:{kwargs.x}/",
            "http://example.org/{kwargs.x}",
            "https://example.org/#{kwargs.x}",
        ] {
            assert!(Template::parse(bad, false).is_err(), "{bad}");
        }
        assert!(Template::parse("http://example.org/{kwargs.x}", true).is_ok());
    }

    #[test]
    fn a_pattern_is_a_host_and_its_port() {
        let allows =
            |pattern: &str, to: &str| Pattern::parse(pattern).unwrap().allows(&Destination::parse_any(to).unwrap());
        assert!(allows("example.org", "https://Example.org/x") && allows("example.org", "http://example.org/"));
        assert!(
            !allows("example.org", "https://example.org:8443/") && !allows("example.org", "https://a.example.org/")
        );
        assert!(allows("*.example.org", "https://a.b.example.org/"));
        assert!(
            !allows("*.example.org", "https://example.org/") && !allows("*.example.org", "https://badexample.org/")
        );
        assert!(allows("[::1]:8080", "http://[::1]:8080/") && allows("a.example:80", "http://a.example/"));
        for bad in ["", "*", "https://a", "a/b", "a.*.b", "a b"] {
            assert!(Pattern::parse(bad).is_none(), "{bad}");
        }
    }
}
