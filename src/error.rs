//! Error chains on one line, and the exit codes of the program.
//!
//! `Display` of our errors never repeats its source, so that [`chain`] can join the whole story once, where the error
//! is handled.

use std::error::Error;
use std::fmt;

/// What an asynchronous body or callback may fail with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Exit codes, after sysexits.h where it has one.
pub mod exit {
    /// Everything was done.
    pub const OK: u8 = 0;
    /// Something failed that has no code of its own.
    pub const FAILURE: u8 = 1;
    /// The command line is wrong (EX_USAGE).
    pub const USAGE: u8 = 64;
    /// A service that is needed does not answer (EX_UNAVAILABLE).
    pub const UNAVAILABLE: u8 = 69;
    /// The configuration is wrong (EX_CONFIG).
    pub const CONFIG: u8 = 78;
}

/// One thing that is wrong with a configuration value, found by a module's `validate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key below the module's section, dotted, as in `acme.domains`.
    pub key: String,
    /// What is wrong with the value.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

impl Fault {
    /// A fault of `key`.
    pub fn new(key: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into(), fix: fix.into() }
    }

    /// The same fault, its key put below `section`.
    #[must_use]
    pub fn within(self, section: &str) -> Self {
        Self { key: format!("{section}.{}", self.key), ..self }
    }
}

/// Displays an error followed by its sources, joined by `: `.
pub struct Chain<'a>(&'a (dyn Error + 'static));

/// Displays `error` and all of its sources on one line.
#[must_use]
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)?;
        let mut last = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some libraries repeat their source in Display; once is enough.
            if !last.ends_with(&text) {
                write!(out, ": {text}")?;
            }
            last = text;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the certificate")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_tells_every_cause_once() {
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&error).to_string(), "cannot read the certificate: disk on fire");
    }
}
