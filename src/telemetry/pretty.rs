//! Log lines for people: `21:58:43 INFO  serving  address=127.0.0.1:8443`, in UTC.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Civil;

/// The format of the module.
pub struct Pretty {
    /// Whether to use the terminal's colours.
    pub colour: bool,
}

impl<S, N> FormatEvent<S, N> for Pretty
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let at = Civil::of(SystemTime::now());
        let (level, colour) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", "31"),
            Level::WARN => ("WARN ", "33"),
            Level::INFO => ("INFO ", "32"),
            Level::DEBUG => ("DEBUG", "34"),
            Level::TRACE => ("TRACE", "35"),
        };
        let time = format_args!("{:02}:{:02}:{:02}", at.hour, at.minute, at.second);
        if self.colour {
            write!(out, "\x1b[2m{time}\x1b[0m \x1b[{colour}m{level}\x1b[0m {}", fields.message)?;
            if !fields.rest.is_empty() {
                write!(out, " \x1b[2m{}\x1b[0m", fields.rest)?;
            }
            writeln!(out)
        } else {
            writeln!(
                out,
                "{time} {level} {}{}{}",
                fields.message,
                if fields.rest.is_empty() { "" } else { " " },
                fields.rest
            )
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == "message" {
            let _ = write!(Clean(&mut self.message), "{value}");
        } else {
            let _ = write!(self.rest, " {}=", field.name());
            let _ = write!(Clean(&mut self.rest), "{value}");
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Quotes only where the end would not be seen without them.
        if field.name() != "message" && (value.is_empty() || value.contains(char::is_whitespace)) {
            self.put(field, format_args!("\"{value}\""));
        } else {
            self.put(field, format_args!("{value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

/// Escapes control characters: what a client sent must neither end the line nor command the terminal.
struct Clean<'a>(&'a mut String);

impl fmt::Write for Clean<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if letter.is_control() {
                self.0.extend(letter.escape_default());
            } else {
                self.0.push(letter);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(colour: bool, speak: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber =
            tracing_subscriber::fmt().event_format(Pretty { colour }).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, speak);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_is_short_and_cannot_be_forged() {
        let text = logged(false, || {
            tracing::info!(address = "[::1]:8443", path = "a b", count = 3, evil = "x\ny\u{1b}[2J", "serving");
        });
        assert_eq!(&text[8..], " INFO  serving  address=[::1]:8443 path=\"a b\" count=3 evil=\"x\\ny\\u{1b}[2J\"\n");
        assert_eq!(&logged(false, || tracing::warn!("alone"))[8..], " WARN  alone\n");
    }

    #[test]
    fn colours_are_used_when_asked() {
        assert!(logged(true, || tracing::error!(a = 1, "x")).contains("\x1b[31mERROR\x1b[0m x"));
    }
}
