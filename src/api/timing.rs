//! The header Server-Timing: how long each part of an answer took.

use std::fmt::Write as _;
use std::time::Instant;

use http::HeaderValue;

/// A stopwatch that stands still unless it is wanted.
#[derive(Debug)]
pub(super) struct Timing(Option<(Instant, String)>);

impl Timing {
    pub(super) fn new(wanted: bool) -> Self {
        Self(wanted.then(|| (Instant::now(), String::new())))
    }

    /// Ends the part of this name, and begins the next.
    pub(super) fn mark(&mut self, part: &str) {
        if let Some((since, out)) = &mut self.0 {
            let now = Instant::now();
            let comma = if out.is_empty() { "" } else { ", " };
            let _ = write!(out, "{comma}{part};dur={:.1}", now.duration_since(*since).as_secs_f64() * 1000.0);
            *since = now;
        }
    }

    /// The header, if it is wanted.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        self.0.as_ref().and_then(|(_, out)| HeaderValue::from_str(out).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_in_their_order() {
        let mut timing = Timing::new(true);
        timing.mark("jwt");
        timing.mark("parse");
        let header = timing.header().unwrap();
        let text = header.to_str().unwrap();
        assert!(text.starts_with("jwt;dur=") && text.contains(", parse;dur="), "{text}");
        assert_eq!(Timing::new(false).header(), None);
    }
}
