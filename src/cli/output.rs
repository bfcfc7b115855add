//! Writing to the terminal: a reader that goes away (`beacon config default | head`) ends the command without a panic,
//! and colour is used only where it is welcome.

use std::io::{self, IsTerminal as _, Write as _};

/// Writes `text` to standard output.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes an error to standard error.
pub(super) fn complain(text: &str) {
    say("error", "31", text);
}

/// Writes a warning to standard error.
pub(super) fn warn(text: &str) {
    say("warning", "33", text);
}

fn say(word: &str, colour: &str, text: &str) {
    let text =
        if colourful() { format!("\x1b[1;{colour}m{word}:\x1b[0m {text}\n") } else { format!("{word}: {text}\n") };
    // There is nobody left to tell when this fails.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether standard error takes colour: a terminal, without NO_COLOR (no-color.org) and not a dumb one.
fn colourful() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
