//! Journeys: files whose cases can be read without running them, and what running them reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::stage::{Stage, secret_key};
use crate::support::JWT_SECRET;
use crate::{node, python};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// A file of cases.
pub struct Journey {
    /// The client, as the page about the coverage calls it.
    pub client: &'static str,
    file: &'static str,
}

/// A case as its file declares it.
pub struct Case {
    /// The capabilities that it covers.
    pub ids: Vec<String>,
    /// What it checks.
    pub name: String,
}

impl Journey {
    pub const JAVASCRIPT_DATA: Self = Self { client: "supabase-js", file: "javascript/data.mjs" };
    pub const JAVASCRIPT_ACCOUNTS: Self = Self { client: "supabase-js", file: "javascript/accounts.mjs" };
    pub const JAVASCRIPT_GATEWAY: Self = Self { client: "supabase-js", file: "javascript/gateway.mjs" };
    pub const JAVASCRIPT_PROVIDERS: Self = Self { client: "supabase-js", file: "javascript/providers.mjs" };
    pub const PYTHON_DATA: Self = Self { client: "supabase-py", file: "python/data.py" };
    pub const PYTHON_ACCOUNTS: Self = Self { client: "supabase-py", file: "python/accounts.py" };
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::JAVASCRIPT_DATA,
        Self::JAVASCRIPT_ACCOUNTS,
        Self::JAVASCRIPT_GATEWAY,
        Self::JAVASCRIPT_PROVIDERS,
        Self::PYTHON_DATA,
        Self::PYTHON_ACCOUNTS,
    ];

    /// The cases, read from the lines that begin with `await check(` or `@check(`.
    pub fn cases(&self) -> Vec<Case> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        let opening = if self.in_python() { "@check(" } else { "await check(" };
        let lines = text.lines().filter_map(|line| line.strip_prefix(opening));
        lines
            .map(|line| {
                let (ids, rest) = literal(line);
                let (name, _) = literal(rest.trim_start_matches([',', ' ']));
                Case { ids: ids.split(' ').map(str::to_owned).collect(), name }
            })
            .collect()
    }

    /// Runs it, and fails on each case that failed, was not reported, or is not declared.
    #[track_caller]
    pub fn run(&self, stage: &Stage) {
        let output = self
            .command()
            .env("BEACON_ORIGIN", stage.origin())
            .env("BEACON_PUBLISHABLE", stage.publishable())
            .env("BEACON_SECRET", secret_key())
            .env("BEACON_JWT_SECRET", JWT_SECRET)
            .env("BEACON_MAILBOX", stage.mailbox())
            .env("BEACON_PROVIDER_PORT", stage.provider().to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.file));
        let (report, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut reports: BTreeMap<String, Value> = BTreeMap::new();
        for line in report.lines() {
            let entry: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not a report: {line}"));
            let name = entry["name"].as_str().unwrap_or_default().to_owned();
            assert!(reports.insert(name.clone(), entry).is_none(), "two cases have the name {name:?}");
        }
        let cases = self.cases();
        assert!(!cases.is_empty(), "{} declares no case", self.file);
        let mut faults = Vec::new();
        for case in &cases {
            match reports.remove(&case.name) {
                Some(entry) if entry["ok"] == true => {}
                Some(entry) => {
                    faults.push(format!("{}\n    {}", case.name, entry["error"].as_str().unwrap_or_default()));
                }
                None => faults.push(format!("{}\n    was not reported", case.name)),
            }
        }
        faults.extend(reports.into_keys().map(|name| format!("{name}\n    is not declared where it can be read")));
        let (failed, all) = (faults.len(), cases.len());
        assert!(
            faults.is_empty(),
            "{failed} of {all} cases of {} failed:\n  {}\n{said}\nBeacon's log:\n{}",
            self.file,
            faults.join("\n  "),
            warnings(&stage.log())
        );
        assert!(output.status.success(), "{} failed after its cases:\n{said}", self.file);
    }

    fn in_python(&self) -> bool {
        self.client == "supabase-py"
    }

    fn path(&self) -> PathBuf {
        Path::new(HERE).join(self.file)
    }

    fn command(&self) -> Command {
        if self.in_python() {
            let mut command =
                Command::new(python::environment(&Path::new(HERE).join("python/requirements.txt"), "clients"));
            command.arg(self.path()).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1");
            return command;
        }
        let mut command = Command::new("node");
        let modules = node::packages(&Path::new(HERE).join("javascript"), "clients");
        command.arg("--no-deprecation").arg(self.path()).env("BEACON_MODULES", modules);
        command
    }
}

/// The text of a literal in single or double quotes at the start, and what follows.
fn literal(text: &str) -> (String, &str) {
    let quote =
        text.chars().next().filter(|first| matches!(first, '\'' | '"')).unwrap_or_else(|| panic!("no literal: {text}"));
    let mut value = String::new();
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => {
                value.push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            _ if letter == quote => return (value, &text[at + 1..]),
            _ => value.push(letter),
        }
    }
    panic!("the literal does not end: {text}")
}

/// The last lines of a log that are more than information.
fn warnings(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"level\":\"INFO\"")).collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
