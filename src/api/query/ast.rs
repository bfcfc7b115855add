//! A request's query as a tree: what was asked for, before anybody looked whether it exists.
//!
//! Everything that a client can write is in these values and nowhere else; the planner turns them into SQL with every
//! value as a parameter and every name quoted.

/// One level of a query: the requested relation, or one embedded in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Level {
    /// What is selected. Empty is `*`.
    pub select: Vec<Item>,
    /// Conditions, joined by AND.
    pub filters: Vec<Logic>,
    /// Orderings, the first one first.
    pub order: Vec<Order>,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// Rows passed over.
    pub offset: Option<u64>,
}

/// A member of a `select` list.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `*`
    All,
    /// A column, a computed field or an aggregate.
    Column(Column),
    /// A related relation.
    Embed(Box<Embed>),
}

/// `[alias:]field[::cast][.aggregate()[::cast]]`, or `[alias:]count()`.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The name in the response.
    pub alias: Option<String>,
    /// The column; `None` is the bare `count()`.
    pub field: Option<Field>,
    /// The type that the value is cast to, before an aggregate.
    pub cast: Option<String>,
    /// The aggregate and the type that its result is cast to.
    pub aggregate: Option<(Aggregate, Option<String>)>,
}

/// Aggregate functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// `avg()`
    Avg,
    /// `count()`
    Count,
    /// `max()`
    Max,
    /// `min()`
    Min,
    /// `sum()`
    Sum,
}

/// A column, or a place inside of its JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The column or the computed field.
    pub name: String,
    /// Steps into a JSON value, an array or a composite; empty for the column itself.
    pub path: Vec<Step>,
}

/// `->key`, `->>key`, `->0`, `->>0`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// The key or the index.
    pub to: Key,
    /// Whether the result is text (`->>`).
    pub text: bool,
}

/// Where a step leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A member of an object.
    Name(String),
    /// An element of an array; negative counts from the end.
    Index(i32),
}

/// `[alias:]target[!hint][!inner|!left](…)`, or `...target(…)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Embed {
    /// The name in the response.
    pub alias: Option<String>,
    /// The relation, the constraint, the column or the computed relationship.
    pub target: String,
    /// Which of several relationships.
    pub hint: Option<String>,
    /// Whether parents without a match are left out.
    pub inner: bool,
    /// Whether the columns are lifted into the parent.
    pub spread: bool,
    /// What is asked of it. An empty `select` here is an embed without output (`rel()`), so the parser writes `All` for
    /// `rel(*)`.
    pub level: Level,
}

impl Embed {
    /// The name under which the rest of the query speaks of it: the alias, or the target.
    #[must_use]
    pub fn name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.target)
    }
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Logic {
    /// All of them; negated as a whole when the flag is set.
    And(bool, Vec<Logic>),
    /// One of them; negated as a whole when the flag is set.
    Or(bool, Vec<Logic>),
    /// A comparison.
    Filter(Filter),
    /// `rel=is.null` (`true`: no related row) or `rel=not.is.null` (`false`: at least one), where the number is the
    /// embed's place in this level's `select`.
    Related(usize, bool),
}

/// `field=[not.]operator.value`
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// What is compared.
    pub field: Field,
    /// Whether the outcome is negated.
    pub negated: bool,
    /// With what.
    pub operation: Operation,
}

/// How a field is compared, and with what.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// `eq.v`, and `eq(any).{a,b}` with a quantifier. For like and ilike, `*` has become `%` already.
    Compare(Operator, Option<Quantifier>, String),
    /// `in.(a,b)`
    In(Vec<String>),
    /// `is.v`
    Is(Is),
    /// `isdistinct.v`
    Distinct(String),
    /// `fts(config).v` and its relatives.
    Search(Search, Option<String>, String),
}

/// Operators with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Eq,
    /// `<>`
    Neq,
    /// `>`
    Gt,
    /// `>=`
    Gte,
    /// `<`
    Lt,
    /// `<=`
    Lte,
    /// `LIKE`
    Like,
    /// `ILIKE`
    Ilike,
    /// `~`
    Match,
    /// `~*`
    Imatch,
    /// `@>`
    Contains,
    /// `<@`
    Contained,
    /// `&&`
    Overlap,
    /// `<<`
    StrictlyLeft,
    /// `>>`
    StrictlyRight,
    /// `&<`
    NotExtendsRight,
    /// `&>`
    NotExtendsLeft,
    /// `-|-`
    Adjacent,
}

/// `(any)` and `(all)`: the value is an array literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    /// One of the values.
    Any,
    /// All of them.
    All,
}

/// What `is` compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// `NULL`
    Null,
    /// `NOT NULL`
    NotNull,
    /// `TRUE`
    True,
    /// `FALSE`
    False,
    /// `UNKNOWN`
    Unknown,
}

/// Functions that read a text search query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// `to_tsquery`
    Full,
    /// `plainto_tsquery`
    Plain,
    /// `phraseto_tsquery`
    Phrase,
    /// `websearch_to_tsquery`
    Web,
}

/// An ordering.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// By what.
    pub by: By,
    /// `asc` or `desc`; `None` is the database's default.
    pub descending: Option<bool>,
    /// `nullsfirst` (`true`) or `nullslast` (`false`); `None` is the database's default.
    pub nulls_first: Option<bool>,
}

/// What rows are ordered by.
#[derive(Clone, Debug, PartialEq)]
pub enum By {
    /// A field of the level's own relation.
    Field(Field),
    /// `rel(field)`: a field of a to-one embed, by its place in this level's `select`.
    Related(usize, Field),
}
