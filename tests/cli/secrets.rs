//! A secret's text is in nothing that is printed, whatever is wrong around it.

use crate::scratch::Scratch;

const SECRET: &str = "hunter2x";

type Setting = fn(&mut Scratch);

/// A way to set a secret, more options, and the exit code of `check`.
const CASES: &[(&str, Setting, &[&str], i32)] = &[
    ("inline", |s| s.config("[wall]\nusername='me'\npassword='hunter2x'"), &[], 0),
    ("environment", |s| s.variable("DATABASE_URL", "postgres://u:hunter2x@h/d"), &[], 0),
    ("env file", |s| drop(s.file(".env", "REDIS_URL=redis://:hunter2x@h/0")), &[], 0),
    ("option", |_| {}, &["--set", "database.url=postgres://u:hunter2x@h/d"], 0),
    ("credential", |s| s.credential("database.url", "postgres://u:hunter2x@h/d\n"), &[], 0),
    (
        "credential env",
        |s| {
            std::fs::remove_file(s.path().join(".env")).unwrap();
            s.credential("env", "AUTH_WALL_USERNAME=me\nAUTH_WALL_PASSWORD=hunter2x");
        },
        &[],
        0,
    ),
    (
        "a file",
        |s| {
            let path = s.file("secret", "postgres://u:hunter2x@h/d\n");
            s.variable("BEACON_DATABASE__URL_FILE", path);
        },
        &[],
        0,
    ),
    ("a list", |s| s.config("wall.password = ['hunter2x']"), &[], 78),
    ("a table", |s| s.config("wall.password = { a = 'hunter2x' }"), &[], 78),
    ("a table of an unknown name", |s| s.config("wall = { pasword = 'hunter2x' }"), &[], 78),
    ("a text for a section", |s| s.config("wall = 'hunter2x'"), &[], 78),
    ("a text for a map", |s| s.config("wall.users = 'hunter2x'"), &[], 78),
    ("a list of users", |s| s.config("wall.users = ['hunter2x']"), &[], 78),
    ("a table for a user", |s| s.config("[wall.users.alice]\nhash = 'hunter2x'"), &[], 78),
    ("an open quote", |s| s.config("[wall]\npassword = 'hunter2x\n"), &[], 78),
    ("no quotes", |s| s.config("[wall]\npassword = hunter2x\n"), &[], 78),
    ("no quotes and more", |s| s.config("[wall]\npassword = hunter2x!# ünd\n"), &[], 78),
    ("text after it", |s| s.config("[wall]\npassword = 'x'hunter2x\n"), &[], 78),
    ("a bad escape", |s| s.config("[wall]\npassword = \"hunter2x\\q\"\n"), &[], 78),
    ("twice", |s| s.config("[wall]\npassword = 'hunter2x'\npassword = 'hunter2x'\n"), &[], 78),
    ("a URL of another kind", |s| s.variable("DATABASE_URL", "mysql://u:hunter2x@h/d"), &[], 78),
    ("a Redis URL of another kind", |s| s.variable("REDIS_URL", "hunter2x"), &[], 78),
    ("half a wall", |s| s.variable("AUTH_WALL_PASSWORD", "hunter2x"), &[], 78),
    ("half a key", |s| s.variable("AWS_ACCESS_SECRET", "hunter2x"), &[], 78),
    (
        "two aliases",
        |s| {
            s.variable("AWS_ACCESS_SECRET", "hunter2x");
            s.variable("AWS_SECRET_ACCESS_KEY", "hunter2x.");
        },
        &[],
        78,
    ),
    (
        "both forms",
        |s| {
            s.variable("BEACON_DATABASE__URL", "postgres://u:hunter2x@h/d");
            let path = s.file("secret", "postgres://u:hunter2x@h/d");
            s.variable("BEACON_DATABASE__URL_FILE", path);
        },
        &[],
        78,
    ),
    ("an unknown variable", |s| s.variable("BEACON_WALL_PASSWORD", "hunter2x"), &[], 78),
    ("a variable below a secret", |s| s.variable("BEACON_WALL__PASSWORD__X", "hunter2x"), &[], 78),
    ("a section's variable", |s| s.variable("BEACON_WALL", "hunter2x"), &[], 78),
    ("a section's variable in TOML", |s| s.variable("BEACON_WALL", "{ password = ['hunter2x'] }"), &[], 78),
    ("a section's variable in bad TOML", |s| s.variable("BEACON_WALL", "{ password = 'hunter2x }"), &[], 78),
    ("an env file's open quote", |s| drop(s.file(".env", "AUTH_WALL_PASSWORD='hunter2x\n")), &[], 78),
    ("an env file's text after a quote", |s| drop(s.file(".env", "AUTH_WALL_PASSWORD='x'hunter2x\n")), &[], 78),
    ("an env file's line without a name", |s| drop(s.file(".env", "=hunter2x\n")), &[], 78),
    ("an option without a key", |_| {}, &["--set", "hunter2x"], 78),
    ("an option with an unknown key", |_| {}, &["--set", "wall.pasword=hunter2x"], 78),
    ("an option of the wrong type", |_| {}, &["--set", "wall.password=['hunter2x']"], 78),
    ("an option for a section", |_| {}, &["--set", "wall=hunter2x"], 78),
    ("a credential of the wrong kind", |s| s.credential("redis.url", "hunter2x"), &[], 78),
    (
        "a file that has the secret for a name",
        |s| {
            // Somebody gives the secret where the name of its file belongs.
            s.config("[wall]\nusername = 'me'\npassword_file = 'hunter2x'");
        },
        &[],
        78,
    ),
];

#[test]
fn no_outcome_shows_a_secret() {
    for (name, set, options, code) in CASES {
        let mut scratch = Scratch::new();
        set(&mut scratch);
        for command in
            [&["check"][..], &["config", "show"], &["config", "show", "--json"], &["config", "show", "--origins"]]
        {
            let arguments: Vec<&str> = command.iter().chain(options.iter()).copied().collect();
            let outcome = scratch.run(&arguments);
            assert_eq!(outcome.code, *code, "{name}: {outcome:?}");
            assert!(!format!("{}{}", outcome.out, outcome.err).contains(SECRET), "{name}: {outcome:?}");
        }
    }
}

#[test]
fn an_unset_secret_is_shown_as_unset_and_a_set_one_as_the_mask() {
    let mut scratch = Scratch::new();
    let shown = |scratch: &Scratch| scratch.run(&["config", "show"]).out;
    assert!(shown(&scratch).contains("[database]\nurl = \"\"\n"), "{}", shown(&scratch));
    scratch.variable("DATABASE_URL", "postgres://u@h/d");
    assert!(shown(&scratch).contains("[database]\nurl = \"********\"\n"), "{}", shown(&scratch));
}

#[test]
fn the_mask_is_not_taken_for_a_secret() {
    let mut scratch = Scratch::new();
    scratch.variable("DATABASE_URL", "postgres://u@h/d");
    let shown = scratch.run(&["config", "show"]).out;
    scratch.config(&shown);
    scratch.refused(&["database.url: the value is the mask that `beacon config show` prints"]);
}
