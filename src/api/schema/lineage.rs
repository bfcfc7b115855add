//! What views take over from the tables below them: columns, and so keys; and whether policies stand before their rows.

use std::collections::{HashMap, HashSet};

use super::nodes::Origin;
use super::read::{Guard, View};

/// A table's column: its oid and the column's number.
pub(super) type Source = (u32, i16);

/// The views' columns, by view and column.
#[derive(Default)]
pub(super) struct Lineage {
    origins: HashMap<u32, HashMap<i16, Source>>,
    uses: HashMap<u32, Vec<u32>>,
}

impl Lineage {
    pub(super) fn new(views: Vec<View>) -> Self {
        let mut lineage = Self::default();
        for view in views {
            let columns =
                view.origins.into_iter().map(|Origin { column, relation, source }| (column, (relation, source)));
            lineage.origins.insert(view.oid, columns.collect());
            lineage.uses.insert(view.oid, view.uses);
        }
        lineage
    }

    /// For each source below `view`, at any depth, the columns of the view that show it, in their order.
    pub(super) fn shown(&self, view: u32) -> HashMap<Source, Vec<i16>> {
        let mut shown: HashMap<Source, Vec<i16>> = HashMap::new();
        let Some(columns) = self.origins.get(&view) else {
            return shown;
        };
        for column in columns.keys() {
            let mut passed: HashSet<Source> = HashSet::from([(view, *column)]);
            let mut at = (view, *column);
            // A view can be made to select from itself, which ends here.
            while let Some(next) = self.origins.get(&at.0).and_then(|columns| columns.get(&at.1)).copied()
                && passed.insert(next)
            {
                shown.entry(next).or_default().push(*column);
                at = next;
            }
        }
        for columns in shown.values_mut() {
            columns.sort_unstable();
        }
        shown
    }

    /// All relations that views name.
    pub(super) fn used(&self) -> impl Iterator<Item = u32> {
        self.uses.values().flatten().copied().chain(self.uses.keys().copied())
    }
}

/// Decides whether reading a relation is under row-level security.
pub(super) struct Protection<'a> {
    guards: HashMap<u32, &'a Guard>,
    lineage: &'a Lineage,
}

impl<'a> Protection<'a> {
    pub(super) fn new(guards: &'a [Guard], lineage: &'a Lineage) -> Self {
        Self { guards: guards.iter().map(|guard| (guard.oid, guard)).collect(), lineage }
    }

    /// Whether policies stand before the rows that a client's role reads from `relation`.
    ///
    /// A table is protected when it has row-level security enabled. A view is when all relations that it names are, for
    /// whoever reads them: the caller where it has `security_invoker`, else the view's owner, whom a table's policies
    /// bind only if it neither bypasses them nor owns the table without FORCE. What cannot be told counts as open:
    /// a materialized view's copy, a foreign table, a view over functions alone.
    pub(super) fn of(&self, relation: u32) -> bool {
        self.read_by(relation, None, &mut Vec::new())
    }

    /// `reader` is the view's owner for whom the relation is read, with whether it bypasses policies; nothing is the
    /// client's role.
    fn read_by(&self, relation: u32, reader: Option<(u32, bool)>, path: &mut Vec<u32>) -> bool {
        let Some(guard) = self.guards.get(&relation) else {
            return false;
        };
        match guard.kind.as_str() {
            "r" | "p" => {
                guard.secured
                    && reader.is_none_or(|(owner, bypasses)| !bypasses && (owner != guard.owner || guard.forced))
            }
            "v" if !path.contains(&relation) => {
                let reader = if guard.invoker { reader } else { Some((guard.owner, guard.owner_bypasses)) };
                path.push(relation);
                let mut any = false;
                let all = self.lineage.uses.get(&relation).is_some_and(|uses| {
                    uses.iter().filter(|used| self.guards.get(*used).is_none_or(|used| !used.system)).all(|used| {
                        any = true;
                        self.read_by(*used, reader, path)
                    })
                });
                path.pop();
                all && any
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(oid: u32, kind: &str, owner: u32) -> Guard {
        Guard {
            oid,
            kind: kind.into(),
            owner,
            owner_bypasses: owner == 10,
            secured: false,
            forced: false,
            invoker: false,
            system: false,
        }
    }

    fn view(oid: u32, uses: &[u32]) -> View {
        View { oid, origins: Vec::new(), uses: uses.to_vec() }
    }

    #[test]
    fn a_view_is_as_open_as_what_its_reader_may_see() {
        let guards = [
            guard(1, "r", 20),
            Guard { secured: true, ..guard(2, "r", 20) },
            Guard { secured: true, forced: true, ..guard(3, "r", 20) },
            guard(4, "v", 20),
            Guard { invoker: true, ..guard(5, "v", 20) },
            guard(6, "v", 20),
            guard(7, "v", 10),
            guard(8, "v", 21),
            Guard { invoker: true, ..guard(9, "v", 20) },
            guard(10, "m", 20),
            guard(11, "v", 20),
        ];
        let lineage = Lineage::new(vec![
            view(4, &[2]),
            view(5, &[2]),
            view(6, &[3]),
            view(7, &[3]),
            view(8, &[2]),
            view(9, &[2, 1]),
            view(11, &[11]),
        ]);
        let protection = Protection::new(&guards, &lineage);
        let of = |relation| protection.of(relation);
        assert!(!of(1), "a table without row-level security is open");
        assert!(of(2));
        assert!(!of(4), "the owner of a table is not bound");
        assert!(of(5), "the caller is bound");
        assert!(of(6), "FORCE binds the owner");
        assert!(!of(7), "BYPASSRLS is not bound by FORCE");
        assert!(of(8), "another owner is bound");
        assert!(!of(9), "one open table is enough");
        assert!(!of(10), "a copy has no policies");
        assert!(!of(11), "a view of itself ends");
        assert!(!of(99), "what is not known is open");
    }

    #[test]
    fn columns_are_followed_through_views_and_cycles_end() {
        let origin = |column, relation, source| Origin { column, relation, source };
        let lineage = Lineage::new(vec![
            View { oid: 5, origins: vec![origin(1, 4, 2), origin(2, 4, 2), origin(3, 4, 1)], uses: vec![4] },
            View { oid: 4, origins: vec![origin(1, 3, 7), origin(2, 3, 8)], uses: vec![3] },
            View { oid: 6, origins: vec![origin(1, 6, 1)], uses: vec![] },
        ]);
        let shown = lineage.shown(5);
        assert_eq!(shown[&(3, 8)], [1, 2]);
        assert_eq!(shown[&(3, 7)], [3]);
        assert_eq!(shown[&(4, 2)], [1, 2]);
        assert!(lineage.shown(6).is_empty());
        assert!(lineage.shown(99).is_empty());
    }
}
