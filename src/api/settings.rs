//! What a request's transaction knows of the request: the settings that functions and policies read.
//!
//! The order is part of the dialect: the role's own settings come before the role, since the login may be allowed to set
//! what the role may not.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{COOKIE, HOST};

use super::Config;
use super::schema::{Catalog, Function};
use crate::auth::Caller;
use crate::db::Isolation;

/// What is set, in its order.
type Setting<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The settings of a transaction, and its isolation.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    all: Vec<Setting<'a>>,
    /// What the role or the function says.
    pub(super) isolation: Option<Isolation>,
}

/// The request, as far as the database hears of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard<'a> {
    pub(super) method: &'a str,
    /// The path below the mount, without its slash.
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) host: &'a str,
}

impl<'a> Settings<'a> {
    /// The settings for a caller's request that is about `schema`, and calls `function` if it calls one.
    pub(super) fn new(
        config: &'a Config,
        catalog: &'a Catalog,
        caller: &'a Caller,
        schema: &'a str,
        request: Heard<'a>,
        time_zone: Option<&'a str>,
        function: Option<&'a Function>,
    ) -> Self {
        let mut all: Vec<Setting<'a>> = Vec::with_capacity(12);
        let mut isolation = None;
        let mut add = |name: &'a str, value: Cow<'a, str>| all.push((Cow::Borrowed(name), value));
        add("search_path", search_path(schema, &config.extra_search_path).into());
        let of_role = catalog.role_settings.get(&*caller.role).map_or(&[][..], Vec::as_slice);
        for (name, value) in of_role {
            match &**name {
                "default_transaction_isolation" => isolation = read_isolation(value),
                name => add(name, Cow::Borrowed(value)),
            }
        }
        add("role", Cow::Borrowed(&caller.role));
        add("request.jwt.claims", Cow::Borrowed(&caller.claims));
        add("request.method", Cow::Borrowed(request.method));
        add("request.path", format!("/{}", request.path).into());
        add("request.headers", headers(request.headers, request.host).into());
        add("request.cookies", cookies(request.headers));
        if let Some(zone) = time_zone {
            add("timezone", Cow::Borrowed(zone));
        }
        for (name, value) in function.map_or(&[][..], |function| &function.settings) {
            match &**name {
                "default_transaction_isolation" => isolation = read_isolation(value),
                name => add(name, Cow::Borrowed(value)),
            }
        }
        for (name, value) in &config.app_settings {
            all.push((format!("app.settings.{name}").into(), Cow::Borrowed(value)));
        }
        Self { all, isolation }
    }

    /// The settings as the database takes them.
    pub(super) fn list(&self) -> Vec<(&str, &str)> {
        self.all.iter().map(|(name, value)| (&**name, &**value)).collect()
    }
}

fn read_isolation(text: &str) -> Option<Isolation> {
    Some(match text.to_ascii_lowercase().as_str() {
        "serializable" => Isolation::Serializable,
        "repeatable read" => Isolation::RepeatableRead,
        "read committed" | "read uncommitted" => Isolation::ReadCommitted,
        _ => return None,
    })
}

fn search_path(schema: &str, extra: &[String]) -> String {
    let mut out = String::new();
    for name in std::iter::once(schema).chain(extra.iter().map(String::as_str).filter(|name| *name != schema)) {
        if !out.is_empty() {
            out.push_str(", ");
        }
        quote(&mut out, name);
    }
    out
}

/// Appends a name in double quotes.
pub(super) fn quote(out: &mut String, name: &str) {
    out.push('"');
    for ch in name.chars() {
        if ch == '"' {
            out.push('"');
        }
        out.push(ch);
    }
    out.push('"');
}

/// An object of the headers, in lower case, without cookies. What comes several times is joined.
fn headers(headers: &HeaderMap, host: &str) -> String {
    let mut out = Vec::with_capacity(512);
    let mut object = Object::new(&mut out);
    for name in headers.keys().filter(|name| *name != COOKIE) {
        let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let first = values.next().unwrap_or_default();
        let joined = values.fold(first, |all, value| Cow::Owned(format!("{all}, {value}")));
        object.add(name.as_str(), &joined);
    }
    // HTTP/2 names the host elsewhere.
    if !headers.contains_key(HOST) && !host.is_empty() {
        object.add("host", host);
    }
    object.end();
    String::from_utf8(out).unwrap_or_default()
}

/// An object of the cookies; of one that comes twice, the last.
fn cookies(headers: &HeaderMap) -> Cow<'static, str> {
    if !headers.contains_key(COOKIE) {
        return Cow::Borrowed("{}");
    }
    let mut all = serde_json::Map::new();
    for value in headers.get_all(COOKIE) {
        for pair in String::from_utf8_lossy(value.as_bytes()).split(';') {
            if let Some((name, value)) = pair.split_once('=') {
                all.insert(name.trim().to_owned(), value.trim().into());
            }
        }
    }
    serde_json::Value::from(all).to_string().into()
}

/// Writes a JSON object of texts.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    fn add(&mut self, name: &str, value: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(&mut *self.out, name);
        self.out.push(b':');
        let _ = serde_json::to_writer(&mut *self.out, value);
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn settings_come_in_their_order() {
        let config = Config { app_settings: [("host".to_owned(), "h".to_owned())].into(), ..Config::default() };
        let mut catalog = Catalog::default();
        catalog.role_settings.insert(
            "web".into(),
            vec![
                ("statement_timeout".into(), "3s".into()),
                ("default_transaction_isolation".into(), "REPEATABLE READ".into()),
            ],
        );
        let caller = Caller { role: "web".into(), claims: r#"{"role":"web"}"#.into(), ..Caller::anonymous("web") };
        let mut map = HeaderMap::new();
        map.append("x-a", HeaderValue::from_static("1 \"quoted\""));
        map.append("x-a", HeaderValue::from_static("2"));
        map.append(COOKIE, HeaderValue::from_static("a=b; c=d=e;broken"));
        let heard = Heard { method: "GET", path: "films", headers: &map, host: "example.org" };
        let settings = Settings::new(&config, &catalog, &caller, "a\"b", heard, Some("Europe/Berlin"), None);
        assert_eq!(settings.isolation, Some(Isolation::RepeatableRead));
        assert_eq!(
            settings.list(),
            [
                ("search_path", r#""a""b", "public", "extensions""#),
                ("statement_timeout", "3s"),
                ("role", "web"),
                ("request.jwt.claims", r#"{"role":"web"}"#),
                ("request.method", "GET"),
                ("request.path", "/films"),
                ("request.headers", r#"{"x-a":"1 \"quoted\", 2","host":"example.org"}"#),
                ("request.cookies", r#"{"a":"b","c":"d=e"}"#),
                ("timezone", "Europe/Berlin"),
                ("app.settings.host", "h"),
            ]
        );
    }
}
