//! /dead: what could not be run.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Failure, ok};
use super::ask::Ask;
use super::{Inner, letter, order};

/// The most names in one request.
const MOST: usize = 10_000;

impl Inner {
    /// GET /dead
    pub(super) async fn dead(&self, ask: &Ask) -> Answer {
        ask.only(&["limit", "offset"])?;
        let (limit, offset) = ask.page()?;
        let (letters, count) =
            tokio::try_join!(self.look.broker().dead(offset, limit), self.look.broker().dead_count())?;
        let letters: Vec<Value> = letters.iter().map(|one| letter(one, false)).collect();
        ok(&json!({"dead": letters, "count": count}))
    }

    /// GET /dead/{id}
    pub(super) async fn letter(&self, ask: &Ask, name: &str) -> Answer {
        ask.only(&[])?;
        let letters = self.look.broker().letters(&[name.to_owned()]).await?;
        let found = letters.first().ok_or_else(|| {
            let hint = "GET /tasks/v1/dead lists them; they are kept for tasks.dead_letters_expire.";
            Failure::not_found("letter_not_found", format!("There is no dead letter {name:?}."), hint)
        })?;
        ok(&letter(found, true))
    }

    /// POST /dead/replay
    pub(super) async fn replay(&self, ask: &Ask) -> Answer {
        ask.only(&[])?;
        let names = self.names(&ask.object()?).await?;
        ok(&json!({"replayed": self.look.replay(&names).await?}))
    }

    /// DELETE /dead
    pub(super) async fn drop_dead(&self, ask: &Ask) -> Answer {
        ask.only(&[])?;
        let names = self.names(&ask.object()?).await?;
        ok(&json!({"dropped": self.look.broker().drop_dead(&names).await?}))
    }

    /// The letters that are meant: those of `ids`, or all that are there at this moment.
    async fn names(&self, members: &Map<String, Value>) -> Result<Vec<String>, Failure> {
        const HINT: &str = "Send {\"ids\": [\"...\"]}, or {\"all\": true}.";

        order::known(members, &["ids", "all"])?;
        match (members.get("ids"), members.get("all")) {
            (None, Some(Value::Bool(true))) => Ok(self.look.letter_names().await?),
            (Some(Value::Array(ids)), None) if ids.len() <= MOST => ids
                .iter()
                .map(|id| id.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| Failure::invalid("ids has something else than texts.", HINT)),
            (Some(Value::Array(_)), None) => Err(Failure::invalid(format!("ids has more than {MOST}."), HINT)),
            _ => Err(Failure::invalid("It is not said which dead letters are meant.", HINT)),
        }
    }
}
