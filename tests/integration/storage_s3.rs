//! A bucket as a store: everything that a store has to do, on SeaweedFS; and what becomes of a server's faults, on one
//! that answers as it is told to.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use beacon::error::chain;
use beacon::secret::Secret;
use beacon::storage::{Action, Attributes, Backend, Config, Content, Encryption, Error, Key, S3};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method};

use crate::support::{BOUND, Seaweed};

/// The least size of a part that is not the last.
const PART: usize = 5 * 1024 * 1024;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn named(content_type: &str) -> Attributes {
    Attributes { content_type: Some(content_type.into()), ..Attributes::default() }
}

/// The whole of a content, or the bytes before its error.
async fn read(content: Content) -> Result<Vec<u8>, (Vec<u8>, Error)> {
    let Content::Stream(mut stream) = content else { panic!("a bucket has no files") };
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(error) => return Err((all, error)),
        }
    }
    Ok(all)
}

async fn text(store: &S3, name: &str) -> String {
    String::from_utf8(read(store.get(&key(name), None).await.unwrap().1).await.unwrap()).unwrap()
}

async fn names(store: &S3, prefix: &str, after: Option<&str>, most: usize) -> Vec<String> {
    store.list(prefix, after, most).await.unwrap().into_iter().map(|entry| entry.key.to_string()).collect()
}

/// The status and the body of one request on a connection of its own.
fn plain(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let length = body.len();
    let more = headers.iter().fold(String::new(), |all, (name, value)| all + name + ": " + value + "\r\n");
    write!(stream, "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n").unwrap();
    write!(stream, "Connection: close\r\n{more}\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_the_contract_of_a_store() {
    let server = Seaweed::start();
    let store = S3::open(&server.config("some/")).unwrap();
    objects(&store).await;
    odd_names(&store).await;
    listings(&store).await;
    parts(&store).await;
    copies(&store).await;
    signed(&store).await;
    // Nothing of all this lies outside the prefix.
    let whole = S3::open(&server.config("")).unwrap();
    assert_eq!(whole.level("").await.unwrap().folders, ["some"]);

    let elsewhere = S3::open(&Config { bucket: "nowhere".into(), ..server.config("") }).unwrap();
    let error = elsewhere.list("", None, 1).await.unwrap_err();
    assert!(matches!(error, Error::Bucket { .. }), "{}", chain(&error));
    let stranger = Config { secret_access_key: Secret::new("wrong"), ..server.config("") };
    let error = S3::open(&stranger).unwrap().list("", None, 1).await.unwrap_err();
    assert!(matches!(error, Error::Credentials(_)), "{}", chain(&error));
}

async fn objects(store: &S3) {
    let one = key("one.txt");
    let attributes = Attributes {
        cache_control: Some("max-age=60".into()),
        content_disposition: Some("attachment; filename*=UTF-8''%C3%A4.txt".into()),
        metadata: BTreeMap::from([("owner".to_owned(), "me".to_owned())]),
        ..named("text/plain; charset=utf-8")
    };
    let stored = store.put(&one, Bytes::from_static(b"first bytes"), &attributes).await.unwrap();
    let entry = store.head(&one).await.unwrap();
    assert_eq!((entry.size, &entry.etag, &entry.attributes), (11, &stored.etag, &attributes));
    assert!(!entry.etag.contains('"') && entry.modified > 1_600_000_000, "{entry:?}");
    let (same, content) = store.get(&one, None).await.unwrap();
    assert_eq!((same, read(content).await.unwrap()), (entry, b"first bytes".to_vec()));
    let (part, content) = store.get(&one, Some(6..9)).await.unwrap();
    assert_eq!((part.size, read(content).await.unwrap()), (11, b"byt".to_vec()));
    assert_eq!(read(store.get(&one, Some(3..3)).await.unwrap().1).await.unwrap(), b"");

    // What is read keeps its bytes, or says that it cannot; a mixture of both is never seen.
    let long = vec![b'a'; 8 * 1024 * 1024];
    store.put(&one, Bytes::from(long.clone()), &attributes).await.unwrap();
    let (_, content) = store.get(&one, None).await.unwrap();
    let again = store.put(&one, Bytes::from(vec![b'b'; long.len()]), &attributes).await.unwrap();
    match read(content).await {
        Ok(bytes) => assert!(bytes == long),
        Err((bytes, error)) => assert!(bytes.iter().all(|byte| *byte == b'a') && matches!(error, Error::Damaged(_))),
    }
    assert_ne!(again.etag, stored.etag);

    let empty = key("empty");
    store.put(&empty, Bytes::new(), &Attributes::default()).await.unwrap();
    assert_eq!(read(store.get(&empty, None).await.unwrap().1).await.unwrap(), b"");
    let keys = [one.clone(), key("never-there"), empty];
    assert_eq!(store.delete(&keys).await.unwrap().len(), 0);
    assert!(matches!(store.head(&one).await.unwrap_err(), Error::Missing(missing) if missing == one));
    assert!(matches!(store.get(&one, None).await.err().unwrap(), Error::Missing(missing) if missing == one));

    let bad = Attributes { metadata: BTreeMap::from([("x".to_owned(), "ä".to_owned())]), ..Attributes::default() };
    assert!(matches!(store.put(&one, Bytes::new(), &bad).await.unwrap_err(), Error::Unsupported(_)));
}

async fn odd_names(store: &S3) {
    let odd = [
        "odd/a b.txt",
        "odd/100%/x",
        "odd/%2e%2e/x",
        "odd/a+b&c=d?e#f",
        "odd/ä \u{1f600}",
        "odd/<'\">",
        "odd/~$;:@,[]{}^|`",
    ];
    for name in odd {
        store.put(&key(name), Bytes::from(name), &Attributes::default()).await.unwrap();
    }
    for name in odd {
        assert_eq!(text(store, name).await, name);
        store.copy(&key(name), &key(&format!("copy-{name}")), None).await.unwrap();
        assert_eq!(text(store, &format!("copy-{name}")).await, name);
    }
    let mut expected = odd.to_vec();
    expected.sort_unstable();
    assert_eq!(names(store, "odd/", None, 100).await, expected);
    let keys: Vec<_> = odd.iter().flat_map(|name| [key(name), key(&format!("copy-{name}"))]).collect();
    assert_eq!(store.delete(&keys).await.unwrap().len(), 0);
    assert_eq!(names(store, "", None, 100).await, [""; 0]);
}

async fn listings(store: &S3) {
    let all: Vec<_> = (0..25).map(|number| format!("list/{number:02}")).collect();
    for name in &all {
        store.put(&key(name), Bytes::from_static(b"x"), &Attributes::default()).await.unwrap();
    }
    store.put(&key("list/deep/er/x"), Bytes::from_static(b"yy"), &Attributes::default()).await.unwrap();
    assert_eq!(names(store, "list/", None, 10).await, all[..10]);
    assert_eq!(names(store, "list/", Some("list/09"), 10).await, all[10..20]);
    assert_eq!(names(store, "list/1", None, 1_000).await, all[10..20]);
    assert_eq!(names(store, "list/1", Some("list/18"), 1_000).await, all[19..20]);
    assert_eq!(names(store, "nothing", None, 10).await, [""; 0]);
    let level = store.level("list").await.unwrap();
    let found: Vec<_> = level.objects.iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!((level.folders, found), (vec!["list/deep".to_owned()], all));
    // SeaweedFS keeps folders for a while after their last object is gone.
    let top = store.level("").await.unwrap();
    assert!(top.folders.contains(&"list".to_owned()) && top.objects.is_empty(), "{top:?}");
    let deep = &store.list("list/deep/", None, 1).await.unwrap()[0];
    assert_eq!((deep.size, &deep.etag), (2, &store.head(&deep.key).await.unwrap().etag));
}

async fn parts(store: &S3) {
    let name = key("parts/ä b%");
    let upload = store.begin(&name, &named("video/mp4")).await.unwrap();
    assert!(matches!(store.head(&name).await.unwrap_err(), Error::Missing(_)));
    let unfinished = store.unfinished("parts/").await.unwrap();
    assert_eq!(unfinished.len(), 1);
    assert_eq!((&unfinished[0].key, &unfinished[0].upload), (&name, &upload));
    assert!(unfinished[0].began > 1_600_000_000, "{unfinished:?}");
    assert_eq!(store.unfinished("other/").await.unwrap(), []);
    let bodies = [vec![b'1'; PART], vec![b'2'; PART], vec![b'3'; 10]];
    let mut ids = Vec::new();
    for (number, body) in (1..).zip(&bodies) {
        let offset = u64::from(number - 1) * PART as u64;
        ids.push(store.part(&name, &upload, number, offset, Bytes::from(body.clone())).await.unwrap());
    }
    // The second is sent again, and takes the place of the first.
    ids[1] = store.part(&name, &upload, 2, PART as u64, Bytes::from(vec![b'4'; PART])).await.unwrap();
    let size = 2 * PART as u64 + 10;
    let stored = store.complete(&name, &upload, &ids, size).await.unwrap();
    let entry = store.head(&name).await.unwrap();
    assert_eq!((entry.size, &entry.etag), (size, &stored.etag));
    assert_eq!(entry.attributes.content_type.as_deref(), Some("video/mp4"));
    let edges = Some(PART as u64 - 1..2 * PART as u64 + 1);
    let middle = read(store.get(&name, edges).await.unwrap().1).await.unwrap();
    assert!(middle.len() == PART + 2 && middle[0] == b'1' && middle[1] == b'4' && middle[PART + 1] == b'3');

    let given_up = store.begin(&name, &Attributes::default()).await.unwrap();
    let part = store.part(&name, &given_up, 1, 0, Bytes::from_static(b"x")).await.unwrap();
    store.abort(&name, &given_up).await.unwrap();
    store.abort(&name, &given_up).await.unwrap();
    assert_eq!(store.unfinished("").await.unwrap(), []);
    let error = store.complete(&name, &given_up, &[part], 1).await.unwrap_err();
    assert!(matches!(error, Error::NoUpload(_)), "{}", chain(&error));
    assert_eq!(store.head(&name).await.unwrap().etag, stored.etag);
}

async fn copies(store: &S3) {
    let (from, to) = (key("copies/from"), key("copies/to"));
    store.put(&from, Bytes::from_static(b"text"), &named("text/plain")).await.unwrap();
    let stored = store.copy(&from, &to, None).await.unwrap();
    let entry = store.head(&to).await.unwrap();
    assert_eq!((stored.size, &stored.etag, entry.attributes), (4, &entry.etag, named("text/plain")));
    let other = Attributes { cache_control: Some("no-store".into()), ..named("text/html") };
    store.copy(&from, &to, Some(&other)).await.unwrap();
    assert_eq!(store.head(&to).await.unwrap().attributes, other);
    store.copy(&to, &to, None).await.unwrap();
    assert_eq!((store.head(&to).await.unwrap().attributes, text(store, "copies/to").await), (other, "text".into()));
    let error = store.copy(&key("copies/none"), &to, None).await.unwrap_err();
    assert!(matches!(error, Error::Missing(_)), "{}", chain(&error));
}

async fn signed(store: &S3) {
    let name = key("signed/ä b+%.txt");
    let minute = Duration::from_mins(1);
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("text/x-sealed"))]);
    let put = store.presign(Method::PUT, &name, minute, &headers).await.unwrap().unwrap();
    assert_eq!(plain("PUT", &put, &[("Content-Type", "text/html")], "evil").0, 403);
    assert!(matches!(store.head(&name).await.unwrap_err(), Error::Missing(_)));
    assert_eq!(plain("PUT", &put, &[("Content-Type", "text/x-sealed")], "sealed").0, 200);
    assert_eq!(store.head(&name).await.unwrap().attributes, named("text/x-sealed"));
    let get = store.presign(Method::GET, &name, minute, &HeaderMap::new()).await.unwrap().unwrap();
    assert_eq!(plain("GET", &get, &[], ""), (200, "sealed".into()));
    assert_eq!(plain("PUT", &get, &[], "evil").0, 403);
    for (method, lifetime) in
        [(Method::DELETE, minute), (Method::GET, minute * 60 * 24 * 8), (Method::GET, minute / 100)]
    {
        let error = store.presign(method, &name, lifetime, &HeaderMap::new()).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{}", chain(&error));
    }
}

/// What a server does with one connection.
#[derive(Clone, Copy)]
enum Act {
    /// Answers with this.
    Say(&'static str),
    /// Begins an answer and says nothing more.
    SayAndHang(&'static str),
    /// Takes the request and says nothing.
    Hang,
}

/// A server that does one thing after the other, the last one again and again, and remembers what it was asked.
struct Faulty {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
}

impl Faulty {
    fn start(acts: &'static [Act]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { address, heads: Arc::default(), count: Arc::default() };
        let (heads, count) = (Arc::clone(&server.heads), Arc::clone(&server.count));
        // Ends with the test's process; it waits for nobody.
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length == 1) {
                    head.push(byte[0]);
                }
                heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                match acts[count.fetch_add(1, Ordering::SeqCst).min(acts.len() - 1)] {
                    Act::Say(answer) => {
                        let _ = stream.write_all(answer.as_bytes());
                    }
                    Act::SayAndHang(answer) => {
                        let _ = stream.write_all(answer.as_bytes());
                        kept.push(stream);
                    }
                    Act::Hang => kept.push(stream),
                }
            }
        });
        server
    }

    fn config(&self) -> Config {
        Config {
            bucket: "b".into(),
            access_key_id: "AKIATEST".into(),
            secret_access_key: Secret::new("s"),
            session_token: Secret::new("token-of-a-session"),
            endpoint: self.address.clone(),
            path_style: true,
            timeout: Duration::from_secs(1),
            connections: 2,
            ..Config::default()
        }
    }

    fn store(&self) -> S3 {
        S3::open(&self.config()).unwrap()
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn head(&self, number: usize) -> String {
        self.heads.lock().unwrap()[number].to_ascii_lowercase()
    }
}

const DENIED: Act = Act::Say(
    "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>",
);
const BROKEN: Act = Act::Say("HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n<Error><Code>InternalError</Code></Error>");
const SLOW_DOWN: Act = Act::Say("HTTP/1.1 503 Slow\r\nConnection: close\r\n\r\n<Error><Code>SlowDown</Code></Error>");
const ELSEWHERE: Act = Act::Say(
    "HTTP/1.1 301 Moved\r\nConnection: close\r\n\r\n<Error><Code>PermanentRedirect</Code><Message>m</Message></Error>",
);
const PUT_DONE: Act = Act::Say("HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
const WHOLE: Act =
    Act::Say("HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789");
const CUT: Act = Act::Say("HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123");
const CUT_AND_HANG: Act = Act::SayAndHang("HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\n0123");
const REST: Act = Act::Say(
    "HTTP/1.1 206 Partial\r\nETag: \"e\"\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\nConnection: close\r\n\r\n456789",
);
const REST_CUT: Act = Act::Say(
    "HTTP/1.1 206 Partial\r\nETag: \"e\"\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\nConnection: close\r\n\r\n",
);
const CHANGED: Act =
    Act::Say("HTTP/1.1 412 No\r\nConnection: close\r\n\r\n<Error><Code>PreconditionFailed</Code></Error>");

#[tokio::test]
async fn what_lasts_is_told_at_once_and_what_passes_is_tried_again() {
    let none = Attributes::default();
    let server = Faulty::start(&[DENIED]);
    let error = server.store().put(&key("a"), Bytes::new(), &none).await.unwrap_err();
    assert!(matches!(error, Error::Refused { action: Action::Write, .. }), "{}", chain(&error));
    assert!(chain(&error).to_string().contains("AccessDenied"), "{}", chain(&error));
    assert_eq!(server.count(), 1);
    assert!(server.head(0).contains("x-amz-security-token: token-of-a-session"), "{}", server.head(0));

    let server = Faulty::start(&[BROKEN, PUT_DONE]);
    assert_eq!(server.store().put(&key("a"), Bytes::from_static(b"x"), &none).await.unwrap().etag, "e");
    assert_eq!(server.count(), 2);

    for (acts, fits) in [
        (&[SLOW_DOWN], (|error| matches!(error, Error::Busy(_))) as fn(&Error) -> bool),
        (&[BROKEN], |error| matches!(error, Error::Unavailable(_))),
    ] {
        let server = Faulty::start(acts);
        let error = server.store().head(&key("a")).await.unwrap_err();
        assert!(fits(&error), "{}", chain(&error));
        assert_eq!(server.count(), 4);
        let error = server.store().list("", None, 1).await.unwrap_err();
        assert!(fits(&error), "{}", chain(&error));
        assert_eq!(server.count(), 8);
    }

    let server = Faulty::start(&[ELSEWHERE]);
    let error = server.store().get(&key("a"), None).await.err().unwrap();
    assert!(matches!(&error, Error::Bucket { bucket, .. } if bucket == "b"), "{}", chain(&error));

    let gone = Faulty::start(&[PUT_DONE]).config();
    let gone = Config { endpoint: "http://127.0.0.1:1".into(), ..gone };
    let error = S3::open(&gone).unwrap().head(&key("a")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{}", chain(&error));
}

#[tokio::test]
async fn silence_has_an_end() {
    let server = Faulty::start(&[Act::Hang]);
    let began = Instant::now();
    let error = server.store().put(&key("a"), Bytes::from_static(b"x"), &Attributes::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{}", chain(&error));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    // A slot is free again after each silence.
    let server = Faulty::start(&[CUT_AND_HANG, REST]);
    let (_, content) = server.store().get(&key("a"), None).await.unwrap();
    assert_eq!(read(content).await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn a_body_that_breaks_is_taken_up_of_the_same_object_or_not_at_all() {
    let server = Faulty::start(&[CUT, BROKEN, REST]);
    let (entry, content) = server.store().get(&key("a"), None).await.unwrap();
    assert_eq!((entry.size, entry.etag.as_str()), (10, "e"));
    assert_eq!(read(content).await.unwrap(), b"0123456789");
    let resumed = server.head(2);
    assert!(resumed.contains("range: bytes=4-9\r\n") && resumed.contains("if-match: \"e\"\r\n"), "{resumed}");

    let server = Faulty::start(&[CUT, CHANGED]);
    let (bytes, error) = read(server.store().get(&key("a"), None).await.unwrap().1).await.unwrap_err();
    assert_eq!((bytes.as_slice(), server.count()), (&b"0123"[..], 2));
    assert!(matches!(error, Error::Damaged(_)), "{}", chain(&error));

    let server = Faulty::start(&[CUT, REST_CUT]);
    let (bytes, error) = read(server.store().get(&key("a"), None).await.unwrap().1).await.unwrap_err();
    assert_eq!((bytes.as_slice(), server.count()), (&b"0123"[..], 4));
    assert!(matches!(error, Error::Damaged(_)), "{}", chain(&error));

    // A range that is answered with the whole is no range.
    let server = Faulty::start(&[WHOLE]);
    assert!(server.store().get(&key("a"), Some(2..5)).await.is_err());
}

#[tokio::test]
async fn slots_bound_the_connections() {
    let server = Faulty::start(&[CUT_AND_HANG, CUT_AND_HANG, WHOLE]);
    let store = server.store();
    let first = store.get(&key("a"), None).await.unwrap();
    let second = store.get(&key("b"), None).await.unwrap();
    let third = tokio::time::timeout(Duration::from_millis(300), store.get(&key("c"), None)).await;
    assert!(third.is_err() && server.count() == 2, "{}", server.count());
    drop(first);
    assert_eq!(read(store.get(&key("c"), None).await.unwrap().1).await.unwrap(), b"0123456789");
    drop(second);
}

#[tokio::test]
async fn encryption_is_asked_for_and_never_left_out() {
    let server = Faulty::start(&[PUT_DONE]);
    let config = Config { encryption: Encryption::Kms, kms_key: "arn:aws:kms:x".into(), ..server.config() };
    let store = S3::open(&config).unwrap();
    store.put(&key("a"), Bytes::new(), &Attributes::default()).await.unwrap();
    let head = server.head(0);
    assert!(head.contains("x-amz-server-side-encryption: aws:kms\r\n"), "{head}");
    assert!(head.contains("x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:x\r\n"), "{head}");
    let minute = Duration::from_mins(1);
    let error = store.presign(Method::PUT, &key("a"), minute, &HeaderMap::new()).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{}", chain(&error));
    assert!(store.presign(Method::GET, &key("a"), minute, &HeaderMap::new()).await.unwrap().is_some());

    let store = S3::open(&Config { encryption: Encryption::S3, ..server.config() }).unwrap();
    store.put(&key("a"), Bytes::new(), &Attributes::default()).await.unwrap();
    assert!(server.head(1).contains("x-amz-server-side-encryption: aes256\r\n"), "{}", server.head(1));
}
