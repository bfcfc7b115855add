//! Which relationship an embedded resource means, and what to say when it means none or several.
//!
//! The rules are the upstream API's: without a hint the target is the other relation's name, or the name or the only
//! column of a foreign key to a table (never to a view, or one key would mean many things). With a hint the target is
//! the relation and the hint a constraint, a column of either end or a junction. A relation that refers to itself gives
//! its children by its own name and its parent by the key's column. A computed relationship goes by its function's name.

use std::sync::Arc;

use serde_json::{Value, json};

use super::catalog::{Catalog, ForeignKey, Join, Name, Relationship};
use super::fuzzy;

/// Why a relationship was not found.
#[derive(Debug, thiserror::Error)]
pub enum RelationshipError {
    /// There is none.
    #[error("Could not find a relationship between '{parent}' and '{child}' in the schema cache")]
    None {
        /// The relation that embeds.
        parent: Box<str>,
        /// What it was to embed.
        child: Box<str>,
        /// What was said to tell relationships apart.
        given: Option<Box<str>>,
        /// Where it was searched.
        schema: Arc<str>,
        /// A name that may have been meant.
        hint: Option<Box<str>>,
    },
    /// There are several.
    #[error("Could not embed because more than one relationship was found for '{parent}' and '{child}'")]
    Ambiguous {
        /// The relation that embeds.
        parent: Box<str>,
        /// What it was to embed.
        child: Box<str>,
        /// All that fit, in a stable order.
        found: Vec<Arc<Relationship>>,
    },
}

impl RelationshipError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::None { .. } => "PGRST200",
            Self::Ambiguous { .. } => "PGRST201",
        }
    }

    /// The member `details` of the error: a sentence, or the list of what was found.
    #[must_use]
    pub fn details(&self) -> Value {
        match self {
            Self::None { parent, child, given, schema, .. } => {
                let using = given.as_ref().map(|given| format!(" using the hint '{given}'")).unwrap_or_default();
                Value::String(format!(
                    "Searched for a foreign key relationship between '{parent}' and '{child}'{using} in the schema \
                     '{schema}', but no matches were found."
                ))
            }
            Self::Ambiguous { found, .. } => found.iter().map(|relationship| describe(relationship)).collect(),
        }
    }

    /// The member `hint` of the error.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::None { hint, .. } => hint.as_deref().map(str::to_owned),
            Self::Ambiguous { child, found, .. } => {
                let choices: Vec<String> = found.iter().filter_map(|relationship| choice(relationship)).collect();
                Some(format!(
                    "Try changing '{child}' to one of the following: {}. Find the desired relationship in the \
                     'details' key.",
                    choices.join(", ")
                ))
            }
        }
    }
}

/// One relationship as the list of an ambiguous request shows it.
fn describe(relationship: &Relationship) -> Value {
    let (from, to) = (&relationship.from.name, &relationship.to.name);
    let embedding = format!("{from} with {to}");
    let by_key = |cardinality: &str, key: &ForeignKey| {
        json!({
            "cardinality": cardinality,
            "embedding": embedding,
            "relationship": format!("{} using {from}({}) and {to}({})", key.constraint, near(key), far(key)),
        })
    };
    match &relationship.join {
        Join::ManyToOne(key) => by_key("many-to-one", key),
        Join::OneToOne(key, _) => by_key("one-to-one", key),
        Join::OneToMany(key) => by_key("one-to-many", key),
        Join::ManyToMany(junction) => json!({
            "cardinality": "many-to-many",
            "embedding": embedding,
            "relationship": format!(
                "{} using {}({}) and {}({})",
                junction.relation.name, junction.near.constraint, far(&junction.near), junction.far.constraint,
                near(&junction.far)
            ),
        }),
        Join::Computed(function, _) => json!({
            "cardinality": "computed",
            "embedding": embedding,
            "relationship": format!("function {}", function.name),
        }),
    }
}

fn near(key: &ForeignKey) -> String {
    key.columns.iter().map(|(near, _)| &**near).collect::<Vec<_>>().join(", ")
}

fn far(key: &ForeignKey) -> String {
    key.columns.iter().map(|(_, far)| &**far).collect::<Vec<_>>().join(", ")
}

/// What would mean this relationship alone.
fn choice(relationship: &Relationship) -> Option<String> {
    let hint = match &relationship.join {
        Join::ManyToOne(key) | Join::OneToOne(key, _) | Join::OneToMany(key) => &key.constraint,
        Join::ManyToMany(junction) => &junction.relation.name,
        Join::Computed(..) => return None,
    };
    Some(format!("'{}!{hint}'", relationship.to.name))
}

impl Catalog {
    /// The relationship from `from` that `target`, narrowed by `hint`, means. Only relations of `from`'s schema are
    /// reached.
    ///
    /// # Errors
    ///
    /// When none fits, or several do.
    pub fn relationship(
        &self,
        from: &Name,
        target: &str,
        hint: Option<&str>,
    ) -> Result<Arc<Relationship>, RelationshipError> {
        let mut found: Vec<Arc<Relationship>> = self
            .reachable(from)
            .filter(|relationship| self.is_meant(relationship, target, hint))
            .map(Arc::clone)
            .collect();
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            0 => Err(RelationshipError::None {
                parent: (&*from.name).into(),
                child: target.into(),
                given: hint.map(Into::into),
                schema: from.schema.clone(),
                hint: self.nearest_relationship(from, target),
            }),
            _ => Err(RelationshipError::Ambiguous { parent: (&*from.name).into(), child: target.into(), found }),
        }
    }

    /// Relationships from `from` within its schema. A computed one is of the schema of its function.
    fn reachable<'a>(&'a self, from: &'a Name) -> impl Iterator<Item = &'a Arc<Relationship>> {
        self.relationships.get(from).into_iter().flatten().filter(move |relationship| match &relationship.join {
            Join::Computed(function, _) => function.schema == from.schema,
            _ => relationship.to.schema == from.schema,
        })
    }

    fn is_meant(&self, relationship: &Relationship, target: &str, hint: Option<&str>) -> bool {
        let to = &*relationship.to.name;
        if let Join::Computed(function, _) = &relationship.join {
            return target == &*function.name;
        }
        if relationship.to_self {
            let children = target == to && matches!(relationship.join, Join::OneToMany(_));
            return match hint {
                None => {
                    children
                        || matches!(&relationship.join, Join::ManyToOne(key) if only(key, near_end) == Some(target))
                }
                Some(hint) => children && key(relationship).and_then(|key| only(key, far_end)) == Some(hint),
            };
        }
        match hint {
            None => {
                target == to
                    || (!self.is_view(&relationship.to)
                        && key(relationship)
                            .is_some_and(|key| &*key.constraint == target || only(key, near_end) == Some(target)))
            }
            Some(hint) if target == to => match &relationship.join {
                Join::ManyToMany(junction) => &*junction.relation.name == hint,
                _ => key(relationship).is_some_and(|key| {
                    &*key.constraint == hint || only(key, near_end) == Some(hint) || only(key, far_end) == Some(hint)
                }),
            },
            Some(_) => false,
        }
    }

    fn is_view(&self, name: &Name) -> bool {
        use super::catalog::RelationKind::{Materialized, View};
        self.relations.get(name).is_some_and(|relation| matches!(relation.kind, View | Materialized))
    }

    /// A hint for a relationship that is not there: another parent when this one has no relationship at all, else
    /// another child. Where both are known, the hint of the request was wrong, and there is nothing to say.
    fn nearest_relationship(&self, from: &Name, target: &str) -> Option<Box<str>> {
        let mut children: Vec<&str> = self.reachable(from).map(|relationship| &*relationship.to.name).collect();
        if children.is_empty() {
            let mut parents: Vec<&str> = self
                .relationships
                .keys()
                .filter(|name| name.schema == from.schema && self.reachable(name).next().is_some())
                .map(|name| &*name.name)
                .collect();
            parents.sort_unstable();
            let (_, meant) = fuzzy::best(parents, &from.name, fuzzy::LIKELY)?;
            return Some(format!("Perhaps you meant '{meant}' instead of '{}'.", from.name).into());
        }
        children.sort_unstable();
        children.dedup();
        let (score, meant) = fuzzy::best(children, target, fuzzy::LIKELY)?;
        (score < 1.0).then(|| format!("Perhaps you meant '{meant}' instead of '{target}'.").into())
    }
}

/// The foreign key of a relationship that has one.
fn key(relationship: &Relationship) -> Option<&ForeignKey> {
    match &relationship.join {
        Join::ManyToOne(key) | Join::OneToOne(key, _) | Join::OneToMany(key) => Some(key),
        Join::ManyToMany(_) | Join::Computed(..) => None,
    }
}

fn near_end(pair: &(Arc<str>, Arc<str>)) -> &str {
    &pair.0
}

fn far_end(pair: &(Arc<str>, Arc<str>)) -> &str {
    &pair.1
}

/// The only column at one end of a key.
fn only<'a>(key: &'a ForeignKey, end: impl Fn(&'a (Arc<str>, Arc<str>)) -> &'a str) -> Option<&'a str> {
    match key.columns.as_slice() {
        [pair] => Some(end(pair)),
        _ => None,
    }
}
