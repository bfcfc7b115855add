//! What the database has, as the API sees it: relations, how they are related, and functions.
//!
//! A [`Catalog`] is read whole and never changed; a reload makes a new one beside it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A name with its schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The schema.
    pub schema: Arc<str>,
    /// The name in it.
    pub name: Arc<str>,
}

/// Names and values of settings, as `set_config` takes them.
pub type Settings = Vec<(Box<str>, Box<str>)>;

/// Everything that can be asked for.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Tables, views, materialized views, foreign and partitioned tables of the exposed schemas (and those that
    /// junctions, computed fields and functions' results lead to), by name.
    pub relations: HashMap<Name, Arc<Relation>>,
    /// The relationships of each relation, from it to others.
    pub relationships: HashMap<Name, Vec<Arc<Relationship>>>,
    /// The functions of the exposed schemas, overloads together.
    pub functions: HashMap<Name, Vec<Arc<Function>>>,
    /// Functions of one argument that is a relation's row and that return no set: computed fields, by relation and name.
    pub computed: HashMap<Name, BTreeMap<Arc<str>, Name>>,
    /// Names of time zones, in lower case, as `Prefer: timezone` may give them, and as PostgreSQL writes them.
    pub time_zones: HashMap<Box<str>, Box<str>>,
    /// Settings of roles (`ALTER ROLE … SET`) that a request takes over when it changes to the role, as statement_timeout.
    pub role_settings: HashMap<Box<str>, Settings>,
    /// Roles that the request's login may change to, with whether each bypasses row-level security.
    pub roles: HashMap<Box<str>, bool>,
}

/// A table or what looks like one.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Schema and name.
    pub name: Name,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// What it is.
    pub kind: RelationKind,
    /// Columns in their order.
    pub columns: Vec<Column>,
    /// Columns of the primary key, in the key's order; for a view, those of its base table when it shows all of them.
    pub primary_key: Vec<Arc<str>>,
    /// Whether rows can be inserted, updated and deleted (a view may not allow it).
    pub insertable: bool,
    /// See `insertable`.
    pub updatable: bool,
    /// See `insertable`.
    pub deletable: bool,
    /// Whether reading it is under row-level security: a table that has it enabled; a view with `security_invoker`, or
    /// whose owner is bound by policies. `false` means that grants alone protect it.
    pub protected: bool,
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary or partitioned table.
    Table,
    /// A view.
    View,
    /// A materialized view.
    Materialized,
    /// A foreign table.
    Foreign,
}

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: Arc<str>,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Its type as `format_type` writes it, with modifier: "character varying(20)", "text[]", "\"Mood\"".
    pub type_name: Box<str>,
    /// The type below any domains, as `format_type` writes it without modifier.
    pub base_type: Box<str>,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// The longest text, for varchar and char.
    pub max_length: Option<i32>,
    /// The expression of its default.
    pub default: Option<Box<str>>,
    /// Whether it is made by the database: an identity column GENERATED ALWAYS, or a generated column.
    pub generated: bool,
    /// The values of an enum.
    pub values: Vec<Box<str>>,
    /// Whether its type is a composite or an array, into which `->` steps after a conversion with to_jsonb.
    pub steps_by_json: bool,
}

impl Relation {
    /// The column of a name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| &*column.name == name)
    }
}

/// How one relation is related to another.
#[derive(Clone, Debug)]
pub struct Relationship {
    /// From where.
    pub from: Name,
    /// To where.
    pub to: Name,
    /// Whether both ends are the same relation.
    pub to_self: bool,
    /// How.
    pub join: Join,
}

/// How two relations are joined.
#[derive(Clone, Debug)]
pub enum Join {
    /// A foreign key of `from`: to-one.
    ManyToOne(ForeignKey),
    /// A foreign key of one of them that is unique there: to-one both ways. The flag says whether it is `to`'s key
    /// (that is, whether we look from the parent).
    OneToOne(ForeignKey, bool),
    /// A foreign key of `to`: to-many.
    OneToMany(ForeignKey),
    /// Two foreign keys of a junction: to-many.
    ManyToMany(Junction),
    /// A function that takes a row of `from` and returns rows of `to`; the flag says whether it returns at most one.
    Computed(Name, bool),
}

/// A foreign key, or what a view shows of one.
#[derive(Clone, Debug)]
pub struct ForeignKey {
    /// The constraint's name.
    pub constraint: Arc<str>,
    /// Pairs of columns: those of the relationship's `from`, and those of its `to`, whichever side has the key.
    pub columns: Vec<(Arc<str>, Arc<str>)>,
}

/// A relation that joins two others.
#[derive(Clone, Debug)]
pub struct Junction {
    /// The junction.
    pub relation: Name,
    /// The constraint to `from`, and pairs of columns of `from` and of the junction.
    pub near: ForeignKey,
    /// The constraint to `to`, and pairs of columns of the junction and of `to`.
    pub far: ForeignKey,
}

impl Relationship {
    /// Whether there is at most one related row.
    #[must_use]
    pub fn to_one(&self) -> bool {
        matches!(self.join, Join::ManyToOne(_) | Join::OneToOne(..) | Join::Computed(_, true))
    }
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Schema and name.
    pub name: Name,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Arguments that a caller gives, in their order.
    pub parameters: Vec<Parameter>,
    /// Whether it returns a set.
    pub returns_set: bool,
    /// What it returns.
    pub returns: Returns,
    /// How it may change the database.
    pub volatility: Volatility,
    /// Settings of its own (`CREATE FUNCTION … SET`) that must hold for the whole transaction, such as
    /// statement_timeout and default_transaction_isolation.
    pub settings: Settings,
}

/// An argument of a function.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name; empty when it has none.
    pub name: Arc<str>,
    /// Its type as `format_type` writes it.
    pub type_name: Box<str>,
    /// The type to use in a record definition, where character and bit without a length would mean length 1.
    pub record_type: Box<str>,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it takes all remaining ones.
    pub variadic: bool,
}

/// What a function returns, set or not.
#[derive(Clone, Debug)]
pub enum Returns {
    /// Nothing.
    Void,
    /// A value, with its type as `format_type` writes it.
    Scalar(Box<str>),
    /// Rows of a known relation or composite type, which can be embedded from when it is a relation of the catalogue.
    Composite(Name),
    /// Rows described by OUT arguments or TABLE: their names and types.
    Columns(Vec<(Arc<str>, Box<str>)>),
    /// `record` without a description: the caller's columns decide.
    Record,
}

/// How a function may change the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Depends on its arguments alone.
    Immutable,
    /// Reads.
    Stable,
    /// May write.
    Volatile,
}
