//! The sections `[handlers.NAME]`: tasks by that name, and what they do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};

use super::fill::Text;
use super::{address, body, function};
use crate::clock::duration;
use crate::error::Fault;
use crate::secret::Secret;

/// What a task does, and within which limits. One of mail, http, sql and command is set.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The task's name, if it is not the section's. "beacon.mail", "beacon.http" and "beacon.sql" set up the tasks that
    /// are there anyway.
    pub task: String,
    /// When a run is ended by force; "0s" leaves it to tasks.time_limit.
    #[serde(with = "duration")]
    pub time_limit: Duration,
    /// When a run is asked to end; "0s" is never.
    #[serde(with = "duration")]
    pub soft_time_limit: Duration,
    /// Runs at once on each Beacon; 0 is no limit but tasks.concurrency.
    pub concurrency: usize,
    /// How often a failure that may pass is tried again; others are final at once.
    pub retries: u32,
    /// The longest pause before the first retry. It doubles with each, and the pause that is taken is a random part of it.
    #[serde(with = "duration")]
    pub retry_delay: Duration,
    /// The longest pause before any retry.
    #[serde(with = "duration")]
    pub retry_delay_max: Duration,
    /// What the limits over all Beacons count by, as in "tenant:{kwargs.tenant}"; "" is the task's name.
    pub limit_key: String,
    /// Runs at once with the same limit_key, on all Beacons together; 0 is no limit.
    pub limit_concurrency: u32,
    /// Runs that may begin in a time with the same limit_key, on all Beacons together, as in "10/s", "100/m" or
    /// "1000/h"; "" is no limit.
    pub limit_rate: String,
    /// No result is kept of a success.
    pub ignore_result: bool,
    /// Sends a mail.
    pub mail: Option<Mail>,
    /// Calls an address over HTTP.
    pub http: Option<Http>,
    /// Calls a function in the database.
    pub sql: Option<Sql>,
    /// Runs a program.
    pub command: Option<Command>,
}

/// A mail through the server of `[mail]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Mail {
    /// To whom, as in `["{kwargs.email}"]`; `[]` takes it from the task's argument "to".
    pub to: Vec<String>,
    /// Where answers go; "" is the sender.
    pub reply_to: String,
    /// The subject; "" takes it from the argument "subject", else from TEMPLATE.subject in the folder.
    pub subject: String,
    /// The template's name; "" takes it from the argument "template".
    pub template: String,
    /// The folder with templates: NAME.txt, NAME.html or both, and NAME.subject; "" is mail.templates, where all but the
    /// mails of accounts are taken.
    pub templates: PathBuf,
}

/// A request over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The address, as in `"https://example.org/users/{kwargs.id}"`; "" takes it from the task's argument "url", as far as
    /// `hosts` allows.
    pub url: String,
    /// Hosts that tasks may name in "url", as in "hooks.example.org", "*.example.org" or "example.org:8443"; without a
    /// port, the usual one. Redirects must lead to one of them, or stay where they are.
    pub hosts: Vec<String>,
    /// The method; tasks that name their address may name another one.
    pub method: String,
    /// Headers to send. Each can be read from a file.
    pub headers: BTreeMap<String, Secret>,
    /// The body: JSON text, in whose texts {args.0}, {kwargs.NAME}, {kwargs}, {id} and {task} are filled in; "" sends all
    /// of them.
    pub body: String,
    /// What requests are signed with (standardwebhooks.com): "whsec_" and at least 24 bytes in base 64; several are
    /// separated by |. "" signs nothing.
    pub secret: Secret,
    /// How long one request may take.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Lets requests go over plain HTTP, for everybody on the way to read.
    pub allow_http: bool,
    /// Networks that may be reached besides the public ones, as in "10.1.0.0/16" or "127.0.0.1/32".
    pub networks: Vec<IpNet>,
    /// How many redirects are followed.
    pub redirects: u8,
    /// How much of the answer becomes the result, in bytes.
    pub answer_bytes: usize,
}

/// A call of a function in the database.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Sql {
    /// The function, as in "public.close_month"; "" takes it from the task's argument "function", as far as `functions`
    /// allows.
    pub function: String,
    /// Functions that tasks may name, as in "public.close_month" or "reports.*".
    pub functions: Vec<String>,
    /// "named": each of the task's arguments is one of the function's. "json": the function has one, of type jsonb, with
    /// id, task, args and kwargs.
    pub arguments: Arguments,
    /// The role that runs it; "" is service_role, which policies do not bind.
    pub role: String,
}

/// How a function takes a task's arguments.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Arguments {
    /// Each for itself.
    #[default]
    Named,
    /// All in one.
    Json,
}

/// A program that runs once for each task.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// The program's whole path, and its arguments.
    pub run: Vec<String>,
    /// Variables for it beside PATH, LC_ALL and TZ. Each can be read from a file.
    pub env: BTreeMap<String, Secret>,
    /// Who runs it, which only root can choose; "" is who runs Beacon.
    pub user: String,
    /// The folder that it runs in; "" is /.
    pub directory: PathBuf,
    /// Memory that each of its processes may have, in bytes of addresses; 0 is no limit.
    pub memory_bytes: u64,
    /// The most that it may write to standard output, in bytes.
    pub output_bytes: usize,
    /// How long it may take to end after SIGTERM, before it is killed.
    #[serde(with = "duration")]
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            task: String::new(),
            time_limit: Duration::from_mins(5),
            soft_time_limit: Duration::ZERO,
            concurrency: 0,
            retries: 10,
            retry_delay: Duration::from_secs(5),
            retry_delay_max: Duration::from_hours(1),
            limit_key: String::new(),
            limit_concurrency: 0,
            limit_rate: String::new(),
            ignore_result: false,
            mail: None,
            http: None,
            sql: None,
            command: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            url: String::new(),
            hosts: Vec::new(),
            method: "POST".into(),
            headers: BTreeMap::new(),
            body: String::new(),
            secret: Secret::default(),
            timeout: Duration::from_secs(30),
            allow_http: false,
            networks: Vec::new(),
            redirects: 0,
            answer_bytes: 64 * 1024,
        }
    }
}

impl Default for Command {
    fn default() -> Self {
        Self {
            run: Vec::new(),
            env: BTreeMap::new(),
            user: String::new(),
            directory: PathBuf::new(),
            memory_bytes: 0,
            output_bytes: 1024 * 1024,
            grace: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// The runs that may begin in a time, over all Beacons. Validated before.
    #[must_use]
    pub fn rate(&self) -> Option<(u32, Duration)> {
        let (count, unit) = self.limit_rate.trim().split_once('/')?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let count = count.trim().parse().ok().filter(|count| *count > 0)?;
        Some((count, Duration::from_secs(seconds)))
    }

    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let kinds = [
            self.mail.is_some().then_some("mail"),
            self.http.is_some().then_some("http"),
            self.sql.is_some().then_some("sql"),
            self.command.is_some().then_some("command"),
        ];
        let kinds: Vec<&str> = kinds.into_iter().flatten().collect();
        if kinds.len() != 1 {
            let problem = if kinds.is_empty() {
                "says nothing of what the task does".to_owned()
            } else {
                format!("says that the task does several things: {}", kinds.join(", "))
            };
            let fix = "Set one of mail, http, sql and command, and add a section of its own for each further task.";
            faults.push(Fault::new(kinds.get(1).copied().unwrap_or("command"), problem, fix));
        }
        if !self.limit_rate.is_empty() && self.rate().is_none() {
            faults.push(Fault::new(
                "limit_rate",
                "is no number of runs in a time",
                "Use \"10/s\", \"100/m\" or \"1000/h\".",
            ));
        }
        // A limit may count by the queue besides.
        if let Err(problem) = Text::parse(&self.limit_key.replace("{queue}", "{task}")) {
            faults.push(Fault::new("limit_key", problem, "Use {kwargs.NAME}, {args.0}, {task} or {queue}."));
        }
        if !self.limit_key.is_empty() && self.limit_rate.is_empty() && self.limit_concurrency == 0 {
            let fix = "Set limit_concurrency or limit_rate, or remove it.";
            faults.push(Fault::new("limit_key", "is set, and nothing is limited by it", fix));
        }
        if self.retry_delay > self.retry_delay_max {
            let fix = "Raise retry_delay_max, or lower retry_delay.";
            faults.push(Fault::new("retry_delay", "is longer than retry_delay_max", fix));
        }
        if !self.time_limit.is_zero() && self.soft_time_limit > self.time_limit {
            let fix = "Use a soft limit that is over before the hard one.";
            faults.push(Fault::new("soft_time_limit", "is longer than time_limit", fix));
        }
        if let Some(mail) = &self.mail {
            faults.extend(mail.validate().into_iter().map(|fault| fault.within("mail")));
        }
        if let Some(http) = &self.http {
            faults.extend(http.validate().into_iter().map(|fault| fault.within("http")));
        }
        if let Some(sql) = &self.sql {
            faults.extend(sql.validate().into_iter().map(|fault| fault.within("sql")));
        }
        if let Some(command) = &self.command {
            faults.extend(command.validate().into_iter().map(|fault| fault.within("command")));
        }
        faults
    }
}

const FILLED: &str = "Use {args.0}, {kwargs.NAME}, {id} or {task}, and {{ for a brace that is meant as one.";

impl Mail {
    fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for to in &self.to {
            match Text::parse(to) {
                Err(problem) => faults.push(Fault::new("to", problem, FILLED)),
                Ok(text) if text.is_plain() && to.parse::<Mailbox>().is_err() => {
                    let fix = "Use \"ann@example.org\", \"Ann <ann@example.org>\" or \"{kwargs.email}\".";
                    faults.push(Fault::new("to", format!("has \"{to}\", which is no mail address"), fix));
                }
                Ok(_) => {}
            }
        }
        if !self.reply_to.is_empty() && self.reply_to.parse::<Mailbox>().is_err() {
            let fix = "Use \"Support <support@example.org>\".";
            faults.push(Fault::new("reply_to", "is no mail address", fix));
        }
        if self.template.contains(['/', '\0']) || self.template.starts_with('.') {
            faults.push(Fault::new("template", "is no name of a template", "Use a file's name without its ending."));
        }
        faults
    }
}

impl Http {
    fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !self.url.is_empty()
            && let Err(problem) = address::Template::parse(&self.url, self.allow_http)
        {
            let fix = "Use \"https://hooks.example.org/path\", with {kwargs.NAME} only behind the host.";
            faults.push(Fault::new("url", problem, fix));
        }
        if !self.url.is_empty() && !self.hosts.is_empty() && self.redirects == 0 {
            let fix = "Remove one of the two: hosts are for tasks that name their address, and for redirects.";
            faults.push(Fault::new("hosts", "is set although url is", fix));
        }
        for host in &self.hosts {
            if address::Pattern::parse(host).is_none() {
                let fix = "Use \"hooks.example.org\", \"*.example.org\" or \"example.org:8443\".";
                faults.push(Fault::new("hosts", format!("has \"{host}\", which is no host"), fix));
            }
        }
        if !body::is_method(&self.method) {
            faults.push(Fault::new("method", "is none", "Use \"POST\", \"GET\", \"PUT\", \"PATCH\" or \"DELETE\"."));
        }
        for (name, value) in &self.headers {
            if let Err(problem) = body::header(name, value.expose()) {
                faults.push(Fault::new(format!("headers.{name}"), problem, "Remove it, or correct it."));
            }
        }
        if !self.body.is_empty()
            && let Err(problem) = body::Body::parse(&self.body)
        {
            faults.push(Fault::new("body", problem, FILLED));
        }
        if let Err(problem) = body::keys(&self.secret) {
            let fix = "Use \"whsec_\" followed by the output of `openssl rand -base64 32`.";
            faults.push(Fault::new("secret", problem, fix));
        }
        if self.timeout.is_zero() {
            faults.push(Fault::new("timeout", "is 0, so that no request could be sent", "Use \"30s\"."));
        }
        faults
    }
}

impl Sql {
    fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !self.function.is_empty() && function::Name::parse(&self.function).is_none() {
            let fix = "Use \"schema.function\", of letters, digits and _.";
            faults.push(Fault::new("function", "names no function with its schema", fix));
        }
        if !self.function.is_empty() && !self.functions.is_empty() {
            let fix = "Remove one of the two: functions are for tasks that name theirs.";
            faults.push(Fault::new("functions", "is set although function is", fix));
        }
        for name in &self.functions {
            if function::Pattern::parse(name).is_none() {
                let fix = "Use \"schema.function\" or \"schema.*\".";
                faults.push(Fault::new("functions", format!("has \"{name}\", which names no function"), fix));
            }
        }
        faults
    }
}

impl Command {
    fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        match self.run.first() {
            None => {
                let fix = "Use [\"/usr/local/bin/program\", \"argument\"].";
                faults.push(Fault::new("run", "names no program", fix));
            }
            Some(program) if !program.starts_with('/') => {
                let fix = format!("Use its whole path, as `command -v {program}` tells it.");
                faults.push(Fault::new("run", format!("begins with \"{program}\", which is no whole path"), fix));
            }
            Some(_) => {}
        }
        if self.run.iter().any(|text| text.contains('\0')) {
            faults.push(Fault::new("run", "has a character with the number 0", "Remove it."));
        }
        for name in self.env.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                faults.push(Fault::new(
                    format!("env.{name}"),
                    "is no name of a variable",
                    "Use letters, digits and _.",
                ));
            }
        }
        if self.output_bytes == 0 {
            let fix = "Use 1048576, or what the program may write.";
            faults.push(Fault::new("output_bytes", "is 0, so that every word would be a failure", fix));
        }
        if !self.directory.as_os_str().is_empty() && !self.directory.is_absolute() {
            faults.push(Fault::new("directory", "is no whole path", "Begin it with /."));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(config: &Config) -> Vec<String> {
        config.validate().into_iter().map(|fault| fault.key).collect()
    }

    fn command() -> Config {
        Config { command: Some(Command { run: vec!["/bin/true".into()], ..Command::default() }), ..Config::default() }
    }

    fn http(http: Http) -> Config {
        Config { http: Some(http), ..Config::default() }
    }

    #[test]
    fn a_task_does_one_thing() {
        assert!(keys(&command()).is_empty());
        assert_eq!(keys(&Config::default()), ["command"]);
        assert_eq!(keys(&Config { sql: Some(Sql::default()), ..command() }), ["command"]);
        for kind in [
            Config { mail: Some(Mail::default()), ..Config::default() },
            Config { sql: Some(Sql::default()), ..Config::default() },
            http(Http::default()),
        ] {
            assert!(keys(&kind).is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn limits_fit_together() {
        let rate = |text: &str| Config { limit_rate: text.into(), ..command() };
        assert_eq!(rate("10/s").rate(), Some((10, Duration::from_secs(1))));
        assert_eq!(rate(" 1000 / h").rate(), Some((1000, Duration::from_hours(1))));
        for bad in ["10", "0/s", "x/m", "1/d", "-1/s"] {
            assert_eq!(keys(&rate(bad)), ["limit_rate"], "{bad}");
        }
        assert_eq!(keys(&Config { limit_key: "{kwarg.x}".into(), ..rate("1/s") }), ["limit_key"]);
        assert!(keys(&Config { limit_key: "{queue}:{kwargs.x}".into(), ..rate("1/s") }).is_empty());
        assert_eq!(keys(&Config { limit_key: "x".into(), ..command() }), ["limit_key"]);
        assert_eq!(keys(&Config { retry_delay: Duration::from_hours(2), ..command() }), ["retry_delay"]);
        assert_eq!(keys(&Config { soft_time_limit: Duration::from_hours(2), ..command() }), ["soft_time_limit"]);
    }

    #[test]
    fn each_kind_tells_what_cannot_be_meant() {
        let url = || Http { url: "https://example.org/".into(), ..Http::default() };
        for (config, key) in [
            (http(Http { url: "http://example.org/".into(), ..url() }), "http.url"),
            (http(Http { url: "https://{kwargs.host}/".into(), ..url() }), "http.url"),
            (http(Http { hosts: vec!["a.example".into()], ..url() }), "http.hosts"),
            (http(Http { hosts: vec!["https://a.example".into()], ..Http::default() }), "http.hosts"),
            (http(Http { method: "TRACE".into(), ..url() }), "http.method"),
            (http(Http { body: "{".into(), ..url() }), "http.body"),
            (http(Http { secret: Secret::new("x"), ..url() }), "http.secret"),
            (http(Http { timeout: Duration::ZERO, ..url() }), "http.timeout"),
            (http(Http { headers: [("host".to_owned(), Secret::new("x"))].into(), ..url() }), "http.headers.host"),
        ] {
            assert_eq!(keys(&config), [key]);
        }
        let run =
            |run: &[&str]| Command { run: run.iter().map(|text| (*text).to_owned()).collect(), ..Command::default() };
        for (command, key) in [
            (run(&[]), "command.run"),
            (run(&["true"]), "command.run"),
            (Command { output_bytes: 0, ..run(&["/bin/true"]) }, "command.output_bytes"),
            (Command { directory: "x".into(), ..run(&["/bin/true"]) }, "command.directory"),
            (Command { env: [("A=B".to_owned(), Secret::default())].into(), ..run(&["/bin/true"]) }, "command.env.A=B"),
        ] {
            assert_eq!(keys(&Config { command: Some(command), ..Config::default() }), [key]);
        }
        let sql = |function: &str, functions: &[&str]| Config {
            sql: Some(Sql {
                function: function.into(),
                functions: functions.iter().map(|text| (*text).to_owned()).collect(),
                ..Sql::default()
            }),
            ..Config::default()
        };
        assert_eq!(keys(&sql("close_month", &[])), ["sql.function"]);
        assert_eq!(keys(&sql("", &["*"])), ["sql.functions"]);
        assert_eq!(keys(&sql("a.b", &["a.*"])), ["sql.functions"]);
        let mail = |mail: Mail| Config { mail: Some(mail), ..Config::default() };
        assert_eq!(keys(&mail(Mail { to: vec!["nobody".into()], ..Mail::default() })), ["mail.to"]);
        assert_eq!(keys(&mail(Mail { to: vec!["{mail}".into()], ..Mail::default() })), ["mail.to"]);
        assert_eq!(keys(&mail(Mail { reply_to: "x".into(), ..Mail::default() })), ["mail.reply_to"]);
        assert_eq!(keys(&mail(Mail { template: "../x".into(), ..Mail::default() })), ["mail.template"]);
    }
}
