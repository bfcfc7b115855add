//! `beacon config`: what is configured, and what could be.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Failure, output};
use crate::config::{Loaded, REFERENCE, Sources, load};

/// Shows the configuration, or every option there is
#[derive(Args, Debug)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Show(Show),
    Default(Default),
}

/// Shows the configuration in force, with secrets masked
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon config show
  beacon config show --origins | grep -v default
  beacon config show --json | jq .listen")]
struct Show {
    /// Tells which file or variable each value came from
    #[arg(long)]
    origins: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Prints every option at its default, with its explanation
///
/// All of it is commented out: use it as a configuration file, and uncomment what you change.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  beacon config default > beacon.toml")]
struct Default {}

impl ConfigCommand {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        match self.command {
            Action::Default(Default {}) => Ok(output::print(REFERENCE)?),
            Action::Show(show) => {
                let loaded = load(sources)?;
                for warning in &loaded.warnings {
                    output::warn(warning);
                }
                Ok(output::print(&show.text(&loaded)?)?)
            }
        }
    }
}

impl Show {
    fn text(&self, loaded: &Loaded) -> Result<String, Failure> {
        let cannot = |error: &dyn std::fmt::Display| Failure::Other(format!("cannot show the configuration: {error}"));
        if self.origins {
            let values = loaded.values();
            if self.json {
                let object: serde_json::Map<String, serde_json::Value> = values
                    .into_iter()
                    .map(|(key, value, origin)| (key, json!({ "value": value, "origin": origin.to_string() })))
                    .collect();
                return Ok(format!("{:#}\n", serde_json::Value::Object(object)));
            }
            let mut text = String::new();
            for (key, value, origin) in values {
                let _ = writeln!(text, "{key} = {value}  # {origin}");
            }
            return Ok(text);
        }
        if self.json {
            let value = serde_json::to_value(&loaded.config).map_err(|error| cannot(&error))?;
            return Ok(format!("{value:#}\n"));
        }
        toml::to_string(&loaded.config).map_err(|error| cannot(&error))
    }
}
