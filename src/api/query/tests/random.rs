//! Random queries that must read back, and broken ones that must not bring the reader down.

use super::*;

/// Numbers that look random, the same ones on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// Writes random queries, in the form in which they come.
mod writing {
    use super::super::*;
    use super::Random;

    pub(super) fn name(random: &mut Random) -> String {
        random
            .pick(&["id", "a b", "x,y", "q\"uote", "dash-ed", "é", "$1_", "or", "not", "a.b", "\\", "inner"])
            .to_owned()
    }

    /// A name in a form that reads back: in quotes when it must be.
    fn quoted(name: &str, random: &mut Random) -> String {
        let bare = name.chars().all(|ch| ch.is_alphanumeric() || matches!(ch, '_' | '$' | '-' | ' '));
        if bare && !matches!(name, "or" | "not" | "inner") && !random.chance(4) {
            return name.to_owned();
        }
        format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    }

    fn path(path: &[Step]) -> String {
        let step = |step: &Step| {
            let arrow = if step.text { "->>" } else { "->" };
            match &step.to {
                Key::Index(at) => format!("{arrow}{at}"),
                Key::Name(key) => format!("{arrow}\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\"")),
            }
        };
        path.iter().map(step).collect()
    }

    pub(super) fn field(random: &mut Random) -> Field {
        let step = |random: &mut Random| Step {
            to: if random.chance(3) { Key::Index(random.below(9) as i32 - 4) } else { Key::Name(name(random)) },
            text: random.chance(2),
        };
        let path = (0..random.below(3)).map(|_| step(random)).collect();
        Field { name: name(random), path }
    }

    fn written(field: &Field, random: &mut Random) -> String {
        format!("{}{}", quoted(&field.name, random), path(&field.path))
    }

    pub(super) fn select(items: &[Item], random: &mut Random) -> String {
        let all: Vec<String> = items.iter().map(|item| self::item(item, random)).collect();
        all.join(random.pick(&[",", ", ", " , "]))
    }

    fn item(item: &Item, random: &mut Random) -> String {
        let alias = |alias: &Option<String>, random: &mut Random| {
            alias.as_ref().map(|alias| format!("{}:", quoted(alias, random))).unwrap_or_default()
        };
        let cast = |cast: &Option<String>| cast.as_ref().map(|cast| format!("::{cast}")).unwrap_or_default();
        match item {
            Item::All => "*".to_owned(),
            Item::Column(column) => {
                let field = column.field.as_ref().map(|field| written(field, random)).unwrap_or_default();
                let dot = if column.field.is_some() { "." } else { "" };
                let aggregate = column.aggregate.as_ref().map(|(aggregate, after)| {
                    format!("{dot}{}(){}", format!("{aggregate:?}").to_lowercase(), cast(after))
                });
                format!(
                    "{}{field}{}{}",
                    alias(&column.alias, random),
                    cast(&column.cast),
                    aggregate.unwrap_or_default()
                )
            }
            Item::Embed(embed) => {
                let hint =
                    embed.hint.as_ref().map(|hint| format!("!\"{}\"", hint.replace('\\', "\\\\").replace('"', "\\\"")));
                format!(
                    "{}{}{}{}{}({})",
                    if embed.spread { "..." } else { "" },
                    alias(&embed.alias, random),
                    quoted(&embed.target, random),
                    hint.unwrap_or_default(),
                    if embed.inner { "!inner" } else { random.pick(&["", "!left"]) },
                    select(&embed.level.select, random)
                )
            }
        }
    }

    pub(super) fn items(random: &mut Random, depth: usize) -> Vec<Item> {
        (0..random.below(4)).map(|_| one(random, depth)).collect()
    }

    fn one(random: &mut Random, depth: usize) -> Item {
        let maybe_name = |random: &mut Random| random.chance(3).then(|| name(random));
        let cast = |random: &mut Random| random.chance(3).then(|| random.pick(&["text", "int8", "a b"]).to_owned());
        match random.below(5) {
            0 => Item::All,
            1 if depth > 0 => {
                let spread = random.chance(3);
                let select = items(random, depth - 1);
                Item::Embed(Box::new(Embed {
                    alias: if spread { None } else { maybe_name(random) },
                    target: name(random),
                    hint: maybe_name(random),
                    inner: random.chance(2),
                    spread,
                    level: Level { select, ..Level::default() },
                }))
            }
            2 => Item::Column(Column {
                alias: maybe_name(random),
                field: None,
                cast: None,
                aggregate: Some((Aggregate::Count, cast(random))),
            }),
            _ => {
                let kinds = [Aggregate::Avg, Aggregate::Count, Aggregate::Max, Aggregate::Min, Aggregate::Sum];
                let aggregate = random.chance(3).then(|| (kinds[random.below(5)], cast(random)));
                Item::Column(Column {
                    alias: maybe_name(random),
                    field: Some(field(random)),
                    cast: cast(random),
                    aggregate,
                })
            }
        }
    }

    fn value(random: &mut Random) -> String {
        random.pick(&["1", "", "a b", "x,y)", "(\"", "é\\", "{1,2}", "null", "*"]).to_owned()
    }

    pub(super) fn logic(random: &mut Random, depth: usize) -> Logic {
        if depth > 0 && random.chance(3) {
            let all = (0..=random.below(3)).map(|_| logic(random, depth - 1)).collect();
            let negated = random.chance(2);
            return if random.chance(2) { Logic::And(negated, all) } else { Logic::Or(negated, all) };
        }
        let operation = match random.below(5) {
            0 => Operation::In((0..random.below(3)).map(|_| value(random)).collect()),
            1 => Operation::Is([Is::True, Is::False, Is::Unknown][random.below(3)]),
            2 => Operation::Distinct(value(random)),
            3 => Operation::Search(Search::Plain, random.chance(2).then(|| "english".into()), value(random)),
            _ => Operation::Compare(Operator::Gte, [None, Some(Quantifier::Any)][random.below(2)], value(random)),
        };
        Logic::Filter(Filter { field: field(random), negated: random.chance(3), operation })
    }

    pub(super) fn tree(logic: &Logic, random: &mut Random) -> String {
        let safe = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        match logic {
            Logic::And(negated, all) | Logic::Or(negated, all) => {
                let word = if matches!(logic, Logic::And(..)) { "and" } else { "or" };
                let all: Vec<String> = all.iter().map(|logic| tree(logic, random)).collect();
                format!("{}{word}({})", if *negated { "not." } else { "" }, all.join(random.pick(&[",", ", "])))
            }
            Logic::Filter(filter) => {
                let operation = match &filter.operation {
                    Operation::In(list) => {
                        format!("in.({})", list.iter().map(|value| safe(value)).collect::<Vec<_>>().join(","))
                    }
                    Operation::Is(is) => format!("is.{}", format!("{is:?}").to_lowercase()),
                    Operation::Distinct(value) => format!("isdistinct.{}", safe(value)),
                    Operation::Search(_, language, value) => format!(
                        "plfts{}.{}",
                        language.as_ref().map(|language| format!("({language})")).unwrap_or_default(),
                        safe(value)
                    ),
                    Operation::Compare(_, quantifier, value) => {
                        format!("gte{}.{}", if quantifier.is_some() { "(any)" } else { "" }, safe(value))
                    }
                };
                let not = if filter.negated { "not." } else { "" };
                format!("{}.{not}{operation}", written(&filter.field, random))
            }
            Logic::Related(..) => unreachable!("not written"),
        }
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    encode(&mut out, text);
    out
}

#[test]
fn what_was_written_reads_back() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..4000 {
        let items = writing::items(&mut random, 4);
        let text = writing::select(&items, &mut random);
        let logic: Vec<Logic> = (0..=random.below(3)).map(|_| writing::logic(&mut random, 4)).collect();
        let tree = Logic::And(false, logic);
        let written = writing::tree(&tree, &mut random);
        let query = format!("select={}&and={}", escaped(&text), escaped(written.strip_prefix("and").unwrap()));
        let read = parse_text(&query, ROWS).unwrap_or_else(|error| panic!("{round}: {text}\n{written}\n{error}"));
        assert_eq!(read.level.select, items, "{round}: {text}");
        assert_eq!(read.level.filters, [tree], "{round}: {written}");
    }
}

#[test]
fn broken_queries_are_errors_and_nothing_worse() {
    const PIECES: &[&str] = &[
        "(", ")", ",", ".", ":", "::", "!", "\"", "\\", "->", "->>", "*", "...", "not.", "in.", "eq.", "&", "=", "%",
        "+", "é", "\u{0}", "count()", "-", "{", "}", "or", "9",
    ];
    let mut random = Random(0x1234_5678_9abc_def1);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let items = writing::items(&mut random, 3);
        let logic = writing::logic(&mut random, 3);
        let mut text = format!(
            "select={}&or=({})&id=eq.5&order=id.desc&limit=3",
            writing::select(&items, &mut random).replace('&', ""),
            writing::tree(&logic, &mut random)
        );
        for _ in 0..random.below(4) {
            let mut at = random.below(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            if random.chance(2) {
                text.insert_str(at, random.pick(PIECES));
            } else {
                text.truncate(at);
            }
        }
        let (rows, call) = (parse_text(&text, ROWS), parse_text(&text, CALL));
        match &rows {
            Ok(_) => good += 1,
            Err(Error::Syntax { message, details }) => {
                assert!(!message.is_empty() && details != "unknown parse error", "{text}: {details}");
                bad += 1;
            }
            Err(_) => bad += 1,
        }
        assert!(rows.is_err() || call.is_ok(), "{text}");
    }
    assert!(good > 1000 && bad > 1000, "{good} good, {bad} bad");
}
