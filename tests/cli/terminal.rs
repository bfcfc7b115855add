//! On a terminal, which `script` (bsdutils, on every Debian) provides: hidden passwords, colour.

use std::io::{Read as _, Write as _};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use crate::scratch::Scratch;

/// Runs the binary on a terminal of its own; `talk` gets the keyboard and the screen.
fn on_a_terminal(
    scratch: &Scratch,
    arguments: &str,
    variables: &[(&str, &str)],
    talk: impl FnOnce(&mut ChildStdin, &mut ChildStdout),
) -> (i32, String) {
    let mut child = Command::new("script")
        .args(["-q", "-e", "-c", &format!("{} {arguments}", env!("CARGO_BIN_EXE_beacon")), "/dev/null"])
        .current_dir(scratch.path())
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("TERM", "xterm")])
        .env("BEACON_CONFIG", scratch.path().join("beacon.toml"))
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program `script` of the package bsdutils");
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    talk(&mut keyboard, &mut screen);
    let mut rest = String::new();
    screen.read_to_string(&mut rest).unwrap();
    drop(keyboard);
    (child.wait().unwrap().code().unwrap(), rest)
}

/// Reads up to `prompt`; what is typed before the terminal is silent is thrown away.
fn wait_for(screen: &mut ChildStdout, prompt: &str) {
    let mut seen = Vec::new();
    while !seen.ends_with(prompt.as_bytes()) {
        let mut byte = [0];
        assert_eq!(screen.read(&mut byte).unwrap(), 1, "ended before {prompt:?}: {}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
}

#[test]
fn a_password_is_asked_for_twice_edited_and_never_shown() {
    use argon2::password_hash::PasswordVerifier as _;
    let (code, screen) = on_a_terminal(&Scratch::new(), "wall hash", &[], |keyboard, screen| {
        wait_for(screen, "Password: ");
        keyboard.write_all("junk\u{15}pass wörx\u{7f}d\r".as_bytes()).unwrap();
        wait_for(screen, "Once more: ");
        keyboard.write_all("pass wör\u{e9}\u{7f}d\r".as_bytes()).unwrap();
    });
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("pass") && !screen.contains("junk"), "{screen}");
    let hash = argon2::password_hash::phc::PasswordHash::new(screen.trim()).unwrap();
    argon2::Argon2::default().verify_password("pass wörd".as_bytes(), &hash).unwrap();
}

#[test]
fn two_different_passwords_and_control_c_give_no_hash() {
    let (code, screen) = on_a_terminal(&Scratch::new(), "wall hash", &[], |keyboard, screen| {
        wait_for(screen, "Password: ");
        keyboard.write_all(b"one\r").unwrap();
        wait_for(screen, "Once more: ");
        keyboard.write_all(b"two\r").unwrap();
    });
    assert!(code == 1 && screen.contains("differ") && !screen.contains("argon2"), "{code} {screen}");
    let (code, screen) = on_a_terminal(&Scratch::new(), "wall hash", &[], |keyboard, screen| {
        wait_for(screen, "Password: ");
        keyboard.write_all(b"one\x03").unwrap();
    });
    assert!(code == 1 && screen.contains("no password was given"), "{code} {screen}");
}

#[test]
fn errors_are_coloured_unless_the_user_does_not_want_it() {
    let shown = |variables: &[(&str, &str)]| {
        let (code, screen) = on_a_terminal(&Scratch::new(), "check --set x=1", variables, |_, _| {});
        assert_eq!(code, 78, "{screen}");
        screen
    };
    assert!(shown(&[]).contains("\x1b[1;31merror:\x1b[0m"));
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let screen = shown(&[variable]);
        assert!(screen.contains("error: ") && !screen.contains('\x1b'), "{variable:?}: {screen}");
    }
}
