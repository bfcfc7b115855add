//! `beacon doctor`

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::{Failure, output, status};
use crate::app::doctor::{Finding, Level, examine};
use crate::config::Sources;
use crate::error::exit;

/// Looks for what stands in the way: configuration, folders, disk, clock, database, units, certificates, names
///
/// One line for each check, and what to do where something is wrong. Nothing is changed. The exit code is 1 if
/// something fails; warnings alone give 0.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sudo beacon doctor
  sudo beacon doctor --json | jq '.findings[] | select(.level != \"ok\")'")]
pub(super) struct Doctor {
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let running = status::running(sources)?;
        let report = examine(sources, &running);
        if self.json {
            output::print(&format!("{:#}\n", json!({ "level": report.worst(), "findings": report.0 })))?;
        } else {
            output::print(&report.0.iter().map(line).collect::<String>())?;
        }
        if report.worst() == Level::Fail { Err(Failure::Told(exit::FAILURE)) } else { Ok(()) }
    }
}

fn line(finding: &Finding) -> String {
    let word = match finding.level {
        Level::Ok => "ok  ",
        Level::Warn => "warn",
        Level::Fail => "FAIL",
    };
    let indent = "\n                      ";
    let mut text = format!("{word}  {:<14}  {}\n", finding.subject, finding.text.replace('\n', indent));
    if !finding.fix.is_empty() {
        let _ = writeln!(text, "{}{}", &indent[1..], finding.fix);
    }
    text
}
