//! Asks before something is destroyed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::error::ErrorKind;

use crate::cli::Failure;

/// Asks on a terminal; elsewhere, `--yes` must have been given. `what` is a sentence without its mark, as in
/// "remove 12 messages from the queue mail".
pub(super) fn confirm(what: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let text = format!("this would {what}, and nobody is there to be asked: give --yes if that is meant.\n");
        return Err(Failure::Arguments(clap::Error::raw(ErrorKind::MissingRequiredArgument, text)));
    }
    let mut out = io::stderr().lock();
    let _ = write!(out, "This will {what}. Go on? [y/N] ");
    let _ = out.flush();
    drop(out);
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Failure::Other("nothing was changed.".into()))
    }
}
