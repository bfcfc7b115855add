//! Where a view's columns come from, read from the query tree that PostgreSQL keeps for it.
//!
//! `pg_rewrite.ev_action` is `({QUERY … :targetList ({TARGETENTRY … :resno 1 … :resorigtbl 16384 :resorigcol 2 …} …) …})`.
//! The parser of PostgreSQL has followed each output column through joins and subselects to the relation that the query
//! names, which may be a view again. Only the outermost query's list counts; the tree nests others inside. A name may
//! hold any character: the tree has a backslash before those that would end a token.

/// Where one column of a view comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The view's column, from 1.
    pub column: i16,
    /// The relation's oid.
    pub relation: u32,
    /// The relation's column, from 1.
    pub source: i16,
}

/// The depth, in brackets, of the members of the outermost query: one list, one node.
const QUERY: usize = 2;

/// The depth of the members of its target list's entries.
const ENTRY: usize = QUERY + 2;

/// Origins of the columns of the view with this rule, those of expressions left out; nothing if the text is not of the
/// known form.
pub(super) fn origins(rule: &str) -> Option<Vec<Origin>> {
    let mut tokens = Tokens { text: rule.as_bytes(), at: 0 };
    let mut depth = 0_usize;
    let mut in_targets = false;
    let mut seen = false;
    let mut entry = Entry::default();
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        match token {
            b"(" | b"{" => {
                depth += 1;
                if depth == ENTRY {
                    entry = Entry::default();
                }
            }
            b")" | b"}" => {
                if in_targets && depth == ENTRY {
                    found.extend(entry.origin());
                }
                depth = depth.checked_sub(1)?;
                // The list's own bracket.
                if in_targets && depth == QUERY {
                    in_targets = false;
                }
            }
            b":targetList" if depth == QUERY && !seen => {
                (in_targets, seen) = (true, true);
            }
            name if name.first() == Some(&b':') && depth == QUERY => in_targets = false,
            name if in_targets && depth == ENTRY => {
                let member = match name {
                    b":resno" => &mut entry.column,
                    b":resorigtbl" => &mut entry.relation,
                    b":resorigcol" => &mut entry.source,
                    _ => continue,
                };
                *member = std::str::from_utf8(tokens.next()?).ok()?.parse().ok()?;
            }
            _ => {}
        }
    }
    (seen && depth == 0).then_some(found)
}

#[derive(Default)]
struct Entry {
    column: u32,
    relation: u32,
    source: u32,
}

impl Entry {
    fn origin(&self) -> Option<Origin> {
        if self.relation == 0 || self.source == 0 {
            return None;
        }
        // Sorting adds entries that are no columns; their numbers are of no column, and nobody asks for them.
        Some(Origin {
            column: i16::try_from(self.column).ok()?,
            relation: self.relation,
            source: i16::try_from(self.source).ok()?,
        })
    }
}

/// Brackets, and runs of other characters up to a blank or a bracket that has no backslash before it.
struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        let start = self.at;
        if is_bracket(*self.text.get(start)?) {
            self.at += 1;
            return Some(&self.text[start..self.at]);
        }
        while let Some(byte) = self.text.get(self.at) {
            if *byte == b'\\' {
                self.at += 1;
            } else if byte.is_ascii_whitespace() || is_bracket(*byte) {
                break;
            }
            self.at += 1;
        }
        self.at = self.at.min(self.text.len());
        Some(&self.text[start..self.at])
    }
}

fn is_bracket(byte: u8) -> bool {
    matches!(byte, b'(' | b')' | b'{' | b'}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_outer_list_counts() {
        let rule = r#"({QUERY :commandType 1 :utilityStmt <> :rtable ({RTE :subquery {QUERY :targetList ({TARGETENTRY
            :expr {VAR :varno 1} :resno 9 :resname x :resorigtbl 7 :resorigcol 7 :resjunk false})} :colnames
            ("a\ \{b\}")}) :targetList ({TARGETENTRY :expr {VAR :varno 1} :resno 1 :resname i\ d\) :ressortgroupref 0
            :resorigtbl 16384 :resorigcol 2 :resjunk false} {TARGETENTRY :expr {CONST :constvalue 4 [ 1 0 ]} :resno 2
            :resname <> :resorigtbl 0 :resorigcol 0 :resjunk false}) :onConflict {X :targetList ({TARGETENTRY :resno 5
            :resorigtbl 5 :resorigcol 5})}})"#;
        assert_eq!(origins(rule), Some(vec![Origin { column: 1, relation: 16384, source: 2 }]));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "<>", "({QUERY :rtable <>})", "({QUERY :targetList ({TARGETENTRY :resno x})})", ")", "({QUERY"]
        {
            assert_eq!(origins(text), None, "{text}");
        }
    }
}
