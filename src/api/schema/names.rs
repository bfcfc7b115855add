//! Names that many parts of a catalogue share, each kept once.

use std::collections::HashSet;
use std::sync::Arc;

use super::catalog::Name;

/// The names seen so far.
#[derive(Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    /// The one copy of `text`.
    pub(super) fn keep(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.0.insert(new.clone());
        new
    }

    /// A name in a schema.
    pub(super) fn name(&mut self, schema: &str, name: &str) -> Name {
        Name { schema: self.keep(schema), name: self.keep(name) }
    }
}
