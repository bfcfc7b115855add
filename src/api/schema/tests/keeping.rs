//! The cache: when it reads, what it keeps when it cannot, and what it does besides.

use std::time::Duration;

use include_dir::{Dir, include_dir};
use tokio_postgres::Client;

use super::super::fingerprint::fingerprint;
use super::super::{Cache, Figures, Options};
use super::{FIXTURES, scratch};
use crate::db::Database;
use crate::secret::Secret;
use crate::telemetry::{Health, Metrics, State};

static MIGRATIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets/migrations");

/// A cache over a new database with `sql` run in it.
struct Kept {
    name: String,
    owner: Client,
    database: Database,
    cache: Cache,
    health: Health,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn kept(sql: &str, poll: Duration) -> Kept {
    let (name, owner) = scratch::database(sql).await;
    let url = Secret::new(scratch::url(scratch::OWNER, &name));
    let database = Database::new(&crate::db::Config::default(), &url, &MIGRATIONS, Vec::new()).unwrap();
    database.prepare().await.unwrap_or_else(|error| panic!("{}", crate::error::chain(&error)));
    let options = Options { schemas: vec!["test".into()], extra_search_path: vec!["extensions".into()], poll };
    let health = Health::new();
    let cache =
        Cache::counted(database.clone(), options, health.component("schema"), Figures::register(&Metrics::new()));
    assert!(cache.current().is_none());
    let task = tokio::spawn(cache.clone().run());
    Kept { name, owner, database, cache, health, task }
}

impl Kept {
    /// The number of the catalogue that follows `number`.
    async fn after(&self, number: u64) -> std::sync::Arc<super::super::Snapshot> {
        tokio::time::timeout(Duration::from_secs(20), self.cache.after(number)).await.expect("the schema is read again")
    }

    async fn run(&self, sql: &str) {
        self.owner.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", crate::error::chain(&error)));
    }

    fn has(&self, table: &str) -> bool {
        self.cache.current().unwrap().relation("test", table).is_ok()
    }
}

const ONE_TABLE: &str = "create schema test; create table test.one (id integer primary key)";

#[tokio::test]
async fn a_notification_has_the_schema_read_again() {
    let kept = kept(ONE_TABLE, Duration::ZERO).await;
    let first = kept.after(0).await;
    assert_eq!(first.number, 1);
    assert!(kept.has("one") && !kept.has("two"));
    assert_eq!(kept.health.report()[0].state, State::Ok);
    for (number, notification) in
        ["notify pgrst, 'reload schema'", "notify pgrst", "notify beacon_schema"].iter().enumerate()
    {
        let number = number as u64 + 1;
        kept.run(&format!("create table test.n{number} (id integer)")).await;
        // Nobody looks by itself, so that it is the notification that does it. The task may not listen yet.
        let read = async {
            loop {
                kept.run(notification).await;
                if let Ok(next) = tokio::time::timeout(Duration::from_secs(2), kept.cache.after(number)).await {
                    return next;
                }
            }
        };
        let next = tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
        assert_eq!(next.number, number + 1, "{notification}");
        assert!(kept.has(&format!("n{number}")));
    }
    kept.run("create table test.late (id integer); notify pgrst, 'reload nothing'").await;
    assert!(tokio::time::timeout(Duration::from_millis(500), kept.cache.after(4)).await.is_err());
    kept.cache.reload();
    kept.after(4).await;
    assert!(kept.has("late"));
}

#[tokio::test]
async fn a_change_is_noticed_without_being_told() {
    let kept = kept(ONE_TABLE, Duration::from_millis(50)).await;
    kept.after(0).await;
    kept.run("create table test.two (id integer)").await;
    kept.after(1).await;
    assert!(kept.has("two"));
    kept.run("drop table test.one").await;
    kept.after(2).await;
    assert!(!kept.has("one"));
}

#[tokio::test]
async fn the_fingerprint_changes_with_the_schema_alone() {
    let (_, owner) = scratch::database(FIXTURES).await;
    let mut last = of_database(&owner).await;
    for sql in [
        "alter table test.clients add column extra text",
        "alter table test.clients alter column extra set default 'x'",
        "alter table test.clients alter column extra set not null",
        "alter table test.clients rename column extra to other",
        "alter table test.clients drop column other",
        "alter table test.clients enable row level security",
        "alter table test.clients force row level security",
        "comment on column test.clients.name is 'changed'",
        "comment on column test.clients.name is null",
        "alter table test.clients add constraint named unique (name)",
        "alter table test.clients rename constraint named to renamed",
        "alter type test.mood add value 'new'",
        "create or replace view test.job as select j.parent_id as id, j.id as parent_id from private.internal_job j",
        "alter view test.job set (security_invoker = true)",
        "create or replace function test.no_parameters() returns text language sql volatile as 'select null::text'",
        "create or replace function test.anti_id(test.items) returns bigint language sql immutable as 'select 1::bigint'",
        "alter table test.clients owner to beacon_other",
        "create domain test.another as integer",
        "alter table private.films rename to movies",
        "drop table test.kinds",
        "create schema other",
    ] {
        if sql.contains("beacon_other") {
            let make = "do $$ begin create role beacon_other; exception when duplicate_object then null; end $$;
                grant beacon_other to current_user; grant create on schema test to beacon_other";
            owner.batch_execute(make).await.unwrap();
            last = of_database(&owner).await;
        }
        owner.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", crate::error::chain(&error)));
        let now = of_database(&owner).await;
        assert_ne!(now, last, "{sql}");
        last = now;
    }
    for sql in [
        "insert into test.items default values",
        "truncate test.items",
        "analyze test.items",
        "vacuum test.items",
        "create index on test.items (id)",
        "refresh materialized view test.materialized_projects",
        "create temporary table passing (id integer primary key, name text default 'x')",
        "drop table pg_temp.passing",
        "create table test.car_models_2022 partition of test.car_models for values in (2022)",
    ] {
        owner.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", crate::error::chain(&error)));
        assert_eq!(of_database(&owner).await, last, "{sql}");
    }
}

/// The fingerprint without its parts about the whole server (members, roles, settings), where other tests are at work.
async fn of_database(owner: &Client) -> Vec<String> {
    let whole = fingerprint(owner).await.unwrap();
    let parts = whole.split(',').map(str::to_owned).enumerate();
    parts.filter(|(at, _)| ![6, 8, 10].contains(at)).map(|(_, part)| part).collect()
}

#[tokio::test]
async fn what_was_read_stays_in_force_when_it_cannot_be_read_again() {
    let kept = kept(ONE_TABLE, Duration::from_millis(50)).await;
    kept.after(0).await;
    let admin = scratch::session("postgres", &kept.name).await;
    admin.batch_execute("revoke select on pg_catalog.pg_constraint from public").await.unwrap();
    kept.run("create table test.two (id integer)").await;
    kept.cache.reload();
    let failing = async {
        while kept.health.report()[0].state != State::Degraded {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), failing).await.unwrap();
    assert!(kept.has("one") && !kept.has("two"));
    assert_eq!(kept.cache.snapshot().unwrap().number, 1);
    admin.batch_execute("grant select on pg_catalog.pg_constraint to public").await.unwrap();
    kept.after(1).await;
    assert!(kept.has("two"));
    let well = async {
        while kept.health.report()[0].state != State::Ok {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), well).await.unwrap();
}

#[tokio::test]
async fn the_database_brings_configuration_along() {
    let sql = format!("{ONE_TABLE}; create schema other; create table other.there (id integer)");
    let kept = kept(&sql, Duration::from_millis(50)).await;
    let first = kept.after(0).await;
    assert_eq!((first.schemas.as_slice(), first.overrides.max_rows), (&["test".to_owned()][..], None));
    // Only a superuser, or who was granted the parameter, makes such a setting.
    let (admin, name) = (scratch::session("postgres", &kept.name).await, &kept.name);
    let settings = format!(
        "alter role authenticator in database {name} set pgrst.db_schemas to 'other, test';
         alter role authenticator in database {name} set pgrst.db_max_rows to '10';
         alter role authenticator in database {name} set pgrst.db_aggregates_enabled to 'perhaps';
         alter role {} in database {name} set pgrst.db_max_rows to '20'",
        scratch::OWNER
    );
    admin.batch_execute(&settings).await.unwrap();
    let next = kept.after(1).await;
    assert_eq!(next.schemas, ["other", "test"]);
    assert_eq!(next.overrides.max_rows, Some(20), "our own login's setting counts more");
    assert_eq!(next.overrides.aggregates_enabled, None);
    assert_eq!(next.overrides.faults, ["pgrst.db_aggregates_enabled of role authenticator is neither true nor false"]);
    assert!(next.catalog.relation("other", "there").is_ok());
}

#[tokio::test]
async fn service_role_gets_past_policies_where_it_may_not_bypass_them() {
    let sql = "create schema test; create table test.rows (id integer);
        insert into test.rows values (1), (2);
        alter table test.rows enable row level security;
        create table test.open (id integer);
        create table test.parts (id integer) partition by range (id);
        alter table test.parts enable row level security";
    let kept = kept(sql, Duration::from_millis(50)).await;
    let first = kept.after(0).await;
    assert_eq!(first.catalog.roles.get("service_role"), Some(&false));
    kept.run("grant usage on schema test to service_role; grant select on test.rows to service_role").await;
    let count = async || {
        let mut session = kept.database.requests().get().await.unwrap();
        let transaction = session.begin().await.unwrap();
        transaction.batch_execute("set local role service_role").await.unwrap();
        transaction.query_one("select count(*) from test.rows", &[]).await.unwrap().get::<_, i64>(0)
    };
    let seen = async {
        while count().await != 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap();
    let policies = async || {
        let sql = "select tablename::text from pg_policies where policyname = 'beacon_service_role' order by 1";
        let rows = kept.owner.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    let both = async {
        while policies().await != ["parts", "rows"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    // A table that is secured later gets its policy then.
    kept.run("alter table test.open enable row level security").await;
    let third = async {
        while policies().await != ["open", "parts", "rows"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), third).await.unwrap();
}
