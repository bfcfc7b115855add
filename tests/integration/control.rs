//! The control socket and the commands that use it, against the running binary.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Beacon, Launch};

/// Runs a command as whoever started `beacon` would, in its folder.
fn run(beacon: &Beacon, words: &[&str]) -> Output {
    run_with(beacon, words, "")
}

fn run_with(beacon: &Beacon, words: &[&str], input: &str) -> Output {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_beacon"))
        .args(words)
        .args(["--config", "beacon.toml"])
        .current_dir(beacon.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", beacon.path())
        .env("RUNTIME_DIRECTORY", beacon.path().join("run"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn ends(output: &Output, code: i32, says: &str) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{says:?} is not in: {text}");
}

#[test]
fn status_tells_what_runs() {
    let beacon = Beacon::with("");
    let socket = beacon.path().join("state/control.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600, "for the owner alone");
    let mut client = beacon.secure();
    assert_eq!(client.get("/").status, 200);
    let output = run(&beacon, &["status", "--json"]);
    ends(&output, 0, "");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let slot = &status["slots"][0];
    assert_eq!(slot["pid"], beacon.pid());
    assert_eq!((&slot["slot"], &slot["state"]), (&Value::Null, &Value::from("serving")));
    assert_eq!(slot["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(slot["connections"], 1);
    assert!(slot["certificates"][0]["days_left"].as_i64().unwrap() > 30, "{slot}");
    let address = beacon.address("https").to_string();
    let listeners = slot["listeners"].as_array().unwrap();
    assert!(listeners.iter().any(|row| row["role"] == "https" && row["address"] == address), "{slot}");
    ends(&run(&beacon, &["status"]), 0, &address);
    ends(&run(&beacon, &["doctor"]), 0, "it can be used");
}

#[test]
fn reload_waits_and_tells_why_it_was_refused() {
    let beacon = Beacon::with("");
    let mut client = beacon.plain();
    let more = beacon.path().join("conf.d/more.toml");
    fs::write(&more, "[http.headers]\nframe_options = \"DENY\"\n").unwrap();
    ends(&run(&beacon, &["reload"]), 0, "loaded again");
    assert_eq!(client.get("/").header("x-frame-options"), Some("DENY"), "in force when the command ends");
    fs::write(&more, "[http.headers]\nframe_options = \"SAMEORIGIN\"\n[listen]\nhttp = [\"1.2.3.4.5:1\"]\n").unwrap();
    ends(&run(&beacon, &["reload"]), 78, "listen.http");
    assert_eq!(client.get("/").header("x-frame-options"), Some("DENY"), "a refused one changes nothing");
    // The state folder is the configuration's: with one that is wrong the process is found by its runtime folder alone.
    fs::write(&more, "").unwrap();
    ends(&run(&beacon, &["reload"]), 0, "");
}

#[test]
fn a_slot_is_found_in_its_runtime_folder() {
    let launch = Launch::new();
    let folder = launch.path().join("run");
    fs::create_dir(&folder).unwrap();
    let beacon = launch.env("BEACON_SLOT", "b").env("RUNTIME_DIRECTORY", folder.to_str().unwrap()).start();
    assert!(folder.join("b.sock").exists());
    ends(&run(&beacon, &["status"]), 0, "beacon@b  serving");
    ends(&run(&beacon, &["reload", "--slot", "b"]), 0, "loaded again");
    ends(&run(&beacon, &["reload", "--slot", "a"]), 69, "no Beacon runs");
    fs::write(beacon.path().join("conf.d/more.toml"), "nonsense = 1").unwrap();
    ends(&run(&beacon, &["reload"]), 78, "nonsense");
    ends(&run(&beacon, &["status"]), 0, "refused");
}

#[test]
fn without_a_process_commands_say_so() {
    let mut beacon = Beacon::with("");
    beacon.signal("TERM");
    beacon.wait_end();
    assert!(!beacon.path().join("state/control.sock").exists(), "the socket goes with the process");
    ends(&run(&beacon, &["status"]), 69, "no Beacon runs");
    ends(&run(&beacon, &["reload"]), 69, "no Beacon runs");
    fs::write(beacon.path().join("conf.d/more.toml"), "nonsense = 1").unwrap();
    ends(&run(&beacon, &["reload"]), 78, "nonsense");
    ends(&run(&beacon, &["doctor"]), 1, "nonsense");
}

#[test]
fn a_killed_process_leaves_a_socket_that_the_next_one_replaces() {
    let mut beacon = Beacon::with("");
    beacon.signal("KILL");
    beacon.wait_end();
    ends(&run(&beacon, &["status"]), 69, "no Beacon runs");
    let mut next = Command::new(env!("CARGO_BIN_EXE_beacon"))
        .args(["serve", "--config", "beacon.toml"])
        .current_dir(beacon.path())
        .env("HOME", beacon.path())
        .env("BEACON_MANAGED__POSTGRES", "off")
        .env("BEACON_MANAGED__REDIS", "off")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    crate::support::until("the next one answers", || run(&beacon, &["status"]).status.success().then_some(()));
    next.kill().unwrap();
    next.wait().unwrap();
}

#[test]
fn a_backup_comes_back() {
    let mut beacon = Beacon::with("");
    let ca = beacon.path().join("state/tls/ca.crt");
    let before = fs::read(&ca).unwrap();
    ends(&run(&beacon, &["backup", "b.tar.zst"]), 0, "b.tar.zst holds");
    assert_eq!(beacon.path().join("b.tar.zst").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let piped = run(&beacon, &["backup", "-"]);
    ends(&piped, 0, "");
    assert!(!piped.stdout.is_empty());
    ends(&run(&beacon, &["restore", "b.tar.zst"]), 1, "a Beacon runs here");
    beacon.signal("TERM");
    beacon.wait_end();
    fs::write(&ca, "lost").unwrap();
    ends(&run(&beacon, &["restore", "b.tar.zst"]), 0, "is restored");
    assert_eq!(fs::read(&ca).unwrap(), before);
    ends(&run(&beacon, &["restore", "none.tar.zst"]), 78, "Nothing was changed");
}

#[test]
fn the_file_of_variables_is_installed_from_standard_input() {
    let beacon = Beacon::with("");
    let file = beacon.path().join("etc/beacon.env");
    let words = |action: &'static str| ["env", action, "-", "--file", "etc/beacon.env"];
    ends(
        &run_with(&beacon, &words("install"), "AUTH_WALL_USERNAME=staff\nAUTH_WALL_PASSWORD=hush\n"),
        0,
        "+ AUTH_WALL_PASSWORD",
    );
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let wrong = run_with(&beacon, &words("install"), "AUTH_WALL_USERNAME=staff\n");
    ends(&wrong, 78, "Nothing was changed");
    let different = run_with(&beacon, &words("diff"), "AUTH_WALL_USERNAME=staff\nAUTH_WALL_PASSWORD=other\n");
    ends(&different, 1, "~ AUTH_WALL_PASSWORD");
    assert!(!String::from_utf8_lossy(&different.stdout).contains("other"), "values are never shown");
    ends(&run_with(&beacon, &words("diff"), &fs::read_to_string(&file).unwrap()), 0, "");
}
