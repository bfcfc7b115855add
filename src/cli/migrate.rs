//! `beacon migrate status` and `beacon migrate up`

use std::fmt::Write as _;

use clap::{Args, Subcommand};

use super::{Failure, database, output};
use crate::app;
use crate::config::{Sources, load};
use crate::db::Progress;

/// Shows and applies migrations of the database
///
/// Beacon's own come with the program, and `serve` applies them. The application's are plain SQL files in the folder
/// that database.migrations names; they are applied here, or by `serve` if database.migrate_on_start is on.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon migrate status
  beacon migrate up --set database.migrations=./migrations")]
pub(super) struct Migrate {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows what was applied and what is pending
    ///
    /// The exit code is 1 if something is pending or does not fit.
    Status {
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Applies what is pending, in order
    Up,
}

impl Migrate {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let loaded = load(sources)?;
        let database = app::database(&loaded.config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.verb {
            Verb::Status { json } => {
                let (own, application) =
                    runtime.block_on(database.progress()).map_err(|error| database::failed(&database, &error))?;
                show(&own, &application, json)
            }
            Verb::Up => {
                let done = runtime.block_on(database.migrate()).map_err(|error| database::failed(&database, &error))?;
                let mut text = String::new();
                for name in &done {
                    let _ = writeln!(text, "applied  {name}");
                }
                if loaded.config.database.migrations.as_os_str().is_empty() {
                    text.push_str("Beacon's own are applied. database.migrations names no folder with others.\n");
                } else if done.is_empty() {
                    text.push_str("Nothing was pending.\n");
                }
                Ok(output::print(&text)?)
            }
        }
    }
}

fn show(own: &[Progress], application: &[Progress], json: bool) -> Result<(), Failure> {
    let open = own.iter().chain(application).any(|step| step.applied_at.is_none() || step.fault.is_some());
    if json {
        let list = |steps: &[Progress]| -> serde_json::Value {
            steps
                .iter()
                .map(|step| serde_json::json!({"name": step.name, "applied_at": step.applied_at, "fault": step.fault}))
                .collect()
        };
        output::print(&format!("{}\n", serde_json::json!({"beacon": list(own), "application": list(application)})))?;
    } else {
        let mut text = String::new();
        for (title, steps) in [("Beacon", own), ("Application", application)] {
            let _ = writeln!(text, "{title}");
            for step in steps {
                let state = step.applied_at.as_deref().unwrap_or("pending");
                let fault = step.fault.map(|fault| format!("  ({fault})")).unwrap_or_default();
                let _ = writeln!(text, "  {state:<20}  {}{fault}", step.name);
            }
            if steps.is_empty() {
                text.push_str("  none\n");
            }
        }
        output::print(&text)?;
    }
    if open { Err(Failure::Told(crate::error::exit::FAILURE)) } else { Ok(()) }
}
