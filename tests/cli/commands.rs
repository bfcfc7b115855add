//! The commands besides what they say about a configuration.

use std::io::Read as _;
use std::process::Stdio;

use crate::scratch::Scratch;

#[test]
fn without_a_command_help_is_shown_and_the_code_is_64() {
    let outcome = Scratch::new().run(&[]);
    assert_eq!((outcome.code, outcome.out.as_str()), (64, ""));
    assert!(outcome.err.contains("Usage: beacon") && outcome.err.contains("beacon serve"), "{}", outcome.err);
}

#[test]
fn a_wrong_command_line_is_told_with_a_suggestion_and_code_64() {
    for (arguments, part) in [
        (&["serv"][..], "'serve'"),
        (&["check", "--confg", "x"], "'--config'"),
        (&["config"], "Usage: beacon config"),
        (&["completions", "cmd"], "bash"),
        (&["check", "--config"], "a value is required"),
    ] {
        let outcome = Scratch::new().run(arguments);
        assert_eq!(outcome.code, 64, "{outcome:?}");
        assert!(outcome.err.contains(part), "{}", outcome.err);
    }
}

#[test]
fn help_that_was_asked_for_goes_to_standard_output() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["config", "show", "-h"], &["wall", "hash", "--help"]] {
        let outcome = Scratch::new().run(arguments);
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
        assert!(outcome.out.contains("Example") && outcome.out.contains("--set"), "{}", outcome.out);
    }
}

#[test]
fn global_options_stand_before_and_after_the_command() {
    let scratch = Scratch::new();
    scratch.file("other.toml", "wall.realm = 'other'");
    for arguments in [["--config", "other.toml", "config", "show"], ["config", "show", "--config", "other.toml"]] {
        assert!(scratch.run(&arguments).out.contains("realm = \"other\""));
    }
}

#[test]
fn the_version_says_what_was_built() {
    let scratch = Scratch::new();
    let long = scratch.run(&["version"]).out;
    assert_eq!(scratch.run(&["--version"]).out, long);
    for part in [env!("CARGO_PKG_VERSION"), "linux", "aws-lc-rs", "profile:"] {
        assert!(long.contains(part), "{long}");
    }
    assert_eq!(scratch.run(&["-V"]).out, format!("beacon {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    let outcome = Scratch::new().run(&["check"]);
    assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (0, "The configuration is good.\n", ""));
}

#[test]
fn the_default_text_is_a_configuration_that_changes_nothing() {
    let scratch = Scratch::new();
    let shown = scratch.run(&["config", "show"]).out;
    let text = scratch.run(&["config", "default"]).out;
    assert!(text.contains("#https = "), "{text}");
    scratch.config(&text);
    assert_eq!(scratch.run(&["config", "show"]).out, shown);
    assert!(!scratch.run(&["config", "show", "--origins"]).out.contains("# file"));
}

#[test]
fn what_is_shown_is_a_configuration_with_the_same_values() {
    let scratch = Scratch::new();
    scratch.config(
        "[mounts.a]\nhost = \"x\"\nredirect.to = \"/b\"\nheaders = { \"x.y\" = \"1\" }\n[http]\nhsts = \"1day\"\n",
    );
    let shown = scratch.run(&["config", "show"]).out;
    scratch.config(&shown);
    assert_eq!(scratch.run(&["config", "show"]).out, shown);
    assert!(shown.contains("\"x.y\" = \"1\""), "{shown}");
}

#[test]
fn json_with_origins_has_both_for_every_key() {
    let scratch = Scratch::new();
    scratch.config("[log]\nlevel = \"warn\"\n");
    let out = scratch.run(&["config", "show", "--json", "--origins"]).out;
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["log.level"]["value"], "warn");
    assert!(value["log.level"]["origin"].as_str().unwrap().ends_with("beacon.toml line 2"));
    assert_eq!(value["wall.realm"]["origin"], "default");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = Scratch::new().run(&["completions", shell]);
        assert_eq!(outcome.code, 0);
        assert!(outcome.out.contains("serve") && outcome.out.contains("origins"), "{shell}");
    }
}

#[test]
fn manual_pages_are_printed_or_written() {
    let scratch = Scratch::new();
    let page = scratch.run(&["man"]).out;
    assert!(page.contains(".TH beacon 1") && page.contains("beacon\\-serve(1)"), "{page}");
    std::fs::create_dir(scratch.path().join("man")).unwrap();
    assert_eq!(scratch.run(&["man", "man"]).code, 0);
    for name in ["beacon.1", "beacon-serve.1", "beacon-check.1", "beacon-config-show.1", "beacon-wall-hash.1"] {
        let text = std::fs::read_to_string(scratch.path().join("man").join(name)).unwrap();
        assert!(text.len() > 500, "{name}: {text}");
    }
    let outcome = scratch.run(&["man", "nowhere"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.err.contains("nowhere"), "{}", outcome.err);
}

#[test]
fn a_password_from_standard_input_becomes_a_salted_hash_that_verifies() {
    use argon2::password_hash::PasswordVerifier as _;
    let scratch = Scratch::new();
    let hashes: Vec<String> = ["pass word", "pass word\n", "pass word\r\n"]
        .map(|input| scratch.run_with_input(&["wall", "hash"], input.as_bytes()).out)
        .into();
    assert_ne!(hashes[0], hashes[1]);
    for hash in &hashes {
        assert!(hash.starts_with("$argon2id$v=19$") && hash.ends_with('\n'), "{hash}");
        let parsed = argon2::password_hash::phc::PasswordHash::new(hash.trim_end()).unwrap();
        argon2::Argon2::default().verify_password(b"pass word", &parsed).unwrap();
        assert!(argon2::Argon2::default().verify_password(b"pass word\n", &parsed).is_err());
    }
}

#[test]
fn a_password_that_cannot_be_used_is_refused_without_being_shown() {
    let scratch = Scratch::new();
    for (input, part) in [(vec![], "empty"), (vec![b'x'; 2_000], "longer than"), (vec![0xff, 0xfe], "not UTF-8")] {
        let outcome = scratch.run_with_input(&["wall", "hash"], &input);
        assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
        assert!(outcome.err.contains(part) && !outcome.err.contains("xx"), "{}", outcome.err);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let scratch = Scratch::new();
    for arguments in [&["config", "default"][..], &["completions", "bash"], &["--help"]] {
        let mut child = scratch.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_is_told() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = Scratch::new().command(&["config", "default"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output"));
}

#[test]
fn messages_that_go_to_no_terminal_have_no_colour() {
    let outcome = Scratch::new().run(&["check", "--set", "x=1"]);
    assert!(outcome.err.starts_with("error: ") && !outcome.err.contains('\x1b'), "{}", outcome.err);
}
