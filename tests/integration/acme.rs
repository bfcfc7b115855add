//! Orders from a real authority: Debian's pebble, with its mock DNS that leads every name to 127.0.0.1.
//!
//! Everything is on loopback and on ports that were free a moment ago. Pebble refuses one nonce in twenty by itself.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use beacon::tls::{CertificateStatus, Challenge, Config, Prepared, Source, Tls, provider};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::free_port;

const BOUND: Duration = Duration::from_mins(1);

/// An authority and its DNS; both end with the test.
struct Authority {
    children: Vec<Child>,
    folder: TempDir,
    directory: String,
}

impl Authority {
    /// `http` and `tls` are the ports that challenges are validated on; `life` is that of certificates in seconds.
    fn start(http: u16, tls: u16, life: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".into(), "localhost".into()];
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        fs::write(folder.path().join("ca.key"), key.serialize_pem()).unwrap();
        let [port, management, dns, dns_management] = std::array::from_fn(|_| free_port());
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": folder.path().join("ca.pem"),
            "privateKey": folder.path().join("ca.key"),
            "httpPort": http,
            "tlsPort": tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": life,
        }});
        fs::write(folder.path().join("pebble.json"), config.to_string()).unwrap();
        let mut authority = Self { children: Vec::new(), folder, directory: format!("https://127.0.0.1:{port}/dir") };
        let dns = format!("127.0.0.1:{dns}");
        let dns_management = format!("127.0.0.1:{dns_management}");
        authority.spawn(
            "pebble-challtestsrv",
            &[
                "-dns01",
                &dns,
                "-management",
                &dns_management,
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
                "-defaultIPv4",
                "127.0.0.1",
                "-defaultIPv6",
                "",
            ],
        );
        let config = authority.folder.path().join("pebble.json").display().to_string();
        authority.spawn("pebble", &["-config", &config, "-dnsserver", &dns]);
        authority.listens(&dns);
        authority.listens(&format!("127.0.0.1:{port}"));
        authority
    }

    fn spawn(&mut self, program: &str, arguments: &[&str]) {
        let log = File::create(self.folder.path().join(format!("{program}.log"))).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        match child {
            Ok(child) => self.children.push(child),
            Err(error) => panic!("cannot run {program} ({error}): install it with `apt-get install pebble`"),
        }
    }

    fn stop(&mut self) {
        for mut child in self.children.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn listens(&self, address: &str) {
        let address: SocketAddr = address.parse().unwrap();
        let begun = Instant::now();
        while StdStream::connect(address).is_err() {
            assert!(begun.elapsed() < BOUND, "nothing listens on {address}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("pebble.log")).unwrap_or_default()
    }

    fn config(&self, domains: &[&str], challenges: &[Challenge]) -> Config {
        let mut config = Config::default();
        config.acme.domains = domains.iter().map(|name| (*name).into()).collect();
        config.acme.directory.clone_from(&self.directory);
        config.acme.ca_file = self.folder.path().join("ca.pem");
        config.acme.challenges = challenges.to_vec();
        config.acme.email = "admin@example.org".into();
        config
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The two listeners that an authority validates on.
struct Edge {
    http: TcpListener,
    tls: TcpListener,
}

impl Edge {
    async fn bind() -> Self {
        Self {
            http: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            tls: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    fn ports(&self) -> (u16, u16) {
        (self.http.local_addr().unwrap().port(), self.tls.local_addr().unwrap().port())
    }

    /// Serves `tls` as Beacon does, and runs its loop, until the guard is dropped.
    fn serve(self, tls: &Tls) -> DropGuard {
        let stop = CancellationToken::new();
        let (plain, secure) = (tls.clone(), tls.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((mut stream, _)) = self.http.accept().await {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let token =
                    head.strip_prefix("GET /.well-known/acme-challenge/").and_then(|rest| rest.split(' ').next());
                let answer = match token.and_then(|token| plain.http01(token)) {
                    Some(body) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
                    None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }));
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = self.tls.accept().await {
                if let Ok(mut stream) = TlsAcceptor::from(secure.acceptor_config()).accept(stream).await {
                    let _ = stream.shutdown().await;
                }
            }
        }));
        tokio::spawn(tls.clone().run(stop.clone()));
        stop.drop_guard()
    }
}

fn issued(tls: &Tls) -> CertificateStatus {
    tls.status().into_iter().find(|line| line.source == Source::Acme).unwrap()
}

async fn until(tls: &Tls, what: &str, authority: Option<&Authority>, holds: impl Fn(&CertificateStatus) -> bool) {
    let begun = Instant::now();
    while !holds(&issued(tls)) {
        let log = authority.map(Authority::log).unwrap_or_default();
        assert!(begun.elapsed() < BOUND, "not {what}: {:?}\n{log}", tls.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.push(path);
    }
    found
}

fn start(config: &Config, state: &Path) -> Tls {
    provider();
    Tls::start(Prepared::new(config, state).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http01_issues_and_the_certificate_serves_after_a_restart_without_the_authority() {
    let state = tempfile::tempdir().unwrap();
    let edge = Edge::bind().await;
    let (http, _) = edge.ports();
    let nobody = free_port();
    let mut authority = Authority::start(http, nobody, 86_400);
    let config = authority.config(&["one.example", "Two.Example"], &[Challenge::Http01]);
    let tls = start(&config, state.path());
    assert_eq!(tls.status().len(), 2, "the local certificate serves meanwhile");
    let running = edge.serve(&tls);
    until(&tls, "issued", Some(&authority), |line| line.not_after.is_some()).await;
    assert_eq!(issued(&tls).names, ["one.example", "two.example"]);
    assert_eq!(tls.status().len(), 1, "the local certificate is no longer needed");
    assert_eq!(issued(&tls).error, None);

    // The certificate is seen on disk a moment before the order has cleared up behind itself.
    let begun = Instant::now();
    while files(&state.path().join("acme")).iter().any(|path| path.ends_with("attempts.json")) {
        assert!(begun.elapsed() < BOUND, "failures are forgotten after a success");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kept = files(&state.path().join("acme"));
    let names: Vec<_> = kept.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert!(names.contains(&"account.json") && names.contains(&"certificate.pem"), "{names:?}");
    for path in &kept {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }

    drop(running);
    authority.stop();
    let before = issued(&tls).not_after;
    let again = start(&config, state.path());
    let edge = Edge::bind().await;
    let _running = edge.serve(&again);
    assert_eq!((again.status().len(), issued(&again).not_after), (1, before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_alpn01_issues_and_renews_a_short_lived_certificate() {
    let state = tempfile::tempdir().unwrap();
    let edge = Edge::bind().await;
    let (_, port) = edge.ports();
    let nobody = free_port();
    let authority = Authority::start(nobody, port, 9);
    let tls = start(&authority.config(&["one.example"], &[Challenge::TlsAlpn01]), state.path());
    let _running = edge.serve(&tls);
    until(&tls, "issued", Some(&authority), |line| line.not_after.is_some()).await;
    let first = issued(&tls).not_after;
    until(&tls, "renewed", Some(&authority), |line| line.not_after > first).await;
    assert!(first.unwrap() > SystemTime::now(), "renewed before the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_kind_of_challenge_is_tried_and_other_names_are_ordered_anew() {
    let state = tempfile::tempdir().unwrap();
    let edge = Edge::bind().await;
    let (http, _) = edge.ports();
    let nobody = free_port();
    let authority = Authority::start(http, nobody, 86_400);
    let both = [Challenge::TlsAlpn01, Challenge::Http01];
    let tls = start(&authority.config(&["one.example"], &both), state.path());
    let _running = edge.serve(&tls);
    until(&tls, "issued", Some(&authority), |line| line.not_after.is_some()).await;

    let more = authority.config(&["one.example", "two.example"], &[Challenge::Http01]);
    tls.swap(Prepared::new(&more, state.path()).unwrap()).unwrap();
    assert_eq!(issued(&tls).names, ["one.example"], "the old one serves until the new one is there");
    until(&tls, "issued for two names", Some(&authority), |line| line.names.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_cannot_validate_is_told_of_and_not_asked_again_at_once() {
    let state = tempfile::tempdir().unwrap();
    let [http, port] = std::array::from_fn(|_| free_port());
    let authority = Authority::start(http, port, 86_400);
    let config = authority.config(&["one.example"], &[Challenge::Http01]);
    let tls = start(&config, state.path());
    let _running = Edge::bind().await.serve(&tls);
    until(&tls, "refused", Some(&authority), |line| line.error.is_some()).await;
    let error = issued(&tls).error.unwrap();
    assert!(error.contains("could not validate") && error.contains("one.example by http-01"), "{error}");

    // Another process, or the same after a crash, waits its turn: two seconds pass without an order, where an order
    // would come at once.
    let orders = authority.log().matches("/order-plz").count();
    let again = start(&config, state.path());
    let waited = tokio::time::timeout(Duration::from_secs(2), again.run(CancellationToken::new())).await;
    assert!(waited.is_err(), "it runs until it is stopped");
    let later = authority.log().matches("/order-plz").count();
    assert!(orders > 0, "{}", authority.log());
    assert_eq!(orders, later, "{}", authority.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_is_down_delays_nothing() {
    let state = tempfile::tempdir().unwrap();
    let nobody = free_port();
    let ca = state.path().join("ca.pem");
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".into()];
    fs::write(&ca, CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem()).unwrap();
    let mut config = Config::default();
    config.acme.domains = vec!["one.example".into()];
    config.acme.directory = format!("https://127.0.0.1:{nobody}/dir");
    config.acme.ca_file = ca;
    let begun = Instant::now();
    let tls = start(&config, state.path());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let _running = Edge::bind().await.serve(&tls);
    until(&tls, "told of", None, |line| line.error.is_some()).await;
    let sources: Vec<Source> = tls.status().into_iter().map(|line| line.source).collect();
    assert_eq!(sources, [Source::Acme, Source::SelfSigned]);
}
