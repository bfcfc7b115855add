//! /schedules: tasks at set times.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Failure, json as answer, ok};
use super::ask::Ask;
use super::{Inner, moment, order};
use crate::tasks::schedule::{Entry, Scheduler, Status};

/// The members of an entry.
const MEMBERS: [&str; 11] =
    ["task", "cron", "every", "timezone", "args", "kwargs", "queue", "priority", "expires", "grace", "enabled"];

impl Inner {
    fn scheduler(&self) -> Result<&Scheduler, Failure> {
        self.schedules.as_ref().ok_or_else(|| {
            Failure::not_found(
                "no_schedules",
                "Schedules are not run here.",
                "tasks.mode is \"off\": ask another Beacon.",
            )
        })
    }

    /// GET /schedules
    pub(super) async fn list_schedules(&self, ask: &Ask) -> Answer {
        ask.only(&[])?;
        let all: Vec<Value> = self.scheduler()?.list().await?.iter().map(shown).collect();
        ok(&json!({"schedules": all}))
    }

    /// GET /schedules/{name}
    pub(super) async fn get_schedule(&self, ask: &Ask, name: &str) -> Answer {
        ask.only(&[])?;
        let all = self.scheduler()?.list().await?;
        let one = all.iter().find(|status| status.name == name);
        let hint = "GET /tasks/v1/schedules lists them. One that was added a moment ago takes a second.";
        ok(&shown(one.ok_or_else(|| {
            Failure::not_found("schedule_not_found", format!("There is no schedule named {name:?}."), hint)
        })?))
    }

    /// PUT /schedules/{name}
    pub(super) async fn put_schedule(&self, ask: &Ask, name: &str) -> Answer {
        ask.only(&[])?;
        let entry = entry(ask.object()?)?;
        self.scheduler()?.put(name, &entry).await?;
        let mut told = json!(entry);
        told["name"] = name.into();
        ok(&told)
    }

    /// DELETE /schedules/{name}
    pub(super) async fn delete_schedule(&self, ask: &Ask, name: &str) -> Answer {
        ask.only(&[])?;
        self.scheduler()?.delete(name).await?;
        ok(&json!({"name": name, "deleted": true}))
    }

    /// POST /schedules/{name}/run
    pub(super) async fn run_schedule(&self, ask: &Ask, name: &str) -> Answer {
        ask.only(&[])?;
        let id = self.scheduler()?.run_now(name).await?;
        Ok(answer(StatusCode::ACCEPTED, &json!({"name": name, "id": id, "state": "PENDING"})))
    }

    /// POST /schedules/{name}/enable and disable
    pub(super) async fn enable_schedule(&self, ask: &Ask, name: &str, enabled: bool) -> Answer {
        ask.only(&[])?;
        self.scheduler()?.enable(name, enabled).await?;
        ok(&json!({"name": name, "enabled": enabled}))
    }
}

/// An entry and what has become of it, with moments as text.
fn shown(status: &Status) -> Value {
    let at = |ms: Option<i64>| ms.map(|ms| moment(ms as f64 / 1_000.0));
    let mut value = json!(status);
    for (name, moment) in [("last", status.last), ("next", status.next), ("sent_at", status.sent_at)] {
        value[name] = at(moment).into();
    }
    value
}

/// Reads an entry. `args` and `kwargs` are JSON, or text that holds JSON, as in the configuration.
fn entry(mut members: Map<String, Value>) -> Result<Entry, Failure> {
    order::known(&members, &MEMBERS)?;
    members.retain(|_, value| !value.is_null());
    for name in ["args", "kwargs"] {
        if let Some(value @ (Value::Array(_) | Value::Object(_))) = members.get_mut(name) {
            *value = value.to_string().into();
        }
    }
    // One member at a time, so that the answer can name it.
    for (name, value) in &members {
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        if let Err(error) = serde_json::from_value::<Entry>(alone) {
            return Err(Failure::invalid(
                format!("{name} cannot be used: {error}."),
                "Durations are text as in \"30s\".",
            ));
        }
    }
    serde_json::from_value(Value::Object(members))
        .map_err(|error| Failure::invalid(format!("The schedule cannot be used: {error}."), ""))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(value: Value) -> Result<Entry, String> {
        let Value::Object(members) = value else { panic!() };
        entry(members).map_err(|failure| match failure {
            Failure::Problem(problem) => problem.message.into_owned(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn arguments_are_json_or_text() {
        let one =
            read(json!({"task": "t", "every": "30s", "args": [1], "kwargs": "{\"a\": 2}", "queue": null})).unwrap();
        assert_eq!((one.args.as_str(), one.kwargs.as_str(), one.every), ("[1]", "{\"a\": 2}", Duration::from_secs(30)));
        assert!(one.validate().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(read(json!({"task": "t", "evry": "30s"})).unwrap_err().contains("\"evry\""));
        assert!(read(json!({"task": "t", "every": true})).unwrap_err().starts_with("every cannot be used"));
        assert!(read(json!({"task": "t", "priority": "high"})).unwrap_err().starts_with("priority cannot be used"));
    }
}
