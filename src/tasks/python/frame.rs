//! Frames between Beacon and a Python process, over a socket that is the process's standard input.
//!
//! A frame is two big-endian lengths of four bytes, then a JSON object (the head), then bytes (the body):
//!
//! ```text
//! first, to the process      options as JSON object; body: {module: source} of assets/python/beacon_worker
//! to a child                 {"t":"run","n":N,"redelivered":B,"beside":B} + the message as it came
//!                            {"t":"drop","n":[N,..]}  gives back what has not begun  (and SIGURG)
//!                            {"t":"soft","n":N}       the soft time limit            (and SIGURG)
//!                            {"t":"stop","n":N}       ends a coroutine               (and SIGURG)
//!                            {"t":"ping","n":N}  {"t":"exit"}
//! from a child               {"t":"ready","pid":P}  {"t":"unusable","why":S,"trace":S}  {"t":"begun","n":N}
//!                            {"t":"done","n":N,"s":"ok|fail|retry|ignore|reject|lost",..} + the result's value
//!                            {"t":"dropped","n":[..]}  {"t":"pong","n":N}
//! to the clerk               {"t":REQUEST,"n":N,..} + a message or JSON, answered by {"t":"answer","n":N,..}
//! ```
//!
//! A child runs what it is given in order, coroutines apart. So nothing says that a body begins: it does when the one
//! before it is done.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest head, in bytes: an exception with its traceback, an exported application.
const LONGEST_HEAD: usize = 64 << 20;

/// What a process says.
#[derive(Debug, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub(super) enum Said {
    /// It can be used.
    Ready {},
    /// The application cannot be loaded.
    Unusable {
        /// In a sentence.
        why: String,
        /// Python's traceback.
        trace: Option<String>,
    },
    /// A coroutine's thread begins.
    Begun {
        /// Of this run.
        n: u64,
    },
    /// A run has ended.
    Done(Box<Done>),
    /// These had not begun, and never will there.
    Dropped {
        /// The runs.
        n: Vec<u64>,
    },
    /// An answer to a ping.
    Pong {},
    /// The clerk's answer.
    Answer(Box<Answer>),
}

/// How a run ended.
#[derive(Debug, Deserialize)]
pub(super) struct Done {
    /// Which.
    pub n: u64,
    /// ok, fail, retry, ignore, reject, lost.
    #[serde(rename = "s")]
    pub end: String,
    /// Seconds.
    #[serde(rename = "rt", default)]
    pub runtime: f64,
    /// The state of the value in the body, if there is one.
    #[serde(default)]
    pub state: String,
    /// The value's or the exception's short form.
    #[serde(default)]
    pub repr: String,
    #[serde(default)]
    pub class: String,
    #[serde(default)]
    pub module: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub trace: Option<String>,
    /// Reject: to the queue again.
    #[serde(default)]
    pub requeue: bool,
    /// The process's own exit, for an end by SystemExit.
    #[serde(default)]
    pub exit: i32,
    /// The process should take no more.
    #[serde(default)]
    pub last: bool,
}

/// What the clerk answers.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Answer {
    pub n: u64,
    /// It is no answer yet: the clerk has begun.
    #[serde(default)]
    pub begun: bool,
    /// The request itself failed.
    pub failed: Option<String>,
    /// on_report
    pub text: Option<String>,
    /// on_commands
    #[serde(default)]
    pub names: Vec<String>,
    /// on_control: there is no such command.
    #[serde(default)]
    pub unknown: bool,
    /// on_control: what the command gave; absent after an error.
    #[serde(default, deserialize_with = "present")]
    pub value: Option<serde_json::Value>,
    /// on_control
    pub error: Option<String>,
    /// on_lost: it had ended well.
    pub succeeded: Option<String>,
    /// on_lost: Celery has sent it again.
    #[serde(default)]
    pub retried: bool,
    /// What a command asked of the worker.
    #[serde(default)]
    pub wishes: Vec<serde_json::Value>,
}

/// A null that is there is a value.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

/// A run to be begun.
#[derive(Serialize)]
pub(super) struct Run {
    pub t: &'static str,
    pub n: u64,
    pub redelivered: bool,
    pub beside: bool,
}

/// A frame's bytes.
pub(super) fn encode(head: &impl Serialize, body: &[u8]) -> Bytes {
    let mut frame = vec![0; 8];
    // Heads are our own structs and JSON values: they can be written.
    let _ = serde_json::to_writer(&mut frame, head);
    let lengths = [(frame.len() - 8) as u32, body.len() as u32].map(u32::to_be_bytes).concat();
    frame[..8].copy_from_slice(&lengths);
    frame.extend_from_slice(body);
    frame.into()
}

/// Reads frames. Waiting for the next one can be given up at any time.
#[derive(Debug)]
pub(super) struct Reader<R> {
    from: R,
    unread: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, unread: BytesMut::with_capacity(16 << 10) }
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// Those of the socket, and a frame that is none.
    pub(super) async fn next(&mut self) -> io::Result<Option<(Said, Bytes)>> {
        loop {
            if let Some(frame) = self.whole()? {
                return Ok(Some(frame));
            }
            if self.from.read_buf(&mut self.unread).await? == 0 {
                return if self.unread.is_empty() { Ok(None) } else { Err(wrong("half a frame".into())) };
            }
        }
    }

    fn whole(&mut self) -> io::Result<Option<(Said, Bytes)>> {
        let Some(lengths) = self.unread.first_chunk::<8>() else { return Ok(None) };
        let lengths = u64::from_be_bytes(*lengths);
        let (head, body) = ((lengths >> 32) as usize, (lengths & u64::from(u32::MAX)) as usize);
        if head > LONGEST_HEAD {
            return Err(wrong(format!("a head of {head} bytes")));
        }
        if self.unread.len() < 8 + head + body {
            self.unread.reserve(8 + head + body - self.unread.len());
            return Ok(None);
        }
        self.unread.advance(8);
        let said = serde_json::from_slice(&self.unread.split_to(head)).map_err(|error| wrong(error.to_string()))?;
        // A copy: the buffer is not kept alive by a result that waits for Redis.
        let body = Bytes::copy_from_slice(&self.unread.split_to(body));
        Ok(Some((said, body)))
    }
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_comes_back_as_it_was_and_the_end_is_an_end() {
        let mut bytes =
            encode(&serde_json::json!({"t": "done", "n": 7, "s": "ok", "state": "SUCCESS"}), b"{}").to_vec();
        bytes.extend_from_slice(&encode(&serde_json::json!({"t": "answer", "n": 1, "value": null}), b""));
        let mut reader = Reader::new(&*bytes);
        let Some((Said::Done(done), body)) = reader.next().await.unwrap() else { panic!() };
        assert_eq!((done.n, &*done.end, &*done.state, &*body), (7, "ok", "SUCCESS", &b"{}"[..]));
        let Some((Said::Answer(answer), _)) = reader.next().await.unwrap() else { panic!() };
        assert_eq!(answer.value, Some(serde_json::Value::Null), "a null is an answer");
        assert!(reader.next().await.unwrap().is_none());
        assert!(Reader::new(&bytes[..20]).next().await.is_err(), "half a frame is no end");
        assert!(Reader::new(&[0xff; 16][..]).next().await.is_err());
    }
}
