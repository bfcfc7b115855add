//! JSON whose members stay in the order in which they were written: a reader of a description wants a table's columns as
//! the table has them.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;

/// A part of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Anything small.
    Value(Value),
    /// A list.
    List(Vec<Node>),
    /// An object.
    Object(Object),
}

/// An object that is being written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object(Vec<(Cow<'static, str>, Node)>);

impl Object {
    /// With one more member.
    pub(super) fn with(mut self, name: impl Into<Cow<'static, str>>, node: impl Into<Node>) -> Self {
        self.add(name, node);
        self
    }

    /// With one more member if there is a value for it.
    pub(super) fn maybe(self, name: &'static str, node: Option<impl Into<Node>>) -> Self {
        match node {
            Some(node) => self.with(name, node),
            None => self,
        }
    }

    /// Adds a member. Names are the writer's to keep apart.
    pub(super) fn add(&mut self, name: impl Into<Cow<'static, str>>, node: impl Into<Node>) {
        self.0.push((name.into(), node.into()));
    }
}

impl From<Object> for Node {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Self::Value(value.into())
    }
}

impl From<i32> for Node {
    fn from(value: i32) -> Self {
        Self::Value(value.into())
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Value(text.into())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Value(text.into())
    }
}

impl<T: Into<Node>> FromIterator<T> for Node {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::List(nodes) => nodes.serialize(serializer),
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, node) in &self.0 {
            map.serialize_entry(name, node)?;
        }
        map.end()
    }
}
