//! Which commands there are and what each takes; and what Python says to a call that does not fit.

use serde_json::{Map, Value};

use crate::tasks::wire::repr;

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) name: &'static str,
    alias: Option<&'static str>,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    /// Takes arguments that it does not know.
    more: bool,
}

const fn command(
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
) -> Signature {
    Signature { name, alias: None, required, optional, more: true }
}

impl Signature {
    const fn alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    const fn strict(self) -> Self {
        Self { more: false, ..self }
    }
}

/// Those of Celery 5.7, with the arguments of its functions.
static COMMANDS: &[Signature] = &[
    command("active", &[], &["safe"]).alias("dump_active"),
    command("active_queues", &[], &[]).strict(),
    command("add_consumer", &["queue"], &["exchange", "exchange_type", "routing_key"]),
    command("autoscale", &[], &["max", "min"]).strict(),
    command("cancel_consumer", &["queue"], &[]),
    command("clock", &[], &[]),
    command("conf", &[], &["with_defaults"]).alias("dump_conf"),
    command("disable_events", &[], &[]).strict(),
    command("election", &["id", "topic"], &["action"]),
    command("enable_events", &[], &[]).strict(),
    command("heartbeat", &[], &[]).strict(),
    command("hello", &["from_node"], &["revoked"]),
    command("memdump", &[], &["samples"]),
    command("memsample", &[], &[]),
    command("objgraph", &[], &["num", "max_depth", "type"]).strict(),
    command("ping", &[], &[]),
    command("pool_grow", &[], &["n"]),
    command("pool_restart", &[], &["modules", "reload", "reloader"]),
    command("pool_shrink", &[], &["n"]),
    command("query_task", &["ids"], &[]),
    command("rate_limit", &["task_name", "rate_limit"], &[]),
    command("registered", &[], &["taskinfoitems", "builtins"]).alias("dump_tasks"),
    command("report", &[], &[]).strict(),
    command("reserved", &[], &[]).alias("dump_reserved"),
    command("revoke", &["task_id"], &["terminate", "signal"]),
    command("revoke_by_stamped_headers", &["headers"], &["terminate", "signal"]),
    command("revoked", &[], &[]).alias("dump_revoked"),
    command("scheduled", &[], &[]).alias("dump_schedule"),
    command("shutdown", &[], &["msg"]),
    command("stats", &[], &[]),
    command("terminate", &["signal", "task_id"], &[]),
    command("time_limit", &[], &["task_name", "hard", "soft"]),
];

/// The command of this name.
pub(super) fn find(method: &str) -> Option<&'static Signature> {
    COMMANDS.iter().find(|one| one.name == method || one.alias == Some(method))
}

/// The names of all.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|one| one.name)
}

impl Signature {
    /// Every argument that it knows.
    #[cfg(test)]
    pub(super) fn parameters(&self) -> impl Iterator<Item = &&'static str> {
        self.required.iter().chain(self.optional)
    }

    /// Whether it can be called so.
    ///
    /// # Errors
    /// Python's exception, as `repr` shows it.
    pub(super) fn check(&self, arguments: &Map<String, Value>) -> Result<(), String> {
        let fault = |what: &str| Err(repr::exception("TypeError", &format!("{}() {what}", self.name)));
        if arguments.contains_key("state") {
            return fault("got multiple values for argument 'state'");
        }
        if !self.more {
            let known = |name: &str| self.required.contains(&name) || self.optional.contains(&name);
            if let Some(name) = arguments.keys().find(|name| !known(name)) {
                return fault(&format!("got an unexpected keyword argument '{name}'"));
            }
        }
        let missing: Vec<String> = self
            .required
            .iter()
            .filter(|name| !arguments.contains_key(**name))
            .map(|name| format!("'{name}'"))
            .collect();
        match missing.as_slice() {
            [] => Ok(()),
            [one] => fault(&format!("missing 1 required positional argument: {one}")),
            many => fault(&format!("missing {} required positional arguments: {}", many.len(), many.join(" and "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(method: &str, arguments: &Value) -> Result<(), String> {
        find(method).unwrap().check(arguments.as_object().unwrap())
    }

    #[test]
    fn a_call_that_does_not_fit_gets_the_exception_of_python() {
        // Each text was given by a worker of celery 5.7.
        for (method, arguments, says) in [
            ("revoke", json!({}), "TypeError(\"revoke() missing 1 required positional argument: 'task_id'\")"),
            (
                "election",
                json!({}),
                "TypeError(\"election() missing 2 required positional arguments: 'id' and 'topic'\")",
            ),
            ("enable_events", json!({"x": 1}), "TypeError(\"enable_events() got an unexpected keyword argument 'x'\")"),
            ("autoscale", json!({"q": 1}), "TypeError(\"autoscale() got an unexpected keyword argument 'q'\")"),
        ] {
            assert_eq!(check(method, &arguments), Err(says.to_owned()));
        }
        for (method, arguments) in [
            ("ping", json!({"zz": 1})),
            ("clock", json!({"a": 2})),
            ("autoscale", json!({"max": 2, "min": 1})),
            ("revoke", json!({"task_id": null, "terminate": true})),
        ] {
            assert_eq!(check(method, &arguments), Ok(()), "{method}");
        }
        assert!(check("ping", &json!({"state": 1})).is_err());
    }

    #[test]
    fn the_old_names_are_known() {
        for (alias, name) in [
            ("dump_active", "active"),
            ("dump_conf", "conf"),
            ("dump_reserved", "reserved"),
            ("dump_revoked", "revoked"),
            ("dump_schedule", "scheduled"),
            ("dump_tasks", "registered"),
        ] {
            assert_eq!(find(alias).map(|one| one.name), Some(name));
        }
        assert_eq!(find("nosuch"), None);
        assert_eq!(find(""), None);
    }
}
