//! A level as a SELECT: its columns, embeds, conditions, groups, order and limits.

use super::Error;
use super::planner::Planner;
use super::scope::Scope;
use super::tree::{Link, Node, Origin, name_of};
use crate::api::query::{Aggregate, By, Column, Field, Item, Order};
use crate::api::schema::Join;
use crate::db::Parameter;

/// Columns that a level hands to its parent, which names them.
const NUMBERED: &str = "pgrst_";

/// How the columns of a SELECT are named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// As in the response.
    Own,
    /// By number, since the parent says what becomes of them.
    Numbered,
}

/// The list in the making.
struct List {
    names: Names,
    /// Columns so far.
    len: usize,
    /// Those that rows are grouped by.
    groups: Vec<usize>,
}

/// The parameters of a page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Page {
    /// The limit's.
    pub limit: Option<usize>,
    /// The offset's.
    pub offset: Option<usize>,
}

impl Planner<'_> {
    /// The outermost level; its page has parameters already.
    pub fn outermost(&mut self, node: &Node<'_>, page: Page) -> Result<(), Error> {
        self.level(node, None, Names::Own)?;
        self.order(node);
        self.cut(page);
        Ok(())
    }

    /// The parameters of a level's page.
    pub fn page(&mut self, node: &Node<'_>) -> Page {
        let mut add = |number: u64| self.sql.add(Parameter::Text(Some(number.to_string())));
        Page { limit: node.limit.map(&mut add), offset: node.offset.map(&mut add) }
    }

    fn select(&mut self, node: &Node<'_>, parent: &Scope, names: Names) -> Result<(), Error> {
        self.level(node, Some(parent), names)?;
        self.order(node);
        let page = self.page(node);
        self.cut(page);
        Ok(())
    }

    /// Whether and how many rows a level has: what a count reads. No order, no limits.
    pub fn matches(&mut self, node: &Node<'_>) -> Result<(), Error> {
        if node.grouped {
            return self.level(node, None, Names::Own);
        }
        self.sql.push("SELECT 1");
        self.from(node, None);
        self.conditions(node, None, true);
        Ok(())
    }

    fn level(&mut self, node: &Node<'_>, parent: Option<&Scope>, names: Names) -> Result<(), Error> {
        self.sql.push("SELECT");
        let mut list = List { names, len: 0, groups: Vec::new() };
        for (place, item) in node.select.iter().enumerate() {
            match item {
                Item::All => self.all(node, &mut list),
                Item::Column(column) => self.item(node, column, &mut list)?,
                Item::Embed(_) => {
                    if let Some(link) = node.link(place).filter(|link| link.shown) {
                        self.embed(node, link, &mut list)?;
                    }
                }
            }
        }
        self.from(node, parent);
        for link in &node.links {
            if node.joins(link) {
                self.join(node, link)?;
            }
        }
        self.order_joins(node);
        self.conditions(node, parent, false);
        if node.grouped && !list.groups.is_empty() {
            self.sql.push(" GROUP BY ");
            self.sql.list(", ", list.groups, |sql, at| {
                sql.number(at);
            });
        }
        Ok(())
    }

    fn all(&mut self, node: &Node<'_>, list: &mut List) {
        let names = node.scope.names().filter(|_| node.grouped || node.expand || list.names == Names::Numbered);
        let Some(names) = names else {
            self.next(list, false);
            self.sql.ident(&node.scope.alias).push(".*");
            return;
        };
        for name in names {
            self.next(list, true);
            self.sql.column(&node.scope.alias, &name);
            self.named(list, None);
        }
    }

    fn item(&mut self, node: &Node<'_>, column: &Column, list: &mut List) -> Result<(), Error> {
        let aggregated = column.aggregate.is_some() || column.field.is_none();
        self.next(list, !aggregated);
        let inner = |planner: &mut Self, without: &str| {
            if let Some(field) = &column.field {
                return planner.cast_field(&node.scope, field, column.cast.as_deref());
            }
            planner.sql.push(without);
            Ok(())
        };
        if aggregated && !node.hoists {
            self.aggregate(column, |planner| inner(planner, "*"))?;
        } else {
            // Without a field, something that is there if the row is: the parent counts it.
            inner(self, "1")?;
        }
        let plain = !aggregated
            && column.cast.is_none()
            && column.alias.is_none()
            && column
                .field
                .as_ref()
                .is_some_and(|field| field.path.is_empty() && node.scope.computed(self.catalog, &field.name).is_none());
        self.named(list, (!plain).then(|| name_of(column)));
        Ok(())
    }

    fn aggregate(&mut self, column: &Column, inner: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let (function, cast) = match &column.aggregate {
            Some((aggregate, cast)) => (*aggregate, cast.as_deref()),
            None => (Aggregate::Count, None),
        };
        let mut outcome = Ok(());
        self.cast(cast, |planner| {
            planner.sql.push(match function {
                Aggregate::Avg => "avg(",
                Aggregate::Count => "count(",
                Aggregate::Max => "max(",
                Aggregate::Min => "min(",
                Aggregate::Sum => "sum(",
            });
            outcome = inner(planner);
            planner.sql.push(")");
        })?;
        outcome
    }

    /// An embed's part of the select list.
    fn embed(&mut self, node: &Node<'_>, link: &Link<'_>, list: &mut List) -> Result<(), Error> {
        if link.embed.spread {
            for (at, output) in link.node.outputs()?.into_iter().enumerate() {
                self.next(list, output.aggregate.is_none());
                let column = format!("{NUMBERED}{}", at + 1);
                if let Some(aggregated) = output.aggregate.filter(|_| !node.hoists) {
                    self.aggregate(aggregated, |planner| {
                        planner.sql.column(&link.join, &column);
                        Ok(())
                    })?;
                } else {
                    self.sql.column(&link.join, &column);
                    if node.grouped && (output.json || !link.one) {
                        self.sql.push("::jsonb");
                    }
                }
                self.named(list, Some(&output.name));
            }
            return Ok(());
        }
        self.next(list, true);
        if node.joins(link) {
            if link.one {
                self.sql.push("row_to_json(").ident(&link.join).push(".*)");
            } else {
                self.sql.column(&link.join, NUMBERED);
            }
        } else if link.one {
            self.sql.push("(SELECT row_to_json(r.*) FROM (");
            self.select(&link.node, &node.scope, Names::Own)?;
            self.sql.push(") AS r)");
        } else {
            self.sql.push("coalesce((SELECT json_agg(r.*) FROM (");
            self.select(&link.node, &node.scope, Names::Own)?;
            self.sql.push(") AS r), '[]')");
        }
        if node.grouped {
            // Type json has no equality, and so no groups.
            self.sql.push("::jsonb");
        }
        self.named(list, Some(link.embed.name()));
        Ok(())
    }

    /// An embed's join.
    fn join(&mut self, node: &Node<'_>, link: &Link<'_>) -> Result<(), Error> {
        self.sql.push(if node.joins_inner(link) { " JOIN LATERAL (" } else { " LEFT JOIN LATERAL (" });
        match (link.embed.spread, link.one) {
            (true, true) => self.select(&link.node, &node.scope, Names::Numbered)?,
            (true, false) => {
                self.sql.push("SELECT ");
                let outputs = link.node.outputs()?.len();
                self.sql.list(", ", 1..=outputs, |sql, at| {
                    let name = format!("{NUMBERED}{at}");
                    sql.push("coalesce(json_agg(").column("r", &name).push("), '[]') AS ").ident(&name);
                });
                self.sql.push(" FROM (");
                self.select(&link.node, &node.scope, Names::Numbered)?;
                self.sql.push(") AS r");
            }
            (false, true) => self.select(&link.node, &node.scope, Names::Own)?,
            (false, false) => {
                self.sql.push("SELECT coalesce(json_agg(r.*), '[]') AS ").ident(NUMBERED).push(" FROM (");
                self.select(&link.node, &node.scope, Names::Own)?;
                self.sql.push(") AS r");
            }
        }
        self.sql.push(") AS ").ident(&link.join).push(" ON TRUE");
        Ok(())
    }

    /// Joins that bring in what rows are ordered by. They are apart from the embeds: an embed shows other columns.
    fn order_joins(&mut self, node: &Node<'_>) {
        for (at, order) in node.level.order.iter().enumerate() {
            let By::Related(place, field) = &order.by else { continue };
            let Some(link) = node.link(*place).filter(|link| lifted(node, link, field).is_none()) else { continue };
            self.sql.push(" LEFT JOIN LATERAL (SELECT ");
            self.field(&link.node.scope, field);
            self.sql.push(" AS ").ident(NUMBERED);
            self.from(&link.node, Some(&node.scope));
            self.conditions(&link.node, Some(&node.scope), true);
            self.sql.push(") AS ").ident(&order_alias(at)).push(" ON TRUE");
        }
    }

    fn order(&mut self, node: &Node<'_>) {
        if node.level.order.is_empty() {
            return;
        }
        self.sql.push(" ORDER BY ");
        for (at, order) in node.level.order.iter().enumerate() {
            if at > 0 {
                self.sql.push(", ");
            }
            match &order.by {
                By::Field(field) => self.field(&node.scope, field),
                By::Related(place, field) => {
                    let column = node.link(*place).and_then(|link| Some((link, lifted(node, link, field)?)));
                    match column {
                        Some((link, number)) => self.sql.column(&link.join, &format!("{NUMBERED}{number}")),
                        None => self.sql.column(&order_alias(at), NUMBERED),
                    };
                }
            }
            self.sql.push(direction(order));
        }
    }

    fn cut(&mut self, page: Page) {
        if let Some(limit) = page.limit {
            self.sql.push(" LIMIT ").parameter(limit);
        }
        if let Some(offset) = page.offset {
            self.sql.push(" OFFSET ").parameter(offset);
        }
    }

    /// ` FROM` and where the rows come from.
    pub fn from(&mut self, node: &Node<'_>, parent: Option<&Scope>) {
        self.sql.push(" FROM ");
        match &node.origin {
            Origin::Relation(name) => {
                self.sql.name(name).push(" AS ").ident(&node.scope.alias);
            }
            Origin::Source => {
                self.sql.ident(super::SOURCE).push(" AS ").ident(&node.scope.alias);
            }
            Origin::Call(function, arguments) => self.call(function, arguments, &node.scope.alias),
            Origin::Related(relationship, junction) => match (&relationship.join, junction, parent) {
                (Join::Computed(function, _), _, Some(parent)) => {
                    self.sql.name(function).push("(");
                    self.row(parent);
                    self.sql.push(") AS ").ident(&node.scope.alias);
                }
                (Join::ManyToMany(through), Some(junction), _) => {
                    self.sql.name(&relationship.to).push(" AS ").ident(&node.scope.alias);
                    self.sql.push(" JOIN ").name(&through.relation).push(" AS ").ident(junction).push(" ON ");
                    self.sql.list(" AND ", &through.far.columns, |sql, (near, far)| {
                        sql.column(&node.scope.alias, far).push(" = ").column(junction, near);
                    });
                }
                _ => {
                    self.sql.name(&relationship.to).push(" AS ").ident(&node.scope.alias);
                }
            },
        }
    }

    fn next(&mut self, list: &mut List, grouping: bool) {
        self.sql.push(if list.len == 0 { " " } else { ", " });
        list.len += 1;
        if grouping {
            list.groups.push(list.len);
        }
    }

    fn named(&mut self, list: &List, name: Option<&str>) {
        match (list.names, name) {
            (Names::Numbered, _) => {
                let name = format!("{NUMBERED}{}", list.len);
                self.sql.push(" AS ").ident(&name);
            }
            (Names::Own, Some(name)) => {
                self.sql.push(" AS ").ident(name);
            }
            (Names::Own, None) => {}
        }
    }
}

/// Where rows are grouped, they can be ordered by what they are grouped by and by nothing else: the number of the column
/// in which a spread lifts the field.
fn lifted(node: &Node<'_>, link: &Link<'_>, field: &Field) -> Option<usize> {
    if !(node.grouped && link.embed.spread && field.path.is_empty()) {
        return None;
    }
    let outputs = link.node.outputs().ok()?;
    let at = outputs.iter().position(|output| output.plain.as_deref() == Some(field.name.as_str()))?;
    Some(at + 1)
}

/// The alias of a join for an ordering.
fn order_alias(at: usize) -> String {
    format!("pgrst_order_{at}")
}

/// ` ASC NULLS FIRST` and the like.
pub fn direction(order: &Order) -> &'static str {
    match (order.descending, order.nulls_first) {
        (None, None) => "",
        (Some(false), None) => " ASC",
        (Some(true), None) => " DESC",
        (None, Some(true)) => " NULLS FIRST",
        (None, Some(false)) => " NULLS LAST",
        (Some(false), Some(true)) => " ASC NULLS FIRST",
        (Some(false), Some(false)) => " ASC NULLS LAST",
        (Some(true), Some(true)) => " DESC NULLS FIRST",
        (Some(true), Some(false)) => " DESC NULLS LAST",
    }
}
