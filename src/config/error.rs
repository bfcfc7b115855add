//! What loading the configuration may fail with.

use std::fmt::Write as _;

use super::Problem;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Everything that is wrong with it, in the order of the layers.
    #[error("{}", list(problems))]
    Invalid {
        /// What is wrong; never empty.
        problems: Vec<Problem>,
    },
}

impl Error {
    /// What is wrong.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        let Self::Invalid { problems } = self;
        problems
    }
}

fn list(problems: &[Problem]) -> String {
    let mut text = match problems.len() {
        1 => "the configuration has an error:".to_owned(),
        many => format!("the configuration has {many} errors:"),
    };
    for problem in problems {
        let _ = write!(text, "\n  {problem}");
    }
    text
}
