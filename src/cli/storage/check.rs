//! `beacon storage check`

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use crate::cli::{Failure, output};
use crate::config::Sources;
use crate::error::{chain, exit};
use crate::storage::{Outcome, Step, check};

/// Tries on the real store all that Beacon does with it, one line for each right
///
/// Lists, creates, reads, updates and deletes two small objects below beacon-check/, one of them in parts. Where S3
/// refuses, the line names the action that the IAM policy lacks. The exit code is 1 if something fails.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sudo beacon storage check
  sudo beacon storage check --no-delete     the IAM user may not delete, and shall not")]
pub(super) struct Check {
    /// Does not try to delete: two small objects stay
    #[arg(long)]
    no_delete: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (store, runtime) = super::open(sources)?;
        let steps = runtime.block_on(check(&store, !self.no_delete));
        if self.json {
            let all: Vec<_> = steps.iter().map(member).collect();
            output::print(&format!("{:#}\n", json!({ "store": store.describe(), "steps": all })))?;
        } else {
            let mut text = format!("{}\n", store.describe());
            for step in &steps {
                text.push_str(&line(step));
            }
            output::print(&text)?;
        }
        if steps.iter().any(|step| matches!(step.outcome, Outcome::Fails(_))) {
            return Err(Failure::Told(exit::FAILURE));
        }
        Ok(())
    }
}

fn member(step: &Step) -> serde_json::Value {
    let (outcome, why) = match &step.outcome {
        Outcome::Works => ("ok", None),
        Outcome::Fails(error) => ("failed", Some(chain(error).to_string())),
        Outcome::Left(why) => ("left out", Some((*why).to_owned())),
    };
    json!({ "step": step.what, "action": step.action.iam(), "outcome": outcome, "why": why })
}

fn line(step: &Step) -> String {
    let mut text = String::new();
    let (what, iam) = (step.what, step.action.iam());
    let _ = match &step.outcome {
        Outcome::Works => writeln!(text, "ok    {what:<28}  {iam}"),
        Outcome::Fails(error) => writeln!(text, "FAIL  {what:<28}  {iam}: {}", chain(error)),
        Outcome::Left(why) => writeln!(text, "-     {what:<28}  {iam}: {why}"),
    };
    text
}
