//! What a stranger, a user and a service may do through the API: the matrix of role, table, verb and policy; forged and
//! confused tokens; hostile text in every place of the grammar; what reaches the database of a request.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{Answer, Api, Http1, JWT_SECRET, send, token};

const ADA: &str = "00000000-0000-4000-8000-00000000000a";
const BEN: &str = "00000000-0000-4000-8000-00000000000b";

/// A table for each kind of policy; each has rows 1 and 2 of Ada and 3 of Ben. `marker` must not be read by others.
const SCHEMA: &str = "
    CREATE FUNCTION rows_of(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
      EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, owner uuid, marker text, tags text[], doc jsonb)', t);
      EXECUTE format($q$INSERT INTO %I VALUES
        (1, '00000000-0000-4000-8000-00000000000a', 'of ada', '{a,b}', '{\"k\": {\"n\": 1}}'),
        (2, '00000000-0000-4000-8000-00000000000a', 'of ada too', '{b}', '{\"k\": {\"n\": 2}}'),
        (3, '00000000-0000-4000-8000-00000000000b', 'of ben', '{c}', NULL)$q$, t);
      IF t <> 'bare' THEN EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t); END IF;
    END $$;
    SELECT rows_of(t) FROM unnest('{shown,own,closed,bare,withheld,writable}'::text[]) t;
    CREATE POLICY p ON shown FOR SELECT USING (true);
    CREATE POLICY p ON own TO authenticated USING (owner = auth.uid()) WITH CHECK (owner = auth.uid());
    CREATE POLICY p ON withheld USING (true) WITH CHECK (true);
    REVOKE ALL ON withheld FROM anon, authenticated;
    CREATE POLICY p ON writable USING (true) WITH CHECK (true);
    CREATE VIEW leaky AS SELECT * FROM own;
    CREATE VIEW tight WITH (security_invoker = true) AS SELECT * FROM own;
    CREATE FUNCTION setting(name text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting(name, true) $$;
    CREATE FUNCTION who() RETURNS text LANGUAGE sql STABLE AS $$ SELECT session_user || '/' || current_user $$;
    CREATE FUNCTION secret_function() RETURNS text LANGUAGE sql AS $$ SELECT 'inside' $$;
    REVOKE ALL ON FUNCTION secret_function FROM PUBLIC, anon, authenticated;";

/// What refers to rows of somebody's; the matrix does without, since it removes those.
const NOTES: &str = "
    CREATE TABLE notes (id int PRIMARY KEY, own_id int REFERENCES own, text text);
    INSERT INTO notes VALUES (1, 1, 'on ada'), (3, 3, 'on ben');
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON notes FOR SELECT USING (true);";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Anon,
    Ada,
    Ben,
    Service,
}

fn bearer(role: Role) -> Option<String> {
    let claims = match role {
        Role::Anon => return None,
        Role::Ada => json!({ "role": "authenticated", "sub": ADA }),
        Role::Ben => json!({ "role": "authenticated", "sub": BEN }),
        Role::Service => json!({ "role": "service_role" }),
    };
    Some(format!("Bearer {}", token(&claims)))
}

fn api() -> Api {
    Api::start(&format!("{SCHEMA}{NOTES}"), "[api]\nmax_rows = 100", "")
}

fn ids(answer: &Answer) -> BTreeSet<i64> {
    let rows: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    rows.as_array().into_iter().flatten().filter_map(|row| row["id"].as_i64()).collect()
}

/// Which rows a role may see in a table, by the policies; `None` where the table is not for it at all.
fn visible(role: Role, table: &str) -> Option<BTreeSet<i64>> {
    let all = BTreeSet::from([1, 2, 3]);
    if role == Role::Service {
        return Some(all);
    }
    match table {
        "shown" | "writable" => Some(all),
        "own" | "tight" if role == Role::Ada => Some(BTreeSet::from([1, 2])),
        "own" | "tight" if role == Role::Ben => Some(BTreeSet::from([3])),
        "own" | "tight" | "closed" => Some(BTreeSet::new()),
        // Without row-level security, or by its owner's rights: not for those who bring no token.
        "bare" | "leaky" => (role != Role::Anon).then_some(all),
        "withheld" => None,
        _ => unreachable!("{table}"),
    }
}

fn writable(role: Role, table: &str) -> BTreeSet<i64> {
    match table {
        "shown" if role != Role::Service => BTreeSet::new(),
        _ => visible(role, table).unwrap_or_default(),
    }
}

#[test]
fn every_role_sees_and_changes_what_the_policies_say() {
    let api = Api::start(SCHEMA, "", "");
    let state = |table: &str| api.database().rows(&format!("SELECT id, owner, marker FROM {table} ORDER BY id"));
    for table in ["shown", "own", "closed", "bare", "withheld", "writable", "leaky", "tight"] {
        let before = state(table);
        for role in [Role::Anon, Role::Ada, Role::Ben, Role::Service] {
            let bearer = bearer(role);
            let mut headers = vec![("Prefer", "return=representation,tx=rollback")];
            headers.extend(bearer.as_deref().map(|value| ("Authorization", value)));
            let refused = if role == Role::Anon { 401 } else { 403 };
            let case = format!("{role:?} in {table}");

            let read = api.ask("GET", &format!("/rest/v1/{table}?select=id"), &headers, "");
            match visible(role, table) {
                Some(rows) => assert_eq!((read.status, ids(&read)), (200, rows), "{case}: {}", read.text()),
                None => assert_eq!(read.status, refused, "{case}: {}", read.text()),
            }
            let counted = api.ask(
                "HEAD",
                &format!("/rest/v1/{table}"),
                &[headers.clone(), vec![("Prefer", "count=exact")]].concat(),
                "",
            );
            if let Some(rows) = visible(role, table) {
                let range = counted.header("content-range").unwrap_or_default().to_owned();
                assert!(range.ends_with(&format!("/{}", rows.len())), "{case}: a count tells of hidden rows: {range}");
            }

            // Everything that a write would change is put back below, since commits are for good here.
            let changed =
                api.ask("PATCH", &format!("/rest/v1/{table}?id=gte.1&select=id"), &headers, "{\"marker\":\"changed\"}");
            let may: BTreeSet<i64> = writable(role, table);
            let really: BTreeSet<i64> =
                state(table).iter().filter(|row| row[2] == "changed").map(|row| row[0].parse().unwrap()).collect();
            assert_eq!(really, may, "{case} PATCH: {} {}", changed.status, changed.text());
            assert!(changed.status < 500, "{case} PATCH: {}", changed.text());
            restore(&api, table);

            let added = api.ask(
                "POST",
                &format!("/rest/v1/{table}"),
                &headers,
                &format!("{{\"id\":9,\"owner\":\"{BEN}\",\"marker\":\"new\"}}"),
            );
            let there = api.database().value(&format!("SELECT count(*) FROM {table} WHERE id = 9")) == "1";
            let may_add = match table {
                "own" | "tight" => matches!(role, Role::Ben | Role::Service),
                "shown" | "closed" => role == Role::Service,
                _ => visible(role, table).is_some(),
            };
            assert_eq!(there, may_add, "{case} POST: {} {}", added.status, added.text());
            restore(&api, table);

            let removed = api.ask("DELETE", &format!("/rest/v1/{table}?id=gte.1"), &headers, "");
            let left: BTreeSet<i64> = state(table).iter().map(|row| row[0].parse().unwrap()).collect();
            let expected: BTreeSet<i64> = BTreeSet::from([1, 2, 3]).difference(&may).copied().collect();
            assert_eq!(left, expected, "{case} DELETE: {} {}", removed.status, removed.text());
            restore(&api, table);
            assert_eq!(state(table), before, "{case}: the rows are as they were");
        }
    }
}

/// Puts the three rows of a table back.
fn restore(api: &Api, table: &str) {
    let base = if matches!(table, "leaky" | "tight") { "own" } else { table };
    api.database().execute_as_superuser(&format!(
        "SET session_replication_role = replica; DELETE FROM {base}; INSERT INTO {base} VALUES
         (1, '{ADA}', 'of ada', '{{a,b}}', '{{\"k\": {{\"n\": 1}}}}'), (2, '{ADA}', 'of ada too', '{{b}}', '{{\"k\": {{\"n\": 2}}}}'),
         (3, '{BEN}', 'of ben', '{{c}}', NULL)"
    ));
}

#[test]
fn hidden_rows_stay_hidden_behind_embeds_filters_orders_and_functions() {
    let api = api();
    let ada = bearer(Role::Ada).unwrap();
    let get = |target: &str| api.ask("GET", target, &[("Authorization", &ada)], "");
    // A note on Ben's row can be read, the row that it refers to cannot.
    let notes = get("/rest/v1/notes?select=id,own(id,marker)&order=id");
    let rows: Value = serde_json::from_slice(&notes.body).unwrap();
    assert_eq!(rows, json!([{ "id": 1, "own": { "id": 1, "marker": "of ada" } }, { "id": 3, "own": null }]));
    for target in [
        "/rest/v1/notes?select=id,own!inner(id)",
        "/rest/v1/notes?select=id,own()&own=not.is.null",
        "/rest/v1/notes?select=id,own!inner()&own.marker=like.*",
        "/rest/v1/own?select=id,notes(id)&id=in.(1,3)",
        "/rest/v1/own?select=id&or=(id.eq.1,marker.eq.of%20ben)",
    ] {
        assert_eq!(ids(&get(target)), BTreeSet::from([1]), "{target}");
    }
    let spread = get("/rest/v1/notes?select=id,...own(marker)&order=own(marker).desc.nullslast").text();
    assert!(!spread.contains("of ben"), "{spread}");
    let summed = get("/rest/v1/own?select=count()");
    assert_eq!(summed.status, 400, "aggregates are off by default: {}", summed.text());
    for (target, status) in [
        ("/rest/v1/rpc/secret_function", 403),
        ("/rest/v1/pg_authid", 404),
        ("/rest/v1/auth.users", 404),
        ("/rest/v1/rpc/pg_read_file?filename=/etc/passwd", 404),
    ] {
        assert_eq!(get(target).status, status, "{target}");
    }
    for profile in ["auth", "beacon", "pg_catalog", "information_schema", "storage"] {
        let answer = api.ask("GET", "/rest/v1/users", &[("Authorization", &ada), ("Accept-Profile", profile)], "");
        assert_eq!(answer.status, 406, "{profile}: {}", answer.text());
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn forged_and_confused_tokens_are_refused() {
    let api = api();
    let keys = api.ask("GET", "/auth/v1/.well-known/jwks.json", &[], "");
    let keys: Value = serde_json::from_slice(&keys.body).unwrap();
    let key = &keys["keys"][0];
    let claims = json!({ "role": "service_role", "aud": "authenticated", "iat": 1, "exp": 4_000_000_000_u64 });
    let signed = |header: &Value, claims: &Value, secret: &[u8]| {
        let text = format!("{}.{}", part(header), part(claims));
        let mac = jsonwebtoken::crypto::sign(
            text.as_bytes(),
            &jsonwebtoken::EncodingKey::from_secret(secret),
            jsonwebtoken::Algorithm::HS256,
        );
        format!("{text}.{}", mac.unwrap())
    };
    let good = token(&json!({ "role": "service_role" }));
    let [head, body, mac]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let hs = json!({ "alg": "HS256", "typ": "JWT" });
    let kid = key["kid"].as_str().unwrap_or_default();
    let public = key.to_string();
    let point = format!("{}{}", key["x"].as_str().unwrap_or_default(), key["y"].as_str().unwrap_or_default());
    let secret = JWT_SECRET.as_bytes();
    let forged: Vec<(&str, String)> = vec![
        ("no algorithm", format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims))),
        ("no algorithm, spelled otherwise", format!("{}.{}.{mac}", part(&json!({ "alg": "nOnE" })), part(&claims))),
        ("no signature", format!("{head}.{body}.")),
        ("another secret", signed(&hs, &claims, b"another")),
        ("the empty secret", signed(&hs, &claims, b"")),
        ("the public key as the secret", signed(&json!({ "alg": "HS256", "kid": kid }), &claims, public.as_bytes())),
        ("the public point as the secret", signed(&json!({ "alg": "HS256", "kid": kid }), &claims, point.as_bytes())),
        ("HS256 said to be ES256", signed(&json!({ "alg": "ES256", "kid": kid }), &claims, secret)),
        ("HS256 said to be HS512", signed(&json!({ "alg": "HS512" }), &claims, secret)),
        ("a kid that is a path", signed(&json!({ "alg": "HS256", "kid": "../../../../dev/null" }), &claims, b"")),
        ("a kid that is SQL", signed(&json!({ "alg": "HS256", "kid": "' OR 1=1 --" }), &claims, b"1")),
        ("a key of its own", signed(&json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": "YQ" } }), &claims, b"a")),
        ("a key elsewhere", signed(&json!({ "alg": "HS256", "jku": "http://127.0.0.1:1/keys" }), &claims, b"a")),
        ("crit", signed(&json!({ "alg": "HS256", "crit": ["exp"], "exp": 1 }), &claims, secret)),
        ("expired", token(&json!({ "role": "service_role", "exp": 1_700_000_000 }))),
        ("of the future", token(&json!({ "role": "service_role", "nbf": 4_000_000_000_u64 }))),
        ("issued in the future", token(&json!({ "role": "service_role", "iat": 4_000_000_000_u64 }))),
        ("for somebody else", token(&json!({ "role": "service_role", "aud": "another" }))),
        ("exp that is text", token(&json!({ "role": "service_role", "exp": "soon" }))),
        ("two signatures", format!("{good}.{mac}")),
        ("two tokens", format!("{good} {good}")),
        ("a longer signature", format!("{good}AA")),
        ("another body", format!("{head}.{}.{mac}", part(&claims))),
        ("white space", format!("{head} .{body}.{mac}")),
        ("nothing", String::new()),
        ("a very long one", format!("{head}.{}.{mac}", "A".repeat(40_000))),
    ];
    for (name, forged) in &forged {
        for target in ["/rest/v1/own", "/auth/v1/admin/users"] {
            let answer = api.ask("GET", target, &[("Authorization", &format!("Bearer {forged}"))], "");
            assert!((400..500).contains(&answer.status), "{name} at {target}: {} {}", answer.status, answer.text());
            assert!(!answer.text().contains("of ada"), "{name} at {target}");
        }
    }
    for role in [
        json!("postgres"),
        json!("application"),
        json!("pg_read_all_data"),
        json!("no such role"),
        json!(""),
        json!(1),
        json!(["anon"]),
        json!({}),
        json!("anon; reset role"),
    ] {
        let answer = api.ask(
            "GET",
            "/rest/v1/own",
            &[("Authorization", &format!("Bearer {}", token(&json!({ "role": role }))))],
            "",
        );
        assert!((400..500).contains(&answer.status), "role {role}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("of ada"), "role {role}");
    }
    let fine = api.ask("GET", "/rest/v1/own", &[("Authorization", &format!("Bearer {good}"))], "");
    assert_eq!(ids(&fine), BTreeSet::from([1, 2, 3]), "the good one is good");
}

#[test]
fn settings_of_a_request_are_its_own() {
    let api = api();
    let ada = bearer(Role::Ada).unwrap();
    let mut client = api.connect();
    let mut setting = |name: &str, headers: &[(&str, &str)]| {
        let headers = [headers, &[("Authorization", ada.as_str())]].concat();
        let answer = send(&mut client, "POST", "/rest/v1/rpc/setting", &headers, &json!({ "name": name }).to_string());
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        serde_json::from_slice::<Value>(&answer.body).unwrap().as_str().unwrap_or_default().to_owned()
    };
    let hostile =
        [("Cookie", "a=1; b=\"2\"; c=') DROP TABLE own --"), ("X-Quote", "'\\\"; select 1"), ("X-Quote", "again")];
    let headers: Value = serde_json::from_str(&setting("request.headers", &hostile)).unwrap();
    assert_eq!(headers["x-quote"].as_str().map(|value| value.contains("'\\\"; select 1")), Some(true), "{headers}");
    let cookies: Value = serde_json::from_str(&setting("request.cookies", &hostile)).unwrap();
    assert_eq!(cookies["a"], "1");
    assert_eq!(cookies["c"], "') DROP TABLE own --", "{cookies}");
    // Nothing of a request is left for the next one on the same connection, or of the pool.
    for _ in 0..20 {
        let cookies = setting("request.cookies", &[]);
        assert!(!cookies.contains("DROP"), "{cookies}");
        assert!(!setting("request.headers", &[]).contains("x-quote"));
    }
    assert_eq!(setting("request.method", &[]), "POST");
    let claims: Value = serde_json::from_str(&setting("request.jwt.claims", &[("X-Role", "postgres")])).unwrap();
    assert_eq!((&claims["sub"], &claims["role"]), (&json!(ADA), &json!("authenticated")));
    let who = api.ask("GET", "/rest/v1/rpc/who", &[("Authorization", &ada)], "").text();
    assert!(
        who.contains("/authenticated") && !who.contains("application/"),
        "requests do not run in the owner's session: {who}"
    );
}

/// Text that means something to SQL, to URLs, to JSON, to arrays or to the grammar.
const HOSTILE: &[&str] = &[
    "'",
    "\"",
    "''",
    "\\",
    "\\'",
    ";",
    "--",
    "/*",
    "*/",
    "$1",
    "$$",
    "${1}",
    "%00",
    "%0A",
    "%FF",
    "%C3%28",
    "(",
    ")",
    "((",
    "{",
    "}",
    "[",
    "]",
    ",",
    ".",
    "..",
    ":",
    "::",
    "->",
    "->>",
    "!",
    "*",
    "%25",
    "_",
    "null",
    "NULL",
    "true",
    "1e999",
    "-1",
    "99999999999999999999",
    "NaN",
    "Infinity",
    "%27%20OR%201%3D1--",
    "%27%3B%20DROP%20TABLE%20own%3B--",
    "%22%3B%20select%20pg_sleep(10)%3B--",
    "own%22.%22marker",
    "own.marker",
    "auth.users",
    "pg_authid",
    "current_user",
    "(select%20marker%20from%20own)",
    "marker%20from%20own--",
    "id)::text",
    "text)%20from%20own--",
    "%F0%9F%91%8B",
    "%E2%80%A8",
    "%2F..%2F",
    "%26id=eq.1",
    "a%3Db",
    "{a,%22b}",
    "{{{",
    "(any)",
    "eq(any).{1,2",
    "not.not.",
    "in.(",
    "in.(\"",
    "fts().x",
    "fts(english'::regconfig).x",
    "cs.{",
    "ov.[1,",
    "is.nul",
    "isdistinct.",
];

/// Places of the grammar; `@` is replaced by hostile text.
const PLACES: &[&str] = &[
    "own?id=@",
    "own?id=eq.@",
    "own?marker=eq.@",
    "own?marker=like.@",
    "own?marker=match.@",
    "own?marker=@.x",
    "own?@=eq.1",
    "own?marker->@=eq.1",
    "own?doc->>@=eq.1",
    "own?doc->@->>n=eq.1",
    "own?id=in.(@)",
    "own?id=in.(1,@)",
    "own?marker=in.(\"@\")",
    "own?tags=cs.{@}",
    "own?tags=ov.@",
    "own?doc=cs.@",
    "own?marker=fts.@",
    "own?marker=fts(@).cat",
    "own?marker=wfts(english).@",
    "own?id=not.@",
    "own?id=eq(any).{@}",
    "own?or=(@)",
    "own?or=(id.eq.@,id.eq.1)",
    "own?and=(or(id.eq.1,@))",
    "own?or=(marker.eq.\"@\")",
    "own?select=@",
    "own?select=id,@",
    "own?select=id::@",
    "own?select=x:@",
    "own?select=@:id",
    "own?select=doc->@",
    "own?select=doc->>@::int",
    "own?select=notes(@)",
    "own?select=notes!@(id)",
    "own?select=@(id)",
    "own?select=...@(id)",
    "own?select=id.@()",
    "own?select=\"@\"",
    "own?order=@",
    "own?order=id.@",
    "own?order=doc->@",
    "own?order=notes(@)",
    "own?limit=@",
    "own?offset=@",
    "own?select=id,notes(id)&notes.@=eq.1",
    "own?select=id,notes(id)&notes.order=@",
    "own?select=id,notes(id)&notes.limit=@",
    "own?select=id,notes(id)&notes.or=(@)",
    "own?columns=@",
    "own?on_conflict=@",
    "@",
    "@?select=*",
    "rpc/@",
    "rpc/setting?name=@",
    "rpc/setting?@=1",
];

#[test]
fn hostile_text_in_every_place_of_the_grammar_is_an_answer_or_a_refusal() {
    let api = api();
    let ben = bearer(Role::Ben).unwrap();
    let mut client = api.connect();
    let mut asked = 0;
    let mut faults = Vec::new();
    for place in PLACES {
        for text in HOSTILE {
            let target = format!("/rest/v1/{}", escaped(&place.replace('@', text)));
            let answer = send(&mut client, "GET", &target, &[("Authorization", &ben)], "");
            asked += 1;
            judge(&answer, &target, &mut faults);
        }
    }
    for text in HOSTILE {
        let body = json!({ "id": text, "marker": text, "owner": BEN }).to_string();
        for (method, target, headers) in [
            ("POST", format!("/rest/v1/own?columns=id,{text}"), vec![]),
            ("POST", "/rest/v1/own".to_owned(), vec![("Prefer", *text)]),
            ("POST", format!("/rest/v1/own?on_conflict={text}"), vec![("Prefer", "resolution=merge-duplicates")]),
            (
                "PATCH",
                format!("/rest/v1/own?id=eq.{text}"),
                vec![("Accept-Profile", *text), ("Content-Profile", *text)],
            ),
            ("DELETE", format!("/rest/v1/own?id=eq.{text}"), vec![("Prefer", "return=representation")]),
            ("GET", "/rest/v1/own".to_owned(), vec![("Range", *text), ("Range-Unit", "items")]),
            ("GET", "/rest/v1/own".to_owned(), vec![("Accept", *text)]),
        ] {
            let target = escaped(&target);
            let mut headers = headers;
            headers.push(("Authorization", &ben));
            let answer = send(&mut client, method, &target, &headers, if method == "GET" { "" } else { &body });
            asked += 1;
            judge(&answer, &format!("{method} {target}"), &mut faults);
        }
        let broken = format!("{{\"id\": 7, \"marker\": {text}}}");
        judge(&send(&mut client, "POST", "/rest/v1/own", &[("Authorization", &ben)], &broken), &broken, &mut faults);
    }
    assert!(faults.is_empty(), "{} of {asked}:\n{}", faults.len(), faults[..faults.len().min(40)].join("\n"));
    assert_eq!(
        api.database().value(
            "SELECT string_agg(marker, ',' ORDER BY id) FROM own WHERE owner <> '00000000-0000-4000-8000-00000000000b'"
        ),
        "of ada,of ada too"
    );
    api.beacon().is_sound();
}

/// Characters that cannot stand in a request's target, escaped.
fn escaped(target: &str) -> String {
    [('"', "%22"), ('\\', "%5C"), ('<', "%3C"), ('>', "%3E"), (' ', "%20")]
        .iter()
        .fold(target.to_owned(), |target, (ch, escape)| target.replace(*ch, escape))
}

/// Remembers an answer that is the server's fault, or that has a row of somebody else.
fn judge(answer: &Answer, asked: &str, faults: &mut Vec<String>) {
    let text = answer.text();
    // PostgreSQL's own words for a value that is too much for it are the client's fault, except where the dialect says 500.
    if answer.status >= 500 {
        faults.push(format!("{} for {asked}: {text}", answer.status));
    }
    if text.contains("of ada") {
        faults.push(format!("a row of somebody else for {asked}: {text}"));
    }
}

/// A small generator, so that a run can be told by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A condition, and which of a row's values fulfil it: `None` is SQL's unknown.
#[derive(Debug)]
enum Condition {
    Compare(&'static str, i64),
    In(Vec<i64>),
    Null,
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Condition {
    fn random(dice: &mut Dice, depth: u32) -> Self {
        match dice.roll(if depth == 0 { 3 } else { 6 }) {
            0 => Self::Compare(["eq", "neq", "gt", "gte", "lt", "lte"][dice.roll(6) as usize], dice.roll(12) as i64),
            1 => Self::In((0..dice.roll(4)).map(|_| dice.roll(12) as i64).collect()),
            2 => Self::Null,
            3 => Self::Not(Box::new(Self::random(dice, depth - 1))),
            4 => Self::All((0..=dice.roll(3)).map(|_| Self::random(dice, depth - 1)).collect()),
            _ => Self::Any((0..=dice.roll(3)).map(|_| Self::random(dice, depth - 1)).collect()),
        }
    }

    /// As it stands within a logic tree.
    fn text(&self, negated: bool) -> String {
        let not = if negated { "not." } else { "" };
        let list = |all: &[Self]| all.iter().map(|one| one.text(false)).collect::<Vec<_>>().join(",");
        match self {
            Self::Compare(operator, value) => format!("n.{not}{operator}.{value}"),
            Self::In(values) => {
                format!("n.{not}in.({})", values.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
            }
            Self::Null => format!("n.{not}is.null"),
            Self::Not(inner) if negated => format!("not.and({})", inner.text(true)),
            Self::Not(inner) => inner.text(true),
            Self::All(all) => format!("{not}and({})", list(all)),
            Self::Any(all) => format!("{not}or({})", list(all)),
        }
    }

    fn holds(&self, n: Option<i64>) -> Option<bool> {
        match self {
            Self::Compare(operator, value) => n.map(|n| match *operator {
                "eq" => n == *value,
                "neq" => n != *value,
                "gt" => n > *value,
                "gte" => n >= *value,
                "lt" => n < *value,
                _ => n <= *value,
            }),
            Self::In(values) if values.is_empty() => Some(false),
            Self::In(values) => n.map(|n| values.contains(&n)),
            Self::Null => Some(n.is_none()),
            Self::Not(inner) => inner.holds(n).map(|held| !held),
            Self::All(all) => decided(all, n, false),
            Self::Any(all) => decided(all, n, true),
        }
    }
}

/// `decisive` if one of them is, its opposite if all are, and unknown otherwise.
fn decided(all: &[Condition], n: Option<i64>, decisive: bool) -> Option<bool> {
    let known: Vec<Option<bool>> = all.iter().map(|one| one.holds(n)).collect();
    if known.contains(&Some(decisive)) {
        return Some(decisive);
    }
    known.iter().all(Option::is_some).then_some(!decisive)
}

#[test]
fn conditions_choose_the_rows_that_a_model_chooses() {
    let schema = "CREATE TABLE numbers (id int PRIMARY KEY, owner uuid, n int);
        INSERT INTO numbers SELECT i, '00000000-0000-4000-8000-00000000000a', CASE WHEN i % 5 = 0 THEN NULL ELSE i % 12 END FROM generate_series(1, 40) i;
        INSERT INTO numbers SELECT i, '00000000-0000-4000-8000-00000000000b', i % 12 FROM generate_series(101, 140) i;
        ALTER TABLE numbers ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON numbers TO authenticated USING (owner = auth.uid());";
    let api = Api::start(schema, "", "");
    let ada = bearer(Role::Ada).unwrap();
    let rows: Vec<(i64, Option<i64>)> = (1..=40).map(|i| (i, (i % 5 != 0).then_some(i % 12))).collect();
    let mut client: Http1 = api.connect();
    let seed = 0x5eed_0000_0001;
    let mut dice = Dice(seed);
    for round in 0..400 {
        let all: Vec<Condition> = (0..=dice.roll(2)).map(|_| Condition::random(&mut dice, 3)).collect();
        let target = format!(
            "/rest/v1/numbers?select=id&and=({})",
            all.iter().map(|one| one.text(false)).collect::<Vec<_>>().join(",")
        );
        let answer = send(&mut client, "GET", &target, &[("Authorization", &ada)], "");
        let whole = Condition::All(all);
        let expected: BTreeSet<i64> =
            rows.iter().filter(|(_, n)| whole.holds(*n) == Some(true)).map(|(id, _)| *id).collect();
        assert_eq!(
            (answer.status, ids(&answer)),
            (200, expected),
            "seed {seed:#x}, round {round}: {target}\n{}",
            answer.text()
        );
    }
}
