//! The harness's own services: what other tests take for granted of its PostgreSQL and its mail server.

use std::process::Command;

use lettre::message::MultiPart;
use lettre::{Message, SmtpTransport, Transport as _};

use crate::support::{Behaviour, Database, Http1, OWNER, Postgres, Smtp, Stop, Wire, programs};

#[test]
fn a_database_belongs_to_an_owner_without_superpowers() {
    let server = Postgres::shared();
    let database = server.database();
    let other = server.database();
    assert_ne!(database.name(), other.name());
    database.execute("CREATE TABLE t (a text); INSERT INTO t VALUES ('x'), (NULL)");
    assert_eq!(database.rows("SELECT a, 'a b' FROM t ORDER BY a"), [["x", "a b"], ["∅", "a b"]]);
    assert_eq!(other.value("SELECT count(*) FROM pg_class WHERE relname = 't'"), "0", "each has its own");
    let role = format!("SELECT rolsuper, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = '{OWNER}'");
    assert_eq!(database.rows(&role), [["f", "t", "f"]]);
    let copy: Database<'_> = database.copy();
    assert_eq!(copy.value("SELECT count(*) FROM t"), "2");
    for url in [database.url(), database.tcp_url()] {
        let output =
            Command::new(programs().join("psql")).args(["-Atc", "SELECT current_user", &url]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), OWNER, "{url}: {output:?}");
    }
    database.execute_as_superuser("CREATE ROLE another_boss SUPERUSER; DROP ROLE another_boss");
    let refused = std::panic::catch_unwind(|| database.execute("CREATE ROLE boss SUPERUSER"));
    assert!(refused.is_err(), "the owner makes no superuser");
}

#[test]
fn a_server_of_ones_own_stops_and_starts() {
    let server = Postgres::start(&[("max_connections", "20")]);
    let database = server.database();
    assert_eq!(database.value("SHOW max_connections"), "20");
    database.execute("CREATE TABLE kept ()");
    server.stop(Stop::Immediate);
    assert!(!server.socket().join(format!(".s.PGSQL.{}", server.port())).exists());
    server.start_again();
    assert_eq!(database.value("SELECT count(*) FROM pg_class WHERE relname = 'kept'"), "1");
    server.stop(Stop::Fast);
    assert!(std::ptr::eq(database.server(), &raw const server));
    let folder = server.socket().to_owned();
    drop(database);
    drop(server);
    assert!(!folder.exists(), "nothing is left behind");
}

#[test]
fn mail_is_taken_apart() {
    let sink = Smtp::start();
    let message = || {
        Message::builder()
            .from("Beacon <beacon@example.org>".parse().unwrap())
            .to("Ada <ada@example.org>".parse().unwrap())
            .subject("Grüße: your code")
            .multipart(MultiPart::alternative_plain_html(
                "Your code is 042137.\nOr open https://example.org/verify?token=0123456789&type=signup today — ö\n"
                    .repeat(3),
                "<a href=\"https://example.org/verify?token=0123456789&amp;type=signup\">sign in</a>".to_owned(),
            ))
            .unwrap()
    };
    let transport = SmtpTransport::builder_dangerous("127.0.0.1").port(sink.address().port()).build();
    transport.send(&message()).unwrap();
    let mail = sink.take("ada@example.org");
    assert_eq!((mail.from.as_str(), mail.to.len()), ("beacon@example.org", 1));
    assert_eq!(mail.subject(), "Grüße: your code");
    assert_eq!(mail.code(6), "042137");
    assert_eq!(mail.link("verify"), "https://example.org/verify?token=0123456789&type=signup");
    assert!(mail.text.contains("today — ö\n"), "{}", mail.text);
    assert!(mail.html.contains("sign in"), "{}", mail.html);
    transport.send(&message()).unwrap();
    let mailbox = sink.mailbox().replace("http://", "");
    let mut client = Http1::new(Wire::plain(mailbox.parse().unwrap()));
    let answer = client.get("/take/ada%40example.org");
    assert_eq!(answer.status, 200);
    let given: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(given["subject"], "Grüße: your code");
    assert_eq!(sink.sessions(), 1, "the connection is used again");
    sink.behave(Behaviour::Answer("451 later".into()));
    assert!(transport.send(&message()).unwrap_err().is_transient());
    assert_eq!(sink.received(), 2);
}
