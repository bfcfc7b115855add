//! Everything that can be wrong with a configuration: named with its place, its key and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::scratch::Scratch;

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_nearest_known_one() {
    let scratch = Scratch::new();
    scratch.config("[listen]\n\nhtps = [\":443\"]\n");
    scratch.refused(&["beacon.toml line 3: listen.htps: unknown key", "Did you mean listen.https?"]);
}

#[test]
fn an_unknown_section_is_told_once() {
    let scratch = Scratch::new();
    scratch.config("[lissten]\nhttps = []\nhttp = []\n");
    let outcome = scratch.refused(&["has an error", "line 1: lissten: unknown key", "Did you mean listen?"]);
    assert_eq!(outcome.err.matches("unknown key").count(), 1, "{}", outcome.err);
}

#[test]
fn an_unknown_variable_is_told_with_the_nearest_known_one() {
    let mut scratch = Scratch::new();
    scratch.variable("BEACON_DATABASE_URL", "x");
    scratch.variable("BEACON_CONFG", "x");
    scratch.file(".env", "\nBEACON_WALL__RELM=x\n");
    scratch.refused(&[
        "has 3 errors",
        "environment: BEACON_DATABASE_URL: database_url: unknown key",
        "Did you mean BEACON_DATABASE__URL?",
        "Did you mean BEACON_CONFIG?",
        ".env: BEACON_WALL__RELM: wall.relm: unknown key",
        "Did you mean BEACON_WALL__REALM?",
    ]);
}

#[test]
fn an_unknown_key_of_an_option_is_told() {
    let outcome = Scratch::new().run(&["check", "--set", "server.worker=2"]);
    assert_eq!(outcome.code, 78);
    assert!(outcome.err.contains("--set: server.worker: unknown key"), "{}", outcome.err);
    assert!(outcome.err.contains("Did you mean server.workers?"), "{}", outcome.err);
}

#[test]
fn wrong_types_say_what_was_found_and_what_is_wanted() {
    let mut scratch = Scratch::new();
    scratch.config(
        "[server]\nworkers = \"many\"\ndrain = \"soon\"\n[listen]\nhttps = \":443\"\ntrusted_proxies = [\"here\"]\n\
         [http]\nhttps_port = 70000\nredirect_to_https = 1\nlimits = 5\n[tls]\nmin_version = \"1.1\"\n[log]\nlevel = { a = 1 }\n",
    );
    scratch.variable("BEACON_HTTP__HSTS_SUBDOMAINS", "yes");
    scratch.variable("BEACON_HTTP__RATE", "fast");
    scratch.refused(&[
        "has 11 errors",
        "environment: BEACON_HTTP__RATE: http.rate: a single value does not fit\n      Give a table in TOML",
        "line 2: server.workers: the text \"many\" does not fit\n      Give a whole number",
        "line 3: server.drain: the text \"soon\" does not fit\n      Give a duration such as \"30s\"",
        "line 5: listen.https: the text \":443\" does not fit\n      Give a list",
        "line 6: listen.trusted_proxies: the value does not fit",
        "line 8: http.https_port: the number 70000 does not fit\n      Give a whole number from 0 to 65535",
        "line 9: http.redirect_to_https: the number 1 does not fit\n      Give true or false",
        "line 10: http.limits: a single value does not fit\n      Give a table",
        "line 12: tls.min_version: the text \"1.1\" is not a choice\n      Give \"1.2\" or \"1.3\"",
        "line 14: log.level: a table does not fit\n      Give a single value",
        "environment: BEACON_HTTP__HSTS_SUBDOMAINS: http.hsts_subdomains: the text \"yes\" does not fit",
    ]);
}

#[test]
fn two_aliases_with_different_values_are_told_by_both_names() {
    let scratch = Scratch::new();
    scratch.file(".env", "AWS_ACCESS_ID=one\nAWS_ACCESS_KEY_ID=two\nAWS_ACCESS_SECRET=x\nAWS_SECRET_ACCESS_KEY=x\n");
    let outcome = scratch.refused(&[
        "has an error",
        "storage.access_key_id: AWS_ACCESS_ID and AWS_ACCESS_KEY_ID both set it, to different values",
    ]);
    assert!(!outcome.err.contains("AWS_ACCESS_SECRET"), "{}", outcome.err);
}

#[test]
fn half_a_wall_is_refused_whichever_half() {
    for (name, unset) in [("AUTH_WALL_USERNAME", "password"), ("AUTH_WALL_PASSWORD", "username")] {
        let mut scratch = Scratch::new();
        scratch.variable(name, "x");
        scratch.refused(&[&format!("wall.{unset}: is not set although"), name, "wall.mode = \"off\" on purpose"]);
        scratch.variable("AUTH_WALL", "off");
        assert_eq!(scratch.run(&["check"]).code, 0);
    }
}

#[test]
fn a_fault_of_a_value_names_where_the_value_came_from() {
    let mut scratch = Scratch::new();
    scratch.config("[http.limits]\nheader_count = 5\n[mounts.site]\nsite.root = \"www\"\n");
    scratch.file(".env", "REDIS_URL=http://localhost\n");
    scratch.variable("BEACON_SERVER__WORKERS", "9999");
    scratch.refused(&[
        "beacon.toml line 2: http.limits.header_count: 5 is out of range",
        "beacon.toml line 4: mounts.site.site.root: \"www\" is not an absolute path",
        ".env: REDIS_URL: redis.url: is not a Redis URL",
        "environment: BEACON_SERVER__WORKERS: server.workers: 9999 is out of range",
    ]);
}

#[test]
fn two_mounts_in_one_place_and_a_mount_of_no_kind_are_refused() {
    let scratch = Scratch::new();
    scratch.config(
        "[mounts.one]\npath = \"/docs/\"\ndocs = {}\n[mounts.two]\npath = \"/docs\"\ndocs = {}\n\
         [mounts.three]\npath = \"/empty\"\n",
    );
    scratch.refused(&[
        "has 2 errors",
        "line 5: mounts.two.path: mounts.one and mounts.two both stand at \"/docs\"",
        "mounts.three.site: 0 of site, docs and redirect are set",
    ]);
}

#[test]
fn a_missing_file_that_was_named_is_told_and_one_that_was_not_is_no_error() {
    let mut scratch = Scratch::new();
    scratch.refused_missing(&["check", "--config", "nowhere.toml"], "nowhere.toml: cannot be read");
    scratch.refused_missing(&["check", "--env-file", "nowhere.env"], "nowhere.env: cannot be read");
    fs::remove_file(scratch.path().join(".env")).unwrap();
    assert_eq!(scratch.run(&["check"]).code, 0);
    scratch.variable("BEACON_CONFIG", "nowhere.toml");
    scratch.refused(&["nowhere.toml: cannot be read", "Make the file, or name another one."]);
}

impl Scratch {
    #[track_caller]
    fn refused_missing(&self, arguments: &[&str], part: &str) {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 78, "{outcome:?}");
        assert!(outcome.err.contains(part), "{}", outcome.err);
    }
}

#[test]
fn a_folder_and_a_file_that_is_not_text_are_told() {
    let mut scratch = Scratch::new();
    scratch.file("beacon.toml", b"[log]\nlevel = \"\xff\"\n");
    scratch.refused(&["beacon.toml: line 2 is not UTF-8 text"]);
    let folder = scratch.path().to_owned();
    scratch.variable("BEACON_CONFIG", folder);
    scratch.refused(&["is a folder", "Name a file."]);
}

#[test]
fn bad_toml_is_told_with_its_line() {
    let scratch = Scratch::new();
    scratch.config("[server]\nworkers = 2\n[listen\nhttps = []\n");
    scratch.refused(&["beacon.toml line 3: this is not TOML"]);
    scratch.config("[server]\nworkers = 2\nworkers = 3\n");
    scratch.refused(&["beacon.toml line 3: this is not TOML: duplicate key"]);
}

#[test]
fn every_bad_line_of_an_env_file_is_told() {
    let scratch = Scratch::new();
    scratch.file(".env", "# mine\nONE=1\nTWO=\"never closed\nTHREE=3\n=4\n");
    scratch.refused(&[
        "has 2 errors",
        ".env line 3: a value begins with a quote that is never closed\n      Close the quote",
        ".env line 5: there is no name before the =\n      Write NAME=value.",
    ]);
}

#[test]
fn all_layers_problems_are_told_together() {
    let mut scratch = Scratch::new();
    scratch.config("[listen]\nhttp = 5\n");
    scratch.file("conf.d/a.toml", "broken");
    scratch.file(".env", "A='");
    scratch.variable("BEACON_NOTHING", "1");
    scratch.credential("server.workers", "lots");
    let outcome = scratch.run(&["check", "--set", "log.levl=x", "--set", "nonsense"]);
    assert_eq!(outcome.code, 78);
    for part in [
        "has 7 errors",
        "listen.http:",
        "conf.d/a.toml line 1: this is not TOML",
        ".env line 1:",
        "BEACON_NOTHING",
        "log.levl",
        "--set number 2: this is not section.key=value",
        "credential server.workers: server.workers: the text \"lots\" does not fit",
    ] {
        assert!(outcome.err.contains(part), "no {part:?} in:\n{}", outcome.err);
    }
}

#[test]
fn a_secret_file_that_cannot_be_used_is_told() {
    let scratch = Scratch::new();
    let empty = scratch.file("empty", "\n");
    let (shown, missing) = (empty.display().to_string(), scratch.path().join("missing").display().to_string());
    scratch.config(&format!(
        "[database]\nurl_file = \"{missing}\"\n[redis]\nurl_file = \"relative\"\n[wall]\npassword_file = \"{shown}\"\n\
         [storage]\nsecret_access_key_file = 5\n",
    ));
    scratch.refused(&[
        "has 4 errors",
        &format!("line 2: database.url_file: {missing} cannot be read: No such file"),
        "line 4: redis.url_file: the value is not an absolute path",
        &format!("line 6: wall.password_file: {shown} is empty"),
        "line 8: storage.secret_access_key_file: the value is no file name",
    ]);
}

#[test]
fn a_secret_and_its_file_in_one_layer_are_refused() {
    let mut scratch = Scratch::new();
    let path = scratch.file("secret", "x");
    scratch.config(&format!("[wall]\nusername = \"me\"\npassword = \"x\"\npassword_file = {path:?}\n"));
    scratch.refused(&["line 4: wall.password: wall.password and wall.password_file are both set", "Keep one of them."]);
    scratch.config("[wall]\nusername = \"me\"\n");
    scratch.variable("BEACON_WALL__PASSWORD", "x");
    scratch.variable("BEACON_WALL__PASSWORD_FILE", path);
    scratch.refused(&["environment: BEACON_WALL__PASSWORD_FILE: wall.password: ", "are both set"]);
}

#[test]
fn an_env_file_that_everyone_can_read_is_a_warning() {
    let scratch = Scratch::new();
    let path = scratch.file(".env", "AUTH_WALL_REALM=x\n");
    assert_eq!(scratch.run(&["check"]).err, "");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let outcome = scratch.run(&["check"]);
    assert_eq!(outcome.code, 0);
    assert!(outcome.err.contains("can be read by every user") && outcome.err.contains("chmod o-r"), "{}", outcome.err);
}
