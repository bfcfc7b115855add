//! Everything that is served at /tasks/v1.

use http::header::ALLOW;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::answer::{Answer, Failure};
use super::ask::Ask;
use super::{Inner, Tasks};
use crate::http::{Body, Handler, Reply, Request, Response, User};

/// Roles that may use the API.
const ROLES: [&str; 2] = ["service_role", "supabase_admin"];

const API_KEY: HeaderName = HeaderName::from_static("apikey");

impl Handler for Tasks {
    fn handle(&self, request: Request) -> Reply<'_> {
        Reply::later(async move {
            let id = request.context.id;
            match self.0.take(request).await {
                Ok(response) => response,
                Err(failure) => failure.response(&id),
            }
        })
    }
}

impl Inner {
    async fn take(&self, request: Request) -> Answer {
        if request.parts.method == Method::OPTIONS {
            let allowed = allowed(request.context.rest().trim_end_matches('/')).ok_or_else(nowhere)?;
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return Ok(response);
        }
        // Before the body is read.
        let user = self.permit(&request)?;
        let ask = Ask::read(request).await?;
        let mut response = self.answer(&ask).await?;
        if let Some(user) = user {
            response.extensions_mut().insert(User(user));
        }
        Ok(response)
    }

    async fn answer(&self, ask: &Ask) -> Answer {
        let path: Vec<&str> = ask.path.split('/').collect();
        let get = ask.method == Method::GET || ask.method == Method::HEAD;
        let [post, put, delete] = [Method::POST, Method::PUT, Method::DELETE].map(|method| ask.method == method);
        match path.as_slice() {
            ["tasks"] if get => self.list(ask).await,
            ["tasks"] if post => self.send(ask).await,
            ["tasks", id] if get => self.get(ask, id).await,
            ["tasks", id, "cancel"] if post => self.cancel(ask, id).await,
            ["tasks", id, "retry"] if post => self.retry(ask, id).await,

            ["dead"] if get => self.dead(ask).await,
            ["dead"] if delete => self.drop_dead(ask).await,
            ["dead", "replay"] if post => self.replay(ask).await,
            ["dead", name] if get => self.letter(ask, name).await,

            ["queues"] if get => self.queues(ask).await,
            ["queues", name] if get => self.queue(ask, name).await,
            ["queues", name, "pause"] if post => self.pause(ask, name).await,
            ["queues", name, "resume"] if post => self.resume(ask, name).await,
            ["queues", name, "messages"] if delete => self.purge(ask, name).await,

            ["schedules"] if get => self.list_schedules(ask).await,
            ["schedules", name] if get => self.get_schedule(ask, name).await,
            ["schedules", name] if put => self.put_schedule(ask, name).await,
            ["schedules", name] if delete => self.delete_schedule(ask, name).await,
            ["schedules", name, "run"] if post => self.run_schedule(ask, name).await,
            ["schedules", name, "enable"] if post => self.enable_schedule(ask, name, true).await,
            ["schedules", name, "disable"] if post => self.enable_schedule(ask, name, false).await,

            ["workers"] if get => self.workers(ask).await,
            ["events"] if ask.method == Method::GET => self.events(ask),

            _ => Err(allowed(&ask.path).map_or_else(nowhere, Failure::Method)),
        }
    }

    /// Lets those in who may do anything, and gives who it is, if it is a user.
    fn permit(&self, request: &Request) -> Result<Option<std::sync::Arc<str>>, Failure> {
        let headers = &request.parts.headers;
        let hint = "Send a secret key in the header apikey: `beacon keys create --secret NAME` makes one.";
        if !headers.contains_key(API_KEY) && !headers.contains_key(http::header::AUTHORIZATION) {
            let message = "Tasks are for those who have a secret key.";
            return Err(Failure::new(StatusCode::UNAUTHORIZED, "no_authorization", message, hint));
        }
        let caller = self.gateway.identify(headers)?;
        if ROLES.contains(&&*caller.role) {
            return Ok(caller.subject.clone());
        }
        let message = format!("The role {} may not use tasks.", caller.role);
        Err(Failure::new(StatusCode::FORBIDDEN, "not_service_role", message, hint))
    }
}

/// The methods of an address; `None` if there is nothing.
fn allowed(path: &str) -> Option<&'static str> {
    let path: Vec<&str> = path.split('/').collect();
    Some(match path.as_slice() {
        ["tasks"] => "GET, HEAD, POST, OPTIONS",
        ["dead"] => "GET, HEAD, DELETE, OPTIONS",
        ["tasks", _, "cancel" | "retry"]
        | ["dead", "replay"]
        | ["queues", _, "pause" | "resume"]
        | ["schedules", _, "run" | "enable" | "disable"] => "POST, OPTIONS",
        ["queues", _, "messages"] => "DELETE, OPTIONS",
        ["schedules", _] => "GET, HEAD, PUT, DELETE, OPTIONS",
        ["events"] => "GET, OPTIONS",
        ["queues" | "schedules" | "workers"] | ["tasks" | "dead" | "queues", _] => "GET, HEAD, OPTIONS",
        _ => return None,
    })
}

fn nowhere() -> Failure {
    Failure::not_found(
        "not_found",
        "There is nothing at this address.",
        "There are tasks, dead, queues, schedules, workers and events below /tasks/v1.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_knows_its_methods() {
        assert_eq!(allowed("tasks/x/cancel"), Some("POST, OPTIONS"));
        assert_eq!(allowed("dead/replay"), Some("POST, OPTIONS"));
        assert_eq!(allowed("dead/x"), Some("GET, HEAD, OPTIONS"));
        for nowhere in ["", "task", "tasks/x/y", "queues/x/y/z", "schedules/x/runs"] {
            assert_eq!(allowed(nowhere), None, "{nowhere}");
        }
    }
}
