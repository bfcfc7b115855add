//! Conditions: operators and their values, and trees of them.

use super::name::{dot, field, identifier, quoted};
use super::reader::{Fail, Read, Reader};
use super::{Filter, Is, Logic, Operation, Operator, Quantifier, Search};

const SIMPLE: [(&str, Operator); 9] = [
    ("neq", Operator::Neq),
    ("cs", Operator::Contains),
    ("cd", Operator::Contained),
    ("ov", Operator::Overlap),
    ("sl", Operator::StrictlyLeft),
    ("sr", Operator::StrictlyRight),
    ("nxr", Operator::NotExtendsRight),
    ("nxl", Operator::NotExtendsLeft),
    ("adj", Operator::Adjacent),
];

/// Those that may have a quantifier. A word stands before those that it begins with.
const QUANTIFIED: [(&str, Operator); 9] = [
    ("eq", Operator::Eq),
    ("gte", Operator::Gte),
    ("gt", Operator::Gt),
    ("lte", Operator::Lte),
    ("lt", Operator::Lt),
    ("like", Operator::Like),
    ("ilike", Operator::Ilike),
    ("match", Operator::Match),
    ("imatch", Operator::Imatch),
];

const SEARCHES: [(&str, Search); 4] =
    [("fts", Search::Full), ("plfts", Search::Plain), ("phfts", Search::Phrase), ("wfts", Search::Web)];

const TESTS: [(&str, Is); 5] =
    [("null", Is::Null), ("not_null", Is::NotNull), ("true", Is::True), ("false", Is::False), ("unknown", Is::Unknown)];

/// A rule for the value of an operator.
type Value = fn(&mut Reader<'_>) -> Read<String>;

/// `[not.]operator.value`, where the value is the rest of the text.
pub(super) fn whole(reader: &mut Reader<'_>) -> Read<(bool, Operation)> {
    operation(reader, rest)
}

/// A condition, or `and(…)`, `not.or(…)` over some.
fn tree(reader: &mut Reader<'_>) -> Read<Logic> {
    reader.either(|reader| reader.attempt(leaf), branch)
}

fn leaf(reader: &mut Reader<'_>) -> Read<Logic> {
    let field = field(reader)?;
    dot(reader)?;
    let (negated, operation) = operation(reader, member)?;
    Ok(Logic::Filter(Filter { field, negated, operation }))
}

/// `and(…)`, `not.or(…)`: the value of a key that ends in such a word, with the word before it.
pub(super) fn branch(reader: &mut Reader<'_>) -> Read<Logic> {
    let negated = reader.named("negation operator (not)", negation)?;
    let all = reader.named("logic operator (and, or)", |reader| {
        reader.either(|reader| reader.word("and").map(|()| true), |reader| reader.word("or").map(|()| false))
    })?;
    reader.spaced(|reader| reader.word("("))?;
    let members = reader.deeper(|reader| reader.list(tree, |reader| reader.spaced(|reader| reader.word(","))))?;
    reader.spaced(|reader| reader.word(")"))?;
    Ok(if all { Logic::And(negated, members) } else { Logic::Or(negated, members) })
}

fn negation(reader: &mut Reader<'_>) -> Read<bool> {
    let not = reader.maybe(|reader| {
        reader.attempt(|reader| {
            reader.word("not")?;
            dot(reader)
        })
    })?;
    Ok(not.is_some())
}

fn operation(reader: &mut Reader<'_>, value: Value) -> Read<(bool, Operation)> {
    let negated = negation(reader)?;
    let operation = reader.named("operator (eq, gt, ...)", |reader| {
        if word(reader, "in")? {
            return list(reader).map(Operation::In);
        }
        if word(reader, "is")? {
            return is(reader).map(Operation::Is);
        }
        if word(reader, "isdistinct")? {
            return value(reader).map(Operation::Distinct);
        }
        reader.either(
            |reader| reader.attempt(|reader| search(reader, value)),
            |reader| {
                reader.either(
                    |reader| reader.attempt(|reader| simple(reader, value)),
                    |reader| reader.attempt(|reader| comparison(reader, value)),
                )
            },
        )
    })?;
    Ok((negated, operation))
}

/// Whether a word and a dot come.
fn word(reader: &mut Reader<'_>, word: &'static str) -> Read<bool> {
    let found = reader.maybe(|reader| {
        reader.attempt(|reader| {
            reader.word(word)?;
            dot(reader)
        })
    })?;
    Ok(found.is_some())
}

/// One of several words.
fn one_of<T: Copy>(reader: &mut Reader<'_>, all: &[(&'static str, T)]) -> Read<T> {
    for (word, value) in all {
        if reader.maybe(|reader| reader.word(word))?.is_some() {
            return Ok(*value);
        }
    }
    Err(Fail)
}

fn search(reader: &mut Reader<'_>, value: Value) -> Read<Operation> {
    let search = one_of(reader, &SEARCHES)?;
    let language = reader.maybe(|reader| {
        reader.attempt(|reader| {
            reader.word("(")?;
            let language = identifier(reader)?;
            reader.word(")")?;
            Ok(language.to_owned())
        })
    })?;
    dot(reader)?;
    Ok(Operation::Search(search, language, value(reader)?))
}

fn simple(reader: &mut Reader<'_>, value: Value) -> Read<Operation> {
    let operator = reader.named("unknown single value operator", |reader| one_of(reader, &SIMPLE))?;
    dot(reader)?;
    Ok(Operation::Compare(operator, None, value(reader)?))
}

fn comparison(reader: &mut Reader<'_>, value: Value) -> Read<Operation> {
    let operator = reader.named("unknown single value operator", |reader| one_of(reader, &QUANTIFIED))?;
    let quantifier = reader.maybe(|reader| {
        reader.attempt(|reader| {
            reader.word("(")?;
            let quantifier = one_of(reader, &[("any", Quantifier::Any), ("all", Quantifier::All)])?;
            reader.word(")")?;
            Ok(quantifier)
        })
    })?;
    dot(reader)?;
    let mut value = value(reader)?;
    if matches!(operator, Operator::Like | Operator::Ilike) && value.contains('*') {
        value = value.replace('*', "%");
    }
    Ok(Operation::Compare(operator, quantifier, value))
}

fn is(reader: &mut Reader<'_>) -> Read<Is> {
    reader.named("isVal: (null, not_null, true, false, unknown)", |reader| {
        for (word, test) in TESTS {
            if reader.maybe(|reader| reader.word_any_case(word))?.is_some() {
                return Ok(test);
            }
        }
        Err(Fail)
    })
}

/// `(a,"b,c")`; nothing in the parentheses is no value at all.
fn list(reader: &mut Reader<'_>) -> Read<Vec<String>> {
    reader.spaced(|reader| reader.word("("))?;
    let before = reader.peek();
    let mut all = reader.list(element, |reader| reader.word(","))?;
    reader.spaced(|reader| reader.word(")"))?;
    if before == Some(')') {
        all.clear();
    }
    Ok(all)
}

fn element(reader: &mut Reader<'_>) -> Read<String> {
    reader.either(quoted_member, plain_member)
}

/// A value in a tree: in quotes, an array, or all up to the next comma or parenthesis.
fn member(reader: &mut Reader<'_>) -> Read<String> {
    reader.either(quoted_member, |reader| reader.either(|reader| reader.attempt(array), plain_member))
}

fn quoted_member(reader: &mut Reader<'_>) -> Read<String> {
    reader.attempt(|reader| {
        let value = quoted(reader)?;
        reader.not_before(|ch| !matches!(ch, ',' | ')'))?;
        Ok(value)
    })
}

#[expect(clippy::unnecessary_wraps, reason = "a rule among others")]
fn plain_member(reader: &mut Reader<'_>) -> Read<String> {
    Ok(reader.take_while(|ch| !matches!(ch, ',' | ')')).to_owned())
}

fn array(reader: &mut Reader<'_>) -> Read<String> {
    reader.word("{")?;
    let inner = reader.take_while(|ch| !matches!(ch, '{' | '}'));
    reader.word("}")?;
    Ok(format!("{{{inner}}}"))
}

#[expect(clippy::unnecessary_wraps, reason = "a rule among others")]
fn rest(reader: &mut Reader<'_>) -> Read<String> {
    Ok(reader.take_rest().to_owned())
}
