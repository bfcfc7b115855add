//! Reads a password: from a terminal without showing it, else from standard input.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The longest password, in bytes; HTTP Basic has to fit into a header.
const MAX: usize = 1_024;

/// A new password, or why there is none and what to do.
pub(super) fn ask() -> Result<Secret, String> {
    let password = if io::stdin().is_terminal() { ask_twice()? } else { read_all()? };
    match password.len() {
        0 => Err("the password is empty; give one that nobody guesses".into()),
        1..=MAX => Ok(Secret::new(password.as_str())),
        _ => Err(format!("the password is longer than {MAX} bytes; give a shorter one")),
    }
}

fn read_all() -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    io::stdin()
        .lock()
        .take(MAX as u64 + 3)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read the password from standard input: {error}"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "the password is not UTF-8 text".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Zeroizing::new(text.to_owned()))
}

fn ask_twice() -> Result<Zeroizing<String>, String> {
    let silence = Silence::begin().map_err(|error| format!("cannot hide the password on this terminal: {error}"))?;
    let first = read_line("Password: ")?;
    let second = read_line("Once more: ")?;
    drop(silence);
    if *first == *second { Ok(first) } else { Err("the two passwords differ; try again".into()) }
}

/// Reads one line of a silent terminal: backspace deletes, Ctrl-U clears, Ctrl-C and an early Ctrl-D give up.
fn read_line(prompt: &str) -> Result<Zeroizing<String>, String> {
    let show = |text: &str| {
        let mut out = io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    };
    show(prompt);
    let mut line = Zeroizing::new(Vec::with_capacity(MAX + 1));
    let ended = loop {
        let mut byte = [0];
        match io::stdin().lock().read(&mut byte) {
            Ok(0) => break Err("no password was given".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(format!("cannot read the password: {error}")),
            Ok(_) => match byte[0] {
                3 => break Err("no password was given".to_owned()),
                4 if line.is_empty() => break Err("no password was given".to_owned()),
                b'\r' | b'\n' | 4 => break Ok(()),
                8 | 0x7f => {
                    // The whole last character goes, however many bytes it has.
                    while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                }
                0x15 => line.clear(),
                byte if line.len() <= MAX => line.push(byte),
                _ => {}
            },
        }
    };
    show("\n");
    ended?;
    let text = std::str::from_utf8(&line).map_err(|_| "the password is not UTF-8 text".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A terminal that shows nothing and hands over every key, until it is dropped. Signals are keys too, so that Ctrl-C
/// cannot leave the terminal silent.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
