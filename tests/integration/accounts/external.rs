//! Accounts elsewhere: a provider of OpenID Connect that listens on this machine, and hooks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use beacon::auth::accounts::{Config, Switch};
use beacon::auth::hooks::{self, Hook};
use beacon::auth::oauth::Provider;
use beacon::secret::Secret;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::harness::{Answer, Server, config, pair, text};

const PASSWORD: &str = "correct horse";

/// What a program on this machine answers, by path, and what it was asked.
#[derive(Clone)]
struct Program {
    url: String,
    answers: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Program {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let program = Self { url, answers: Arc::default(), asked: Arc::default() };
        let shared = program.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        program
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut read = Vec::new();
        let whole = loop {
            let mut buffer = [0; 4_096];
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            read.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().unwrap()) || count == 0 {
                    break text;
                }
            } else if count == 0 {
                return;
            }
        };
        let path = whole.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap().to_owned();
        let body = self.answers.lock().unwrap().get(&path).cloned().unwrap_or_default();
        self.asked.lock().unwrap().push(whole);
        let head = format!(
            "HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all((head + &body).as_bytes()).await;
    }

    fn set(&self, path: &str, answer: &(impl ToString + ?Sized)) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer.to_string());
    }
}

/// A provider called "work", and accounts that know it.
struct Provided {
    server: Server,
    program: Program,
}

impl Provided {
    async fn new(change: impl FnOnce(&mut Config, &Program)) -> Self {
        let program = Program::new().await;
        let mut config = config();
        let provider = Provider {
            client_id: "ours".into(),
            client_secret: Secret::new("secret"),
            issuer: program.url.clone(),
            ..Provider::default()
        };
        config.providers.insert("work".into(), provider);
        change(&mut config, &program);
        let server = Server::new(config).await;
        let url = &program.url;
        program.set(
            "/.well-known/openid-configuration",
            &json!({
                "issuer": url,
                "authorization_endpoint": format!("{url}/authorize"),
                "token_endpoint": format!("{url}/token"),
                "jwks_uri": format!("{url}/keys"),
            }),
        );
        program.set("/keys", &server.keys.jwks());
        Self { server, program }
    }

    /// An ID token of the provider's, which has the keys of the server.
    fn id_token(&self, more: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({
            "iss": self.program.url, "sub": "s-1", "aud": "ours", "iat": now, "exp": now + 60,
            "email": "Ann@example.org", "email_verified": true, "name": "Ann",
        });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.server.keys.sign(&claims).unwrap()
    }

    /// What the callback gets after /authorize sent the browser to `away`, where somebody with these claims signed in.
    fn signs_in(&self, away: &str, claims: &Value) -> String {
        let mut claims = claims.clone();
        claims["nonce"] = pair(away, "nonce").unwrap().into();
        let tokens = json!({"access_token": "at", "refresh_token": "rt", "id_token": self.id_token(&claims)});
        self.program.set("/token", &tokens);
        format!("code=c&state={}", pair(away, "state").unwrap())
    }

    /// A whole flow without PKCE; where the browser is in the end.
    async fn flow(&self, claims: &Value) -> String {
        let away = self.server.get("/authorize?provider=work&redirect_to=https://www.example.org/in", "").await;
        let back = self.signs_in(&away.location(), claims);
        self.server.get(&format!("/callback?{back}"), "").await.location()
    }

    async fn user(&self, to: &str) -> Value {
        let access = pair(to, "access_token").unwrap_or_else(|| panic!("{to}"));
        self.server.get("/user", &access).await.good()
    }
}

/// What a provider writes into a token for a nonce that an application made.
fn hex(nonce: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(nonce).iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn providers(user: &Value) -> Vec<&str> {
    user["identities"].as_array().unwrap().iter().map(|identity| text(identity, "provider")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_makes_a_user_and_the_next_finds_it() {
    let all = Provided::new(|_, _| {}).await;
    let path =
        "/authorize?provider=work&redirect_to=https://www.example.org/in&scopes=calendar&prompt=consent&apikey=k";
    let away = all.server.get(path, "").await;
    assert_eq!(away.status, 302);
    let away = away.location();
    assert!(away.starts_with(&format!("{}/authorize?client_id=ours&", all.program.url)), "{away}");
    assert_eq!(pair(&away, "redirect_uri").as_deref(), Some("https://api.example.org/auth/v1/callback"));
    assert_eq!(pair(&away, "scope").as_deref(), Some("openid email profile calendar"));
    assert_eq!(pair(&away, "prompt").as_deref(), Some("consent"));
    assert!(pair(&away, "apikey").is_none() && pair(&away, "redirect_to").is_none(), "{away}");

    let back = all.signs_in(&away, &json!({}));
    let to = all.server.get(&format!("/callback?{back}"), "").await.location();
    assert!(to.starts_with("https://www.example.org/in#access_token="), "{to}");
    assert_eq!(pair(&to, "provider_token").as_deref(), Some("at"));
    assert_eq!(pair(&to, "provider_refresh_token").as_deref(), Some("rt"));
    let user = all.user(&to).await;
    assert_eq!(user["email"], "ann@example.org");
    assert!(user["email_confirmed_at"].is_string());
    assert_eq!(user["app_metadata"], json!({"provider": "work", "providers": ["work"]}));
    assert_eq!(user["user_metadata"]["full_name"], "Ann");
    assert_eq!(user["identities"][0]["id"], "s-1");
    let claims = all.server.keys.verify(&pair(&to, "access_token").unwrap()).unwrap();
    assert_eq!(Value::Object(claims.into_object())["amr"][0]["method"], "oauth");

    // A state counts once.
    let again = all.server.get(&format!("/callback?{back}"), "").await.location();
    assert!(again.starts_with("https://app.example.org?error=invalid_request&error_code=bad_oauth_state"), "{again}");

    // The subject counts, and not the address.
    let other = all.user(&all.flow(&json!({"email": "ann@elsewhere.example", "name": "Anna"})).await).await;
    assert_eq!((&other["id"], &other["email"]), (&user["id"], &user["email"]));
    assert_eq!(other["user_metadata"]["full_name"], "Anna");
    assert_eq!(all.server.get("/settings", "").await.good()["external"]["work"], true);
    assert_eq!(all.server.get("/settings", "").await.good()["external"]["google"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_of_pkce_ends_with_a_code() {
    let all = Provided::new(|_, _| {}).await;
    let verifier = "a-verifier-that-is-long-enough-for-everybody-here";
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    let path = format!("/authorize?provider=work&code_challenge={challenge}&code_challenge_method=s256");
    let away = all.server.get(&path, "").await.location();
    assert_ne!(pair(&away, "code_challenge"), Some(challenge), "the provider's challenge is our own");
    let back = all.signs_in(&away, &json!({}));
    // Apple sends a form.
    let to = all.server.send("POST", "/callback", "", &[], back.into()).await.location();
    assert!(to.starts_with("https://app.example.org?code="), "{to}");
    let code = pair(&to, "code").unwrap();
    let redeem = |verifier: &str| json!({"auth_code": code, "code_verifier": verifier});
    let wrong = all.server.post("/token?grant_type=pkce", "", redeem(&"x".repeat(43))).await;
    assert_eq!(wrong.refusal(), (400, "bad_code_verifier".into()));
    let session = all.server.post("/token?grant_type=pkce", "", redeem(verifier)).await.good();
    assert_eq!((&session["provider_token"], &session["provider_refresh_token"]), (&json!("at"), &json!("rt")));
    assert_eq!(session["user"]["email"], "ann@example.org");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_where_the_flow_began() {
    let all = Provided::new(|config, _| config.signup_enabled = false).await;
    let begin = || all.server.get("/authorize?provider=work&redirect_to=https://www.example.org/in", "");
    let state = pair(&begin().await.location(), "state").unwrap();
    let denied = format!("/callback?state={state}&error=access_denied&error_description=No+thanks");
    let to = all.server.get(&denied, "").await.location();
    assert!(to.starts_with("https://www.example.org/in?error=access_denied&error_code=bad_oauth_callback&"), "{to}");
    assert_eq!(pair(&to, "error_description").as_deref(), Some("No thanks"));
    let to = all.flow(&json!({})).await;
    assert_eq!(pair(&to, "error_code").as_deref(), Some("signup_disabled"), "{to}");
    assert_eq!(pair(&to, "error").as_deref(), Some("access_denied"));
    // An answer to another request.
    let away = begin().await.location();
    let back = all.signs_in(&away, &json!({}));
    let other = pair(&begin().await.location(), "state").unwrap();
    let to = all.server.get(&format!("/callback?code=c&state={other}"), "").await.location();
    assert_eq!(pair(&to, "error_code").as_deref(), Some("bad_oauth_callback"), "{back} {to}");

    let refused = |answer: Answer| answer.refusal();
    for path in [
        "/authorize?provider=google",
        "/authorize",
        "/authorize?provider=work&state=mine",
        "/authorize?provider=work&invite_token=x",
        "/authorize?provider=work&code_challenge=x",
    ] {
        assert_eq!(refused(all.server.get(path, "").await), (400, "validation_failed".into()), "{path}");
    }
    let to = all.server.get("/authorize?provider=work&redirect_to=https://evil.example/", "").await.location();
    let back = all.server.get(&format!("/callback?state={}", pair(&to, "state").unwrap()), "").await.location();
    assert!(back.starts_with("https://app.example.org?error="), "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_verified_address_leads_to_an_account() {
    let all = Provided::new(|_, _| {}).await;
    let session = all.server.member("ann@example.org", PASSWORD).await;
    let to = all.flow(&json!({"sub": "evil", "email_verified": false})).await;
    assert_eq!(pair(&to, "error_code").as_deref(), Some("provider_email_needs_verification"), "{to}");
    let to = all.flow(&json!({"sub": "evil", "email": null, "email_verified": true})).await;
    assert_eq!(pair(&to, "error_code").as_deref(), Some("provider_email_needs_verification"), "{to}");
    let user = all.user(&all.flow(&json!({})).await).await;
    assert_eq!(user["id"], session["user"]["id"]);
    assert_eq!(providers(&user), ["email", "work"]);
    assert_eq!(user["app_metadata"]["providers"], json!(["email", "work"]));
    all.server.sign_in("ann@example.org", PASSWORD).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn believing_addresses_gives_no_account_away() {
    let all = Provided::new(|config, _| config.autoconfirm = Switch::On).await;
    let body = json!({"email": "ann@example.org", "password": PASSWORD});
    all.server.post("/signup", "", body).await.good();
    let to = all.flow(&json!({"sub": "evil", "email_verified": false})).await;
    assert_eq!(pair(&to, "error_code").as_deref(), Some("provider_email_needs_verification"), "{to}");
    let free =
        all.user(&all.flow(&json!({"sub": "b", "email": "ben@example.org", "email_verified": false})).await).await;
    assert_eq!(free["email"], "ben@example.org");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_made_an_account_with_another_s_address_loses_it() {
    let all = Provided::new(|_, _| {}).await;
    let body = json!({"email": "ann@example.org", "password": PASSWORD, "data": {"evil": true}});
    let made = all.server.post("/signup", "", body).await.good();
    let code = all.server.smtp.take("ann@example.org").code(6);
    let user = all.user(&all.flow(&json!({})).await).await;
    assert_eq!(user["id"], made["id"]);
    assert_eq!(providers(&user), ["work"]);
    assert!(user["user_metadata"].get("evil").is_none());
    assert_eq!(all.server.sign_in("ann@example.org", PASSWORD).await.refusal(), (400, "invalid_credentials".into()));
    let verify = json!({"type": "signup", "email": "ann@example.org", "token": code});
    assert_eq!(all.server.post("/verify", "", verify).await.refusal(), (403, "otp_expired".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_adds_and_removes_an_identity() {
    let all = Provided::new(|config, _| config.manual_linking = true).await;
    let session = all.server.member("ben@example.org", PASSWORD).await;
    let access = text(&session, "access_token");
    let path =
        "/user/identities/authorize?provider=work&skip_http_redirect=true&redirect_to=https://www.example.org/me";
    assert_eq!(all.server.get(path, "").await.refusal(), (401, "no_authorization".into()));
    let away = all.server.get(path, access).await.good();
    let back = all.signs_in(text(&away, "url"), &json!({}));
    let to = all.server.get(&format!("/callback?{back}"), "").await.location();
    let user = all.user(&to).await;
    assert_eq!((&user["id"], &user["email"]), (&session["user"]["id"], &json!("ben@example.org")));
    assert_eq!(providers(&user), ["email", "work"]);

    let away = all.server.get(path, access).await.good();
    let back = all.signs_in(text(&away, "url"), &json!({}));
    let to = all.server.get(&format!("/callback?{back}"), "").await.location();
    assert_eq!(pair(&to, "error_code").as_deref(), Some("identity_already_exists"), "{to}");
    let other = all.server.member("cid@example.org", PASSWORD).await;
    let nonce = "n".repeat(20);
    let hash = hex(&nonce);
    let body = json!({
        "provider": "work", "id_token": all.id_token(&json!({"nonce": hash})), "nonce": nonce, "link_identity": true,
    });
    let answer = all.server.post("/token?grant_type=id_token", text(&other, "access_token"), body).await;
    assert_eq!(answer.refusal(), (422, "identity_already_exists".into()));

    let id = user["identities"][1]["identity_id"].as_str().unwrap();
    all.server.delete(&format!("/user/identities/{id}"), access, Value::Null).await.good();
    let me = all.server.get("/user", access).await.good();
    assert_eq!(providers(&me), ["email"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_brings_an_id_token() {
    let all = Provided::new(|_, _| {}).await;
    let nonce = "something random";
    let hash = hex(nonce);
    let token = all.id_token(&json!({"nonce": hash}));
    let grant = |body: Value| all.server.post("/token?grant_type=id_token", "", body);
    let session = grant(json!({"provider": "work", "id_token": token, "nonce": nonce})).await.good();
    assert_eq!(session["user"]["email"], "ann@example.org");
    let again = grant(json!({"issuer": all.program.url, "client_id": "ours", "id_token": token, "nonce": nonce})).await;
    assert_eq!(again.good()["user"]["id"], session["user"]["id"]);
    for (body, code) in [
        (json!({"provider": "work"}), "validation_failed"),
        (json!({"id_token": token}), "validation_failed"),
        (json!({"provider": "work", "id_token": token, "nonce": "another"}), "validation_failed"),
        (json!({"provider": "work", "id_token": token}), "validation_failed"),
        (json!({"provider": "work", "id_token": token, "nonce": nonce, "client_id": "theirs"}), "validation_failed"),
        (json!({"provider": "google", "id_token": token, "nonce": nonce}), "provider_disabled"),
        (json!({"issuer": "https://x.example", "id_token": token, "nonce": nonce}), "validation_failed"),
        (json!({"provider": "work", "id_token": all.id_token(&json!({"aud": "theirs"}))}), "bad_jwt"),
        (json!({"provider": "work", "id_token": "nonsense"}), "bad_jwt"),
    ] {
        assert_eq!(grant(body.clone()).await.refusal(), (400, code.into()), "{body}");
    }
    let link = json!({"provider": "work", "id_token": token, "nonce": nonce, "link_identity": true});
    assert_eq!(grant(link).await.refusal(), (404, "manual_linking_disabled".into()));
}

fn function(name: &str) -> Hook {
    Hook { uri: format!("pg-functions://postgres/public/{name}"), ..Hook::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_changes_the_claims_of_a_token() {
    let hooks = hooks::Config { custom_access_token: function("claims"), ..hooks::Config::default() };
    let server = Server::new(Config { hooks, autoconfirm: Switch::On, ..config() }).await;
    server.database.execute(
        "create function public.claims(event jsonb) returns jsonb language sql as $$ select jsonb_build_object('claims', \
         event -> 'claims' || jsonb_build_object('tenant', 7, 'by', event ->> 'authentication_method', \
         'exp', (event -> 'claims' ->> 'iat')::int8 + 60)) $$",
    );
    let body = json!({"email": "ann@example.org", "password": PASSWORD});
    let session = server.post("/signup", "", body).await.good();
    assert_eq!(session["expires_in"], 60);
    let claims =
        |session: &Value| Value::Object(server.keys.verify(text(session, "access_token")).unwrap().into_object());
    assert_eq!((&claims(&session)["tenant"], &claims(&session)["by"]), (&json!(7), &json!("password")));
    let next = server.refresh(text(&session, "refresh_token")).await.good();
    assert_eq!(claims(&next)["by"], "token_refresh");

    server.database.execute(
        "create or replace function public.claims(event jsonb) returns jsonb language sql as \
         $$ select '{\"error\": {\"http_code\": 403, \"message\": \"Not today\"}}'::jsonb $$",
    );
    let refused = server.sign_in("ann@example.org", PASSWORD).await;
    assert_eq!((refused.status, refused.json()["message"].as_str()), (403, Some("Not today")));
    server.database.execute(
        "create or replace function public.claims(event jsonb) returns jsonb language sql as \
         $$ select '{\"claims\": {\"sub\": \"x\"}}'::jsonb $$",
    );
    assert_eq!(server.sign_in("ann@example.org", PASSWORD).await.refusal(), (500, "unexpected_failure".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_says_who_may_have_an_account() {
    let hooks = |config: &mut Config| config.hooks.before_user_created = function("may");
    let all = Provided::new(|config, _| {
        hooks(config);
        config.anonymous_enabled = true;
    })
    .await;
    let server = &all.server;
    server.database.execute(
        "create table public.told (event jsonb); create function public.may(event jsonb) returns jsonb language plpgsql \
         as $$ begin insert into public.told values (event); if event -> 'user' ->> 'email' like '%@example.org' then \
         return '{}'; end if; return jsonb_build_object('error', jsonb_build_object('http_code', 403, 'message', \
         'Only staff')); end $$",
    );
    let sign_up = |email: &str| json!({"email": email, "password": PASSWORD});
    let refused = server.post("/signup", "", sign_up("ann@elsewhere.example")).await;
    assert_eq!((refused.status, refused.json()["message"].as_str()), (403, Some("Only staff")));
    assert_eq!(server.post("/signup", "", json!({})).await.status, 403);
    assert_eq!(server.post("/otp", "", json!({"email": "ann@elsewhere.example"})).await.status, 403);
    let service = server.service();
    assert_eq!(server.post("/invite", &service, json!({"email": "ann@elsewhere.example"})).await.status, 403);
    let link = json!({"type": "magiclink", "email": "ann@elsewhere.example"});
    assert_eq!(server.post("/admin/generate_link", &service, link).await.status, 403);
    let to = all.flow(&json!({"email": "ann@elsewhere.example"})).await;
    assert_eq!(pair(&to, "error_description").as_deref(), Some("Only staff"), "{to}");
    assert_eq!(server.database.value("select count(*) from auth.users"), "0");

    let user = server.post("/signup", "", sign_up("ann@example.org")).await.good();
    let event: Value = serde_json::from_str(
        &server.database.value("select event from public.told where event -> 'user' ->> 'email' = 'ann@example.org'"),
    )
    .unwrap();
    assert_eq!(event["user"]["id"], user["id"]);
    assert_eq!(event["metadata"]["name"], "before-user-created");
    assert_eq!(event["metadata"]["ip_address"], "203.0.113.9");
    // Who is there is not made again.
    all.flow(&json!({})).await;
    server.post("/signup", "", sign_up("ann@example.org")).await.good();
    let count = "select count(*) from public.told where event -> 'user' ->> 'email' = 'ann@example.org'";
    assert_eq!(server.database.value(count), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_sends_the_mails() {
    let program = Program::new().await;
    program.set("/mail", "{}");
    let send_email = Hook {
        uri: format!("{}/mail", program.url),
        secret: Secret::new("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ..Hook::default()
    };
    let hooks = hooks::Config { send_email, ..hooks::Config::default() };
    // There is no mail server, and addresses must be confirmed all the same.
    let server = Server::with(Config { hooks, autoconfirm: Switch::Auto, ..config() }, false).await;
    let event = |count: usize| {
        let program = program.clone();
        async move {
            for _ in 0..200 {
                if let Some(asked) = program.asked.lock().unwrap().get(count - 1).cloned() {
                    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
                    assert!(head.contains("webhook-signature: v1,"), "{head}");
                    return serde_json::from_str::<Value>(body).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("the hook was not told");
        }
    };
    let body = json!({"email": "ann@example.org", "password": PASSWORD});
    server.post("/signup?redirect_to=https://www.example.org/in", "", body).await.good();
    let told = event(1).await;
    assert_eq!(told["user"]["email"], "ann@example.org");
    let data = &told["email_data"];
    assert_eq!(data["email_action_type"], "signup");
    assert_eq!(data["redirect_to"], "https://www.example.org/in");
    assert_eq!(data["site_url"], "https://api.example.org/auth/v1");
    let verify = json!({"type": "signup", "token_hash": data["token_hash"]});
    let session = server.post("/verify", "", verify).await.good();

    // The hashes of a change of the address are crossed.
    let access = text(&session, "access_token");
    server.put("/user", access, json!({"email": "anna@example.org"})).await.good();
    let data = event(2).await["email_data"].clone();
    assert_eq!(data["email_action_type"], "email_change");
    let verify = |email: &str, token: &Value| json!({"type": "email_change", "email": email, "token": token});
    server.post("/verify", "", verify("ann@example.org", &data["token"])).await.good();
    let hash = json!({"type": "email_change", "token_hash": data["token_hash"]});
    let session = server.post("/verify", "", hash).await.good();
    assert_eq!(session["user"]["email"], "anna@example.org");
}
