//! From a query string to a [`Query`].
//!
//! The select list is read first, since all else is put where it belongs in it: `rel.sub.col=` is a condition on the
//! embed `sub` of the embed `rel`. An embed is called by its alias when it has one. Everything that is not understood is
//! an error; of a repeated `select` or `order` the first counts, of a repeated `limit` or `offset` the last, as in the
//! original.

use super::form::Pair;
use super::name::{names, place};
use super::order::{self, Term};
use super::reader::{read_all, read_some};
use super::{By, Embed, Error, Filter, Is, Item, Level, Logic, Operation, Order, filter, select};

/// The longest query string that is read, in bytes.
pub const MAX_QUERY: usize = 64 * 1024;
/// The most conditions, and the most selected items, in one query.
pub const MAX_PARTS: usize = 1000;

/// What a query string asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Columns, embeds, conditions, order and limits.
    pub level: Level,
    /// `columns=`: those that a body writes, or the arguments that it gives.
    pub columns: Option<Vec<String>>,
    /// `on_conflict=`
    pub on_conflict: Option<Vec<String>>,
    /// Arguments of a function that is called by an address: what is no reserved word, and whose value is no condition.
    pub arguments: Vec<(String, String)>,
    /// Embeds that were called by their target although they have an alias: target and alias.
    pub legacy: Vec<(String, String)>,
}

/// How a query string is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Whether a value that is no condition is an argument: a function is called by an address.
    pub arguments: bool,
    /// Whether an embed with an alias may be called by its target too.
    pub legacy_names: bool,
}

/// What a key asks for.
enum Kind {
    Select,
    Columns,
    OnConflict,
    Order,
    Limit,
    Offset,
    Logic,
    Filter,
}

impl Kind {
    fn of(key: &str) -> Self {
        match key {
            "select" => return Self::Select,
            "columns" => return Self::Columns,
            "on_conflict" => return Self::OnConflict,
            _ => {}
        }
        match key.rsplit('.').next() {
            Some("order") => Self::Order,
            Some("limit") => Self::Limit,
            Some("offset") => Self::Offset,
            Some("and" | "or") => Self::Logic,
            _ => Self::Filter,
        }
    }
}

/// Reads the pairs of a query string.
///
/// # Errors
/// A parameter that is not understood, one that speaks of an embed that is not there, and too many of them.
pub fn parse(pairs: &[Pair<'_>], mode: Mode) -> Result<Query, Error> {
    let mut query = Query::default();
    if let Some(text) = pairs.iter().find(|(key, _)| key == "select").and_then(|(_, value)| value.as_deref()) {
        query.level.select = read_all(text, "select parameter", text, select::list)?;
    }
    let mut orders = Vec::new();
    for (key, value) in pairs {
        let value = value.as_deref().unwrap_or_default();
        match Kind::of(key) {
            Kind::Select => {}
            Kind::Columns => {
                if query.columns.is_none() {
                    query.columns = Some(read_all(value, "columns parameter", value, names)?);
                }
            }
            Kind::OnConflict => {
                if query.on_conflict.is_none() {
                    query.on_conflict = Some(read_all(value, "on_conflict parameter", value, names)?);
                }
            }
            Kind::Order => {
                let path = embed_path(key)?;
                let terms = read_all(value, "order", value, order::terms)?;
                if !orders.contains(&path) {
                    let level = descend(&mut query.level, &path, mode, &mut query.legacy)?;
                    level.order = terms
                        .into_iter()
                        .map(|term| ordering(&level.select, term, mode, &mut query.legacy))
                        .collect::<Result<_, _>>()?;
                    orders.push(path);
                }
            }
            Kind::Limit => {
                let path = embed_path(key)?;
                let limit = whole_number(value, "limit")?;
                let level = descend(&mut query.level, &path, mode, &mut query.legacy)?;
                level.limit = Some(u64::try_from(limit).map_err(|_| Error::NegativeLimit)?);
            }
            Kind::Offset => {
                let path = embed_path(key)?;
                let offset = whole_number(value, "offset")?;
                let level = descend(&mut query.level, &path, mode, &mut query.legacy)?;
                level.offset = match u64::try_from(offset) {
                    Ok(offset) => Some(offset),
                    // Of the first level it has always been taken for none.
                    Err(_) if path.is_empty() => None,
                    Err(_) => return Err(Error::NegativeOffset),
                };
            }
            Kind::Logic => {
                let (path, word) = logic_path(key)?;
                let text = format!("{word}{value}");
                let tree = read_all(&text, "logic tree", value, filter::branch)?;
                descend(&mut query.level, &path, mode, &mut query.legacy)?.filters.push(tree);
            }
            Kind::Filter => condition(&mut query, key, value, mode)?,
        }
    }
    relate(&mut query.level);
    if parts(&query.level) > MAX_PARTS {
        let details = format!("it has more than {MAX_PARTS} columns and conditions");
        return Err(Error::refused("the query is too large", details));
    }
    Ok(query)
}

/// Reads a query string in one go.
///
/// # Errors
/// As [`parse`], and a text that is too long or not UTF-8.
#[cfg(test)]
pub fn parse_text(text: &str, mode: Mode) -> Result<Query, Error> {
    if text.len() > MAX_QUERY {
        return Err(Error::too_long());
    }
    parse(&super::form::pairs(text)?, mode)
}

fn condition(query: &mut Query, key: &str, value: &str, mode: Mode) -> Result<(), Error> {
    let (path, field) = read_all(key, "tree path", key, place)?;
    let operation = if mode.arguments {
        read_some(value, "filter", filter::whole)?
    } else {
        Some(read_all(value, "filter", value, filter::whole)?)
    };
    match operation {
        Some((negated, operation)) => {
            let level = descend(&mut query.level, &path, mode, &mut query.legacy)?;
            level.filters.push(Logic::Filter(Filter { field, negated, operation }));
        }
        None if path.is_empty() && field.path.is_empty() => query.arguments.push((field.name, value.to_owned())),
        None => {
            let details = "an argument has the name of a parameter, without a dot and without a path".to_owned();
            return Err(Error::Syntax { message: format!("\"failed to parse argument ({key})\""), details });
        }
    }
    Ok(())
}

/// `rel.sub.order` to `rel`, `sub`.
fn embed_path(key: &str) -> Result<Vec<String>, Error> {
    if !key.contains('.') {
        return Ok(Vec::new());
    }
    let mut path = read_all(key, "tree path", key, select::path)?;
    path.pop();
    Ok(path)
}

/// `rel.not.or` to `rel` and `not.or`.
fn logic_path(key: &str) -> Result<(Vec<String>, &'static str), Error> {
    let mut path = match key {
        "and" => return Ok((Vec::new(), "and")),
        "or" => return Ok((Vec::new(), "or")),
        key => read_all(key, "logic path", key, select::path)?,
    };
    let all = path.pop().as_deref() == Some("and");
    let negated = path.pop_if(|last| last == "not").is_some();
    let word = match (negated, all) {
        (false, true) => "and",
        (false, false) => "or",
        (true, true) => "not.and",
        (true, false) => "not.or",
    };
    Ok((path, word))
}

/// A whole number with any sign; the largest and the smallest stand for those beyond them.
fn whole_number(text: &str, name: &str) -> Result<i64, Error> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Syntax {
            message: format!("\"failed to parse {name} ({text})\" (line 1, column 1)"),
            details: "expecting a whole number".to_owned(),
        });
    }
    Ok(text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX }))
}

/// The place of an embed in a select list.
fn embed_at(select: &[Item], name: &str, mode: Mode, legacy: &mut Vec<(String, String)>) -> Result<usize, Error> {
    let embeds = || {
        select.iter().enumerate().filter_map(|(at, item)| match item {
            Item::Embed(embed) => Some((at, embed)),
            _ => None,
        })
    };
    if let Some((at, _)) = embeds().find(|(_, embed)| embed.name() == name) {
        return Ok(at);
    }
    if mode.legacy_names
        && let Some((at, embed)) = embeds().find(|(_, embed)| embed.target == name)
    {
        let pair = (embed.target.clone(), embed.name().to_owned());
        if !legacy.contains(&pair) {
            legacy.push(pair);
        }
        return Ok(at);
    }
    Err(Error::NotEmbedded(name.to_owned()))
}

/// The level that a path of embeds leads to.
fn descend<'a>(
    level: &'a mut Level,
    path: &[String],
    mode: Mode,
    legacy: &mut Vec<(String, String)>,
) -> Result<&'a mut Level, Error> {
    let mut at = level;
    for name in path {
        let place = embed_at(&at.select, name, mode, legacy)?;
        match &mut at.select[place] {
            Item::Embed(embed) => at = &mut embed.level,
            _ => return Err(Error::NotEmbedded(name.clone())),
        }
    }
    Ok(at)
}

fn ordering(select: &[Item], term: Term, mode: Mode, legacy: &mut Vec<(String, String)>) -> Result<Order, Error> {
    let Term { relation, field, descending, nulls_first } = term;
    let by = match relation {
        None => By::Field(field),
        Some(relation) => By::Related(embed_at(select, &relation, mode, legacy)?, field),
    };
    Ok(Order { by, descending, nulls_first })
}

/// Makes conditions on embeds of those that compare an embed's name with NULL.
fn relate(level: &mut Level) {
    fn walk(embeds: &[(usize, String)], logic: &mut Logic) {
        match logic {
            Logic::And(_, all) | Logic::Or(_, all) => all.iter_mut().for_each(|logic| walk(embeds, logic)),
            Logic::Filter(Filter { field, negated, operation: Operation::Is(is @ (Is::Null | Is::NotNull)) })
                if field.path.is_empty() =>
            {
                if let Some((at, _)) = embeds.iter().find(|(_, name)| *name == field.name) {
                    *logic = Logic::Related(*at, (*is == Is::Null) != *negated);
                }
            }
            Logic::Filter(_) | Logic::Related(..) => {}
        }
    }
    let embeds: Vec<(usize, String)> = level
        .select
        .iter()
        .enumerate()
        .filter_map(|(at, item)| match item {
            Item::Embed(embed) => Some((at, embed.name().to_owned())),
            _ => None,
        })
        .collect();
    if embeds.is_empty() {
        return;
    }
    level.filters.iter_mut().for_each(|logic| walk(&embeds, logic));
    for item in &mut level.select {
        if let Item::Embed(embed) = item {
            relate(&mut embed.level);
        }
    }
}

/// How many columns, embeds, conditions and orderings there are.
fn parts(level: &Level) -> usize {
    fn conditions(logic: &Logic) -> usize {
        match logic {
            Logic::And(_, all) | Logic::Or(_, all) => 1 + all.iter().map(conditions).sum::<usize>(),
            Logic::Filter(_) | Logic::Related(..) => 1,
        }
    }
    let below = |embed: &Embed| parts(&embed.level);
    let selected = level.select.iter().map(|item| match item {
        Item::Embed(embed) => 1 + below(embed),
        _ => 1,
    });
    selected.sum::<usize>() + level.filters.iter().map(conditions).sum::<usize>() + level.order.len()
}
