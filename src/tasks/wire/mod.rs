//! Celery's messages on Redis, as the documents of kombu and Celery's protocol 2 have them: what a message says, without
//! changing a byte of it.

mod compression;
mod envelope;
mod mark;
mod message;
mod meta;
mod moment;
mod parse;
mod python;
pub mod repr;
mod scan;

pub use envelope::{Envelope, Headers, Malformed};
pub use mark::redelivered;
pub use message::{Body, Embed, Notice, Task};
pub use meta::{Extended, Meta, Result, State, raised};
pub use moment::{iso, now, parse as moment};
pub use parse::{Limits, UNIQUE, header_of, id_of, parts_of, priority_of};
pub use python::json;
