//! The keys of a JSON body, read in one pass that keeps no value.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Error;

/// What a JSON text is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// An object with these keys.
    Object(Vec<String>),
    /// An array of objects that all have these keys; none when it is empty.
    Array(Vec<String>),
    /// An array of anything else.
    Uneven,
    /// Any other value.
    Value,
}

/// Reads the keys.
pub(super) fn read(json: &[u8]) -> Result<Shape, Error> {
    serde_json::from_slice(json).map_err(|_| Error::body("Empty or invalid json"))
}

/// The first element of a JSON array, if it is an object; the whole text when it is no array.
pub(super) fn first_object(json: &[u8]) -> Option<std::ops::Range<usize>> {
    let begin = json.iter().position(|byte| !byte.is_ascii_whitespace())?;
    if json[begin] != b'[' {
        return Some(0..json.len());
    }
    let inside = json.get(begin + 1..)?;
    let skipped = inside.iter().position(|byte| !byte.is_ascii_whitespace())?;
    if inside[skipped] != b'{' {
        return None;
    }
    let mut elements = serde_json::Deserializer::from_slice(inside).into_iter::<IgnoredAny>();
    elements.next()?.ok()?;
    Some(begin + 1 + skipped..begin + 1 + elements.byte_offset())
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut keys = Keys::default();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            keys.add(key);
        }
        Ok(Shape::Object(keys.names))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Shape, A::Error> {
        let mut keys = match all.next_element::<Shape>()? {
            None => return Ok(Shape::Array(Vec::new())),
            Some(Shape::Object(names)) => Keys { seen: vec![false; names.len()], names },
            Some(_) => {
                while all.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Shape::Uneven);
            }
        };
        let mut even = true;
        while let Some(same) = all.next_element_seed(Same(&mut keys))? {
            even &= same;
        }
        Ok(if even { Shape::Array(keys.names) } else { Shape::Uneven })
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Value)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Value)
    }
}

/// The keys of the first object, and which of them the current one has.
#[derive(Default)]
struct Keys {
    names: Vec<String>,
    seen: Vec<bool>,
}

impl Keys {
    /// Adds a key unless it is there.
    fn add(&mut self, key: String) {
        if !self.names.contains(&key) {
            self.names.push(key);
        }
    }
}

/// Compares one element's keys with those of the first.
struct Same<'a>(&'a mut Keys);

impl<'de> serde::de::DeserializeSeed<'de> for Same<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Same<'_> {
    type Value = bool;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let Keys { names, seen } = self.0;
        seen.fill(false);
        // Most writers keep the order, so that the next key is the next name.
        let (mut next, mut even) = (0, true);
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            map.next_value::<IgnoredAny>()?;
            let place = match names.get(next) {
                Some(name) if *name == key => Some(next),
                _ => names.iter().position(|name| *name == key),
            };
            match place {
                Some(place) => {
                    seen[place] = true;
                    next = place + 1;
                }
                None => even = false,
            }
        }
        Ok(even && seen.iter().all(|seen| *seen))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<bool, A::Error> {
        while all.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_as_sets() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let shape = |text: &str| read(text.as_bytes()).unwrap();
        assert_eq!(shape(r#"{"a":{"x":1},"b":2,"a":3}"#), Shape::Object(names(&["a", "b"])));
        assert_eq!(shape(r#"[{"a":1,"b":2},{"b":2,"a":1},{"a":1,"b":2,"a":3}]"#), Shape::Array(names(&["a", "b"])));
        assert_eq!(shape("[]"), Shape::Array(vec![]));
        assert_eq!(shape(r#"[{},{"a":1}]"#), Shape::Uneven);
        assert_eq!(shape(r#"[{"a":1},[1]]"#), Shape::Uneven);
        assert_eq!(shape("[1,2]"), Shape::Uneven);
        for value in ["1", "-1", "1.5", "true", "null", "\"x\"", "123456789012345678901234567890"] {
            assert_eq!(shape(value), Shape::Value, "{value}");
        }
        assert!(read(b"[{},").is_err());
        assert!(read(br#"{"a":1} x"#).is_err());
    }

    #[test]
    fn the_first_object_is_found_in_its_bytes() {
        let first = |text: &'static str| first_object(text.as_bytes()).map(|range| &text[range]);
        assert_eq!(first(r#" [ {"a": "]}"} , {"a":2}]"#), Some(r#"{"a": "]}"}"#));
        assert_eq!(first(r#"{"a":1}"#), Some(r#"{"a":1}"#));
        assert_eq!(first("[1]"), None);
        assert_eq!(first("[]"), None);
        assert_eq!(first("[{"), None);
    }
}
