//! `beacon handover`

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use http::{Method, StatusCode};
use rustix::fs::{FlockOperation, flock};

use super::reload::RUNTIME;
use super::{Failure, output};
use crate::app::{self, Phase, Status};
use crate::systemd::{Activity, Unit, systemctl};

/// Keeps two hand-overs from going on at a time.
const LOCK: &str = "/run/beacon-handover.lock";
/// How long the old slot may take to stop; its unit's own limit comes first.
const STOP: Duration = Duration::from_secs(150);

/// Starts the other slot, and stops the one that serves
///
/// The two slots of beacon@.service share their listening sockets. The idle one is started, with the binary, the
/// configuration and the credentials that are there now; when it is ready, the other one stops after finishing what it
/// has begun. If the new one does not become ready, the old one goes on as if nothing had been. When nothing runs,
/// slot a is started.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon handover
  beacon handover --timeout 30s")]
pub(super) struct Handover {
    /// How long the new slot may take to become ready
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Handover {
    pub(super) fn run(self) -> Result<(), Failure> {
        let _lock = lock()?;
        let [first, second] = Unit::both();
        let (a, b) = (look(&first)?, look(&second)?);
        let (old, new) = match (a.active, b.active) {
            (false, false) => {
                let status = self.start(&first, None)?;
                return Ok(output::print(&format!("{} serves version {}.\n", first.name, status.version))?);
            }
            (true, false) => (first, second),
            (false, true) => (second, first),
            // What an earlier hand-over did not finish: the slot that has served for longer goes first.
            (true, true) if a.since <= b.since => {
                stop(&first)?;
                (second, first)
            }
            (true, true) => {
                stop(&second)?;
                (first, second)
            }
        };
        let status = self.start(&new, Some(&old))?;
        stop(&old)?;
        Ok(output::print(&format!(
            "{} serves version {}; {} has finished and stopped.\n",
            new.name, status.version, old.name
        ))?)
    }

    /// Starts `new` and waits until it serves; on failure it is stopped again, and the journal's end is shown.
    fn start(&self, new: &Unit, old: Option<&Unit>) -> Result<Status, Failure> {
        let begun = Instant::now();
        // A unit that failed before is started all the same; that it was none is no error.
        let _ = systemctl(&["reset-failed", &new.name], Duration::from_secs(10));
        let problem = match systemctl(&["start", &new.name], self.timeout) {
            Ok(output) if output.status.success() => match serving(new, self.timeout.saturating_sub(begun.elapsed())) {
                Ok(status) => return Ok(status),
                Err(problem) => problem,
            },
            Ok(output) => String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it failed").to_owned(),
            Err(error) => error.to_string(),
        };
        let _ = systemctl(&["stop", &new.name], STOP);
        show_journal(new, begun.elapsed());
        let rest = match old {
            Some(old) => format!("{} serves on, as before. Mend what its log above says, and try again.", old.name),
            None => "Nothing serves. Mend what its log above says, and try again.".to_owned(),
        };
        Err(Failure::Other(format!("{} did not become ready: {problem}\n{rest}", new.name)))
    }
}

/// Waits until the slot itself says that it serves.
fn serving(unit: &Unit, most: Duration) -> Result<Status, String> {
    let place = Path::new(RUNTIME).join(format!("{}.sock", unit.slot));
    let begun = Instant::now();
    loop {
        let problem = match app::ask(&place, Method::GET, "/status") {
            Ok((StatusCode::OK, body)) => match serde_json::from_str::<Status>(&body) {
                Ok(status) => match status.components.iter().find(|part| part.state == "failed") {
                    None if status.state == Phase::Serving => return Ok(status),
                    None => "it is stopping".to_owned(),
                    Some(part) => format!("{}: {}", part.name, part.detail.as_deref().unwrap_or("failed")),
                },
                Err(error) => error.to_string(),
            },
            Ok((status, _)) => status.to_string(),
            Err(error) => format!("{} does not answer: {error}", place.display()),
        };
        if begun.elapsed() >= most {
            return Err(problem);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lock() -> Result<File, Failure> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(LOCK).map_err(|error| {
            Failure::Other(format!("cannot open {LOCK}: {error}. A hand-over needs root: use sudo."))
        })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Failure::Other("another hand-over is going on. Wait until it has ended, and try again.".into())),
    }
}

fn look(unit: &Unit) -> Result<Activity, Failure> {
    unit.activity().map_err(|error| {
        Failure::Unavailable(format!(
            "systemd cannot be asked about {}: {error}. A hand-over is between the units of the Debian package.",
            unit.name
        ))
    })
}

fn stop(unit: &Unit) -> Result<(), Failure> {
    let problem = match systemctl(&["stop", &unit.name], STOP) {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Other(format!(
        "{} cannot be stopped: {problem}. Both slots serve now; stop it with `systemctl stop {}`.",
        unit.name, unit.name
    )))
}

/// The last lines of the unit's log, on standard error.
fn show_journal(unit: &Unit, since: Duration) {
    let since = format!("--since=-{}s", since.as_secs() + 2);
    let _ = Command::new("journalctl")
        .args(["--unit", &unit.name, "--lines=20", "--no-pager", "--output=short", "--quiet", &since])
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status();
}
