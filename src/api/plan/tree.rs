//! The query's levels with what the catalogue knows: relations, relationships and aliases. SQL is written from it, in
//! part more than once (a count asks for the same rows).
//!
//! Aliases are made here, once for all: `relation_depth`, as error messages of PostgreSQL show them, and never the alias
//! of a level around it, which a join's condition could not tell apart.

use std::collections::HashSet;
use std::sync::Arc;

use super::Error;
use super::scope::{Rows, Scope};
use super::sql::alias;
use super::work::{Arguments, Target, Work};
use crate::api::query::{By, Column, Embed, Item, Level, Logic};
use crate::api::schema::{Catalog, Function, Join, Name, RelationKind, Relationship, Returns};

/// How deeply embeds may be nested.
pub const DEEPEST: usize = 32;

/// What PostgREST says of them.
const SPREAD_AGGREGATES: &str = "Aggregates are not implemented for one-to-many or many-to-many spreads.";

/// What `*` is when nothing is selected.
static ALL: [Item; 1] = [Item::All];

/// Where a level's rows come from.
#[derive(Debug)]
pub enum Origin<'a> {
    /// A relation that is read.
    Relation(&'a Name),
    /// What a write returned, or a function's rows that are kept.
    Source,
    /// A function.
    Call(&'a Arc<Function>, &'a Arguments<'a>),
    /// Rows that are related to the parent's, and the alias of the junction if there is one.
    Related(Arc<Relationship>, Option<String>),
}

/// A level.
#[derive(Debug)]
pub struct Node<'a> {
    /// Where the rows come from.
    pub origin: Origin<'a>,
    /// Their alias.
    pub scope: Scope,
    /// What is selected.
    pub select: &'a [Item],
    /// The level as it was asked for.
    pub level: &'a Level,
    /// Conditions: the level's, or none where a write has heeded them already.
    pub filters: &'a [Logic],
    /// At most so many rows.
    pub limit: Option<u64>,
    /// Rows passed over.
    pub offset: Option<u64>,
    /// Embeds.
    pub links: Vec<Link<'a>>,
    /// Whether aggregates are left to the parent: in a spread of one row, they are of the parent's rows.
    pub hoists: bool,
    /// Whether aggregates are computed here.
    pub grouped: bool,
    /// Whether `*` is written out, since the rows have more columns than it means.
    pub expand: bool,
}

/// An embed.
#[derive(Debug)]
pub struct Link<'a> {
    /// Its place in the parent's select list.
    pub place: usize,
    /// As it was asked for.
    pub embed: &'a Embed,
    /// Its level.
    pub node: Node<'a>,
    /// The alias of the join that brings it in.
    pub join: String,
    /// Whether there is at most one row.
    pub one: bool,
    /// Whether anything of it is shown.
    pub shown: bool,
}

/// A column of a level's result.
#[derive(Debug)]
pub struct Output<'a> {
    /// Its name in the response.
    pub name: Arc<str>,
    /// The level's own column that it shows as it is.
    pub plain: Option<Arc<str>>,
    /// What the parent computes of it.
    pub aggregate: Option<&'a Column>,
    /// Whether it is of the type json.
    pub json: bool,
}

impl<'a> Node<'a> {
    /// The tree of a request.
    pub fn root(catalog: &Catalog, work: &'a Work<'a>, kept: bool) -> Result<Self, Error> {
        let (origin, scope) = match &work.target {
            Target::Read(name) => {
                (Origin::Relation(name), Scope::relation(catalog, name, name.name.to_string(), Rows::Native))
            }
            Target::Insert(name, _) | Target::Update(name, _) | Target::Delete(name) => {
                (Origin::Source, Scope::relation(catalog, name, name.name.to_string(), Rows::Returned))
            }
            Target::Call(function, arguments) => {
                let origin = if kept { Origin::Source } else { Origin::Call(function, arguments) };
                (origin, function_scope(catalog, function, if kept { Rows::Kept } else { Rows::Native }))
            }
        };
        let level = work.level;
        let writes = matches!(work.target, Target::Update(..) | Target::Delete(_));
        let cap = match work.target {
            Target::Read(_) | Target::Call(..) => work.max_rows,
            _ => None,
        };
        let mut builder = Builder {
            catalog,
            aliases: HashSet::new(),
            path: vec![scope.alias.clone()],
            aggregates: work.aggregates,
            cap,
        };
        let select = if level.select.is_empty() { &ALL } else { level.select.as_slice() };
        let mut node = Node {
            origin,
            scope,
            select,
            level,
            filters: if writes { &[] } else { &level.filters },
            limit: if writes { None } else { least(level.limit, cap) },
            offset: if writes { None } else { level.offset.filter(|offset| *offset > 0) },
            links: Vec::new(),
            hoists: false,
            grouped: false,
            expand: false,
        };
        builder.fill(&mut node)?;
        Ok(node)
    }

    /// How it is related to its parent.
    pub fn relationship(&self) -> Option<&Relationship> {
        match &self.origin {
            Origin::Related(relationship, _) => Some(relationship),
            _ => None,
        }
    }

    /// The pairs that join it with its parent: the alias on this side, the parent's column, this side's column.
    pub fn join_columns<'b>(
        &'b self,
        relationship: &'b Relationship,
    ) -> impl Iterator<Item = (&'b str, &'b str, &'b str)> {
        let junction = match &self.origin {
            Origin::Related(_, Some(junction)) => junction.as_str(),
            _ => self.scope.alias.as_str(),
        };
        let columns = match &relationship.join {
            Join::ManyToOne(key) | Join::OneToOne(key, _) | Join::OneToMany(key) => key.columns.as_slice(),
            Join::ManyToMany(through) => through.near.columns.as_slice(),
            Join::Computed(..) => &[],
        };
        columns.iter().map(move |(near, far)| (junction, &**near, &**far))
    }

    /// The link of a place in the select list.
    pub fn link(&self, place: usize) -> Option<&Link<'a>> {
        self.links.iter().find(|link| link.place == place)
    }

    /// Whether the link is written as a join, and not as an expression of the select list. An expression is computed
    /// for the rows that are left after ORDER BY and LIMIT, so it is better wherever its cost is that of an index.
    pub fn joins(&self, link: &Link<'_>) -> bool {
        let indexed = match &link.node.scope.relation {
            Some(relation) => relation.kind == RelationKind::Table,
            None => false,
        };
        let computed = matches!(link.node.relationship().map(|to| &to.join), Some(Join::Computed(..)));
        link.shown && (link.embed.spread || self.grouped || (link.one && (!indexed || computed)))
    }

    /// Whether the link's join leaves out the parents without a match.
    pub fn joins_inner(&self, link: &Link<'_>) -> bool {
        link.embed.inner && link.one && self.joins(link)
    }

    /// The columns of the level's result, with every `*` written out.
    pub fn outputs(&self) -> Result<Vec<Output<'a>>, Error> {
        let mut outputs = Vec::new();
        for (place, item) in self.select.iter().enumerate() {
            match item {
                Item::All => {
                    let names = self
                        .scope
                        .names()
                        .ok_or(Error::Unsupported("The columns of this result are not known beforehand."))?;
                    outputs.extend(names.into_iter().map(|name| Output {
                        plain: Some(name.clone()),
                        name,
                        aggregate: None,
                        json: false,
                    }));
                }
                Item::Column(column) => {
                    let aggregate = self.hoists && column.aggregate.is_some();
                    let name = Arc::from(name_of(column));
                    let plain = column
                        .field
                        .as_ref()
                        .filter(|field| field.path.is_empty() && column.cast.is_none() && column.aggregate.is_none());
                    outputs.push(Output {
                        name,
                        plain: plain.map(|field| Arc::from(field.name.as_str())),
                        aggregate: aggregate.then_some(column),
                        json: false,
                    });
                }
                Item::Embed(_) => {
                    let Some(link) = self.link(place).filter(|link| link.shown) else { continue };
                    if link.embed.spread {
                        for output in link.node.outputs()? {
                            outputs.push(Output {
                                name: output.name,
                                plain: None,
                                aggregate: output.aggregate.filter(|_| self.hoists),
                                json: output.json || !link.one,
                            });
                        }
                    } else {
                        let name = Arc::from(link.embed.name());
                        outputs.push(Output { name, plain: None, aggregate: None, json: true });
                    }
                }
            }
        }
        Ok(outputs)
    }
}

/// The name of a column in the response.
pub fn name_of(column: &Column) -> &str {
    use crate::api::query::{Aggregate, Key};
    if let Some(alias) = &column.alias {
        return alias;
    }
    if let Some((aggregate, _)) = &column.aggregate {
        return match aggregate {
            Aggregate::Avg => "avg",
            Aggregate::Count => "count",
            Aggregate::Max => "max",
            Aggregate::Min => "min",
            Aggregate::Sum => "sum",
        };
    }
    let Some(field) = &column.field else { return "count" };
    // The last key of the path; an index has no name.
    let key = field.path.iter().rev().find_map(|step| match &step.to {
        Key::Name(name) => Some(name),
        Key::Index(_) => None,
    });
    key.unwrap_or(&field.name)
}

/// The scope of a function's rows.
fn function_scope(catalog: &Catalog, function: &Function, rows: Rows) -> Scope {
    match &function.returns {
        Returns::Composite(name) => {
            let scope = Scope::relation(catalog, name, name.name.to_string(), rows);
            if scope.relation.is_some() { scope } else { Scope { name: function.name.clone(), ..scope } }
        }
        returns => Scope {
            alias: function.name.name.to_string(),
            name: function.name.clone(),
            relation: None,
            columns: match returns {
                Returns::Columns(columns) => columns.clone(),
                Returns::Scalar(of) => vec![(Arc::from(super::call::SCALAR), of.clone())],
                Returns::Void | Returns::Record | Returns::Composite(_) => {
                    vec![(Arc::from(super::call::SCALAR), Box::from("record"))]
                }
            },
            rows,
        },
    }
}

/// The smaller of two limits.
fn least(asked: Option<u64>, cap: Option<u64>) -> Option<u64> {
    match (asked, cap) {
        (Some(asked), Some(cap)) => Some(asked.min(cap)),
        (asked, cap) => asked.or(cap),
    }
}

/// Whether a level shows anything.
fn shows(level: &Level) -> bool {
    level.select.iter().any(|item| match item {
        Item::All | Item::Column(_) => true,
        Item::Embed(embed) => shows(&embed.level),
    })
}

struct Builder<'c> {
    catalog: &'c Catalog,
    /// Aliases of joins, of the whole statement.
    aliases: HashSet<String>,
    /// Aliases of the levels around.
    path: Vec<String>,
    aggregates: bool,
    cap: Option<u64>,
}

impl Builder<'_> {
    /// The embeds of a level.
    fn fill<'a>(&mut self, node: &mut Node<'a>) -> Result<(), Error> {
        if self.path.len() > DEEPEST + 1 {
            return Err(Error::TooDeep(DEEPEST));
        }
        let select: &'a [Item] = node.select;
        let mut own = false;
        for (place, item) in select.iter().enumerate() {
            match item {
                Item::All => {}
                Item::Column(column) => own |= column.aggregate.is_some() || column.field.is_none(),
                Item::Embed(embed) => {
                    if node.links.iter().any(|link| link.embed.name() == embed.name()) {
                        let name = format!("{}_{}_{}", node.scope.name.name, embed.name(), self.path.len());
                        return Err(Error::SameName(name));
                    }
                    let link = self.link(&node.scope, place, embed)?;
                    node.links.push(link);
                }
            }
        }
        if own && !self.aggregates {
            return Err(Error::AggregatesDisabled);
        }
        let hoisted = node.links.iter().any(|link| link.node.hoists && link.node.has_hoisted());
        node.grouped = !node.hoists && (own || hoisted);
        node.check_orders()
    }

    fn link<'a>(&mut self, parent: &Scope, place: usize, embed: &'a Embed) -> Result<Link<'a>, Error> {
        let relationship = self.catalog.relationship(&parent.name, &embed.target, embed.hint.as_deref())?;
        let depth = self.path.len();
        let one = relationship.to_one();
        let own = self.level_alias(&relationship.to.name, depth);
        let junction = match &relationship.join {
            Join::ManyToMany(through) => {
                self.path.push(own.clone());
                let junction = self.level_alias(&through.relation.name, depth);
                self.path.pop();
                Some(junction)
            }
            _ => None,
        };
        let scope = Scope::relation(self.catalog, &relationship.to, own, Rows::Native);
        let join = self.join_alias(&format!("{}_{}", parent.name.name, embed.name()), depth);
        let level = &embed.level;
        let mut node = Node {
            origin: Origin::Related(relationship, junction),
            scope,
            select: &level.select,
            level,
            filters: &level.filters,
            // A to-one level has one row at most; a limit would only keep PostgreSQL from joining as it likes.
            limit: if one { level.limit } else { least(level.limit, self.cap) },
            offset: level.offset.filter(|offset| *offset > 0),
            links: Vec::new(),
            hoists: embed.spread && one,
            grouped: false,
            expand: false,
        };
        self.path.push(node.scope.alias.clone());
        let filled = self.fill(&mut node);
        self.path.pop();
        filled?;
        if embed.spread && !one && node.grouped {
            return Err(Error::Unsupported(SPREAD_AGGREGATES));
        }
        Ok(Link { place, embed, node, join, one, shown: shows(level) })
    }

    fn level_alias(&self, relation: &str, depth: usize) -> String {
        let mut suffix = format!("_{depth}");
        loop {
            let made = alias(relation, &suffix);
            if !self.path.contains(&made) {
                return made;
            }
            suffix.push('_');
        }
    }

    fn join_alias(&mut self, base: &str, depth: usize) -> String {
        let mut suffix = format!("_{depth}");
        loop {
            let made = alias(base, &suffix);
            if !self.path.contains(&made) && self.aliases.insert(made.clone()) {
                return made;
            }
            suffix.push('_');
        }
    }
}

impl Node<'_> {
    /// Orderings by related rows are by one row.
    fn check_orders(&self) -> Result<(), Error> {
        for order in &self.level.order {
            let By::Related(place, _) = &order.by else { continue };
            let link = self.link(*place);
            if !link.is_some_and(|link| link.one) {
                let target = link.map_or("", |link| link.embed.name()).to_owned();
                return Err(Error::OrderNotToOne { origin: self.scope.name.name.to_string(), target });
            }
        }
        Ok(())
    }

    /// Whether there are aggregates here that the parent computes.
    fn has_hoisted(&self) -> bool {
        self.select.iter().any(|item| matches!(item, Item::Column(column) if column.aggregate.is_some()))
            || self.links.iter().any(|link| link.node.hoists && link.node.has_hoisted())
    }
}
