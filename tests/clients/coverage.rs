//! The documentation's page about which capabilities of the clients work: made of the journeys' cases, and kept up to date
//! by a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::journey::Journey;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/docs/guide/api-coverage.md");
const CAPABILITIES: &str = include_str!("capabilities.txt");

const HEAD: &str = "---
title: API coverage
order: 19
description: Which capabilities of the supabase-js family of clients work with Beacon, and which do not.
---

# API coverage

Beacon's API speaks the dialect of the supabase-js family of clients. The table has every capability of the clients'
public matrix, by its id, and says which of Beacon's tests drive it with a published client. It is made from those tests.

";

/// The areas of the matrix, in its order.
const AREAS: &[(&str, &str)] = &[
    ("database", "Database"),
    ("auth", "Accounts"),
    ("client", "Client"),
    ("storage", "Storage"),
    ("realtime", "Realtime"),
    ("functions", "Functions"),
];

/// An id of the matrix, and why Beacon does not have it.
fn capabilities() -> Vec<(&'static str, Option<&'static str>)> {
    let lines = CAPABILITIES.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once('\t').map_or((line, None), |(id, reason)| (id, Some(reason)))).collect()
}

/// For each id the clients that a case covers it with, and the cases' number.
fn covered() -> BTreeMap<String, (BTreeSet<&'static str>, usize)> {
    let mut found: BTreeMap<String, (BTreeSet<&'static str>, usize)> = BTreeMap::new();
    for journey in Journey::ALL {
        for case in journey.cases() {
            for id in case.ids {
                let entry = found.entry(id).or_default();
                entry.0.insert(journey.client);
                entry.1 += 1;
            }
        }
    }
    found
}

fn page() -> String {
    let covered = covered();
    let capabilities = capabilities();
    let mut page = HEAD.to_owned();
    let _ = writeln!(page, "| Area | Capabilities | Work |\n| --- | --- | --- |");
    for (area, title) in AREAS {
        let within = |id: &str| id.split('.').next() == Some(area);
        let all = capabilities.iter().filter(|(id, _)| within(id)).count();
        let works = capabilities.iter().filter(|(id, reason)| within(id) && reason.is_none()).count();
        let _ = writeln!(page, "| {title} | {all} | {works} |");
    }
    for (area, title) in AREAS {
        let _ = writeln!(page, "\n## {title}\n\n| Capability | Works | Driven by |\n| --- | --- | --- |");
        for (id, reason) in capabilities.iter().filter(|(id, _)| id.split('.').next() == Some(area)) {
            let (works, by) = match (reason, covered.get(*id)) {
                (Some(reason), _) => ("no", (*reason).to_owned()),
                (None, Some((clients, cases))) => {
                    let clients: Vec<&str> = clients.iter().copied().collect();
                    let word = if *cases == 1 { "case" } else { "cases" };
                    ("yes", format!("{} ({cases} {word})", clients.join(", ")))
                }
                (None, None) => ("yes", "no case".to_owned()),
            };
            let _ = writeln!(page, "| `{id}` | {works} | {by} |");
        }
    }
    page
}

#[test]
fn every_capability_has_a_case_or_a_reason() {
    let covered = covered();
    let capabilities = capabilities();
    let known: BTreeSet<&str> = capabilities.iter().map(|(id, _)| *id).collect();
    assert_eq!(known.len(), capabilities.len(), "an id is listed twice");
    let bare: Vec<&str> = capabilities
        .iter()
        .filter(|(id, reason)| reason.is_none() && !covered.contains_key(*id))
        .map(|(id, _)| *id)
        .collect();
    assert!(bare.is_empty(), "no case covers {bare:#?}");
    let unknown: Vec<&String> = covered.keys().filter(|id| !known.contains(id.as_str())).collect();
    assert!(unknown.is_empty(), "cases name what is not in capabilities.txt: {unknown:#?}");
}

#[test]
fn the_page_is_up_to_date() {
    let page = page();
    if std::env::var_os("BEACON_RENEW").is_some() {
        std::fs::create_dir_all(Path::new(PAGE).parent().unwrap()).unwrap();
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        written == page,
        "{PAGE} is not what the cases say. BEACON_RENEW=1 cargo test --test clients coverage writes it."
    );
}
