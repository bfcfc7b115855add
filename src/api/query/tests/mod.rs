//! Queries and what they mean; failures and their words.

mod random;

use super::*;

const ROWS: Mode = Mode { arguments: false, legacy_names: true };
const CALL: Mode = Mode { arguments: true, legacy_names: true };

fn read(text: &str) -> Query {
    parse_text(text, ROWS).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn failure(text: &str) -> (String, String) {
    match parse_text(text, ROWS) {
        Err(Error::Syntax { message, details }) => (message, details),
        other => panic!("{text}: {other:?}"),
    }
}

fn field(text: &str) -> Field {
    Field { name: text.to_owned(), path: Vec::new() }
}

fn plain(text: &str) -> Item {
    Item::Column(Column { alias: None, field: Some(field(text)), cast: None, aggregate: None })
}

fn step(to: &str, text: bool) -> Step {
    Step { to: Key::Name(to.to_owned()), text }
}

fn only_filter(text: &str) -> Filter {
    match read(text).level.filters.as_slice() {
        [Logic::Filter(filter)] => filter.clone(),
        other => panic!("{text}: {other:?}"),
    }
}

fn compare(operator: Operator, value: &str) -> Operation {
    Operation::Compare(operator, None, value.to_owned())
}

fn embed(item: &Item) -> &Embed {
    match item {
        Item::Embed(embed) => embed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn select_lists() {
    assert_eq!(read("select=*,id").level.select, [Item::All, plain("id")]);
    assert_eq!(read("select=").level.select, []);
    assert_eq!(read("select= id , full name ").level.select, [plain("id"), plain("full name")]);
    assert_eq!(read("select=a-b,\"c,d\",\"e\\\"f\"").level.select, [plain("a-b"), plain("c,d"), plain("e\"f")]);
    let one = |text: &str| match read(text).level.select.as_slice() {
        [Item::Column(column)] => column.clone(),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(
        one("select=alias:name->jsonpath->0->>last::text"),
        Column {
            alias: Some("alias".into()),
            field: Some(Field {
                name: "name".into(),
                path: vec![step("jsonpath", false), Step { to: Key::Index(0), text: false }, step("last", true)],
            }),
            cast: Some("text".into()),
            aggregate: None,
        }
    );
    assert_eq!(one("select=data->>-78").field.unwrap().path, [Step { to: Key::Index(-78), text: true }]);
    assert_eq!(one("select=data->2nd").field.unwrap().path, [step("2nd", false)]);
    assert_eq!(
        one("select=data->!@#$%25^&*_d".replace('&', "%26").as_str()).field.unwrap().path,
        [step("!@#$%^&*_d", false)]
    );
    assert_eq!(
        one("select=n:count()::text"),
        Column {
            alias: Some("n".into()),
            field: None,
            cast: None,
            aggregate: Some((Aggregate::Count, Some("text".into()))),
        }
    );
    assert_eq!(
        one("select=a::int8.sum()::text"),
        Column {
            alias: None,
            field: Some(field("a")),
            cast: Some("int8".into()),
            aggregate: Some((Aggregate::Sum, Some("text".into()))),
        }
    );
    assert_eq!(one("select=a.max()").aggregate, Some((Aggregate::Max, None)));
    assert_eq!(one("select=a.min()").aggregate, Some((Aggregate::Min, None)));
    assert_eq!(one("select=count").field, Some(field("count")));
    assert_eq!(one("select=a::double precision").cast.as_deref(), Some("double precision"));
}

#[test]
fn embeds() {
    let query = read("select=id,c:clients!fk!inner(id, name),...tasks!left(x:id,sub()),files!inner_fk(*)");
    let [_, clients, tasks, files] = query.level.select.as_slice() else { panic!("{query:?}") };
    let clients = embed(clients);
    assert_eq!((clients.name(), clients.target.as_str(), clients.hint.as_deref()), ("c", "clients", Some("fk")));
    assert!(clients.inner && !clients.spread);
    assert_eq!(clients.level.select, [plain("id"), plain("name")]);
    let tasks = embed(tasks);
    assert!(tasks.spread && !tasks.inner);
    assert_eq!(embed(&tasks.level.select[1]).level.select, []);
    // A constraint that begins with a keyword is a hint.
    assert_eq!(embed(files).hint.as_deref(), Some("inner_fk"));
    assert_eq!(embed(files).level.select, [Item::All]);
}

#[test]
fn conditions() {
    let all = [
        ("eq", Operator::Eq),
        ("neq", Operator::Neq),
        ("gt", Operator::Gt),
        ("gte", Operator::Gte),
        ("lt", Operator::Lt),
        ("lte", Operator::Lte),
        ("match", Operator::Match),
        ("imatch", Operator::Imatch),
        ("cs", Operator::Contains),
        ("cd", Operator::Contained),
        ("ov", Operator::Overlap),
        ("sl", Operator::StrictlyLeft),
        ("sr", Operator::StrictlyRight),
        ("nxr", Operator::NotExtendsRight),
        ("nxl", Operator::NotExtendsLeft),
        ("adj", Operator::Adjacent),
    ];
    for (word, operator) in all {
        let filter = only_filter(&format!("a={word}.x.y,(z)"));
        assert_eq!((filter.negated, filter.operation), (false, compare(operator, "x.y,(z)")), "{word}");
        assert!(only_filter(&format!("a=not.{word}.")).negated);
    }
    assert_eq!(only_filter("a=like.*x*").operation, compare(Operator::Like, "%x%"));
    assert_eq!(only_filter("a=eq.*x*").operation, compare(Operator::Eq, "*x*"));
    assert_eq!(
        only_filter("a=ilike(any).{*x,y}").operation,
        Operation::Compare(Operator::Ilike, Some(Quantifier::Any), "{%x,y}".into())
    );
    assert_eq!(
        only_filter("a=not.eq(all).{1}").operation,
        Operation::Compare(Operator::Eq, Some(Quantifier::All), "{1}".into())
    );
    let list = |text: &str| match only_filter(text).operation {
        Operation::In(list) => list,
        other => panic!("{other:?}"),
    };
    assert_eq!(list("a=in.(1, 2,\"x,\\\"y\",\"q\"r,)"), ["1", " 2", "x,\"y", "\"q\"r", ""]);
    assert_eq!(list("a=in.()"), Vec::<String>::new());
    assert_eq!(list("a=in.(\"\")"), [""]);
    for (word, is) in [("null", Is::Null), ("NOT_NULL", Is::NotNull), ("true", Is::True), ("faLse", Is::False)] {
        assert_eq!(only_filter(&format!("a=is.{word}")).operation, Operation::Is(is));
    }
    assert_eq!(only_filter("a=isdistinct.null").operation, Operation::Distinct("null".into()));
    assert_eq!(
        only_filter("a=wfts(simple english).x").operation,
        Operation::Search(Search::Web, Some("simple english".into()), "x".into())
    );
    assert_eq!(only_filter("a=fts.x").operation, Operation::Search(Search::Full, None, "x".into()));
    let deep = only_filter("a->b->>c=eq.1");
    assert_eq!(deep.field, Field { name: "a".into(), path: vec![step("b", false), step("c", true)] });
    assert_eq!(only_filter("\"a.b\"=eq.1").field, field("a.b"));
    assert_eq!(only_filter("%22a%3D%22=eq.1").field, field("a="));
}

#[test]
fn trees() {
    let leaf = |name: &str, operation| Logic::Filter(Filter { field: field(name), negated: false, operation });
    assert_eq!(
        read("or=(a.eq.1, and(b.gt.2,c.in.(x,\"y)\")), not.or( d.eq.\"q,\"))").level.filters,
        [Logic::Or(
            false,
            vec![
                leaf("a", compare(Operator::Eq, "1")),
                Logic::And(
                    false,
                    vec![
                        leaf("b", compare(Operator::Gt, "2")),
                        leaf("c", Operation::In(vec!["x".into(), "y)".into()])),
                    ]
                ),
                Logic::Or(true, vec![leaf("d", compare(Operator::Eq, "q,"))]),
            ]
        )]
    );
    assert_eq!(
        read("not.and=(a.cs.{1,2},b.ov.{})").level.filters.len(),
        1,
        "an array is one value although it has a comma"
    );
    let nested = read("select=r(*)&r.not.or=(a.is.true,b.not.is.null)");
    assert!(matches!(embed(&nested.level.select[0]).level.filters[0], Logic::Or(true, _)));
}

#[test]
fn parameters_go_to_the_embed_that_they_name() {
    let query = read(
        "select=id,c:clients(id,projects(id))&c.projects.id=eq.3&c.order=id.desc&c.projects.limit=2&offset=4&\
         c.offset=1&order=c(name).nullsfirst,id",
    );
    assert_eq!(query.level.offset, Some(4));
    assert_eq!(
        query.level.order,
        [
            Order { by: By::Related(1, field("name")), descending: None, nulls_first: Some(true) },
            Order { by: By::Field(field("id")), descending: None, nulls_first: None },
        ]
    );
    let clients = embed(&query.level.select[1]);
    assert_eq!(clients.level.offset, Some(1));
    assert_eq!(clients.level.order[0].descending, Some(true));
    let projects = embed(&clients.level.select[1]);
    assert_eq!((projects.level.limit, projects.level.filters.len()), (Some(2), 1));
    assert_eq!(query.legacy, []);

    let old = "select=c:clients(id)&clients.id=eq.1&clients.limit=1";
    assert_eq!(read(old).legacy, [("clients".to_owned(), "c".to_owned())]);
    let strict = Mode { legacy_names: false, ..ROWS };
    assert_eq!(parse_text(old, strict), Err(Error::NotEmbedded("clients".into())));
    for wrong in ["clients.id=eq.1", "select=c(d())&c.x.id=eq.1", "select=id&order=x(id)", "x.limit=1", "x.or=(a.eq.1)"]
    {
        assert!(matches!(parse_text(wrong, ROWS), Err(Error::NotEmbedded(_))), "{wrong}");
    }
}

#[test]
fn a_null_test_of_an_embed_is_about_its_rows() {
    let filters = |text: &str| read(text).level.filters;
    assert_eq!(filters("select=id,c:clients()&c=is.null"), [Logic::Related(1, true)]);
    assert_eq!(filters("select=clients()&clients=not.is.null"), [Logic::Related(0, false)]);
    assert_eq!(filters("select=clients()&clients=is.not_null"), [Logic::Related(0, false)]);
    assert_eq!(
        filters("select=a(),b()&or=(a.not.is.null,b.is.null)"),
        [Logic::Or(false, vec![Logic::Related(0, false), Logic::Related(1, true)])]
    );
    // Other conditions on the name are about a column.
    assert!(matches!(filters("select=status(*)&status=eq.3")[0], Logic::Filter(_)));
    assert!(matches!(filters("select=c:clients()&clients=is.null")[0], Logic::Filter(_)));
}

#[test]
fn limits_and_repeated_keys() {
    assert_eq!(read("limit=5&limit=3&offset=-4").level.limit, Some(3));
    assert_eq!(read("offset=-4").level.offset, None);
    assert_eq!(parse_text("limit=-1", ROWS), Err(Error::NegativeLimit));
    assert_eq!(parse_text("select=a(*)&a.offset=-1", ROWS), Err(Error::NegativeOffset));
    assert_eq!(read("limit=99999999999999999999").level.limit, Some(i64::MAX as u64));
    assert_eq!(read("select=a&select=b").level.select, [plain("a")]);
    assert_eq!(read("order=a&order=b").level.order.len(), 1);
    assert_eq!(read("columns=\"a\",b c&on_conflict=x").columns.unwrap(), ["a", "b c"]);
    for wrong in ["limit=abc", "limit=", "offset=1.5", "limit", "foo", "columns=", "order=", "on_conflict=a,"] {
        assert!(parse_text(wrong, ROWS).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_no_condition_is_an_argument_of_a_call() {
    let query = parse_text("a=1&b=eq.2&c={1,2}&d=&a=3&e=in the sky&limit=1", CALL).unwrap();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        query.arguments,
        [pair("a", "1"), pair("c", "{1,2}"), pair("d", ""), pair("a", "3"), pair("e", "in the sky")]
    );
    assert_eq!(query.level.filters.len(), 1);
    for wrong in ["a=in.1", "a=not.x", "a.b=1", "a->b=1", "a=is.nullish"] {
        assert!(parse_text(wrong, CALL).is_err(), "{wrong}");
    }
}

#[test]
fn failures_speak_in_the_words_that_clients_know() {
    let cases = [
        (
            "id=0",
            "\"failed to parse filter (0)\" (line 1, column 1)",
            "unexpected \"0\" expecting \"not\" or operator (eq, gt, ...)",
        ),
        (
            "a.b=noop.0&select=a()",
            "\"failed to parse filter (noop.0)\" (line 1, column 1)",
            "unexpected \"o\" expecting \"not\" or operator (eq, gt, ...)",
        ),
        (
            "id=val",
            "\"failed to parse filter (val)\" (line 1, column 1)",
            "unexpected \"v\" expecting \"not\" or operator (eq, gt, ...)",
        ),
        (
            "id=fts().value",
            "\"failed to parse filter (fts().value)\" (line 1, column 5)",
            "unexpected \")\" expecting operator (eq, gt, ...)",
        ),
        (
            "id=eq().value",
            "\"failed to parse filter (eq().value)\" (line 1, column 4)",
            "unexpected \")\" expecting operator (eq, gt, ...)",
        ),
        (
            "id=is().value",
            "\"failed to parse filter (is().value)\" (line 1, column 3)",
            "unexpected \"(\" expecting operator (eq, gt, ...)",
        ),
        (
            "id=in().value",
            "\"failed to parse filter (in().value)\" (line 1, column 3)",
            "unexpected \"(\" expecting operator (eq, gt, ...)",
        ),
        (
            "order=id.ac",
            "\"failed to parse order (id.ac)\" (line 1, column 4)",
            "unexpected \"c\" expecting \"asc\", \"desc\", \"nullsfirst\" or \"nullslast\"",
        ),
        (
            "order=id.descc",
            "\"failed to parse order (id.descc)\" (line 1, column 8)",
            "unexpected 'c' expecting delimiter (.), \",\" or end of input",
        ),
        (
            "order=id.nulsfist",
            "\"failed to parse order (id.nulsfist)\" (line 1, column 4)",
            "unexpected \"n\" expecting \"asc\", \"desc\", \"nullsfirst\" or \"nullslast\"",
        ),
        (
            "order=id.nullslasttt",
            "\"failed to parse order (id.nullslasttt)\" (line 1, column 13)",
            "unexpected 't' expecting \",\" or end of input",
        ),
        (
            "order=id.asc.nlsfst",
            "\"failed to parse order (id.asc.nlsfst)\" (line 1, column 8)",
            "unexpected \"l\" expecting \"nullsfirst\" or \"nullslast\"",
        ),
        (
            "order=id.asc.nullslasttt",
            "\"failed to parse order (id.asc.nullslasttt)\" (line 1, column 17)",
            "unexpected 't' expecting \",\" or end of input",
        ),
        (
            "order=clients(name,id)",
            "\"failed to parse order (clients(name,id))\" (line 1, column 8)",
            "unexpected '(' expecting letter, digit, \"-\", \"->>\", \"->\", delimiter (.), \",\" or end of input",
        ),
        (
            "or=()",
            "\"failed to parse logic tree (())\" (line 1, column 4)",
            "unexpected \")\" expecting field name (* or [a..z0..9_$]), negation operator (not) or logic operator (and, or)",
        ),
        (
            "or=(id.in.1,2,id.eq.3)",
            "\"failed to parse logic tree ((id.in.1,2,id.eq.3))\" (line 1, column 10)",
            "unexpected \"1\" expecting \"(\"",
        ),
        ("or=)(", "\"failed to parse logic tree ()()\" (line 1, column 3)", "unexpected \")\" expecting \"(\""),
        (
            "and=(ord(id.eq.1,id.eq.1),id.eq.2)",
            "\"failed to parse logic tree ((ord(id.eq.1,id.eq.1),id.eq.2))\" (line 1, column 7)",
            "unexpected \"d\" expecting \"(\"",
        ),
        (
            "or=(id.eq.1,not.xor(id.eq.2,id.eq.3))",
            "\"failed to parse logic tree ((id.eq.1,not.xor(id.eq.2,id.eq.3)))\" (line 1, column 16)",
            "unexpected \"x\" expecting logic operator (and, or)",
        ),
        (
            "select=id,clients(name[])",
            "\"failed to parse select parameter (id,clients(name[]))\" (line 1, column 16)",
            "unexpected '[' expecting letter, digit, \"-\", \"->>\", \"->\", \"::\", \".\", \")\", \",\" or end of input",
        ),
        (
            "select=data->>-78xy",
            "\"failed to parse select parameter (data->>-78xy)\" (line 1, column 11)",
            "unexpected 'x' expecting digit, \"->\", \"::\", \".\", \",\" or end of input",
        ),
        (
            "select=data->>--34",
            "\"failed to parse select parameter (data->>--34)\" (line 1, column 9)",
            "unexpected \"-\" expecting digit",
        ),
        (
            "select=name::",
            "\"failed to parse select parameter (name::)\" (line 1, column 7)",
            "unexpected end of input expecting letter or digit",
        ),
        (
            "select=*!hint",
            "\"failed to parse select parameter (*!hint)\" (line 1, column 2)",
            "unexpected '!' expecting \")\", \",\" or end of input",
        ),
        ("columns=\u{20}", "\"failed to parse columns parameter ( )\" (line 1, column 2)", "a name is blank"),
    ];
    let mut wrong = Vec::new();
    for (text, message, details) in cases {
        let found = failure(text);
        if (found.0.as_str(), found.1.as_str()) != (message, details) {
            wrong.push(format!("{text}\n  {}\n  {}\n  wanted {message}\n  {details}", found.0, found.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_unread() {
    for text in [
        "select=id)",
        "select=id,",
        "select=id,,name",
        "select=clients(id",
        "select=clients(id))",
        "select=clients!a!b(id)",
        "select=clients!inner!left(id)",
        "select=x:...clients(id)",
        "select=x:*",
        "select=name!hint",
        "select=data->",
        "select=data->(a)",
        "select=a.median()",
        "select=a->99999999999",
        "or=(a.eq.1)x",
        "or=a.eq.1",
        "or=(a.eq.1",
        "and=(a.is.nullx)",
        "a=in.(1,2)x",
        "a=in.1",
        "a=is.nul",
        "a=is.nullx",
        "a=eq(some).1",
        "a=eq",
        "a=fts(.x",
        "order=id.desc.asc",
        "order=id,",
        "order=id,,b",
        "columns=a,b)",
        "a(b)=eq.1",
        "a..b=eq.1",
        "=eq.1",
    ] {
        assert!(parse_text(text, ROWS).is_err(), "{text}");
    }
}

#[test]
fn what_is_too_deep_or_too_large_is_refused() {
    let deep = |depth: usize| format!("select={}x{}", "a(".repeat(depth), ")".repeat(depth));
    assert!(parse_text(&deep(32), ROWS).is_ok());
    assert_eq!(failure(&deep(33)).1, "it nests more than 32 levels deep");
    assert!(parse_text(&deep(5000), ROWS).is_err());
    let tree = |depth: usize| format!("or=({}a.eq.1{})", "and(".repeat(depth), ")".repeat(depth));
    assert!(parse_text(&tree(31), ROWS).is_ok());
    assert!(parse_text(&tree(32), ROWS).is_err());
    let wide = |count: usize| format!("or=({})", vec!["a.eq.1"; count].join(","));
    assert!(parse_text(&wide(999), ROWS).is_ok());
    assert_eq!(failure(&wide(1000)).0, "the query is too large");
    assert_eq!(failure(&format!("a=eq.{}", "x".repeat(MAX_QUERY))).0, "the query string is too long");
}
