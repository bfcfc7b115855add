//! Tasks without a program of their own, against a real mail server and a real PostgreSQL.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use beacon::db::{self, Database};
use beacon::http::Outbound;
use beacon::jobs::{self, ACCOUNT_MAIL, Arguments, Config, Job, Means, Seal};
use beacon::mail::{self, Kind, Mailer, Values};
use beacon::secret::Secret;
use beacon::tasks::broker::Broker;
use beacon::tasks::native::{Again, Call, Failure, Progress};
use beacon::tasks::results::Results;
use beacon::tasks::{self, Client, Defaults, Transport};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Behaviour, Postgres, Redis, Smtp};

const ID: &str = "6f9b0b2e-8f9a-4a44-9d0f-0c5b7a8f1d11";

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_mins(2), test).await.unwrap() });
}

fn call(task: &str, args: Value, kwargs: Value) -> Call {
    let (Value::Array(args), Value::Object(kwargs)) = (args, kwargs) else { panic!("no list and object") };
    Call {
        args,
        kwargs,
        id: ID.into(),
        task: task.into(),
        attempt: 1,
        retries: 0,
        queue: "celery".into(),
        progress: Progress::ignored(),
        cancel: CancellationToken::new(),
    }
}

fn mailer(smtp: &Smtp) -> Mailer {
    let config = mail::Config {
        host: smtp.address().ip().to_string(),
        port: smtp.address().port(),
        security: mail::Security::None,
        from: "Shop <shop@example.org>".into(),
        timeout: Duration::from_secs(2),
        ..mail::Config::default()
    };
    Mailer::new(&config).unwrap()
}

fn no_mailer() -> Mailer {
    Mailer::new(&mail::Config::default()).unwrap()
}

fn means<'a>(mailer: Mailer, templates: &'a Path, database: Option<&Database>) -> Means<'a> {
    Means {
        mailer,
        templates,
        outbound: Outbound::new().unwrap(),
        requests: database.map(|database| database.requests().clone()),
        seal: database.map(|database| Seal::new(database.owner().clone())),
        time_limit: Duration::ZERO,
    }
}

fn sections<const N: usize>(sections: [(&str, Config); N]) -> BTreeMap<String, Config> {
    for (_, config) in &sections {
        assert_eq!(config.validate(), []);
    }
    sections.map(|(name, config)| (name.to_owned(), config)).into()
}

async fn perform(jobs: &[Job], call: Call) -> Result<Value, Failure> {
    let job = jobs.iter().find(|job| job.task == *call.task).unwrap();
    job.handler.run(call).await
}

fn open(url: &str) -> Database {
    let own = beacon::assets::folder("migrations").unwrap();
    Database::new(&db::Config::default(), &Secret::new(url), own, vec!["clerk".into()]).unwrap()
}

fn sql(function: &str) -> Config {
    Config { sql: Some(jobs::Sql { function: function.into(), ..jobs::Sql::default() }), ..Config::default() }
}

#[test]
fn a_mail_is_made_from_a_template_or_from_the_task_s_own_words() {
    let smtp = Smtp::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bill.subject"), "Bill {{ .number }}").unwrap();
    std::fs::write(folder.path().join("bill.txt"), "{{ range .lines }}{{ . }}\n{{ end }}").unwrap();
    std::fs::write(folder.path().join("bill.html"), "<ul>{{ range .lines }}<li>{{ . }}{{ end }}</ul>").unwrap();
    run(async {
        let bill = Config {
            mail: Some(jobs::Mail {
                to: vec!["{kwargs.email}".into()],
                template: "bill".into(),
                reply_to: "Help <help@example.org>".into(),
                ..jobs::Mail::default()
            }),
            ..Config::default()
        };
        let jobs = jobs::jobs(&sections([("send_bill", bill)]), &means(mailer(&smtp), folder.path(), None)).unwrap();
        let values = json!({"email": "Ann <ann@example.org>", "number": 7, "lines": ["Tea", "<Milk>"]});
        perform(&jobs, call("send_bill", json!([]), values)).await.unwrap();
        let mail = smtp.take("ann@example.org");
        assert_eq!(mail.subject(), "Bill 7");
        assert!(mail.text.contains("Tea") && mail.text.contains("<Milk>"), "{}", mail.text);
        assert!(mail.html.contains("<li>&lt;Milk&gt;"), "{}", mail.html);
        assert_eq!(mail.headers["reply-to"], "Help <help@example.org>");
        // The same at every try, so that a receiver who knows it drops the second one.
        assert_eq!(mail.headers["message-id"], format!("<{ID}@example.org>"));

        let words = json!({"text": "Hi", "to": ["b@example.org", "c@example.org"]});
        let sent = perform(&jobs, call("beacon.mail", json!([]), json!({"subject": "S"}))).await.unwrap_err();
        assert_eq!(sent.exception.class, "TypeError");
        let mut kwargs = words.clone();
        kwargs["subject"] = "One\r\nBcc: x@example.org".into();
        let sent = perform(&jobs, call("beacon.mail", json!([]), kwargs)).await.unwrap();
        assert_eq!(sent, json!({"recipients": 2}));
        let mail = smtp.take("c@example.org");
        assert_eq!((mail.to.len(), mail.headers.contains_key("bcc")), (2, false));
        assert!(mail.text.contains("Hi") && mail.html.is_empty());

        for (kwargs, class) in [
            (json!({"to": "a@example.org", "template": "none"}), "ValueError"),
            (json!({"to": "a@example.org", "template": "bill", "values": {"lines": []}}), "TypeError"),
            (json!({"to": "nobody", "subject": "x", "text": "y"}), "ValueError"),
            (json!({"to": [], "subject": "x", "text": "y"}), "ValueError"),
            (json!({"to": "a@example.org", "subject": "x", "body": "y"}), "TypeError"),
        ] {
            let failure = perform(&jobs, call("beacon.mail", json!([]), kwargs.clone())).await.unwrap_err();
            assert_eq!((failure.exception.class.as_str(), failure.again), (class, Again::Never), "{kwargs}");
        }
    });
}

#[test]
fn a_refused_mail_fails_and_a_delayed_one_is_tried_again() {
    let smtp = Smtp::start();
    run(async {
        let jobs = jobs::jobs(&BTreeMap::new(), &means(mailer(&smtp), Path::new(""), None)).unwrap();
        let send = || perform(&jobs, call("beacon.mail", json!(["a@example.org", "S"]), json!({"html": "<p>x"})));
        smtp.behave(Behaviour::Answer("550 no such user".into()));
        let failure = send().await.unwrap_err();
        assert_eq!((failure.exception.class.as_str(), failure.again), ("MailRefused", Again::Never));
        assert!(!failure.exception.message.contains("a@example.org"), "{failure:?}");
        smtp.behave(Behaviour::Answer("451 later".into()));
        assert_eq!(send().await.unwrap_err().again, Again::Backoff);
        smtp.behave(Behaviour::Hang);
        assert_eq!(send().await.unwrap_err().again, Again::Backoff);
        smtp.behave(Behaviour::Accept);
        send().await.unwrap();
        assert!(smtp.take("a@example.org").html.contains("<p>x"));
        let nobody = jobs::jobs(&BTreeMap::new(), &means(no_mailer(), Path::new(""), None)).unwrap();
        let kwargs = json!({"to": "a@example.org", "subject": "x", "text": "y"});
        let failure = perform(&nobody, call("beacon.mail", json!([]), kwargs)).await.unwrap_err();
        assert_eq!(failure.again, Again::Never);
        assert!(failure.exception.message.contains("mail.host"), "{failure:?}");
    });
}

#[test]
fn mails_of_accounts_are_handed_over_sealed_and_sent_by_a_task() {
    let redis = Redis::start();
    let smtp = Smtp::start();
    let database = Postgres::shared().database();
    run(async {
        let (ours, other) = (open(&database.url()), open(&database.url()));
        ours.prepare().await.unwrap();
        let mailer = mailer(&smtp);
        let url = Secret::new(redis.url());
        let broker = Broker::new(&url, &Transport::default()).unwrap();
        let results = Results::new(&url, &Transport::default(), Duration::from_hours(1)).unwrap();
        let keeping = tokio::spawn(broker.clone().keep());
        let begun = Instant::now();
        while !broker.is_connected() {
            assert!(begun.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let defaults = Defaults { queue: "celery".into(), origin: tasks::origin(), bytes: 1 << 20 };
        let client = Client::new(broker.clone(), results, defaults);
        mailer.hand_over(jobs::relay(client, Seal::new(ours.owner().clone()), Duration::from_mins(15)));
        let values = Values { token: "314159", ..Values::default() };
        mailer.send(Kind::Reauthentication, "ann@example.org", &values).unwrap();
        let begun = Instant::now();
        let envelope = loop {
            let mut found = broker.peek(tasks::QUEUE, 0, 10).await.unwrap_or_default();
            if let Some(envelope) = found.pop() {
                break envelope;
            }
            assert!(begun.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let (raw, body) = (String::from_utf8_lossy(&envelope.raw), String::from_utf8_lossy(&envelope.body));
        assert!([&raw, &body].iter().all(|text| !text.contains("314159") && !text.contains("ann")), "{raw} {body}");
        assert_eq!((envelope.headers.task.as_str(), envelope.headers.ignore_result), (ACCOUNT_MAIL, Some(true)));
        assert!(envelope.headers.expires.is_some());
        assert_eq!(smtp.received(), 0);
        let kwargs = serde_json::from_str::<Value>(&body).unwrap()[1].take();
        // Another Beacon on the same database.
        let jobs = jobs::jobs(&BTreeMap::new(), &means(mailer.clone(), Path::new(""), Some(&other))).unwrap();
        perform(&jobs, call(ACCOUNT_MAIL, json!([]), kwargs.clone())).await.unwrap();
        assert_eq!(smtp.take("ann@example.org").code(6), "314159");
        // One on another database.
        let foreign = Postgres::shared().database();
        let stranger = open(&foreign.url());
        stranger.prepare().await.unwrap();
        let jobs = jobs::jobs(&BTreeMap::new(), &means(mailer.clone(), Path::new(""), Some(&stranger))).unwrap();
        let failure = perform(&jobs, call(ACCOUNT_MAIL, json!([]), kwargs)).await.unwrap_err();
        assert_eq!(failure.again, Again::Never);
        // Nobody takes it over: it is sent from here.
        drop(redis);
        mailer.send(Kind::Reauthentication, "bob@example.org", &values).unwrap();
        assert_eq!(smtp.take("bob@example.org").code(6), "314159");
        broker.close().await;
        keeping.abort();
    });
}

#[test]
fn a_function_is_called_as_its_role_and_its_result_is_json() {
    let database = Postgres::shared().database();
    run(async {
        let ours = open(&database.url());
        database.execute_as_superuser(
            "do $$ begin create role clerk nologin; exception when duplicate_object then null; end $$",
        );
        database.execute_as_superuser("grant clerk to application with admin option");
        ours.prepare().await.unwrap();
        database.execute(
            r#"
            create table public.items (id int primary key, name text);
            insert into items values (1, 'Tea'), (2, 'Milk');
            create function public.scalar(a int, b text default 'x') returns text language sql as $$ select a || b $$;
            create function public.rows(lowest int) returns setof items language sql as
                $$ select * from items where id >= lowest order by id $$;
            create function public.one() returns items language sql as $$ select * from items where id = 1 $$;
            create function public.tabled() returns table (n int, t text) language sql as $$ select 1, 'a' $$;
            create function public.nothing() returns void language sql as $$ insert into items values (9, 'Jam') $$;
            create function public.whole(task jsonb) returns jsonb language sql as $$ select task $$;
            create function public.who() returns jsonb language sql as
                $$ select jsonb_build_array(current_user, current_setting('request.jwt.claims')::jsonb ->> 'role') $$;
            create function public."Odd Name"() returns int language sql as $$ select 1 $$;
            create schema closed;
            "#,
        );
        let json_arguments = |config: Config| Config {
            sql: config.sql.map(|sql| jobs::Sql { arguments: Arguments::Json, ..sql }),
            ..config
        };
        let as_clerk =
            |config: Config| Config { sql: config.sql.map(|sql| jobs::Sql { role: "clerk".into(), ..sql }), ..config };
        let open = Config {
            task: "beacon.sql".into(),
            sql: Some(jobs::Sql { functions: vec!["public.*".into()], ..jobs::Sql::default() }),
            ..Config::default()
        };
        let sections = sections([
            ("scalar", sql("public.scalar")),
            ("rows", sql("public.rows")),
            ("one", sql("public.one")),
            ("tabled", sql("public.tabled")),
            ("nothing", sql("public.nothing")),
            ("whole", json_arguments(sql("public.whole"))),
            ("who", sql("public.who")),
            ("clerk", as_clerk(sql("public.who"))),
            ("any", open),
        ]);
        assert_eq!(jobs::roles(&sections), ["clerk"]);
        let jobs = jobs::jobs(&sections, &means(no_mailer(), Path::new(""), Some(&ours))).unwrap();
        let (tea, milk) = (json!({"id": 1, "name": "Tea"}), json!({"id": 2, "name": "Milk"}));
        for (task, args, kwargs, result) in [
            ("scalar", json!([4]), json!({}), json!("4x")),
            ("scalar", json!([]), json!({"b": "'; drop table items;--", "a": 1}), json!("1'; drop table items;--")),
            ("scalar", json!([4]), json!({"b": null}), Value::Null),
            ("rows", json!([1]), json!({}), json!([tea, milk])),
            ("rows", json!([2]), json!({}), json!([milk])),
            ("rows", json!([3]), json!({}), json!([])),
            ("one", json!([]), json!({}), tea.clone()),
            ("tabled", json!([]), json!({}), json!([{"n": 1, "t": "a"}])),
            ("nothing", json!([]), json!({}), Value::Null),
            (
                "whole",
                json!([1]),
                json!({"a": [true]}),
                json!({"id": ID, "task": "whole", "args": [1], "kwargs": {"a": [true]}}),
            ),
            ("who", json!([]), json!({}), json!(["service_role", "service_role"])),
            ("clerk", json!([]), json!({}), json!(["clerk", "clerk"])),
            ("beacon.sql", json!(["public.scalar", [7]]), json!({}), json!("7x")),
            (
                "beacon.sql",
                json!([]),
                json!({"function": "public.rows", "args": {"lowest": 9}}),
                json!([{"id": 9, "name": "Jam"}]),
            ),
        ] {
            let told = format!("{task} {args} {kwargs}");
            assert_eq!(perform(&jobs, call(task, args, kwargs)).await.unwrap(), result, "{told}");
        }
        assert_eq!(database.value("select count(*)::text from items"), "3");
        for (task, kwargs, class) in [
            ("scalar", json!({"c": 1}), "DatabaseError"),
            ("scalar", json!({"a": "no number"}), "DatabaseError"),
            ("scalar", json!({"a) from items;--": "1"}), "DatabaseError"),
            ("beacon.sql", json!({"function": "closed.x"}), "PermissionError"),
            ("beacon.sql", json!({"function": "public.Odd Name"}), "ValueError"),
            ("beacon.sql", json!({"function": "select 1"}), "ValueError"),
            ("beacon.sql", json!({"function": "public.one", "args": 1}), "TypeError"),
        ] {
            let failure = perform(&jobs, call(task, json!([]), kwargs.clone())).await.unwrap_err();
            assert_eq!((failure.exception.class.as_str(), failure.again), (class, Again::Never), "{task} {kwargs}");
        }
        let none = jobs::jobs(&BTreeMap::new(), &means(no_mailer(), Path::new(""), Some(&ours))).unwrap();
        let failure = perform(&none, call("beacon.sql", json!(["public.one"]), json!({}))).await.unwrap_err();
        assert_eq!(failure.exception.class, "PermissionError");
    });
}

#[test]
fn what_the_database_says_decides_whether_a_call_is_tried_again() {
    let database = Postgres::shared().database();
    run(async {
        let ours = open(&database.url());
        ours.prepare().await.unwrap();
        database.execute(
            r"
            create table public.done (id int);
            create function public.fails(code text) returns void language plpgsql as
                $$ begin insert into done values (1); raise exception using errcode = code, message = 'no: ' || code; end $$;
            create function public.slow() returns void language plpgsql as
                $$ begin insert into done values (1); perform pg_sleep(60); end $$;
            grant all on public.done to service_role;
            ",
        );
        let slow = Config { time_limit: Duration::from_millis(300), ..sql("public.slow") };
        let endless = Config { time_limit: Duration::ZERO, ..sql("public.slow") };
        let sections = sections([("fails", sql("public.fails")), ("slow", slow), ("endless", endless)]);
        let jobs = jobs::jobs(&sections, &means(no_mailer(), Path::new(""), Some(&ours))).unwrap();
        for (code, again) in [
            ("40001", Again::Backoff),
            ("40P01", Again::Backoff),
            ("55P03", Again::Backoff),
            ("53300", Again::Backoff),
            ("PT503", Again::Backoff),
            ("PT429", Again::Backoff),
            ("PT400", Again::Never),
            ("23505", Again::Never),
            ("P0001", Again::Never),
        ] {
            let failure = perform(&jobs, call("fails", json!([code]), json!({}))).await.unwrap_err();
            assert_eq!(failure.again, again, "{failure:?}");
            assert_eq!(failure.exception.message, format!("no: {code} (SQLSTATE {code})"));
        }
        // The database ends what takes too long.
        let failure = perform(&jobs, call("slow", json!([]), json!({}))).await.unwrap_err();
        assert!(failure.exception.message.contains("57014") && failure.again == Again::Never, "{failure:?}");
        // So it does with what nobody waits for any more.
        let endless = call("endless", json!([]), json!({}));
        let cancel = endless.cancel.clone();
        let running = "select count(*)::text from pg_stat_activity where state = 'active' and query like '%slow%' \
                       and pid <> pg_backend_pid()";
        let until = |count: &'static str| {
            let database = &database;
            async move {
                let begun = Instant::now();
                while database.value(running) != count {
                    assert!(begun.elapsed() < Duration::from_secs(30), "not {count}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let (ended, ()) = tokio::join!(perform(&jobs, endless), async {
            until("1").await;
            cancel.cancel();
        });
        assert_eq!(ended.unwrap_err().exception.class, "SoftTimeLimitExceeded");
        until("0").await;
        assert_eq!(database.value("select count(*)::text from done"), "0");
        let none = jobs::jobs(&sections, &means(no_mailer(), Path::new(""), None)).unwrap();
        assert_eq!(perform(&none, call("slow", json!([]), json!({}))).await.unwrap_err().again, Again::Backoff);
    });
}

#[test]
fn names_are_taken_once_and_not_from_others() {
    run(async {
        let command = || Config {
            command: Some(jobs::Command { run: vec!["/bin/true".into()], ..jobs::Command::default() }),
            limit_key: "tenant:{kwargs.tenant}".into(),
            limit_rate: "100/m".into(),
            limit_concurrency: 2,
            ..Config::default()
        };
        let make = |sections| {
            jobs::jobs(&sections, &means(no_mailer(), Path::new(""), None))
                .map(|jobs| jobs.into_iter().map(|job| (job.task.clone(), job)).collect::<BTreeMap<_, _>>())
        };
        let named = |task: &str| Config { task: task.into(), ..command() };
        let jobs = make(sections([("one", command()), ("two", named("shop.close"))])).unwrap();
        assert_eq!(jobs.keys().collect::<Vec<_>>(), ["beacon.http", "beacon.mail", "beacon.sql", "one", "shop.close"]);
        let settings = &jobs["one"].settings;
        let shared = settings.shared.as_ref().unwrap();
        assert_eq!((shared.concurrency, shared.rate), (Some(2), Some((100, Duration::from_mins(1)))));
        // It is asked to end at its limit, and has its grace after it.
        assert_eq!(settings.soft_time_limit, Duration::from_mins(5));
        assert!(settings.time_limit > settings.soft_time_limit);
        for (wrong, told) in [
            (sections([("one", named("two")), ("two", command())]), "both the task two"),
            (sections([("one", named("celery.chord"))]), "is taken"),
            (sections([("one", named("beacon.other"))]), "is taken"),
            (sections([("one", named("beacon.mail"))]), "of the kind mail"),
        ] {
            let error = make(wrong).err().unwrap().to_string();
            assert!(error.contains(told), "{error}");
        }
    });
}
