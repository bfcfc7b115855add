//! What an address means: the root, a relation or a function, in one of the exposed schemas.

use http::header::HeaderName;
use http::{HeaderMap, Method};

use super::Error;

const ACCEPT_PROFILE: HeaderName = HeaderName::from_static("accept-profile");
const CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address<'a> {
    /// The description of the API.
    Root,
    /// A table or a view.
    Relation(&'a str),
    /// A function.
    Function(&'a str),
}

impl<'a> Address<'a> {
    /// Reads a path below the mount, decoded and without its first slash.
    pub(super) fn read(path: &'a str) -> Result<Self, Error> {
        let mut parts = path.split('/');
        match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
            ("", None, _) => Ok(Self::Root),
            ("rpc", Some(name), None) if !name.is_empty() => Ok(Self::Function(name)),
            (name, None, _) => Ok(Self::Relation(name)),
            _ => Err(Error::path()),
        }
    }
}

/// The schema that a request is about.
pub(super) fn schema<'a>(method: &Method, headers: &HeaderMap, exposed: &'a [String]) -> Result<&'a str, Error> {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let name = if reads { ACCEPT_PROFILE } else { CONTENT_PROFILE };
    let default = exposed.first().map_or("public", String::as_str);
    let Some(value) = headers.get(name) else { return Ok(default) };
    let asked = String::from_utf8_lossy(value.as_bytes());
    let asked = asked.trim();
    exposed.iter().map(String::as_str).find(|schema| *schema == asked).ok_or_else(|| Error::schema(asked, exposed))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn paths_have_one_level() {
        assert_eq!(Address::read(""), Ok(Address::Root));
        assert_eq!(Address::read("films"), Ok(Address::Relation("films")));
        assert_eq!(Address::read("rpc"), Ok(Address::Relation("rpc")));
        assert_eq!(Address::read("rpc/add them"), Ok(Address::Function("add them")));
        for wrong in ["films/", "a/b", "rpc/", "rpc/a/b", "rpc/a/", "/"] {
            assert_eq!(Address::read(wrong), Err(Error::path()), "{wrong}");
        }
    }

    #[test]
    fn a_profile_chooses_among_the_exposed() {
        let exposed = ["v1".to_owned(), "v2".to_owned()];
        let mut headers = HeaderMap::new();
        assert_eq!(schema(&Method::GET, &headers, &exposed), Ok("v1"));
        headers.insert(ACCEPT_PROFILE, HeaderValue::from_static("v2"));
        headers.insert(CONTENT_PROFILE, HeaderValue::from_static("v3"));
        assert_eq!(schema(&Method::HEAD, &headers, &exposed), Ok("v2"));
        let error = schema(&Method::POST, &headers, &exposed).unwrap_err();
        assert_eq!((error.status.as_u16(), &*error.message), (406, "Invalid schema: v3"));
        assert_eq!(error.hint.as_deref(), Some("Only the following schemas are exposed: v1, v2"));
    }
}
