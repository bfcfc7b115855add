//! Journeys: Python files of cases, each of which is reported as a line of JSON.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::rig::{PYTHON, Program, Rig, Worker};

/// Runs a file with that Python against a worker, and fails with each case that failed.
#[track_caller]
pub fn run(rig: &Rig, worker: &Worker, python: &Path, file: &str) {
    run_with(rig, worker, python, file, |_| {});
}

/// The same with what the file needs beside the rig's.
#[track_caller]
pub fn run_with(rig: &Rig, worker: &Worker, python: &Path, file: &str, prepare: impl FnOnce(&mut Command)) {
    let mut command = rig.program(python);
    let url = rig.redis.url();
    prepare(&mut command);
    let output = command
        .arg(Path::new(PYTHON).join(file))
        .args(rig.only.iter().flat_map(|words| words.split_whitespace()))
        .env("WORKER", Program::tested().name())
        .env("NODE", &worker.node)
        .env("PROJ_BROKER", &url)
        .env("PROJ_RESULTS", &url)
        .output()
        .unwrap();
    let (report, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let cases: Vec<Value> = report
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{file}: not a report: {line}\n{said}")))
        .collect();
    let failed: Vec<String> = cases
        .iter()
        .filter(|case| case["ok"] != true)
        .map(|case| format!("{}\n{}", case["name"].as_str().unwrap(), case["error"].as_str().unwrap_or_default()))
        .collect();
    assert!(
        failed.is_empty() && output.status.success() && !cases.is_empty(),
        "{file}: {} of {} cases failed:\n{}\n{said}\nThe worker's log:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n"),
        tail(&worker.log())
    );
}

/// The last lines of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
