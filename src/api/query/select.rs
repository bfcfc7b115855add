//! The select list: columns, casts, aggregates and embedded relations.

use super::name::{dot, field, identifier, name};
use super::reader::{Fail, Read, Reader};
use super::{Aggregate, Column, Embed, Item, Level};

/// What stands before the parentheses of an embedded relation.
struct Head {
    alias: Option<String>,
    target: String,
    hint: Option<String>,
    inner: bool,
    spread: bool,
}

/// `a,b:c::text,rel(d)`; may be empty.
pub(super) fn list(reader: &mut Reader<'_>) -> Read<Vec<Item>> {
    let all = reader.maybe(|reader| reader.list(item, |reader| reader.spaced(|reader| reader.word(","))))?;
    Ok(all.unwrap_or_default())
}

fn item(reader: &mut Reader<'_>) -> Read<Item> {
    let head =
        reader.maybe(|reader| reader.either(|reader| reader.attempt(spread), |reader| reader.attempt(relation)))?;
    let Some(head) = head else { return column(reader) };
    reader.word("(")?;
    let select = reader.deeper(list)?;
    reader.word(")")?;
    reader.spaced(|_| Ok(()))?;
    let Head { alias, target, hint, inner, spread } = head;
    Ok(Item::Embed(Box::new(Embed { alias, target, hint, inner, spread, level: Level { select, ..Level::default() } })))
}

/// `...target!hint!inner`
fn spread(reader: &mut Reader<'_>) -> Read<Head> {
    reader.spaced(|reader| {
        reader.word("...")?;
        let target = name(reader)?;
        head(reader, None, target, true)
    })
}

/// `alias:target!hint!inner`
fn relation(reader: &mut Reader<'_>) -> Read<Head> {
    reader.spaced(|reader| {
        let alias = alias(reader)?;
        let target = name(reader)?;
        // `count()` is the aggregate.
        if target == "count" {
            return Err(Fail);
        }
        head(reader, alias, target, false)
    })
}

fn head(reader: &mut Reader<'_>, alias: Option<String>, target: String, spread: bool) -> Read<Head> {
    let (mut hint, mut join) = (None, None);
    while reader.maybe(|reader| reader.word("!"))?.is_some() {
        let keyword = reader
            .maybe(|reader| reader.either(|reader| keyword(reader, "left"), |reader| keyword(reader, "inner")))?;
        match keyword {
            Some(word) if join.replace(word).is_some() => return reader.refuse("a relation is joined in two ways"),
            Some(_) => {}
            None => {
                if hint.replace(name(reader)?).is_some() {
                    return reader.refuse("a relation has two hints");
                }
            }
        }
    }
    if !reader.ahead("(") {
        return Err(Fail);
    }
    Ok(Head { alias, target, hint, inner: join == Some("inner"), spread })
}

/// A word that is not the beginning of a longer name, such as that of a constraint.
fn keyword(reader: &mut Reader<'_>, word: &'static str) -> Read<&'static str> {
    reader.attempt(|reader| {
        reader.word(word)?;
        reader.not_before(|ch| ch.is_alphanumeric() || matches!(ch, '_' | '$' | '-' | ' '))?;
        Ok(word)
    })
}

fn alias(reader: &mut Reader<'_>) -> Read<Option<String>> {
    reader.maybe(|reader| {
        reader.attempt(|reader| {
            let alias = name(reader)?;
            reader.word(":")?;
            reader.not_before(|ch| ch == ':')?;
            Ok(alias)
        })
    })
}

fn column(reader: &mut Reader<'_>) -> Read<Item> {
    reader.spaced(|reader| {
        reader.either(|reader| reader.attempt(all), |reader| reader.either(|reader| reader.attempt(count), single))
    })
}

fn all(reader: &mut Reader<'_>) -> Read<Item> {
    reader.word("*")?;
    finish(reader)?;
    Ok(Item::All)
}

fn count(reader: &mut Reader<'_>) -> Read<Item> {
    let alias = alias(reader)?;
    reader.word("count()")?;
    let result = cast(reader)?;
    finish(reader)?;
    Ok(Item::Column(Column { alias, field: None, cast: None, aggregate: Some((Aggregate::Count, result)) }))
}

fn single(reader: &mut Reader<'_>) -> Read<Item> {
    let alias = alias(reader)?;
    let field = field(reader)?;
    let before = cast(reader)?;
    let aggregate = reader.maybe(|reader| {
        reader.attempt(|reader| {
            reader.word(".")?;
            aggregate(reader)
        })
    })?;
    let after = match aggregate {
        Some(_) => cast(reader)?,
        None => None,
    };
    finish(reader)?;
    let aggregate = aggregate.map(|aggregate| (aggregate, after));
    Ok(Item::Column(Column { alias, field: Some(field), cast: before, aggregate }))
}

fn cast(reader: &mut Reader<'_>) -> Read<Option<String>> {
    if reader.maybe(|reader| reader.word("::"))?.is_none() {
        return Ok(None);
    }
    identifier(reader).map(|name| Some(name.to_owned()))
}

fn aggregate(reader: &mut Reader<'_>) -> Read<Aggregate> {
    const ALL: [(&str, Aggregate); 5] = [
        ("sum", Aggregate::Sum),
        ("avg", Aggregate::Avg),
        ("count", Aggregate::Count),
        ("max", Aggregate::Max),
        ("min", Aggregate::Min),
    ];
    for (word, aggregate) in ALL {
        if reader.maybe(|reader| reader.word(word))?.is_some() {
            reader.word("()")?;
            return Ok(aggregate);
        }
    }
    Err(Fail)
}

/// What may follow a column.
fn finish(reader: &mut Reader<'_>) -> Read<()> {
    reader.spaced(|_| Ok(()))?;
    if reader.ahead(")") || reader.ahead(",") { Ok(()) } else { reader.end() }
}

/// The part of a key that ends in one of the reserved words, without that word.
pub(super) fn path(reader: &mut Reader<'_>) -> Read<Vec<String>> {
    reader.list(name, dot)
}
