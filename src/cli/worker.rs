//! `beacon worker`: tasks without the edge, with the flags that unit files have for `celery worker`.
//!
//! A flag of Celery's that Beacon has no use for is taken when leaving it out would change nothing for the user, and
//! refused with the reason otherwise.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::app::worker::Options;
use crate::config::{Sources, load};
use crate::secret::Secret;

/// Runs background tasks, and nothing else
///
/// Tasks of the configuration ([handlers]) and, with --app, those of a Celery application, whose own settings say which
/// Redis and which queues. The flags are those of `celery worker`, so that in a unit file the program's name is all that
/// changes. SIGTERM stops it after the tasks that run are done, or given back to their queue; a second one hurries.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon worker                                        the tasks of the configuration
  beacon worker -A mysite -c 4 -Q celery,mail -l INFO  those of a Celery application, too
  beacon -A mysite worker -n w1@%h -E                  as `celery -A mysite worker` is written")]
#[expect(clippy::struct_excessive_bools, reason = "they are the flags of a command line")]
pub(super) struct Worker {
    /// The Celery application: "mysite", "mysite.celery:app"
    #[arg(short = 'A', long, value_name = "APP")]
    app: Option<String>,

    /// The Redis that carries messages [default: the application's, else the configuration's]
    #[arg(short, long, value_name = "URL")]
    broker: Option<String>,

    /// The Redis that keeps results [default: the application's, else the broker's]
    #[arg(long, value_name = "URL")]
    result_backend: Option<String>,

    /// Works in this folder
    #[arg(long, value_name = "FOLDER")]
    workdir: Option<PathBuf>,

    /// The module with the application's settings, as Celery's --config
    #[arg(long, value_name = "MODULE")]
    celery_config: Option<String>,

    /// The worker's name; %h is the host, %n the part before @, %d the domain
    #[arg(short = 'n', long = "hostname", visible_alias = "name", value_name = "NAME")]
    name: Option<String>,

    /// Tasks at once; for a Celery application, processes
    #[arg(short, long, value_name = "NUMBER|auto")]
    concurrency: Option<String>,

    /// Queues, separated by commas
    #[arg(short = 'Q', long, value_name = "QUEUES", value_delimiter = ',')]
    queues: Vec<String>,

    /// Queues of the application that are left out
    #[arg(short = 'X', long, value_name = "QUEUES", value_delimiter = ',')]
    exclude_queues: Vec<String>,

    /// Modules that are imported besides the application's
    #[arg(short = 'I', long, value_name = "MODULES", value_delimiter = ',')]
    include: Vec<String>,

    /// What is logged: DEBUG, INFO, WARNING, ERROR, CRITICAL
    #[arg(short, long, value_name = "LEVEL")]
    loglevel: Option<String>,

    /// Writes the log into this file
    #[arg(short = 'f', long, value_name = "FILE")]
    logfile: Option<PathBuf>,

    /// Writes the number of the process into this file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,

    /// Publishes events about tasks, for Flower and `celery events`
    #[arg(short = 'E', long, visible_alias = "events")]
    task_events: bool,

    /// Ends a task by force after so many seconds
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<f64>,

    /// Asks a task to end after so many seconds
    #[arg(long, value_name = "SECONDS")]
    soft_time_limit: Option<f64>,

    /// Replaces a process after so many tasks
    #[arg(long, value_name = "NUMBER")]
    max_tasks_per_child: Option<u32>,

    /// Replaces a process whose memory is larger after a task, in KiB
    #[arg(long, value_name = "KIB")]
    max_memory_per_child: Option<u64>,

    /// Empties the queues first
    #[arg(long, visible_alias = "discard")]
    purge: bool,

    /// Sends the scheduled tasks of the application and of the configuration, too
    #[arg(short = 'B', long)]
    beat: bool,

    /// Is beacon-worker.service: ends at once if the configuration has nothing for it
    #[arg(long, hide = true)]
    unit: bool,

    /// Serves /metrics, /healthz and /readyz at this address
    #[arg(long, value_name = "ADDRESS")]
    operations: Option<String>,

    #[command(flatten)]
    moot: Moot,

    #[arg(short = 'P', long, hide = true)]
    pool: Option<String>,
    #[arg(long, hide = true)]
    without_heartbeat: bool,
    #[arg(short, long, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    autoscale: Option<String>,
    #[arg(long, hide = true)]
    scheduler: Option<String>,
    #[arg(short = 'D', long, hide = true)]
    detach: bool,
    #[arg(long, hide = true)]
    uid: Option<String>,
    #[arg(long, hide = true)]
    gid: Option<String>,
    #[arg(long, hide = true)]
    umask: Option<String>,
    #[arg(long, hide = true)]
    executable: Option<String>,
}

/// Flags that change nothing here, because Beacon does by itself what they ask for, or has nothing that they could turn
/// off: it fetches no more than it has places for, sends to whoever is free, keeps revocations and schedules in Redis.
#[derive(Args, Debug)]
struct Moot {
    /// How many tasks are fetched ahead: no more than places are free, whatever is said here
    #[arg(long, value_name = "NUMBER", hide = true)]
    prefetch_multiplier: Option<u32>,

    #[arg(long, hide = true)]
    disable_prefetch: bool,
    #[arg(short = 'O', long, hide = true, value_parser = ["default", "fair"])]
    optimization: Option<String>,
    #[arg(long, hide = true)]
    pool_start_method: Option<String>,
    #[arg(short = 'S', long, hide = true)]
    statedb: Option<PathBuf>,
    #[arg(short = 's', long, visible_alias = "schedule", hide = true)]
    schedule_filename: Option<PathBuf>,
    #[arg(long, hide = true)]
    without_gossip: bool,
    #[arg(long, hide = true)]
    without_mingle: bool,
    #[arg(long, hide = true)]
    heartbeat_interval: Option<f64>,
    #[arg(short = 'C', long, hide = true)]
    no_color: bool,
    #[arg(long, hide = true)]
    skip_checks: bool,
}

impl Worker {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        if let Some((flag, why)) = self.refused() {
            return Err(Failure::Refused(format!("{flag}: {why}")));
        }
        let mut loaded = load(sources)?;
        if let Some(level) = &self.loglevel {
            let refused = || Failure::Refused(format!("--loglevel: \"{level}\" is no level; use INFO or another."));
            self::level(level).ok_or_else(refused)?.clone_into(&mut loaded.config.log.level);
        }
        if self.quiet {
            loaded.config.log.level = "error".into();
        }
        let options = self.options()?;
        Ok(crate::app::worker::run(loaded, options)?)
    }

    /// A flag whose effect the user would miss.
    fn refused(&self) -> Option<(&'static str, &'static str)> {
        let pool = self.pool.as_deref();
        let systemd = "not done by the program: the unit file has User=, Group=, UMask= and runs it in the background.";
        [
            (matches!(pool, Some("eventlet" | "gevent" | "custom")), "--pool", "Beacon runs tasks in processes, and `async def` tasks at once in one of them. Leave it out."),
            (self.autoscale.is_some(), "--autoscale", "the number of processes is fixed. Give the larger number with -c; a process that waits costs its memory alone."),
            (self.scheduler.is_some(), "--scheduler", "schedules are read from the application's beat_schedule and from Beacon's configuration and database. Leave it out, and enter what another scheduler keeps with `beacon tasks schedules`."),
            (self.detach, "--detach", systemd),
            (self.uid.is_some(), "--uid", systemd),
            (self.gid.is_some(), "--gid", systemd),
            (self.umask.is_some(), "--umask", systemd),
            (self.executable.is_some(), "--executable", "name the interpreter with tasks.python.python."),
            (self.without_heartbeat && self.task_events, "--without-heartbeat", "cannot be together with --task-events: monitors would take the worker for dead."),
        ]
        .into_iter()
        .find_map(|(refused, flag, why)| refused.then_some((flag, why)))
    }

    fn options(self) -> Result<Options, Failure> {
        let seconds = |flag: &str, value: Option<f64>| match value {
            None => Ok(None),
            Some(value) => {
                Duration::try_from_secs_f64(value).ok().filter(|limit| !limit.is_zero()).map(Some).ok_or_else(|| {
                    Failure::Refused(format!("{flag}: {value} is no time; use a number of seconds above 0."))
                })
            }
        };
        let concurrency = match self.concurrency.as_deref() {
            None | Some("auto") => None,
            Some(text) => Some(text.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
                Failure::Refused(format!("--concurrency: \"{text}\" is neither a number above 0 nor \"auto\"."))
            })?),
        };
        let solo = self.pool.as_deref() == Some("solo");
        Ok(Options {
            time_limit: seconds("--time-limit", self.time_limit)?,
            soft_time_limit: seconds("--soft-time-limit", self.soft_time_limit)?,
            application: self.app,
            broker: self.broker.map(Secret::new),
            results: self.result_backend.map(Secret::new),
            folder: self.workdir,
            settings: self.celery_config,
            name: self.name,
            concurrency: if solo { Some(1) } else { concurrency },
            queues: self.queues,
            exclude: self.exclude_queues,
            include: self.include,
            log: self.logfile,
            pid: self.pidfile,
            events: self.task_events,
            heartbeat: !self.without_heartbeat,
            max_tasks: self.max_tasks_per_child,
            max_memory: self.max_memory_per_child.map(|kib| kib.saturating_mul(1024)),
            purge: self.purge,
            schedules: self.beat,
            operations: self.operations,
            unit: self.unit,
        })
    }
}

/// Our name of a level of Python's.
fn level(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_uppercase().as_str() {
        "DEBUG" | "10" => "debug",
        "INFO" | "20" => "info",
        "WARN" | "WARNING" | "30" => "warn",
        "ERROR" | "CRITICAL" | "FATAL" | "40" | "50" => "error",
        _ => return None,
    })
}

/// Flags of Celery that may stand before its command, and whether each has a value.
const BEFORE: [(&str, bool); 14] = [
    ("-A", true),
    ("--app", true),
    ("-b", true),
    ("--broker", true),
    ("--result-backend", true),
    ("--workdir", true),
    ("--config", true),
    ("-C", false),
    ("--no-color", false),
    ("-q", false),
    ("--quiet", false),
    ("--skip-checks", false),
    ("--loader", true),
    ("--verbose", false),
];

/// The command line with Celery's flags behind `worker`, where they may stand before it; `--config` of a module becomes
/// --celery-config. Any other command line stays as it is.
pub(super) fn arrange(arguments: Vec<OsString>) -> Vec<OsString> {
    let texts: Vec<String> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let mut at = 1;
    let command = loop {
        let Some(text) = texts.get(at) else { return arguments };
        if text == "worker" {
            break at;
        }
        let joined = text.starts_with("--") && text.contains('=');
        let short = text.len() > 2 && !text.starts_with("--") && text.starts_with('-');
        let name = if joined { text.split('=').next().unwrap_or(text) } else { text };
        let global = matches!(name, "--env-file" | "--set");
        let known = BEFORE.iter().find(|(flag, _)| if short { text.starts_with(flag) } else { *flag == name });
        at += match known {
            Some((_, value)) if *value && !joined && !short => 2,
            Some(_) => 1,
            None if global && !joined => 2,
            None if global => 1,
            None => return arguments,
        };
    };
    let mut arranged = vec![arguments[0].clone(), arguments[command].clone()];
    arranged.extend_from_slice(&arguments[1..command]);
    arranged.extend_from_slice(&arguments[command + 1..]);
    let mut at = 2;
    while at < arranged.len() {
        let text = arranged[at].to_string_lossy().into_owned();
        if text == "--config" && arranged.get(at + 1).is_some_and(|value| is_module(&value.to_string_lossy())) {
            arranged[at] = "--celery-config".into();
        } else if let Some(value) = text.strip_prefix("--config=").filter(|value| is_module(value)) {
            arranged[at] = format!("--celery-config={value}").into();
        }
        at += 1;
    }
    arranged
}

/// Whether this names a module of Python rather than a file of ours.
fn is_module(value: &str) -> bool {
    let words = value.split('.').all(|word| {
        word.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && word.chars().all(|other| other.is_alphanumeric() || other == '_')
    });
    words && Path::new(value).extension().is_none_or(|ending| ending != "toml") && !Path::new(value).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(line: &str) -> String {
        let words = line.split(' ').map(OsString::from).collect();
        let words: Vec<String> = arrange(words).into_iter().map(|word| word.into_string().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn flags_of_celery_may_stand_before_the_command() {
        for (written, meant) in [
            ("beacon worker -A proj -l INFO", "beacon worker -A proj -l INFO"),
            ("beacon -A proj worker -c 2", "beacon worker -A proj -c 2"),
            ("beacon -Aproj -b redis://x worker", "beacon worker -Aproj -b redis://x"),
            ("beacon --app=proj --workdir /srv worker -E", "beacon worker --app=proj --workdir /srv -E"),
            ("beacon --config proj.settings worker", "beacon worker --celery-config proj.settings"),
            ("beacon --config=beacon.toml worker", "beacon worker --config=beacon.toml"),
            ("beacon --set log.level=debug worker -B", "beacon worker --set log.level=debug -B"),
            ("beacon serve --config worker", "beacon serve --config worker"),
            ("beacon --unknown worker", "beacon --unknown worker"),
            ("beacon", "beacon"),
        ] {
            assert_eq!(arranged(written), meant);
        }
    }

    #[test]
    fn levels_have_our_names() {
        assert_eq!((level("INFO"), level("warning"), level("50")), (Some("info"), Some("warn"), Some("error")));
        assert_eq!(level("LOUD"), None);
    }
}
