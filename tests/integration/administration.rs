//! `beacon keys` and `beacon user`: the binary on a real database, as an operator runs it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use beacon::auth::passwords::{Hasher, Limits, Verdict};
use serde_json::Value;

use crate::support::{Database, Postgres};

/// What a run gave.
struct Outcome {
    code: i32,
    out: String,
    err: String,
}

struct Operator<'server> {
    database: Database<'server>,
    folder: tempfile::TempDir,
}

impl Operator<'_> {
    fn with_bare_database() -> Self {
        Self { database: Postgres::shared().database(), folder: tempfile::tempdir().unwrap() }
    }

    fn new() -> Self {
        let operator = Self::with_bare_database();
        assert_eq!(operator.run(&["migrate", "up"], "").code, 0);
        operator
    }

    fn run(&self, arguments: &[&str], input: &str) -> Outcome {
        let config = self.folder.path().join("beacon.toml");
        std::fs::write(&config, "").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_beacon"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("BEACON_CONFIG", config)
            .env("HOME", self.folder.path())
            .env("DATABASE_URL", self.database.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Outcome { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn done(&self, arguments: &[&str], input: &str) -> String {
        let outcome = self.run(arguments, input);
        assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.err);
        outcome.out
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(arguments, "")).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, says: &str) {
        let outcome = self.run(arguments, "a password");
        assert_eq!((outcome.code, outcome.out.as_str()), (code, ""), "{arguments:?}: {}", outcome.err);
        assert!(outcome.err.contains(says), "{arguments:?}: {}", outcome.err);
    }
}

#[test]
fn an_api_key_is_made_listed_and_revoked() {
    let operator = Operator::new();
    operator.database.execute("create role report_reader");
    let made = operator.run(&["keys", "create", "--secret", "billing"], "");
    let secret = made.out.trim_end().to_owned();
    assert!(made.code == 0 && secret.starts_with("sb_secret_") && !secret.contains('\n'), "{}", made.err);
    assert!(made.err.contains("shown this once"), "{}", made.err);
    let hash =
        format!("select hash = sha256('{secret}') and value is null from beacon.api_keys where name = 'billing'");
    assert_eq!(operator.database.value(&hash), "t");
    let web = operator.json(&["keys", "create", "--publishable", "web", "--json"]);
    assert!(web["key"].as_str().unwrap().starts_with("sb_publishable_") && web["role"] == "anon", "{web}");
    operator.done(&["keys", "create", "--secret", "reports", "--role", "report_reader"], "");

    let text = operator.done(&["keys", "list"], "");
    assert!(text.contains(web["key"].as_str().unwrap()) && !text.contains(&secret), "{text}");
    assert!(text.contains(&secret[..15]) && text.contains("report_reader") && text.contains("never"), "{text}");
    let list = operator.json(&["keys", "list", "--json"]);
    assert_eq!(
        list.as_array().unwrap().iter().map(|key| &key["name"]).collect::<Vec<_>>(),
        ["billing", "web", "reports"]
    );
    assert!(list[0]["key"].is_null() && list[1]["key"] == web["key"], "{list}");

    operator.refused(&["keys", "create", "--secret", "billing"], 78, "there is a key called \"billing\" already");
    operator.refused(&["keys", "create", "--secret", "x", "--role", "nobody_here"], 78, "has no role \"nobody_here\"");
    operator.refused(&["keys", "create", "x"], 64, "--secret");
    operator.refused(&["keys", "create", "--secret", "--publishable", "x"], 64, "cannot be used with");
    operator.refused(&["keys", "create", "--secret", "sb_secret_x"], 64, "a name has");

    operator.done(&["keys", "revoke", "billing"], "");
    operator.refused(&["keys", "revoke", "billing"], 78, "there is no API key called \"billing\"");
    let id = list[1]["id"].as_str().unwrap();
    operator.done(&["keys", "revoke", id], "");
    assert_eq!(operator.json(&["keys", "list", "--json"]).as_array().unwrap().len(), 1);
    let all = operator.json(&["keys", "list", "--all", "--json"]);
    assert_eq!(all.as_array().unwrap().iter().filter(|key| key["revoked_at"].is_string()).count(), 2, "{all}");
    operator.done(&["keys", "create", "--secret", "billing"], "");
}

#[test]
fn signing_keys_rotate() {
    let operator = Operator::new();
    let statuses = || operator.database.rows("select status from beacon.signing_keys order by 1").concat().join(" ");
    operator.done(&["keys", "rotate-jwt"], "");
    assert_eq!(statuses(), "current next");
    let next = operator.database.value("select id from beacon.signing_keys where status = 'next'");
    let said = operator.done(&["keys", "rotate-jwt"], "");
    assert!(said.contains(&next) && said.contains("stay good"), "{said}");
    assert_eq!(statuses(), "current next previous");
    let said = operator.done(&["keys", "rotate-jwt", "--revoke"], "");
    assert!(said.contains("void"), "{said}");
    assert_eq!(statuses(), "current next revoked revoked revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_made_as_sign_up_makes_one() {
    let operator = Operator::new();
    let id = operator.done(&["user", "create", "Ann@Example.org"], "pässword 1\n");
    let id = id.trim_end();
    let row = operator.database.rows(
        "select id, email, aud, role, email_confirmed_at is not null, raw_app_meta_data, confirmation_token || \
         recovery_token || email_change || email_change_token_new || email_change_token_current || phone_change || \
         phone_change_token || reauthentication_token, instance_id, created_at is not null, phone from auth.users",
    );
    let nil = "00000000-0000-0000-0000-000000000000";
    let app = "{\"provider\": \"email\", \"providers\": [\"email\"]}";
    assert_eq!(row, [[id, "ann@example.org", "authenticated", "authenticated", "t", app, "", nil, "t", "∅"]]);
    let hash = operator.database.value("select encrypted_password from auth.users");
    let hasher = Hasher::new(Limits::default());
    assert_eq!(hasher.verify("pässword 1", &hash).await.unwrap(), Verdict::Right);
    let identity = operator.database.rows("select provider, provider_id, user_id, email from auth.identities");
    assert_eq!(identity, [["email", id, id, "ann@example.org"]]);

    let made = operator.json(&["user", "create", "bob@example.org", "--no-password", "--unconfirmed", "--json"]);
    let bob =
        operator.database.rows("select id, encrypted_password, email_confirmed_at from auth.users where email ~ 'bob'");
    assert_eq!(bob, [[made["id"].as_str().unwrap(), "∅", "∅"]]);

    operator.refused(&["user", "create", "ANN@example.org"], 78, "there is a user with the address ann@example.org");
    operator.refused(&["user", "create", "no address"], 78, "is not an e-mail address");
    let empty = operator.run(&["user", "create", "joe@example.org"], "\n");
    assert!(empty.code == 1 && empty.err.contains("the password is empty"), "{}", empty.err);
    assert_eq!(operator.database.value("select count(*) from auth.users"), "2");
}

#[test]
fn an_address_with_capitals_that_somebody_else_wrote_is_taken_too() {
    let operator = Operator::new();
    operator.database.execute(
        "insert into auth.users (id, email, banned_until, created_at) \
         values ('5f0c9a52-7f3c-4d6e-9d60-3f7c35b3f1aa', 'Ann@X.org', 'infinity', '-infinity')",
    );
    operator.refused(&["user", "create", "ann@x.org", "--no-password"], 78, "already");
    let list = operator.json(&["user", "list", "--json"]);
    assert!(list[0]["disabled"] == true && list[0]["created_at"].is_null(), "{list}");
    operator.done(&["user", "enable", "ANN@x.ORG"], "");
    assert_eq!(operator.json(&["user", "list", "--json"])[0]["disabled"], false);
    // A user of an identity provider may have the same address.
    operator
        .database
        .execute("insert into auth.users (id, email, is_sso_user) values (gen_random_uuid(), 'ann@x.org', true)");
    operator.refused(&["user", "disable", "ann@x.org"], 78, "2 users have the address");
    operator.done(&["user", "disable", "5f0c9a52-7f3c-4d6e-9d60-3f7c35b3f1aa"], "");
    let banned = operator.database.rows("select email from auth.users where banned_until > now()");
    assert_eq!(banned, [["Ann@X.org"]]);
}

#[test]
fn a_disabled_user_has_no_session_and_others_keep_theirs() {
    let operator = Operator::new();
    for name in ["ann", "bob"] {
        let id = operator.done(&["user", "create", &format!("{name}@x.org"), "--no-password"], "");
        let id = id.trim_end();
        operator.database.execute(&format!(
            "with s as (insert into auth.sessions (id, user_id) values (gen_random_uuid(), '{id}') returning id) \
             insert into auth.refresh_tokens (token, user_id, session_id, revoked) select '{name}', '{id}', id, false from s; \
             insert into auth.refresh_tokens (token, user_id, revoked) values ('{name} old', '{id}', false)"
        ));
    }
    operator.done(&["user", "disable", "ann@x.org"], "");
    let tokens = operator.database.rows("select token from auth.refresh_tokens where not revoked order by 1").concat();
    assert_eq!(tokens, ["bob", "bob old"]);
    assert_eq!(operator.database.value("select count(*) from auth.sessions"), "1");
    let text = operator.done(&["user", "list"], "");
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(line("ann@x.org").contains("disabled") && line("bob@x.org").contains("active"), "{text}");
    operator.done(&["user", "enable", "ann@x.org"], "");
    assert!(!operator.done(&["user", "list"], "").contains("disabled"));
    operator.refused(&["user", "disable", "eve@x.org"], 78, "there is no user \"eve@x.org\"");

    let part = operator.json(&["user", "list", "BOB", "--json"]);
    assert_eq!(part.as_array().unwrap().len(), 1);
    let first = operator.run(&["user", "list", "--limit", "1", "--json"], "");
    let list: Value = serde_json::from_str(&first.out).unwrap();
    assert!(list[0]["email"] == "bob@x.org" && first.err.contains("more than 1"), "{list} {}", first.err);
    assert!(operator.done(&["user", "list", "nobody"], "").contains("no such user"));
}

/// The table as Django 5.2 makes it.
const AUTH_USER: &str = "create table auth_user (
    id integer not null primary key generated by default as identity, password varchar(128) not null,
    last_login timestamptz, is_superuser boolean not null, username varchar(150) not null unique,
    first_name varchar(150) not null, last_name varchar(150) not null, email varchar(254) not null,
    is_staff boolean not null, is_active boolean not null, date_joined timestamptz not null);";

#[tokio::test(flavor = "multi_thread")]
async fn users_of_django_are_taken_over_once_with_their_passwords() {
    let operator = Operator::new();
    // The hash is of \"correct horse\", with the iterations of a test's settings.
    let hash = "pbkdf2_sha256$1000$salt$".to_owned()
        + &base64::Engine::encode(&base64::engine::general_purpose::STANDARD, {
            let mut out = [0_u8; 32];
            pbkdf2::pbkdf2_hmac::<sha2::Sha256>(b"correct horse", b"salt", 1_000, &mut out);
            out
        });
    operator.database.execute(AUTH_USER);
    operator.database.execute(&format!(
        "insert into auth_user values
         (1, '{hash}', '2024-05-06 07:08:09+00', true, 'ann', 'Ann', 'Smith', 'Ann@Example.org', true, true, '2020-01-02 03:04:05+00'),
         (2, '!unusable', null, false, 'bob', '', '', 'bob@example.org', false, false, '2021-01-01'),
         (3, '{hash}', null, false, 'eve', '', '', 'ANN@example.org', false, true, '2021-01-01'),
         (4, '{hash}', null, false, 'no address', '', '', '', false, true, '2021-01-01'),
         (5, 'md5$a$b', null, false, 'joe@example.org', '', '', '', false, true, '2021-01-01'),
         (6, '{hash}', null, false, 'old', '', '', 'Old@example.org', false, true, '2021-01-01');
         insert into auth.users (id, email) values (gen_random_uuid(), 'OLD@example.org')"
    ));
    // More than two batches, and the address of one comes again in the last.
    operator.database.execute(&format!(
        "insert into auth_user select n, '{hash}', null, false, 'u' || n, '', '', 'u' || n || '@example.org', false, true, now()
         from generate_series(10, 2500) n;
         insert into auth_user values (3000, '{hash}', null, false, 'again', '', '', 'U10@example.org', false, true, now())"
    ));
    let dry = operator.run(&["user", "import-django", "--dry-run"], "");
    assert_eq!(dry.code, 1);
    assert_eq!(
        dry.out,
        "2494 would be taken over, 1 of them in need of a new password; 0 were there already; 4 left out.\n"
    );
    assert_eq!(operator.database.value("select count(*) from auth.users"), "1");

    let run = operator.run(&["user", "import-django", "--table", "auth_user"], "");
    assert_eq!(run.out, dry.out.replace("would be taken over", "taken over"));
    for line in [
        "user 3 (eve) has the address ann@example.org of another user and is left out.",
        "user 4 (no address) has no e-mail address and is left out.",
        "user 5 (joe@example.org) needs a new password: ",
        "user 6 (old) has the address old@example.org",
        "user 3000 (again) has the address u10@example.org",
    ] {
        assert!(run.err.contains(line) && dry.err.contains(line), "{line}: {}", run.err);
    }
    let ann = operator.database.rows(
        "select email, created_at = '2020-01-02 03:04:05+00', last_sign_in_at = '2024-05-06 07:08:09+00', banned_until,
         raw_user_meta_data ->> 'full_name', raw_user_meta_data ->> 'username', raw_app_meta_data ->> 'django_id',
         email_confirmed_at is not null, role from auth.users where email = 'ann@example.org'",
    );
    assert_eq!(ann, [["ann@example.org", "t", "t", "∅", "Ann Smith", "ann", "1", "t", "authenticated"]]);
    let stored = operator.database.value("select encrypted_password from auth.users where email = 'ann@example.org'");
    let verdict = Hasher::new(Limits::default()).verify("correct horse", &stored).await.unwrap();
    assert_eq!(verdict, Verdict::RightButOld);
    let disabled = operator.database.rows("select email from auth.users where banned_until > now()").concat();
    assert_eq!(disabled, ["bob@example.org"]);
    let alike = "select count(*) from auth.users u join auth.identities i on i.user_id = u.id and i.email = u.email";
    assert_eq!(operator.database.value(alike), "2494");

    // Again: nobody twice, and who came meanwhile is taken over.
    operator.database.execute(&format!(
        "delete from auth_user where id in (3, 4, 6, 3000);
         insert into auth_user values (4000, '{hash}', null, false, 'new', '', '', 'new@example.org', false, true, now());
         update auth.users set email = 'moved@example.org' where email = 'ann@example.org'"
    ));
    let again = operator.run(&["user", "import-django", "--unconfirmed"], "");
    assert_eq!((again.code, again.err.as_str()), (0, ""));
    assert_eq!(again.out, "1 taken over, 0 of them in need of a new password; 2494 were there already; 0 left out.\n");
    let new = "select email_confirmed_at is null from auth.users where email = 'new@example.org'";
    assert_eq!(operator.database.value(new), "t");

    operator.refused(&["user", "import-django", "--table", "nothing"], 78, "has no table nothing");
    operator.refused(&["user", "import-django", "--table", "a.b.c.d; drop"], 78, "has no table");
}

#[test]
fn a_user_model_of_ones_own_is_read_by_the_columns_that_it_has() {
    let operator = Operator::new();
    operator.database.execute(
        "create schema shop; create table shop.\"Odd Users\" (id uuid primary key, password text, email text);
         insert into shop.\"Odd Users\" select gen_random_uuid(), '!', 'u' || n || '@example.org' from generate_series(1, 1500) n",
    );
    let said = operator.done(&["user", "import-django", "--table", "shop.\"Odd Users\""], "");
    assert!(said.starts_with("1500 taken over"), "{said}");
    let said = operator.done(&["user", "import-django", "--table", "shop.\"Odd Users\""], "");
    assert!(said.contains("1500 were there already"), "{said}");
    // Another table's user is another user, whatever its identifier is.
    operator.database.execute(
        "create table twin as select id, password, 'twin ' || email as username, 'twin' || email as email
         from shop.\"Odd Users\" limit 3",
    );
    let said = operator.done(&["user", "import-django", "--table", "twin"], "");
    assert!(said.starts_with("3 taken over") && said.contains("0 were there already"), "{said}");
}

#[test]
fn a_database_that_is_missing_or_bare_is_told_with_what_to_do() {
    let operator = Operator::with_bare_database();
    for arguments in [&["keys", "list"][..], &["keys", "rotate-jwt"], &["user", "list"], &["user", "create", "a@x.org"]]
    {
        operator.refused(arguments, 1, "beacon migrate up");
        let none = [&["--set", "database.url=", "--set", "managed.postgres=off"], arguments].concat();
        operator.refused(&none, 78, "no database is configured");
        let asleep = [&["--set", "database.url="], arguments].concat();
        operator.refused(&asleep, 69, "the private one does not run");
        let away = [&["--set", "database.url=postgres://u:hunter2@localhost:1/d"], arguments].concat();
        operator.refused(&away, 69, "does not answer");
    }
}
