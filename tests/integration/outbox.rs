//! Tasks from SQL: `beacon.enqueue` in a transaction, and the relay that sends them to a real Redis.

use std::time::{Duration, Instant};

use beacon::db::{Config, Database};
use beacon::secret::Secret;
use beacon::tasks::outbox::Relay;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::schedules::{body, client, messages, wait_for};
use crate::support::{self, Postgres, Redis, Stop};

fn open_with(url: &str, change: impl FnOnce(&mut Config)) -> Database {
    let mut config = Config::default();
    change(&mut config);
    Database::new(&config, &Secret::new(url), beacon::assets::folder("migrations").unwrap(), Vec::new()).unwrap()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), test).await.unwrap() });
}

/// A database with Beacon's tables.
fn prepared(server: &Postgres) -> support::Database<'_> {
    let database = server.database();
    run(async { open_with(&database.url(), |_| {}).prepare().await.unwrap() });
    database
}

#[test]
fn a_task_is_there_with_its_transaction_alone() {
    let database = prepared(Postgres::shared());
    database.execute("begin; select beacon.enqueue('app.mail', '[1]'); rollback");
    assert_eq!(database.value("select count(*) from beacon.outbox"), "0");
    database.execute(
        "select beacon.enqueue('app.mail', jsonb_build_array(1, 'two'), kwargs => '{\"a\": null}', queue => 'slow',
                priority => 3, eta => now() + interval '1 hour', expires => now() + interval '2 hours',
                unique_key => 'mail:1', headers => '{\"x\": 1}', time_limit => 30)",
    );
    let row = database.rows(
        "select task, args, kwargs, queue, priority, eta - created_at < interval '1 hour', unique_key, unique_for,
                headers, time_limit, soft_time_limit, ignore_result from beacon.outbox",
    );
    let expected = [
        "app.mail",
        "[1, \"two\"]",
        "{\"a\": null}",
        "slow",
        "3",
        "t",
        "mail:1",
        "01:00:00",
        "{\"x\": 1}",
        "30",
        "∅",
        "∅",
    ];
    assert_eq!(row, [expected.map(str::to_owned).to_vec()]);
}

#[test]
fn only_who_was_granted_may_enqueue_and_nobody_reads_the_tables() {
    let database = prepared(Postgres::shared());
    let attempt = |role: &str, sql: &str| {
        // The superuser becomes the role; what fails is told by a notice that becomes a row.
        database.execute_as_superuser(&format!(
            "create or replace function public.attempt() returns text language plpgsql as $f$
             begin {sql}; return 'done'; exception when insufficient_privilege then return 'refused'; end $f$;
             grant execute on function public.attempt to public"
        ));
        database.value(&format!("set role {role}; select public.attempt()"))
    };
    let enqueue = "perform beacon.enqueue('app.mail')";
    assert_eq!(attempt("service_role", enqueue), "done");
    assert_eq!(attempt("anon", enqueue), "refused");
    assert_eq!(attempt("authenticated", enqueue), "refused");
    for table in ["outbox", "outbox_failed", "task_keys", "schedules", "settings"] {
        assert_eq!(attempt("service_role", &format!("perform 1 from beacon.{table}")), "refused", "{table}");
    }
    database.execute(
        "grant usage on schema beacon to authenticated; grant execute on function beacon.enqueue to authenticated",
    );
    assert_eq!(attempt("authenticated", enqueue), "done");
    assert_eq!(attempt("authenticated", "perform 1 from beacon.outbox"), "refused");
    assert_eq!(attempt("anon", enqueue), "refused");
    // Nobody's search path changes what the function does.
    database.execute_as_superuser(
        "create schema evil; grant all on schema evil to public;
         create function evil.gen_random_uuid() returns uuid language sql as $$ select 1/0; select null::uuid $$;
         create function evil.jsonb_typeof(jsonb) returns text language sql as $$ select (1/0)::text $$",
    );
    let path = "set search_path = evil, pg_catalog; select beacon.enqueue('app.mail') is not null";
    assert_eq!(database.value(path), "t");
}

#[test]
fn nonsense_is_refused_where_it_is_asked_for() {
    let database = prepared(Postgres::shared());
    for (arguments, says) in [
        ("''", "has a name"),
        ("null", "has a name"),
        ("'t', '{}'", "no list"),
        ("'t', null", "no list"),
        ("'t', kwargs => '[]'", "no object"),
        ("'t', headers => 'null'", "no object"),
        ("'t', priority => 10", "priority"),
        ("'t', priority => null", "priority"),
        ("'t', queue => ''", "queue"),
    ] {
        let told = database.rows(&format!(
            "do $d$ begin perform beacon.enqueue({arguments}); raise 'was taken';
             exception when invalid_parameter_value then perform set_config('test.told', sqlerrm, false); end $d$;
             select current_setting('test.told')"
        ));
        assert!(told[0][0].contains(says), "{arguments}: {told:?}");
    }
    assert_eq!(database.value("select count(*) from beacon.outbox"), "0");
}

#[test]
fn an_idempotency_key_stands_for_one_task_for_a_day() {
    let database = prepared(Postgres::shared());
    let enqueue = "select beacon.enqueue('app.pay', idempotency_key => 'order:7')";
    let first = database.value(enqueue);
    assert_eq!(database.value(enqueue), first);
    assert_ne!(database.value("select beacon.enqueue('app.pay', idempotency_key => 'order:8')"), first);
    assert_eq!(database.value("select count(*) from beacon.outbox"), "2");
    // A key whose task was rolled back is free.
    database.execute("begin; select beacon.enqueue('app.pay', idempotency_key => 'order:9'); rollback");
    assert_eq!(database.value("select count(*) from beacon.task_keys"), "2");
    database.execute_as_superuser("update beacon.task_keys set created_at = now() - interval '25 hours'");
    let second = database.value(enqueue);
    assert_ne!(second, first);
    assert_eq!(database.value(enqueue), second);
    assert_eq!(database.value("select count(*) from beacon.outbox"), "3");
    // Two at once: the second waits for the first, and gets its task.
    let (one, two) = std::thread::scope(|scope| {
        let slow = "begin; select beacon.enqueue('app.pay', idempotency_key => 'at once') from pg_sleep(0);
                    select pg_sleep(0.3) is null; commit";
        let one = scope.spawn(|| database.value(slow));
        let two = scope.spawn(|| database.value(slow));
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(one, two);
    assert_eq!(database.value("select count(*) from beacon.outbox"), "4");
}

/// A Beacon that moves rows from this database to this Redis.
struct Host {
    relay: Relay,
    stop: CancellationToken,
    running: AbortOnDropHandle<()>,
    _keeping: AbortOnDropHandle<()>,
}

async fn host(database: &str, redis: &Redis) -> Host {
    host_with(database, redis, |_| {}).await
}

async fn host_with(database: &str, redis: &Redis, change: impl FnOnce(&mut Config)) -> Host {
    let database = open_with(database, change);
    database.prepare().await.unwrap();
    let client = client(redis);
    let broker = client.broker().clone();
    let keeping = AbortOnDropHandle::new(tokio::spawn(broker.clone().keep()));
    let relay = Relay::new(database, client);
    wait_for("a connection to Redis", || broker.is_connected()).await;
    let stop = CancellationToken::new();
    let running = {
        let (relay, stop) = (relay.clone(), stop.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { relay.run(stop).await }))
    };
    Host { relay, stop, running, _keeping: keeping }
}

/// The arguments' first, of each message of a list, the oldest first.
fn firsts(redis: &Redis, list: &str) -> Vec<i64> {
    messages(redis, list).iter().map(|message| body(message)[0][0].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_sent_in_their_order_after_the_commit_and_never_after_a_rollback() {
    let (server, redis) = (Postgres::shared(), Redis::start());
    let database = server.database();
    let host = host(&database.url(), &redis).await;
    database.execute(
        "begin; select beacon.enqueue('t', '[-1]'); rollback;
         select beacon.enqueue('t', jsonb_build_array(n)) from generate_series(0, 2499) as n;
         begin; select beacon.enqueue('t', '[2500]'); savepoint s; select beacon.enqueue('t', '[-2]'); rollback to s; commit",
    );
    wait_for("all are sent", || redis.ask(&["LLEN", "celery"]) == "2501").await;
    assert_eq!(firsts(&redis, "celery"), (0..=2_500).collect::<Vec<_>>());
    wait_for("all are deleted", || database.value("select count(*) from beacon.outbox") == "0").await;
    let id = database.value(
        "select beacon.enqueue('app.mail', '[1]', '{\"a\": \"ü\"}', 'slow', now() + interval '1 hour', priority => 4,
                headers => '{\"tenant\": 7}')",
    );
    let list = "slow\u{6}\u{16}3";
    wait_for("it is sent", || redis.ask(&["LLEN", list]) == "1").await;
    let message = &messages(&redis, list)[0];
    assert_eq!((&message["headers"]["id"], &message["headers"]["task"]), (&json!(id), &json!("app.mail")));
    assert_eq!(message["headers"]["tenant"], 7);
    assert!(message["headers"]["eta"].is_string() || message["headers"]["eta"].is_number());
    assert_eq!(body(message)[1], json!({"a": "ü"}));
    // Redis need not remember what is deleted, but for the last batch.
    let taken = redis.ask(&["KEYS", "beacon:outbox:*:taken"]);
    assert!(redis.ask(&["ZCARD", &taken]).parse::<u64>().unwrap() <= 1_000);
    let figures = host.relay.figures().await.unwrap();
    assert_eq!((figures.waiting, figures.failed, figures.sent), (0, 0, 2_502));
    host.stop.cancel();
    wait_for("it ends", || host.running.is_finished()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_relays_one_works_and_another_goes_on_when_it_is_gone() {
    let (server, redis) = (Postgres::shared(), Redis::start());
    let database = server.database();
    let url = database.url();
    let mut hosts = vec![host(&url, &redis).await];
    // One of them as behind a pooler in transaction mode.
    hosts.push(host_with(&url, &redis, |config| config.prepared_statements = false).await);
    hosts.push(host(&url, &redis).await);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let database = &database;
            scope.spawn(move || {
                for turn in 0..20 {
                    let first = turn * 50;
                    let queue = format!("q{writer}");
                    database.execute(&format!(
                        "select beacon.enqueue('t', jsonb_build_array(n), queue => '{queue}')
                         from generate_series({first}, {first} + 49) as n"
                    ));
                }
            });
        }
        // They go one after the other, each in the middle of something.
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(150));
            hosts.remove(0);
        }
    });
    wait_for("all are sent", || redis.ask(&["LLEN", "q0"]) == "1000" && redis.ask(&["LLEN", "q1"]) == "1000").await;
    wait_for("all are deleted", || database.value("select count(*) from beacon.outbox") == "0").await;
    for queue in ["q0", "q1"] {
        assert_eq!(firsts(&redis, queue), (0..1_000).collect::<Vec<_>>());
    }
    assert_eq!(hosts.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_database_between_sending_and_deleting_sends_nothing_twice() {
    let (server, redis) = (Postgres::start(&[]), Redis::start());
    let database = server.database();
    let host = host(&database.url(), &redis).await;
    database.execute("select beacon.enqueue('t', '[-1]')");
    wait_for("the relay is at work", || redis.ask(&["LLEN", "celery"]) == "1").await;
    database.execute_as_superuser(
        "create function public.slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(20); return old; end $$;
         create trigger slowly before delete on beacon.outbox for each row execute function public.slowly()",
    );
    database.execute("select beacon.enqueue('t', jsonb_build_array(n)) from generate_series(0, 9) as n");
    wait_for("they are sent, and their deletion lasts", || redis.ask(&["LLEN", "celery"]) == "11").await;
    server.stop(Stop::Immediate);
    server.start_again();
    assert_eq!(database.value("select count(*) from beacon.outbox"), "10", "they are there again");
    database.execute_as_superuser("drop trigger slowly on beacon.outbox");
    database.execute("select beacon.enqueue('t', '[10]')");
    wait_for("all are deleted", || database.value("select count(*) from beacon.outbox") == "0").await;
    assert_eq!(firsts(&redis, "celery"), (-1..=10).collect::<Vec<_>>());
    drop(host);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_rows_wait() {
    let (server, mut redis) = (Postgres::shared(), Redis::start());
    let database = server.database();
    let host = host(&database.url(), &redis).await;
    redis.stop();
    database.execute("select beacon.enqueue('t', jsonb_build_array(n)) from generate_series(0, 9) as n");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let figures = host.relay.figures().await.unwrap();
    assert_eq!(figures.waiting, 10);
    assert!(figures.oldest > 1.0, "{figures:?}");
    redis.start_again();
    wait_for("all are sent", || redis.ask(&["LLEN", "celery"]) == "10").await;
    redis.stall(true);
    database.execute("select beacon.enqueue('t', jsonb_build_array(n)) from generate_series(10, 19) as n");
    tokio::time::sleep(Duration::from_millis(500)).await;
    redis.stall(false);
    wait_for("all are deleted", || database.value("select count(*) from beacon.outbox") == "0").await;
    assert_eq!(firsts(&redis, "celery"), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_put_aside_and_holds_up_nothing() {
    let (server, redis) = (Postgres::shared(), Redis::start());
    let database = server.database();
    let host = host(&database.url(), &redis).await;
    database.execute(
        "begin;
         insert into beacon.outbox (task, args) values ('', '[]');
         insert into beacon.outbox (task, args) values ('t', '{}');
         insert into beacon.outbox (task, priority) values ('t', 12);
         select beacon.enqueue('t', jsonb_build_array(repeat('x', 70 * 1024 * 1024)));
         select beacon.enqueue('t', '[1]');
         commit",
    );
    wait_for("the good one is sent", || redis.ask(&["LLEN", "celery"]) == "1").await;
    wait_for("the table is empty", || database.value("select count(*) from beacon.outbox") == "0").await;
    let failed = database.rows("select reason, entry ? 'args' from beacon.outbox_failed order by id");
    let reasons = ["no name", "no list", "priority", "bytes"];
    assert_eq!(failed.len(), reasons.len(), "{failed:?}");
    for (row, says) in failed.iter().zip(reasons) {
        assert!(row[0].contains(says) && row[1] == "t", "{row:?}");
    }
    assert_eq!(host.relay.figures().await.unwrap().failed, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_keep_a_task_from_being_sent_again() {
    let (server, redis) = (Postgres::shared(), Redis::start());
    let database = server.database();
    let host = host(&database.url(), &redis).await;
    // Another way than SQL was first.
    redis.ask(&["SET", "beacon:idempotency:order:1", "somebody"]);
    redis.ask(&["SET", "beacon:unique:report", "somebody"]);
    database.execute(
        "select beacon.enqueue('t', '[1]', idempotency_key => 'order:1');
         select beacon.enqueue('t', '[2]', idempotency_key => 'order:2');
         select beacon.enqueue('t', '[3]', unique_key => 'report');
         select beacon.enqueue('t', '[4]', unique_key => 'other', unique_for => '2 minutes');
         select beacon.enqueue('t', '[5]', unique_key => 'other');
         select beacon.enqueue('t', '[6]')",
    );
    wait_for("the table is empty", || database.value("select count(*) from beacon.outbox") == "0").await;
    assert_eq!(firsts(&redis, "celery"), [2, 4, 6]);
    let id = |place: usize| messages(&redis, "celery")[place]["headers"]["id"].as_str().unwrap().to_owned();
    assert_eq!(redis.ask(&["GET", "beacon:idempotency:order:2"]), id(0));
    assert_eq!(redis.ask(&["GET", "beacon:unique:other"]), id(1));
    assert!((60_000..=120_000).contains(&redis.ask(&["PTTL", "beacon:unique:other"]).parse::<u64>().unwrap()));
    drop(host);
}

/// Not a test of a property: prints how many rows a second go. `cargo test --release ... -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn rows_a_second() {
    let (server, redis) = (Postgres::shared(), Redis::start());
    let database = server.database();
    let host = host(&database.url(), &redis).await;
    for _ in 0..3 {
        redis.ask(&["DEL", "celery"]);
        let begin = Instant::now();
        database.execute("select beacon.enqueue('t', jsonb_build_array(n)) from generate_series(1, 50000) as n");
        let written = begin.elapsed();
        wait_for("all are sent", || redis.ask(&["LLEN", "celery"]) == "50000").await;
        let sent = begin.elapsed().saturating_sub(written);
        println!("50000 rows: written in {written:?}, sent in {sent:?}, {:.0} a second", 50_000.0 / sent.as_secs_f64());
    }
    drop(host);
}
