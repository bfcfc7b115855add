//! Starts the log: where its lines go, how they look, which are kept; and has panics logged.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::panic::PanicHookInfo;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::config::{Config, Format};
use super::error::Error;
use super::pretty::Pretty;
use super::sink::JOURNAL;
use super::stderr::Stderr;

type Handle = reload::Handle<EnvFilter, Registry>;

static STARTED: Mutex<Option<Handle>> = Mutex::new(None);

/// Starts the log of the process. A second call changes only the level, so that each test may call it.
///
/// # Errors
/// The level cannot be read, the journal was asked for and cannot be reached, or the process has another log already.
pub fn init(config: &Config) -> Result<(), Error> {
    let filter = filter(&config.level)?;
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*started {
        return handle.reload(filter).map_err(|_| Error::Taken);
    }
    let (filter, handle) = reload::Layer::new(filter);
    let subscriber = tracing_subscriber::registry().with(filter).with(output(config.format)?);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::Taken)?;
    std::panic::set_hook(Box::new(log_panic));
    *started = Some(handle);
    Ok(())
}

/// Changes the least severe level that is logged, at once. Takes what `log.level` takes.
///
/// # Errors
/// The text cannot be read (the level stays as it is), or the log has not been started.
pub fn set_level(level: &str) -> Result<(), Error> {
    let filter = filter(level)?;
    let started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    started.as_ref().ok_or(Error::NotStarted)?.reload(filter).map_err(|_| Error::NotStarted)
}

/// Reads `log.level`. Bare levels are for Beacon's own modules: its libraries are heard from "warn" on, unless one is
/// named, as in "debug,hyper=debug".
pub fn filter(level: &str) -> Result<EnvFilter, Error> {
    let refuse = |problem: String| Error::Level { level: level.to_owned(), problem };
    let mut directives = Vec::new();
    for directive in level.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        match directive.to_ascii_lowercase().as_str() {
            "error" | "off" => directives.push(directive.to_owned()),
            "warn" | "info" | "debug" | "trace" => directives.push(format!("warn,beacon={directive}")),
            // The parser would take a misspelt level for the name of a module, and log nothing at all.
            _ if !directive.contains('=') => return Err(refuse(format!("\"{directive}\" is no level"))),
            _ => directives.push(directive.to_owned()),
        }
    }
    if directives.is_empty() {
        return Err(refuse("it is empty".into()));
    }
    EnvFilter::builder().parse(directives.join(",")).map_err(|error| refuse(error.to_string()))
}

fn output(format: Format) -> Result<Box<dyn Layer<Filtered> + Send + Sync>, Error> {
    let terminal = std::io::stderr().is_terminal();
    Ok(match format {
        Format::Journald => journald().map_err(|source| Error::Journal { path: PathBuf::from(JOURNAL), source })?,
        Format::Pretty => pretty(terminal),
        Format::Json => json(),
        Format::Auto => match stderr_is_journal().then(journald) {
            Some(Ok(layer)) => layer,
            // The unit's sandbox may hide the socket; the stream that systemd gave us works all the same.
            _ if terminal => pretty(true),
            _ => json(),
        },
    })
}

/// What the output's layer is put upon.
type Filtered = tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;

fn journald() -> std::io::Result<Box<dyn Layer<Filtered> + Send + Sync>> {
    let layer = tracing_journald::layer()?
        .with_field_prefix(None)
        .with_syslog_identifier("beacon".into())
        // syslog's words: tracing's "info" is informational, not a notice.
        .with_priority_mappings(PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        });
    Ok(Box::new(layer))
}

fn pretty(terminal: bool) -> Box<dyn Layer<Filtered> + Send + Sync> {
    // https://no-color.org: set and not empty.
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    let colour = terminal && !refused && !dumb;
    // Colours are the format's own doing; the layer's would put them into fields.
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).event_format(Pretty { colour });
    Box::new(layer.with_writer(Stderr::new()))
}

fn json() -> Box<dyn Layer<Filtered> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    Box::new(layer.with_writer(Stderr::new()))
}

/// Whether standard error leads to the journal: systemd puts "device:inode" of the stream that it made into
/// $JOURNAL_STREAM, which children inherit even when their standard error leads elsewhere.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    names(&stream, stderr.dev(), stderr.ino())
}

fn names(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(left, right)| left.parse() == Ok(device) && right.parse() == Ok(inode))
}

/// One line, without a backtrace. The message is shortened: a panic that prints what it choked on could print a body.
fn log_panic(info: &PanicHookInfo<'_>) {
    const LONGEST: usize = 300;
    let message: String = info.payload_as_str().unwrap_or("no message").chars().take(LONGEST).collect();
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(target: "beacon::panic", location, thread, "panicked: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_levels_are_for_beacon_and_named_ones_for_what_they_name() {
        let shown = |level: &str| {
            let text = filter(level).unwrap().to_string();
            let mut parts: Vec<String> = text.split(',').map(str::to_owned).collect();
            parts.sort();
            parts.join(",")
        };
        assert_eq!(shown("info"), "beacon=info,warn");
        assert_eq!(shown("trace"), "beacon=trace,warn");
        assert_eq!(shown("error"), "error");
        assert_eq!(shown("off"), "off");
        assert_eq!(shown("info,beacon::tls=debug"), "beacon::tls=debug,beacon=info,warn");
        assert_eq!(shown("debug, hyper=trace"), "beacon=debug,hyper=trace,warn");
    }

    #[test]
    fn a_level_that_cannot_be_read_is_told_as_it_was_given() {
        let error = filter("info,beacon=loud").unwrap_err();
        assert!(error.to_string().contains("\"info,beacon=loud\""), "{error}");
        assert!(filter("inof").unwrap_err().to_string().contains("\"inof\" is no level"));
        assert!(filter(" ").is_err());
        assert!(Config { level: "inof".into(), ..Config::default() }.validate()[0].problem.contains("inof"));
        assert_eq!(Config::default().validate(), []);
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(names("8:1234", 8, 1_234));
        assert!(!names("8:1234", 8, 1_235));
        assert!(!names("8:1234", 9, 1_234));
        for bad in ["", ":", "8", "8:", "a:b", "8:1234:5"] {
            assert!(!names(bad, 8, 1_234), "{bad}");
        }
    }

    /// The child's side of the next tests: a process of its own, for what can be done once a process.
    #[test]
    fn logs_when_asked() {
        let Ok(format) = std::env::var("BEACON_TEST_LOG") else { return };
        assert!(matches!(set_level("debug"), Err(Error::NotStarted)));
        let format = if format == "json" { Format::Json } else { Format::Auto };
        let config = Config { format, ..Config::default() };
        init(&config).unwrap();
        init(&config).unwrap();
        tracing::debug!("unheard");
        tracing::info!(address = "a\nb", "serving");
        tracing::info!(target: "hyper::proto", "chatter");
        tracing::warn!(target: "hyper::proto", "trouble");
        set_level("debug").unwrap();
        tracing::debug!("heard");
        assert!(set_level("beacon=loud").is_err());
        let joined =
            std::thread::Builder::new().name("worker".into()).spawn(|| panic!("first\nsecond")).unwrap().join();
        assert!(joined.is_err());
    }

    fn child(format: &str) -> Vec<String> {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "telemetry::log::tests::logs_when_asked", "--nocapture"])
            .env("BEACON_TEST_LOG", format)
            // Standard error of the child is a pipe: these must not make it a journal.
            .env("JOURNAL_STREAM", "1:1")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_json_where_nobody_looks_and_panics_are_one_of_them() {
        for format in ["json", "auto"] {
            let lines: Vec<serde_json::Value> = child(format)
                .iter()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
                .collect();
            let messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
            assert_eq!(messages, ["serving", "trouble", "heard", "panicked: first\nsecond"]);
            assert_eq!(lines[0]["address"], "a\nb");
            assert_eq!(lines[3]["level"], "ERROR");
            assert_eq!(lines[3]["thread"], "worker");
            assert!(lines[3]["location"].as_str().unwrap().contains("log.rs:"));
        }
    }
}
