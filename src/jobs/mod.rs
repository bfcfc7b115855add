//! Tasks that need no program of their own: mail, calls over HTTP, functions in the database, commands; and tasks over HTTP
//! for programs that know no Celery.
//!
//! Each is a [`Handler`] made of a section `[handlers.NAME]`. Three are there without any: beacon.mail, beacon.http and
//! beacon.sql, which take everything from the task, the latter two as far as the configuration allows: nothing, as long as
//! there is none.

mod address;
pub mod api;
mod body;
mod call;
mod command;
mod config;
mod fill;
mod function;
mod http;
mod mail;
mod sealed;
mod sql;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use config::{Arguments, Command, Config, Http, Mail, Sql};
pub use mail::Error as MailError;
pub use sealed::{Error as SealError, Seal, TASK as ACCOUNT_MAIL, relay};

use crate::db::Pool;
use crate::http::Outbound;
use crate::mail::{Folder, Mailer};
use crate::tasks::limits::Shared;
use crate::tasks::native::{Handler, Settings};

/// The tasks that are there without a section, and what they need.
const BUILT_IN: [(&str, &str); 3] = [("beacon.mail", "mail"), ("beacon.http", "http"), ("beacon.sql", "sql")];
/// What belongs to Beacon or to Celery.
const RESERVED: [&str; 2] = ["beacon.", "celery."];

/// A task, ready for a worker.
pub struct Job {
    /// Its name.
    pub task: String,
    /// Its limits.
    pub settings: Settings,
    /// What it does.
    pub handler: Arc<dyn Handler>,
}

/// What handlers work with.
#[derive(Clone)]
pub struct Means<'a> {
    /// Sends mail.
    pub mailer: Mailer,
    /// The folder of templates that is set in `[mail]`; "" is none.
    pub templates: &'a Path,
    /// Sends requests.
    pub outbound: Outbound,
    /// Connections whose login may become the roles that handlers name.
    pub requests: Option<Pool>,
    /// Opens the mails of accounts, where there are accounts.
    pub seal: Option<Seal>,
    /// The limit of tasks that have none of their own; zero is no limit.
    pub time_limit: Duration,
}

/// Why a section makes no task.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two sections have one task.
    #[error("handlers.{one} and handlers.{other} are both the task {task}")]
    Twice {
        /// The task.
        task: String,
        /// One section.
        one: String,
        /// The other one.
        other: String,
    },
    /// A name that is not free.
    #[error(
        "handlers.{section}: a task may not be called {task}: what begins with \"beacon.\" or \"celery.\" is taken"
    )]
    Reserved {
        /// The section.
        section: String,
        /// The task.
        task: String,
    },
    /// A task that is there anyway, and is of another kind.
    #[error("handlers.{section}: the task {task} is one of the kind {kind}")]
    Kind {
        /// The section.
        section: String,
        /// The task.
        task: String,
        /// Its kind.
        kind: &'static str,
    },
    /// Templates that cannot be used.
    #[error("handlers.{section}.mail")]
    Templates {
        /// The section.
        section: String,
        /// Why.
        #[source]
        source: crate::mail::Error,
    },
    /// A mail that cannot be used.
    #[error("handlers.{section}.mail")]
    Mail {
        /// The section.
        section: String,
        /// Why.
        #[source]
        source: MailError,
    },
    /// Something else that cannot be used.
    #[error("handlers.{section}: {problem}")]
    Unusable {
        /// The section.
        section: String,
        /// What, and why.
        problem: String,
    },
}

/// The tasks of a configuration that was validated, and those that are there anyway.
///
/// # Errors
/// A section that makes no task.
pub fn jobs(sections: &BTreeMap<String, Config>, means: &Means<'_>) -> Result<Vec<Job>, Error> {
    let mut jobs = BTreeMap::<String, (&str, Job)>::new();
    for (section, config) in sections {
        let task = if config.task.is_empty() { section } else { &config.task };
        check_name(section, task, config)?;
        if let Some((one, _)) = jobs.get(task) {
            let (one, other) = ((*one).to_owned(), section.clone());
            return Err(Error::Twice { task: task.clone(), one, other });
        }
        jobs.insert(task.clone(), (section, job(section, task, config, means)?));
    }
    for (task, kind) in BUILT_IN {
        if !jobs.contains_key(task) {
            let config = Config {
                mail: (kind == "mail").then(Mail::default),
                http: (kind == "http").then(Http::default),
                sql: (kind == "sql").then(Sql::default),
                ..Config::default()
            };
            jobs.insert(task.to_owned(), (task, job(task, task, &config, means)?));
        }
    }
    let mut jobs: Vec<Job> = jobs.into_values().map(|(_, job)| job).collect();
    if let Some(seal) = &means.seal {
        let handler = sealed::AccountMail { mailer: means.mailer.clone(), seal: seal.clone() };
        let settings = sealed::settings(Duration::from_mins(2));
        jobs.push(Job { task: ACCOUNT_MAIL.into(), settings, handler: Arc::new(handler) });
    }
    Ok(jobs)
}

fn check_name(section: &str, task: &str, config: &Config) -> Result<(), Error> {
    let built_in = BUILT_IN.iter().find(|(name, _)| *name == task);
    if let Some((_, kind)) = built_in {
        let set = match *kind {
            "mail" => config.mail.is_some(),
            "http" => config.http.is_some(),
            _ => config.sql.is_some(),
        };
        return if set { Ok(()) } else { Err(Error::Kind { section: section.into(), task: task.into(), kind }) };
    }
    if RESERVED.iter().any(|prefix| task.starts_with(prefix)) {
        return Err(Error::Reserved { section: section.into(), task: task.into() });
    }
    Ok(())
}

fn job(section: &str, task: &str, config: &Config, means: &Means<'_>) -> Result<Job, Error> {
    let unusable = |problem| Error::Unusable { section: section.to_owned(), problem };
    let time_limit = if config.time_limit.is_zero() { means.time_limit } else { config.time_limit };
    let mut settings = Settings { time_limit, ..settings(config) };
    let handler: Arc<dyn Handler> = if let Some(mail) = &config.mail {
        let templates = match templates(mail, means.templates) {
            Ok(templates) => templates,
            Err(source) => return Err(Error::Templates { section: section.to_owned(), source }),
        };
        let made = mail::Post::new(mail, means.mailer.clone(), Arc::new(templates));
        Arc::new(made.map_err(|source| Error::Mail { section: section.to_owned(), source })?)
    } else if let Some(http) = &config.http {
        Arc::new(http::Request::new(http, means.outbound.clone()).map_err(unusable)?)
    } else if let Some(sql) = &config.sql {
        Arc::new(sql::Procedure::new(sql, means.requests.clone(), time_limit))
    } else if let Some(command) = &config.command {
        let limit = (config.soft_time_limit.is_zero() && !time_limit.is_zero()).then_some(time_limit);
        if let Some(limit) = limit {
            // The program is asked to end at its limit and killed after its grace; the runner's own limit is behind that.
            settings.soft_time_limit = limit;
            settings.time_limit = limit + command.grace + Duration::from_secs(1);
        }
        Arc::new(command::Tool::new(command, limit).map_err(unusable)?)
    } else {
        return Err(unusable("says nothing of what the task does".into()));
    };
    Ok(Job { task: task.to_owned(), settings, handler })
}

/// The templates of a section's own folder, all of which must be good; else those of `[mail]`, whose folder may be missing
/// and may hold what is no template of ours, as it always might.
fn templates(mail: &Mail, shared: &Path) -> Result<Folder, crate::mail::Error> {
    if !mail.templates.as_os_str().is_empty() {
        let (templates, mut errors) = Folder::load(&mail.templates)?;
        return if errors.is_empty() { Ok(templates) } else { Err(errors.swap_remove(0)) };
    }
    if shared.as_os_str().is_empty() {
        return Ok(Folder::default());
    }
    let (templates, errors) = Folder::load(shared).unwrap_or_else(|error| (Folder::default(), vec![error]));
    for error in errors {
        tracing::warn!(error = %crate::error::chain(&error), "a template of mails cannot be used by tasks");
    }
    Ok(templates)
}

fn settings(config: &Config) -> Settings {
    let limited = config.limit_concurrency > 0 || !config.limit_rate.is_empty();
    let shared = limited.then(|| Shared {
        key: if config.limit_key.is_empty() { "{task}".into() } else { config.limit_key.clone() },
        concurrency: (config.limit_concurrency > 0).then_some(config.limit_concurrency),
        rate: config.rate(),
    });
    Settings {
        soft_time_limit: config.soft_time_limit,
        concurrency: config.concurrency,
        retries: config.retries,
        retry_delay: config.retry_delay,
        retry_delay_max: config.retry_delay_max,
        shared,
        ignore_result: config.ignore_result,
        ..Settings::default()
    }
}

/// The roles that sections let functions run as, which the login of requests must be able to become.
#[must_use]
pub fn roles(sections: &BTreeMap<String, Config>) -> Vec<String> {
    let named = sections.values().filter_map(|config| config.sql.as_ref()).map(|sql| sql.role.clone());
    named.filter(|role| !role.is_empty() && role != sql::ROLE).collect()
}
