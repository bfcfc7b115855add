//! The checks of `beacon doctor`: what on this host stands in Beacon's way, and what to do about it.
//!
//! Each subject is a file that adds its checks to a [`Report`]; `examine` lists the subjects. A check never changes
//! anything, and has a deadline when it waits for somebody.

mod certificates;
mod database;
mod host;
mod names;
mod servers;
mod storage;
mod units;

use std::path::Path;

use serde::Serialize;

use super::{Status, state};
use crate::config::{Sources, load};
use crate::error::chain;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Beacon serves, but not as well or as long as it should.
    Warn,
    /// Beacon does not serve, or will not with its next start.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it ended.
    pub level: Level,
    /// What was looked at.
    pub subject: String,
    /// What was found.
    pub text: String,
    /// What to do about it; empty when nothing is to be done.
    pub fix: String,
}

/// All findings, in the order of the checks.
#[derive(Debug, Default)]
pub struct Report(pub Vec<Finding>);

impl Report {
    fn ok(&mut self, subject: &str, text: impl Into<String>) {
        self.add(Level::Ok, subject, text.into(), String::new());
    }

    fn warn(&mut self, subject: &str, text: impl Into<String>, fix: impl Into<String>) {
        self.add(Level::Warn, subject, text.into(), fix.into());
    }

    fn fail(&mut self, subject: &str, text: impl Into<String>, fix: impl Into<String>) {
        self.add(Level::Fail, subject, text.into(), fix.into());
    }

    fn add(&mut self, level: Level, subject: &str, text: String, fix: String) {
        self.0.push(Finding { level, subject: subject.to_owned(), text, fix });
    }

    /// The worst finding's level.
    #[must_use]
    pub fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }
}

/// Looks at everything. `running` is what runs here.
#[must_use]
pub fn examine(sources: &Sources, running: &[Status]) -> Report {
    let mut report = Report::default();
    let config = match load(sources) {
        Ok(loaded) => {
            let mut warnings = loaded.warnings;
            match super::check(&loaded.config) {
                Ok(more) => {
                    warnings.extend(more);
                    report.ok("configuration", "it can be used");
                }
                Err(error) => {
                    report.fail("configuration", chain(&error).to_string(), "Mend it; `beacon check` tells more.");
                }
            }
            for warning in warnings {
                report.warn("configuration", warning, "");
            }
            Some(loaded.config)
        }
        Err(error) => {
            report.fail("configuration", error.to_string(), "Mend what is named; `beacon check` tells the same.");
            None
        }
    };
    if let Some(config) = &config {
        match state::find(&config.server.state_dir, |name| std::env::var_os(name)) {
            Ok(path) => {
                host::state_folder(&mut report, &path);
                host::free_space(&mut report, &path);
                servers::examine(&mut report, config, &path);
                storage::examine(&mut report, config, &path);
            }
            Err(error) => report.fail("state folder", error.to_string(), "Set server.state_dir."),
        }
        let access = Path::new(&config.log.access.output);
        if let Some(folder) = access.parent().filter(|_| access.is_absolute()) {
            host::free_space(&mut report, folder);
        }
    }
    host::variables(&mut report, &sources.folder().join("beacon.env"));
    host::clock(&mut report);
    host::look_ups(&mut report, Path::new("/etc/nsswitch.conf"));
    if Path::new("/run/systemd/system").exists() {
        units::examine(&mut report, running, config.as_ref());
    }
    units::processes(&mut report, running, config.as_ref());
    certificates::examine(&mut report, running);
    if let Some(config) = &config {
        certificates::challenges(&mut report, config);
        names::examine(&mut report, config);
    }
    report
}
