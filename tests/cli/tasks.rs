//! `beacon tasks` and `beacon worker`, as far as they come without a Redis.

use crate::scratch::Scratch;

#[test]
fn without_redis_commands_about_tasks_end_with_69() {
    let scratch = Scratch::new();
    // A port that nothing listens on.
    scratch.config("redis.url = \"redis://:secret@127.0.0.1:1/0\"");
    std::thread::scope(|scope| {
        for arguments in
            [&["tasks", "list"][..], &["tasks", "send", "echo"], &["tasks", "schedules"], &["tasks", "top", "--once"]]
        {
            let scratch = &scratch;
            scope.spawn(move || {
                let outcome = scratch.run(arguments);
                assert_eq!((outcome.code, outcome.out.as_str()), (69, ""), "{arguments:?}: {outcome:?}");
                assert!(outcome.err.contains("127.0.0.1:1") && !outcome.err.contains("secret"), "{}", outcome.err);
            });
        }
    });
    // None at all is a matter of the configuration.
    scratch.config("");
    for arguments in [&["tasks", "queues"][..], &["worker"]] {
        let outcome = scratch.run(arguments);
        assert!(outcome.code == 78 && outcome.err.contains("redis.url"), "{arguments:?}: {outcome:?}");
    }
}

#[test]
fn what_makes_no_sense_is_told_before_redis_is_asked() {
    let scratch = Scratch::new();
    scratch.config("redis.url = \"redis://127.0.0.1:1/0\"");
    for (line, part) in [
        ("tasks", "Usage: beacon tasks"),
        ("tasks send", "NAME"),
        ("tasks send echo --priority 10", "0..=9"),
        ("tasks send echo --kwarg order", "order=42"),
        ("tasks send echo --arg [1,", "no JSON"),
        ("tasks send echo --countdown soon", "5m"),
        ("tasks send echo --eta 2026-11-25", "RFC 3339"),
        ("tasks send echo --eta 2026-11-25T16:00:00Z --countdown 5m", "--countdown"),
        ("tasks send echo --unique-for 5m", "--unique"),
        ("tasks list --state lost", "waiting"),
        ("tasks list --limit 0", "1..=10000"),
        ("tasks cancel", "ID"),
        ("tasks cancel x --signal SIGKILL", "--terminate"),
        ("tasks dead replay", "ID"),
        ("tasks dead drop x --all", "--all"),
        ("tasks schedules put nightly --task echo", "--cron"),
        ("tasks schedules put nightly --task echo --cron @daily --every 5m", "--every"),
        ("tasks schedules put nightly --cron @daily", "--task"),
    ] {
        let outcome = scratch.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((outcome.code, outcome.out.as_str()), (64, ""), "{line}: {outcome:?}");
        assert!(outcome.err.contains(part), "{line}: no {part:?} in {}", outcome.err);
    }
}

#[test]
fn flags_whose_effect_would_be_missed_are_refused_with_the_reason() {
    let scratch = Scratch::new();
    for (line, flag, reason) in [
        ("worker -P gevent", "--pool", "async def"),
        ("worker --pool=eventlet", "--pool", "async def"),
        ("worker --autoscale 10,3", "--autoscale", "-c"),
        (
            "worker -B --scheduler django_celery_beat.schedulers:DatabaseScheduler",
            "--scheduler",
            "beacon tasks schedules",
        ),
        ("worker -D", "--detach", "unit file"),
        ("worker --uid www", "--uid", "unit file"),
        ("worker --executable /usr/bin/python3", "--executable", "tasks.python.python"),
        ("worker -E --without-heartbeat", "--without-heartbeat", "--task-events"),
        ("worker -l LOUD", "--loglevel", "LOUD"),
        ("worker -c none", "--concurrency", "none"),
        ("worker --time-limit 0", "--time-limit", "above 0"),
    ] {
        let outcome = scratch.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((outcome.code, outcome.out.as_str()), (78, ""), "{line}: {outcome:?}");
        assert!(outcome.err.contains(flag) && outcome.err.contains(reason), "{line}: {}", outcome.err);
    }
    let outcome = scratch.run(&["worker", "--unknown"]);
    assert!(outcome.code == 64 && outcome.err.contains("--unknown"), "{outcome:?}");
}

#[test]
fn flags_of_celery_may_stand_before_worker_and_before_nothing_else() {
    let scratch = Scratch::new();
    for line in [
        "-A proj worker --autoscale 3,1",
        "-Aproj -b redis://127.0.0.1:1 worker --autoscale 3,1",
        "--app=proj --config proj.settings --workdir . worker --autoscale 3,1 -O fair --without-gossip",
    ] {
        let outcome = scratch.run(&line.split(' ').collect::<Vec<_>>());
        assert!(outcome.code == 78 && outcome.err.contains("--autoscale"), "{line}: {outcome:?}");
    }
    for line in ["-A proj check", "-A proj"] {
        let outcome = scratch.run(&line.split(' ').collect::<Vec<_>>());
        assert!(outcome.code == 64 && outcome.err.contains("-A"), "{line}: {outcome:?}");
    }
}

#[test]
fn the_workers_unit_ends_at_once_when_nothing_needs_a_program() {
    let scratch = Scratch::new();
    scratch.config("[handlers.notify]\nhttp.url = \"https://hooks.example.org\"");
    let outcome = scratch.run(&["worker", "--unit"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.err.contains("there is nothing to do here"), "{}", outcome.err);
    // With a command there is, and it looks for a Redis.
    scratch.config("[handlers.resize]\ncommand.run = [\"/bin/true\"]");
    let outcome = scratch.run(&["worker", "--unit"]);
    assert!(outcome.code == 78 && outcome.err.contains("redis.url"), "{outcome:?}");
}
