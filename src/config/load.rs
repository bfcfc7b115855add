//! Loading: reads every layer, merges them, checks the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use figment::Figment;

use super::environment::{self, LOCATORS, Variable};
use super::layer::Layer;
use super::problem::{dotted, misfit};
use super::schema::Known;
use super::{Config, Error, Origin, Origins, Problem, Sources, aliases, credentials, dotenv, file, set};

/// A configuration that may be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each of its values came from.
    pub origins: Origins,
    /// What the user should know although nothing is wrong.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Every key, quoted where TOML needs it, with its value and origin, in the order of the keys. Secrets are masked.
    #[must_use]
    pub fn values(&self) -> Vec<(String, toml::Value, &Origin)> {
        let mut values = Vec::new();
        if let Ok(whole) = toml::Value::try_from(&self.config) {
            self.collect(&mut Vec::new(), whole, &mut values);
        }
        values
    }

    fn collect<'a>(
        &'a self,
        path: &mut Vec<String>,
        value: toml::Value,
        values: &mut Vec<(String, toml::Value, &'a Origin)>,
    ) {
        match value {
            toml::Value::Table(table) if !table.is_empty() => {
                for (name, value) in table {
                    path.push(name);
                    self.collect(path, value, values);
                    path.pop();
                }
            }
            value => values.push((dotted(path), value, self.origins.of(&path.join(".")))),
        }
    }
}

/// Loads the configuration. Nothing but files is touched, and nothing is changed, so that a running server can load
/// again and keep what it has when this fails.
///
/// # Errors
/// Everything that is wrong with the configuration, not only the first fault.
pub fn load(sources: &Sources) -> Result<Loaded, Error> {
    let known = Known::of_config();
    let mut warnings = Vec::new();
    let mut problems = Vec::new();
    let mut layers = Vec::new();

    let main = sources.config();
    if main.required || main.path.exists() {
        layers.push(file::read(&main.path, &known));
    }
    match file::folder(&sources.conf_d()) {
        Ok(files) => layers.extend(files.iter().map(|path| file::read(path, &known))),
        Err(problem) => problems.push(problem),
    }
    if let Some(path) = sources.env_file() {
        layers.push(read_env_file(&path, sources, &known, &mut warnings));
    }
    layers.push(read_environment(sources, &known, &mut warnings));
    layers.push(set::read(sources.sets(), &known));
    if let Some(folder) = sources.credentials() {
        layers.push(credentials::read(&folder, &known, &mut warnings));
    }

    let mut origins = Origins::default();
    let mut figment = Figment::new();
    for mut layer in layers {
        problems.extend(layer.take_problems());
        for (path, origin) in layer.origins() {
            origins.note(path.join("."), origin.clone());
        }
        figment = figment.merge(layer);
    }
    // Each value was tried by itself before, so what is left to fail here are only clashes of tables with values.
    let mut config: Config = match figment.extract() {
        Ok(config) => config,
        Err(error) => {
            for one in error {
                let key = one.path.join(".");
                let (problem, fix) = misfit(&one.kind, true);
                problems.push(Problem::new(origins.place(&key), key, problem, fix));
            }
            return Err(Error::Invalid { problems });
        }
    };
    config.normalise();
    for fault in config.validate() {
        // A key whose value was refused is at its default now, which says nothing about what the user wrote.
        if !problems.iter().any(|problem| problem.key == fault.key) {
            problems.push(Problem::new(origins.place(&fault.key), fault.key, fault.problem, fault.fix));
        }
    }
    if problems.is_empty() { Ok(Loaded { config, origins, warnings }) } else { Err(Error::Invalid { problems }) }
}

/// The variables of a `.env` file's text by name, the last of a name; `${NAME}` is looked for in the text alone.
///
/// # Errors
/// Every statement that cannot be read. `place` names the file.
pub fn env_variables(text: &str, place: &str) -> Result<BTreeMap<String, Option<String>>, Error> {
    let (variables, faults) = dotenv::parse(text, &|_| None);
    if faults.is_empty() {
        return Ok(variables.into_iter().map(|variable| (variable.name, variable.value)).collect());
    }
    let problem =
        |fault: dotenv::Fault| Problem::new(format!("{place} line {}", fault.line), "", fault.problem, fault.fix);
    Err(Error::Invalid { problems: faults.into_iter().map(problem).collect() })
}

fn read_env_file<'a>(path: &Path, sources: &Sources, known: &'a Known, warnings: &mut Vec<String>) -> Layer<'a> {
    let mut layer = Layer::new(known);
    let text = match file::text(path) {
        Ok(text) => text,
        Err(problem) => {
            layer.problem(problem);
            return layer;
        }
    };
    let shown = path.display();
    if path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
        warnings.push(format!("{shown} can be read by every user of this machine. Run: chmod o-r {shown}"));
    }
    let (variables, faults) = dotenv::parse(&text, &|name| sources.variable(name));
    // The last of a name counts, even when it has no value.
    let last: BTreeMap<&str, usize> =
        variables.iter().enumerate().map(|(at, variable)| (variable.name.as_str(), at)).collect();
    let last: BTreeSet<usize> = last.into_values().collect();
    let variables: Vec<Variable> = variables
        .into_iter()
        .enumerate()
        .filter(|(at, _)| last.contains(at))
        .filter_map(|(_, dotenv::Variable { name, value, line })| {
            let origin = Origin::EnvFile { path: path.to_owned(), name: name.clone(), line };
            value.map(|value| Variable { name, value, origin })
        })
        .collect();
    for name in LOCATORS {
        if variables.iter().any(|variable| variable.name == name) {
            warnings.push(format!("{name} in {shown} has no effect: it must be set before this file is read"));
        }
    }
    let mut layer = environment::read(&variables, known, warnings);
    for dotenv::Fault { line, problem, fix } in faults {
        layer.problem(Problem::new(format!("file {shown} line {line}"), "", problem, fix));
    }
    layer
}

fn read_environment<'a>(sources: &Sources, known: &'a Known, warnings: &mut Vec<String>) -> Layer<'a> {
    let mut unreadable = Vec::new();
    let mut variables = Vec::new();
    for (name, value) in sources.environment() {
        let Some(name) = name.to_str() else { continue };
        let ours = name.starts_with("BEACON_") || aliases::is_known(name) || aliases::is_of_a_family(name);
        let origin = Origin::Environment { name: name.to_owned() };
        match value.to_str() {
            Some(value) if ours => variables.push(Variable { name: name.into(), value: value.into(), origin }),
            None if ours && !LOCATORS.contains(&name) => {
                unreadable.push(Problem::new(&origin, "", "the value is not UTF-8 text", "Set it to text in UTF-8."));
            }
            _ => {}
        }
    }
    let mut layer = environment::read(&variables, known, warnings);
    for problem in unreadable {
        layer.problem(problem);
    }
    layer
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    struct Scratch {
        folder: tempfile::TempDir,
        environment: Vec<(OsString, OsString)>,
        sets: Vec<String>,
    }

    impl Scratch {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new(), sets: Vec::new() }
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }

        fn variable(&mut self, name: &str, value: impl Into<OsString>) {
            self.environment.push((name.into(), value.into()));
        }

        fn sources(&self) -> Sources {
            let folder = self.folder.path();
            Sources::new(folder.join("etc"), folder, self.environment.clone()).with_sets(self.sets.clone())
        }

        fn load(&self) -> Loaded {
            load(&self.sources()).unwrap_or_else(|error| panic!("{error}"))
        }

        fn problems(&self) -> Vec<Problem> {
            load(&self.sources()).unwrap_err().problems().to_vec()
        }
    }

    #[test]
    fn nothing_configured_is_the_defaults() {
        let loaded = Scratch::new().load();
        assert_eq!(loaded.config, Config::default());
        assert!(loaded.origins.is_empty() && loaded.warnings.is_empty());
    }

    #[test]
    fn the_shipped_examples_load() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
        let mut names = Vec::new();
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let sources = Sources::new("/nowhere", "/nowhere", []).with_config(Some(path.clone()));
            let loaded = load(&sources).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(!loaded.config.mounts.is_empty());
            names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
        names.sort();
        assert_eq!(names, ["acme", "behind-load-balancer", "site", "staging"]);
    }

    #[test]
    fn conf_d_is_read_in_the_order_of_names_and_hidden_and_other_files_are_not() {
        let scratch = Scratch::new();
        scratch.file("etc/beacon.toml", "[wall]\nrealm = 'main'\n[log]\nlevel = 'warn'");
        scratch.file("etc/conf.d/20-b.toml", "wall.realm = 'twenty'");
        scratch.file("etc/conf.d/10-a.toml", "wall.realm = 'ten'\nlog.level = 'debug'");
        scratch.file("etc/conf.d/.30.toml", "wall.realm = 'hidden'");
        scratch.file("etc/conf.d/40.toml.bak", "not = toml =");
        let loaded = scratch.load();
        assert_eq!((&*loaded.config.wall.realm, &*loaded.config.log.level), ("twenty", "debug"));
        assert!(loaded.origins.of("wall.realm").to_string().ends_with("20-b.toml line 1"));
    }

    #[test]
    fn the_env_file_is_the_named_one_then_the_credential_then_the_local_one_then_the_systems() {
        let mut scratch = Scratch::new();
        let realm = |scratch: &Scratch| scratch.load().config.wall.realm.clone();
        scratch.file("etc/beacon.env", "AUTH_WALL_REALM=system");
        assert_eq!(realm(&scratch), "system");
        scratch.file(".env", "AUTH_WALL_REALM=local");
        assert_eq!(realm(&scratch), "local");
        scratch.file("credentials/env", "AUTH_WALL_REALM=credential");
        scratch.variable("CREDENTIALS_DIRECTORY", scratch.folder.path().join("credentials"));
        assert_eq!(realm(&scratch), "credential");
        scratch.file("variable.env", "AUTH_WALL_REALM=variable");
        scratch.variable("BEACON_ENV_FILE", "variable.env");
        assert_eq!(realm(&scratch), "variable");
        scratch.file("option.env", "AUTH_WALL_REALM=option");
        let loaded = load(&scratch.sources().with_env_file(Some("option.env".into()))).unwrap();
        assert_eq!(loaded.config.wall.realm, "option");
    }

    #[test]
    fn a_password_of_digits_stays_text_and_a_number_is_a_number() {
        let mut scratch = Scratch::new();
        scratch.variable("AUTH_WALL_USERNAME", "007");
        scratch.variable("BEACON_WALL__PASSWORD", "0123");
        scratch.variable("BEACON_SERVER__DRAIN", "45");
        scratch.variable("BEACON_HTTP__HTTPS_PORT", "443");
        scratch.variable("BEACON_LISTEN__HTTPS", "[':443']");
        scratch.variable("BEACON_HTTP__RATE", "{ per_second = 5 }");
        scratch.variable("BEACON_MOUNTS__SITE__SITE__ROOT", "/srv");
        scratch.sets = vec!["tls.min_version=1.3".into(), "wall.realm=\"5\"".into(), "log.level=warn".into()];
        scratch.sets.push("mounts.site.headers.\"x.y\"=1".into());
        let config = scratch.load().config;
        assert_eq!((&*config.wall.username, config.wall.password.expose()), ("007", "0123"));
        assert_eq!((config.server.drain.as_secs(), config.http.https_port, config.http.rate.per_second), (45, 443, 5));
        assert_eq!(config.listen.https, [":443"]);
        assert_eq!(config.mounts["site"].headers["x.y"], "1");
        assert_eq!((config.tls.min_version, &*config.wall.realm), (crate::tls::MinVersion::Tls13, "5"));
    }

    #[test]
    fn an_empty_table_makes_a_mount_of_its_kind() {
        let mut scratch = Scratch::new();
        scratch.file("etc/beacon.toml", "[mounts.docs]\npath = '/docs/'\n[mounts.docs.docs]\n");
        scratch.sets = vec!["mounts.docs.docs.title=Handbook".into()];
        let mount = scratch.load().config.mounts.remove("docs").unwrap();
        assert_eq!((&*mount.path, &*mount.docs.unwrap().title), ("/docs", "Handbook"));
    }

    #[test]
    fn aliases_are_beaten_by_our_own_name_in_a_layer_and_beat_it_in_a_later_one() {
        let mut scratch = Scratch::new();
        scratch.file(".env", "AUTH_WALL_REALM=alias\nBEACON_WALL__REALM=own\nUNRELATED=x\nBUCKET_NAME=\nSECRET_KEY");
        assert_eq!(scratch.load().config.wall.realm, "own");
        scratch.variable("AUTH_WALL_REALM", "later");
        scratch.variable("AUTH_WALL", "OFF");
        let loaded = scratch.load();
        assert_eq!((&*loaded.config.wall.realm, loaded.config.wall.mode), ("later", crate::auth::Mode::Off));
        assert_eq!(*loaded.origins.of("storage.bucket"), Origin::Default);
    }

    #[test]
    fn names_of_gotrue_and_postgrest_work_and_unknown_ones_are_told() {
        let mut scratch = Scratch::new();
        scratch.file(
            ".env",
            "GOTRUE_SITE_URL=https://www.example.org\nAPI_EXTERNAL_URL=https://api.example.org/auth/v1\n\
             GOTRUE_JWT_SECRET=01234567890123456789012345678901\nPGRST_JWT_SECRET=01234567890123456789012345678901\n\
             GOTRUE_JWT_EXP=1800\nGOTRUE_DISABLE_SIGNUP=true\nGOTRUE_MAILER_AUTOCONFIRM=false\n\
             GOTRUE_URI_ALLOW_LIST=https://*.example.org/**,myapp://x\nGOTRUE_SMTP_HOST=mail.example.org\n\
             GOTRUE_SMTP_PORT=465\nGOTRUE_SMTP_ADMIN_EMAIL=a@example.org\nGOTRUE_SMTP_SENDER_NAME='The, App'\n\
             GOTRUE_EXTERNAL_GOOGLE_ENABLED=true\nGOTRUE_EXTERNAL_GOOGLE_CLIENT_ID=web,phone\n\
             GOTRUE_EXTERNAL_GOOGLE_SECRET=s\nGOTRUE_EXTERNAL_FIGMA_ENABLED=false\n\
             PGRST_DB_SCHEMAS='public, storage'\nPGRST_DB_MAX_ROWS=50\nPGRST_DB_PLAN_ENABLED=yes\n\
             PGRST_DB_TX_END=commit-allow-override\nPGRST_DB_URI=postgres://a@b/c\nPGRST_LOG_LEVEL=info\n\
             GOTRUE_SMS_PROVIDER=twilio\nUNRELATED=x\n",
        );
        scratch.variable("PGRST_DB_CONFIG", "true");
        let Loaded { config, warnings, .. } = scratch.load();
        let auth = &config.auth;
        assert_eq!((&*auth.site_url, &*auth.external_url), ("https://www.example.org", "https://api.example.org"));
        assert_eq!(auth.jwt_secret.expose().len(), 32);
        assert_eq!(auth.access_token_ttl.as_secs(), 1_800);
        assert!(!auth.signup_enabled && !auth.autoconfirms(false));
        assert_eq!(auth.redirect_urls, ["https://*.example.org/**", "myapp://x"]);
        assert_eq!((&*config.mail.from, config.mail.port), ("\"The, App\" <a@example.org>", 465));
        assert_eq!(config.mail.security, crate::mail::Security::Tls);
        let google = &auth.providers["google"];
        assert_eq!((&*google.client_id, google.client_ids.as_slice()), ("web", ["phone".to_owned()].as_slice()));
        assert_eq!(
            (config.api.schemas.as_slice(), config.api.max_rows),
            (["public".into(), "storage".into()].as_slice(), 50)
        );
        assert!(config.api.plan_enabled && config.api.tx_end.is_free());
        assert_eq!(config.database.url.expose(), "postgres://a@b/c");
        let told: Vec<&String> = warnings.iter().filter(|warning| warning.contains("no effect")).collect();
        assert_eq!(told.len(), 2, "{warnings:?}");
        assert!(told[0].ends_with(": GOTRUE_SMS_PROVIDER, PGRST_LOG_LEVEL"), "{told:?}");
        assert!(told[1].ends_with("the environment: PGRST_DB_CONFIG"), "{told:?}");

        scratch.variable("GOTRUE_DISABLE_SIGNUP", "perhaps");
        let problems = scratch.problems();
        assert_eq!((problems.len(), &*problems[0].key), (1, "auth.signup_enabled"), "{problems:?}");
        assert!(!problems[0].to_string().contains("perhaps"));
    }

    #[test]
    fn the_last_variable_of_a_name_counts_even_without_a_value() {
        let scratch = Scratch::new();
        scratch.file(".env", "AUTH_WALL_REALM=one\nAUTH_WALL_REALM=two\nBUCKET_NAME=a\nBUCKET_NAME\n");
        let config = scratch.load().config;
        assert_eq!((&*config.wall.realm, &*config.storage.bucket), ("two", ""));
    }

    #[test]
    fn a_secret_file_loses_one_newline_and_nothing_else() {
        let scratch = Scratch::new();
        let path = scratch.file("secret", " pass word \n\n");
        let hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI";
        let alice = scratch.file("alice", &format!("{hash}\n"));
        let text = format!("[wall]\nusername = 'me'\npassword_file = {path:?}\n[wall.users]\nalice_file = {alice:?}");
        scratch.file("etc/beacon.toml", &text);
        let loaded = scratch.load();
        assert_eq!(loaded.config.wall.password.expose(), " pass word \n");
        assert_eq!(loaded.config.wall.users["alice"].expose(), hash);
        assert!(loaded.origins.of("wall.password").to_string().ends_with("beacon.toml line 3"));
    }

    #[test]
    fn a_later_layer_may_set_a_secret_in_the_other_form() {
        let mut scratch = Scratch::new();
        let path = scratch.file("secret", "from file");
        scratch.file("etc/beacon.toml", "[wall]\nusername = 'me'\npassword = 'inline'");
        scratch.variable("BEACON_WALL__PASSWORD_FILE", path);
        assert_eq!(scratch.load().config.wall.password.expose(), "from file");
        scratch.variable("AUTH_WALL_PASSWORD", "alias");
        // Our own name in the same layer beats the alias in this form too.
        assert_eq!(scratch.load().config.wall.password.expose(), "from file");
    }

    #[test]
    fn a_refused_value_causes_no_second_problem_with_its_key() {
        let scratch = Scratch::new();
        scratch.file("etc/beacon.toml", "[wall]\nusername = 'me'\npassword = 5");
        let problems = scratch.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
    }

    #[test]
    fn a_variable_that_is_not_text_is_told() {
        use std::os::unix::ffi::OsStringExt as _;
        let mut scratch = Scratch::new();
        scratch.variable("AUTH_WALL_REALM", OsString::from_vec(vec![0xff]));
        scratch.variable("OTHER", OsString::from_vec(vec![0xff]));
        let problems = scratch.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].place, "environment: AUTH_WALL_REALM");
    }

    #[test]
    fn an_undotted_or_foreign_credential_is_nobodys_business_and_a_near_miss_is_told() {
        let mut scratch = Scratch::new();
        scratch.file("credentials/db-password", "x");
        scratch.file("credentials/example.org.key", "x");
        scratch.file("credentials/wall.pasword", "x");
        scratch.variable("CREDENTIALS_DIRECTORY", scratch.folder.path().join("credentials"));
        let warnings = scratch.load().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("wall.pasword") && warnings[0].contains("wall.password?"), "{warnings:?}");
    }

    #[test]
    fn sources_load_again_with_what_has_changed() {
        let scratch = Scratch::new();
        let sources = scratch.sources();
        assert_eq!(load(&sources).unwrap().config.wall.realm, "Development");
        scratch.file("etc/beacon.toml", "wall.realm = 'new'");
        assert_eq!(load(&sources).unwrap().config.wall.realm, "new");
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut scratch = Scratch::new();
        scratch.variable("DATABASE_URL", "postgres://u:hunter2@h/d");
        scratch.sets = vec!["redis.url=redis://:hunter2@h".into()];
        let shown = format!("{:?} {:?}", scratch.load(), scratch.sources());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
