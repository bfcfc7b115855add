//! The units of the two slots, as systemctl sees and moves them.
//!
//! systemctl and not D-Bus: it is on every host that has the units, needs no library, and its words are what an
//! operator would type.

use std::io;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How often a running systemctl is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The unit of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its slot.
    pub slot: &'static str,
    /// Its name for systemctl.
    pub name: String,
}

/// What a unit is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Whether it runs, or is starting, stopping, or waiting to be started again.
    pub active: bool,
    /// Whether it is ready.
    pub running: bool,
    /// When it became active, in microseconds of the monotonic clock.
    pub since: u64,
}

impl Unit {
    /// The unit of `slot`.
    #[must_use]
    pub fn of(slot: &'static str) -> Self {
        Self { slot, name: format!("beacon@{slot}.service") }
    }

    /// Both units.
    #[must_use]
    pub fn both() -> [Self; 2] {
        super::SLOTS.map(Self::of)
    }

    /// What it is doing.
    ///
    /// # Errors
    /// There is no systemctl, or it does not answer within 10 seconds.
    pub fn activity(&self) -> io::Result<Activity> {
        let words = ["show", "--property=ActiveState,SubState,ActiveEnterTimestampMonotonic", &self.name];
        let output = systemctl(&words, Duration::from_secs(10))?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(read(&String::from_utf8_lossy(&output.stdout)))
    }
}

fn read(text: &str) -> Activity {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    let state = value("ActiveState");
    Activity {
        active: !matches!(state, "inactive" | "failed" | ""),
        running: state == "active" && value("SubState") == "running",
        since: value("ActiveEnterTimestampMonotonic").parse().unwrap_or(0),
    }
}

/// Runs systemctl with `words`, for at most `most`.
///
/// # Errors
/// There is no systemctl, or it takes longer ([`io::ErrorKind::TimedOut`]; what it asked of systemd goes on).
pub fn systemctl(words: &[&str], most: Duration) -> io::Result<Output> {
    let begun = Instant::now();
    let mut child = Command::new("systemctl")
        .args(words)
        .env("SYSTEMD_COLORS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Its output is a few lines, which a pipe holds.
    while child.try_wait()?.is_none() {
        if begun.elapsed() > most {
            let _ = child.kill();
            let _ = child.wait();
            let text = format!("`systemctl {}` took longer than {} s", words.join(" "), most.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        std::thread::sleep(LOOK);
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_systemctl_is_read() {
        let running = read("ActiveState=active\nSubState=running\nActiveEnterTimestampMonotonic=123\n");
        assert_eq!(running, Activity { active: true, running: true, since: 123 });
        let waiting = read("ActiveState=activating\nSubState=auto-restart\nActiveEnterTimestampMonotonic=0\n");
        assert_eq!(waiting, Activity { active: true, running: false, since: 0 });
        assert!(!read("ActiveState=failed\nSubState=failed\n").active);
        assert!(!read("").active);
    }
}
