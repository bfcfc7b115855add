//! Whether Beacon is ready: what each component says of itself, gathered for `/healthz` and `/readyz`.
//!
//! A component that has been named and has said nothing yet is starting, and Beacon is not ready.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The register of components. Clones share it.
#[derive(Clone, Default)]
pub struct Health {
    components: Arc<Mutex<Vec<ComponentReport>>>,
}

/// One component's voice. Clones speak for the same component.
#[derive(Clone)]
pub struct Component {
    components: Arc<Mutex<Vec<ComponentReport>>>,
    index: usize,
}

/// How a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not said anything yet; Beacon is not ready.
    Starting,
    /// It works.
    Ok,
    /// It works in part; Beacon is ready all the same.
    Degraded,
    /// It does not work; Beacon is not ready.
    Failed,
}

/// What a component said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComponentReport {
    /// The component.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// Why it is degraded or failed; empty otherwise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Health {
    /// A register without components, which is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The component called `name`, made if it is new.
    #[must_use]
    pub fn component(&self, name: &'static str) -> Component {
        let mut components = lock(&self.components);
        let index = components.iter().position(|report| report.name == name).unwrap_or_else(|| {
            components.push(ComponentReport { name, state: State::Starting, reason: String::new() });
            components.len() - 1
        });
        Component { components: self.components.clone(), index }
    }

    /// Whether every component works, at least in part.
    #[must_use]
    pub fn ready(&self) -> bool {
        lock(&self.components).iter().all(|report| report.state.is_ready())
    }

    /// What every component said last, in the order in which they were named.
    #[must_use]
    pub fn report(&self) -> Vec<ComponentReport> {
        lock(&self.components).clone()
    }

    /// The status and the JSON body of `/healthz`: the process is alive, or there would be no answer.
    #[must_use]
    pub fn healthz(&self) -> (u16, String) {
        (200, render(true, "alive", &[]))
    }

    /// The status and the JSON body of `/readyz`: 200, or 503 with the components that stand in the way and why.
    /// Degraded components are shown in both.
    #[must_use]
    pub fn readyz(&self) -> (u16, String) {
        let components = self.report();
        let ready = components.iter().all(|report| report.state.is_ready());
        let (status, word) = if ready { (200, "ready") } else { (503, "not ready") };
        (status, render(ready, word, &components))
    }
}

impl Component {
    /// It works.
    pub fn ok(&self) {
        self.say(State::Ok, "");
    }

    /// It works in part, and Beacon stays ready. The reason is shown to operators: no secrets.
    pub fn degraded(&self, reason: impl Into<String>) {
        self.say(State::Degraded, &reason.into());
    }

    /// It does not work, and Beacon is not ready. The reason is shown to operators: no secrets.
    pub fn failed(&self, reason: impl Into<String>) {
        self.say(State::Failed, &reason.into());
    }

    /// It is being stopped as it should, and Beacon is not ready. Nothing is logged.
    pub fn stopping(&self) {
        if let Some(report) = lock(&self.components).get_mut(self.index) {
            report.state = State::Failed;
            "stopping".clone_into(&mut report.reason);
        }
    }

    /// It is as somebody says who has logged it. The reason is shown to operators: no secrets.
    pub fn mirror(&self, state: State, reason: impl Into<String>) {
        if let Some(report) = lock(&self.components).get_mut(self.index) {
            report.state = state;
            report.reason = reason.into();
        }
    }

    /// A change is logged once, however often it is said.
    fn say(&self, state: State, reason: &str) {
        let mut components = lock(&self.components);
        let Some(report) = components.get_mut(self.index) else { return };
        let (before, name) = (report.state, report.name);
        report.state = state;
        reason.clone_into(&mut report.reason);
        drop(components);
        if before == state {
            return;
        }
        match state {
            State::Failed => tracing::error!(component = name, reason, "a component failed"),
            State::Degraded => tracing::warn!(component = name, reason, "a component works in part only"),
            State::Ok if before != State::Starting => tracing::info!(component = name, "a component works again"),
            State::Ok | State::Starting => {}
        }
    }
}

impl State {
    /// Its name, as in the answers of health checks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }

    fn is_ready(self) -> bool {
        matches!(self, Self::Ok | Self::Degraded)
    }
}

fn render(ready: bool, status: &str, components: &[ComponentReport]) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        status: &'a str,
        ready: bool,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        components: &'a [ComponentReport],
    }
    // Strings and booleans always serialize.
    let mut body = serde_json::to_string(&Body { status, ready, components }).unwrap_or_default();
    body.push('\n');
    body
}

fn lock(components: &Mutex<Vec<ComponentReport>>) -> MutexGuard<'_, Vec<ComponentReport>> {
    components.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> serde_json::Value {
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn a_component_that_is_starting_or_failed_stands_in_the_way() {
        let health = Health::new();
        assert!(health.ready());
        let (tls, site) = (health.component("tls"), health.component("site"));
        assert!(!health.ready());
        tls.ok();
        assert!(!health.ready());
        site.degraded("no index.html");
        assert!(health.ready());
        tls.failed("no certificate");
        assert!(!health.ready());
        health.component("tls").ok();
        assert!(health.ready(), "a name stands for one component");
        assert_eq!(health.report().len(), 2);
    }

    #[test]
    fn answers_name_the_component_and_the_reason() {
        let health = Health::new();
        health.component("tls").failed("no \"certificate\"");
        health.component("site").ok();
        let (status, body) = health.readyz();
        assert_eq!(status, 503);
        let body = parsed(&body);
        assert_eq!(body["ready"], false);
        assert_eq!(
            body["components"][0],
            serde_json::json!({"name": "tls", "state": "failed", "reason": "no \"certificate\""})
        );
        assert_eq!(body["components"][1], serde_json::json!({"name": "site", "state": "ok"}));
        let (status, body) = health.healthz();
        assert_eq!((status, &parsed(&body)["status"]), (200, &"alive".into()));
        health.component("tls").ok();
        assert_eq!(health.readyz().0, 200);
    }
}
