//! Tasks over HTTP and on the command line: a real Redis, a real PostgreSQL, and the worker inside `serve`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::schedules::messages;
use crate::support::{Answer, Api, BOUND, Redis, token, until};

/// Nobody works on this queue, so what is sent there waits.
const ASIDE: &str = "aside";

/// A Beacon with tasks of its own, and what it stands on. Fields end in this order.
struct Stand {
    api: Api,
    redis: Redis,
    key: String,
}

impl Stand {
    /// `echo` gives back what it is told, `sleep` takes a minute.
    fn start(sections: &str) -> Self {
        let redis = Redis::start();
        let api = Api::start(
            "",
            &format!(
                "redis.url = {:?}\n[handlers.echo]\ncommand.run = [\"/bin/cat\"]\n\
                 [handlers.sleep]\ncommand.run = [\"/bin/sleep\", \"60\"]\n{sections}",
                redis.url()
            ),
            "",
        );
        let stand = Self { api, redis, key: Api::service() };
        until("a worker", || {
            let (_, told) = stand.get("/workers");
            (told["workers"][0]["alive"] == true).then_some(())
        });
        stand
    }

    fn raw(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.api.ask(method, &format!("/tasks/v1{target}"), headers, &body)
    }

    fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let answer = self.raw(method, target, &[("apikey", &self.key)], body);
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }

    fn get(&self, target: &str) -> (u16, Value) {
        self.ask("GET", target, &Value::Null)
    }

    fn post(&self, target: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", target, body)
    }

    /// Sends a task and gives its identifier.
    #[track_caller]
    fn send(&self, task: &Value) -> String {
        let (status, sent) = self.post("/tasks", task);
        assert_eq!((status, &sent["new"], &sent["state"]), (202, &json!(true), &json!("PENDING")), "{sent}");
        sent["id"].as_str().unwrap().to_owned()
    }

    /// How a task ends.
    #[track_caller]
    fn end(&self, id: &str) -> Value {
        let (status, found) = self.get(&format!("/tasks/{id}?wait=25s"));
        assert_eq!(status, 200, "{found}");
        found
    }

    /// The identifiers in a list of tasks.
    fn list(&self, query: &str) -> Vec<String> {
        let (status, told) = self.get(&format!("/tasks?{query}"));
        assert_eq!(status, 200, "{told}");
        told["tasks"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Runs `beacon` with the server's own configuration.
    fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_beacon"))
            .args(arguments)
            .args(["--config", "beacon.toml"])
            .current_dir(self.api.beacon().path())
            .env_clear()
            .env("HOME", self.api.beacon().path())
            .env("DATABASE_URL", self.api.database().url())
            .env("BEACON_MANAGED__POSTGRES", "off")
            .env("BEACON_MANAGED__REDIS", "off")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.command(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out.trim_end().to_owned()
    }
}

#[test]
fn a_task_is_sent_run_and_looked_at() {
    let stand = Stand::start("");
    let task = json!({"task": "echo", "args": [1, "two"], "kwargs": {"name": "Ann"}});
    let answer = stand.raw("POST", "/tasks", &[("apikey", &stand.key)], &task);
    let sent: Value = serde_json::from_slice(&answer.body).unwrap();
    let id = sent["id"].as_str().unwrap();
    assert_eq!((answer.status, answer.header("location")), (202, Some(&*format!("/tasks/v1/tasks/{id}"))));
    let found = stand.end(id);
    assert_eq!(
        (&found["state"], &found["where"], &found["queue"]),
        (&json!("SUCCESS"), &json!("finished"), &json!("beacon"))
    );
    let expected = json!({"id": id, "task": "echo", "args": [1, "two"], "kwargs": {"name": "Ann"}, "attempt": 1});
    assert_eq!(found["result"], expected);
    assert!(found["worker"].as_str().unwrap().contains('@') && found["runtime"].is_number(), "{found}");
    assert_eq!(stand.list("state=finished&task=echo"), [id]);
    assert_eq!(stand.get("/tasks/no-such-task").0, 404);
    // A task that nobody knows is answered for.
    let found = stand.end(&stand.send(&json!({"task": "no.such.task"})));
    assert_eq!((&found["state"], &found["exception"]["type"]), (&json!("FAILURE"), &json!("NotRegistered")), "{found}");
    // What has ended is neither cancelled nor tried again.
    let (status, told) = stand.post(&format!("/tasks/{id}/cancel"), &Value::Null);
    assert_eq!((status, &told["code"]), (409, &json!("already_ended")));
    let (status, told) = stand.post(&format!("/tasks/{id}/retry"), &Value::Null);
    assert_eq!((status, &told["code"]), (409, &json!("not_dead")));
    // A wait ends with its time.
    let waiting = stand.send(&json!({"task": "echo", "queue": ASIDE}));
    let (status, found) = stand.get(&format!("/tasks/{waiting}?wait=0.2"));
    assert_eq!((status, &found["state"], &found["where"]), (200, &json!("PENDING"), &json!("waiting")));
    let (_, told) = stand.get("/workers");
    assert_eq!((&told["workers"][0]["queues"], told["workers"].as_array().unwrap().len()), (&json!(["beacon"]), 1));
    let page = stand.api.beacon().operations("/metrics").text();
    assert!(page.contains("beacon_tasks_runs_total{task=\"echo\",outcome=\"succeeded\"} 1"), "{page}");
}

#[test]
fn a_key_stands_for_one_task_and_a_list_is_sent_in_one_go() {
    let stand = Stand::start("");
    let aside = |more: Value| {
        let mut task = json!({"task": "echo", "queue": ASIDE});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task
    };
    let (status, sent) =
        stand.post("/tasks", &json!([aside(json!({})), aside(json!({"priority": 9})), aside(json!({}))]));
    let ids: Vec<&str> = sent.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!((status, ids.len()), (202, 3));
    // Those with the first priority first, and of those the oldest.
    assert_eq!(stand.list("state=waiting&queue=aside"), [ids[0], ids[2], ids[1]]);
    assert_eq!(stand.list("state=waiting&queue=aside&limit=1&offset=1"), [ids[2]]);
    let (_, queue) = stand.get("/queues/aside");
    let expected = json!([3, {"0": 2, "3": 0, "6": 0, "9": 1}, "echo", false, 0]);
    let members = ["waiting", "by_priority", "next_task", "paused", "consumers"];
    assert_eq!(json!(members.map(|member| &queue[member])), expected);
    // All or none.
    let (status, told) = stand.post("/tasks", &json!([aside(json!({})), aside(json!({"priority": 10}))]));
    assert_eq!(status, 400);
    assert!(told["message"].as_str().unwrap().starts_with("The task at place 1 of the list: priority"), "{told}");
    assert_eq!(stand.get("/queues/aside").1["waiting"], 3);

    let keyed = |task: &Value| {
        let answer = stand.raw("POST", "/tasks", &[("apikey", &stand.key), ("idempotency-key", "order-7")], task);
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap())
    };
    let (first, second) = (keyed(&aside(json!({}))), keyed(&aside(json!({}))));
    assert_eq!((first.0, second.0), (202, 200));
    assert_eq!((&second.1["id"], &second.1["new"]), (&first.1["id"], &json!(false)));
    assert_eq!(keyed(&json!([aside(json!({}))])).0, 400);

    let unique = aside(json!({"unique": {"key": "report:7", "for": "1h"}}));
    let first = stand.send(&unique);
    let (status, second) = stand.post("/tasks", &unique);
    assert_eq!((status, second["id"].as_str()), (200, Some(&*first)));
    // Cancelled, it makes way for the next one; so does a queue that is emptied.
    let (status, told) = stand.post(&format!("/tasks/{first}/cancel"), &Value::Null);
    assert_eq!((status, &told["state"]), (200, &json!("REVOKED")));
    stand.send(&unique);
    assert_eq!(stand.ask("DELETE", "/queues/aside/messages", &Value::Null), (200, json!({"purged": 5})));
    assert_eq!(stand.get("/queues/aside").1["waiting"], 0);
    stand.send(&unique);
}

#[test]
fn a_task_is_cancelled_wherever_it_is() {
    let stand = Stand::start("");
    let cancel = |id: &str, body: Value| stand.post(&format!("/tasks/{id}/cancel"), &body);
    let state = |id: &str| stand.get(&format!("/tasks/{id}")).1["state"].clone();
    let waiting = stand.send(&json!({"task": "echo", "queue": ASIDE}));
    let parked = stand.send(&json!({"task": "echo", "countdown": "1h"}));
    let running = stand.send(&json!({"task": "sleep"}));
    until("a task that waits for its time", || {
        let (_, told) = stand.get("/tasks?state=scheduled");
        (told["tasks"][0]["id"] == *parked && told["tasks"][0]["waits_for"] == "eta").then_some(())
    });
    until("a task that runs", || {
        let (_, told) = stand.get("/tasks?state=running");
        (told["tasks"][0]["id"] == *running && told["tasks"][0]["state"] == "STARTED").then_some(())
    });
    assert_eq!(stand.list("state=waiting"), [&*waiting]);
    assert_eq!(cancel(&waiting, Value::Null).0, 200);
    assert_eq!(cancel(&parked, Value::Null).0, 200);
    for (id, list) in [(&waiting, "state=waiting"), (&parked, "state=scheduled")] {
        assert_eq!((state(id), stand.list(list)), (json!("REVOKED"), vec![]));
        assert_eq!(cancel(id, Value::Null).1["code"], "already_ended");
    }
    // One that runs goes on, unless it is to be ended.
    assert_eq!(cancel(&running, Value::Null).0, 202);
    assert_eq!(state(&running), "STARTED");
    let (status, told) = cancel(&running, json!({"terminate": true, "signal": "SIGSEGV"}));
    assert_eq!((status, &told["code"]), (400, &json!("invalid_request")));
    assert_eq!(cancel(&running, json!({"terminate": true})).0, 202);
    assert_eq!(stand.end(&running)["state"], "REVOKED");
    until("nothing that runs", || stand.list("state=running").is_empty().then_some(()));
    // One that nobody knows yet is dropped should it come.
    assert_eq!(cancel("comes-later", Value::Null).0, 202);
    stand.send(&json!({"task": "echo", "id": "comes-later"}));
    assert_eq!(stand.end("comes-later")["state"], "REVOKED");
}

#[test]
fn dead_letters_are_kept_shown_replayed_and_dropped() {
    let stand = Stand::start("");
    let count = || stand.get("/dead").1["count"].as_u64().unwrap();
    let message = json!({"headers": {"id": "lost-1", "task": "echo"}, "body": 5}).to_string();
    stand.redis.ask(&["LPUSH", "beacon", &message, "no message at all"]);
    until("two dead letters", || (count() == 2).then_some(()));
    let (_, letter) = stand.get("/dead/lost-1");
    assert_eq!(
        (&letter["task"], &letter["queue"], &letter["message"]),
        (&json!("echo"), &json!("beacon"), &json!(message))
    );
    assert!(letter["reason"].as_str().unwrap().contains("no body"), "{letter}");
    let found = stand.end("lost-1");
    assert_eq!((&found["state"], &found["where"]), (&json!("FAILURE"), &json!("dead")), "{found}");
    assert_eq!(stand.list("state=dead").len(), 2);
    // While the queue is paused, what is replayed can be seen there.
    assert_eq!(stand.post("/queues/beacon/pause", &Value::Null).1["paused"], true);
    let (status, row) = stand.post("/tasks/lost-1/retry", &Value::Null);
    assert_eq!((status, &row["where"]), (202, &json!("waiting")));
    assert_eq!((stand.get("/dead/lost-1").0, count()), (404, 1));
    assert_eq!(stand.post("/dead/replay", &json!({"all": true})), (200, json!({"replayed": 1})));
    assert_eq!((count(), stand.redis.ask(&["LLEN", "beacon"]).as_str()), (0, "2"));
    let echoed = stand.send(&json!({"task": "echo"}));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(stand.get("/queues/beacon").1["waiting"], 3, "nobody takes anything from a queue that is paused");
    assert_eq!(stand.post("/queues/beacon/resume", &Value::Null).1["paused"], false);
    assert_eq!(stand.end(&echoed)["state"], "SUCCESS");
    until("both again", || (count() == 2).then_some(()));
    assert_eq!(stand.ask("DELETE", "/dead", &json!({"ids": ["lost-1"]})), (200, json!({"dropped": 1})));
    assert_eq!(stand.post("/dead/replay", &json!({"ids": ["lost-1"]})), (200, json!({"replayed": 0})));
    assert_eq!(stand.ask("DELETE", "/dead", &Value::Null).0, 400, "all is to be said");
    assert_eq!(stand.ask("DELETE", "/dead", &json!({"all": true})), (200, json!({"dropped": 1})));
    assert_eq!(count(), 0);
}

#[test]
fn schedules_are_put_run_and_deleted() {
    let stand = Stand::start("[tasks.schedules.fixed]\ntask = \"echo\"\nevery = \"1h\"\nargs = '[\"fixed\"]'\n");
    let put = |name: &str, entry: Value| stand.ask("PUT", &format!("/schedules/{name}"), &entry);
    let (status, told) = put("nightly", json!({"task": "echo", "cron": "30 4 * * mon-fri", "args": ["nightly"]}));
    assert_eq!((status, &told["name"], &told["enabled"]), (200, &json!("nightly"), &json!(true)), "{told}");
    let known = |name: &str, fits: &dyn Fn(&Value) -> bool| {
        until("a schedule as it should be", || {
            let (status, told) = stand.get(&format!("/schedules/{name}"));
            (status == 200 && fits(&told)).then_some(told)
        })
    };
    let nightly = known("nightly", &|told| told["next"].is_string());
    assert_eq!(
        (&nightly["source"], &nightly["when"], &nightly["sent"]),
        (&json!("database"), &json!("30 4 * * mon-fri"), &json!(0))
    );
    for name in ["nightly", "fixed"] {
        let (status, told) = stand.post(&format!("/schedules/{name}/run"), &Value::Null);
        assert_eq!(status, 202, "{told}");
        let id = told["id"].as_str().unwrap();
        assert_eq!(stand.end(id)["result"]["args"], json!([name]));
        assert_eq!(known(name, &|told| told["sent"] == 1)["task_id"], *id);
    }
    assert_eq!(stand.post("/schedules/nightly/disable", &Value::Null).0, 200);
    known("nightly", &|told| told["enabled"] == false && told["next"].is_null());
    assert_eq!(stand.post("/schedules/nightly/enable", &Value::Null).0, 200);
    known("nightly", &|told| told["enabled"] == true);
    // Another entry under the same name: it is sent by itself.
    assert_eq!(put("nightly", json!({"task": "echo", "every": "1s", "kwargs": {"by": "itself"}})).0, 200);
    let sent = known("nightly", &|told| told["when"] == "every 1s" && told["sent"].as_u64() > Some(1));
    assert_eq!(stand.end(sent["task_id"].as_str().unwrap())["result"]["kwargs"], json!({"by": "itself"}));
    assert_eq!(stand.get("/schedules").1["schedules"].as_array().unwrap().len(), 2);
    assert_eq!(stand.ask("DELETE", "/schedules/nightly", &Value::Null).0, 200);
    until("no such schedule", || (stand.get("/schedules/nightly").0 == 404).then_some(()));
    // Those of the configuration are changed there.
    for (method, target) in
        [("PUT", "/schedules/fixed"), ("DELETE", "/schedules/fixed"), ("POST", "/schedules/fixed/disable")]
    {
        let body = if method == "PUT" { json!({"task": "echo", "every": "1h"}) } else { Value::Null };
        let (status, told) = stand.ask(method, target, &body);
        assert_eq!((status, &told["code"]), (409, &json!("schedule_elsewhere")), "{method} {target}");
    }
    for (method, target) in
        [("DELETE", "/schedules/none"), ("POST", "/schedules/none/run"), ("POST", "/schedules/none/enable")]
    {
        assert_eq!(stand.ask(method, target, &Value::Null).1["code"], "schedule_not_found", "{method} {target}");
    }
    for (entry, part) in [
        (json!({"task": "echo", "cron": "61 4 * * *"}), "cron"),
        (json!({"task": "echo"}), "cron and every"),
        (json!({"task": "echo", "every": true}), "every"),
        (json!({"task": "echo", "evry": "30s"}), "\"evry\""),
        (json!({"task": "echo", "every": "30s", "timezone": "Mars"}), "timezone"),
    ] {
        let (status, told) = put("bad", entry);
        assert!(status == 400 && told["message"].as_str().unwrap().contains(part), "{told}");
    }
}

#[test]
fn only_servers_are_let_in_and_what_is_wrong_is_named() {
    let stand = Stand::start("");
    let (publishable, user) = (
        stand.api.publishable(),
        token(&json!({"role": "authenticated", "sub": "11111111-1111-4111-8111-111111111111"})),
    );
    let secret = stand.done(&["keys", "create", "--secret", "tasks"]);
    let bearer = |token: &str| format!("Bearer {token}");
    for (headers, status) in [
        (vec![], 401),
        (vec![("apikey", "nonsense".to_owned())], 401),
        (vec![("apikey", publishable.clone())], 403),
        (vec![("authorization", bearer(&user))], 403),
        (vec![("apikey", publishable), ("authorization", bearer(&user))], 403),
        (vec![("authorization", bearer(&Api::service()))], 200),
        (vec![("apikey", secret.lines().last().unwrap().to_owned())], 200),
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for target in ["/tasks", "/queues", "/workers", "/dead", "/schedules"] {
            let answer = stand.raw("GET", target, &headers, &Value::Null);
            assert_eq!(answer.status, status, "{headers:?} {target}: {}", answer.text());
        }
    }
    for (body, part) in [
        (json!({}), "task is missing"),
        (json!("echo"), "JSON object"),
        (json!([]), "0 tasks"),
        (json!({"task": 5}), "task is no text"),
        (json!({"task": "echo", "countdwon": 5}), "\"countdwon\""),
        (json!({"task": "echo", "args": {}}), "args is no list"),
        (json!({"task": "echo", "kwargs": []}), "kwargs is no object"),
        (json!({"task": "echo", "priority": 10}), "priority"),
        (json!({"task": "echo", "eta": "tomorrow"}), "eta"),
        (json!({"task": "echo", "countdown": -1}), "countdown"),
        (json!({"task": "echo", "unique": {"for": 5}}), "unique.key"),
        (json!({"task": "echo", "ignore_result": "yes"}), "ignore_result"),
    ] {
        let (status, told) = stand.post("/tasks", &body);
        assert!(status == 400 && told["message"].as_str().unwrap().contains(part), "{body}: {told}");
        assert!(told["code"].is_string() && told["hint"].is_string() && told["request_id"].is_string(), "{told}");
    }
    let answer = stand.api.ask("POST", "/tasks/v1/tasks", &[("apikey", &stand.key)], "{\"task\": ");
    assert!(answer.status == 400 && answer.text().contains("bad_json"), "{answer:?}");
    for (target, part) in
        [("/tasks?stat=running", "\"stat\""), ("/tasks?state=lost", "\"lost\""), ("/tasks?limit=x", "limit")]
    {
        let (status, told) = stand.get(target);
        assert!(status == 400 && told["message"].as_str().unwrap().contains(part), "{target}: {told}");
    }
    let answer = stand.raw("PATCH", "/tasks", &[("apikey", &stand.key)], &Value::Null);
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, POST, OPTIONS")));
    assert_eq!(stand.get("/task").0, 404);
    assert_eq!(messages(&stand.redis, "beacon"), Vec::<Value>::new(), "none of it was sent");
}

#[test]
fn events_come_as_they_happen() {
    let stand = Stand::start("");
    let mut client = stand.api.connect();
    client.send(format!(
        "GET /tasks/v1/events?task=echo HTTP/1.1\r\nHost: localhost\r\napikey: {}\r\nAccept-Encoding: gzip\r\n\r\n",
        stand.key
    ));
    let mut text = String::new();
    let mut read = |what: &str| {
        let begun = std::time::Instant::now();
        while !text.contains(what) {
            assert!(begun.elapsed() < BOUND, "no {what:?} in {text}");
            let mut chunk = [0; 4096];
            let got = client.wire.read(&mut chunk).unwrap();
            assert!(got > 0, "ended without {what:?}: {text}");
            text.push_str(std::str::from_utf8(&chunk[..got]).unwrap());
        }
        text.clone()
    };
    // Said at once, so that a reader knows that it is heard.
    let head = read("\n: \n\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
    let other = stand.send(&json!({"task": "no.such.task"}));
    let id = stand.send(&json!({"task": "echo"}));
    let all = read("event: task-succeeded\n");
    assert!(all.contains("event: task-received\n") && all.contains(&id) && !all.contains(&other), "{all}");
}

/// A server that takes one request after the other, tells of each, and answers 204.
fn hook() -> (u16, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            if sender.send(take(stream)).is_err() {
                return;
            }
        }
    });
    (port, receiver)
}

fn take(stream: TcpStream) -> (String, Value) {
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end();
        if first.is_empty() {
            line.clone_into(&mut first);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
    (first, serde_json::from_slice(&body).unwrap())
}

#[test]
fn a_task_from_sql_goes_through_the_outbox_to_its_handler() {
    let (port, calls) = hook();
    let stand = Stand::start(&format!(
        "[handlers.hook]\nhttp.url = \"http://127.0.0.1:{port}/orders/{{kwargs.order}}\"\nhttp.allow_http = true\n\
         http.networks = [\"127.0.0.1/32\"]\n"
    ));
    let id = stand.api.database().value("select beacon.enqueue('hook', kwargs => '{\"order\": 42}')");
    let (line, body) = calls.recv_timeout(BOUND).unwrap();
    assert_eq!(line, "POST /orders/42 HTTP/1.1");
    assert_eq!(body, json!({"id": id, "task": "hook", "args": [], "kwargs": {"order": 42}}));
    let found = stand.end(&id);
    assert_eq!((&found["state"], &found["result"]["status"]), (&json!("SUCCESS"), &json!(204)), "{found}");
    // One whose transaction is rolled back is not sent; what comes after it is.
    stand.api.database().execute("begin; select beacon.enqueue('hook', kwargs => '{\"order\": 1}'); rollback");
    stand.api.database().execute("select beacon.enqueue('hook', kwargs => '{\"order\": 2}')");
    assert_eq!(calls.recv_timeout(BOUND).unwrap().0, "POST /orders/2 HTTP/1.1");
    until("an outbox that is empty", || {
        (stand.api.database().value("select count(*) from beacon.outbox") == "0").then_some(())
    });
}

#[test]
fn the_command_line_does_the_same() {
    let stand = Stand::start("");
    let result: Value = serde_json::from_str(
        &stand.done(&["tasks", "send", "echo", "--arg", "1", "--kwarg", "to=ann@x", "--wait", "25"]),
    )
    .unwrap();
    assert_eq!((&result["args"], &result["kwargs"]), (&json!([1]), &json!({"to": "ann@x"})));
    let (code, _, err) = stand.command(&["tasks", "send", "no.such.task", "--wait", "25"]);
    assert!(code == 1 && err.contains("NotRegistered"), "{code}: {err}");
    let waiting = stand.done(&["tasks", "send", "echo", "--queue", ASIDE]);
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&stand.done(arguments)).unwrap() };
    assert_eq!(json(&["tasks", "list", "--state", "waiting", "--json"])[0]["id"], *waiting);
    assert!(stand.done(&["tasks", "queues"]).contains(ASIDE));
    assert!(stand.done(&["tasks", "cancel", &waiting]).ends_with("is cancelled"));
    assert_eq!(json(&["tasks", "get", &waiting, "--json"])["state"], "REVOKED");
    assert_eq!(json(&["tasks", "workers", "--json"])[0]["alive"], true);
    assert!(stand.done(&["tasks", "top", "--once"]).contains("beacon@"));
    // Nobody is there to be asked.
    stand.done(&["tasks", "send", "echo", "--queue", ASIDE]);
    let (code, _, err) = stand.command(&["tasks", "purge", ASIDE]);
    assert!(code == 64 && err.contains("--yes"), "{code}: {err}");
    assert_eq!(stand.done(&["tasks", "purge", ASIDE, "--yes"]), "1 message removed.");
    let (code, _, err) = stand.command(&["tasks", "release"]);
    assert!(code == 1 && err.contains("stop Beacon's workers first"), "{code}: {err}");

    stand.redis.ask(&["LPUSH", "beacon", "no message at all"]);
    let letters =
        until("a dead letter", || Some(json(&["tasks", "dead", "--json"])).filter(|told| told[0].is_object()));
    let letter = letters[0]["id"].as_str().unwrap();
    assert!(stand.done(&["tasks", "dead", "show", letter]).contains("no message at all"));
    assert_eq!(stand.done(&["tasks", "dead", "drop", "--all", "--yes"]), "1 dead letter removed.");

    stand.done(&["tasks", "schedules", "put", "nightly", "--task", "echo", "--cron", "@daily", "--arg", "at night"]);
    let shown = until("the schedule", || {
        json(&["tasks", "schedules", "--json"])
            .as_array()
            .unwrap()
            .first()
            .cloned()
            .filter(|told| told["next"].is_string())
    });
    assert_eq!((&shown["name"], &shown["source"]), (&json!("nightly"), &json!("database")));
    let id = stand.done(&["tasks", "schedules", "run", "nightly"]);
    assert_eq!(stand.end(&id)["result"]["args"], json!(["at night"]));
    stand.done(&["tasks", "schedules", "disable", "nightly"]);
    until("a schedule out of force", || stand.done(&["tasks", "schedules"]).contains("out of force").then_some(()));
    let (code, _, err) = stand.command(&["tasks", "schedules", "put", "bad", "--task", "echo", "--cron", "61 * * * *"]);
    assert!(code == 78 && err.contains("cron"), "{code}: {err}");
    assert_eq!(stand.command(&["tasks", "schedules", "delete", "nightly"]).0, 64);
    stand.done(&["tasks", "schedules", "delete", "nightly", "--yes"]);
    let (code, _, err) = stand.command(&["tasks", "schedules", "run", "nightly"]);
    assert!(code == 78 && err.contains("no schedule named"), "{code}: {err}");
}
