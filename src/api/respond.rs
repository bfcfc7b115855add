//! From what a statement returned to a response.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, HeaderName, LOCATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::Error;
use super::execute::Outcome;
use super::query::encode;
use crate::http::{Body, Response};

/// Which rows of how many a response has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// The first row's number.
    pub(super) first: i64,
    /// How many rows there are in the response.
    pub(super) rows: i64,
    /// How many there are in all.
    pub(super) total: Option<i64>,
}

impl Extent {
    /// The status of a read, and an error when it begins behind the last row.
    pub(super) fn status(self) -> Result<StatusCode, Error> {
        match self.total {
            Some(total) if self.first > total => {
                let details = format!("An offset of {} was requested, but there are only {total} rows.", self.first);
                Err(Error::range(details).header(CONTENT_RANGE, self.header()))
            }
            Some(total) if self.rows < total => Ok(StatusCode::PARTIAL_CONTENT),
            _ => Ok(StatusCode::OK),
        }
    }

    /// The header Content-Range.
    pub(super) fn header(self) -> HeaderValue {
        let Self { first, rows, total } = self;
        let range = match rows {
            1.. if total != Some(0) => format!("{first}-{}", first + rows - 1),
            _ => "*".to_owned(),
        };
        let text = match total {
            Some(total) => format!("{range}/{total}"),
            None => format!("{range}/*"),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("*/*"))
    }
}

/// Content-Range of a write that does not say which rows it touched, but how many.
pub(super) fn only_total(total: Option<i64>) -> HeaderValue {
    Extent { first: 0, rows: 0, total }.header()
}

/// The address of what was read: its name and the query in one form.
pub(super) fn content_location(headers: &mut HeaderMap, name: &str, query: &str) {
    let mut out = String::with_capacity(name.len() + query.len() + 2);
    out.push('/');
    for part in name.split('/') {
        if out.len() > 1 {
            out.push('/');
        }
        encode(&mut out, part);
    }
    if !query.is_empty() {
        out.push('?');
        out.push_str(query);
    }
    if let Ok(value) = HeaderValue::try_from(out) {
        headers.insert(CONTENT_LOCATION, value);
    }
}

/// The address of a new row: `/name?key=eq.value`.
pub(super) fn location(headers: &mut HeaderMap, name: &str, key: Option<&str>) {
    let Some(Value::Object(key)) = key.and_then(|key| serde_json::from_str(key).ok()) else { return };
    if key.is_empty() {
        return;
    }
    let mut out = String::from("/");
    encode(&mut out, name);
    for (at, (column, value)) in key.iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        encode(&mut out, column);
        out.push('=');
        match value {
            Value::Null => out.push_str("is.null"),
            Value::String(text) => encode(&mut out, &format!("eq.{text}")),
            other => encode(&mut out, &format!("eq.{other}")),
        }
    }
    if let Ok(value) = HeaderValue::try_from(out) {
        headers.insert(LOCATION, value);
    }
}

/// The response, with what the database's functions said of its status and headers.
pub(super) fn respond(
    status: StatusCode,
    headers: HeaderMap,
    body: impl Into<Body>,
    outcome: &Outcome,
) -> Result<Response, Error> {
    let status = match outcome.status.as_deref() {
        None | Some("") => status,
        Some(text) => own_status(text)?,
    };
    let headers = match outcome.headers.as_deref() {
        None | Some("") => headers,
        Some(text) => own_headers(text, headers)?,
    };
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn own_status(text: &str) -> Result<StatusCode, Error> {
    let status = text.trim().parse::<u16>().ok().and_then(|number| StatusCode::from_u16(number).ok());
    status.filter(|status| status.as_u16() >= 200).ok_or_else(|| {
        Error::new(StatusCode::INTERNAL_SERVER_ERROR, "PGRST112", "response.status guc must be a valid status code")
    })
}

/// Those that frame a message are not for functions to say.
const FRAMING: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// A function's headers replace ours of the same name.
fn own_headers(text: &str, mut headers: HeaderMap) -> Result<HeaderMap, Error> {
    let wrong = || {
        Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "PGRST111",
            "response.headers guc must be a JSON array composed of objects with a single key and a string value",
        )
    };
    let Ok(Value::Array(all)) = serde_json::from_str(text) else { return Err(wrong()) };
    let mut own = HeaderMap::new();
    for one in &all {
        let Some((name, Value::String(value))) =
            one.as_object().filter(|one| one.len() == 1).and_then(|one| one.iter().next())
        else {
            return Err(wrong());
        };
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            return Err(wrong());
        };
        if FRAMING.contains(&name) {
            return Err(wrong().details(format!("{name} is not for a function to say")));
        }
        own.append(name, value);
    }
    for name in own.keys() {
        headers.remove(name);
    }
    headers.extend(own);
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_which_rows_of_how_many() {
        let header = |first, rows, total| Extent { first, rows, total }.header().to_str().unwrap().to_owned();
        assert_eq!(header(0, 15, None), "0-14/*");
        assert_eq!(header(2, 3, Some(321)), "2-4/321");
        assert_eq!(header(0, 0, None), "*/*");
        assert_eq!(header(1, 0, Some(0)), "*/0");
        assert_eq!(only_total(Some(3)), "*/3");
        let status = |first, rows, total| Extent { first, rows, total }.status().map_err(|error| error.status);
        assert_eq!(status(0, 15, None), Ok(StatusCode::OK));
        assert_eq!(status(0, 15, Some(15)), Ok(StatusCode::OK));
        assert_eq!(status(0, 2, Some(15)), Ok(StatusCode::PARTIAL_CONTENT));
        assert_eq!(status(15, 0, Some(15)), Ok(StatusCode::PARTIAL_CONTENT));
        let error = Extent { first: 100, rows: 0, total: Some(15) }.status().unwrap_err();
        assert_eq!(error.headers[CONTENT_RANGE], "*/15");
        assert_eq!(error.details, "An offset of 100 was requested, but there are only 15 rows.");
    }

    #[test]
    fn a_new_row_has_an_address() {
        let address = |key: &str| {
            let mut headers = HeaderMap::new();
            location(&mut headers, "a b", Some(key));
            headers.get(LOCATION).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(
            address(r#"{"id":11,"k y":"é=","n":null}"#).unwrap(),
            "/a%20b?id=eq.11&k%20y=eq.%C3%A9%3D&n=is.null"
        );
        assert_eq!(address("{}"), None);
    }

    #[test]
    fn functions_decide_status_and_headers() {
        let outcome = |status: &str, headers: &str| Outcome {
            status: Some(status.to_owned()),
            headers: Some(headers.to_owned()),
            ..Outcome::default()
        };
        let mut ours = HeaderMap::new();
        ours.insert("x-a", HeaderValue::from_static("ours"));
        ours.insert("x-b", HeaderValue::from_static("ours"));
        let good = outcome("418", r#"[{"X-A":"1"},{"set-cookie":"a"},{"set-cookie":"b"}]"#);
        let response = respond(StatusCode::OK, ours.clone(), "", &good).unwrap();
        assert_eq!(response.status(), 418);
        assert_eq!(response.headers()["x-a"], "1");
        assert_eq!(response.headers()["x-b"], "ours");
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        let code = |status: &str, headers: &str| {
            respond(StatusCode::OK, ours.clone(), "", &outcome(status, headers)).map(|_| ()).map_err(|error| error.code)
        };
        assert_eq!(code("", ""), Ok(()));
        for status in ["bad", "99", "100", "1000", "-1"] {
            assert_eq!(code(status, "").unwrap_err(), "PGRST112", "{status}");
        }
        for headers in [
            "{\"X\":\"1\"}",
            "[{\"X\":1}]",
            "[{\"X\":\"1\",\"Y\":\"2\"}]",
            "bad",
            "[{\"X\":\"a\\nb: c\"}]",
            "[{\"a b\":\"1\"}]",
            "[{\"Content-Length\":\"0\"}]",
            "[{\"Transfer-Encoding\":\"chunked\"}]",
        ] {
            assert_eq!(code("", headers).unwrap_err(), "PGRST111", "{headers}");
        }
    }
}
