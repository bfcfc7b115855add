//! Names: columns, relations, keys in JSON, types.
//!
//! A name is letters, digits, `_`, `$`, blanks and dashes, or anything in double quotes with `\` before what would end
//! it. Blanks around a name are not part of it. A dash before `>` begins a path.

use super::reader::{Fail, Read, Reader};
use super::{Field, Key, Step};

/// What an unquoted name is made of.
fn plain(ch: char) -> bool {
    ch.is_alphanumeric() || matches!(ch, '_' | ' ' | '$')
}

/// What an unquoted key in JSON is made of, between dashes.
fn key(ch: char) -> bool {
    !matches!(ch, '(' | '-' | ':' | '.' | ',' | '>' | ')')
}

/// The name of a type, and of a text search configuration.
pub(super) fn identifier<'a>(reader: &mut Reader<'a>) -> Read<&'a str> {
    let text = reader.take_while(plain);
    reader.wanted("letter");
    reader.wanted("digit");
    if text.is_empty() {
        return Err(Fail);
    }
    match text.trim() {
        "" => reader.refuse("a name is blank"),
        name => Ok(name),
    }
}

/// The name of a column or a relation.
pub(super) fn name(reader: &mut Reader<'_>) -> Read<String> {
    reader.named("field name (* or [a..z0..9_$])", |reader| {
        reader.either(quoted, |reader| {
            // The common name is one run, so that it is copied once.
            let first = identifier(reader)?;
            dashed(reader, first, |reader| identifier(reader))
        })
    })
}

fn key_name(reader: &mut Reader<'_>) -> Read<String> {
    let part = |reader: &mut Reader<'_>| match reader.take_while(key) {
        "" => Err(Fail),
        text => Ok(text.trim().to_owned()),
    };
    reader.named("any non reserved character different from: .,>()", |reader| {
        reader.either(quoted, |reader| {
            let first = part(reader)?;
            dashed(reader, &first, |reader| part(reader))
        })
    })
}

/// Further parts of a name after dashes.
fn dashed<'a, T: AsRef<str>>(
    reader: &mut Reader<'a>,
    first: &str,
    mut part: impl FnMut(&mut Reader<'a>) -> Read<T>,
) -> Read<String> {
    let mut all = first.to_owned();
    while reader
        .maybe(|reader| {
            reader.attempt(|reader| {
                reader.word("-")?;
                reader.not_before(|ch| ch == '>')
            })
        })?
        .is_some()
    {
        all.push('-');
        all.push_str(part(reader)?.as_ref());
    }
    Ok(all)
}

/// Anything in double quotes.
pub(super) fn quoted(reader: &mut Reader<'_>) -> Read<String> {
    reader.word("\"")?;
    let mut all = String::new();
    loop {
        all.push_str(reader.take_while(|ch| !matches!(ch, '\\' | '"')));
        if reader.peek() != Some('\\') {
            reader.wanted_literal("\\");
            return reader.word("\"").map(|()| all);
        }
        reader.one(|_| true)?;
        all.push(reader.one(|_| true)?);
    }
}

/// `->key`, `->>key`, `->0`, `->>0`, any number of them.
pub(super) fn path(reader: &mut Reader<'_>) -> Read<Vec<Step>> {
    let mut steps = Vec::new();
    while let Some(text) = reader.maybe(|reader| {
        reader.either(|reader| reader.word("->>").map(|()| true), |reader| reader.word("->").map(|()| false))
    })? {
        let to = reader.either(
            |reader| reader.attempt(index),
            |reader| reader.attempt(|reader| key_name(reader).map(Key::Name)),
        )?;
        steps.push(Step { to, text });
    }
    Ok(steps)
}

/// A number that nothing but the end of a step follows; `2nd` is a key.
fn index(reader: &mut Reader<'_>) -> Read<Key> {
    let negative = reader.maybe(|reader| reader.word("-"))?.is_some();
    let digits = reader.take_while(|ch| ch.is_ascii_digit());
    reader.wanted("digit");
    if digits.is_empty() {
        return Err(Fail);
    }
    let ahead = ["->", "::", ".", ","].into_iter().any(|end| reader.ahead(end));
    // Blanks may stand before a comma and the end; the original knows no parenthesis here, which makes a key of a number.
    let after = reader.rest().trim_start_matches([' ', '\t']);
    if !ahead && !after.is_empty() && !after.starts_with([',', ')']) {
        reader.end()?;
    }
    let number =
        digits.parse::<i32>().ok().and_then(|number| if negative { number.checked_neg() } else { Some(number) });
    match number {
        Some(number) => Ok(Key::Index(number)),
        None => reader.refuse("the index of an array is larger than 2147483647"),
    }
}

/// A column and a path into it, in blanks.
pub(super) fn field(reader: &mut Reader<'_>) -> Read<Field> {
    reader.spaced(|reader| Ok(Field { name: name(reader)?, path: path(reader)? }))
}

/// The dot between parts.
pub(super) fn dot(reader: &mut Reader<'_>) -> Read<()> {
    reader.named("delimiter (.)", |reader| reader.word("."))
}

/// `a,b,"c d"`
pub(super) fn names(reader: &mut Reader<'_>) -> Read<Vec<String>> {
    reader.list(name, |reader| reader.spaced(|reader| reader.word(",")))
}

/// The key of a condition: embedded relations, and a field of the last one.
pub(super) fn place(reader: &mut Reader<'_>) -> Read<(Vec<String>, Field)> {
    let mut all = reader.list(name, dot)?;
    let path = path(reader)?;
    let Some(name) = all.pop() else { return Err(Fail) };
    Ok((all, Field { name, path }))
}
