//! Comma separated values (RFC 4180) as JSON: the first line names the columns, `NULL` is null, all else is text.

use bytes::Bytes;

use super::Error;

/// The lines as a JSON array of objects, and the columns.
pub(super) fn to_json(body: &[u8]) -> Result<(Bytes, Vec<String>), Error> {
    let text = str::from_utf8(body).map_err(|_| Error::body("The CSV is not UTF-8"))?;
    let mut lines = Lines { rest: text.strip_prefix('\u{feff}').unwrap_or(text) };
    let columns = lines.next().ok_or_else(|| Error::body("The CSV is empty"))??;
    if (1..columns.len()).any(|at| columns[..at].contains(&columns[at])) {
        return Err(Error::body("A column of the CSV comes twice"));
    }
    let keys: Vec<String> = columns.iter().map(|column| json_text(column)).collect();
    let mut out = String::with_capacity(body.len() * 2 + 2);
    out.push('[');
    for line in lines {
        let line = line?;
        if line.len() != columns.len() {
            return Err(Error::body("All lines must have same number of fields"));
        }
        if out.len() > 1 {
            out.push(',');
        }
        for (at, (key, value)) in keys.iter().zip(&line).enumerate() {
            out.push(if at == 0 { '{' } else { ',' });
            out.push_str(key);
            out.push(':');
            if value == "NULL" { out.push_str("null") } else { out.push_str(&json_text(value)) }
        }
        out.push('}');
    }
    out.push(']');
    Ok((out.into(), columns))
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Lines that are not empty, as fields.
struct Lines<'a> {
    rest: &'a str,
}

impl Iterator for Lines<'_> {
    type Item = Result<Vec<String>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_start_matches(['\r', '\n']);
        if self.rest.is_empty() {
            return None;
        }
        let mut fields = Vec::new();
        loop {
            let field = match self.field() {
                Ok(field) => field,
                Err(error) => {
                    self.rest = "";
                    return Some(Err(error));
                }
            };
            fields.push(field);
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => return Some(Ok(fields)),
            }
        }
    }
}

impl Lines<'_> {
    fn field(&mut self) -> Result<String, Error> {
        let Some(mut quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', '\r', '\n']).unwrap_or(self.rest.len());
            let (field, rest) = self.rest.split_at(end);
            if field.contains('"') {
                return Err(Error::body("A quote stands in a field of the CSV that does not begin with one"));
            }
            self.rest = rest;
            return Ok(field.to_owned());
        };
        let mut field = String::new();
        loop {
            let (part, rest) =
                quoted.split_once('"').ok_or_else(|| Error::body("A quoted field of the CSV does not end"))?;
            field.push_str(part);
            match rest.strip_prefix('"') {
                Some(rest) => {
                    field.push('"');
                    quoted = rest;
                }
                None if rest.is_empty() || rest.starts_with([',', '\r', '\n']) => {
                    self.rest = rest;
                    return Ok(field);
                }
                None => return Err(Error::body("Something follows a quoted field of the CSV")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_may_be_quoted() {
        let (json, columns) = to_json("\u{feff}a,\"b,\"\r\n1,\"x\"\"y\nz\"\r\n\r\n,NULL".as_bytes()).unwrap();
        assert_eq!(columns, ["a", "b,"]);
        assert_eq!(json, r#"[{"a":"1","b,":"x\"y\nz"},{"a":"","b,":null}]"#);
        assert_eq!(to_json(b"a\n").unwrap().0, "[]");
        for wrong in ["", "\n", "a,a\n", "a\n\"x", "a\n\"x\"y", "a\nx\"y", "a,b\n1,2,3"] {
            assert!(to_json(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
