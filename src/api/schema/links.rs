//! The relationships that foreign keys make, between tables, between views that show their columns, and over junctions.
//!
//! A view has a table's key when it shows all of the key's columns; where it shows one twice, each choice is a
//! relationship of its own. A junction is a relation whose primary key has the columns of two of its foreign keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::catalog::{ForeignKey, Join, Junction, Name, Relation, Relationship};
use super::lineage::Source;
use super::read::{Computed, Constraint};

/// A relation that can be embedded, as the keys know it.
pub(super) struct End {
    pub name: Name,
    /// Names of its columns by number.
    pub columns: HashMap<i16, Arc<str>>,
    pub is_view: bool,
    /// The columns of its primary key, for a view those that it shows.
    pub primary_key: Vec<Arc<str>>,
    /// For a view what each of its columns shows.
    pub shown: HashMap<Source, Vec<i16>>,
}

impl End {
    fn column(&self, number: i16) -> Option<Arc<str>> {
        self.columns.get(&number).cloned()
    }
}

/// The relations that relationships are made between, by oid.
pub(super) type Ends = HashMap<u32, End>;

/// The columns that stand for a key's columns, each way of choosing them, in a relation that is the key's table or a
/// view that shows all of them.
struct Standing<'a> {
    relation: u32,
    end: &'a End,
    columns: Vec<Vec<i16>>,
}

/// The primary keys that a view shows whole, one after the other, in the order of its columns. `columns` are the view's
/// own, `shown` what they show, `primary_keys` those of tables.
pub(super) fn shown_primary_keys(
    columns: &HashMap<i16, Arc<str>>,
    shown: &HashMap<Source, Vec<i16>>,
    primary_keys: &HashMap<u32, &[i16]>,
) -> Vec<Arc<str>> {
    let tables: HashSet<u32> = shown.keys().map(|(table, _)| *table).collect();
    let key = |table: u32| -> Option<Vec<i16>> {
        // Of a column that is shown twice the first one counts.
        primary_keys.get(&table)?.iter().map(|column| shown.get(&(table, *column))?.first().copied()).collect()
    };
    let mut keys: Vec<Vec<i16>> = tables.into_iter().filter_map(key).collect();
    keys.sort();
    keys.iter().flatten().filter_map(|column| columns.get(column).cloned()).collect()
}

/// All relationships among `ends`, from each relation to others, in a stable order.
pub(super) fn relationships(
    ends: &Ends,
    constraints: &[Constraint],
    computed: &[Computed],
) -> HashMap<Name, Vec<Arc<Relationship>>> {
    let mut found = by_keys(ends, constraints);
    found.extend(over_junctions(ends, &found));
    let inverse: Vec<Relationship> = found.iter().filter_map(inverse).collect();
    found.extend(inverse);

    let by_function = by_functions(ends, computed);
    // A function named like a relation stands for the relationships to that relation.
    let replaced: HashSet<(&Name, &Name)> = by_function
        .iter()
        .filter_map(|relationship| match &relationship.join {
            Join::Computed(function, _) => Some((&relationship.from, function)),
            _ => None,
        })
        .collect();
    found.retain(|relationship| !replaced.contains(&(&relationship.from, &relationship.to)));
    found.extend(by_function);

    let mut by_relation: HashMap<Name, Vec<Arc<Relationship>>> = HashMap::new();
    for relationship in found {
        by_relation.entry(relationship.from.clone()).or_default().push(Arc::new(relationship));
    }
    for relationships in by_relation.values_mut() {
        relationships.sort_by(|a, b| order(a).cmp(&order(b)));
        relationships.shrink_to_fit();
    }
    by_relation
}

/// To-one relationships: those of foreign keys from the side that has the key.
fn by_keys(ends: &Ends, constraints: &[Constraint]) -> Vec<Relationship> {
    let mut unique: HashMap<u32, HashSet<Vec<i16>>> = HashMap::new();
    for constraint in constraints.iter().filter(|constraint| constraint.kind != "f") {
        let mut columns = constraint.columns.clone();
        columns.sort_unstable();
        unique.entry(constraint.relation).or_default().insert(columns);
    }
    let views = views_by_table(ends);
    let mut found = Vec::new();
    for constraint in constraints.iter().filter(|constraint| constraint.kind == "f" && !constraint.inherited) {
        let mut columns = constraint.columns.clone();
        columns.sort_unstable();
        let one_to_one = unique.get(&constraint.relation).is_some_and(|keys| keys.contains(&columns));
        let near = standing(ends, &views, constraint.relation, &constraint.columns);
        let far = standing(ends, &views, constraint.foreign_relation, &constraint.foreign_columns);
        let same_table = constraint.relation == constraint.foreign_relation;
        for (from, to) in near.iter().flat_map(|from| far.iter().map(move |to| (from, to))) {
            let to_self = from.relation == to.relation && (from.end.is_view || same_table);
            for (here, there) in from.columns.iter().flat_map(|here| to.columns.iter().map(move |there| (here, there)))
            {
                let pair = |(here, there): (&i16, &i16)| Some((from.end.column(*here)?, to.end.column(*there)?));
                let Some(columns) = here.iter().zip(there).map(pair).collect() else {
                    continue;
                };
                let key = ForeignKey { constraint: constraint.name.as_str().into(), columns };
                let join = if one_to_one { Join::OneToOne(key, false) } else { Join::ManyToOne(key) };
                found.push(Relationship { from: from.end.name.clone(), to: to.end.name.clone(), to_self, join });
            }
        }
    }
    found
}

/// The views that show columns of a table, by the table.
fn views_by_table(ends: &Ends) -> HashMap<u32, Vec<u32>> {
    let mut views: HashMap<u32, Vec<u32>> = HashMap::new();
    for (view, end) in ends {
        let tables: HashSet<u32> = end.shown.keys().map(|(table, _)| *table).collect();
        for table in tables {
            views.entry(table).or_default().push(*view);
        }
    }
    views
}

fn standing<'a>(ends: &'a Ends, views: &HashMap<u32, Vec<u32>>, table: u32, columns: &[i16]) -> Vec<Standing<'a>> {
    let itself = ends.get(&table).map(|end| Standing { relation: table, end, columns: vec![columns.to_vec()] });
    let shown = views.get(&table).into_iter().flatten().filter_map(|view| {
        let end = ends.get(view)?;
        let choices: Vec<&Vec<i16>> =
            columns.iter().map(|column| end.shown.get(&(table, *column))).collect::<Option<_>>()?;
        Some(Standing { relation: *view, end, columns: each_choice(&choices) })
    });
    itself.into_iter().chain(shown).collect()
}

/// Each way to take one of every list.
fn each_choice(lists: &[&Vec<i16>]) -> Vec<Vec<i16>> {
    lists.iter().fold(vec![Vec::new()], |chosen, list| {
        let longer = |chosen: &Vec<i16>, last: i16| chosen.iter().copied().chain([last]).collect();
        chosen.iter().flat_map(|chosen| list.iter().map(move |last| longer(chosen, *last))).collect()
    })
}

/// To-many relationships over relations whose primary key has two of their foreign keys.
fn over_junctions(ends: &Ends, to_one: &[Relationship]) -> Vec<Relationship> {
    let primary_keys: HashMap<&Name, &Vec<Arc<str>>> = ends.values().map(|end| (&end.name, &end.primary_key)).collect();
    let mut of_junction: HashMap<&Name, Vec<(&Relationship, &ForeignKey)>> = HashMap::new();
    for relationship in to_one {
        if let Join::ManyToOne(key) = &relationship.join
            && let Some(primary) = primary_keys.get(&relationship.from)
            && key.columns.iter().all(|(column, _)| primary.contains(column))
        {
            of_junction.entry(&relationship.from).or_default().push((relationship, key));
        }
    }
    let mut found = Vec::new();
    for (junction, keys) in of_junction {
        for (near, near_key) in &keys {
            for (far, far_key) in &keys {
                if near_key.constraint == far_key.constraint {
                    continue;
                }
                found.push(Relationship {
                    from: near.to.clone(),
                    to: far.to.clone(),
                    to_self: near.to == far.to,
                    join: Join::ManyToMany(Junction {
                        relation: junction.clone(),
                        near: swapped(near_key),
                        far: (*far_key).clone(),
                    }),
                });
            }
        }
    }
    found
}

fn swapped(key: &ForeignKey) -> ForeignKey {
    let columns = key.columns.iter().map(|(near, far)| (far.clone(), near.clone())).collect();
    ForeignKey { constraint: key.constraint.clone(), columns }
}

/// The same key seen from the other side.
fn inverse(relationship: &Relationship) -> Option<Relationship> {
    let join = match &relationship.join {
        Join::ManyToOne(key) => Join::OneToMany(swapped(key)),
        Join::OneToOne(key, parent) => Join::OneToOne(swapped(key), !parent),
        Join::OneToMany(_) | Join::ManyToMany(_) | Join::Computed(..) => return None,
    };
    Some(Relationship {
        from: relationship.to.clone(),
        to: relationship.from.clone(),
        to_self: relationship.to_self,
        join,
    })
}

/// Relationships that functions of the relations' own schemas make.
fn by_functions(ends: &Ends, computed: &[Computed]) -> Vec<Relationship> {
    let link = |function: &Computed| {
        let from = ends.get(&function.relation)?;
        let to = ends.get(&function.to?)?;
        if *function.schema != *from.name.schema {
            return None;
        }
        let name = Name { schema: from.name.schema.clone(), name: function.name.as_str().into() };
        Some(Relationship {
            from: from.name.clone(),
            to: to.name.clone(),
            to_self: from.name == to.name,
            join: Join::Computed(name, function.single),
        })
    };
    computed.iter().filter_map(link).collect()
}

/// What relationships are sorted by, so that ambiguous ones are listed as upstream lists them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    computed: bool,
    to: &'a Name,
    to_self: bool,
    cardinality: u8,
    junction: Option<&'a Name>,
    constraint: &'a str,
    second: &'a str,
    columns: &'a [(Arc<str>, Arc<str>)],
    second_columns: &'a [(Arc<str>, Arc<str>)],
    from_parent: bool,
}

fn order(relationship: &Relationship) -> Place<'_> {
    let mut place = Place {
        computed: false,
        to: &relationship.to,
        to_self: relationship.to_self,
        cardinality: 0,
        junction: None,
        constraint: "",
        second: "",
        columns: &[],
        second_columns: &[],
        from_parent: false,
    };
    let key = match &relationship.join {
        Join::OneToMany(key) => key,
        Join::ManyToOne(key) => {
            place.cardinality = 1;
            key
        }
        Join::OneToOne(key, parent) => {
            (place.cardinality, place.from_parent) = (2, *parent);
            key
        }
        Join::ManyToMany(junction) => {
            place.cardinality = 3;
            place.junction = Some(&junction.relation);
            place.second = &junction.far.constraint;
            place.second_columns = &junction.far.columns;
            &junction.near
        }
        Join::Computed(function, _) => {
            (place.computed, place.constraint) = (true, &function.name);
            return place;
        }
    };
    place.constraint = &key.constraint;
    place.columns = &key.columns;
    place
}

/// What `relation` is for relationships.
pub(super) fn end(relation: &Relation, columns: HashMap<i16, Arc<str>>, shown: HashMap<Source, Vec<i16>>) -> End {
    use super::catalog::RelationKind::{Materialized, View};
    End {
        name: relation.name.clone(),
        columns,
        is_view: matches!(relation.kind, View | Materialized),
        primary_key: relation.primary_key.clone(),
        shown,
    }
}
