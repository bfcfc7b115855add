//! What an application's process writes, taken into Beacon's log at the level that it says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// How many lines of its last words are kept.
const LAST_WORDS: usize = 8;

/// The lines of one process.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    inner: Arc<Mutex<Inner>>,
    name: Arc<str>,
}

#[derive(Debug)]
struct Inner {
    /// Of the last line that had one: a traceback's lines follow it.
    level: tracing::Level,
    last: VecDeque<String>,
}

impl Lines {
    pub(super) fn of(name: &str) -> Self {
        let inner = Inner { level: tracing::Level::WARN, last: VecDeque::with_capacity(LAST_WORDS) };
        Self { inner: Arc::new(Mutex::new(inner)), name: name.into() }
    }

    /// Takes a line.
    pub(super) fn take(&self, line: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match split(line) {
            Some((level, text)) => {
                inner.level = level;
                text
            }
            None => line,
        };
        if inner.last.len() == LAST_WORDS {
            inner.last.pop_front();
        }
        inner.last.push_back(line.to_owned());
        let level = inner.level;
        drop(inner);
        let process = &*self.name;
        match level {
            tracing::Level::ERROR => tracing::error!(process, "{text}"),
            tracing::Level::WARN => tracing::warn!(process, "{text}"),
            tracing::Level::INFO => tracing::info!(process, "{text}"),
            _ => tracing::debug!(process, "{text}"),
        }
    }

    /// Its last words.
    pub(super) fn last(&self) -> Vec<String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).last.iter().cloned().collect()
    }
}

/// The level and the text of a line in Celery's own format, "[2026-11-25 02:00:00,000: WARNING/ForkPoolWorker-1] text".
fn split(line: &str) -> Option<(tracing::Level, &str)> {
    let (head, text) = line.strip_prefix('[')?.split_once("] ")?;
    let (_, level) = head.rsplit_once(": ")?;
    let (level, _) = level.split_once('/')?;
    let level = match level {
        "CRITICAL" | "FATAL" | "ERROR" => tracing::Level::ERROR,
        "WARNING" | "WARN" => tracing::Level::WARN,
        "INFO" => tracing::Level::INFO,
        "DEBUG" => tracing::Level::DEBUG,
        _ => return None,
    };
    Some((level, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn celerys_lines_keep_their_level_and_a_traceback_follows_its_line() {
        let line = "[2026-11-25 02:00:00,000: ERROR/ForkPoolWorker-1] Task a.b[1] raised unexpected: X('y: [z] ')";
        assert_eq!(split(line), Some((tracing::Level::ERROR, "Task a.b[1] raised unexpected: X('y: [z] ')")));
        assert_eq!(split("[not one of ours] text"), None);
        assert_eq!(split("Traceback (most recent call last):"), None);
        let lines = Lines::of("clerk");
        lines.take(line);
        lines.take("Traceback (most recent call last):");
        assert_eq!(lines.inner.lock().unwrap().level, tracing::Level::ERROR);
        (0..20).for_each(|number| lines.take(&format!("line {number}")));
        let last = lines.last();
        assert_eq!((last.len(), &*last[LAST_WORDS - 1]), (LAST_WORDS, "line 19"));
    }
}
