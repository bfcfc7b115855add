//! Conditions: operators, logic trees, and whether a related row exists.
//!
//! Negation is SQL's: NOT of an unknown outcome is unknown, and such a row is left out.

use super::planner::Planner;
use super::scope::Scope;
use super::sql::array;
use super::tree::{Link, Node};
use crate::api::query::{Filter, Is, Logic, Operation, Operator, Quantifier, Search};

fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Eq => " = ",
        Operator::Neq => " <> ",
        Operator::Gt => " > ",
        Operator::Gte => " >= ",
        Operator::Lt => " < ",
        Operator::Lte => " <= ",
        Operator::Like => " LIKE ",
        Operator::Ilike => " ILIKE ",
        Operator::Match => " ~ ",
        Operator::Imatch => " ~* ",
        Operator::Contains => " @> ",
        Operator::Contained => " <@ ",
        Operator::Overlap => " && ",
        Operator::StrictlyLeft => " << ",
        Operator::StrictlyRight => " >> ",
        Operator::NotExtendsRight => " &< ",
        Operator::NotExtendsLeft => " &> ",
        Operator::Adjacent => " -|- ",
    }
}

fn search(search: Search) -> &'static str {
    match search {
        Search::Full => "to_tsquery(",
        Search::Plain => "plainto_tsquery(",
        Search::Phrase => "phraseto_tsquery(",
        Search::Web => "websearch_to_tsquery(",
    }
}

impl Planner<'_> {
    /// ` WHERE` and all conditions of a node: its join with the parent, its filters, and what its inner embeds need.
    pub fn conditions(&mut self, node: &Node<'_>, parent: Option<&Scope>, counting: bool) {
        let mut first = true;
        let mut next = |planner: &mut Self| {
            planner.sql.push(if std::mem::take(&mut first) { " WHERE " } else { " AND " });
        };
        if let (Some(relationship), Some(parent)) = (node.relationship(), parent) {
            for (alias, near, far) in node.join_columns(relationship) {
                next(self);
                self.sql.column(alias, far).push(" = ").column(&parent.alias, near);
            }
        }
        for logic in node.filters {
            next(self);
            self.logic(logic, &node.scope, &node.links);
        }
        for link in &node.links {
            // An inner join does it where the embed is one.
            if link.embed.inner && (counting || !node.joins_inner(link)) {
                next(self);
                self.exists(link, &node.scope);
            }
        }
    }

    /// Conditions on the rows of a write.
    pub fn write_conditions(&mut self, filters: &[Logic], scope: &Scope, links: &[Link<'_>]) {
        for (at, logic) in filters.iter().enumerate() {
            self.sql.push(if at == 0 { " WHERE " } else { " AND " });
            self.logic(logic, scope, links);
        }
    }

    fn logic(&mut self, logic: &Logic, scope: &Scope, links: &[Link<'_>]) {
        match logic {
            Logic::And(negated, members) => self.tree(*negated, " AND ", "TRUE", members, scope, links),
            Logic::Or(negated, members) => self.tree(*negated, " OR ", "FALSE", members, scope, links),
            Logic::Filter(filter) => self.filter(filter, scope),
            Logic::Related(place, none) => match links.iter().find(|link| link.place == *place) {
                Some(link) => {
                    if *none {
                        self.sql.push("NOT ");
                    }
                    self.exists(link, scope);
                }
                // The parser gives places of embeds only.
                None => {
                    self.sql.push("FALSE");
                }
            },
        }
    }

    fn tree(&mut self, negated: bool, by: &str, empty: &str, members: &[Logic], scope: &Scope, links: &[Link<'_>]) {
        self.sql.push(if negated { "NOT (" } else { "(" });
        if members.is_empty() {
            self.sql.push(empty);
        }
        for (at, member) in members.iter().enumerate() {
            if at > 0 {
                self.sql.push(by);
            }
            self.logic(member, scope, links);
        }
        self.sql.push(")");
    }

    /// Whether a parent has a related row that the embed's own filters and inner embeds let through.
    pub fn exists(&mut self, link: &Link<'_>, parent: &Scope) {
        // A limit of none leaves none; any other keeps one if there is one.
        if link.embed.level.limit == Some(0) {
            self.sql.push("FALSE");
            return;
        }
        self.sql.push("EXISTS (SELECT");
        self.from(&link.node, Some(parent));
        self.conditions(&link.node, Some(parent), true);
        if let Some(offset) = link.embed.level.offset.filter(|offset| *offset > 0) {
            self.sql.push(" OFFSET ").value(offset.to_string());
        }
        self.sql.push(")");
    }

    fn filter(&mut self, filter: &Filter, scope: &Scope) {
        if filter.negated {
            self.sql.push("NOT (");
        }
        match &filter.operation {
            Operation::Compare(with, quantifier, value) => {
                self.field(scope, &filter.field);
                self.sql.push(operator(*with));
                match quantifier {
                    None => self.sql.value(value.as_str()),
                    Some(Quantifier::Any) => self.sql.push("ANY (").value(value.as_str()).push(")"),
                    Some(Quantifier::All) => self.sql.push("ALL (").value(value.as_str()).push(")"),
                };
            }
            Operation::In(values) => {
                self.field(scope, &filter.field);
                self.sql.push(" = ANY (").value(array(values)).push(")");
            }
            Operation::Is(is) => {
                self.field(scope, &filter.field);
                self.sql.push(match is {
                    Is::Null => " IS NULL",
                    Is::NotNull => " IS NOT NULL",
                    Is::True => " IS TRUE",
                    Is::False => " IS FALSE",
                    Is::Unknown => " IS UNKNOWN",
                });
            }
            Operation::Distinct(value) => {
                self.field(scope, &filter.field);
                self.sql.push(" IS DISTINCT FROM ").value(value.as_str());
            }
            Operation::Search(kind, config, value) => {
                let vector = scope.is_vector(self.catalog, &filter.field);
                if !vector {
                    self.sql.push("to_tsvector(");
                    self.config(config.as_deref());
                }
                self.field(scope, &filter.field);
                if !vector {
                    self.sql.push(")");
                }
                self.sql.push(" @@ ").push(search(*kind));
                self.config(config.as_deref());
                self.sql.value(value.as_str()).push(")");
            }
        }
        if filter.negated {
            self.sql.push(")");
        }
    }

    fn config(&mut self, config: Option<&str>) {
        if let Some(config) = config {
            self.sql.value(config).push("::regconfig, ");
        }
    }
}
