//! What follows a task: links, chains, chords, errbacks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_task_is_sent() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    let signature = |task: &str, args: Value, id: &str| {
        json!({"task": task, "args": args, "kwargs": {}, "options": {"task_id": id}, "subtask_type": null,
            "immutable": false})
    };
    // A chain with a link on its first step: 1 + 2, + 10, + 100, and + 1000 beside it.
    let embed = Embed {
        callbacks: json!([signature("add", json!([1000]), "c-link")]),
        chain: json!([signature("add", json!([100]), "c3"), signature("add", json!([10]), "c2")]),
        ..Embed::default()
    };
    rig.send(Task { embed, ..task("add", "c1", &[json!(1), json!(2)]) }).await;
    assert_eq!(rig.result("c3").await.result, json!(113));
    assert_eq!(rig.result("c-link").await.result, json!(1003));
    let first = rig.result("c1").await;
    assert_eq!(first.children, json!([[["c-link", null], null], [["c2", null], null]]));
    let second = rig.result("c2").await;
    assert_eq!((&second.result, &second.all["parent_id"]), (&json!(13), &json!("c1")));
    // A chord, sent by a callback.
    let chord = json!({"task": "celery.chord", "args": [], "kwargs": {"kwargs": {},
        "header": [signature("add", json!([1]), "h1"), signature("add", json!([2]), "h2")],
        "body": signature("sum", json!([]), "h-body")}, "options": {}, "subtask_type": "chord", "immutable": false});
    let embed = Embed { callbacks: json!([chord]), ..Embed::default() };
    rig.send(Task { embed, ..task("add", "h0", &[json!(10)]) }).await;
    assert_eq!(rig.result("h-body").await.result, json!(23));
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_reaches_chain_chord_and_errbacks() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    let errback = body(move |call: Call| {
        lock(&hears).push(call.args[0].clone());
        async { Ok(Value::Null) }
    });
    tasks.register("errback", errback, Settings::default());
    let working = rig.work(tasks);
    let signature = |task: &str, options: Value| json!({"task": task, "args": [], "kwargs": {}, "options": options, "subtask_type": null, "immutable": false});
    let errback = || signature("errback", json!({}));
    let embed = Embed {
        errbacks: json!([errback()]),
        chain: json!([signature("add", json!({"task_id": "e3"})), signature("add", json!({"task_id": "e2"}))]),
        ..Embed::default()
    };
    rig.send(Task { embed, ..task("fail", "e1", &[]) }).await;
    for id in ["e1", "e2", "e3"] {
        assert_eq!(failure(&rig.result(id).await), ("Broken", &json!("it is broken")), "{id}");
    }
    // A chord of which one part is unknown: counted all the same, and its body fails.
    ask(rig.broker.client(), "SET", &["celery-taskset-meta-g1.s", "2"]).await;
    let body = signature("sum", json!({"task_id": "e-body", "group_id": "g1", "link_error": [errback()]}));
    for (index, name) in ["add", "no.such"].into_iter().enumerate() {
        let embed = Embed { chord: body.clone(), ..Embed::default() };
        let id = format!("g1-{index}");
        let part = Task { embed, group: Some("g1"), group_index: Some(index as i64), ..task(name, &id, &[]) };
        rig.send(part).await;
    }
    let failed = rig.result("e-body").await;
    assert_eq!(failure(&failed), ("ChordError", &json!("Dependency g1-1 raised NotRegistered('no.such')")));
    until("both errbacks ran", || lock(&heard).len() == 2).await;
    assert!(lock(&heard).contains(&json!("e1")) && lock(&heard).contains(&json!("e-body")));
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canvas_that_was_sent_as_a_task_is_sent_on() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    let signature = |task: &str, args: Value, id: &str| {
        json!({"task": task, "args": args, "kwargs": {}, "options": {"task_id": id}, "subtask_type": null,
            "immutable": false})
    };
    let add = |id: &str| signature("add", json!([1]), id);
    rig.send(task("celery.group", "b1", &[json!([add("b1a"), add("b1b")]), json!(null), json!("bg"), json!([10])]))
        .await;
    let kwargs = Map::from_iter([
        ("header".to_owned(), json!([add("b2a"), add("b2b")])),
        ("body".to_owned(), signature("sum", json!([]), "b2-body")),
    ]);
    rig.send(Task { kwargs, ..task("celery.chord", "b2", &[]) }).await;
    let items = json!([[1, 2], [3, 4], [5, 6]]);
    rig.send(task("celery.chunks", "b3", &[signature("add", json!([]), "b3x"), items, json!(2)])).await;
    rig.send(task("celery.chain", "b4", &[])).await;
    rig.send(task("celery.chord", "b5", &[])).await;
    assert_eq!(rig.result("b1a").await.result, json!(11));
    assert_eq!(rig.result("b1b").await.result, json!(11));
    let group = rig.result("b1").await;
    assert_eq!((&group.result, &group.children[0]), (&group.children[0], &group.result));
    assert_eq!(group.result[0][0], "bg");
    assert_eq!(rig.result("b2-body").await.result, json!(2));
    let chunks = rig.result("b3").await;
    let mut sums = Vec::new();
    for child in chunks.result[1].as_array().unwrap() {
        sums.push(rig.result(child[0][0].as_str().unwrap()).await.result);
    }
    assert_eq!(sums, [json!([3, 7]), json!([11])]);
    assert_eq!(failure(&rig.result("b4").await), ("NotImplementedError", &json!("chain is not a real task")));
    assert_eq!(failure(&rig.result("b5").await).0, "TypeError");
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canvas_that_leads_back_or_too_deep_ends() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    let link = |id: &str, links: Value| {
        json!({"task": "add", "args": [1], "kwargs": {}, "options": {"task_id": id, "link": links},
            "subtask_type": null, "immutable": false})
    };
    // Its link is the task itself: run twice, and no more, for a message says once what follows it.
    let embed = Embed { callbacks: json!([link("round", json!([]))]), ..Embed::default() };
    rig.send(Task { embed, ..task("add", "round", &[json!(1)]) }).await;
    // Deeper than a reader may go: refused whole, and the client is told.
    let shallow = Embed { callbacks: json!(["HERE"]), ..Embed::default() };
    let shallow = Task { embed: shallow, routing_key: "celery", origin: "test", ..task("add", "abyss", &[]) }.message();
    let mut message: Value = serde_json::from_slice(&shallow).unwrap();
    let body = STANDARD.decode(message["body"].as_str().unwrap()).unwrap();
    let (mut deep, ends) = (r#"{"task":"add","options":{"link":["#.repeat(50_000), "]}}".repeat(50_000));
    deep.push_str(&ends);
    message["body"] = STANDARD.encode(String::from_utf8(body).unwrap().replace("\"HERE\"", &deep)).into();
    rig.put("celery", message.to_string().into()).await;
    assert_eq!(failure(&rig.result("abyss").await).0, "DecodeError");
    assert_eq!(rig.broker.dead_count().await.unwrap(), 1);
    // A chain of many steps is no depth.
    let steps: Vec<Value> = (0..300).rev().map(|step| link(&format!("step{step}"), json!([]))).collect();
    let embed = Embed { chain: json!(steps), ..Embed::default() };
    rig.send(Task { embed, ..task("add", "first", &[json!(0)]) }).await;
    assert_eq!(rig.result("step299").await.result, json!(300));
    until("the one that leads back has run twice", || {
        rig.log.of("round").iter().filter(|what| *what == "Succeeded").count() == 2
    })
    .await;
    rig.settled().await;
    assert_eq!(rig.log.of("round").iter().filter(|what| *what == "Succeeded").count(), 2);
    working.stop().await;
}
