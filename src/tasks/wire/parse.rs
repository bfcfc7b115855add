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
    // Celery's backend fails on these when it is to write the result, so that nobody would ever be told.
    let none = |what: &str| Malformed { why: what.into(), id: id.clone(), task: task.clone() };
    let stamps = get("stamps").map(|stamps| stamps.object().ok_or_else(|| none("its stamps are no object")));
    let stamped =
        get("stamped_headers").map(|names| names.array().ok_or_else(|| none("its stamped_headers are no list")));
    let (stamps, stamped) = (stamps.transpose()?.unwrap_or_default(), stamped.transpose()?.unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn parse(raw: &str) -> Result<Envelope, Malformed> {
        Envelope::parse(Bytes::copy_from_slice(raw.as_bytes()), &Limits::new(100_000))
    }

    fn with(body: &[u8], headers: &str, properties: &str) -> String {
        let body = STANDARD.encode(body);
        format!(
            r#"{{"body": "{body}", "content-type": "application/json", "content-encoding": "utf-8", "headers": {{{headers}}}, "properties": {{"body_encoding": "base64"{properties}}}}}"#
        )
    }

    const IDS: &str = r#""task": "t", "id": "i""#;
    const BODY: &[u8] = b"[[1], {}, null]";

    #[test]
    fn the_least_that_a_worker_accepts_is_accepted() {
        let raw = r#"{"body": "[[], {}, {}]", "headers": {"task": "t", "id": "i"}}"#;
        let read = parse(raw).unwrap();
        assert_eq!((read.headers.task.as_str(), read.headers.id.as_str()), ("t", "i"));
        assert_eq!((read.body.as_ref(), read.content_type.as_str()), (&b"[[], {}, {}]"[..], "application/data"));
        assert_eq!((read.delivery_tag.as_str(), read.priority, read.redelivered), ("", 0, false));
        assert_eq!(read.raw, raw);
    }

    #[test]
    fn every_header_is_read_and_python_s_own_words_do_not_harm() {
        let headers = format!(
            r#"{IDS}, "shadow": "s", "eta": "2026-11-23T15:38:16.5+00:00", "expires": "2026-11-23T16:38:16", "group": "g",
            "group_index": 0, "retries": 3, "timelimit": [null, 2.5], "root_id": "r", "parent_id": null, "argsrepr": "(NaN,)",
            "kwargsrepr": "{{}}", "origin": "gen1@h", "ignore_result": null, "replaced_task_nesting": 1,
            "stamped_headers": ["a", "gone"], "stamps": {{"a": [1, NaN]}}, "odd": [NaN, -Infinity, 123456789012345678901234567890]"#
        );
        let properties = r#", "priority": "7", "delivery_tag": "d", "correlation_id": "c", "reply_to": "q",
            "delivery_info": {"exchange": "e", "routing_key": "k", "redelivered": true}"#;
        let raw = with(BODY, &headers, properties);
        let limits = Limits { bytes: 100_000, zone: |_| 3_600 };
        let read = Envelope::parse(raw.into(), &limits).unwrap();
        let Headers { eta, expires, group_index, retries, time_limit, soft_time_limit, .. } = read.headers;
        assert_eq!((eta, expires), (Some(1_795_448_296.5), Some(1_795_448_296.0)));
        assert_eq!((group_index, retries, time_limit, soft_time_limit), (Some(0), 3, None, Some(2.5)));
        assert_eq!(read.headers.stamps, [("a".to_owned(), json!([1, null]))]);
        assert_eq!((read.headers.ignore_result, read.headers.parent_id), (None, None));
        assert_eq!((read.priority, read.redelivered, read.exchange.as_str()), (7, true, "e"));
        assert_eq!((read.correlation_id.as_deref(), read.reply_to.as_deref()), (Some("c"), Some("q")));
    }

    #[test]
    fn priorities_of_any_kind_end_between_0_and_9() {
        for (text, priority) in
            [("null", 0), ("3", 3), ("\"4\"", 4), ("\"x\"", 0), ("99", 9), ("-1", 0), ("2.9", 2), ("[]", 0), ("NaN", 0)]
        {
            let raw = with(BODY, IDS, &format!(r#", "priority": {text}"#));
            assert_eq!(parse(&raw).unwrap().priority, priority, "{text}");
            assert_eq!(priority_of(raw.as_bytes()), priority, "{text}");
        }
    }

    #[test]
    fn protocol_1_and_the_mix_become_protocol_2() {
        let old = br#"{"task": "old", "id": "o", "args": [1, NaN], "kwargs": {"k": 12345678901234567890123}, "retries": 2,
            "eta": null, "expires": null, "utc": true, "callbacks": [{"task": "c"}], "errbacks": null, "timelimit": [9, 3],
            "taskset": "g", "chord": null}"#;
        let read = parse(&with(old, "", "")).unwrap();
        assert_eq!(
            read.body,
            r#"[[1, NaN], {"k": 12345678901234567890123}, {"callbacks": [{"task": "c"}], "errbacks": null, "chain": null, "chord": null}]"#
        );
        let headers = &read.headers;
        assert_eq!((headers.task.as_str(), headers.id.as_str(), headers.retries), ("old", "o", 2));
        assert_eq!((headers.time_limit, headers.group.as_deref()), (Some(9.0), Some("g")));
        assert_eq!(headers.root_id.as_deref(), Some("o"));
        assert_eq!(id_of(with(old, "", "").as_bytes()).as_deref(), Some("o"));
        let mix = parse(&with(br#"{"args": [1], "task": "no", "id": "no"}"#, IDS, "")).unwrap();
        assert_eq!((mix.headers.task.as_str(), mix.headers.id.as_str()), ("t", "i"));
        assert!(mix.body.starts_with(b"[[1], {}, {"));
        let malformed = parse(&with(br#"{"task": "t", "id": "i", "args": [], "kwargs": []}"#, "", "")).unwrap_err();
        assert_eq!((malformed.id.as_deref(), malformed.task.as_deref()), (Some("i"), Some("t")));
    }

    #[test]
    fn compressed_content_is_undone_within_the_limit() {
        let packed = |name: &str, content: &[u8]| -> Vec<u8> {
            match name {
                "gzip" => {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    encoder.write_all(content).unwrap();
                    encoder.finish().unwrap()
                }
                "application/zstd" => zstd::encode_all(content, 1).unwrap(),
                "brotli" => {
                    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4_096, 3, 20);
                    encoder.write_all(content).unwrap();
                    encoder.into_inner()
                }
                _ => {
                    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                    encoder.write_all(content).unwrap();
                    encoder.finish().unwrap()
                }
            }
        };
        for name in ["application/x-gzip", "zlib", "gzip", "application/zstd", "brotli"] {
            let headers = format!(r#"{IDS}, "compression": "{name}""#);
            assert_eq!(parse(&with(&packed(name, BODY), &headers, "")).unwrap().body, BODY, "{name}");
            // A bomb, and nonsense.
            let bomb = parse(&with(&packed(name, &vec![b' '; 200_000]), &headers, "")).unwrap_err();
            assert!(bomb.why.contains("more than 100000 bytes") && bomb.id.as_deref() == Some("i"), "{name}: {bomb}");
            assert!(parse(&with(b"nonsense", &headers, "")).is_err(), "{name}");
        }
        let theirs = parse(&with(b"BZh9...", &format!(r#"{IDS}, "compression": "application/x-bz2""#), "")).unwrap();
        assert_eq!((&*theirs.headers.id, &*theirs.body), ("i", &b"BZh9..."[..]), "the application can unpack it");
        let unknown = parse(&with(BODY, &format!(r#"{IDS}, "compression": "application/x-own""#), "")).unwrap_err();
        assert!(unknown.why.contains("application/x-own"), "{unknown}");
    }

    #[test]
    fn what_is_no_task_says_why_and_whose_it_was() {
        let known = (Some("i"), Some("t"));
        for (raw, says, who) in [
            ("nonsense".to_owned(), "no JSON", (None, None)),
            ("[]".into(), "no object", (None, None)),
            ("{}".into(), "no body", (None, None)),
            (r#"{"body": 3, "headers": {"task": "t", "id": "i"}}"#.into(), "no body", known),
            (with(BODY, r#""id": "i""#, ""), "names no task", (Some("i"), None)),
            (with(BODY, r#""task": "t""#, ""), "no id", (None, Some("t"))),
            (with(BODY, r#""task": "t", "id": null"#, ""), "no id", (None, Some("t"))),
            (with(BODY, &format!(r#"{IDS}, "eta": "tomorrow""#), ""), "eta is no time", known),
            (with(BODY, &format!(r#"{IDS}, "expires": 3"#), ""), "expires is no time", known),
            (with(BODY, &format!(r#"{IDS}, "stamps": 5"#), ""), "stamps are no object", known),
            (with(BODY, &format!(r#"{IDS}, "stamped_headers": "x""#), ""), "stamped_headers are no list", known),
            (with(BODY, IDS, "").replace("base64", "rot13"), "rot13", known),
            (with(BODY, IDS, "").replace("\"body\": \"", "\"body\": \"*"), "no base64", known),
            (with(&vec![b'x'; 100_000], IDS, ""), "the limit is 100000", known),
        ] {
            let error = parse(&raw).unwrap_err();
            assert!(error.why.contains(says), "{raw}: {error}");
            assert_eq!((error.id.as_deref(), error.task.as_deref()), who, "{raw}");
        }
        assert!(Envelope::parse(Bytes::from_static(b"\xff"), &Limits::new(10)).unwrap_err().why.contains("no text"));
        // Content that is refused or broken is the worker's to see: it is a message.
        let pickle = with(b"\x80\x04", IDS, "").replace("application/json", "application/x-python-serialize");
        assert_eq!(parse(&pickle).unwrap().content_type, "application/x-python-serialize");
        assert_eq!(parse(&with(b"[[", IDS, "")).unwrap().body, "[[");
    }
}
