//! Accounts from outside, through everything that a request passes: what a stranger with a stolen token, a list of
//! passwords or a forged header gets. What one handler does is told in `accounts`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Api, Http1, Smtp, send, until};

const PASSWORD: &str = "correct horse battery";

const SCHEMA: &str = "CREATE TABLE diary (id int PRIMARY KEY, owner uuid DEFAULT auth.uid(), line text);
    ALTER TABLE diary ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON diary TO authenticated USING (owner = auth.uid()) WITH CHECK (owner = auth.uid());";

/// A Beacon with accounts, and where its mails go.
struct Town {
    api: Api,
    smtp: Smtp,
}

impl Town {
    fn new(sections: &str, auth: &str) -> Self {
        let smtp = Smtp::start();
        let mail = format!(
            "[mail]\nhost = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\nfrom = \"Town <town@example.org>\"\n{sections}",
            smtp.address().port()
        );
        Self { api: Api::start(SCHEMA, &mail, &format!("mail_interval = \"0s\"\n{auth}")), smtp }
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.api.ask("POST", &format!("/auth/v1{path}"), headers, &body.to_string())
    }

    /// Signs up, confirms by mail, and gives the first session.
    fn member(&self, email: &str) -> Value {
        let answer = self.post("/signup", &[], &json!({ "email": email, "password": PASSWORD }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let code = self.smtp.take(email).code(6);
        let body = json!({ "type": "signup", "email": email, "token": code });
        json(&self.post("/verify", &[], &body))
    }

    fn sign_in(&self, email: &str, password: &str, headers: &[(&str, &str)]) -> Answer {
        self.post("/token?grant_type=password", headers, &json!({ "email": email, "password": password }))
    }

    fn refresh(&self, token: &str) -> Answer {
        self.post("/token?grant_type=refresh_token", &[], &json!({ "refresh_token": token }))
    }

    fn user(&self, session: &Value) -> Answer {
        self.api.ask("GET", "/auth/v1/user", &[("Authorization", &bearer(session))], "")
    }
}

#[track_caller]
fn json(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn bearer(session: &Value) -> String {
    format!("Bearer {}", session["access_token"].as_str().unwrap())
}

fn refresh_token(session: &Value) -> String {
    session["refresh_token"].as_str().unwrap().to_owned()
}

#[test]
fn a_stolen_refresh_token_ends_its_session_and_no_other() {
    let town = Town::new("", "refresh_reuse_interval = \"0s\"");
    let first = town.member("ann@example.org");
    let elsewhere = json(&town.sign_in("ann@example.org", PASSWORD, &[]));
    let mut session = first.clone();
    for _ in 0..3 {
        session = json(&town.refresh(&refresh_token(&session)));
    }
    assert_eq!(town.user(&session).status, 200);
    // The thief took the first one; the owner is told by being signed out.
    assert_eq!(town.refresh(&refresh_token(&first)).status, 400);
    let owner = town.refresh(&refresh_token(&session));
    assert_eq!(owner.status, 400, "{}", owner.text());
    assert_eq!(town.user(&elsewhere).status, 200, "another session");
    let elsewhere = json(&town.refresh(&refresh_token(&elsewhere)));
    // Signing out elsewhere ends what is left, at once where accounts are asked for.
    let answer = town.post("/logout?scope=global", &[("Authorization", &bearer(&elsewhere))], &json!({}));
    assert_eq!(answer.status, 204, "{}", answer.text());
    for session in [&first, &session, &elsewhere] {
        let answer = town.user(session);
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(answer.text().contains("session_not_found"), "{}", answer.text());
        assert_eq!(town.refresh(&refresh_token(session)).status, 400);
    }
}

#[test]
fn guessing_is_held_off_whatever_a_client_says_of_its_address() {
    let town = Town::new("", "[auth.limits]\nsign_in = 12");
    let mut held = None;
    for turn in 0..14 {
        // None of these is from a proxy that Beacon trusts.
        let address = format!("203.0.113.{turn}");
        let forged = [
            ("X-Forwarded-For", address.as_str()),
            ("X-Real-IP", &address),
            ("Forwarded", "for=203.0.113.7"),
            ("CF-Connecting-IP", &address),
            ("Sb-Forwarded-For", &address),
        ];
        let answer = town.sign_in("nobody@example.org", &format!("guess {turn}"), &forged);
        if answer.status == 429 {
            held = Some(answer);
            break;
        }
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    let held = held.expect("a stop to the guessing");
    assert!(held.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok()), "{held:?}");
    assert!(held.text().contains("over_request_rate_limit"), "{}", held.text());
    // Who reads rows is not held off with it.
    assert_eq!(town.api.ask("GET", "/rest/v1/diary", &[], "").status, 200);
}

#[test]
fn neither_words_nor_time_tell_who_has_an_account() {
    let limits = "[auth.limits]\nsignup = 0\nsign_in = 0\nverify = 0\nmail = 0\nmails_sent = 0\nwrong_passwords = 0";
    let town = Town::new("", limits);
    town.member("ann@example.org");
    let mut client: Http1 = town.api.connect();
    let mut asked = 0;
    for path in ["/recover", "/otp", "/magiclink", "/resend", "/token?grant_type=password", "/verify"] {
        let mut times = [Vec::new(), Vec::new()];
        let mut words = [String::new(), String::new()];
        for _ in 0..9 {
            asked += 1;
            for (who, email) in ["ann@example.org".to_owned(), format!("nobody{asked}@example.org")].iter().enumerate()
            {
                let body = json!({ "email": email, "password": "wrong", "type": "signup", "token": "000000" });
                let begun = Instant::now();
                let answer = send(&mut client, "POST", &format!("/auth/v1{path}"), &[], &body.to_string());
                times[who].push(begun.elapsed());
                words[who] = format!("{} {}", answer.status, answer.text());
            }
        }
        assert_eq!(words[0], words[1], "{path}");
        let [known, unknown] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        });
        // A mail or a hash of a password would take more than this.
        let apart = known.abs_diff(unknown);
        println!("{path}: {known:?} for an account, {unknown:?} for none");
        assert!(apart < Duration::from_millis(8) || apart < unknown / 3, "{path}: {known:?} and {unknown:?}");
    }
}

#[test]
fn links_in_mails_lead_to_beacon_whatever_the_request_says() {
    let town = Town::new("", "");
    town.member("eve@example.org");
    let evil = [
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "javascript"),
        ("X-Forwarded-Prefix", "//evil.example"),
        ("Forwarded", "host=evil.example;proto=https"),
        ("Origin", "https://evil.example"),
        ("Referer", "https://evil.example/"),
        ("redirect_to", "https://evil.example/"),
        ("X-Original-URL", "https://evil.example/"),
    ];
    let origin = town.api.origin();
    let mut client = town.api.connect();
    client.send("GET /auth/v1/health HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(client.answer().unwrap().status, 421, "another host is not served at all");
    for path in ["/recover", "/otp", "/recover?redirect_to=https://evil.example"] {
        let answer = town.post(path, &evil, &json!({ "email": "eve@example.org" }));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let mail = town.smtp.take("eve@example.org");
        assert!(!mail.text.contains("evil") && !mail.html.contains("evil"), "{path}: {}", mail.text);
        let link = mail.link("/verify");
        assert!(link.starts_with(&origin), "{path}: {link}");
        // The link itself, with another end put to it.
        let target = link.strip_prefix(&origin).unwrap().replace("redirect_to=", "was=");
        let answer = town.api.ask("GET", &format!("{target}&redirect_to=https://evil.example"), &evil, "");
        let location = answer.header("location").unwrap_or_default();
        assert_eq!(answer.status, 303, "{path}: {}", answer.text());
        assert!(location.starts_with(&format!("{origin}#access_token=")), "{path}: {location}");
        // It cannot be used again, and its refusal leads nowhere else.
        let answer = town.api.ask("GET", &format!("{target}&redirect_to=https://evil.example"), &evil, "");
        let location = answer.header("location").unwrap_or_default();
        assert!(location.starts_with(&origin) && location.contains("error"), "{path}: {location}");
    }
}

#[test]
fn no_log_has_a_secret_or_an_address_of_somebody() {
    let town = Town::new("", "");
    let session = town.member("ida@example.org");
    town.sign_in("ida@example.org", "a wrong passphrase", &[]);
    let renewed = json(&town.refresh(&refresh_token(&session)));
    town.post("/recover", &[], &json!({ "email": "ida@example.org" }));
    let link = town.smtp.take("ida@example.org").link("/verify");
    let target = link.strip_prefix(&town.api.origin()).unwrap().to_owned();
    let hash = target.split(['?', '&']).find_map(|part| part.strip_prefix("token=")).unwrap().to_owned();
    let answer = town.api.ask("GET", &target, &[], "");
    let location = answer.header("location").unwrap().to_owned();
    let given = location.split(['#', '&']).find_map(|part| part.strip_prefix("refresh_token=")).unwrap().to_owned();
    town.api.ask("GET", &format!("/rest/v1/diary?apikey={}", bearer(&session).replace("Bearer ", "")), &[], "");
    town.post("/token?grant_type=password", &[], &Value::from("not { JSON with a secret passphrase"));
    let done = town.api.ask("GET", "/rest/v1/diary?select=id&limit=7", &[], "");
    assert_eq!(done.status, 200);
    until("the access log", || town.api.beacon().accessed("/rest/v1/diary?select=id&limit=7").then_some(()));
    let logs = format!("{}\n{}", town.api.beacon().logged(), town.api.beacon().accesses());
    assert!(logs.contains("/auth/v1/verify"), "it logs requests: {logs}");
    for (what, secret) in [
        ("a password", PASSWORD.to_owned()),
        ("a wrong password", "a wrong passphrase".to_owned()),
        ("a body", "secret passphrase".to_owned()),
        ("a refresh token", refresh_token(&renewed)),
        ("the first refresh token", refresh_token(&session)),
        ("a refresh token of a link", given),
        ("an access token", session["access_token"].as_str().unwrap().to_owned()),
        ("the token of a link", hash),
        ("an address", "ida@example.org".to_owned()),
    ] {
        let line = logs.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{what} is in a log");
    }
}

#[test]
fn accounts_are_not_rows_and_roles_cannot_be_asked_for() {
    let town = Town::new("", "");
    let session = town.member("ben@example.org");
    let bearer = bearer(&session);
    let service = format!("Bearer {}", Api::service());
    for (target, profile) in
        [("users", "auth"), ("refresh_tokens", "auth"), ("signing_keys", "beacon"), ("settings", "beacon")]
    {
        for who in [&bearer, &service] {
            let headers = [("Authorization", who.as_str()), ("Accept-Profile", profile)];
            let answer = town.api.ask("GET", &format!("/rest/v1/{target}"), &headers, "");
            assert_eq!(answer.status, 406, "{profile}.{target}: {}", answer.text());
        }
        let answer = town.api.ask("GET", &format!("/rest/v1/{profile}.{target}"), &[("Authorization", &service)], "");
        assert_eq!(answer.status, 404, "{profile}.{target}: {}", answer.text());
    }
    // What a user may say of themselves makes nobody of them.
    for body in [
        json!({ "role": "service_role" }),
        json!({ "data": { "role": "service_role" }, "app_metadata": { "role": "service_role" } }),
        json!({ "data": { "role": "service_role", "aud": "admin", "sub": "x" } }),
        json!({ "is_super_admin": true, "aal": "aal2" }),
    ] {
        let answer = town.api.ask("PUT", "/auth/v1/user", &[("Authorization", &bearer)], &body.to_string());
        assert!(matches!(answer.status, 200 | 400..=403), "{body}: {}", answer.text());
    }
    let renewed = json(&town.refresh(&refresh_token(&session)));
    let claims = town.api.ask("GET", "/auth/v1/user", &[("Authorization", &self::bearer(&renewed))], "");
    let user = json(&claims);
    assert_eq!((&user["role"], &user["aud"]), (&json!("authenticated"), &json!("authenticated")));
    assert_eq!(user["app_metadata"]["role"], Value::Null);
    let signed_up = town.post("/signup", &[], &json!({ "email": "cid@example.org", "password": PASSWORD, "role": "service_role", "app_metadata": { "role": "service_role" } }));
    assert!(signed_up.status < 500, "{}", signed_up.text());
    let roles = town.api.database().value("SELECT string_agg(DISTINCT concat(role, aud, is_super_admin, raw_app_meta_data->>'role'), ' ') FROM auth.users");
    assert_eq!(roles, "authenticatedauthenticated", "{roles}");
    // Nor does the key that every page shows.
    let shown = town.api.publishable();
    let both = format!("Bearer {shown}");
    let answer = town.api.ask("GET", "/auth/v1/admin/users", &[("apikey", &shown), ("Authorization", &both)], "");
    assert!(matches!(answer.status, 401 | 403), "{}", answer.text());
    for path in ["admin/users", "admin/audit", "admin/generate_link", "invite"] {
        let answer = town.api.ask(
            if path.contains("link") || path == "invite" { "POST" } else { "GET" },
            &format!("/auth/v1/{path}"),
            &[("Authorization", &self::bearer(&renewed))],
            "",
        );
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
    }
}
