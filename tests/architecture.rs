//! The house's rules: who may import whom, what each file has, and what the program is made of.
//!
//! A module imports from rows below its own only. That keeps the modules free of cycles, which the compiler alone would
//! allow. The table is the one of the architecture page in the documentation.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every module and its row.
const ROWS: &[(u8, &[&str])] = &[
    (8, &["cli"]),
    (7, &["app", "config"]),
    (6, &["console"]),
    (5, &["api", "apps", "docs", "jobs", "media", "site"]),
    (4, &["auth"]),
    (3, &["http", "proxy", "tasks"]),
    (2, &["db", "redis", "storage", "tls", "net", "managed", "mail"]),
    (1, &["lifecycle", "process", "systemd", "telemetry"]),
    (0, &["assets", "clock", "error", "id", "secret"]),
];

/// Imports within a row that are allowed.
const SIDEWAYS: &[(&str, &str)] = &[("app", "config"), ("proxy", "http")];

/// Names that say nothing: a function without a home names a missing concept.
const NAMELESS: &[&str] = &["util", "utils", "common", "helpers", "core", "types", "models", "misc"];

/// Lines of code, tests left out, that a file may have.
const MAX_LINES: usize = 600;

/// Licences that a dependency may have, one of them at least where it offers several.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "CC0-1.0",
    "OpenSSL",
    "CDLA-Permissive-2.0",
    "BSL-1.0",
    "MIT-0",
];

/// Crates that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "one TLS provider in the whole tree: aws-lc-rs"),
    ("native-tls", "one TLS provider in the whole tree: aws-lc-rs"),
    ("ring", "one TLS provider in the whole tree: aws-lc-rs; two make rustls panic when it chooses"),
];

/// Crates that are there in more than one version because two of our dependencies disagree. Shorten this list when you
/// can; a new entry needs a reason in its commit.
const TWICE: &[&str] = &[
    "base64",
    "const-oid",
    "crypto-common",
    "digest",
    "getrandom",
    "nom",
    "pem",
    "phf",
    "phf_shared",
    "rand",
    "rand_core",
    "socket2",
    "syn",
    "synstructure",
    "untrusted",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn row(module: &str) -> Option<u8> {
    ROWS.iter().find(|(_, modules)| modules.contains(&module)).map(|(row, _)| *row)
}

/// Every Rust file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The top-level module that a file below src/ belongs to; none for lib.rs and main.rs.
fn module_of(path: &Path) -> Option<String> {
    let relative = path.strip_prefix(root().join("src")).unwrap();
    let first = relative.iter().next().unwrap().to_str().unwrap();
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "lib" | "main")).then(|| name.to_owned())
}

/// The modules named after `crate::`, singly or in braces, in code (comments may speak of anything).
fn imports(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).fold(String::new(), |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        });
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        // `$crate::` and `some_crate::` are not ours.
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '$') {
            continue;
        }
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => top_level(list),
            None => vec![rest],
        };
        for name in names {
            let word: String = name.trim().chars().take_while(|ch| ch.is_alphanumeric() || *ch == '_').collect();
            if !word.is_empty() {
                found.insert(word);
            }
        }
    }
    found
}

/// The members of a braced list that has just been opened, each with what is nested in it.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (1, 0, Vec::new());
    for (at, ch) in list.char_indices() {
        match ch {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                members.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            members.push(&list[start..at]);
            break;
        }
    }
    members
}

#[test]
fn modules_import_from_rows_below_their_own() {
    let mut faults = Vec::new();
    for path in files(&root().join("src")) {
        let Some(module) = module_of(&path) else { continue };
        let shown = path.strip_prefix(root()).unwrap().display();
        let Some(own) = row(&module) else {
            faults.push(format!("{shown}: the module {module} has no row"));
            continue;
        };
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            if import == module {
                continue;
            }
            match row(&import) {
                Some(other) if other < own => {}
                Some(other) if other == own && SIDEWAYS.contains(&(&module, &import)) => {}
                Some(other) => faults.push(format!("{shown} (row {own}) imports {import} (row {other})")),
                None => faults.push(format!("{shown} imports {import}, which has no row")),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let text = "use crate::{auth, http::{self, Body}, tls};\nuse crate::net::Address;\nfn f() { crate::clock::millis(); }\n\
                // crate::site is only spoken of\nuse some_crate::api;";
    let found: Vec<String> = imports(text).into_iter().collect();
    assert_eq!(found, ["auth", "clock", "http", "net", "tls"]);
}

#[test]
fn files_say_what_they_are_for_and_stay_short() {
    let mut faults = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in files(&root().join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            let shown = path.strip_prefix(root()).unwrap().display().to_string();
            if !text.starts_with("//!") {
                faults.push(format!("{shown} does not open with //!"));
            }
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count();
            if folder == "src" && code > MAX_LINES {
                faults.push(format!("{shown} has {code} lines of code"));
            }
            let stem = path.file_stem().unwrap().to_str().unwrap();
            if NAMELESS.contains(&stem) || path.iter().any(|part| NAMELESS.contains(&part.to_str().unwrap())) {
                faults.push(format!("{shown} has a name that says nothing"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_code_stands_in_files_of_its_own() {
    let with: Vec<String> = files(&root().join("src"))
        .into_iter()
        .filter(|path| fs::read_to_string(path).unwrap().contains("expect(unsafe_code"))
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    assert_eq!(
        with,
        ["src/cli/nss.rs", "src/process/before_exec.rs", "src/systemd/sockets.rs"],
        "a new exception needs a reason in its commit"
    );
}

/// Every crate in the tree, those of builds and tests too: name, version, where it comes from unless from the registry,
/// and licence. (`cargo metadata` names crates besides that no feature asks for.)
fn dependencies() -> Vec<(String, String, String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix", "none", "--edges", "normal,build,dev", "--format", "{p}|{l}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            let (package, licence) = line.trim_end_matches(" (*)").split_once('|')?;
            let mut words = package.split(' ');
            let (name, version) = (words.next()?, words.next()?);
            let from = words.filter(|word| !word.starts_with("(proc-macro)")).collect::<Vec<_>>().join(" ");
            Some((name.to_owned(), version.to_owned(), from, licence.to_owned()))
        })
        .collect();
    rows.into_iter().filter(|(name, ..)| name != "beacon").collect()
}

/// Whether an SPDX expression can be met with the licences we take. Parentheses and OR are all that occurs.
fn is_free(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())))
}

#[test]
fn dependencies_are_free_wanted_and_from_the_registry() {
    let mut faults = Vec::new();
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let dependencies = dependencies();
    assert!(dependencies.len() > 100, "the tree was not read");
    for (name, version, from, licence) in dependencies {
        if !is_free(&licence) {
            faults.push(format!("{name} {version}: the licence {licence} is not on the list"));
        }
        if !from.is_empty() {
            faults.push(format!("{name} {version} comes from {from}, not from the registry"));
        }
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            faults.push(format!("{name} {version} must not come in: {why}"));
        }
        versions.entry(name).or_default().insert(version);
    }
    for (name, list) in &versions {
        if list.len() > 1 && !TWICE.contains(&name.as_str()) {
            faults.push(format!("{name} is there in {} versions: {list:?}", list.len()));
        }
    }
    for name in TWICE {
        if versions.get(*name).is_none_or(|list| list.len() < 2) {
            faults.push(format!("{name} is there in one version only; take it off the list"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
