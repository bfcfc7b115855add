//! The settings of the private PostgreSQL.
//!
//! postgresql.conf is written once, when the folder is made, and is the operator's from then on. It includes beacon.conf,
//! which is written anew at each start; who may come in (pg_hba.conf, pg_ident.conf) is too. What must not be otherwise
//! goes on the command line, which nothing overrides.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::super::memory;
use super::{OWNER, Programs, SUPERUSER};
use crate::managed::{Config, place};
use crate::process::{Fault, User};

const MIB: u64 = 1 << 20;

const FIRST: &str = "\
# The private PostgreSQL of Beacon.
#
# Beacon's choices are in beacon.conf, which it writes anew at each start. What you set below goes before them, and
# managed.postgres_settings in Beacon's own configuration does too; where it listens is fixed. A restart takes it over.
include 'beacon.conf'
";

/// Writes what stands in the folder before its first start.
pub(super) fn first(data: &Path, user: Option<&User>) -> io::Result<()> {
    place::write(&data.join("postgresql.conf"), FIRST, user)
}

/// Writes what is written anew at each start.
pub(super) fn write(data: &Path, config: &Config, programs: &Programs, user: Option<&User>) -> Result<(), Fault> {
    let accounts = accounts(user);
    for (name, text) in [
        ("beacon.conf", chosen(memory::total(), config, programs.major)),
        ("pg_hba.conf", HBA.to_owned()),
        ("pg_ident.conf", ident(&accounts)),
    ] {
        let path = data.join(name);
        place::write(&path, &text, user).map_err(|error| place::cannot(&path, &error))?;
    }
    Ok(())
}

/// Settings for the command line.
pub(super) fn fixed(sockets: &Path) -> Vec<String> {
    vec![
        "listen_addresses=".into(),
        "port=5432".into(),
        // A list, in which quotes keep a comma or a space of a name from meaning anything.
        format!("unix_socket_directories=\"{}\"", sockets.display().to_string().replace('"', "\"\"")),
        "unix_socket_permissions=0700".into(),
        "logging_collector=off".into(),
        "log_destination=stderr".into(),
        "log_line_prefix=%b|%e|".into(),
    ]
}

/// What fits a server that shares its host with Beacon, and what Beacon needs.
fn chosen(memory: u64, config: &Config, major: u32) -> String {
    let mut text = String::from("# Written by Beacon at each start. Yours goes into postgresql.conf.\n");
    let buffers = (memory / 8 / MIB).clamp(32, 8 << 10);
    let upkeep = (memory / 32 / MIB).clamp(32, 1 << 10);
    let settings: &[(&str, String)] = &[
        ("cluster_name", "beacon".into()),
        ("max_connections", "100".into()),
        ("shared_buffers", format!("{buffers}MB")),
        ("effective_cache_size", format!("{}MB", (memory / 2 / MIB).max(64))),
        ("maintenance_work_mem", format!("{upkeep}MB")),
        ("work_mem", format!("{}MB", (memory / 512 / MIB).clamp(4, 32))),
        // Durable, whatever a template may say.
        ("fsync", "on".into()),
        ("full_page_writes", "on".into()),
        ("synchronous_commit", "on".into()),
        // Changes can be followed (realtime), and a follower that went away cannot fill the disk.
        ("wal_level", "logical".into()),
        ("max_wal_size", "1GB".into()),
        ("max_slot_wal_keep_size", "2GB".into()),
        ("wal_compression", "on".into()),
        ("checkpoint_timeout", "15min".into()),
        ("checkpoint_completion_target", "0.9".into()),
        // Solid state disks.
        ("random_page_cost", "1.1".into()),
        // Short statements: compiling them takes longer than running them.
        ("jit", "off".into()),
        ("idle_in_transaction_session_timeout", "5min".into()),
        ("client_connection_check_interval", "10s".into()),
        ("password_encryption", "scram-sha-256".into()),
        ("timezone", "UTC".into()),
        ("log_timezone", "UTC".into()),
        ("lc_messages", "C".into()),
        ("default_text_search_config", "pg_catalog.english".into()),
        // No values and statements of clients in the log.
        ("log_error_verbosity", "terse".into()),
        ("log_min_error_statement", "panic".into()),
        ("log_min_messages", "warning".into()),
        ("log_checkpoints", "off".into()),
        ("log_autovacuum_min_duration", "-1".into()),
        ("track_io_timing", "on".into()),
    ];
    let given = config.postgres_settings.iter().map(|(name, value)| (name.as_str(), value));
    let _ = writeln!(text, "# For {} MiB of memory and PostgreSQL {major}.", memory / MIB);
    for (name, value) in settings.iter().map(|(name, value)| (*name, value)).chain(given) {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "''"));
    }
    text
}

/// Who comes in over the socket: the accounts of pg_ident.conf as the two roles of the keeper, and everybody else who
/// reaches the socket with a password. Nobody else reaches it.
const HBA: &str = "\
# Written by Beacon at each start.
# Under these two names, the accounts that pg_ident.conf lists; under any other, whoever knows its password.
local  all          postgres,beacon  peer map=beacon
local  all          all              scram-sha-256
local  replication  postgres         peer map=beacon
local  replication  all              reject
";

fn ident(accounts: &[String]) -> String {
    let mut text = String::from("# Written by Beacon at each start.\n");
    for account in accounts {
        for role in [SUPERUSER, OWNER] {
            let _ = writeln!(text, "beacon \"{}\" {role}", account.replace('"', ""));
        }
    }
    text
}

/// The accounts that may come in: root, the one of the server, and ours.
fn accounts(user: Option<&User>) -> Vec<String> {
    let own = rustix::process::geteuid().as_raw();
    let own = User::of(own).map_or_else(|| asked(own), |user| Some(user.name));
    let mut all: Vec<String> =
        ["root".into()].into_iter().chain(user.map(|user| user.name.clone())).chain(own).collect();
    all.sort();
    all.dedup();
    all
}

/// The name of an account that is not in /etc/passwd, from a program that may ask the host's modules.
fn asked(uid: u32) -> Option<String> {
    let output = std::process::Command::new("id").args(["-un", &uid.to_string()]).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_out_and_a_setting_of_the_operator_comes_last() {
        let mut config = Config::default();
        config.postgres_settings.insert("shared_buffers".into(), "1GB".into());
        config.postgres_settings.insert("search_path".into(), "a'b\\".into());
        let text = chosen(4 << 30, &config, 15);
        let lines: Vec<&str> = text.lines().collect();
        let at =
            |line: &str| lines.iter().position(|have| *have == line).unwrap_or_else(|| panic!("no {line} in {text}"));
        assert!(at("shared_buffers = '512MB'") < at("shared_buffers = '1GB'"));
        at("search_path = 'a''b\\\\'");
        at("effective_cache_size = '2048MB'");
        assert!(chosen(128 << 20, &Config::default(), 15).contains("shared_buffers = '32MB'"));
        assert!(chosen(1 << 40, &Config::default(), 15).contains("shared_buffers = '8192MB'"));
    }

    #[test]
    fn accounts_come_in_as_both_roles() {
        let text = ident(&["root".into(), "ada".into()]);
        assert!(text.contains("beacon \"ada\" postgres\nbeacon \"ada\" beacon\n"), "{text}");
        assert!(accounts(None).contains(&"root".to_owned()));
    }
}
