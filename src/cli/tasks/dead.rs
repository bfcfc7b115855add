//! `beacon tasks dead`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::confirm::confirm;
use super::{Context, dash, print_json, print_rows, second};
use crate::cli::{Failure, output};
use crate::jobs::api::{letter, moment};

/// Dead letters: what could not be run, and why
///
/// They are kept for tasks.dead_letters_expire.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  beacon tasks dead                     what is there, and why
  beacon tasks dead show ID             one of them, with its message
  beacon tasks dead replay ID           into its queue again
  beacon tasks dead drop --all"
)]
pub(super) struct Dead {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Show(Show),
    Replay(Replay),
    Drop(Drop),
}

/// Lists dead letters, the newest first
#[derive(Args, Debug)]
struct List {
    /// Lists at most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Shows a dead letter with its message
#[derive(Args, Debug)]
struct Show {
    /// Its name, as the list has it
    #[arg(value_name = "ID")]
    id: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Sends dead letters to their queues again, as if they were new
#[derive(Args, Debug)]
struct Replay {
    /// Their names, as the list has them
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// Sends all of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

/// Removes dead letters
#[derive(Args, Debug)]
struct Drop {
    /// Their names, as the list has them
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// Removes all of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
}

impl Dead {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.action.unwrap_or(Action::List(self.list)) {
            Action::List(command) => command.run(context).await,
            Action::Show(command) => command.run(context).await,
            Action::Replay(command) => {
                let names = if command.all { context.look.letter_names().await? } else { command.ids };
                let done = context.look.replay(&names).await?;
                told(done, names.len(), command.all, "in their queues again")
            }
            Action::Drop(command) => {
                let names = if command.all { context.look.letter_names().await? } else { command.ids };
                if names.is_empty() {
                    return Ok(output::print("There are no dead letters.\n")?);
                }
                confirm(&format!("remove {} for ever", letters(names.len())), command.yes)?;
                let done = context.tools.broker.drop_dead(&names).await?;
                told(done, names.len(), command.all, "removed")
            }
        }
    }
}

fn letters(count: usize) -> String {
    if count == 1 { "1 dead letter".into() } else { format!("{count} dead letters") }
}

/// Says how many there were; those named that were not there are a failure.
fn told(done: usize, named: usize, all: bool, what: &str) -> Result<(), Failure> {
    output::print(&format!("{} {what}.\n", letters(done)))?;
    if all || done == named {
        return Ok(());
    }
    Err(Failure::Other(format!("{} of those named are not there; `beacon tasks dead` lists them.", named - done)))
}

impl List {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let found = context.tools.broker.dead(0, self.limit as usize).await?;
        if self.json {
            return print_json(&found.iter().map(|one| letter(one, false)).collect::<Vec<Value>>());
        }
        let rows: Vec<_> = found
            .iter()
            .map(|letter| {
                let at = second(&moment(letter.at));
                [letter.key.clone(), dash(letter.task.as_ref()), letter.queue.clone(), at, letter.reason.clone()]
            })
            .collect();
        print_rows(["id", "task", "queue", "when", "reason"], &rows, "There are no dead letters.")?;
        let count = context.tools.broker.dead_count().await?;
        if count > rows.len() {
            output::warn(&format!("there are {count} in all; see --limit."));
        }
        Ok(())
    }
}

impl Show {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let found = context.tools.broker.letters(std::slice::from_ref(&self.id)).await?;
        let Some(found) = found.first() else {
            return Err(Failure::Other(format!(
                "there is no dead letter {:?}; `beacon tasks dead` lists them.",
                self.id
            )));
        };
        let mut shown = letter(found, true);
        if self.json {
            return print_json(&shown);
        }
        // The message as a tree, if it is one, so that people can read it.
        if let Some(tree) = shown["message"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            shown["message"] = tree;
        }
        let body = shown.pointer("/message/body").and_then(Value::as_str).and_then(content);
        if let Some(body) = body {
            shown["content"] = body;
        }
        print_json(&json!(shown))
    }
}

/// What the message's body says, if it is JSON in base64 or as it is.
fn content(body: &str) -> Option<Value> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_else(|_| body.as_bytes().to_vec());
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_in_both_encodings() {
        assert_eq!(content("W1sxXSwge30sIHt9XQ=="), Some(json!([[1], {}, {}])));
        assert_eq!(content("[[1], {}, {}]"), Some(json!([[1], {}, {}])));
        assert_eq!(content("gASVAA=="), None);
    }
}
