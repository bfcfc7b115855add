//! Runs a journey in Chromium through node, and holds its report against what was to be checked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::node::packages;
use crate::server::Server;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");
const CHROMIUM: &str = "/usr/bin/chromium";

/// Runs a journey, and fails on each check that failed, was not made, or is not in `expected`.
pub fn journey(server: &Server, name: &str, expected: &[&str]) {
    let output = run(server, name, Path::new(""));
    let report = String::from_utf8_lossy(&output.stdout);
    let mut checks: BTreeMap<String, (bool, String)> = BTreeMap::new();
    for line in report.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not a check: {line}"));
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        checks.insert(text("check"), (entry["ok"] == true, text("detail")));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut faults = Vec::new();
    for check in expected {
        match checks.remove(*check) {
            Some((true, _)) => println!("{name}: {check}"),
            Some((false, detail)) => faults.push(format!("{check}\n    {detail}")),
            None => faults.push(format!("{check}\n    was not checked")),
        }
    }
    faults.extend(checks.into_keys().map(|check| format!("{check}\n    is not in the list of what is expected")));
    assert!(faults.is_empty(), "journey {name}:\n  {}\n{said}", faults.join("\n  "));
    assert!(output.status.success(), "journey {name} failed:\n{said}");
}

/// Lets a journey take pictures, and returns their folder.
pub fn look(server: &Server, name: &str) -> PathBuf {
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    fs::create_dir_all(&pictures).unwrap();
    let output = run(server, name, &pictures);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    pictures
}

fn run(server: &Server, name: &str, pictures: &Path) -> Output {
    assert!(
        Path::new(CHROMIUM).exists(),
        "there is no {CHROMIUM}, which the browser tests drive: apt-get install chromium"
    );
    Command::new("node")
        .arg(format!("{HERE}/journey.mjs"))
        .arg(name)
        .env("BEACON_ORIGIN", server.origin())
        .env("BEACON_CERTIFICATE", server.certificate())
        .env("BEACON_MODULES", packages(Path::new(HERE), "browser"))
        .env("BEACON_CHROMIUM", CHROMIUM)
        .env("BEACON_PICTURES", pictures)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run node ({error}): apt-get install nodejs"))
}
