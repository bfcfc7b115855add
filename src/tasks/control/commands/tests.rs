//! Each command of `celery inspect` and `celery control`, its words and its faults.

use super::super::testing::{Application, Fake};
use super::*;

fn commands(desk: &Arc<Fake>, panel: bool) -> Commands {
    Commands {
        desk: Arc::clone(desk) as Arc<dyn Desk>,
        panel: panel.then(|| Arc::new(Application) as Arc<dyn Panel>),
        events: Events::new("w1@host".into(), false),
        broker: json!({"transport": "redis"}),
        conf: json!({"broker_url": "redis://"}),
        bindings: Mutex::default(),
        rates: Mutex::default(),
        samples: Mutex::default(),
    }
}

async fn call(commands: &Commands, method: &str, arguments: Value) -> Value {
    let done = commands.run(method, arguments.as_object().unwrap()).await;
    done.answer.unwrap().unwrap_or_else(|error| json!({"error": error}))
}

#[tokio::test]
async fn every_answer_is_the_one_of_a_stock_worker() {
    // The answers to these requests were recorded from celery 5.7, but for `aN` and `a1`, which run here.
    let desk = Arc::new(Fake::default());
    let commands = commands(&desk, false);
    for (method, arguments, answer) in [
        ("ping", json!({"zz": 1}), json!({"ok": "pong"})),
        ("nosuch", json!({}), json!({"error": "KeyError('nosuch')"})),
        ("registered", json!({}), json!(["wapp.add", "wapp.lim [rate_limit=10/m]", "wapp.quiet", "wapp.slow"])),
        ("revoke", json!({"task_id": "zz1"}), json!({"ok": "tasks {'zz1'} flagged as revoked"})),
        ("revoke", json!({"task_id": ["zz2", "zz1", "zz2"]}), json!({"ok": "tasks {'zz2', 'zz1'} flagged as revoked"})),
        ("revoke", json!({"task_id": null}), json!({"ok": "tasks set() flagged as revoked"})),
        ("revoke", json!({"task_id": "zz1", "terminate": true}), json!({"ok": "terminate: tasks unknown"})),
        ("revoke", json!({"task_id": ["a1", "zz", "a2"], "terminate": true}), json!({"ok": "terminate: a1, a2"})),
        (
            "revoke",
            json!({"task_id": "zz1", "terminate": true, "signal": "kill"}),
            json!({"error": "TypeError('signal name must be uppercase string.')"}),
        ),
        (
            "revoke",
            json!({"task_id": "zz1", "terminate": true, "signal": "FOO"}),
            json!({"error": "AttributeError(\"module 'signal' has no attribute 'SIGFOO'\")"}),
        ),
        (
            "revoke",
            json!({"task_id": 7}),
            json!({"error": "TypeError('sequence item 0: expected str instance, int found')"}),
        ),
        ("terminate", json!({"signal": 9, "task_id": ["b"]}), json!({"ok": "terminate: tasks unknown"})),
        (
            "revoke_by_stamped_headers",
            json!({"headers": {"mtask_id": "a"}}),
            json!({"ok": "headers {'mtask_id': 'a'} flagged as revoked, but not terminated"}),
        ),
        (
            "revoke_by_stamped_headers",
            json!({"headers": ["mtask_id=a"]}),
            json!({"ok": "headers {'mtask_id': 'a'} flagged as revoked, but not terminated"}),
        ),
        (
            "revoke_by_stamped_headers",
            json!({"headers": {"mtask_id": ["a", "b'c"]}, "terminate": true}),
            json!({"ok": "headers {'mtask_id': ['a', \"b'c\"]} were not terminated"}),
        ),
        (
            "revoke_by_stamped_headers",
            json!({"headers": {"mtask_id": "abc"}, "terminate": true}),
            json!({"ok": "headers defaultdict(<class 'set'>, {'mtask_id': {'abc'}}) revoked"}),
        ),
        (
            "revoke_by_stamped_headers",
            json!({"headers": "abc"}),
            json!({"error": "AttributeError(\"'str' object has no attribute 'items'\")"}),
        ),
        (
            "revoke_by_stamped_headers",
            json!({"headers": ["abc"]}),
            json!({"error": "IndexError('list index out of range')"}),
        ),
        (
            "rate_limit",
            json!({"task_name": "wapp.add", "rate_limit": "5/m"}),
            json!({"ok": "new rate limit set successfully"}),
        ),
        (
            "rate_limit",
            json!({"task_name": "wapp.lim", "rate_limit": null}),
            json!({"ok": "rate limit disabled successfully"}),
        ),
        (
            "rate_limit",
            json!({"task_name": "wapp.add", "rate_limit": "x"}),
            json!({"error": "Invalid rate limit string: ValueError(\"could not convert string to float: 'x'\")"}),
        ),
        ("rate_limit", json!({"task_name": "wapp.add", "rate_limit": "5/q"}), json!({"error": "KeyError('q')"})),
        ("rate_limit", json!({"task_name": "nope", "rate_limit": "5/m"}), json!({"error": "unknown task"})),
        (
            "rate_limit",
            json!({"task_name": "wapp.add", "rate_limit": [1]}),
            json!({"error": "TypeError(\"float() argument must be a string or a real number, not 'list'\")"}),
        ),
        ("registered", json!({}), json!(["wapp.add [rate_limit=5/m]", "wapp.lim", "wapp.quiet", "wapp.slow"])),
        (
            "registered",
            json!({"taskinfoitems": ["name", "acks_late", "time_limit", "_x"], "builtins": true}),
            json!([
                "celery.chain [name=celery.chain acks_late=False]",
                "wapp.add [name=wapp.add acks_late=False]",
                "wapp.lim [name=wapp.lim acks_late=False]",
                "wapp.quiet [name=wapp.quiet acks_late=False]",
                "wapp.slow [name=wapp.slow acks_late=True time_limit=5]",
            ]),
        ),
        ("registered", json!({"taskinfoitems": "name"}), json!(["wapp.add", "wapp.lim", "wapp.quiet", "wapp.slow"])),
        (
            "time_limit",
            json!({"task_name": "wapp.add", "soft": 1.0, "hard": 2}),
            json!({"ok": "time limits set successfully"}),
        ),
        ("time_limit", json!({}), json!({"error": "unknown task"})),
        ("disable_events", json!({}), json!({"ok": "task events already disabled"})),
        ("enable_events", json!({}), json!({"ok": "task events enabled"})),
        ("enable_events", json!({}), json!({"ok": "task events already enabled"})),
        ("disable_events", json!({}), json!({"ok": "task events disabled"})),
        ("heartbeat", json!({}), json!(null)),
        ("election", json!({"id": "e", "topic": "task"}), json!(null)),
        ("pool_grow", json!({"n": 1}), json!({"ok": "pool will grow"})),
        ("pool_shrink", json!({}), json!({"ok": "pool will shrink"})),
        (
            "pool_grow",
            json!({"n": "x"}),
            json!({"error": "TypeError(\"'str' object cannot be interpreted as an integer\")"}),
        ),
        ("pool_shrink", json!({"n": 100}), json!({"error": "ValueError(\"Can't shrink pool. All processes busy!\")"})),
        ("autoscale", json!({"max": 3, "min": 1}), json!({"error": "ValueError('Autoscale not enabled')"})),
        ("pool_restart", json!({}), json!({"error": "ValueError('Pool restarts not enabled')"})),
        ("objgraph", json!({}), json!({"error": "ImportError('Requires the objgraph library')"})),
        ("add_consumer", json!({"queue": "q3"}), json!({"ok": "add consumer q3"})),
        ("cancel_consumer", json!({"queue": "q2"}), json!({"ok": "no longer consuming from q2"})),
        ("cancel_consumer", json!({"queue": "nope"}), json!({"ok": "no longer consuming from nope"})),
        ("hello", json!({"from_node": "x@y", "revoked": {}}), json!({"revoked": ["z1"], "clock": 1})),
        ("hello", json!({"from_node": "w1@host"}), json!(null)),
        ("clock", json!({"a": 2}), json!({"clock": 1})),
        ("dump_revoked", json!({}), json!(["z1"])),
        ("query_task", json!({"ids": "abc"}), json!({})),
    ] {
        assert_eq!(call(&commands, method, arguments.clone()).await, answer, "{method} {arguments}");
    }
    assert_eq!(
        desk.was_told(),
        [
            "revoke [\"zz1\"] None",
            "revoke [\"zz2\", \"zz1\"] None",
            "revoke [] None",
            "revoke [\"zz1\"] Some(15)",
            "revoke [\"a1\", \"zz\", \"a2\"] Some(15)",
            "revoke [\"zz1\"] None",
            "revoke [\"zz1\"] None",
            "revoke [\"b\"] Some(9)",
            "stamped [(\"mtask_id\", [\"a\"])] None",
            "stamped [(\"mtask_id\", [\"a\"])] None",
            "stamped [(\"mtask_id\", [\"a\", \"b'c\"])] Some(15)",
            "stamped [(\"mtask_id\", [\"abc\"])] Some(15)",
            "rate wapp.add Some(0.08333333333333333)",
            "rate wapp.lim None",
            "rate nope Some(0.08333333333333333)",
            "limits wapp.add Some(1s) Some(2s)",
            "limits  None None",
            "resize 1",
            "resize -1",
        ]
    );
}

#[tokio::test]
async fn tasks_are_listed_where_they_are() {
    let desk = Arc::new(Fake::default());
    let commands = commands(&desk, false);
    let active = call(&commands, "active", json!({})).await;
    assert_eq!((&active[0]["id"], &active[0]["args"]), (&json!("a1"), &json!([20])));
    assert_eq!(active[0]["hostname"], "w1@host");
    assert_eq!(call(&commands, "dump_active", json!({"safe": 1})).await[0]["args"], "(20,)");
    assert_eq!(call(&commands, "reserved", json!({})).await[0]["id"], "r1");
    let scheduled = call(&commands, "scheduled", json!({})).await;
    assert_eq!(scheduled[0]["eta"], "2026-11-25T02:28:12.500000+00:00");
    assert_eq!(scheduled[1]["request"]["id"], "s2");
    let found = call(&commands, "query_task", json!({"ids": ["a1", "s2", "r1", "x"]})).await;
    assert_eq!(found.as_object().unwrap().len(), 3);
    assert_eq!(
        (&found["a1"][0], &found["r1"][0], &found["s2"][0]),
        (&json!("active"), &json!("reserved"), &json!("scheduled"))
    );
}

#[tokio::test]
async fn statistics_have_what_flower_and_celery_read() {
    let desk = Arc::new(Fake::default());
    let stats = call(&commands(&desk, false), "stats", json!({})).await;
    assert_eq!(stats["total"], json!({"wapp.add": 3, "wapp.sleeping": 1}));
    assert_eq!(
        (&stats["pid"], &stats["clock"], &stats["uptime"]),
        (&json!(std::process::id()), &json!("0"), &json!(7))
    );
    let pool = &stats["pool"];
    assert_eq!((&pool["max-concurrency"], &pool["processes"]), (&json!(2), &json!([5, 6])));
    assert_eq!((&pool["timeouts"], &pool["max-tasks-per-child"]), (&json!([0, 9.0]), &json!("N/A")));
    assert_eq!((&stats["broker"], &stats["prefetch_count"]), (&json!({"transport": "redis"}), &json!(2)));
    assert!(stats["rusage"]["utime"].is_f64());
}

#[tokio::test]
async fn an_application_answers_what_only_it_knows() {
    let desk = Arc::new(Fake::default());
    let commands = commands(&desk, true);
    for (method, arguments, answer) in [
        ("double", json!({"n": 4}), json!({"ok": 8})),
        ("double", json!({}), json!({"error": "KeyError('n')"})),
        ("nosuch", json!({}), json!({"error": "KeyError('nosuch')"})),
        ("dump_conf", json!({"with_defaults": true}), json!({"include": ["wapp"]})),
        ("report", json!({}), json!({"ok": "software -> celery:5.7.0"})),
        ("ping", json!({}), json!({"ok": "pong"})),
        (
            "registered",
            json!({"taskinfoitems": ["priority"]}),
            json!(["wapp.add [priority=3]", "wapp.lim", "wapp.quiet", "wapp.slow"]),
        ),
    ] {
        assert_eq!(call(&commands, method, arguments).await, answer, "{method}");
    }
    let alone = super::tests::commands(&desk, false);
    assert_eq!(call(&alone, "conf", json!({})).await, json!({"broker_url": "redis://"}));
    assert!(call(&alone, "report", json!({})).await["ok"].as_str().unwrap().contains("software -> beacon:"));
}

#[tokio::test]
async fn the_broker_is_told_what_it_has_to_know() {
    let desk = Arc::new(Fake::default());
    let commands = commands(&desk, false);
    let run = async |method: &str, arguments: Value| commands.run(method, arguments.as_object().unwrap()).await;
    let known = Some(Effect::Revoked(vec!["one".into(), "two".into()]));
    assert_eq!(run("hello", json!({"from_node": "x", "revoked": ["one", 2, "two"]})).await.effect, known);
    assert_eq!(run("hello", json!({"from_node": "x", "revoked": {"one": [1.5], "two": []}})).await.effect, known);
    assert_eq!(run("hello", json!({"from_node": "w1@host", "revoked": ["one"]})).await.effect, None);
    assert_eq!(run("add_consumer", json!({"queue": "q3", "exchange": null})).await.effect, None);
    let binding =
        Binding { queue: "q4".into(), exchange: "ex4".into(), kind: "topic".into(), routing_key: "a.#".into() };
    let arguments = json!({"queue": "q4", "exchange": "ex4", "exchange_type": "topic", "routing_key": "a.#"});
    assert_eq!(run("add_consumer", arguments).await.effect, Some(Effect::Bind(binding)));
    let queues = call(&commands, "active_queues", json!({})).await;
    let names: Vec<_> =
        queues.as_array().unwrap().iter().map(|queue| (&queue["name"], &queue["exchange"]["name"])).collect();
    assert_eq!(names[0], (&json!("celery"), &json!("celery")));
    assert_eq!(names[3], (&json!("q4"), &json!("ex4")));
    assert_eq!(queues[3]["routing_key"], "a.#");
    let stop = run("shutdown", json!({})).await;
    assert_eq!((stop.answer, desk.was_told()), (None, vec!["shut down".to_owned()]));
}

#[tokio::test]
async fn samples_of_memory_are_dumped_once() {
    let desk = Arc::new(Fake::default());
    let commands = commands(&desk, false);
    assert!(call(&commands, "memsample", json!({})).await.as_str().unwrap().ends_with('B'));
    let dump = call(&commands, "memdump", json!({})).await;
    assert!(dump.as_str().unwrap().starts_with("- rss (sample):\n-    > "), "{dump}");
    let dump = call(&commands, "memdump", json!({"samples": 0})).await;
    assert!(dump.as_str().unwrap().starts_with("- rss (end): "), "{dump}");
}

#[tokio::test]
async fn no_command_fails_for_strange_arguments() {
    let desk = Arc::new(Fake::default());
    let commands = commands(&desk, false);
    for method in signature::names() {
        for strange in [
            json!(null),
            json!(-1e300),
            json!(u64::MAX),
            json!("\u{0}'\""),
            json!([[], {}, null]),
            json!({"a": {}}),
            json!(true),
        ] {
            let mut arguments = Map::new();
            for name in signature::find(method).unwrap().parameters() {
                arguments.insert((*name).to_owned(), strange.clone());
            }
            let done = commands.run(method, &arguments).await;
            assert!(done.answer.is_some() || method == "shutdown", "{method}");
            assert_ne!(done.answer, Some(Err(repr::exception("KeyError", method))), "it is a known one");
        }
    }
}
