//! A message that goes back to its queue: a new delivery tag and the marks of a redelivery, put into its text where they
//! belong. Nothing else changes a byte.
//!
//! A new tag, because a stock worker that had the message before may still be alive and acknowledge the old one: with the
//! same tag that would take away the safety of whoever has it then.

use bytes::Bytes;

use super::scan::Json;

/// The message with `headers.redelivered`, `properties.delivery_info.redelivered` and this delivery tag. `None` if it is
/// no message.
#[must_use]
pub fn redelivered(raw: &[u8], tag: &str) -> Option<Bytes> {
    let text = std::str::from_utf8(raw).ok()?;
    let top = Json::parse(text)?;
    let members = top.object()?;
    let mut edits = Vec::with_capacity(3);
    match members.any("headers").filter(|value| value.is_object()) {
        Some(headers) => set(text, headers, "redelivered", "true", &mut edits),
        None if members.any("headers").is_none() => set(text, top, "headers", r#"{"redelivered": true}"#, &mut edits),
        None => {}
    }
    let tag = serde_json::to_string(tag).ok()?;
    if let Some(properties) = members.any("properties").filter(|value| value.is_object()) {
        set(text, properties, "delivery_tag", &tag, &mut edits);
        match properties.object()?.any("delivery_info").filter(|value| value.is_object()) {
            Some(delivery) => set(text, delivery, "redelivered", "true", &mut edits),
            None => set(text, properties, "delivery_info", r#"{"redelivered": true}"#, &mut edits),
        }
    } else {
        let new = format!(r#"{{"delivery_tag": {tag}, "delivery_info": {{"redelivered": true}}}}"#);
        set(text, top, "properties", &new, &mut edits);
    }
    // Those at one place are members that are added to one object.
    edits.sort_by_key(|(from, ..)| *from);
    let mut out = String::with_capacity(text.len() + 128);
    let (mut at, mut added) = (0, None);
    for (from, to, new) in edits {
        out.push_str(&text[at..from]);
        if added == Some(from) && !new.starts_with(", ") {
            out.push_str(", ");
        }
        out.push_str(&new);
        added = (from == to).then_some(from);
        at = to;
    }
    out.push_str(&text[at..]);
    Some(out.into())
}

/// Replaces a member's value, or adds the member at the object's end.
fn set(text: &str, object: Json<'_>, name: &str, value: &str, edits: &mut Vec<(usize, usize, String)>) {
    let Some(members) = object.object() else { return };
    if let Some(old) = members.any(name) {
        let from = old.offset_in(text);
        edits.push((from, from + old.text().len(), value.to_owned()));
    } else {
        let end = object.offset_in(text) + object.text().len() - 1;
        let comma = if members.is_empty() { "" } else { ", " };
        edits.push((end, end, format!("{comma}\"{name}\": {value}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marks_and_the_tag_change() {
        let raw = r#"{"body": "x", "headers": {"id": "1", "n": NaN}, "properties": {"delivery_info": {"exchange": ""}, "delivery_tag": "old", "priority": 0}}"#;
        let marked = redelivered(raw.as_bytes(), "new").unwrap();
        let expected = r#"{"body": "x", "headers": {"id": "1", "n": NaN, "redelivered": true}, "properties": {"delivery_info": {"exchange": "", "redelivered": true}, "delivery_tag": "new", "priority": 0}}"#;
        assert_eq!(marked, expected);
        assert_eq!(redelivered(&marked, "third").unwrap(), expected.replace("\"new\"", "\"third\""));
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_no_message_is_left_alone() {
        for (raw, expected) in [
            ("{}", r#"{"headers": {"redelivered": true}"#),
            (r#"{"headers": {}, "properties": {}}"#, r#"{"headers": {"redelivered": true}, "properties": {"#),
            (r#"{"headers": {"redelivered": false}}"#, r#"{"headers": {"redelivered": true}"#),
        ] {
            let marked = redelivered(raw.as_bytes(), "t").unwrap();
            let marked = std::str::from_utf8(&marked).unwrap();
            assert!(marked.starts_with(expected), "{marked}");
            let value: serde_json::Value = serde_json::from_str(marked).unwrap();
            assert_eq!(value["properties"]["delivery_tag"], "t");
            assert_eq!(value["properties"]["delivery_info"]["redelivered"], true);
        }
        for raw in ["[]", "nonsense", "", "\"x\""] {
            assert_eq!(redelivered(raw.as_bytes(), "t"), None, "{raw}");
        }
        assert_eq!(redelivered(b"\xff", "t"), None);
    }
}
