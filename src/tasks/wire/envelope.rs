//! One message: its bytes as they came, and the few fields that a worker needs.
//!
//! The bytes are kept, because they are Python's dialect of JSON (NaN, integers of any length): a message that is put
//! back must be the one that came.

use bytes::Bytes;

/// A message of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// As it came.
    pub raw: Bytes,
    /// What the headers say.
    pub headers: Headers,
    /// "application/json"
    pub content_type: String,
    /// "utf-8", "binary"
    pub content_encoding: String,
    /// `properties.correlation_id`
    pub correlation_id: Option<String>,
    /// `properties.reply_to`
    pub reply_to: Option<String>,
    /// `properties.delivery_tag`; kombu needs one.
    pub delivery_tag: String,
    /// `properties.delivery_info.exchange`
    pub exchange: String,
    /// `properties.delivery_info.routing_key`
    pub routing_key: String,
    /// `properties.priority`, 0 to 9; 0 goes first.
    pub priority: u8,
    /// `properties.delivery_info.redelivered`
    pub redelivered: bool,
    /// The content: decoded from base64 and decompressed, still serialised. For protocol 1, a body of protocol 2 made
    /// of it.
    pub body: Bytes,
}

/// The headers that a worker needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers {
    /// The task's name.
    pub task: String,
    /// The task's identifier.
    pub id: String,
    /// The name to show instead.
    pub shadow: Option<String>,
    /// Not before, in seconds since 1970.
    pub eta: Option<f64>,
    /// Not after, in seconds since 1970.
    pub expires: Option<f64>,
    /// The group.
    pub group: Option<String>,
    /// The place in it.
    pub group_index: Option<i64>,
    /// Tries before this one.
    pub retries: u32,
    /// Hard limit, in seconds.
    pub time_limit: Option<f64>,
    /// Soft limit, in seconds.
    pub soft_time_limit: Option<f64>,
    /// The first task of all that led here.
    pub root_id: Option<String>,
    /// The task that led here.
    pub parent_id: Option<String>,
    /// The arguments' short form.
    pub argsrepr: Option<String>,
    /// The named arguments' short form.
    pub kwargsrepr: Option<String>,
    /// Who sent it.
    pub origin: Option<String>,
    /// Whether the result is not wanted; `None` leaves it to the task's type.
    pub ignore_result: Option<bool>,
    /// How often a task was replaced on the way here.
    pub replaced_task_nesting: u32,
    /// Stamps, by name: those of `stamped_headers`.
    pub stamps: Vec<(String, serde_json::Value)>,
}

/// A list's element that is no task's message, and what can be said of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{why}")]
pub struct Malformed {
    /// Why, in a sentence.
    pub why: String,
    /// The task's identifier, if it has one: its client can be answered.
    pub id: Option<String>,
    /// The task's name, if it has one.
    pub task: Option<String>,
}
