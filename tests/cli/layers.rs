//! Which layer wins, and how it is told.

use crate::scratch::Scratch;

/// The layers of one key, from the weakest; each sets it to its own name.
const LAYERS: [(&str, &str); 7] = [
    ("main", "beacon.toml line 2"),
    ("early", "conf.d/10-early.toml line 1"),
    ("late", "conf.d/20-late.toml line 1"),
    ("envfile", ".env: AUTH_WALL_REALM"),
    ("environment", "environment: BEACON_WALL__REALM"),
    ("option", "--set"),
    ("credential", "credential wall.realm"),
];

fn with_layers(layers: &[usize]) -> String {
    let mut scratch = Scratch::new();
    let mut arguments = vec!["config", "show", "--origins"];
    for layer in layers {
        match LAYERS[*layer].0 {
            "main" => scratch.config("[wall]\nrealm = \"main\"\n"),
            "early" => drop(scratch.file("conf.d/10-early.toml", "wall.realm = \"early\"\n")),
            "late" => drop(scratch.file("conf.d/20-late.toml", "wall.realm = \"late\"\n")),
            "envfile" => drop(scratch.file(".env", "export AUTH_WALL_REALM='envfile' # a comment\n")),
            "environment" => scratch.variable("BEACON_WALL__REALM", "environment"),
            "option" => arguments.extend(["--set", "wall.realm=option"]),
            _ => scratch.credential("wall.realm", "credential\n"),
        }
    }
    let outcome = scratch.run(&arguments);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.out.lines().find(|line| line.starts_with("wall.realm = ")).unwrap().to_owned()
}

#[test]
fn of_any_two_layers_the_later_one_wins_and_is_named() {
    assert_eq!(with_layers(&[]), "wall.realm = \"Development\"  # default");
    for (high, (value, origin)) in LAYERS.into_iter().enumerate() {
        for low in 0..=high {
            let line = with_layers(&[low, high]);
            assert!(line.starts_with(&format!("wall.realm = \"{value}\"  # ")), "{low} under {high}: {line}");
            assert!(line.ends_with(origin), "{low} under {high}: {line}");
        }
    }
}

#[test]
fn tables_are_merged_and_lists_are_replaced() {
    let scratch = Scratch::new();
    scratch.config("[listen]\nhttps = [\":1\", \":2\"]\nmax_connections = 7\n[mounts.a]\ndocs = {}\n");
    scratch.file("conf.d/a.toml", "[listen]\nhttps = [\":3\"]\n[mounts.b]\npath = \"/b\"\ndocs = {}\n");
    let out = scratch.run(&["config", "show", "--origins"]).out;
    assert!(out.contains("listen.https = [\":3\"]  # file "), "{out}");
    assert!(out.contains("listen.max_connections = 7  # file "), "{out}");
    assert!(out.contains("mounts.a.path = \"/\"  # default") && out.contains("mounts.b.path = \"/b\""), "{out}");
}

#[test]
fn the_env_file_expands_from_the_environment_first() {
    let mut scratch = Scratch::new();
    scratch.file(".env", "\u{feff}STAGE=file\r\nexport AUTH_WALL_REALM=\"${STAGE} \\\"${NONE:-none}\\\"\"\r\n");
    let shown = |scratch: &Scratch| scratch.run(&["config", "show", "--json"]).out;
    assert!(shown(&scratch).contains(r#""realm": "file \"none\"""#), "{}", shown(&scratch));
    scratch.variable("STAGE", "environment");
    assert!(shown(&scratch).contains(r#""realm": "environment \"none\"""#), "{}", shown(&scratch));
}

#[test]
fn every_alias_sets_its_key() {
    for (alias, value, line) in [
        ("BUCKET_NAME", "media", "storage.bucket = \"media\""),
        ("AWS_REGION", "eu-west-1", "storage.region = \"eu-west-1\""),
        ("DATABASE_URL", "postgresql://u@h/d", "database.url = \"********\""),
        ("REDIS_URL", "rediss://h", "redis.url = \"********\""),
        ("AUTH_WALL_REALM", "r", "wall.realm = \"r\""),
        ("AUTH_WALL", "off", "wall.mode = \"off\""),
    ] {
        let mut scratch = Scratch::new();
        scratch.variable(alias, value);
        let out = scratch.run(&["config", "show", "--origins"]).out;
        assert!(out.contains(&format!("{line}  # environment: {alias}\n")), "{alias}: {out}");
    }
    for (id, secret) in [("AWS_ACCESS_ID", "AWS_ACCESS_SECRET"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")] {
        let scratch = Scratch::new();
        scratch.file(".env", format!("{id}=i\n{secret}=s\nAUTH_WALL_USERNAME=u\nAUTH_WALL_PASSWORD=p\n"));
        let out = scratch.run(&["config", "show", "--origins"]).out;
        for (key, name) in [
            ("storage.access_key_id = \"i\"", id),
            ("storage.secret_access_key = \"********\"", secret),
            ("wall.username = \"u\"", "AUTH_WALL_USERNAME"),
            ("wall.password = \"********\"", "AUTH_WALL_PASSWORD"),
        ] {
            let line = out.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {out}"));
            assert!(line.ends_with(&format!("/.env: {name}")), "{line}");
        }
    }
}
