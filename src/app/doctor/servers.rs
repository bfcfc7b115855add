//! The private servers: whether they are kept, and whether their programs are there.

use std::fs;
use std::path::Path;

use super::{Report, database};
use crate::app::managed::wanted;
use crate::config::Config;
use crate::managed::{Mode, Programs, Told, running};
use crate::process::Fault;
use crate::systemd::systemctl;

const SUBJECT: &str = "servers";
const UNIT: &str = "beacon-managed.service";

/// The private servers that the configuration wants, and the database, be it private or not.
pub(super) fn examine(report: &mut Report, config: &Config, state: &Path) {
    let wanted = wanted(config);
    if !config.database.url.is_empty() {
        database::examine(report, config, &config.database.url);
        if state.join("postgres/PG_VERSION").exists() {
            report.ok(SUBJECT, "a private database lies unused in the state folder: database.url names another");
        }
    }
    if !wanted.postgres && !wanted.redis {
        return;
    }
    let Some(record) = running(state) else { return idle(report, config, state) };
    let keeper = record.pid;
    for (name, wanted, mode, told) in [
        ("PostgreSQL", wanted.postgres, config.managed.postgres, &record.postgres),
        ("Redis", wanted.redis, config.managed.redis, &record.redis),
    ] {
        match told {
            _ if !wanted => {}
            Some(Told::Ready) => report.ok(SUBJECT, format!("the private {name} runs, kept by process {keeper}")),
            Some(Told::Starting) => report.warn(SUBJECT, format!("the private {name} is being started"), "Ask again."),
            Some(Told::Down(reason)) => {
                trouble(
                    report,
                    mode,
                    format!("the private {name} does not run: {reason}"),
                    "See its log: journalctl -u beacon-managed",
                );
            }
            None => trouble(
                report,
                mode,
                format!("process {keeper} keeps the private servers, and was configured to have no {name}"),
                "Run: systemctl restart beacon-managed",
            ),
        }
    }
    if wanted.postgres
        && record.postgres == Some(Told::Ready)
        && let Some(url) = record.database_url()
    {
        database::examine(report, config, &url);
    }
    if wanted.redis {
        overcommit(report, Path::new("/proc/sys/vm/overcommit_memory"));
    }
}

/// Nobody keeps them.
fn idle(report: &mut Report, config: &Config, state: &Path) {
    let wanted = wanted(config);
    if wanted.postgres
        && let Some(Fault(text)) = programs(config, state)
    {
        return trouble(report, config.managed.postgres, text, "Until then there is no database.");
    }
    let unit = systemctl(&["show", "--property=LoadState", "--value", UNIT], std::time::Duration::from_secs(10));
    if unit.is_ok_and(|output| output.stdout.trim_ascii() == b"loaded") {
        report.warn(
            SUBJECT,
            format!("the private servers do not run: {UNIT} keeps them"),
            "Run: systemctl start beacon-managed",
        );
    } else {
        report.ok(SUBJECT, "private servers start with `beacon serve`");
    }
}

/// What is in the way of starting PostgreSQL.
fn programs(config: &Config, state: &Path) -> Option<Fault> {
    let version = fs::read_to_string(state.join("postgres/PG_VERSION")).ok().and_then(|text| text.trim().parse().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(Programs::find(&config.managed.postgres_programs, version)).err()
}

fn trouble(report: &mut Report, mode: Mode, text: String, fix: &str) {
    // Who has not asked for a private server serves without one.
    if mode == Mode::On { report.fail(SUBJECT, text, fix) } else { report.warn(SUBJECT, text, fix) }
}

/// To save its data, Redis forks: without overcommitting, the kernel may refuse that for want of memory that is never used.
fn overcommit(report: &mut Report, file: &Path) {
    if fs::read_to_string(file).is_ok_and(|text| text.trim() == "2") {
        report.warn(
            SUBJECT,
            "vm.overcommit_memory is 2: the kernel may refuse Redis the copy of itself that it saves its data with",
            "Run: sysctl -w vm.overcommit_memory=1, and write that into /etc/sysctl.d/beacon.conf.",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn missing_programs_are_told_by_how_much_they_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.managed.postgres_programs = folder.path().to_owned();
        let level = |config: &Config| {
            let mut report = Report::default();
            examine(&mut report, config, folder.path());
            report.worst()
        };
        assert_eq!(level(&config), Level::Warn);
        config.managed.postgres = Mode::On;
        assert_eq!(level(&config), Level::Fail);
        config.managed.postgres = Mode::Off;
        config.managed.redis = Mode::Off;
        assert_eq!(level(&config), Level::Ok);
    }

    #[test]
    fn a_kernel_that_counts_every_page_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("overcommit_memory");
        for (text, expected) in [("0\n", Level::Ok), ("1\n", Level::Ok), ("2\n", Level::Warn)] {
            fs::write(&file, text).unwrap();
            let mut report = Report::default();
            overcommit(&mut report, &file);
            assert_eq!(report.worst(), expected, "{text}");
        }
    }
}
