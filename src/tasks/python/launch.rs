//! Which interpreter, in which environment, with which options: what every process of an application has alike.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Config, Error};
use crate::assets;
use crate::process::{Program, Signal};

/// Variables that are passed on from Beacon's own environment, beside PATH.
const PASSED: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "NO_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "no_proxy",
    "http_proxy",
    "https_proxy",
];
/// Beginnings of names that are passed on.
const PASSED_PREFIXES: &[&str] = &["LC_", "PYTHON", "DJANGO_", "CELERY_", "OTEL_", "SENTRY_"];

/// What `celery -A .. worker` is told on its command line, and where it runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The node name, as in "celery@host".
    pub node: String,
    /// Its working directory, where the configuration has none.
    pub directory: PathBuf,
    /// The application, where the configuration has none; "" is CELERY_APP, then Celery's own default.
    pub app: String,
    /// Processes, where the configuration has none (-c).
    pub concurrency: Option<usize>,
    /// Queues (-Q); empty is the application's own.
    pub queues: Vec<String>,
    /// Queues that are left out (-X).
    pub exclude_queues: Vec<String>,
    /// Modules beside the application's own (-I).
    pub include: Vec<String>,
    /// "INFO" (-l)
    pub loglevel: String,
    /// Where the application logs to instead of Beacon's log (-f).
    pub logfile: String,
    /// --broker
    pub broker: String,
    /// --result-backend
    pub result_backend: String,
    /// --loader
    pub loader: String,
    /// --config
    pub config_module: String,
    /// --skip-checks
    pub skip_checks: bool,
    /// --time-limit, in seconds
    pub time_limit: Option<f64>,
    /// --soft-time-limit, in seconds
    pub soft_time_limit: Option<f64>,
    /// -E
    pub events: bool,
    /// `sys.argv` without the program.
    pub argv: Vec<String>,
    /// All of Beacon's environment is the application's (`beacon worker -A`), not only what is known to be harmless.
    pub whole_environment: bool,
    /// Variables of `tasks.python.env_file`, in the order of the file.
    pub env_file: Vec<(String, String)>,
    /// Results that Celery would write to its own Redis at the end of a task are handed over instead. Only for one who
    /// writes them to that same Redis.
    pub hand_over: bool,
}

/// What every process of the application is started with.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    python: PathBuf,
    environment: Vec<(OsString, OsString)>,
    options: Map<String, Value>,
    sources: String,
    memory: Option<u64>,
}

#[derive(Serialize)]
struct Role<'a> {
    role: &'a str,
    index: usize,
    #[serde(flatten)]
    options: &'a Map<String, Value>,
}

impl Launch {
    pub(super) fn new(config: &Config, options: &Options) -> Result<Self, Error> {
        let set = |path: &Path| !path.as_os_str().is_empty();
        let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let directory = here.join(if set(&options.directory) { &options.directory } else { &config.directory });
        let python =
            interpreter(&config.python, &directory).ok_or_else(|| Error::Interpreter(config.python.clone()))?;
        let app = if options.app.is_empty() { &config.celery_app } else { &options.app };
        let concurrency = options.concurrency.or((config.processes > 0).then_some(config.processes));
        let value = json!({
            "app": app, "directory": directory, "node": options.node, "concurrency": concurrency,
            "queues": options.queues, "exclude_queues": options.exclude_queues, "include": options.include,
            "loglevel": options.loglevel, "logfile": options.logfile, "broker": options.broker,
            "result_backend": options.result_backend, "loader": options.loader, "config": options.config_module,
            "skip_checks": options.skip_checks, "time_limit": options.time_limit,
            "soft_time_limit": options.soft_time_limit, "events": options.events.then_some(true),
            "argv": options.argv, "hand_over": options.hand_over,
        });
        let Value::Object(value) = value else { return Err(Error::Garbled("options".into())) };
        let memory = (config.memory_limit_bytes > 0).then_some(config.memory_limit_bytes);
        Ok(Self { python, environment: environment(config, options), options: value, sources: sources(), memory })
    }

    /// The interpreter.
    pub(super) fn python(&self) -> &Path {
        &self.python
    }

    /// The program, to be given its socket; who runs bodies has a limit of memory.
    pub(super) fn program(&self, role: &str) -> Program {
        let mut program = Program::new(&self.python)
            .args(["-c", assets::text("python/bootstrap.py")])
            .without_defaults()
            .dies_with_us(Signal::KILL)
            .memory(self.memory.filter(|_| role == "child"));
        for (name, value) in &self.environment {
            program = program.env(name, value);
        }
        program
    }

    /// The first frame.
    pub(super) fn first(&self, role: &str, index: usize) -> bytes::Bytes {
        super::frame::encode(&Role { role, index, options: &self.options }, self.sources.as_bytes())
    }
}

/// The interpreter: the one that is named, or in the folder that is named, or in .venv or venv, or in PATH.
fn interpreter(named: &Path, directory: &Path) -> Option<PathBuf> {
    let of_folder =
        |folder: &Path| ["bin/python", "bin/python3"].iter().map(|name| folder.join(name)).find(|path| path.is_file());
    if !named.as_os_str().is_empty() {
        let at = directory.join(named);
        if at.is_dir() {
            return of_folder(&at);
        }
        // "python3.12" is looked for in PATH.
        return if at.is_file() { Some(at) } else { in_path(named) };
    }
    [".venv", "venv"]
        .iter()
        .find_map(|name| of_folder(&directory.join(name)))
        .or_else(|| {
            let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
            active.and_then(|folder| of_folder(&folder))
        })
        .or_else(|| in_path(Path::new("python3")))
}

fn in_path(name: &Path) -> Option<PathBuf> {
    if name.components().count() != 1 {
        return None;
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The variables: ours (all or the harmless ones), then the file's, then those of the configuration.
fn environment(config: &Config, options: &Options) -> Vec<(OsString, OsString)> {
    let passed = |name: &OsString| {
        let name = name.to_string_lossy();
        options.whole_environment
            || PASSED.contains(&&*name)
            || PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut all: Vec<(OsString, OsString)> = std::env::vars_os().filter(|(name, _)| passed(name)).collect();
    all.retain(|(name, _)| {
        // Ours alone: who inherits them would talk to systemd in Beacon's name.
        !["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"]
            .iter()
            .any(|own| name == own)
    });
    all.extend(options.env_file.iter().map(|(name, value)| (name.into(), value.into())));
    all.extend(config.env.iter().map(|(name, value)| (name.into(), value.into())));
    all
}

/// The modules' texts as JSON.
fn sources() -> String {
    let mut texts = Map::new();
    for file in assets::folder("python/beacon_worker").into_iter().flat_map(include_dir::Dir::files) {
        let Some(stem) = file.path().file_stem().and_then(|stem| stem.to_str()) else { continue };
        let name = if stem == "__init__" { "beacon_worker".to_owned() } else { format!("beacon_worker.{stem}") };
        texts.insert(name, file.contents_utf8().unwrap_or_default().into());
    }
    Value::Object(texts).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_the_named_one_or_the_nearest_environments() {
        let folder = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let nearest = make(".venv/bin/python");
        let named = make("env/bin/python3");
        assert_eq!(interpreter(Path::new(""), folder.path()), Some(nearest));
        assert_eq!(interpreter(Path::new("env"), folder.path()), Some(named.clone()));
        assert_eq!(interpreter(&named, folder.path()), Some(named));
        assert_eq!(interpreter(Path::new("none/bin/python"), folder.path()), None);
        assert!(interpreter(Path::new("sh"), folder.path()).is_some(), "a bare name is looked for in PATH");
    }

    #[test]
    fn an_application_gets_what_was_set_for_it_and_nothing_secret_of_ours() {
        let config = Config { env: [("A".to_owned(), "config".to_owned())].into(), ..Config::default() };
        let file = vec![("A".to_owned(), "file".to_owned()), ("B".to_owned(), "file".to_owned())];
        let options = Options { env_file: file, ..Options::default() };
        let all = environment(&config, &options);
        let last = |name: &str| all.iter().rev().find(|(one, _)| one == name).map(|(_, value)| value.clone());
        assert_eq!(last("A"), Some("config".into()));
        assert_eq!(last("B"), Some("file".into()));
        assert!(all.iter().all(|(name, _)| !name.to_string_lossy().starts_with("CARGO_")), "ours stays ours");
        let all = environment(&config, &Options { whole_environment: true, ..Options::default() });
        assert!(all.iter().any(|(name, _)| name.to_string_lossy().starts_with("CARGO_")));
    }

    #[test]
    fn the_shim_is_embedded_whole() {
        let texts: std::collections::BTreeMap<String, String> = serde_json::from_str(&sources()).unwrap();
        for name in ["beacon_worker", "beacon_worker.main", "beacon_worker.child", "beacon_worker.clerk"] {
            assert!(texts[name].len() > 100, "{name}");
        }
        assert!(assets::text("python/bootstrap.py").contains("beacon_worker"));
    }
}
