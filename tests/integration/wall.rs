//! The auth wall beside the Django package that it replaces: the same requests to both, the same answers.
//!
//! Differences are listed in the cases, so that a new one fails: what made that package raise (a 500) is a 401 here,
//! passwords beyond ASCII pass as browsers send them too, and quotes in a realm are escaped.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use beacon::auth::{Gate, Wall};
use beacon::http::{Body, Context, Handler, Reply, Request, RequestBody, Response};
use beacon::id::RequestId;
use beacon::secret::Secret;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::python::environment;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/wall");

/// How our answer relates to the package's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// Status, body and headers are the same.
    Same,
    /// The package raised; we ask for a password.
    TheirsCrashed,
    /// The package turned a browser away that sent UTF-8; it passes here.
    OursPasses,
    /// Both turn it away, with another realm on the wire.
    OtherRealm,
}

struct Case {
    user: &'static str,
    password: &'static str,
    realm: Option<&'static str>,
    /// In Latin-1.
    authorization: Option<Vec<u8>>,
    relation: Relation,
}

fn basic(pair: &[u8]) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(pair)).into_bytes()
}

fn cases() -> Vec<Case> {
    use Relation::{OtherRealm, OursPasses, Same, TheirsCrashed};
    let case = |authorization, relation| Case { user: "user", password: "pa:ss", realm: None, authorization, relation };
    let text = |text: &str| Some(text.as_bytes().to_vec());
    // "user:pa:ss"
    let right = "dXNlcjpwYTpzcw==";
    let mut cases = vec![
        case(None, Same),
        case(text(""), Same),
        case(text("Bearer token"), Same),
        case(text("Token token"), Same),
        case(text("Digest username=\"user\""), Same),
        case(text(&format!("Bearer {right}")), Same),
        case(text(&format!("Basic {right}")), Same),
        case(text(&format!("basic {right}")), Same),
        case(text(&format!("BASIC {right}")), Same),
        case(text(&format!("bAsIc   {right}")), Same),
        case(text(&format!("Basic\t{right}")), Same),
        case(text(&format!("Basic {right} and more")), Same),
        case(text(&format!("Basic  {right}  ")), Same),
        case(text(&format!("Basic{right}")), Same),
        case(text(&format!("Basic: {right}")), Same),
        case(text(right), Same),
        // Lenient Base64: strangers are skipped, and complete padding ends it.
        case(text("Basic dXNl-cjpw_YTpz!cw=="), Same),
        case(text("Basic =dXNlcjpwYTpzcw=="), Same),
        case(text("Basic dXNlcjpwYTpzcw==="), Same),
        case(text("Basic dXNlcjpwYTpzcw==dXNl"), Same),
        case(text("Basic dXNlcjpwYTpzc=w="), TheirsCrashed),
        case(text("Basic"), TheirsCrashed),
        case(text("Basic "), TheirsCrashed),
        case(text("Basic dXNlcjpwYTpzcw"), TheirsCrashed),
        case(text("Basic dXNlcjpwYTpzcw="), TheirsCrashed),
        case(text("Basic d"), TheirsCrashed),
        case(text("Basic ="), Same),
        case(text("Basic !!!!"), Same),
        // Not what is asked for.
        case(Some(basic(b"user:wrong")), Same),
        case(Some(basic(b"other:pa:ss")), Same),
        case(Some(basic(b"USER:pa:ss")), Same),
        case(Some(basic(b"user:PA:SS")), Same),
        case(Some(basic(b"user:pa:ss ")), Same),
        case(Some(basic(b" user:pa:ss")), Same),
        case(Some(basic(b"user:pa:ss\0")), Same),
        case(Some(basic(b"user:pa:ss\n")), Same),
        case(Some(basic(b"user:pa")), Same),
        case(Some(basic(b"user:")), Same),
        case(Some(basic(b"user")), Same),
        case(Some(basic(b":pa:ss")), Same),
        case(Some(basic(b":")), Same),
        case(Some(basic(b"")), TheirsCrashed),
        case(Some(basic(b"userpa:ss")), Same),
        case(Some(basic(&[0xff; 64])), Same),
        case(Some(basic(&vec![b'a'; 4096])), Same),
        case(Some([b"Basic ".as_slice(), &[0xe4, 0xff]].concat()), Same),
    ];
    // Beyond ASCII: Latin-1 passes both, UTF-8 as browsers send it only ours.
    let umlaut =
        |authorization, relation| Case { user: "jörg", password: "grün", realm: None, authorization, relation };
    cases.push(umlaut(Some(basic(b"j\xf6rg:gr\xfcn")), Same));
    cases.push(umlaut(Some(basic("jörg:grün".as_bytes())), OursPasses));
    cases.push(umlaut(Some(basic(b"jorg:grun")), Same));
    cases.push(umlaut(Some(basic(b"j\xf6rg:gr\xc3\xbcn")), Same));
    // Realms.
    let realm = |realm, relation| Case { realm: Some(realm), ..case(None, relation) };
    cases.push(realm("Staging", Same));
    cases.push(realm("", Same));
    cases.push(realm("Café ü", Same));
    cases.push(realm("a \"quoted\" one", OtherRealm));
    cases.push(realm("back\\slash", OtherRealm));
    cases.push(realm("日本", OtherRealm));
    cases
}

#[tokio::test]
async fn it_answers_as_django_auth_wall_does() {
    let cases = cases();
    let theirs = ask_django(&cases);
    assert_eq!(theirs.len(), cases.len());
    for (case, theirs) in cases.iter().zip(&theirs) {
        let shown = format!(
            "user {:?}, realm {:?}, Authorization {:?}",
            case.user,
            case.realm,
            case.authorization.as_deref().map(String::from_utf8_lossy)
        );
        let ours = ask_beacon(case);
        let status = ours.status().as_u16();
        let header = |name: &http::HeaderName| ours.headers().get(name).map(|value| latin1(value.as_bytes()));
        let (realm, kind) = (header(&WWW_AUTHENTICATE), header(&CONTENT_TYPE));
        let body = latin1(&ours.into_body().collect().await.unwrap().to_bytes());
        let (their_realm, their_kind) =
            (theirs["headers"]["www-authenticate"].as_str(), theirs["headers"]["content-type"].as_str());
        match case.relation {
            Relation::Same => {
                assert_eq!(Some(u64::from(status)), theirs["status"].as_u64(), "{shown}");
                assert_eq!(Some(body.as_str()), theirs["body"].as_str(), "{shown}");
                assert_eq!(realm.as_deref(), their_realm, "{shown}");
                if status == 401 {
                    assert_eq!(kind.as_deref(), their_kind, "{shown}");
                }
            }
            Relation::TheirsCrashed => assert_eq!((status, theirs["status"].as_u64()), (401, Some(500)), "{shown}"),
            Relation::OursPasses => assert_eq!((status, theirs["status"].as_u64()), (200, Some(401)), "{shown}"),
            Relation::OtherRealm => {
                assert_eq!((status, theirs["status"].as_u64()), (401, Some(401)), "{shown}");
                assert_ne!(realm.as_deref(), their_realm, "{shown}");
            }
        }
    }
    let passed = theirs.iter().filter(|theirs| theirs["status"] == 200).count();
    assert!((8..cases.len() - 8).contains(&passed), "the matrix has both: {passed} of {} passed", cases.len());
}

/// The handler behind the wall.
struct Inside;

impl Handler for Inside {
    fn handle(&self, _: Request) -> Reply<'_> {
        Reply::Now(Response::new(Body::from("inside")))
    }
}

fn ask_beacon(case: &Case) -> Response {
    let mut config = Wall { username: case.user.into(), password: Secret::new(case.password), ..Wall::default() };
    if let Some(realm) = case.realm {
        config.realm = realm.into();
    }
    assert_eq!(config.validate(), []);
    let handler = Gate::new(&config, [1; 32]).unwrap().protect(Arc::new(Inside));
    let (mut parts, ()) = http::Request::new(()).into_parts();
    if let Some(value) = &case.authorization {
        parts.headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
    }
    let context = Context {
        id: RequestId::new(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        secure: true,
        host: "localhost".into(),
        path: "/".into(),
        mounted: 0,
        user: None,
    };
    match handler.handle(Request { parts, body: RequestBody::empty(), context }) {
        Reply::Now(response) => response,
        Reply::Later(_) => panic!("a wall without hashes answers at once"),
    }
}

fn ask_django(cases: &[Case]) -> Vec<Value> {
    let input: Vec<Value> = cases
        .iter()
        .map(|case| {
            let mut environment = json!({ "AUTH_WALL_USERNAME": case.user, "AUTH_WALL_PASSWORD": case.password });
            if let Some(realm) = case.realm {
                environment["AUTH_WALL_REALM"] = realm.into();
            }
            json!({ "environment": environment, "authorization": case.authorization.as_deref().map(latin1) })
        })
        .collect();
    let mut child = Command::new(environment(Path::new(&format!("{FIXTURES}/requirements.txt")), "wall"))
        .arg(format!("{FIXTURES}/driver.py"))
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(json!(input).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the driver failed:\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
