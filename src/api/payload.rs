//! The body of a request: rows to write, or arguments of a function.
//!
//! PostgreSQL reads the values out of the JSON text itself; here only the keys are looked at, since they are the columns
//! that the statement names. With `columns=` not even that is needed.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::query::{Media, pairs};
use super::shape::{self, Shape};
use super::{Error, csv};

/// Rows to write.
#[derive(Debug)]
pub(super) struct Rows {
    /// A JSON array of objects, or one object.
    pub(super) json: Bytes,
    /// The columns that are written.
    pub(super) columns: Vec<String>,
}

/// What a function is called with, by POST.
#[derive(Debug)]
pub(super) enum Call {
    /// A JSON value, and the names in it.
    Json(Bytes, Vec<String>),
    /// Text by name, in its order.
    Text(Vec<(String, String)>),
    /// One value: text/plain, text/xml or application/octet-stream.
    Whole(Bytes, Media),
}

/// The type of a request's body; JSON when nothing is said.
pub(super) fn media(headers: &HeaderMap) -> Media {
    match headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
        None => Media::Json,
        Some(text) => match Media::read(text) {
            // Parameters mean nothing here.
            Media::Other(name) => Media::Other(name.split(';').next().unwrap_or_default().trim().to_owned()),
            media => media,
        },
    }
}

/// Reads rows to write. `columns` are those of the query, which a JSON body need not be searched for.
pub(super) fn rows(body: Bytes, headers: &HeaderMap, columns: Option<Vec<String>>) -> Result<Rows, Error> {
    match (media(headers), columns) {
        (Media::Json, Some(columns)) => Ok(Rows { json: body, columns }),
        (Media::Json, None) => match shape::read(&body)? {
            Shape::Object(columns) | Shape::Array(columns) => Ok(Rows { json: body, columns }),
            Shape::Uneven => Err(Error::body("All object keys must match")),
            Shape::Value => {
                Err(Error::body("Empty or invalid json").details("rows are an object, or an array of them"))
            }
        },
        (Media::Csv, columns) => {
            let (json, found) = csv::to_json(&body)?;
            Ok(Rows { json, columns: columns.unwrap_or(found) })
        }
        (Media::Form, columns) => {
            let form = form(&body)?;
            let mut object = serde_json::Map::new();
            for (name, value) in form {
                object.insert(name, value.into());
            }
            let found = object.keys().cloned().collect();
            Ok(Rows { json: json_text(&object.into()), columns: columns.unwrap_or(found) })
        }
        (other, _) => Err(Error::body(format!("Content-Type not acceptable: {other}"))),
    }
}

/// Reads arguments of a function.
pub(super) fn call(body: Bytes, headers: &HeaderMap, columns: Option<Vec<String>>) -> Result<Call, Error> {
    match media(headers) {
        Media::Json => {
            let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
            let names = match columns {
                Some(columns) => columns,
                None => match shape::read(&body)? {
                    Shape::Object(names) | Shape::Array(names) => names,
                    Shape::Uneven => return Err(Error::body("All object keys must match")),
                    Shape::Value => Vec::new(),
                },
            };
            Ok(Call::Json(body, names))
        }
        Media::Csv => {
            let (json, found) = csv::to_json(&body)?;
            Ok(Call::Json(json, columns.unwrap_or(found)))
        }
        Media::Form => form(&body).map(Call::Text),
        media @ (Media::Plain | Media::Xml | Media::Octets) => Ok(Call::Whole(body, media)),
        other => Err(Error::body(format!("Content-Type not acceptable: {other}"))),
    }
}

fn form(body: &[u8]) -> Result<Vec<(String, String)>, Error> {
    let text = str::from_utf8(body).map_err(|_| Error::body("The form is not UTF-8"))?;
    let pairs = pairs(text).map_err(|_| Error::body("The form is not UTF-8"))?;
    Ok(pairs.into_iter().map(|(name, value)| (name.into_owned(), value.map(Into::into).unwrap_or_default())).collect())
}

fn json_text(value: &serde_json::Value) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(content_type: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        headers
    }

    fn read(body: &'static str, content_type: &'static str) -> Result<(String, Vec<String>), String> {
        rows(Bytes::from_static(body.as_bytes()), &headers(content_type), None)
            .map(|rows| (String::from_utf8(rows.json.to_vec()).unwrap(), rows.columns))
            .map_err(|error| error.message.into_owned())
    }

    #[test]
    fn rows_come_as_json_forms_and_csv() {
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let json = r#"[{"a":1,"b":[2]},{"b":3,"a":null}]"#;
        assert_eq!(read(json, ""), Ok((json.to_owned(), columns(&["a", "b"]))));
        assert_eq!(read("{}", "application/json; charset=utf-8"), Ok(("{}".to_owned(), vec![])));
        assert_eq!(read("[]", "application/json"), Ok(("[]".to_owned(), vec![])));
        assert_eq!(
            read("a=1&b=x+y", "application/x-www-form-urlencoded"),
            Ok((r#"{"a":"1","b":"x y"}"#.to_owned(), columns(&["a", "b"])))
        );
        assert_eq!(read("a,b\n1,NULL\n", "text/csv"), Ok((r#"[{"a":"1","b":null}]"#.to_owned(), columns(&["a", "b"]))));
        for (body, content_type, message) in [
            ("", "", "Empty or invalid json"),
            ("{", "", "Empty or invalid json"),
            ("5", "", "Empty or invalid json"),
            (r#"[{"a":1},{"b":1}]"#, "", "All object keys must match"),
            (r#"[{"a":1},{"a":1,"b":2}]"#, "", "All object keys must match"),
            (r#"[{"a":1},5]"#, "", "All object keys must match"),
            ("a,b\n1\n", "text/csv", "All lines must have same number of fields"),
            ("x", "audio/mpeg3", "Content-Type not acceptable: audio/mpeg3"),
            ("x", "text/plain", "Content-Type not acceptable: text/plain"),
        ] {
            assert_eq!(read(body, content_type), Err(message.to_owned()), "{body} {content_type}");
        }
        let named = rows(Bytes::from_static(b"not looked at"), &headers(""), Some(columns(&["a"]))).unwrap();
        assert_eq!(named.columns, ["a"]);
    }

    #[test]
    fn arguments_come_by_name_or_as_one_value() {
        let read =
            |body: &'static str, content_type| call(Bytes::from_static(body.as_bytes()), &headers(content_type), None);
        assert!(matches!(read("", "").unwrap(), Call::Json(body, names) if names.is_empty() && body == "{}"));
        assert!(matches!(read("[1,2]", "").unwrap_err().message.as_ref(), "All object keys must match"));
        assert!(matches!(read("5", "").unwrap(), Call::Json(_, names) if names.is_empty()));
        let form = read("v=1&v=2", "application/x-www-form-urlencoded").unwrap();
        assert!(matches!(form, Call::Text(all) if all.len() == 2));
        assert!(matches!(read("x", "text/xml").unwrap(), Call::Whole(_, Media::Xml)));
        assert!(read("x", "image/png").is_err());
    }
}
