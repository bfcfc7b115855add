//! Messages that we make: of tasks, and of events and remote control's answers. Members stand in kombu's order and form,
//! so that nobody can tell them from a Celery client's.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::moment::{iso, now};
use super::python::json;
use super::repr;
use super::scan::Json;

/// What follows a task: signatures, as they stand in its message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embed {
    /// Signatures that a success calls.
    pub callbacks: Value,
    /// Signatures that a failure calls.
    pub errbacks: Value,
    /// The rest of the chain, reversed: the last one runs next.
    pub chain: Value,
    /// The body of the chord that it is a part of.
    pub chord: Value,
}

/// A task's content, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Named arguments.
    pub kwargs: Map<String, Value>,
    /// What follows.
    pub embed: Embed,
}

impl Body {
    /// Reads the content of an [`super::Envelope`] in JSON. Typed values become what JSON has for them: the text of a
    /// date, time, UUID or decimal, and text or base64 of bytes.
    ///
    /// # Errors
    /// Why it is no task's content, in a sentence.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|_| "the content is no text")?;
        let parts = Json::parse(text).and_then(Json::array).ok_or("the content is no list")?;
        let [args, kwargs, ..] = &parts[..] else { return Err("the content has no arguments".into()) };
        let Value::Array(args) = plain(args.to_value()) else { return Err("the arguments are no list".into()) };
        let Value::Object(kwargs) = plain(kwargs.to_value()) else {
            return Err("the named arguments are no object".into());
        };
        let mut embed = match parts.get(2).map(|embed| embed.to_value()) {
            Some(Value::Object(embed)) => embed,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err("what follows the task is no object".into()),
        };
        let mut take = |name: &str| embed.remove(name).unwrap_or_default();
        let embed = Embed {
            callbacks: take("callbacks"),
            errbacks: take("errbacks"),
            chain: take("chain"),
            chord: take("chord"),
        };
        Ok(Self { args, kwargs, embed })
    }
}

/// Kombu's typed values as plain JSON.
fn plain(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(plain).collect(),
        Value::Object(mut members) => {
            if members.len() == 2 && members.contains_key("__type__") && members.contains_key("__value__") {
                return match members.remove("__value__").unwrap_or_default() {
                    Value::Object(uuid) => uuid.get("hex").cloned().unwrap_or(Value::Object(uuid)),
                    other => other,
                };
            }
            members.into_iter().map(|(key, value)| (key, plain(value))).collect()
        }
        other => other,
    }
}

/// A task's message to be made.
#[derive(Clone, Debug, Default)]
pub struct Task<'a> {
    /// Its name.
    pub task: &'a str,
    /// Its identifier.
    pub id: &'a str,
    /// Positional arguments.
    pub args: &'a [Value],
    /// Named arguments.
    pub kwargs: Map<String, Value>,
    /// What follows.
    pub embed: Embed,
    /// The name to show instead.
    pub shadow: Option<&'a str>,
    /// Not before, in seconds since 1970.
    pub eta: Option<f64>,
    /// Not after, in seconds since 1970.
    pub expires: Option<f64>,
    /// The group.
    pub group: Option<&'a str>,
    /// The place in it.
    pub group_index: Option<i64>,
    /// Tries before.
    pub retries: u32,
    /// Hard and soft limit, in seconds.
    pub limits: (Option<f64>, Option<f64>),
    /// The first task of all that led here; the task itself if there is none.
    pub root_id: Option<&'a str>,
    /// The task that led here.
    pub parent_id: Option<&'a str>,
    /// Who sends it: `gen<pid>@<host>`, or a worker's node name.
    pub origin: &'a str,
    /// Whether the result is not wanted; `None` leaves it to the task's type.
    pub ignore_result: Option<bool>,
    /// How often it was replaced.
    pub replaced_task_nesting: u32,
    /// Stamps.
    pub stamps: Map<String, Value>,
    /// More headers; ours go before one of the same name.
    pub headers: Map<String, Value>,
    /// Who waits for an answer.
    pub reply_to: Option<&'a str>,
    /// Its exchange; "" is the queue's own.
    pub exchange: &'a str,
    /// Its queue.
    pub routing_key: &'a str,
    /// 0 to 9; 0 goes first.
    pub priority: u8,
    /// Its arguments' short forms, if they are known already.
    pub reprs: Option<(&'a str, &'a str)>,
}

/// Headers that [`Task`] sets.
const HEADERS: [&str; 20] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "redelivered",
];

impl Task<'_> {
    /// The message.
    #[must_use]
    pub fn message(&self) -> Bytes {
        let embed = &self.embed;
        let body = format!(
            r#"[{}, {}, {{"callbacks": {}, "errbacks": {}, "chain": {}, "chord": {}}}]"#,
            json(self.args),
            json(&self.kwargs),
            json(&embed.callbacks),
            json(&embed.errbacks),
            json(&embed.chain),
            json(&embed.chord)
        );
        let (args, kwargs) = match self.reprs {
            Some((args, kwargs)) => (args.to_owned(), kwargs.to_owned()),
            None if self.kwargs.is_empty() => (repr::tuple(self.args), "{}".to_owned()),
            None => (repr::tuple(self.args), repr::short_dict(&self.kwargs)),
        };
        let stamped =
            if self.stamps.is_empty() { "null".into() } else { json(&self.stamps.keys().collect::<Vec<_>>()) };
        let more = self.headers.iter().filter(|(name, _)| !HEADERS.contains(&name.as_str())).fold(
            String::new(),
            |mut more, (name, value)| {
                let _ = write!(more, ", {}: {}", json(name), json(value));
                more
            },
        );
        let headers = format!(
            "{{\"lang\": \"py\", \"task\": {}, \"id\": {}, \"shadow\": {}, \"eta\": {}, \"expires\": {}, \"group\": {}, \
             \"group_index\": {}, \"retries\": {}, \"timelimit\": [{}, {}], \"root_id\": {}, \"parent_id\": {}, \
             \"argsrepr\": {}, \"kwargsrepr\": {}, \"origin\": {}, \"ignore_result\": {}, \
             \"replaced_task_nesting\": {}, \"stamped_headers\": {stamped}, \"stamps\": {}{more}}}",
            json(self.task),
            json(self.id),
            json(&self.shadow),
            json(&self.eta.map(iso)),
            json(&self.expires.map(iso)),
            json(&self.group),
            json(&self.group_index),
            self.retries,
            number(self.limits.0),
            number(self.limits.1),
            json(self.root_id.unwrap_or(self.id)),
            json(&self.parent_id),
            json(&args),
            json(&kwargs),
            json(self.origin),
            json(&self.ignore_result),
            self.replaced_task_nesting,
            json(&self.stamps),
        );
        let expiration = self.expires.map_or(String::new(), |expires| {
            format!("\"expiration\": \"{}\", ", ((expires - now()).max(0.0) * 1e3) as u64)
        });
        let reply_to = self.reply_to.map_or(String::new(), |to| format!("\"reply_to\": {}, ", json(to)));
        format!(
            "{{\"body\": \"{}\", \"content-encoding\": \"utf-8\", \"content-type\": \"application/json\", \
             \"headers\": {headers}, \"properties\": {{\"correlation_id\": {}, {reply_to}\"delivery_mode\": 2, \
             {expiration}\"delivery_info\": {{\"exchange\": {}, \"routing_key\": {}}}, \"priority\": {}, \
             \"body_encoding\": \"base64\", \"delivery_tag\": \"{}\"}}}}",
            STANDARD.encode(body),
            json(self.id),
            json(self.exchange),
            json(self.routing_key),
            self.priority.min(9),
            Uuid::new_v4(),
        )
        .into()
    }
}

/// Whole seconds without a point, as people give them.
fn number(seconds: Option<f64>) -> String {
    match seconds {
        None => "null".into(),
        Some(seconds) if seconds.fract() == 0.0 && seconds.abs() < 1e15 => format!("{}", seconds as i64),
        Some(seconds) => json(&seconds),
    }
}

/// An event's or an answer's message: short-lived, and not of a task.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// What it says, as JSON text.
    pub body: &'a str,
    /// Its headers.
    pub headers: Map<String, Value>,
    /// "celeryev", "reply.celery.pidbox"
    pub exchange: &'a str,
    /// "worker.heartbeat"
    pub routing_key: &'a str,
}

impl Notice<'_> {
    /// The message.
    #[must_use]
    pub fn message(&self) -> Bytes {
        format!(
            "{{\"body\": \"{}\", \"content-encoding\": \"utf-8\", \"content-type\": \"application/json\", \
             \"headers\": {}, \"properties\": {{\"delivery_mode\": 1, \"delivery_info\": {{\"exchange\": {}, \
             \"routing_key\": {}}}, \"priority\": 0, \"body_encoding\": \"base64\", \"delivery_tag\": \"{}\"}}}}",
            STANDARD.encode(self.body),
            json(&self.headers),
            json(self.exchange),
            json(self.routing_key),
            Uuid::new_v4(),
        )
        .into()
    }

    /// Takes a message of this kind apart: its headers and what it says, as JSON. `None` if it is none, or has more than
    /// so many bytes.
    #[must_use]
    pub fn read(raw: &[u8], most: usize) -> Option<(Map<String, Value>, Value)> {
        let text = std::str::from_utf8(raw).ok().filter(|text| text.len() <= most)?;
        let top = Json::parse(text)?.object()?;
        let headers = match top.get("headers").map(Json::to_value) {
            Some(Value::Object(headers)) => headers,
            _ => Map::new(),
        };
        let body = top.get("body")?.as_str()?;
        let encoding = top.get("properties").and_then(Json::object).and_then(|all| all.get("body_encoding")?.as_word());
        let body = match encoding.as_deref() {
            Some("base64") => String::from_utf8(STANDARD.decode(body.trim()).ok()?).ok()?,
            _ => body.into_owned(),
        };
        Some((headers, Json::parse(&body)?.to_value()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::super::{Envelope, Limits};
    use super::*;

    #[test]
    fn a_task_of_ours_reads_as_celery_writes_it() {
        let args = [value!(2), value!(3)];
        let task = Task {
            task: "wapp.add",
            id: "eb93f4f2-161c",
            args: &args,
            origin: "gen26071@vm",
            ignore_result: Some(false),
            reply_to: Some("a21dfae6"),
            routing_key: "celery",
            ..Task::default()
        };
        let message = task.message();
        let text = std::str::from_utf8(&message).unwrap();
        // The capture of facts/celery-wire.md, 3.1, up to the tag.
        let expected = concat!(
            r#"{"body": "W1syLCAzXSwge30sIHsiY2FsbGJhY2tzIjogbnVsbCwgImVycmJhY2tzIjogbnVsbCwgImNoYWluIjogbnVsbCwgImNob3JkIjogbnVsbH1d", "#,
            r#""content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py", "task": "wapp.add", "#,
            r#""id": "eb93f4f2-161c", "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, "#,
            r#""retries": 0, "timelimit": [null, null], "root_id": "eb93f4f2-161c", "parent_id": null, "argsrepr": "(2, 3)", "#,
            r#""kwargsrepr": "{}", "origin": "gen26071@vm", "ignore_result": false, "replaced_task_nesting": 0, "#,
            r#""stamped_headers": null, "stamps": {}}, "properties": {"correlation_id": "eb93f4f2-161c", "reply_to": "a21dfae6", "#,
            r#""delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": 0, "#,
            r#""body_encoding": "base64", "delivery_tag": ""#,
        );
        assert_eq!(&text[..expected.len()], expected);
        let envelope = Envelope::parse(message.clone(), &Limits::new(1 << 20)).unwrap();
        assert_eq!(
            envelope.body,
            r#"[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#
        );
        assert_eq!(envelope.delivery_tag.len(), 36);
        assert_eq!(Body::parse(&envelope.body).unwrap().args, args);
    }

    #[test]
    fn every_field_comes_back() {
        let stamps = Map::from_iter([("tenant".to_owned(), value!(["a", "b"]))]);
        let task = Task {
            task: "t",
            id: "i",
            kwargs: Map::from_iter([("ü".to_owned(), value!({"deep": ["\u{1F600}"]}))]),
            embed: Embed { chain: value!([{"task": "next"}]), ..Embed::default() },
            eta: Some(1_795_448_296.5),
            expires: Some(1_795_448_300.0),
            group: Some("g"),
            group_index: Some(3),
            retries: 2,
            limits: (Some(10.0), Some(2.5)),
            root_id: Some("r"),
            parent_id: Some("p"),
            stamps,
            headers: Map::from_iter([("celery_beat_task".to_owned(), value!(true)), ("id".to_owned(), value!("no"))]),
            routing_key: "q",
            priority: 12,
            ..Task::default()
        };
        let message = task.message();
        let read = Envelope::parse(message.clone(), &Limits::new(1 << 20)).unwrap();
        let headers = &read.headers;
        assert_eq!((headers.id.as_str(), headers.eta, headers.expires), ("i", task.eta, task.expires));
        assert_eq!((headers.group.as_deref(), headers.group_index, headers.retries), (Some("g"), Some(3), 2));
        assert_eq!((headers.time_limit, headers.soft_time_limit), (Some(10.0), Some(2.5)));
        assert_eq!((headers.root_id.as_deref(), headers.parent_id.as_deref()), (Some("r"), Some("p")));
        assert_eq!(headers.stamps, [("tenant".to_owned(), value!(["a", "b"]))]);
        assert_eq!((read.priority, read.routing_key.as_str()), (9, "q"));
        let body = Body::parse(&read.body).unwrap();
        assert_eq!(body.embed, task.embed);
        assert_eq!(body.kwargs, task.kwargs);
        let text = std::str::from_utf8(&message).unwrap();
        assert!(text.contains(r#""stamps": {"tenant": ["a", "b"]}, "celery_beat_task": true}"#), "{text}");
    }

    #[test]
    fn a_content_is_taken_apart_and_typed_values_become_plain() {
        let content = br#"[[{"__type__": "datetime", "__value__": "2026-01-01T00:00:00+00:00"}, {"__type__": "uuid", "__value__": {"hex": "ab"}}, NaN], {"n": 12345678901234567890123}, null]"#;
        let body = Body::parse(content).unwrap();
        assert_eq!(body.args, [value!("2026-01-01T00:00:00+00:00"), value!("ab"), value!(null)]);
        assert_eq!(body.kwargs["n"], value!(12345678901234567890123_f64));
        assert_eq!(body.embed, Embed::default());
        for (bad, says) in [
            ("{}", "no list"),
            ("[[]]", "no arguments"),
            ("[1, {}, {}]", "arguments are no list"),
            ("[[], [], {}]", "named"),
            ("[[], {}, 3]", "follows"),
            ("\u{1}", "no list"),
        ] {
            assert!(Body::parse(bad.as_bytes()).unwrap_err().contains(says), "{bad}");
        }
    }

    #[test]
    fn a_notice_comes_back() {
        let headers = Map::from_iter([("hostname".to_owned(), value!("w@h"))]);
        let notice =
            Notice { body: r#"{"type": "x"}"#, headers: headers.clone(), exchange: "celeryev", routing_key: "a.b" };
        assert_eq!(Notice::read(&notice.message(), 10_000), Some((headers, value!({"type": "x"}))));
        assert_eq!(Notice::read(&notice.message(), 10), None);
        assert_eq!(Notice::read(b"{\"body\": 3}", 100), None);
    }
}
