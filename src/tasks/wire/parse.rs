//! From a list's element to an [`Envelope`]: protocols 1, 2 and the mix of both, every encoding and compression that
//! kombu sends.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use bytes::Bytes;

use super::compression;
use super::envelope::{Envelope, Headers, Malformed};
use super::moment;
use super::scan::{Json, Object};

/// Forgiving about the padding, as Python is not, but other clients are.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a message may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes of a message, and of its content when it is no longer compressed.
    pub bytes: usize,
    /// How many seconds the application's clock is ahead of UTC at such a time of its own (in seconds since 1970 as if
    /// it were UTC): for times without an offset.
    pub zone: fn(i64) -> i64,
}

impl Limits {
    /// Messages of at most so many bytes, and UTC.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { bytes, zone: |_| 0 }
    }
}

impl Envelope {
    /// Reads a list's element.
    ///
    /// # Errors
    /// It is no task's message, or one that cannot be worked on; with the task's name and identifier as far as they can
    /// be found.
    pub fn parse(raw: Bytes, limits: &Limits) -> Result<Self, Malformed> {
        let bare = |why: String| Malformed { why, id: None, task: None };
        let text = std::str::from_utf8(&raw).map_err(|_| bare("it is no text".into()))?;
        let top = Json::parse(text).ok_or_else(|| bare("it is no JSON".into()))?;
        let top = top.object().ok_or_else(|| bare("it is no object".into()))?;
        let headers = top.get("headers").and_then(Json::object).unwrap_or_default();
        let known = |why: String| Malformed { why, id: word(&headers, "id"), task: word(&headers, "task") };
        if raw.len() > limits.bytes {
            return Err(known(format!("it has {} bytes; the limit is {}", raw.len(), limits.bytes)));
        }
        let properties = top.get("properties").and_then(Json::object).unwrap_or_default();
        let delivery = properties.get("delivery_info").and_then(Json::object).unwrap_or_default();
        let content_type = word(&top, "content-type").unwrap_or_else(|| "application/data".into());
        let content_encoding = word(&top, "content-encoding").unwrap_or_else(|| "binary".into());
        let body = top.get("body").and_then(Json::as_str).ok_or_else(|| known("it has no body".into()))?;
        let body = match properties.get("body_encoding").and_then(Json::as_str).as_deref() {
            Some("base64") => Bytes::from(
                BASE64
                    .decode(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>())
                    .map_err(|_| known("its body is no base64".into()))?,
            ),
            None | Some("utf-8" | "utf8") => Bytes::copy_from_slice(body.as_bytes()),
            Some(other) => return Err(known(format!("its body has the unknown encoding {other}"))),
        };
        let body = match word(&headers, "compression") {
            Some(name) => compression::undo(&name, body, limits.bytes).map_err(&known)?,
            None => body,
        };
        let mut read = Read { headers: Headers::default(), body: body.clone() };
        let old = if is_json(&content_type) { std::str::from_utf8(&body).ok().and_then(Json::parse) } else { None };
        let old = old.and_then(Json::object);
        if let Some(old) = old.filter(|old| old.any("args").is_some() || headers.get("task").is_none()) {
            read.old(&headers, &old, limits)?;
        } else if headers.get("task").is_some() {
            read.headers = fields(&headers, &headers, limits)?;
        } else {
            return Err(known("it names no task".into()));
        }
        let Read { headers, body } = read;
        if headers.id.is_empty() {
            return Err(Malformed { why: "it has no id".into(), id: None, task: Some(headers.task) });
        }
        Ok(Self {
            correlation_id: word(&properties, "correlation_id"),
            reply_to: word(&properties, "reply_to"),
            delivery_tag: word(&properties, "delivery_tag").unwrap_or_default(),
            exchange: word(&delivery, "exchange").unwrap_or_default(),
            routing_key: word(&delivery, "routing_key").unwrap_or_default(),
            priority: priority(&properties),
            redelivered: delivery.get("redelivered").and_then(Json::as_bool).unwrap_or_default(),
            headers,
            content_type,
            content_encoding,
            body,
            raw,
        })
    }
}

/// The identifier of a message's task, in the headers or in a body of protocol 1. `None` if there is none.
#[must_use]
pub fn id_of(raw: &[u8]) -> Option<String> {
    let top = Json::parse(std::str::from_utf8(raw).ok()?)?.object()?;
    let headers = top.get("headers").and_then(Json::object).unwrap_or_default();
    if let Some(id) = headers.get("id").and_then(Json::as_word) {
        return Some(id);
    }
    let body = top.get("body")?.as_str()?;
    let body = BASE64.decode(body.as_bytes()).unwrap_or_else(|_| body.as_bytes().to_vec());
    Json::parse(std::str::from_utf8(&body).ok()?)?.object()?.get("id")?.as_word()
}

/// The header in which a task of which there is one at most has its key.
pub const UNIQUE: &str = "beacon_unique";

/// A header's text.
#[must_use]
pub fn header_of(raw: &[u8], name: &str) -> Option<String> {
    Json::parse(std::str::from_utf8(raw).ok()?)?.object()?.get("headers")?.object()?.get(name)?.as_word()
}

/// Where the elements of a JSON list lie in its text.
#[must_use]
pub fn parts_of(list: &[u8]) -> Option<Vec<std::ops::Range<usize>>> {
    let text = std::str::from_utf8(list).ok()?;
    let place = |part: Json<'_>| part.offset_in(text)..part.offset_in(text) + part.text().len();
    Some(Json::parse(text)?.array()?.into_iter().map(place).collect())
}

/// The priority of a message, 0 to 9; 0 if it is none.
#[must_use]
pub fn priority_of(raw: &[u8]) -> u8 {
    let top = std::str::from_utf8(raw).ok().and_then(Json::parse).and_then(Json::object);
    top.and_then(|top| top.get("properties")?.object()).map_or(0, |properties| priority(&properties))
}

/// Headers and body on the way to protocol 2.
struct Read {
    headers: Headers,
    body: Bytes,
}

impl Read {
    /// Protocol 1, and the mix: what protocol 2 has in the headers lies in the body's object.
    fn old(&mut self, headers: &Object<'_>, old: &Object<'_>, limits: &Limits) -> Result<(), Malformed> {
        let member = |name: &str, otherwise: &'static str| old.get(name).map_or(otherwise, Json::text).to_owned();
        let kwargs = old.get("kwargs");
        let mut read = fields(headers, old, limits)?;
        let malformed = |why: &str| Malformed {
            why: why.into(),
            id: Some(read.id.clone()).filter(|id| !id.is_empty()),
            task: Some(read.task.clone()).filter(|task| !task.is_empty()),
        };
        if read.task.is_empty() {
            return Err(malformed("it names no task"));
        }
        if kwargs.is_some_and(|kwargs| !kwargs.is_object()) {
            return Err(malformed("its named arguments are no object"));
        }
        self.body = format!(
            r#"[{}, {}, {{"callbacks": {}, "errbacks": {}, "chain": null, "chord": {}}}]"#,
            member("args", "[]"),
            member("kwargs", "{}"),
            member("callbacks", "null"),
            member("errbacks", "null"),
            member("chord", "null"),
        )
        .into();
        if read.root_id.is_none() && headers.get("task").is_none() {
            read.root_id = Some(read.id.clone());
        }
        self.headers = read;
        Ok(())
    }
}

/// The headers' fields; each is looked for in the headers first, then in `old`.
fn fields(headers: &Object<'_>, old: &Object<'_>, limits: &Limits) -> Result<Headers, Malformed> {
    let get = |name: &str| headers.get(name).or_else(|| old.get(name));
    let text = |name: &str| get(name).and_then(Json::as_word);
    let number = |name: &str| get(name).and_then(Json::as_i64);
    let (task, id) = (text("task"), text("id"));
    let moment = |name: &str| match get(name) {
        None => Ok(None),
        Some(value) => value
            .as_str()
            .and_then(|text| moment::parse(text.trim(), limits.zone))
            .map(Some)
            .ok_or_else(|| Malformed { why: format!("its {name} is no time"), id: id.clone(), task: task.clone() }),
    };
    let limits = get("timelimit").and_then(Json::array).unwrap_or_default();
    let limit = |index: usize| limits.get(index).and_then(|limit| limit.as_f64()).filter(|limit| *limit > 0.0);
    let (eta, expires) = (moment("eta")?, moment("expires")?);
    let stamps = get("stamps").and_then(Json::object).unwrap_or_default();
    let stamped = get("stamped_headers").and_then(Json::array).unwrap_or_default();
    Ok(Headers {
        shadow: text("shadow"),
        eta,
        expires,
        group: text("group").or_else(|| old.get("taskset").and_then(Json::as_word)),
        group_index: number("group_index"),
        retries: number("retries").unwrap_or_default().clamp(0, u32::MAX.into()) as u32,
        time_limit: limit(0),
        soft_time_limit: limit(1),
        root_id: text("root_id"),
        parent_id: text("parent_id"),
        argsrepr: text("argsrepr"),
        kwargsrepr: text("kwargsrepr"),
        origin: text("origin"),
        ignore_result: get("ignore_result").and_then(Json::as_bool),
        replaced_task_nesting: number("replaced_task_nesting").unwrap_or_default().clamp(0, u32::MAX.into()) as u32,
        stamps: stamped
            .into_iter()
            .filter_map(|name| {
                let name = name.as_word()?;
                let value = stamps.get(&name)?.to_value();
                Some((name, value))
            })
            .collect(),
        task: task.unwrap_or_default(),
        id: id.unwrap_or_default(),
    })
}

/// Whether content of this type is JSON in UTF-8.
pub(super) fn is_json(content_type: &str) -> bool {
    content_type.eq_ignore_ascii_case("application/json") || content_type.eq_ignore_ascii_case("json")
}

fn word(object: &Object<'_>, name: &str) -> Option<String> {
    object.get(name).and_then(Json::as_word)
}

/// As kombu: a number or a number's text, 0 otherwise, and never outside 0 to 9.
fn priority(properties: &Object<'_>) -> u8 {
    let value = properties.get("priority");
    let number =
        value.and_then(|value| value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok())));
    number.unwrap_or_default().clamp(0.0, 9.0) as u8
}
