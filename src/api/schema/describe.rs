//! Relations and columns put together from what is shared between them: types, how they are written, comments, defaults.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;

use super::catalog::{Column, Relation, RelationKind};
use super::error::Error;
use super::names::Names;
use super::read::{self, Comment, Described};

/// What columns and functions are described with.
pub(super) struct Description<'a> {
    types: HashMap<u32, &'a Described>,
    /// How a type with a modifier is written.
    formats: HashMap<(u32, i32), String>,
    defaults: HashMap<(u32, i16), String>,
    of_relations: HashMap<(u32, i32), &'a str>,
    of_functions: HashMap<u32, &'a str>,
}

impl<'a> Description<'a> {
    /// Reads what is missing for `columns`.
    pub(super) async fn read(
        session: &Client,
        columns: &[read::Column],
        types: &'a [Described],
        comments: &'a [Comment],
    ) -> Result<Self, Error> {
        let pairs: HashSet<(u32, i32)> = columns.iter().map(|column| (column.type_oid, column.modifier)).collect();
        let (oids, modifiers): (Vec<u32>, Vec<i32>) = pairs.into_iter().unzip();
        let formats = read::formats(session, &oids, &modifiers).await?;
        let formats = oids.into_iter().zip(modifiers).zip(formats).collect();

        // Expressions of generated columns are no defaults.
        let generated: HashSet<(u32, i16)> =
            columns.iter().filter(|column| column.generated).map(|column| (column.relation, column.number)).collect();
        let relations: HashSet<u32> = columns.iter().map(|column| column.relation).collect();
        let counted: HashSet<u32> =
            columns.iter().filter(|column| column.identity).map(|column| column.relation).collect();
        let mut defaults = read::defaults(session, &Vec::from_iter(relations)).await?;
        if !counted.is_empty() {
            defaults.extend(read::sequences(session, &Vec::from_iter(counted)).await?);
        }
        let defaults = defaults
            .into_iter()
            .map(|default| ((default.relation, default.number), default.expression))
            .filter(|(column, _)| !generated.contains(column))
            .collect();

        let mut description = Self {
            types: types.iter().map(|described| (described.oid, described)).collect(),
            formats,
            defaults,
            of_relations: HashMap::new(),
            of_functions: HashMap::new(),
        };
        for comment in comments {
            if comment.of_function {
                description.of_functions.insert(comment.object, &comment.text);
            } else {
                description.of_relations.insert((comment.object, comment.number), &comment.text);
            }
        }
        Ok(description)
    }

    /// The type of an oid.
    pub(super) fn of_type(&self, oid: u32) -> Option<&'a Described> {
        self.types.get(&oid).copied()
    }

    /// The comment on a function.
    pub(super) fn of_function(&self, oid: u32) -> Option<Box<str>> {
        self.of_functions.get(&oid).map(|text| (*text).into())
    }

    /// A relation with its columns, without its primary key.
    pub(super) fn relation(
        &self,
        relation: &read::Relation,
        columns: &[read::Column],
        protected: bool,
        names: &mut Names,
    ) -> Relation {
        Relation {
            name: names.name(&relation.schema, &relation.name),
            comment: self.of_relations.get(&(relation.oid, 0)).map(|text| (*text).into()),
            kind: match &*relation.kind {
                "v" => RelationKind::View,
                "m" => RelationKind::Materialized,
                "f" => RelationKind::Foreign,
                _ => RelationKind::Table,
            },
            columns: columns.iter().map(|column| self.column(column, names)).collect(),
            primary_key: Vec::new(),
            insertable: relation.events & 8 != 0,
            updatable: relation.events & 4 != 0,
            deletable: relation.events & 16 != 0,
            protected,
        }
    }

    fn column(&self, column: &read::Column, names: &mut Names) -> Column {
        let described = self.of_type(column.type_oid);
        let type_name = self.formats.get(&(column.type_oid, column.modifier)).map_or("", String::as_str);
        let modifier = match described {
            Some(described) if described.base != described.oid => described.modifier,
            _ => column.modifier,
        };
        let default = self.defaults.get(&(column.relation, column.number)).map(String::as_str);
        let default = default
            .or_else(|| described.and_then(|described| described.default.as_deref()).filter(|_| !column.generated));
        Column {
            name: names.keep(&column.name),
            comment: self.of_relations.get(&(column.relation, column.number.into())).map(|text| (*text).into()),
            type_name: type_name.into(),
            base_type: described.map_or(type_name, |described| &described.base_name).into(),
            nullable: !column.required && !described.is_some_and(|described| described.required),
            max_length: described.and_then(|described| max_length(&described.base_name, modifier)),
            default: default.map(Into::into),
            generated: column.generated,
            values: described
                .and_then(|described| described.values.as_ref())
                .map(|values| values.iter().map(|value| value.as_str().into()).collect())
                .unwrap_or_default(),
            steps_by_json: described.is_some_and(|described| described.is_array || described.kind == "c"),
        }
    }
}

/// The length that a type's modifier says. That of character types counts four bytes of header too.
fn max_length(base: &str, modifier: i32) -> Option<i32> {
    if modifier < 0 {
        return None;
    }
    match base {
        "character" | "character varying" => Some(modifier - 4),
        "bit" | "bit varying" => Some(modifier),
        _ => None,
    }
}
