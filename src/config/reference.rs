//! The reference text: every option at its default, commented, as `beacon config default` prints it.
//!
//! config/beacon.toml is generated from the structs' doc comments by the test here, which fails when the two differ;
//! `UPDATE=1 cargo test --lib reference` writes the file anew.

/// config/beacon.toml.
pub const REFERENCE: &str = include_str!("../../config/beacon.toml");

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;
    use std::path::{Path, PathBuf};

    use super::super::aliases::{Alias, GENERAL};
    use super::super::schema::{ANY, Kind, Known, Place, example};
    use super::super::{Config, Sources, load};
    use super::*;

    /// Stands for a name of the user's choice in the text.
    const NAME: &str = "example";

    const INTRODUCTION: &str = "\
# Beacon's configuration: every option, at its default.
#
# An option is a line that begins with # and no space after it: remove the # and change the value. Put only what you
# change into /etc/beacon/beacon.toml, or into files named *.toml in /etc/beacon/conf.d.
#
# Values come from these places, later ones win:
#   1. the defaults
#   2. /etc/beacon/beacon.toml, or the file that --config or BEACON_CONFIG names
#   3. *.toml in the folder conf.d beside it, in the order of their names
#   4. a .env file: --env-file, else BEACON_ENV_FILE, else the systemd credential \"env\", else ./.env, else
#      /etc/beacon/beacon.env
#   5. environment variables: BEACON_HTTP__TIMEOUTS__IDLE=90s sets http.timeouts.idle. Sections and keys are joined by
#      two underscores. Lists and tables are written in TOML: BEACON_LISTEN__HTTPS='[\":443\"]'. Everything else is
#      taken as it is, without quotes.
#   6. --set http.timeouts.idle=90s
#   7. systemd credentials named after a key, as in LoadCredential=wall.password:/etc/beacon/wall-password
#
# A variable works in the .env file as in the environment. `beacon check` tells what is wrong with all of it,
# `beacon config show --origins` where each value came from.
#
# Every secret can be read from a file instead: add _file to its key (password_file = \"/run/secrets/wall\",
# BEACON_DATABASE__URL_FILE=/run/secrets/database). One newline at the end of the file is not part of the secret.
#
# Durations are written with a unit, as in \"30s\", \"5m\" or \"1h 30m\".
#
# Variables that other software uses for the same things are understood too, unless they are empty:
";

    const MOUNT_EXAMPLES: &str = "\
# Examples, one of each kind:
#
#   # A folder as a web site, for every host.
#   [mounts.site]
#   path = \"/\"
#   site.root = \"/srv/www\"
#   site.fallback = \"index.html\"
#   site.error_pages = { 404 = \"404.html\" }
#   site.cache_control = { \"assets/**\" = \"public, max-age=31536000, immutable\" }
#   headers = { \"content-security-policy\" = \"default-src 'self'\" }
#
#   # A folder of Markdown, or of ready HTML, as documentation. Anyone may read it, wall or not.
#   [mounts.handbook]
#   host = \"example.org\"
#   path = \"/handbook\"
#   docs.folder = \"/srv/handbook\"
#   docs.title = \"Handbook\"
#   wall = false
#
#   # Beacon's own documentation.
#   [mounts.docs]
#   path = \"/docs\"
#   docs = {}
#
#   # A redirect that keeps the path and the query.
#   [mounts.old]
#   host = \"www.example.org\"
#   redirect.to = \"https://example.org{path}\"
#   redirect.status = 301
";

    /// A field of a struct, as its source says.
    #[derive(Clone, Debug)]
    struct Field {
        name: String,
        kind: String,
        doc: Vec<String>,
    }

    /// The public structs of the files that hold configuration, by module and name.
    struct Structs(BTreeMap<String, Vec<Field>>);

    impl Structs {
        fn read() -> Self {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
            let mut found = BTreeMap::new();
            for module in std::fs::read_dir(source).unwrap() {
                let module = module.unwrap().path();
                let name = module.file_name().unwrap().to_string_lossy().into_owned();
                Self::walk(&name, &module, &mut found);
            }
            Self(found)
        }

        fn walk(name: &str, folder: &Path, found: &mut BTreeMap<String, Vec<Field>>) {
            for file in std::fs::read_dir(folder).into_iter().flatten() {
                let file = file.unwrap().path();
                let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
                if file.is_dir() {
                    Self::walk(&format!("{name}::{stem}"), &file, found);
                } else if name == "config" || stem == "config" || stem == "mod" {
                    Self::scan(name, &std::fs::read_to_string(&file).unwrap_or_default(), found);
                }
            }
        }

        fn scan(module: &str, text: &str, found: &mut BTreeMap<String, Vec<Field>>) {
            let mut inside: Option<String> = None;
            let mut doc = Vec::new();
            for line in text.lines() {
                if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
                    inside = Some(format!("{module}::{name}"));
                    doc.clear();
                } else if line == "}" {
                    inside = None;
                } else if let Some(name) = &inside {
                    let line = line.trim();
                    if let Some(text) = line.strip_prefix("///") {
                        // Brackets are escaped where rustdoc would take them for a link.
                        doc.push(text.trim().replace("\\[", "[").replace("\\]", "]"));
                    } else if let Some((field, kind)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": "))
                    {
                        let field = Field {
                            name: field.to_owned(),
                            kind: kind.trim_end_matches(',').to_owned(),
                            doc: std::mem::take(&mut doc),
                        };
                        found.entry(name.clone()).or_default().push(field);
                    }
                }
            }
        }

        /// The fields of a type, and the module to resolve their own types in; nothing if it is no struct of ours.
        fn fields(&self, module: &str, kind: &str) -> Option<(String, &[Field])> {
            let name = kind.strip_prefix("crate::").unwrap_or(kind);
            let name = if name.contains("::") { name.to_owned() } else { format!("{module}::{name}") };
            let fields = self.0.get(&name)?;
            Some((name.rsplit_once("::").unwrap().0.to_owned(), fields))
        }
    }

    /// What a type holds: `T` of `Option<T>` and of `BTreeMap<String, T>`.
    fn held(kind: &str) -> &str {
        ["Option<", "BTreeMap<String, "]
            .iter()
            .find_map(|wrapper| kind.strip_prefix(wrapper).and_then(|rest| rest.strip_suffix('>')))
            .unwrap_or(kind)
    }

    /// The text that config/beacon.toml must be.
    fn generate() -> String {
        let mut text = INTRODUCTION.to_owned();
        for Alias { name, key, .. } in GENERAL {
            writeln!(text, "#   {name:<22} {key}").unwrap();
        }
        text.push_str("# So are most names of GoTrue (GOTRUE_...) and PostgREST (PGRST_...): see the documentation's page on configuration.\n");
        let structs = Structs::read();
        let values = toml::Value::try_from(documented()).unwrap();
        let (module, fields) = structs.fields("config", "Config").unwrap();
        for field in fields {
            table(&mut text, &structs, &module, field, &field.name, &values[&field.name], false);
        }
        text
    }

    /// The defaults, with one mount of all kinds, one certificate and one provider.
    fn documented() -> Config {
        let mut config = Config::default();
        config.tls.certificates.insert(NAME.into(), crate::tls::CertificateFiles::default());
        config.auth.providers.insert(NAME.into(), crate::auth::oauth::Provider::default());
        config.tasks.schedules.insert(NAME.into(), crate::tasks::schedule::Entry::default());
        let handler = crate::jobs::Config {
            mail: Some(crate::jobs::Mail::default()),
            http: Some(crate::jobs::Http::default()),
            sql: Some(crate::jobs::Sql::default()),
            command: Some(crate::jobs::Command::default()),
            ..crate::jobs::Config::default()
        };
        config.handlers.insert(NAME.into(), handler);
        let mut mount = example().mounts.remove(ANY).unwrap();
        mount.headers.clear();
        mount.site = mount.site.map(|_| crate::site::Config::default());
        config.mounts.insert(NAME.into(), mount);
        config
    }

    fn comment(text: &mut String, doc: &[String]) {
        for line in doc {
            writeln!(text, "{}", format!("# {line}").trim_end()).unwrap();
        }
    }

    /// Writes a section: its plain options, then the sections in it. Those below a name are commented out whole.
    fn table(
        text: &mut String,
        structs: &Structs,
        module: &str,
        field: &Field,
        path: &str,
        value: &toml::Value,
        named: bool,
    ) {
        text.push('\n');
        comment(text, &field.doc);
        let map = field.kind.starts_with("BTreeMap<");
        let (path, value) = if map { (format!("{path}.{NAME}"), &value[NAME]) } else { (path.to_owned(), value) };
        let named = named || map;
        writeln!(text, "{}[{path}]", if named { "#" } else { "" }).unwrap();
        let (module, fields) = structs.fields(module, held(&field.kind)).unwrap_or_else(|| panic!("{path}: {field:?}"));
        let mut inner = Vec::new();
        for field in fields {
            assert!(!field.doc.is_empty(), "{path}.{} has no doc comment", field.name);
            if structs.fields(&module, held(&field.kind)).is_some() {
                inner.push(field);
                continue;
            }
            text.push('\n');
            comment(text, &field.doc);
            writeln!(text, "#{} = {}", field.name, value[&field.name]).unwrap();
        }
        for field in inner {
            table(text, structs, &module, field, &format!("{path}.{}", field.name), &value[&field.name], named);
        }
        if path == format!("mounts.{NAME}") {
            write!(text, "\n{MOUNT_EXAMPLES}").unwrap();
        }
    }

    fn uncommented() -> String {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
            _ => line.to_owned(),
        };
        REFERENCE.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_file_is_what_the_doc_comments_and_defaults_say() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/beacon.toml");
        let text = generate();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
            return;
        }
        let differs = text.lines().zip(REFERENCE.lines()).position(|(made, kept)| made != kept);
        let line = differs.map(|line| (line + 1, text.lines().nth(line), REFERENCE.lines().nth(line)));
        assert!(
            text == REFERENCE,
            "config/beacon.toml is not up to date, first at {line:?}; run UPDATE=1 cargo test --lib reference"
        );
    }

    #[test]
    fn as_it_is_and_with_every_option_uncommented_it_is_the_defaults() {
        assert_eq!(toml::from_str::<Config>(REFERENCE).unwrap(), Config::default());
        assert_eq!(toml::from_str::<Config>(&uncommented()).unwrap(), documented());
    }

    #[test]
    fn it_has_every_key_and_no_other() {
        fn keys(prefix: &str, value: &toml::Value, found: &mut Vec<String>) {
            for (name, value) in value.as_table().into_iter().flatten() {
                let name = if name == NAME { ANY } else { name };
                let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
                keys(&key, value, found);
                found.push(key);
            }
        }
        let mut found = Vec::new();
        keys("", &uncommented().parse::<toml::Table>().unwrap().into(), &mut found);
        // Maps of plain texts are there as {}.
        let texts = |key: &str| {
            let map = key.strip_suffix(".*").map(|map| map.split('.').map(str::to_owned).collect::<Vec<_>>());
            let named = ["mounts.*", "tls.certificates.*", "auth.providers.*", "tasks.schedules.*", "handlers.*"];
            map.is_some() && !named.contains(&key)
        };
        let mut known: Vec<String> = Known::of_config().keys().into_iter().filter(|key| !texts(key)).collect();
        known.sort();
        found.sort();
        assert_eq!(found, known);
    }

    /// The example of `schema` would silently lose a key that is not set in it.
    #[test]
    fn the_schema_knows_every_secret_every_map_and_every_optional_part() {
        fn check(structs: &Structs, known: &Known, module: &str, kind: &str, path: &[String]) {
            let (module, fields) = structs.fields(module, kind).unwrap();
            for field in fields {
                let mut path = path.to_vec();
                path.push(field.name.clone());
                if field.kind.starts_with("BTreeMap<") {
                    assert!(matches!(known.at(&path), Place::Known(Known::Map(_))), "{path:?} is no map in example()");
                    path.push(ANY.into());
                }
                let held = held(&field.kind);
                let here = known.at(&path);
                if held == "Secret" {
                    assert!(
                        matches!(here, Place::Known(Known::Leaf(Kind::Secret))),
                        "{path:?} is not set in example()"
                    );
                }
                assert!(matches!(here, Place::Known(_)), "{path:?} is missing in example()");
                if structs.fields(&module, held).is_some() {
                    check(structs, known, &module, held, &path);
                }
            }
        }
        check(&Structs::read(), &Known::of_config(), "config", "Config", &[]);
    }

    #[test]
    fn the_examples_of_mounts_load() {
        let lines: Vec<&str> = MOUNT_EXAMPLES.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("beacon.toml"), lines.join("\n")).unwrap();
        let loaded = load(&Sources::new(folder.path(), folder.path(), [])).unwrap();
        let mounts = &loaded.config.mounts;
        assert!(mounts["site"].site.is_some() && mounts["docs"].docs.is_some() && mounts["old"].redirect.is_some());
        assert!(REFERENCE.contains(MOUNT_EXAMPLES));
    }

    #[test]
    fn it_names_every_alias() {
        for Alias { name, key, .. } in GENERAL {
            assert!(REFERENCE.contains(name), "{name} of {key}");
        }
    }
}
