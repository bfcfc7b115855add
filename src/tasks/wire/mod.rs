//! Celery's messages on Redis, as the documents of kombu and Celery's protocol 2 have them: what a message says, without
//! changing a byte of it.

mod envelope;

pub use envelope::{Envelope, Headers, Malformed};
