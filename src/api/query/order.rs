//! Orderings.

use super::Field;
use super::name::{dot, field, name};
use super::reader::{Read, Reader};

/// An ordering as it was written: by a field, or by a field of an embedded relation that is called so.
pub(super) struct Term {
    pub(super) relation: Option<String>,
    pub(super) field: Field,
    pub(super) descending: Option<bool>,
    pub(super) nulls_first: Option<bool>,
}

/// `a.desc.nullslast,rel(b)`
pub(super) fn terms(reader: &mut Reader<'_>) -> Read<Vec<Term>> {
    reader.list(
        |reader| {
            reader.spaced(|reader| {
                reader.either(
                    |reader| {
                        reader.attempt(|reader| {
                            let relation = name(reader)?;
                            reader.word("(")?;
                            let field = field(reader)?;
                            reader.word(")")?;
                            direction(reader, Some(relation), field)
                        })
                    },
                    |reader| {
                        let field = field(reader)?;
                        direction(reader, None, field)
                    },
                )
            })
        },
        |reader| reader.word(","),
    )
}

fn direction(reader: &mut Reader<'_>, relation: Option<String>, field: Field) -> Read<Term> {
    let descending = choice(reader, ("asc", false), ("desc", true))?;
    let nulls_first = choice(reader, ("nullsfirst", true), ("nullslast", false))?;
    reader.spaced(|_| Ok(()))?;
    if !reader.ahead(",") {
        reader.end()?;
    }
    Ok(Term { relation, field, descending, nulls_first })
}

/// One of two words after a dot, or nothing.
fn choice(reader: &mut Reader<'_>, first: (&'static str, bool), second: (&'static str, bool)) -> Read<Option<bool>> {
    let word = |(word, value): (&'static str, bool)| {
        move |reader: &mut Reader<'_>| {
            reader.attempt(|reader| {
                dot(reader)?;
                reader.word(word)?;
                Ok(value)
            })
        }
    };
    reader.maybe(|reader| reader.either(word(first), word(second)))
}
